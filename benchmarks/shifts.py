"""What the acquisition shifts cost, and what a simulation with scikit-image costs for the same slice.

Run from a checkout; scikit-image, astra-toolbox and imagecorruptions are compared where they are installed::

    python benchmarks/shifts.py

One thread; process CPU time, minimum to maximum of the repetitions after one that builds the operators. The slice is a
thorax of ellipses with noise of its own, 512 x 512 at 0.7 mm; all five dose levels, calibration and measurements
included. The other route projects the slice once and reconstructs every level (filtered backprojection, Hann).

On a GPU, images per second of every shift of planes, of the projector and of the reconstruction, and how far the GPU's
images are from the CPU's::

    python benchmarks/shifts.py --device cuda --output shifts_gpu.md

``--device cpu`` with a small ``--batch`` and ``--pixels`` does the same on all threads of the CPU.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from shift_peers import IMAGES, SIDE, by_turns, generic_table, installed, projector_table
from shift_throughput import Settings, report
from torch import Tensor

from robustbench_rad.conditions import Batch, Condition, Space, Unit
from robustbench_rad.shifts._levels import DOSE_FRACTIONS
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_kernel import CtKernel
from robustbench_rad.shifts.xr_dose import XrDose

PIXEL_MM = 0.7
WATER_PER_MM = 0.0190


def thorax(pixels: int = 512) -> Tensor:
    """``(1, 1, pixels, pixels)`` HU: soft tissue, two lungs, a spine, 12 HU of noise."""
    side = (torch.arange(pixels) - (pixels - 1) / 2) * PIXEL_MM * 512 / pixels
    x, y = side[None], side[:, None]

    def ellipse(centre_x: float, centre_y: float, half_x: float, half_y: float) -> Tensor:
        return ((x - centre_x) / half_x) ** 2 + ((y - centre_y) / half_y) ** 2 < 1

    image = torch.where(ellipse(0, 0, 165, 115), 40.0, -1000.0)
    for centre in (-75, 75):
        image[ellipse(centre, -5, 58, 85)] = -850.0
    image[ellipse(0, 75, 18, 18)] = 400.0
    noise = 12.0 * torch.randn(pixels, pixels, generator=torch.Generator().manual_seed(0))
    return (image + noise)[None, None]


def batch(images: Tensor, unit: Unit, spacing_mm: float) -> Batch:
    names = tuple(f"case-{index}" for index in range(len(images)))
    return Batch(
        images=images,
        labels=torch.zeros(len(images), 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(len(images))),
        space=Space.PHYSICAL,
        unit=unit,
        spacing_mm=torch.full((len(images), 2), spacing_mm),
    )


def applied(shift: Condition, given: Batch) -> Callable[[], object]:
    return lambda: list(shift.apply(given, None, None).variants)


def with_scikit_image(image_hu: np.ndarray) -> None:
    """Five dose levels: one projection, five noise draws and reconstructions."""
    from skimage.transform import iradon, radon

    angles, generator, i0 = np.arange(720) * 180 / 720, np.random.default_rng(0), 1e6
    per_px = WATER_PER_MM * PIXEL_MM
    attenuation = np.clip((image_hu / 1000.0 + 1.0) * per_px, 0.0, None)
    depth = radon(attenuation, angles, circle=False)
    for alpha in DOSE_FRACTIONS:
        counts = generator.poisson(alpha * i0 * np.exp(-depth)) + 10.0 * generator.standard_normal(depth.shape)
        noisy = -np.log(np.maximum(counts, 1.0) / (alpha * i0))
        iradon(noisy, angles, circle=False, filter_name="hann", output_size=image_hu.shape[0])


def seconds(run: Callable[[], object], repeats: int) -> list[float]:
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return times


def row(what: str, times: Sequence[float], cases: int, target: str) -> str:
    low, middle, high = (value / cases * 1e3 for value in (min(times), statistics.median(times), max(times)))
    return f"| {what} | {low:.0f} – **{middle:.0f}** – {high:.0f} | {target} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", help="measure the throughput of all shifts on this device: cuda, cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.0, help="of repetitions per shift, at least three")
    parser.add_argument("--only", default="", help="shifts whose name begins with this, e.g. shift.ct.")
    parser.add_argument("--output", type=Path, help="a file for the tables of --device, written line by line")
    options = parser.parse_args()
    if options.device:
        throughput(options)
        return
    torch.set_num_threads(1)
    slice_hu = thorax()
    # beyond 1e6 photons no ray is starved: the plain cost; with the default calibration some are at the lowest doses
    film = torch.rand(8, 1, 320, 320, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    jobs = [
        ("CT dose, 512 x 512, five levels, noise read from the slice", CtDose(), slice_hu, Unit.HU, "≤ 400"),
        ("the same, 10⁷ photons: no starved ray", CtDose(i0=1e7), slice_hu, Unit.HU, "≤ 400"),
        ("CT kernel, 512 x 512, five levels", CtKernel(), slice_hu, Unit.HU, ""),
        ("radiograph dose, 320 x 320, five levels", XrDose(), film, Unit.SIGNAL, ""),
    ]
    print("| shift | CPU-ms per image: min – median – max | target |\n|---|---|---|")
    for what, shift, images, unit, target in jobs:
        print(row(what, seconds(applied(shift, batch(images, unit, PIXEL_MM)), options.repeats), len(images), target))
    against_scikit_image(slice_hu)
    against_peers(options.repeats)


def throughput(options: argparse.Namespace) -> None:
    """Print and keep each row as soon as it is measured."""
    device = torch.device(options.device)
    settings = Settings(
        device=device,
        batch=options.batch,
        pixels=options.pixels,
        seconds=options.seconds,
        only=options.only,
        compare=device.type != "cpu",
    )
    if options.output:
        options.output.write_text("", encoding="utf-8")
    for line in report(settings):
        print(line, flush=True)
        if options.output:
            with options.output.open("a", encoding="utf-8") as kept:
                kept.write(line + "\n")


def against_scikit_image(slice_hu: Tensor) -> None:
    """Five dose levels by both routes, by turns."""
    known = installed("skimage")
    if not known:
        print("\nscikit-image is not installed: no comparison.")
        return
    image = slice_hu[0, 0].numpy()
    dose = applied(CtDose(), batch(slice_hu, Unit.HU, PIXEL_MM))
    ours, theirs = by_turns([dose, lambda: with_scikit_image(image)], 2)
    print(row(f"scikit-image {known}: one projection, five reconstructions", theirs, 1, ""))
    ratios = sorted(other / own for own, other in zip(ours, theirs, strict=True))
    print(f"\nscikit-image / CT dose: {math.floor(ratios[0])} to {math.floor(ratios[-1])} times (target: at least 50).")


def against_peers(repeats: int) -> None:
    """The projector and the generic corruptions."""
    import cv2

    cv2.setNumThreads(1)
    slices = thorax(SIDE)[:, 0].clamp_min(-1000.0).expand(IMAGES, -1, -1)
    attenuation = (1.0 + slices / 1000.0) * WATER_PER_MM * PIXEL_MM * 512 / SIDE
    noise = 1e-4 * torch.rand(attenuation.shape, generator=torch.Generator().manual_seed(1))
    print("\n" + (projector_table(attenuation + noise, repeats) if installed("astra") else "ASTRA is not installed."))
    if installed("imagecorruptions"):
        print(f"\nimagecorruptions {installed('imagecorruptions')}\n\n{generic_table(min(repeats, 3))}")
    else:
        print("\nimagecorruptions is not installed.")


if __name__ == "__main__":
    main()
