"""One scanner rendered as if from another: what is carried over is what was planted, and the anatomy stays where it is."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.plan import make_plan
from robustbench_rad.registry import entry
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._scanner_rendering import at, grey_curve, log_gain
from robustbench_rad.shifts._scanner_statistics import bin_centres_per_mm, from_state, grey_edges
from robustbench_rad.shifts._spectral import lorentzian_mtf
from robustbench_rad.shifts.scanner_transfer import ScannerTransfer

SIDE, SPACING, EACH = 96, 0.4, 12
BLUR_F50, SHARP_NOISE, BLUR_NOISE = 0.35, 0.004, 0.012


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _bodies(count, seed):
    """Bright discs at random places on a smooth ground, in [0.2, 0.8]."""
    axis = torch.linspace(-1, 1, SIDE)
    places = torch.rand(count, 6, 3, generator=_generator(seed))
    images = torch.full((count, 1, SIDE, SIDE), 0.35) + 0.1 * axis[:, None]
    for x, y, r in (places * torch.tensor([1.6, 1.6, 0.3]) - torch.tensor([0.8, 0.8, -0.05])).permute(1, 2, 0):
        distance = ((axis[:, None] - y[:, None, None]) ** 2 + (axis - x[:, None, None]) ** 2).sqrt()
        images = images + 0.12 * torch.sigmoid((r[:, None, None] - distance) * 60)[:, None]
    return images.clamp(0.2, 0.8)


def _noisy(images, sd, seed):
    return (images + sd * torch.randn(images.shape, generator=_generator(seed))).clamp(0.001, 0.999)


def _blurred(images):
    spacing = torch.full((len(images), 2), SPACING)
    return mirrored(images, spacing, lambda v, u: lorentzian_mtf(torch.hypot(v, u), f50_per_mm=BLUR_F50))


@pytest.fixture(scope="module")
def two(physical_batch):
    """Sharp scanner S and blurred, noisier, brighter scanner T: other patients of one population."""
    sharp = _noisy(_bodies(EACH, 1), SHARP_NOISE, 2)
    blurred = _noisy(_blurred(_bodies(EACH, 3)), BLUR_NOISE, 4) ** 0.8
    names = ["S"] * EACH + ["T"] * EACH
    metadata = tuple({"scanner": name} for name in names)
    return physical_batch(
        torch.cat([sharp, blurred]), unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING), metadata=metadata
    )


@pytest.fixture(scope="module")
def shift():
    return ScannerTransfer(scanners=("S", "T"), least_cases=5)


def _apply(shift, batch, state=None):
    state = shift.fit(None, iter([batch])) if state is None else state
    applied = shift.apply(batch, None, state)
    variants = {variant.level.name: variant for variant in applied.variants}
    return variants, {(m.quantity, m.level): m.values for m in applied.measurements}


@pytest.fixture(scope="module")
def applied(shift, two):
    return _apply(shift, two)


def test_only_images_of_the_other_scanner_are_rendered_both_ways(applied, two):
    variants, _ = applied
    for name, others in (("S", slice(EACH, None)), ("T", slice(0, EACH))):
        expected = torch.zeros(2 * EACH, dtype=torch.bool)
        expected[others] = True
        assert torch.equal(variants[name].applicable, expected)
        assert torch.equal(variants[name].images[~expected], two.images[~expected])
        assert variants[name].reason == "of this scanner already"


def test_spectrum_noise_and_grey_levels_come_near_the_target(applied, two):
    variants, measured = applied
    sharp = slice(0, EACH)
    before, after = (measured[f"spectrum_distance_{name}db", "T"][sharp] for name in ("before_", ""))
    assert after.mean() < 0.6 * before.mean()
    requested, achieved = (measured[f"noise_sd{name}", "T"][sharp] for name in ("_requested", ""))
    torch.testing.assert_close(achieved, requested, rtol=0.1, atol=0)
    rendered, target = variants["T"].images[sharp], two.images[EACH:]
    gap = [abs(float(images.median() - target.median())) for images in (two.images[sharp], rendered)]
    assert gap[1] < 0.3 * gap[0]


@pytest.mark.parametrize("noise", [(0.0, 0.0), (SHARP_NOISE, BLUR_NOISE)])
def test_the_filter_is_the_ratio_of_the_transfer_functions_and_not_of_the_noise(shift, two, noise):
    bodies = _bodies(EACH, 1)
    images = torch.cat([_noisy(bodies, noise[0], 5), _noisy(_blurred(bodies), noise[1], 6)])
    state = shift.fit(None, iter([replace(two, images=images)]))
    sharp, blurred = sorted(from_state(state), key=lambda scanner: scanner.name)
    centres = bin_centres_per_mm()
    band = (centres > 0.1) & (centres < (0.7 if noise[0] == 0 else 0.3))
    found = log_gain(sharp, blurred, 20.0).exp()
    planted = lorentzian_mtf(centres, f50_per_mm=BLUR_F50)
    torch.testing.assert_close(found[band], planted[band], rtol=0.15, atol=0)
    assert found.max() < 1.15  # more noise is not taken for more sharpness
    torch.testing.assert_close(log_gain(blurred, sharp, 20.0), -log_gain(sharp, blurred, 20.0))


def test_noise_beyond_the_cap_is_not_taken_away_and_that_is_said(two):
    shift = ScannerTransfer(scanners=("S", "T"), least_cases=5, largest_gain=1.5)
    _, measured = _apply(shift, two)
    noisy = slice(EACH, None)
    assert (measured["noise_not_removed", "S"][noisy] > 1.3).all()
    assert measured["noise_not_removed", "T"].isnan().all()
    ratio = measured["noise_sd", "S"][noisy] / measured["noise_sd_requested", "S"][noisy]
    torch.testing.assert_close(ratio, measured["noise_not_removed", "S"][noisy], rtol=1e-4, atol=0)


def test_anatomy_stays_where_it_is(applied, two):
    variants, measured = applied
    for name, rows in (("T", slice(0, EACH)), ("S", slice(EACH, None))):
        assert (measured["structure_correlation", name][rows] > 0.9).all()
        for image, rendered in zip(two.images[rows, 0], variants[name].images[rows, 0], strict=True):
            assert max(_offset(image, rendered)) < 0.5


def _offset(first, second):
    """Subpixel offset of two images by the peak of their gradients' cross-correlation, in pixels."""
    one, other = (torch.stack(torch.gradient(values.double())).square().sum(0).sqrt() for values in (first, second))
    one, other = one - one.mean(), other - other.mean()
    cross = torch.fft.irfft2(torch.fft.rfft2(one).conj() * torch.fft.rfft2(other), s=one.shape)
    row, column = divmod(int(cross.argmax()), cross.shape[1])

    def vertex(low, peak, high):
        return 0.5 * (low - high) / (low - 2 * peak + high)

    height, width = cross.shape
    dy = vertex(cross[row - 1, column], cross[row, column], cross[(row + 1) % height, column])
    dx = vertex(cross[row, column - 1], cross[row, column], cross[row, (column + 1) % width])
    return [
        abs(float(((place + shift + size / 2) % size) - size / 2))
        for place, shift, size in ((row, dy, height), (column, dx, width))
    ]


