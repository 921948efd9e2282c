"""How the outputs of a model become margins of findings at the locked operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Head(StrEnum):
    """What the last layer means."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    SINGLE_LOGIT = "single-logit"


class Outputs(StrEnum):
    """Whether the model gives logits or probabilities."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """How the model's outputs become findings.

    Attributes:
        kind: Sigmoid, softmax or one logit.
        outputs: Logits or probabilities.
        findings: K names.
        groups: For softmax: per finding the indices of its classes. For sigmoid: per finding the index of its output;
            none when the outputs are the findings, in that order.
        classes: Number of outputs, when it is not the number of findings.
        thresholds: K locked operating points on the probability scale; NaN: the largest class decides.
    """

    kind: Head
    outputs: Outputs
    findings: tuple[str, ...]
    thresholds: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...] = ()
    classes: int = 0

    @property
    def width(self) -> int:
        """Number of outputs the model must have."""
        return self.classes or len(self.findings)

    def log_odds(self, outputs: Tensor) -> Tensor:
        """Log-odds ``(N, K)`` of the findings from raw outputs ``(N, width)``.

        A group of softmax classes has the log-odds of its summed probability,
        ``logsumexp(z over the group) - logsumexp(z over the rest)``.
        """
        if self.kind is not Head.SOFTMAX:
            if self.groups:
                outputs = outputs[:, [index for group in self.groups for index in group]]
            return outputs if self.outputs is Outputs.LOGITS else _logit(outputs)
        scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(_SMALLEST).log()
        return torch.stack([_group_log_odds(scores, group) for group in self.groups], dim=1)

    def margins(self, outputs: Tensor) -> Tensor:
        """Margins ``(N, K)``: log-odds minus log-odds of the threshold.

        Where no threshold is declared (softmax, one class), the margin is the logit of the class minus the largest
        other logit.
        """
        log_odds = self.log_odds(outputs)
        offset = outputs.new_tensor([_logit_float(t) for t in self.thresholds])
        margins = log_odds - offset
        if self.kind is Head.SOFTMAX and any(math.isnan(t) for t in self.thresholds):
            scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(_SMALLEST).log()
            largest = torch.stack([_largest_class_margin(scores, g) for g in self.groups], dim=1)
            margins = torch.where(offset.isnan(), largest, margins)
        return margins


_SMALLEST = 1e-37  # probability; its logarithm and the gradient 1/p are still finite in float32


def _group_log_odds(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].logsumexp(1) - scores[:, rest].logsumexp(1)


def _largest_class_margin(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].amax(1) - scores[:, rest].amax(1)


def _logit(probabilities: Tensor) -> Tensor:
    """Logit in float64, so that probabilities near 0 and 1 keep their order."""
    p = probabilities.double().clamp(_SMALLEST, 1 - 1e-12)
    return (p.log() - (-p).log1p()).float()


def _logit_float(p: float) -> float:
    return p if math.isnan(p) else math.log(p) - math.log1p(-p)
