"""What the diagnostics measure, against models whose trouble is known."""

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.attacks import _watched as watched
from robustbench_rad.attacks.diagnostics import LATE, QUANTITIES, STATES, Diagnostics, saturation_limit
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.classifier import Outputs
from robustbench_rad.defences.chain import DefendedClassifier
from robustbench_rad.errors import ModelError
from robustbench_rad.query import CountingQuery


class Brightness(nn.Module):
    def __init__(self, before=None, after=None):
        super().__init__()
        self.before, self.after = before, after
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        x = self.before(x) if self.before else x
        z = self.scale * (x.flatten(1).mean(1) - 0.5)[:, None]
        return self.after(z) if self.after else z


@pytest.fixture
def films(lab):
    """24 films 9 x 7 whose mean is 0.3 or 0.7, so that margins are about -4 and 4."""
    level = torch.where(torch.arange(24) % 2 == 0, 0.3, 0.7)[:, None, None, None]
    return ((level + 0.2 * (lab.images((24, 1, 9, 7)) - 0.5)) * 255).round() / 255


@pytest.fixture
def measure(lab):
    """Measurements by quantity, of a module on images, with right labels."""

    def run(module, images, options=None, *, labels=None, classifier=None, rows=None):
        classifier = classifier or lab.classifier(module, size=tuple(images.shape[2:]))
        batch = lab.batch(images, lab.called(classifier, images) if labels is None else labels)
        diagnostics = Diagnostics(**{"steps": 11, **(options or {})})
        state = diagnostics.fit(classifier, iter([batch]))
        query = CountingQuery(classifier)
        applied = diagnostics.apply(batch if rows is None else batch.select(rows), query, state)
        assert list(applied.variants) == []
        return {m.quantity: m.values for m in applied.measurements}, query

    return run


def test_a_plain_model_has_nothing_to_hide(measure, films):
    found, _ = measure(Brightness(), films)
    assert set(QUANTITIES) <= set(found)
    assert not found["zero_gradient"].any()
    assert not found["graph_cut"].any()
    assert not found["temperature_changed"].any()
    assert not found["flipped"].any()
    assert found["flipped_whole_box"].all()
    assert found["gradient_truth"].eq(1).all()
    assert (found["repeat_difference"] == 0).all()
    assert (found["numeric_noise"] < 1e-5).all()
    assert (found["late_gain"] == 0).all()
    assert (found["ruggedness"] < 0.01).all()
    torch.testing.assert_close(found["log_odds"], 20 * (films.mean((1, 2, 3)) - 0.5), atol=1e-4, rtol=0)
    assert not any(found[f"changed {name}"].any() for name in STATES)
    assert found["probabilities_only"].eq(0).all()


def test_the_fall_of_a_linear_model_is_exact_and_flips_stand(measure, films):
    """A change of every pixel by 60/255 moves the margin by 4.7: past the boundary."""
    found, _ = measure(Brightness(), films, {"epsilon": "60/255"})
    for name in ("flipped", "flipped_twice_the_steps", "flipped_second_start", "flipped_cross_entropy", "reverified"):
        assert found[name].all(), name
    assert found["late_gain"].isnan().all()


def test_cut_graphs_are_found_whichever_way_they_are_cut(measure, films):
    for cut in (torch.round, lambda z: (z > 0).float() - 0.5, lambda z: torch.from_numpy(np.asarray(z.detach()))):
        found, _ = measure(Brightness(after=cut), films)
        assert found["zero_gradient"].all()
        assert found["gradient_truth"].isnan().all()
    found, _ = measure(Brightness(before=lambda x: (x * 8).round() / 8), films)
    assert found["graph_cut"].all()
    assert found["zero_gradient"].all()


def test_a_constant_model_is_blind_but_its_graph_is_whole(measure, films):
    found, _ = measure(Brightness(after=lambda z: 0 * z + 1), films, labels=torch.ones(24, 1))
    assert found["zero_gradient"].all()
    assert not found["graph_cut"].any()
    assert not found["flipped_whole_box"].any()


