"""Display curves: closed forms, monotone, endpoints kept, two-sided."""

import math
from itertools import pairwise

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_lut import XrLut, XrLutCentre

SCALE = torch.linspace(0, 1, 257).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("shift", [XrLut(), XrLutCentre()])
def test_curves_rise_and_keep_the_ends(physical_batch, run, shift):
    variants, measured = run(shift, physical_batch(SCALE, unit=Unit.SIGNAL))
    for variant in variants:
        assert (variant.images.diff() > 0).all()
        assert variant.images[..., 0] == 0
        assert variant.images[..., -1] == 1
        assert measured["middle_grey", variant.level.name].item() == pytest.approx(variant.images[..., 128].item())


@pytest.mark.parametrize("shift", [XrLut(), XrLutCentre()])
def test_levels_go_both_ways_and_grow(physical_batch, run, shift):
    variants, _ = run(shift, physical_batch(SCALE, unit=Unit.SIGNAL))
    change = [(variant.images - SCALE).mean().item() for variant in variants]
    for signed in (change[::2], change[1::2]):
        assert all(abs(first) < abs(second) for first, second in pairwise(signed))
    assert all(bright > 0 > dark for bright, dark in zip(change[::2], change[1::2], strict=True))


def test_gamma_is_a_power(physical_batch, run):
    (variant,), _ = run(XrLut(levels=(XrLut.level(2.2),)), physical_batch(SCALE, unit=Unit.SIGNAL))
    torch.testing.assert_close(variant.images, SCALE**2.2)


def test_centre_is_the_dicom_sigmoid_with_its_centre_moved(physical_batch, run):
    inside, width, shift = SCALE[..., 1:-1], 0.8, 0.1
    (variant,), _ = run(
        XrLutCentre(levels=(XrLutCentre.level(10),), width=width), physical_batch(inside, unit=Unit.SIGNAL)
    )
    value = 0.5 + width / 4 * (inside / (1 - inside)).log()  # stored value that the sigmoid with centre 0.5 shows so
    torch.testing.assert_close(variant.images, 1 / (1 + torch.exp(-4 * (value - 0.5 - shift) / width)))


def test_black_has_a_finite_gradient(physical_batch, run):
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (variant,), _ = run(XrLut(levels=(XrLut.level(0.45),)), physical_batch(images, unit=Unit.SIGNAL))
    (gradient,) = torch.autograd.grad(variant.images.sum(), images)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("condition", "options", "message"),
    [
        (XrLut, {"levels": [0]}, "a gamma from 0.1 to 10, got 0"),
        (XrLut, {"levels": [math.nan]}, "a gamma from 0.1 to 10, got nan"),
        (XrLutCentre, {"levels": [95]}, "from -90 to 90, got 95"),
        (XrLutCentre, {"width": 0}, "width: expected a number above 0"),
    ],
)
def test_bad_options_are_refused(condition, options, message):
    with pytest.raises(PlanError, match=message):
        condition.from_options(options)
