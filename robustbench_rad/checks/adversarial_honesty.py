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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, Table

DIAGNOSTICS = "attack.diagnostics"
TITLE = "May the answer be believed?"
SENTINEL = "attack sentinel"
OTHER_GOALS = ("attack.clinical-goals", DIAGNOSTICS)  # their margins are no plain flips, or there are none
WITHOUT_GRADIENT = (
    "noise",
    "square",
    "pixel",
    "boundary",
    "label",
    "transfer",
    "spatial",
    "marker",
    "universal",
    "shift",
    "acquisition",
)

PROBABILITY_LIMIT = 12.0  # float32 probabilities near 1 resolve log-odds there to 0.01, and beyond 16.6 not at all
FEW = 0.05  # share of the sample that may be saturated, or of directions that may disagree
ADDS = 0.01  # one point
RUGGED = 0.10
REPEATABLE = 1e-4
BLACK = 0.002
CONTROL = 0.99
SAME = 1e-6  # relative: sizes are kept in float32

Mask = NDArray[np.bool_]


class State(StrEnum):
    """What a row says."""

    OK = "ok"
    INFO = "info"
    TRIPS = "trips"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one row found, for some findings and directions."""

    state: State
    measured: str


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What rows look at: one finding, in one direction or both.

    Attributes:
        context: The scores.
        finding: Which finding.
        side: Label whose correct calls are looked at; None: both.
    """

    context: JudgeContext
    finding: str
    side: float | None = None

    @property
    def right(self) -> Mask:
        """Cases whose clean call is right."""
        label, clean = self.context.label(self.finding), self.context.clean(self.finding)
        right = ((label == 1) & (clean >= 0)) | ((label == 0) & (clean < 0))
        kept: Mask = right if self.side is None else right & (label == self.side)
        return kept

    def sample(self, name: str) -> Floats:
        """A measurement of the diagnostics on the cases looked at, without those not measured."""
        values = self.context.measured(DIAGNOSTICS, name, finding=self.finding)[self.right]
        return values[~np.isnan(values)]

    def fact(self, name: str) -> float:
        """What the diagnostics say of the model; NaN where they did not run."""
        values = self.context.measured(DIAGNOSTICS, name)
        return float(np.nanmax(values)) if not np.isnan(values).all() else float("nan")

    def flipped(self, attack: str, level: Level) -> Mask:
        """Correct calls that an attack flipped."""
        margins, label = self.context.margins(attack, level.name, self.finding), self.context.label(self.finding)
        beyond = np.abs(margins) > self.noise
        flipped: Mask = self.right & np.isfinite(margins) & beyond & np.where(label == 1, margins < 0, margins >= 0)
        return flipped

    def survived(self, attack: str, level: Level) -> Mask:
        """Correct calls that an attack left standing."""
        margins, label = self.context.margins(attack, level.name, self.finding), self.context.label(self.finding)
        survived: Mask = self.right & np.isfinite(margins) & np.where(label == 1, margins >= 0, margins < 0)
        return survived

    @property
    def noise(self) -> float:
        """Largest numeric noise of a margin; 0 where it was not measured, or the model does not repeat itself."""
        noise = self.context.measured(DIAGNOSTICS, "numeric_noise", finding=self.finding)
        repeats = self.context.measured(DIAGNOSTICS, "repeat_difference", finding=self.finding)
        if np.isnan(noise).all() or np.nanmax(repeats) > REPEATABLE:
            return 0.0
        return float(np.nanmax(noise))


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
    """The table of an audit that ran attacks without the diagnostics, which would show it; beside the first attack."""
    attacks = _attacks(context)
    return [table(context, attacks[0], Domain.ADVERSARIAL)] if attacks and DIAGNOSTICS not in context.levels else []


