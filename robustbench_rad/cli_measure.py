"""``robustbench-rad measure``: noise, sharpness and texture of single images, without a plan or a model.

Exit codes: 0 measured, 2 an image could not be read (the others are measured).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_rad.cli_plain import print_plain
from robustbench_rad.cli_support import (
    ExitCode,
    JsonOption,
    NoColorOption,
    Output,
    QuietOption,
    VerboseOption,
    command,
)

if TYPE_CHECKING:
    from rich.table import Table

    from robustbench_rad.conditions import Unit
    from robustbench_rad.metrology.measuring import Measured

UNITS = ("HU", "signal", "magnitude")

ImagesArgument = Annotated[list[Path], typer.Argument(help="PNG, TIFF, DICOM or NIfTI files.", show_default=False)]
SpacingOption = Annotated[
    float | None, typer.Option("--spacing-mm", help="Side of a pixel; default: what the file says.")
]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="HU, signal or magnitude, for files that do not say (NIfTI).")
]


@command
def measure(
    images: ImagesArgument,
    spacing_mm: SpacingOption = None,
    unit: UnitOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Measure images: native noise, f50, noise power peak, bits in use; of MR also SNR, non-uniformity and ghosts."""
    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    spacing, declared = checked_spacing(spacing_mm), unit_named(unit)
    found = [_one(path, declared, spacing) for path in images]
    if output.json:
        output.print_json({"images": found})
    else:
        for content in found:
            _show(content, output)
    if any("error" in content for content in found):
        raise typer.Exit(ExitCode.USAGE)


def checked_spacing(value: float | None) -> float | None:
    """A spacing as it was given, or none.

    Raises:
        PlanError: Not a number above 0.
    """
    from robustbench_rad.errors import PlanError

    if value is not None and not 0.0 < value < 1000.0:
        raise PlanError(f"--spacing-mm: expected millimetres above 0, got {value:g}")
    return value


def unit_named(text: str | None) -> Unit | None:
    """The unit of that name.

    Raises:
        PlanError: No such unit.
    """
    from robustbench_rad.conditions import Unit
    from robustbench_rad.errors import PlanError, suggestion

    if text is None:
        return None
    known = {name.lower(): name for name in UNITS}
    if text.lower() not in known:
        raise PlanError(f"--unit: expected one of {', '.join(UNITS)}, got {text!r}", hint=suggestion(text, UNITS))
    return Unit(known[text.lower()])


def _one(path: Path, unit: Unit | None, spacing_mm: float | None) -> dict[str, Any]:
    """What one file says; an image that cannot be read does not take the others with it."""
    from dataclasses import asdict

    from robustbench_rad.data.single import read_single
    from robustbench_rad.errors import RobustbenchRadError
    from robustbench_rad.metrology.grey_levels import bits_of, grey_levels_in_use
    from robustbench_rad.metrology.measuring import measure as measured

    try:
        image = read_single(path, unit=unit, spacing_mm=spacing_mm)
        rows = measured(image)
    except RobustbenchRadError as error:
        return {"image": str(path), "error": {"message": error.message, "hint": error.hint}}
    levels = grey_levels_in_use(image.stored) if image.stored.dtype.kind in "ui" else None
    return {
        "image": str(path),
        "modality": image.modality,
        "unit": image.unit.value,
        "size": list(image.pixels.shape),
        "spacing_mm": None if image.spacing_mm is None else list(image.spacing_mm),
        "stored_bits": image.stored_bits,
        "grey_levels": levels,
        "bits_in_use": None if levels is None else bits_of(levels),
        "measured": [asdict(row) for row in rows],
    }


def _show(content: dict[str, Any], output: Output) -> None:
    from robustbench_rad.metrology.measuring import Measured

    if "error" in content:
        error = content["error"]
        output.messages.print(f"error: {error['message']}", style="bold red", markup=False, soft_wrap=True)
        if error["hint"]:
            output.messages.print(f"  {error['hint']}", markup=False, soft_wrap=True)
        return
    print_plain(output.console, _table(content, [Measured(**row) for row in content["measured"]]))


def _table(content: dict[str, Any], rows: list[Measured]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(content["image"]), title_justify="left", box=None, pad_edge=False)
    for name in ("quantity", "value", "middle half", "read at", ""):
        table.add_column(name, justify="right" if name in ("value", "middle half") else "left")
    table.add_row("size", " x ".join(map(str, content["size"])), "", "", "")
    table.add_row("bits in use", *_bits(content))
    spacing = content["spacing_mm"]
    table.add_row(
        "spacing", " x ".join(f"{side:.3g}" for side in spacing) + " mm" if spacing else "unknown", "", "", ""
    )
    for row in rows:
        if row.value is None:
            table.add_row(row.quantity, "–", "", "", Text(f"not measurable: {row.reason}"))
            continue
        spread = "" if row.lower is None or row.upper is None else f"{row.lower:.3g}–{row.upper:.3g}"
        table.add_row(row.quantity, f"{row.value:.3g} {row.unit}".strip(), spread, row.places, Text(row.reason))
    return table


def _bits(content: dict[str, Any]) -> tuple[str, str, str, str]:
    if content["bits_in_use"] is None:
        return "–", "", "", "not measurable: floating-point numbers have no grey levels"
    declared = f"{content['grey_levels']} grey levels; the file declares {content['stored_bits']} bits"
    return str(content["bits_in_use"]), "", "", declared
