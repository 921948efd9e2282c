"""Lesions: mask files, boxes, arrays; loaded with their case, part of the data's identity, refused by name when wrong."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.masks import Box, box_mask
from robustbench_rad.plan import make_plan

HEIGHT, WIDTH = 10, 12


@pytest.fixture
def films(tmp_path, write_image, plan_for):
    """Three films 12 wide and 10 high; makes the plan with these lesions, and writes the table of boxes."""
    (tmp_path / "images").mkdir()
    for index in range(3):
        write_image(np.full((HEIGHT, WIDTH), 40 * index, np.uint8), f"images/{index}.png")
    small, empty = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    small[2:4, 5:9] = 255
    write_image(small, "masks/0.png")
    write_image(empty, "masks/1.png")
    rows = "id,file,effusion,m\na,images/0.png,1,masks/0.png\nb,images/1.png,0,masks/1.png\nc,images/2.png,1,\n"
    (tmp_path / "test.csv").write_text(rows)

    def make(lesion, boxes=None, **options):
        if boxes is not None:
            (tmp_path / "boxes.csv").write_text(boxes)
        return plan_for({"case": "id", "image": "file", "lesion": lesion}, **options)

    return make


def test_masks_by_column(films):
    table = require_readable(read_cases(films({"column": "m"})), "fail")
    first, second, third = (table.load(row).lesion for row in range(3))
    assert first.shape == (1, HEIGHT, WIDTH)
    assert first.dtype == torch.bool
    assert first.nonzero().tolist() == [[0, y, x] for y in (2, 3) for x in (5, 6, 7, 8)]
    assert not second.any()
    assert third is None
    assert table.load(0).anatomy is None


def test_a_missing_mask_file_is_named(films, tmp_path):
    (tmp_path / "masks/1.png").unlink()
    with pytest.raises(
        DataError, match=r"column 'm': 1 of 3 files are missing below .*masks/1\.png' \(line 3\)"
    ) as raised:
        read_cases(films({"column": "m"}))
    assert "data.root" in raised.value.hint


def test_a_mask_of_another_size_makes_its_case_unreadable(films, write_image):
    write_image(np.ones((HEIGHT, WIDTH + 3), np.uint8), "masks/0.png")
    (unreadable,) = read_cases(films({"column": "m"})).verify()
    assert unreadable.record.case_id == "a"
    assert "masks/0.png: expected a mask of the size of its image, 10 × 12, got 10 × 15" in unreadable.reason


BOXES = "id,x,y,width,height\na,1,2,3,4\nc,0,0,1,1\na,8.5,0,1,1.2\nb,,,,\n"


def test_boxes(films):
    """Several boxes of a case are joined; an empty row says that there is no lesion."""
    table = require_readable(read_cases(films({"boxes": "boxes.csv"}, BOXES)), "fail")
    expected = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    expected[0, 2:6, 1:4] = True
    expected[0, 0:2, 8:10] = True  # touched pixels are inside
    assert torch.equal(table.load(0).lesion, expected)
    assert not table.load(1).lesion.any()
    assert table.load(2).lesion.nonzero().tolist() == [[0, 0, 0]]
    assert pickle.loads(pickle.dumps(table)).records == table.records


def test_a_case_without_a_box_has_not_been_looked_at(films):
    table = read_cases(films({"boxes": "boxes.csv"}, "id,x,y,w,h\na,1,2,3,4\n"))
    assert [table.load(row).lesion is None for row in range(3)] == [False, True, True]


@pytest.mark.parametrize("column", ["id", "file", "case", "image"])
def test_boxes_name_their_case_by_id_or_by_image(films, column):
    name = "images/2.png" if column in ("file", "image") else "c"
    table = read_cases(films({"boxes": "boxes.csv"}, f"{column};x;y;w;h\n{name};1;2;3;4\n"))
    assert [record.boxes for record in table.records] == [None, None, (Box(x=1, y=2, width=3, height=4),)]


def test_boxes_of_findings_not_under_audit_are_left_out(films):
    boxes = "id,finding,x,y,w,h\na,Effusion,1,2,3,4\na,cardiomegaly,0,0,9,9\nb,,2,2,2,2\nc,nodule,1,1,1,1\n"
    table = read_cases(films({"boxes": "boxes.csv"}, boxes))
    assert [record.boxes and len(record.boxes) for record in table.records] == [1, 1, None]
    several = "id,finding,x,y,w,h\na,pleural thickening,1,2,3,4\n"
    plan = films({"boxes": "boxes.csv"}, several, findings=("Pleural_Thickening",))
    plan = plan.model_copy(
        update={"data": plan.data.model_copy(update={"findings": {"Pleural_Thickening": "effusion"}})}
    )
    assert read_cases(plan).records[0].boxes == (Box(x=1, y=2, width=3, height=4),)


@pytest.mark.parametrize(
    ("boxes", "message", "hint"),
    [
        ("id,x,y,w,h\nz,1,1,1,1\na,1,1,1,1\n", r"column 'id': 1 of 2 boxes belong to no case.*'z' \(line 2\)", "leave boxes"),
        ("scan,x,y,w,h\na,1,1,1,1\n", "a column that says which case .* the columns are: scan, x, y, w, h", "Name it 'id'"),
        ("id,x,y,w\na,1,1,1\n", r"column 'height' \(side of the box in pixels\) is missing", ""),
        ("id,x,y,w,h\n,1,1,1,1\n", r"column 'id' \(case of the box\) is empty in line 2", ""),
        ("id,x,y,w,h\na,1,1,one,1\n", "line 2: expected x, y, width and height in pixels.*got 1, 1, one, 1", "no lesion"),
        ("id,x,y,w,h\na,1,,1,1\n", "line 2: expected x, y, width and height", "Leave all four empty"),
        ("id,x,y,w,h\na,1,1,0,1\n", "width and height above 0, got 1, 1, 0, 1", ""),
        ("id,x,y,w,h\na,nan,1,2,1\n", "line 2: expected x, y", ""),
        ("id,x,y,w,h\na,1,1,inf,1\n", "line 2: expected x, y", ""),
        ("id,finding,x,y,w,h\na,nodule,1,1,1,1\n", "'finding': expected boxes of effusion, got nodule", "model.findings"),
        ("id,finding,x,y,w,h\na,effusion,1,1,1,1\na,efusion,1,1,1,1\n", "expected boxes of effusion, got efusion", ""),
        ("id,x,y,w,h\n", "it has a header but no cases", ""),
    ],
)  # fmt: skip
def test_bad_boxes(films, boxes, message, hint):
    with pytest.raises(DataError, match=message) as raised:
        read_cases(films({"boxes": "boxes.csv"}, boxes))
    assert hint in (raised.value.hint or "")


def test_a_missing_table_of_boxes(films):
    with pytest.raises(DataError, match=r"boxes\.csv: no such file"):
        read_cases(films({"boxes": "boxes.csv"}))


@pytest.mark.parametrize("box", ["-1,0,3,3", "0,-2,3,3", "10,0,3,3", "0,5,2,6"])
def test_a_box_outside_its_image_makes_its_case_unreadable(films, box):
    (unreadable,) = read_cases(films({"boxes": "boxes.csv"}, f"id,x,y,w,h\nb,{box}\n")).verify()
    assert unreadable.record.case_id == "b"
    assert "expected boxes inside the image, 12 wide and 10 high, got one at x = " in unreadable.reason


def test_half_a_pixel_of_rounding_is_forgiven():
    mask = box_mask([Box(x=-0.4, y=-0.5, width=2, height=HEIGHT + 0.9)], (HEIGHT, WIDTH))
    assert torch.equal(mask[0], (torch.arange(WIDTH) < 2).expand(HEIGHT, WIDTH))


def test_boxes_are_for_planes(films):
    with pytest.raises(DataError, match="the model takes volumes") as raised:
        read_cases(films({"boxes": "boxes.csv"}, BOXES, size=(4, 8, 8)))
    assert "lesion_mask" in raised.value.hint


@pytest.mark.parametrize(
    ("lesion", "message"),
    [({"column": "m", "boxes": "b.csv"}, "not both"), ({}, r"declare column \(masks\), boxes or diameter_mm")],
)
def test_what_a_plan_may_say(plan_for, lesion, message):
    with pytest.raises(PlanError, match=message):
        plan_for({"lesion": lesion})
    assert plan_for({"lesion": {"boxes": "b.csv", "diameter_mm": 5}}).data.lesion.diameter_mm == 5


def test_a_diameter_alone_gives_no_masks(films):
    assert read_cases(films({"diameter_mm": 5.0})).load(0).lesion is None


def test_lesions_are_part_of_the_identity_of_the_data(films, tmp_path, write_image):
    none = read_cases(films({"diameter_mm": 5.0})).digest
    masks = read_cases(films({"column": "m"})).digest
    boxes = read_cases(films({"boxes": "boxes.csv"}, BOXES)).digest
    assert len({none, masks, boxes}) == 3
    turned = "\n".join([BOXES.splitlines()[0], *reversed(BOXES.splitlines()[1:])])
    assert read_cases(films({"boxes": "boxes.csv"}, turned)).digest == boxes
    assert read_cases(films({"boxes": "boxes.csv"}, BOXES.replace("a,1,2", "a,1,3"))).digest != boxes
    assert read_cases(films({"boxes": "boxes.csv"}, BOXES.replace("b,,,,\n", ""))).digest != boxes  # not looked at
    write_image(np.full((HEIGHT, WIDTH), 255, np.uint8), "masks/1.png")
    assert read_cases(films({"column": "m"})).digest != masks


def test_masks_of_a_dicom_folder(tmp_path, write_dicom, write_image, plan_for):
    plane = np.zeros((8, 8), np.uint16)
    write_dicom(plane, "scans/a.dcm", SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2")
    write_image(np.eye(8, dtype=np.uint8), "scans/lesion.png")
    (tmp_path / "labels.csv").write_text("SOPInstanceUID,effusion,m\n1.2.3,1,lesion.png\n")
    data = {"source": "dicom", "root": "scans", "manifest": "labels.csv"}
    by_mask = read_cases(plan_for({**data, "lesion": {"column": "m"}}))
    assert torch.equal(by_mask.load(0).lesion[0], torch.eye(8, dtype=torch.bool))
    (tmp_path / "boxes.csv").write_text("SOPInstanceUID,x,y,width,height\n1.2.3,2,3,1,2\n")
    by_box = read_cases(plan_for({**data, "lesion": {"boxes": "boxes.csv"}}))
    assert by_box.load(0).lesion.nonzero().tolist() == [[0, 3, 2], [0, 4, 2]]


def test_arrays_of_an_npz(tmp_path, plan_for):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    lesions = images > 200

    def plan(name, arrays, column="lesions"):
        np.savez(tmp_path / name, test_images=images, test_labels=np.array([1, 0, 1]), **arrays)
        return plan_for({"source": "npz", "manifest": name, **({"lesion": {"column": column}} if column else {})})

    table = require_readable(read_cases(plan("a.npz", {"test_lesions": lesions.astype(np.uint8)})), "fail")
    assert torch.equal(table.load(1).lesion[0], torch.from_numpy(lesions[1]))
    plain = read_cases(plan("b.npz", {}, column=None))
    assert plain.load(1).lesion is None
    assert plain.digest != table.digest
    with pytest.raises(
        DataError, match=r"test_lesions: expected masks of the shape of the images, \(3, 8, 8\), got \(2, 8"
    ):
        read_cases(plan("c.npz", {"test_lesions": lesions[:2]}))
    with pytest.raises(DataError, match="array 'test_spots' is missing"):
        read_cases(plan("d.npz", {"test_lesions": lesions}, column="spots"))


def test_items_of_a_data_set(tmp_path, plan_for):
    source = """
