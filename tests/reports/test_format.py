"""Numbers and foreign text."""

from __future__ import annotations

import pytest

from robustbench_rad.reports import _format, _words
from robustbench_rad.result import AuditResult, Interval, LevelRecord, Verdict


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.915, 2, "0.92"),
        (-0.0316, 3, "−0.032"),
        (-0.0001, 2, "0.00"),
        (None, 2, "–"),
        (float("nan"), 2, "–"),
        (float("inf"), 2, "∞"),
        (float("-inf"), 2, "−∞"),
        (12345.6, 2, "12,346"),
    ],
)
def test_number(value: float | None, digits: int, text: str) -> None:
    assert _format.number(value, digits) == text


def test_interval_with_what_is_known() -> None:
    assert _format.interval(Interval(estimate=0.91, lower=0.86, upper=0.94)) == "0.91 [0.86, 0.94]"
    assert _format.interval(Interval(estimate=0.91, lower=None, upper=None)) == "0.91"
    assert _format.interval(Interval(estimate=None, lower=0.2, upper=None)) == "– [0.20, –]"


def test_points_are_never_rounded_up_over_a_pass() -> None:
    assert _format.points(69.99) == "69"
    assert _format.points(70.0) == "70"
    assert _format.points(100.0) == "100"


@pytest.mark.parametrize(
    ("value", "text"), [(0.999, ">99%"), (0.001, "<1%"), (0.0, "0%"), (1.0, "100%"), (0.6875, "69%")]
)
def test_percent_never_rounds_to_all_or_nothing(value: float, text: str) -> None:
    assert _format.percent(value) == text


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x202E, 0x2066, 0xFEFF, 0xFFFF, 0xD800])
def test_no_control_or_direction_character_survives(code: int) -> None:
    shown = _format.plain(f"a{chr(code)}b")
    assert chr(code) not in shown
    assert shown[0] == "a"
    assert shown[-1] == "b"
    assert shown.isprintable()


def test_letters_of_every_script_survive() -> None:
    assert _format.plain("استرواح 肺 ε\u200dμ é") == "استرواح 肺 ε\u200dμ é"


def test_plain_cuts_and_says_so() -> None:
    assert _format.plain("x" * 100, 10) == "x" * 9 + "…"
    assert _format.plain("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(
    ("estimate", "lower", "upper", "verdict"),
    [
        (0.9, 0.85, 0.95, Verdict.PASS),
        (0.84, 0.8, 0.849, Verdict.FAIL),
        (0.9, 0.84, 0.95, Verdict.INCONCLUSIVE),
        (0.84, 0.8, 0.85, Verdict.INCONCLUSIVE),
        (None, None, None, Verdict.INCONCLUSIVE),
    ],
)
def test_claim(estimate: float | None, lower: float | None, upper: float | None, verdict: Verdict) -> None:
    assert _words.claim_verdict(0.85, Interval(estimate=estimate, lower=lower, upper=upper)) is verdict


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (LevelRecord(name="kernel ×1.6", value=1.6, unit=""), "kernel ×1.6"),
        (LevelRecord(name="ε = 5 HU", value=5, unit="HU"), "ε = 5 HU"),
        (LevelRecord(name="thin", value=-1.25, unit="mm"), "thin (−1.25 mm)"),
        (LevelRecord(name="", value=0.5, unit="mm"), "0.5 mm"),
        (None, "–"),
    ],
)
def test_level_says_its_physical_value_once(level: LevelRecord | None, text: str) -> None:
    assert _words.level_words(level) == text


def test_without_points_the_greatest_excess_over_tolerance_is_worst(result: AuditResult) -> None:
    bare = [criterion.model_copy(update={"points": None, "critical": False}) for criterion in result.criteria]
    failed = [c.check for c in _words.worst_first(bare) if c.verdict is Verdict.FAIL]
    # (0.059 - 0.02) / 0.02, then (0.667 - 0.3) / 0.3, then (0.202 - 0.1) / 0.1
    assert failed == ["shift.xr.dose", "attack.pgd-linf", "shortcut.masked-anatomy"]
