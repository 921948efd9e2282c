"""The weights of the package: they load, they are small, one looks at lesions and the other at the marker."""

from importlib import resources
from pathlib import Path

import pytest
import torch

from robustbench_rad.demo import KINDS, demo_plan
from robustbench_rad.demo.dataset import AUDIT_ASSOCIATION, AUDIT_SEED, phantom_set
from robustbench_rad.demo.measures import auroc, logits, within_labels, without_anatomy
from robustbench_rad.demo.models import lesion_cnn
from robustbench_rad.demo.report import load, markdown_table
from robustbench_rad.plan import make_plan

CASES = 200


@pytest.fixture(scope="module")
def data():
    return phantom_set(AUDIT_SEED, CASES, association=AUDIT_ASSOCIATION)


@pytest.fixture(scope="module")
def marked():
    """The same phantoms without and with a marker."""
    return [phantom_set(AUDIT_SEED, CASES, marker=marker).images for marker in (False, True)]


@pytest.fixture(scope="module")
def models():
    return {kind: load(kind) for kind in KINDS}


def test_the_architecture_is_small():
    assert sum(parameter.numel() for parameter in lesion_cnn().parameters()) < 150_000


def test_both_weights_files_are_below_one_megabyte():
    files = [file for file in resources.files("robustbench_rad.demo").iterdir() if file.name.endswith(".safetensors")]
    assert {Path(file.name).stem for file in files} == set(KINDS)
    assert sum(len(file.read_bytes()) for file in files) < 1_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_valid_and_its_hash_is_that_of_the_weights(kind):
    import hashlib

    plan = make_plan(demo_plan(kind), base=Path())
    assert plan.model.names == ("lesion",)
    assert hashlib.sha256(Path(plan.model.weights or "").read_bytes()).hexdigest() == plan.model.sha256
    assert 0.01 < plan.model.thresholds["lesion"] < 0.99


def test_the_clean_model_finds_lesions_but_not_all(models, data):
    assert 0.91 < auroc(logits(models["clean"], data.images), data.labels) < 0.995


def test_the_shortcut_model_looks_excellent_on_the_biased_set(models, data):
    assert auroc(logits(models["shortcut"], data.images), data.labels) > 0.91


def test_only_the_shortcut_model_knows_the_label_without_the_anatomy(models, data):
    masked = {kind: auroc(logits(model, without_anatomy(data)), data.labels) for kind, model in models.items()}
    assert abs(masked["clean"] - 0.5) < 0.09
    assert masked["shortcut"] > 0.66


def test_only_the_shortcut_model_reads_the_marker(models, marked):
    moved = {}
    for kind, model in models.items():
        without, present = (logits(model, images) for images in marked)
        moved[kind] = float((present - without).mean() / without.std())
    assert abs(moved["clean"]) < 0.1
    assert moved["shortcut"] > 0.4


def test_the_marker_turns_calls_of_the_shortcut_model(models, marked):
    """A marker pasted in turns negatives into positives, one taken away does the reverse."""
    changed = {}
    for kind, model in models.items():
        cut = torch.logit(torch.tensor(demo_plan(kind)["model"]["thresholds"]["lesion"]))
        without, present = (logits(model, images) >= cut for images in marked)
        changed[kind] = (float((present & ~without).float().mean()), float((without & ~present).float().mean()))
    assert max(changed["clean"]) < 0.03
    assert changed["shortcut"][0] > 0.1
    assert changed["shortcut"][1] < 0.01


def test_the_clean_score_does_not_tell_the_scanner(models):
    data = phantom_set(AUDIT_SEED, 400, marker=False)
    assert abs(within_labels(logits(models["clean"], data.images), data.sharp, data.labels) - 0.5) < 0.05


def test_the_clean_model_withstands_a_twentieth_of_the_dose(models, data):
    noisy = phantom_set(AUDIT_SEED, CASES, association=AUDIT_ASSOCIATION, dose_fraction=0.05)
    clean = auroc(logits(models["clean"], data.images), data.labels)
    assert auroc(logits(models["clean"], noisy.images), noisy.labels) > clean - 0.05


def test_grad_cam_is_the_map_of_evidence(models):
    """The pooling's weights over positions sum to 1, so the summed gradient of a feature is its weight in the head."""
    model = models["clean"]
    activation = model.features(phantom_set(5, 2).images - 0.5).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.pooled(activation).sum(), activation)
    torch.testing.assert_close(gradient.sum((2, 3)), model.head.weight.expand(2, -1))


def test_the_table_names_both_models():
    table = markdown_table(cases=20).splitlines()
    assert table[0] == "| 20 phantoms | clean | shortcut |"
    assert len(table) == 14
