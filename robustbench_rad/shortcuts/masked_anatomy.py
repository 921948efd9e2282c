"""Shortcut audit A1 and A2: what does the model still know when the anatomy is covered?

An organ's own outline carries the label (a small lung, a large heart), so covering each image with its own mask alarms
on clean models. Here one region, the atlas, covers the anatomy of every image; the outline row shows what the shape
alone is worth. An AUC of margins of such images is read together with their retained spread, SD(masked) / SD(full): the
AUC says whether anything outside the anatomy is used, the spread how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.classifier import Classifier
from robustbench_rad.conditions import (
    SHOWS_BURNED_IN,
    Applied,
    Batch,
    Condition,
    Level,
    Measurement,
    ModelQuery,
    State,
    Variant,
)
from robustbench_rad.errors import suggestion
from robustbench_rad.plan import Plan, digest
from robustbench_rad.registry import register
from robustbench_rad.sampling import PatientBank, kept_copy, patient_key
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts import anatomy
from robustbench_rad.shortcuts._own_masks import Lacking, nothing, own_masks, without_masks
from robustbench_rad.shortcuts._regions import Region, covered_with, regions_of

JUDGED = 3
FILLS = ("atlas-mean", "atlas-blur", "atlas-donor", "shape-only", "own-mean")
NO_OUTSIDE = (
    "the anatomy masks (or the hull of the body) together cover nearly the whole image or its whole border, so nothing would "
    "be left outside: give masks of the organ, and check that they are not inverted"
)
NO_OWN_MASK = "no anatomy mask for the case"
NO_DONOR = "no donor image of another patient"
NO_SPACING = (
    "dilation_mm needs the spacing of the pixels: give data.spacing_mm or files that say it, or dilation_fraction"
)
WITH = " with "
"""Between a fill and the region that is covered beside the anatomy: the name of a level of its own."""


def fill_level(name: str) -> Level:
    """The level of a named fill.

    Raises:
        ValueError: No such fill; the nearest one is named.
    """
    if name not in FILLS:
        raise ValueError(f"no fill {name!r}. {suggestion(name, FILLS)}")
    return Level(name=name, value=float(FILLS.index(name)), unit="fill")


def region_levels(regions: Iterable[str]) -> tuple[Level, ...]:
    """The judged fills for findings whose evidence may lie in a region beside the anatomy."""
    pairs = [(place, name, region) for region in regions for place, name in enumerate(FILLS[:JUDGED])]
    return tuple(
        Level(name=f"{name}{WITH}{region}", value=float(len(FILLS) + number), unit="fill")
        for number, (_, name, region) in enumerate(pairs)
    )


@register(
    id="shortcut.masked-anatomy",
    version=3,  # 2: cases with burned-in text are neither donors nor part of the mean image; 3: fills as bright as the image
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Maguolo & Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    unit="fill",
)
@dataclass(frozen=True, kw_only=True)
class MaskedAnatomy(Condition):
    """Cover the anatomy of every image with one fixed region, and see what the model still tells apart.

    Levels (``Level.value`` is the place in this list):

    - ``atlas-mean``: the data set's mean image inside the atlas, as bright as the image is outside of it; the headline.
    - ``atlas-blur``: inside the atlas, the image's own surroundings continued inwards, from pixels outside alone.
    - ``atlas-donor``: inside the atlas, the anatomy of another patient, as bright as the image is outside; the same typical
      donor for all cases, because a donor for each case would add the donors' own evidence to the margins and drown what is
      looked for.
    - ``shape-only``: the case's own mask in two grey levels; what the outline alone is worth. Not a defect by itself.
    - ``own-mean``: the case's own mask filled with the mean image; for comparison only, it leaks the outline.

    A fill is moved to the brightness of its image, the median difference from it outside of the atlas. Else a film that is
    brighter as a whole would be shown by as much of it as is not covered, and a model that reads the brightness be found late.

    Attributes:
        atlas_fraction: A pixel belongs to the atlas when it is anatomy in this fraction of the cases.
        dilation_mm: The atlas is grown by so many millimetres; needs spacing. None: by ``dilation_fraction``.
        dilation_fraction: The atlas is grown by this fraction of the image's shorter side, because disease shows at the
            rim of the organ.
        feather_fraction: Width of the soft edge, outside the atlas, as a fraction of the shorter side.
        donors: How many patients are kept, from whom the most typical becomes the donor.
        largest_atlas: An atlas that covers more than this fraction of the image, or its whole border, leaves nothing to
            look at.
    """

    needs_masks: ClassVar[bool] = True

    levels: tuple[Level, ...] = field(default_factory=lambda: tuple(fill_level(name) for name in FILLS))
    atlas_fraction: float = 0.05
    dilation_mm: float | None = None
    dilation_fraction: float = 0.03
    feather_fraction: float = 0.02
    donors: int = 16
    largest_atlas: float = 0.95
    regions: tuple[Region, ...] = field(default=(), repr=False, metadata={"option": False})

    def __post_init__(self) -> None:
        """Refuse fractions that have no meaning.

        Raises:
            ValueError: A fraction outside its range, or fewer than two donors.
        """
        if not 0.0 < self.atlas_fraction <= 1.0:
            raise ValueError(f"atlas_fraction must be in (0, 1], got {self.atlas_fraction}")
        for name in ("dilation_fraction", "feather_fraction"):
            if not 0.0 <= getattr(self, name) <= 0.25:
                raise ValueError(f"{name} must be in [0, 0.25], got {getattr(self, name)}")
        if self.dilation_mm is not None and not 0.0 <= self.dilation_mm <= 200.0:
            raise ValueError(f"dilation_mm must be in [0, 200], got {self.dilation_mm}")
        if self.donors < 2:
            raise ValueError(
                f"donors must be at least 2, so that each case has one of another patient, got {self.donors}"
            )

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of a fill."""
        return fill_level(str(value))

    def bound(self, plan: Plan) -> MaskedAnatomy:
        """The condition with the regions that the plan's findings may have their evidence in beside the anatomy."""
        regions = regions_of(plan)
        return replace(self, regions=regions, levels=(*self.levels, *region_levels(region.name for region in regions)))

    @property
    def reads_sha256(self) -> str:
        """Hash of the masks of regions."""
        hashes = [region.sha256 for region in self.regions if region.sha256]
        return digest(hashes) if hashes else ""

    def _beside(self, learned: State, region: Region) -> State:
        """What was learned, for covering a region beside the anatomy."""
        together = covered_with(region, learned["atlas"])
        width = round(self.feather_fraction * min(together.shape[2:]) / 2)
        return {**learned, "atlas": together, "weights": anatomy.feathered(together, width)}

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Learn the mean image, the atlas, the two grey levels and the donors, in one streaming pass.

        Text burned into a case must not be read in the image of another, so images are learned from the cases without,
        unless there are none. The atlas, which holds no pixel of an image, is of all cases.

        Returns:
            ``mean`` ``(1, 1, ...)``, ``atlas`` boolean ``(1, 1, ...)``, ``weights`` (the atlas with its soft edge),
            ``grey`` ``(2,)`` mean inside the masks, and outside of them within the atlas, ``donors`` ``(B, 1, ...)``
            most typical first, ``donor_patients`` ``(B,)``, and ``shows_burned_in``: all cases are burned in.
            ``atlas`` has no elements when no case has a mask; ``without`` then says why.
        """
        del classifier
        clean, burned = (_Sums(bank=PatientBank[Tensor](size=self.donors)) for _ in range(2))
        lacking = Lacking()
        for batch in batches:
            lacking.add(batch)
            carries = torch.tensor(batch.burned_in or (False,) * len(batch), dtype=torch.bool)
            for sums, chosen in ((clean, ~carries), (burned, carries)):
                if chosen.any():
                    self._add(sums, batch.select(chosen.nonzero().flatten().to(batch.device)))
        if not clean.masked + burned.masked:
            return lacking.state()
        shows = torch.tensor(not clean.cases)
        return {**self._state(*((clean, burned) if clean.cases else (burned, clean))), SHOWS_BURNED_IN: shows}

    def _add(self, sums: _Sums, batch: Batch) -> None:
        sums.add(batch)
        for row, (patient, seed) in enumerate(zip(batch.patient_ids, batch.seeds, strict=True)):
            key = derive_seed(seed, self.id, self.version, "donor")
            sums.bank.offer(patient, key, kept_copy(batch.images[row]))

    def _state(self, sums: _Sums, others: _Sums) -> State:
        """What is learned from the images of ``sums`` and the masks of both."""
        counts, masked = sums.counts + others.counts, sums.masked + others.masked
        side = min(counts.shape[2:])
        region = anatomy.atlas(counts, masked, self.atlas_fraction)
        spacing_mm = (sums.spacing_mm + others.spacing_mm) / max(1, sums.spaced + others.spaced)
        grown = self.dilation_fraction * side if self.dilation_mm is None else self.dilation_mm / max(spacing_mm, 1e-9)
        if self.dilation_mm is not None and not spacing_mm:
            return {"atlas": torch.zeros(0, dtype=torch.bool), "unspaced": torch.tensor(True)}
        region = anatomy.dilated(region, round(grown))
        patients = torch.tensor([patient_key(patient) for patient, _ in sums.bank.ranked()])
        images = torch.stack([image for _, image in sums.bank.ranked()])
        distance = ((images - sums.mean) * region).square().flatten(1).mean(1)
        order = distance.argsort(stable=True)
        return {
            "mean": sums.mean,
            "atlas": region,
            "weights": anatomy.feathered(region, round(self.feather_fraction * side / 2)),
            "grey": (sums if sums.masked else others).grey(region),
            "donors": images[order],
            "donor_patients": patients[order],
        }

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Cover the anatomy of every image, once per level.

        Measurements: ``atlas_area_fraction`` (of the image), and ``anatomy_outside_atlas_fraction`` (of the case's own
        mask; NaN without one): a case that sticks out of the atlas still shows some of its anatomy.
        """
        own = own_masks(batch)
        if state is None or state["atlas"].numel() == 0:
            unspaced = state is not None and "unspaced" in state
            return Applied(
                variants=nothing(self.levels, batch, NO_SPACING if unspaced else without_masks(batch, state))
            )
        learned = {name: tensor.to(batch.device) for name, tensor in state.items()}
        area = learned["atlas"].float().mean()
        outside = (own & ~learned["atlas"]).flatten(1).sum(1) / own.flatten(1).sum(1)
        measurements = [
            Measurement(quantity="atlas_area_fraction", values=area.expand(len(batch))),
            Measurement(quantity="anatomy_outside_atlas_fraction", values=outside.float()),
        ]
        if float(area) > self.largest_atlas or anatomy.holds_border(learned["atlas"]):
            return Applied(variants=nothing(self.levels, batch, NO_OUTSIDE), measurements=measurements)
        covered = {"": _Covered(batch=batch, own=own, learned=learned, feather_fraction=self.feather_fraction)}
        for region in self.regions:
            covered[region.name] = replace(covered[""], learned=self._beside(learned, region))
        return Applied(
            variants=(self._variant(covered, level, query) for level in self.levels), measurements=measurements
        )

    def _variant(self, covered: Mapping[str, _Covered], level: Level, query: ModelQuery | None) -> Variant:
        """One fill of one region; a level of a region is for the findings that have it."""
        fill, _, name = level.name.partition(WITH)
        variant = covered[name].variant(level, fill)
        if not name or query is None:
            return variant
        own = next(region.findings for region in self.regions if region.name == name)
        return replace(variant, excluded_findings=tuple(finding for finding in query.findings if finding not in own))


