"""A transform of the user's own, from TorchIO, MONAI, albumentations or plain Python, as a named shift.

The transform runs image by image with generators seeded from the case, so that its answer does not depend on the batch or on
what was drawn before; what it gives back is checked, never repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Space, Unit, Variant
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.factories import explained, import_named
from robustbench_rad.registry import register
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shifts._albumentations import stay_off_the_network
from robustbench_rad.shifts._any_image import require_image
from robustbench_rad.shifts._display import require_display
from robustbench_rad.shifts._foreign import CALLS, Floats, call, library_of, own_random_state
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._levels import require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.plan import Plan

GIVEN = Level(name="as given", value=1.0, unit="")
SLACK = 1e-4  # of the range: what the arithmetic of a library may leave beyond it
NORMALISED_SPAN = 20.0  # HU: what is left of hundreds after a z-score or a scaling to [0, 1]


@register(
    id="shift.library.transform",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Pérez-García et al. 2021, 10.1016/j.cmpb.2021.106236; Cardoso et al. 2022, arXiv:2211.02701",
)
@dataclass(frozen=True, kw_only=True)
class LibraryTransform(Condition):
    """A transform of TorchIO, MONAI, albumentations or your own, by import string.

    In a plan: ``"shift.library.transform" = { transform = "my_shifts.py:ghosting", images = "physical" }``. The name is that of
    an object that is called with an image: a transform of a library, or a function of a float32 array ``(H, W)`` or
    ``(D, H, W)`` that gives back another of the same shape. With ``levels`` it is that of a function which makes such an
    object from a level's value. MONAI's dictionary transforms are given the image as ``image``, or as their only key. Refused
    with the reason: HU for albumentations, which clips them; AlbumentationsX; another shape or type; NaN; values outside of
    the range; negative magnitudes; lost HU; an answer that is another when it is asked twice. What a transform that is applied
    with a probability leaves as it was shows in ``rms_change``: 0.

    Attributes:
        levels: Values that the named function makes transforms from; without them the transform is taken as it is.
        transform: ``module:name`` or ``path/to/file.py:name``.
        library: ``auto`` (by the class of the transform), ``torchio``, ``monai``, ``albumentations`` or ``function``.
        images: ``display`` (windowed, in [0, 1]) or ``physical`` (HU, signal in [0, 1], magnitude).
        seeded: Whether the generators of Python, NumPy, torch and the library are seeded from each case; leave it out only for
            a transform that draws nothing, or seeds itself.
        folder: What files are relative to; a plan sets it to its own folder.
    """

    levels: tuple[Level, ...] = (GIVEN,)
    transform: str = ""
    library: str = "auto"
    images: str = "display"
    seeded: bool = True
    folder: str = "."

    def __post_init__(self) -> None:
        require_one_of(self, "library", ("auto", *CALLS))
        require_one_of(self, "images", ("display", "physical"))
        if not isinstance(self.seeded, bool):
            raise ValueError(f"seeded: expected true or false, got {self.seeded!r}")
        if self.library == "albumentations" and self.images == "physical":
            raise ValueError("images: expected display for albumentations, which clips physical values to [0, 1]")

    @property
    def works_in(self) -> Space:
        """Display or physical space, as declared."""
        return Space(self.images)

    def bound(self, plan: Plan) -> Self:
        """The shift with files relative to the plan.

        Raises:
            PlanError: No transform is named, or it cannot be imported.
        """
        bound = replace(self, folder=str(plan.base))
        bound._named()
        return bound

    @property
    def reads_sha256(self) -> str:
        """Hash of the file that holds the transform; "" for a module without source."""
        import hashlib
        import importlib.util

        place = self.transform.rpartition(":")[0]
        if place.endswith(".py"):
            path = Path(self.folder) / place
        else:
            spec = importlib.util.find_spec(place.partition(".")[0]) and importlib.util.find_spec(place)
            path = Path(spec.origin) if spec and spec.origin else Path()
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Transform every image with every level.

        Raises:
            PlanError: The transform cannot be imported, or is none.
            DataError: It failed, or gave back what is no image of the same kind.
            ImageError: Images outside of their range before the transform.
        """
        del query, state
        if self.works_in is Space.DISPLAY:
            require_display(batch, shift=self.id)
        else:
            require_image(batch, shift=self.id)
        measured: list[Measurement] = []
        return Applied(variants=self._variants(batch, _from_zero(batch), measured), measurements=measured)

    def _variants(self, source: Batch, batch: Batch, measured: list[Measurement]) -> Iterator[Variant]:
        for level in self.levels:
            transform = self._made(level)
            library = self._library(transform, batch)
            done = [self._case(transform, library, batch, row) for row in range(len(batch))]
            if done and not np.array_equal(done[0], self._case(transform, library, batch, 0, again=True)):
                raise DataError(
                    f"{self._said}: gave another answer when it was asked twice for the same image and seed",
                    hint=_TWICE_SEEDED if self.seeded else "It draws at random: leave seeded = true.",
                )
            images = torch.from_numpy(np.stack(done)).to(batch.images)[:, None]
            change = (images - batch.images).flatten(1).square().mean(1).sqrt()
            measured.append(Measurement(quantity=_change_name(batch), level=level.name, values=change))
            yield Variant(level=level, images=_on_scale(images, batch, source))

    @property
    def _said(self) -> str:
        return f"{self.id}: transform = {self.transform!r}"

    def _named(self) -> Any:  # noqa: ANN401 - the user's own object
        if not self.transform:
            raise PlanError(
                f"[checks.{self.id!r}]: names no transform",
                hint='For example transform = "my_shifts.py:ghosting".',
            )
        return _imported(self.transform, self.folder, f"[checks.{self.id!r}] transform")

    def _made(self, level: Level) -> Any:  # noqa: ANN401
        """The transform of a level."""
        named = self._named()
        if level is not GIVEN:
            with (
                explained(f"{self._said}: calling it with {level.name} failed", DataError, _LEVELS),
                own_random_state(0),
            ):
                named = named(level.value)
        if isinstance(named, type) or not callable(named):
            came = f"the class {named.__name__}" if isinstance(named, type) else type(named).__name__
            raise PlanError(
                f"{self._said}: expected a transform that can be called with an image, got {came}", hint=_LEVELS
            )
        return named

    def _library(self, transform: object, batch: Batch) -> str:
        library = library_of(transform) if self.library == "auto" else self.library
        if library == "albumentations" and batch.space is not Space.DISPLAY:
            raise DataError(
                f"{self._said}: albumentations clips what lies outside [0, 1] without a word, and the images are in "
                f"{batch.unit or 'no unit'}",
                hint='Say images = "display".',
            )
        return library

    def _case(self, transform: object, library: str, batch: Batch, row: int, *, again: bool = False) -> Floats:
        """One image, transformed and checked; ``again`` from another global state where the state must not matter."""
        image = batch.images[row, 0].detach().float().cpu().numpy()
        spacing = [] if batch.spacing_mm is None else batch.spacing_mm[row].tolist()
        seed = derive_seed(batch.seeds[row], self.id, self.version, self.transform)
        with (
            explained(f"{self._said}: failed on {batch.case_ids[row]}", DataError, _BY_ITSELF),
            own_random_state(seed if self.seeded else int(again)),
        ):
            altered = np.asarray(call(library, transform, image, spacing, seed))
        self._check(altered, image, batch, row)
        return np.ascontiguousarray(_limited(altered, batch), dtype=np.float32)

    def _check(self, altered: np.ndarray[Any, Any], image: Floats, batch: Batch, row: int) -> None:
        """Refuse an answer that is no image of the same kind."""
        where = f"{self._said}: {batch.case_ids[row]}"
        if altered.shape != image.shape or altered.dtype.kind != "f":
            came = f"{altered.dtype} {altered.shape}"
            raise DataError(f"{where}: expected floats of shape {image.shape} back, got {came}", hint=_SAME)
        if not np.isfinite(altered).all():
            raise ImageError(f"{where}: expected finite values back, got NaN or infinity", hint=_SAME)
        low, high = float(altered.min()), float(altered.max())
        if _ranged(batch) and not (low >= -SLACK and high <= 1.0 + SLACK):
            raise ImageError(f"{where}: expected values in [0, 1] back, got [{low:.4g}, {high:.4g}]", hint=_CLAMP)
        if batch.unit is Unit.HU and high - low <= min(NORMALISED_SPAN, 0.1 * float(np.ptp(image))):
            raise ImageError(
                f"{where}: expected HU back, got values in [{low:.4g}, {high:.4g}]: the range was lost", hint=_SAME
            )
        if batch.unit is Unit.MAGNITUDE and low < min(0.0, float(image.min())) - SLACK * float(np.ptp(image)):
            raise ImageError(f"{where}: expected a magnitude back, got {low:.4g}, below 0", hint=_MAGNITUDE)


