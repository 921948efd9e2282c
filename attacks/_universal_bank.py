"""Which cases a universal perturbation is learned from, and who is in which half of the patients."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch
from robustbench_rad.errors import DataError
from robustbench_rad.sampling import patient_key
from robustbench_rad.seeds import derive_seed

DIRECTIONS = (0, 1)  # create, hide


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A case to learn from, on the CPU.

    Attributes:
        image: ``(1, ...)``.
        allowed: ``(1, ...)`` pixels that may be touched, or None for all.
        clean: ``(K,)`` clean margins.
        radii: ``(L,)`` size of each level; 0 where it has no meaning.
        bits: Stored bit depth.
        patient: Key of the patient.
    """

    image: Tensor
    allowed: Tensor | None
    clean: Tensor
    radii: Tensor
    bits: int
    patient: int


@dataclass(kw_only=True)
class Bank:
    """The ``size`` correct calls with the smallest keys, for each finding and direction; patients split in two.

    Neither the order nor the size of the batches changes what is kept. The half of a patient comes from the smallest seed
    of the patient's cases, not from the patient's name, which an audit salts anew.

    Attributes:
        size: Cases for each finding and direction.
        findings: K.
        name: Parts of the keys.
        shape: Of the images; () before any was seen.
        audit_seed: Of the audit.
    """

    size: int
    findings: int
    name: tuple[object, ...]
    shape: tuple[int, ...] = ()
    audit_seed: int = 0
    _ranked: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _cases: dict[int, Kept] = field(default_factory=dict)
    _smallest: dict[int, int] = field(default_factory=dict)

    def offer(self, batch: Batch, clean: Tensor, allowed: Tensor | None, radii: Tensor) -> None:
        """Look at the cases of a batch.

        Args:
            batch: N cases of the shape of all before.
            clean: ``(N, K)`` margins.
            allowed: ``(N, 1, ...)`` pixels that may be touched; None: all.
            radii: ``(N, L)`` sizes of the levels.

        Raises:
            DataError: The images are not of one size.
        """
        shape = tuple(batch.images.shape[1:])
        if self.shape and shape != self.shape:
            raise DataError(
                f"a universal perturbation needs images of one size, got {shape[1:]} after {self.shape[1:]}"
            )
        self.shape, self.audit_seed = shape, batch.audit_seed
        called, labels = (clean >= 0).cpu(), batch.labels.cpu()
        for row, (patient, seed) in enumerate(zip(batch.patient_ids, batch.seeds, strict=True)):
            person = patient_key(patient)
            self._smallest[person] = min(seed, self._smallest.get(person, seed))
            key = derive_seed(seed, *self.name, "learn")
            goals = [
                (finding, int(label))
                for finding, label in enumerate(labels[row].tolist())
                if label in (0.0, 1.0) and bool(called[row, finding]) == (label == 1.0)
            ]
            if self._rank(key, goals):
                self._cases[key] = Kept(
                    image=_own(batch.images[row]),
                    allowed=None if allowed is None else _own(allowed[row]),
                    clean=_own(clean[row]),
                    radii=_own(radii[row]),
                    bits=batch.stored_bits,
                    patient=person,
                )
        wanted = {key for ranked in self._ranked.values() for key in ranked}
        self._cases = {key: case for key, case in self._cases.items() if key in wanted}

    def _rank(self, key: int, goals: list[tuple[int, int]]) -> bool:
        """Whether a case is among the smallest keys of any of its goals."""
        wanted = False
        for goal in goals:
            ranked = sorted([*self._ranked.get(goal, []), key])[: self.size]
            self._ranked[goal] = ranked
            wanted |= key in ranked
        return wanted

    def kept(self) -> dict[tuple[int, int], list[Kept]]:
        """Cases by finding and direction, smallest key first."""
        every = [(finding, side) for finding in range(self.findings) for side in DIRECTIONS]
        return {goal: [self._cases[key] for key in self._ranked.get(goal, [])] for goal in every}

    def halves(self) -> dict[int, int]:
        """Half (0 or 1) of each patient by key."""
        return {person: derive_seed(seed, *self.name, "half") & 1 for person, seed in self._smallest.items()}


def _own(values: Tensor) -> Tensor:
    """A copy on the CPU: a view would keep its whole batch in memory."""
    return torch.clone(values.detach().cpu())