@dataclass(kw_only=True)
class _Sums:
    """Streaming sums: float64 for grey values, integers for masks, so that neither depends on the batches; and donors."""

    bank: PatientBank[Tensor]
    images: Tensor = field(default_factory=lambda: torch.zeros(1))
    counts: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    cases: int = 0
    masked: int = 0
    masked_images: Tensor = field(default_factory=lambda: torch.zeros(1))
    inside: Tensor = field(default_factory=lambda: torch.zeros(1))
    spacing_mm: float = 0.0
    spaced: int = 0

    def add(self, batch: Batch) -> None:
        images, masks = batch.images.cpu().double(), own_masks(batch).cpu()
        self.images = self.images + images.sum(0, keepdim=True)
        self.counts = self.counts + masks.sum(0, keepdim=True)
        has_mask = masks.flatten(1).any(1)
        if batch.spacing_mm is not None:
            known = batch.spacing_mm[:, -2:].cpu().double().mean(1)
            self.spacing_mm += float(known.nansum())
            self.spaced += int(known.isfinite().sum())
        self.cases += len(batch)
        self.masked += int(has_mask.sum())
        self.masked_images = self.masked_images + images[has_mask].sum(0, keepdim=True)
        self.inside = self.inside + (images * masks).sum(0, keepdim=True)

    @property
    def mean(self) -> Tensor:
        return (self.images / self.cases).float()

    def grey(self, region: Tensor) -> Tensor:
        """Mean inside the masks, and outside of them within ``region``: the organ's own surroundings, not the air."""
        inside = self.inside.sum() / self.counts.sum()
        outside = ((self.masked_images - self.inside) * region).sum() / ((self.masked - self.counts) * region).sum()
        return torch.stack([inside, outside.nan_to_num(0.0)]).float()


