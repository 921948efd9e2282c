"""How much of a catheter is taken out of real films: drawn over a folder of radiographs, searched, and compared.

    python benchmarks/tubes.py PACKS/nih/images --films 60

Prints, per size of the image, the share of the drawn line that is found (mean over films, with a Student interval), and what is
found on the films as they are: catheters that are there, clavicles, edges of ribs and of the body.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._lines import line_masks
from robustbench_rad.shortcuts.insert_tube import InsertTube
from robustbench_rad.shortcuts.remove_tubes import RemoveTubes
from robustbench_rad.statistics.estimate import student

SIZES = (160, 224, 320)
INK = 0.5  # of the brightest change: the line without its soft rim


def films(folder: Path, count: int, size: int) -> Batch:
    """Evenly spaced films of a folder, on a square grid."""
    files = sorted(folder.iterdir())
    chosen = files[:: max(1, len(files) // count)][:count]
    planes = [np.asarray(Image.open(f).convert("L").resize((size, size), Image.Resampling.BILINEAR)) for f in chosen]
    images = torch.from_numpy(np.stack(planes).astype(np.float32) / 255)[:, None]
    names = tuple(f.name for f in chosen)
    return Batch(
        images=images,
        labels=torch.zeros(len(names), 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed("benchmarks.tubes", name) for name in names),
        space=Space.DISPLAY,
        modality="DX",
    )


def found(images: Tensor) -> tuple[Tensor, float]:
    """Lines on whole planes as the audit looks for them, and seconds per image."""
    start = time.perf_counter()
    masks = line_masks(images, torch.ones_like(images, dtype=torch.bool), RemoveTubes().search)
    return masks, (time.perf_counter() - start) / len(images)


def covered(batch: Batch, name: str) -> NDArray[np.float64]:
    """Share of a drawn object's line that is found on each film."""
    drawn = next(iter(InsertTube.from_options({"levels": [name]}).apply(batch, None, None).variants)).images
    assert drawn is not None
    change = drawn - batch.images
    ink = change > INK * change.amax((1, 2, 3), keepdim=True)
    masks, _ = found(drawn)
    return ((masks & ink).sum((1, 2, 3)) / ink.sum((1, 2, 3))).double().numpy()


def shown(values: NDArray[np.float64]) -> str:
    """Mean with a Student interval."""
    influence = (values - values.mean()) / len(values)
    mean = student(float(values.mean()), influence, degrees=len(values) - 1, confidence=0.95, method="Student")
    return f"{mean.value:.2f} [{mean.lower:.2f}, {mean.upper:.2f}]"


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=60)
    options = parser.parse_args()
    print(
        "| pixels | of a catheter | of an electrode's wire | films with a line as they are | of their area | ms a film |"
    )
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        batch = films(options.folder, options.films, size)
        plain, seconds = found(batch.images)
        shares = [shown(covered(batch, name)) for name in ("catheter", "electrode")]
        has, area = plain.flatten(1).any(1).float().mean(), plain.float().mean()
        print(f"| {size} | {shares[0]} | {shares[1]} | {has:.0%} | {area:.1%} | {1000 * seconds:.0f} |")


if __name__ == "__main__":
    main()
