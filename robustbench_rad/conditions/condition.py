"""The base of every attack, shift and shortcut image: its options, what it learns, what it costs, and how it is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from robustbench_rad.conditions.applied import Applied
from robustbench_rad.conditions.batch import Batch
from robustbench_rad.conditions.levels import Level
from robustbench_rad.conditions.query import ModelQuery
from robustbench_rad.conditions.terms import Space
from robustbench_rad.errors import PlanError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.plan import Plan

State = Mapping[str, "Tensor"]
"""What a condition has learned from the whole set, as named tensors."""

SHOWS_BURNED_IN = "shows_burned_in"
"""Name in a state of a boolean scalar: images made with it may carry text burned into other cases; never to be shown."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Base of every condition: a frozen dataclass whose fields are its options.

    Subclasses are registered with :func:`robustbench_rad.registry.register`, which sets the class attributes, and implement
    :meth:`apply`; those that learn from the whole set also implement :meth:`fit`.

    Attributes:
        levels: The ladder, mildest first.
        neutral: Value of the level that gives back the very image it was given; None where there is none.
        needs_masks: Whether it asks the model nothing where no case has a mask of the anatomy.
    """

    id: ClassVar[str]
    version: ClassVar[int]
    space: ClassVar[Space]
    neutral: ClassVar[float | None] = None
    needs_masks: ClassVar[bool] = False
    aliases: ClassVar[Mapping[str, str]] = {}
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Options that are looked for here and belong to another check: what to write instead, one sentence."""

    levels: tuple[Level, ...] = ()

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from what a plan says (a number or a text such as ``"1/255"``)."""
        return Level(name=str(value), value=float(value), unit="")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Make the condition from a plan's options, refusing what it does not know.

        Raises:
            PlanError: Unknown option, or a value of the wrong type; names the check and the option.
        """
        known = {f.name: f for f in fields(cls) if f.metadata.get("option", True)}
        values: dict[str, Any] = {}
        for given, value in options.items():
            name = cls.aliases.get(given, given)
            if name not in known:
                raise PlanError(
                    f"[checks.{cls.id!r}]: unknown option {given!r}",
                    hint=cls.elsewhere.get(given) or suggestion(given, [*known, *cls.aliases]),
                )
            values[name] = _ladder(cls, value) if name == "levels" else _plain(value)
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise PlanError(f"[checks.{cls.id!r}]: {error}") from error

    @property
    def works_in(self) -> Space:
        """Space of the images that :meth:`fit` and :meth:`apply` are given; an option may make it another than ``space``."""
        return self.space

    def bound(self, plan: Plan) -> Self:
        """The condition as the plan means it, for one whose options name files or speak of the model.

        Raises:
            PlanError: The options do not fit the plan.
        """
        del plan
        return self

    @property
    def reads_sha256(self) -> str:
        """Hash of the files that the options name; "" for none. Part of the identity of a run."""
        return ""

    def self_test(self) -> str:
        """Solve a problem whose answer is known, with these options, in this very process: a positive control.

        An audit runs it once, before it believes that a model withstood the condition.

        Returns:
            "" when all is well or there is nothing to test, else what was expected and what came.
        """
        return ""

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Learn what must be learned from the whole set first; batches are in the condition's space."""
        del classifier, batches
        return None

    @property
    def reads_features(self) -> bool:
        """Whether :meth:`apply` reads ``batch.clean_features``, which cost no pass of their own."""
        return False

    def among(self, conditions: tuple[Condition, ...]) -> Self:
        """The condition as it is when these, the others of the audit, are run beside it."""
        del conditions
        return self

    @property
    def reads_states(self) -> tuple[str, ...]:
        """Ids of conditions whose learned state :meth:`apply` is given too, each tensor named ``<id>/<name>``."""
        return ()

    def implanted_state(self, state: State, implant: Callable[[Tensor], Tensor]) -> State:
        """What would have been learned had ``implant`` been applied to the images that others are shown with.

        Args:
            state: What :meth:`fit` returned.
            implant: Puts a marker into display images ``(N, 1, ...)``, not in place.
        """
        del implant
        return state

    @property
    def needs_fit(self) -> bool:
        """Whether :meth:`fit` learns anything."""
        return type(self).fit is not Condition.fit

    def passes(self, findings: int) -> float:
        """Price: forward-equivalents per case (a backward counts two) at these levels."""
        del findings
        return float(len(self.levels))

    def fit_passes(self, findings: int, cases: int) -> float:
        """Price of :meth:`fit`, paid once for the whole set: forward-equivalents at most."""
        del findings, cases
        return 0.0

    def sampled_cases(self, findings: int) -> int | None:
        """Cases that :meth:`passes` is paid for at most, of however many there are; None: all of them."""
        del findings
        return None

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Apply every level to the batch.

        The clinical direction of an attack follows the label of each case and finding: *hide* where the finding is
        present, *create* where it is absent, nothing where the label is unknown.

        Args:
            batch: Images in the condition's space.
            query: The model; None for conditions that never ask it.
            state: What :meth:`fit` returned.
        """
        raise NotImplementedError


def _ladder(cls: type[Condition], value: Any) -> tuple[Level, ...]:  # noqa: ANN401 - comes from a TOML file
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        return tuple(cls.level(item) for item in items)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise PlanError(f"[checks.{cls.id!r}]: levels {value!r}: {error}") from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - comes from a TOML file
    return tuple(value) if isinstance(value, list) else value
