"""Asking the model, on a small sample, everything the preflight wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_rad.classifier import Classifier, Outputs, untouched
from robustbench_rad.conditions import Batch
from robustbench_rad.errors import ModelError, RobustbenchRadError
from robustbench_rad.query import CountingQuery
from robustbench_rad.weights import module_sha256

SAMPLE = 16
ALONE = 4  # cases asked by themselves


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the model answered on the sample.

    Attributes:
        display: ``(n, 1, *size)`` sample on the CPU.
        labels: ``(n, K)``.
        case_ids: n names.
        outputs: ``(n, width)`` raw outputs.
        log_odds: ``(n, K)``.
        margins: ``(n, K)``.
        repeated: ``(n, K)`` margins of a second pass.
        alone: ``(m, K)`` margins of the first m cases, each in a batch of its own.
        gradient: ``(n, K)`` largest absolute gradient of a margin with respect to the display plane.
        training: Names of modules that stay in training mode after ``eval()``.
        unchanged: Parameters and buffers are the same after the passes.
    """

    display: Tensor
    labels: Tensor
    case_ids: tuple[str, ...]
    outputs: Tensor
    log_odds: Tensor
    margins: Tensor
    repeated: Tensor
    alone: Tensor
    gradient: Tensor
    training: tuple[str, ...]
    unchanged: bool


def ask(classifier: Classifier, batches: Sequence[Batch]) -> Probe:
    """Ask the model everything the items need, in evaluation mode, and leave it as it was.

    Raises:
        ModelError: The model raises, gives NaN or infinity, the wrong number of outputs, or no probabilities where they
            were declared.
    """
    display = torch.cat([batch.images for batch in batches])[:SAMPLE].to(classifier.device)
    case_ids = tuple(name for batch in batches for name in batch.case_ids)[:SAMPLE]
    query = CountingQuery(classifier, rows=SAMPLE)
    with untouched(classifier.module):
        before = module_sha256(classifier.module)
        outputs = _outputs(classifier, display)
        _check_finite(outputs, case_ids)
        _check_probabilities(classifier, outputs, case_ids)
        margins = query.margins(display)
        repeated = query.margins(display)
        alone = torch.cat([query.margins(row[None]) for row in display[:ALONE]])
        training = tuple(name or "the model" for name, child in classifier.module.named_modules() if child.training)
        gradient = _gradient(query, display)
        unchanged = module_sha256(classifier.module) == before
    return Probe(
        display=display.cpu(),
        labels=torch.cat([batch.labels for batch in batches])[:SAMPLE].cpu(),
        case_ids=case_ids,
        outputs=outputs.cpu(),
        log_odds=classifier.head.log_odds(outputs).cpu(),
        margins=margins.cpu(),
        repeated=repeated.cpu(),
        alone=alone.cpu(),
        gradient=gradient.cpu(),
        training=training,
        unchanged=unchanged,
    )


def _outputs(classifier: Classifier, display: Tensor) -> Tensor:
    """The first pass of all: whatever the model raises becomes one message."""
    try:
        with torch.no_grad():
            return torch.cat([classifier.outputs(part) for part in torch.split(display, ALONE)])
    except (RobustbenchRadError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        shape = (len(display[:ALONE]), classifier.input.channels, *display.shape[2:])
        detail = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"the model raised on an input of shape {shape}: {type(error).__name__}: {detail}",
            hint="Check size and channels in [model.input].",
        ) from error


def _check_finite(outputs: Tensor, case_ids: Sequence[str]) -> None:
    bad = (~outputs.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise ModelError(
            f"model output: expected finite numbers, got NaN or infinity on {len(bad)} of {len(outputs)} sampled "
            f"cases: {', '.join(case_ids[row] for row in bad[:5])}",
            hint="Check range, mean and std in [model.input], and the weights.",
        )


def _check_probabilities(classifier: Classifier, outputs: Tensor, case_ids: Sequence[str]) -> None:
    if classifier.head.outputs is not Outputs.PROBABILITIES:
        return
    outside = ((outputs < 0) | (outputs > 1)).any(1).nonzero().flatten().tolist()
    if outside:
        row = outside[0]
        values = ", ".join(f"{value:.4g}" for value in outputs[row].tolist()[:5])
        raise ModelError(
            f"model output: outputs = 'probabilities' is declared, case {case_ids[row]} gave {values}",
            hint="Declare outputs = 'logits' in [model].",
        )


def _gradient(query: CountingQuery, display: Tensor) -> Tensor:
    """Largest absolute gradient per case and finding ``(n, K)``; 0 where the graph is cut."""
    columns = []
    for finding in range(len(query.findings)):
        weights = torch.zeros(len(display), len(query.findings), device=display.device)
        weights[:, finding] = 1.0
        gradient = query.margins_and_gradient(display, weights)[1]
        columns.append(gradient.abs().flatten(1).amax(1))
    return torch.stack(columns, dim=1)
