import math
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, MissingExtraError


def truncate(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def test_table(small_set):
    table = read_cases(small_set)
    assert len(table) == 6
    assert table.patient_codes.tolist() == [0, 1, 2, 3, 0, 1]
    assert table.patient_codes.dtype == np.int64
    assert table.labels.dtype == np.float32
    assert [math.isnan(v) for v in table.labels[:, 0]] == [False, False, True] * 2
    assert table.metadata("view") == ["AP", "PA"] * 3
    with pytest.raises(DataError, match=r"'vew' is not declared(.|\n)*Did you mean 'view'"):
        table.metadata("vew")


def test_load(small_set):
    case = read_cases(small_set).load(1)
    assert case.image.shape == (1, 8, 8)
    assert case.image.dtype == torch.float32
    assert (case.unit, case.stored_bits, case.spacing_mm, case.burned_in) == (Unit.SIGNAL, 8, None, False)
    assert int(case.anatomy.sum()) == 16


def test_hull_is_the_anatomy_when_the_plan_says_so(tmp_path, write_image, plan_for):
    plane = np.zeros((16, 16), np.uint8)
    plane[4:12, 4:12] = 200
    write_image(plane, "a.png")
    (tmp_path / "test.csv").write_text("image,effusion\na.png,1\n")
    table = read_cases(plan_for({"anatomy": {"provider": "hull"}}))
    assert int(table.load(0).anatomy.sum()) == 64


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_case_whose_anatomy_mask_is_of_another_size_goes_on_without_a_mask(small_set, write_image, policy, workers):
    whole = read_cases(small_set).digest
    write_image(np.ones((8, 9), np.uint8), "mask.png")
    table = require_readable(read_cases(small_set), policy, workers=workers)
    assert len(table) == 6
    assert table.excluded == {}
    case = table.load(1)
    assert case.anatomy is None
    assert str(case.misfit) == "expected a mask of the size of its image, 8 × 8, got 8 × 9"
    assert table.misfits == dict.fromkeys(sorted(table.case_ids), case.misfit)
    assert table.digest != whole


def test_misfits_are_those_of_the_cases_that_are_left_and_the_same_without_verify(small_set, write_image, tmp_path):
    write_image(np.ones((8, 9), np.uint8), "wide.png")
    _edit(tmp_path, "PA,mask.png", "PA,wide.png")
    table = read_cases(small_set)
    seen = require_readable(table, "fail")
    assert list(seen.misfits) == ["case1.png", "case3.png", "case5.png"]
    assert read_cases(small_set).misfits == seen.misfits
    assert list(seen.without(["case3.png"], "odd").misfits) == ["case1.png", "case5.png"]
    assert seen.load(0).misfit is None
    assert int(seen.load(0).anatomy.sum()) == 16


def test_a_damaged_mask_is_still_an_unreadable_file(small_set, tmp_path):
    truncate(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"6 of 6 cases cannot be read(.|\n)*mask\.png: cannot be decoded"):
        require_readable(read_cases(small_set), "fail")


@pytest.mark.parametrize("workers", [0, 2])
def test_all_unreadable_files_are_listed(small_set, tmp_path, workers):
    for index in (1, 4):
        truncate(tmp_path / f"case{index}.png")
    seen = []
    table = read_cases(small_set)
    with pytest.raises(DataError) as raised:
        require_readable(table, "fail", workers=workers, progress=lambda done, total: seen.append((done, total)))
    message = str(raised.value)
    assert message.startswith("2 of 6 cases cannot be read:")
    assert "case1.png: cannot be decoded" in message
    assert "case4.png: cannot be decoded" in message
    assert seen == [(n, 6) for n in range(1, 7)]


def test_skipped_files_are_counted(small_set, tmp_path):
    truncate(tmp_path / "case1.png")
    table = require_readable(read_cases(small_set), "skip")
    assert "case1.png" not in table.case_ids
    assert len(table) == 5
    assert table.excluded == {"unreadable file": 1}


def test_nothing_left_is_an_error_under_skip_too(small_set, tmp_path):
    for index in range(6):
        truncate(tmp_path / f"case{index}.png", 0)
    with pytest.raises(DataError, match="6 of 6 cases cannot be read"):
        require_readable(read_cases(small_set), "skip")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_extra_is_said_once(tmp_path, plan_for, monkeypatch, workers):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    (tmp_path / "a.nii").write_bytes(b"x")
    (tmp_path / "test.csv").write_text("image,effusion\na.nii,1\n")
    with pytest.raises(MissingExtraError, match="pip install"):
        read_cases(plan_for()).verify(workers=workers)


def test_a_file_that_goes_away_is_an_image_error(small_set, tmp_path):
    table = read_cases(small_set)
    (tmp_path / "case0.png").unlink()
    with pytest.raises(ImageError, match=r"case0\.png: cannot be decoded: .*No such file"):
        table.load(0)


def test_digest_does_not_depend_on_the_folder_or_on_verify(small_set, tmp_path, plan_for):
    table = read_cases(small_set)
    table.verify()
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
    moved = small_set.model_copy(update={"base": copy})
    assert read_cases(moved).digest == table.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "case3.png").write_bytes((folder / "case2.png").read_bytes()),
        lambda folder: (folder / "mask.png").write_bytes((folder / "case2.png").read_bytes()),
        lambda folder: _edit(folder, "p1,0", "p1,1"),
        lambda folder: _edit(folder, "p1,0", "p9,0"),
        lambda folder: _edit(folder, ",PA,", ",LL,"),
    ],
)
def test_digest_sees_every_change(small_set, tmp_path, change):
    before = read_cases(small_set).digest
    change(tmp_path)
    assert read_cases(small_set).digest != before


