"""Leaks of the data as they are shown, and when they forbid a pass of the clean performance."""

import numpy as np

from robustbench_rad.checks import data_leaks
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Quantity, ScoreTable

ID = "clean.data-leaks"
N = 200
IMAGES = np.random.default_rng(0).random((N, 32, 32))


def outcome(images=IMAGES, *, patients=None, trained=None, image_trained=None, options=None, labels=None):
    n = N if images is None else len(images)
    quantities = {}
    for name, values in (("patient_in_training", trained), ("image_in_training", image_trained)):
        if values is not None:
            quantities[Quantity(condition=ID, name=name)] = np.asarray(values, np.float32)
    vectors = {} if images is None else {(ID, "thumbnail"): images.reshape(n, -1).astype(np.float32)}
    labels = np.tile([1.0, 0.0], n // 2) if labels is None else labels
    return data_leaks.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(f"name-{row}" for row in range(n)), columns={}, quantities=quantities, vectors=vectors
            ),
            findings=("f",),
            labels=labels[:, None],
            patients=np.arange(n) if patients is None else patients,
        ),
        check_spec(ID, options or {}),
    )


def row(found, quantity):
    return next(row for row in found.tables[0].rows if row[1] == quantity)


def copied(count):
    images = IMAGES.copy()
    images[:count] = 0.1 + 0.8 * images[100 : 100 + count]
    return images


def test_distinct_patients_leak_nothing():
    found = outcome(trained=np.zeros(N))
    assert row(found, data_leaks.NEAR)[2:5] == [N, 0, 0.0]
    assert row(found, "cases whose patient is in training")[2:4] == [N, 0]
    assert not found.doubts
    assert {item.criterion.verdict for item in found.judged} == {Verdict.INFORMATIONAL}


def test_copies_under_another_patient_are_counted_and_doubt_the_clean_performance():
    found = outcome(copied(5))
    assert row(found, data_leaks.NEAR)[3] == 10
    assert "10 of 200" in found.doubts[Domain.CLEAN, "f"]
    assert {tuple(sorted(line[:2])) for line in found.tables[1].rows} == {(n, n + 100) for n in range(1, 6)}
    assert "name-" not in str([table.rows for table in found.tables])


def test_copies_of_one_patient_are_no_leak():
    patients = np.arange(N)
    patients[:5] = patients[100:105]
    assert not outcome(copied(5), patients=np.unique(patients, return_inverse=True)[1]).doubts


def test_a_share_below_the_stated_one_is_shown_without_doubt():
    found = outcome(copied(5), options={"doubt_share": 0.2})
    assert row(found, data_leaks.NEAR)[3] == 10
    assert not found.doubts


def test_patients_and_images_of_training_cast_doubt():
    trained = (np.arange(N) < 6).astype(float)
    found = outcome(trained=trained, image_trained=np.zeros(N))
    assert "6 of 200 cases whose patient is in training" in found.doubts[Domain.CLEAN, "f"]
    assert "image" not in found.doubts[Domain.CLEAN, "f"]


def test_what_was_not_given_says_what_is_needed():
    found = outcome(images=None)
    notes = {line[1]: line[-1] for line in found.tables[0].rows}
    assert all(note.startswith("not assessable") for note in notes.values())
    assert "training_manifest" in notes["cases whose patient is in training"]
    assert "training_image" in row(outcome(trained=np.zeros(N)), "cases whose image is in training")[-1]
    assert not found.doubts


def test_too_few_images_are_not_assessable():
    found = outcome(IMAGES[:20])
    assert "30 are needed" in row(found, data_leaks.NEAR)[-1]


def test_only_cases_of_the_finding_count():
    labels = np.where(np.arange(N) < 100, np.nan, np.tile([1.0, 0.0], N // 2))
    found = outcome(copied(5), labels=labels)
    assert row(found, data_leaks.NEAR)[2:4] == [100, 5]
