"""Compositions of shifts, and the generic scanners: order, what is handed on, independence, what is left out."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.registry import catalogue, entry
from robustbench_rad.shifts._ct_kernels import KERNELS
from robustbench_rad.shifts._scanner_table import CT_SCANNERS, XR_SCANNERS
from robustbench_rad.shifts.composition import CHAIN, Step, in_physical_order, place_in_chain
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_kernel import CtKernel
from robustbench_rad.shifts.scanner_named import Compose, NamedCtScanner, NamedXrScanner, kernel_factors
from robustbench_rad.shifts.xr_dose import XrDose
from robustbench_rad.shifts.xr_lut import XrLut


def _noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def radiographs(physical_batch):
    ramp = torch.linspace(0.2, 0.8, 96).expand(2, 1, 96, 96)
    return physical_batch(ramp + 0.01 * _noise((2, 1, 96, 96)), unit=Unit.SIGNAL, spacing_mm=(0.2, 0.2))


@pytest.fixture(scope="module")
def slices(physical_batch):
    axis = torch.linspace(-1, 1, 96)
    water = ((axis[:, None] ** 2 + axis**2) < 0.6).float().expand(2, 1, 96, 96)
    attributes = ({"ConvolutionKernel": "B30f", "XRayTubeCurrent": "200"}, {"ConvolutionKernel": "B50f"})
    images = -1000 + 1040 * water + 15 * water * _noise((2, 1, 96, 96))
    return physical_batch(images, unit=Unit.HU, spacing_mm=(0.8, 0.8), attributes=attributes)


def _images(shift, batch, run):
    return [variant.images for variant in run(shift, batch)[0]]


def test_members_act_in_the_order_of_the_imaging_chain_however_they_are_written(radiographs, run):
    forwards = Compose(recipes={"both": {"shift.xr.dose": 0.25, "shift.xr.lut": 1.5}})
    backwards = Compose(recipes={"both": {"shift.xr.lut": 1.5, "shift.xr.dose": 0.25}})
    noisy = _images(XrDose(levels=(XrDose.level(0.25),)), radiographs, run)[0]
    after = XrLut(levels=(XrLut.level(1.5),))
    by_hand = _images(after, radiographs.__class__(**{**radiographs.__dict__, "images": noisy}), run)[0]
    for shift in (forwards, backwards):
        assert torch.equal(_images(shift, radiographs, run)[0], by_hand)


def test_a_stage_goes_before_the_next_one():
    shifts = ["shift.export.jpeg", "shift.xr.lut", "shift.ct.kernel", "shift.xr.dose", "shift.xr.scatter"]
    ordered = in_physical_order([Step(shift=shift, level=1) for shift in shifts])
    assert [step.shift for step in ordered] == shifts[::-1]


def test_every_shift_in_physical_space_has_its_place_in_the_chain():
    shifts = [
        id for id, known in catalogue().items() if known.domain == "acquisition-shift" and known.space == "physical"
    ]
    for shift in shifts:
        if not shift.startswith("shift.scanner."):
            assert place_in_chain(shift) >= 0, f"add it to CHAIN: {shift}"
    listed = [shift for stage in CHAIN.values() for shift in stage]
    assert len(set(listed)) == len(listed)


def test_spacing_masks_and_header_are_handed_on(slices, run):
    shift = Compose(recipes={"low, sharp": {"shift.ct.kernel": 1.6, "shift.ct.dose": 0.5}})
    variants, measured = run(shift, slices)
    header = variants[0].changed_attributes(2)
    assert header[0] == {"XRayTubeCurrent": "100", "ConvolutionKernel": KERNELS["soft"].text(factor=1.6)}
    assert "XRayTubeCurrent" not in header[1]
    assert measured["ct.kernel level", "low, sharp"].tolist() == pytest.approx([1.6, 1.6])
    assert measured["ct.dose left_out", "low, sharp"].tolist() == [0, 0]
    assert ("ct.dose added_noise_sd_hu", "low, sharp") in measured


def test_the_noise_of_members_is_independent(radiographs, slices, run):
    def residual(shift, batch):
        return (_images(shift, batch, run)[0] - batch.images).flatten()

    dose = residual(CtDose(levels=(CtDose.level(0.25),)), slices)
    kernel = CtKernel(levels=(CtKernel.level(2.0),))
    added = residual(kernel, slices) - residual(CtKernel(levels=(CtKernel.level(2.0),), missing_noise=False), slices)
    assert added.std() > 0
    assert abs(torch.corrcoef(torch.stack([dose, added]))[0, 1]) < 0.1


def test_a_member_without_meaning_is_left_out_and_counted(slices, run):
    batch = slices.__class__(**{**slices.__dict__, "spacing_mm": torch.tensor([[0.8, 0.8], [torch.nan, torch.nan]])})
    both = {"shift.ct.dose": 0.5, "shift.ct.hu-calibration": 10}
    variants, measured = run(Compose(recipes={"both": both, "dose": {"shift.ct.dose": 0.5}}), batch)
    assert measured["ct.dose left_out", "both"].tolist() == [0, 1]
    assert measured["ct.hu-calibration left_out", "both"].tolist() == [0, 0]
    assert variants[0].applicable is None
    assert "ct.dose: pixel spacing unknown" in variants[0].reason
    assert variants[1].applicable.tolist() == [True, False]
    assert torch.equal(variants[1].images[1], batch.images[1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"recipes": {"x": {}}}, "at least one"),
        ({"recipes": {"x": {"shift.xr.dos": 1}}}, "no known place"),
        ({"recipes": {"x": {"attack.fgsm": 1}}}, "no known place"),
        ({"recipes": {"x": {"shift.xr.dose": 7}}}, "dose fraction"),
        ({"recipes": {"x": {"shift.xr.dose": 0.5}}, "levels": ["y"]}, "'y' is not known"),
        ({"recipes": {"x": 1}}, "table of tables"),
        ({"recipes": {"x": {"shift.xr.dose": 0.5}}, "options": {"shift.ct.dose": {}}}, "is in no recipe"),
    ],
)
def test_what_cannot_be_composed_is_refused_by_name(options, says):
    with pytest.raises(PlanError, match=says):
        entry("shift.scanner.compose").load().from_options(options)


def test_another_unit_is_refused_by_the_member(radiographs, run):
    with pytest.raises(DataError, match=r"shift\.ct"):
        run(NamedCtScanner(), radiographs)


def test_every_named_scanner_reaches_its_sharpness_from_any_source(slices, run):
    variants, measured = run(NamedCtScanner(), slices)
    assert [variant.level.name for variant in variants] == list(CT_SCANNERS)
    for name, scanner in CT_SCANNERS.items():
        requested = measured["ct.kernel requested_f50_per_mm", name]
        factors = measured["ct.kernel level", name]
        near = (requested / scanner.kernel_f50_per_mm - 1).abs() < 0.02
        assert (near | (factors == 1.0)).all(), name
        source = torch.tensor([KERNELS["soft"].f50_per_mm, KERNELS["medium"].f50_per_mm])
        assert (factors * source).tolist() == pytest.approx([scanner.kernel_f50_per_mm] * 2, rel=0.02)


def test_a_kernel_that_is_there_already_is_left_as_it_is(slices):
    assert kernel_factors(slices, f50_per_mm=0.55) == [pytest.approx(0.55 / 0.34, abs=1e-4), 1.0]


def test_named_radiographic_systems_report_each_parameter_of_the_table(radiographs, run):
    variants, measured = run(NamedXrScanner(), radiographs)
    assert [variant.level.name for variant in variants] == list(XR_SCANNERS)
    for name, scanner in XR_SCANNERS.items():
        asked = {
            "xr.detector-mtf": scanner.detector_f50_per_mm,
            "xr.dose": scanner.exposure_fraction,
            "xr.scatter": scanner.scatter_fraction,
            "xr.lut": scanner.gamma,
            "xr.vendor-processing": scanner.gain_percent,
        }
        for member, value in asked.items():
            found = measured.get((f"{member} level", name))
            assert (found is None) == (value is None)
            assert found is None or found.tolist() == pytest.approx([value] * 2)
    images = torch.stack([variant.images for variant in variants])
    assert ((images >= 0) & (images <= 1)).all()
    assert len({round(float(image.mean()), 4) for image in images}) == len(XR_SCANNERS)


def test_the_same_scanner_twice_is_the_same_image(radiographs, run):
    first, second = (_images(NamedXrScanner(), radiographs, run) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_thickness_changes_volumes_and_leaves_single_slices(slices, physical_batch, run):
    flat, measured = run(NamedCtScanner(), slices)
    assert (measured["ct.slice-thickness left_out", "vendor D"] == 1).all()
    assert "single slice" in flat[3].reason
    volumes = slices.images[:, :, None].repeat(1, 1, 12, 1, 1) + 5 * _noise((2, 1, 12, 96, 96), seed=3)
    attributes = tuple({"SliceThickness": "1", "ConvolutionKernel": "B30f"} for _ in range(2))
    batch = physical_batch(volumes, unit=Unit.HU, spacing_mm=(1.0, 0.8, 0.8), attributes=attributes)
    level = (NamedCtScanner.level("vendor D"),)
    (thick,), measured = run(NamedCtScanner(levels=level), batch)
    assert (measured["ct.slice-thickness left_out", "vendor D"] == 0).all()
    assert thick.changed_attributes(2)[0]["SliceThickness"] == "5"
