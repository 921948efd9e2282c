"""Run every benchmark, one after the other, and print their tables: ``python benchmarks/run.py [name ...]``.

Nothing here is a timed test; `RESULTS.md` keeps what was measured last, with the machine in words.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
APART = ("run", "simulation", "coverage", "coverage_shown")  # what is no table of speed


def main() -> None:
    """Run the named scripts, or all of them but this one."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if path.stem not in APART)
    for name in names:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False)


if __name__ == "__main__":
    main()
