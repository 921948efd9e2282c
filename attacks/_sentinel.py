"""A planted linear model whose answer is known: the positive control of every attack, solved in the run that uses it.

On a linear score ``f = w . x + b`` in the box the worst health inside a ball is known exactly: every pixel goes against its
weight as far as the norm and the box allow. The answers here are computed in float64 by other means than the searches use
(bisection of the dual for L2, a knapsack for L1), so that a fault shared by both does not hide itself.

What an attack must show on the planted cases:

- never beyond the exact worst health, which would mean that it left its threat; never better than the original;
- the calls it flips, of those that can be flipped: all of them where :attr:`Attack.flips_linear` is 1 (a search that follows
  the gradient has no excuse), at least that share where it searches at random within a budget.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_rad.attacks._mask import MaskPolicy
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, LinfBall, Threat
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Level, Space, Unit
from robustbench_rad.errors import RobustbenchRadError
from robustbench_rad.query import CountingQuery
from robustbench_rad.seeds import derive_seed, generator

if TYPE_CHECKING:
    from robustbench_rad.attacks._attack import Attack

Floats = NDArray[np.float64]

CASES, VOLUMES = 32, 8
PLANE, VOLUME = (6, 7), (3, 4, 5)  # not square: an attack that mixes up its axes is found out
BITS = 8
CAPS = {"steps": 20, "random_starts": 1, "queries": 200, "evaluations": 200, "draws": 16, "iterations": 20}
"""Largest values of options that only make a search longer; the planted model needs no more."""
SIZES: dict[str, list[float]] = {
    "linf": [level / 255 for level in (1, 2, 4, 8, 16, 24, 32, 48)],
    "l2": [level / 255 for level in (2, 4, 8, 16, 24, 32, 48)],
    "l1": [level / 255 for level in (1, 2, 4, 8, 16, 24, 32)],
    "l0": [1, 2, 3, 4, 6, 8, 12],
}
TIE = 1e-4  # relative to the weights: closer to the boundary, float32 sums decide


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A linear model with cases whose calls are right.

    Attributes:
        classifier: The model: one logit.
        batch: N cases on the grid of 8 bits.
        weight: ``(P,)`` of the pixels.
        clean: ``(N,)`` health of the originals.
    """

    classifier: Classifier
    batch: Batch
    weight: Floats
    clean: Floats

    @property
    def side(self) -> Floats:
        """``(N,)``: +1 where the finding is present, -1 where it is not."""
        return self.batch.labels[:, 0].double().numpy() * 2 - 1

    def worst(self, norm: str, radius: float) -> Floats:
        """Exact lowest health ``(N,)`` inside a ball of ``radius`` and the box; any other norm: anywhere in the box."""
        flat = self.batch.images.double().flatten(1).numpy()
        push = -self.side[:, None] * self.weight[None]  # which way lowers the health
        room = np.where(push > 0, 1 - flat, flat)
        return self.clean - np.array(
            [largest_drop(norm, radius, np.abs(self.weight), free) for free in room], dtype=np.float64
        )


def plant(shape: tuple[int, ...], cases: int, *, seed: int = 0) -> Planted:
    """Plant a model of random weights in random images, with a bias that puts the cases on both sides."""
    source = generator("cpu", "attack sentinel", seed, *shape)
    levels = 2**BITS - 1
    images = torch.randint(0, levels + 1, (cases, 1, *shape), generator=source).float() / levels
    weight = torch.randn(images[0].numel(), generator=source)
    raw = images.flatten(1).double() @ weight.double()
    ordered = raw.sort().values
    bias = float(-(ordered[cases // 2 - 1] + ordered[cases // 2]) / 2)
    module = _Linear(weight, bias)
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("planted",), thresholds=(0.5,))
    classifier = Classifier(module=module.eval(), input=InputSpec(size=shape), head=head)
    with torch.no_grad():
        margins = classifier.margins(images)
    names = tuple(f"planted-{row}" for row in range(cases))
    exact = (raw + bias).numpy()
    batch = Batch(
        images=images,
        labels=(margins >= 0).float(),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed("attack sentinel", name) for name in names),
        space=Space.DISPLAY,
        spacing_mm=torch.ones(cases, len(shape)),
        anatomy=torch.ones_like(images, dtype=torch.bool),
        limits=(-1000.0, 400.0),
        limits_unit=Unit.HU,
        stored_bits=BITS,
        clean_margins=margins,
    )
    return Planted(classifier=classifier, batch=batch, weight=weight.double().numpy(), clean=np.abs(exact))


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight + self.bias)[:, None]


