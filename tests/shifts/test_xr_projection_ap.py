"""The heart of an AP radiograph: magnified as asked, chest wall in place, what is read from masks."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.misfits import MISFIT
from robustbench_rad.shifts._thorax import Thorax
from robustbench_rad.shifts.xr_dose import XrDose
from robustbench_rad.shifts.xr_projection_ap import XrProjectionAp
from robustbench_rad.shifts.xr_scatter import XrScatter

ROWS, COLUMNS = torch.arange(200)[:, None], torch.arange(240)
HEART = ((ROWS - 110) / 45.0) ** 2 + ((COLUMNS - 130) / 50.0) ** 2 < 1
THORAX = ((ROWS - 100) / 75.0) ** 8 + ((COLUMNS - 120) / 105.0) ** 8 < 1
LUNGS = THORAX & ~HEART & ((COLUMNS < 112) | (COLUMNS > 128))


def chest(physical_batch, count=2, **fields):
    images = (0.3 + 0.4 * (HEART & THORAX).float()).expand(count, 1, -1, -1).contiguous()
    batch = physical_batch(images, unit=Unit.SIGNAL)
    return replace(batch, anatomy=LUNGS.expand(count, 1, -1, -1), **fields)


def width(image):
    """Width of the heart in row 110, to a fraction of a pixel."""
    return ((image[110] - 0.3) / 0.4).sum().item()


def test_the_heart_is_read_between_the_lungs():
    thorax = Thorax.of_lungs(LUNGS)
    assert (thorax.left, thorax.right) == (81, 180)
    assert abs(thorax.row - 110) <= 3
    assert thorax.ratio == pytest.approx(99 / 209, abs=0.01)


def test_the_heart_grows_by_the_factor_and_the_chest_wall_stays(physical_batch, run):
    batch = chest(physical_batch)
    variants, measured = run(XrProjectionAp(), batch)
    for variant in variants:
        factor = variant.level.value
        for image in variant.images[:, 0]:
            assert width(image) == pytest.approx(99 * factor, abs=0.5)
        assert measured["heart_width_factor", variant.level.name].tolist() == pytest.approx([factor] * 2, abs=0.015)
        ratio = measured["cardiothoracic_ratio", variant.level.name]
        assert ratio.tolist() == pytest.approx([99 / 209 * factor] * 2, abs=0.008)
        assert torch.equal(variant.anatomy[..., :18], batch.anatomy[..., :18])
        assert variant.changed_attributes(2) == ({"ViewPosition": "AP"},) * 2


def test_at_the_bedside_there_is_more_scatter_and_more_noise(physical_batch, run):
    batch = replace(
        chest(physical_batch, attributes=({"XRayTubeCurrent": "200", "KVP": "120"}, {})),
        spacing_mm=torch.full((2, 2), 1.5),
    )
    levels = (XrProjectionAp.level(1.15),)
    (plain,), _ = run(XrProjectionAp(levels=levels), batch)
    (bedside,), said = run(XrProjectionAp(levels=levels, scatter_fraction=0.6, exposure=0.5), batch)
    (scattered,), _ = run(XrScatter(levels=(XrScatter.level(0.6),)), replace(batch, images=plain.images))
    (noisy,), _ = run(XrDose(levels=(XrDose.level(0.5),)), replace(batch, images=scattered.images))
    assert torch.equal(bedside.images, noisy.images)
    assert said["contrast_factor", "1.15"].tolist() == pytest.approx([0.4 / 0.6] * 2)
    assert (said["added_noise_sd", "1.15"] > 0).all()
    said_anew = {"ViewPosition": "AP", "Grid": "NONE"}
    assert bedside.changed_attributes(2) == ({**said_anew, "XRayTubeCurrent": "100"}, said_anew)
    neutral = XrProjectionAp(levels=(XrProjectionAp.level(1),), scatter_fraction=0.6)
    assert run(neutral, batch)[0][0].images is batch.images


def test_a_source_of_more_scatter_is_not_applicable(physical_batch, run):
    for variant in run(XrProjectionAp(scatter_fraction=0.2), chest(physical_batch))[0]:
        assert not variant.applicable.any()
        assert "the source has more scatter already" in variant.reason


@pytest.mark.parametrize("options", [{"scatter_fraction": 1.2}, {"exposure": 0}, {"display_curve": "film"}])
def test_a_bedside_without_meaning_is_refused(options):
    with pytest.raises(PlanError, match=r"shift\.xr\.projection-ap"):
        XrProjectionAp.from_options(options)


def test_nothing_folds():
    from robustbench_rad.shifts.xr_projection_ap import magnified_heart

    rows, columns = magnified_heart([Thorax.of_lungs(LUNGS)], torch.zeros(1, 1, 200, 240), 1.5)
    assert (rows.diff(dim=1) > 0).all()
    assert (columns.diff(dim=2) > 0).all()


def test_a_mask_of_the_heart_will_do(physical_batch, run):
    batch = replace(chest(physical_batch), anatomy=HEART.expand(2, 1, -1, -1))
    variants, measured = run(XrProjectionAp(mask="heart"), batch)
    for variant in variants:
        assert width(variant.images[0, 0]) == pytest.approx(99 * variant.level.value, abs=0.5)
        assert measured["heart_width_factor", variant.level.name][0] == pytest.approx(variant.level.value, abs=0.015)
        assert ("cardiothoracic_ratio", variant.level.name) not in measured


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (None, "no mask of the lungs; give [data] anatomy"),
        (torch.zeros_like(LUNGS), "no heart between the lungs in the mask"),
        (THORAX & ((COLUMNS < 112) | (COLUMNS > 128)), "no heart between the lungs in the mask"),
    ],
    ids=["none", "empty", "with-the-lung-behind-the-heart"],
)
def test_without_a_heart_it_is_not_applicable(physical_batch, run, mask, reason):
    anatomy = None if mask is None else mask.expand(2, 1, -1, -1)
    batch = replace(chest(physical_batch), anatomy=anatomy)
    for variant in run(XrProjectionAp(), batch)[0]:
        assert not variant.applicable.any()
        assert variant.reason == reason
        assert torch.equal(variant.images, batch.images)
    one_wrong = replace(batch, anatomy_misfit=(True, False))
    assert {variant.reason for variant in run(XrProjectionAp(), one_wrong)[0]} == {f"{reason}, {MISFIT}"}


def test_an_ap_radiograph_is_beyond_the_target_already(physical_batch, run):
    header = ({"ViewPosition": "AP"}, {"ViewPosition": "PA"}, {})
    metadata = ({}, {}, {"view": "AP"})
    batch = chest(physical_batch, count=3, attributes=header, metadata=metadata)
    variant = run(XrProjectionAp(), batch)[0][0]
    assert variant.applicable.tolist() == [False, True, False]
    assert variant.reason == "an AP radiograph already"


def test_bad_options_are_refused():
    with pytest.raises(PlanError, match=r"a factor on the heart's width from 1 to 1\.5, got 2"):
        XrProjectionAp.from_options({"levels": [2]})
    with pytest.raises(PlanError, match="mask: expected one of lungs, heart"):
        XrProjectionAp.from_options({"mask": "liver"})
