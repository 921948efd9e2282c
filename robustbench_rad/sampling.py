"""Choosing a few cases out of a stream, so that the choice does not depend on the order or the size of the batches.

Every case draws a key from its own seed; the cases with the smallest keys are kept. The minimum over a set does not
know in which order the set was seen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def patient_key(patient_id: str) -> int:
    """A 63-bit number that stands for a patient in a state, which must not hold names.

    It is no secret: who can guess the id can make the number. An audit gives salted ids (:attr:`Batch.patient_ids`).
    """
    return derive_seed("patient", patient_id)


def kept_copy(image: Tensor) -> Callable[[], Tensor]:
    """Copy an image to the CPU when first asked to, and once; a view would keep its whole batch in memory."""
    return cache(lambda: image.detach().cpu().clone())


@dataclass(kw_only=True)
class PatientBank(Generic[T]):
    """One item of each of the ``size`` patients with the smallest keys.

    >>> bank = PatientBank(size=2)
    >>> for patient, key in [("a", 5), ("b", 3), ("c", 4), ("a", 1)]:
    ...     bank.offer(patient, key, lambda: key)
    >>> bank.ranked()
    [('a', 1), ('b', 3)]
    """

    size: int
    _kept: dict[str, tuple[int, T]] = field(default_factory=dict)

    def offer(self, patient_id: str, key: int, make: Callable[[], T]) -> None:
        """Keep what ``make`` returns if its key is among the smallest; otherwise ``make`` is not called."""
        if key >= self._limit(patient_id):
            return
        self._kept[patient_id] = (key, make())
        if len(self._kept) > self.size:
            del self._kept[max(self._kept, key=lambda patient: self._kept[patient][0])]

    def ranked(self) -> list[tuple[str, T]]:
        """Patients and items, smallest key first."""
        return [(patient, item) for patient, (_, item) in sorted(self._kept.items(), key=lambda kept: kept[1][0])]

    def _limit(self, patient_id: str) -> float:
        if patient_id in self._kept:
            return self._kept[patient_id][0]
        return float("inf") if len(self._kept) < self.size else max(key for key, _ in self._kept.values())


@dataclass(kw_only=True)
class SmallestKeys:
    """The ``size`` smallest keys of a stream; a case is in the sample when its key is at most :attr:`cutoff`.

    >>> sample = SmallestKeys(size=2)
    >>> for key in (9, 4, 7, 5):
    ...     sample.offer(key)
    >>> sample.cutoff
    5
    """

    size: int
    _negated: list[int] = field(default_factory=list)

    def offer(self, key: int) -> None:
        """Look at one more key."""
        heapq.heappush(self._negated, -key)
        if len(self._negated) > self.size:
            heapq.heappop(self._negated)

    @property
    def cutoff(self) -> int:
        """The largest key kept; -1 when none was seen."""
        return -self._negated[0] if self._negated else -1
