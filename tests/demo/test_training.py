import tomllib

import pytest
import torch

from robustbench_rad.demo import KINDS, demo_plan, training
from robustbench_rad.demo.dataset import phantom_set
from robustbench_rad.demo.models import lesion_cnn
from robustbench_rad.demo.training import Stage, augmented, perturbed, train, train_all

TINY = (Stage(cases=25, epochs=1), Stage(cases=25, epochs=1, epsilon=2 / 255, association=0.9))


def test_training_is_deterministic_and_leaves_global_state_alone():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first, second = (train("clean", seed=3, stages=TINY).state_dict() for _ in range(2))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights():
    first, second = (train("clean", seed=seed, stages=TINY[:1]).head.weight for seed in (3, 4))
    assert not torch.equal(first, second)


def test_train_all_writes_weights_that_the_plan_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "RECIPES", {kind: TINY[:1] for kind in KINDS})
    monkeypatch.setattr(training, "VALIDATION_CASES", 20)
    paths = train_all(tmp_path / "weights")
    assert [path.stem for path in paths] == list(KINDS)
    made = tomllib.loads((tmp_path / "weights" / "models.toml").read_text())
    for kind, path in zip(KINDS, paths, strict=True):
        model = demo_plan(kind, folder=tmp_path / "weights")["model"]
        assert model["weights"] == str(path)
        assert model["sha256"] == made[kind]["sha256"]


def test_augmentation_keeps_shape_and_range():
    images = phantom_set(5, 4).images
    changed = augmented(images, 0.1, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not changed.equal(images)


def test_the_adversarial_step_keeps_its_radius_and_raises_the_loss():
    data, model = phantom_set(5, 10), lesion_cnn()
    # Freshly made normalisation is the identity, so the model is nearly linear: the step must go uphill.
    stepped = perturbed(model, data.images, data.labels, 4 / 255, torch.Generator().manual_seed(0))

    def loss(images):
        return training._loss(model(images)[:, 0], data.labels).item()

    assert (stepped - data.images).abs().max() <= 4 / 255 + 1e-6
    assert loss(stepped) > loss(data.images)


def test_no_radius_no_step():
    images = phantom_set(5, 2).images
    assert perturbed(lesion_cnn(), images, torch.ones(2), 0.0, torch.Generator()) is images


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_begin_alike_and_only_one_sees_a_telling_marker(kind):
    first, *_, last = training.RECIPES[kind]
    assert first.association == 0.5
    assert (last.association > 0.5) == (kind == "shortcut")


def test_every_batch_holds_both_images_of_a_patient():
    patients = phantom_set(5, 50).patients
    batches = list(training._batches(50, 2, torch.Generator().manual_seed(0)))
    assert len(batches) == 4
    for rows in batches:
        pairs = patients[rows].view(-1, training.GROUP)[:, 1:].unflatten(1, (2, 2))
        assert pairs[..., 0].equal(pairs[..., 1])


def test_disagreement_looks_at_pairs_only():
    assert training._disagreement(torch.tensor([9.0, 1.0, 3.0, 2.0, 2.0])) == 2.0
