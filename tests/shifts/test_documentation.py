"""The page about the shifts names all of them, as they are, and its pictures are there."""

import re
from pathlib import Path

import pytest

from robustbench_rad.registry import catalogue

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "shifts.md").read_text("utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for cells in (
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `shift\..*$", PAGE, re.M)
    )
}
SHIFTS = {id: entry for id, entry in catalogue().items() if id.startswith("shift.")}


def test_every_shift_has_its_row():
    assert set(ROWS) == set(SHIFTS)


@pytest.mark.parametrize("id", sorted(SHIFTS))
def test_a_row_says_kind_levels_and_modalities_of_the_catalogue(id):
    entry = SHIFTS[id]
    _, _, kind, levels, modalities = ROWS[id]
    assert kind == entry.kind
    names = ", ".join(level.name for level in entry.load()().levels)
    assert levels == (f"{names} {entry.unit}".strip() if names else "–")
    assert modalities == ("all" if len(entry.modalities) == 6 else ", ".join(entry.modalities))


def test_pictures_are_there_and_small():
    pictures = [DOCS / name for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE)]
    assert len(pictures) == 4
    assert all(1_000 < picture.stat().st_size <= 150_000 for picture in pictures)
