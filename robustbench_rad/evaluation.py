"""The pass: every condition on every case, chunk by chunk, while the images of the chunk are in memory.

What lies on disk afterwards does not depend on batch size, chunk size, order of cases, number of workers or resumption:
randomness comes from one seed per case, and rows of a batch do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_rad.conditions import Applied, Batch, CaseVector, Condition, Measurement, Space, State, Unit, Variant
from robustbench_rad.data.dicom_attributes import WHITELIST
from robustbench_rad.errors import ModelError, RobustbenchRadError
from robustbench_rad.masks import resize_mask
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import catalogue
from robustbench_rad.scores import CLEAN, Chunk, Column, Floats, Quantity
from robustbench_rad.seeds import derive_seed
from robustbench_rad.stored import Grid, Limits, stored_view

if TYPE_CHECKING:
    from robustbench_rad.cases import Case
    from robustbench_rad.classifier import Classifier
    from robustbench_rad.progress import Progress

CHANGE = "change_at_model_input"
"""SD of the change that a shift makes to the image the model is shown, as a share of the display range."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Everything the pass needs, the same for every chunk.

    Attributes:
        classifier: The model under audit.
        conditions: What is done to the images.
        states: What conditions have learned from the whole set, by condition id.
        modality: DICOM modality code.
        seed: The audit's seed.
        batch_size: Cases a condition is given at once; never changes a number.
        query: How the model is asked.
        name: Makes of a patient id the name that conditions see, and may keep on disk; no number depends on it.
    """

    classifier: Classifier
    conditions: Sequence[Condition]
    states: Mapping[str, State | None]
    modality: str
    seed: int
    batch_size: int
    query: CountingQuery
    progress: Progress
    name: Callable[[str], str] = str

    def display_batch(self, cases: Sequence[Case]) -> Batch:
        """Bring cases of any shape to one display batch; clean margins are not yet known."""
        planes = [self._display(case) for case in cases]
        spec = self.classifier.input
        anatomy = [None if c.anatomy is None else resize_mask(c.anatomy, spec) for c in cases]
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

    def chunk(self, cases: Sequence[Case]) -> Chunk:
        """Evaluate every condition on these cases.

        Raises:
            ModelError: The model gave NaN or infinity on an unaltered image; names the case.
        """
        table = _Table(cases=tuple(case.record.case_id for case in cases), findings=self.classifier.findings)
        display = self.display_batch(cases)
        clean, features = self._clean(display)
        table.add(CLEAN, "", clean, np.arange(len(cases), dtype=np.int64))
        for condition in self.conditions:
            self.progress.condition(condition.id)
            before = (self.query.forwards, self.query.backwards)
            for rows, batch in self._numbered(condition.works_in, cases, display):
                known = features[rows] if features is not None and condition.reads_features else None
                batch = replace(batch, clean_margins=clean[rows], clean_features=known)
                self._apply_or_note(condition, batch, rows, table)
            table.passes[condition.id] = (self.query.forwards - before[0], self.query.backwards - before[1])
        return table.chunk()

    def _clean(self, display: Batch) -> tuple[Tensor, Tensor | None]:
        """Margins of the unaltered images and, where a condition reads them, the features of the same pass."""
        features = None
        if self.classifier.has_features and any(condition.reads_features for condition in self.conditions):
            margins, features = self.query.margins_and_features(display.images)
        else:
            margins = self.query.margins(display.images)
        bad = (~margins.isfinite()).any(1).nonzero().flatten().tolist()
        if bad:
            names = ", ".join(display.case_ids[row] for row in bad[:5])
            raise ModelError(
                f"model output: expected finite numbers, got NaN or infinity on {len(bad)} case(s): {names}",
                hint="Check the input range and normalisation in [model.input], or the model in full precision.",
            )
        return margins, features

    def batches(self, space: Space, cases: Sequence[Case]) -> Iterator[Batch]:
        """Batches of these cases in a space: equal bit depth, on the native grid equal shape, at most ``batch_size``."""
        display = self.display_batch(cases) if space is Space.DISPLAY else None
        for _rows, batch in self._numbered(space, cases, display):
            yield batch

    def _numbered(
        self, space: Space, cases: Sequence[Case], display: Batch | None
    ) -> Iterator[tuple[list[int], Batch]]:
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

    def _apply_or_note(self, condition: Condition, batch: Batch, rows: list[int], table: _Table) -> None:
        """Apply one condition; one that cannot be applied is noted for its cases, and the others go on."""
        try:
            self._apply(condition, batch, rows, table)
        except RobustbenchRadError as error:
            for level in condition.levels:
                table.reasons.add((condition.id, level.name, error.message))

    def _apply(self, condition: Condition, batch: Batch, rows: list[int], table: _Table) -> None:
        applied = self.applied(condition, batch)
        where = np.asarray(rows, dtype=np.int64)
        for variant in applied.variants:
            self._note_header(condition, variant, len(batch), table, where)
            if variant.full_search:
                table.full_search.add((condition.id, variant.level.name))
            if variant.reason:
                table.reasons.add((condition.id, variant.level.name, variant.reason))
            table.add(condition.id, variant.level.name, self._margins(condition, variant, batch, table, where), where)
        for measurement in applied.measurements:
            table.measure(condition.id, measurement, where)
        for vector in applied.vectors:
            table.keep(condition.id, vector, where)

    def _note_header(
        self, condition: Condition, variant: Variant, count: int, table: _Table, where: NDArray[np.int64]
    ) -> None:
        """Record what a header of the altered images would say, and their spacing where it is another."""
        changed = {item for case in variant.changed_attributes(count) for item in case.items()}
        unknown = sorted({keyword for keyword, _ in changed} - set(WHITELIST))
        if unknown:
            raise RobustbenchRadError(
                f"{condition.id}: expected whitelisted DICOM keywords as attributes, got {', '.join(unknown)}"
            )
        table.attributes |= {(condition.id, variant.level.name, *item) for item in changed}
        if variant.spacing_mm is not None:
            names = ("slice", "row", "column")[-variant.spacing_mm.shape[1] :]
            for name, values in zip(names, variant.spacing_mm.T, strict=True):
                quantity = f"{name}_spacing_mm"
                table.measure(
                    condition.id, Measurement(quantity=quantity, values=values, level=variant.level.name), where
                )

    def applied(self, condition: Condition, batch: Batch) -> Applied:
        """Apply one condition to one batch; the model is asked about images of the space that the batch is in."""
        query = self.query
        if batch.space is Space.STORED:
            query = query.through(stored_view(batch, self.classifier))
        elif batch.space is Space.PHYSICAL:
            query = query.through(lambda images: self.classifier.display(self._declared(images, batch.unit)))
        return condition.apply(batch, query, self._state(condition))

    def _state(self, condition: Condition) -> State | None:
        """What a condition has learned, with what others have learned where it reads that too."""
        own = self.states.get(condition.id)
        if not condition.reads_states:
            return own
        others = {id: self.states.get(id) or {} for id in condition.reads_states}
        return {
            **(own or {}),
            **{f"{id}/{name}": value for id, learned in others.items() for name, value in learned.items()},
        }

    def displayed(self, condition: Condition, images: Tensor, batch: Batch) -> Tensor:
        """Images in the condition's space as the model is shown them."""
        if condition.works_in is Space.DISPLAY:
            return images
        if condition.works_in is Space.STORED:
            return stored_view(batch, self.classifier)(images)
        return self.classifier.display(self._declared(images, batch.unit))

    def _declared(self, images: Tensor, unit: Unit | None) -> Tensor:
        """From a signal in [0, 1], which the shifts work on, to the range that the plan declares."""
        low, high = self.classifier.input.limits
        return low + images * (high - low) if unit is Unit.SIGNAL else images

    def _signal(self, images: Tensor, unit: Unit) -> Tensor:
        """From the range that the plan declares to a signal in [0, 1]."""
        low, high = self.classifier.input.limits
        if unit is not Unit.SIGNAL or (low, high) == (0.0, 1.0):
            return images
        return ((images - low) / (high - low)).clamp(0.0, 1.0)  # the range was checked when the file was read

    def _margins(
        self, condition: Condition, variant: Variant, batch: Batch, table: _Table, where: NDArray[np.int64]
    ) -> Tensor:
        margins = variant.margins
        if margins is None:
            if variant.images is None:
                raise RobustbenchRadError(f"{condition.id}: a level came back with neither images nor margins")
            display = self.displayed(condition, variant.images, batch)
            if condition.works_in is Space.PHYSICAL or _is_shift(condition):
                change = (display - self.displayed(condition, batch.images, batch)).flatten(1).std(1, correction=0)
                if variant.applicable is not None:
                    change = change.masked_fill(~variant.applicable.to(change.device), float("nan"))
                table.measure(
                    condition.id, Measurement(quantity=CHANGE, values=change, level=variant.level.name), where
                )
            margins = self.query.margins(display)
            # NaN says "not applicable" in a score table; a model that gives no number is something else.
            margins = margins.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("inf"))
        if variant.applicable is not None:
            margins = margins.masked_fill(~variant.applicable.to(margins.device)[:, None], float("nan"))
        if variant.excluded_findings:
            names = [finding in variant.excluded_findings for finding in self.classifier.findings]
            margins = margins.masked_fill(torch.tensor(names, device=margins.device), float("nan"))
        return margins


