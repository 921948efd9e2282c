"""The planted-defect programme: every mark, strength, association and number of cases, and the controls.

A trial is one model on one data set with the verdict and the statistic of every audit. A world serves all strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from robustbench_rad.checks.comparisons import worst_verdict
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.spike_and_recovery import BESIDE, criteria
from robustbench_rad.errors import PlanError
from robustbench_rad.planted.defects import DEFECTS
from robustbench_rad.planted.phantoms import phantoms
from robustbench_rad.planted.worlds import World, audit_world, constant, constructed, context, permuted
from robustbench_rad.profile import CheckSpec, check_spec, read_profile
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import ScoreTable
from robustbench_rad.seeds import derive_seed

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
ASSOCIATIONS = (0.5, 0.6, 0.7, 0.9)
SIZES = (100, 250, 1000, 4000)
KINDS = tuple(DEFECTS)
COMBINED = "shortcut domain"
LEFT_OUT = ("shortcut.spike-and-recovery",)  # it only doubts passes, and costs the audits again


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model on one data set.

    Attributes:
        kind: Name of the planted mark, or of the control.
        control: Nothing may be reported.
        strength: b, in SD of the evidence.
        association: P(mark | disease).
        cases: N.
        replicate: Number of the data set.
        verdicts: Audit, and :data:`COMBINED` → verdict.
        statistics: Audit → the largest estimate of its harm; None: none.
    """

    kind: str
    control: bool
    strength: float
    association: float
    cases: int
    replicate: int
    verdicts: Mapping[str, str]
    statistics: Mapping[str, float | None] = field(default_factory=dict)

    def reports(self, audit: str) -> bool:
        """Whether the audit says that there is a shortcut."""
        return self.verdicts[audit] == Verdict.FAIL


def audits(profile: str = "standard") -> tuple[CheckSpec, ...]:
    """The judged shortcut audits of a profile, and what is judged beside them.

    Raises:
        PlanError: No such profile, or one that judges no shortcut.
    """
    specs = [check_spec(id, table) for id, table in read_profile(profile).checks.items()]
    found = tuple(
        spec
        for spec in specs
        if not spec.informational and spec.id not in LEFT_OUT and (spec.domain is Domain.SHORTCUT or spec.id in BESIDE)
    )
    if not any(spec.domain is Domain.SHORTCUT for spec in found):
        raise PlanError(f"profile {profile!r}: it judges no shortcut audit", hint="Try --profile standard.")
    return found


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One data set with a planted mark, for all strengths."""

    defect: str
    association: float
    cases: int
    replicate: int

    @property
    def seed(self) -> int:
        """Of the data set."""
        return derive_seed("planted.cell", self.defect, self.association, self.cases, self.replicate)

    def trials(
        self, checks: Sequence[CheckSpec], strengths: Sequence[float], *, device: torch.device
    ) -> Iterator[Trial]:
        """Audit the constructed models of every strength on this data set."""
        given = phantoms(self.cases, self.seed)
        world = audit_world(given, DEFECTS[self.defect], self.association, checks, device=device)
        for strength in strengths:
            scores = constructed(world, "lesion", self.defect, strength)
            yield trial_of(
                world,
                scores,
                checks,
                kind=self.defect,
                control=False,
                strength=strength,
                association=self.association,
                cases=self.cases,
                replicate=self.replicate,
            )


Scores = Callable[[World, int], ScoreTable]


@dataclass(frozen=True, kw_only=True)
class Control:
    """A model without a shortcut, and data that might make an audit believe in one.

    Attributes:
        name: In words.
        defect: Mark in the data.
        association: Of the mark with the label.
        scores: Makes the model's scores from a world and a seed.
        lung_size_by_label: Lungs of the diseased are larger by this share: the mask tells the label.
        heart_size_by_label: The disease is a wide heart.
        shown_apart: No false alarm by agreement: the scanner changes the evidence and goes with the label.
    """

    name: str
    defect: str = "corner marker"
    association: float = 0.5
    scores: Scores = field(default=lambda world, _seed: constructed(world, "lesion"))
    lung_size_by_label: float = 0.0
    heart_size_by_label: float = 0.0
    shown_apart: bool = False

    def trial(self, checks: Sequence[CheckSpec], cases: int, replicate: int, *, device: torch.device) -> Trial:
        """Audit the control on a data set of its own."""
        seed = derive_seed("planted.control", self.name, cases, replicate)
        given = phantoms(
            cases, seed, lung_size_by_label=self.lung_size_by_label, heart_size_by_label=self.heart_size_by_label
        )
        world = audit_world(given, DEFECTS[self.defect], self.association, checks, device=device)
        return trial_of(
            world,
            self.scores(world, seed),
            checks,
            kind=self.name,
            control=True,
            strength=0.0,
            association=self.association,
            cases=cases,
            replicate=replicate,
        )


CONTROLS: tuple[Control, ...] = (
    Control(name="no shortcut"),
    Control(name="marker in the data, unused", association=0.9),
    Control(name="text in the data, unused", defect="burned-in text", association=0.7),
    Control(name="mask outline tells the label", lung_size_by_label=0.14),
    Control(name="evidence changes with the kernel", defect="kernel", association=0.5),
    Control(
        name="disease is a wide heart",
        heart_size_by_label=0.3,
        scores=lambda world, _seed: constructed(world, "heart"),
    ),
    Control(name="hardly trained", association=0.7, scores=lambda world, _seed: constructed(world, "dim")),
    Control(
        name="always the same", association=0.7, scores=lambda world, _seed: constant(constructed(world, "lesion"))
    ),
    Control(
        name="labels permuted",
        association=0.7,
        scores=lambda world, seed: permuted(world, constructed(world, "lesion"), seed),
    ),
    Control(
        name="evidence changes with the kernel, kernel goes with the label",
        defect="kernel",
        association=0.9,
        shown_apart=True,
    ),
)


def trial_of(
    world: World,
    scores: ScoreTable,
    checks: Sequence[CheckSpec],
    *,
    kind: str,
    control: bool,
    strength: float,
    association: float,
    cases: int,
    replicate: int,
) -> Trial:
    """Judge the scores of one model on one world."""
    found = context(world, scores)
    verdicts, statistics = _judged(found, checks)
    combined = worst_verdict(Verdict(verdicts[c.id]) for c in checks if c.domain is Domain.SHORTCUT)
    return Trial(
        kind=kind,
        control=control,
        strength=strength,
        association=association,
        cases=cases,
        replicate=replicate,
        verdicts={**verdicts, COMBINED: str(combined)},
        statistics=statistics,
    )


def _judged(found: JudgeContext, checks: Sequence[CheckSpec]) -> tuple[dict[str, str], dict[str, float | None]]:
    """Worst verdict and largest harm of every audit, harms in units of their tolerance."""
    verdicts: dict[str, str] = {}
    statistics: dict[str, float | None] = {}
    for check in checks:
        items = [item.criterion for item in criteria(found, check)]
        judged = [criterion for criterion in items if criterion.verdict is not Verdict.INFORMATIONAL]
        verdicts[check.id] = str(worst_verdict(criterion.verdict for criterion in judged))
        harms = [c.harm.estimate / c.tolerance for c in judged if c.harm.estimate is not None and c.tolerance]
        statistics[check.id] = max(harms, default=None)
    return verdicts, statistics
