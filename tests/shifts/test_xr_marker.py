"""Lead markers: height, attenuation, sides, corners, and what is measured."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_marker import XrMarker

SIGNAL = 0.2


def flat(count=8, height=200, width=160):
    return torch.full((count, 1, height, width), SIGNAL)


def apply(physical_batch, run, images=None, **options):
    return run(XrMarker(**options), physical_batch(flat() if images is None else images, unit=Unit.SIGNAL))


def test_letters_have_the_height_and_lead_the_attenuation(physical_batch, run):
    levels = (XrMarker.level(3),)
    (variant,), measured = apply(physical_batch, run, flat(height=700), levels=levels, words=("L",))
    assert measured["markers", "3"].tolist() == [1.0] * 8
    for image in variant.images[:, 0]:
        rows = (image > SIGNAL + 0.18).any(1).nonzero()  # half the opacity
        assert rows.max() - rows.min() + 1 == pytest.approx(21, abs=1)
        assert image.max().item() == pytest.approx(SIGNAL + 1.2 / 1.5)


def test_sides_are_correct_swapped_or_any(physical_batch, run):
    levels = (XrMarker.level(3),)
    columns = torch.arange(160.0)
    sides = {}
    for name in ("correct", "swapped", "any"):
        (variant,), _ = apply(physical_batch, run, flat(30), levels=levels, words=("L",), sides=name)
        marked = (variant.images > SIGNAL + 0.01).float().sum((1, 2))
        sides[name] = ((marked * columns).sum(1) / marked.sum(1) > 80).float().mean().item()
    assert sides["correct"] == 1.0
    assert sides["swapped"] == 0.0
    assert 0.2 < sides["any"] < 0.8


def test_larger_letters_come_with_more_markers_and_cover_more(physical_batch, run):
    variants, measured = apply(physical_batch, run)
    covered = torch.stack([measured["covered_share", variant.level.name] for variant in variants])
    assert (covered.diff(dim=0) > 0).all()
    counts = [measured["markers", variant.level.name] for variant in variants]
    assert counts[0].eq(1).all()
    assert counts[-1].max() == 4
    changed = ((variants[2].images - SIGNAL) > 1e-6).float().mean((1, 2, 3))
    assert ((changed - covered[2]) >= 0).all()


def test_markers_keep_to_the_border_and_spare_the_middle(physical_batch, run):
    variants, _ = apply(physical_batch, run, words=("L", "R"))
    for variant in variants:
        assert (variant.images[..., 60:140, 50:110] == SIGNAL).all()


def test_markers_show_in_the_direct_beam_and_under_linear_signal(physical_batch, run):
    levels = (XrMarker.level(8),)
    (black,), _ = apply(physical_batch, run, torch.zeros(1, 1, 200, 160), levels=levels)
    assert black.images.max().item() == pytest.approx(0.8)
    (linear,), _ = apply(physical_batch, run, torch.full((1, 1, 200, 160), 0.5), levels=levels, display_curve="linear")
    assert linear.images.min().item() == pytest.approx(0.5 * 10**-1.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [40]}, "a height of letters in % from 0 to 30, got 40"),
        ({"words": ["LINKS"]}, "words: expected a list of words of the letters ABELOPRT"),
        ({"words": "L"}, "words: expected a list"),
        ({"words": [" "]}, "words: expected a list"),
        ({"sides": "left"}, "sides: expected one of correct, swapped, any"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrMarker.from_options(options)
