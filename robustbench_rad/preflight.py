"""Looking at the model and the labels before the run: each item is ok, a warning or an error, and says what to do.

The model is asked about a small sample only (at most 16 cases); its answers are collected once, and every item is a
pure function of them. What makes every later number meaningless (NaN, the wrong number of outputs, a forward pass that
raises) is a ModelError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robustbench_rad import preflight_items as item
from robustbench_rad.probing import SAMPLE, ask

if TYPE_CHECKING:
    from robustbench_rad.cases import CaseTable
    from robustbench_rad.classifier import Classifier, InputSpec
    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan
    from robustbench_rad.result import PreflightItem


def preflight(classifier: Classifier, batches: Sequence[Batch], *, table: CaseTable, plan: Plan) -> list[PreflightItem]:
    """Check the model on a sample, and labels and files of the whole set.

    Args:
        classifier: The model under audit; left as it was.
        batches: Display batches; the first 16 cases are used (:func:`choose_sample` says which to decode).
        table: The whole set.
        plan: Says how large the smallest lesion is.

    Raises:
        ModelError: The model raises, gives NaN or infinity, the wrong number of outputs, or no probabilities where they
            were declared.
    """
    items = [*item.caveat_items(classifier), *item.defence_items(plan.model.defences)]
    if any(len(batch) for batch in batches):
        items += model_items(classifier, batches)
    items += item.label_items(table.findings, table.labels.astype(np.float64))
    items.append(item.duplicates_item([table.fingerprint(record) for record in table.records], table.patients))
    lesion = item.lesion_item(smallest_lesion_px(table, plan, classifier.input))
    misfit = item.misfit_item(table.misfits, len(table))
    return [*items, *(found for found in (lesion, misfit) if found is not None)]


def model_items(classifier: Classifier, batches: Sequence[Batch]) -> Iterator[PreflightItem]:
    """Items about the model's behaviour on the sample.

    Raises:
        ModelError: See :func:`preflight`.
    """
    probe = ask(classifier, batches)
    yield item.mode_item(classifier.module, probe)
    yield item.determinism_item(probe)
    yield item.independence_item(probe)
    yield item.state_item(probe)
    yield item.finite_item(probe)
    yield item.outputs_item(classifier, probe)
    yield item.saturation_item(classifier.findings, probe)
    yield item.gradient_item(classifier.findings, probe)
    yield item.range_item(probe)
    yield from item.direction_items(classifier.findings, probe.labels.double().numpy(), probe.margins.double().numpy())


def smallest_lesion_px(table: CaseTable, plan: Plan, input: InputSpec) -> float | None:
    """Diameter of the declared smallest lesion at the model's input, in pixels; the least over the first four cases.

    None when no diameter is declared, or no pixel spacing is known.
    """
    if plan.data.lesion is None or plan.data.lesion.diameter_mm is None:
        return None
    sizes = []
    for case in (table.load(index) for index in range(min(4, len(table)))):
        if case.spacing_mm is not None:
            native = plan.data.lesion.diameter_mm / max(case.spacing_mm[-2:])
            sizes.append(item.pixels_at_input(native, case.image.shape, input))
    return min(sizes, default=None)


def choose_sample(labels: NDArray[np.floating], ranked: Sequence[int], *, size: int = SAMPLE) -> list[int]:
    """Rows to look at: positives and negatives of every finding in turn, then the rest.

    Args:
        labels: ``(N, K)``, NaN for unknown.
        ranked: All rows in the order of preference, e.g. by a hash of the case, so that the order of the table is of no
            influence.
        size: How many.

    >>> choose_sample(np.array([[0.0], [0.0], [0.0], [1.0], [1.0]]), [4, 3, 2, 1, 0], size=3)
    [2, 3, 4]
    """
    strata = [[row for row in ranked if labels[row, k] == value] for k in range(labels.shape[1]) for value in (1, 0)]
    turns = [stratum[turn] for turn in range(size) for stratum in strata if turn < len(stratum)]
    return sorted(list(dict.fromkeys([*turns, *ranked]))[:size])
