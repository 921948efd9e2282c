"""The limit of detection of the shortcut audits, from a marker implanted into these very images.

A finding without a shortcut is a finding in which none was seen. How strong it would have to be to be seen depends on the
number of cases; it is measured here with the audits themselves, and where only a strong one would be seen, no audit passes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks import defaults
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.implanted import Implanted, implanted
from robustbench_rad.criteria import Judged
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, Table, Verdict
from robustbench_rad.shortcuts.spike_and_recovery import CLEAN, SEEN, SpikeAndRecovery, vector_name
from robustbench_rad.statistics.proportions import wilson

SHARE = 0.9
BESIDE = ("shortcut.scanner-dependence", "shortcut.within-attribute")
"""Audits of the score and the metadata: judged as matters of robustness, for no image was altered to confirm a shortcut."""
AT_ONCE = "any shortcut audit"
NO_SHORTCUT_FOUND = "no shortcut found means little here"


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the limit of detection of every audit and finding, and doubt the passes of findings where it is too high."""
    spike = SpikeAndRecovery.from_options(check.options)
    if not context.vectors(check.id, vector_name(CLEAN, "", SEEN)).size:
        return CheckOutcome(judged=[], notices=[f"{check.id}: not assessable: no image could be marked"])
    audits = [spec for spec in context.checks if _may_report(spec)]
    others = [spec for spec in audits if spec.id not in (*spike.audits, *BESIDE)]
    tried = [spec for spec in audits if spec.id in (*spike.audits, *BESIDE)]
    found = [
        Recovery(context=context, check=check.id, spike=spike, audits=tried, untried=others, finding=name)
        for name in context.findings
    ]
    return CheckOutcome(
        judged=[],
        tables=[_table(check, found)],
        notices=[recovery.sentence for recovery in found],
        doubts={(Domain.SHORTCUT, recovery.finding): recovery.doubt for recovery in found if recovery.doubt},
    )


def _may_report(spec: CheckSpec) -> bool:
    """Audits whose verdict the marker may change."""
    judged = spec.enabled and not spec.informational
    return judged and (spec.domain is Domain.SHORTCUT or spec.id in BESIDE)


