"""Rows of the honesty table that come from the attacks themselves: set against each other, and against a known answer."""

from __future__ import annotations

import numpy as np

from robustbench_rad.checks.adversarial_evidence import (
    DIAGNOSTICS,
    SAME,
    Cases,
    Found,
    Mask,
    State,
    adds,
    attacks_run,
    follows_gradient,
    kind_of,
    may_touch,
    pairs,
    trips,
)
from robustbench_rad.conditions import Level

SENTINEL = "attack sentinel"
BLACK = 0.002


def positive_control(cases: Cases) -> Found:
    """Whether every attack solved its planted linear model."""
    items = [item for item in cases.context.preflight if item.name.startswith(SENTINEL)]
    if not items:
        return Found(state=State.NOT_MEASURED, measured="")
    wrong = [item.detail for item in items if item.status == "error"]
    return trips(bool(wrong), " ".join(wrong) or " ".join(item.detail for item in items))


def tied_margins(cases: Cases) -> Found:
    """Attacked margins that are neither a flip nor survived."""
    noise = cases.sample("numeric_noise")
    if not len(noise):
        return Found(state=State.NOT_MEASURED, measured="")
    count = sum(
        int(ties(cases, id, level).sum()) for id in attacks_run(cases.context) for level in cases.context.levels[id]
    )
    said = f"{count} attacked margins within the numeric noise of {noise.max():.2g}, counted as no flips"
    if adds(count, int(cases.right.sum())):
        return Found(state=State.TRIPS, measured=said)
    return Found(state=State.INFO if count else State.OK, measured=said)


def ties(cases: Cases, attack: str, level: Level) -> Mask:
    """Attacked calls whose margin is within the numeric noise: neither flipped nor survived."""
    margins = np.abs(cases.context.margins(attack, level.name, cases.finding))
    tied: Mask = cases.right & (margins <= cases.noise) & (cases.noise > 0)
    return tied


def black_beats_white(cases: Cases) -> Found:
    """Whether a search without gradients flips what those with gradients left."""
    context, attacks = cases.context, attacks_run(cases.context)
    white, black = [id for id in attacks if follows_gradient(id)], [id for id in attacks if not follows_gradient(id)]
    worst, said = State.NOT_MEASURED, ""
    for weak in black:
        for small in context.levels[weak]:
            allowed: dict[str, Level] = {}
            for strong, large, _, other in pairs(context, white, [weak]):
                # The least that contains the other: what survives the end of a ladder that breaks all is nobody.
                if other == small and (strong not in allowed or large.value < allowed[strong].value):
                    allowed[strong] = large
            if not allowed:
                continue
            survived = np.logical_and.reduce([cases.survived(strong, large) for strong, large in allowed.items()])
            beaten = int((survived & cases.flipped(weak, small)).sum())
            trips = bool(beaten) and beaten >= BLACK * survived.sum()
            if trips or worst is State.NOT_MEASURED:
                worst = State.TRIPS if trips else State.OK
                said = (
                    f"{weak} at {small.name} flips {beaten} of {int(survived.sum())} calls that white-box attacks left"
                )
    return Found(state=worst, measured=said)


def single_beats_iterative(cases: Cases) -> Found:
    """Whether one step flips what many left."""
    context, attacks = cases.context, attacks_run(cases.context)
    iterative = [id for id in attacks if follows_gradient(id) and id != "attack.fgsm"]
    compared = list(pairs(context, iterative, ["attack.fgsm"] if "attack.fgsm" in attacks else []))
    if not compared:
        return Found(state=State.NOT_MEASURED, measured="")
    beaten = {
        f"{strong} at {large.name}": int((cases.survived(strong, large) & cases.flipped(weak, small)).sum())
        for strong, large, weak, small in compared
    }
    name, count = max(beaten.items(), key=lambda item: item[1])
    return trips(count > 0, f"attack.fgsm flips {count} calls that {name} left standing")


def monotonicity(cases: Cases) -> Found:
    """Whether flips are lost at a larger size."""
    steps = [
        (id, low, high)
        for id in attacks_run(cases.context)
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
    return trips(
        bool(broken), "; ".join(broken) or f"{len(steps)} steps of the ladders never lose more flips than chance"
    )


def beaten_by(cases: Cases, check: str, level: Level) -> list[str]:
    """What other searches flipped that this attack, allowed as much or more, left standing."""
    survived = cases.survived(check, level)
    said = []
    if follows_gradient(check) and survived.any():
        others = [id for id in attacks_run(cases.context) if not follows_gradient(id) or id == "attack.fgsm"]
        for _, _, weak, small in pairs(cases.context, [check], [id for id in others if id != check]):
            if small.value > level.value * (1 + SAME):
                continue
            beaten = int((survived & cases.flipped(weak, small)).sum())
            if beaten and beaten >= BLACK * survived.sum():
                said.append(
                    f"not trustworthy: {weak} flipped {beaten} of {int(survived.sum())} calls that it left standing"
                )
    left = missed(cases, check, level) or 0
    if left and follows_gradient(check):
        said.append(f"not trustworthy: the descents of the diagnostics flipped {left} calls that it left standing")
    return list(dict.fromkeys(said))


def missed(cases: Cases, check: str, level: Level) -> int | None:
    """Calls that the descents of the diagnostics flipped and an attack left standing; None where it may do less than they."""
    epsilon = cases.fact("epsilon")
    if not may_touch(cases.context, check) or kind_of(level) != "linf" or not epsilon <= level.value * (1 + SAME):
        return None
    watched = np.zeros(len(cases.right), dtype=bool)
    for name in ("flipped", "flipped_twice_the_steps", "flipped_second_start", "flipped_cross_entropy"):
        watched |= cases.context.measured(DIAGNOSTICS, name, finding=cases.finding) > 0
    return int((watched & cases.survived(check, level)).sum())
