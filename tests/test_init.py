"""init: the plan it writes is valid TOML, says where each value is from, and can be audited where enough was seen."""

import itertools
import json
import tomllib

import numpy as np
import pytest
from typer.testing import CliRunner

from robustbench_rad.audit import prepare
from robustbench_rad.cli import app
from robustbench_rad.errors import DataError, ModelError, PlanError
from robustbench_rad.init import write_plan
from robustbench_rad.plan import read_plan


@pytest.fixture
def project(workshop, monkeypatch):
    """The workshop as the current folder, without its plan."""
    (workshop / "plan.toml").unlink()
    monkeypatch.chdir(workshop)
    return workshop


def prepared(path, **changes):
    plan = read_plan(path, overrides={"profile": "quick"})
    return prepare(plan.model_copy(update={"data": plan.data.model_copy(update={"max_cases": 24, **changes})}))


def test_a_folder_with_manifest_and_model_gives_a_plan_that_can_be_audited(project):
    said = write_plan(project, project / "plan.toml", model="model.py:build")
    done = prepared(project / "plan.toml")
    data = done.plan.data
    assert done.plan.model.head == "single-logit"
    assert done.plan.model.factory == "model.py:build"
    assert done.plan.model.thresholds == {}
    assert data.findings == {"label": "label"}
    assert (data.manifest, data.image, data.patient) == ("cases.csv", "image", "patient")
    assert data.metadata == {"scanner": "nuisance"}
    assert data.anatomy is not None
    assert data.anatomy.column == "mask"
    assert len(done.table) == 24
    assert not any(line.startswith("fill in") for line in said)


def test_every_value_that_is_no_fact_has_a_comment(project):
    """Lines without a comment are copied from the command line, or name label columns."""
    write_plan(project, project / "plan.toml", model="model.py:build")
    lines = (project / "plan.toml").read_text().splitlines()
    bare = [
        line.split(" =")[0]
        for before, line in itertools.pairwise(lines)
        if " = " in line and "#" not in line and not before.startswith("# ")
    ]
    assert bare == ["title", "factory", "label"]


def test_what_is_said_is_what_is_written(project):
    said = write_plan(project, project / "plan.toml", model="model.py:build")
    assert 'seen: model.head = "single-logit": one output' in said
    assert 'guessed, check: data.metadata.scanner = "nuisance": 2 values: A, B' in said
    kinds = [line.split(":")[0] for line in said]
    assert kinds == sorted(kinds, key=["seen", "guessed, check", "decide"].index)


def test_a_column_that_is_a_copy_of_the_label_is_left_to_decide(project):
    path = project / "cases.csv"
    header, *rows = path.read_text().splitlines()
    told = [f"{row},{'ill' if row.split(',')[2] == '1' else 'well'},{'XY'[int(row.split(',')[2])]}" for row in rows]
    path.write_text("\n".join([f"{header},report,site", *told]) + "\n")
    said = write_plan(project, project / "plan.toml", model="model.py:build")
    assert any(line.startswith("decide: report: goes with label in every row") for line in said)
    assert any(line.startswith('decide: data.metadata.site = "nuisance": goes with label') for line in said)
    assert not any("no role by name" in line for line in said)
    assert read_plan(project / "plan.toml").data.metadata == {"scanner": "nuisance", "site": "nuisance"}


def test_without_a_model_the_plan_names_what_is_missing(project):
    said = write_plan(project, project / "plan.toml")
    missing = [line for line in said if line.startswith("fill in: ")]
    assert [line.split(": ")[1] for line in missing] == ["model.factory", "model.head", "model.input.size"]
    with pytest.raises(PlanError, match=r"model\.head: missing"):
        read_plan(project / "plan.toml")
    text = (project / "plan.toml").read_text()
    assert "# Fill in first:" in text
    assert '# factory = "my_package.models:build"  # decide' in text


def test_a_model_of_more_outputs_than_labels_leaves_the_classes_to_the_user(project):
    (project / "wide.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3))\n"
    )
    said = write_plan(project, project / "plan.toml", model="wide.py:build")
    assert 'guessed, check: model.head = "softmax": 3 outputs for 1 labels' in said
    with pytest.raises(PlanError, match="findings: name at least one"):
        read_plan(project / "plan.toml")


