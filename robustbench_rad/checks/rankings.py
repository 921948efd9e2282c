"""Rankings that were made already: one sort serves the drop, the curve and every confidence level."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.statistics.auc import Ranking, rank

Floats = NDArray[np.float64]
MOST_BYTES = 2**28  # of influences kept; beyond it the ones unused for longest are ranked again when asked for


class Rankings:
    """Rankings by the content of what was ranked, so that none can be taken for another.

    >>> made, patients = Rankings(), np.arange(4)
    >>> first = made.of(np.array([1.0, 1, 0, 0]), np.array([4.0, 2, 3, 1]), patients, 4)
    >>> first is made.of(np.array([1.0, 1, 0, 0]), np.array([4.0, 2, 3, 1]), patients, 4), first.area
    (True, 0.75)
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._made: OrderedDict[bytes, Ranking] = OrderedDict()
        self._bytes = 0

    def of(self, labels: Floats, scores: Floats, patients: NDArray[np.int64], n_patients: int) -> Ranking:
        """The ranking of these scores; see :func:`~robustbench_rad.statistics.auc.rank`.

        Raises:
            StatisticsError: As there.
        """
        key = _digest(labels, scores, patients, np.array([n_patients]))
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        ranking = rank(labels, scores, patients, n_patients)
        self._made[key] = ranking
        self._bytes += ranking.influence.nbytes
        while self._bytes > self._most_bytes and len(self._made) > 1:
            self._bytes -= self._made.popitem(last=False)[1].influence.nbytes
        return ranking


def _digest(*arrays: NDArray[np.generic]) -> bytes:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
