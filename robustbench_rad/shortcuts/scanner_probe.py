"""Shortcut audit A7: what a probe of the scanner reads, from the image and from the model's penultimate features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, CaseVector, Condition, Measurement, ModelQuery, State
from robustbench_rad.registry import register
from robustbench_rad.seeds import generator
from robustbench_rad.shortcuts._image_numbers import image_numbers, noise_level, planes

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

FEATURES, IMAGE = "features", "image"
MOST_FEATURES, PROJECTED = 512, 256
MOST_MEANS = 8
MOST_VALUES = 20
"""A column with more values is not looked at by value, so no mean images of it are kept."""
GREY = 2**24
"""Grey values are summed as whole multiples of 1 / GREY: a sum of integers does not depend on their order."""


@register(
    id="shortcut.scanner-probe",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Badgeley et al. 2019, doi:10.1038/s41746-019-0105-1; Gichoya et al. 2022, doi:10.1016/S2589-7500(22)00063-2",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class ScannerProbe(Condition):
    """Keep what a probe of scanner, site, view or sex reads: numbers of the image and penultimate features; nothing is altered.

    Vectors: ``image``, see :func:`~robustbench_rad.shortcuts._image_numbers.image_numbers`, and ``features``, of a model with
    more than 512 a fixed random projection to 256. The features come with the clean pass and cost none of their own.

    Measurement: ``display_noise_sd``, noise of the display image in shares of its range.

    State: ``mean <column>=<value>`` ``(1, H, W)``, the mean display image of each of the eight most frequent values of a
    nuisance column; cases with burned-in text are left out. Of volumes the middle slice.
    """

    columns: tuple[str, ...] = field(default=(), repr=False, metadata={"option": False})

    def __post_init__(self) -> None:
        """Refuse levels.

        Raises:
            ValueError: Levels.
        """
        if self.levels:
            raise ValueError("it alters no image and has no levels")

    def bound(self, plan: Plan) -> ScannerProbe:
        """The condition with the nuisance columns of the plan, whose mean images are kept."""
        return replace(self, columns=tuple(name for name, role in plan.data.metadata.items() if role == "nuisance"))

    @property
    def reads_features(self) -> bool:
        """It does."""
        return True

    def passes(self, findings: int) -> float:
        """None: the features come with the clean pass."""
        del findings
        return 0.0

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Sum the images of every value of every nuisance column."""
        del classifier
        sums: defaultdict[str, _Means] = defaultdict(_Means)
        for batch in batches if self.columns else ():
            burned = batch.burned_in or (False,) * len(batch)
            rows = [row for row in range(len(batch)) if not burned[row]]
            grey = (planes(batch.images).cpu().double() * GREY).round().long()
            for column in self.columns:
                sums[column].add(grey, rows, [batch.metadata[row].get(column, "") for row in rows])
        return {
            f"mean {column}={value}": image
            for column, means in sorted(sums.items())
            for value, image in means.most_frequent()
        }

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Measure the batch."""
        del query, state
        vectors = [CaseVector(name=IMAGE, values=image_numbers(batch.images, batch.spacing_mm))]
        if batch.clean_features is not None:
            vectors.append(CaseVector(name=FEATURES, values=projected(batch.clean_features)))
        noise = noise_level(planes(batch.images).double()).exp()
        measured = [Measurement(quantity="display_noise_sd", values=noise.to(batch.images.dtype))]
        return Applied(variants=iter(()), measurements=measured, vectors=vectors)


@dataclass(kw_only=True)
class _Means:
    """Streaming sums of the images of one column by value; given up once it has too many values."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, grey: Tensor, rows: list[int], values: list[str]) -> None:
        for value in {*values} - {""}:
            chosen = [row for row, other in zip(rows, values, strict=True) if other == value]
            self.counts[value] += len(chosen)
            if len(self.counts) > MOST_VALUES:
                self.sums.clear()
                continue
            total = grey[chosen].sum(0, keepdim=True)
            self.sums[value] = self.sums[value] + total if value in self.sums else total

    def most_frequent(self) -> list[tuple[str, Tensor]]:
        if len(self.counts) > MOST_VALUES:
            return []
        kept = sorted(self.counts, key=lambda value: (-self.counts[value], value))[:MOST_MEANS]
        return [(value, (self.sums[value].double() / (GREY * self.counts[value])).float()) for value in sorted(kept)]


def projected(features: Tensor) -> Tensor:
    """Features as they are, or where there are more than 512 a fixed random projection to 256.

    Distances are kept within about a tenth, and with them what a linear probe tells from many.

    Args:
        features: ``(N, F)``.

    >>> projected(torch.ones(2, 700)).shape, projected(torch.ones(2, 512)).shape
    (torch.Size([2, 256]), torch.Size([2, 512]))
    """
    flat = features.flatten(1)
    if flat.shape[1] <= MOST_FEATURES:
        return flat
    drawn = torch.randn(flat.shape[1], PROJECTED, generator=generator("cpu", "scanner-probe", flat.shape[1]))
    kept: Tensor = flat.double() @ (drawn / PROJECTED**0.5).to(flat).double()
    return kept.float()