def criteria(context: JudgeContext, spec: CheckSpec) -> list[Judged]:
    """Criteria of an audit; without what only its tables show, where its module makes that apart."""
    module = importlib.import_module(defaults(spec.id).judge)
    if hasattr(module, "criteria"):
        return list(module.criteria(context, spec))
    return list(module.judge(context, spec).judged)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How often each audit reports the marker for one finding.

    Attributes:
        context: Scores of the audit.
        check: Id of this check.
        spike: Its options.
        audits: The audits that are asked.
        untried: Judged audits of which no image is made with the marker, as those that lay in objects of their own.
        finding: Which finding.
    """

    context: JudgeContext
    check: str
    spike: SpikeAndRecovery
    audits: list[CheckSpec]
    untried: list[CheckSpec] = field(default_factory=list)
    finding: str

    @cached_property
    def reported(self) -> Mapping[float, NDArray[np.bool_]]:
        """Strength → ``(draws, audits)`` whether the audit fails the implanted model."""
        return {strength: np.array([*self._draws(strength)], dtype=np.bool_) for strength in self.spike.strengths}

    def _draws(self, strength: float) -> Iterable[list[bool]]:
        for marked in self._dealt:
            world = implanted(self.context, marked, strength)
            yield [
                any(item.criterion.verdict is Verdict.FAIL for item in criteria(world, spec)) for spec in self.audits
            ]

    @cached_property
    def _dealt(self) -> list[Implanted]:
        """Who carries the marker, draw by draw; the same for all strengths."""
        return [
            Implanted.dealt(self.context, self.check, self.finding, association=self.spike.association, draw=draw)
            for draw in range(self.spike.draws)
        ]

    @cached_property
    def already(self) -> bool:
        """Whether a shortcut is found without any marker."""
        own = replace(self.context, findings=(self.finding,), labels=self.context.label(self.finding)[:, None])
        shortcuts = [spec for spec in (*self.audits, *self.untried) if spec.domain is Domain.SHORTCUT]
        judged = (item.criterion for spec in shortcuts for item in criteria(own, spec))
        return any(criterion.verdict is Verdict.FAIL for criterion in judged)

    def shares(self, strength: float) -> Mapping[str, tuple[int, int]]:
        """Audit → draws in which it reports the marker, of how many; and all shortcut audits together."""
        told = self.reported[strength]
        counts = {spec.id: int(told[:, place].sum()) for place, spec in enumerate(self.audits)}
        counts[AT_ONCE] = int(told[:, [spec.domain is Domain.SHORTCUT for spec in self.audits]].any(axis=1).sum())
        return {name: (count, len(told)) for name, count in counts.items()}

    def limit(self, audit: str) -> float | None:
        """The least strength from which on nine of ten draws are reported; None: not even the largest."""
        found = None
        for strength in reversed(self.spike.strengths):
            count, draws = self.shares(strength)[audit]
            if count < SHARE * draws:
                break
            found = strength
        return found

    @property
    def doubt(self) -> str:
        """Why no shortcut audit of this finding may pass; "" when they would see a marker of the demanded strength."""
        limit = self.limit(AT_ONCE)
        if self.already or (limit is not None and limit <= self.spike.highest_limit):
            return ""
        strongest = f"is not even seen at {self.spike.strengths[-1]:g} SD of the margin"
        seen = strongest if limit is None else f"is only seen from {limit:g} SD of the margin on"
        return (
            f"{NO_SHORTCUT_FOUND}: an implanted marker {seen} at this number of cases, "
            f"{self.spike.highest_limit:g} SD is demanded; more cases lower that limit"
        )

    @property
    def sentence(self) -> str:
        """What the limit of detection is, in words."""
        limit = self.limit(AT_ONCE)
        if self.already:
            return f"{self.finding}: a shortcut is found as it is, so the limit of detection is of no matter."
        if limit is None:
            strongest = self.spike.strengths[-1]
            return (
                f"{self.finding}: a marker worth {strongest:g} SD of the margin would not be found among these cases."
            )
        return f"{self.finding}: a marker worth {limit:g} SD of the margin or more would be found among these cases."


def _table(check: CheckSpec, found: list[Recovery]) -> Table:
    spike = found[0].spike
    names = [*(spec.id for spec in found[0].audits), AT_ONCE]
    untried = ", ".join(spec.id for spec in found[0].untried)
    apart = f" Not tried, for no image of theirs is made with the marker: {untried}." if untried else ""
    return Table(
        check=check.id,
        domain=check.domain,
        title="The weakest marker that each audit would report here",
        columns=["finding", "audit", "from (SD)", *(f"{strength:g} SD" for strength in spike.strengths)],
        rows=[_row(recovery, name) for recovery in found for name in names],
        note=f"A chequerboard in the upper left corner of {spike.association:.0%} of the positive and "
        f"{1 - spike.association:.0%} of the negative cases, worth so many SD of the margin, dealt out {spike.draws} times; "
        "in how many of them the audit fails the implanted model, with the 95 % interval of that share. The limit is the least "
        f"strength from which on nine of ten are reported. {AT_ONCE}: one of them; a score that depends on the scanner "
        f"alone is no shortcut, and does not count there.{apart}",
    )


def _row(recovery: Recovery, name: str) -> list[str | float | int | None]:
    limit, strengths = recovery.limit(name), recovery.spike.strengths
    shown = f"not even {strengths[-1]:g}" if limit is None else f"{limit:g}"
    return [recovery.finding, name, shown, *(_share(*recovery.shares(strength)[name]) for strength in strengths)]


def _share(count: int, draws: int) -> str:
    """How often, with Wilson's interval.

    >>> _share(9, 10)
    '9 of 10 (60-98 %)'
    """
    lower, upper = wilson(count / draws, draws)
    return f"{count} of {draws} ({100 * lower:.0f}-{100 * upper:.0f} %)"
