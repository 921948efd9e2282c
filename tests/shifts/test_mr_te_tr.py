"""Echo and repetition times of MR: tissues follow the signal equation, the header follows the factor."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Level, Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._mr_contrast import TISSUES, Weighting
from robustbench_rad.shifts.composition import Step, composed
from robustbench_rad.shifts.mr_te_tr import MrTeTr

HEADER = {"MagneticFieldStrength": "3", "RepetitionTime": "500", "EchoTime": "15"}


def brain(count=2):
    """Stripes of fluid, grey and white matter in air."""
    image = torch.zeros(count, 1, 48, 40)
    for number, value in enumerate((0.3, 0.6, 0.8)):
        image[:, :, 8 + 10 * number : 18 + 10 * number, 5:35] = value
    return image


@pytest.mark.parametrize("factor", ["0.5", "1.5"])
def test_contrast_follows_t2(physical_batch, run, factor):
    batch = physical_batch(brain(), unit=Unit.MAGNITUDE, attributes=(HEADER,) * 2)
    (variant,), measured = run(MrTeTr(levels=(MrTeTr.level(factor),)), batch)
    grey, white = variant.images[:, 0, 20, 20], variant.images[:, 0, 30, 20]
    change = (float(factor) - 1) * 0.015
    expected = math.exp(-change / TISSUES["white matter"].t2_s + change / TISSUES["grey matter"].t2_s)
    assert (white / grey / (0.8 / 0.6)).tolist() == pytest.approx([expected] * 2, rel=1e-4)
    assert measured["contrast_ratio", factor].tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert variant.case_attributes == ({"EchoTime": f"{15 * float(factor):g}"},) * 2
    assert (measured["timing_assumed", factor] == 0).all()


def mapped(physical_batch, images, **more):
    """A batch whose first case has a map of the stripes, the second none."""
    tissue = torch.zeros(images.shape, dtype=torch.uint8)
    for code in (1, 2, 3):
        tissue[0, :, 10 * code - 2 : 10 * code + 8, 5:35] = code
    return replace(physical_batch(images, unit=Unit.MAGNITUDE, attributes=(HEADER,) * 2, **more), tissue=tissue)


@pytest.mark.parametrize(("time", "factor"), [("TE", "1.5"), ("TR", "0.5"), ("TR", "8"), ("TE", "6")])
def test_with_a_map_every_tissue_follows_the_signal_equation(physical_batch, run, time, factor):
    """Also where two tissues are equally bright, and where they change their order, which brightness alone cannot tell."""
    images = brain()
    images[0, :, 18:28, 5:35] = 0.8  # grey matter as bright as white
    images[0, :, 42:46, 5:35] = 0.7  # of no class
    (variant,), measured = run(MrTeTr(time=time, levels=(MrTeTr.level(factor),)), mapped(physical_batch, images))
    source = Weighting(repetition_ms=500, echo_ms=15, tesla=3)
    changed = {"TE": {"echo_ms": 15 * float(factor)}, "TR": {"repetition_ms": 500 * float(factor)}}[time]
    target = replace(source, **changed)
    fluid, grey, white, other = (variant.images[0, 0, row, 20] / images[0, 0, row, 20] for row in (10, 20, 30, 44))
    expected = [target.signal(tissue) / source.signal(tissue) for tissue in TISSUES.values()]
    ratios = [float(value / fluid) for value in (grey, white)]
    assert ratios == pytest.approx([value / expected[0] for value in expected[1:]], rel=1e-4)
    assert other == 1
    assert variant.images[0].sum().item() == pytest.approx(images[0].sum().item(), rel=1e-5)
    assert measured["classified_share", factor].tolist() == pytest.approx([900 / 1020, 0])
    assert variant.applicable.tolist() == [True, True]
    without, _ = run(MrTeTr(time=time, levels=(MrTeTr.level(factor),)), mapped(physical_batch, brain()))
    plain, _ = run(
        MrTeTr(time=time, levels=(MrTeTr.level(factor),)),
        physical_batch(brain(), unit=Unit.MAGNITUDE, attributes=(HEADER,) * 2),
    )
    assert torch.equal(without[0].images[1], plain[0].images[1])


def test_with_a_map_three_brightnesses_are_not_needed(physical_batch, run):
    batch = mapped(physical_batch, torch.ones(2, 1, 48, 40))
    (variant,), _ = run(MrTeTr(levels=(MrTeTr.level("1.5"),)), batch)
    assert variant.applicable.tolist() == [True, False]
    assert variant.reason == "no map of the tissues, and no three tissues of different brightness"
    assert torch.equal(variant.images[1], batch.images[1])


def test_a_map_goes_on_to_the_next_shift_unless_the_image_was_moved(physical_batch):
    batch = mapped(physical_batch, brain() + 0.01 * torch.rand(2, 1, 48, 40))
    for first, kept in (("shift.mr.field-strength", 1.0), ("shift.geometry.rotate", 0.0)):
        measured = []
        steps = (Step(shift=first, level=1), Step(shift="shift.mr.te-tr", level=1.5))
        composed(batch, steps, Level(name="both", value=1, unit=""), measured)
        shares = {m.quantity: m.values for m in measured}["mr.te-tr classified_share"]
        assert shares[0].item() == pytest.approx(kept, abs=0.06)


def test_the_mean_stays_and_the_header_of_repetition_time_changes(physical_batch, run):
    batch = physical_batch(brain(), unit=Unit.MAGNITUDE, attributes=(HEADER,) * 2)
    variants, _ = run(MrTeTr(time="TR"), batch)
    for variant in variants:
        assert variant.images.mean().item() == pytest.approx(batch.images.mean().item(), rel=1e-4)
        assert variant.case_attributes[0] == {"RepetitionTime": f"{500 * variant.level.value:g}"}


def test_an_assumed_time_is_said_and_no_header_is_invented(physical_batch, run):
    variants, measured = run(MrTeTr(), physical_batch(brain(), unit=Unit.MAGNITUDE))
    assert (measured["timing_assumed", "0.9"] == 1).all()
    assert variants[0].case_attributes == ({}, {})


def test_an_image_without_three_tissues_is_not_applicable(physical_batch, run):
    variants, _ = run(MrTeTr(), physical_batch(torch.ones(1, 1, 16, 16), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert "no three tissues" in variants[0].reason


@pytest.mark.parametrize("options", [{"time": "TI"}, {"tesla": 0}, {"levels": [0]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.te-tr"):
        MrTeTr.from_options(options)
