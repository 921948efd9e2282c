"""Pictures for the report: an example of every level, original beside altered; only when the plan allows images.

A case whose file says BurnedInAnnotation = YES is never shown, neither as itself nor inside the image of another.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
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
    return Picture(
        check=condition.id,
        domain=Domain(entry(condition.id).domain),
        caption=" | ".join(name for name, _ in shown),
        png_base64=_png([plane for _, plane in shown]),
    )


def _plane(condition: Condition, variant: Variant, batch: Batch, evaluator: Evaluator) -> Tensor | None:
    if variant.images is None or (variant.applicable is not None and not bool(variant.applicable[0])):
        return None
    return evaluator.displayed(condition, variant.images, batch)[0, 0]


def _png(planes: list[Tensor]) -> str:
    arrays = [(plane.clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8) for plane in planes]
    gap = np.full((arrays[0].shape[0], GAP), 255, np.uint8)
    row = np.concatenate([part for array in arrays for part in (array, gap)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
