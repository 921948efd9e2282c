"""Rows of the honesty table that come from the sample measured by ``attack.diagnostics``."""

from __future__ import annotations

import numpy as np

from robustbench_rad.checks.adversarial_evidence import (
    ADDS,
    REPEATABLE,
    Cases,
    Found,
    State,
    adds,
    nothing,
    percent,
    trips,
)

PROBABILITY_LIMIT = 12.0  # float32 probabilities near 1 resolve log-odds there to 0.01, and beyond 16.6 not at all
FEW = 0.05  # share of the sample that may be saturated, or of directions that may disagree
RUGGED = 0.10
CONTROL = 0.99


def zero_gradient(cases: Cases) -> Found:
    """Calls at whose original there is no gradient to follow."""
    zero = cases.sample("zero_gradient")
    count = int((zero > 0).sum())
    return nothing(zero) or trips(count > 0, f"exactly 0 or not a number on {count} of {len(zero)} sampled calls")


def saturation(cases: Cases) -> Found:
    """Log-odds so large that losses or probabilities cannot show a change."""
    z = np.abs(cases.sample("log_odds"))
    if not len(z):
        return Found(state=State.NOT_MEASURED, measured="")
    probabilities = cases.fact("probabilities_only") > 0
    limit = PROBABILITY_LIMIT if probabilities else cases.fact("saturation_limit")
    share = float((z > limit).mean())
    said = f"{percent(share)} of {len(z)} sampled calls beyond |z| = {limit:g}, largest {z.max():.3g}"
    if probabilities:
        said += "; precision-limited: the model gives probabilities only"
    state = State.TRIPS if share > FEW else (State.INFO if probabilities or share > 0 else State.OK)
    return Found(state=state, measured=said)


def loss_disagreement(cases: Cases) -> Found:
    """Whether another loss finds what the margin does not."""
    margin, entropy = cases.sample("flipped") > 0, cases.sample("flipped_cross_entropy") > 0
    if not len(margin):
        return Found(state=State.NOT_MEASURED, measured="")
    more, fewer = int((entropy & ~margin).sum()), int((margin & ~entropy).sum())
    said = f"of {len(margin)}, cross-entropy alone flips {more}, the margin alone {fewer}"
    if adds(more, len(margin)):
        return Found(state=State.TRIPS, measured=said)
    return Found(state=State.INFO if fewer > 2 * ADDS * len(margin) else State.OK, measured=said)


def temperature(cases: Cases) -> Found:
    """Whether answers depend on the scale of the margins."""
    changed = cases.sample("temperature_changed")
    count = int((changed > 0).sum())
    return nothing(changed) or trips(
        count > 0, f"{count} of {len(changed)} answers change when margins are scaled by 0.01 or 100"
    )


def gradient_truth(cases: Cases) -> Found:
    """Whether margins change the way the gradient says."""
    truth = cases.sample("gradient_truth")
    if not len(truth):
        return Found(state=State.NOT_MEASURED, measured="")
    wrong = float(1 - truth.mean())
    said = f"sign wrong in {percent(wrong)} of the directions at {len(truth)} originals"
    if cases.fact("defended") > 0:
        return Found(state=State.INFO, measured=f"{said}; attacks pass straight through the declared defences")
    return trips(wrong > FEW, said)


def unbounded_control(cases: Cases) -> Found:
    """Whether every call can be flipped when every pixel may take any value."""
    escaped = cases.sample("flipped_whole_box")
    if not len(escaped):
        return Found(state=State.NOT_MEASURED, measured="")
    share = float(escaped.mean())
    return trips(share < CONTROL, f"{percent(share)} of {len(escaped)} sampled calls flip in the whole box")


def convergence(cases: Cases) -> Found:
    """Whether descents were still falling when they ended."""
    first, longer = cases.sample("flipped") > 0, cases.sample("flipped_twice_the_steps") > 0
    if not len(first):
        return Found(state=State.NOT_MEASURED, measured="")
    late = cases.sample("late_gain")
    gained, extra = float(late.mean()) if len(late) else 0.0, int((longer & ~first).sum())
    said = f"{percent(gained)} of the fall in the last 10 steps; twice the steps flip {extra} of {len(first)} more"
    return trips(gained > FEW or adds(extra, len(first)), said)


def restarts(cases: Cases) -> Found:
    """Whether a second start finds more."""
    first, second = cases.sample("flipped") > 0, cases.sample("flipped_second_start") > 0
    extra = int((second & ~first).sum())
    return nothing(cases.sample("flipped")) or trips(
        adds(extra, len(first)), f"a second start flips {extra} of {len(first)} more"
    )


def ruggedness(cases: Cases) -> Found:
    """Whether tiny noise moves the margin by as much as an attack."""
    rugged = cases.sample("ruggedness")
    if not len(rugged):
        return Found(state=State.NOT_MEASURED, measured="")
    mean = float(rugged.mean())
    return trips(mean > RUGGED, f"noise of 0.001 of the range moves the margin by {percent(mean)} on average")


def stochastic(cases: Cases) -> Found:
    """Whether the model repeats itself."""
    repeats = cases.sample("repeat_difference")
    if not len(repeats):
        return Found(state=State.NOT_MEASURED, measured="")
    return trips(float(repeats.max()) > REPEATABLE, f"five repeats differ by up to {repeats.max():.2g} of the margin")


def graph_break(cases: Cases) -> Found:
    """Whether the margin changes with the image and the gradient does not know."""
    cut = cases.sample("graph_cut")
    count = int((cut > 0).sum())
    said = f"on {count} of {len(cut)} sampled calls the margin changes with the image, and the gradient knows nothing of it"
    return nothing(cut) or trips(count > 0, said if count else f"whole at {len(cut)} sampled calls")


def state_hash(cases: Cases) -> Found:
    """Whether the model and the process are as they were."""
    facts = ("parameters or buffers", "gradients", "modes", "random state", "tracer")
    known = {name: cases.fact(f"changed {name}") for name in facts}
    if all(np.isnan(value) for value in known.values()):
        return Found(state=State.NOT_MEASURED, measured="")
    changed = [name for name, value in known.items() if value > 0]
    return trips(bool(changed), f"changed: {', '.join(changed)}" if changed else f"unchanged: {', '.join(facts)}")


def precision(cases: Cases) -> Found:
    """Whether flips stand when asked again."""
    again, flipped = cases.sample("reverified"), cases.sample("flipped")
    if not len(flipped):
        return Found(state=State.NOT_MEASURED, measured="")
    fallen, left = int((again == 0).sum()), int((flipped == 0).sum())
    stand = f"{len(again) - fallen} of {len(again)} sampled flips stand when asked alone in float32"
    return trips(fallen > 0, f"{stand}; all {left} sampled survivors were attacked again")
