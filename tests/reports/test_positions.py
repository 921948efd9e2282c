"""Positions by effect: the chart, its words, and the rows of the other reports."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from robustbench_rad.reports import _positions
from robustbench_rad.reports.markdown import render_markdown
from robustbench_rad.result import AuditResult, Domain, Table

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(name="found")
def _found(make_positions: Any) -> list[_positions.Position]:
    return _positions.positions(make_positions())


def chart(found: list[_positions.Position], **options: Any) -> str:
    return _positions.position_chart(found, finding="pneumothorax", check="shortcut.insert-marker", key="p", **options)


def test_the_interval_says_which_way_a_position_moves_the_score(found: list[_positions.Position]) -> None:
    assert [item.sign for item in found] == ["^", "v", "o", "o"]


def test_the_largest_effect_comes_first_whatever_its_sign(found: list[_positions.Position]) -> None:
    assert [item.name for item in _positions.strongest(found)] == ["top left", "top right", "bottom left"]


def test_every_position_is_on_the_chart_as_text_and_in_its_description(found: list[_positions.Position]) -> None:
    root = ElementTree.fromstring(chart(found))
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    joined = " ".join(" ".join(words).split())
    assert "1 top left 0.42 [0.31, 0.54] SD" in joined
    assert "2 top right −0.12 [−0.24, 0.00] SD" in joined
    assert "4 bottom right not assessable" in joined
    for sign in ("▲ raises the score", "▼ lowers it"):
        assert sign in joined
    described = root.find(f"{SVG}desc").text  # type: ignore[union-attr]
    assert "1: top left at x 0.07, y 0.08: 0.42 [0.31, 0.54] SD." in (described or "")
    assert "4: bottom right: not assessable." in (described or "")
    assert root.find(f"{SVG}title").text == "Effect of shortcut.insert-marker on pneumothorax by position"  # type: ignore[union-attr]


def test_what_moves_up_and_down_has_its_own_colour_of_the_page(found: list[_positions.Position]) -> None:
    svg = chart(found)
    assert "var(--raised" in svg
    assert "var(--accent" in svg
    assert set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]+\)", "", svg))) == set()
    assert chart(found) == svg


def test_a_mark_lies_where_its_row_says(found: list[_positions.Position]) -> None:
    """Left and up on the image are left and up on the chart."""
    places = [
        float(x)
        for x in re.findall(r'<use href="#p-\d+" x="([0-9.]+)" y="[0-9.]+" style="fill: var\(--raised', chart(found))
    ]
    mirrored = [item.__class__(**{**vars(item), "x": None if item.x is None else 1 - item.x}) for item in found]
    moved = [
        float(x)
        for x in re.findall(r'<use href="#p-\d+" x="([0-9.]+)" y="[0-9.]+" style="fill: var\(--raised', chart(mirrored))
    ]
    assert len(places) == len(moved) == 2
    assert places[0] < moved[0]
    assert places[1] == moved[1]  # the row of the effect stays


def test_the_image_takes_the_place_of_the_field(found: list[_positions.Position], make_picture: Any) -> None:
    behind = make_picture().panels[0].jpeg_base64
    (image,) = ElementTree.fromstring(chart(found, behind=behind)).iter(f"{SVG}image")
    assert image.attrib["href"] == f"data:image/jpeg;base64,{behind}"
    assert float(image.attrib["width"]) == pytest.approx(_positions._FIELD * 72, abs=0.5)
    assert float(image.attrib["height"]) == pytest.approx(_positions._FIELD * 72, abs=0.5)


def test_a_background_that_is_no_base64_is_not_used(make_picture: Any) -> None:
    picture = make_picture().model_copy(update={"field": True})
    assert _positions.background([picture], picture.check) == picture.panels[0].jpeg_base64
    assert _positions.background([picture], "another") == ""
    bad = picture.model_copy(update={"panels": [picture.panels[0].model_copy(update={"jpeg_base64": '"><script>'})]})
    assert _positions.background([bad], bad.check) == ""


def test_a_background_that_is_no_image_still_gives_a_chart(found: list[_positions.Position]) -> None:
    ElementTree.fromstring(chart(found, behind="AAAA"))


def test_of_many_findings_those_with_the_largest_effects_are_drawn(make_positions: Any) -> None:
    many = []
    for number in range(20):
        for item in _positions.positions(make_positions(f"f{number:02d}")):
            effect = item.effect
            scaled = (
                effect if effect.estimate is None else effect.model_copy(update={"estimate": effect.estimate * number})
            )
            many.append(item.__class__(**{**vars(item), "effect": scaled}))
    assert _positions.shown_findings(many) == ["f14", "f15", "f16", "f17", "f18", "f19"]


def test_a_table_without_positions_has_none_and_short_rows_are_no_error() -> None:
    plain = Table(check="c", domain=Domain.SHORTCUT, title="t", columns=["finding"], rows=[["f"]])
    assert _positions.positions(plain) == []
    short = Table(check="c", domain=Domain.SHORTCUT, title="t", columns=list(_positions.COLUMNS), rows=[["f", "w"]])
    (item,) = _positions.positions(short)
    assert item.effect.estimate is None
    assert _positions.shown_findings([item]) == []


def test_positions_that_would_lie_on_each_other_stand_beside_each_other(found: list[_positions.Position]) -> None:
    same = [item.__class__(**{**vars(item), "x": 0.5, "y": 0.5}) for item in found]
    marks = re.findall(r'x="([0-9.]+)" y="([0-9.]+)" style="fill: var\(--paper', chart(same))
    assert len(set(marks)) == len(marks)


def test_the_checks_own_table_is_one_that_is_drawn() -> None:
    """The columns that are read here are those that the insertions write."""
    import inspect

    from robustbench_rad.checks import insertion

    source = inspect.getsource(insertion._positions)
    assert all(f'"{name}"' in source for name in _positions.COLUMNS)


def test_markdown_has_the_rows(result: AuditResult) -> None:
    text = render_markdown(result)
    assert "<summary>Marker positions by effect</summary>" in text
    assert "| `shortcut.insert-marker` | pneumothorax | top left | 0.07 | 0.08 | 0.42 [0.31, 0.54] |" in text
    assert "Marker positions" not in render_markdown(result.model_copy(update={"tables": result.tables[:1]}))
