"""Transfer: what a surrogate's gradient finds counts only where the audited model falls for it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.transfer import TransferLinf, shown_to
from robustbench_rad.audit import prepare, run_audit
from robustbench_rad.errors import ModelError, PlanError
from robustbench_rad.judging import FinishedRun
from robustbench_rad.plan import read_plan
from robustbench_rad.query import CountingQuery

NAMES = ("2/255", "8/255")
CHECK = """
[checks."attack.transfer-linf"]
epsilon = ["4/255"]
steps = 3
surrogate = {table}
"""


def with_surrogate(attack, classifier):
    """The attack with a surrogate that is in memory already."""
    bound = replace(attack)
    bound._remember(plan="in memory", loaded=classifier)
    return bound


def linear(lab, weight, size=(6, 7), spec=None):
    model = lab.Linear(weight, -0.5 * weight.sum(1))
    classifier = lab.classifier(model, size=size)
    return replace(classifier, input=spec) if spec else classifier


@pytest.fixture
def pair(lab):
    """An audited linear model, and one whose weights are like its own."""
    source = torch.Generator().manual_seed(4)
    weight = torch.randn(1, 42, generator=source)
    return linear(lab, weight), linear(lab, weight + 0.7 * torch.randn(1, 42, generator=source))


def test_between_linear_models_the_answer_is_known(lab, pair):
    audited, surrogate = pair
    images = lab.images((300, 1, 6, 7), bits=8) * 0.5 + 0.25  # no pixel near the edge of the box
    images = (images * 255).round() / 255
    labels = lab.called(audited, images)
    attack = with_surrogate(TransferLinf(levels=ladder(*NAMES), full_search=NAMES), surrogate)
    margins, _ = lab.attack(attack, audited, lab.batch(images, labels))
    w, push = audited.module.weight[0], surrogate.module.weight[0].sign()
    clean = lab.side(labels) * audited.margins(images).detach()
    for level in attack.levels:
        expected = clean - level.value * (w * push).sum()
        torch.testing.assert_close(lab.side(labels) * margins[level.name], expected.detach(), rtol=1e-4, atol=1e-4)
    own, _ = lab.attack(PgdLinf(levels=ladder(*NAMES), full_search=NAMES), audited, lab.batch(images, labels))
    assert (lab.side(labels) * (own["8/255"] - margins["8/255"]) < 0).all()
    assert ((margins["8/255"] >= 0).float() != labels).any()


def test_gradients_of_the_audited_model_are_never_used(lab, pair):
    audited, surrogate = pair

    class Hidden(nn.Module):
        def forward(self, images):
            return audited.module(images.detach())

    images = lab.images((20, 1, 6, 7), bits=8)
    hidden = lab.classifier(Hidden(), size=(6, 7))
    batch = lab.batch(images, lab.called(audited, images))
    attack = with_surrogate(TransferLinf(levels=ladder(*NAMES), steps=4), surrogate)
    open_margins, _ = lab.attack(attack, audited, batch, CountingQuery(audited))
    hidden_margins, _ = lab.attack(attack, hidden, batch, CountingQuery(hidden))
    for name in NAMES:
        torch.testing.assert_close(open_margins[name], hidden_margins[name])


def test_a_surrogate_of_another_size_and_range_sees_the_same_image(lab):
    audited = linear(lab, torch.ones(1, 42))
    spec = replace(audited.input, size=(3, 4), range=(-1.0, 1.0))
    surrogate = linear(lab, torch.ones(1, 12), size=(3, 4), spec=spec)
    view = shown_to(surrogate, replace(audited, input=replace(audited.input, range=(-1.0, 1.0))))
    image = torch.full((1, 1, 6, 7), 0.3)
    torch.testing.assert_close(view(image), torch.full((1, 1, 3, 4), 0.3))
    images = lab.images((20, 1, 6, 7), bits=8)
    labels = lab.called(audited, images)
    surrogate = linear(lab, torch.ones(1, 12), size=(3, 4), spec=replace(spec, range=(0.0, 1.0)))
    attack = with_surrogate(TransferLinf(levels=ladder("2/255"), full_search=("2/255",)), surrogate)
    margins, _ = lab.attack(attack, audited, lab.batch(images, labels))
    drop = lab.side(labels) * (audited.margins(images).detach() - margins["2/255"])
    assert (drop > 0.9 * 42 * 2 / 255 * 0.9).float().mean() > 0.9  # pixels at the edge of the box have no room


def test_order_and_companions_change_nothing(lab, pair):
    audited, surrogate = pair
    images = lab.images((6, 1, 6, 7), bits=8)
    batch = lab.batch(images, lab.called(audited, images))
    attack = with_surrogate(TransferLinf(levels=ladder(*NAMES), steps=5), surrogate)
    reference, _ = lab.attack(attack, audited, batch)
    order = torch.tensor([3, 1, 5, 0])
    for name, margins in lab.attack(attack, audited, batch.select(order))[0].items():
        torch.testing.assert_close(margins, reference[name][order])


def test_the_price_is_what_an_unbroken_model_costs(lab):
    audited = linear(lab, torch.full((1, 42), 1e-6))
    audited.module.bias.data += 5
    images = lab.images((3, 1, 6, 7), bits=8)
    batch = lab.batch(images, torch.ones(3, 1), clean_margins=audited.margins(images).detach())
    query = CountingQuery(audited)
    attack = TransferLinf(levels=ladder(*NAMES), steps=6)
    list(attack.apply(batch, query, None).variants)
    assert query.forwards + 2 * query.backwards == 3 * attack.passes(findings=1)  # its own surrogate: all is counted


def test_the_planted_linear_model_is_solved(pair):
    assert TransferLinf().self_test() == ""
    assert with_surrogate(TransferLinf(steps=3), pair[1]).self_test() == ""


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": True}, {"step_rule": "big"}, {"surrogate": "old.pt"}, {"surrogate": 3}]
)
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        TransferLinf.from_options(options)


def planned(workshop, edit, table):
    edit('[checks."shift.xr.dose"]', CHECK.format(table=table) + '[checks."shift.xr.dose"]', name="profile.toml")
    return read_plan(workshop / "plan.toml")


def previous(workshop, slope=30.0):
    """Write the previous release: TorchScript."""

    class Brightness(nn.Module):
        def __init__(self, slope: float):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(slope))

        def forward(self, x):
            return self.slope * (x.mean((1, 2, 3)) - 0.5)[:, None]

    example = torch.rand(2, 1, 16, 16)
    torch.jit.trace(Brightness(slope).eval(), example).save(str(workshop / "previous.ts"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_plan_names_the_previous_release_and_its_hash_belongs_to_the_run(workshop, edit):
    previous(workshop)
    plan = planned(workshop, edit, '{ factory = "previous.ts" }')
    audit = run_audit(plan, folder=workshop / "run")
    assert any(criterion.check == "attack.transfer-linf" for criterion in audit.result.criteria)
    again = FinishedRun.read(workshop / "run").judge()
    assert not [c for c in again.criteria if c.check == "attack.transfer-linf" and "not measured" in (c.reason or "")]
    before = prepare(plan).identity
    assert before.sha256 == audit.result.provenance.measurement_sha256
    previous(workshop, slope=31.0)
    assert prepare(plan).identity.sha256 != before.sha256


def test_a_factory_with_weights_is_loaded_as_the_model_is(workshop, edit):
    (workshop / "older.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, 1))\n"
    )
    state = {"1.weight": torch.full((1, 256), 0.1), "1.bias": torch.tensor([-12.8])}
    torch.save(state, workshop / "older.pth")
    plan = planned(workshop, edit, '{ factory = "older.py:build", weights = "older.pth" }')
    prepared = prepare(plan)
    (attack,) = (condition for condition in prepared.conditions if condition.id == "attack.transfer-linf")
    first = attack.reads_sha256
    surrogate = attack._surrogate_of(prepared.classifier)
    assert torch.equal(surrogate.module[1].weight.detach(), state["1.weight"])
    torch.save({**state, "1.bias": torch.tensor([-12.7])}, workshop / "older.pth")
    (other,) = (condition for condition in prepare(plan).conditions if condition.id == "attack.transfer-linf")
    assert other.reads_sha256 != first


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ("{}", PlanError, "expected the previous release"),
        ('{ factory = "model.py:brightness", wieghts = "a.pt" }', PlanError, "weights"),
        ('{ factory = "model.py:brightness", findings = ["dark"] }', PlanError, "expected those of the audited model"),
        ('{ factory = "gone.ts" }', ModelError, "gone.ts"),
        ('{ factory = "model.py:brightness", weights = "gone.pth" }', ModelError, "gone.pth"),
        ('{ factory = "gone.py:build" }', ModelError, "gone.py"),
        ('{ factory = "model.py:wide" }', ModelError, "surrogate: model output: expected shape"),
    ],
)
def test_a_surrogate_that_cannot_stand_in_is_refused_before_anything_is_run(workshop, edit, table, error, message):
    plan = planned(workshop, edit, table)
    with pytest.raises(error, match=message) as caught:
        run_audit(plan, folder=workshop / "run")
    assert caught.value.hint or "\n" in str(caught.value) or message == "weights"
    assert not (workshop / "run" / "chunks").exists() or not list((workshop / "run" / "chunks").iterdir())
