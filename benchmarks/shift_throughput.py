"""Images per second of every shift of planes, of the CT projector and of the reconstruction, on a GPU or the CPU.

``benchmarks/shifts.py --device cuda`` runs it. Every shift makes all its default levels of one batch, calibration and
measurements included; an image here is one altered image, so a batch of 32 at five levels counts 160. The device is
synchronised before and after every repetition, after one that builds the operators. What cannot run says why.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Condition, Space, Unit, Variant
from robustbench_rad.registry import Entry, catalogue
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shifts.ct_gridding import filtered_backprojection
from robustbench_rad.shifts.ct_projector import ScanGeometry, line_integrals

WATER_PER_MM = 0.0190
FIELD_MM = 358.4  # of every image but mammograms: 512 pixels of 0.7 mm
REPEATS = 25  # at most, where a repetition is shorter than the time given
HEAD = (
    "| shift | levels | ms per batch: min – median – max | images/s | GiB | applied | from CPU |\n"
    "|---|---|---|---|---|---|---|"
)
LEFT_OUT = {
    "shift.ct.slice-thickness": "needs volumes",
    "shift.library.transform": "is the user's own",
    "shift.scanner.transfer": "learns from the whole data set first",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured and for how long."""

    device: torch.device
    batch: int = 32
    pixels: int = 512
    seconds: float = 1.0
    only: str = ""
    compare: bool = False


def report(settings: Settings) -> Iterator[str]:
    """Lines of the report, each as soon as it is known."""
    yield f"{machine(settings.device)}; {settings.batch} images of {settings.pixels} x {settings.pixels}, float32.\n"
    yield HEAD
    makers = _batches(settings)
    with tempfile.TemporaryDirectory() as folder:
        options = _options(Path(folder), settings.pixels)
        for entry in catalogue().values():
            if entry.id.startswith("shift.") and entry.id.startswith(settings.only or "shift."):
                yield shift_row(entry, makers, options.get(entry.id, {}), settings)
    if not settings.only:
        yield "\n| CT operator | ms per batch: min – median – max | slices/s |\n|---|---|---|"
        yield from operator_rows(settings)


def machine(device: torch.device) -> str:
    """What it ran on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def shift_row(
    entry: Entry, makers: Mapping[str, Callable[[], Batch]], options: Mapping[str, Any], settings: Settings
) -> str:
    """Throughput of one shift, or the reason why there is none."""
    if entry.id in LEFT_OUT:
        return f"| `{entry.id}` | not measured: {LEFT_OUT[entry.id]} | | | | | |"
    try:
        shift = entry.load().from_options(options)
        batch = makers[_input(entry)]()
        return _measured(entry.id, shift, batch, settings)
    except Exception as error:  # a missing library or too little memory: the others go on
        said = " ".join(str(error).split())[:160].replace("|", "/")
        return f"| `{entry.id}` | not measured: {type(error).__name__}: {said} | | | | | |"


def _measured(name: str, shift: Condition, batch: Batch, settings: Settings) -> str:
    device = settings.device
    given = on_device(batch, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    made = run(shift, given)  # warms up, and builds operators
    times = seconds(lambda: run(shift, given), device, settings.seconds)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else math.nan
    share = applied_share(made, batch)
    difference = from_cpu(shift, batch, device) if settings.compare else math.nan
    rate = len(made) * len(batch) / statistics.median(times)
    columns = (f"`{name}`", len(made), milliseconds(times), f"{rate:.0f}", _shown(peak, ".1f"), f"{share:.0%}")
    return "| " + " | ".join(str(column) for column in columns) + f" | {_shown(difference, '.0e')} |"


def run(shift: Condition, batch: Batch) -> list[Variant]:
    """All levels; the images of a level are let go of when the next one is made, as an audit does."""
    kept = []
    for variant in shift.apply(batch, None, None).variants:
        kept.append(replace(variant, images=None) if variant.images is not None else variant)
    return kept


def seconds(call: Callable[[], object], device: torch.device, at_least: float) -> list[float]:
    """Wall time of three repetitions or more, until together they took ``at_least`` seconds."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < at_least and len(times) < REPEATS):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    return times


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def applied_share(made: list[Variant], batch: Batch) -> float:
    """Share of the altered images that the shift had meaning for."""
    shares = [1.0 if v.applicable is None else float(v.applicable.float().mean()) for v in made]
    return statistics.mean(shares) if shares and len(batch) else math.nan


def from_cpu(shift: Condition, batch: Batch, device: torch.device) -> float:
    """Largest difference between the device and the CPU over all levels of the first case, of the range of the image."""
    first = batch.select(torch.tensor([0]))
    here, there = (shift.apply(on_device(first, where), None, None).variants for where in ("cpu", device))
    span = float(first.images.max() - first.images.min())
    worst = 0.0
    for ours, theirs in zip(here, there, strict=True):
        if ours.images is not None and theirs.images is not None:
            worst = max(worst, float((ours.images - theirs.images.cpu()).abs().max()) / span)
    return worst


def operator_rows(settings: Settings) -> Iterator[str]:
    """The projector and the gridding reconstruction of CT dose, by themselves."""
    count, pixels, device = settings.batch, settings.pixels, settings.device
    geometry = ScanGeometry.covering(pixels, pixels)
    size = geometry.pixels
    images = torch.nn.functional.pad(_thorax(count, pixels), (0, size - pixels, 0, size - pixels), value=-1000.0)[:, 0]
    attenuation = ((images / 1000.0 + 1.0).clamp_min(0) * WATER_PER_MM * FIELD_MM / pixels).to(device)
    sinogram = line_integrals(attenuation, geometry)
    shape = f"{geometry.views} views, {geometry.channels} channels"
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        (
            f"line integrals at a quarter of the resolution, interpolated to {shape}",
            lambda: line_integrals(attenuation, geometry),
        ),
        (f"filtered backprojection by gridding, {shape}", lambda: filtered_backprojection(sinogram, geometry)),
    )
    for name, call in calls:
        call()
        times = seconds(call, device, settings.seconds)
        yield f"| {name} | {milliseconds(times)} | {count / statistics.median(times):.0f} |"


