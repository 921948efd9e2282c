"""Synthetic DICOM series."""

from pathlib import Path

import numpy as np
import pydicom
import pytest


@pytest.fixture
def write_series(write_dicom):
    """Write slices of constant value ``10 * k`` HU at the given positions, in shuffled file order."""

    def write(positions, folder="series", **attributes) -> list[Path]:
        paths = []
        for index, position in enumerate(positions):
            paths.append(
                write_dicom(
                    np.full((4, 6), 10 * round(position), np.int16),
                    f"{folder}/{index}.dcm",
                    **{
                        "Modality": "CT",
                        "RescaleSlope": 1,
                        "RescaleIntercept": -100,
                        "PixelSpacing": [0.5, 0.25],
                        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                        "ImagePositionPatient": [0, 0, position],
                        **attributes,
                    },
                )
            )
        return paths

    return write


@pytest.fixture
def pydicom_file():
    """A file that comes with pydicom; never downloads."""

    def find(name) -> Path:
        path = Path(pydicom.__file__).parent / "data" / "test_files" / name
        if not path.is_file():
            pytest.skip(f"this pydicom has no {name}")
        return path

    return find
