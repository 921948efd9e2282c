"""[[model.defences]] of a plan: what is understood, what is refused and how, and what belongs to a run's identity."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_rad.defences.sections import passes
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import digest, make_plan

EVERY = [
    {"kind": "test-time-augmentation", "flips": ["horizontal"], "rotations_degrees": [-5, 5]},
    {"kind": "quantisation", "bits": 4},
    {"kind": "jpeg", "quality": 75},
    {"kind": "blur", "fwhm_px": 1.5},
    {"kind": "noise", "sd": 0.02, "draws": 3},
]


def plan(*defences, size=(8, 8), **model):
    given = {"size": list(size), "range": [0.0, 1.0]}
    section = {"factory": "m.py:f", "head": "sigmoid", "findings": ["a"], "input": given, "defences": list(defences)}
    return make_plan({"model": {**section, **model}, "data": {"manifest": "t.csv"}}, base=Path())


def test_every_kind_is_read_and_written_back():
    made = plan(*EVERY)
    assert [defence.kind for defence in made.model.defences] == [given["kind"] for given in EVERY]
    assert passes(made.model.defences) == 4 * 3
    assert make_plan(json.loads(json.dumps(made.effective())), base=Path()) == made
    assert "JPEG at quality 75" in [str(defence) for defence in made.model.defences]


@pytest.mark.parametrize(
    ("defence", "said"),
    [
        ({"kind": "jpg", "quality": 75}, r"defences\.0: kind: .*got 'jpg'\. Did you mean 'jpeg'\?"),
        ({"quality": 75}, "kind: expected one of .*; it is missing"),
        ({"kind": ["jpeg"]}, r"kind: expected one of .*got \['jpeg'\]"),
        ("jpeg", r"expected a table, e\.g\. \{ kind = \"jpeg\", quality = 75 \}, got 'jpeg'"),
        ({"kind": "jpeg"}, "quality: missing"),
        ({"kind": "jpeg", "qualty": 75}, "qualty: unknown key. Did you mean 'quality'?"),
        ({"kind": "jpeg", "quality": 0}, "quality: expected greater than or equal to 1, got 0"),
        ({"kind": "jpeg", "quality": 101}, "quality: expected less than or equal to 100, got 101"),
        ({"kind": "quantisation", "bits": 17}, "bits: expected less than or equal to 16, got 17"),
        ({"kind": "quantisation", "bits": 2.5}, "bits: expected a valid integer"),
        ({"kind": "blur", "fwhm_px": 0.0}, "fwhm_px: expected greater than 0, got 0"),
        ({"kind": "noise", "sd": 0.1, "draws": 1}, "draws: expected greater than or equal to 2, got 1"),
        ({"kind": "test-time-augmentation"}, "name at least one of flips"),
        ({"kind": "test-time-augmentation", "flips": ["sideways"]}, "flips.0: expected 'horizontal', 'vertical'"),
        ({"kind": "test-time-augmentation", "flips": ["vertical", "vertical"]}, "flips: a value appears twice"),
        ({"kind": "test-time-augmentation", "rotations_degrees": [0]}, "takes part anyway; take 0 out"),
        ({"kind": "test-time-augmentation", "flips": ["depth"]}, "'depth' needs a volume"),
    ],
)
def test_what_cannot_be_done_says_where_and_what_was_expected(defence, said):
    with pytest.raises(PlanError, match=said):
        plan(defence)


def test_a_volume_is_not_rotated_about_an_axis_nobody_named():
    with pytest.raises(PlanError, match=r"three axes to turn about and none is named; use flips"):
        plan({"kind": "test-time-augmentation", "rotations_degrees": [5]}, size=(4, 8, 8))
    assert plan({"kind": "test-time-augmentation", "flips": ["depth"]}, size=(4, 8, 8)).model.defences


def test_defences_and_their_order_are_part_of_what_is_measured():
    one, other = {"kind": "jpeg", "quality": 75}, {"kind": "blur", "fwhm_px": 1.0}
    measured = [plan(one, other), plan(other, one), plan(one), plan({**one, "quality": 74}), plan()]
    assert len({digest(made.model.measured()) for made in measured}) == 5


def test_comparing_without_defences_is_not():
    measured = [plan(EVERY[1], compare_undefended=compare).model.measured() for compare in (True, False)]
    assert measured[0] == measured[1]
    assert "defences" not in plan().model.measured()


def test_reading_a_plan_with_defences_does_not_import_torch():
    code = "import sys; import robustbench_rad.plan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
