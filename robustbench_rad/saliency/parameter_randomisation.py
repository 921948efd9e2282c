"""Saliency check S2: do the maps of a model depend on what it has learned?

The map of each sampled positive case is compared with the maps of copies whose every parameter was drawn anew, and with
the maps of other patients. A map worth looking at changes more when the model forgets everything than when only the
patient changes. Passing is no proof: noise passes too. So the check may lower a score and never raises it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from robustbench_rad.classifier import Classifier
from robustbench_rad.conditions import Applied, Batch, Condition, Measurement, ModelQuery, State
from robustbench_rad.errors import ModelError
from robustbench_rad.registry import register
from robustbench_rad.saliency import maps as saliency_maps
from robustbench_rad.saliency.layers import TargetLayer, target_layer
from robustbench_rad.saliency.similarity import normalised, spearman, spearman_between, ssim, ssim_between
from robustbench_rad.saliency.twins import randomised_twin
from robustbench_rad.sampling import PatientBank, SmallestKeys, kept_copy, patient_key
from robustbench_rad.seeds import derive_seed

CHUNK = 16  # cases whose maps are in memory at once
NOBODY = -1  # stands for a reference that does not exist


@runtime_checkable
class ModelAccess(Protocol):
    """A query that also hands out the model itself, for checks that look inside."""

    classifier: Classifier


@register(
    id="saliency.parameter-randomisation",
    version=2,  # 2: absolute rank correlation; copies drawn with the audit's seed
    space="display",
    domain="saliency",
    kind="categorical",
    reference="Adebayo et al. 2018, arXiv:1810.03292; Arun et al. 2021, doi:10.1148/ryai.2021200267",
)
@dataclass(frozen=True, kw_only=True)
class ParameterRandomisation(Condition):
    """Compare the saliency maps of the model with those of copies that have forgotten everything.

    Gives no altered images, only measurements, for a sample of the positive cases of each finding.

    Attributes:
        seeds: Number of randomised copies; similarities are averaged over them.
        max_cases: Positive cases judged per finding: those with the smallest keys drawn from their seeds.
        references: Positive cases per finding, of as many patients, whose maps give the inter-image baseline.
        layer: Dotted name of the layer for Grad-CAM; "" finds one.
        grid_px: Longer side of the grid on which maps are compared; Grad-CAM maps are much coarser.
    """

    seeds: int = 3
    max_cases: int = 64
    references: int = 16
    layer: str = ""
    grid_px: int = 64

    def __post_init__(self) -> None:
        """Refuse counts that leave nothing to measure.

        Raises:
            ValueError: A count below its least useful value.
        """
        for name, least in (("seeds", 1), ("max_cases", 1), ("references", 2), ("grid_px", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def passes(self, findings: int) -> float:
        """One forward pass of the model and of each copy; the backward passes end in the head."""
        del findings
        return 1.0 + self.seeds

    def fit_passes(self, findings: int, cases: int) -> float:
        """A probe of the layers, and a map of every reference case; the backward passes of maps end in the head."""
        return float(3 + findings * min(cases, self.references))

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Choose the cases to judge, and make the maps of the reference cases.

        Returns:
            ``cutoffs`` ``(K,)``: a positive case is judged when its key is at most this; ``reference_maps``
            ``(K, R, h, w)`` normalised; ``reference_patients`` ``(K, R)``, -1 where there are fewer; ``calibration``
            ``(C, 1, H, W)`` images on which the copies measure their normalisation.
        """
        count = len(classifier.findings)
        samples = [SmallestKeys(size=self.max_cases) for _ in range(count)]
        banks = [PatientBank[Tensor](size=self.references) for _ in range(count)]
        anyone = PatientBank[Tensor](size=self.references)
        for batch in batches:
            for row, key in enumerate(self._keys(batch)):
                patient, image = batch.patient_ids[row], kept_copy(batch.images[row])
                anyone.offer(patient, key, image)
                for finding in (batch.labels[row] == 1).nonzero().flatten().tolist():
                    samples[finding].offer(key)
                    banks[finding].offer(patient, key, image)
        images = [image for _, image in anyone.ranked()]
        return {
            "cutoffs": torch.tensor([sample.cutoff for sample in samples]),
            "calibration": torch.stack(images) if images else torch.zeros(0, 1, *classifier.input.size),
            **self._references(classifier, banks),
        }

    def _references(self, classifier: Classifier, banks: Sequence[PatientBank[Tensor]]) -> dict[str, Tensor]:
        layer = target_layer(classifier, self.layer)
        found = torch.full((len(banks), self.references, *self._grid(classifier)), float("nan"))
        patients = torch.full((len(banks), self.references), NOBODY, dtype=torch.int64)
        for finding, bank in enumerate(banks):
            ranked = bank.ranked()
            for place, (patient, image) in enumerate(ranked):
                patients[finding, place] = patient_key(patient)
                display = image.unsqueeze(0).to(classifier.device)
                found[finding, place] = self._maps(classifier, display, layer, [finding])[0, 0].cpu()
        return {"reference_maps": found, "reference_patients": patients}

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Measure the similarities of the sampled positive cases of the batch.

        Measurements per finding, NaN for cases that were not sampled or whose map is constant:
        ``similarity_randomised`` (absolute rank correlation with the copies' maps, mean over the copies),
        ``similarity_between_images`` (the same with the reference maps of other patients), and both as
        structural similarity: ``ssim_randomised``, ``ssim_between_images``. Per case: ``uses_input_gradient``, 1 when
        the model gives no access to its layers and Grad-CAM had to be replaced.

        Raises:
            ModelError: The query gives no access to the model, or :meth:`fit` did not run.
        """
        if not isinstance(query, ModelAccess) or state is None:
            raise ModelError(f"{self.id} needs the model itself and what was learned from the whole set")
        prepared = _prepared(query.classifier, self, state, batch.audit_seed)
        found = {name: torch.full(batch.labels.shape, float("nan")) for name in _QUANTITIES}
        sampled = self._sampled(batch, state)
        chosen = sampled.any(1).nonzero().flatten()
        for start in range(0, len(chosen), CHUNK):
            rows = chosen[start : start + CHUNK]
            self._measure(batch.select(rows.to(batch.device)), rows, sampled[rows], prepared, state, found)
        replaced = float(prepared.layer is None)
        measurements = [Measurement(quantity="uses_input_gradient", values=torch.full((len(batch),), replaced))]
        measurements += [
            Measurement(quantity=name, values=values[:, column], finding=finding)
            for name, values in found.items()
            for column, finding in enumerate(query.classifier.findings)
        ]
        return Applied(variants=iter(()), measurements=measurements)

    def _measure(
        self, batch: Batch, rows: Tensor, sampled: Tensor, prepared: _Prepared, state: State, found: dict[str, Tensor]
    ) -> None:
        """Fill in the rows of ``found`` for a few cases, one finding at a time."""
        wanted = sampled.any(0).nonzero().flatten().tolist()
        trained = self._maps(prepared.classifier, batch.images, prepared.layer, wanted)
        copies = [self._maps(twin, batch.images, prepared.layer, wanted) for twin in prepared.twins]
        patients = [patient_key(patient) for patient in batch.patient_ids]
        for column, finding in enumerate(wanted):
            chosen = sampled[:, finding]
            own = trained[chosen.to(trained.device), column]
            others = [copy[chosen.to(trained.device), column] for copy in copies]
            who = torch.tensor([patient for patient, yes in zip(patients, chosen.tolist(), strict=True) if yes])
            values = (*_to_copies(own, others), *_to_references(own, who, state, finding))
            for name, value in zip(_QUANTITIES, values, strict=True):
                found[name][rows[chosen], finding] = value.cpu()

    def _maps(
        self, classifier: Classifier, display: Tensor, layer: TargetLayer | None, findings: Sequence[int]
    ) -> Tensor:
        """Normalised maps ``(N, K, h, w)`` on the grid of comparison."""
        found = saliency_maps.maps(classifier, display, layer, findings)
        found = saliency_maps.resized(found, self._grid(classifier))
        return normalised(found.flatten(0, 1)).reshape(found.shape)

    def _grid(self, classifier: Classifier) -> tuple[int, ...]:
        sides = classifier.input.size
        scale = min(1.0, self.grid_px / max(sides))
        return tuple(max(1, round(side * scale)) for side in sides)

    def _keys(self, batch: Batch) -> list[int]:
        return [derive_seed(seed, self.id, self.version, "sample") for seed in batch.seeds]

    def _sampled(self, batch: Batch, state: State) -> Tensor:
        """Which case is judged for which finding: ``(N, K)`` boolean on the CPU."""
        keys = torch.tensor(self._keys(batch))
        return (batch.labels.cpu() == 1) & (keys[:, None] <= state["cutoffs"].cpu()[None])


_QUANTITIES = ("similarity_randomised", "ssim_randomised", "similarity_between_images", "ssim_between_images")


def _to_copies(own: Tensor, copies: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rank correlation and SSIM of each map with the copies' maps of the same case; mean over the copies.

    The correlation is absolute: a map that a random model draws in negative is as little the trained model's own, and
    copies of either sign must not cancel.
    """
    return (
        torch.stack([spearman(own, copy).abs() for copy in copies]).nanmean(0),
        torch.stack([ssim(own, copy) for copy in copies]).nanmean(0),
    )


def _to_references(own: Tensor, patients: Tensor, state: State, finding: int) -> tuple[Tensor, Tensor]:
    """Rank correlation and SSIM of each map with the reference maps of other patients; mean over these.

    All references are used rather than a random one: the same expectation with less noise.
    """
    known = state["reference_patients"][finding].cpu()
    references = state["reference_maps"][finding].to(own.device)
    comparable = ((known != NOBODY) & (known != patients[:, None])).to(own.device)
    pairs = (spearman_between(own, references).abs(), ssim_between(own, references))
    ranked, structural = (torch.where(comparable, values, float("nan")).nanmean(1) for values in pairs)
    return ranked, structural


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What every batch needs again: the layer, and the copies that have forgotten everything."""

    classifier: Classifier
    layer: TargetLayer | None
    twins: tuple[Classifier, ...]


_twins: WeakKeyDictionary[Classifier, tuple[str, TargetLayer | None, tuple[Classifier, ...]]] = WeakKeyDictionary()


def _prepared(classifier: Classifier, condition: ParameterRandomisation, state: State, audit_seed: int) -> _Prepared:
    """Make the copies once per model, state and seed; they go when the model goes."""
    calibration = state["calibration"]
    key = f"{condition!r} {audit_seed} {hashlib.sha256(calibration.cpu().numpy().tobytes()).hexdigest()}"
    if classifier not in _twins or _twins[classifier][0] != key:
        drawn = (audit_seed, condition.id, condition.version, "twin")
        seeds = [derive_seed(*drawn, number) for number in range(condition.seeds)]
        twins = tuple(randomised_twin(classifier, seed, calibration) for seed in seeds)
        _twins[classifier] = (key, target_layer(classifier, condition.layer), twins)
    _, layer, twins = _twins[classifier]
    return _Prepared(classifier=classifier, layer=layer, twins=twins)