def test_paths_are_relative_to_the_plan_and_the_manifest_may_be_given_itself(project):
    (project / "plans").mkdir()
    write_plan(project / "cases.csv", project / "plans" / "a.toml", model="model.py:build")
    plan = read_plan(project / "plans" / "a.toml")
    assert plan.model.factory == "../model.py:build"
    assert plan.data.manifest == "../cases.csv"
    assert len(prepared(project / "plans" / "a.toml").table) == 24


def test_images_below_another_folder_make_a_root(project):
    text = (project / "cases.csv").read_text().replace("images/", "")
    (project / "cases.csv").write_text(text)
    write_plan(project, project / "plan.toml", model="model.py:build")
    assert read_plan(project / "plan.toml").data.root == "images"
    assert len(prepared(project / "plan.toml").table) == 24


@pytest.mark.parametrize("name", ['scanner"\\x', "scanner = 1 ]", "scanner\x7f#", "スキャナ scanner", "scanner\nmodel"])
def test_hostile_column_names_are_quoted(project, name):
    quoted = '"' + name.replace('"', '""') + '"'
    text = (project / "cases.csv").read_text().replace("scanner", quoted, 1)
    (project / "cases.csv").write_text(text)
    said = write_plan(project, project / "plan.toml", model="model.py:build")
    assert read_plan(project / "plan.toml").data.metadata == {name: "nuisance"}
    assert all(line.isprintable() for line in said)


def test_hostile_folder_names_are_quoted(project):
    odd = project / 'x"] \\ # é'
    odd.mkdir()
    (project / "cases.csv").rename(odd / "cases.csv")
    (project / "images").rename(odd / "images")
    write_plan(odd, project / "plan.toml", model="model.py:build")
    assert read_plan(project / "plan.toml").data.manifest == f"{odd.name}/cases.csv"


def test_values_with_control_characters_never_reach_terminal_or_comment(project):
    text = (project / "cases.csv").read_text().replace(",A,", ",\x1b[31mA\x1b[0m,")
    (project / "cases.csv").write_text(text)
    said = write_plan(project, project / "plan.toml", model="model.py:build")
    assert "\x1b" not in "".join(said) + (project / "plan.toml").read_text()


def test_an_existing_plan_is_kept_without_force(project):
    path = project / "plan.toml"
    path.write_text("mine")
    with pytest.raises(PlanError, match="exists already") as caught:
        write_plan(project, path, model="model.py:build")
    assert "--force" in str(caught.value)
    assert path.read_text() == "mine"
    write_plan(project, path, model="model.py:build", force=True)
    assert tomllib.loads(path.read_text())["model"]["head"] == "single-logit"


def test_a_failed_look_leaves_no_plan_and_an_old_one_untouched(project):
    path = project / "plan.toml"
    path.write_text("mine")
    with pytest.raises(ModelError):
        write_plan(project, path, model="model.py:absent", force=True)
    assert path.read_text() == "mine"
    assert not list(project.glob(".*tmp"))


@pytest.mark.parametrize(
    ("data", "options", "kind", "message"),
    [
        ("absent", {}, DataError, "absent: no such file or folder"),
        ("model.py", {}, DataError, r"expected a folder, a manifest .* or an \.npz archive"),
        (".", {"model": "absent.py:build"}, ModelError, "no such file"),
        (".", {"model": "model.py:absent"}, ModelError, "has no 'absent'"),
        (".", {"model": "absent.pt2"}, ModelError, "no such file"),
        (".", {"model": "model.py:build", "weights": "absent.pth"}, ModelError, "no such file"),
        (
            ".",
            {"model": "model.py:build", "weights": "cases.csv"},
            ModelError,
            "cannot be read as weights|holds Python",
        ),
        (".", {"weights": "some.pth"}, PlanError, "needs --model"),
    ],
)
def test_bad_input_is_explained(project, data, options, kind, message):
    with pytest.raises(kind, match=message):
        write_plan(project / data, project / "plan.toml", **options)
    assert not (project / "plan.toml").exists()


