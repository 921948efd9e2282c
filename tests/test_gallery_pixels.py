"""Pixels of the report's pictures: differences, sizes, and the budget."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad import gallery_pixels
from robustbench_rad.gallery_pixels import LEAST_DIFFERENCE, Strip, Tile
from robustbench_rad.result import Domain


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


def strip(pixels, count=1):
    tile = Tile(name="n", image=pixels, difference=pixels)
    return Strip(check="c", domain=Domain.SHORTCUT, caption="", tiles=(tile,) * count)


def test_a_difference_is_mid_grey_where_nothing_changed_and_white_where_it_is_brighter_by_the_scale():
    original, plane = torch.full((4, 6), 0.5), torch.full((4, 6), 0.7)
    plane[0], plane[1] = 0.3, 0.5
    scale = gallery_pixels.largest_difference([plane], original)
    found = gallery_pixels.difference(plane, original, scale)
    assert scale == pytest.approx(0.2, abs=1e-6)
    assert set(found[0]) == {0}
    assert set(found[1]) == {128}
    assert set(found[2:].flatten()) == {255}


def test_a_small_object_sets_the_scale_though_most_pixels_are_unchanged():
    """Ten pixels of ten thousand: a quantile of all pixels would be zero, and every dust grain would be white."""
    original = torch.zeros(100, 100)
    plane = original.clone()
    plane[:2, :5] = 0.6
    plane[50] = LEAST_DIFFERENCE / 10
    assert gallery_pixels.largest_difference([plane], original) == pytest.approx(0.6, abs=1e-6)


def test_a_plane_that_is_alike_is_not_blown_up():
    original = torch.rand(8, 8)
    assert gallery_pixels.largest_difference([original, original + 1e-5], original) == LEAST_DIFFERENCE


@pytest.mark.parametrize(
    ("shape", "expected"), [((40, 30), (40, 30)), ((1024, 512), (256, 128)), ((1, 4096), (1, 256))]
)
def test_no_picture_is_larger_than_256_pixels_and_none_is_enlarged(shape, expected):
    assert gallery_pixels.grey(torch.rand(shape)).shape == expected


def test_a_downscaled_picture_keeps_its_mean():
    plane = torch.rand(1024, 768)
    assert gallery_pixels.grey(plane).mean() == pytest.approx(255 * float(plane.mean()), abs=0.6)


def test_pictures_get_smaller_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    whole = gallery_pixels.encoded([strip(noise, 4)])
    total = gallery_pixels.size(whole[0])
    fitted = gallery_pixels.encoded([strip(noise, 4)], budget=total // 3)
    assert gallery_pixels.size(fitted[0]) <= total // 3
    assert decoded(whole[0].panels[0].jpeg_base64).shape == (256, 256)
    small = decoded(fitted[0].panels[0].jpeg_base64)
    assert 64 <= small.shape[0] < 256
    least = gallery_pixels.encoded([strip(noise, 4)], budget=0)
    assert decoded(least[0].panels[0].jpeg_base64).shape == (64, 64)


def test_four_hundred_tiles_of_noise_fit_beside_the_rest_of_the_page():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    pictures = gallery_pixels.encoded([strip(noise, 100)] * 4)
    assert sum(map(gallery_pixels.size, pictures)) <= gallery_pixels.BUDGET


def test_the_grey_values_survive_the_jpeg():
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    (picture,) = gallery_pixels.encoded([strip(ramp)])
    assert np.abs(decoded(picture.panels[0].jpeg_base64).astype(int) - ramp).max() <= 6
