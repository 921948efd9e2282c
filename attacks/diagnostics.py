"""Measurements that say whether surviving an attack means anything; they are judged beside the attacks, never instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robustbench_rad.attacks import _watched as watched
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._threat import LinfBall, stored, whole_grey_levels
from robustbench_rad.classifier import Classifier, Outputs
from robustbench_rad.conditions import Applied, Batch, Condition, Measurement, ModelQuery, State, fraction
from robustbench_rad.defences.chain import DefendedClassifier
from robustbench_rad.errors import ModelError
from robustbench_rad.registry import register
from robustbench_rad.sampling import SmallestKeys
from robustbench_rad.seeds import derive_seed, generator

MAX_ROWS = 64  # targets at once; changes no result
MAX_ROW_PIXELS = 2**22
LATE = 10  # last steps in which the loss should no longer fall
NEIGHBOURS = 10
FACTORS = (0.01, 100.0)
SATURATION = {torch.bfloat16: 6.0, torch.float16: 8.0}
SATURATION_FLOAT32 = 16.0

QUANTITIES = (
    "zero_gradient",
    "graph_cut",
    "log_odds",
    "gradient_truth",
    "repeat_difference",
    "numeric_noise",
    "flipped",
    "flipped_twice_the_steps",
    "flipped_second_start",
    "flipped_cross_entropy",
    "flipped_whole_box",
    "temperature_changed",
    "late_gain",
    "ruggedness",
    "reverified",
)
"""Per case and finding, NaN where the case was not sampled or its call is wrong anyway."""

STATES = ("parameters or buffers", "gradients", "modes", "random state", "tracer")


@runtime_checkable
class ModelAccess(Protocol):
    """A query that also hands out the model itself."""

    classifier: Classifier


@register(
    id="attack.diagnostics",
    version=1,
    space="display",
    domain="adversarial",
    kind="categorical",
    reference="Carlini et al. 2019, arXiv:1902.06705; Pintor et al. 2022, arXiv:2106.09947",
)
@dataclass(frozen=True, kw_only=True)
class Diagnostics(Condition):
    """Whether the answer of an attack may be believed, measured on a sample of correct calls.

    For each finding, the ``max_cases`` positive and as many negative cases with the smallest keys drawn from their seeds;
    only those called rightly are measured, for there is nothing to flip in the others. On each of them a descent on the
    margin is watched inside an L-infinity ball, and repeated with twice the steps, from a second start, with scaled margins,
    with cross-entropy, and in the whole box; beside it gradient, repeatability and numeric noise are measured. Models behind
    declared defences are measured with them.

    Attributes:
        epsilon: Radius of the watched descents, as a fraction of the range; at least one grey level.
        steps: Planes scored by a descent.
        max_cases: Positive cases, and negative ones, per finding.

    >>> Diagnostics.from_options({"steps": 20}).passes(findings=1)
    594.0
    """

    epsilon: float | str = "2/255"
    steps: int = 20
    max_cases: int = 32

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to watch.

        Raises:
            ValueError: Says what was expected.
        """
        if not 0 < fraction(self.epsilon) <= 1:
            raise ValueError(f"epsilon: expected a fraction of the range above 0 and up to 1, got {self.epsilon!r}")
        for name, least in (("steps", LATE + 1), ("max_cases", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        if self.levels:
            raise ValueError("levels: the diagnostics have one radius, epsilon")

    def passes(self, findings: int) -> float:
        """Forward-equivalents of a case that is sampled for every finding and never flips; the others cost nothing."""
        descents = 7 * 3 * (self.steps + 1) + 3 * (2 * self.steps + 1)
        around = 3 + watched.REPEATS + 1 + 2 + 2 * watched.SUBSETS + 1 + NEIGHBOURS
        return float(findings * (descents + around))

    def sampled_cases(self, findings: int) -> int:
        """As many positive and negative cases as are sampled; a case sampled for two findings counts twice in the price."""
        del findings
        return 2 * self.max_cases

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Choose the cases to look at: ``cutoffs`` ``(K, 2)``, the largest key of the negatives and of the positives."""
        count = len(classifier.findings)
        samples = [[SmallestKeys(size=self.max_cases) for _ in range(2)] for _ in range(count)]
        for batch in batches:
            for key, labels in zip(self._keys(batch), batch.labels.tolist(), strict=True):
                for finding, label in enumerate(labels):
                    if label == label:  # known
                        samples[finding][int(label)].offer(key)
        return {"cutoffs": torch.tensor([[side.cutoff for side in sides] for sides in samples])}

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Measure the sampled cases of the batch; no images are altered.

        Raises:
            ModelError: The query gives no access to the model, or :meth:`fit` did not run.
        """
        if not isinstance(query, ModelAccess) or query is None or state is None:
            raise ModelError(f"{self.id} needs the model itself and the sample that was drawn from the whole set")
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        found = {name: torch.full(batch.labels.shape, torch.nan) for name in QUANTITIES}
        every = Targets.of(batch.labels, clean)
        right = ~every.wrong(clean[every.case, every.finding] * every.side)
        targets = every.select(right & self._sampled(batch, state)[every.case, every.finding])
        before = watched.fingerprint(query.classifier.module) if len(targets) else {}
        rows = max(1, min(MAX_ROWS, MAX_ROW_PIXELS // max(1, batch.images[:1].numel())))
        for index in targets.chunks(rows):
            part = targets.select(index)
            where = (part.case.cpu(), part.finding.cpu())
            for name, values in self._watch(batch, query, part).items():
                found[name][where] = values.float().cpu()
        after = watched.fingerprint(query.classifier.module) if len(targets) else {}
        changed = {name: before[name] != after[name] for name in before}
        return Applied(
            variants=iter(()),
            measurements=[*_by_finding(found, query.findings), *self._whole(batch, query, targets, changed)],
        )

    def _watch(self, batch: Batch, query: ModelQuery, targets: Targets) -> dict[str, Tensor]:
        assert isinstance(query, ModelAccess)
        bits, centre = batch.stored_bits, stored(batch.images[targets.case], batch.stored_bits)
        ball = LinfBall(centre=centre, radius=self._radius(batch, centre), bits=bits)
        around = watched.look_around(query, targets, centre, self._draws(batch, targets, "around", watched.SUBSETS + 2))
        margin = watched.on_margin(query, targets, bits)
        once, twice = (step_fractions(steps, StepRule.DECAYING) for steps in (self.steps, 2 * self.steps))
        first = watched.descend(margin, targets, ball, once, centre)
        longer = watched.descend(margin, targets, ball, twice, centre)
        start = centre + self._draws(batch, targets, "start", 1)[:, 0] * ball.radii()
        second = watched.descend(margin, targets, ball, once, start, leap=False)
        scaled = [
            watched.descend(watched.on_margin(query, targets, bits, factor=factor), targets, ball, once, centre)
            for factor in FACTORS
        ]
        offset = operating_log_odds(query.classifier, targets)
        entropy = watched.on_cross_entropy(query, targets, bits, offset)
        other = watched.descend(entropy, targets, ball, once, centre)
        fall = (around.health - first.best[-1]).abs()
        neighbours = self._draws(batch, targets, "neighbours", NEIGHBOURS)
        scale = torch.maximum(around.health.abs(), fall)
        zero = around.zero_gradient > 0
        cut = _cut(query.classifier, centre) | (zero & (around.responds > 0))
        return {
            "zero_gradient": around.zero_gradient,
            "graph_cut": cut,
            "log_odds": around.health * targets.side + offset,
            "gradient_truth": around.gradient_truth,
            "repeat_difference": around.repeat_difference,
            "numeric_noise": around.numeric_noise,
            "flipped": first.wrong,
            "flipped_twice_the_steps": longer.wrong,
            "flipped_second_start": second.wrong,
            "flipped_cross_entropy": other.wrong,
            "flipped_whole_box": first.wrong | watched.escape(margin, targets, ball, once, first.plane),
            "temperature_changed": torch.stack([path.wrong != first.wrong for path in scaled]).any(0),
            "late_gain": torch.where(first.wrong, torch.nan, first.late(LATE)),
            "ruggedness": watched.ruggedness(query, targets, first.plane, neighbours, scale),
            "reverified": _again(query.classifier, targets, stored(first.plane, bits), first.wrong),
        }

    def _whole(
        self, batch: Batch, query: ModelQuery, targets: Targets, changed: dict[str, bool]
    ) -> Iterator[Measurement]:
        """What is true of the model and the descents, written to every case that was looked at."""
        assert isinstance(query, ModelAccess)
        looked = torch.zeros(len(batch), dtype=torch.bool)
        looked[targets.case.cpu()] = True
        classifier = query.classifier
        facts = {
            "epsilon": fraction(self.epsilon),
            "probabilities_only": float(classifier.head.outputs is Outputs.PROBABILITIES),
            "saturation_limit": saturation_limit(classifier),
            "defended": float(isinstance(classifier, DefendedClassifier)),
            **{f"changed {name}": float(changed.get(name, False)) for name in STATES},
        }
        for name, value in facts.items():
            yield Measurement(quantity=name, values=torch.where(looked, value, torch.nan))

    def _radius(self, batch: Batch, centre: Tensor) -> Tensor:
        wanted = torch.full((len(centre),), fraction(self.epsilon), device=centre.device)
        return whole_grey_levels(wanted, batch.stored_bits).clamp_min(1 / (2**batch.stored_bits - 1))

    def _draws(self, batch: Batch, targets: Targets, name: str, count: int) -> Tensor:
        """``(R, count, 1, ...)`` uniform in [-1, 1]; those of a case are its own."""
        shape = (count, *batch.images.shape[1:])
        cases = targets.case.tolist()
        drawn = {case: self._drawn(batch, case, name, shape) for case in set(cases)}
        return torch.stack([drawn[case] for case in cases])

    def _drawn(self, batch: Batch, case: int, name: str, shape: Sequence[int]) -> Tensor:
        source = generator(batch.device, batch.seeds[case], self.id, self.version, name)
        return torch.rand(tuple(shape), generator=source, device=batch.device) * 2 - 1

    def _keys(self, batch: Batch) -> list[int]:
        return [derive_seed(seed, self.id, self.version, "sample") for seed in batch.seeds]

    def _sampled(self, batch: Batch, state: State) -> Tensor:
        """Which case is looked at for which finding: ``(N, K)`` boolean."""
        keys = torch.tensor(self._keys(batch), device=batch.device)[:, None]
        cutoffs = state["cutoffs"].to(batch.device)
        return torch.where(batch.labels > 0.5, keys <= cutoffs[:, 1], keys <= cutoffs[:, 0])


def operating_log_odds(classifier: Classifier, targets: Targets) -> Tensor:
    """Log-odds ``(R,)`` of the operating point of each target; 0 where the largest class decides."""
    points = classifier.thresholds.to(targets.side.device, torch.float32)
    return torch.logit(points).nan_to_num(0.0)[targets.finding]


def saturation_limit(classifier: Classifier) -> float:
    """Log-odds beyond which cross-entropy has no gradient, for the narrowest type of the parameters."""
    kinds = {parameter.dtype for parameter in classifier.module.parameters()}
    return min((SATURATION.get(kind, SATURATION_FLOAT32) for kind in kinds), default=SATURATION_FLOAT32)


def _cut(classifier: Classifier, centre: Tensor) -> Tensor:
    """Whether ``(R,)`` the margins do not hang on the image in the graph at all: a detour through NumPy, an argmax."""
    with torch.enable_grad():
        cut = not classifier.margins(centre[:1].detach().requires_grad_(True)).requires_grad
    return torch.full((len(centre),), cut, device=centre.device)


def _again(classifier: Classifier, targets: Targets, planes: Tensor, wrong: Tensor) -> Tensor:
    """1 where a flip stands when the user's own model is asked about the stored plane alone, in float32; NaN without one."""
    found = torch.full_like(targets.side, torch.nan)
    for row in wrong.nonzero().flatten().tolist():
        one = targets.select(watched.slice_of(row, planes))
        with torch.no_grad():
            health = one.health(classifier.margins(planes[row : row + 1].float()).float())
        found[row] = one.wrong(health).float()[0]
    return found


def _by_finding(found: dict[str, Tensor], findings: Sequence[str]) -> Iterator[Measurement]:
    for name, values in found.items():
        for column, finding in enumerate(findings):
            yield Measurement(quantity=name, values=values[:, column], finding=finding)
