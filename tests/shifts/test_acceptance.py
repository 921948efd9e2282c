"""What every shift of the catalogue keeps at its default levels; each file beside this has the known answers of its physics."""

import io
import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad.conditions import Batch, Kind, Space, Unit
from robustbench_rad.errors import DataError, ImageError, RobustbenchRadError
from robustbench_rad.glyphs import Glyph, coverage, text_picture
from robustbench_rad.registry import catalogue, entry
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shifts.ct_kernel import CtKernel
from robustbench_rad.shifts.mr_gibbs import MrGibbs
from robustbench_rad.shifts.mr_resolution import MrResolution
from robustbench_rad.shifts.mr_wraparound import MrWraparound
from robustbench_rad.shifts.xr_detector_mtf import XrDetectorMtf
from robustbench_rad.shifts.xr_motion_blur import XrMotionBlur
from robustbench_rad.shifts.xr_scatter import XrScatter

CASES = 3
SHIFTS = sorted(id for id in catalogue() if id.startswith("shift."))
NEED_MORE = {  # what a plan must add before they can be applied; their own files test them
    "shift.library.transform": "a transform",
    "shift.scanner.compose": "recipes",
    "shift.scanner.transfer": "a column of scanners",
    "shift.xr.view-error": "a bank of lateral radiographs",
}
PLAIN = [id for id in SHIFTS if id not in NEED_MORE]


def disc(pixels, radius):
    axis = torch.linspace(-1, 1, pixels)
    return ((axis[:, None] ** 2 + axis**2).sqrt() < radius).float()


def noise(*shape):
    return torch.randn(CASES, 1, *shape, generator=torch.Generator().manual_seed(0))


def cases(images, *, unit, modality, spacing_mm, **more):
    names = tuple(f"case-{index}" for index in range(len(images)))
    return Batch(
        images=images,
        labels=torch.zeros(len(names), 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(11, name) for name in names),
        space=Space.PHYSICAL if unit else Space.DISPLAY,
        unit=unit,
        modality=modality,
        spacing_mm=torch.tensor([spacing_mm] * len(names)),
        **more,
    )


