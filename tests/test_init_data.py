"""init's look at data: which source a folder is, DICOM folders, archives, and folders with nothing usable."""

import csv

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from robustbench_rad.audit import prepare
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.init import write_plan
from robustbench_rad.init_data import look_at_data
from robustbench_rad.init_images import array_headers, look_at_images
from robustbench_rad.plan import read_plan


def write_dicom(path, number, **attributes):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    pixels = np.random.default_rng(number).integers(0, 4096, (80, 80), dtype=np.uint16)
    content = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": f"1.2.4.{number}",
        "StudyInstanceUID": f"1.2.5.{number}",
        "Modality": "DX",
        "PatientName": "Doe^Jane",
        "PatientID": f"secret-{number}",
        "PatientSex": "FM"[number % 2],
        "Manufacturer": ("Acme", "Bolt")[number // 2 % 2],
        "Rows": 80,
        "Columns": 80,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    for key, value in {**content, **attributes}.items():
        setattr(dataset, key, value)
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def films(workshop, monkeypatch):
    """A folder of twelve DICOM files beside the workshop's model."""
    monkeypatch.chdir(workshop)
    (workshop / "films").mkdir()
    for number in range(12):
        write_dicom(workshop / "films" / f"{number}.dcm", number)
    return workshop / "films"


def write_table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize("key", ["SOPInstanceUID", "file"])
def test_a_dicom_folder_with_labels_can_be_audited(films, key):
    names = [f"1.2.3.{n}" if key == "SOPInstanceUID" else f"{n}.dcm" for n in range(12)]
    write_table(films / "labels.csv", [key, "effusion"], [(name, n % 2) for n, name in enumerate(names)])
    write_plan(films, films.parent / "a.toml", model="model.py:build")
    plan = read_plan(films.parent / "a.toml", overrides={"profile": "quick"})
    assert (plan.data.source, plan.data.root, plan.data.modality) == ("dicom", "films", "DX")
    assert plan.data.metadata == {"Manufacturer": "nuisance", "PatientSex": "demographic"}
    done = prepare(plan)
    assert len(done.table) == 12
    assert set(done.table.metadata("Manufacturer")) == {"Acme", "Bolt"}


def test_a_dicom_folder_without_labels_says_what_is_missing(films):
    said = write_plan(films, films.parent / "a.toml", model="model.py:build")
    assert "fill in: model: findings: name at least one" in said
    with pytest.raises(PlanError, match="findings: name at least one"):
        read_plan(films.parent / "a.toml")


def test_no_name_of_a_patient_is_written_or_said(films):
    said = write_plan(films, films.parent / "a.toml")
    text = "\n".join([*said, (films.parent / "a.toml").read_text()])
    assert "Acme" in text
    assert "Doe" not in text
    assert "secret" not in text


def test_ct_leaves_the_window_to_the_user(films):
    for path in films.iterdir():
        path.unlink()
    for number in range(4):
        write_dicom(films / str(number), number, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    write_table(films / "labels.csv", ["SOPInstanceUID", "bleed"], [(f"1.2.3.{n}", n % 2) for n in range(4)])
    path = films.parent / "a.toml"
    write_plan(films, path, model="model.py:build")
    with pytest.raises(PlanError, match=r"model\.input\.window_hu"):
        read_plan(path)
    path.write_text(path.read_text().replace("window_hu = []", "window_hu = [-1000.0, 400.0]"))
    assert prepare(read_plan(path, overrides={"profile": "quick"})).plan.data.modality == "CT"


def test_an_unsupported_modality_is_left_to_the_user(films):
    for number in range(12):
        write_dicom(films / f"{number}.dcm", number, Modality="PT")
    said = write_plan(films, films.parent / "a.toml")
    assert any("the files say PT" in line for line in said)
    assert any(line.startswith("fill in: data.modality") for line in said)


def test_a_folder_with_nothing_usable_says_what_was_looked_for(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(
        DataError, match=r"Looked for a manifest .* DICOM files, and for one \.npz archive; there are 1 files"
    ):
        look_at_data(tmp_path)


def test_a_folder_of_classes_is_told_to_write_a_manifest(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="there are 2 images in ill, well") as caught:
        look_at_data(tmp_path)
    assert "one row per image" in str(caught.value)


def test_a_manifest_whose_images_are_missing_is_named(tmp_path):
    write_table(tmp_path / "test.csv", ["image", "label"], [("absent.png", 1)])
    for data in (tmp_path, tmp_path / "test.csv"):
        with pytest.raises(DataError, match=r"test\.csv: expected a column of paths to existing images"):
            look_at_data(data)


def test_a_damaged_table_beside_a_good_one_does_not_matter_and_alone_it_is_named(workshop):
    (workshop / "broken.csv").write_text("a,b\n1\n")
    assert look_at_data(workshop).manifest == workshop / "cases.csv"
    (workshop / "cases.csv").unlink()
    with pytest.raises(DataError, match=r"broken\.csv, line 2: expected 2 cells"):
        look_at_data(workshop)


def test_the_manifest_is_the_table_with_labels_not_the_one_of_boxes(workshop):
    rows = [("images/1.png", 1, 1, 1, 1)]
    write_table(workshop / "boxes.csv", ["image", "x", "y", "w", "h"], rows)
    write_table(workshop / "annotations.csv", ["image", "reader"], [(f"images/{n}.png", "A") for n in range(36)])
    look = look_at_data(workshop)
    assert look.manifest == workshop / "cases.csv"
    assert look.boxes == workshop / "boxes.csv"
    assert look.manifest_note is not None
    assert "also usable: annotations.csv" in look.manifest_note.text


def test_archives_that_cannot_be_used(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(
        DataError, match="expected arrays named <split>_images and <split>_labels, the archive holds: x"
    ):
        look_at_data(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"b\.npz: not a readable NPZ archive"):
        look_at_data(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"the archives a\.npz, b\.npz"):
        look_at_data(tmp_path)


def test_only_the_first_images_of_an_archive_are_read(tmp_path):
    images = np.arange(20 * 4 * 4, dtype=np.uint16).reshape(20, 4, 4)
    np.savez(tmp_path / "a.npz", test_images=images, names=np.array([{}], dtype=object))
    headers = array_headers(tmp_path / "a.npz")
    assert headers["test_images"].shape == (20, 4, 4)
    np.testing.assert_array_equal(headers["test_images"].first, images[:8])
    assert headers["names"].first.size == 0


def test_labels_of_several_columns_are_named_by_number(tmp_path):
    np.savez(tmp_path / "a.npz", images=0, test_images=np.zeros((4, 8, 8), np.uint8), test_labels=np.eye(4, 3))
    assert look_at_data(tmp_path / "a.npz").labels == {"finding_0": "0", "finding_1": "1", "finding_2": "2"}


@pytest.mark.parametrize(
    ("array", "bits"),
    [
        (np.full((8, 8), 255, np.uint8), 8),
        (np.full((8, 8), 1000, np.uint16), 10),
        (np.full((8, 8), 4095, np.uint16), 12),
        (np.full((8, 8), 40000, np.uint16), 16),
        (np.full((8, 8), 200, np.uint16), 16),
    ],
)
def test_stored_bits(write_image, array, bits):
    images = look_at_images([write_image(array)])
    assert images.bits[0] == bits
    assert images.bits[1].kind == ("seen" if bits in (8, 16) else "guessed, check")


def test_unreadable_images_are_reported_and_sizes_of_the_others_seen(write_image, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = look_at_images([write_image(np.zeros((8, 9), np.uint8)), tmp_path / "broken.png"])
    assert images.shapes == [(8, 9)]
    assert images.square is None
    assert len(images.failures) == 1
    assert "broken.png" in images.failures[0]


def test_floats_outside_the_usual_range_leave_it_to_the_user(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    for number in range(36):
        (workshop / "images" / f"{number}.png").unlink()
        Image.fromarray(np.full((20, 20), 300.0, np.float32)).save(workshop / "images" / f"{number}.tif")
    text = (workshop / "cases.csv").read_text()
    for number in range(36):
        text = text.replace(f"images/{number}.png", f"images/{number}.tif")
    (workshop / "cases.csv").write_text(text)
    said = write_plan(workshop, workshop / "a.toml", model="model.py:build")
    assert any("values from 300 to 300 were seen" in line for line in said)
    with pytest.raises(PlanError, match=r"model\.input\.range"):
        read_plan(workshop / "a.toml")
