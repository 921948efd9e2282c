"""``[[model.defences]]``: what stands between the image and the network, in order; validated without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustbench_rad.errors import suggestion

Average = Literal["probabilities", "log-odds"]
Flip = Literal["horizontal", "vertical", "depth"]
Rotation = Annotated[float, Field(gt=-180.0, le=180.0)]


class DefenceSection(BaseModel):
    """Base of all defences: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @property
    def views(self) -> int:
        """Images that this defence makes of one; the network sees each."""
        return 1


class AugmentationSection(DefenceSection):
    """Test-time augmentation: the image, each of its flips and each of its rotations, averaged."""

    kind: Literal["test-time-augmentation"] = "test-time-augmentation"
    flips: list[Flip] = []
    rotations_degrees: list[Rotation] = []
    average: Average = "probabilities"

    @model_validator(mode="after")
    def _views(self) -> Self:
        if not self.flips and not self.rotations_degrees:
            raise ValueError('name at least one of flips, e.g. ["horizontal"], and rotations_degrees, e.g. [-5, 5]')
        for name, values in (("flips", self.flips), ("rotations_degrees", self.rotations_degrees)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value appears twice")
        if 0 in self.rotations_degrees:
            raise ValueError("rotations_degrees: the image as it is takes part anyway; take 0 out")
        return self

    @property
    def views(self) -> int:
        return 1 + len(self.flips) + len(self.rotations_degrees)

    def __str__(self) -> str:
        turned = [f"{degrees:+g}°" for degrees in self.rotations_degrees]
        parts = ["the image", *[f"{flip} flip" for flip in self.flips], *turned]
        return f"test-time augmentation (mean of {self.average} over {', '.join(parts)})"


class QuantisationSection(DefenceSection):
    """Rounding of the display range to ``2^bits`` grey levels."""

    kind: Literal["quantisation"] = "quantisation"
    bits: Annotated[int, Field(ge=1, le=16)]

    def __str__(self) -> str:
        return f"quantisation to {self.bits} bit{'' if self.bits == 1 else 's'}"


class JpegSection(DefenceSection):
    """Baseline JPEG, encoded and decoded; a volume slice by slice."""

    kind: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)]

    def __str__(self) -> str:
        return f"JPEG at quality {self.quality}"


class BlurSection(DefenceSection):
    """Gaussian blur in the image plane; a volume slice by slice."""

    kind: Literal["blur"] = "blur"
    fwhm_px: Annotated[float, Field(gt=0.0, le=64.0)]

    def __str__(self) -> str:
        return f"Gaussian blur of {self.fwhm_px:g} pixels FWHM"


class NoiseSection(DefenceSection):
    """Added Gaussian noise; the model is its average over a fixed number of draws."""

    kind: Literal["noise"] = "noise"
    sd: Annotated[float, Field(gt=0.0, le=1.0)]
    draws: Annotated[int, Field(ge=2, le=256)] = 8
    average: Average = "probabilities"

    @property
    def views(self) -> int:
        return self.draws

    def __str__(self) -> str:
        return f"added noise of SD {self.sd:g} of the display range (mean of {self.average} over {self.draws} draws)"


KINDS: Mapping[str, type[DefenceSection]] = {
    "test-time-augmentation": AugmentationSection,
    "quantisation": QuantisationSection,
    "jpeg": JpegSection,
    "blur": BlurSection,
    "noise": NoiseSection,
}


def _of_its_kind(given: Any) -> Any:  # noqa: ANN401 - whatever the user wrote
    """The section of the kind that is named, so that a message speaks of that kind only."""
    if isinstance(given, DefenceSection):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f'expected a table, e.g. {{ kind = "jpeg", quality = 75 }}, got {given!r}')
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        came = "it is missing" if kind is None else f"got {kind!r}. {suggestion(str(kind), KINDS)}"
        raise ValueError(f"kind: expected one of {', '.join(sorted(KINDS))}; {came}")
    from robustbench_rad.plan import explain

    try:
        return KINDS[kind].model_validate(dict(given), strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(explain(error, KINDS[kind]))) from error


AnyDefence = Annotated[
    AugmentationSection | QuantisationSection | JpegSection | BlurSection | NoiseSection, BeforeValidator(_of_its_kind)
]


def check_axes(defences: Sequence[AnyDefence], size: Sequence[int]) -> None:
    """Refuse an augmentation that has no meaning for the model's input.

    Raises:
        ValueError: A rotation of a volume, or a flip along an axis that there is not.
    """
    for defence in defences:
        if not isinstance(defence, AugmentationSection):
            continue
        if len(size) == 3 and defence.rotations_degrees:
            raise ValueError(
                "rotations_degrees: a volume has three axes to turn about and none is named; "
                'use flips = ["horizontal"], ["vertical"] or ["depth"], or take rotations_degrees out'
            )
        if len(size) == 2 and "depth" in defence.flips:
            raise ValueError(
                "flips: 'depth' needs a volume, model.input.size has two sides; use horizontal or vertical"
            )


def approximate(defences: Sequence[DefenceSection]) -> list[str]:
    """Kinds that have no gradient of their own and are passed straight through."""
    return [defence.kind for defence in defences if isinstance(defence, QuantisationSection | JpegSection)]


def passes(defences: Sequence[DefenceSection]) -> int:
    """Passes of the network for one image of the defended model."""
    return math.prod(defence.views for defence in defences)