def test_a_step_edge_keeps_its_place(shift, two):
    step = torch.where(torch.arange(SIDE) < 40, 0.35, 0.6).expand(1, 1, SIDE, SIDE)
    one = replace(two.select(torch.tensor([0])), images=step)
    state = shift.fit(None, iter([two]))
    rendered = _apply(shift, one, state)[0]["T"].images[0, 0].mean(0)
    half = (rendered[20:30].mean() + rendered[55:65].mean()) / 2
    above = int((rendered > half).nonzero()[0])
    place = above - float((rendered[above] - half) / (rendered[above] - rendered[above - 1]))
    assert abs(place - 39.5) < 0.5


def test_learning_does_not_depend_on_batches_or_order_and_its_memory_on_the_number_of_images(shift, two):
    whole = shift.fit(None, iter([two]))
    order = torch.randperm(2 * EACH, generator=_generator(0))
    pieces = shift.fit(None, (two.select(order[start : start + 5]) for start in range(0, 2 * EACH, 5)))
    assert whole.keys() == pieces.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, pieces[name], rtol=1e-6, atol=1e-9, equal_nan=True)
    half = shift.fit(None, iter([two.select(torch.arange(6, 18))]))
    assert {name: tensor.shape for name, tensor in half.items()} == {name: t.shape for name, t in whole.items()}


def test_too_few_cases_are_not_assessable_with_the_reason(two):
    variants, _ = _apply(ScannerTransfer(scanners=("S", "T", "U"), least_cases=13), two)
    assert not any(variant.applicable.any() for variant in variants.values())
    assert "scanner S has 12 usable cases, 13 are needed" in variants["S"].reason
    assert variants["U"].reason == "no case is of scanner U"
    assert torch.equal(variants["S"].images, two.images)


def test_ranks_name_the_scanners_by_their_number_of_cases(two):
    uneven = two.select(torch.arange(2 * EACH)[4:])
    variants, _ = _apply(ScannerTransfer(levels=tuple(map(ScannerTransfer.level, (1, 2, 3))), least_cases=5), uneven)
    assert variants["1"].applicable.sum() == EACH - 4  # rendered as of T, which has more
    assert variants["2"].applicable.sum() == EACH
    assert variants["3"].reason == "there are only 2 scanners"


