"""Mean images per value of a column, and the field behind positions."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad import gallery_means, gallery_pixels
from robustbench_rad.shortcuts.border_ablation import BorderAblation
from robustbench_rad.shortcuts.insert_marker import InsertMarker
from robustbench_rad.shortcuts.scanner_probe import ScannerProbe

PROBE = "shortcut.scanner-probe"
COUNTS = {"scanner": {"B": 1, "A=1": 3, "C": 2}, "sex": {"F": 6}}


def state(**images):
    return {f"mean scanner={value}": torch.full((1, 8, 8), grey) for value, grey in images.items()}


def made(learned, conditions=()):
    return gallery_means.strips(conditions or (ScannerProbe(),), learned, COUNTS)


def test_each_value_has_its_mean_its_cases_and_its_difference_from_the_mean_of_all():
    """Three cases at 0.2 and one at 0.6 are 0.3 together; the differences are -0.1 and +0.3, the scale is the larger."""
    (strip,) = made(
        {PROBE: {"mean scanner=A=1": torch.full((1, 8, 8), 0.2), "mean scanner=B": torch.full((1, 8, 8), 0.6)}}
    )
    overall, first, second = strip.tiles
    assert [tile.name for tile in strip.tiles] == ["all of these", "A=1", "B"]
    assert [tile.lines[0].text for tile in strip.tiles] == ["4 cases", "3 cases", "1 case"]
    assert set(overall.image.flatten()) == {round(0.3 * 255)}
    assert set(first.difference.flatten()) == {round((0.5 - 0.1 / 0.6) * 255)}
    assert set(second.difference.flatten()) == {255}
    assert "by scanner" in strip.caption
    assert "±0.3 of the range" in strip.caption


@pytest.mark.parametrize("learned", [{}, {PROBE: None}, {PROBE: {}}, {PROBE: state(B=0.5)}])
def test_where_there_is_nothing_to_compare_nothing_is_shown(learned):
    assert made(learned) == []


def test_a_mean_that_is_no_number_is_not_shown():
    assert made({PROBE: state(B=0.5, C=float("nan"))}) == []


def test_values_that_the_data_do_not_have_are_not_shown():
    assert made({PROBE: state(B=0.5, Z=0.1)}) == []


def test_the_probes_own_state_is_read():
    """The names that the probe gives are those that are read here."""
    probe = ScannerProbe(columns=("scanner",))

    class Batch:
        images = torch.cat([torch.full((3, 1, 8, 8), 0.2), torch.full((2, 1, 8, 8), 0.6)])
        burned_in = ()
        metadata = tuple({"scanner": value} for value in ("A=1", "A=1", "A=1", "C", "C"))

        def __len__(self):
            return 5

    (strip,) = made({PROBE: probe.fit(None, iter([Batch()]))})
    assert [tile.name for tile in strip.tiles] == ["all of these", "A=1", "C"]
    assert set(strip.tiles[0].image.flatten()) == {round(0.36 * 255)}


def test_positions_lie_on_a_mean_image_that_another_check_has_learned():
    mean = torch.rand(1, 1, 12, 16)
    learned = {BorderAblation.id: {"mean": mean}}
    (strip,) = made(learned, conditions=(BorderAblation(), InsertMarker()))
    assert strip.field
    assert strip.check == InsertMarker.id
    (picture,) = gallery_pixels.encoded([strip])
    assert picture.field
    with Image.open(io.BytesIO(base64.b64decode(picture.panels[0].jpeg_base64))) as image:
        assert image.size == (16, 12)
        assert np.asarray(image).mean() == pytest.approx(255 * float(mean.mean()), abs=4)


def test_without_a_mean_image_there_is_no_field():
    assert made({}, conditions=(InsertMarker(),)) == []