def slices(pixels=64, spacing_mm=5.0):
    """CT of a trunk with two bones and an enhanced vessel, which is the mask."""
    trunk = disc(pixels, 0.7)
    bones = torch.roll(disc(pixels, 0.12), (0, pixels // 5), (0, 1)) + torch.roll(disc(pixels, 0.12), -pixels // 5, 1)
    vessel = disc(pixels, 0.15)
    images = -1000 + 1040 * trunk + 700 * bones + 200 * vessel + 12 * noise(pixels, pixels) * trunk
    mask = (vessel > 0.5).expand(CASES, 1, -1, -1).clone()
    kernel = tuple({"ConvolutionKernel": "STANDARD"} for _ in range(CASES))
    return cases(
        images,
        unit=Unit.HU,
        modality="CT",
        spacing_mm=(spacing_mm, spacing_mm),
        stored_bits=12,
        anatomy=mask,
        metadata=kernel,
    )


def volume(depth=24):
    """CT slices 1 mm apart with independent noise."""
    images = -1000 + 1040 * disc(24, 0.7) + 12 * noise(depth, 24, 24)
    return cases(images, unit=Unit.HU, modality="CT", spacing_mm=(1.0, 5.0, 5.0), stored_bits=12)


def radiographs(pixels=96, modality="DX", spacing_mm=None):
    """Films 384 mm wide, unless told otherwise, with masks of two lungs around a heart, and a lesion."""
    rows, columns = torch.linspace(-1, 1, pixels)[:, None], torch.linspace(-1, 1, pixels)
    lungs = sum(((((rows + 0.2) / 0.6) ** 8 + ((columns - side) / 0.28) ** 8) < 1).float() for side in (-0.55, 0.55))
    images = 0.75 - 0.4 * lungs + 0.1 * torch.sin(9 * columns) * torch.cos(7 * rows) + 0.01 * noise(pixels, pixels)
    spacing = spacing_mm or (0.1 if modality == "MG" else 384 / pixels)
    masks = {
        "anatomy": (lungs > 0).expand(CASES, 1, -1, -1).clone(),
        "lesion": torch.ones(CASES, 1, pixels, pixels, dtype=torch.bool),
        "lesion_known": (True,) * CASES,
    }
    return cases(
        images.clamp(0, 1), unit=Unit.SIGNAL, modality=modality, spacing_mm=(spacing,) * 2, stored_bits=12, **masks
    )


def mammograms():
    return radiographs(64, "MG")


def ultrasound():
    images = (0.5 + 0.2 * disc(64, 0.5) + 0.05 * noise(64, 64)).clamp(0.05, 1)
    return cases(images, unit=Unit.SIGNAL, modality="US", spacing_mm=(0.5, 0.5))


def heads():
    """MR magnitude with three tissues and bright fat under the skin."""
    rings = 0.25 * disc(64, 0.75) + 0.2 * disc(64, 0.55) + 0.2 * disc(64, 0.35)
    skin = 0.5 * (disc(64, 0.8) - disc(64, 0.72))
    return cases(
        (0.02 + rings + skin + 0.01 * noise(64, 64)).abs(), unit=Unit.MAGNITUDE, modality="MR", spacing_mm=(1.0, 1.0)
    )


def pictures(pixels=96, grain=0.02):
    axis = torch.linspace(0, 6, pixels)
    grey = 0.5 + 0.1 * torch.sin(axis)[:, None] * torch.cos(2 * axis) + grain * noise(pixels, pixels)
    return cases((grey.clamp(0, 1) * 255).round() / 255, unit=None, modality="DX", spacing_mm=(4.0, 4.0))


BY_PREFIX = {"ct": slices, "mg": mammograms, "us": ultrasound, "mr": heads, "generic": pictures, "xr": radiographs}


def marked():
    """Films with a letter in the upper left corner, in front of everything."""
    batch = radiographs()
    glyph = Glyph(picture=text_picture("R"), height=1.0)
    ink = coverage(glyph, torch.tensor([[0.03, 0.03]]), torch.full((1, 2), 10.0), (96, 96))[0]
    images = torch.where(ink > 0.05, 0.95 * ink + 0.3 * (1 - ink), batch.images.clamp(max=0.55))
    return replace(batch, images=images)


BATCHES = {
    "shift.xr.marker-fault": marked,
    "shift.ct.slice-thickness": volume,
    "shift.scanner.ct": slices,
    "shift.export.window": slices,
    "shift.export.rescale-missing": slices,
    "shift.export.clahe": pictures,
    "shift.export.downscale": pictures,
    "shift.export.jpeg": pictures,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "shift.ct.arms-down": {"gap_mm": 0},
    "shift.ct.table": {"width_mm": 200, "radius_mm": 250},
    "shift.export.window": {"limits": [-160, 240]},
}


@cache
def batch_of(id):
    return BATCHES.get(id, BY_PREFIX.get(id.split(".")[1], radiographs))()


def shift_of(id, **options):
    return entry(id).load().from_options({**OPTIONS.get(id, {}), **options})


def applied(shift, batch):
    """Variants, and measurements by quantity: a value per case at every level."""
    result = shift.apply(batch, None, None)
    variants = list(result.variants)
    return variants, {(m.quantity, m.level): m.values for m in result.measurements}


def outcome(shift, batch):
    """Variants and measurements, or the named error."""
    try:
        return applied(shift, batch)
    except DataError as error:
        if shift.id not in str(error):
            raise
        return [], {}


def served(variant):
    count = len(variant.images)
    return torch.ones(count, dtype=torch.bool) if variant.applicable is None else variant.applicable


@dataclass(frozen=True, kw_only=True)
class Strength:
    """What must move strictly with the value of the level: a measured quantity, or "" for the RMS change of the image."""

    quantity: str = ""
    rises: bool = True
    levels: tuple[Any, ...] = ()
    batch: Any = None
    options: dict[str, Any] = field(default_factory=dict)


RISING, FALLING = Strength(), Strength(rises=False)
STRENGTHS = {
    "shift.ct.arms-down": Strength(quantity="streak_sd_hu"),
    "shift.ct.beam-hardening": Strength(quantity="change_sd_hu"),
    "shift.ct.metal": Strength(
        quantity="streak_sd_hu", levels=("titanium 4 mm", "two titanium 4 mm", "titanium 30 mm")
    ),
    "shift.ct.motion": Strength(quantity="change_sd_hu"),
    "shift.ct.ring": Strength(quantity="ring_sd_hu"),
    "shift.ct.sparse-view": Strength(quantity="streak_sd_hu", rises=False, levels=(60, 40, 30, 20)),
    "shift.ct.contrast-timing": Strength(quantity="enhancement_hu"),
    "shift.ct.dose": Strength(quantity="added_noise_sd_hu", rises=False),
    "shift.ct.dose-image": Strength(quantity="added_noise_sd_hu", rises=False),
    "shift.ct.fov": Strength(quantity="field_mm", levels=(310, 280, 250, 200)),
    "shift.ct.hu-calibration": Strength(quantity="water_hu"),
    "shift.ct.kernel": Strength(quantity="f50_per_mm", batch=lambda: slices(64, 0.5)),
    "shift.ct.kvp": Strength(quantity="photon_fraction"),
    "shift.ct.patient-size": Strength(quantity="added_noise_sd_hu"),
    "shift.ct.recon-algorithm": Strength(quantity="noise_sd_hu", rises=False),
    "shift.ct.truncation": Strength(quantity="rim_hu"),
    "shift.ct.slice-thickness": Strength(quantity="noise_ratio", rises=False),
    "shift.export.window": Strength(
        quantity="window_width_hu", levels=("width 0.6", "width 0.8", "width 1.25", "width 1.6")
    ),
    "shift.export.bit-depth": Strength(quantity="rounding_rms", rises=False),
    "shift.export.clahe": Strength(quantity="contrast_ratio", batch=lambda: pictures(256, 0.005)),
    "shift.export.downscale": RISING,
    "shift.export.jpeg": Strength(quantity="compression_ratio", levels=(3, 5, 8, 10)),
    "shift.export.resample": Strength(quantity="resampling_rms"),
    "shift.generic.gaussian-noise": RISING,
    "shift.generic.shot-noise": RISING,
    "shift.generic.impulse-noise": RISING,
    "shift.generic.speckle-noise": RISING,
    "shift.generic.gaussian-blur": RISING,
    "shift.generic.defocus-blur": RISING,
    "shift.generic.zoom-blur": RISING,
    "shift.generic.brightness": RISING,
    "shift.generic.contrast": RISING,
    "shift.generic.pixelate": Strength(batch=lambda: pictures(120, 0.0)),
    "shift.generic.jpeg": RISING,
    "shift.geometry.rotate": RISING,
    "shift.geometry.translate": RISING,
    "shift.geometry.scale": Strength(quantity="scale"),
    "shift.mg.compression": Strength(quantity="scatter_to_primary"),
    "shift.mg.detector-mtf": Strength(quantity="f50_per_mm"),
    "shift.mg.dose": Strength(quantity="added_noise_sd", rises=False),
    "shift.mr.bias-field": Strength(quantity="inu_percent"),
    "shift.mr.ghosting": Strength(quantity="ghost_percent"),
    "shift.mr.gibbs": Strength(quantity="kept_fraction"),
    "shift.mr.intensity-scale": Strength(quantity="gain"),
    "shift.mr.motion": Strength(quantity="motion_rms_mm"),
    "shift.mr.resolution": Strength(quantity="acquired_row_mm"),
    "shift.mr.spike": RISING,
    "shift.mr.wraparound": Strength(quantity="folded_percent"),
    "shift.mr.field-strength": Strength(quantity="added_noise_sd", rises=False),
    "shift.mr.g-factor": Strength(quantity="g_mean"),
    "shift.mr.te-tr": Strength(quantity="contrast_ratio", rises=False),
    "shift.mr.b0-distortion": Strength(quantity="displacement_rms_px", levels=(0.5, 1, 2, 3)),
    "shift.mr.chemical-shift": RISING,
    "shift.mr.fat-sat-failure": Strength(quantity="fat_percent"),
    "shift.mr.zipper": Strength(quantity="zipper_percent"),
    "shift.mr.snr": Strength(quantity="snr"),
    "shift.us.dynamic-range": FALLING,
    "shift.us.gain": Strength(quantity="gain_db"),
    "shift.us.shadow": Strength(quantity="shadow_db"),
    "shift.xr.detector-mtf": Strength(quantity="f50_per_mm", batch=lambda: radiographs(96, spacing_mm=0.3)),
    "shift.xr.scatter": Strength(quantity="contrast_factor", rises=False),
    "shift.xr.lut": Strength(quantity="middle_grey", rises=False),
    "shift.xr.lut-centre": Strength(quantity="middle_grey", rises=False),
    "shift.xr.vendor-processing": Strength(quantity="signal_contrast"),
    "shift.xr.collimation": Strength(quantity="open_share", rises=False),
    "shift.xr.motion-blur": Strength(quantity="path_px"),
    "shift.xr.saturation": Strength(quantity="burnt_share"),
    "shift.xr.field-of-view": Strength(quantity="lesion_share"),
    "shift.xr.grid-lines": Strength(batch=lambda: radiographs(96, spacing_mm=0.2)),
    "shift.xr.kvp": Strength(quantity="bone_factor", rises=False),
    "shift.xr.marker": Strength(quantity="covered_share", batch=lambda: radiographs(192)),
    "shift.xr.device-overlay": Strength(quantity="covered_share", batch=lambda: radiographs(192)),
    "shift.xr.metal-hardware": Strength(quantity="covered_share", batch=lambda: radiographs(192)),
    "shift.xr.projection-ap": Strength(quantity="heart_width_factor", batch=lambda: radiographs(384)),
    "shift.xr.patient-rotation": RISING,
    "shift.xr.inspiration": Strength(quantity="lung_height_factor"),
    "shift.xr.dose": Strength(quantity="added_noise_sd", rises=False),
}
NO_STRENGTH = {
    "shift.generic.elastic": "the published constants change from affine to elastic between severities 2 and 3",
    "shift.generic.motion-blur": "the published constants hold the radius from severity 2 to 4",
    "shift.us.speckle": "the size of a cell is measured from the autocorrelation in its own file",
    "shift.export.screenshot": "steps, each with those before it",
    "shift.export.spacing-error": "two faults",
    "shift.ct.table": "there or not",
}


def test_every_shift_has_a_strength_or_a_reason_to_have_none():
    categorical = {id for id in SHIFTS if entry(id).kind == Kind.CATEGORICAL}
    assert set(SHIFTS) == set(STRENGTHS) | set(NO_STRENGTH) | categorical | set(NEED_MORE)


@pytest.mark.parametrize("id", STRENGTHS)
def test_levels_are_strictly_monotone_in_what_is_achieved(id):
    strength = STRENGTHS[id]
    shift = shift_of(id, **({"levels": list(strength.levels)} if strength.levels else {}))
    batch = strength.batch() if strength.batch else batch_of(id)
    variants, measured = applied(shift, batch)
    usable = [variant for variant in variants if served(variant).all()]
    assert len(usable) >= 2, [variant.reason for variant in variants]
    usable.sort(key=lambda variant: variant.level.value)
    if strength.quantity:
        achieved = torch.stack([measured[strength.quantity, variant.level.name] for variant in usable])
    else:
        achieved = torch.stack([(v.images - batch.images).square().flatten(1).mean(1).sqrt() for v in usable])
    steps = achieved.diff(dim=0) * (1 if strength.rises else -1)
    assert (steps > 0).all(), achieved


TOLERANCE = {"HU": 1e-3, "signal": 2e-6, "magnitude": 2e-6, "": 2e-6}  # of images; HU as the specification has it


@pytest.mark.parametrize("id", PLAIN)
def test_a_case_does_not_depend_on_order_or_size_of_its_batch(id):
    batch, shift = batch_of(id), shift_of(id)
    together, _ = outcome(shift, batch)
    order = torch.tensor([2, 0])
    apart, _ = outcome(shift, batch.select(order))
    assert len(together) == len(apart)
    for one, other in zip(together, apart, strict=True):
        tolerance = TOLERANCE[str(batch.unit or "")]
        relative = 3e-6 if batch.unit is Unit.HU else 0.0  # noise of thousands of HU has no more digits in float32
        torch.testing.assert_close(other.images, one.images[order], rtol=relative, atol=tolerance)
        assert torch.equal(served(other), served(one)[order])


DRIFT = {"HU": 2e-3, "signal": 2e-5, "magnitude": 2e-5, "": 2e-5}
"""Largest difference of a result in float32 from that in float64, beside 1e-6 of the value: a tenth of a 12-bit grey level."""
ROUNDED = {"shift.export.bit-depth", "shift.export.screenshot"}
"""A value on the edge of two stored grey levels may fall on either side: a pixel in three thousand may be one level away."""
LIBRARY = """
import numpy as np

def darker(image):
    return image * np.float32(0.7)
"""


@pytest.fixture
def whole(tmp_path):
    """Shift and batch by id; those that a plan must add something to have it."""
    (tmp_path / "own.py").write_text(LIBRARY)
    np.savez(tmp_path / "laterals.npz", images=np.tile(np.linspace(0, 1, 20), (3, 30, 1)))
    options = {
        "shift.library.transform": {"transform": "own.py:darker", "folder": str(tmp_path)},
        "shift.scanner.compose": {"recipes": {"both": {"shift.xr.dose": 0.25, "shift.xr.lut": 1.5}}},
        "shift.scanner.transfer": {"scanners": ["A", "B"], "least_cases": 5},
        "shift.xr.view-error": {"bank": str(tmp_path / "laterals.npz")},
    }

    def make(id):
        batches = {"shift.library.transform": pictures, "shift.scanner.transfer": two_scanners}
        strength = STRENGTHS.get(id, RISING)
        own = batches.get(id) or strength.batch or (lambda: batch_of(id))
        levels = {"levels": list(strength.levels)} if strength.levels else {}
        return shift_of(id, **levels, **options.get(id, {})), own()

    return make


def two_scanners(each=6):
    """Radiographs of scanner A, and noisier, brighter ones of B."""
    one = radiographs()
    images = one.images.repeat(2 * each // CASES, 1, 1, 1)
    grain = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    names = ["A"] * each + ["B"] * each
    brighter = torch.tensor([0.0] * each + [0.03] * each).reshape(-1, 1, 1, 1)
    noisy = (0.9 * images + brighter + (0.004 + brighter / 3) * grain).clamp(0.001, 0.999)
    return cases(
        noisy,
        unit=Unit.SIGNAL,
        modality="DX",
        spacing_mm=(0.4, 0.4),
        metadata=tuple({"scanner": name} for name in names),
    )


@pytest.mark.parametrize("id", SHIFTS)
def test_single_precision_does_not_drift_from_double(id, whole):
    """The same draws, coefficients and operators; all arithmetic on the image once in float32 and once in float64."""
    shift, batch = whole(id)
    state = shift.fit(None, iter([batch]))
    wide = replace(batch, images=batch.images.double())
    single, double = (list(shift.apply(images, None, state).variants) for images in (batch, wide))
    assert any(served(variant).any() for variant in single)
    for one, other in zip(single, double, strict=True):
        assert (one.images.dtype, other.images.dtype) == (torch.float32, torch.float64)
        close = torch.isclose(one.images.double(), other.images, rtol=1e-6, atol=DRIFT[str(batch.unit or "")])
        assert (~close).float().mean() <= (1e-3 / 3 if id in ROUNDED else 0.0)


SPECTRAL = {
    "ct.kernel": (CtKernel, Unit.HU, 0.5, {"levels": ["0.5", "1.35"], "missing_noise": False}),
    "xr.detector-mtf": (XrDetectorMtf, Unit.SIGNAL, 0.5, {"levels": [0.7, 0.35]}),
    "xr.scatter": (XrScatter, Unit.SIGNAL, 10.0, {"levels": [0.5, 0.7]}),
    "xr.motion-blur": (XrMotionBlur, Unit.SIGNAL, 0.5, {"levels": [1, 2]}),
    "mr.gibbs": (MrGibbs, Unit.MAGNITUDE, 1.0, {"levels": [0.75, 0.4]}),
    "mr.resolution": (MrResolution, Unit.MAGNITUDE, 1.0, {"levels": [2, 4]}),
    "mr.wraparound": (MrWraparound, Unit.MAGNITUDE, 1.0, {"levels": [15, 30]}),
}


@pytest.mark.parametrize("name", SPECTRAL)
def test_gradients_of_spectral_shifts_are_those_of_finite_differences(name):
    kind, unit, spacing, options = SPECTRAL[name]
    shift = kind.from_options(options)
    grain = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    image = 40 + 100 * grain if unit is Unit.HU else 0.3 + 0.4 * grain
    batch = cases(image, unit=unit, modality="CT", spacing_mm=(spacing, spacing))

    def altered(pixels):
        variants, _ = applied(shift, replace(batch, images=pixels))
        assert all(served(variant).all() for variant in variants)
        return tuple(variant.images for variant in variants)

    assert torch.autograd.gradcheck(altered, image.requires_grad_(), eps=1e-5, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("id", PLAIN)
def test_a_picture_of_eight_bits_is_no_scanner_image(id):
    """An 8-bit file is presentation signal of a radiograph to the loader; called HU by a plan, its values betray it."""
    grey = ((0.5 + 0.2 * disc(48, 0.6) + 0.02 * noise(48, 48)).clamp(0, 1) * 255).round() / 255
    batch, shift = batch_of(id), shift_of(id)
    picture = cases(grey, unit=Unit.SIGNAL, modality=batch.modality, spacing_mm=(5.0, 5.0))
    if batch.unit in (Unit.HU, Unit.MAGNITUDE) and set(entry(id).modalities) <= {"CT", "MR"}:
        with pytest.raises(DataError, match=rf"{id}.*expected images in {batch.unit}"):
            applied(shift, picture)
    elif batch.space is Space.DISPLAY:
        with pytest.raises(DataError, match=rf"{id}.*display space"):
            applied(shift, picture)
    if batch.unit is Unit.HU:
        with pytest.raises(RobustbenchRadError, match=id):
            applied(shift, replace(picture, unit=Unit.HU))


@pytest.mark.parametrize("id", PLAIN)
def test_nan_is_refused_with_the_name_of_the_case(id):
    images = batch_of(id).images.clone()
    images[1].view(-1)[7] = torch.nan
    with pytest.raises(ImageError, match=rf"{id}.*case-1"):
        applied(shift_of(id), replace(batch_of(id), images=images))


@pytest.mark.parametrize("id", PLAIN)
def test_a_spacing_is_never_made_up_in_silence(id):
    """Without one: not applicable with the reason, an assumed one that is told, or the same for any spacing."""
    batch, shift = replace(batch_of(id), spacing_mm=None), shift_of(id)
    variants, measured = outcome(shift, batch)
    known, _ = outcome(shift, batch_of(id))
    told = any(torch.isfinite(values).any() for (name, _), values in measured.items() if "assumed_spacing" in name)
    for one, other in zip(variants, known, strict=True):
        if told:
            continue
        needless = torch.equal(one.images, other.images)
        refused = not served(one).any() and ("spacing" in one.reason or "distance" in one.reason)
        assert needless or refused, one.reason


@pytest.mark.parametrize(
    "id", ["shift.ct.dose", "shift.ct.dose-image", "shift.ct.kvp", "shift.ct.patient-size", "shift.ct.truncation"]
)
def test_hu_clipped_to_a_window_have_no_line_integrals(id):
    batch = replace(batch_of(id), images=batch_of(id).images.clamp(-160, 240))
    variants, _ = applied(shift_of(id), batch)
    for variant in variants:
        assert not served(variant).any()
        assert "clipped" in variant.reason
        assert torch.equal(variant.images, batch.images)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 20, 20)], ids=["one-pixel", "one-voxel", "one-slice"])
@pytest.mark.parametrize("id", PLAIN)
def test_one_pixel_and_one_slice_are_altered_or_named(id, shape):
    batch = batch_of(id)
    middle = batch.images[(slice(None), slice(None), *[n // 2 for n in batch.images.shape[2:]])]
    images = middle.reshape(CASES, 1, *[1] * len(shape)).expand(CASES, 1, *shape).clone()
    small = replace(
        batch,
        images=images,
        spacing_mm=torch.ones(CASES, len(shape)),
        anatomy=None,
        lesion=None,
        lesion_known=(),
    )
    for variant in outcome(shift_of(id), small)[0]:
        assert variant.images.isfinite().all()
        assert served(variant).all() or variant.reason
        assert torch.equal(variant.images[~served(variant)], images[~served(variant)])


@pytest.mark.parametrize("id", [id for id in PLAIN if id.startswith("shift.mr.")])
def test_scored_magnitude_is_refused(id):
    images = batch_of(id).images
    scored = (images - images.mean()) / images.std()
    with pytest.raises(ImageError, match=rf"{id}.*z-scored.*case-0"):
        applied(shift_of(id), replace(batch_of(id), images=scored))


HEADER = {
    "shift.ct.fov": {"PixelSpacing", "ReconstructionDiameter"},
    "shift.ct.kernel": {"ConvolutionKernel"},
    "shift.ct.kvp": {"KVP"},
    "shift.ct.slice-thickness": {"SliceThickness"},
    "shift.export.bit-depth": {"BitsStored"},
    "shift.mr.field-strength": {"MagneticFieldStrength"},
    "shift.xr.kvp": {"KVP"},
}


@pytest.mark.parametrize("id", HEADER)
def test_the_header_follows_the_image(id):
    strength = STRENGTHS[id]
    shift = shift_of(id, **({"levels": list(strength.levels)} if strength.levels else {}))
    for variant in applied(shift, batch_of(id))[0]:
        for changed, altered in zip(variant.changed_attributes(CASES), served(variant).tolist(), strict=True):
            assert (set(changed) >= HEADER[id]) == altered


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
@pytest.mark.parametrize("id", ["shift.export.jpeg", "shift.generic.jpeg"])
def test_jpeg_loses_as_much_as_that_of_pillow(id, quality):
    batch = batch_of(id)
    if id == "shift.export.jpeg":
        (variant,), _ = applied(shift_of(id, levels=[f"q{quality}"]), batch)
        altered = variant.images
    else:
        from robustbench_rad.defences.jpeg import through_jpeg

        altered = through_jpeg(batch.images, quality)
    for image, ours in zip(batch.images, altered, strict=True):
        theirs = through_pillow(image[0], quality)
        assert abs(psnr(ours[0], image[0]) - psnr(theirs, image[0])) < 0.05


def through_pillow(plane, quality):
    file = io.BytesIO()
    Image.fromarray((plane * 255).round().byte().numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file)).astype(np.float32)) / 255


def psnr(one, other):
    return -10 * math.log10(float((one - other).square().mean()))
