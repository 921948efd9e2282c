"""What one level of a condition makes of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from robustbench_rad.conditions.batch import Batch
from robustbench_rad.conditions.levels import Level

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One level of a condition applied to a batch.

    Attributes:
        level: Which level.
        images: Altered images in the condition's space, scored for all findings; None when ``margins`` is given.
        margins: ``(N, K)`` margins found and verified by the condition itself; NaN where it did not look.
        applicable: ``(N,)`` boolean; False where the level has no meaning for the case (already beyond it, no mask).
        reason: Why some cases are not applicable, in a few words.
        full_search: For attacks: the search went on after the flip, so the margins rank (attacked AUROC is defined).
        attributes: What a header would say of the altered images and did not say before: whitelisted DICOM keyword → text,
            e.g. ``{"KVP": "80"}``. For the cases where the level is applicable.
        case_attributes: The same for each case, N mappings, where the text differs from case to case; goes before
            ``attributes``. Empty for none.
        spacing_mm: ``(N, 2)`` or ``(N, 3)`` spacing of the altered images where it is another, else None. The altered images
            may then have another shape than those of the batch.
        anatomy: Masks of the anatomy on the altered images, for a level that moves or resamples them, else None.
        lesion: The same for the lesions.
        excluded_findings: Names of findings that the level has no meaning for, whatever the case: they are not scored. A
            mirrored image says nothing of a finding of one side.
    """

    level: Level
    images: Tensor | None = None
    margins: Tensor | None = None
    applicable: Tensor | None = None
    reason: str = ""
    full_search: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    case_attributes: tuple[Mapping[str, str], ...] = ()
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None
    excluded_findings: tuple[str, ...] = ()

    def changed_attributes(self, count: int) -> tuple[Mapping[str, str], ...]:
        """New DICOM attributes of each of ``count`` cases; none where the level is not applicable."""
        own = self.case_attributes or ({},) * count
        applicable = [True] * count if self.applicable is None else self.applicable.tolist()
        return tuple({**self.attributes, **own[row]} if applicable[row] else {} for row in range(count))

    def applied_to(self, batch: Batch) -> Batch:
        """The batch as this level leaves it, for a condition that is applied after it.

        Masks that the level did not move are kept while the shape is the same, and dropped where it is another. Maps of tissues
        are dropped: a level does not say that it moved them.

        Raises:
            ValueError: The level has margins and no images.
        """
        if self.images is None:
            raise ValueError(f"level {self.level}: expected images to go on with, got margins")
        kept = self.images.shape == batch.images.shape
        known = batch.attributes or ({},) * len(batch)
        changed = self.changed_attributes(len(batch))
        merged = tuple({**old, **new} for old, new in zip(known, changed, strict=True))
        return replace(
            batch,
            images=self.images,
            spacing_mm=batch.spacing_mm if self.spacing_mm is None else self.spacing_mm,
            anatomy=batch.anatomy if self.anatomy is None and kept else self.anatomy,
            lesion=batch.lesion if self.lesion is None and kept else self.lesion,
            tissue=None,
            attributes=merged if any(merged) else batch.attributes,
            clean_margins=None,
            clean_features=None,
        )
