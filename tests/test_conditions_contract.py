"""The contract every condition keeps, over a table with one row per condition of the catalogue.

To add a condition: write it, and add its row to ``ROWS``. ``ROBUSTBENCH_RAD_TEST_DEVICE=cuda`` runs all of it on a GPU.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustbench_rad import bridges
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import (
    Applied,
    Batch,
    CaseVector,
    Condition,
    Level,
    Measurement,
    Space,
    State,
    Unit,
    Variant,
)
from robustbench_rad.data.dicom_attributes import WHITELIST
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.glyphs import Glyph, coverage, text_picture
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import catalogue, entry
from robustbench_rad.seeds import derive_seed

CASES = 5
DEVICE = torch.device(os.environ.get("ROBUSTBENCH_RAD_TEST_DEVICE", "cpu"))
FINDINGS = ("effusion", "nodule")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A condition of the table: its options as a plan gives them, and a batch it has meaning for."""

    id: str
    batch: Callable[[], Batch]
    options: Mapping[str, Any] = field(default_factory=dict)
    window_hu: tuple[float, float] | None = None


def _names() -> dict[str, Any]:
    names = tuple(f"case-{number}" for number in range(CASES))
    seeds = tuple(derive_seed(1, name) for name in names)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, torch.nan], [0.0, 0.0], [1.0, 1.0]])
    return {"case_ids": names, "patient_ids": names, "seeds": seeds, "labels": labels}


def _disc(pixels: int, radius: float) -> Tensor:
    """``(N, 1, pixels, pixels)`` discs of slightly different sizes, 0 outside and 1 inside."""
    axis = torch.linspace(-1, 1, pixels)
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    radii = radius * torch.linspace(0.9, 1.1, CASES)
    return (distance < radii[:, None, None]).float()[:, None]


def _noise(pixels: int) -> Tensor:
    return torch.randn(CASES, 1, pixels, pixels, generator=torch.Generator().manual_seed(0))


def display() -> Batch:
    """Display planes 24 x 24 on the 8-bit grid, with masks of the anatomy."""
    mask = _disc(24, 0.6)
    images = (0.3 + 0.3 * mask + 0.05 * _noise(24)).clamp(0, 1)
    images = (images * 255).round() / 255
    return Batch(images=images, space=Space.DISPLAY, anatomy=mask > 0.5, **_names())


def lesioned() -> Batch:
    """The same with masks of lesions in all but the first."""
    mask = _disc(24, 0.2) > 0.5
    mask[0] = False
    return replace(display(), lesion=mask, lesion_known=(True,) * CASES, spacing_mm=torch.full((CASES, 2), 2.0))


def marked() -> Batch:
    """Display planes with a bright letter and a black frame in all but the first."""
    batch = display()
    images = 0.3 * batch.images
    images[1:, :, :, :2] = 0.0
    images[1:, :, 3:7, 17:21] = 1.0
    return replace(batch, images=images, anatomy=None)


def crossed() -> Batch:
    """Display planes with a bright line from top to bottom in all but the first, inside of their masks."""
    batch = display()
    images = 0.3 * batch.images
    images[1:, :, :, 9] = 0.8
    organ = torch.zeros_like(images, dtype=torch.bool)
    organ[..., 1:-1, 1:-1] = True
    return replace(batch, images=images, anatomy=organ)


def radiograph() -> Batch:
    """Presentation signal 64 x 64 in [0, 1]."""
    images = (0.4 + 0.3 * _disc(64, 0.6) + 0.01 * _noise(64)).clamp(0, 1)
    spacing = torch.full((CASES, 2), 0.2)
    return Batch(images=images, space=Space.PHYSICAL, unit=Unit.SIGNAL, spacing_mm=spacing, **_names())


def marked_radiograph() -> Batch:
    """Radiographs with a letter in the upper left corner."""
    plain = radiograph()
    glyph = Glyph(picture=text_picture("R"), height=1.0)
    ink = coverage(glyph, torch.tensor([[0.05, 0.05]]), torch.full((1, 2), 7.0), (64, 64))[0]
    return replace(plain, images=(plain.images + 0.5 * ink).clamp(0, 1))


