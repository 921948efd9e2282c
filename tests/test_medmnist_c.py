"""MedMNIST-C files: their layout, and the figures of the paper as medmnistc's own evaluator computes them."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn
from typer.testing import CliRunner

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.cli import app
from robustbench_rad.corruption_errors import ask, balanced_errors, bootstrap_counts, evaluate
from robustbench_rad.data.medmnist_c import corruption_files, read_clean, read_corrupted
from robustbench_rad.data.medmnist_c_baselines import ALEXNET
from robustbench_rad.errors import DataError

NAME = "pneumoniamnist"
MODEL = """
import torch

def build():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None]

    return Mean()
"""
PLAN = """
title = "mean"
profile = "quick"
[model]
factory = "model.py:build"
head = "single-logit"
findings = ["pneumonia"]
thresholds = { pneumonia = 0.5 }
[model.input]
size = [8, 8]
channels = 1
range = [0.0, 1.0]
[data]
source = "npz"
manifest = "clean.npz"
split = "test"
modality = "DX"
stored_bits = 8
metadata = {}
"""


def pictures(count=80, seed=0, gap=12.0, noise=40.0):
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 4 == 0).astype(np.int64)[:, None]
    grey = 128 + gap * (2 * labels[:, :, None] - 1) + noise * generator.standard_normal((count, 8, 8))
    return grey.clip(0, 255).round().astype(np.uint8), labels


@pytest.fixture
def files(tmp_path):
    """A clean archive, two corruptions and a plan."""
    images, labels = pictures()
    np.savez(tmp_path / "clean.npz", test_images=images, test_labels=labels)
    folder = tmp_path / NAME
    folder.mkdir()
    for name, gap in (("pixelate", 6.0), ("gaussian_noise", 2.0)):
        parts = [pictures(seed=level + 1, gap=gap - 0.3 * level)[0] for level in range(5)]
        np.savez(folder / f"{name}.npz", test_images=np.concatenate(parts), test_labels=np.tile(labels, (5, 1)))
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def classifier(width=1, kind=Head.SINGLE_LOGIT, findings=("pneumonia",), groups=()):
    class Means(nn.Module):
        def forward(self, x):
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None] * torch.linspace(1, -1, width)

    head = HeadSpec(
        kind=kind,
        outputs=Outputs.LOGITS,
        findings=findings,
        thresholds=(float("nan") if kind is Head.SOFTMAX else 0.5,) * len(findings),
        groups=groups,
        classes=width,
    )
    return Classifier(module=Means().eval(), input=InputSpec(size=(8, 8), range=(0.0, 1.0)), head=head)


def test_figures_are_those_of_the_published_evaluator(files):
    clean = read_clean(files / "clean.npz")
    parts = (read_corrupted(path, clean=clean) for path in corruption_files(files / NAME))
    rows, found = evaluate(classifier(), clean, parts, NAME)
    truth = clean.labels[:, 0]

    def published(images):
        score = 1 / (1 + np.exp(-20 * (images.reshape(len(images), -1).mean(1) / 255 - 0.5)))
        return 1 - balanced_accuracy_score(truth, score > 0.5), roc_auc_score(truth, score)

    clean_error = published(clean.images[0])[0]
    assert rows[0].balanced_accuracy.value == pytest.approx(1 - clean_error)
    for name in ("pixelate", "gaussian_noise"):
        stacked = np.load(files / NAME / f"{name}.npz")["test_images"]
        per_level = [published(stacked[80 * level : 80 * (level + 1)]) for level in range(5)]
        of_name = [row for row in rows if row.corruption == name]
        assert [row.severity for row in of_name] == [1, 2, 3, 4, 5]
        for row, (error, area) in zip(of_name, per_level, strict=True):
            assert row.balanced_accuracy.value == pytest.approx(1 - error)
            assert row.auroc.value == pytest.approx(area, abs=2e-3)  # float32 and float64 tie differently
            assert row.balanced_accuracy.lower <= 1 - error <= row.balanced_accuracy.upper
            assert row.auroc.lower < area < row.auroc.upper
        mean = np.mean([error for error, _ in per_level])
        (summary,) = (item for item in found if item.corruption == name)
        alexnet = ALEXNET[NAME]
        assert summary.be.value == pytest.approx(mean / alexnet[name])
        assert summary.rbe.value == pytest.approx((mean - clean_error) / (alexnet[name] - alexnet["clean"]))
        assert summary.be.lower < summary.be.value < summary.be.upper
    assert found[-1].corruption == "mean"
    assert found[-1].be.value == pytest.approx(np.mean([item.be.value for item in found[:-1]]))
    assert "left out: jpeg_compression" in found[-1].note


def test_many_labels_are_the_mean_over_findings():
    images, labels = pictures()
    both = np.hstack([labels, 1 - labels])
    answers = ask(classifier(2, Head.SIGMOID, ("a", "b")), images, both)
    expected = 1 - np.mean([balanced_accuracy_score(both[:, k], answers.called[:, k]) for k in (0, 1)])
    assert balanced_errors([answers], np.ones((1, 80)))[0, 0] == pytest.approx(expected)


def test_many_classes_are_called_by_the_largest_output():
    images, labels = pictures()
    codes = labels + (np.arange(80) % 3 == 0)[:, None]
    model = classifier(3, Head.SOFTMAX, ("c",), groups=((2,),))
    answers = ask(model, images, codes)
    assert answers.positive.shape == (80, 3)
    expected = 1 - balanced_accuracy_score(codes[:, 0], answers.called[:, 0])
    assert balanced_errors([answers], np.ones((1, 80)))[0, 0] == pytest.approx(expected)


def test_a_count_of_two_is_the_case_twice():
    images, labels = pictures()
    answers = ask(classifier(), images, labels)
    counts = bootstrap_counts(80, draws=3)
    assert counts.sum(1).tolist() == [80, 80, 80]
    for draw, error in zip(counts, balanced_errors([answers], counts)[:, 0], strict=True):
        index = np.repeat(np.arange(80), draw.astype(int))
        assert error == pytest.approx(1 - balanced_accuracy_score(labels[index, 0], answers.called[index, 0]))


def test_a_model_without_errors_has_an_interval_all_the_same():
    images, labels = pictures(gap=100.0, noise=1.0)
    clean = read_like(images, labels)
    rows, _ = evaluate(classifier(), clean, iter(()), NAME)
    assert rows[0].balanced_accuracy.value == 1.0
    assert rows[0].balanced_accuracy.lower == pytest.approx(0.025 ** (1 / 20))


def read_like(images, labels):
    from robustbench_rad.data.medmnist_c import TestSet

    return TestSet(name="clean", images=images[None], labels=labels)


def test_the_command_shows_figures_with_intervals(files):
    arguments = ["medmnist-c", str(files / "plan.toml"), str(files / NAME), "--clean", str(files / "clean.npz")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["set"] == NAME
    assert len(said["rows"]) == 11
    assert {item["corruption"] for item in said["summaries"]} == {"pixelate", "gaussian_noise", "mean"}
    done = CliRunner().invoke(app, [*arguments, "--only", "pixelate"])
    assert done.exit_code == 0, done.output
    assert "balanced accuracy" in done.stdout
    assert "gaussian_noise" not in done.stdout.partition("BE")[0]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"test_images": np.zeros((7, 8, 8), np.uint8), "test_labels": np.zeros((7, 1))}, "400, got 7"),
        ({"test_images": np.zeros((400, 8, 8), np.uint8), "test_labels": np.ones((400, 1))}, "labels are not those"),
        ({"test_images": np.zeros((400, 8, 8, 3), np.uint8), "test_labels": np.zeros((400, 1))}, "8-bit grey images"),
        ({"test_images": np.zeros((400, 8, 8)), "test_labels": np.zeros((400, 1))}, "got float64"),
        ({"test_images": np.zeros((400, 8, 8), np.uint8), "test_labels": np.zeros((3, 1))}, "expected 400 rows"),
        ({"images": np.zeros(3)}, "array 'test_images' is missing"),
    ],
)
def test_files_of_another_layout_are_refused(files, broken, words):
    np.savez(files / NAME / "pixelate.npz", **broken)
    with pytest.raises(DataError, match=words):
        read_corrupted(files / NAME / "pixelate.npz", clean=read_clean(files / "clean.npz"))


def test_what_is_missing_is_named(files):
    with pytest.raises(DataError, match="no such folder"):
        corruption_files(files / "nowhere")
    with pytest.raises(DataError, match="expected fog, got gaussian_noise, pixelate"):
        corruption_files(files / NAME, ("fog",))
    clean = read_clean(files / "clean.npz")
    with pytest.raises(DataError, match="no published baseline; known: breastmnist"):
        evaluate(classifier(), clean, iter(()), "hipmnist")
    with pytest.raises(DataError, match="expected 2 columns of 0 and 1"):
        ask(classifier(2, Head.SIGMOID, ("a", "b")), clean.images[0], clean.labels)