_LEVELS = (
    "Name an object or a function to be called with an image; with levels, a function that makes one from a number."
)
_BY_ITSELF = "Call it in Python by itself to see why."
_SAME = "A shift gives back an image of the same shape and unit; values are not clipped or scaled for it."
_CLAMP = (
    "Values are not clipped for it. If that is meant, end the transform with it: "
    "torchio.Clamp(0, 1) in a torchio.Compose, monai's Lambda(lambda x: x.clip(0, 1)), or clip(0, 1) in a function of your own."
)
_MAGNITUDE = (
    "Transforms in k-space that keep the real part leave negative values. If magnitude is meant, end the transform with it: "
    "torchio.Lambda(torch.abs) in a torchio.Compose, monai's Lambda(abs), or abs in a function of your own."
)
_TWICE_SEEDED = (
    "It draws from a generator of its own: seed that one, or draw from NumPy's, torch's or Python's global one."
)


@cache
def _imported(transform: str, folder: str, key: str) -> Any:  # noqa: ANN401 - the user's own object
    stay_off_the_network()
    return import_named(transform, base=Path(folder), kind=PlanError, key=key)


def _ranged(batch: Batch) -> bool:
    return batch.space is Space.DISPLAY or batch.unit is Unit.SIGNAL


def _from_zero(batch: Batch) -> Batch:
    """Magnitude counted from no signal, so that a gain or a k-space transform means what it says."""
    if batch.zero_signal is None:
        return batch
    return replace(batch, images=batch.images - per_case(batch.zero_signal, batch.images), zero_signal=None)


def _on_scale(images: Tensor, from_zero: Batch, source: Batch) -> Tensor:
    """Back on the scale of the source; what was not touched is the source's own, bit for bit."""
    if source.zero_signal is None:
        return images
    return torch.where(images == from_zero.images, source.images, images + per_case(source.zero_signal, images))


def _change_name(batch: Batch) -> str:
    return "rms_change_hu" if batch.unit is Unit.HU else "rms_change"


def _limited(altered: np.ndarray[Any, Any], batch: Batch) -> np.ndarray[Any, Any]:
    """Take away what the arithmetic left beyond the range."""
    return altered.clip(0.0, 1.0) if _ranged(batch) else altered