def table(context: JudgeContext, check: str, domain: Domain) -> Table:
    """Every row, the worst over findings."""
    rows: list[list[str | float | int | None]] = []
    for rule in RULES:
        found = [(finding, rule.assess(Cases(context=context, finding=finding))) for finding in context.findings]
        worst = max(found, key=lambda pair: _RANK[pair[1].state])
        several = len({item.measured for _, item in found}) > 1
        measured = f"{worst[0]}: {worst[1].measured}" if several else worst[1].measured
        rows.append([rule.name, str(worst[1].state), measured, rule.trips_when, rule.carlini, rule.pintor or "-"])
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
    answered = follows_gradient(check) and _missed(cases, check, level) == 0
    found = [
        (rule, rule.assess(cases))
        for rule in RULES
        if not rule.compares
        and (not rule.gradient_only or follows_gradient(check))
        and not (rule.longer_search and answered)
    ]
    said = [f"{rule.doubt}: {rule.name}: {item.measured}" for rule, item in found if item.state is State.TRIPS]
    return [*said, *_against(cases, check, level)]


def follows_gradient(check: str) -> bool:
    """Whether an attack follows the gradient of each case, by its id."""
    return check != DIAGNOSTICS and not any(word in check for word in WITHOUT_GRADIENT)


def _attacks(context: JudgeContext) -> list[str]:
    """Attacks that were run, with levels."""
    return [
        id for id, levels in context.levels.items() if id.startswith("attack.") and levels and id not in OTHER_GOALS
    ]


def _kind(level: Level) -> str:
    """Levels of one kind can be compared; physical units are written behind those of the range."""
    return "linf" if level.unit.startswith(("of display range", "of range")) else level.unit


def _pairs(
    context: JudgeContext, stronger: Sequence[str], weaker: Sequence[str]
) -> Iterator[tuple[str, Level, str, Level]]:
    """Attacks with a level each, where the first may do all that the second may."""
    for strong in stronger:
        for large in context.levels[strong]:
            for weak in weaker:
                for small in context.levels[weak]:
                    if _kind(large) == _kind(small) and small.value <= large.value * (1 + SAME):
                        yield strong, large, weak, small


def _against(cases: Cases, check: str, level: Level) -> list[str]:
    """What other searches flipped that this attack, allowed as much or more, left standing."""
    survived = cases.survived(check, level)
    said = []
    if follows_gradient(check) and survived.any():
        others = [id for id in _attacks(cases.context) if not follows_gradient(id) or id == "attack.fgsm"]
        for _, _, weak, small in _pairs(cases.context, [check], [id for id in others if id != check]):
            if small.value > level.value * (1 + SAME):
                continue
            beaten = int((survived & cases.flipped(weak, small)).sum())
            if beaten and beaten >= BLACK * survived.sum():
                said.append(
                    f"not trustworthy: {weak} flipped {beaten} of {int(survived.sum())} calls that it left standing"
                )
    missed = _missed(cases, check, level) or 0
    if missed and follows_gradient(check):
        said.append(f"not trustworthy: the descents of the diagnostics flipped {missed} calls that it left standing")
    return list(dict.fromkeys(said))


def _missed(cases: Cases, check: str, level: Level) -> int | None:
    """Calls that the descents of the diagnostics flipped and an attack left standing; None where it may do less than they."""
    epsilon = cases.fact("epsilon")
    if _kind(level) != "linf" or not epsilon <= level.value * (1 + SAME):
        return None
    watched = np.zeros(len(cases.right), dtype=bool)
    for name in ("flipped", "flipped_twice_the_steps", "flipped_second_start", "flipped_cross_entropy"):
        watched |= cases.context.measured(DIAGNOSTICS, name, finding=cases.finding) > 0
    return int((watched & cases.survived(check, level)).sum())


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _nothing(values: Floats) -> Found | None:
    return None if len(values) else Found(state=State.NOT_MEASURED, measured="")


def _trips(condition: bool, measured: str) -> Found:
    return Found(state=State.TRIPS if condition else State.OK, measured=measured)


def _adds(extra: int, of: int) -> bool:
    """More than one point, and more than one case: a single call on the boundary is no finding."""
    return extra > 1 and extra > ADDS * of


def _zero_gradient(cases: Cases) -> Found:
    zero = cases.sample("zero_gradient")
    count = int((zero > 0).sum())
    return _nothing(zero) or _trips(count > 0, f"exactly 0 or not a number on {count} of {len(zero)} sampled calls")


