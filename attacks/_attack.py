"""The base of every attack: from a search to a condition.

Two ways to search a level:

- *to the flip*: only correct calls are attacked, and a target leaves at its first wrong call. Gives flip rates.
- *full search*: every labelled target is attacked through all steps, so that the margins rank: attacked AUROC is
  defined.

A new attack is one file: a frozen dataclass that says what it may do (:attr:`Attack.threat`), how far (its levels), how it
searches (:meth:`Attack.search`) and what that costs (:attr:`Attack.passes_per_level`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor

from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._mask import MaskPolicy, allowed_pixels
from robustbench_rad.attacks._path import Path
from robustbench_rad.attacks._search import Front, Oracle
from robustbench_rad.attacks._threat import Anything, Threat
from robustbench_rad.attacks._units import HU, ladder, not_in_hu, size_level, sizes
from robustbench_rad.conditions import Applied, Batch, Condition, Level, Measurement, ModelQuery, Space, State, Variant

if TYPE_CHECKING:
    from robustbench_rad.plan import Plan


GOALS_ELSEWHERE = (
    "Both directions, hide and create, are always searched; other goals: "
    '"attack.clinical-goals" = { goals = ["quiet"] }.'
)


@dataclass(frozen=True, kw_only=True)
class Attack(Condition):
    """Base of every attack: a ladder of threats, each searched for the worst margin.

    Attributes:
        levels: Sizes of the threat, strictly increasing within one unit.
        full_search: Names of the levels at which the search does not stop at the flip.
        mask: Which pixels may be touched, see :class:`~robustbench_rad.attacks._mask.MaskPolicy`.
        attack_space: ``display`` (the plane the model is shown) or ``stored`` (the file's own pixels: windowing and
            resizing lie inside the graph, and a flip survives writing the file). In a plan: ``space``.
    """

    aliases: ClassVar[Mapping[str, str]] = {"epsilon": "levels", "space": "attack_space"}
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(("goal", "goals"), GOALS_ELSEWHERE)
    threat: ClassVar[type[Threat]] = Anything
    nested: ClassVar[bool] = True
    """Whether a larger level contains a smaller one; if not, each level begins anew."""
    flips_linear: ClassVar[float] = 0.0
    """Share of the calls of a linear model that can be flipped which the search must flip; 1: it follows the gradient."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Measurements of the best plane that the search puts into :attr:`Front.notes`."""
    controls: ClassVar[tuple[str, ...]] = ()
    """Measurements that :meth:`control` makes of every target at every level, whatever the search finds."""

    levels: tuple[Level, ...] = ladder("1/255", "2/255", "4/255")
    full_search: tuple[str, ...] = ()
    mask: MaskPolicy = MaskPolicy.IMAGE
    attack_space: str = "display"

    def __post_init__(self) -> None:
        """Refuse a ladder that cannot be climbed, and words that are not known."""
        self.check_ladder()
        names = [level.name for level in self.levels]
        if isinstance(self.full_search, str) or not set(self.full_search) <= set(names):
            raise ValueError(
                f"full_search: expected a list of names out of {names}, got {self.full_search!r}; where that is from "
                "the profile: state full_search beside the levels, [] for none"
            )
        if self.mask not in list(MaskPolicy):
            raise ValueError(f"mask: expected one of {[str(policy) for policy in MaskPolicy]}, got {self.mask!r}")
        if self.attack_space not in ("display", "stored"):
            raise ValueError(f"space: expected 'display' or 'stored', got {self.attack_space!r}")
        object.__setattr__(self, "mask", MaskPolicy(self.mask))

    def check_ladder(self) -> None:
        """Refuse sizes that are not positive and increasing.

        Raises:
            ValueError: Says what was expected.
        """
        values = [level.value for level in self.levels]
        if not values or not all(0 < value < float("inf") for value in values):
            raise ValueError(f"levels: expected sizes above 0, got {values}")
        if any(low >= high for low, high in pairwise(values)) or len({level.unit for level in self.levels}) > 1:
            raise ValueError(f"levels: expected sizes of one unit from small to large without repeats, got {values}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a fraction of the range (``"1/255"``), HU (``"5 HU"``) or percent of foreground (``"2 %"``)."""
        return size_level(value)

    def bound(self, plan: Plan) -> Self:
        """The attack, where the images of the plan have the unit of its levels.

        Raises:
            PlanError: A level in HU, and the images are not CT.
        """
        in_hu = [level for level in self.levels if level.unit == HU]
        if in_hu and plan.data.modality != "CT":
            raise not_in_hu(in_hu[0], plan.data.modality, where=f"[checks.{self.id!r}]: ")
        return self

    @property
    def works_in(self) -> Space:
        """Display space, or the file's own."""
        return Space.STORED if self.attack_space == "stored" else Space.DISPLAY

    @property
    def members(self) -> tuple[Attack, ...]:
        """Attacks that each climb the ladder on their own, cheap before dear; the worst of them counts."""
        return (self,)

    @property
    def winner(self) -> str:
        """Name of the measurement of which member was the worst, ``winner of`` and their names; "" without one."""
        return ""

    def oracle(self, query: ModelQuery, batch: Batch) -> Oracle:
        """The model as the searches see it: rounded to the file's bit depth, rounding passed straight through."""
        return Oracle(query=query, bits=batch.stored_bits)

    @property
    def passes_per_level(self) -> float:
        """Forward-equivalents per target and level when nothing flips (a backward counts two)."""
        raise NotImplementedError

    @property
    def planes_at_once(self) -> int:
        """Planes of one target that the search holds at once; decides how many targets a chunk has, and no result."""
        return 1

    def passes(self, findings: int) -> float:
        """Forward-equivalents per case when nothing flips: an upper bound."""
        return float(findings * (3 + len(self.levels) * self.passes_per_level))

    def self_test(self) -> str:
        """Solve a planted linear model with these options: the positive control, see :mod:`._sentinel`."""
        from robustbench_rad.attacks._sentinel import solve  # which makes attacks of its own

        return solve(self)

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """Size ``(N,)`` of the threat in the unit of its norm; 0 where it is less than a file can hold.

        Raises:
            PlanError: The level's unit does not fit the images.
        """
        return sizes(level, batch)

    def touchable(self, batch: Batch) -> tuple[Tensor | None, str]:
        """Pixels ``(N, 1, ...)`` that may be touched, None for all; and why a case may have none, in words."""
        return allowed_pixels(self.mask, batch)

    def why_none(self, level: Level, batch: Batch) -> str:
        """Why a level may have no reach for a case, in words."""
        return f"epsilon {level.name} is less than one grey level of {batch.stored_bits} stored bits"

    def control(self, front: Front, level: Level) -> Mapping[str, Tensor]:
        """A change of the same size that was not searched for, on all targets: measurement ``(L,)`` by name.

        What it scores does not count as found by the attack.
        """
        raise NotImplementedError

    @property
    def path(self) -> Path | None:
        """The steps of the search, where they are the same whatever else is in the batch: levels and starts then share it.

        None where a search has no steps, or its targets go together from the first plane to the last (a single step, a grid,
        a queue of candidates): its levels are then searched one after the other, each for all targets at once.
        """
        return None

    def search(self, front: Front, level: Level) -> None:
        """Look for planes of low health, at one level, for all targets of the front."""
        raise NotImplementedError

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level.

        Variants hold, for each case and finding, the worst margin of a plane that a file of ``batch.stored_bits`` can
        hold, and never a better one than the clean margin; NaN where the call never flipped but the model's answer to
        some plane was not a finite number.

        Raises:
            TypeError: No model to query.
        """
        if query is None:
            raise TypeError(f"{self.id}: an attack needs a model to query")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, query, state, measurements), measurements=measurements)

    def _variants(
        self, batch: Batch, query: ModelQuery, state: State | None, measurements: list[Measurement]
    ) -> Iterator[Variant]:
        climb = Climb.of(self, batch, query, state)
        climb.run()
        measurements.extend(climb.record.measurements(query.findings))
        yield from climb.record.variants()