def chest() -> Batch:
    """Radiographs with masks of two lungs."""
    rows, columns = torch.linspace(-1, 1, 64)[:, None], torch.linspace(-1, 1, 64)
    left, right = (((rows + 0.2) / 0.6) ** 8 + ((columns - side) / 0.28) ** 8 < 1 for side in (-0.55, 0.55))
    return replace(radiograph(), anatomy=(left | right).expand(CASES, 1, -1, -1).clone())


_FOLDER = TemporaryDirectory()


def bank() -> str:
    """A file with lateral radiographs."""
    path = Path(_FOLDER.name) / "laterals.npz"
    np.savez(path, images=np.tile(np.linspace(0, 1, 20), (3, 30, 1)))
    return str(path)


def two_scanners() -> Batch:
    """Radiographs of a scanner A and a scanner B, which is noisier."""
    batch = radiograph()
    names = tuple({"scanner": "AB"[number % 2]} for number in range(CASES))
    noisier = batch.images + 0.03 * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])[:, None, None, None] * _noise(64)
    return replace(batch, images=noisier.clamp(0, 1), metadata=names)


def ct() -> Batch:
    """Water discs in air, 64 x 64, in HU, with noise."""
    disc = _disc(64, 0.7)
    images = -1000 + 1040 * disc + 15 * _noise(64) * disc
    options = {"modality": "CT", "spacing_mm": torch.full((CASES, 2), 5.0), "stored_bits": 12}
    kernels = tuple({"ConvolutionKernel": "STANDARD"} for _ in range(CASES))
    return Batch(images=images, space=Space.PHYSICAL, unit=Unit.HU, metadata=kernels, **options, **_names())


def mr() -> Batch:
    """MR magnitude of discs 64 x 64 in air, with noise."""
    images = (0.02 + 0.6 * _disc(64, 0.7) + 0.01 * _noise(64)).abs()
    spacing = torch.full((CASES, 2), 1.0)
    return Batch(
        images=images, space=Space.PHYSICAL, unit=Unit.MAGNITUDE, modality="MR", spacing_mm=spacing, **_names()
    )


