"""Regions beside the anatomy in which the evidence of a finding may lie: devices, costophrenic angles, masks of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.data.files import file_sha256
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.masks import load_atlas
from robustbench_rad.plan import Plan
from robustbench_rad.shortcuts import anatomy

EXEMPT = "exempt"
ANGLES = "costophrenic-angles"
KEY = "data.anatomy.legitimate"


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region that is covered beside the anatomy, for some findings.

    Attributes:
        name: ``costophrenic-angles`` or the name of a mask file.
        findings: Whose evidence may lie there.
        path: The mask file; None for a region that is found from the anatomy.
        sha256: Hash of the file.
    """

    name: str
    findings: tuple[str, ...]
    path: Path | None = None
    sha256: str = ""

    def mask(self, atlas: Tensor) -> Tensor:
        """The region on the grid of the atlas, ``(1, 1, ...)`` boolean.

        Raises:
            ValueError: It is not defined for volumes, or the mask has another number of axes.
        """
        if self.path is None:
            return anatomy.costophrenic_angles(atlas)
        mask = load_atlas(self.path)[None].to(atlas.device)
        if mask.ndim != atlas.ndim:
            raise ValueError(f"{KEY}: {self.name} is a mask of {mask.ndim - 2} axes, the images have {atlas.ndim - 2}")
        return functional.interpolate(mask.float(), atlas.shape[2:], mode="nearest").bool()


def regions_of(plan: Plan) -> tuple[Region, ...]:
    """The regions that a plan names, each once.

    Raises:
        PlanError: A finding that the model does not have, or neither a known region nor a mask file.
    """
    named: Mapping[str, str] = plan.data.anatomy.legitimate if plan.data.anatomy else {}
    for finding in named:
        if finding not in plan.model.names:
            raise PlanError(f"{KEY}: no finding {finding!r}", hint=suggestion(finding, plan.model.names))
    texts = dict.fromkeys(text for text in named.values() if text != EXEMPT)
    found = tuple(_region(plan, text, tuple(name for name, own in named.items() if own == text)) for text in texts)
    if len({region.name for region in found}) < len(found):
        raise PlanError(
            f"{KEY}: two mask files of the same name", hint="Rename one: a report names them without folders."
        )
    return found


def _region(plan: Plan, text: str, findings: tuple[str, ...]) -> Region:
    if text == ANGLES:
        return Region(name=ANGLES, findings=findings)
    path = plan.path(text)
    if not path.is_file():
        raise PlanError(
            f"{KEY}: {text!r} is neither a region nor a mask file",
            hint=f"Known: {ANGLES}, {EXEMPT} (anywhere in the image), or a mask of the size of the images (PNG, NPY, NIfTI).",
        )
    load_atlas(path)
    return Region(name=path.name, findings=findings, path=path, sha256=file_sha256(path))


def covered_with(region: Region, atlas: Tensor) -> Tensor:
    """The atlas and the region together."""
    together: Tensor = torch.logical_or(atlas, region.mask(atlas))
    return together
