"""Leaks of the data: a thumbnail of every case, to find near-duplicates, and what the test set shares with training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, CaseVector, Condition, Measurement, ModelQuery, State
from robustbench_rad.data.training import TrainingOverlap, training_overlap
from robustbench_rad.registry import register
from robustbench_rad.shortcuts._image_numbers import planes, thumbnails

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

THUMBNAIL = "thumbnail"
PATIENT, IMAGE = "patient_in_training", "image_in_training"


@register(
    id="clean.data-leaks",
    version=1,
    space="display",
    domain="clean",
    kind="categorical",
    reference="Kaufman et al. 2012, Leakage in data mining, doi:10.1145/2382577.2382579",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class DataLeaks(Condition):
    """Keep a thumbnail of every case and note whether its patient or image is in the training manifest; nothing is altered.

    Vector: ``thumbnail`` ``(N, 1024)``, means of 32 x 32 areas of the display image (of a volume the middle slice).
    Measurements: ``patient_in_training`` and ``image_in_training``, 1 or 0; NaN where there is nothing to compare with.

    Attributes:
        doubt_share: From this share of the cases on, leaked cases cast doubt on the clean performance.
    """

    doubt_share: float = 0.01
    training: TrainingOverlap | None = field(default=None, repr=False, metadata={"option": False})

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: A share outside (0, 1], or levels.
        """
        if not 0 < self.doubt_share <= 1:
            raise ValueError(f"doubt_share must be in (0, 1], got {self.doubt_share}")
        if self.levels:
            raise ValueError("it alters no image and has no levels")

    def bound(self, plan: Plan) -> DataLeaks:
        """The condition with what the plan's test set shares with its training manifest.

        Raises:
            DataError: The training manifest is not as declared.
        """
        return replace(self, training=training_overlap(plan))

    @property
    def reads_sha256(self) -> str:
        """Hash of the training manifest."""
        return "" if self.training is None else self.training.sha256

    def passes(self, findings: int) -> float:
        """None: the model is not asked."""
        del findings
        return 0.0

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Measure the batch."""
        del query, state
        small = thumbnails(planes(batch.images).double()).flatten(1).float()
        patients, images = (None, None) if self.training is None else (self.training.patients, self.training.images)
        measured = [
            Measurement(quantity=PATIENT, values=_among(batch, patients)),
            Measurement(quantity=IMAGE, values=_among(batch, images)),
        ]
        return Applied(variants=iter(()), measurements=measured, vectors=[CaseVector(name=THUMBNAIL, values=small)])


def _among(batch: Batch, cases: Collection[str] | None) -> Tensor:
    found = [float("nan") if cases is None else float(case in cases) for case in batch.case_ids]
    return torch.tensor(found, dtype=torch.float32, device=batch.device)
