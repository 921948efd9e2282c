"""Shortcut audit A3: every patient's anatomy in the surroundings of other patients.

A model that reads the anatomy does not care whose surroundings it lies in. One that reads a marker, a frame, a tube or the
noise of the scanner outside of the organ follows the donor: its score then tells the donor's label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import (
    SHOWS_BURNED_IN,
    Applied,
    Batch,
    Condition,
    Level,
    Measurement,
    Space,
    Variant,
)
from robustbench_rad.errors import DataError
from robustbench_rad.plan import Plan, digest
from robustbench_rad.registry import register
from robustbench_rad.sampling import PatientBank, patient_key
from robustbench_rad.seeds import derive_seed, generator
from robustbench_rad.shortcuts import anatomy
from robustbench_rad.shortcuts._own_masks import Lacking, nothing, own_masks, without_masks
from robustbench_rad.shortcuts._regions import Region, covered_with, regions_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import ModelQuery, State

NO_OUTSIDE = (
    "the anatomy masks together cover nearly the whole image or its whole border, so there are no surroundings to swap: give "
    "masks of the organ, and check that they are not inverted"
)
NO_DONOR = "too few donors of other patients"
DONOR, DONOR_LABEL, OWN_NUMBER = "donor", "donor_label", "own_number_as_donor"


def donor_level(number: int) -> Level:
    """The level of the n-th donor, from 1.

    Raises:
        ValueError: A number below 1.
    """
    if number < 1:
        raise ValueError(f"donors are counted from 1, got {number}")
    return Level(name=f"donor {number}", value=float(number), unit="")


@register(
    id="shortcut.background-swap",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Xiao et al. 2021, Noise or Signal: The Role of Image Backgrounds in Object Recognition, arXiv:2006.09994",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class BackgroundSwap(Condition):
    """Lay each patient's anatomy into the surroundings of donors, who are other patients.

    Levels: ``donor 1``, ``donor 2``, …, each with another donor for each case, drawn from the case's seed. The anatomy is the
    atlas of all masks, as in ``shortcut.masked-anatomy``, so no outline of an organ is moved from image to image. Where the
    plan names regions beside it in which the evidence of a finding may lie, these stay with the patient too, for all findings.

    Measured per level: ``donor`` (its number among the donors) and, per finding, ``donor_label``; and
    ``own_number_as_donor`` of the cases whose patient is a donor, so that it is known whose images were used twice.

    Attributes:
        donors: How many patients give their surroundings, at most; as many with as without each finding where there are.
        largest_bank_mib: The images of the donors take so much memory at most; of large volumes there are fewer.
        atlas_fraction: A pixel belongs to the atlas when it is anatomy in this fraction of the cases.
        dilation_fraction: The atlas is grown by this fraction of the shorter side.
        feather_fraction: Width of the soft edge outside of the atlas, likewise.
        largest_atlas: An atlas that covers more than this fraction of the image, or its whole border, leaves nothing to swap.
    """

    needs_masks: ClassVar[bool] = True

    levels: tuple[Level, ...] = field(default_factory=lambda: tuple(donor_level(number) for number in (1, 2, 3)))
    donors: int = 256
    largest_bank_mib: float = 128.0
    atlas_fraction: float = 0.05
    dilation_fraction: float = 0.03
    feather_fraction: float = 0.02
    largest_atlas: float = 0.95
    regions: tuple[Region, ...] = field(default=(), repr=False, metadata={"option": False})

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning.

        Raises:
            ValueError: Says which.
        """
        if self.donors < 2:
            raise ValueError(
                f"donors: expected 2 or more, so that each case has one of another patient, got {self.donors}"
            )
        if not self.largest_bank_mib > 0:
            raise ValueError(f"largest_bank_mib: expected a size above 0, got {self.largest_bank_mib}")
        for name, least, most in (
            ("atlas_fraction", 0.0, 1.0),
            ("dilation_fraction", -1.0, 0.25),
            ("feather_fraction", -1.0, 0.25),
            ("largest_atlas", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not least < value <= most or value < 0:
                raise ValueError(f"{name}: expected a fraction up to {most:g}, got {value}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the number of a donor, or ``"donor 2"``."""
        return donor_level(int(str(value).removeprefix("donor ")))

    def bound(self, plan: Plan) -> BackgroundSwap:
        """The condition with the regions that the plan's findings may have their evidence in beside the anatomy."""
        return replace(self, regions=regions_of(plan))

    @property
    def reads_sha256(self) -> str:
        """Hash of the masks of regions."""
        hashes = [region.sha256 for region in self.regions if region.sha256]
        return digest(hashes) if hashes else ""

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Count the masks and keep the donors, in one streaming pass.

        Text burned into a case must not be read in the image of another, so such a case is a donor only when there are no
        others.

        Returns:
            ``weights`` (the atlas with its soft edge, ``(1, 1, ...)``; no elements when no case has a mask, or nothing is
            left outside), ``atlas``, ``donors`` ``(B, 1, ...)`` float16, ``donor_labels`` ``(B, K)``, ``donor_patients``
            ``(B,)``, and ``shows_burned_in``: all cases are burned in.
        """
        del classifier
        counts, masked, lacking = torch.zeros(1, dtype=torch.int64), 0, Lacking()
        banks = {burned: _Bank(size=self.donors, mib=self.largest_bank_mib) for burned in (False, True)}
        for batch in batches:
            lacking.add(batch)
            masks = own_masks(batch).cpu()
            counts = counts + masks.sum(0, keepdim=True)
            masked += int(masks.flatten(1).any(1).sum())
            for row, seed in enumerate(batch.seeds):
                burned = bool(batch.burned_in) and batch.burned_in[row]
                banks[burned].offer(batch, row, derive_seed(seed, self.id, self.version, "donor"))
        if not masked:
            return lacking.state()
        side = min(counts.shape[-2:])
        region = anatomy.atlas(counts, masked, self.atlas_fraction)
        region = anatomy.dilated(region, round(self.dilation_fraction * side))
        region = torch.stack([region, *(covered_with(beside, region) for beside in self.regions)]).any(0)
        shown = banks[not banks[False].items]
        return {
            "atlas": region,
            "weights": anatomy.feathered(region, round(self.feather_fraction * side / 2)),
            **shown.state(),
            SHOWS_BURNED_IN: torch.tensor(not banks[False].items),
        }

    def implanted_state(self, state: State, implant: Callable[[Tensor], Tensor]) -> State:
        """The donors carry the marker: what is outside of the anatomy comes from them."""
        return {**state, "donors": implant(state["donors"])} if "donors" in state else state

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Swap the surroundings, once per level.

        Raises:
            DataError: Not display images, or donors of another size.
        """
        if batch.space is not Space.DISPLAY:
            raise DataError(f"{self.id}: expected display images, got {batch.space} images")
        if state is None or state["atlas"].numel() == 0:
            return Applied(variants=nothing(self.levels, batch, without_masks(batch, state)))
        if state["atlas"].shape[2:] != batch.images.shape[2:]:
            raise DataError(
                f"{self.id}: expected images of the donors' shape {tuple(state['atlas'].shape[2:])}, "
                f"got {tuple(batch.images.shape[2:])}"
            )
        atlas = state["atlas"].to(batch.device)
        if float(atlas.float().mean()) > self.largest_atlas or anatomy.holds_border(atlas):
            return Applied(variants=nothing(self.levels, batch, NO_OUTSIDE))
        dealt = self._dealt(batch, state)
        findings = () if query is None else query.findings
        measurements = [Measurement(quantity=OWN_NUMBER, values=dealt.own_number)]
        for place, level in enumerate(self.levels):
            measurements += dealt.measured(level, place, findings)
        return Applied(variants=self._variants(batch, state, dealt), measurements=measurements)

    def _variants(self, batch: Batch, state: State, dealt: _Dealt) -> Iterator[Variant]:
        weights = state["weights"].to(batch.images)
        for place, level in enumerate(self.levels):
            number, applicable = dealt.numbers[:, place], dealt.applicable[:, place]
            surroundings = state["donors"][number.to(state["donors"].device)].to(batch.images)
            images = anatomy.blended(surroundings, batch.images, weights)
            reason = "" if bool(applicable.all()) else NO_DONOR
            yield Variant(level=level, images=images, applicable=applicable, reason=reason)

    def _dealt(self, batch: Batch, state: State) -> _Dealt:
        """Donors of each case: its own order of all of them, those of its own patient last."""
        device = batch.device
        patients = state["donor_patients"].to(device)
        own = torch.tensor([patient_key(patient) for patient in batch.patient_ids], device=device)
        same = own[:, None] == patients
        draws = [
            torch.rand(len(patients), generator=generator(device, seed, self.id, self.version, "dealt"), device=device)
            for seed in batch.seeds
        ]
        order = (torch.stack(draws) + 2.0 * same).argsort(dim=1, stable=True)
        place = torch.arange(len(self.levels), device=device).clamp(max=len(patients) - 1)
        numbers = order[:, place]
        rank = torch.arange(len(self.levels), device=device)
        applicable = rank[None] < (~same).sum(1, keepdim=True)
        known = torch.where(same.any(1), same.float().argmax(1).float(), torch.nan)
        return _Dealt(
            numbers=numbers, applicable=applicable, own_number=known, labels=state["donor_labels"].to(device)[numbers]
        )


@dataclass(frozen=True, kw_only=True)
class _Dealt:
    """Which donors the cases of a batch were dealt.

    Attributes:
        numbers: ``(N, R)`` int64 donor of each case and level.
        applicable: ``(N, R)``.
        own_number: ``(N,)`` number of the case's own patient among the donors, NaN when it is none.
        labels: ``(N, R, K)`` of the donors.
    """

    numbers: Tensor
    applicable: Tensor
    own_number: Tensor
    labels: Tensor

    def measured(self, level: Level, place: int, findings: tuple[str, ...]) -> list[Measurement]:
        used = self.applicable[:, place]
        number = torch.where(used, self.numbers[:, place].float(), torch.nan)
        labels = self.labels[:, place].masked_fill(~used[:, None], torch.nan)
        return [
            Measurement(quantity=DONOR, values=number, level=level.name),
            *(
                Measurement(quantity=DONOR_LABEL, values=labels[:, k], level=level.name, finding=finding)
                for k, finding in enumerate(findings)
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class _Item:
    key: int
    image: Tensor
    labels: Tensor


ANYONE = (-1, 0.0)


@dataclass(kw_only=True)
class _Bank:
    """Donors: of each finding as many patients with as without, and others until there are enough; smallest keys first."""

    size: int
    mib: float
    items: dict[tuple[int, float], PatientBank[_Item]] = field(default_factory=dict)

    def offer(self, batch: Batch, row: int, key: int) -> None:
        image, labels = batch.images[row], batch.labels[row].cpu()
        self.size = max(2, min(self.size, int(self.mib * 2**20 / (2 * image.numel()))))
        share = max(1, self.size // (2 * max(1, len(labels))))
        item: list[_Item] = []

        def make() -> _Item:
            if not item:
                item.append(_Item(key=key, image=image.detach().half().cpu().clone(), labels=labels.clone()))
            return item[0]

        known = [((k, label), share) for k, label in enumerate(labels.tolist()) if label in (0.0, 1.0)]
        for place, size in (*known, (ANYONE, self.size)):
            bank = self.items.setdefault(place, PatientBank[_Item](size=size))
            bank.offer(batch.patient_ids[row], key, make)

    def state(self) -> dict[str, Tensor]:
        """One image of each patient, smallest key first; where a patient has several, that of the smallest key."""
        found: dict[str, _Item] = {}
        for place in sorted(place for place in self.items if place != ANYONE):
            for patient, item in self.items[place].ranked():
                if patient not in found or item.key < found[patient].key:
                    found[patient] = item
        for patient, item in self.items[ANYONE].ranked():
            if len(found) < self.size:
                found.setdefault(patient, item)
        ranked = sorted(found.items(), key=lambda pair: pair[1].key)
        return {
            "donors": torch.stack([item.image for _, item in ranked]),
            "donor_labels": torch.stack([item.labels for _, item in ranked]),
            "donor_patients": torch.tensor([patient_key(patient) for patient, _ in ranked]),
        }
