"""Markers that are missing or on the wrong side: found, taken out, put down at the mirror-image place, or not applicable."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.glyphs import Glyph, coverage, text_picture
from robustbench_rad.shifts.xr_marker_fault import REMOVED, SWAPPED, XrMarkerFault

SHAPE = (200, 160)


def anatomy():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, SHAPE[0]), torch.linspace(-1, 1, SHAPE[1]), indexing="ij")
    return (0.35 + 0.15 * torch.cos(2 * rows) * torch.cos(1.5 * columns) + 0.05 * rows)[None, None]


def letters(word, row, column, height=12.0, shape=SHAPE):
    glyph = Glyph(picture=text_picture(word), height=1.0)
    return coverage(glyph, torch.tensor([[row, column]]), torch.full((1, 2), height), shape)[0]


def marked(physical_batch, *ink):
    images = (anatomy() + 0.45 * sum(ink, torch.zeros(1, 1, *SHAPE))).clamp(0, 1)
    return physical_batch(images, unit=Unit.SIGNAL)


def test_markers_are_taken_out_and_nothing_else_is_changed(physical_batch, run):
    ink = letters("R", 0.05, 0.06)
    (variant,), said = run(XrMarkerFault(levels=(REMOVED,)), marked(physical_batch, ink))
    before = marked(physical_batch, ink).images
    assert said["markers", "removed"].tolist() == [1]
    assert (variant.images - anatomy()).abs().max() < 0.02
    changed = variant.images != before
    assert changed[ink > 0.5].all()
    assert changed.float().mean() < 3 * said["covered_share", "removed"].item() < 0.15


def test_a_swapped_marker_lies_at_the_mirror_image_place_and_is_still_read(physical_batch, run):
    ink = letters("L", 0.05, 0.94)
    (variant,), said = run(XrMarkerFault(levels=(SWAPPED,)), marked(physical_batch, ink))
    added = variant.images - anatomy()
    expected = 0.45 * letters("L", 0.05, 0.06)
    assert said["markers", "swapped"].tolist() == [1]
    assert (added - expected).abs().max() < 0.1  # the place is a whole number of pixels
    assert (added - expected.flip(-1)).abs().max() > 0.4  # where it was, mirrored
    assert (added - 0.45 * ink).abs().max() > 0.4  # where it was


def test_words_are_moved_whole_and_markers_by_themselves(physical_batch, run):
    word, letter = letters("AP", 0.06, 0.96), letters("R", 0.94, 0.06)
    (variant,), said = run(XrMarkerFault(levels=(SWAPPED,)), marked(physical_batch, word, letter))
    expected = 0.45 * (letters("AP", 0.06, 0.04) + letters("R", 0.94, 0.94))
    assert said["markers", "swapped"].tolist() == [2]
    difference = (variant.images - anatomy() - expected).abs()
    assert (difference > 0.2).float().mean() < 2e-3


def test_two_swaps_bring_a_marker_back(physical_batch, run):
    batch = marked(physical_batch, letters("L", 0.05, 0.94))
    shift = XrMarkerFault(levels=(SWAPPED,))
    once = run(shift, batch)[0][0].images
    twice = run(shift, replace(batch, images=once))[0][0].images
    assert (twice - batch.images).abs().max() < 0.05


def test_letters_are_found_in_images_of_many_pixels(physical_batch, run):
    images = torch.full((1, 1, 1000, 900), 0.3)
    images[..., 60:116, 50:90] += 0.6 * text_picture("R").repeat_interleave(4, 0).repeat_interleave(4, 1)
    (variant,), said = run(XrMarkerFault(levels=(REMOVED,)), physical_batch(images, unit=Unit.SIGNAL))
    assert said["markers", "removed"].tolist() == [1]
    assert variant.images.max() < 0.32


def test_without_a_marker_or_with_one_on_the_anatomy_it_is_not_applicable(physical_batch, run):
    plain, batch = marked(physical_batch), marked(physical_batch, letters("R", 0.05, 0.06))
    organ = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    organ[..., :60, :60] = True
    for case in (plain, replace(batch, anatomy=organ)):
        for variant in run(XrMarkerFault(), case)[0]:
            assert not variant.applicable.any()
            assert variant.reason == "no marker found near the border"
            assert torch.equal(variant.images, case.images)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 2)])
def test_tiny_images_are_named(physical_batch, run, shape):
    for variant in run(XrMarkerFault(), physical_batch(torch.rand(2, 1, *shape), unit=Unit.SIGNAL))[0]:
        assert variant.images.isfinite().all()
        assert variant.applicable.all() or variant.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ["swaped"]}, "expected removed or swapped, got swaped"),
        ({"contrast": 0}, "contrast: expected a number above 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrMarkerFault.from_options(options)
