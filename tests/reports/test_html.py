"""The page: well-formed, self-contained, complete, escaped, small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from robustbench_rad.reports import _page
from robustbench_rad.reports.html import render_html
from robustbench_rad.result import AuditResult, Domain, Picture, Score, Table, Verdict

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr", "col"}
NAMESPACES = ("http://www.w3.org/2000/svg",)


class Page(HTMLParser):
    """Reads a page and refuses what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> names an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


@pytest.fixture(name="page")
def _read_page(result: AuditResult) -> Page:
    return Page(render_html(result))


def test_same_page_to_the_last_byte(result: AuditResult) -> None:
    assert render_html(result) == render_html(AuditResult.model_validate_json(result.to_json()))


def test_first_screen_comes_before_everything_else(page: Page) -> None:
    first = page.text.split("What was tested")[0]
    for words in ("Fail", "33 of 100, 95% interval 27 to 41", "75%", "Met", "Capped at 49", "21.4", "17.9", "8.2"):
        assert words in first
    assert "Of 16 criteria, 3 failed (2 critical), 4 could not be decided, 9 passed." in first


def test_every_part_of_the_result_is_on_the_page(page: Page, result: AuditResult) -> None:
    for criterion in result.criteria:
        assert criterion.reason in page.text
        assert criterion.check in page.text
    for words in (
        "upper bound of what to expect elsewhere",
        "1,210 positives needed",
        "0.612 [0.557, 0.667]",
        "ε 2/255 (0.00784 display)",
        "Pneumothorax by scanner",
        "The smallest nodule is 2.8 pixels wide",
        "unreadable file",
        "The patient column was not given",
        "AUROC 0.85: met",
        "a3a3a3",
        "evaluation 6 min 52 s",
        '"head": "sigmoid"',
        "Original and altered, pneumothorax",
    ):
        assert words in page.text, words


def test_every_verdict_has_its_word(page: Page) -> None:
    text = page.text
    for word in ("Pass", "Fail", "Inconclusive", "Not judged"):
        assert word in text
    signs = [attrs for tag, attrs in page.tags if tag == "b" and attrs.get("aria-hidden")]
    assert len(signs) >= 16


