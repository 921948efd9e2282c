"""Shortcut audit A11: how large the lesion of each case is, so that small ones can be looked at by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, Condition, Measurement, ModelQuery, State
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

PIXELS, MILLIMETRES = "lesion_px", "lesion_mm"


@register(
    id="shortcut.hidden-strata",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Oakden-Rayner et al. 2020, doi:10.1145/3368555.3384468",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class HiddenStrata(Condition):
    """Set strata of the cases (tubes, view, portable, size of the lesion) against the rest; no image is altered.

    Lesions are measured on their masks; declared columns need no image, and the model is not asked.

    Measurements: ``lesion_px``, pixels (voxels) of the display plane that the lesion covers, and ``lesion_mm``, the diameter
    of the disc (sphere) of the same area (volume); NaN where the case has no lesion, does not say, or has no spacing.

    Attributes:
        columns: Metadata columns that hold strata; none: the risk factors.
    """

    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: Columns that are no list of names, or levels.
        """
        if isinstance(self.columns, str) or not all(isinstance(name, str) for name in self.columns):
            raise ValueError(f'columns: expected a list such as ["tubes"], got {self.columns!r}')
        if self.levels:
            raise ValueError("it alters no image and has no levels")

    def bound(self, plan: Plan) -> HiddenStrata:
        """The condition itself, when the plan declares its columns.

        Raises:
            PlanError: It does not.
        """
        for name in self.columns:
            if name not in plan.data.metadata:
                known = plan.data.metadata
                hint = suggestion(name, known) if known else "Declare it there with its role."
                raise PlanError(f"[checks.{self.id!r}]: {name!r} is not declared in [data] metadata", hint=hint)
        return self

    def passes(self, findings: int) -> float:
        """None: lesions are measured on masks."""
        del findings
        return 0.0

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Measure the lesions of the batch."""
        del query, state
        count = batch.images.new_full((len(batch),), float("nan"))
        if batch.lesion is not None:
            covered = batch.lesion.flatten(1).sum(1).to(count.dtype)
            count = torch.where(covered > 0, covered, count)
        measured = [
            Measurement(quantity=PIXELS, values=count),
            Measurement(quantity=MILLIMETRES, values=diameter_mm(count, batch.spacing_mm)),
        ]
        return Applied(variants=iter(()), measurements=measured)


def diameter_mm(count: Tensor, spacing_mm: Tensor | None) -> Tensor:
    """Diameter of the disc or sphere of as many pixels or voxels.

    ``2 sqrt(area / pi)``, ``2 (3 volume / 4 pi)^(1/3)``.

    Args:
        count: ``(N,)`` pixels or voxels; NaN for none.
        spacing_mm: ``(N, 2)`` or ``(N, 3)``, or None: NaN.

    >>> diameter_mm(torch.tensor([314.159]), torch.tensor([[0.5, 0.5]])).round(decimals=2).item()
    10.0
    """
    if spacing_mm is None:
        return torch.full_like(count, float("nan"))
    size = count * spacing_mm.to(count).prod(1)
    if spacing_mm.shape[1] == 2:
        return 2 * (size / torch.pi).sqrt()
    return 2 * (3 * size / (4 * torch.pi)) ** (1 / 3)
