"""What is supposed of each finding before a model has run: the plan's claims, the profile's comparisons and tolerances."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from robustbench_rad.planning import Assumptions, shift_comparisons, shift_tolerance
from robustbench_rad.planning_numbers import Question
from robustbench_rad.profile import effective_profile

if TYPE_CHECKING:
    from robustbench_rad.plan import Plan


def assumptions(question: Question, comparisons: int | None) -> Assumptions:
    """What the numbers given on the command line suppose; where nothing is given, the usual."""
    usual = Assumptions()
    return Assumptions(
        auroc=question.auroc or usual.auroc,
        sensitivity=question.sensitivity or usual.sensitivity,
        correlation=question.correlation,
        gained=question.gained,
        alpha=question.alpha,
        power=question.power,
        comparisons=comparisons or 1,
        icc=question.icc,
        auroc_tolerance=question.drop or usual.auroc_tolerance,
        sensitivity_tolerance=question.drop or usual.sensitivity_tolerance,
    )


def assumptions_of_plan(plan: Plan, question: Question, comparisons: int | None) -> dict[str, Assumptions]:
    """The same with claims, tolerances and comparisons of a plan where the command line gives none.

    Raises:
        PlanError: The profile or a check is not as it must be.
    """
    from robustbench_rad.measured import make_conditions

    profile = effective_profile(plan)
    levels = {condition.id: condition.levels for condition in make_conditions(plan, profile)}
    base = replace(
        assumptions(question, comparisons or shift_comparisons(profile, levels, len(plan.model.names))),
        auroc_tolerance=question.drop or shift_tolerance(profile, "auroc"),
        sensitivity_tolerance=question.drop or shift_tolerance(profile, "sensitivity"),
    )
    return {name: _claimed(plan, name, question, base) for name in plan.model.names}


def _claimed(plan: Plan, name: str, question: Question, base: Assumptions) -> Assumptions:
    claim = plan.claims.get(name)
    auroc = claim.auroc if claim and question.auroc is None else None
    sensitivity = claim.sensitivity if claim and question.sensitivity is None else None
    # At an AUROC of 1 the formulas have no variance.
    return replace(base, auroc=min(auroc or base.auroc, 0.99), sensitivity=sensitivity or base.sensitivity)
