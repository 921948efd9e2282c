"""Pictures for the report: every level beside the original, with its difference; only when the plan allows images.

A case whose file says BurnedInAnnotation = YES is never shown, neither as itself nor inside the image of another.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_rad.conditions import SHOWS_BURNED_IN, Condition, Space
from robustbench_rad.loader import load_in_order
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain, Picture
from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.audit import Prepared
    from robustbench_rad.cases import Case
    from robustbench_rad.conditions import Batch, Variant
    from robustbench_rad.evaluation import Evaluator

GAP = 4
TRIED = 8
LEAST_DIFFERENCE = 1 / 255  # of the display range: smaller ones are not blown up


def pictures(prepared: Prepared, evaluator: Evaluator) -> list[Picture]:
    """One strip per condition that alters images: the original, then every level, for one case chosen by hash."""
    case = _example(prepared)
    if case is None:
        return []
    showable = [condition for condition in prepared.conditions if not _shows_burned_in(condition, evaluator)]
    strips = [_strip(condition, case, evaluator) for condition in showable]
    return [strip for strip in strips if strip is not None]


def _example(prepared: Prepared) -> Case | None:
    """A positive case, chosen by hash, that carries no burned-in annotation."""
    table, seed = prepared.table, prepared.plan.seed
    positive = [i for i, record in enumerate(table.records) if 1.0 in record.labels] or list(range(len(table.records)))
    ranked = sorted(positive, key=lambda i: derive_seed(seed, "gallery", table.records[i].case_id))
    for case in load_in_order(table, ranked[:TRIED], workers=0):
        if not case.burned_in and case.image.ndim == 3:
            return case
    return None


def _shows_burned_in(condition: Condition, evaluator: Evaluator) -> bool:
    """Whether what the condition learned may bring another case's annotation into the picture."""
    state = evaluator.states.get(condition.id) or {}
    return SHOWS_BURNED_IN in state and bool(state[SHOWS_BURNED_IN])


def _strip(condition: Condition, case: Case, evaluator: Evaluator) -> Picture | None:
    (batch,) = evaluator.batches(condition.works_in, [case])
    (display,) = evaluator.batches(Space.DISPLAY, [case])
    if Domain(entry(condition.id).domain) not in (Domain.ACQUISITION_SHIFT, Domain.SHORTCUT):
        return None
    shown = [("original", display.images[0, 0])]
    for variant in evaluator.applied(condition, batch).variants:
        plane = _plane(condition, variant, batch, evaluator)
        if plane is not None:
            shown.append((str(variant.level), plane))
    if len(shown) < 2:
        return None
    scale = _largest_difference([plane for _, plane in shown])
    return Picture(
        check=condition.id,
        domain=Domain(entry(condition.id).domain),
        caption=" | ".join(name for name, _ in shown)
        + f"; below: difference from the original, ±{scale:.2g} of the range",
        png_base64=_png([plane for _, plane in shown], scale),
    )


def _plane(condition: Condition, variant: Variant, batch: Batch, evaluator: Evaluator) -> Tensor | None:
    if variant.images is None or (variant.applicable is not None and not bool(variant.applicable[0])):
        return None
    return evaluator.displayed(condition, variant.images, batch)[0, 0]


def _largest_difference(planes: list[Tensor]) -> float:
    """What is black and white in the differences: the largest of a level, left out the last half percent of its pixels."""
    sizes = [float((plane - planes[0]).abs().flatten().double().quantile(0.995)) for plane in planes[1:]]
    return max([*sizes, LEAST_DIFFERENCE])


def _png(planes: list[Tensor], scale: float) -> str:
    """The planes side by side, and under each its difference from the first, mid-grey where there is none."""
    differences = [0.5 + (plane - planes[0]) / (2.0 * scale) for plane in planes]
    rows = [_row(planes), _row(differences)]
    gap = np.full((GAP, rows[0].shape[1]), 255, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([rows[0], gap, rows[1]])).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _row(planes: list[Tensor]) -> NDArray[np.uint8]:
    arrays = [(plane.clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8) for plane in planes]
    gap = np.full((arrays[0].shape[0], GAP), 255, np.uint8)
    return np.concatenate([part for array in arrays for part in (array, gap)][:-1], axis=1)
