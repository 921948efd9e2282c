"""Letters are sampled only where they lie: the same pictures, bit for bit, as on the whole plane."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.glyphs import laid, text_picture
from robustbench_rad.shortcuts._lettering import PLACES, _laid, lettered


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(8, 160),
    width=st.integers(8, 160),
    tall=st.floats(1.0, 40.0),
    word=st.sampled_from(["L", "AP PORTABLE"]),
)
def test_letters_anywhere_in_and_beyond_a_plane_are_those_drawn_on_the_whole_of_it(seed, height, width, tall, word):
    source = torch.Generator().manual_seed(seed)
    picture = text_picture(word).expand(3, -1, -1)
    extent = torch.tensor([tall, tall * picture.shape[2] / picture.shape[1]]).expand(3, 2)
    middle = (torch.rand(3, 2, generator=source) * 1.6 - 0.3) * torch.tensor([float(height), float(width)])
    middle = middle if seed % 2 else middle[:1] + 0.1 * middle  # far apart, or close to each other as markers are
    expected = laid(picture, middle, extent, (height, width))
    assert torch.equal(_laid(picture, middle, extent, (height, width)), expected)


@pytest.mark.parametrize("corner", PLACES.values(), ids=PLACES)
def test_a_letter_lies_in_its_corner_and_its_placebos_half_way_down_either_side(corner):
    insets = torch.tensor([[3.0, 4.0], [5.5, 2.25]])
    sources = [torch.Generator().manual_seed(row) for row in range(2)]
    drawn = lettered("L", corner, insets, 7.0, (64, 80), sources)
    rows, columns = torch.arange(64) + 0.5, torch.arange(80) + 0.5
    for picture, down in ((drawn.real, corner[0]), *((placebo, 0.5) for placebo in drawn.placebos)):
        ink = picture[:, 0]
        assert (ink.sum((1, 2)) > 5).all()
        centre = (ink.sum(2) @ rows) / ink.sum((1, 2)) / 64
        assert ((centre - (0.12 + 0.76 * down)).abs() < 0.08).all()
    across = [
        ((p[:, 0].sum(1) @ columns) / p.sum((1, 2, 3)) / 80 > 0.5).tolist() for p in (drawn.real, *drawn.placebos)
    ]
    own, other = [corner[1] == 1.0] * 2, [corner[1] == 0.0] * 2
    assert across == [own, own, other]
