"""Run every example on the packs and keep what it printed: ``python examples/run_all.py PACKS``.

Writes the console summary and the Markdown report of each into ``docs/examples/``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parent / "docs" / "examples"


def main() -> None:
    """Run the examples one after the other; one that ends with an error stops the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path, help="Folder with nih/, guangzhou/, pneumoniamnist.npz, models/.")
    packs = parser.parse_args().packs
    KEPT.mkdir(parents=True, exist_ok=True)
    for plan in sorted(HERE.glob("*.toml")):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            summary = audit(plan, packs, Path(folder) / "run")
            print(f"{plan.stem}: {time.perf_counter() - start:.0f} s", flush=True)
            (KEPT / f"{plan.stem}.txt").write_text(summary, "utf-8")
            (KEPT / f"{plan.stem}.md").write_bytes((Path(folder) / "run" / "report.md").read_bytes())


def audit(plan: Path, packs: Path, run: Path) -> str:
    """Run one audit; returns the console summary without the line that names the temporary folder."""
    command = [sys.executable, "-m", "robustbench_rad.cli", "audit", str(plan), "--root", str(packs)]
    done = subprocess.run([*command, "--run-folder", str(run), "-q", "--no-color"], stdout=subprocess.PIPE, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.decode().splitlines() if "report.html" not in line) + "\n"


if __name__ == "__main__":
    main()
