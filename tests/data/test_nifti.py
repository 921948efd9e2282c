import sys

import numpy as np
import pytest

from robustbench_rad.conditions import Unit
from robustbench_rad.data.files import read_file
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.data.nifti import read_nifti
from robustbench_rad.errors import ImageError, MissingExtraError

HU = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)  # x to the right, y to the front, z to the head
VOLUME = ReadOptions(modality="CT", volumes=True)


@pytest.fixture
def write_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")

    def write(array, affine=None, name="a.nii.gz"):
        path = tmp_path / name
        nibabel.save(nibabel.Nifti1Image(array, np.diag([0.5, 0.75, 2, 1]) if affine is None else affine), path)
        return path

    return write


def test_axes_and_spacing(write_nifti):
    image = read_file(write_nifti(HU), VOLUME)
    assert image.pixels.shape == (6, 5, 4)
    assert image.spacing_mm == (2.0, 0.75, 0.5)
    assert image.unit is Unit.HU
    assert image.stored_bits == 16
    np.testing.assert_array_equal(image.pixels[2], HU[::-1, ::-1, 2].T)


def test_any_storage_order_gives_the_same_volume(write_nifti):
    affine = np.diag([-0.5, -0.75, 2, 1])
    turned = read_nifti(write_nifti(np.ascontiguousarray(HU[::-1, ::-1]), affine, "b.nii"), VOLUME)
    np.testing.assert_array_equal(turned.pixels, read_nifti(write_nifti(HU), VOLUME).pixels)


def test_one_slice_is_a_plane(write_nifti):
    image = read_nifti(write_nifti(HU[:, :, :1]), ReadOptions(modality="CT"))
    assert image.pixels.shape == (5, 4)
    assert image.spacing_mm == (0.75, 0.5)


def test_magnitude(write_nifti):
    magnitude = HU.astype(np.float32) + 60
    image = read_nifti(write_nifti(magnitude), ReadOptions(modality="MR", volumes=True))
    p1, p99 = np.percentile(magnitude, (1, 99))
    assert image.pixels.min() == pytest.approx((magnitude.min() - p1) / (p99 - p1))
    assert image.pixels.max() == pytest.approx((magnitude.max() - p1) / (p99 - p1))
    assert image.zero_signal == pytest.approx(-p1 / (p99 - p1))


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (HU, ReadOptions(modality="CT"), "expected one plane for a model of planes, got a volume of 6 slices"),
        (np.stack([HU, HU], axis=3), VOLUME, "expected a volume of three axes"),
        (HU.astype(np.float32) / 30, ReadOptions(modality="MR", volumes=True), "expected MR magnitude, not below 0"),
        (HU.astype(np.float32) * np.nan, ReadOptions(modality="MR", volumes=True), "NaN"),
        (np.clip(HU, 0, 1), VOLUME, "looks like a windowed image"),
    ],
)
def test_refused(write_nifti, array, options, message):
    with pytest.raises(ImageError, match=message):
        read_nifti(write_nifti(array), options)


def test_truncated(write_nifti):
    path = write_nifti(np.random.default_rng(0).integers(-999, 999, (16, 16, 16)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_nifti(path, VOLUME)


def test_missing_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robustbench-rad\[nifti\]'"):
        read_nifti(tmp_path / "a.nii", VOLUME)


def test_real_head(packs):
    pytest.importorskip("nibabel")
    image = read_nifti(packs / "mr" / "t1_head.nii.gz", ReadOptions(modality="MR", volumes=True))
    assert image.pixels.shape == (190, 256, 188)
    assert image.spacing_mm == pytest.approx((0.88, 0.88, 0.88), abs=0.01)
    assert image.zero_signal == 0
    assert image.pixels.max() == pytest.approx(255 / 144)
