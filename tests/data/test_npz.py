import math
import pickle

import numpy as np
import pytest

from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.errors import DataError, ImageError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
LABELS = np.array([[1], [0], [1], [0], [1]], np.uint8)


@pytest.fixture
def npz(tmp_path, plan_for):
    def write(data=None, findings=("effusion",), size=(8, 8), **arrays):
        path = tmp_path / f"set{len(list(tmp_path.iterdir()))}.npz"  # a new name: a process loads a file once
        np.savez_compressed(path, **{"test_images": IMAGES, "test_labels": LABELS, **arrays})
        return plan_for({"source": "npz", "manifest": path.name, **(data or {})}, findings=findings, size=size)

    return write


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1)])
def test_medmnist_layout(npz, shape):
    table = require_readable(read_cases(npz(test_images=IMAGES.reshape(shape))), "fail")
    assert table.case_ids == tuple(f"test-{i}" for i in range(5))
    assert table.labels[:, 0].tolist() == [1, 0, 1, 0, 1]
    case = table.load(3)
    np.testing.assert_array_equal(np.rint(case.image[0].numpy() * 255), IMAGES[3])
    assert (case.stored_bits, case.record.reference.split("#")[1]) == (8, "3")


def test_flat_labels_and_patients(npz):
    table = read_cases(npz(test_labels=LABELS[:, 0], test_patients=np.array([7, 7, 8, 8, 9])))
    assert table.patient_codes.tolist() == [0, 0, 1, 1, 2]


def test_several_findings_and_named_columns(npz):
    labels = np.array([[1, 0, -1], [0, 1, 1]] * 2 + [[np.nan, 1, 0]], np.float32)
    table = read_cases(npz(test_labels=labels, findings=("a", "b", "c")))
    assert table.labels[0, :2].tolist() == [1, 0]
    assert math.isnan(table.labels[0, 2])
    one = read_cases(npz({"findings": {"b": "1"}}, findings=("b",), test_labels=labels))
    assert one.labels[:, 0].tolist() == [0, 1, 0, 1, 1]


def test_sixteen_bit_and_float_and_hounsfield(npz):
    assert read_cases(npz(test_images=IMAGES.astype(np.uint16) * 257)).load(0).stored_bits == 16
    assert read_cases(npz(test_images=IMAGES / 255)).load(0).image.max() <= 1
    hu = IMAGES.astype(np.int16) - 1000
    assert read_cases(npz({"modality": "CT"}, test_images=hu)).load(0).image.min() < -900


def test_volumes(npz):
    volumes = np.stack([IMAGES] * 5)
    case = read_cases(npz(size=(5, 8, 8), test_images=volumes)).load(0)
    assert case.image.shape == (1, 5, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"split": "tset"}}, "array 'tset_labels' is missing; the archive holds: test_images, test_labels"),
        ({"test_labels": LABELS * 3}, r"class codes up to 3\n.*one column of 1 and 0 per finding: effusion"),
        ({"test_labels": np.hstack([LABELS] * 2)}, r"expected one column per finding \(1\), got 2"),
        ({"test_labels": LABELS[:3]}, "as many images as labels and at least one, got 5 and 3"),
        ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "at least one, got 0 and 0"),
        ({"test_labels": LABELS[None]}, "expected shape"),
        ({"test_labels": np.array(["a"] * 5)}, r"test_labels\[0, 0\]: expected 1, 0, -1 or NaN, got"),
        ({"test_labels": np.array([{}] * 5, object)}, "not a readable NPZ archive"),
        ({"test_images": np.stack([IMAGES] * 3, axis=3)}, r"expected shape \(N, H, W\).*\n.*Colour is not supported"),
        ({"test_patients": np.arange(3)}, "test_patients: expected 5 entries, got 3"),
        ({"data": {"findings": {"effusion": "9"}}}, "expected a column number below 1, got '9'"),
        ({"data": {"metadata": {"sex": "nuisance"}}}, "has no metadata columns; data.metadata names sex"),
        ({"data": {"spacing_mm": "mm"}}, "expected a number, got 'mm'"),
    ],
)
def test_bad_archives(npz, change, message):
    with pytest.raises(DataError, match=message):
        read_cases(npz(**change))


def test_missing_and_truncated_archive(npz, plan_for, tmp_path):
    with pytest.raises(DataError, match="no such file; expected an NPZ archive"):
        read_cases(plan_for({"source": "npz", "manifest": "no.npz"}))
    plan = npz()
    path = tmp_path / plan.data.manifest
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="not a readable NPZ archive"):
        read_cases(plan)


def test_image_outside_its_range(npz):
    table = read_cases(npz(test_images=IMAGES.astype(np.float32)))
    with pytest.raises(ImageError, match=r"set\d.npz#0: outside its declared range: expected \[0, 1\]"):
        table.load(0)


def test_a_table_travels_to_a_worker(npz):
    table = read_cases(npz())
    travelled = pickle.loads(pickle.dumps(table))
    assert len(pickle.dumps(table)) < 5000
    assert (travelled.load(2).image == table.load(2).image).all()


def test_real_pack(packs, plan_for):
    table = read_cases(plan_for({"source": "npz", "manifest": "pneumoniamnist.npz"}, base=packs, size=(28, 28)))
    assert len(table) == 624
    assert int(table.labels.sum()) == 390
    assert table.load(0).image.shape == (1, 28, 28)
