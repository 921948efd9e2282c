"""What an attack tries to do: one finding of one case, pushed in the direction that is a clinical error.

A *target* is a pair (case, finding). Its label gives the direction: a finding that is present is hidden (margin pushed
down), one that is absent is created (margin pushed up), one whose label is unknown is left alone. All targets are
brought to one sign: the *health* of a target is its margin for a positive label and minus its margin for a negative
one, so every attack lowers a health, and a call is wrong when its health is below 0.

The margin itself is the loss. Cross-entropy would have the same sign of gradient, but vanishes on confident models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """R pairs of case and finding, each with its direction.

    Attributes:
        case: ``(R,)`` int64 row of the batch.
        finding: ``(R,)`` int64 column of the margins.
        side: ``(R,)`` float32: +1 where the label is positive (hide), -1 where it is negative (create).
    """

    case: Tensor
    finding: Tensor
    side: Tensor

    @classmethod
    def of(cls, labels: Tensor, clean_margins: Tensor) -> Self:
        """All pairs ``(N, K)`` with a known label and a clean margin that is a number."""
        case, finding = (~labels.isnan() & ~clean_margins.isnan()).nonzero(as_tuple=True)
        positive = labels[case, finding] > 0.5
        return cls(case=case, finding=finding, side=positive.to(clean_margins.dtype) * 2 - 1)

    def __len__(self) -> int:
        return len(self.case)

    def select(self, index: Tensor) -> Self:
        """The targets at ``index`` (int64 or boolean), in that order."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Index tensors of at most ``size`` targets each."""
        every = torch.arange(len(self), device=self.case.device)
        return (every[first : first + size] for first in range(0, len(self), size))

    def health(self, margins: Tensor) -> Tensor:
        """Health ``(R,)`` from margins ``(R, K)``, one row per target."""
        return margins.gather(1, self.finding[:, None])[:, 0] * self.side

    def weights(self, findings: int) -> Tensor:
        """Weights ``(R, findings)`` whose product with the margins, summed, is the health."""
        return torch.zeros(len(self), findings, device=self.side.device).scatter(
            1, self.finding[:, None], self.side[:, None]
        )

    def wrong(self, health: Tensor) -> Tensor:
        """Whether a call with this health ``(R,)`` is wrong; a margin of exactly 0 is a positive call.

        >>> targets = Targets.of(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
        >>> targets.wrong(torch.zeros(2)).tolist()
        [False, True]
        """
        return (health < 0) | ((health == 0) & (self.side < 0))