def test_cases_without_a_scanner_are_left_as_they_are(shift, two):
    unnamed = replace(two, metadata=({}, *two.metadata[1:]))
    variants, _ = _apply(shift, unnamed)
    assert not variants["T"].applicable[0]
    assert "scanner not named" in variants["T"].reason
    nothing, _ = _apply(shift, replace(two, metadata=()))
    assert "declare one as a nuisance" in nothing["S"].reason


def test_images_of_one_pixel_and_of_nan_do_not_stop_the_learning(shift, two):
    broken = replace(two, images=two.images.clone())
    broken.images[0] = torch.nan
    state = shift.fit(None, iter([broken, replace(two, images=two.images[..., :1, :1])]))
    assert [scanner.measured for scanner in from_state(state)] == [EACH - 1, EACH]
    assert [scanner.cases for scanner in from_state(state)] == [2 * EACH] * 2


def test_one_pixel_and_another_unit(shift, two):
    state = shift.fit(None, iter([two]))
    tiny = replace(two, images=two.images[..., :1, :1])
    variants, _ = _apply(shift, tiny, state)
    assert variants["T"].images.isfinite().all()
    with pytest.raises(DataError, match="physical space"):
        _apply(shift, replace(two, unit=None), state)
    with pytest.raises(TypeError, match="fitted"):
        shift.apply(two, None, None)


def test_hounsfield_units_keep_their_values_and_volumes_go_slice_by_slice(physical_batch, run):
    water = (_bodies(8, 5) - 0.35) * 800
    volumes = torch.stack([_noisy(water / 2000 + 0.5, 0.005, seed)[..., :48, :48] * 2000 - 1000 for seed in (1, 2)], 2)
    metadata = tuple({"scanner": "AB"[row % 2]} for row in range(8))
    batch = physical_batch(volumes, unit=Unit.HU, spacing_mm=(3.0, 0.8, 0.8), metadata=metadata)
    shift = ScannerTransfer(scanners=("A", "B"), least_cases=4)
    variants, _ = _apply(shift, batch)
    change = (variants["A"].images - batch.images)[1::2].mean((1, 2, 3, 4))
    assert variants["A"].images.shape == volumes.shape
    assert (change.abs() < 0.5).all()


def test_grey_curve_is_monotone_and_the_same_histogram_is_the_identity():
    one, other = torch.rand(2, 512, generator=_generator(0))
    curve = grey_curve(one, other, Unit.SIGNAL)
    assert (curve.diff() >= 0).all()
    torch.testing.assert_close(grey_curve(one, one, Unit.SIGNAL), grey_edges(Unit.SIGNAL), rtol=0, atol=1e-6)
    assert torch.equal(grey_curve(one * 0, other, Unit.SIGNAL), grey_edges(Unit.SIGNAL))


def test_a_spectrum_that_was_never_measured_changes_nothing(shift, two):
    state = dict(shift.fit(None, iter([two])))
    state["log_spectrum"] = torch.full_like(state["log_spectrum"], math.nan)
    one, other = from_state(state)
    assert torch.equal(log_gain(one, other, 4.0), torch.zeros(72, dtype=torch.float64))
    assert at(torch.arange(72.0), torch.tensor([0.0, 100.0])).tolist() == [0.0, 71.0]


@pytest.mark.parametrize(
    "options", [{"levels": [0]}, {"levels": ["A"]}, {"largest_gain": 1}, {"scanners": "A"}, {"least_cases": 0}]
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(PlanError, match=r"scanner\.transfer"):
        entry("shift.scanner.transfer").load().from_options(options)


def _plan(metadata):
    return make_plan(
        {
            "model": {
                "factory": "m.py:f",
                "head": "single-logit",
                "findings": ["x"],
                "input": {"size": [8, 8], "channels": 1, "range": [0.0, 1.0]},
            },
            "data": {"manifest": "m.csv", "metadata": metadata},
        },
        base=Path(),
    )


def test_the_column_comes_from_the_plan():
    nuisance = _plan({"view": "risk_factor", "device": "nuisance"})
    assert ScannerTransfer().bound(nuisance).column == "device"
    assert ScannerTransfer(column="view").bound(nuisance).column == "view"
    assert ScannerTransfer().bound(_plan({})).column == "scanner"
    with pytest.raises(PlanError, match="not declared"):
        ScannerTransfer(column="devise").bound(nuisance)


def test_a_target_without_readable_noise_gets_none(shift, two):
    state = dict(shift.fit(None, iter([two])))
    state["noise_sd"] = torch.full_like(state["noise_sd"], math.nan)
    _, measured = _apply(shift, two, state)
    assert measured["noise_sd_requested", "T"].isnan().all()
