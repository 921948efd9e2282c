"""Overlays: the image shows through, the map is where it belongs."""

import numpy as np
import torch

from robustbench_rad.saliency.pictures import overlay


def test_no_map_leaves_the_image_grey():
    display = torch.rand(1, 8, 6)
    picture = overlay(display, torch.zeros(2, 2))
    assert picture.shape == (8, 6, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[..., 0], np.rint(display[0].numpy() * 255))
    assert np.array_equal(picture[..., 0], picture[..., 2])


def test_orange_for_blue_against():
    found = torch.zeros(8, 8)
    found[1, 1], found[6, 6] = 2.0, -1.0
    display = torch.full((1, 8, 8), 0.5)
    unsigned, signed = overlay(display, found), overlay(display, found, signed=True)
    assert unsigned[1, 1, 0] > unsigned[1, 1, 2]
    assert unsigned[6, 6].tolist() == [128, 128, 128]
    assert signed[6, 6, 2] > signed[6, 6, 0]


def test_a_map_with_nan_is_drawn_as_nothing():
    assert (overlay(torch.zeros(1, 4, 4), torch.full((2, 2), float("nan"))) == 0).all()
