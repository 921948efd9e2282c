import numpy as np
import pytest

from robustbench_rad.cases import read_cases
from robustbench_rad.data.dicom_folder import scan
from robustbench_rad.errors import DataError

PLANE = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def folder(tmp_path, write_dicom):
    """Three labelled radiographs of two patients, one unlabelled, a report and a text file."""
    for index, patient in enumerate(["p1", "p1", "p2", "p3"]):
        write_dicom(
            PLANE,
            f"dicom/sub{index}/x.dcm",
            SOPInstanceUID=f"1.{index}",
            PatientID=patient,
            ViewPosition="PA",
            KVP=80 + index,
        )
    write_dicom(PLANE, "dicom/report.dcm", SOPInstanceUID="1.9", Modality="SR", Rows=None, Columns=None, PixelData=None)
    (tmp_path / "dicom/notes.txt").write_text("nothing")
    return tmp_path


def labels(folder, text):
    (folder / "labels.csv").write_text(text)


def test_joined_by_uid(folder, plan_for):
    labels(folder, "SOPInstanceUID,effusion,site\n1.2,1,a\n1.0,0,b\n1.1,,c\n")
    data = {"source": "dicom", "root": "dicom", "manifest": "labels.csv"}
    roles = {"KVP": "nuisance", "PatientAge": "demographic", "site": "nuisance"}
    table = read_cases(plan_for({**data, "metadata": roles}))
    assert table.case_ids == ("1.2", "1.0", "1.1")
    assert table.patient_codes.tolist() == [0, 1, 1]
    assert table.metadata("KVP") == ["82", "80", "81"]
    assert table.metadata("PatientAge") == ["60-69"] * 3
    assert table.metadata("site") == ["a", "b", "c"]
    assert table.excluded == {"file is not a DICOM image": 2, "no row in the label file": 1}
    assert table.load(0).image.shape == (1, 8, 8)
    assert table.verify() == []


def test_joined_by_path_or_folder(folder, plan_for):
    data = {"source": "dicom", "root": "dicom", "manifest": "labels.csv", "case": "key"}
    labels(folder, "key,effusion\nsub2/x.dcm,1\n./sub0/x.dcm,0\nsub1,0\n")
    assert read_cases(plan_for(data)).case_ids == ("1.2", "1.0", "1.1")


def test_patients_of_the_label_file_win(folder, plan_for):
    labels(folder, "SOPInstanceUID,effusion,who\n1.0,1,x\n1.1,0,y\n")
    data = {"source": "dicom", "root": "dicom", "manifest": "labels.csv"}
    assert read_cases(plan_for({**data, "patient": "who"})).patients == ("x", "y")
    assert read_cases(plan_for({**data, "patient": "PatientID"})).patients == ("p1", "p1")


def test_volumes_are_grouped_by_series(tmp_path, write_series, plan_for):
    write_series([0, 1, 2], "dicom/a", SeriesInstanceUID="5.1")
    write_series([0, 2, 4, 6], "dicom/b", SeriesInstanceUID="5.2")
    labels(tmp_path, "SeriesInstanceUID,effusion\n5.2,1\n5.1,0\n")
    data = {"source": "dicom", "root": "dicom", "manifest": "labels.csv", "modality": "CT"}
    table = read_cases(plan_for(data, size=(4, 4, 4)))
    assert table.case_ids == ("5.2", "5.1")
    assert table.load(0).image.shape == (1, 4, 4, 6)
    assert table.load(0).spacing_mm == (2.0, 0.5, 0.25)
    assert table.load(1).image[0, :, 0, 0].tolist() == [-100, -90, -80]


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ("SOPInstanceUID,effusion\n1.0,1\n7.7,0\n", {}, r"1 of 2 rows match no DICOM image .*: '7.7' \(line 3\)"),
        ("SOPInstanceUID,effusion\n1.0,1\n1.0,0\n", {}, "duplicate case ids: 1.0"),
        ("SOPInstanceUID,effusion\n1.0,3\n", {}, "expected labels 1, 0, -1 or empty, got line 2: '3'"),
        ("uid,effusion\n1.0,1\n", {}, "column 'SOPInstanceUID' .* is missing"),
        (
            "SOPInstanceUID,effusion\n1.0,1\n",
            {"manifest": None},
            r"holds no labels: data.manifest is missing\n.*labels.csv",
        ),
        ("SOPInstanceUID,effusion\n1.0,1\n", {"root": "no"}, "no such folder"),
        ("SOPInstanceUID,effusion\n1.0,1\n", {"metadata": {"PatientName": "nuisance"}}, "nor a whitelisted DICOM"),
        ("SOPInstanceUID,effusion\n1.0,1\n", {"patient": "who"}, r"column 'who' \(patient\) is missing"),
    ],
)
def test_bad_folders(folder, plan_for, text, change, message):
    labels(folder, text)
    with pytest.raises(DataError, match=message):
        read_cases(plan_for({"source": "dicom", "root": "dicom", "manifest": "labels.csv", **change}))


def test_a_folder_without_images_and_one_with_copies(tmp_path, write_dicom):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.txt").write_text("hello")
    with pytest.raises(DataError, match="expected DICOM images, got 1 files of which none is one"):
        scan(tmp_path / "empty", volumes=False)
    for name in ("two/a.dcm", "two/b.dcm"):
        write_dicom(PLANE, name, SOPInstanceUID="1.1")
    with pytest.raises(DataError, match=r"SOPInstanceUID: duplicate case ids: 1\.1"):
        scan(tmp_path / "two", volumes=False)


def test_a_blank_patient_is_grouped_by_study(tmp_path, write_dicom):
    write_dicom(PLANE, "a/1.dcm", PatientID="", StudyInstanceUID="4.4")
    assert scan(tmp_path / "a", volumes=False)[0][0].patient == "4.4"
