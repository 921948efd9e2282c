"""What the audits that cover anatomy share: the masks of a batch, and levels that have no meaning for any of its cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Level, State, Variant
from robustbench_rad.errors import DataError
from robustbench_rad.misfits import REDRAW, RESAMPLE

NO_MASKS = "no anatomy masks: declare [data.anatomy]"
EMPTY_MASKS = "the anatomy masks are all empty: give masks that are not 0 where the organ is"
WRONG_SIZE = "the anatomy masks have another size than their images"
WITHOUT = "without"


def own_masks(batch: Batch) -> Tensor:
    """Masks of the shape of the images; all False where a case has none.

    Raises:
        DataError: Masks of another size than the images.
    """
    if batch.anatomy is None:
        return torch.zeros_like(batch.images, dtype=torch.bool)
    if batch.anatomy.shape != batch.images.shape:
        raise DataError(
            f"anatomy masks of cases {batch.case_ids[0]!r} …: expected the shape of the display images "
            f"{tuple(batch.images.shape)}, got {tuple(batch.anatomy.shape)}",
            hint="A mask must have the size of its image before both are brought to the model's input.",
        )
    return batch.anatomy.bool()


def nothing(levels: tuple[Level, ...], batch: Batch, reason: str) -> Iterator[Variant]:
    """Variants that say why there is nothing to score; NaN margins, so that no pass of the model is spent."""
    for level in levels:
        yield Variant(
            level=level,
            margins=torch.full_like(batch.labels, float("nan")),
            applicable=torch.zeros(len(batch), dtype=torch.bool, device=batch.device),
            reason=reason,
        )


@dataclass(kw_only=True)
class Lacking:
    """Why there may be no atlas, counted over the whole set, so that the reason does not depend on the batches.

    Attributes:
        cases: All of them.
        misfits: Those whose mask was left out, being of another size than the image.
        fitting: Whether any case has a mask, be it empty.
    """

    cases: int = 0
    misfits: int = 0
    fitting: bool = False

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.cases += len(batch)
        self.misfits += sum(batch.anatomy_misfit)
        self.fitting |= batch.anatomy is not None

    def state(self) -> State:
        """What is kept of a set without an atlas, for :func:`without_masks`."""
        counts = torch.tensor([self.cases, self.misfits, self.fitting], dtype=torch.int64)
        return {"atlas": torch.zeros(0, dtype=torch.bool), WITHOUT: counts}


def without_masks(batch: Batch, state: State | None) -> str:
    """Why there is no atlas: no masks were given, all of them are empty, or of another size than their images.

    Args:
        batch: Speaks for itself where nothing was counted.
        state: What was kept of the whole set by :meth:`Lacking.state`, or None.
    """
    lacking = Lacking()
    lacking.add(batch)
    if state is not None and WITHOUT in state:
        cases, misfits, fitting = state[WITHOUT].tolist()
        lacking = Lacking(cases=cases, misfits=misfits, fitting=bool(fitting))
    if not lacking.misfits:
        return EMPTY_MASKS if lacking.fitting else NO_MASKS
    if lacking.misfits == lacking.cases:
        return f"{WRONG_SIZE}: {RESAMPLE}, {REDRAW}"
    others = "have empty ones or none" if lacking.fitting else "have none"
    return f"{WRONG_SIZE} in {lacking.misfits} of {lacking.cases} cases, and the others {others}: {RESAMPLE}, {REDRAW}"
