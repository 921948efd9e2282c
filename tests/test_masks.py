import numpy as np
import pytest
import torch

from robustbench_rad.classifier import InputSpec, Resize
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError
from robustbench_rad.masks import (
    hull_mask,
    load_atlas,
    load_mask,
    mask_of,
    mask_problem,
    otsu_threshold,
    read_mask,
    resize_mask,
)
from robustbench_rad.misfits import Misfit

SQUARE = np.zeros((8, 12), np.uint8)
SQUARE[2:6, 3:9] = 7


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.npy", "m.npz"])
def test_formats(tmp_path, write_image, name):
    path = tmp_path / name
    if name == "m.npy":
        np.save(path, SQUARE)
    elif name == "m.npz":
        np.savez(path, mask=SQUARE, other=SQUARE)
    else:
        write_image(SQUARE, name)
    mask = load_mask(path, (8, 12))
    assert mask.shape == (1, 8, 12)
    assert mask.dtype == torch.bool
    np.testing.assert_array_equal(mask[0].numpy(), SQUARE > 0)


def test_alpha_is_not_inside(write_image):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[1, 1, 0] = 255
    assert load_mask(write_image(rgba, "m.png"))[0].nonzero().tolist() == [[1, 1]]


def test_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(SQUARE.T[::-1, ::-1, None].copy(), np.eye(4)), tmp_path / "m.nii")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.nii", (8, 12))[0].numpy(), SQUARE > 0)


def test_same_aspect_is_refitted_by_nearest(write_image):
    mask = load_mask(write_image(SQUARE, "m.png"), (16, 24))
    np.testing.assert_array_equal(mask[0].numpy(), np.kron(SQUARE, np.ones((2, 2))) > 0)
    half = load_mask(write_image(np.kron(SQUARE, np.ones((2, 2), np.uint8)), "n.png"), (8, 12))
    np.testing.assert_array_equal(half[0].numpy(), SQUARE > 0)


@pytest.mark.parametrize("shape", [(12, 8), (8, 13), (2, 8, 12)])
def test_wrong_size_names_both(write_image, shape):
    expected = " × ".join(map(str, shape))
    path = write_image(SQUARE, "m.png")
    assert read_mask(path, shape) == Misfit(expected=shape, got=(8, 12))
    with pytest.raises(DataError, match=f"{expected}, got 8 × 12"):
        load_mask(path, shape)


@pytest.mark.parametrize("shape", [(3, 8, 12), (8, 12, 3), (96,), (), (0, 12)])
def test_an_array_that_is_no_plane_is_said_to_be_of_another_size(tmp_path, shape):
    np.save(tmp_path / "m.npy", np.ones(shape, np.uint8))
    assert read_mask(tmp_path / "m.npy", (8, 12)) == Misfit(expected=(8, 12), got=shape)
    assert mask_of(np.ones(shape), (8, 12)) == Misfit(expected=(8, 12), got=shape)


def test_a_mask_in_memory_that_fits_is_boolean_with_an_axis_for_the_channel():
    assert torch.equal(mask_of(SQUARE, (8, 12))[0], torch.from_numpy(SQUARE > 0))


def test_a_colour_picture_of_the_size_of_its_image_is_a_mask_of_what_is_not_black(write_image):
    mask = read_mask(write_image(np.stack([SQUARE, SQUARE * 0, SQUARE * 0], -1), "m.png"), (8, 12))
    np.testing.assert_array_equal(mask[0].numpy(), SQUARE > 0)


def test_missing_damaged_and_ambiguous(tmp_path, write_image):
    with pytest.raises(DataError, match="no such mask file"):
        load_mask(tmp_path / "no.png")
    path = write_image(SQUARE, "m.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_mask(path)
    np.savez(tmp_path / "m.npz", a=SQUARE, b=SQUARE)
    with pytest.raises(DataError, match="expected one array or one named 'mask', got a, b"):
        load_mask(tmp_path / "m.npz")
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_mask(tmp_path / "o.npy")


@pytest.mark.parametrize(("value", "problem"), [(0, "is empty"), (1, "covers 100% of the image")])
def test_problems(tmp_path, value, problem):
    mask = torch.full((1, 4, 4), value, dtype=torch.bool)
    assert mask_problem(mask) == problem
    np.save(tmp_path / "m.npy", mask.numpy())
    with pytest.raises(DataError, match=f"the atlas {problem}"):
        load_atlas(tmp_path / "m.npy")


def test_a_sound_mask_has_no_problem(tmp_path):
    np.save(tmp_path / "m.npy", SQUARE)
    assert mask_problem(load_atlas(tmp_path / "m.npy")) is None


def test_hull_of_ct_fills_the_lungs_and_leaves_the_table():
    image = torch.full((1, 64, 64), -1000.0)
    image[:, 10:50, 8:56] = 40
    image[:, 20:40, 15:28] = -850
    image[:, 56:58, 4:60] = 100
    hull = hull_mask(image, Unit.HU)
    expected = torch.zeros(1, 64, 64, dtype=torch.bool)
    expected[:, 10:50, 8:56] = True
    assert torch.equal(hull, expected)


def test_hull_of_a_radiograph():
    image = torch.zeros(1, 64, 64)
    image[:, 8:, 10:54] = 0.7
    image[:, 20:50, 16:28] = 0.1
    hull = hull_mask(image, Unit.SIGNAL)
    assert hull[:, 8:, 10:54].all()
    assert int(hull.sum()) == 56 * 44


def test_hull_of_magnitude_is_not_moved_by_one_bright_vessel():
    image = 0.02 * torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    image[:, 10:50, 8:56] = 0.5
    image[:, 30:33, 30:33] = 30.0
    hull = hull_mask(image, Unit.MAGNITUDE)
    assert int(hull.sum()) == 40 * 48
    assert int(hull_mask(image, Unit.SIGNAL).sum()) == 9


def test_hull_of_a_volume_fills_plane_by_plane():
    image = torch.full((1, 3, 16, 16), -1000.0)
    image[:, :, 2:14, 2:14] = 0
    image[:, :, 6:9, 6:9] = -900
    assert int(hull_mask(image, Unit.HU).sum()) == 3 * 144


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_hull_of_a_flat_image_is_a_problem(value):
    assert mask_problem(hull_mask(torch.full((1, 8, 8), value), Unit.SIGNAL)) is not None


def test_otsu_separates_two_peaks():
    values = np.concatenate([np.random.default_rng(0).normal(m, 0.03, 500) for m in (0.2, 0.8)])
    assert 0.3 < otsu_threshold(values) < 0.7


@pytest.mark.parametrize("resize", list(Resize))
def test_resized_like_its_image(resize):
    """A mask and an image of the same content end in the same place."""
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[:, 10:30, 20:40] = True
    spec = InputSpec(size=(24, 24), resize=resize)
    resized = resize_mask(mask, spec)
    assert resized.shape == (1, 24, 24)
    shown = spec.display(mask[None].float())[0]
    assert torch.equal(resized, shown > 0.5)
    assert resize_mask(mask[None].repeat(2, 1, 1, 1), spec).shape == (2, 1, 24, 24)


def test_resized_volume():
    mask = torch.ones(1, 4, 8, 8, dtype=torch.bool)
    assert resize_mask(mask, InputSpec(size=(2, 4, 4))).all()