def _edit(folder, old, new):
    path = folder / "test.csv"
    path.write_text(path.read_text().replace(old, new))


def test_subset_is_deterministic_and_keeps_the_order(small_set):
    table = read_cases(small_set)
    chosen = table.subset(3, seed=1)
    assert chosen.case_ids == table.subset(3, seed=1).case_ids
    assert list(chosen.case_ids) == sorted(chosen.case_ids)
    assert chosen.excluded == {"beyond max_cases": 3}
    assert len({table.subset(3, seed=s).case_ids for s in range(8)}) > 1
    assert set(table.subset(2, seed=1).case_ids) < set(chosen.case_ids)
    assert table.subset(6, seed=1) is table


def test_max_cases_of_the_plan(small_set):
    limited = small_set.model_copy(update={"data": small_set.data.model_copy(update={"max_cases": 2})})
    assert read_cases(limited).case_ids == read_cases(small_set).subset(2, small_set.seed).case_ids


def test_without_adds_up(small_set):
    table = read_cases(small_set).without(["case0.png"], "odd").without(["case1.png", "case2.png"], "odd")
    assert table.excluded == {"odd": 3}
    assert len(table) == 3
    assert table.without([], "none").excluded == {"odd": 3}


def test_one_class_findings(small_set):
    table = read_cases(small_set)
    assert table.one_class_findings() == ()
    positives = [r.case_id for r in table.records if r.labels[0] == 1]
    assert table.without(positives, "x").one_class_findings() == ("effusion",)
    empty = table.without(table.case_ids, "x")
    assert empty.one_class_findings() == ("effusion",)
    assert empty.labels.shape == (0, 1)


def test_the_table_is_cheap_to_send_to_a_worker(small_set):
    table = read_cases(small_set)
    table.load(0)
    data = pickle.dumps(table)
    assert len(data) < 6000
    assert torch.equal(pickle.loads(data).load(2).image, table.load(2).image)


def test_import_is_light():
    import subprocess

    code = "import sys, robustbench_rad.cases; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_guangzhou(packs, plan_for):
    data = {
        "manifest": "guangzhou/manifest.csv",
        "patient": "patient_id",
        "findings": {"pneumonia": "label_Pneumonia"},
        "anatomy": {"column": "mask"},
    }
    table = require_readable(read_cases(plan_for(data, findings=("pneumonia",), base=packs)), "fail")
    assert (len(table), len(set(table.patients)), int(table.labels.sum())) == (120, 90, 60)
    case = table.load(0)
    assert case.anatomy.shape == case.image.shape


def test_nih(packs, plan_for):
    findings = ("Pneumonia", "Effusion", "No_Finding")
    data = {
        "manifest": "nih/manifest.csv",
        "patient": "patient_id",
        "findings": {name: f"label_{name}" for name in findings},
        "metadata": {"view": "nuisance", "device": "nuisance", "sex": "demographic"},
        "spacing_mm": "pixel_spacing_mm",
    }
    table = read_cases(plan_for(data, findings=findings, base=packs))
    assert (len(table), len(set(table.patients))) == (621, 621)
    assert table.metadata("view").count("AP") == 103
    assert len(set(table.metadata("device"))) == 5
    assert table.one_class_findings() == ()
    assert table.load(5).spacing_mm is not None
