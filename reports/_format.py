"""Numbers and foreign text as every report shows them.

Two decimals for a metric, three for a harm (tolerances are hundredths), a true minus sign, an en dash for what is not
defined. Text that a user wrote keeps its letters but loses the power to steer a terminal or a page.
"""

from __future__ import annotations

import math
import re

from robustbench_rad.result import Interval

NOTHING = "–"
HARM_DIGITS = 3
DUST = 1e-12  # what rounding leaves of a difference of equal numbers
_SPACES = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029 ]+")
# Controls (ESC among them), the characters that turn the direction of what follows, and what XML does not allow.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


def plain(text: object, limit: int | None = None) -> str:
    r"""Foreign text on one line: blanks collapsed, control and direction characters made visible, cut at ``limit``.

    >>> plain("\x1b[31mred\nline")
    '␛[31mred line'
    >>> plain("a\u202eb"), plain("pneumothorax", limit=6)
    ('a⟨U+202E⟩b', 'pneum…')
    """
    line = _UNSAFE.sub(_visible, _SPACES.sub(" ", str(text))).strip()
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed decimals; fewer from 100 on, where they would say nothing.

    >>> number(0.9134), number(-0.004, 3), number(-0.0001), number(None), number(1234.5)
    ('0.91', '−0.004', '0.00', '–', '1,234')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):,.{digits if abs(value) < 100 else 0}f}"
    return f"−{text}" if value < 0 and text.strip("0.,") else text


def interval(value: Interval, digits: int = 2) -> str:
    """An estimate with its interval.

    >>> interval(Interval(estimate=0.91, lower=0.86, upper=0.94))
    '0.91 [0.86, 0.94]'
    >>> interval(Interval(estimate=None, lower=None, upper=None))
    '–'
    """
    if value.lower is None and value.upper is None:
        return number(value.estimate, digits)
    return f"{number(value.estimate, digits)} [{number(value.lower, digits)}, {number(value.upper, digits)}]"


def harm(value: Interval) -> str:
    """A harm with its interval, three decimals.

    >>> harm(Interval(estimate=0.021, lower=-0.003, upper=0.0452))
    '0.021 [−0.003, 0.045]'
    """
    return interval(value, HARM_DIGITS)


def percent(value: float | None, digits: int = 0) -> str:
    """A share as percent.

    Rounding never turns a part into the whole, or something into nothing.

    >>> percent(0.78), percent(0.9996), percent(0.0004), percent(1.0), percent(None)
    ('78%', '>99%', '<1%', '100%', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{number(100 * value, digits)}%"
    if digits == 0 and value < 1 and text == "100%":
        return ">99%"
    return "<1%" if digits == 0 and value > 0 and text == "0%" else text


def points(value: float | None) -> str:
    """Points of 0–100, whole.

    >>> points(69.97), points(None)
    ('69', '–')
    """
    # Downwards: 69.97 did not reach the 70 of a pass.
    return NOTHING if value is None or math.isnan(value) else f"{math.floor(value + 1e-9)}"


def count(value: int | None) -> str:
    """A whole number with thousands separated.

    >>> count(12345), count(None)
    ('12,345', '–')
    """
    return NOTHING if value is None else f"{value:,}"


def amount(value: int, noun: str, plural: str | None = None) -> str:
    """A counted noun.

    >>> amount(1, "criterion", "criteria"), amount(1200, "case")
    ('1 criterion', '1,200 cases')
    """
    return f"{count(value)} {noun if value == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A length of time.

    >>> duration(3.21), duration(75), duration(7260)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def cells(value: str | float | int | None, *limits: str | float | int | None) -> str:
    """A cell, or a value with its two limits in one, to three significant digits.

    >>> cells(0.98347, 0.9417, 0.99551), cells(0.0235, 0.0196, "> 32/255"), cells(None, None, None), cells(0.98347)
    ('0.983 [0.942, 0.996]', '0.0235 [0.0196, > 32/255]', '–', '0.9835')
    """
    if not limits:
        return cell(value)
    if value is None and all(limit is None for limit in limits):
        return NOTHING
    return f"{_short(value)} [{', '.join(map(_short, limits))}]"


def _short(value: str | float | int | None) -> str:
    short = isinstance(value, float) and math.isfinite(value) and abs(value) < 1000
    return cell(float(f"{value:.3g}") if short else value)


def cell(value: str | float | int | None) -> str:
    """A plain cell of a table: text as text, whole numbers grouped, others to four significant digits.

    >>> cell(None), cell(1200), cell(0.123456), cell(-2.5), cell("a"), cell(-1.11e-16)
    ('–', '1,200', '0.1235', '−2.5', 'a', '0')
    """
    if value is None or isinstance(value, str):
        return plain(value) if value else NOTHING
    if isinstance(value, int):
        return count(value).replace("-", "−")
    if not math.isfinite(value):
        return number(value)
    return f"{0.0 if abs(value) < DUST else value:.4g}".replace("-", "−")