def ct_volume() -> Batch:
    """Eight slices 1 mm apart of water discs of 32 x 32 pixels."""
    disc = _disc(32, 0.7)[:, :, None].expand(-1, -1, 8, -1, -1)
    noise = torch.randn(CASES, 1, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    spacing = torch.tensor([[1.0, 5.0, 5.0]] * CASES)
    images = -1000 + 1040 * disc + 15 * noise * disc
    return Batch(
        images=images, space=Space.PHYSICAL, unit=Unit.HU, modality="CT", spacing_mm=spacing, stored_bits=12, **_names()
    )


def enhanced_ct() -> Batch:
    """The same with vessels full of contrast medium, and their masks."""
    batch, vessels = ct(), _disc(64, 0.2)
    return replace(batch, images=batch.images + 200 * vessels, anatomy=vessels > 0.5)


def mr_tissues() -> Batch:
    """MR magnitude with three tissues as rings."""
    rings = 0.3 * _disc(64, 0.8) + 0.2 * _disc(64, 0.6) + 0.2 * _disc(64, 0.4)
    return replace(mr(), images=(0.02 + rings + 0.01 * _noise(64)).abs())


def mammogram() -> Batch:
    """Presentation signal of a mammogram 64 x 64."""
    return replace(radiograph(), modality="MG", spacing_mm=torch.full((CASES, 2), 0.1))


def ultrasound() -> Batch:
    """Log-compressed echoes 64 x 64 in [0, 1]."""
    images = (0.5 + 0.2 * _disc(64, 0.5) + 0.05 * _noise(64)).clamp(0.05, 1)
    return replace(radiograph(), images=images, modality="US")


ROWS = (
    Row(id="attack.apgd-l2", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(id="attack.apgd-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(id="attack.diagnostics", batch=display, options={"steps": 11, "max_cases": 3}),
    Row(id="attack.expectation-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(id="attack.frequency-band", batch=display, options={"epsilon": ["4/255", "8/255"], "steps": 3}),
    Row(
        id="attack.clinical-goals",
        batch=display,
        options={
            "epsilon": ["1/255", "2/255"],
            "steps": 4,
            "goals": ["hide", "create", "any", "quiet", "all-clear", "alarm", "swap", "triage", "drift"],
            "pairs": [["effusion", "nodule"]],
            "cutoff": {"effusion": 0.3},
        },
    ),
    Row(id="attack.fgsm", batch=display, options={"epsilon": ["1/255", "2/255"]}),
    Row(id="attack.momentum-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 10}),
    Row(id="attack.pgd-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(id="attack.pgd-l2", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(id="attack.minimal-norm", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 4}),
    Row(
        id="attack.boundary-l2",
        batch=display,
        options={"levels": ["64/255"], "queries": 80, "votes": 10, "starts": 8},
    ),
    Row(
        id="attack.boundary-linf",
        batch=display,
        options={"levels": ["64/255"], "queries": 80, "votes": 10, "starts": 8},
    ),
    Row(id="attack.few-pixel-evolution", batch=display, options={"levels": [1, 3], "evaluations": 40}),
    Row(id="attack.noise", batch=display, options={"epsilon": ["1/255", "2/255"], "draws": 6}),
    Row(id="attack.square-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "queries": 12}),
    Row(id="attack.fab-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 4}),
    Row(id="attack.curve-linf", batch=display, options={"epsilon": ["1/255", "2/255", "4/255"], "steps": 4}),
    Row(id="attack.worst-case", batch=display, options={"epsilon": ["1/255", "2/255"], "tier": "ci"}),
    Row(
        id="attack.universal-linf",
        batch=display,
        options={"epsilon": ["1/255", "2/255"], "epochs": 2, "least_cases": 1},
    ),
    Row(id="attack.few-pixels", batch=display, options={"levels": [1, 5], "rounds": 2, "candidates": 3}),
    Row(id="attack.elastic-net-l1", batch=display, options={"epsilon": ["0.5/255", "2/255"], "steps": 4}),
    Row(id="attack.contrast", batch=display, options={"levels": ["1/2", 1], "steps": 4}),
    Row(id="attack.smooth-warp", batch=display, options={"levels": [1, 2], "steps": 4}),
    Row(id="attack.patch", batch=display, options={"levels": ["1 %", "5 %"], "steps": 4, "places": 2}),
    Row(id="attack.marker", batch=display, options={"levels": ["10 %", "20 %"], "places": 2}),
    Row(id="attack.spatial", batch=display, options={"levels": ["1/2", 1], "refinements": 2}),
    Row(id="attack.transfer-linf", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 3}),
    Row(
        id="attack.worst-acquisition",
        batch=ct,
        options={"levels": [0.5, 1], "evaluations": 10, "shifts": ["shift.ct.dose", "shift.ct.kernel"]},
        window_hu=(-160.0, 240.0),
    ),
    Row(id="saliency.parameter-randomisation", batch=display, options={"seeds": 1, "references": 3}),
    Row(id="shift.ct.arms-down", batch=ct, options={"levels": [1, 2], "gap_mm": 0}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.beam-hardening", batch=ct, options={"levels": [10, 50]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.metal", batch=ct, options={"levels": ["two screws", "titanium 30 mm"]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.motion", batch=ct, options={"levels": [2, 8]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.ring", batch=ct, options={"levels": [0.1, 0.5]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.sparse-view", batch=ct, options={"levels": [60, 30]}, window_hu=(-160.0, 240.0)),
    Row(
        id="shift.ct.table",
        batch=ct,
        options={"levels": ["present"], "width_mm": 200, "radius_mm": 250},
        window_hu=(-160.0, 240.0),
    ),
    Row(id="shift.ct.contrast-timing", batch=enhanced_ct, options={"levels": [0.5, 0]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.dose", batch=ct, options={"levels": [0.5, 0.25]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.dose-image", batch=ct, options={"levels": [0.5, 0.25]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.fov", batch=enhanced_ct, options={"levels": [300, 200]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.hu-calibration", batch=ct, options={"levels": [5, "gain -2"]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.kernel", batch=ct, options={"levels": ["0.5", "1.6"]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.kvp", batch=enhanced_ct, options={"levels": [140, 80]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.patient-size", batch=ct, options={"levels": [2, 10]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.recon-algorithm", batch=ct, options={"levels": [20, 80]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.truncation", batch=ct, options={"levels": [10, 30]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.ct.slice-thickness", batch=ct_volume, options={"levels": [2.5, 5]}, window_hu=(-160.0, 240.0)),
    Row(
        id="shift.export.window",
        batch=ct,
        options={"levels": ["centre 0.25", "width 0.6"], "limits": [-160, 240]},
        window_hu=(-160.0, 240.0),
    ),
    Row(id="shift.export.rescale-missing", batch=ct, window_hu=(-160.0, 240.0)),
    Row(id="shift.export.bit-depth", batch=radiograph, options={"levels": [7, 5]}),
    Row(id="shift.export.clahe", batch=display, options={"levels": [2, 8]}),
    Row(id="shift.export.downscale", batch=display, options={"levels": [2, 4]}),
    Row(id="shift.export.jpeg", batch=display, options={"levels": ["1.2:1", "q50", "q10"]}),
    Row(id="shift.library.transform", batch=display, options={"transform": "numpy:flipud"}),
    Row(id="shift.generic.gaussian-noise", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.shot-noise", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.impulse-noise", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.speckle-noise", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.gaussian-blur", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.defocus-blur", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.motion-blur", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.zoom-blur", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.brightness", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.contrast", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.elastic", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.pixelate", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.generic.jpeg", batch=display, options={"levels": [1, 4]}),
    Row(id="shift.export.resample", batch=radiograph, options={"levels": [1.5, 4]}),
    Row(id="shift.export.spacing-error", batch=radiograph),
    Row(id="shift.export.orientation", batch=radiograph),
    Row(id="shift.export.screenshot", batch=radiograph),
    Row(id="shift.geometry.rotate", batch=radiograph, options={"levels": [5, 15]}),
    Row(id="shift.geometry.translate", batch=ct, options={"levels": [4, 12]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.geometry.scale", batch=mr, options={"levels": [0.9, 1.2]}),
    Row(id="shift.geometry.flip", batch=radiograph, options={"side_specific": ["nodule"]}),
    Row(id="shift.mg.compression", batch=mammogram, options={"levels": [1.1, 1.3]}),
    Row(id="shift.mg.detector-mtf", batch=mammogram, options={"levels": [4, 2]}),
    Row(id="shift.mg.dose", batch=mammogram, options={"levels": [0.5, 0.25]}),
    Row(id="shift.mr.bias-field", batch=mr, options={"levels": [20, 60]}),
    Row(id="shift.mr.ghosting", batch=mr, options={"levels": [5, 20]}),
    Row(id="shift.mr.gibbs", batch=mr, options={"levels": [0.75, 0.4]}),
    Row(id="shift.mr.intensity-scale", batch=mr, options={"levels": ["0.8", "2"]}),
    Row(id="shift.mr.motion", batch=mr, options={"levels": [1, 4]}),
    Row(id="shift.mr.resolution", batch=mr, options={"levels": [2, 4]}),
    Row(id="shift.mr.spike", batch=mr, options={"levels": [5, 20]}),
    Row(id="shift.mr.wraparound", batch=mr, options={"levels": [10, 30]}),
    Row(id="shift.mr.field-strength", batch=mr_tissues, options={"levels": [1.5, 0.3]}),
    Row(id="shift.mr.g-factor", batch=mr, options={"levels": [1.5, 3]}),
    Row(id="shift.mr.te-tr", batch=mr_tissues, options={"levels": ["0.75", "1.25"]}),
    Row(id="shift.mr.b0-distortion", batch=mr, options={"levels": [1, 3]}),
    Row(id="shift.mr.chemical-shift", batch=mr, options={"levels": [1, 3]}),
    Row(id="shift.mr.fat-sat-failure", batch=mr, options={"levels": [40, 120]}),
    Row(id="shift.mr.zipper", batch=mr, options={"levels": [5, 20]}),
    Row(id="shift.mr.snr", batch=mr, options={"levels": [8, 4]}),
    Row(
        id="shift.scanner.compose",
        batch=radiograph,
        options={"recipes": {"both": {"shift.xr.lut": 1.2, "shift.xr.dose": 0.25}, "dose": {"shift.xr.dose": 0.5}}},
    ),
    Row(id="shift.scanner.ct", batch=ct, options={"levels": ["vendor A", "vendor C"]}, window_hu=(-160.0, 240.0)),
    Row(id="shift.scanner.transfer", batch=two_scanners, options={"scanners": ["A", "B"], "least_cases": 2}),
    Row(id="shift.scanner.xr", batch=radiograph, options={"levels": ["vendor B", "vendor D"]}),
    Row(id="shift.us.dynamic-range", batch=ultrasound, options={"levels": [50, 30]}),
    Row(id="shift.us.gain", batch=ultrasound, options={"levels": [-8, 8]}),
    Row(id="shift.us.shadow", batch=ultrasound, options={"levels": [6, 15]}),
    Row(id="shift.us.speckle", batch=ultrasound, options={"levels": [1, 3]}),
    Row(id="shift.xr.detector-mtf", batch=radiograph, options={"levels": [0.9, 0.5]}),
    Row(id="shift.xr.scatter", batch=radiograph, options={"levels": [0.5, 0.7]}),
    Row(id="shift.xr.lut", batch=radiograph, options={"levels": [0.85, 1.33]}),
    Row(id="shift.xr.lut-centre", batch=radiograph, options={"levels": [-3, 10]}),
    Row(id="shift.xr.vendor-processing", batch=radiograph, options={"levels": [15, 100]}),
    Row(id="shift.xr.collimation", batch=radiograph, options={"levels": [5, 12]}),
    Row(id="shift.xr.motion-blur", batch=radiograph, options={"levels": [0.5, 2]}),
    Row(id="shift.xr.saturation", batch=radiograph, options={"levels": [3, 15]}),
    Row(id="shift.xr.field-of-view", batch=radiograph, options={"levels": [90, 60]}),
    Row(id="shift.xr.grid-lines", batch=radiograph, options={"levels": [1, 4]}),
    Row(id="shift.xr.kvp", batch=radiograph, options={"levels": [100, 70]}),
    Row(id="shift.xr.polarity", batch=radiograph),
    Row(id="shift.xr.marker-fault", batch=marked_radiograph),
    Row(id="shift.xr.marker", batch=radiograph, options={"levels": [5, 8]}),
    Row(id="shift.xr.device-overlay", batch=radiograph, options={"levels": [1, 3]}),
    Row(id="shift.xr.metal-hardware", batch=radiograph, options={"levels": [40, 100]}),
    Row(id="shift.xr.projection-ap", batch=chest, options={"levels": [1.06, 1.15]}),
    Row(id="shift.xr.patient-rotation", batch=radiograph, options={"levels": [0.1, 0.3]}),
    Row(id="shift.xr.inspiration", batch=chest, options={"levels": [0.94, 0.8]}),
    Row(id="shift.xr.view-error", batch=radiograph, options={"bank": bank()}),
    Row(id="shift.xr.dose", batch=radiograph, options={"levels": [0.5, 0.25]}),
    Row(id="clean.data-leaks", batch=display),
    Row(id="shortcut.background-swap", batch=display, options={"levels": [1, 2], "donors": 4}),
    Row(id="shortcut.border-ablation", batch=display),
    Row(id="shortcut.frequency-bands", batch=display),
    Row(id="shortcut.hidden-strata", batch=lesioned),
    Row(id="shortcut.insert-border", batch=display),
    Row(id="shortcut.insert-collimation", batch=display),
    Row(id="shortcut.insert-marker", batch=display, options={"levels": ["top left", "bottom right"]}),
    Row(id="shortcut.insert-text", batch=display),
    Row(id="shortcut.insert-tube", batch=display),
    Row(id="shortcut.remove-markers", batch=marked),
    Row(id="shortcut.remove-tubes", batch=crossed),
    Row(id="shortcut.patch-shuffle", batch=display),
    Row(id="shortcut.masked-anatomy", batch=display, options={"donors": 3}),
    Row(id="shortcut.scanner-probe", batch=display),
    Row(id="shortcut.spike-and-recovery", batch=display),
)

BRIDGED = (  # attacks of other libraries: found by name, not in the catalogue
    Row(id="torchattacks:MIFGSM", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 4}),
    Row(id="torchattacks:PGD", batch=display, options={"epsilon": ["1/255", "2/255"], "steps": 4}),
    Row(id="foolbox:LinfPGD", batch=display, options={"epsilon": ["2/255"], "steps": 4, "rel_stepsize": 0.3}),
    Row(id="art:ProjectedGradientDescent", batch=display, options={"epsilon": ["2/255"], "max_iter": 4}),
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A condition ready to be applied."""

    row: Row
    condition: Condition
    classifier: Classifier
    batch: Batch
    state: State | None

    def apply(self, batch: Batch) -> tuple[list[Variant], dict[tuple[str, str, str], Measurement]]:
        """All variants, and measurements by quantity, level and finding."""
        applied = self.condition.apply(batch, _query(self.classifier, batch), self.state)
        assert isinstance(applied, Applied)
        variants = list(applied.variants)
        measured = {(m.quantity, m.level, m.finding): m for m in applied.measurements}
        assert len(measured) == len(applied.measurements)
        return variants, measured

    def vectors(self, batch: Batch) -> dict[str, CaseVector]:
        """All vectors by name, of a condition that alters no image."""
        applied = self.condition.apply(batch, _query(self.classifier, batch), self.state)
        return {} if self.condition.levels else {vector.name: vector for vector in applied.vectors}


@cache
def _bench(id: str) -> Bench:
    bridge = bridges.find(id)
    if bridge and not bridge.version:
        pytest.skip(bridge.install)
    row = next(row for row in (*ROWS, *BRIDGED) if row.id == id)
    batch = _on_device(row.batch())
    classifier = _classifier(tuple(batch.images.shape[2:]), row.window_hu)
    batch = replace(batch, clean_margins=_query(classifier, batch).margins(batch.images))
    condition = entry(row.id).load().from_options(row.options)
    state = condition.fit(classifier, iter([batch])) if condition.needs_fit else None
    state = state and {name: value.to(DEVICE) for name, value in state.items()}
    return Bench(row=row, condition=condition, classifier=classifier, batch=batch, state=state)


def _query(classifier: Classifier, batch: Batch) -> CountingQuery:
    """The model, asked about images of the batch's space."""
    query = CountingQuery(classifier)
    return query.through(classifier.display) if batch.space is Space.PHYSICAL else query


def _classifier(size: tuple[int, ...], window_hu: tuple[float, float] | None) -> Classifier:
    flat = len(size) == 2
    convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if flat else (nn.Conv3d, nn.BatchNorm3d)
    pool = nn.AdaptiveAvgPool2d(2) if flat else nn.AdaptiveAvgPool3d((1, 2, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            convolution(1, 4, 3, padding=1),
            norm(4),
            nn.ReLU(),
            convolution(4, 4, 3, padding=1),
            nn.ReLU(),
            pool,
            nn.Flatten(),
            nn.Linear(16, len(FINDINGS)),
        )
    kind, logits = Head.SIGMOID, Outputs.LOGITS
    head = HeadSpec(kind=kind, outputs=logits, findings=FINDINGS, thresholds=(0.5,) * len(FINDINGS))
    spec = InputSpec(size=size, window_hu=window_hu)
    return Classifier(module=module.eval().to(DEVICE), input=spec, head=head, device=DEVICE)


def _on_device(batch: Batch) -> Batch:
    return replace(batch, **{name: value.to(DEVICE) for name, value in _tensors(batch)})


@pytest.fixture(params=[row.id for row in (*ROWS, *BRIDGED)])
def bench(request: pytest.FixtureRequest) -> Bench:
    return _bench(request.param)


def _values(variant: Variant) -> Tensor:
    values = variant.margins if variant.images is None else variant.images
    assert values is not None
    return values


def _tensors(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    for item in fields(batch):
        value = getattr(batch, item.name)
        if isinstance(value, Tensor):
            yield item.name, value


def test_every_condition_of_the_catalogue_has_a_row():
    table = [row.id for row in ROWS]
    assert len(set(table)) == len(table)
    missing = sorted(set(catalogue()) - set(table))
    assert not missing, f"add a row to ROWS for {missing}"
    assert set(table) <= set(catalogue())


def test_the_catalogue_says_what_the_class_says(bench):
    known, condition = entry(bench.row.id), bench.condition
    assert (condition.id, condition.version, condition.space) == (known.id, known.version, known.space)
    assert known.version >= 1
    assert known.summary.endswith(".")
    assert known.reference
    assert bench.batch.modality in known.modalities
    assert all(isinstance(level, Level) for level in condition.levels)
    assert len({level.name for level in condition.levels}) == len(condition.levels)
    assert condition.passes(len(FINDINGS)) > 0 or not condition.levels


def test_options_come_back_as_the_same_condition(bench):
    assert entry(bench.row.id).load().from_options(bench.row.options) == bench.condition
    with pytest.raises(PlanError, match=bench.row.id):
        entry(bench.row.id).load().from_options({"no_such_option": 1})


def test_variants_are_of_the_batch(bench):
    variants, _ = bench.apply(bench.batch)
    assert [variant.level for variant in variants] == list(bench.condition.levels)
    for variant in variants:
        assert (variant.images is None) != (variant.margins is None)
        expected = bench.batch.images.shape if variant.margins is None else bench.batch.labels.shape
        values = _values(variant)
        if variant.spacing_mm is None:
            assert values.shape == expected
        else:  # another sampling may need another number of pixels
            assert values.shape[:2] == expected[:2]
            assert values.ndim == len(expected)
            assert variant.spacing_mm.shape == bench.batch.spacing_mm.shape
        assert values.dtype == torch.float32
        assert values.device == bench.batch.device
        assert not values.requires_grad
        if variant.applicable is not None:
            assert variant.applicable.shape == (CASES,)
            assert variant.applicable.dtype == torch.bool
            assert variant.applicable.all() or variant.reason


def test_a_neutral_level_gives_back_the_very_image(bench):
    neutral = bench.condition.neutral
    if neutral is None:
        pytest.skip("has no neutral level")
    options = {**bench.row.options, "levels": [neutral]}
    condition = entry(bench.row.id).load().from_options(options)
    variants, _ = replace(bench, condition=condition).apply(bench.batch)
    assert [variant.level.value for variant in variants] == [neutral]
    for variant in variants:
        assert torch.equal(variant.images, bench.batch.images)
        assert not any(variant.changed_attributes(CASES))
        assert variant.spacing_mm is None or torch.equal(variant.spacing_mm, bench.batch.spacing_mm)


def test_headers_say_whitelisted_attributes_and_the_next_condition_sees_them(bench):
    for variant in bench.apply(bench.batch)[0]:
        changed = variant.changed_attributes(CASES)
        assert len(changed) == CASES
        assert {keyword for case in changed for keyword in case} <= set(WHITELIST)
        assert all(isinstance(text, str) and text for case in changed for text in case.values())
        if variant.images is not None:
            after = variant.applied_to(bench.batch)
            assert torch.equal(after.images, variant.images)
            assert all(new.items() <= old.items() for new, old in zip(changed, after.attributes, strict=False))


def test_a_shift_in_physical_space_refuses_another_space_and_nan_by_name(bench):
    if entry(bench.row.id).domain != "acquisition-shift" or bench.condition.works_in is not Space.PHYSICAL:
        pytest.skip("no shift in physical space")
    shown = replace(bench.batch, images=bench.batch.images.clamp(0, 1), space=Space.DISPLAY, unit=None)
    with pytest.raises(DataError, match=bench.row.id):
        bench.apply(shown)
    broken = bench.batch.images.clone()
    broken[3, ..., 0, 0] = torch.nan
    with pytest.raises(ImageError, match=rf"{bench.row.id}.*case-3"):
        bench.apply(replace(bench.batch, images=broken))


def test_altered_images_stay_in_their_space(bench):
    for variant in bench.apply(bench.batch)[0]:
        if variant.images is not None:
            assert variant.images.isfinite().all()
            if bench.batch.space is Space.DISPLAY:
                assert variant.images.min() >= 0
                assert variant.images.max() <= 1


def test_something_is_done(bench):
    variants, measured = bench.apply(bench.batch)
    before = bench.batch.images if variants and variants[0].images is not None else bench.batch.clean_margins
    changed = any(
        not torch.equal(_values(variant)[row], before[row])
        for variant in variants
        for row in range(CASES)
        if variant.applicable is None or variant.applicable[row]
    )
    kept = [*measured.values(), *bench.vectors(bench.batch).values()]
    assert changed or (not variants and any(item.values.isfinite().any() for item in kept))


@pytest.mark.parametrize("order", [[4, 2, 0, 3, 1], [3]], ids=["shuffled", "alone"])
def test_vectors_are_those_of_each_case_whatever_its_companions(bench, order):
    index = torch.tensor(order, device=DEVICE)
    whole, part = bench.vectors(bench.batch), bench.vectors(bench.batch.select(index))
    assert whole.keys() == part.keys()
    for name, vector in whole.items():
        assert vector.values.shape[0] == CASES
        assert vector.values.ndim == 2
        torch.testing.assert_close(vector.values[index], part[name].values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_measurements_are_of_the_batch(bench):
    _, measured = bench.apply(bench.batch)
    levels = {level.name for level in bench.condition.levels}
    for (quantity, level, finding), measurement in measured.items():
        assert quantity
        assert level in {"", *levels}
        assert finding in {"", *FINDINGS}
        assert measurement.values.shape == (CASES,)
        assert measurement.values.is_floating_point()


def test_nothing_given_is_changed(bench):
    before = {name: value.clone() for name, value in _tensors(bench.batch)}
    state = {name: value.clone() for name, value in (bench.state or {}).items()}
    bench.apply(bench.batch)
    for name, value in _tensors(bench.batch):
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    for name, value in (bench.state or {}).items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0, equal_nan=True)


def test_altered_images_are_not_the_images_given(bench):
    originals = bench.batch.images.clone()
    for variant in bench.apply(bench.batch)[0]:
        if variant.images is not None and variant.images.data_ptr() != bench.batch.images.data_ptr():
            variant.images.zero_()
    assert torch.equal(bench.batch.images, originals)


def _assert_same(bench: Bench, one: Batch, other: Batch, index: Tensor, **tolerance: float) -> None:
    """What ``one`` gives, at the rows ``index``, is what ``other`` gives."""
    options = {"equal_nan": True, **tolerance}
    (variants, measured), (others, measured_again) = bench.apply(one), bench.apply(other)
    for variant, again in zip(variants, others, strict=True):
        torch.testing.assert_close(_values(variant)[index], _values(again), **options)
        if variant.applicable is not None:
            assert torch.equal(variant.applicable[index], again.applicable)
    assert measured.keys() == measured_again.keys()
    for name, measurement in measured.items():
        torch.testing.assert_close(measurement.values[index], measured_again[name].values, **options)


def test_the_same_seed_gives_the_same_answer(bench):
    torch.manual_seed(1)
    _assert_same(bench, bench.batch, bench.batch, torch.arange(CASES), rtol=0, atol=0)


@pytest.mark.parametrize("order", [[4, 2, 0, 3, 1], [3], [1, 4]], ids=["shuffled", "alone", "in-a-pair"])
def test_order_and_companions_change_nothing(bench, order):
    index = torch.tensor(order)
    _assert_same(bench, bench.batch, bench.batch.select(index), index, rtol=1e-4, atol=1e-5)


def test_what_learning_from_the_set_costs_is_not_more_than_its_price(bench):
    paid: list[int] = []

    def count(_module, given):
        paid.append(len(given[0]) * (3 if given[0].requires_grad else 1))

    batch = replace(bench.batch, clean_margins=None)
    handle = bench.classifier.module.register_forward_pre_hook(count)
    try:
        if bench.condition.needs_fit:
            bench.condition.fit(bench.classifier, iter([batch]))
    finally:
        handle.remove()
    assert sum(paid) <= bench.condition.fit_passes(len(FINDINGS), CASES)


def test_the_model_and_the_random_state_are_left_alone(bench):
    module = bench.classifier.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    hooks = [len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules()]
    random_state = torch.get_rng_state()
    if bench.condition.needs_fit:
        bench.condition.fit(bench.classifier, iter([bench.batch]))
    bench.apply(bench.batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert not any(child.training for child in module.modules())
    assert [len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules()] == hooks
