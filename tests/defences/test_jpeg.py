"""JPEG in whole numbers shows what a decoder shows, for any batch, size and quality."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robustbench_rad.defences.jpeg import through_jpeg
from robustbench_rad.defences.jpeg_transform import decoded_jpeg


def decoded_by_pillow(grey, quality):
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.int32)


def ours(grey, quality):
    return decoded_jpeg(torch.from_numpy(grey.astype(np.int32))[None], quality)[0].numpy()


def picture(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "edges":
        return (rng.integers(0, 2, shape) * 255).astype(np.uint8)
    walk = rng.normal(size=shape).cumsum(0).cumsum(1)
    return (128 + 2 * walk).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (5, 9), (1, 1)])
@pytest.mark.parametrize("kind", ["noise", "edges", "smooth"])
def test_it_is_bit_for_bit_what_pillow_decodes(kind, shape, quality):
    grey = picture(kind, shape)
    np.testing.assert_array_equal(ours(grey, quality), decoded_by_pillow(grey, quality))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 100), st.integers(0, 2**31))
def test_any_size_quality_and_content_agrees_with_pillow(height, width, quality, seed):
    grey = picture("noise", (height, width), seed)
    np.testing.assert_array_equal(ours(grey, quality), decoded_by_pillow(grey, quality))


def test_it_agrees_with_opencv():
    cv2 = pytest.importorskip("cv2")
    grey = picture("smooth", (61, 47))
    written, file = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert written
    decoded = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE).astype(np.int32)
    assert np.abs(ours(grey, 60) - decoded).max() <= 1


def test_lower_quality_loses_more():
    image = torch.from_numpy(picture("smooth", (64, 64)))[None, None] / 255.0
    lost = [float((through_jpeg(image, quality) - image).square().mean()) for quality in (95, 75, 25, 5)]
    assert lost == sorted(lost)
    assert lost[0] > 0


def test_a_volume_is_coded_slice_by_slice(lab):
    volume = lab.images(2, 1, 3, 20, 17)
    slices = torch.stack([through_jpeg(volume[:, :, k], 30) for k in range(3)], dim=2)
    assert torch.equal(through_jpeg(volume, 30), slices)


def test_an_image_that_is_one_grey_stays_so():
    flat = torch.full((1, 1, 16, 16), 100 / 255)
    assert torch.equal(through_jpeg(flat, 100), flat)
