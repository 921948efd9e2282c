"""Run every example on the packs and keep what it printed: ``python examples/run_all.py PACKS``.

Writes the console summary and the Markdown report of each into ``docs/examples/``; of the plans ``attacks_*.toml`` the
summary and the robustness curves as pictures. ``--only attacks`` runs those whose name begins so.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from robustbench_rad.reports.charts import curve_chart
from robustbench_rad.result import AuditResult

HERE = Path(__file__).parent
KEPT = HERE.parent / "docs" / "examples"


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


def keep_curves(run: Path, name: str) -> None:
    """Draw robust sensitivity and specificity against the radius, where enough cases say something of them."""
    result = AuditResult.model_validate_json((run / "result.json").read_text("utf-8"))
    for curve in result.curves:
        lower, upper = curve.clean.lower, curve.clean.upper
        if curve.check == "attack.curve-linf" and lower is not None and upper is not None and upper - lower < 0.6:
            stem = f"{name}_{curve.finding}_{curve.metric}".lower().replace(" ", "_")
            chart = curve_chart(curve, key="curve", limits=(0.0, 1.02))
            chart = chart.replace("stroke-linejoin:round", "stroke-linejoin:round;font-family:sans-serif")
            (KEPT / f"{stem}.svg").write_text(re.sub(r"var\([^,]+,([^)]+)\)", r"\1", chart) + "\n", "utf-8")


def audit(plan: Path, packs: Path, run: Path) -> str:
    """Run one audit; returns the console summary without the line that names the temporary folder."""
    command = [sys.executable, "-m", "robustbench_rad.cli", "audit", str(plan), "--root", str(packs)]
    done = subprocess.run([*command, "--run-folder", str(run), "-q", "--no-color"], stdout=subprocess.PIPE, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.decode().splitlines() if "report.html" not in line) + "\n"


if __name__ == "__main__":
    main()
