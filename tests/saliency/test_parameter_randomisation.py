"""The parameter-randomisation check: a trained network passes, an edge detector does not, and no machinery shows."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import ModelError, PlanError
from robustbench_rad.registry import catalogue
from robustbench_rad.saliency import maps as saliency_maps
from robustbench_rad.saliency.parameter_randomisation import ParameterRandomisation
from robustbench_rad.seeds import derive_seed

RANDOMISED, BETWEEN = "similarity_randomised", "similarity_between_images"


def cases(n: int = 24, findings: int = 1, patients: int | None = None) -> Batch:
    """A spot at one place in positives, a bar elsewhere in all, noise everywhere."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.arange(n * findings).reshape(n, findings) % 2).float()
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    images = 0.3 + 0.1 * torch.randn(n, 1, 32, 32, generator=generator)
    for case in range(n):
        jitter = torch.randint(-1, 2, (2,), generator=generator)
        spot = torch.exp(-((rows - 10 - jitter[0]) ** 2 + (columns - 11 - jitter[1]) ** 2) / 12.0)
        images[case, 0] += 0.5 * labels[case, 0] * spot
        start = int(torch.randint(2, 20, (1,), generator=generator))
        images[case, 0, 20:30, start : start + 8] += 0.4
    ids = tuple(f"case-{case}" for case in range(n))
    return Batch(
        images=images.clamp(0, 1),
        labels=labels,
        case_ids=ids,
        patient_ids=tuple(f"patient-{case % (patients or n)}" for case in range(n)),
        seeds=tuple(derive_seed(7, name) for name in ids),
        space=Space.DISPLAY,
    )


def split(batch: Batch, size: int) -> list[Batch]:
    return [batch.select(rows) for rows in torch.arange(len(batch)).split(size)]


def measured(classifier, batch: Batch, condition: ParameterRandomisation | None = None, size: int = 7, state=None):
    """Values by (quantity, finding) in the order of the batch."""
    condition = condition or ParameterRandomisation()
    state = state or condition.fit(classifier, iter(split(batch, size)))
    query = SimpleNamespace(classifier=classifier, findings=classifier.findings)
    found: dict[tuple[str, str], list[torch.Tensor]] = {}
    for part in split(batch, size):
        applied = condition.apply(part, query, state)
        assert list(applied.variants) == []
        for measurement in applied.measurements:
            found.setdefault((measurement.quantity, measurement.finding), []).append(measurement.values)
    return {key: torch.cat(values) for key, values in found.items()}


