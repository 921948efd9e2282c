"""Decoded cases as batches of equal shape, in the space that a condition works in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.masks import resize_mask
from robustbench_rad.seeds import derive_seed
from robustbench_rad.stored import Grid, Limits

if TYPE_CHECKING:
    from robustbench_rad.cases import Case
    from robustbench_rad.classifier import Classifier, InputSpec


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Makes batches of cases.

    Attributes:
        classifier: Whose display, declared range and device they are for.
        modality: DICOM modality code.
        seed: The audit's seed.
        batch_size: Cases of a batch at most.
        name: Makes of a patient id the name that conditions see.
    """

    classifier: Classifier
    modality: str
    seed: int
    batch_size: int
    name: Callable[[str], str] = str

    def display(self, cases: Sequence[Case]) -> Batch:
        """Bring cases of any shape to one display batch; clean margins are not yet known."""
        planes = [self._display(case) for case in cases]
        spec = self.classifier.input
        anatomy = [_at_input(case, spec) for case in cases]
        lesion = [None if c.lesion is None else resize_mask(c.lesion, spec, touched=True) for c in cases]
        return self._batch(
            cases,
            images=torch.stack(planes),
            space=Space.DISPLAY,
            anatomy=_stack_masks(anatomy),
            lesion=_stack_masks(lesion),
            limits=spec.limits,
        )

    def _display(self, case: Case) -> Tensor:
        return self.classifier.display(case.image.unsqueeze(0).to(self.classifier.device))[0]

    def of(self, space: Space, cases: Sequence[Case]) -> Iterator[Batch]:
        """Batches of these cases in a space: equal bit depth, on the native grid equal shape, at most ``batch_size``."""
        display = self.display(cases) if space is Space.DISPLAY else None
        for _rows, batch in self.numbered(space, cases, display):
            yield batch

    def numbered(self, space: Space, cases: Sequence[Case], display: Batch | None) -> Iterator[tuple[list[int], Batch]]:
        """Batches with the row numbers of their cases."""
        for rows in self._rows(space, cases):
            if space is Space.DISPLAY and display is not None:
                batch = display.select(torch.tensor(rows, device=display.device))
                yield rows, replace(batch, stored_bits=cases[rows[0]].stored_bits)
            else:
                native = self._stored_batch if space is Space.STORED else self._physical_batch
                yield rows, native([cases[row] for row in rows])

    def _rows(self, space: Space, cases: Sequence[Case]) -> Iterator[list[int]]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for row, case in enumerate(cases):
            shape = () if space is Space.DISPLAY else (*case.image.shape, case.unit)
            groups.setdefault((case.stored_bits, *shape), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _physical_batch(self, cases: Sequence[Case]) -> Batch:
        return self._native_batch(cases, self._signal(_native(cases), cases[0].unit), Space.PHYSICAL)

    def _stored_batch(self, cases: Sequence[Case]) -> Batch:
        grid = Grid.of(cases[0].unit, cases[0].stored_bits, declared=self.classifier.input.limits)
        images = grid.stored(_native(cases))
        batch = self._native_batch(cases, images, Space.STORED, limits=grid.limits)
        return replace(batch, stored_bits=grid.bits, on_grid=tuple(grid.holds(images).tolist()))

    def _native_batch(self, cases: Sequence[Case], images: Tensor, space: Space, limits: Limits = (0.0, 1.0)) -> Batch:
        anatomy = _stack_masks([case.anatomy for case in cases])
        lesion = _stack_masks([case.lesion for case in cases])
        return self._batch(cases, images=images, space=space, anatomy=anatomy, lesion=lesion, limits=limits)

    def _batch(
        self,
        cases: Sequence[Case],
        *,
        images: Tensor,
        space: Space,
        anatomy: Tensor | None,
        lesion: Tensor | None,
        limits: Limits = (0.0, 1.0),
    ) -> Batch:
        device = self.classifier.device
        axes = images.ndim - 2
        zeros = [case.zero_signal for case in cases] if space is Space.PHYSICAL else []
        spacing = [self._spacing(case, space) or (float("nan"),) * axes for case in cases]
        return Batch(
            images=images.to(device),
            labels=torch.tensor([case.record.labels for case in cases], dtype=torch.float32, device=device),
            case_ids=tuple(case.record.case_id for case in cases),
            patient_ids=tuple(self.name(case.record.patient_id) for case in cases),
            seeds=tuple(derive_seed(self.seed, case.record.case_id) for case in cases),
            space=space,
            unit=cases[0].unit if space is Space.PHYSICAL else None,
            modality=self.modality,
            spacing_mm=torch.tensor(spacing, dtype=torch.float32, device=device),
            anatomy=None if anatomy is None else anatomy.to(device),
            anatomy_misfit=tuple(case.misfit is not None for case in cases),
            lesion=None if lesion is None else lesion.to(device),
            lesion_known=tuple(case.lesion is not None for case in cases),
            limits=limits,
            limits_unit=cases[0].unit,
            stored_bits=cases[0].stored_bits,
            metadata=tuple(case.record.metadata for case in cases),
            burned_in=tuple(case.burned_in for case in cases),
            audit_seed=self.seed,
            tissue=self._tissues(cases) if space is Space.PHYSICAL else None,
            zero_signal=torch.tensor(zeros, dtype=torch.float32, device=device) if any(zeros) else None,
            attributes=tuple(case.attributes for case in cases),
        )

    def _tissues(self, cases: Sequence[Case]) -> Tensor | None:
        maps = _stack_masks([case.tissue for case in cases])
        return None if maps is None else maps.to(self.classifier.device)

    def _spacing(self, case: Case, space: Space) -> tuple[float, ...] | None:
        """Millimetres per pixel of the space; resizing to the display changes them."""
        if case.spacing_mm is None or space is not Space.DISPLAY:
            return case.spacing_mm
        return self.classifier.input.display_spacing(case.spacing_mm, case.image.shape[1:])

    def _signal(self, images: Tensor, unit: Unit) -> Tensor:
        """From the range that the plan declares to a signal in [0, 1]."""
        low, high = self.classifier.input.limits
        if unit is not Unit.SIGNAL or (low, high) == (0.0, 1.0):
            return images
        return ((images - low) / (high - low)).clamp(0.0, 1.0)  # the range was checked when the file was read


def _at_input(case: Case, spec: InputSpec) -> Tensor | None:
    if case.anatomy_at_input is not None or case.anatomy is None:
        return case.anatomy_at_input
    return resize_mask(case.anatomy, spec)


def _native(cases: Sequence[Case]) -> Tensor:
    return torch.stack([case.image for case in cases])


def _stack_masks(masks: Sequence[Tensor | None]) -> Tensor | None:
    """Stack masks; a case without one has an empty mask. None when no case has one."""
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    return torch.stack([torch.zeros_like(known[0]) if mask is None else mask for mask in masks])
