"""Shortcut audit A4, inside the organ: thin bright lines are taken out, and the score asked again.

What covers the organ covers the drain in it too, so masked anatomy cannot see a model that reads drains. Here the organ stays
and the line goes. Catheters, drains and wires are found by their form alone, and so are edges of ribs: whether what was taken
out is what a scanner, a ward or a device goes with is told by the metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.noise import noise_sd
from robustbench_rad.registry import register
from robustbench_rad.seeds import generator
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shortcuts._insertion import Paired, paired_levels
from robustbench_rad.shortcuts._lines import LineSearch, line_masks, moved_aside
from robustbench_rad.shortcuts._own_masks import own_masks
from robustbench_rad.shortcuts.remove_markers import without

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Applied, Batch, ModelQuery, State

NAME = "tubes"
NOTHING = "no thin bright line found"
LARGEST_MASK = 0.95


@register(
    id="shortcut.remove-tubes",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Oakden-Rayner et al. 2020, doi:10.1145/3368555.3384468; Gortler et al. 1996, doi:10.1145/237170.237200",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class RemoveTubes(Paired):
    """Take out thin bright lines, and continue image and noise into the gap; the placebo is a gap of the same form beside it.

    Lines are looked for inside of the case's own anatomy mask, which is what other audits cover. Where nothing is found the
    level is not applicable. Measured besides: ``found``, 1 where something was found, NaN where the case has no mask to look
    in: none, an empty one, or one that holds the whole border of the image or 95 % of it, as an inverted mask does.

    Attributes:
        levels: ``tubes``.
        length_share: Least length, as a share of the shorter side.
        contrast: Least brightness above both sides, in shares of the display range.
        noise_multiple: The same in standard deviations of what noise alone gives such a line.
    """

    names: ClassVar[tuple[str, ...]] = (NAME,)
    needs_masks: ClassVar[bool] = True

    levels: tuple[Level, ...] = field(default_factory=lambda: paired_levels(NAME))
    length_share: float = 1 / 3
    contrast: float = 0.05
    noise_multiple: float = 4.0

    def __post_init__(self) -> None:
        """Refuse sizes without meaning.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        require_positive(self, ("length_share", "contrast", "noise_multiple"))
        for name in ("length_share", "contrast"):
            if getattr(self, name) > 1.0:
                raise ValueError(f"{name}: expected a share in (0, 1], got {getattr(self, name)}")

    @property
    def search(self) -> LineSearch:
        """What counts as a line."""
        return LineSearch(length=self.length_share, contrast=self.contrast, noise_multiple=self.noise_multiple)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Take out what is found, and measure in which cases something was."""
        del state
        self.refuse(batch)
        searched = _searched(batch)
        found = line_masks(batch.images, searched, self.search)
        applied = super().apply(batch, query, {"found": found, "searched": searched})
        has = torch.where(searched.flatten(1).any(1), found.flatten(1).any(1).float(), torch.nan)
        applied.measurements.append(Measurement(quantity="found", values=has, level=NAME))
        return applied

    def pair(self, batch: Batch, state: State | None, name: str) -> tuple[Tensor, Tensor, Tensor, str]:
        """The image without its lines, and with gaps of the same form beside them."""
        assert state is not None  # apply hands over what it has found
        found, elsewhere = state["found"], moved_aside(state["found"], state["searched"])
        applicable = found.flatten(1).any(1) & elsewhere.flatten(1).any(1)
        reason = "" if bool(applicable.all()) else NOTHING
        grain = self._grain(batch, applicable)
        return _filled(batch.images, found, grain), _filled(batch.images, elsewhere, grain), applicable, reason

    def _grain(self, batch: Batch, applicable: Tensor) -> Tensor:
        """The noise of each image, drawn from the seed of its case: a smooth gap calms what looks for the brightest spot."""
        grain = torch.zeros_like(batch.images)
        for row in applicable.nonzero().flatten().tolist():
            source = generator("cpu", batch.seeds[row], self.id, self.version, "grain")
            grain[row] = torch.randn(batch.images.shape[1:], generator=source).to(grain)
        return grain * noise_sd(batch.images).nan_to_num(0.0)[:, None, None, None]


def _filled(images: Tensor, gaps: Tensor, grain: Tensor) -> Tensor:
    return torch.where(gaps, without(images, gaps) + grain, images).clamp(0.0, 1.0)


def _searched(batch: Batch) -> Tensor:
    """The anatomy of each case; nothing where its mask says nothing of where the organ is."""
    own = own_masks(batch)
    border = torch.ones_like(own)
    border[..., 1:-1, 1:-1] = False
    whole = (own | ~border).flatten(1).all(1) | (own.flatten(1).float().mean(1) > LARGEST_MASK)
    return own & ~whole[:, None, None, None]
