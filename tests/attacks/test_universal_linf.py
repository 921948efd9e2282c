"""One perturbation for all: exact on linear models, cross-fitted by patient, with a control."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks._universal_bank import Bank
from robustbench_rad.attacks.universal_linf import UniversalLinf
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.sampling import patient_key

LADDER = ("1/255", "2/255", "4/255", "8/255")


def fitted(lab, attack, classifier, batch, *, parts=1):
    """Margins by level and measurements, after learning from the same batch in several pieces."""
    pieces = torch.arange(len(batch)).chunk(parts)
    state = attack.fit(classifier, iter([batch.select(piece) for piece in pieces]))
    applied = attack.apply(batch, lab.SpyQuery(classifier), state)
    margins = {variant.level.name: variant.margins for variant in applied.variants}
    return margins, {(m.quantity, m.level, m.finding): m.values for m in applied.measurements}, state


def worst_of_sign(model, images, side, eps):
    """``(N, 1)`` margins of ``x - side eps sign(w)`` clipped to the box, in float64."""
    weight = model.weight.double()
    planes = (images.flatten(1).double() - side.double() * eps * weight.sign()).clamp(0, 1)
    return planes @ weight.T + model.bias.double()


@pytest.mark.parametrize("shape", [(7, 9), (3, 4, 5)], ids=["plane", "volume"])
@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_a_linear_model_is_flipped_exactly_where_the_sign_of_its_weights_flips_it(lab, shape, full):
    model = lab.linear(torch.Size(shape).numel())
    classifier = lab.classifier(model, size=shape)
    images = lab.images((300, 1, *shape), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = UniversalLinf(levels=ladder(*LADDER), full_search=LADDER if full else (), epochs=2, fit_cases=40)
    margins, _, state = fitted(lab, attack, classifier, lab.batch(images, labels, stored_bits=16))
    weight = model.weight.reshape(1, *shape).sign()
    assert torch.equal(state["delta"][:, :, 0, 1], (-weight).expand(4, 2, *weight.shape))
    assert torch.equal(state["delta"][:, :, 0, 0], weight.expand(4, 2, *weight.shape))
    rates = []
    for level in attack.levels:
        worst = worst_of_sign(model, images, lab.side(labels), level.value)
        flipped = (worst >= 0).float() != labels
        assert torch.equal((margins[level.name] >= 0).float() != labels, flipped)
        if full:
            torch.testing.assert_close(margins[level.name], worst.float(), rtol=1e-4, atol=1e-4)
        rates.append(flipped.float().mean().item())
    assert 0 < rates[0] < rates[-1]


def test_a_case_is_never_scored_by_what_its_own_patient_taught(lab, calibrated):
    classifier, images, labels = calibrated(cases=40, seed=3)
    batch = replace(lab.batch(images, labels), patient_ids=tuple(f"patient-{row // 2}" for row in range(40)))
    attack = UniversalLinf(levels=ladder("8/255"), full_search=("8/255",), epochs=3, least_cases=1)
    margins, _, state = fitted(lab, attack, classifier, batch)
    halves = dict(zip(state["patients"].tolist(), state["half"].tolist(), strict=True))
    own = torch.tensor([halves[patient_key(name)] for name in batch.patient_ids])
    assert 0 < own.float().mean() < 1
    touched = images.clone()
    touched[own == 0] = 1 - touched[own == 0]
    again = replace(attack).fit(classifier, iter([replace(batch, images=touched)]))
    assert torch.equal(again["delta"][:, 1], state["delta"][:, 1])  # half 1 learned from half 1 alone
    assert not torch.equal(again["delta"][:, 0], state["delta"][:, 0])
    side = lab.side(labels)
    for row in range(40):
        delta = state["delta"][0, 1 - own[row], 0, int(labels[row, 0])]
        plane = ((images[row] + 8 / 255 * delta).clamp(0, 1) * 255).round() / 255
        with torch.no_grad():
            health = side[row] * torch.minimum(
                side[row] * classifier.margins(plane[None])[0], side[row] * classifier.margins(images[[row]])[0]
            )
        torch.testing.assert_close(margins["8/255"][row], health, rtol=1e-4, atol=1e-4)


def test_random_signs_of_the_same_size_flip_less(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=80, seed=5)
    attack = UniversalLinf(levels=ladder("8/255"), epochs=10)
    margins, measured, _ = fitted(lab, attack, classifier, lab.batch(images, labels))
    flipped = ((margins["8/255"] >= 0).float() != labels).float()
    for k in range(2):
        control = measured["control_flip", "8/255", f"finding-{k}"]
        margin = measured["control_margin", "8/255", f"finding-{k}"]
        assert torch.equal(control == 1, (margin >= 0).float() != labels[:, k])
        assert flipped[:, k].mean() > control.mean() + 0.2
        assert measured["learned_from", "8/255", f"finding-{k}"].min() >= 5


def test_neither_order_nor_batches_change_what_is_learned(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=30, seed=1)
    batch = lab.batch(images, labels)
    attack = UniversalLinf(levels=ladder("2/255", "4/255"), epochs=2, fit_cases=12, least_cases=1)
    reference = attack.fit(classifier, iter([batch]))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    pieces = [batch.select(piece) for piece in order.split(7)]
    other = attack.fit(classifier, iter(pieces))
    assert reference.keys() == other.keys()
    for name in reference:
        assert torch.equal(reference[name], other[name]), name
    renamed = replace(batch, patient_ids=tuple(f"salted-{name}" for name in batch.patient_ids))
    assert torch.equal(attack.fit(classifier, iter([renamed]))["delta"], reference["delta"])


def test_memory_is_bounded_by_the_sample(lab):
    images = lab.images((200, 1, 4, 5))
    batch = lab.batch(images, torch.ones(200, 2))
    bank = Bank(size=6, findings=2, name=("test",))
    for piece in torch.arange(200).split(9):
        bank.offer(batch.select(piece), torch.ones(len(piece), 2), None, torch.ones(len(piece), 1))
        assert len(bank._cases) <= 6
    assert [len(cases) for cases in bank.kept().values()] == [0, 6, 0, 6]
    assert abs(sum(bank.halves().values()) - 100) < 30


def test_too_few_cases_to_learn_from_are_no_robust_cases(lab, calibrated):
    classifier, images, labels = calibrated(cases=12, seed=1)
    attack = UniversalLinf(levels=ladder("2/255"), least_cases=50)
    state = attack.fit(classifier, iter([lab.batch(images, labels)]))
    (variant,) = attack.apply(lab.batch(images, labels), lab.SpyQuery(classifier), state).variants
    assert variant.margins.isnan().all()
    assert "fewer than 50" in variant.reason


def test_only_pixels_that_may_be_touched_are(lab, calibrated):
    classifier, images, labels = calibrated(cases=20, seed=1)
    anatomy = torch.zeros_like(images, dtype=torch.bool)
    anatomy[:, :, 3:9, 2:12] = True
    batch = lab.batch(images, labels, anatomy=anatomy)
    attack = UniversalLinf(levels=ladder("4/255"), mask="anatomy", epochs=2, least_cases=1)
    state = attack.fit(classifier, iter([batch]))
    spy = lab.SpyQuery(classifier)
    list(attack.apply(batch, spy, state).variants)
    for planes in spy.planes[2:]:
        cases = [int((images[:, 0, 0] == plane[0, 0]).all(1).nonzero()[0]) for plane in planes]
        change = (planes - images[cases]).abs()
        assert change[~anatomy[cases]].max() == 0
        assert 0 < change.max() <= 4 / 255 + 1e-6


def test_hounsfield_levels_and_a_self_test(lab):
    attack = UniversalLinf.from_options({"epsilon": ["5 HU"]})
    assert attack.self_test() == ""
    assert UniversalLinf().self_test() == ""


def test_images_of_two_sizes_or_nothing_learned_are_said(lab, calibrated):
    classifier, images, labels = calibrated(cases=4)
    batch = lab.batch(images, labels, clean_margins=torch.ones(4, 1))
    with pytest.raises(DataError, match="one size"):
        UniversalLinf().fit(classifier, iter([batch, replace(batch, images=torch.rand(4, 1, 15, 15)[..., :14])]))
    with pytest.raises(DataError, match="nothing was learned"):
        list(UniversalLinf().apply(batch, lab.SpyQuery(classifier), None).variants)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"fit_cases": 2.5}, {"least_cases": True}, {"space": "stored"}])
def test_what_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        UniversalLinf.from_options(options)


def test_learning_pays_what_its_price_says(lab):
    """Twelve cases of one finding, three kept of each direction: all are seen once, six are learned from."""
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((12, 1, 8, 8), bits=8)
    labels = lab.called(classifier, images)
    attack = UniversalLinf(epochs=2, fit_cases=3, least_cases=1)
    paid = []
    handle = classifier.module.register_forward_pre_hook(
        lambda _module, given: paid.append(len(given[0]) * (3 if given[0].requires_grad else 1))
    )
    attack.fit(classifier, iter([lab.batch(images, labels)]))
    handle.remove()
    assert min(labels.sum(), 12 - labels.sum()) >= 3
    assert sum(paid) == attack.fit_passes(1, 12) == 12 + 6 * 3 * 2 * 3
