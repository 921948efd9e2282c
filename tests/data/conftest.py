"""Synthetic DICOM files."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


@pytest.fixture
def write_dicom(tmp_path):
    """Write a grey DICOM file; keyword arguments are attributes, None removes one."""

    def write(array, name="image.dcm", **attributes) -> Path:
        array = np.asarray(array)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        bits = 8 * array.dtype.itemsize
        defaults = {
            "SOPClassUID": meta.MediaStorageSOPClassUID,
            "SOPInstanceUID": generate_uid(),
            "SeriesInstanceUID": "1.2.3",
            "StudyInstanceUID": "1.2",
            "Modality": "DX",
            "PatientName": "Doe^Jane",
            "PatientBirthDate": "19500101",
            "PatientID": "secret-7",
            "PatientSex": "F",
            "PatientAge": "063Y",
            "Manufacturer": "Acme",
            "Rows": array.shape[-2],
            "Columns": array.shape[-1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": attributes.get("BitsStored", bits) - 1,
            "PixelRepresentation": int(array.dtype.kind == "i"),
            "PixelData": array.tobytes(),
        }
        for key, value in {**defaults, **attributes}.items():
            if value is not None:
                setattr(dataset, key, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


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
