"""Several outputs of one case become one: the mean of probabilities, or of log-odds.

The default is what is deployed: probabilities are averaged and the mean is held against the threshold. It is computed from
logits without ever forming a probability, so its gradient does not vanish where the sigmoid saturates, and an attack
cannot mistake saturation for robustness. Means of log-odds (geometric means of odds) are for models deployed that way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.classifier import Head, HeadSpec, Outputs


class Average(StrEnum):
    """What is averaged over the views of an image."""

    PROBABILITIES = "probabilities"
    LOG_ODDS = "log-odds"


def averaged(outputs: Sequence[Tensor], head: HeadSpec, average: Average) -> Tensor:
    """Average raw outputs of the same cases; the result is again a raw output of the same kind.

    Sigmoid: ``logit(mean_v p_v)`` or ``mean_v logit(p_v)``. Softmax: ``log(mean_v p_v)``, or the mean of the log-probabilities
    of a class over the views.

    Args:
        outputs: V tensors ``(N, width)``: logits or probabilities, as the head says.
        head: What the outputs mean.
        average: What is averaged.

    Returns:
        ``(N, width)`` float32: logits (log-probabilities up to a constant for softmax) or probabilities, as the head says.

    >>> head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("f",), thresholds=(0.5,))
    >>> views = [torch.tensor([[0.0]]), torch.tensor([[math.log(9.0)]])]  # probabilities 0.5 and 0.9
    >>> averaged(views, head, Average.PROBABILITIES).sigmoid()
    tensor([[0.7000]])
    >>> averaged(views, head, Average.LOG_ODDS).sigmoid()
    tensor([[0.7500]])
    """
    stacked = torch.stack(list(outputs))
    if head.outputs is Outputs.PROBABILITIES:
        return _probabilities(stacked, head, average)
    if head.kind is Head.SOFTMAX:
        scores = stacked.log_softmax(2)
        return scores.mean(0) if average is Average.LOG_ODDS else _log_mean(scores)
    if average is Average.LOG_ODDS:
        return stacked.mean(0)
    return _log_mean(functional.logsigmoid(stacked)) - _log_mean(functional.logsigmoid(-stacked))


def _log_mean(logarithms: Tensor) -> Tensor:
    """Logarithm of the mean over the first axis of what these are the logarithms of."""
    return logarithms.logsumexp(0) - math.log(len(logarithms))


def _probabilities(p: Tensor, head: HeadSpec, average: Average) -> Tensor:
    if average is Average.PROBABILITIES:
        return p.mean(0)
    smallest = torch.finfo(p.dtype).tiny
    if head.kind is Head.SOFTMAX:
        return p.clamp_min(smallest).log().mean(0).softmax(1)
    inside = p.double().clamp(smallest, 1.0 - 1e-12)
    return (inside.log() - (-inside).log1p()).mean(0).sigmoid().to(p.dtype)
