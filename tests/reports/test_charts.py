"""Charts: stand-alone SVG that follows the page's palette."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from robustbench_rad.reports.charts import curve_chart, curve_limits, forest_chart
from robustbench_rad.result import AuditResult, Curve, CurvePoint, Interval, LevelRecord

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_same_chart_to_the_last_byte(result: AuditResult) -> None:
    assert curve_chart(result.curves[0], key="a") == curve_chart(result.curves[0], key="a")
    assert forest_chart(result.criteria[2:5], key="b") == forest_chart(result.criteria[2:5], key="b")


def test_curve_has_title_description_and_text_as_text(result: AuditResult) -> None:
    svg = curve_chart(result.curves[0], key="a")
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.find(f"{SVG}title").text == "AUROC of pneumothorax under shift.xr.dose"  # type: ignore[union-attr]
    assert "Clean: 0.91 [0.89, 0.93]." in root.find(f"{SVG}desc").text  # type: ignore[operator,union-attr]
    assert {"dose 0.5", "dose 0.25", "dose 0.1", "clean"} <= set(texts(svg))
    assert root.attrib["aria-labelledby"] == "a-t"


def test_colours_are_the_pages(result: AuditResult) -> None:
    for svg in (curve_chart(result.curves[0], key="a", floor=0.9), forest_chart(result.criteria[2:7], key="b")):
        assert set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]+\)", "", svg))) == set()
        assert "var(--ink" in svg or "var(--accent" in svg
        assert "font-family" not in svg


def test_ids_do_not_clash_on_a_page(result: AuditResult) -> None:
    both = [curve_chart(curve, key=f"c{n}") for n, curve in enumerate(result.curves[:2])]
    ids = re.findall(r' id="([^"]+)"', "".join(both))
    assert len(ids) == len(set(ids))
    for svg in both:
        own = set(re.findall(r' id="([^"]+)"', svg))
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= own


def test_global_settings_are_given_back(result: AuditResult) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    curve_chart(result.curves[0], key="a")
    assert dict(matplotlib.rcParams) == before


def test_hostile_names_are_drawn_as_text(hostile: AuditResult) -> None:
    svg = forest_chart(hostile.criteria[2:7], key="f") + curve_chart(hostile.curves[4], key="c")
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "&lt;script&gt;" in svg


@pytest.mark.parametrize("points", [0, 1, 3])
def test_undefined_values_leave_gaps_not_errors(points: int) -> None:
    nothing = Interval(estimate=None, lower=None, upper=None)
    level = LevelRecord(name="ε", value=1.0, unit="HU")
    curve = Curve(
        check="c",
        domain="adversarial",  # type: ignore[arg-type]
        finding="f",
        metric="m",
        clean=nothing,
        points=[CurvePoint(level=level, value=nothing)] * points,
    )
    assert curve_limits([curve]) == (0.0, 1.0)
    ElementTree.fromstring(curve_chart(curve, key="k"))


def test_limits_are_shared_and_hold_every_band(result: AuditResult) -> None:
    curves = [curve for curve in result.curves if curve.metric == "AUROC"]
    low, high = curve_limits(curves)
    assert low < min(p.value.lower or 1.0 for c in curves for p in c.points)
    assert high > max(p.value.upper or 0.0 for c in curves for p in c.points)


def test_harm_of_unbounded_interval(make_result: Any) -> None:
    criterion = make_result().criteria[2]
    unknown = criterion.model_copy(update={"harm": Interval(estimate=0.1, lower=None, upper=None), "tolerance": None})
    assert "upper bound –" in forest_chart([unknown], key="k")


def test_one_level_shows_its_interval_as_a_stroke(result: AuditResult) -> None:
    curve = result.curves[0]
    alone = curve.model_copy(update={"points": curve.points[:1]})
    unbounded = Interval(estimate=curve.points[0].value.estimate, lower=None, upper=None)
    bare = alone.model_copy(update={"points": [curve.points[0].model_copy(update={"value": unbounded})]})
    limits = (0.5, 1.0)
    assert curve_chart(alone, key="a", limits=limits) != curve_chart(bare, key="a", limits=limits)
