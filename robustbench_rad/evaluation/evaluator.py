"""Every condition on the cases of a chunk, and what the model says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_rad.conditions import Applied, Batch, Condition, Measurement, Space, State, Unit, Variant
from robustbench_rad.data.dicom_attributes import WHITELIST
from robustbench_rad.errors import ModelError, RobustbenchRadError
from robustbench_rad.evaluation.batches import Batches
from robustbench_rad.evaluation.chunk_table import ChunkTable
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import catalogue
from robustbench_rad.scores import CLEAN, Chunk
from robustbench_rad.stored import stored_view

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

    @property
    def _batches(self) -> Batches:
        return Batches(
            classifier=self.classifier,
            modality=self.modality,
            seed=self.seed,
            batch_size=self.batch_size,
            name=self.name,
        )

    def display_batch(self, cases: Sequence[Case]) -> Batch:
        """Bring cases of any shape to one display batch; clean margins are not yet known."""
        return self._batches.display(cases)

    def batches(self, space: Space, cases: Sequence[Case]) -> Iterator[Batch]:
        """Batches of these cases in a space: equal bit depth, on the native grid equal shape, at most ``batch_size``."""
        return self._batches.of(space, cases)

    def chunk(self, cases: Sequence[Case]) -> Chunk:
        """Evaluate every condition on these cases.

        Raises:
            ModelError: The model gave NaN or infinity on an unaltered image; names the case.
        """
        table = ChunkTable(cases=tuple(case.record.case_id for case in cases), findings=self.classifier.findings)
        display = self.display_batch(cases)
        clean, features = self._clean(display)
        table.add(CLEAN, "", clean, np.arange(len(cases), dtype=np.int64))
        for condition in self.conditions:
            self.progress.condition(condition.id)
            before = (self.query.forwards, self.query.backwards)
            for rows, batch in self._batches.numbered(condition.works_in, cases, display):
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

    def _apply_or_note(self, condition: Condition, batch: Batch, rows: list[int], table: ChunkTable) -> None:
        """Apply one condition; one that cannot be applied is noted for its cases, and the others go on."""
        try:
            self._apply(condition, batch, rows, table)
        except RobustbenchRadError as error:
            for level in condition.levels:
                table.reasons.add((condition.id, level.name, error.message))

    def _apply(self, condition: Condition, batch: Batch, rows: list[int], table: ChunkTable) -> None:
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
        self, condition: Condition, variant: Variant, count: int, table: ChunkTable, where: NDArray[np.int64]
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

    def _margins(
        self, condition: Condition, variant: Variant, batch: Batch, table: ChunkTable, where: NDArray[np.int64]
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
