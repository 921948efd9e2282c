"""Run every example on the packs and keep what it printed: ``python examples/run_all.py PACKS``.

Writes the console summary and the Markdown report of each into ``docs/examples/``; of the plans ``attacks_*.toml`` the
summary and the robustness curves as pictures; of the plans ``shortcuts_*.toml`` also what the audits did to a case and marker
positions by effect. ``--only attacks`` runs those whose name begins so.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from robustbench_rad.reports._page import _shown
from robustbench_rad.reports._positions import position_chart, positions
from robustbench_rad.reports.charts import curve_chart
from robustbench_rad.result import AuditResult, Picture

HERE = Path(__file__).parent
KEPT = HERE.parent / "docs" / "examples"
PANEL, LINE = 170, 13  # pixels: width of a panel, height of a line of text
TABLES = (
    "shortcut.metadata-ceiling",
    "shortcut.scanner-probe",
    "shortcut.within-attribute",
    "shortcut.masked-anatomy",
    "shortcut.background-swap",
    "shortcut.insert-border",
    "shortcut.insert-collimation",
    "shortcut.remove-markers",
    "shortcut.remove-tubes",
    "shortcut.border-ablation",
    "shortcut.patch-shuffle",
    "shortcut.frequency-bands",
    "shortcut.spike-and-recovery",
)
STRIPS = {  # audit → which of its pictures: the case chosen by chance (0), or the one whose score moves most (1)
    "shortcuts_guangzhou": {"masked-anatomy": 0, "background-swap": 0, "remove-markers": 0},
    "shortcuts_nih": {"scanner-probe": 0, "insert-border": 0, "remove-markers": 1, "remove-tubes": 0},
}


def main() -> None:
    """Run the examples one after the other; one that ends with an error stops the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path, help="Folder with nih/, guangzhou/, pneumoniamnist.npz, models/.")
    parser.add_argument("--only", default="", help="Beginning of the names of the plans to run.")
    given = parser.parse_args()
    packs = given.packs
    KEPT.mkdir(parents=True, exist_ok=True)
    for plan in sorted(HERE.glob(f"{given.only}*.toml")):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            summary = audit(plan, packs, Path(folder) / "run")
            print(f"{plan.stem}: {time.perf_counter() - start:.0f} s", flush=True)
            (KEPT / f"{plan.stem}.txt").write_text(summary, "utf-8")
            if plan.stem.startswith("attacks_"):
                keep_curves(Path(folder) / "run", plan.stem)
            else:
                (KEPT / f"{plan.stem}.md").write_bytes((Path(folder) / "run" / "report.md").read_bytes())
            if plan.stem.startswith("shortcuts_"):
                keep_shortcuts(Path(folder) / "run", plan.stem)


def keep_curves(run: Path, name: str) -> None:
    """Draw robust sensitivity and specificity against the radius, where enough cases say something of them."""
    result = AuditResult.model_validate_json((run / "result.json").read_text("utf-8"))
    for curve in result.curves:
        lower, upper = curve.clean.lower, curve.clean.upper
        if curve.check == "attack.curve-linf" and lower is not None and upper is not None and upper - lower < 0.6:
            stem = f"{name}_{curve.finding}_{curve.metric}".lower().replace(" ", "_")
            chart = curve_chart(curve, key="curve", limits=(0.0, 1.02))
            (KEPT / f"{stem}.svg").write_text(standing_alone(chart), "utf-8")


def keep_shortcuts(run: Path, name: str) -> None:
    """Draw marker positions by effect on pneumonia, and what some audits did to one case."""
    result = AuditResult.model_validate_json((run / "result.json").read_text("utf-8"))
    for table in result.tables:
        if table.check == "shortcut.insert-marker" and (found := positions(table)):
            finding = next(item.finding for item in found if item.finding.lower() == "pneumonia")
            chart = position_chart(found, finding=finding, check=table.check, key="positions")
            (KEPT / f"{name}_positions.svg").write_text(standing_alone(chart), "utf-8")
    (KEPT / f"{name}_tables.md").write_text(tables(result), "utf-8")
    for id, which in STRIPS[name].items():
        pictures = [item for item in result.pictures if item.check == f"shortcut.{id}" and not item.field]
        strip(pictures[which]).save(KEPT / f"{name}_{id}.jpg", quality=85)


def tables(result: AuditResult) -> str:
    """What the shortcut audits measured beside their verdicts, as Markdown; the report of an audit has no room for it."""
    parts = [f"# {result.title}: the tables of the HTML report", ""]
    for table in (_shown(item) for item in result.tables if item.check in TABLES):
        rows = [table.columns, ["---"] * len(table.columns), *table.rows]
        lines = [" | ".join(cell.replace("|", "/") for cell in row) for row in rows]
        parts += [f"## `{table.check}`: {table.title}", "", *(f"| {line} |" for line in lines), "", table.note, ""]
    return "\n".join(parts).rstrip() + "\n"


def strip(picture: Picture) -> Image.Image:
    """The panels of a picture side by side, with what is written under each."""
    font = ImageFont.load_default(11)
    panels = [(panel, Image.open(io.BytesIO(base64.b64decode(panel.jpeg_base64)))) for panel in picture.panels[:6]]
    below = max(1 + len(panel.lines) for panel, _ in panels)
    high = max(round(PANEL * image.height / image.width) for _, image in panels)
    sheet = Image.new("RGB", ((PANEL + 8) * len(panels), high + LINE * below + 6), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (panel, image) in enumerate(panels):
        left = place * (PANEL + 8)
        sheet.paste(image.convert("RGB").resize((PANEL, round(PANEL * image.height / image.width))), (left, 0))
        words = [panel.name, *(f"{line.name} {line.text}{' flips' * line.flips}".strip() for line in panel.lines)]
        for row, text in enumerate(words):
            draw.text((left, high + 3 + LINE * row), text.replace("→", "to"), fill="black", font=font)
    return sheet


def standing_alone(chart: str) -> str:
    """A chart of the report as a file of its own: fixed colours instead of those of the page."""
    chart = chart.replace("stroke-linejoin:round", "stroke-linejoin:round;font-family:sans-serif")
    return re.sub(r"var\([^,]+,([^)]+)\)", r"\1", chart) + "\n"


def audit(plan: Path, packs: Path, run: Path) -> str:
    """Run one audit; returns the console summary without the line that names the temporary folder."""
    command = [sys.executable, "-m", "robustbench_rad.cli", "audit", str(plan), "--root", str(packs)]
    wide = os.environ | {"COLUMNS": "80"}  # the same lines whatever the terminal
    command += ["--run-folder", str(run), "-q", "--no-color"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=wide)
    return "\n".join(line.rstrip() for line in done.stdout.decode().splitlines() if "report.html" not in line) + "\n"


if __name__ == "__main__":
    main()