def milliseconds(times: list[float]) -> str:
    """Smallest, median and largest."""
    low, middle, high = (value * 1e3 for value in (min(times), statistics.median(times), max(times)))
    return f"{low:.1f} – **{middle:.1f}** – {high:.1f}"


def _shown(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def on_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with all its tensors on a device."""
    moved: dict[str, Any] = {
        f.name: v.to(device) for f in fields(batch) if isinstance(v := getattr(batch, f.name), Tensor)
    }
    return replace(batch, **moved)


def _options(folder: Path, pixels: int) -> dict[str, dict[str, Any]]:
    """What some shifts must be told."""
    np.savez(folder / "laterals.npz", images=np.tile(np.linspace(0, 1, pixels, dtype=np.float32), (4, pixels, 1)))
    both = {"shift.xr.lut": 1.2, "shift.xr.dose": 0.25}
    return {
        "shift.xr.view-error": {"bank": str(folder / "laterals.npz")},
        "shift.export.window": {"limits": [-160, 240]},
        "shift.scanner.compose": {"recipes": {"both": both, "dose": {"shift.xr.dose": 0.5}}},
    }


def _input(entry: Entry) -> str:
    """Name of the batch that a shift has meaning for."""
    if entry.space == "display":
        return "display"
    family = entry.id.split(".")[1]
    if entry.id in ("shift.scanner.ct", "shift.export.window", "shift.export.rescale-missing"):
        return "ct"
    return {"ct": "ct", "mr": "mr", "mg": "mammogram", "us": "ultrasound"}.get(family, "radiograph")


def _batches(settings: Settings) -> dict[str, Callable[[], Batch]]:
    count, pixels = settings.batch, settings.pixels
    names = tuple(f"case-{number}" for number in range(count))
    plain = Batch(
        images=torch.zeros(count, 1, pixels, pixels),
        labels=torch.zeros(count, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(1, name) for name in names),
        space=Space.PHYSICAL,
        unit=Unit.SIGNAL,
        spacing_mm=torch.full((count, 2), FIELD_MM / pixels),
        limits=(-160.0, 240.0),
    )
    lungs = _disc(pixels, -98, -36, 50, 108, power=8) | _disc(pixels, 98, -36, 50, 108, power=8)
    vessel = _disc(pixels, 20, 40, 14, 14)
    film = (0.65 - 0.35 * lungs.float() + 0.02 * _noise(count, pixels)).clamp(0.02, 0.98)
    rings = torch.zeros(pixels, pixels)
    for magnitude, radius_mm in ((1.0, 150), (0.3, 140), (0.5, 110), (0.7, 60)):  # fat under the skin, three tissues
        rings[_disc(pixels, 0, 0, radius_mm, 0.9 * radius_mm)] = magnitude
    kernels = tuple({"ConvolutionKernel": "STANDARD"} for _ in names)

    def ct() -> Batch:
        images = torch.where(vessel, 240.0, _thorax(count, pixels))
        masks = vessel.expand(count, 1, -1, -1)
        return replace(
            plain, images=images, anatomy=masks, unit=Unit.HU, modality="CT", stored_bits=12, metadata=kernels
        )

    def radiograph() -> Batch:
        return replace(plain, images=film, anatomy=lungs.expand(count, 1, -1, -1), limits=(0.0, 1.0))

    def mr() -> Batch:
        return replace(plain, images=(rings + 0.01 * _noise(count, pixels)).abs(), unit=Unit.MAGNITUDE, modality="MR")

    return {
        "ct": ct,
        "radiograph": radiograph,
        "mr": mr,
        "mammogram": lambda: replace(radiograph(), modality="MG", spacing_mm=torch.full((count, 2), 0.1)),
        "ultrasound": lambda: replace(radiograph(), images=film.clamp_min(0.05), modality="US", anatomy=None),
        "display": lambda: replace(radiograph(), images=(film * 255).round() / 255, space=Space.DISPLAY, unit=None),
    }


def _disc(pixels: int, x_mm: float, y_mm: float, half_x_mm: float, half_y_mm: float, power: int = 2) -> Tensor:
    """A filled ellipse ``(pixels, pixels)``, boolean; with a larger power it nears its rectangle."""
    side = (torch.arange(pixels) - (pixels - 1) / 2) * FIELD_MM / pixels
    return ((side - x_mm) / half_x_mm) ** power + ((side[:, None] - y_mm) / half_y_mm) ** power < 1


def _thorax(count: int, pixels: int) -> Tensor:
    """``(count, 1, pixels, pixels)`` HU: soft tissue, two lungs, a spine, 12 HU of noise that is another in each."""
    image = torch.where(_disc(pixels, 0, 0, 165, 115), 40.0, -1000.0)
    for x_mm in (-75, 75):
        image[_disc(pixels, x_mm, -5, 58, 85)] = -850.0
    image[_disc(pixels, 0, 75, 18, 18)] = 400.0
    return image + 12.0 * _noise(count, pixels)


def _noise(count: int, pixels: int) -> Tensor:
    return torch.randn(count, 1, pixels, pixels, generator=torch.Generator().manual_seed(0))
