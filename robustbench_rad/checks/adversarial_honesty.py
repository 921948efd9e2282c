"""May the answer of an attack be believed? Every reason why surviving it may mean nothing, with its number.

A verified flip is always believable, so nothing here touches a failure. A pass is believed only as far as the search was
able to find something: where a row trips, passes become inconclusive, as *not trustworthy* (the search was misled) or *not
assessable* (it had nothing to follow). Rows come from three places: the sample measured by ``attack.diagnostics``, the
comparison of the attacks with each other, and the positive control that every attack solves before the run.

References:
    Carlini et al. 2019, arXiv:1902.06705 (what an evaluation must show); Pintor et al. 2022, arXiv:2106.09947 (six
    indicators of failure).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robustbench_rad.checks import adversarial_compared as compared
from robustbench_rad.checks import adversarial_sampled as sampled
from robustbench_rad.checks.adversarial_evidence import (
    DIAGNOSTICS,
    REPEATABLE,
    Cases,
    Found,
    State,
    attacks_run,
    follows_gradient,
)
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, Table

TITLE = "May the answer be believed?"
Assess = Callable[[Cases], Found]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row of the table.

    Attributes:
        name: What is looked at.
        trips_when: The limit, in words.
        assess: Makes the row.
        carlini: Item of Carlini et al. that it answers.
        pintor: Indicator of Pintor et al. that it answers; "" for none.
        doubt: ``not trustworthy`` or ``not assessable``.
        gradient_only: It concerns only attacks that follow a gradient.
        longer_search: It asks whether a longer or another search finds more; answered for an attack that already found
            everything which those searches found.
        compares: It compares attacks, and concerns only those that were beaten.
    """

    name: str
    trips_when: str
    assess: Assess
    carlini: str
    pintor: str = ""
    doubt: str = "not trustworthy"
    gradient_only: bool = False
    longer_search: bool = False
    compares: bool = False


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show every row; nothing is judged here, but what trips is held against the passes of the attacks."""
    return CheckOutcome(judged=[], tables=[table(context, check.id, check.domain)])


def untold(context: JudgeContext) -> list[Table]:
    """The table of an audit that ran attacks without the diagnostics, which would show it; it is about all of them."""
    attacks = attacks_run(context)
    return [table(context, DIAGNOSTICS, Domain.ADVERSARIAL)] if attacks and DIAGNOSTICS not in context.levels else []


def table(context: JudgeContext, check: str, domain: Domain) -> Table:
    """Every row, the worst over findings; what trips comes first, what was not measured last."""
    rows: list[list[str | float | int | None]] = []
    for rule in RULES:
        found = [(finding, rule.assess(Cases(context=context, finding=finding))) for finding in context.findings]
        worst = max(found, key=lambda pair: _RANK[pair[1].state])
        several = len({item.measured for _, item in found}) > 1
        measured = f"{worst[0]}: {worst[1].measured}" if several else worst[1].measured
        rows.append([rule.name, str(worst[1].state), measured, rule.trips_when, rule.carlini, rule.pintor or "-"])
    order = [str(state) for state in (State.TRIPS, State.INFO, State.OK, State.NOT_MEASURED)]
    rows.sort(key=lambda row: order.index(str(row[1])))
    columns = ["check", "state", "measured", "trips when", "Carlini et al. 2019", "Pintor et al. 2022"]
    note = (
        "A flip is verified and always counts. What trips makes passes inconclusive. Where findings differ, the worst is "
        "shown. Not measured: add attack.diagnostics to the profile, or the attacks that the row compares."
    )
    return Table(check=check, domain=domain, title=TITLE, columns=columns, rows=rows, note=note)


_RANK = {State.NOT_MEASURED: 0, State.OK: 1, State.INFO: 2, State.TRIPS: 3}


def doubts(context: JudgeContext, check: str, level: Level, finding: str, side: float) -> list[str]:
    """Why a pass of one attack at one level may not be believed, for the calls of one label.

    Args:
        context: The scores.
        check: Id of the attack.
        level: Its level.
        finding: Which finding.
        side: 1 for calls that may be hidden, 0 for calls that may be created.
    """
    cases = Cases(context=context, finding=finding, side=side)
    answered = follows_gradient(check) and compared.missed(cases, check, level) == 0
    found = [
        (rule, rule.assess(cases))
        for rule in RULES
        if not rule.compares
        and (not rule.gradient_only or follows_gradient(check))
        and not (rule.longer_search and answered)
    ]
    said = [f"{rule.doubt}: {rule.name}: {item.measured}" for rule, item in found if item.state is State.TRIPS]
    return [*said, *compared.beaten_by(cases, check, level)]


RULES: tuple[Rule, ...] = (
    Rule(
        name="zero gradient",
        trips_when="on any sampled call",
        assess=sampled.zero_gradient,
        carlini="gradient masking: gradients must exist",
        pintor="unavailable gradients",
    ),
    Rule(
        name="saturation",
        trips_when="|z| beyond 16 (8 in float16, 6 in bfloat16, 12 from probabilities) on more than 5 % of the calls",
        assess=sampled.saturation,
        carlini="gradient masking: loss must not saturate",
        pintor="unavailable gradients",
    ),
    Rule(
        name="loss disagreement",
        trips_when="cross-entropy beats the margin by more than 1 point (the reverse is information)",
        assess=sampled.loss_disagreement,
        carlini="try several losses",
        pintor="non-adaptive attack (transfer failure)",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="temperature law",
        trips_when="any answer changes",
        assess=sampled.temperature,
        carlini="results must not depend on what is irrelevant",
        pintor="unavailable gradients",
        gradient_only=True,
    ),
    Rule(
        name="gradient truth",
        trips_when="sign wrong in more than 5 %",
        assess=sampled.gradient_truth,
        carlini="gradient masking: non-differentiable parts need BPDA",
        pintor="unavailable gradients",
        gradient_only=True,
    ),
    Rule(
        name="unbounded control",
        trips_when="below 99 % flips",
        assess=sampled.unbounded_control,
        carlini="attacks of unbounded size must reach 100 %",
        pintor="unconstrained attack failure",
    ),
    Rule(
        name="convergence",
        trips_when="more than 5 % of the fall in the last 10 steps, or twice the steps add more than 1 point",
        assess=sampled.convergence,
        carlini="verify that attacks have converged",
        pintor="incomplete optimisation",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="restarts",
        trips_when="a second start adds more than 1 point",
        assess=sampled.restarts,
        carlini="use several random starts",
        pintor="incomplete optimisation",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="black beats white",
        trips_when="0.2 % or more of the calls that survived white-box attacks",
        assess=compared.black_beats_white,
        carlini="gradient-free and transfer attacks must not do better",
        pintor="transfer failure",
        compares=True,
    ),
    Rule(
        name="single beats iterative",
        trips_when="any call",
        assess=compared.single_beats_iterative,
        carlini="iterative attacks must beat single-step ones",
        pintor="incomplete optimisation",
        compares=True,
    ),
    Rule(
        name="ε monotonicity",
        trips_when="more flips lost than gained, beyond chance (95 %)",
        assess=compared.monotonicity,
        carlini="a larger budget must flip more",
        pintor="incomplete optimisation",
    ),
    Rule(
        name="ruggedness",
        trips_when="more than 10 % of what the attack has to bridge",
        assess=sampled.ruggedness,
        carlini="gradient masking: shattered gradients",
        pintor="unstable predictions",
        gradient_only=True,
    ),
    Rule(
        name="stochastic forward",
        trips_when=f"more than {REPEATABLE:g} of the margin",
        assess=sampled.stochastic,
        carlini="randomised models need expectation over transformation",
        pintor="unstable predictions",
    ),
    Rule(
        name="graph break",
        trips_when="on any sampled call",
        assess=sampled.graph_break,
        carlini="non-differentiable parts need BPDA",
        pintor="unavailable gradients",
        doubt="not assessable",
    ),
    Rule(
        name="positive control",
        trips_when="an attack does not solve a planted linear model to its known answer",
        assess=compared.positive_control,
        carlini="sanity tests of the attack itself",
        pintor="silent success",
        compares=True,
    ),
    Rule(
        name="state hash",
        trips_when="anything changed",
        assess=sampled.state_hash,
        carlini="evaluate the model as it is deployed",
    ),
    Rule(
        name="tie",
        trips_when="more than 1 point of attacked margins within the noise: neither flips nor survivors",
        assess=compared.tied_margins,
        carlini="report what was counted",
        pintor="silent success",
    ),
    Rule(
        name="precision",
        trips_when="any flip does not stand",
        assess=sampled.precision,
        carlini="verify every adversarial example on the model itself",
        pintor="silent success",
    ),
)
