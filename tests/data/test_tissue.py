"""Maps of the brain's tissues: read by their own numbers, with their case, part of the data's identity, refused by name."""

import pickle

import numpy as np
import pytest
import torch

from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.data.tissue import load_tissue, tissue_codes
from robustbench_rad.errors import DataError, PlanError

SHAPE = (8, 8)
MAP = np.zeros(SHAPE, np.uint8)
MAP[1:3], MAP[3:5], MAP[5:7] = 8, 4, 2
NUMBERS = {"fluid": 8, "grey_matter": 4, "white_matter": 2}


@pytest.fixture
def heads(tmp_path, write_image, plan_for):
    """Three MR planes, of which two have a map; makes the plan."""
    for index in range(3):
        write_image(np.arange(64, dtype=np.uint8).reshape(SHAPE) + index, f"{index}.png")
    write_image(MAP, "map.png")
    np.save(tmp_path / "map.npy", MAP.astype(np.float32))
    rows = "id,file,effusion,seg\na,0.png,1,map.png\nb,1.png,0,map.npy\nc,2.png,1,\n"
    (tmp_path / "test.csv").write_text(rows)

    def make(tissue, **data):
        return plan_for({"case": "id", "image": "file", "modality": "MR", "tissue": tissue, **data})

    return make


def test_maps_by_column_and_their_own_numbers(heads):
    table = require_readable(read_cases(heads({"column": "seg", **NUMBERS})), "fail")
    first, second, third = (table.load(row).tissue for row in range(3))
    assert first.dtype == torch.uint8
    assert first.shape == (1, *SHAPE)
    assert first[0, :, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 0]
    assert torch.equal(first, second)
    assert third is None
    assert pickle.loads(pickle.dumps(table)).load(0).tissue is not None


def test_maps_and_their_numbers_are_part_of_the_identity_of_the_data(heads):
    plain = read_cases(heads(None))
    one = read_cases(heads({"column": "seg", **NUMBERS}))
    other = read_cases(heads({"column": "seg", "fluid": 4, "grey_matter": 8, "white_matter": 2}))
    assert len({table.digest for table in (plain, one, other)}) == 3
    assert plain.fingerprint(plain.records[2]) == one.fingerprint(one.records[2])


def test_a_map_without_the_declared_numbers_makes_its_case_unreadable(heads):
    with pytest.raises(
        DataError, match=r"expected a map of tissues with 1 \(fluid\), 3 .*5 \(white matter\), got none"
    ):
        require_readable(read_cases(heads({"column": "seg", "fluid": 1, "grey_matter": 3, "white_matter": 5})), "fail")


def test_a_volume_of_nifti_comes_in_the_order_of_its_image(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    stored = np.zeros((4, 5, 6), np.int16)
    stored[:, :, 5], stored[3], stored[:, 0, 0] = 1, 2, 3
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "seg.nii.gz")
    codes = load_tissue(tmp_path / "seg.nii.gz", (6, 5, 4), (1, 2, 3))
    assert codes.shape == (6, 5, 4)
    np.testing.assert_array_equal(codes, stored.transpose(2, 1, 0)[:, ::-1, ::-1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((8, 7)), r"of the size of its image, \(8, 8\), got \(8, 7\)"),
        (np.full(SHAPE, 0.5), "expected whole numbers, one for each tissue"),
        (np.full(SHAPE, np.nan), "expected whole numbers"),
        (np.full(SHAPE, "white"), "expected whole numbers"),
        (np.full(SHAPE, 9), "got none of them"),
    ],
)
def test_what_is_no_map_is_refused_by_name(values, message):
    with pytest.raises(DataError, match=f"seg: .*{message}"):
        tissue_codes(values, SHAPE, (1, 2, 3), "seg")


def test_damaged_missing_and_coloured_files_are_named(tmp_path, write_image):
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    write_image(np.zeros((*SHAPE, 3), np.uint8), "colour.png")
    np.savez(tmp_path / "two.npz", a=MAP, b=MAP)
    for name, message in (
        ("none.npy", "no such map of tissues"),
        ("broken.npy", "cannot be decoded"),
        ("colour.png", "of one channel, got RGB"),
        ("two.npz", "expected one array, got a, b"),
    ):
        with pytest.raises(DataError, match=message):
            load_tissue(tmp_path / name, SHAPE, (1, 2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"modality": "CT", "tissue": {"column": "seg"}}, "tissues belong to MR, and modality is CT"),
        ({"modality": "MR", "tissue": {"column": "seg", "fluid": 2}}, "expected three numbers"),
        ({"modality": "MR", "tissue": {}}, "name the column of the maps"),
        ({"modality": "MR", "source": "npz", "tissue": {"column": "seg"}}, "an NPZ archive has no files"),
    ],
)
def test_what_a_plan_may_say(plan_for, data, message):
    with pytest.raises(PlanError, match=message):
        plan_for(data)


def test_items_of_a_data_set(tmp_path, plan_for):
    (tmp_path / "items.py").write_text("""
import torch
image = torch.arange(64.).reshape(1, 8, 8) / 63

def build():
    return [{"image": image, "labels": [1], "case": "a", "tissue": (image * 3.99).int()},
            {"image": image, "labels": [0], "case": "b"}]
""")
    data = {"source": "factory", "factory": "items.py:build", "modality": "MR"}
    table = read_cases(plan_for({**data, "tissue": {"fluid": 3, "white_matter": 1}}))
    assert table.load(0).tissue.unique().tolist() == [0, 1, 2, 3]
    assert table.load(0).tissue[0, -1, -1] == 1
    assert table.load(1).tissue is None
    assert read_cases(plan_for(data)).digest != table.digest
