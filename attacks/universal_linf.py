"""One perturbation for all patients, learned on one half of the patients and scored on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front, Oracle
from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.attacks._universal_bank import DIRECTIONS, Bank, Kept
from robustbench_rad.conditions import Applied, Batch, Level, ModelQuery, State, Variant
from robustbench_rad.errors import DataError
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import register
from robustbench_rad.sampling import patient_key
from robustbench_rad.seeds import generator

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier

HALVES = 2
MINIBATCH = 32


@register(
    id="attack.universal-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Moosavi-Dezfooli et al. 2017, arXiv:1610.08401; Shafahi et al. 2020, arXiv:1811.11304",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class UniversalLinf(LinfAttack):
    """One perturbation per finding and direction that is added to the image of every patient.

    Every case is scored by a perturbation that was learned without its patient: the patients are split in two halves, and
    each half is scored with what was learned on the other. ``δ[t+1] = clip(δ[t] - s[t] ε sign(mean of ∇))`` over minibatches,
    with the gradient ``∇`` of ``softplus(health / scale)`` (calls that are wrong already count little; ``scale`` is the median
    clean health, so that a rescaled logit changes nothing). A larger level begins at the perturbation of the smaller one, and
    falls back on it.

    ``control_margin`` and ``control_flip`` are of a perturbation of random signs of the same size, one for the cohort.
    ``learned_from`` is the number of cases behind the perturbation.

    A sample of the cases is kept in memory while learning, chosen by seed. Learning is paid once: a pass of every case, and
    for each finding at most ``3 x epochs x levels`` passes of each of the ``2 x fit_cases`` kept.

    Attributes:
        epochs: Times each learning case is seen, per level.
        fit_cases: Cases to learn from, for each finding and direction, both halves together.
        least_cases: Cases that a half must have to learn from; with fewer, the other half is not attacked in that finding and
            direction, and has no margin.

    >>> attack = UniversalLinf.from_options({"epsilon": ["1/255", "2/255"]})
    >>> attack.passes(findings=1), attack.fit_passes(findings=1, cases=100)
    (7.0, 6100.0)
    """

    flips_linear: ClassVar[float] = 1.0
    controls: ClassVar[tuple[str, ...]] = ("control_margin", "control_flip", "learned_from")

    epochs: int = 10
    fit_cases: int = 128
    least_cases: int = 5

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name in ("epochs", "fit_cases", "least_cases"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        if self.attack_space == "stored":
            raise ValueError(
                "space: one perturbation for all images needs images of one size, which files are not; expected 'display'"
            )

    @property
    def passes_per_level(self) -> float:
        """The perturbation and its control."""
        return 2.0

    def fit_passes(self, findings: int, cases: int) -> float:
        """Every case once, to know which are called right; then a gradient of each kept case per epoch and level."""
        kept = min(cases, len(DIRECTIONS) * self.fit_cases)  # a case has one direction per finding
        return float(cases + findings * kept * 3 * self.epochs * len(self.levels))

    def self_test(self) -> str:
        """Solve a planted linear model; its few cases are enough, because one gradient says all."""
        return Attack.self_test(replace(self, least_cases=1)) if self.least_cases > 1 else super().self_test()

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State:
        """Learn one perturbation per level, half, finding and direction from a sample of the cases.

        Returns:
            ``delta`` ``(L, 2, K, 2, 1, ...)`` in units of the radius, by level, half learned from, finding and direction
            (0 create, 1 hide); ``learned_from`` ``(2, K, 2)`` cases; ``control`` ``(1, ...)`` random signs; ``patients``
            ``(P,)`` sorted keys and ``half`` ``(P,)`` of each.
        """
        query, findings = CountingQuery(classifier), len(classifier.findings)
        bank = Bank(size=self.fit_cases, findings=findings, name=(self.id, self.version))
        for batch in batches:
            clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
            radii = torch.stack([self.reach(level, batch) for level in self.levels], 1)
            bank.offer(batch, clean, self.touchable(batch)[0], radii)
        kept, halves = bank.kept(), bank.halves()
        keys = sorted(halves)
        sides = torch.tensor([halves[key] for key in keys], dtype=torch.int64)
        count = torch.zeros(HALVES, findings, len(DIRECTIONS), dtype=torch.int64)
        state = {"patients": torch.tensor(keys, dtype=torch.int64), "half": sides, "learned_from": count}
        if not bank.shape:
            return state
        delta = torch.zeros(len(self.levels), HALVES, findings, len(DIRECTIONS), *bank.shape)
        for half in range(HALVES):
            for finding in range(findings):
                for side in DIRECTIONS:
                    cases = [case for case in kept[finding, side] if halves[case.patient] == half]
                    count[half, finding, side] = len(cases)
                    if len(cases) >= self.least_cases:
                        delta[:, half, finding, side] = self._learn(cases, finding, side, query, classifier.device)
        source = generator("cpu", bank.audit_seed, self.id, self.version, "control")
        return {**state, "delta": delta, "control": torch.rand(bank.shape, generator=source).sub(0.5).sign()}

    def _learn(
        self, cases: list[Kept], finding: int, side: int, query: ModelQuery, device: torch.device | str
    ) -> Tensor:
        """Perturbations ``(L, 1, ...)`` of all levels from cases of one finding and direction, in radii."""
        oracle = Oracle(query=query, bits=max(case.bits for case in cases))
        clean = torch.stack([case.clean[finding] for case in cases])
        scale = float(clean.abs().median().clamp_min(1e-6))
        delta, learned = torch.zeros_like(cases[0].image, device=device), []
        for number in range(len(self.levels)):
            usable = [case for case in cases if case.radii[number] > 0]
            order = [place for _ in range(self.epochs) for place in range(0, len(usable), MINIBATCH)]
            for place, fraction in zip(order, step_fractions(max(1, len(order)), StepRule.DECAYING), strict=False):
                part = usable[place : place + MINIBATCH]
                gradient = _mean_gradient(part, delta, number, (finding, side), scale, oracle)
                delta = (delta - fraction * gradient.sign()).clamp(-1, 1)
            learned.append(delta.cpu())
        return torch.stack(learned)

    def search(self, front: Front, level: Level) -> None:
        """Add what the other half of the patients has taught, for the finding and direction of each target."""
        place, learned_from = self._lesson(front)
        delta = self._state(front)["delta"][self.levels.index(level)][place]
        few = learned_from < self.least_cases
        front.score(front.threat.project(front.live.centre + front.threat.radii() * delta))
        front.live.non_finite = front.live.non_finite | few
        front.compact()

    def control(self, front: Front, level: Level) -> Mapping[str, Tensor]:
        """Random signs, the same for all cases."""
        del level
        signs = self._state(front)["control"]
        health = front.score(front.threat.project(front.live.centre + front.threat.radii() * signs))
        margin, targets = health * _targets(front).side, front.live.targets
        flip = torch.where(front.live.steps_to_flip.isnan() & ~targets.wrong(health), 0.0, 1.0)
        return {
            "control_margin": margin,
            "control_flip": flip,
            "learned_from": self._lesson(front)[1].to(health.dtype),
        }

    def _lesson(self, front: Front) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Where the perturbation of each target stands in the state, and the cases ``(L,)`` it was learned from."""
        state, targets = self._state(front), _targets(front)
        keys = torch.tensor([patient_key(name) for name in front.batch.patient_ids], device=targets.case.device)
        known = state["patients"]
        at = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
        other = torch.where(known[at] == keys, 1 - state["half"][at], 0)[targets.case]  # a stranger taught neither half
        place = (other, targets.finding, (targets.side > 0).long())
        return place, state["learned_from"][place]

    def _state(self, front: Front) -> State:
        if front.state is None or "delta" not in front.state:
            raise DataError(
                f"{self.id}: nothing was learned from the set",
                hint="Call fit with all cases first; an audit does. Some cases must be labelled.",
            )
        return front.state

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level; see :meth:`Attack.apply`."""
        applied = super().apply(batch, query, state)
        return replace(applied, variants=self._said(applied.variants, state))

    def _said(self, variants: Iterator[Variant], state: State | None) -> Iterator[Variant]:
        """Say where too few cases taught."""
        few = bool(state is not None and (state["learned_from"] < self.least_cases).any())
        reason = (
            f"for some findings a half of the patients has fewer than {self.least_cases} correct calls to learn from"
        )
        for variant in variants:
            yield replace(variant, reason=variant.reason or reason) if few else variant


def _targets(front: Front) -> Targets:
    assert isinstance(front.live.targets, Targets)
    return front.live.targets


def _mean_gradient(
    cases: list[Kept], delta: Tensor, number: int, goal: tuple[int, int], scale: float, oracle: Oracle
) -> Tensor:
    """Gradient ``(1, ...)`` of the mean ``softplus(health / scale)`` at one perturbation."""
    device, (finding, side) = delta.device, goal
    centre = torch.stack([case.image for case in cases]).to(device)
    allowed = None if cases[0].allowed is None else torch.stack([_mask(case) for case in cases]).to(device)
    radius = torch.stack([case.radii[number] for case in cases]).to(device)
    threat = LinfBall(centre=centre, radius=radius, bits=oracle.bits, allowed=allowed)
    every = torch.arange(len(cases), device=device)
    goals = Targets(
        case=every,
        finding=torch.full_like(every, finding),
        side=torch.full((len(cases),), 2.0 * side - 1, device=device),
    )
    health, gradient = oracle.health_and_gradient(threat.project(centre + threat.radii() * delta), goals)
    weight = torch.where(health.isfinite(), torch.sigmoid(health / scale), 0.0) * radius
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if allowed is not None:
        gradient = gradient * allowed
    return (gradient * weight.reshape(-1, *[1] * (gradient.ndim - 1))).sum(0)


def _mask(case: Kept) -> Tensor:
    assert case.allowed is not None
    return case.allowed
