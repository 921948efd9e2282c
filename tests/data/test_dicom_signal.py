import numpy as np
import pytest
from pydicom.dataset import Dataset

from robustbench_rad.data.dicom import read_dicom
from robustbench_rad.data.dicom_signal import window
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.errors import ImageError

STORED = np.array([[0, 1000, 2048, 4095]], np.uint16)
CT = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1024}


def signal(path, **options):
    return read_dicom(path, ReadOptions(**options)).pixels


def test_without_a_window_the_stored_range_is_the_range(write_dicom):
    image = read_dicom(write_dicom(STORED, BitsStored=12), ReadOptions())
    np.testing.assert_allclose(image.pixels, STORED / 4095, rtol=1e-6)
    assert image.stored_bits == 12


def test_signed_and_rescaled_range(write_dicom):
    path = write_dicom(np.array([[-2048, 2047]], np.int16), BitsStored=12, RescaleSlope=-3, RescaleIntercept=5)
    np.testing.assert_allclose(signal(path), [[1, 0]])


def test_monochrome1_is_inverted_once(write_dicom):
    for shape in (None, "INVERSE"):
        path = write_dicom(STORED, BitsStored=12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape=shape)
        np.testing.assert_allclose(signal(path), 1 - STORED / 4095, atol=1e-6)


def test_window(write_dicom):
    """(x - (c - 0.5)) / (w - 1) + 0.5 with c = 2048, w = 2001: 1000 → -0.0238 → 0; 2048 → 0.50025; 4095 → 1."""
    path = write_dicom(STORED, BitsStored=12, WindowCenter=[2048, 1], WindowWidth=[2001, 9])
    np.testing.assert_allclose(signal(path), [[0, 0, 0.50025, 1]], atol=1e-6)


def test_window_works_on_rescaled_values_and_maps_to_the_declared_range(write_dicom):
    path = write_dicom(STORED, BitsStored=12, RescaleSlope=2, RescaleIntercept=10, WindowCenter=2010, WindowWidth=4000)
    path_exact = write_dicom(
        STORED, "b.dcm", RescaleSlope=2, RescaleIntercept=10, WindowCenter=2010, WindowWidth=4000,
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    assert signal(path_exact)[0, 1] == pytest.approx(0.5)
    assert signal(path)[0, 1] == pytest.approx(0.5 + 0.5 / 3999)
    assert signal(path_exact, limits=(-1024.0, 1024.0))[0].tolist() == pytest.approx([-1024, 0, 1024, 1024])


def test_sigmoid():
    values = np.array([-1e6, 40.0, 60.0, 1e6])
    expected = [0, 0.5, 1 / (1 + np.exp(-4 * 20 / 80)), 1]
    np.testing.assert_allclose(window(values, 40, 80, "SIGMOID"), expected, atol=1e-9)


def test_width_one_is_a_threshold():
    assert window(np.array([9.0, 9.5, 10.0]), 10, 1, "LINEAR").tolist() == [0, 0, 1]


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (-5, "SIGMOID"), (0.5, "LINEAR"), (10, "CUBIC")])
def test_bad_windows(width, function):
    with pytest.raises(ImageError, match=r"f\.dcm: (window width|unknown VOI LUT function)"):
        window(np.zeros(1), 0, width, function, "f.dcm")


def test_voi_lut_wins_over_the_window(write_dicom):
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 8]
    lut.add_new("LUTData", "US", [0, 51, 102, 255])
    path = write_dicom(np.array([[0, 1, 2, 9]], np.uint16), VOILUTSequence=[lut], WindowCenter=1, WindowWidth=2)
    np.testing.assert_allclose(signal(path), [[0, 0.2, 0.4, 1]], rtol=1e-6)


def test_modality_lut(write_dicom):
    lut = Dataset()
    lut.LUTDescriptor = [3, 0, 16]
    lut.ModalityLUTType = "US"
    lut.add_new("LUTData", "US", [0, 65535, 13107])
    path = write_dicom(np.array([[0, 1, 2]], np.uint16), ModalityLUTSequence=[lut])
    np.testing.assert_allclose(signal(path), [[0, 1, 0.2]], rtol=1e-6)


def test_padding_of_a_radiograph_is_black_also_when_inverted(write_dicom):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(STORED, BitsStored=12, PhotometricInterpretation=photometric, PixelPaddingValue=4095)
        assert signal(path)[0, 3] == 0


def test_hounsfield_never_windowed(write_dicom):
    path = write_dicom(STORED, **CT, WindowCenter=40, WindowWidth=400)
    assert signal(path, modality="CT").tolist() == [[-1024, 976, 3072, 7166]]


def test_padding_of_ct_is_air(write_dicom):
    stored = np.array([[-2000, -1990, -1500, 0, 40]], np.int16)
    options = {"modality": "CT"}
    one = write_dicom(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=-2000)
    assert signal(one, **options).tolist() == [[-1024, -1990, -1500, 0, 40]]
    span = write_dicom(
        stored, Modality="CT", RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1900
    )
    assert signal(span, **options).tolist() == [[-1024, -1024, -1500, 0, 40]]


@pytest.mark.parametrize("change", [{"RescaleSlope": None}, {"RescaleIntercept": None}, {"RescaleType": "US"}])
def test_ct_without_hounsfield_is_refused(write_dicom, change):
    with pytest.raises(ImageError, match="expected CT with a rescale to HU"):
        signal(write_dicom(STORED, **{**CT, **change}), modality="CT")


def test_windowed_ct_is_refused(write_dicom):
    path = write_dicom(np.array([[0, 1]], np.uint8), Modality="CT", RescaleSlope=1, RescaleIntercept=0)
    with pytest.raises(ImageError, match="looks like a windowed image"):
        signal(path, modality="CT")


def test_magnitude_is_scaled_by_its_own_percentiles(write_dicom):
    stored = np.arange(101, dtype=np.uint16)[None]
    image = read_dicom(
        write_dicom(stored, Modality="MR", WindowCenter=1, WindowWidth=2, RescaleSlope=2, RescaleIntercept=0),
        ReadOptions(modality="MR"),
    )
    ends = -1 / 98, 0, 0.5, 1, 99 / 98
    assert image.pixels[0, [0, 1, 50, 99, 100]].tolist() == pytest.approx(ends)
    assert image.zero_signal == pytest.approx(-1 / 98)
