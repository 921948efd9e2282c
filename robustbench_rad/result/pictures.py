"""What a check shows, when the plan allows images."""

from __future__ import annotations

from pydantic import Field

from robustbench_rad.result.record import Record
from robustbench_rad.result.terms import Domain


class PanelLine(Record):
    """What is written under a panel of one finding: its score before and after."""

    name: str = Field(default="", description="The finding; empty where the text speaks for itself")
    text: str
    flips: bool = Field(default=False, description="Whether the call is another than that of the first panel")


class Panel(Record):
    """One image of a picture, with what is written under it."""

    name: str
    jpeg_base64: str
    difference_base64: str = Field(default="", description="Difference from the first panel, a JPEG; empty: none")
    lines: list[PanelLine] = Field(default_factory=list)
    group: str = Field(default="", description="Panels of one group stand together: an object and its placebo")


class Picture(Record):
    """A small picture for the report, only when the plan allows images: one image, or panels side by side."""

    check: str
    domain: Domain
    caption: str
    png_base64: str = ""
    panels: list[Panel] = Field(default_factory=list)
    field: bool = Field(default=False, description="A mean image, to be shown behind positions and not by itself")