def test_a_reversed_gradient_is_called_a_lie(measure, films):
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    found, _ = measure(Brightness(after=Reverse.apply), films)
    assert found["gradient_truth"].eq(0).all()


def test_cross_entropy_goes_blind_where_the_margin_does_not(measure, films):
    """Logits of 40 have no cross-entropy gradient in float32 for positives; the margin attack does not care."""
    module = Brightness(after=lambda z: 10 * z)
    found, _ = measure(module, films, {"epsilon": "60/255"})
    assert found["flipped"].all()
    positive = films.mean((1, 2, 3)) > 0.5
    assert not found["flipped_cross_entropy"][positive].any()
    assert found["flipped_cross_entropy"][~positive].all()


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_scaling_the_margins_scales_the_answers_and_nothing_else(lab, films, factor):
    classifier = lab.classifier(Brightness(), size=(9, 7))
    query = CountingQuery(classifier)
    scaled = watched.Scaled(query=query, factor=factor, findings=query.findings)
    weights = torch.ones(24, 1)
    margins, gradient = query.margins_and_gradient(films, weights)
    again, slope = scaled.margins_and_gradient(films, weights)
    torch.testing.assert_close(again, margins * factor)
    torch.testing.assert_close(slope, gradient * factor)
    torch.testing.assert_close(scaled.margins(films), margins * factor)


def test_noise_in_the_forward_pass_is_seen_in_repeats_and_in_the_random_state(measure, films):
    found, _ = measure(Brightness(after=lambda z: z + 0.01 * torch.randn_like(z)), films)
    assert (found["repeat_difference"] > 1e-4).all()
    assert found["changed random state"].eq(1).all()


@pytest.mark.parametrize("kind", ["python", "numpy", "buffer", "mode", "gradient", "tracer"])
def test_whatever_a_model_changes_is_named(measure, films, kind):
    class Careless(Brightness):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            match kind:
                case "python":
                    random.random()
                case "numpy":
                    np.random.rand()
                case "buffer":
                    self.count += 1
                case "mode":
                    self.training = not self.training
                case "gradient":
                    self.scale.grad = torch.ones(())
                case "tracer":
                    sys.settrace(lambda *_: None)
            return super().forward(x)

    before = sys.gettrace()
    try:
        found, _ = measure(Careless(), films[:2], {"max_cases": 1})
    finally:
        sys.settrace(before)
    name = {
        "python": "random state",
        "numpy": "random state",
        "buffer": "parameters or buffers",
        "mode": "modes",
        "gradient": "gradients",
        "tracer": "tracer",
    }[kind]
    changed = {state for state in STATES if found[f"changed {state}"].nan_to_num().any()}
    if kind != "mode":  # an even number of passes restores it
        assert changed == {name}


def test_a_steep_ripple_is_rugged(measure, films):
    found, _ = measure(Brightness(after=lambda z: z + 3 * torch.sin(3e5 * z)), films)
    assert found["ruggedness"].nanmean() > 0.1


def test_only_correct_calls_of_the_sample_are_measured_and_paid_for(measure, films):
    labels = (films.mean((1, 2, 3)) > 0.5).float()[:, None]
    labels[:4] = 1 - labels[:4]
    labels[4:8] = torch.nan
    found, query = measure(Brightness(), films, {"max_cases": 5}, labels=labels)
    looked = ~found["zero_gradient"].isnan()
    assert not looked[:8].any()
    assert 1 <= int(looked.sum()) <= 10
    price = Diagnostics(steps=11).passes(1)
    assert query.forwards + 2 * query.backwards <= price * int(looked.sum())
    assert Diagnostics(max_cases=5).sampled_cases(3) == 10