def _saturation(cases: Cases) -> Found:
    z = np.abs(cases.sample("log_odds"))
    if not len(z):
        return Found(state=State.NOT_MEASURED, measured="")
    probabilities = cases.fact("probabilities_only") > 0
    limit = PROBABILITY_LIMIT if probabilities else cases.fact("saturation_limit")
    share = float((z > limit).mean())
    said = f"{_percent(share)} of {len(z)} sampled calls beyond |z| = {limit:g}, largest {z.max():.3g}"
    if probabilities:
        said += "; precision-limited: the model gives probabilities only"
    state = State.TRIPS if share > FEW else (State.INFO if probabilities or share > 0 else State.OK)
    return Found(state=state, measured=said)


def _loss(cases: Cases) -> Found:
    margin, entropy = cases.sample("flipped") > 0, cases.sample("flipped_cross_entropy") > 0
    if not len(margin):
        return Found(state=State.NOT_MEASURED, measured="")
    more, fewer = int((entropy & ~margin).sum()), int((margin & ~entropy).sum())
    said = f"of {len(margin)}, cross-entropy alone flips {more}, the margin alone {fewer}"
    if _adds(more, len(margin)):
        return Found(state=State.TRIPS, measured=said)
    return Found(state=State.INFO if fewer > 2 * ADDS * len(margin) else State.OK, measured=said)


def _temperature(cases: Cases) -> Found:
    changed = cases.sample("temperature_changed")
    count = int((changed > 0).sum())
    return _nothing(changed) or _trips(
        count > 0, f"{count} of {len(changed)} answers change when margins are scaled by 0.01 or 100"
    )


def _truth(cases: Cases) -> Found:
    truth = cases.sample("gradient_truth")
    if not len(truth):
        return Found(state=State.NOT_MEASURED, measured="")
    wrong = float(1 - truth.mean())
    said = f"sign wrong in {_percent(wrong)} of the directions at {len(truth)} originals"
    if cases.fact("defended") > 0:
        return Found(state=State.INFO, measured=f"{said}; attacks pass straight through the declared defences")
    return _trips(wrong > FEW, said)


def _control(cases: Cases) -> Found:
    escaped = cases.sample("flipped_whole_box")
    if not len(escaped):
        return Found(state=State.NOT_MEASURED, measured="")
    share = float(escaped.mean())
    return _trips(share < CONTROL, f"{_percent(share)} of {len(escaped)} sampled calls flip in the whole box")


def _convergence(cases: Cases) -> Found:
    first, longer = cases.sample("flipped") > 0, cases.sample("flipped_twice_the_steps") > 0
    if not len(first):
        return Found(state=State.NOT_MEASURED, measured="")
    late = cases.sample("late_gain")
    gained, extra = float(late.mean()) if len(late) else 0.0, int((longer & ~first).sum())
    said = f"{_percent(gained)} of the fall in the last 10 steps; twice the steps flip {extra} of {len(first)} more"
    return _trips(gained > FEW or _adds(extra, len(first)), said)


def _restarts(cases: Cases) -> Found:
    first, second = cases.sample("flipped") > 0, cases.sample("flipped_second_start") > 0
    extra = int((second & ~first).sum())
    return _nothing(cases.sample("flipped")) or _trips(
        _adds(extra, len(first)), f"a second start flips {extra} of {len(first)} more"
    )


def _ruggedness(cases: Cases) -> Found:
    rugged = cases.sample("ruggedness")
    if not len(rugged):
        return Found(state=State.NOT_MEASURED, measured="")
    mean = float(rugged.mean())
    return _trips(mean > RUGGED, f"noise of 0.001 of the range moves the margin by {_percent(mean)} on average")


def _stochastic(cases: Cases) -> Found:
    repeats = cases.sample("repeat_difference")
    if not len(repeats):
        return Found(state=State.NOT_MEASURED, measured="")
    return _trips(float(repeats.max()) > REPEATABLE, f"five repeats differ by up to {repeats.max():.2g} of the margin")


def _graph(cases: Cases) -> Found:
    cut = cases.sample("graph_cut")
    count = int((cut > 0).sum())
    said = f"on {count} of {len(cut)} sampled calls the margin changes with the image, and the gradient knows nothing of it"
    return _nothing(cut) or _trips(count > 0, said if count else f"whole at {len(cut)} sampled calls")


def _sentinel(cases: Cases) -> Found:
    items = [item for item in cases.context.preflight if item.name.startswith(SENTINEL)]
    if not items:
        return Found(state=State.NOT_MEASURED, measured="")
    wrong = [item.detail for item in items if item.status == "error"]
    return _trips(bool(wrong), " ".join(wrong) or " ".join(item.detail for item in items))


