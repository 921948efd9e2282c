"""Devices: nested from level to level, attenuating, in millimetres, and measured."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._overlay import Canvas
from robustbench_rad.shifts.xr_device_overlay import DEVICES, XrDeviceOverlay, pacemaker


def flat(physical_batch, count=6, pixels=96, spacing=4.0):
    images = torch.full((count, 1, pixels, pixels), 0.3)
    return physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(spacing, spacing))


def test_a_device_once_shown_stays_and_only_takes_exposure_away(physical_batch, run):
    batch = flat(physical_batch)
    variants, measured = run(XrDeviceOverlay(), batch)
    before = batch.images
    for variant in variants:
        assert (variant.images >= before - 1e-6).all()
        assert (variant.images > before + 1e-4).flatten(1).any(1).all()
        before = variant.images
    covered = torch.stack([measured["covered_share", variant.level.name] for variant in variants])
    assert (covered.diff(dim=0) > 0).all()
    assert covered.max() < 0.2


def test_five_devices_are_one_of_each_kind_but_in_another_order(physical_batch, run):
    batch = flat(physical_batch)
    (one,), _ = run(XrDeviceOverlay(levels=(XrDeviceOverlay.level(1),)), batch)
    assert one.images.flatten(1).std(1, correction=0).std() > 0  # not the same device first in every case
    (five,), _ = run(XrDeviceOverlay(levels=(XrDeviceOverlay.level(5),)), batch)
    assert (five.images.amax((1, 2, 3)) > 0.3 + 0.9 / 1.5).all()  # the pacemaker is among them
    assert len(DEVICES) == 5


def test_a_pacemaker_has_its_size_and_attenuation():
    decades = pacemaker(Canvas.of(torch.zeros(1, 860, 860), torch.tensor([0.5, 0.5])), [0.5] * 6)
    can = decades > 0.7
    area = can.sum().item() * 0.25
    assert area == pytest.approx(46 * 40 - (4 - torch.pi) * 14**2, rel=0.05)
    assert can.nonzero()[:, 1].float().mean() > 430  # the patient's left is on the right of the image


def test_what_a_lesion_has_free_of_devices_is_measured(physical_batch, run):
    batch = flat(physical_batch)
    lesion = torch.ones(6, 1, 96, 96, dtype=torch.bool)
    _, measured = run(XrDeviceOverlay(), replace(batch, lesion=lesion, lesion_known=(True,) * 6))
    torch.testing.assert_close(measured["lesion_share", "3"], 1 - measured["covered_share", "3"])


def test_without_a_spacing_or_an_assumed_one_it_is_not_applicable(physical_batch, run):
    batch = replace(flat(physical_batch), spacing_mm=None)
    variants, _ = run(XrDeviceOverlay(assumed_field_of_view_mm=0.0), batch)
    assert not variants[0].applicable.any()
    assert torch.equal(variants[0].images, batch.images)


@pytest.mark.parametrize(("value", "message"), [(6, "from 0 to 5, got 6"), (1.5, "a whole number of devices")])
def test_bad_levels_are_refused(value, message):
    with pytest.raises(PlanError, match=message):
        XrDeviceOverlay.from_options({"levels": [value]})
