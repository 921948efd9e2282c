"""What can be done to an image, and the contract every attack, shift and shortcut image keeps.

A condition takes a batch and gives back, for each of its levels, an altered batch (a shift, a shortcut image) or margins it
has found and verified itself (an attack). It works in one image space, never in place, and draws randomness only from the
seeds of the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from robustbench_rad.errors import PlanError, suggestion

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.plan import Plan


class Space(StrEnum):
    """Where a condition works.

    PHYSICAL: as the scanner made it (CT in HU; radiograph as presentation signal in [0, 1]), native sampling.
    DISPLAY: windowed, resized, one plane, in [0, 1], before normalisation.
    STORED: native grid of the file, its storage range mapped to [0, 1]; rounding to ``stored_bits`` is what the file holds.
        The range of CT is -1024 HU and up, one grey level per HU; values the file has outside of it lie outside of [0, 1]
        and are to be left as they are. For other modalities it is the declared range. A model query made for a batch
        sees these images through windowing and resizing inside the graph.
    """

    PHYSICAL = "physical"
    DISPLAY = "display"
    STORED = "stored"


class Unit(StrEnum):
    """Unit of a physical image."""

    HU = "HU"
    SIGNAL = "signal"  # presentation or detector signal, declared range mapped to [0, 1]
    MAGNITUDE = "magnitude"  # MR magnitude scaled by its own percentiles, not clipped


class Kind(StrEnum):
    """How far a shift may be believed."""

    PHYSICAL = "physical"
    EMULATED = "emulated"
    APPROXIMATE = "approximate"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One named strength of a condition with its physical value."""

    name: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name} {self.unit}".strip()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Cases of equal shape on one device.

    Attributes:
        images: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` float32 in ``space``; never changed in place.
        labels: ``(N, K)`` float32: 1 positive, 0 negative, NaN unknown.
        case_ids: N names.
        patient_ids: N names, to be compared with each other and for nothing else; an audit gives salted ones.
        seeds: N base seeds, derived from the audit's seed and the case id.
        space: Which space ``images`` is in.
        unit: Unit of physical images; None in the other spaces.
        modality: DICOM modality code (DX, CR, CT, MR, MG, US).
        spacing_mm: ``(N, 2)`` or ``(N, 3)`` row, column (slice, row, column) spacing of ``images``; NaN where unknown.
        anatomy: ``(N, 1, H, W)`` boolean masks of the anatomy in ``space``, or None.
        lesion: ``(N, 1, H, W)`` boolean masks of the lesions in ``space``, or None when no case says where its lesions are;
            an empty mask is either "no lesion" or "not said", see ``lesion_known``.
        lesion_known: N times whether the case says where its lesions are, so that an empty mask means that it has none.
        limits: Physical values, in ``limits_unit``, of image values 0 and 1: in display space the window in HU or the
            declared range, in stored space the storage range. (0, 1) and without meaning in physical space, whose images
            are physical values already.
        limits_unit: Unit of ``limits``, whatever the space; None when it is not known.
        on_grid: In stored space, N times whether the image consists of grey levels of ``stored_bits`` bits. Where it does
            not (a radiograph behind a DICOM window, MR scaled by percentiles, CT in fractions of a HU), an image rounded
            to them can be kept in a file, but not in this one.
        stored_bits: Bit depth of the stored image, for rounding.
        clean_margins: ``(N, K)`` margins of the unaltered images, or None before they are known.
        clean_features: ``(N, F)`` penultimate features of the unaltered images, for a condition that ``reads_features``; None
            where the model gives no access to its layers.
        metadata: N mappings of metadata columns.
        attributes: N mappings of whitelisted DICOM attributes, declared in the plan or not; empty for other formats.
        tissue: ``(N, 1, …)`` uint8 maps of physical MR images of the brain: 1 fluid, 2 grey matter, 3 white matter, 0 none of
            them; all 0 for a case without a map. None when no case has one.
        zero_signal: ``(N,)`` value of physical images that stands for no signal at all; None: 0. MR scaled by its percentiles
            has it below 0.
        burned_in: N times whether the file says that text is burned into its pixels, or empty for none. What is learned
            from such a case must not be seen in the image of another.
        audit_seed: The audit's seed, for draws that belong to no case.
    """

    images: Tensor
    labels: Tensor
    case_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    space: Space
    unit: Unit | None = None
    modality: str = "DX"
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None
    lesion_known: tuple[bool, ...] = ()
    limits: tuple[float, float] = (0.0, 1.0)
    limits_unit: Unit | None = None
    on_grid: tuple[bool, ...] = ()
    stored_bits: int = 8
    clean_margins: Tensor | None = None
    clean_features: Tensor | None = None
    metadata: tuple[Mapping[str, str], ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()
    burned_in: tuple[bool, ...] = ()
    tissue: Tensor | None = None
    zero_signal: Tensor | None = None
    audit_seed: int = 0

    def __len__(self) -> int:
        return len(self.case_ids)

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.images.device

    def select(self, index: Tensor) -> Self:
        """Return the cases at ``index`` (int64), in that order."""
        rows = index.tolist()
        optional = ("spacing_mm", "zero_signal", "tissue", "anatomy", "lesion", "clean_margins", "clean_features")
        tensors = {name: value[index] for name in optional if (value := getattr(self, name)) is not None}
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            case_ids=tuple(self.case_ids[row] for row in rows),
            patient_ids=tuple(self.patient_ids[row] for row in rows),
            seeds=tuple(self.seeds[row] for row in rows),
            metadata=tuple(self.metadata[row] for row in rows) if self.metadata else (),
            burned_in=tuple(self.burned_in[row] for row in rows) if self.burned_in else (),
            on_grid=tuple(self.on_grid[row] for row in rows) if self.on_grid else (),
            lesion_known=tuple(self.lesion_known[row] for row in rows) if self.lesion_known else (),
            attributes=tuple(self.attributes[row] for row in rows) if self.attributes else (),
            **tensors,
        )


class Weigh(Protocol):
    """Chooses the weights of margins from the margins themselves."""

    def __call__(self, margins: Tensor, rows: Tensor, /) -> Tensor:
        """Weights ``(n, K)`` for detached margins ``(n, K)`` of the rows ``(n,)`` int64."""
        ...


class ModelQuery(Protocol):
    """How a condition may ask the model; every pass is counted, out-of-memory is handled behind it."""

    findings: tuple[str, ...]

    def margins(self, display: Tensor) -> Tensor:
        """Margins ``(N, K)`` float32 of display images ``(N, 1, H, W)``, without gradient."""
        ...

    def margins_and_gradient(self, display: Tensor, weights: Tensor | Weigh) -> tuple[Tensor, Tensor]:
        """Margins ``(N, K)`` and the gradient of ``(margins * weights).sum()`` with respect to ``display``.

        Args:
            display: ``(N, 1, H, W)`` in [0, 1].
            weights: ``(N, K)``; a case's row selects the finding (±1 at one place). Or a function that chooses them
                from the margins just computed, so that one pass serves goals such as the smallest of several margins.
                It is called with detached margins ``(n, K)`` of some of the rows and their row numbers ``(n,)`` int64 in
                ``display``, and returns ``(n, K)``. The weights are held fixed: the gradient is a subgradient of the
                goal. It may be called again for the same rows after the device ran out of memory, so it must be pure.

        Returns:
            Detached margins and a gradient of the shape of ``display``. No parameter gradient is made.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One level of a condition applied to a batch.

    Attributes:
        level: Which level.
        images: Altered images in the condition's space, scored for all findings; None when ``margins`` is given.
        margins: ``(N, K)`` margins found and verified by the condition itself; NaN where it did not look.
        applicable: ``(N,)`` boolean; False where the level has no meaning for the case (already beyond it, no mask).
        reason: Why some cases are not applicable, in a few words.
        full_search: For attacks: the search went on after the flip, so the margins rank (attacked AUROC is defined).
        attributes: What a header would say of the altered images and did not say before: whitelisted DICOM keyword → text,
            e.g. ``{"KVP": "80"}``. For the cases where the level is applicable.
        case_attributes: The same for each case, N mappings, where the text differs from case to case; goes before
            ``attributes``. Empty for none.
        spacing_mm: ``(N, 2)`` or ``(N, 3)`` spacing of the altered images where it is another, else None. The altered images
            may then have another shape than those of the batch.
        anatomy: Masks of the anatomy on the altered images, for a level that moves or resamples them, else None.
        lesion: The same for the lesions.
        excluded_findings: Names of findings that the level has no meaning for, whatever the case: they are not scored. A
            mirrored image says nothing of a finding of one side.
    """

    level: Level
    images: Tensor | None = None
    margins: Tensor | None = None
    applicable: Tensor | None = None
    reason: str = ""
    full_search: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    case_attributes: tuple[Mapping[str, str], ...] = ()
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None
    excluded_findings: tuple[str, ...] = ()

    def changed_attributes(self, count: int) -> tuple[Mapping[str, str], ...]:
        """New DICOM attributes of each of ``count`` cases; none where the level is not applicable."""
        own = self.case_attributes or ({},) * count
        applicable = [True] * count if self.applicable is None else self.applicable.tolist()
        return tuple({**self.attributes, **own[row]} if applicable[row] else {} for row in range(count))

    def applied_to(self, batch: Batch) -> Batch:
        """The batch as this level leaves it, for a condition that is applied after it.

        Masks that the level did not move are kept while the shape is the same, and dropped where it is another. Maps of tissues
        are dropped: a level does not say that it moved them.

        Raises:
            ValueError: The level has margins and no images.
        """
        if self.images is None:
            raise ValueError(f"level {self.level}: expected images to go on with, got margins")
        kept = self.images.shape == batch.images.shape
        known = batch.attributes or ({},) * len(batch)
        changed = self.changed_attributes(len(batch))
        merged = tuple({**old, **new} for old, new in zip(known, changed, strict=True))
        return replace(
            batch,
            images=self.images,
            spacing_mm=batch.spacing_mm if self.spacing_mm is None else self.spacing_mm,
            anatomy=batch.anatomy if self.anatomy is None and kept else self.anatomy,
            lesion=batch.lesion if self.lesion is None and kept else self.lesion,
            tissue=None,
            attributes=merged if any(merged) else batch.attributes,
            clean_margins=None,
            clean_features=None,
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Numbers about cases that are not margins: achieved noise, sampled parameters, saliency similarity.

    Attributes:
        quantity: Name with its unit, e.g. ``noise_sd_hu``.
        values: ``(N,)`` float; NaN where not measured.
        level: Name of the level it belongs to, "" for none.
        finding: Finding it belongs to, "" for none.
    """

    quantity: str
    values: Tensor
    level: str = ""
    finding: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseVector:
    """Several numbers of each case that belong together: penultimate features, a thumbnail.

    Attributes:
        name: What they are.
        values: ``(N, F)`` float, F the same for every case of an audit; NaN where not measured.
    """

    name: str
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a condition gives back: variants one after the other, so that only one is in memory, and measurements.

    ``measurements`` and ``vectors`` are complete only when ``variants`` has been consumed.
    """

    variants: Iterator[Variant]
    measurements: list[Measurement] = field(default_factory=list)
    vectors: list[CaseVector] = field(default_factory=list)


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
    """

    id: ClassVar[str]
    version: ClassVar[int]
    space: ClassVar[Space]
    neutral: ClassVar[float | None] = None
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


def fraction(value: float | str) -> float:
    """Read a number or a fraction.

    Raises:
        ValueError: It is neither.

    >>> fraction("1/255") == 1 / 255
    True
    """
    try:
        numerator, _, denominator = str(value).partition("/")
        return float(numerator) / float(denominator) if "/" in str(value) else float(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f'expected a number or a fraction such as "1/255", got {value!r}') from None