import torch
image = torch.arange(64.).reshape(1, 8, 8) / 63

def build(mask=image > 0.9):
    return [{"image": image, "labels": [1], "case": "a", "lesion": mask}, {"image": image, "labels": [0], "case": "b"}]

def wrong():
    return build(torch.ones(8, 9))
"""
    (tmp_path / "items.py").write_text(source)
    data = {"source": "factory", "factory": "items.py:build"}
    table = read_cases(plan_for(data))
    assert torch.equal(table.load(0).lesion, table.load(0).image > 0.9)
    assert table.load(1).lesion is None
    one, other = (table.fingerprint(record) for record in table.records)
    assert one != other
    with pytest.raises(
        DataError, match=r"item 0, lesion: expected a mask of the size of its image, \(8, 8\), got \(8, 9\)"
    ):
        read_cases(plan_for({**data, "factory": "items.py:wrong"}))
    with pytest.raises(DataError, match=r"data\.lesion\.column: a data set has no columns") as raised:
        read_cases(plan_for({**data, "lesion": {"column": "m"}}))
    assert "'lesion'" in raised.value.hint


def test_records_without_lesions_keep_their_fingerprint(films):
    """Runs made before lesions were declared stay comparable where none is."""
    import hashlib

    table = read_cases(films({"diameter_mm": 1.0}))
    record = table.records[0]
    image = table.reader.fingerprint(record)
    assert table.fingerprint(record) == hashlib.sha256(image.encode()).hexdigest()
    empty = replace(table, records=(replace(record, boxes=()),), _fingerprints={})
    assert empty.fingerprint(empty.records[0]) != table.fingerprint(record)


def test_boxes_of_the_real_pack(packs, plan_for):
    """Boxes of the NIH radiologists lie inside their films and cover a plausible share of them."""
    data = {"manifest": "manifest.csv", "lesion": {"boxes": "boxes.csv"}}
    names = {name: f"label_{name}" for name in ("Pneumonia", "Nodule", "Mass")}
    plan = make_plan(
        {
            "model": {
                "factory": "m:f", "head": "sigmoid", "findings": list(names), "input": {"size": [8, 8], "range": [0, 1]},
            },
            "data": {**data, "findings": names},
        },
        base=packs / "nih",
    )  # fmt: skip
    table = read_cases(plan)
    boxed = [row for row, record in enumerate(table.records) if record.boxes]
    assert len(boxed) > 5
    shares = [float(table.load(row).lesion.float().mean()) for row in boxed]
    assert 0.0005 < min(shares) < max(shares) < 0.5
    assert all(1.0 in table.records[row].labels for row in boxed)