@pytest.fixture(scope="module")
def trained():
    """A small network that has learned the spot."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
        )  # fmt: skip
        batch, optimiser = cases(96), torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            logits = module((batch.images - 0.5) / 0.2)
            nn.functional.binary_cross_entropy_with_logits(logits, batch.labels).backward()
            optimiser.step()
    return module.requires_grad_()


def test_maps_of_a_trained_network_depend_on_what_it_learned(nets, trained):
    found = measured(nets.wrap(trained), cases())
    judged = cases().labels[:, 0] == 1
    randomised, between = (found[name, "finding 0"] for name in (RANDOMISED, BETWEEN))
    assert torch.equal(~randomised.isnan(), judged)
    assert randomised[judged].mean() < 0.3
    assert randomised[judged].mean() < between[judged].mean()
    assert (found["uses_input_gradient", ""] == 0).all()


def test_an_edge_detector_is_found_out(nets, trained, monkeypatch):
    """A map that is a function of the image alone is the same after the model forgot everything."""

    def edges(_classifier, display, _layer, findings):
        down, right = torch.gradient(display[:, 0], dim=(1, 2))
        return (down.square() + right.square()).sqrt().unsqueeze(1).expand(-1, len(findings), -1, -1)

    monkeypatch.setattr(saliency_maps, "maps", edges)
    found = measured(nets.wrap(trained), cases())
    judged = cases().labels[:, 0] == 1
    torch.testing.assert_close(found[RANDOMISED, "finding 0"][judged], torch.ones(12))
    torch.testing.assert_close(found["ssim_randomised", "finding 0"][judged], torch.ones(12))
    assert found[BETWEEN, "finding 0"][judged].mean() < 0.5


def test_copies_that_draw_the_map_in_negative_do_not_count_as_unlike(nets, trained, monkeypatch):
    """One copy draws the map itself, the other its negative: their signed mean would be 0."""
    classifier, drawn = nets.wrap(trained), {}

    def brightness(model, display, _layer, findings):
        negative = drawn.setdefault(model, len(drawn) % 2)
        plane = 1.0 - display[:, :1] if negative else display[:, :1]
        return plane.expand(-1, len(findings), -1, -1)

    monkeypatch.setattr(saliency_maps, "maps", brightness)
    found = measured(classifier, cases(), ParameterRandomisation(seeds=2))
    assert len(drawn) == 3
    judged = cases().labels[:, 0] == 1
    torch.testing.assert_close(found[RANDOMISED, "finding 0"][judged], torch.ones(12))


def test_copies_are_drawn_with_the_audits_seed(nets):
    classifier, batch, condition = nets.build("convolutional", 1), cases(8), ParameterRandomisation(seeds=1)
    state = condition.fit(classifier, iter([batch]))

    def similarity(seed):
        seeded = replace(batch, audit_seed=seed)
        return measured(classifier, seeded, condition, state=state)[RANDOMISED, "finding 0"]

    first, other, again = similarity(3), similarity(4), similarity(3)
    assert torch.equal(first.nan_to_num(), again.nan_to_num())
    assert not torch.equal(first.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("size", [1, 5, 24])
def test_neither_batch_size_nor_order_changes_a_number(nets, size):
    classifier, batch, condition = (
        nets.build("dense", 3),
        cases(24, 3),
        ParameterRandomisation(max_cases=6, references=4),
    )
    expected = measured(classifier, batch, condition)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(size))
    got = measured(classifier, batch.select(order), condition, size=size)
    for key, values in expected.items():
        torch.testing.assert_close(got[key], values[order], rtol=1e-4, atol=2e-3, equal_nan=True, msg=str(key))


def test_the_sample_is_the_positives_with_the_smallest_keys(nets):
    batch, condition = cases(24, 2), ParameterRandomisation(max_cases=5, references=2)
    batch.labels[3] = float("nan")
    found = measured(nets.build("convolutional", 2), batch, condition)
    keys = [derive_seed(seed, condition.id, condition.version, "sample") for seed in batch.seeds]
    for finding in range(2):
        positives = [case for case in range(24) if batch.labels[case, finding] == 1]
        expected = sorted(sorted(positives, key=keys.__getitem__)[:5])
        values = found[RANDOMISED, f"finding {finding}"]
        assert values.isfinite().nonzero().flatten().tolist() == expected


def test_between_images_never_compares_a_patient_with_himself(nets):
    classifier, condition = nets.build("convolutional"), ParameterRandomisation()
    alone = cases(12, 3, patients=1)
    found = measured(classifier, alone, condition)
    assert found[BETWEEN, "finding 0"].isnan().all()
    assert found[RANDOMISED, "finding 0"].isfinite().any()
    same = replace(alone, images=alone.images[:1].expand(12, 1, 32, 32), patient_ids=tuple("abcdefghijkl"))
    torch.testing.assert_close(measured(classifier, same, condition)[BETWEEN, "finding 0"].nanmean(), torch.tensor(1.0))


def test_state_holds_reference_maps_and_no_names(nets):
    batch = cases(24, 3, patients=10)
    state = ParameterRandomisation(references=4).fit(nets.build("convolutional"), iter(split(batch, 5)))
    assert state["reference_maps"].shape == (3, 4, 32, 32)
    assert state["calibration"].shape == (4, 1, 32, 32)
    for patients in state["reference_patients"]:
        assert patients.unique().numel() == 4
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_no_positive_case_measures_nothing(nets):
    batch = cases(8)
    batch.labels.zero_()
    assert measured(nets.build("convolutional", 1), batch)[RANDOMISED, "finding 0"].isnan().all()
    assert ParameterRandomisation().fit(nets.build("convolutional"), iter([]))["calibration"].shape == (0, 1, 32, 32)


def test_a_constant_model_is_not_assessable(nets):
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return 0 * self.conv(x).mean((1, 2, 3)).unsqueeze(1)

    found = measured(nets.wrap(Constant()), cases(8))
    assert found[RANDOMISED, "finding 0"].isnan().all()
    assert found[BETWEEN, "finding 0"].isnan().all()


def test_without_hooks_the_input_gradient_is_used_and_said(nets):
    classifier = nets.build("convolutional", 1)
    scripted = nets.wrap(torch.jit.trace(classifier.module, nets.images()), hookable=False)
    found = measured(scripted, cases(8), ParameterRandomisation(seeds=1))
    assert (found["uses_input_gradient", ""] == 1).all()
    assert found[RANDOMISED, "finding 0"].isfinite().any()


@pytest.mark.parametrize("network", ["transformer", "vgg"])
def test_other_networks_are_judged_too(nets, network):
    found = measured(nets.build(network, 1), cases(8), ParameterRandomisation(seeds=2))
    assert found[RANDOMISED, "finding 0"].isfinite().sum() == 4


def test_model_and_random_state_are_left_alone(nets):
    classifier = nets.build("convolutional", 1)
    before = {key: value.clone() for key, value in classifier.module.state_dict().items()}
    random = torch.random.get_rng_state()
    measured(classifier, cases(8))
    assert nets.hooks(classifier.module) == 0
    assert all(torch.equal(before[key], value) for key, value in classifier.module.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.module.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


def test_copies_are_made_once_per_model_and_go_with_it(nets, monkeypatch):
    import gc

    from robustbench_rad.saliency import parameter_randomisation as module

    made = []
    plain = module.randomised_twin
    monkeypatch.setattr(module, "randomised_twin", lambda *given: made.append(1) or plain(*given))
    kept = len(module._twins)
    classifier = nets.build("convolutional", 1)
    measured(classifier, cases(8), size=2)
    assert len(made) == 3
    measured(classifier, cases(12), size=2)  # other calibration images, other copies
    assert len(made) == 6
    del classifier
    gc.collect()
    assert len(module._twins) <= kept


def test_it_needs_the_model_and_what_was_learned(nets):
    classifier = nets.build("convolutional", 1)
    for query, state in (
        (None, {}),
        (SimpleNamespace(findings=("x",)), {}),
        (SimpleNamespace(classifier=classifier), None),
    ):
        with pytest.raises(ModelError, match="needs the model itself"):
            ParameterRandomisation().apply(cases(2), query, state)


@pytest.mark.parametrize("option", ["seeds", "max_cases", "references", "grid_px"])
def test_options_are_checked(option):
    with pytest.raises(PlanError, match=f"{option} must be at least"):
        ParameterRandomisation.from_options({option: 0})


def test_catalogue_knows_it():
    entry = catalogue()["saliency.parameter-randomisation"]
    assert (entry.domain, entry.space) == ("saliency", "display")
    assert ParameterRandomisation(seeds=3).passes(14) == 4
