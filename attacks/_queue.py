"""Whose turn it is: the rows of a chunk of targets, each a target at a level from a start, and what became of them.

The rows of a target have an order: by level, mildest first, and within a level by start. A row's *turn* comes when all
before it are settled. Taking every row at its turn is the plain way up the ladder, and defines the answer. A row may be
searched ahead of its turn where its steps do not depend on those before; what it found is then settled at its turn, or
never, when a flip before it leaves nothing to be asked.

All of this is kept on the host, in the device's time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor


class Row(IntEnum):
    """What became of a row."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2  # ahead of its turn
    SETTLED = 3


@dataclass(kw_only=True, eq=False)
class Queue:
    """R targets with Q = L x S rows each; row ``q`` is at level ``q // S``, from start ``q % S``.

    Attributes:
        starts: S.
        wanted: ``(L, R)`` whether a level is to be searched for a target at all.
        to_flip: ``(L,)`` whether a level is answered by a flip before it.
        wrong: ``(R,)`` whether a plane that reaches the goal is known.
        turn: ``(R,)`` the row whose turn it is; Q when all is settled.
        state: ``(R, Q)`` see :class:`Row`.
        flips: ``(R, Q)`` whether a row that has ended ahead of its turn reached the goal.
    """

    starts: int
    wanted: Tensor
    to_flip: Tensor
    wrong: Tensor
    turn: Tensor = field(init=False)
    state: Tensor = field(init=False)
    flips: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Everything is waiting."""
        levels, targets = self.wanted.shape
        self.turn = torch.zeros(targets, dtype=torch.int64)
        self.state = torch.full((targets, levels * self.starts), Row.WAITING, dtype=torch.uint8)
        self.flips = torch.zeros_like(self.state, dtype=torch.bool)

    @property
    def rows(self) -> int:
        """Rows per target."""
        return self.state.shape[1]

    def open(self) -> Tensor:
        """Targets ``(r,)`` with rows left."""
        return (self.turn < self.rows).nonzero()[:, 0]

    def unneeded(self, targets: Tensor) -> Tensor:
        """Whether the rest of the level ``(r,)`` of these open targets has nothing to be asked."""
        level = self.turn[targets] // self.starts
        return ~self.wanted[level, targets] | (self.to_flip[level] & self.wrong[targets])

    def states(self, targets: Tensor) -> Tensor:
        """State ``(r,)`` of the rows whose turn it is."""
        return self.state[targets, self.turn[targets]]

    def due(self, most: int) -> Tensor:
        """Up to ``most`` pairs ``(n, 2)`` of target and row that wait at their turn, mildest first."""
        targets = self.open()
        targets = targets[self.states(targets) == Row.WAITING]
        targets = targets[self.turn[targets].argsort(stable=True)[: max(most, 0)]]
        return torch.stack([targets, self.turn[targets]], 1)

    def early(self, most: int, may: Tensor) -> Tensor:
        """Up to ``most`` pairs ``(n, 2)`` that wait for their turn, mildest first, less those a flip may answer.

        Args:
            most: How many.
            may: ``(S,)`` from which starts.
        """
        each = torch.arange(self.rows)
        level = each // self.starts
        waiting = (self.state == Row.WAITING) & (each > self.turn[:, None])
        asked = self.wanted[level].T & may[each % self.starts]
        row, target = (waiting & asked & ~self._answered()).T.nonzero(as_tuple=True)
        return torch.stack([target, row], 1)[:most]

    def pointless(self, pairs: Tensor) -> Tensor:
        """Which of the pairs ``(n, 2)`` a flip before them has answered, as far as is known."""
        target, row = pairs.unbind(1)
        return (row < self.turn[target]) | self._answered()[target, row]

    def _answered(self) -> Tensor:
        """Rows ``(R, Q)`` behind a flip."""
        each = torch.arange(self.rows)
        flips = self.flips & (self.state == Row.ENDED)
        before = (flips.cumsum(1) - flips.long()) > 0
        return (before | self.wrong[:, None]) & self.to_flip[each // self.starts]
