"""Echo and repetition times of MR: tissues follow the signal equation, the header follows the factor."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._mr_contrast import TISSUES
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
