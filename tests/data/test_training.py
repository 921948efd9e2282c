"""The training manifest: what it shares with the test set, and what is said of one that cannot be read."""

import numpy as np
import pytest

from robustbench_rad.cases import read_cases
from robustbench_rad.data.training import training_overlap
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.shortcuts.data_leaks import DataLeaks

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)
TEST = "image,who,effusion\na.png,p1,1\nb.png,p2,0\nc.png,p3,0\n"


@pytest.fixture
def plan(tmp_path, write_image, plan_for):
    """Three test images of three patients, and the training manifest that is given."""

    def write(training=None, **options):
        for number, name in enumerate(("a.png", "b.png", "c.png")):
            write_image(PIXELS + np.uint8(number), name)
        (tmp_path / "test.csv").write_text(TEST)
        if training is not None:
            (tmp_path / "train.csv").write_text(training)
        return plan_for({"patient": "who", "training_manifest": "train.csv", **options})

    return write


def test_patients_on_both_sides_are_found(plan):
    found = training_overlap(plan("who\np2\np9\n"))
    assert found.patients == {"b.png"}
    assert found.images is None


def test_the_column_of_patients_may_have_another_name(plan):
    assert training_overlap(plan("subject\np1\np3\n", training_patient="subject")).patients == {"a.png", "c.png"}


def test_the_same_image_is_found_whatever_its_name(plan, tmp_path, write_image):
    (tmp_path / "train").mkdir()
    write_image(PIXELS + np.uint8(2), "train/other.png")
    write_image(PIXELS + np.uint8(9), "train/new.png")
    found = training_overlap(plan("who,file\nx,train/other.png\ny,train/new.png\n", training_image="file"))
    assert found.images == {"c.png"}
    assert not found.patients


@pytest.mark.parametrize(
    ("training", "options", "said"),
    [
        (None, {}, r"train\.csv"),
        ("subject\np1\n", {}, "'who'"),
        ("who\np1\n\n ,\n", {}, "train"),
        ("who,file\np1,gone.png\n", {"training_image": "file"}, r"gone|not there"),
        ("who\np1\n", {"training_image": "file"}, "'file'"),
    ],
)
def test_what_cannot_be_read_is_named(plan, training, options, said):
    with pytest.raises(DataError, match=said):
        training_overlap(plan(training, **options))


def test_columns_without_a_manifest_and_a_manifest_without_patients_are_refused(plan_for):
    with pytest.raises(PlanError, match="training_image is a column of training_manifest"):
        plan_for({"training_image": "file"})
    with pytest.raises(PlanError, match="training_patient = 'patient_id'"):
        plan_for({"training_manifest": "train.csv"})


def test_the_condition_notes_who_is_in_training_and_holds_no_name_in_its_text(plan):
    bound = DataLeaks().bound(plan("who\np2\n"))
    assert bound.training.patients == {"b.png"}
    assert "b.png" not in repr(bound)
    assert len(bound.reads_sha256) == 64
    assert read_cases(plan("who\np2\n")).patients == ("p1", "p2", "p3")


def test_a_manifest_that_is_not_there_is_named_by_its_key(plan):
    with pytest.raises(DataError, match=r"data\.training_manifest: train\.csv: no such file"):
        training_overlap(plan())
