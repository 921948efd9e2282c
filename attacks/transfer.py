"""Images prepared on another model, scored on the audited one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front, Oracle
from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.conditions import Batch, Level, Space, State
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import register
from robustbench_rad.stored import stored_view

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier
    from robustbench_rad.plan import Plan


@register(
    id="attack.transfer-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Papernot, McDaniel, Goodfellow 2016, arXiv:1605.07277; Madry et al. 2018, arXiv:1706.06083",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class TransferLinf(LinfAttack):
    """Projected gradient descent on a surrogate's margin; every plane of the path is scored on the audited model.

    ``x[t+1] = clip(x[t] - s[t] ε d sign(∂m'/∂x))`` with ``m'`` the margin of the surrogate: the previous release, say, or a
    model that an outsider could train. Gradients of the audited model are not used, so a model that hides them gains
    nothing. The surrogate is shown the same image through its own window and size.

    In a plan: ``"attack.transfer-linf" = { surrogate = { factory = "models.py:build", weights = "previous.safetensors" } }``;
    the keys are those of ``[model]``, what is left out is as there, paths are relative to the plan. Its hash belongs to the
    identity of the run.

    Attributes:
        surrogate: Table of the surrogate. Empty (in the positive control only): the audited model itself.
        steps: Steps on the surrogate per level.
        step_rule: ``decaying`` (one whole radius, then a quarter of it down to nothing) or ``constant`` (a quarter).

    >>> TransferLinf.from_options({"epsilon": "1/255", "steps": 20}).passes(findings=1)
    83.0
    """

    flips_linear: ClassVar[float] = 1.0

    surrogate: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 20
    step_rule: StepRule = StepRule.DECAYING

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        if not isinstance(self.surrogate, Mapping):
            raise ValueError(f"surrogate: expected a table with factory and weights, got {self.surrogate!r}")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")
        if self.step_rule not in list(StepRule):
            raise ValueError(f"step_rule: expected one of {[str(rule) for rule in StepRule]}, got {self.step_rule!r}")
        object.__setattr__(self, "step_rule", StepRule(self.step_rule))

    def bound(self, plan: Plan) -> Self:
        """The attack with its surrogate as the plan declares it; files are not read yet.

        Raises:
            PlanError: No surrogate is declared, or its table is wrong; a level in HU, and the images are not CT.
        """
        from robustbench_rad.surrogates import surrogate_plan

        other = replace(super().bound(plan))
        other._remember(plan=surrogate_plan(plan, self.surrogate, key=f"[checks.{self.id!r}] surrogate"))
        return other

    def _remember(self, **found: object) -> None:
        for name, value in found.items():
            object.__setattr__(self, f"_{name}", value)  # no options: they do not describe what is measured

    @property
    def reads_sha256(self) -> str:
        """Hash of the surrogate.

        Raises:
            ModelError: It cannot be loaded.
        """
        from robustbench_rad.surrogates import surrogate_sha256

        plan, known = getattr(self, "_plan", None), getattr(self, "_sha256", None)
        if plan is not None and known is None:
            known = surrogate_sha256(plan)
            self._remember(sha256=known)
        return known or ""

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Load the surrogate before the first image is altered; nothing is learned.

        Raises:
            ModelError: It cannot be loaded, or does not behave as declared.
        """
        del batches
        self._surrogate_of(classifier)
        return None

    def _surrogate_of(self, audited: Classifier) -> Classifier:
        plan, loaded = getattr(self, "_plan", None), getattr(self, "_loaded", None)
        if plan is None:
            return audited
        if loaded is None or loaded.device != audited.device:
            from robustbench_rad.surrogates import load_surrogate

            loaded = load_surrogate(plan, device=audited.device)
            self._remember(loaded=loaded)
        return loaded

    @property
    def passes_per_level(self) -> float:
        """A gradient of the surrogate and a forward of the audited model per step."""
        return float(4 * self.steps)

    def search(self, front: Front, level: Level) -> None:
        """Walk down the surrogate's slope from the originals."""
        del level
        assert isinstance(front.threat, LinfBall)
        seen = self._seen(front)
        low, high = front.threat.bounds()
        front.own |= {"planes": front.live.centre, "low": low, "high": high}
        for number, fraction in enumerate(step_fractions(self.steps, self.step_rule), start=1):
            if not len(front):
                return
            own = front.own
            _, gradient = seen.health_and_gradient(own["planes"], front.live.targets)
            step = gradient.nan_to_num().sign() * front.threat.radii()
            own["planes"] = own["planes"].sub(step, alpha=fraction).clamp(own["low"], own["high"])
            front.score(own["planes"])
            if number % front.compact_every == 0:
                front.compact()
        front.compact()

    def _seen(self, front: Front) -> Oracle:
        """The surrogate as the search sees it, shown the images of the audited model's space."""
        audited = getattr(front.oracle.query, "classifier", None)
        if getattr(self, "_plan", None) is None or audited is None:
            return front.oracle
        surrogate = self._surrogate_of(audited)
        query = CountingQuery(surrogate)
        if front.batch.space is Space.STORED:
            query = query.through(stored_view(front.batch, surrogate))
        elif surrogate.input != audited.input:
            query = query.through(shown_to(surrogate, audited))
        return replace(front.oracle, query=query)


def shown_to(surrogate: Classifier, audited: Classifier) -> Callable[[Tensor], Tensor]:
    """Display planes of one model as another would be shown them: through its own window, range and size."""
    low, high = audited.input.limits
    return lambda planes: surrogate.display(low + planes * (high - low))
