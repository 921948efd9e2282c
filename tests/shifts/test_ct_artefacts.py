"""CT artefacts against closed forms: cups, rings, streaks, double edges, arms and couches."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts import _ct_beam
from robustbench_rad.shifts.ct_beam_hardening import CtBeamHardening
from robustbench_rad.shifts.ct_metal import IMPLANTS, CtMetal, metal_error
from robustbench_rad.shifts.ct_motion import CtMotion, drift_error
from robustbench_rad.shifts.ct_ring import CtRing
from robustbench_rad.shifts.ct_sparse_view import CtSparseView, aliasing
from robustbench_rad.shifts.ct_surroundings import CtArmsDown, CtTable, arm_error

SIZE, PIXEL = 128, 2.8
SHIFTS = (CtBeamHardening, CtMetal, CtRing, CtMotion, CtSparseView, CtTable, CtArmsDown)
RISING = {
    CtBeamHardening: "change_sd_hu",
    CtMetal: "streak_sd_hu",
    CtRing: "ring_sd_hu",
    CtMotion: "change_sd_hu",
    CtSparseView: "streak_sd_hu",
    CtArmsDown: "streak_sd_hu",
}


def places(size=SIZE, pixel=PIXEL):
    side = (torch.arange(size) - (size - 1) / 2) * pixel
    return torch.meshgrid(side, side, indexing="ij")


def trunk(noise=8.0, size=SIZE, pixel=PIXEL):
    """An elliptic water trunk with a spine and two lungs."""
    rows, columns = places(size, pixel)
    body = (rows / 95) ** 2 + (columns / 140) ** 2 < 1
    lungs = ((rows + 10) / 50) ** 2 + ((columns.abs() - 65) / 40) ** 2 < 1
    spine = torch.hypot(rows - 60, columns) < 18
    hu = torch.where(body, 40.0, -1000.0)
    hu[lungs], hu[spine] = -800.0, 600.0
    grain = torch.randn(size, size, generator=torch.Generator().manual_seed(3))
    return (hu + noise * grain * body)[None, None]


@pytest.fixture(scope="module")
def body(physical_batch):
    return physical_batch(trunk(), unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))


def change(run, shift, batch):
    (variant,), measured = run(shift, batch)
    return variant.images - batch.images, measured


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
def test_stronger_levels_change_more_and_hu_are_not_clipped(body, run, shift):
    # so few pixels show no streaks of hundreds of views
    made = shift.from_options({"levels": [90, 60, 40, 20]}) if shift is CtSparseView else shift()
    variants, measured = run(made, body)
    for variant in variants:
        if variant.level.name == "absent":
            assert variant.reason == "nothing here that it would change"
            continue
        assert variant.applicable.all()
        assert variant.images.isfinite().all()
        assert not torch.equal(variant.images, body.images)
    if shift in RISING:
        strengths = [measured[RISING[shift], level.name].item() for level in made.levels]
        assert strengths == sorted(strengths)
        assert strengths[0] < strengths[-1]


@pytest.mark.parametrize("shift", [s for s in SHIFTS if s.neutral is not None], ids=lambda shift: shift.id)
def test_level_zero_is_the_very_image(body, run, shift):
    (variant,), _ = run(shift(levels=(shift.level(0),)), body)
    assert variant.images is body.images


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
def test_no_spacing_no_artefact_and_what_is_not_hu_is_refused(physical_batch, run, shift):
    image = trunk(size=16, pixel=20.0)
    spacing = torch.tensor([[20.0, 20.0], [torch.nan, torch.nan]])
    batch = physical_batch(image.repeat(2, 1, 1, 1), unit=Unit.HU, spacing_mm=spacing)
    for variant in run(shift(levels=shift().levels[:1] if shift is CtTable else shift().levels[-1:]), batch)[0]:
        assert variant.applicable.tolist() == [True, False]
        assert variant.reason == "pixel spacing unknown"
        assert torch.equal(variant.images[1], batch.images[1])
    with pytest.raises(DataError, match=shift.id):
        run(shift(), physical_batch(torch.full((1, 1, 8, 8), 0.5), unit=Unit.SIGNAL))
    broken = image.clone()
    broken[..., 0, 0] = torch.nan
    with pytest.raises(ImageError, match=rf"{shift.id}.*case-0"):
        run(shift(), physical_batch(broken, unit=Unit.HU))


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 3, 2)])
def test_one_pixel_and_one_slice_give_finite_pixels(physical_batch, run, shift, shape):
    spacing = (1.0,) * (len(shape) - 2)
    batch = physical_batch(torch.full(shape, 40.0), unit=Unit.HU, spacing_mm=spacing)
    (variant,), _ = run(shift(levels=shift().levels[-1:]), batch)
    assert variant.images.shape == shape
    assert variant.images.isfinite().all()


@pytest.mark.parametrize("shift", [CtBeamHardening, CtMotion, CtSparseView], ids=lambda shift: shift.id)
def test_slices_of_a_volume_are_worked_one_by_one(physical_batch, run, shift):
    slices = torch.stack([trunk(noise)[0, 0, ::2, ::2] for noise in (2.0, 20.0)])
    volume = physical_batch(slices[None, None], unit=Unit.HU, spacing_mm=(5.0, 5.6, 5.6))
    made = shift(levels=shift().levels[-1:])
    (whole,), _ = run(made, volume)
    for number in range(2):
        alone = replace(volume, images=slices[None, None, number], spacing_mm=volume.spacing_mm[:, 1:])
        torch.testing.assert_close(whole.images[:, :, number], run(made, alone)[0][0].images, atol=0.01, rtol=0)


def test_the_table_of_the_beam_agrees_with_its_definition():
    water, bone = torch.tensor([0.0, 10.0, 200.0]), torch.tensor([0.0, 5.0, 20.0])
    found = _ct_beam.attenuation({"water": water, "bone": bone})
    assert found[0].abs() < 1e-6
    # slope at zero is the mean of the beam, and the beam hardens: less than proportional
    small = _ct_beam.attenuation({"water": torch.tensor(0.01)}) / 0.01
    assert small.item() == pytest.approx(_ct_beam.hardened_per_mm("water", water_mm=0.0), rel=1e-2)
    assert found[2] < 20 * found[1]
    # the 1 keV spectrum of SpekPy through 200 and 400 mm of water gives 3.9856 and 7.7416
    thick = _ct_beam.attenuation({"water": torch.tensor([200.0, 400.0])})
    assert thick.tolist() == pytest.approx([3.9856, 7.7416], rel=0.002)
    torch.testing.assert_close(_ct_beam.water_length_mm(thick), torch.tensor([200.0, 400.0]), atol=0.01, rtol=0)


@pytest.mark.parametrize("cup", [10, 50])
def test_a_water_disc_gets_the_cup_that_was_asked_for(physical_batch, run, cup):
    rows, columns = places(256, 1.4)
    radius = torch.hypot(rows, columns)
    disc = torch.where(radius < 150, 0.0, -1000.0)[None, None]
    batch = physical_batch(disc, unit=Unit.HU, spacing_mm=(1.4, 1.4))
    error, _ = change(run, CtBeamHardening(levels=(CtBeamHardening.level(cup),)), batch)
    centre = error[0, 0][radius < 15].mean()
    rim = error[0, 0][(radius - 135).abs() < 2].mean()
    assert (rim - centre).item() == pytest.approx(cup, rel=0.05)
    assert error[0, 0][radius < 149].mean().item() == pytest.approx(0.0, abs=0.12 * cup)
    assert error[0, 0][radius > 165].abs().mean() < 0.1 * cup


def test_between_two_bones_it_gets_darker(physical_batch, run):
    rows, columns = places()
    image = torch.where(torch.hypot(rows, columns) < 110, 0.0, -1000.0)
    image[torch.hypot(rows, columns.abs() - 70) < 18] = 1200.0
    batch = physical_batch(image[None, None], unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    error, _ = change(run, CtBeamHardening(levels=(CtBeamHardening.level(30),)), batch)
    between, beside = torch.hypot(rows, columns) < 15, torch.hypot(rows.abs() - 60, columns) < 15
    assert error[0, 0][between].mean() < error[0, 0][beside].mean() - 15


def test_rings_do_not_depend_on_the_angle(body, run):
    error, measured = change(run, CtRing(levels=(CtRing.level(0.5),), kernel="soft"), body)
    for turned in (error.rot90(1, (-2, -1)), error.flip(-1), error.flip(-2)):
        torch.testing.assert_close(turned, error, atol=0.02 * error.abs().max().item(), rtol=0)
    rows, columns = places(pixel=1.0)
    ring = torch.hypot(rows, columns)
    inside = ring < 60
    fine = (ring * 4).long()
    means = torch.zeros(fine.max() + 1).index_add_(0, fine[inside], error[0, 0][inside])
    means /= torch.bincount(fine[inside], minlength=len(means)).clamp_min(1)
    left = error[0, 0][inside] - means[fine[inside]]
    assert left.std() < 0.25 * error[0, 0][inside].std()
    assert measured["gain_sd_percent", "0.5"].item() == pytest.approx(0.5, rel=0.15)


def test_a_defective_channel_makes_its_ring_and_slices_have_their_own_gains(physical_batch, run, body):
    plain, _ = change(run, CtRing(levels=(CtRing.level(0.05),)), body)
    defect, _ = change(run, CtRing(levels=(CtRing.level(0.05),), defective_channels=20, defect_percent=5.0), body)
    assert defect.abs().max() > 3 * plain.abs().max()
    volume = body.images[:, :, None].repeat(1, 1, 2, 1, 1)
    both, _ = change(
        run,
        CtRing(levels=(CtRing.level(0.5),)),
        physical_batch(volume, unit=Unit.HU, spacing_mm=(5.0, PIXEL, PIXEL)),
    )
    first, second = both[0, 0]
    assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].abs() < 0.5


def test_nothing_is_wrong_without_metal():
    lengths = {"water": torch.full((1, 4, 9), 200.0), "bone": torch.full((1, 4, 9), 10.0)}
    chord = torch.zeros(1, 4, 9)
    error, more, starved = metal_error(lengths, "titanium", chord, deepest=11.0, water_per_mm=0.019)
    assert not error.any()
    assert not more.any()
    assert not starved.any()
    chord[..., 4] = 10.0
    error, more, _ = metal_error(lengths, "titanium", chord, deepest=11.0, water_per_mm=0.019)
    assert (error[..., :4] == 0).all()
    assert (error[..., 5:] == 0).all()
    assert (more[..., 4] > 1.0).all()


def test_streaks_run_away_from_the_metal(physical_batch, run):
    """Around the metal the change varies with the angle far more than with the distance."""
    rows, columns = places()
    water = torch.where(torch.hypot(rows, columns) < 120, 0.0, -1000.0)
    grain = 10 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    batch = physical_batch((water + grain * (water == 0))[None, None], unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    shift = CtMetal.from_options({"levels": ["titanium 30 mm"], "place": [0.5, 0.5], "kernel": "sharp"})
    error, measured = change(run, shift, batch)
    down, right = torch.gradient(error[0, 0])
    distance = torch.hypot(rows, columns)
    around = (distance > 35) & (distance < 105)
    radial = ((down * rows + right * columns) / distance)[around].square().mean()
    tangential = ((right * rows - down * columns) / distance)[around].square().mean()
    assert tangential > 5 * radial
    assert measured["metal_mm", "titanium 30 mm"].item() == pytest.approx(30, rel=0.02)


def test_metal_is_painted_where_it_was_asked_for_and_in_bone_otherwise(body, run):
    rows, columns = places()
    fixed = CtMetal.from_options({"levels": ["two screws"], "place": [0.5, 0.5]})
    (variant,), _ = run(fixed, body)
    for side in (-20.0, 20.0):
        assert (variant.images[0, 0][torch.hypot(rows, columns - side) < 1.5] == 3071.0).all()
    (drawn,), _ = run(CtMetal.from_options({"levels": ["titanium 4 mm"]}), body)
    metal = drawn.images[0, 0] > 2500
    assert metal.any()
    assert (body.images[0, 0][metal] > 200).all()


def test_thicker_metal_starves_and_amalgam_lets_nothing_through(body, run):
    options = {"levels": [*IMPLANTS], "place": [0.6, 0.5]}
    _, measured = run(CtMetal.from_options(options), body)
    starved = {name: measured["starved_share", name].item() for name in IMPLANTS}
    assert starved["titanium 4 mm"] == 0.0
    assert starved["filling"] > 0.8
    assert starved["cobalt-chromium 40 mm"] > starved["titanium 30 mm"]


def test_a_bar_is_doubled_at_the_distance_of_the_drift():
    """A pattern along the motion is seen by one direction of views: half of it before and half after the drift."""
    columns = torch.arange(96.0)
    bar = 1000 * torch.exp(-0.5 * ((columns - 48) / 2.0) ** 2)
    slices = bar.expand(1, 96, 96)
    moved = slices + drift_error(slices, pixels=12.0, direction=0.0, start=-math.pi / 2)
    doubled = 500 * sum(torch.exp(-0.5 * ((columns - 48 - side) / 2.0) ** 2) for side in (-6, 6))
    torch.testing.assert_close(moved[0], doubled.expand(96, 96), atol=1.0, rtol=0)


def test_a_resting_patient_does_not_move_and_the_mean_stays():
    image = trunk()[0]
    assert drift_error(image, pixels=0.0, direction=1.0, start=0.3).abs().max() < 1e-2
    error = drift_error(image, pixels=4.0, direction=1.0, start=0.3)
    assert error.abs().max() > 100
    assert error.mean().abs() < 2


def test_motion_and_sparse_views_are_linear_and_differentiable():
    image = trunk()[0, :, ::4, ::4].double().requires_grad_()
    for error in (
        lambda x: drift_error(x, pixels=2.0, direction=0.4, start=1.0),
        lambda x: aliasing(x.float(), views=12).double(),
    ):
        torch.testing.assert_close(error(image + 3 * image), 4 * error(image), atol=1e-1, rtol=1e-3)
        (gradient,) = torch.autograd.grad(error(image).square().sum(), image)
        assert gradient.abs().sum() > 0


def backprojected(sigma, centre, size, views):
    """Filtered backprojection of a Gaussian from its own closed-form projections, view by view."""
    fine = np.arange(-4 * size, 4 * size, 1 / 8)
    frequency = np.fft.fftfreq(len(fine), 1 / 8)
    ramp = np.abs(frequency) * (np.abs(frequency) <= 0.5)
    projection = sigma * math.sqrt(2 * math.pi) * np.exp(-(fine**2) / (2 * sigma**2))
    view = np.fft.ifft(np.fft.fft(projection) * ramp).real
    rows, columns = np.meshgrid(np.arange(size) - centre[0], np.arange(size) - centre[1], indexing="ij")
    image = np.zeros((size, size))
    for number in range(views):
        angle = math.pi * number / views
        image += np.interp(columns * math.cos(angle) + rows * math.sin(angle), fine, view)
    return image * math.pi / views


@pytest.mark.parametrize("views", [9, 24])
def test_few_views_make_the_streaks_of_an_explicit_backprojection(views):
    size, centre, sigma = 64, (20.0, 40.0), 1.0
    rows, columns = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    spot = torch.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * sigma**2))
    found = aliasing(spot[None], views=views)[0].double()
    expected = torch.from_numpy(backprojected(sigma, centre, size, views)) - spot
    assert (found - expected).square().mean().sqrt() < 0.03 * expected.square().mean().sqrt()


def test_many_views_leave_no_streaks():
    spot = torch.zeros(1, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    spot[0] = torch.exp(-((rows - 16) ** 2 + (columns - 15) ** 2) / 8)
    assert aliasing(spot, views=720).abs().max() < 1e-3


def test_the_couch_is_cut_away_or_laid_below_the_patient(physical_batch, run):
    rows, columns = places()
    image = trunk(noise=5.0)[0, 0]
    couch = (rows > 120) & (rows < 126) & (columns.abs() < 100)
    image[couch] = 0.0
    batch = physical_batch(image[None, None], unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    present, absent = run(CtTable(), batch)[0]
    assert (absent.images[0, 0][couch] == -1000.0).all()
    patient = (rows / 90) ** 2 + (columns / 135) ** 2 < 1
    assert torch.equal(absent.images[0, 0][patient], image[patient])
    laid = (present.images[0, 0] - image) > 400
    assert laid.any()
    assert rows[laid].min() > 60  # under the body, as a hollow
    assert (present.images[0, 0] - image)[patient].std() < 20


def test_nothing_is_wiped_where_lung_may_be_open_to_the_edge_of_the_field_of_view(physical_batch, run):
    rows, columns = places()
    whole = trunk()[0, 0]
    whole[(rows / 40) ** 2 + ((columns - 70) / 30) ** 2 < 1] = -850.0
    cut = torch.roll(whole, 60, dims=1)  # the lung lies at the border now
    cut[:, :60] = 40.0
    cut[:, -1] = -850.0
    batch = physical_batch(torch.stack([whole, cut])[:, None], unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    present, absent = run(CtTable(), batch)[0]
    assert absent.applicable.tolist()[1] is False
    assert "reaches the edge of the field of view" in absent.reason
    assert torch.equal(absent.images[1], batch.images[1])
    assert present.applicable.tolist() == [True, True]


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
def test_clipped_ct_numbers_have_no_line_integrals(physical_batch, run, shift):
    """Air at -160 HU would stand for a metre of nearly water around the patient."""
    batch = physical_batch(trunk(noise=5.0).clamp(-160.0, 240.0), unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    for variant in run(shift(), batch)[0]:
        assert variant.applicable.tolist() == [False]
        assert variant.reason == "HU are clipped to a window"
        assert torch.equal(variant.images, batch.images)


def test_nothing_is_wiped_where_no_body_is_found(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 1, 1), 40.0), unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))
    _, absent = run(CtTable(), batch)[0]
    assert absent.applicable.tolist() == [False]
    assert absent.reason == "no body was found, so nothing says what to keep"
    assert torch.equal(absent.images, batch.images)


def test_arms_make_streaks_between_bones_and_are_seen_where_the_image_reaches(body, run):
    _, measured = change(run, CtArmsDown(levels=(CtArmsDown.level(2),)), body)
    assert 0.1 < measured["visible_share", "2"].item() < 0.9
    variants, _ = run(CtArmsDown(noise=False), body)
    one, both = ((variant.images - body.images)[0, 0] for variant in variants)
    rows, columns = places()
    strips = [torch.hypot(rows - row, columns) < 10 for row in (0.0, -70.0)]
    band, above = (both[strip].mean() for strip in strips)
    assert band < above  # darker on the line through both humeri
    assert (one.abs().sum(0)[:30].sum() > 1e4) != (one.abs().sum(0)[-30:].sum() > 1e4)


def test_an_arm_of_water_is_corrected_by_the_scanner():
    lengths = {"water": torch.full((1, 3, 5), 250.0), "bone": torch.zeros(1, 3, 5)}
    arm = {"water": torch.full((1, 3, 5), 80.0), "bone": torch.zeros(1, 3, 5)}
    error, more = arm_error(lengths, arm, water_per_mm=0.019)
    assert error.abs().max() < 1e-3
    assert (more > 1.3).all()


@pytest.mark.parametrize(
    ("shift", "options", "problem"),
    [
        (CtMetal, {"levels": ["gold"]}, "titanium 30 mm"),
        (CtMetal, {"place": [0.5, 2.0]}, "place"),
        (CtRing, {"levels": [-1]}, "0 to 10"),
        (CtRing, {"defect_percent": 100}, "defect_percent"),
        (CtMotion, {"kernel": "harsh"}, "kernel"),
        (CtSparseView, {"levels": [100.5]}, "whole number"),
        (CtTable, {"levels": ["gone"]}, "present, absent"),
        (CtTable, {"width_mm": 1000}, "radius_mm"),
        (CtArmsDown, {"levels": [1.5]}, "0, 1 or 2"),
        (CtArmsDown, {"cortex_mm": 20}, "cortex"),
        (CtBeamHardening, {"water_diameter_mm": 0}, "water_diameter_mm"),
    ],
)
def test_options_without_meaning_are_refused(shift, options, problem):
    with pytest.raises(PlanError, match=problem):
        shift.from_options(options)
