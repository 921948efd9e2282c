"""A walk down the sign of the gradient, inside an L-infinity ball."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import LinfBall


def walk(front: Front, fractions: Sequence[float], *, leap: bool = False) -> None:
    """Walk from the originals, down the slope there.

    Args:
        front: The targets; its threat is an :class:`LinfBall`.
        fractions: Sizes of the steps as fractions of the radius.
        leap: The first step is a trial: go on from the better of its plane and the best one known.
    """
    _stand(front, front.live.centre, front.live.centre_slope)
    _go(front, fractions, leap=leap)


def walk_from(front: Front, draws: Tensor, fractions: Sequence[float]) -> None:
    """Go from the originals to random planes of the ball, and walk from there.

    Args:
        front: The targets.
        draws: ``(L, 1, ...)`` in [-1, 1], the place in the ball.
        fractions: Sizes of the steps.
    """
    _stand(front, front.live.centre, front.live.centre_slope)
    _look(front, front.own["planes"] + draws * front.threat.radii(), last=not fractions)
    front.compact()
    _go(front, fractions)


def _stand(front: Front, planes: Tensor, slope: Tensor) -> None:
    assert isinstance(front.threat, LinfBall)
    low, high = front.threat.bounds()
    front.own |= {"planes": planes, "slope": slope, "low": low, "high": high}


def _go(front: Front, fractions: Sequence[float], *, leap: bool = False) -> None:
    own = front.own
    for number, fraction in enumerate(fractions, start=1):
        if not len(front):
            return
        own = front.own
        step = own["slope"] * front.threat.radii()
        _look(front, own["planes"].add(step, alpha=-fraction), last=number == len(fractions))
        if leap and number == 1:
            own["planes"], own["slope"] = front.live.best, front.live.best_slope
        if number % front.compact_every == 0:
            front.compact()
    front.compact()


def _look(front: Front, planes: Tensor, *, last: bool = False) -> None:
    """Score planes and stand there.

    The last plane of a walk is scored without a gradient: a third of the price. Should the next level begin from it, it
    does so with the slope of the plane before.
    """
    own = front.own
    planes = planes.clamp_(own["low"], own["high"])
    if last:
        front.score(planes, slope=own["slope"])
    else:
        _, gradient = front.score_and_gradient(planes)
        own["slope"] = gradient.sign()
    own["planes"] = planes