def _state(cases: Cases) -> Found:
    facts = ("parameters or buffers", "gradients", "modes", "random state", "tracer")
    known = {name: cases.fact(f"changed {name}") for name in facts}
    if all(np.isnan(value) for value in known.values()):
        return Found(state=State.NOT_MEASURED, measured="")
    changed = [name for name, value in known.items() if value > 0]
    return _trips(bool(changed), f"changed: {', '.join(changed)}" if changed else f"unchanged: {', '.join(facts)}")


def _ties(cases: Cases) -> Found:
    noise = cases.sample("numeric_noise")
    if not len(noise):
        return Found(state=State.NOT_MEASURED, measured="")
    count = sum(
        int(ties(cases, id, level).sum()) for id in _attacks(cases.context) for level in cases.context.levels[id]
    )
    said = f"{count} attacked margins within the numeric noise of {noise.max():.2g}, counted as no flips"
    if _adds(count, int(cases.right.sum())):
        return Found(state=State.TRIPS, measured=said)
    return Found(state=State.INFO if count else State.OK, measured=said)


def ties(cases: Cases, attack: str, level: Level) -> Mask:
    """Attacked calls whose margin is within the numeric noise: neither flipped nor survived."""
    margins = np.abs(cases.context.margins(attack, level.name, cases.finding))
    tied: Mask = cases.right & (margins <= cases.noise) & (cases.noise > 0)
    return tied


def _precision(cases: Cases) -> Found:
    again, flipped = cases.sample("reverified"), cases.sample("flipped")
    if not len(flipped):
        return Found(state=State.NOT_MEASURED, measured="")
    fallen, left = int((again == 0).sum()), int((flipped == 0).sum())
    stand = f"{len(again) - fallen} of {len(again)} sampled flips stand when asked alone in float32"
    return _trips(fallen > 0, f"{stand}; all {left} sampled survivors were attacked again")


def _black(cases: Cases) -> Found:
    context, attacks = cases.context, _attacks(cases.context)
    white, black = [id for id in attacks if follows_gradient(id)], [id for id in attacks if not follows_gradient(id)]
    worst, said = State.NOT_MEASURED, ""
    for weak in black:
        for small in context.levels[weak]:
            allowed = [(strong, large) for strong, large, _, other in _pairs(context, white, [weak]) if other == small]
            if not allowed:
                continue
            survived = np.logical_and.reduce([cases.survived(strong, large) for strong, large in allowed])
            beaten = int((survived & cases.flipped(weak, small)).sum())
            trips = bool(beaten) and beaten >= BLACK * survived.sum()
            if trips or worst is State.NOT_MEASURED:
                worst = State.TRIPS if trips else State.OK
                said = (
                    f"{weak} at {small.name} flips {beaten} of {int(survived.sum())} calls that white-box attacks left"
                )
    return Found(state=worst, measured=said)


def _single(cases: Cases) -> Found:
    context, attacks = cases.context, _attacks(cases.context)
    iterative = [id for id in attacks if follows_gradient(id) and id != "attack.fgsm"]
    pairs = list(_pairs(context, iterative, ["attack.fgsm"] if "attack.fgsm" in attacks else []))
    if not pairs:
        return Found(state=State.NOT_MEASURED, measured="")
    beaten = {
        f"{strong} at {large.name}": int((cases.survived(strong, large) & cases.flipped(weak, small)).sum())
        for strong, large, weak, small in pairs
    }
    name, count = max(beaten.items(), key=lambda item: item[1])
    return _trips(count > 0, f"attack.fgsm flips {count} calls that {name} left standing")


def _monotonic(cases: Cases) -> Found:
    steps = [
        (id, low, high)
        for id in _attacks(cases.context)
        for low, high in zip(cases.context.levels[id], cases.context.levels[id][1:], strict=False)
    ]
    if not steps:
        return Found(state=State.NOT_MEASURED, measured="")
    broken = []
    for id, low, high in steps:
        lost = int((cases.flipped(id, low) & cases.survived(id, high)).sum())
        gained = int((cases.survived(id, low) & cases.flipped(id, high)).sum())
        if lost - gained > 1.96 * np.sqrt(lost + gained):
            broken.append(f"{id}: {lost} flips at {low.name} are gone at {high.name}, {gained} are new")
    return _trips(
        bool(broken), "; ".join(broken) or f"{len(steps)} steps of the ladders never lose more flips than chance"
    )


