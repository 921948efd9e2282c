import pytest

from robustbench_rad.data.dicom import read_dicom
from robustbench_rad.data.dicom_attributes import WHITELIST, age_band
from robustbench_rad.data.images import ReadOptions


def test_only_whitelisted_attributes_leave_a_file(write_dicom):
    import numpy as np

    image = read_dicom(write_dicom(np.zeros((2, 2), np.uint8), KVP=120, PixelSpacing=[0.1, 0.2]), ReadOptions())
    assert set(image.attributes) == set(WHITELIST)
    text = str(image)
    assert not any(secret in text for secret in ("Doe", "Jane", "secret-7", "1950"))
    assert image.attributes["PatientAge"] == "60-69"
    assert image.attributes["PixelSpacing"] == "0.1\\0.2"
    assert image.attributes["Manufacturer"] == "Acme"
    assert image.attributes["ConvolutionKernel"] == ""


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *[("000Y", "0-9"), ("009Y", "0-9"), ("010Y", "10-19"), ("089Y", "80-89"), ("090Y", "90+"), ("120Y", "90+")],
        *[("018M", "0-9"), ("003W", "0-9"), ("900D", "0-9"), ("", ""), ("Y", ""), ("63", ""), ("-1Y", "")],
    ],
)
def test_age_bands(age, band):
    assert age_band(age) == band