def test_the_price_is_nearly_what_an_unbroken_model_costs(measure, films):
    found, query = measure(Brightness(), films)
    paid = (query.forwards + 2 * query.backwards) / int((~found["flipped"].isnan()).sum())
    price = Diagnostics(steps=11).passes(1)
    assert 0.75 * price <= paid <= price


def test_company_and_order_change_nothing(measure, films, lab):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 5, 1))
    classifier = lab.classifier(module, size=(9, 7))
    with torch.no_grad():
        module[-1].bias -= classifier.margins(films).median()
    whole, _ = measure(module, films, classifier=classifier)
    rows = torch.tensor([5, 2, 11, 3])
    part, _ = measure(module, films, classifier=classifier, rows=rows)
    for name in (*QUANTITIES, "epsilon"):
        if name != "numeric_noise":
            torch.testing.assert_close(part[name], whole[name][rows], atol=1e-4, rtol=1e-3, equal_nan=True, msg=name)


def test_volumes_are_measured_like_planes(measure, films):
    volumes = films.reshape(24, 1, 3, 3, 7)
    plane, _ = measure(Brightness(), films)
    volume, _ = measure(Brightness(), volumes)
    for name in ("zero_gradient", "log_odds", "flipped", "flipped_whole_box", "gradient_truth"):
        torch.testing.assert_close(volume[name], plane[name])


def test_the_limit_of_saturation_follows_the_narrowest_type_of_the_weights(lab):
    for kind, limit in ((torch.float32, 16.0), (torch.float64, 16.0), (torch.float16, 8.0), (torch.bfloat16, 6.0)):
        assert saturation_limit(lab.classifier(nn.Linear(2, 1).to(kind), size=(1, 2))) == limit
    assert saturation_limit(lab.classifier(nn.Flatten(), size=(1, 1))) == 16.0


def test_probability_heads_and_declared_defences_are_said(measure, films, lab):
    classifier = lab.classifier(Brightness(after=torch.sigmoid), size=(9, 7))
    classifier = replace(classifier, head=replace(classifier.head, outputs=Outputs.PROBABILITIES))
    found, _ = measure(None, films, classifier=classifier)
    assert found["probabilities_only"].eq(1).all()
    plain = lab.classifier(Brightness(), size=(9, 7))
    defended = DefendedClassifier(module=plain.module, input=plain.input, head=plain.head, defences=())
    found, _ = measure(None, films, classifier=defended)
    assert found["defended"].eq(1).all()


def test_a_descent_is_never_weaker_than_pgd_without_restarts(lab, calibrated):
    classifier, images, labels = calibrated(cases=16)
    batch = lab.batch(images, labels)
    margins, _ = lab.attack(PgdLinf(levels=(PgdLinf.level("2/255"),), steps=20, random_starts=0), classifier, batch)
    diagnostics = Diagnostics(max_cases=16)
    query = CountingQuery(classifier)
    applied = diagnostics.apply(batch, query, diagnostics.fit(classifier, iter([batch])))
    found = {m.quantity: m.values for m in applied.measurements}
    flipped = (margins["2/255"][:, 0] * lab.side(labels)[:, 0]) <= 0
    assert flipped.any()
    assert torch.equal(found["flipped"].bool(), flipped)


def test_it_needs_the_model_and_its_sample(lab, films):
    classifier = lab.classifier(Brightness(), size=(9, 7))
    batch = lab.batch(films, lab.called(classifier, films))
    for query, state in ((None, {}), (CountingQuery(classifier), None)):
        with pytest.raises(ModelError, match=r"attack\.diagnostics needs the model itself"):
            Diagnostics().apply(batch, query, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0}, "above 0"),
        ({"epsilon": 2.0}, "up to 1"),
        ({"steps": LATE}, "at least 11"),
        ({"steps": True}, "steps"),
        ({"max_cases": 0}, "max_cases"),
        ({"levels": (PgdLinf.level("1/255"),)}, "one radius"),
    ],
)
def test_what_leaves_nothing_to_watch_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Diagnostics(**options)
