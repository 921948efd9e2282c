"""What metadata adds to a comparison of two runs: groups of patients, scanners, and every check that is not compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robustbench_rad.checks import defaults
from robustbench_rad.checks.attributes import LEAST_CASES, NUISANCE, attribute
from robustbench_rad.checks.attributes import MOST_VALUES as MOST_SCANNERS
from robustbench_rad.checks.metrics import METRICS, NAMES
from robustbench_rad.checks.subgroup import LEAST, MOST_VALUES, SIDES, WORDS, Grouping
from robustbench_rad.conditions import Level
from robustbench_rad.regression_contrasts import CLEAN_CHECK, NOT_A_METRIC, Contrast, Found, Mask, Runs, Texts
from robustbench_rad.regression_loss import TELLING, Floats, Sample, identical
from robustbench_rad.result import Domain

SUBGROUPS = "subgroup.performance"
SCANNERS = "shortcut.scanner-dependence"
RISK = "a risk factor, shown and not judged"


def others(runs: Runs) -> Found:
    """Checks that either run judges or shows and that no other function of this comparison speaks of."""
    checks = {**runs.checks[1], **runs.checks[0]}
    measured = {id for run in runs.both for id in run.record.measured}
    shown = [id for id, check in checks.items() if check.informational]
    judged = [id for id in checks if id not in (*shown, *measured, CLEAN_CHECK, SUBGROUPS, SCANNERS)]
    said = [
        f"{id}: {'not measured in either run' if defaults(id).condition else NOT_A_METRIC}" for id in sorted(judged)
    ]
    line = [f"{', '.join(sorted(shown))}: shown and never judged"] if shown else []
    return Found(not_compared=[*said, *line])


def scanners(runs: Runs) -> Found:
    """How far the score tells each value of a nuisance column within a label; a rise is the harm."""
    if not any(SCANNERS in checks for checks in runs.checks):
        return Found()
    roles = [run.record.plan.data.metadata for run in runs.both]
    columns = dict.fromkeys(name for role in roles for name in role if role[name] == "nuisance")
    if not columns:
        return Found(not_compared=[f"{SCANNERS}: no nuisance column is declared"])
    contrasts: list[Contrast] = []
    not_compared = []
    for name in columns:
        values = runs.column(name)
        reason = values if isinstance(values, str) else _untold(name, values)
        if isinstance(values, str) or reason:
            not_compared.append(f"{SCANNERS} by {name}: {reason}")
            continue
        for finding in runs.findings:
            contrasts += _tellings(runs.sample(finding), finding, name, values)
    return Found(contrasts=contrasts, not_compared=not_compared)


def _tellings(sample: Sample, finding: str, column: str, values: Texts) -> list[Contrast]:
    """Every value with enough cases in both runs against the rest; one that says why when there are none."""
    known = _known(values)
    counts = {value: min(side.count(value) for side in values) for value in known}
    powered = [value for value in known if counts[value] >= LEAST_CASES or identical(sample)]
    small = [f"{value} ({counts[value]} cases, {LEAST_CASES} needed)" for value in known if value not in powered]
    base = Contrast(
        check=SCANNERS,
        domain=defaults(SCANNERS).domain,
        finding=finding,
        metric=TELLING,
        quantity=f"score tells {column}, rise",
        sample=f"not powered: fewer than two values of {column} with {LEAST_CASES} cases in both runs",
        note=_not_powered(small),
    )
    if len(powered) < 2:
        return [base]
    shown = powered[:1] if len(known) == 2 else powered  # of two values, one against the other says it all
    return [
        replace(
            base,
            level=Level(name=f"{column}={value}", value=float(place), unit=""),
            sample=replace(sample, attributes=(_trait(values[0], value), _trait(values[1], value))),
        )
        for place, value in enumerate(shown)
    ]


def _trait(values: tuple[str, ...], value: str) -> Floats:
    return np.array([np.nan if other == "" else float(other == value) for other in values])


def subgroups(runs: Runs) -> Found:
    """Loss of every metric in every group of patients."""
    if not any(SUBGROUPS in checks for checks in runs.checks):
        return Found()
    groupings = _groupings(runs)
    if not groupings:
        return Found(not_compared=[f"{SUBGROUPS}: no metadata column is declared"])
    contrasts: list[Contrast] = []
    not_compared = []
    for columns, judged in groupings.items():
        name = " × ".join(columns)
        values = _crossed(runs, columns) if judged else RISK
        reason = values if isinstance(values, str) else _unfit(values, MOST_VALUES)
        if isinstance(values, str) or reason:
            not_compared.append(f"{SUBGROUPS} by {name}: {reason}")
            continue
        pair = tuple(Grouping(columns=columns, values=side, judged=True) for side in values)
        for finding in runs.findings:
            for metric in METRICS:
                contrasts += _losses(runs.sample(finding), finding, metric, (pair[0], pair[1]))
    return Found(contrasts=contrasts, not_compared=not_compared)


def _groupings(runs: Runs) -> dict[tuple[str, ...], bool]:
    """Columns of every grouping of either run → whether one of the runs judges it."""
    found: dict[tuple[str, ...], bool] = {}
    for run, checks in zip(runs.both, runs.checks, strict=True):
        if SUBGROUPS in checks:
            roles, options = run.record.plan.data.metadata, checks[SUBGROUPS].options
            names = [*((name,) for name in options.get("columns", roles)), *map(tuple, options.get("crossings", ()))]
            for columns in names:
                judged = all(roles[name] != "risk_factor" for name in columns)
                found[columns] = found.get(columns, False) or judged
    return found


def _crossed(runs: Runs, columns: tuple[str, ...]) -> Texts | str:
    """Group of each case in both runs; "" where any of the columns is missing."""
    parts = [runs.column(name) for name in columns]
    for part in parts:
        if isinstance(part, str):
            return part
    sides = [zip(*(part[side] for part in parts), strict=True) for side in (0, 1)]
    now, before = (tuple(" × ".join(row) if all(row) else "" for row in side) for side in sides)
    return now, before


def _losses(sample: Sample, finding: str, metric: str, groupings: tuple[Grouping, Grouping]) -> list[Contrast]:
    """Every group with enough cases in both runs; one that says why when there are none."""
    groups = sorted({*groupings[0].groups, *groupings[1].groups})
    samples = {group: _within(sample, groupings[0].mask(group), groupings[1].mask(group)) for group in groups}
    lacking = {group: "" if identical(samples[group]) else _lacking(samples[group], metric) for group in groups}
    small = [f"{group} ({reason})" for group, reason in lacking.items() if reason]
    name = groupings[0].name
    base = Contrast(
        check=SUBGROUPS,
        domain=Domain.SUBGROUP,
        finding=finding,
        metric=metric,
        quantity=f"{NAMES[metric]} loss, worst value of {name}",
        sample=f"no value of {name} is powered",
        note=_not_powered(small),
    )
    if len(small) == len(groups):
        return [base]
    return [
        replace(base, level=Level(name=f"{name}={group}", value=float(place), unit=""), sample=samples[group])
        for place, group in enumerate(groups)
        if not lacking[group]
    ]


def _within(sample: Sample, *masks: Mask) -> Sample:
    """The sample with the labels of one group only."""
    now, before = (np.where(mask, label, np.nan) for mask, label in zip(masks, sample.labels, strict=True))
    return replace(sample, labels=(now, before))


def _lacking(sample: Sample, metric: str) -> str:
    """What the group has too few of for a metric in either run, in words; "" when it is powered."""
    for side in SIDES[metric]:
        count = min(int((label == side).sum()) for label in sample.labels)
        if count < LEAST:
            return f"{count} {WORDS[side]}, {LEAST} needed"
    return ""


def _known(values: Texts) -> list[str]:
    return sorted({*values[0], *values[1]} - {""})


def _unfit(values: Texts, most: int) -> str:
    """Why a column says nothing of groups, or ""."""
    count = len(_known(values))
    if count < 2:
        return f"{count} known value(s): two are needed"
    return f"{count} values: group them, {most} at most" if count > most else ""


def _untold(name: str, values: Texts) -> str:
    """Why the rise of what the score tells of a scanner column is not compared, or ""."""
    if any(attribute(name, NUISANCE, side).kind == "continuous" for side in values):
        return "a continuous column, judged in each run and not compared"
    return _unfit(values, MOST_SCANNERS)


def _not_powered(small: list[str]) -> str:
    return f"not powered: {', '.join(small)}" if small else ""
