import copy
from pathlib import Path

import pytest

from robustbench_rad.errors import PlanError
from robustbench_rad.plan import digest, make_plan, read_plan

PLAN = {
    "model": {
        "factory": "net.py:build",
        "head": "sigmoid",
        "findings": ["pneumothorax", "effusion"],
        "input": {"size": [224, 224], "range": [0.0, 1.0], "channels": 3},
    },
    "data": {"manifest": "test.csv"},
}
SOFTMAX = {
    "head": "softmax",
    "classes": ["bacterial", "normal", "viral"],
    "findings": {"pneumonia": ["bacterial", "viral"]},
    "thresholds": {"pneumonia": 0.5},
}
TEXT = """
profile = "quick"
[model]
factory = "net.py:build"
head = "single-logit"
findings = ["pneumonia"]
thresholds = { pneumonia = 0.31 }
[model.input]
size = [28, 28]
range = [0, 1]
[data]
manifest = "test.csv"
"""


def changed(path, value):
    """PLAN with the value at a dotted path replaced."""
    plan = copy.deepcopy(PLAN)
    table = plan
    *parents, last = path.split(".")
    for part in parents:
        table = table.setdefault(part, {})
    table[last] = value
    return plan


def make(content):
    return make_plan(content, base=Path("folder"), source="plan.toml")


def with_model(**model):
    return {**PLAN, "model": {**PLAN["model"], **model}}


def test_defaults_are_filled_in():
    plan = make(PLAN)
    assert plan.profile == "standard"
    assert plan.inconclusive == "block"
    assert plan.model.names == ("pneumothorax", "effusion")
    assert plan.model.input.size == (224, 224)
    assert plan.run.chunk_size == 64
    assert plan.path("a/b.csv") == Path("folder/a/b.csv")
    assert plan.path("/a/b.csv") == Path("/a/b.csv")
    assert plan.path("~/b.csv") == Path("~/b.csv").expanduser()
    assert plan.effective()["model"]["input"]["range"] == [0.0, 1.0]
    assert "base" not in plan.effective()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("modl", {}, "modl: unknown key. Did you mean 'model'?"),
        ("model.findngs", [], "model.findngs: unknown key. Did you mean 'findings'?"),
        ("model.input.chanels", 3, "model.input.chanels: unknown key. Did you mean 'channels'?"),
        ("data.anatomy", {"colum": "m"}, "data.anatomy.colum: unknown key. Did you mean 'column'?"),
        ("claims", {"effusion": {"aurc": 0.9}}, "claims.effusion.aurc: unknown key. Did you mean 'auroc'?"),
        ("base", "x", "base: unknown key. Known: checks, claims"),
        ("run.worker", 2, "run.worker: unknown key. Did you mean 'workers'?"),
    ],
)
def test_unknown_key_suggests_the_nearest(path, value, message):
    with pytest.raises(PlanError) as caught:
        make(changed(path, value))
    assert f"plan.toml: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.head", "sigmod", "model.head: expected 'sigmoid', 'softmax' or 'single-logit', got 'sigmod'"),
        ("model.findings", 3, "model.findings: expected a list or a table, got 3"),
        ("model.findings", [], "model: findings: name at least one"),
        ("model.findings", ["a", "a"], "model: findings: a name appears twice"),
        ("model.input.channels", True, "model.input.channels: expected a valid integer, got True"),
        ("model.input.channels", "3", "model.input.channels: expected a valid integer, got '3'"),
        ("model.input.size", "224", "model.input.size: expected a list, got '224'"),
        ("model.input.size", [224, 0], "model.input.size: every side must be at least 1"),
        ("model.input.range", [1.0, 0.0], "model.input: the lower end 1.0 must be below the upper end 0.0"),
        ("model.input.range", [float("nan"), 1.0], "model.input.range.0: expected a finite number, got nan"),
        ("model.input.range", None, "model.input: declare exactly one of range"),
        ("model.input.mean", [0.5, 0.5], "model.input: mean has 2 values for 3 channels"),
        ("model.input.std", [0.5, 0.5, 0.0], "model.input.std: every value must be above 0"),
        ("model.thresholds", {"effusion": 1.0}, "model.thresholds.effusion: expected less than 1, got 1.0"),
        ("model.thresholds", {"efusion": 0.4}, "'efusion' is not a finding. Did you mean 'effusion'?"),
        ("model.sha256", "abc", "model.sha256: "),
        ("model.classes", ["effusion", "nodule"], "model: findings: 'pneumothorax' is not an output"),
        ("data.findings", {"efusion": "label"}, "data.findings: 'efusion' is not a finding. Did you mean 'effusion'?"),
        ("data.spacing_mm", [1], "data.spacing_mm: expected a valid string or a valid number, got [1]"),
        (
            "data.metadata",
            {"site": "nuisanse"},
            "data.metadata.site: expected 'nuisance', 'risk_factor' or 'demographic', got 'nuisanse'. "
            "Did you mean 'nuisance'?",
        ),
        ("data.modality", "CT", "data.modality 'CT' needs window_hu, e.g. [-1000, 400]; range is given"),
        ("data.cost", {"effusion": {"mis": 2}}, "data.cost.effusion.mis: expected 'miss' or 'false_alarm', got 'mis'"),
        ("data.source", "dicom", "data: source = 'dicom' needs root"),
        ("data.anatomy", {}, "data.anatomy: declare exactly one of column, atlas and provider"),
        (
            "data.anatomy",
            "lung_mask",
            "data.anatomy: expected a table, e.g. anatomy = { column = \"lung_mask\" }, got 'lung_mask'",
        ),
        ("data.anatomy", "hull", "data.anatomy: expected a table, e.g. anatomy = { provider = \"hull\" }, got 'hull'"),
        ("data.anatomy", [1], 'data.anatomy: expected a table, e.g. anatomy = { column = "lung_mask" }, got [1]'),
        ("data.lesion", "nodule", "data.lesion: expected a table, e.g. lesion = { column = \"nodule\" }, got 'nodule'"),
        ("data.anatomy", {"provider": "hul"}, "data.anatomy: provider = 'hul': no such provider. Did you mean 'hull'?"),
        ("claims", {"nodule": {}}, "claims: 'nodule' is not a finding"),
        ("checks", {"attack.fgsm": 3}, "checks.attack.fgsm: expected a table or a valid boolean, got 3"),
        ("seed", 1.5, "seed: expected a valid integer, got 1.5"),
        ("run.allow_pickle", "no", "run.allow_pickle: expected a valid boolean, got 'no'"),
    ],
)
def test_wrong_value_names_key_expectation_and_value(path, value, message):
    with pytest.raises(PlanError) as caught:
        make(changed(path, value))
    assert f"plan.toml: {message}" in str(caught.value) or message in str(caught.value)
    assert "function-" not in str(caught.value)
    assert "constrained" not in str(caught.value)