def test_nothing_is_fetched_and_nothing_runs(result: AuditResult, hostile: AuditResult) -> None:
    for shown in (result, hostile):
        text = render_html(shown)
        page = Page(text)
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert all(re.match("data:image/(png|jpeg);base64,", value) for value in page.values("src"))
        links = [attrs["href"] for tag, attrs in page.tags if "href" in attrs and tag != "image"]
        assert all(value.startswith("#") for value in links)
        laid = [attrs["href"] for tag, attrs in page.tags if tag == "image"]
        assert all(value.startswith("data:image/jpeg;base64,") for value in laid)
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
        style = text.split("<style>")[1].split("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        addresses = re.findall(r'"(https?://[^"]*)"', text)
        assert set(addresses) <= set(NAMESPACES)


def test_every_anchor_has_its_place_and_no_id_is_given_twice(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = [value[1:] for name in ("href", "xlink:href") for value in page.values(name) if value.startswith("#")]
    wanted += [
        word
        for name in ("aria-labelledby", "aria-describedby")
        for value in page.values(name)
        for word in value.split()
    ]
    assert set(wanted) <= set(ids)


def test_every_chart_has_a_title_and_numbers_behind_it(page: Page, result: AuditResult) -> None:
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(charts) == len(result.curves) + 7 + 2 + 1
    data = sum(tag == "details" and "data" in (attrs.get("class") or "").split() for tag, attrs in page.tags)
    assert data == len(result.curves) + 2
    assert "0.25 [0.20, 0.30]" in page.text


def test_hostile_text_comes_out_as_text(hostile: AuditResult) -> None:
    text = render_html(hostile)
    page = Page(text)
    assert "<script>alert(1)</script>␛[31m[red]|`x`⟨U+202E⟩evil" in page.text
    assert "استرواح الصدر" in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(len(word) for word in page.text.split()) <= 300


def test_a_page_of_many_findings_stays_small(make_result: Any) -> None:
    result = make_result()
    criteria = [
        c.model_copy(update={"id": f"{n}", "finding": f"finding {n}"}) for n in range(40) for c in result.criteria
    ]
    curves = [c.model_copy(update={"finding": f"finding {n}"}) for n in range(10) for c in result.curves]
    pictures = [p.model_copy(update={"png_base64": "A" * 400_000}) for p in result.pictures[:1] * 20]
    text = render_html(result.model_copy(update={"criteria": criteria, "curves": curves, "pictures": pictures}))
    assert len(text.encode("utf-8")) <= 5_000_000
    page = Page(text)
    assert "14 pictures left out" in page.text
    assert page.text.count("finding 39") >= len(result.criteria)


def test_what_does_not_fit_as_a_chart_stays_as_a_table(result: AuditResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_page, "CHART_BUDGET", 1)
    page = Page(render_html(result))
    assert not [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert "0.25 [0.20, 0.30]" in page.text


def test_long_tables_are_cut_and_say_so(result: AuditResult) -> None:
    table = Table(check="c", domain=Domain.CLEAN, title="Long", columns=["n"], rows=[[n] for n in range(1000)])
    assert "600 more rows in result.json." in Page(render_html(result.model_copy(update={"tables": [table]}))).text


def test_no_score_says_why_in_its_place(result: AuditResult) -> None:
    why = "The clean AUROC of effusion lies below its claim."
    score = result.score.model_dump() | {"total": None, "lower": None, "upper": None, "why_none": why}
    page = Page(render_html(result.model_copy(update={"score": Score(**score)})))
    assert f"No score {why}" in page.text
    assert "of 100, 95% interval" not in page.text


def test_an_empty_result_is_a_page_too(result: AuditResult) -> None:
    bare = {"criteria": [], "curves": [], "tables": [], "pictures": [], "findings": [], "verdict": Verdict.INCONCLUSIVE}
    score = result.score.model_copy(update={"domains": [], "costliest": [], "total": None})
    page = Page(render_html(result.model_copy(update={**bare, "score": score, "complete": False})))
    assert "Nothing was judged" in page.text
    assert "The audit is not complete" in page.text


@pytest.mark.parametrize("role", ["internal", "external", "temporal"])
def test_data_role_is_said(result: AuditResult, role: str) -> None:
    data = result.data.model_copy(update={"role": role})
    text = Page(render_html(result.model_copy(update={"data": data}))).text
    assert ("an upper bound of what to expect" in text) == (role == "internal")


def test_a_picture_that_is_no_base64_cannot_leave_its_attribute(result: AuditResult) -> None:
    picture = Picture(check="c", domain=Domain.CLEAN, caption='"><b>', png_base64='"><script>')
    Page(render_html(result.model_copy(update={"pictures": [picture]})))
    assert "<script" not in render_html(result.model_copy(update={"pictures": [picture]}))


def test_points_column_is_left_out_where_no_criterion_has_any(result: AuditResult) -> None:
    bare = [criterion.model_copy(update={"points": None}) for criterion in result.criteria]
    with_points = render_html(result).count('data-h="Points"')
    assert with_points == len(result.criteria)
    assert render_html(result.model_copy(update={"criteria": bare})).count('data-h="Points"') == 0


def test_a_panel_has_its_name_its_scores_and_its_difference(page: Page) -> None:
    """Words stand beside the images, and every image says what it is."""
    assert "original pneumothorax 0.412, not called" in page.text
    assert "top left pneumothorax 0.412 → 0.731 , flips" in page.text
    assert "top left, placebo pneumothorax 0.412 → 0.409" in page.text
    alts = [value for value in page.values("alt") if value.startswith("top left")]
    assert alts == [
        "top left",
        "top left: difference from the original",
        "top left, placebo",
        "top left, placebo: difference from the original",
    ]
    assert "together" in page.values("class")


def test_positions_lie_on_the_mean_image_only_where_there_is_one(result: AuditResult, make_picture: Any) -> None:
    assert "<image" not in render_html(result)
    mean = make_picture().model_copy(update={"field": True, "caption": "Mean image of the cases."})
    text = render_html(result.model_copy(update={"pictures": [*result.pictures, mean]}))
    assert text.count("<image ") == 1
    assert "Mean image of the cases." not in text
    broken = mean.model_copy(update={"panels": [mean.panels[0].model_copy(update={"jpeg_base64": '"/><script>'})]})
    assert "<script" not in render_html(result.model_copy(update={"pictures": [broken]}))


def test_panels_that_do_not_fit_are_left_out_and_counted(result: AuditResult, make_picture: Any) -> None:
    huge = make_picture()
    panels = [panel.model_copy(update={"jpeg_base64": "A" * 900_000}) for panel in huge.panels]
    page = Page(render_html(result.model_copy(update={"pictures": [huge.model_copy(update={"panels": panels})]})))
    assert "1 picture left out" in page.text
