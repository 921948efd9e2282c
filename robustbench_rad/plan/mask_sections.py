"""[data.anatomy], [data.lesion], [data.tissue]: where masks of the cases come from."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from robustbench_rad.errors import DataError
from robustbench_rad.plan.section import Section


class AnatomySection(Section):
    """[data.anatomy]: where masks of the anatomy come from; exactly one.

    ``column``: a file per case; ``atlas``: one file for all cases, of the size or the aspect ratio of their images, or of the
    size of the model's input; ``provider``: a function of the image.

    ``legitimate`` says of a finding where else its evidence may lie: a mask file, ``costophrenic-angles``, or ``exempt``
    (anywhere: a device).
    """

    column: str | None = None
    atlas: str | None = None
    provider: str | None = None
    legitimate: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.provider is not None:
            from robustbench_rad.anatomy_providers import import_string

            try:
                import_string(self.provider)
            except DataError as error:
                raise ValueError(f"{error.message.removeprefix('data.anatomy.')}. {error.hint}") from error
        if sum(value is not None for value in (self.column, self.atlas, self.provider)) != 1:
            raise ValueError("declare exactly one of column, atlas and provider")
        return self


class LesionSection(Section):
    """[data.lesion]: where lesions are (masks or boxes), and how small they may be."""

    column: str | None = None
    boxes: str | None = None
    diameter_mm: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.column is not None and self.boxes is not None:
            raise ValueError("declare column (masks) or boxes, not both")
        if (self.column, self.boxes, self.diameter_mm) == (None, None, None):
            raise ValueError("declare column (masks), boxes or diameter_mm")
        return self


class TissueSection(Section):
    """[data.tissue]: maps of the brain's tissues, and the number that a map has for each of them."""

    column: str | None = None
    fluid: Annotated[int, Field(ge=1)] = 1
    grey_matter: Annotated[int, Field(ge=1)] = 2
    white_matter: Annotated[int, Field(ge=1)] = 3

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Of fluid, grey matter and white matter."""
        return self.fluid, self.grey_matter, self.white_matter

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.numbers)) < 3:
            raise ValueError(f"fluid, grey_matter and white_matter: expected three numbers, got {self.numbers}")
        return self
