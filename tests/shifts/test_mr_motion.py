"""Motion during an MR acquisition: strength over the lines, a head that stays in place, and the direction of the damage."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_motion import MrMotion, acquisition_times, event_times, posed


def head(size=96, count=3):
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    skull = ((rows / 0.8) ** 2 + (columns / 0.65) ** 2 < 1).float()
    lesion = ((rows + 0.2) ** 2 + (columns - 0.2) ** 2 < 0.02).float()
    images = torch.stack([0.5 * skull + (0.2 + 0.1 * n) * lesion for n in range(count)])[:, None]
    return torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)


@pytest.mark.parametrize("order", ["linear", "interleaved", "centric"])
def test_strength_over_the_lines_is_the_requested_one(physical_batch, run, order):
    batch = physical_batch(head(), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    variants, measured = run(MrMotion(order=order), batch)
    for variant in variants:
        assert measured["motion_rms_mm", variant.level.name].tolist() == pytest.approx([variant.level.value] * 3)
        assert measured["motion_rms_degrees", variant.level.name].tolist() == pytest.approx([variant.level.value] * 3)
    change = [(variant.images - batch.images).std().item() for variant in variants]
    assert change[:3] == sorted(change[:3])  # beyond, what is destroyed cannot be destroyed more
    assert [measured["motion_events", name][0].item() for name in ("0.5", "1", "2", "4", "8")] == [1, 2, 4, 5, 6]


def best_shift(image, reference):
    """Rows and columns of the peak of the cross-correlation, oversampled ten times in its spectrum."""
    spectrum = torch.fft.fft2(image) * torch.fft.fft2(reference).conj()
    steps = torch.arange(-10, 11) / 10
    size = image.shape[-1]
    waves = torch.exp(2j * torch.pi * torch.fft.fftfreq(size) * steps[:, None])
    correlation = (waves @ spectrum @ waves.T).real
    row, column = divmod(correlation.argmax().item(), len(steps))
    return steps[row].item(), steps[column].item()


def test_the_head_stays_where_it_is(physical_batch, run):
    batch = physical_batch(head(), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    variants, measured = run(MrMotion(), batch)
    for variant in variants:
        assert (measured["residual_displacement_px", variant.level.name] < 0.1).all()
        for moved, still in zip(variant.images, batch.images, strict=True):
            assert max(map(abs, best_shift(moved[0], still[0]))) <= 0.2


@pytest.mark.parametrize("order", ["linear", "interleaved", "centric"])
def test_the_centre_of_mass_of_the_signal_stays_within_a_tenth_of_a_pixel(physical_batch, run, order):
    """Of the complex image. That of the magnitude moves with ghosts in the air, by up to 2 pixels, while the head stays."""
    batch = physical_batch(head(), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    variants, measured = run(MrMotion(order=order, registration="centre-of-mass"), batch)
    anatomy, other = run(MrMotion(order=order), batch)
    for variant in variants:
        assert (measured["centre_of_mass_px", variant.level.name] < 0.01).all()
        assert (measured["residual_displacement_px", variant.level.name] < 1.5).all()
    strongest = variants[-1].level.name
    assert (other["residual_displacement_px", strongest] < measured["residual_displacement_px", strongest]).any()
    assert not torch.equal(variants[-1].images, anatomy[-1].images)


def test_the_damage_spreads_along_the_phase_encoding_axis(physical_batch, run):
    batch = physical_batch(head(), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    for encoding, axis in (("column", -2), ("row", -1)):
        variants, _ = run(MrMotion(phase_encoding=encoding, degrees_per_mm=0.0), batch)
        air = variants[-1].images * (head() == 0)
        other = -3 - axis
        spread = [air.narrow(a, 0, 8).mean() for a in (axis, other)]
        assert spread[0] > 2 * spread[1]


def test_a_pose_moves_and_turns_in_millimetres():
    image = torch.zeros(1, 41, 41)
    image[0, 20, 30] = 1.0
    moved = posed(image, torch.tensor([2.0, 1.0]), torch.tensor([4.0, -3.0, 0.0]))
    assert moved[0].argmax() == 22 * 41 + 27
    turned = posed(image, torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0, 90.0]))
    assert turned[0].max() > 0.99
    assert turned[0].argmax().item() in (10 * 41 + 20, 30 * 41 + 20)


def test_nothing_moves_near_the_centre_of_k_space():
    lines = torch.arange(-50, 50)
    for order in ("linear", "interleaved", "centric"):
        times = acquisition_times(lines, order)
        assert times.unique().numel() == 100
        for seed in range(20):
            moments = torch.rand(6, generator=torch.Generator().manual_seed(seed))
            poses = (times[:, None] >= event_times(times, lines, moments)).sum(1)
            near = (times - times[lines == 0]).abs() < 0.04
            assert poses[near].unique().numel() == 1


def test_unknown_spacing_is_not_applicable(physical_batch, run):
    variants, _ = run(MrMotion(), physical_batch(head(), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert "pixel spacing unknown" in variants[0].reason


def test_slices_of_a_volume_move_together(physical_batch, run):
    plane = head(count=1)
    volume = plane[:, :, None].expand(1, 1, 3, 96, 96).contiguous()
    flat, _ = run(MrMotion(), physical_batch(plane, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0)))
    deep, _ = run(MrMotion(), physical_batch(volume, unit=Unit.MAGNITUDE, spacing_mm=(3.0, 1.0, 1.0)))
    torch.testing.assert_close(deep[2].images[:, :, 1], flat[2].images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options", [{"order": "spiral"}, {"registration": "eye"}, {"events": 7}, {"degrees_per_mm": -1}, {"levels": [-1]}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.motion"):
        MrMotion.from_options(options)
