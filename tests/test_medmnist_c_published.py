"""MedMNIST-C as its authors make and score it: files of their data set manager, figures of their evaluator.

They run where medmnistc and what it imports are installed: ``pip install --no-deps medmnistc medmnist`` and scikit-image,
OpenCV, torchvision. ImageMagick, which only motion blur needs, is not used by these sets.
"""

import importlib.util
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.corruption_errors import Answers, bootstrap_counts, evaluate, summaries
from robustbench_rad.data.medmnist_c import corruption_files, read_clean, read_corrupted, set_name
from robustbench_rad.data.medmnist_c_baselines import ALEXNET, CLEAN

WHY = "medmnistc, the code of MedMNIST-C, is not installed"
NAME, CASES, SIDE = "pneumoniamnist", 12, 224


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Clean archive and corrupted files of a small set, made by medmnistc from nothing but its own code."""
    for package in ("medmnistc", "medmnist", "skimage", "cv2", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, which makes the files of MedMNIST-C, is not installed")
    folder = tmp_path_factory.mktemp("medmnist")
    images, labels = pictures()
    np.savez(folder / f"{NAME}_{SIDE}.npz", test_images=images, test_labels=labels)
    with pytest.MonkeyPatch.context() as patch, generators_put_back():
        stand_in_for_motion_blur(patch)
        manager = dataset_manager()
        manager(medmnist_path=str(folder), output_path=str(folder / "c"), random_seed=0).create_dataset(NAME)
    return folder


def dataset_manager():
    path = Path(__file__).parent / "support" / "torchvision_shim.py"
    spec = importlib.util.spec_from_file_location("torchvision_shim", path)
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    shim.import_torchvision()
    from medmnistc.dataset_manager import DatasetManager

    return DatasetManager


def stand_in_for_motion_blur(patch):
    """What medmnistc imports from ImageMagick; whoever calls it fails."""
    image, api = types.ModuleType("wand.image"), types.ModuleType("wand.api")
    image.Image, api.library = type("Image", (), {}), None
    for name, module in (("wand", types.ModuleType("wand")), ("wand.image", image), ("wand.api", api)):
        patch.setitem(sys.modules, name, module)


class generators_put_back:
    """medmnistc seeds every global generator and makes cuDNN deterministic."""

    def __enter__(self):
        self.states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark

    def __exit__(self, *error):
        random.setstate(self.states[0])
        np.random.set_state(self.states[1])
        torch.set_rng_state(self.states[2])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self.flags


def classifier():
    """Finds the brighter images."""

    class Mean(nn.Module):
        def forward(self, x):
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None]

    head = HeadSpec(
        kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("pneumonia",), thresholds=(0.5,), classes=1
    )
    return Classifier(module=Mean().eval(), input=InputSpec(size=(SIDE, SIDE), range=(0.0, 1.0)), head=head)


def pictures():
    """Two classes that differ in brightness, none of them easily told."""
    generator = np.random.default_rng(0)
    labels = (np.arange(CASES) % 3 == 0).astype(np.uint8)[:, None]
    axis = np.linspace(0, 3, SIDE)
    level = 127 + 5 * (2 * labels[:, :, None] - 1) + 12 * generator.standard_normal((CASES, 1, 1))
    waves = 60 * np.sin(axis[:, None] * (1 + np.arange(CASES)[:, None, None] / 4)) * np.cos(axis)
    grey = level + waves - waves.mean((1, 2), keepdims=True) + 5 * generator.standard_normal((CASES, SIDE, SIDE))
    return grey.clip(0, 255).round().astype(np.uint8), labels


def evaluator(set_name, truth, corruptions, task):
    pytest.importorskip("medmnistc", reason=WHY)
    from medmnistc.eval import Evaluator

    return Evaluator(set_name, truth, list(corruptions), ".", "own", task)


def assert_same_figures(theirs, found):
    theirs.output_log = {}
    theirs.populate_summary()
    by_name = {item.corruption: item for item in found}
    for name, be in theirs.output_log["be_scores"].items():
        assert by_name[name].be.value == pytest.approx(be, rel=1e-12)
        assert by_name[name].rbe.value == pytest.approx(theirs.output_log["rbe_scores"][name], rel=1e-9)
    assert by_name["mean"].be.value == pytest.approx(theirs.output_log["metrics"]["be"], rel=1e-12)
    assert by_name["mean"].rbe.value == pytest.approx(theirs.output_log["metrics"]["rbe"], rel=1e-9)


def test_files_of_their_manager_are_read_as_their_data_set_reads_them(made):
    from medmnistc.dataset import CorruptedMedMNIST

    clean = read_clean(made / f"{NAME}_{SIDE}.npz")
    files = corruption_files(made / "c" / NAME)
    assert set_name(made / "c" / NAME) == NAME
    assert {path.stem for path in files} == set(ALEXNET[NAME]) - {CLEAN}
    for path in files:
        part = read_corrupted(path, clean=clean)
        theirs = CorruptedMedMNIST(NAME, path.stem, root=str(made / "c"))
        assert part.images.shape == (5, CASES, SIDE, SIDE)
        assert np.array_equal(part.images.reshape(-1, SIDE, SIDE), theirs.imgs)
        assert np.array_equal(np.tile(part.labels, (5, 1)), theirs.labels)
        changes = np.abs(part.images.astype(float) - clean.images).mean((1, 2, 3))
        assert changes[4] > changes[0] > 0


def test_figures_of_their_files_are_those_of_their_evaluator(made):
    clean = read_clean(made / f"{NAME}_{SIDE}.npz")
    files = corruption_files(made / "c" / NAME)
    model = classifier()
    rows, found = evaluate(model, clean, (read_corrupted(path, clean=clean) for path in files), NAME)

    def scores(images):
        with torch.no_grad():
            raw = model.module(torch.from_numpy(images.astype(np.float32) / 255.0)[:, None])
        return torch.sigmoid(raw).numpy()

    theirs = evaluator(NAME, clean.labels, [path.stem for path in files], "binary-class")
    theirs.evaluate_clean(scores(clean.images[0]))
    for path in files:
        theirs.evaluate(scores(np.load(path)["test_images"]), path.stem)
    assert 0 < theirs.clean_score < 1
    assert rows[0].balanced_accuracy.value == pytest.approx(1 - theirs.clean_score)
    for row in rows[1:]:
        error = theirs.corruption_errors[row.corruption][row.severity - 1]
        assert row.balanced_accuracy.value == pytest.approx(1 - error)
    assert_same_figures(theirs, found)


@pytest.mark.parametrize(
    ("named", "task", "columns"),
    [
        ("breastmnist", "binary-class", 1),
        ("chestmnist", "multi-label, binary-class", 14),
        ("organamnist", "multi-class", 11),
    ],
)
def test_figures_of_any_answers_are_those_of_their_evaluator(named, task, columns):
    """One finding, many findings, many classes: the same answers scored by both, for every published corruption."""
    generator, cases = np.random.default_rng(3), 90
    many = task == "multi-class"
    truth = generator.integers(0, columns if many else 2, (cases, 1 if many else columns))
    corruptions = [name for name in ALEXNET[named] if name != CLEAN]
    theirs = evaluator(named, truth, corruptions, task)

    def answers(signal):
        """Scores ``(N, columns)`` in [0, 1], and what both sides make of them."""
        aim = np.eye(columns)[truth[:, 0]] if many else truth
        scores = 1 / (1 + np.exp(-(signal * (2 * aim - 1) + generator.standard_normal((cases, columns)))))
        called = scores.argmax(1)[:, None] if many else (scores > 0.5).astype(np.int64)
        return scores, Answers(truth=truth, called=called, positive=aim, scores=scores)

    threshold = [0.5] * columns if "multi-label" in task else 0.5
    scores, clean = answers(1.5)
    theirs.evaluate_clean(scores, threshold)
    ours = {}
    for name in corruptions:
        parts = [answers(1.2 - 0.2 * level) for level in range(5)]
        theirs.evaluate(np.concatenate([part for part, _ in parts]), name, threshold)
        ours[name] = [answer for _, answer in parts]
    assert_same_figures(theirs, summaries(named, clean, ours, bootstrap_counts(cases, draws=20)))


def test_the_published_baselines_are_those_of_their_package():
    pytest.importorskip("medmnistc", reason=WHY)
    from medmnistc.utils.baselines import BASELINES

    for named, errors in ALEXNET.items():
        assert {CLEAN: BASELINES[named]["clean_score"], **BASELINES[named]["raw_scores"]} == errors
    colour = set(BASELINES) - set(ALEXNET)
    assert colour == {"bloodmnist", "dermamnist", "pathmnist", "retinamnist"}