def test_a_plan_in_a_missing_folder_is_explained(project):
    with pytest.raises(PlanError, match="no such folder to write the plan into"):
        write_plan(project, project / "absent" / "plan.toml")
    with pytest.raises(PlanError, match="exists already"):
        write_plan(project, project / "images", force=True)


def test_the_command_line(project):
    runner = CliRunner()
    done = runner.invoke(app, ["init", ".", "--model", "model.py:build", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["plan"] == "plan.toml"
    assert 'seen: model.head = "single-logit": one output' in content["seen"]
    again = runner.invoke(app, ["init", "."])
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_an_archive(project):
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{what}": values
        for split, count in (("train", 40), ("test", 30))
        for what, values in {
            "images": rng.integers(0, 256, (count, 16, 16), dtype=np.uint8),
            "labels": np.arange(count)[:, None] % 2,
        }.items()
    }
    np.savez_compressed(project / "effusionmnist.npz", **arrays)
    said = write_plan(project / "effusionmnist.npz", project / "plan.toml", model="model.py:build")
    done = prepared(project / "plan.toml")
    assert done.plan.data.split == "test"
    assert done.plan.model.names == ("effusion",)
    assert done.plan.model.input.size == (16, 16)
    assert done.plan.data.anatomy is None
    assert 'seen: data.split = "test": 30 images; splits: train, test' in said


def test_nih(packs, tmp_path, monkeypatch):
    monkeypatch.chdir(packs)
    weights = "models/nih_resnet_small.pth"
    write_plan(packs / "nih", tmp_path / "p.toml", model="models/chest_models.py:nih_resnet_small", weights=weights)
    done = prepared(tmp_path / "p.toml")
    plan = done.plan
    assert plan.model.names == ("Pneumonia", "Effusion", "Infiltration", "No_Finding")
    assert (plan.model.head, plan.model.outputs) == ("sigmoid", "logits")
    assert (plan.model.input.size, plan.model.input.channels) == ((160, 160), 1)
    assert plan.data.metadata == {"view": "risk_factor", "sex": "demographic", "device": "nuisance"}
    assert plan.data.patient == "patient_id"
    assert len(done.table) == 24
    text = (tmp_path / "p.toml").read_text()
    assert "# decide: no role by name: follow_up (17 values), orig_mode (2 values)" in text
    assert '# spacing_mm = "pixel_spacing_mm"' in text
    assert max(map(len, text.splitlines())) <= 120 + len(str(packs))


def test_guangzhou_needs_one_decision(packs, tmp_path, monkeypatch):
    """Which classes are the finding is guessed from the words of the model; the threshold of a group nobody can see."""
    monkeypatch.chdir(packs)
    path = tmp_path / "p.toml"
    model = "models/chest_models.py:squeezenet_pneumonia3"
    said = write_plan(packs / "guangzhou", path, model=model, weights="models/squeezenet1_1_pneumonia3.pth")
    assert [line for line in said if line.startswith("fill in")] == [
        "fill in: model: findings.Pneumonia: a group of classes needs a threshold: thresholds = { Pneumonia = 0.5 }"
    ]
    with pytest.raises(PlanError, match="needs a threshold"):
        read_plan(path)
    path.write_text(path.read_text().replace("# Pneumonia = 0.5", "Pneumonia = 0.7"))
    done = prepared(path)
    assert done.plan.model.classes == ["Bacterial Pneumonia", "Normal", "Viral Pneumonia"]
    assert done.plan.model.groups == {"Pneumonia": ["Bacterial Pneumonia", "Viral Pneumonia"]}
    assert done.plan.model.input.mean == (0.485, 0.456, 0.406)
    assert done.plan.data.anatomy is not None
    assert done.plan.data.anatomy.column == "mask"


def test_pneumoniamnist(packs, tmp_path, monkeypatch):
    monkeypatch.chdir(packs)
    model, weights = "models/chest_models.py:pneumoniamnist_cnn", "models/pneumoniamnist_cnn.pth"
    write_plan(packs / "pneumoniamnist.npz", tmp_path / "p.toml", model=model, weights=weights)
    done = prepared(tmp_path / "p.toml")
    assert done.plan.model.names == ("pneumonia",)
    assert done.plan.model.input.size == (28, 28)
    assert done.plan.data.source == "npz"