RULES: tuple[Rule, ...] = (
    Rule(
        name="zero gradient",
        trips_when="on any sampled call",
        assess=_zero_gradient,
        carlini="gradient masking: gradients must exist",
        pintor="unavailable gradients",
    ),
    Rule(
        name="saturation",
        trips_when=f"|z| beyond 16 (float32; 8 float16, 6 bfloat16; {PROBABILITY_LIMIT:g} from probabilities) on more than 5 %",
        assess=_saturation,
        carlini="gradient masking: loss must not saturate",
        pintor="unavailable gradients",
    ),
    Rule(
        name="loss disagreement",
        trips_when="cross-entropy beats the margin by more than 1 point (the reverse is information)",
        assess=_loss,
        carlini="try several losses",
        pintor="non-adaptive attack (transfer failure)",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="temperature law",
        trips_when="any answer changes",
        assess=_temperature,
        carlini="results must not depend on what is irrelevant",
        pintor="unavailable gradients",
        gradient_only=True,
    ),
    Rule(
        name="gradient truth",
        trips_when="sign wrong in more than 5 %",
        assess=_truth,
        carlini="gradient masking: non-differentiable parts need BPDA",
        pintor="unavailable gradients",
        gradient_only=True,
    ),
    Rule(
        name="unbounded control",
        trips_when="below 99 % flips",
        assess=_control,
        carlini="attacks of unbounded size must reach 100 %",
        pintor="unconstrained attack failure",
    ),
    Rule(
        name="convergence",
        trips_when="more than 5 % of the fall in the last 10 steps, or twice the steps add more than 1 point",
        assess=_convergence,
        carlini="verify that attacks have converged",
        pintor="incomplete optimisation",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="restarts",
        trips_when="a second start adds more than 1 point",
        assess=_restarts,
        carlini="use several random starts",
        pintor="incomplete optimisation",
        gradient_only=True,
        longer_search=True,
    ),
    Rule(
        name="black beats white",
        trips_when="0.2 % or more of the calls that survived white-box attacks",
        assess=_black,
        carlini="gradient-free and transfer attacks must not do better",
        pintor="transfer failure",
        compares=True,
    ),
    Rule(
        name="single beats iterative",
        trips_when="any call",
        assess=_single,
        carlini="iterative attacks must beat single-step ones",
        pintor="incomplete optimisation",
        compares=True,
    ),
    Rule(
        name="ε monotonicity",
        trips_when="more flips lost than gained, beyond chance (95 %)",
        assess=_monotonic,
        carlini="a larger budget must flip more",
        pintor="incomplete optimisation",
    ),
    Rule(
        name="ruggedness",
        trips_when="more than 10 % of what the attack has to bridge",
        assess=_ruggedness,
        carlini="gradient masking: shattered gradients",
        pintor="unstable predictions",
        gradient_only=True,
    ),
    Rule(
        name="stochastic forward",
        trips_when=f"more than {REPEATABLE:g} of the margin",
        assess=_stochastic,
        carlini="randomised models need expectation over transformation",
        pintor="unstable predictions",
    ),
    Rule(
        name="graph break",
        trips_when="on any sampled call",
        assess=_graph,
        carlini="non-differentiable parts need BPDA",
        pintor="unavailable gradients",
        doubt="not assessable",
    ),
    Rule(
        name="positive control",
        trips_when="an attack does not solve a planted linear model to its known answer",
        assess=_sentinel,
        carlini="sanity tests of the attack itself",
        pintor="silent success",
        compares=True,
    ),
    Rule(
        name="state hash",
        trips_when="anything changed",
        assess=_state,
        carlini="evaluate the model as it is deployed",
    ),
    Rule(
        name="tie",
        trips_when="more than 1 point of attacked margins within the noise: neither flips nor survivors",
        assess=_ties,
        carlini="report what was counted",
        pintor="silent success",
    ),
    Rule(
        name="precision",
        trips_when="any flip does not stand",
        assess=_precision,
        carlini="verify every adversarial example on the model itself",
        pintor="silent success",
    ),
)