def largest_drop(norm: str, radius: float, slope: Floats, room: Floats) -> float:
    """How far a linear health can fall inside a ball and the box.

    Args:
        norm: ``linf``, ``l2`` (RMS), ``l1`` (mean), ``l0`` (pixels); anything else: the whole box.
        radius: In the unit of the norm.
        slope: ``(P,)`` absolute weights.
        room: ``(P,)`` distance to the edge of the box.

    >>> slope, room = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    >>> [largest_drop(norm, 0.5, slope, room) for norm in ("linf", "l2", "l1", "l0", "")]
    [2.0, 2.23606797749979, 3.0, 0.0, 4.0]
    """
    match norm:
        case "linf":
            return float((slope * np.minimum(room, radius)).sum())
        case "l2":
            return _l2_drop(radius * np.sqrt(len(slope)), slope, room)
        case "l1":
            order = np.argsort(-slope)
            before = np.concatenate([[0.0], np.cumsum(room[order])[:-1]])
            taken = np.clip(radius * len(slope) - before, 0.0, room[order])
            return float((slope[order] * taken).sum())
        case "l0":
            return float(np.sort(slope * room)[::-1][: int(radius)].sum())
        case _:
            return float((slope * room).sum())


def _l2_drop(length: float, slope: Floats, room: Floats) -> float:
    """Change ``min(t slope, room)`` of the length that is allowed, by bisection of the multiplier ``t``."""
    if np.linalg.norm(room) <= length:
        return float((slope * room).sum())
    low, high = 0.0, float(np.max(room / np.maximum(slope, 1e-12)))
    for _ in range(100):
        middle = (low + high) / 2
        too_long = np.linalg.norm(np.minimum(middle * slope, room)) > length
        low, high = (low, middle) if too_long else (middle, high)
    return float((slope * np.minimum(low * slope, room)).sum())


def norm_of(attack: Attack) -> str:
    """Which ball the attack keeps to; "" for none whose worst plane is known."""
    kinds = {LinfBall: "linf", L2Ball: "l2", L1Ball: "l1", L0Ball: "l0"}
    threat: type[Threat] = attack.threat
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
            wrong = _try(attack, plant(shape, cases))
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
    norm = norm_of(attack)
    size = _half_way(norm, planted)
    level = attack.levels[-1] if norm == "" else _level(attack, size)
    asked = shortened(attack, level)
    batch = planted.batch
    if norm in (
        "l2",
        "l1",
    ):  # their answers are exact up to the rounding of the file; 65535 = 255 x 257 holds the same images
        batch = replace(batch, stored_bits=16)
    if level.unit != "HU":
        batch = replace(batch, limits=(0.0, 1.0), limits_unit=None)
    query = CountingQuery(planted.classifier)
    state = asked.fit(planted.classifier, iter([batch])) if asked.needs_fit else None
    variant = next(iter(asked.apply(batch, query, state).variants))
    assert variant.margins is not None
    reached = variant.margins[:, 0].double().numpy() * planted.side
    applicable = np.ones(len(reached), bool) if variant.applicable is None else variant.applicable.cpu().numpy()
    few = len(planted.batch) < CASES and attack.flips_linear < 1  # a share of a handful of volumes would be chance
    share = 0.0 if few else attack.flips_linear
    return verdict(planted, norm, size, np.where(applicable, reached, np.nan), share)


def _half_way(norm: str, planted: Planted) -> float:
    """The size at which nearest to half of the calls can be flipped."""
    if norm not in SIZES:
        return 0.0
    return min(SIZES[norm], key=lambda size: abs(float((planted.worst(norm, size) < 0).mean()) - 0.5))


def _level(attack: Attack, size: float) -> Level:
    level = type(attack).level(repr(size))
    own = {known.unit for known in attack.levels if known.unit not in ("HU", "% of foreground")}
    return replace(level, name="planted", unit=own.pop()) if own else replace(level, name="planted")


def shortened(attack: Attack, level: Level) -> Attack:
    """The same attack at one level, in the whole display plane, with its search capped."""
    names = {f.name for f in fields(attack)}
    given = {name: getattr(attack, name) for name in CAPS if name in names}
    capped: dict[str, Any] = {
        name: min(value, CAPS[name])
        for name, value in given.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    return replace(attack, levels=(level,), full_search=(), mask=MaskPolicy.IMAGE, attack_space="display", **capped)


def verdict(planted: Planted, norm: str, size: float, reached: Floats, flips_linear: float) -> str:
    """Compare the healths ``(N,)`` that an attack reached (NaN: not attacked) with the exact answer; "" when they agree."""
    exact = planted.worst(norm, size)
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
    if norm and missed > (1 - flips_linear) * can.sum():
        return (
            f"{int(can.sum())} calls can be flipped, it flipped {int((can & flipped).sum())}; expected "
            f"{'all' if flips_linear == 1 else f'at least {flips_linear:.0%}'}"
        )
    return ""
