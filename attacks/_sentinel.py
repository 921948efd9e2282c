"""A planted linear model whose answer is known: the positive control of every attack, solved in the run that uses it.

On a linear score ``f = w . x + b`` in the box the worst health inside a ball is known exactly: every pixel goes against its
weight as far as the norm and the box allow. The answers here are computed in float64 by other means than the searches use
(bisection of the dual for L2, a knapsack for L1), so that a fault shared by both does not hide itself.

It is solved in the space that the attack works in: in stored space the planted images are smaller than the model's input, and
resizing lies in the graph. The answer is exact for the balls, for patches (the window of largest sum), for universal patterns
(that of the ball: one pattern is the worst of all cases) and for frequency bands (a linear programme). Of noise the law
of what it finds is known. Of poses, warps, contrast and markers only the bounds are known.

What an attack must show on the planted cases:

- never beyond the exact worst health, which would mean that it left its threat; never better than the original;
- the calls it flips, of those that can be flipped: all of them where :attr:`Attack.flips_linear` is 1 (a search that follows
  the gradient has no excuse), at least that share where it searches at random within a budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robustbench_rad.attacks._mask import MaskPolicy
from robustbench_rad.attacks._sentinel_answers import Floats, band_peak, chance_beneath, in_band, largest_window
from robustbench_rad.attacks._sentinel_plant import BITS, Planted, plant
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, LinfBall, Threat
from robustbench_rad.attacks._windows import window_sides
from robustbench_rad.conditions import Level
from robustbench_rad.errors import RobustbenchRadError

if TYPE_CHECKING:
    from robustbench_rad.attacks._attack import Attack

CASES, VOLUMES = 32, 8
PLANE, VOLUME = (6, 7), (3, 4, 5)  # not square: an attack that mixes up its axes is found out
CAPS = {"steps": 20, "random_starts": 1, "queries": 200, "evaluations": 200, "draws": 16, "iterations": 20}
"""Largest values of options that only make a search longer; the planted model needs no more."""
SIZES: dict[str, list[float]] = {
    "linf": [level / 255 for level in (1, 2, 4, 8, 16, 24, 32, 48)],
    "l2": [level / 255 for level in (2, 4, 8, 16, 24, 32, 48)],
    "l1": [level / 255 for level in (1, 2, 4, 8, 16, 24, 32)],
    "l0": [1, 2, 3, 4, 6, 8, 12],
    "window": [5, 10, 20, 35],
    "band": [level / 255 for level in (1, 2, 4, 8, 16, 24, 32, 48)],
}
OWN_ANSWERS = {"attack.patch": "window", "attack.frequency-band": "band"}
NOISE = "attack.noise"
CHANCE = 4.0  # standard deviations that what noise finds may be off
CLT = 0.05  # in probability: what the normal law of a sum of few pixels may be off
TIE = 1e-4  # relative to the weights: closer to the boundary, float32 sums decide


def norm_of(attack: Attack) -> str:
    """Which ball the attack keeps to, or ``window`` or ``band``; "" for none whose worst plane is known."""
    kinds = {LinfBall: "linf", L2Ball: "l2", L1Ball: "l1", L0Ball: "l0"}
    threat: type[Threat] = attack.threat
    if attack.id in OWN_ANSWERS:
        return OWN_ANSWERS[attack.id]
    return next((name for kind, name in kinds.items() if issubclass(threat, kind)), "")


def solve(attack: Attack, *, plane: tuple[int, int] = PLANE) -> str:
    """Run the attack, with its own options, on a planted linear model, in the plane and in a volume.

    The levels are replaced by one at which about half of the calls can be flipped, the mask by the whole image, and options
    that only make the search longer are capped.

    Args:
        attack: The attack.
        plane: Height and width of the planted images.

    Returns:
        "" when the answer is the known one, else what was expected and what came.
    """
    for shape, cases in ((plane, CASES), (VOLUME, VOLUMES)):
        try:
            wrong = _try(attack, plant(shape, cases, space=attack.works_in, inside=norm_of(attack) == "band"))
        except RobustbenchRadError as error:
            if len(shape) == 2:
                return f"refused a planted linear model of {_shape(shape)}: {error.message}"
            continue  # an attack may have no meaning in volumes, and says so
        except Exception as error:
            return f"raised on a planted linear model of {_shape(shape)}: {type(error).__name__}: {error}"
        if wrong:
            return f"on a planted linear model of {_shape(shape)}: {wrong}"
    return ""


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + " pixels"


def _try(attack: Attack, planted: Planted) -> str:
    kind = norm_of(attack)
    exact = _answer(attack, kind, planted)
    if kind == "band" and not (exact(1.0) < planted.clean).any():
        return ""  # so small an image has no such frequency
    size = _half_way(kind, exact)
    level = attack.levels[-1] if kind == "" else _level(attack, size)
    asked = shortened(attack, level)
    drawn = attack.id == NOISE
    if drawn:
        asked = replace(asked, full_search=(level.name,))
    batch = planted.batch
    if kind in ("l2", "l1", "band"):
        # exact up to the rounding of the file; 65535 = 255 x 257 holds the same images
        batch = replace(batch, stored_bits=16)
    if level.unit != "HU":
        batch = replace(batch, limits=(0.0, 1.0), limits_unit=None)
    seen = replace(planted, batch=batch)
    state = asked.fit(planted.classifier, iter([batch])) if asked.needs_fit else None
    variant = next(iter(asked.apply(batch, seen.query(), state).variants))
    assert variant.margins is not None
    reached = variant.margins[:, 0].double().numpy() * planted.side
    applicable = np.ones(len(reached), bool) if variant.applicable is None else variant.applicable.cpu().numpy()
    reached = np.where(applicable, reached, np.nan)
    few = len(planted.batch) < CASES and attack.flips_linear < 1  # a share of a handful of volumes would be chance
    wrong = verdict(planted, kind, exact(size), reached, 0.0 if few else attack.flips_linear)
    return wrong or (_unlikely(asked, planted, size, reached) if drawn else "")


def _answer(attack: Attack, kind: str, planted: Planted) -> Callable[[float], Floats]:
    """Exact lowest health ``(N,)`` by the size of the level."""
    shape = tuple(planted.batch.images.shape[2:])
    if kind == "window":
        gains = (np.abs(planted.weight) * planted.room(planted.batch.images.double().flatten(1).numpy())).reshape(
            -1, *shape
        )

        def beneath(percent: float) -> Floats:
            sides = [int(side) for side in window_sides(percent / 100, torch.tensor([shape]))[0]]
            falls = np.array([largest_window(gain, sides) for gain in gains], dtype=np.float64)
            return np.asarray(planted.clean - falls, dtype=np.float64)

        return beneath
    if kind == "band":
        weight = planted.weight.reshape(shape)
        peak = max(band_peak(weight, in_band(shape, *band)) for band in attack.planted_bands)  # type: ignore[attr-defined]
        return lambda radius: planted.clean - radius * peak
    return lambda radius: planted.worst(kind, radius)


def _unlikely(attack: Attack, planted: Planted, radius: float, reached: Floats) -> str:
    """Whether chance would find such healths ``(N,)``; "" when it would.

    The probability that chance finds a worse one is uniform in [0, 1] for each case, so its mean is near one half.
    """
    chances = chance_beneath(
        planted.batch.images.double().flatten(1).numpy(),
        planted.side[:, None] * planted.weight[None],
        reached - planted.clean,
        radius,
        kinds=[str(kind) for kind in attack.kinds],  # type: ignore[attr-defined]
        draws=attack.draws,  # type: ignore[attr-defined]
        levels=2**BITS - 1,
    )
    slack = CHANCE / math.sqrt(12 * len(chances)) + CLT
    if abs(float(chances.mean()) - 0.5) <= slack:
        return ""
    found = f"with probability {chances.mean():.2f}, expected 0.5 give or take {slack:.2f}"
    return f"chance finds a worse image than it did {found}"


def _half_way(kind: str, exact: Callable[[float], Floats]) -> float:
    """The size at which nearest to half of the calls can be flipped."""
    if kind not in SIZES:
        return 0.0
    return min(SIZES[kind], key=lambda size: abs(float((exact(size) < 0).mean()) - 0.5))


def _level(attack: Attack, size: float) -> Level:
    level = type(attack).level(repr(size))
    own = {known.unit for known in attack.levels if known.unit not in ("HU", "% of foreground")}
    return replace(level, name="planted", unit=own.pop()) if own else replace(level, name="planted")


def shortened(attack: Attack, level: Level) -> Attack:
    """The same attack at one level, in the whole image of its space, with its search capped."""
    names = {f.name for f in fields(attack)}
    given = {name: getattr(attack, name) for name in CAPS if name in names}
    capped: dict[str, Any] = {
        name: min(value, CAPS[name])
        for name, value in given.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    return replace(attack, levels=(level,), full_search=(), mask=MaskPolicy.IMAGE, **capped)


def verdict(planted: Planted, norm: str, exact: Floats, reached: Floats, flips_linear: float) -> str:
    """Compare the healths ``(N,)`` that an attack reached (NaN: not attacked) with the exact answer; "" when they agree."""
    scale = float(np.abs(planted.weight).sum())
    slack = TIE * scale
    known = ~np.isnan(reached)
    if not known.any():
        return "" if norm == "" else "it attacked no case"
    beyond = known & (reached < exact - slack)
    if beyond.any():
        return f"{int(beyond.sum())} of {known.sum()} cases were pushed beyond the worst that its threat allows"
    better = known & (reached > planted.clean + slack)
    if better.any():
        return f"{int(better.sum())} of {known.sum()} cases came back better than the original"
    can, flipped = known & (exact < -slack), known & (reached < slack)
    missed = int((can & ~flipped).sum())
    chance = 1 if flips_linear < 1 else 0  # of a random search on a few dozen calls
    if norm and missed > (1 - flips_linear) * can.sum() + chance:
        return (
            f"{int(can.sum())} calls can be flipped, it flipped {int((can & flipped).sum())}; expected "
            f"{'all' if flips_linear == 1 else f'at least {flips_linear:.0%}'}"
        )
    return ""