def test_a_word_that_is_near_none_of_those_expected_gets_no_nearest_name():
    with pytest.raises(PlanError, match=r"or 'demographic', got 'zebra'$"):
        make(changed("data.metadata", {"site": "zebra"}))


def test_missing_key_and_several_problems_at_once():
    plan = changed("model.head", "x")
    del plan["model"]["factory"]
    with pytest.raises(PlanError) as caught:
        make(plan)
    lines = str(caught.value).splitlines()
    assert lines[0] == "plan.toml: model.factory: missing; it must be given"
    assert lines[1].startswith("plan.toml: model.head: expected")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"classes": []}, "head 'softmax' needs classes"),
        ({"classes": ["a", "a"]}, "classes: a name appears twice"),
        ({"findings": {"pneumonia": ["bacteral"]}}, "'bacteral' is not a class. Did you mean 'bacterial'?"),
        ({"findings": {"pneumonia": []}}, "a group holds at least one class"),
        ({"findings": {"pneumonia": ["viral", "viral"]}}, "each once"),
        ({"findings": {"pneumonia": ["bacterial", "normal", "viral"]}}, "not all"),
        ({"thresholds": {}}, "a group of classes needs a threshold: thresholds = { pneumonia = 0.5 }"),
        ({"head": "sigmoid"}, "groups of classes belong to head 'softmax'"),
        ({"head": "single-logit", "findings": ["pneumonia"]}, "'single-logit' has one output"),
        ({"head": "single-logit", "findings": ["pneumonia", "b"], "classes": []}, "has one finding, findings names 2"),
    ],
)
def test_groups_of_classes(model, message):
    assert make(with_model(**SOFTMAX)).model.groups == {"pneumonia": ["bacterial", "viral"]}
    with pytest.raises(PlanError, match=message):
        make(with_model(**{**SOFTMAX, **model}))


def test_findings_may_be_some_of_the_outputs():
    plan = make(with_model(classes=["nodule", "effusion", "pneumothorax"]))
    assert plan.model.groups == {"pneumothorax": ["pneumothorax"], "effusion": ["effusion"]}


def test_reading_a_file_resolving_paths_and_overriding(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(TEXT)
    plan = read_plan(path)
    assert plan.base == tmp_path
    assert plan.source == str(path)
    assert plan.model.thresholds == {"pneumonia": 0.31}
    other = read_plan(path, root=tmp_path / "data", overrides={"profile": "full", "seed": None})
    assert other.path("test.csv") == tmp_path / "data" / "test.csv"
    assert (other.profile, other.seed) == ("full", plan.seed)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"[model", "not valid TOML"), (b"\xff\xfe", "not valid TOML")],
)
def test_unreadable_file(tmp_path, content, message):
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=message) as caught:
        read_plan(path)
    assert str(path) in str(caught.value)


def test_a_plan_is_frozen_and_its_digest_does_not_depend_on_key_order():
    plan = make(PLAN)
    with pytest.raises(ValueError, match="frozen"):
        plan.seed = 3
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
