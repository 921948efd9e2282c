"""``robustbench-rad sheet``: every level of a shift on one image, drawn to be looked at.

Exit codes: 0 drawn, 2 wrong input, 3 no level has a meaning for the image.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_rad.cli_measure import SpacingOption, UnitOption, checked_spacing, unit_named
from robustbench_rad.cli_support import (
    ExitCode,
    JsonOption,
    NoColorOption,
    Output,
    QuietOption,
    VerboseOption,
    command,
)

ShiftArgument = Annotated[str, typer.Argument(help="Id of a shift: robustbench-rad list shift.", show_default=False)]
ImageArgument = Annotated[Path, typer.Argument(help="PNG, TIFF, DICOM or NIfTI file.", show_default=False)]
LevelsOption = Annotated[
    str | None, typer.Option("--levels", help="Levels, e.g. 0.5,0.25; default: those of the shift.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Option of the shift: name=value; repeatable.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Picture to write: .png, .pdf or .svg.")]
WindowOption = Annotated[str | None, typer.Option("--window", help="Values shown black and white, e.g. -1000,200.")]
ZoomOption = Annotated[str | None, typer.Option("--zoom", help="Row,column of the zoom as shares, e.g. 0.4,0.6.")]
SliceOption = Annotated[
    int | None, typer.Option("--slice", min=0, metavar="N", help="Take one slice of a volume as a plane.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="For shifts that draw at random.")]


@command
def sheet(
    shift: ShiftArgument,
    image: ImageArgument,
    levels: LevelsOption = None,
    options: SetOption = None,
    out: OutOption = Path("sheet.png"),
    window: WindowOption = None,
    zoom: ZoomOption = None,
    slice_: SliceOption = None,
    spacing_mm: SpacingOption = None,
    unit: UnitOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Draw every level of a shift on one image: altered, difference, zoom, and what was measured of each."""
    from robustbench_rad.data.single import one_slice, read_single
    from robustbench_rad.reports.contact_sheet import write_sheet
    from robustbench_rad.sheet import make_sheet, shift_of

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    given = dict(_assignment(text) for text in options or [])
    if levels is not None:
        given["levels"] = [part.strip() for part in levels.split(",") if part.strip()]
    condition = shift_of(shift, given)
    ends, middle = _pair("--window", window), _pair("--zoom", zoom)
    _check_ends(ends, middle)
    read = read_single(image, unit=unit_named(unit), spacing_mm=checked_spacing(spacing_mm))
    drawn = make_sheet(
        read if slice_ is None else one_slice(read, slice_), condition, window=ends, zoom=middle, seed=seed
    )
    write_sheet(drawn, out)
    rows = [{"level": f.title, "applicable": f.image is not None, "said": list(f.lines)} for f in drawn.frames[1:]]
    if output.json:
        output.print_json({"sheet": str(out), "shift": drawn.shift, "unit": drawn.unit, "levels": rows})
    else:
        output.console.print(f"wrote {out}", markup=False)
    if not any(row["applicable"] for row in rows):
        reasons = sorted({" ".join(f.lines) for f in drawn.frames[1:]})
        output.say(f"no level has a meaning for this image: {'; '.join(reasons) or 'the shift has no levels'}")
        raise typer.Exit(ExitCode.INCONCLUSIVE)


def _assignment(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``; the value as TOML has it, else as text."""
    from robustbench_rad.errors import PlanError

    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise PlanError(f"--set: expected name=value, got {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _pair(option: str, text: str | None) -> tuple[float, float] | None:
    from robustbench_rad.errors import PlanError

    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise PlanError(f"{option}: expected two numbers with a comma between them, got {text!r}") from None
    return first, second


def _check_ends(window: tuple[float, float] | None, zoom: tuple[float, float] | None) -> None:
    from robustbench_rad.errors import PlanError

    if window is not None and not window[0] < window[1]:
        raise PlanError(f"--window: expected the lower value first, got {window[0]:g},{window[1]:g}")
    if zoom is not None and not all(0.0 <= share <= 1.0 for share in zoom):
        raise PlanError(f"--zoom: expected shares of the image from 0 to 1, got {zoom[0]:g},{zoom[1]:g}")
