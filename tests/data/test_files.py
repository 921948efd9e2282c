import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_rad.data.files import file_sha256, is_dicom, read_file
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.errors import ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.dcm"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), damage=st.binary(min_size=1, max_size=8))
def test_any_damage_reads_or_is_an_image_error(write_image, write_dicom, name, place, damage):
    path = write_dicom(NOISE, name) if name == "a.dcm" else write_image(NOISE, name)
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + len(damage)] = damage
    path.write_bytes(content)
    try:
        image = read_file(path, ReadOptions())
    except ImageError as error:
        assert str(path) in error.message  # noqa: PT017 - both outcomes are right
    else:
        assert np.isfinite(image.pixels).all()


def test_a_missing_file_is_no_dicom_and_has_no_hash(tmp_path):
    assert not is_dicom(tmp_path / "no")
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        file_sha256(tmp_path / "no")
