"""The projector beside ASTRA, and the thirteen generic corruptions beside imagecorruptions, where these are installed.

Both sides run in one process on one thread, by turns; process CPU time. ``benchmarks/shifts.py`` prints the tables.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.registry import entry
from robustbench_rad.shifts.ct_projector import COARSENING, ScanGeometry, joseph

GENERIC = {  # their name: ours
    "gaussian_noise": "gaussian-noise",
    "shot_noise": "shot-noise",
    "impulse_noise": "impulse-noise",
    "speckle_noise": "speckle-noise",
    "gaussian_blur": "gaussian-blur",
    "defocus_blur": "defocus-blur",
    "motion_blur": "motion-blur",
    "zoom_blur": "zoom-blur",
    "brightness": "brightness",
    "contrast": "contrast",
    "elastic_transform": "elastic",
    "pixelate": "pixelate",
    "jpeg_compression": "jpeg",
}
SEVERITIES = range(1, 6)
BATCH, THEIRS, PIXELS = 32, 4, 224
VIEWS, SIDE, IMAGES = 180, 256, 8


def installed(name: str) -> str:
    """Version of a distribution, "" where its package is missing."""
    if importlib.util.find_spec(name) is None:
        return ""
    try:
        return version({"skimage": "scikit-image", "astra": "astra-toolbox"}.get(name, name))
    except PackageNotFoundError:
        return "of unknown version"


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def by_turns(runs: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each, one after the other in every repetition, after one for caches and operators."""
    for run in runs:
        run()
    rounds = [[cpu_seconds(run) for run in runs] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def projector_table(images: Tensor, repeats: int) -> str:
    """Joseph's method on the same rays and pixels: this projector on all images at once, ASTRA one by one.

    Args:
        images: ``(8, 256, 256)`` attenuation per pixel length.
        repeats: Repetitions.
    """
    import astra

    geometry = _geometry()
    operator = joseph(geometry)
    columns = images.reshape(len(images), -1).T.contiguous()
    theirs = {kind: _Astra(kind, geometry) for kind in ("linear", "line")}
    turned = np.ascontiguousarray(images.numpy()[:, ::-1])  # its rows run upwards
    runs: list[Callable[[], object]] = [lambda: operator(columns)]
    runs += [lambda p=p: [p(image) for image in turned] for p in theirs.values()]
    ours, *others = by_turns(runs, repeats)
    expected = theirs["linear"](turned[0])
    difference = (
        np.abs(operator(columns)[:, 0].numpy().reshape(expected.shape) / COARSENING - expected).max() / expected.max()
    )
    lines = [f"| this projector, {len(images)} at once | {_ms(ours, len(images))} | |"]
    for kind, times in zip(theirs, others, strict=True):
        ratio = statistics.median(times) / statistics.median(ours)
        lines.append(
            f"| ASTRA {astra.__version__} CPU, `{kind}`, one by one | {_ms(times, len(images))} | {ratio:.1f} |"
        )
    head = f"| {SIDE} x {SIDE}, {VIEWS} views, {expected.shape[1]} channels | CPU-ms per image: min – median – max | ratio |"
    said = f"Largest difference from ASTRA `linear`: {difference:.0e} of the largest line integral. Target: at least 7."
    return "\n".join([head, "|---|---|---|", *lines, "", said])


def _geometry() -> ScanGeometry:
    """A scan whose quarter resolution, which is what the projector works at, is the one to compare."""
    channels = COARSENING * math.ceil(math.sqrt(2.0) * SIDE / ScanGeometry.pitch_px)
    return ScanGeometry(pixels=COARSENING * SIDE, views=COARSENING * VIEWS, channels=channels)


class _Astra:
    """One CPU projector of ASTRA with its memory, made once."""

    def __init__(self, kind: str, geometry: ScanGeometry) -> None:
        import astra

        self._astra = astra
        angles = geometry.angles.reshape(-1, COARSENING).mean(1)
        scan = astra.create_proj_geom("parallel", geometry.pitch_px, geometry.channels // COARSENING, angles)
        grid = astra.create_vol_geom(SIDE, SIDE)
        self._image, self._sinogram = astra.data2d.create("-vol", grid), astra.data2d.create("-sino", scan)
        settings = astra.astra_dict("FP")
        settings["ProjectorId"] = astra.create_projector(kind, scan, grid)
        settings["VolumeDataId"], settings["ProjectionDataId"] = self._image, self._sinogram
        self._run = astra.algorithm.create(settings)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self._astra.data2d.store(self._image, image)
        self._astra.algorithm.run(self._run)
        return np.asarray(self._astra.data2d.get(self._sinogram))


def generic_table(repeats: int) -> str:
    """CPU time per image and severity, mean over the five severities: batches of one float plane, and 8-bit images."""
    folder = sys.path.pop(0)  # numba would take coverage.py beside this file for the package of that name
    import imagecorruptions

    sys.path.insert(0, folder)
    floats = _pictures()
    grey = (floats.images[:THEIRS, 0] * 255).round().byte().numpy()
    lines, sums, lost = [], [0.0, 0.0], []
    for name, ours in GENERIC.items():
        shift = entry(f"shift.generic.{ours}").load()()

        def here(shift: object = shift) -> None:
            list(shift.apply(floats, None, None).variants)  # type: ignore[attr-defined]

        def there(name: str = name) -> None:
            for image in grey:
                for severity in SEVERITIES:
                    imagecorruptions.corrupt(image, corruption_name=name, severity=severity)

        try:
            mine, theirs = by_turns([here, there], repeats)
        except Exception as error:  # an installed release may no longer run on today's libraries
            lines.append(f"| {ours} | – | fails: {type(error).__name__} | |")
            continue
        costs = [statistics.median(mine) / BATCH / 5 * 1e3, statistics.median(theirs) / THEIRS / 5 * 1e3]
        sums = [total + cost for total, cost in zip(sums, costs, strict=True)]
        lost += [ours] if costs[1] < costs[0] else []
        lines.append(f"| {ours} | {costs[0]:.2f} | {costs[1]:.2f} | {costs[1] / costs[0]:.1f} |")
    lines.append(f"| **together** | {sums[0]:.1f} | {sums[1]:.1f} | **{sums[1] / sums[0]:.1f}** |")
    head = f"| {PIXELS} x {PIXELS}, mean of 5 severities | here, CPU-ms | imagecorruptions, CPU-ms | ratio |"
    said = f"Dearer here: {', '.join(lost) or 'none'}. Target: at least 3 together."
    return "\n".join([head, "|---|---|---|---|", *lines, "", said])


def _pictures() -> Batch:
    names = tuple(f"case-{index}" for index in range(BATCH))
    axis = torch.linspace(0, 6, PIXELS)
    smooth = 0.5 + 0.3 * torch.sin(axis)[:, None] * torch.cos(axis)
    noise = 0.02 * torch.randn(BATCH, 1, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    batch = Batch(
        images=(smooth + noise).clamp(0, 1),
        labels=torch.zeros(BATCH, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(BATCH)),
        space=Space.DISPLAY,
    )
    return replace(batch, images=(batch.images * 255).round() / 255)


def _ms(times: Sequence[float], images: int) -> str:
    low, middle, high = (value / images * 1e3 for value in (min(times), statistics.median(times), max(times)))
    return f"{low:.1f} – **{middle:.1f}** – {high:.1f}"
