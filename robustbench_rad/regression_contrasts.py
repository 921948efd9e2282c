"""What of two finished runs can be set against each other: clean performance, and every condition that both measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.masked_anatomy import FILLS, without_dust
from robustbench_rad.checks.metrics import METRICS, NAMES
from robustbench_rad.conditions import Level
from robustbench_rad.judging import FinishedRun
from robustbench_rad.pairing import pair
from robustbench_rad.profile import CheckSpec
from robustbench_rad.registry import find
from robustbench_rad.regression_loss import BEFORE, NOW, TELLING, Sample
from robustbench_rad.result import Domain
from robustbench_rad.scores import CLEAN

CLEAN_CHECK = "clean.performance"
COMPARED = (Domain.ADVERSARIAL, Domain.ACQUISITION_SHIFT)
RISES = "shortcut.masked-anatomy"  # here an AUROC that rises is the harm
NOT_A_METRIC = "what it measures is not the loss of a metric"
Mask = NDArray[np.bool_]
Texts = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Two finished runs, set against each other.

    Attributes:
        current: The run that is judged.
        baseline: The run it must not fall behind.
        order: Row of the baseline for each case of this run; None: not paired.
        pairing: Why paired, or why not, in words.
    """

    current: FinishedRun
    baseline: FinishedRun
    order: NDArray[np.int64] | None
    pairing: str

    @classmethod
    def of(cls, current: FinishedRun, baseline: FinishedRun) -> Self:
        """Set the cases of two runs against each other."""
        order, pairing = pair(current.record, baseline.record)
        return cls(current=current, baseline=baseline, order=order, pairing=pairing)

    @property
    def both(self) -> tuple[FinishedRun, FinishedRun]:
        """This run, then the baseline."""
        return self.current, self.baseline

    @property
    def findings(self) -> list[str]:
        """Findings of both."""
        there = self.baseline.record.plan.model.names
        return [name for name in self.current.record.plan.model.names if name in there]

    @cached_property
    def checks(self) -> list[dict[str, CheckSpec]]:
        """Check id → what each run judges or shows, this run first; what its plan leaves out is not there."""
        return [{check.id: check for check in run.profile.checks if check.enabled} for run in self.both]

    def column(self, name: str) -> Texts | str:
        """Values of a metadata column in the rows of a sample of this run and of the baseline, or why there are none.

        Paired runs share their cases, so what one of them declares holds for both; this run's word counts first.
        """
        declared = [run.record.metadata.get(name) for run in self.both]
        if self.order is not None:
            now, before = declared
            values = now if now is not None or before is None else [before[row] for row in self.order]
            return "neither run declares it" if values is None else (tuple(values), tuple(values))
        for values, run in zip(declared, ("this run", "the baseline"), strict=True):
            if values is None:
                return f"{run} does not declare the column {name}"
        return tuple(declared[NOW] or ()), tuple(declared[BEFORE] or ())

    def sample(self, finding: str, condition: str = CLEAN, levels: tuple[str, str] = ("", "")) -> Sample:
        """Margins of both runs at a level of this run and one of the baseline."""
        labels, margins, patients = [], [], []
        for run, level in zip(self.both, levels, strict=True):
            record = run.record
            found = run.scores.margins(condition, level, finding).astype(np.float64)
            if condition == RISES:
                found = without_dust(found, run.scores.clean(finding).astype(np.float64))
            labels.append(record.labels[:, record.plan.model.names.index(finding)])
            margins.append(found)
            patients.append(record.patients)
        if self.order is not None:
            labels[1], margins[1], patients[1] = labels[1][self.order], margins[1][self.order], patients[0]
        else:
            patients[1] = patients[1] + int(patients[0].max()) + 1
        return Sample(
            labels=(labels[0], labels[1]),
            margins=(margins[0], margins[1]),
            patients=(patients[0], patients[1]),
            n_patients=int(patients[1].max()) + 1,
            paired=self.order is not None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """One metric of one finding at one level, in both runs.

    Attributes:
        check: Check id.
        domain: Its family.
        finding: Which finding.
        metric: ``auroc``, ``sensitivity``, ``specificity`` or ``telling``.
        quantity: What got worse, in words; contrasts that share it make one row, and the worst of them decides.
        sample: Margins of both runs, or why there are none.
        level: Which level; None for clean images.
        doubt: Why it may not be believed that nothing was lost, or "".
        note: What the row says whatever comes out, or "".
    """

    check: str
    domain: Domain
    finding: str
    metric: str
    quantity: str
    sample: Sample | str
    level: Level | None = None
    doubt: str = ""
    note: str = ""

    @property
    def group(self) -> tuple[str, str, str]:
        """The row it belongs to."""
        return self.check, self.finding, self.quantity

    @property
    def rises(self) -> bool:
        """Whether a rise of the metric is the harm."""
        return self.check == RISES or self.metric == TELLING


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What can be compared, and what cannot, with the reason."""

    contrasts: Sequence[Contrast] = ()
    not_compared: Sequence[str] = field(default_factory=list)


def clean(runs: Runs) -> Found:
    """The unaltered images: every finding of both runs."""
    names = [run.record.plan.model.names for run in runs.both]
    contrasts = [
        Contrast(
            check=CLEAN_CHECK,
            domain=Domain.CLEAN,
            finding=finding,
            metric=name,
            quantity=f"{NAMES[name]} loss",
            sample=runs.sample(finding),
        )
        for finding in runs.findings
        for name in METRICS
    ]
    apart = sorted({*names[NOW]} ^ {*names[BEFORE]})
    return Found(contrasts=contrasts, not_compared=[f"{name}: a finding of one of the two runs only" for name in apart])


def conditions(runs: Runs) -> Found:
    """Everything that was measured under a condition."""
    here, there = (run.record.measured for run in runs.both)
    contrasts: list[Contrast] = []
    not_compared = []
    checks = {**runs.checks[1], **runs.checks[0]}
    shown = {id for id, check in checks.items() if check.informational}  # listed as such by `others`
    for id in sorted({*here, *there} - shown):
        known = find(id)
        if known is None or not (known.domain in COMPARED or id == RISES):
            not_compared.append(f"{id}: {NOT_A_METRIC}")
        elif id not in there:
            not_compared.append(f"{id}: not measured in the baseline")
        else:
            for finding in runs.findings:
                contrasts += _of_condition(runs, id, known.domain, finding)
            not_compared += _left_out(runs, id, known.domain)
    return Found(contrasts=contrasts, not_compared=not_compared)


def _of_condition(runs: Runs, id: str, domain: str, finding: str) -> list[Contrast]:
    """Every metric at every level of the baseline."""
    before, now = runs.baseline.record.measured[id], runs.current.record.measured.get(id)
    different = "this run did not measure it" if now is None else now.difference(before, here="now", there="baseline")
    made = []
    for level in before.levels:
        if id == RISES and level.name not in FILLS:
            continue  # references of the check, no harm
        twin = now.level_like(level) if now else None
        sample: Sample | str = different or "this run did not measure this level"
        if twin is not None and not different:
            sample = runs.sample(finding, id, (twin.name, level.name))
        made += [
            Contrast(
                check=id,
                domain=Domain(domain),
                finding=finding,
                metric=name,
                quantity=f"{NAMES[name]} without anatomy, rise" if id == RISES else f"{NAMES[name]} loss",
                level=level,
                sample=sample,
                doubt=_doubt(runs.current, id, twin or level, finding),
            )
            for name in _metrics(runs, id, domain, (twin or level, level))
        ]
    return made


def _left_out(runs: Runs, id: str, domain: str) -> list[str]:
    """Levels that are new, and attacked AUROC that only one of the runs has."""
    before, now = runs.baseline.record.measured[id], runs.current.record.measured.get(id)
    if now is None:
        return []
    new = [level for level in now.levels if before.level_like(level) is None]
    said = [f"{id} at {level}: not measured in the baseline" for level in new if id != RISES or level.name in FILLS]
    for level in before.levels if domain == Domain.ADVERSARIAL else ():
        twin = now.level_like(level)
        if twin and len(set(_ranked(runs, id, (twin, level)))) > 1:
            said.append(f"{id} at {level}: AUROC: in one of the runs the search stopped at the flip")
    return said


def _metrics(runs: Runs, id: str, domain: str, levels: tuple[Level, Level]) -> tuple[str, ...]:
    """Which metrics mean something: only a search that went on after the flip ranks the cases."""
    if id == RISES:
        return ("auroc",)
    ranks = domain != Domain.ADVERSARIAL or all(_ranked(runs, id, levels))
    return METRICS if ranks else tuple(name for name in METRICS if name != "auroc")


def _ranked(runs: Runs, id: str, levels: Iterable[Level]) -> list[bool]:
    return [(id, level.name) in run.scores.full_search for run, level in zip(runs.both, levels, strict=True)]


def _doubt(run: FinishedRun, id: str, level: Level, finding: str) -> str:
    """Where gradients are masked an attack finds less, which is no gain of the model."""
    zero = [run.scores.measured(id, "zero_gradient", name, finding) for name in (level.name, "")]
    affected = int((np.stack(zero) > 0).any(axis=0).sum())
    return (
        f"masked gradients on {affected} case(s) of this run, so the attack could not search there" if affected else ""
    )