def _is_shift(condition: Condition) -> bool:
    known = catalogue().get(condition.id)
    return known is not None and known.domain == "acquisition-shift"


def _native(cases: Sequence[Case]) -> Tensor:
    return torch.stack([case.image for case in cases])


def _stack_masks(masks: Sequence[Tensor | None]) -> Tensor | None:
    """Stack masks; a case without one has an empty mask. None when no case has one."""
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    return torch.stack([torch.zeros_like(known[0]) if mask is None else mask for mask in masks])


@dataclass
class _Table:
    """Columns of a chunk while it is being filled."""

    cases: tuple[str, ...]
    findings: tuple[str, ...]
    columns: dict[Column, Floats] = field(default_factory=dict)
    quantities: dict[Quantity, Floats] = field(default_factory=dict)
    passes: dict[str, tuple[int, int]] = field(default_factory=dict)
    full_search: set[tuple[str, str]] = field(default_factory=set)
    reasons: set[tuple[str, str, str]] = field(default_factory=set)
    attributes: set[tuple[str, str, str, str]] = field(default_factory=set)
    vectors: dict[tuple[str, str], Floats] = field(default_factory=dict)

    def add(self, condition: str, level: str, margins: Tensor, rows: NDArray[np.int64]) -> None:
        values = margins.detach().float().cpu().numpy()
        for k, finding in enumerate(self.findings):
            column = Column(condition=condition, level=level, finding=finding)
            self.columns.setdefault(column, self._empty())[rows] = values[:, k]

    def measure(self, condition: str, measured: Measurement, rows: NDArray[np.int64]) -> None:
        quantity = Quantity(condition=condition, name=measured.quantity, level=measured.level, finding=measured.finding)
        values = measured.values.detach().float().cpu().numpy()
        self.quantities.setdefault(quantity, self._empty())[rows] = values

    def keep(self, condition: str, vector: CaseVector, rows: NDArray[np.int64]) -> None:
        values = vector.values.detach().float().cpu().numpy()
        empty = np.full((len(self.cases), values.shape[1]), np.nan, np.float32)
        self.vectors.setdefault((condition, vector.name), empty)[rows] = values

    def chunk(self) -> Chunk:
        columns, quantities = sorted(self.columns), sorted(self.quantities)
        return Chunk(
            cases=self.cases,
            columns=tuple(columns),
            margins=_side_by_side([self.columns[column] for column in columns], len(self.cases)),
            quantities=tuple(quantities),
            values=_side_by_side([self.quantities[quantity] for quantity in quantities], len(self.cases)),
            passes=self.passes,
            full_search=tuple(sorted(self.full_search)),
            reasons=tuple(sorted(self.reasons)),
            attributes=tuple(sorted(self.attributes)),
            vectors=dict(sorted(self.vectors.items())),
        )

    def _empty(self) -> Floats:
        return np.full(len(self.cases), np.nan, np.float32)


def _side_by_side(columns: Sequence[Floats], rows: int) -> Floats:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), np.float32)
