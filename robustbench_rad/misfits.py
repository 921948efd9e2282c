"""Masks of the anatomy of another size than their image: the case goes on without a mask, and the report says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.cases import CaseTable
    from robustbench_rad.conditions import Batch

MISFIT = "the anatomy mask has another size than its image: resample it with nearest neighbour"
RESAMPLE = "resample each mask to the size of its image with nearest neighbour"
REDRAW = "or an atlas to the size of the model's input, which fits images of every size"
MOST_SIZES = 3


@dataclass(frozen=True, kw_only=True, order=True)
class Misfit:
    """A mask of another size than its image, which cannot be laid over it.

    Attributes:
        expected: ``(H, W)`` or ``(D, H, W)`` of the image.
        got: Size of the mask, of any number of axes.
        at_input: Of an atlas, one mask for all cases, the size of the model's input, which would fit too; else empty.
    """

    expected: tuple[int, ...]
    got: tuple[int, ...]
    at_input: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Both sizes, in rows and columns.

        >>> str(Misfit(expected=(8, 12), got=(12, 8)))
        'expected a mask of the size of its image, 8 × 12, got 12 × 8'
        """
        expected, got = size_text(self.expected), size_text(self.got)
        if self.at_input:
            return (
                f"expected an atlas of the size of the image, {expected}, of its aspect ratio, or of the size of the model's "
                f"input, {size_text(self.at_input)}, got {got}"
            )
        return f"expected a mask of the size of its image, {expected}, got {got}"


def size_text(shape: tuple[int, ...]) -> str:
    """A size in words.

    >>> size_text((8, 12)), size_text(())
    ('8 × 12', 'one number')
    """
    return " × ".join(str(side) for side in shape) or "one number"


def misfit_rows(batch: Batch) -> Tensor:
    """``(N,)`` boolean: cases whose mask of the anatomy was left out for its size."""
    import torch

    return torch.tensor(batch.anatomy_misfit or (False,) * len(batch), dtype=torch.bool, device=batch.device)


def misfit_summary(misfits: Mapping[str, Misfit], cases: int) -> str:
    """How many masks are left out, what sizes were expected and came, and what to do; names no case and no file.

    >>> misfit_summary({"a": Misfit(expected=(8, 8), got=(8, 9))}, 5)[:70]
    '1 of 5 cases comes with an anatomy mask of another size than its image'
    """
    counts = Counter(misfits.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    sizes = [
        f"{size_text(m.got)} for an image of {size_text(m.expected)} ({count})" for m, count in ranked[:MOST_SIZES]
    ]
    more = [f"and {len(ranked) - MOST_SIZES} more pairs of sizes"] * (len(ranked) > MOST_SIZES)
    come, their, are = ("comes", "its", "is") if len(misfits) == 1 else ("come", "their", "are")
    left = "No case is left with a mask" if len(misfits) == cases else "What needs masks has those of the other cases"
    after = f"{left}, and an audit that finds none is not assessable; else nothing is left out."
    atlas = ranked[0][0]
    if atlas.at_input:
        images = [f"{size_text(m.expected)} ({count})" for m, count in ranked[:MOST_SIZES]]
        return (
            f"the atlas, {size_text(atlas.got)}, fits the images of {cases - len(misfits)} of {cases} cases; the others are "
            f"taken for cases without a mask: draw the atlas at the size of the model's input, {size_text(atlas.at_input)}, "
            f"which fits images of every size. Sizes of the others: {', '.join([*images, *more])}. {after}"
        )
    return (
        f"{len(misfits)} of {cases} cases {come} with an anatomy mask of another size than {their} image, and {are} taken for "
        f"cases without one: {RESAMPLE}. Sizes: {', '.join([*sizes, *more])}; a plane of the same aspect ratio within 1 % is "
        f"brought to its image. {after}"
    )


def misfit_message(table: CaseTable) -> str:
    """The summary with one case and its file by name, for the console: a report holds neither. "" where every mask fits."""
    misfits = table.misfits
    if not misfits:
        return ""
    record = next(record for record in table.records if record.case_id == min(misfits))
    where = record.anatomy or record.reference
    return (
        f"warning: anatomy masks: {misfit_summary(misfits, len(table))} "
        f"E.g. case {record.case_id}: {where}: {misfits[record.case_id]}"
    )
