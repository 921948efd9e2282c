"""Charts as inline SVG: robustness curves and forest plots.

matplotlib's Figure objects are drawn straight to SVG, without pyplot and without a date, so one result gives one page to the
last byte. Colours are drawn as stand-ins and then replaced by CSS variables with a fallback: the page's own palette, light
or dark, reaches into the chart, and the chart still stands alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from robustbench_rad.reports import _words
from robustbench_rad.reports._format import interval, number, plain
from robustbench_rad.result import Criterion, Curve, Interval, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-in colours that nobody would choose, each with what the page puts in its place.
_INK, _MUTED, _RULE, _SERIES, _PAPER = "#010101", "#020202", "#030303", "#040404", "#080808"
_RAISED = "#090909"  # against the series: what raises a score, where the series' colour lowers it
_VERDICT = {
    Verdict.FAIL: "#050505",
    Verdict.INCONCLUSIVE: "#060606",
    Verdict.PASS: "#070707",
    Verdict.INFORMATIONAL: _MUTED,
}
_PALETTE = {
    _INK: "var(--ink,#1c2430)",
    _MUTED: "var(--muted,#55606d)",
    _RULE: "var(--rule,#d9dee4)",
    _SERIES: "var(--accent,#1d5f8f)",
    _PAPER: "var(--paper,#ffffff)",
    _RAISED: "var(--raised,#b4530b)",
    _VERDICT[Verdict.FAIL]: "var(--fail,#b3261e)",
    _VERDICT[Verdict.INCONCLUSIVE]: "var(--inconclusive,#8a5a00)",
    _VERDICT[Verdict.PASS]: "var(--pass,#1a7346)",
}
# Shapes beside colours: a cross, a diamond and a disc are told apart on a grey print.
_MARKERS = {Verdict.FAIL: "X", Verdict.INCONCLUSIVE: "D", Verdict.PASS: "o", Verdict.INFORMATIONAL: "s"}
# Inches of a row: a label, and the interval under it, so that the plot stays readable on a phone.
_ROW = 0.42
# Any: matplotlib types the keys as one long literal.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robustbench-rad",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "path.simplify": False,
}


def curve_chart(
    curve: Curve, *, key: str, limits: tuple[float, float] | None = None, floor: float | None = None
) -> str:
    """A metric against the levels of a condition, with its band and the clean value as a dashed line.

    Levels stand at equal distances in their own order: they are named steps, and some conditions are two-sided.

    Args:
        curve: What to draw.
        key: Prefix of the ids, unique on the page.
        limits: Range of the metric, shared by charts that stand side by side.
        floor: The lowest value that the tolerance allows, drawn as a dotted line.
    """
    with _figure(3.5, 2.3) as figure:
        axes = figure.add_axes((0.13, 0.22, 0.84, 0.74))
        positions = list(range(len(curve.points)))
        _clean_line(axes, curve.clean, len(positions))
        if floor is not None:
            axes.axhline(floor, color=_VERDICT[Verdict.FAIL], linewidth=1, linestyle=(0, (1, 2)))
        low, middle, high = _bounds([point.value for point in curve.points])
        axes.fill_between(positions, low, high, color=_SERIES, alpha=0.18, linewidth=0)
        if len(positions) == 1:  # a band needs two levels
            axes.plot([0, 0], [low[0], high[0]], color=_SERIES, linewidth=1.2)
        axes.plot(positions, middle, color=_SERIES, linewidth=1.6, marker="o", markersize=4)
        axes.set_xticks(positions, [_tick(point.level.name) for point in curve.points])
        axes.set_xlim(-0.4, max(len(positions) - 0.6, 0.4))
        axes.set_ylim(*(limits or curve_limits([curve])))
        axes.grid(axis="y", color=_RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel(_unit(curve), fontsize=8, loc="right")
        title = f"{plain(curve.metric, 80)} of {plain(curve.finding, 80)} under {plain(curve.check, 80)}"
        return _svg(figure, key, title, _describe(curve))


def curve_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """A common range for curves of one metric: all bands, with air, and not beyond 0 and 1 where they stay within."""
    values = [
        v for c in curves for i in (c.clean, *(p.value for p in c.points)) for v in (i.estimate, i.lower, i.upper)
    ]
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = 0.08 * (high - low or 1.0)
    bottom, top = low - air, high + air
    if low >= 0 and high <= 1:
        bottom, top = max(bottom, -0.02), min(top, 1.02)
    return bottom, top


def forest_chart(criteria: Sequence[Criterion], *, key: str) -> str:
    """Harm of each criterion as point and interval, with its tolerance as an upright stroke.

    Left of the stroke passes, right of it fails, across it nothing is decided.

    Args:
        criteria: Criteria of one quantity, in the order they are to stand.
        key: Prefix of the ids, unique on the page.
    """
    height = 0.3 + _ROW * len(criteria)
    with _figure(4.4, height) as figure:
        axes = figure.add_axes((0.03, 0.26 / height, 0.94, 1 - 0.28 / height))
        axes.axvline(0, color=_MUTED, linewidth=0.8)
        for row, criterion in enumerate(criteria):
            _forest_row(axes, row, criterion)
        axes.set_yticks([])
        axes.set_ylim(len(criteria) - 0.6, -0.8)
        axes.grid(axis="x", color=_RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        title = f"{plain(criteria[0].quantity, 80)} against tolerance"
        return _svg(figure, key, title, " ".join(_sentence(criterion) for criterion in criteria[:12]))


def _forest_row(axes: Axes, row: int, criterion: Criterion) -> None:
    colour = _VERDICT[criterion.verdict]
    bounds = criterion.harm
    # A patch of paper behind the label keeps grid and strokes out of the letters.
    paper = {"facecolor": _PAPER, "linewidth": 0, "pad": 1}
    spot: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "zorder": 4}
    axes.text(0, row - 0.42, _label(criterion), color=_INK, bbox=paper, **spot)
    if bounds.lower is not None and bounds.upper is not None:
        axes.plot([bounds.lower, bounds.upper], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    if criterion.tolerance is not None:
        axes.plot([criterion.tolerance] * 2, [row - 0.22, row + 0.22], color=_INK, linewidth=1.4)
    if bounds.estimate is not None:
        axes.plot(
            [bounds.estimate],
            [row],
            color=colour,
            marker=_MARKERS[criterion.verdict],
            markersize=8,
            markeredgecolor=_PAPER,
        )


def _clean_line(axes: Axes, clean: Interval, levels: int) -> None:
    if clean.estimate is None:
        return
    axes.axhline(clean.estimate, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        "clean",
        (1, clean.estimate),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=_MUTED,
        fontsize=8,
    )


def _bounds(values: Sequence[Interval]) -> tuple[list[float], list[float], list[float]]:
    # An undefined value leaves a gap in the line; an undefined bound a band of no width.
    middle = [float("nan") if value.estimate is None else value.estimate for value in values]
    low = [m if value.lower is None else value.lower for value, m in zip(values, middle, strict=True)]
    high = [m if value.upper is None else value.upper for value, m in zip(values, middle, strict=True)]
    return low, middle, high


def _tick(name: str) -> str:
    return plain(name, 14)


def _unit(curve: Curve) -> str:
    units = {point.level.unit.partition(" = ")[0] for point in curve.points}  # what it is in grey levels differs
    return plain(units.pop(), 40) if len(units) == 1 else ""


def _label(criterion: Criterion) -> str:
    return plain(f"{plain(criterion.check, 36)}  {_words.subject(criterion)}", 58)


def _describe(curve: Curve) -> str:
    steps = "; ".join(f"{_words.level_words(point.level)}: {interval(point.value)}" for point in curve.points)
    return f"Clean: {interval(curve.clean)}. {steps}."


def _sentence(criterion: Criterion) -> str:
    word = _words.VERDICTS[criterion.verdict].word
    upper = f"upper bound {number(criterion.harm.upper, 3)}, tolerance {number(criterion.tolerance, 3)}"
    return f"{plain(criterion.check, 40)}, {_words.subject(criterion)}: {upper}, {word}."


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    # The SVG writer reads font type and salt from the global settings: lent for one figure, then given back.
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Letters that the measuring font lacks are set by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height), facecolor="none")


def _svg(figure: Figure, key: str, title: str, description: str) -> str:
    buffer = io.StringIO()
    for axes in figure.axes:
        axes.patch.set_visible(False)
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _finish(buffer.getvalue(), key, title, description)


def _finish(svg: str, key: str, title: str, description: str) -> str:
    """Make matplotlib's file a part of a page: own ids, the page's font and colours, title and description."""
    view = re.search(r'viewBox="[^"]+"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for part in (
        r"<metadata>.*?</metadata>",
        r"<title>.*?</title>",
        r"<style.*?</style>",
        r' transform="rotate\(-0 [^"]*"',
    ):
        body = re.sub(part, "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]+;?|font: ([0-9.]+px) [^;\"]+", _font_size, _own_ids(body, key))
    # Coordinates only: what stands between tags are words and numbers to be read.
    body = re.sub(r"(\d+\.\d\d)\d+(?=[^<>]*>)", r"\1", body.replace("xlink:href", "href"))
    body = re.sub(r">\s+<", "><", body).strip()
    for stand_in, variable in _PALETTE.items():
        body = body.replace(stand_in, variable)
    return (
        f'<svg class="chart" role="img" aria-labelledby="{key}-t" aria-describedby="{key}-d" '
        f'{view.group() if view else ""} style="stroke-linejoin:round" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>'
        f"{body}"
    )


def _font_size(match: re.Match[str]) -> str:
    return f"font-size: {match[1]}" if match[1] else ""


def _own_ids(svg: str, key: str) -> str:
    # Several charts share a page: ids that something refers to get the chart's prefix, the others go.
    used = {name: f"{key}-{n}" for n, name in enumerate(dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg)))}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{used[m[1]]}"' if m[1] in used else "", svg)
    return re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{used[m[2]]}", svg)
