import numpy as np
import pytest
from pydicom.pixels.decoders import base

from robustbench_rad.conditions import Unit
from robustbench_rad.data.dicom import read_dicom, read_series
from robustbench_rad.data.files import read_file
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.errors import ImageError, MissingExtraError

PLANE = np.arange(64, dtype=np.uint16).reshape(8, 8)
CT, VOLUME = ReadOptions(modality="CT"), ReadOptions(modality="CT", volumes=True)


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.4, 0.4]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143)),
        ({}, None),
    ],
)
def test_spacing(write_dicom, attributes, spacing):
    assert read_dicom(write_dicom(PLANE, **attributes), ReadOptions()).spacing_mm == spacing


@pytest.mark.parametrize(("said", "burned_in"), [("YES", True), ("NO", False), (None, False)])
def test_burned_in_annotation(write_dicom, said, burned_in):
    assert read_dicom(write_dicom(PLANE, BurnedInAnnotation=said), ReadOptions()).burned_in is burned_in


def test_a_file_without_suffix_is_known_by_its_prefix(write_dicom):
    assert read_file(write_dicom(PLANE, "IM0001"), ReadOptions()).unit is Unit.SIGNAL


def test_computed_and_digital_radiographs_are_one_kind(write_dicom):
    assert read_dicom(write_dicom(PLANE, Modality="CR"), ReadOptions(modality="DX")).pixels.shape == (8, 8)


@pytest.mark.parametrize(
    ("attributes", "options", "message"),
    [
        ({}, CT, "expected modality CT, as declared in the plan, got DX"),
        ({"PixelData": None}, ReadOptions(), "has no pixel data"),
        ({"NumberOfFrames": 3}, ReadOptions(), r"multi-frame DICOM file with 3\n.*Split it"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, ReadOptions(), "expected a grey image.*got RGB"),
        ({"PhotometricInterpretation": None}, ReadOptions(), "got no such entry"),
        ({"PixelData": b"\0" * 20}, ReadOptions(), "cannot be decoded: The number of bytes of pixel data is less"),
        ({"BitsAllocated": None}, ReadOptions(), "cannot be decoded"),
    ],
)
def test_refused(write_dicom, attributes, options, message):
    path = write_dicom(PLANE, **attributes)
    with pytest.raises(ImageError, match=message) as raised:
        read_dicom(path, options)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_truncated(write_dicom, share):
    path = write_dicom(np.zeros((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageError, match=str(path)):
        read_dicom(path, ReadOptions())


def test_not_dicom(tmp_path):
    (tmp_path / "a.dcm").write_text("hello" * 100)
    with pytest.raises(ImageError, match="not a DICOM file: the DICM prefix is missing"):
        read_file(tmp_path / "a.dcm", ReadOptions())


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_compressed_gives_what_uncompressed_gives(pydicom_file, name):
    pytest.importorskip("libjpeg")
    plain = read_dicom(pydicom_file("MR_small.dcm"), ReadOptions(modality="MR"))
    packed = read_dicom(pydicom_file(name), ReadOptions(modality="MR"))
    np.testing.assert_array_equal(packed.pixels, plain.pixels)


def test_missing_plug_in_gives_the_pip_line(pydicom_file, monkeypatch):
    monkeypatch.setattr(base.Decoder, "is_available", False)
    with pytest.raises(MissingExtraError, match=r"JPEG 2000(.|\n)*pip install 'robustbench-rad\[dicom\]'"):
        read_dicom(pydicom_file("MR_small_jp2klossless.dcm"), ReadOptions(modality="MR"))


def test_known_ct(pydicom_file):
    """CT_small: stored 128..2191 by the file, intercept -1024."""
    image = read_dicom(pydicom_file("CT_small.dcm"), CT)
    assert (image.pixels.min(), image.pixels.max()) == (-896, 1167)
    assert image.unit is Unit.HU
    assert image.spacing_mm == pytest.approx((0.661468, 0.661468))


@pytest.mark.parametrize(
    "name", ["MR_truncated.dcm", "examples_palette.dcm", "reportsi.dcm", "badVR.dcm", "UN_sequence.dcm"]
)
@pytest.mark.parametrize("modality", ["MR", "US", "DX"])
def test_awkward_files_are_image_errors(pydicom_file, name, modality):
    with pytest.raises(ImageError):
        read_dicom(pydicom_file(name), ReadOptions(modality=modality))


def test_series_is_sorted_by_position(write_series):
    paths = write_series([5.0, 0.0, 7.5, 2.5])
    image = read_series(paths, VOLUME)
    assert image.pixels[:, 0, 0].tolist() == [-100, -80, -50, -20]
    assert image.pixels.shape == (4, 4, 6)
    assert image.spacing_mm == (2.5, 0.5, 0.25)


def test_series_is_sorted_along_its_normal(write_series):
    """Sagittal slices: the normal of (0,1,0) × (0,0,-1) points to -x, so x falls."""
    orientation = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    paths = [write_series([x], f"s{x}", ImagePositionPatient=[x, 0, 0], **orientation)[0] for x in (1, 3, 2)]
    assert read_series(paths, VOLUME).pixels[:, 0, 0].tolist() == [-70, -80, -90]


def test_magnitude_of_a_series_has_one_scale(write_series):
    """Slices that were scaled one by one would lose what differs between them, as a bias field or a coil does."""
    paths = write_series([0.0, 10.0, 20.0, 30.0], Modality="MR", RescaleIntercept=0)
    image = read_series(paths, ReadOptions(modality="MR", volumes=True))
    steps = np.diff(image.pixels[:, 0, 0])
    assert steps.tolist() == pytest.approx([steps[0]] * 3)
    assert steps[0] > 0.2


def test_one_slice_is_a_volume_of_depth_one(write_series):
    image = read_file(write_series([0.0], SliceThickness=3)[0], VOLUME)
    assert image.pixels.shape == (1, 4, 6)
    assert image.spacing_mm == (3.0, 0.5, 0.25)


@pytest.mark.parametrize(
    ("positions", "message"),
    [([0, 1, 2, 4], "a slice is missing"), ([0, 1, 1, 2], "two slices lie at the same position")],
)
def test_irregular_series(write_series, positions, message):
    with pytest.raises(ImageError, match=message):
        read_series(write_series(positions), VOLUME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PixelSpacing": [0.5, 0.5]}, "differ in PixelSpacing"),
        ({"SeriesInstanceUID": "9.9"}, "differ in SeriesInstanceUID"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "differ in ImageOrientationPatient"),
        ({"ImagePositionPatient": None}, "needs ImageOrientationPatient and ImagePositionPatient"),
        ({"Rows": 2, "PixelData": bytes(24)}, "differ in Rows"),
    ],
)
def test_mixed_series(write_series, change, message):
    paths = write_series([0.0, 1.0]) + write_series([2.0], "other", **change)
    with pytest.raises(ImageError, match=message):
        read_series(paths, VOLUME)


def test_real_slices(packs):
    for name, kernel, low in (
        ("ge_standard_rle", "STANDARD", -1024),
        ("head_standard_uncompressed", "STANDARD", -1024),
        ("siemens_b30s_jpeg_lossless", "B30s", -1011),
    ):
        image = read_dicom(packs / "ct" / f"{name}.dcm", CT)
        assert image.pixels.shape == (512, 512)
        assert image.attributes["ConvolutionKernel"] == kernel
        assert image.pixels.min() == low
