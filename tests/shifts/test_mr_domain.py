"""What all MR shifts keep: identity, refusal, gradients, volumes, tiny images, header of the phase-encoding axis."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError
from robustbench_rad.registry import catalogue
from robustbench_rad.shifts._displacement import displaced
from robustbench_rad.shifts.mr_ghosting import with_ghosts
from robustbench_rad.shifts.mr_gibbs import truncated
from robustbench_rad.shifts.mr_wraparound import folded

SHIFTS = [entry.load() for id, entry in catalogue().items() if id.startswith("shift.mr.")]


@pytest.fixture(params=SHIFTS, ids=lambda shift: shift.id)
def shift(request):
    return request.param()


def head(*shape, count=2, noise=0.01):
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape], indexing="ij")
    distance = sum(axis**2 for axis in axes)
    image = 0.3 * (distance < 0.75) + 0.2 * (distance < 0.5) + 0.3 * (distance < 0.2)
    grain = noise * torch.randn(count, 1, *shape, generator=torch.Generator().manual_seed(0))
    return (image.expand(count, 1, *shape) + 0.02 + grain).abs()


def test_the_neutral_level_is_the_very_image(physical_batch, run, shift):
    batch = physical_batch(head(40, 36), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    neutral = replace(shift, levels=(type(shift).level(shift.neutral),))
    (variant,), _ = run(neutral, batch)
    assert variant.images is batch.images


def test_a_scale_with_no_signal_below_zero_changes_nothing_but_the_scale(physical_batch, run, shift):
    """MR scaled by its percentiles: 0 is the darkest hundredth, not the absence of signal, which noise has to know."""
    magnitude = head(48, 40)
    plain = physical_batch(magnitude, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    zero = torch.tensor([-0.25, -0.0625])
    moved = replace(plain, images=magnitude + zero[:, None, None, None], zero_signal=zero)
    expected, said = run(shift, plain)
    variants, measured = run(shift, moved)
    for one, other in zip(expected, variants, strict=True):
        torch.testing.assert_close(other.images, one.images + zero[:, None, None, None], rtol=0, atol=2e-5)
        left = torch.zeros(2, dtype=torch.bool) if other.applicable is None else ~other.applicable
        assert torch.equal(other.images[left], moved.images[left])
    for key, values in said.items():
        torch.testing.assert_close(measured[key], values, rtol=2e-3, atol=2e-4, equal_nan=True)
    neutral = replace(shift, levels=(type(shift).level(shift.neutral),))
    assert run(neutral, moved)[0][0].images is moved.images


def test_altered_magnitude_has_no_sign_and_the_input_stays(physical_batch, run, shift):
    images = head(48, 40)
    kept = images.clone()
    variants, _ = run(shift, physical_batch(images, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0)))
    assert torch.equal(images, kept)
    assert any(variant.applicable is None or variant.applicable.any() for variant in variants)
    assert all((variant.images >= -1e-6).all() for variant in variants)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (1, 1, 1), (1, 24, 24)])
def test_tiny_images_and_one_slice_are_altered_or_named(physical_batch, run, shift, shape):
    spacing = (1.0,) * len(shape)
    variants, _ = run(shift, physical_batch(head(*shape), unit=Unit.MAGNITUDE, spacing_mm=spacing))
    for variant in variants:
        assert variant.images.shape == (2, 1, *shape)
        assert variant.images.isfinite().all()
        assert variant.applicable is None or variant.applicable.all() or variant.reason


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_flat_images_are_altered_or_named(physical_batch, run, shift, value):
    batch = physical_batch(torch.full((1, 1, 24, 24), value), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    assert all(variant.images.isfinite().all() for variant in run(shift, batch)[0])


def test_volumes_are_altered(physical_batch, run, shift):
    batch = physical_batch(head(6, 48, 40), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0, 1.0))
    variants, _ = run(shift, batch)
    assert any(not torch.equal(variant.images, batch.images) for variant in variants)
    assert all(variant.images.shape == batch.images.shape and variant.images.isfinite().all() for variant in variants)


def test_gradient_reaches_the_image(physical_batch, run, shift):
    images = head(48, 40).requires_grad_()
    variants, _ = run(shift, physical_batch(images, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0)))
    (gradient,) = torch.autograd.grad(sum(variant.images.sum() for variant in variants), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.1


def test_scored_images_other_units_and_nan_are_refused_by_name(physical_batch, shift):
    scored = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ImageError, match=rf"{shift.id}: expected MR magnitude.*z-scored"):
        shift.apply(physical_batch(scored, unit=Unit.MAGNITUDE), None, None)
    with pytest.raises(DataError, match=rf"{shift.id}: expected images in magnitude .* got signal"):
        shift.apply(physical_batch(scored.abs(), unit=Unit.SIGNAL), None, None)
    with pytest.raises(DataError, match="got no unit in display space"):
        shift.apply(physical_batch(scored.abs(), unit=None, space=Space.DISPLAY), None, None)
    broken = scored.abs()
    broken[1, 0, 3, 3] = math.nan
    with pytest.raises(ImageError, match=r"finite pixels.*: case-1$"):
        shift.apply(physical_batch(broken, unit=Unit.MAGNITUDE), None, None)


def _bump(size=16):
    axis = torch.linspace(-1, 1, size, dtype=torch.float64)
    return (1.0 + torch.exp(-3 * (axis[:, None] ** 2 + (axis - 0.2) ** 2)))[None].requires_grad_()


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: truncated(image, -2, 5),
        lambda image: with_ghosts(image, -1, torch.tensor(0.3, dtype=torch.float64), ratio=0.2, period=4),
        lambda image: folded(image, -2, 3, 10),
        lambda image: displaced(image, 0.6 * torch.sin(torch.arange(16.0, dtype=torch.float64)).expand(1, 16, 16), -1),
    ],
    ids=["gibbs", "ghosting", "wraparound", "displacement"],
)
def test_gradients_are_those_of_finite_differences(alter):
    assert torch.autograd.gradcheck(alter, (_bump(),), eps=1e-5, atol=1e-4)
