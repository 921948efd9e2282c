"""The list of known answers in docs/acceptance.md: measured again here, so that no figure of the page goes stale.

``python tests/shifts/test_known_answers.py`` writes the measured figures into the page.
"""

import ast
import importlib.util
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_gridding import filtered_backprojection
from robustbench_rad.shifts.ct_kernel import CtKernel
from robustbench_rad.shifts.ct_kvp import CtKvp
from robustbench_rad.shifts.ct_slice_thickness import CtSliceThickness
from robustbench_rad.shifts.mr_bias_field import MrBiasField
from robustbench_rad.shifts.mr_ghosting import MrGhosting
from robustbench_rad.shifts.mr_snr import noisy_magnitude, rician_moments
from robustbench_rad.shifts.xr_dose import XrDose
from robustbench_rad.shifts.xr_projection_ap import XrProjectionAp
from robustbench_rad.shifts.xr_scatter import XrScatter

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "acceptance.md"
TESTS = ROOT / "tests"


@cache
def beside(name):
    """Another test module of this folder, for its phantoms."""
    spec = importlib.util.spec_from_file_location(f"known_answers_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def batch_of(images, unit, spacing_mm=None, **fields):
    names = tuple(f"case-{index}" for index in range(len(images)))
    return Batch(
        images=images,
        labels=torch.zeros(len(names), 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.PHYSICAL,
        unit=unit,
        modality="CT" if unit is Unit.HU else "DX",
        spacing_mm=None if spacing_mm is None else torch.tensor([spacing_mm] * len(names)),
        **fields,
    )


def run(shift, batch):
    return list(shift.apply(batch, None, None).variants)


def worst(found, expected):
    """Relative deviation that is furthest from 0, in %."""
    return max((100 * (f / e - 1) for f, e in zip(found, expected, strict=True)), key=abs)


def reconstructed(radius_mm):
    scan = beside("test_ct_reconstruction")
    image = filtered_backprojection(scan.disc_sinogram(100 / scan.PIXEL_MM), scan.GEOMETRY)[0]
    hu, place = 1000 * (image / scan.WATER_PER_PX - 1), scan.distance_px() * scan.PIXEL_MM
    return hu[(place > radius_mm[0]) & (place < radius_mm[1])].mean().item()


@cache
def water_noise():
    """Extra noise in a water disc of 20 cm at a reference noise of 5 HU, by dose."""
    dose = beside("test_ct_dose")
    batch = batch_of(dose.water_disc(count=12), Unit.HU, (1.4, 1.4))
    variants = run(CtDose(reference_noise_hu=5.0, **dose.PLAIN), batch)
    return {v.level.value: (v.images - batch.images)[:, 0] for v in variants}


def centre_sd(alpha):
    return water_noise()[alpha][:, beside("test_ct_dose").distances_mm(256, 1.4) < 20].std().item()


def dose_law():
    full = centre_sd(0.5)  # half the dose adds as much as the scan has
    return worst(
        [math.hypot(full, centre_sd(a)) / full for a in water_noise()], [math.sqrt(1 / a) for a in water_noise()]
    )


def dose_mean():
    return water_noise()[0.25][:, beside("test_ct_dose").distances_mm(256, 1.4) < 90].mean().item()


def electronic_law():
    dose = beside("test_ct_dose")
    batch = batch_of(dose.water_disc(128, 2.8, 320.0), Unit.HU, (2.8, 2.8))
    centre = dose.distances_mm(128, 2.8) < 60
    shift = CtDose(electronic_noise_quanta=15.0, i0=2e5, bowtie_diameter_mm=0.0, kernel="soft")
    sd = [(v.images - batch.images)[0, 0, centre].std().item() for v in run(shift, batch)]
    return sd[-1] / sd[0] / math.sqrt(39)


def noise_power():
    scan = beside("test_ct_reconstruction")
    geometry = scan.GEOMETRY
    sinograms = torch.randn(24, geometry.views, geometry.channels, generator=torch.Generator().manual_seed(3))
    inner = filtered_backprojection(sinograms, geometry, scan.hann())[:, 64:192, 64:192]
    power = torch.fft.fft2(inner).abs().square().mean(0) / 128**2
    frequency = torch.fft.fftfreq(128)
    radius = torch.hypot(frequency[:, None], frequency)
    rings = [(radius >= low) & (radius < low + 0.03) for low in np.arange(0.05, 0.42, 0.05)]
    window = 0.5 + 0.5 * torch.cos(2 * math.pi * radius * geometry.pitch_px)
    theory = math.pi / geometry.views * geometry.pitch_px * radius * window**2
    return worst([power[ring].mean().item() for ring in rings], [theory[ring].mean().item() for ring in rings])


def streaks():
    """Vertical over horizontal noise power behind a body as wide as shoulders."""
    side = (torch.arange(256) - 127.5) * 1.4
    ellipse = torch.where((side / 170) ** 2 + (side[:, None] / 80) ** 2 < 1, 0.0, -1000.0)
    batch = batch_of(ellipse.expand(6, 1, -1, -1), Unit.HU, (1.4, 1.4))
    dose = beside("test_ct_dose")
    (variant,) = run(CtDose(levels=dose.levels(0.5), i0=1e6, **dose.PLAIN), batch)
    power = torch.fft.fft2((variant.images - batch.images)[:, 0, 96:160, 96:160]).abs().square().mean(0)
    frequency = torch.fft.fftfreq(64, 1.4).abs()
    rows, columns = frequency[:, None], frequency[None]
    vertical = power[(rows > 2 * columns) & (rows > 0.05)].mean()
    return (vertical / power[(columns > 2 * rows) & (columns > 0.05)].mean()).item()


def kernel_f50():
    kernel = beside("test_ct_kernel")
    side = (kernel.PIXEL_MM, kernel.PIXEL_MM)
    batch = batch_of(kernel.slanted_edge(kernel.SOFT), Unit.HU, side, metadata=kernel.STANDARD)
    variants = run(CtKernel(levels=kernel.levels("0.5", "0.7", "1.35", "1.6")), batch)
    return worst([kernel.measured_f50(v.images) for v in variants], [0.34 * v.level.value for v in variants])


def slice_noise():
    thickness = beside("test_ct_slice_thickness")
    batch = batch_of(thickness.noise(), Unit.HU, (1.0, 0.7, 0.7))
    variants = run(CtSliceThickness(), batch)
    own = batch.images.std()
    found = [(v.images[0, 0, 8:-8].std() / own).item() for v in variants]
    return worst(found, [math.sqrt(1.0 / v.level.value) for v in variants])


def rician():
    found, expected = [], []
    for ratio in (0, 1, 2, 3, 5, 10):
        draws = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(ratio))
        magnitude = noisy_magnitude(torch.tensor(float(ratio)), 1.0, draws[0], draws[1].square()).double()
        found += [magnitude.mean().item(), magnitude.std().item()]
        expected += rician_moments(float(ratio), 1.0)
    return worst(found, expected)


def kvp_inserts():
    """Largest deviation from the table as a share of what is allowed: 2 HU, or 1 % where that is more."""
    kvp, found = beside("test_ct_kvp"), []
    for values in kvp.INSERTS.values():
        table = dict(zip(kvp.materials.KVP, values, strict=True))
        for source, hu in table.items():
            levels = tuple(map(CtKvp.level, kvp.materials.KVP))
            shift = CtKvp(source_kvp=source, levels=levels, **kvp.ADAPTED)
            for variant in run(shift, batch_of(kvp.insert(hu), Unit.HU)):
                target = table[variant.level.value]
                found.append(abs(kvp.at_centre(variant).mean().item() - target) / max(2.0, 0.01 * abs(target)))
    return max(found)


def flat_field():
    dose = beside("test_xr_dose")
    batch = batch_of(dose.flat(), Unit.SIGNAL, (1.92, 1.92))
    own = 1.0 / (2.5 * dose.QUANTA_PER_MM2_UGY * 0.6 * 1.92**2) / dose.DISPLAY_NEPERS**2
    variants = run(XrDose(**dose.WHITE), batch)
    found = [(v.images - batch.images).var().item() + own for v in variants]
    return worst(found, [own / v.level.value for v in variants])


def normalised_noise_power():
    """NNPS at 0.5 per mm and 2.57 µGy in 1e-5 mm²; at half the exposure the extra noise equals the own."""
    dose, spacing, size = beside("test_xr_dose"), 0.143, 256
    batch = batch_of(dose.flat(size, count=8), Unit.SIGNAL, (spacing, spacing))
    options = {"electronic_equivalent_ugy": 0.0, "white_fraction": 0.0, "detector_air_kerma_ugy": 2.57}
    (variant,) = run(XrDose(levels=dose.levels(0.5), **options), batch)
    relative = (variant.images - batch.images) * dose.DISPLAY_NEPERS
    power = torch.fft.fft2(relative).abs().square().mean((0, 1)) * spacing**2 / size**2
    frequency = torch.fft.fftfreq(size, spacing)
    radius = torch.hypot(frequency[:, None], frequency)
    return 1e5 * power[(radius > 0.45) & (radius < 0.55)].mean().item()


def scatter_contrast():
    found, expected = [], []
    scatter = beside("test_xr_scatter")
    images, phase = scatter.wave()
    for source in (0.0, 0.4):
        shift = XrScatter(levels=scatter.levels(0.45, 0.7, 0.9), source_scatter_fraction=source, display_curve="linear")
        for variant in run(shift, batch_of(images, Unit.SIGNAL, (3.0, 3.0))):
            relative = variant.images / variant.images.mean()
            found.append(2 * (relative * phase).mean().item())
            expected.append(0.01 * (1 - variant.level.value) / (1 - source))
    return worst(found, expected)


def heart_width():
    heart = beside("test_xr_projection_ap")
    image = (0.3 + 0.4 * (heart.HEART & heart.THORAX).float())[None, None]
    batch = batch_of(image, Unit.SIGNAL, anatomy=heart.LUNGS[None, None])
    off = [heart.width(v.images[0, 0]) - 99 * v.level.value for v in run(XrProjectionAp(), batch)]
    return max(off, key=abs)


def nonuniformity():
    images = beside("test_mr_bias_field").head()
    found, expected = [], []
    for variant in run(MrBiasField(), batch_of(images, Unit.MAGNITUDE)):
        for before, after in zip(images, variant.images, strict=True):
            bias = after[before > 0] / before[before > 0]
            found.append(100 * ((bias.max() - bias.min()) / bias.mean()).item())
            expected.append(variant.level.value)
    return worst(found, expected)


def ghosts():
    image, found, expected = beside("test_mr_ghosting").bar(120, -2), [], []
    for period in (2, 3, 4, 5):
        shift = MrGhosting(period_lines=period, phase_encoding="column")
        for variant in run(shift, batch_of(image, Unit.MAGNITUDE)):
            found.append(100 * variant.images[..., (60 + 120 // period) % 120, :].mean().item() / 0.5)
            expected.append(variant.level.value)
    return worst(found, expected)


def jpeg():
    """Largest difference of the PSNR from that of Pillow in dB."""
    from robustbench_rad.defences.jpeg import through_jpeg

    acceptance, off = beside("test_acceptance"), []
    images = acceptance.pictures().images
    for quality in (10, 30, 50, 75, 90):
        for image, ours in zip(images, through_jpeg(images, quality), strict=True):
            theirs = acceptance.through_pillow(image[0], quality)
            off.append(acceptance.psnr(ours[0], image[0]) - acceptance.psnr(theirs, image[0]))
    return max(off, key=abs)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One figure of the page.

    Attributes:
        says: What is measured.
        limits: Least and largest value that are right, as the specification has them.
        unit: Of the figure.
        measure: Takes the figure anew.
        slack: How far another machine's figure may lie from the printed one.
        digits: Decimals that are printed.
        test: File and name of the test that holds more of it.
    """

    says: str
    limits: tuple[float, float]
    unit: str
    measure: Callable[[], float]
    slack: float
    digits: int
    test: str


def within(percent, **fields):
    return Answer(limits=(-percent, percent), unit="%", slack=percent / 20, digits=2, **fields)


ANSWERS = {
    "water": Answer(
        says="Water of a reconstructed disc of 20 cm",
        limits=(-1.1, 0.9),
        unit="HU",
        measure=lambda: reconstructed((0, 85)),
        slack=0.05,
        digits=2,
        test="shifts/test_ct_reconstruction.py::test_water_and_air_of_a_disc",
    ),
    "air": Answer(
        says="Air around it",
        limits=(-1001.0, -999.0),
        unit="HU",
        measure=lambda: reconstructed((115, 175)),
        slack=0.05,
        digits=2,
        test="shifts/test_ct_reconstruction.py::test_water_and_air_of_a_disc",
    ),
    "dose-sigma": within(
        3.0,
        says="CT dose: noise in the centre of a water disc against the closed form of 5 HU",
        measure=lambda: worst([centre_sd(0.5)], [5.0]),
        test="shifts/test_ct_dose.py::test_noise_in_the_centre_is_the_reference_noise",
    ),
    "dose-law": within(
        2.0,
        says="CT dose: total noise against 1/√α, worst of five levels, no electronic noise",
        measure=dose_law,
        test="shifts/test_ct_dose.py::test_total_noise_follows_the_inverse_root_of_the_dose",
    ),
    "dose-electronic": Answer(
        says="CT dose: noise of α = 0.025 over that of 0.5 with electronic noise, over the quantum law",
        limits=(1.05, 10.0),
        unit="×",
        measure=electronic_law,
        slack=0.02,
        digits=2,
        test="shifts/test_ct_dose.py::test_electronic_noise_lifts_low_doses_above_the_quantum_law",
    ),
    "dose-mean": Answer(
        says="CT dose: shift of the mean of water",
        limits=(-0.2, 0.2),
        unit="HU",
        measure=dose_mean,
        slack=0.01,
        digits=3,
        test="shifts/test_ct_dose.py::test_mean_is_not_shifted",
    ),
    "nps": within(
        5.0,
        says="Noise power against `(π/views) σ² pitch f A²`, worst ring below 0.9 of the pixels' Nyquist frequency",
        measure=noise_power,
        test="shifts/test_ct_reconstruction.py::test_noise_power_agrees_with_the_closed_form",
    ),
    "streaks": Answer(
        says="Vertical over horizontal noise power behind a body as wide as shoulders",
        limits=(5.0, math.inf),
        unit="×",
        measure=streaks,
        slack=0.5,
        digits=1,
        test="shifts/test_ct_dose.py::test_shoulders_give_horizontal_streaks",
    ),
    "kernel": within(
        3.0,
        says="CT kernel: f50 of a slanted edge, worst of ×0.5, ×0.7, ×1.35 and ×1.6",
        measure=kernel_f50,
        test="shifts/test_ct_kernel.py::test_edge_has_the_requested_f50",
    ),
    "slices": within(
        3.0,
        says="CT slice thickness: noise against √(T₀/T), worst of five",
        measure=slice_noise,
        test="shifts/test_ct_slice_thickness.py::test_noise_falls_with_the_root_of_the_thickness",
    ),
    "rician": within(
        0.5,
        says="MR noise: mean and SD of Rician magnitude at SNR 0, 1, 2, 3, 5, 10, worst",
        measure=rician,
        test="shifts/test_mr_snr.py::test_rician_moments_are_those_of_the_closed_form",
    ),
    "kvp": Answer(
        says="kVp: inserts of eight materials between any two voltages, as a share of the 2 HU or 1 % allowed",
        limits=(0.0, 1.0),
        unit="×",
        measure=kvp_inserts,
        slack=0.05,
        digits=2,
        test="shifts/test_ct_kvp.py::test_inserts_follow_the_table_from_every_voltage",
    ),
    "flat-field": within(
        3.0,
        says="Radiograph dose: variance of a flat field against 1/α, worst of five",
        measure=flat_field,
        test="shifts/test_xr_dose.py::test_flat_field_variance_follows_the_inverse_of_the_dose",
    ),
    "nnps": Answer(
        says="Radiograph dose: NNPS at 0.5 per mm and 2.57 µGy (CsI: 1.42, Marshall et al. 2011)",
        limits=(1.42 * 0.8, 1.42 * 1.2),
        unit="10⁻⁵ mm²",
        measure=normalised_noise_power,
        slack=0.05,
        digits=2,
        test="shifts/test_xr_dose.py::test_noise_power_has_the_shape_of_the_scintillator",
    ),
    "scatter": within(
        1.0,
        says="Scatter: contrast against 1 - SF, worst of six pairs of source and target",
        measure=scatter_contrast,
        test="shifts/test_xr_scatter.py::test_contrast_is_one_minus_the_scatter_fraction",
    ),
    "magnification": Answer(
        says="AP projection: width of the heart, worst of five",
        limits=(-0.5, 0.5),
        unit="px",
        measure=heart_width,
        slack=0.03,
        digits=2,
        test="shifts/test_xr_projection_ap.py::test_the_heart_grows_by_the_factor_and_the_chest_wall_stays",
    ),
    "inu": within(
        2.0,
        says="MR bias field: non-uniformity, worst of five levels and two cases",
        measure=nonuniformity,
        test="shifts/test_mr_bias_field.py::test_nonuniformity_is_the_requested_one",
    ),
    "ghosts": within(
        5.0,
        says="MR ghosting: ghost over signal, worst of five levels and four periods",
        measure=ghosts,
        test="shifts/test_mr_ghosting.py::test_ghosts_have_the_requested_ratio_at_their_place",
    ),
    "jpeg": Answer(
        says="JPEG: PSNR against libjpeg (Pillow), worst of qualities 10 to 90",
        limits=(-0.05, 0.05),
        unit="dB",
        measure=jpeg,
        slack=0.005,
        digits=3,
        test="shifts/test_acceptance.py::test_jpeg_loses_as_much_as_that_of_pillow",
    ),
}
NODE = re.compile(r"`([^`]+\.py::[^`]+)`")


@cache
def measured(name):
    return ANSWERS[name].measure()


def row(name):
    answer = ANSWERS[name]
    low, high = answer.limits
    limits = f"≥ {low:g}" if high == math.inf else f"{low:g} to {high:g}"
    found = f"{measured(name):.{answer.digits}f}"
    return f"| {answer.says} | {limits} {answer.unit} | {found} | `{answer.test}` |"


@pytest.mark.parametrize("name", ANSWERS)
def test_the_page_prints_what_is_measured(name):
    answer = ANSWERS[name]
    low, high = answer.limits
    assert low <= measured(name) <= high
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| {answer.says} |")]
    assert len(lines) == 1, "run python tests/shifts/test_known_answers.py"
    printed = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert [printed[1], printed[3]] == [cell.strip() for cell in row(name).strip("|").split("|")][1::2]
    assert float(printed[2]) == pytest.approx(measured(name), abs=answer.slack + 10.0**-answer.digits)


@cache
def functions_of(file):
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_of_the_page_exists():
    nodes = [node.split("::") for node in NODE.findall(PAGE.read_text("utf-8"))]
    assert len(nodes) > 60
    for file, name in nodes:
        assert name in functions_of(file), f"{file}::{name}"


def write_page():
    """Put the figures of this machine into the table."""
    page = PAGE.read_text("utf-8")
    start, end = "<!-- measured -->\n", "<!-- end -->"
    head, tail = page[: page.index(start) + len(start)], page[page.index(end) :]
    table = ["| what | right | measured | test |", "| --- | --- | --- | --- |", *map(row, ANSWERS)]
    PAGE.write_text(head + "\n".join(table) + "\n" + tail, "utf-8")


if __name__ == "__main__":
    write_page()
