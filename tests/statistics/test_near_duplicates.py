"""Near-duplicates: copies are found, other images are not, at a cost that does not grow as the square."""

import time

import numpy as np
import pytest
from scipy.fft import idctn
from scipy.ndimage import map_coordinates

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.near_duplicates import distinguishing, near_duplicates, normalised, perceptual_hashes


def thumbnails(count=300, seed=0):
    """Images alike in the large, different in the small, as radiographs of one region are."""
    rng = np.random.default_rng(seed)
    waves = np.zeros((count, 32, 32))
    waves[:, :12, :12] = rng.normal(size=(count, 12, 12)) / (1 + np.add.outer(np.arange(12), np.arange(12)))
    shared = 4 * np.exp(-((np.arange(32)[:, None] - 15.5) ** 2 + (np.arange(32) - 15.5) ** 2) / 90)
    return 0.4 + 0.05 * shared + 0.4 * idctn(waves, axes=(1, 2), norm="ortho")


def found(images, groups=None):
    pairs = near_duplicates(images, np.arange(len(images)) if groups is None else groups)
    return {(int(a), int(b)): c for a, b, c in zip(pairs.first, pairs.second, pairs.correlation, strict=True)}


def test_other_images_are_no_duplicates():
    assert found(thumbnails(1000)) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda x, rng: x,
        lambda x, rng: 0.2 + 0.5 * x,
        lambda x, rng: np.round(x * 255) / 255,
        lambda x, rng: x + 0.002 * rng.normal(size=x.shape),
    ],
    ids=["equal", "brightness-contrast", "8-bit", "noise"],
)
def test_copies_are_found_however_they_are_stored(change):
    images = thumbnails()
    copies = change(images[:60], np.random.default_rng(1))
    pairs = found(np.concatenate([images, copies]))
    assert pairs.keys() == {(row, 300 + row) for row in range(60)}


def test_images_of_one_patient_may_be_alike():
    images = np.concatenate([thumbnails(100), thumbnails(100)])
    assert found(images, np.tile(np.arange(100), 2)) == {}


def test_the_order_of_images_changes_no_pair():
    images = np.concatenate([thumbnails(200), thumbnails(200)[:20] + 0.001])
    order = np.random.default_rng(2).permutation(220)
    back = {tuple(sorted((int(order[a]), int(order[b])))) for a, b in found(images[order])}
    assert back == set(found(images))


def test_blank_and_missing_images_are_left_out_and_too_few_are_refused():
    images = thumbnails(60)
    images[:10] = 0.0
    images[10:20] = np.nan
    assert found(images) == {}
    with pytest.raises(StatisticsError, match="29 images"):
        near_duplicates(thumbnails(29), np.arange(29))


def test_many_copies_of_one_image_stay_cheap_and_every_copy_is_named():
    images = thumbnails(2000)
    images[:1000] = images[0] + 1e-4 * np.random.default_rng(3).normal(size=(1000, 32, 32))
    pairs = near_duplicates(images, np.arange(2000))
    assert set(pairs.first) | set(pairs.second) == set(range(1000))
    assert pairs.compared < 1000 * 999 / 2


def test_time_does_not_grow_as_the_square():
    took = []
    for count in (2_000, 8_000):
        images = thumbnails(count)
        start = time.process_time()
        near_duplicates(images, np.arange(count))
        took.append(time.process_time() - start)
    assert took[1] < 10 * took[0]  # 16 were it the square


def test_hashes_are_64_bits_of_which_about_half_are_set():
    hashes = perceptual_hashes(distinguishing(normalised(thumbnails(500))))
    share = np.mean([bin(int(value)).count("1") for value in hashes]) / 64
    assert hashes.dtype == np.uint64
    assert 0.45 < share < 0.55


def test_a_crop_of_two_percent_per_side_is_undone():
    images = thumbnails()
    place = 15.5 + (np.arange(32) - 15.5) * 0.96
    copies = np.stack(
        [map_coordinates(image, np.meshgrid(place, place, indexing="ij"), order=3) for image in images[:60]]
    )
    assert found(np.concatenate([images, copies])).keys() == {(row, 300 + row) for row in range(60)}