@dataclass(frozen=True, kw_only=True)
class _Covered:
    """The five fills of one batch; each method returns altered images and which cases they have meaning for."""

    batch: Batch
    own: Tensor
    learned: State
    feather_fraction: float

    def variant(self, level: Level, fill: str) -> Variant:
        fills: dict[str, Callable[[], tuple[Tensor, Tensor, str]]] = {
            "atlas-mean": self.atlas_mean,
            "atlas-blur": self.atlas_blur,
            "atlas-donor": self.atlas_donor,
            "shape-only": self.shape_only,
            "own-mean": self.own_mean,
        }
        images, applicable, reason = fills[fill]()
        reason = "" if bool(applicable.all()) else reason
        return Variant(level=level, images=images, applicable=applicable, reason=reason)

    def atlas_mean(self) -> tuple[Tensor, Tensor, str]:
        return self._in_atlas(self.learned["mean"]), self._all(), ""

    def atlas_blur(self) -> tuple[Tensor, Tensor, str]:
        images, weights = self.batch.images, self.learned["weights"]
        return anatomy.blended(images, anatomy.continued(images, 1.0 - weights), weights), self._all(), ""

    def atlas_donor(self) -> tuple[Tensor, Tensor, str]:
        """The most typical donor; the cases of that donor's patient get the next."""
        patients, donors = self.learned["donor_patients"], self.learned["donors"]
        own = torch.tensor([patient_key(patient) for patient in self.batch.patient_ids], device=self.batch.device)
        choice = (own == patients[0]).long()
        applicable = choice < len(donors)
        donor = donors[choice.clamp(max=len(donors) - 1)]
        return self._in_atlas(donor), applicable, NO_DONOR

    def shape_only(self) -> tuple[Tensor, Tensor, str]:
        inside, outside = self.learned["grey"]
        return torch.where(self.own, inside, outside), self._has_mask(), NO_OWN_MASK

    def own_mean(self) -> tuple[Tensor, Tensor, str]:
        radius = round(self.feather_fraction * min(self.own.shape[2:]) / 2)
        return self._filled(self.learned["mean"], anatomy.feathered(self.own, radius)), self._has_mask(), NO_OWN_MASK

    def _in_atlas(self, fill: Tensor) -> Tensor:
        return self._filled(fill, self.learned["weights"])

    def _filled(self, fill: Tensor, weights: Tensor) -> Tensor:
        """The images with a fill of their own brightness, which no pixel of the atlas enters."""
        level = anatomy.at_level_of(fill, self.batch.images, ~self.learned["atlas"])
        return anatomy.blended(self.batch.images, level.clamp(0.0, 1.0), weights)

    def _all(self) -> Tensor:
        return torch.ones(len(self.batch), dtype=torch.bool, device=self.batch.device)

    def _has_mask(self) -> Tensor:
        return self.own.flatten(1).any(1)
