"""Peak memory of an audit against the number of cases: it must be flat.

Two data sets of the same random films, 200 and 2,000 cases, are audited by the command line in a process of their own;
the operating system's figure for the largest resident set of that process is printed. Run: ``python benchmarks/memory.py``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 320
PLAN = """
title = "Memory"
profile = "quick"
[model]
factory = "model.py:build"
head = "single-logit"
findings = ["bright"]
thresholds = { bright = 0.5 }
[model.input]
size = [128, 128]
range = [0.0, 1.0]
[data]
manifest = "cases.csv"
findings = { bright = "label" }
metadata = { scanner = "nuisance" }
anatomy = { column = "mask" }
[run]
chunk_size = 64
"""
MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
    )
"""


def write_set(folder: Path, cases: int) -> Path:
    """Write films, masks, manifest, model and plan; returns the plan's path."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[60:260, 60:260] = 255
    Image.fromarray(mask).save(folder / "images" / "mask.png")
    rows = ["image,label,scanner,mask"]
    for index in range(cases):
        plane = rng.normal(110 + 30 * (index % 2), 25, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        Image.fromarray(plane).save(folder / "images" / f"{index}.png", compress_level=1)
        rows.append(f"images/{index}.png,{index % 2},{'AB'[index // 2 % 2]},images/mask.png")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    (folder / "model.py").write_text(MODEL)
    (folder / "plan.toml").write_text(PLAN)
    return folder / "plan.toml"


def peak_mib(plan: Path) -> float:
    """Audit in a process of its own; returns its largest resident set."""
    command = [
        sys.executable,
        "-m",
        "robustbench_rad.cli",
        "audit",
        str(plan),
        "-q",
        "--run-folder",
        str(plan.parent / "run"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the audit ended with status {status}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Print one row per data set and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs="+", default=[200, 2000])
    sizes = parser.parse_args().cases
    peaks = []
    for cases in sizes:
        with tempfile.TemporaryDirectory() as folder:
            peaks.append(peak_mib(write_set(Path(folder) / "set", cases)))
        print(f"| {cases} cases | {peaks[-1]:.0f} MiB |", flush=True)
    print(f"| ratio | {peaks[-1] / peaks[0]:.2f} |")


if __name__ == "__main__":
    main()
