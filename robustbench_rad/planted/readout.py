"""What the trials say of the audits: detection, false alarms, how well the statistic parts defects from controls, and b90."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_rad.planted.programme import COMBINED, CONTROLS, Trial
from robustbench_rad.result import Verdict
from robustbench_rad.statistics.proportions import wilson

DETECTED = 0.9
APART = frozenset(control.name for control in CONTROLS if control.shown_apart)
WORST_SHARE, WORST_UPPER, FEWEST_CONTROLS = 0.05, 0.08, 400
HIGHEST_B90 = 0.3


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something was reported, with Wilson's 95 % interval."""

    count: int
    trials: int

    @property
    def share(self) -> float:
        """Of the trials; NaN without any."""
        return self.count / self.trials if self.trials else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval; everything is possible without trials."""
        return wilson(self.share, self.trials) if self.trials else (0.0, 1.0)

    def __str__(self) -> str:
        """Share with its interval in per cent.

        >>> str(Rate(count=9, trials=10))
        '90 % [60, 98]'
        """
        if not self.trials:
            return "–"
        lower, upper = self.interval
        return f"{100 * self.share:.0f} % [{100 * lower:.0f}, {100 * upper:.0f}]"


def rate(trials: Iterable[Trial], audit: str) -> Rate:
    """How often an audit reports a shortcut."""
    told = [trial.reports(audit) for trial in trials]
    return Rate(count=sum(told), trials=len(told))


def false_alarms(trials: Sequence[Trial], audit: str = COMBINED) -> Rate:
    """Reports among the controls that nobody may report."""
    return rate((trial for trial in trials if trial.control and trial.kind not in APART), audit)


def wrong_passes(trials: Sequence[Trial], audit: str = COMBINED) -> Rate:
    """Passes of models without signal, of which nothing can be said."""
    silent = [t for t in trials if t.control and t.kind in ("always the same", "labels permuted")]
    return Rate(count=sum(trial.verdicts[audit] == Verdict.PASS for trial in silent), trials=len(silent))


def b90(trials: Sequence[Trial], audit: str = COMBINED) -> float | None:
    """The least strength from which on nine of ten defects are reported; None: not even the largest that was tried."""
    found = None
    for strength in sorted({trial.strength for trial in trials if not trial.control and trial.strength}, reverse=True):
        if rate((t for t in trials if not t.control and t.strength == strength), audit).share < DETECTED:
            break
        found = strength
    return found


def separation(defects: Sequence[Trial], controls: Sequence[Trial], audit: str) -> float | None:
    """AUROC of the audit's statistic for defect against control; a trial that could not be judged counts as no harm."""
    if not defects or not controls:
        return None
    positive, negative = (np.array([_statistic(trial, audit) for trial in group]) for group in (defects, controls))
    higher = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(higher)


def _statistic(trial: Trial, audit: str) -> float:
    value = trial.statistics.get(audit)
    return 0.0 if value is None else value


def release_bar(trials: Sequence[Trial]) -> dict[str, bool | float | int | None]:
    """Whether the combined judgement may be released: false alarms of all controls, b90 of each mark at n = 1,000, r = 0.7."""
    alarms = false_alarms(trials)
    reference = [t for t in trials if not t.control and t.cases == 1000 and t.association == 0.7]
    limits = {kind: b90([t for t in reference if t.kind == kind]) for kind in sorted({t.kind for t in reference})}
    return {
        "controls": alarms.trials,
        "false_alarms": alarms.count,
        "false_alarm_share": alarms.share,
        "false_alarm_upper": alarms.interval[1],
        "false_alarms_met": alarms.trials >= FEWEST_CONTROLS
        and alarms.share <= WORST_SHARE
        and alarms.interval[1] <= WORST_UPPER,
        **{f"b90 {kind}": limit for kind, limit in limits.items()},
        "b90_met": bool(limits) and all(limit is not None and limit <= HIGHEST_B90 for limit in limits.values()),
    }
