"""Where an object was laid and what it did to the score there: rows and chart of the tables that have positions.

The chart is a field with the positions, and under it one row per position with the effect and its interval; the table that
it is drawn from stands beside it as text.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustbench_rad.reports import charts
from robustbench_rad.reports._format import interval, plain
from robustbench_rad.result import Interval, Picture, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("finding", "what", "x", "y", "object minus placebo", "lower", "upper")
MOST_FINDINGS = 6
MOST_POSITIONS = 24
LEGEND = (
    "x and y: centre of what was changed, in shares of the width and height from the upper left corner. Object minus "
    "placebo: difference of the mean changes of the score, in SD of the score, signed, with its interval. The judged effect "
    "unexplained by placebo has no sign: how far the object's change lies outside of everything between 0 and the placebo's."
)
_WIDTH, _FIELD, _HEAD, _FOOT = 4.4, 1.9, 0.1, 0.42  # inches
_BEHIND = "#0b0b0b"
_BASE64 = re.compile(r"[A-Za-z0-9+/=]+")
_SIGNS = (("^", "▲ raises the score"), ("v", "▼ lowers it"), ("o", "● cannot tell from 0"))


@dataclass(frozen=True, kw_only=True)
class Position:
    """One place of one finding.

    Attributes:
        finding: Name.
        name: Of what was altered there.
        x: Centre, in shares of the width from the left; None where nothing was altered.
        y: The same, of the height from the top.
        effect: On the score, in SD: that of the object minus that of the placebo.
    """

    finding: str
    name: str
    x: float | None
    y: float | None
    effect: Interval

    @property
    def sign(self) -> str:
        """Up, down, or neither, as a matplotlib marker: the interval decides."""
        low, high = self.effect.lower, self.effect.upper
        if low is None or high is None or low <= 0 <= high:
            return "o"
        return "^" if low > 0 else "v"


def positions(table: Table) -> list[Position]:
    """Rows of a table that says where something was laid; none of any other table."""
    if not set(COLUMNS) <= set(table.columns):
        return []
    places = [table.columns.index(name) for name in COLUMNS]
    rows = [[row[place] if place < len(row) else None for place in places] for row in table.rows]
    return [
        Position(
            finding=str(finding or ""),
            name=str(name or ""),
            x=_number(x),
            y=_number(y),
            effect=Interval(estimate=_number(effect), lower=_number(lower), upper=_number(upper)),
        )
        for finding, name, x, y, effect, lower, upper in rows
    ]


def strongest(found: Iterable[Position]) -> list[Position]:
    """Those with an effect, the largest first whatever its sign."""
    known = [(abs(item.effect.estimate), item) for item in found if item.effect.estimate is not None]
    return [item for _, item in sorted(known, key=lambda pair: -pair[0])]


def shown_findings(found: Sequence[Position]) -> list[str]:
    """Findings that get a chart, in the table's order: those where an object does most, at most six."""
    ranked = list(dict.fromkeys(item.finding for item in strongest(found)))[:MOST_FINDINGS]
    return [finding for finding in dict.fromkeys(item.finding for item in found) if finding in ranked]


def background(pictures: Iterable[Picture], check: str) -> str:
    """JPEG in base64 of the mean image that a check's positions lie on; "" where there is none or it is no image."""
    fields = (
        picture.panels[0].jpeg_base64
        for picture in pictures
        if picture.field and picture.check == check and picture.panels
    )
    return next((text for text in fields if _BASE64.fullmatch(text)), "")


def position_chart(found: Sequence[Position], *, finding: str, check: str, key: str, behind: str = "") -> str:
    """Positions of one finding in the field of the image, and effect with interval of each below.

    Args:
        found: Positions of all findings of a table: the axis of the effects is theirs together.
        finding: Whose are drawn.
        check: Named in the title.
        key: Prefix of the ids, unique on the page.
        behind: JPEG in base64 that is laid behind the positions.
    """
    own = [item for item in found if item.finding == finding][:MOST_POSITIONS]
    ratio = _ratio(behind)
    field = (_FIELD, _FIELD * ratio) if ratio <= 1.3 else (_FIELD * 1.3 / ratio, _FIELD * 1.3)
    rows = charts._ROW * len(own)
    height = _HEAD + field[1] + _FOOT + rows + _FOOT
    with charts._figure(_WIDTH, height) as figure:
        top = height - _HEAD
        axes = figure.add_axes((0.42 / _WIDTH, (top - field[1]) / height, field[0] / _WIDTH, field[1] / height))
        _field(axes, own, bool(behind), _largest(found))
        legend = (0.42 + field[0] + 0.2) / _WIDTH
        for line, (_, words) in enumerate(_SIGNS):
            figure.text(legend, (top - 0.12 - 0.2 * line) / height, words, color=charts._MUTED, fontsize=8, va="center")
        below = figure.add_axes((0.03, _FOOT / height, 0.94, rows / height))
        _effects(below, own, _limits(found))
        title = f"Effect of {plain(check, 60)} on {plain(finding, 60)} by position"
        svg = charts._svg(figure, key, title, " ".join(_sentence(number, item) for number, item in enumerate(own, 1)))
    return _laid(svg, behind)


