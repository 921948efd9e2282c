"""What an attack tries to do: an objective on the margins of a case that is a clinical error when it is reached.

A *target* is one row of an objective: a case with what is to be done to its calls. All targets are brought to one sign:
the *health* of a target is positive while the goal is not reached and negative when it is, so every attack lowers a
health. Margins themselves are the loss. Cross-entropy would have the same sign of gradient, but vanishes on confident
models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

Weights = Tensor | Callable[[Tensor, Tensor], Tensor]
"""``(R, K)`` weights of the margins, or a function of margins ``(n, K)`` and rows ``(n,)`` that gives ``(n, K)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Objective(ABC):
    """R targets.

    Attributes:
        case: ``(R,)`` int64 row of the batch.
    """

    case: Tensor

    def __len__(self) -> int:
        return len(self.case)

    def select(self, index: Tensor) -> Self:
        """The targets at ``index`` (int64 or boolean), in that order."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All targets of several objectives of one kind."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Index tensors of at most ``size`` targets each."""
        every = torch.arange(len(self), device=self.case.device)
        return (every[first : first + size] for first in range(0, len(self), size))

    @abstractmethod
    def health(self, margins: Tensor) -> Tensor:
        """Health ``(R,)`` from margins ``(R, K)``, one row per target."""

    @abstractmethod
    def weights(self, findings: int) -> Weights:
        """Derivative of the health with respect to the margins."""

    @abstractmethod
    def wrong(self, health: Tensor) -> Tensor:
        """Whether the goal is reached at this health ``(R,)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets(Objective):
    """Pairs of case and finding, each pushed in the direction that is a clinical error: *hide* and *create*.

    The label gives the direction: a finding that is present is hidden (margin pushed down), one that is absent is
    created (margin pushed up), one whose label is unknown is left alone. The health is the margin for a positive label
    and minus the margin for a negative one.

    Attributes:
        finding: ``(R,)`` int64 column of the margins.
        side: ``(R,)`` float32: +1 where the label is positive (hide), -1 where it is negative (create).
    """

    finding: Tensor
    side: Tensor

    @classmethod
    def of(cls, labels: Tensor, clean_margins: Tensor) -> Self:
        """All pairs ``(N, K)`` with a known label and a clean margin that is a number."""
        case, finding = (~labels.isnan() & ~clean_margins.isnan()).nonzero(as_tuple=True)
        positive = labels[case, finding] > 0.5
        return cls(case=case, finding=finding, side=positive.to(clean_margins.dtype) * 2 - 1)

    def health(self, margins: Tensor) -> Tensor:
        """Margin of the finding, or minus it."""
        return margins.gather(1, self.finding[:, None])[:, 0] * self.side

    def weights(self, findings: int) -> Weights:
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