def _field(axes: Axes, own: Sequence[Position], covered: bool, largest: float) -> None:
    from matplotlib.patches import Rectangle

    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    if covered:
        axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=_BEHIND, linewidth=0, zorder=0))
    else:
        axes.grid(color=charts._RULE, linewidth=0.6)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(True)
    axes.tick_params(length=0)
    axes.set_xlabel("share of the width", fontsize=8)
    axes.set_ylabel("of the height", fontsize=8)
    paper = {"facecolor": charts._PAPER, "linewidth": 0, "pad": 0.8, "alpha": 0.8}
    beside: dict[tuple[float, float], int] = {}
    for number, item in enumerate(own, 1):
        if item.x is None or item.y is None:
            continue
        spot = (round(item.x * 8) / 8, round(item.y * 8) / 8)  # what would lie on another stands beside it
        step = beside[spot] = beside.get(spot, 0) + 1
        offset = 0.115 * ((step // 2) if step % 2 else -(step // 2))
        x, y = min(max(item.x, 0.04), 0.96), min(max(item.y + offset, 0.04), 0.96)
        axes.plot([x], [y], color=charts._PAPER, marker="o", markersize=13, markeredgewidth=0, clip_on=False)
        axes.plot([x], [y], **_mark(item, largest), clip_on=False)
        left = x > 0.8
        axes.annotate(
            str(number),
            (x, y),
            xytext=(-7 if left else 7, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            color=charts._INK,
            bbox=paper,
        )


def _effects(axes: Axes, own: Sequence[Position], limits: tuple[float, float]) -> None:
    axes.axvline(0, color=charts._MUTED, linewidth=0.8)
    paper = {"facecolor": charts._PAPER, "linewidth": 0, "pad": 1}
    spot: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "zorder": 4}
    largest = max(abs(limits[0]), abs(limits[1]))
    for row, item in enumerate(own):
        words = f"{row + 1}  {plain(item.name, 24)}  {_words(item)}"
        axes.text(0, row - 0.42, words, color=charts._INK, bbox=paper, **spot)
        low, high = item.effect.lower, item.effect.upper
        if low is not None and high is not None:
            colour = _mark(item, largest)["color"]
            axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        if item.effect.estimate is not None:
            axes.plot([item.effect.estimate], [row], color=charts._PAPER, marker="o", markersize=10, markeredgewidth=0)
            axes.plot([item.effect.estimate], [row], **_mark(item, largest))
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.set_ylim(len(own) - 0.6, -0.8)
    axes.grid(axis="x", color=charts._RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("object minus placebo, SD of the score", fontsize=8)


def _mark(item: Position, largest: float) -> dict[str, Any]:
    """Shape by sign, colour by direction, stronger colour for a stronger effect."""
    value = item.effect.estimate or 0.0
    colour = {"^": charts._RAISED, "v": charts._SERIES, "o": charts._MUTED}[item.sign]
    strength = 0.35 + 0.65 * min(abs(value) / largest, 1.0) if largest > 0 else 1.0
    face = {"markerfacecolor": (*_rgb(colour), strength)}
    return {
        "color": colour,
        "marker": item.sign,
        "markersize": 8,
        "markeredgecolor": colour,
        "linestyle": "none",
        **face,
    }


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _largest(found: Iterable[Position]) -> float:
    return max((abs(item.effect.estimate) for item in found if item.effect.estimate is not None), default=0.0)


def _limits(found: Iterable[Position]) -> tuple[float, float]:
    """A range for all effects of a table, with zero and air."""
    bounds = [
        v for item in found for v in (item.effect.estimate, item.effect.lower, item.effect.upper) if v is not None
    ]
    low, high = min([0.0, *bounds]), max([0.0, *bounds])
    air = 0.06 * (high - low) or 0.1
    return low - air, high + air


def _words(item: Position) -> str:
    return "not assessable" if item.effect.estimate is None else f"{interval(item.effect)} SD"


def _sentence(number: int, item: Position) -> str:
    where = "" if item.x is None or item.y is None else f" at x {item.x:.2f}, y {item.y:.2f}"
    return f"{number}: {plain(item.name, 40)}{where}: {_words(item)}."


def _ratio(behind: str) -> float:
    """Height over width of the image behind the positions, 1 where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(base64.b64decode(behind))) as image:
            return min(max(image.height / image.width, 0.3), 3.0)
    except (UnidentifiedImageError, binascii.Error, ValueError, OSError):
        return 1.0


def _laid(svg: str, behind: str) -> str:
    """The chart with an image in the place that was kept for it."""
    if not behind:
        return svg
    kept = re.search(rf'<path d="([^"]*)"[^>]*style="fill: {_BEHIND}[^>]*/>', svg)
    if kept is None:
        return svg
    numbers = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", kept[1])]
    xs, ys = numbers[::2], numbers[1::2]
    image = (
        f'<image x="{min(xs):.2f}" y="{min(ys):.2f}" width="{max(xs) - min(xs):.2f}" height="{max(ys) - min(ys):.2f}" '
        f'preserveAspectRatio="none" href="data:image/jpeg;base64,{behind}"/>'
    )
    return svg.replace(kept[0], image)


def _number(value: str | float | int | None) -> float | None:
    return None if value is None or isinstance(value, str) else float(value)
