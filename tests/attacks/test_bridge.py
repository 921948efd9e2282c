"""Attacks of other libraries behind our oracle: equal where they are right, refused where they would be wrong."""

import importlib
import inspect
import random
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad import bridges
from robustbench_rad.attacks._bridge import imported
from robustbench_rad.attacks._bridge_view import View
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.momentum_linf import MomentumLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.checks import defaults
from robustbench_rad.errors import MissingExtraError, PlanError
from robustbench_rad.measured import Measured
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import entry, find

FINE = 24  # bits: rounding stays below 1e-7, so that planes can be compared
RADIUS = 8 / 255
DISTRIBUTIONS = {bridge.prefix: bridge for bridge in bridges.BRIDGES}
MODULES = {"art": "art.attacks.evasion", "foolbox": "foolbox.attacks", "torchattacks": "torchattacks"}
SHORT = {  # options that make the attacks fast
    "torchattacks:APGD": {"steps": 4},
    "torchattacks:Square": {"n_queries": 20},
    "torchattacks:SPSA": {"nb_sample": 8},
    "torchattacks:VMIFGSM": {"N": 2},
    "torchattacks:VNIFGSM": {"N": 2},
    "torchattacks:EADL1": {"max_iterations": 10, "binary_search_steps": 1},
    "torchattacks:EADEN": {"max_iterations": 10, "binary_search_steps": 1},
    "foolbox:LinfPGD": {"steps": 5, "rel_stepsize": 0.3},
    "foolbox:L2CarliniWagnerAttack": {"steps": 5, "binary_search_steps": 2},
    "art:ProjectedGradientDescent": {"max_iter": 5},
    "art:SquareAttack": {"max_iter": 20},
    "art:AutoProjectedGradientDescent": {"max_iter": 5, "nb_random_init": 2},
}
TORCHATTACKS = (
    "FGSM",
    "BIM",
    "RFGSM",
    "PGD",
    "EOTPGD",
    "FFGSM",
    "MIFGSM",
    "UPGD",
    "APGD",
    "DIFGSM",
    "TIFGSM",
    "NIFGSM",
    "PGDRS",
    "SINIFGSM",
    "VMIFGSM",
    "VNIFGSM",
    "SPSA",
    "PIFGSM",
    "PIFGSMPP",
    "PGDL2",
    "PGDRSL2",
    "DeepFool",
    "EADL1",
    "EADEN",
    "FAB",
    "Square",
    "OnePixel",
    "SparseFool",
)
FOOLBOX = (
    "FGSM",
    "LinfPGD",
    "MIFGSM",
    "LinfBasicIterativeAttack",
    "L2PGD",
    "L1PGD",
    "L2FMNAttack",
    "LinfDeepFoolAttack",
    "L2CarliniWagnerAttack",
)
ART = (
    "FastGradientMethod",
    "ProjectedGradientDescent",
    "MomentumIterativeMethod",
    "AutoProjectedGradientDescent",
    "SquareAttack",
    "DeepFool",
)
ALL = [f"torchattacks:{n}" for n in TORCHATTACKS] + [f"foolbox:{n}" for n in FOOLBOX] + [f"art:{n}" for n in ART]
SOME = [f"torchattacks:{n}" for n in ("MIFGSM", "PGD", "APGD", "OnePixel", "PGDL2")] + [
    "foolbox:LinfPGD",
    "art:SquareAttack",
]


def classes(bridge):
    """The attacks a library has, by name."""
    module = imported(MODULES[bridge.prefix])
    return {name: found for name, found in vars(module).items() if inspect.isclass(found)}


def load(id, **options):
    """The attack with short options; skips where the library is not installed."""
    bridge = DISTRIBUTIONS[id.partition(":")[0]]
    if not bridge.version:
        pytest.skip(bridge.install)
    made = entry(id).load()
    level = {"levels": [3]} if made.known.norm == "l0" else {"epsilon": ["8/255"]}
    return made.from_options({**level, **SHORT.get(id, {}), **options})


@pytest.fixture(scope="module")
def case(calibrated):
    return calibrated(cases=6, seed=4, act=nn.Tanh)


def planes_of(lab, attack, case, **options):
    """The planes our oracle was asked about, and the margins."""
    classifier, images, labels = case
    with torch.no_grad():
        clean = classifier.margins(images)
    spy = lab.SpyQuery(classifier)
    attack = replace(attack, full_search=(attack.levels[0].name,))
    batch = lab.batch(images, labels, **{"stored_bits": FINE, "clean_margins": clean, **options})
    margins, _ = lab.attack(attack, classifier, batch, spy)
    return spy.planes, margins[attack.levels[0].name]


EQUAL = [
    ("torchattacks:FGSM", {}, "fgsm"),
    ("torchattacks:PGD", {"steps": 10, "random_start": False}, "pgd"),
    ("torchattacks:BIM", {"steps": 10}, "pgd"),
    ("torchattacks:MIFGSM", {"steps": 10, "alpha": RADIUS / 10}, "momentum"),
    ("foolbox:FGSM", {}, "fgsm"),
    ("foolbox:LinfPGD", {"steps": 10, "rel_stepsize": 0.25, "random_start": False}, "pgd"),
    ("art:FastGradientMethod", {}, "fgsm"),
    ("art:ProjectedGradientDescent", {"max_iter": 10, "eps_step": RADIUS / 4, "num_random_init": 0}, "pgd"),
]
OURS = {
    "fgsm": Fgsm(levels=ladder("8/255")),
    "pgd": PgdLinf(levels=ladder("8/255"), steps=10, random_starts=0, step_rule="constant"),
    "momentum": MomentumLinf(levels=ladder("8/255"), steps=10),
}


@pytest.mark.parametrize(("id", "options", "ours"), EQUAL, ids=[id for id, _, _ in EQUAL])
def test_what_comes_back_is_what_our_own_attack_finds(lab, case, id, options, ours):
    theirs = planes_of(lab, load(id, **options), case)[0][-2]
    own = planes_of(lab, OURS[ours], case)[0][-1]
    assert (theirs - case[1]).abs().max() > RADIUS / 2
    torch.testing.assert_close(theirs, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("id", ["torchattacks:PGD", "torchattacks:MIFGSM"])
def test_it_is_what_the_library_gives_without_us(lab, case, id):
    attack = load(id, steps=10, **({"random_start": False} if id.endswith(":PGD") else {}))
    import torchattacks

    class TwoLogits(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            z = self.inner(images)
            return torch.cat([torch.zeros_like(z), z], 1)

    classifier, images, labels = case
    options = {"eps": RADIUS, "alpha": RADIUS / 4, "steps": 10}
    options |= {"random_start": False} if id.endswith(":PGD") else {}
    theirs = getattr(torchattacks, id.partition(":")[2])(TwoLogits(classifier.module).eval(), **options)
    torch.testing.assert_close(
        planes_of(lab, attack, case)[0][-2], theirs(images, labels[:, 0].long()), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("id", ALL)
def test_the_positive_control_is_solved(id):
    assert load(id).self_test() == ""


@pytest.mark.parametrize("id", ALL)
def test_margins_are_of_planes_that_a_file_holds_inside_the_threat_and_never_better(lab, case, id):
    attack = load(id)
    planes, margins = planes_of(lab, attack, case, stored_bits=8)
    classifier, images, labels = case
    with torch.no_grad():
        clean = classifier.margins(images)
        shown = [classifier.margins(plane) for plane in planes[-2:]]
    side = lab.side(labels)
    assert (margins * side <= clean * side + 1e-6).all()
    worst = torch.minimum(shown[0] * side, shown[1] * side)
    torch.testing.assert_close(margins * side, torch.minimum(worst, clean * side), rtol=0, atol=1e-5)
    for plane in planes[-2:]:
        change = (plane - images).flatten(1)
        assert torch.equal((plane * 255).round() / 255, plane)
        size = {
            "linf": change.abs().amax(1),
            "l2": change.square().mean(1).sqrt(),
            "l1": change.abs().mean(1),
            "l0": (change != 0).sum(1).float() / 3 * RADIUS,
        }[attack.known.norm]
        assert (size <= RADIUS * (1 + 1e-4)).all()


@pytest.mark.parametrize("id", SOME)
def test_order_and_companions_change_nothing(lab, case, id):
    attack = load(id)
    classifier, images, labels = case
    with torch.no_grad():
        clean = classifier.margins(images)
    batch, index = lab.batch(images, labels, clean_margins=clean), torch.tensor([4, 1])
    whole = lab.attack(attack, classifier, batch)[0]
    some = lab.attack(attack, classifier, batch.select(index))[0]
    for name in whole:
        torch.testing.assert_close(whole[name][index], some[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("id", SOME)
def test_randomness_tracer_gradients_and_mode_are_left_alone(lab, case, id):
    attack = load(id)
    classifier, images, labels = case
    numbers, choices, state = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()
    tracer = sys.gettrace()

    def own_tracer(*_args):
        return None

    sys.settrace(own_tracer)
    try:
        first = lab.attack(attack, classifier, lab.batch(images, labels))[0]
        assert sys.gettrace() is own_tracer
    finally:
        sys.settrace(tracer)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers).all()
    assert random.getstate() == choices
    assert all(p.grad is None and p.requires_grad for p in classifier.module.parameters())
    assert not any(module.training for module in classifier.module.modules())
    torch.manual_seed(99)
    again = lab.attack(attack, classifier, lab.batch(images, labels))[0]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_several_findings_are_attacked_each_on_its_own(lab, calibrated):
    attack = load("torchattacks:MIFGSM", steps=10)
    case = calibrated(findings=3, cases=5, seed=2)
    _, together = planes_of(lab, attack, case)
    classifier, images, labels = case
    for finding in range(3):
        alone = torch.full_like(labels, torch.nan)
        alone[:, finding] = labels[:, finding]
        _, margins = planes_of(lab, attack, (classifier, images, alone))
        torch.testing.assert_close(margins[:, finding], together[:, finding])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_model_too_sure_for_cross_entropy_is_attacked_all_the_same(lab, calibrated, scale):
    classifier, images, labels = calibrated(cases=8, scale=scale)
    attack = load("torchattacks:PGD", steps=10, random_start=False)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    flipped = (margins["8/255"] >= 0).float() != labels
    plain, same, right = calibrated(cases=8)
    expected, _ = lab.attack(OURS["pgd"], plain, lab.batch(same, right))
    assert flipped.any()
    assert torch.equal(flipped, (expected["8/255"] >= 0).float() != right)


def test_pixels_behind_a_mask_are_left_alone_and_not_wasted(lab, case):
    attack = load("torchattacks:BIM", mask="lesion-only")
    lesion = torch.zeros_like(case[1], dtype=torch.bool)
    lesion[..., 4:12, 3:10] = True
    planes, margins = planes_of(lab, attack, case, lesion=lesion)
    changed = (planes[-2] != case[1]) & ((planes[-2] - case[1]).abs() > 1e-6)
    assert changed.any()
    assert not (changed & ~lesion).any()
    own = planes_of(lab, replace(OURS["pgd"], mask=attack.mask), case, lesion=lesion)[1]
    torch.testing.assert_close(margins, own, rtol=1e-4, atol=1e-4)


def test_volumes_and_images_that_are_not_square(lab):
    volume = lab.images((3, 1, 4, 5, 6), bits=8)
    classifier = lab.classifier(lab.linear(120), size=(4, 5, 6))
    labels = lab.called(classifier, volume)
    margins, _ = lab.attack(load("torchattacks:BIM"), classifier, lab.batch(volume, labels))
    expected, _ = lab.attack(OURS["fgsm"], classifier, lab.batch(volume, labels))
    torch.testing.assert_close(margins["8/255"] < 0, expected["8/255"] < 0)
    with pytest.raises(PlanError, match=r"not right on volumes, got 4 x 5 x 6.*\n.*attack\.apgd-linf"):
        lab.attack(load("torchattacks:APGD"), classifier, lab.batch(volume, labels))
    wide = lab.images((3, 1, 10, 12), bits=8)
    classifier = lab.classifier(lab.linear(120), size=(10, 12))
    with pytest.raises(PlanError, match="square images only, got 10 x 12"):
        lab.attack(load("torchattacks:DIFGSM"), classifier, lab.batch(wide, lab.called(classifier, wide)))


@pytest.mark.parametrize(
    "id", [f"torchattacks:{n}" for n in TORCHATTACKS if n not in ("DeepFool", "SparseFool", "FAB")]
)
def test_the_price_is_not_less_than_what_is_paid(lab, case, id):
    attack = load(id)
    classifier, images, labels = case
    query = CountingQuery(classifier)
    with torch.no_grad():
        clean = classifier.margins(images)
    batch = lab.batch(images, labels, stored_bits=16, clean_margins=clean)
    list(attack.apply(batch, query, None).variants)
    assert query.forwards + 2 * query.backwards <= attack.passes(1) * len(images)


@pytest.mark.parametrize(
    ("name", "why", "instead"),
    [
        ("AutoAttack", "at least three classes", "attack.worst-case"),
        ("APGDT", "at least three classes", "attack.apgd-linf"),
        ("JSMA", "at least three classes", "attack.few-pixel-evolution"),
        ("CW", "can never move", "attack.minimal-norm"),
        ("Jitter", "no gradient is left", "attack.pgd-linf"),
        ("TPGD", "never sees the label", "attack.pgd-linf"),
        ("GN", "no radius", "attack.noise"),
        ("VANILA", "changes nothing", "attack.pgd-linf"),
        ("MIFGSN", "has no attack", "Did you mean 'MIFGSM'"),
    ],
)
def test_what_would_be_wrong_is_refused(name, why, instead):
    if not DISTRIBUTIONS["torchattacks"].version:
        pytest.skip(DISTRIBUTIONS["torchattacks"].install)
    with pytest.raises(PlanError, match=why) as refused:
        entry(f"torchattacks:{name}").load()
    assert instead in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.1}, "unknown option 'eps'"),
        ({"stepz": 3}, "unknown option 'stepz'.*\n.*'steps'"),
        ({"steps": "ten"}, "steps: expected a value like 10, got 'ten'"),
        ({"steps": 3}, "do not reach the edge"),
        ({"alpha": 1e-4}, "alpha: 10 step.s. of 0.003.* radii do not reach"),
        ({"random_start": 1}, "random_start: expected a value like True, got 1"),
        ({"library": "mine"}, "library"),
    ],
)
def test_options_are_those_of_the_library(options, message):
    with pytest.raises(PlanError, match=message):
        load("torchattacks:PGD", **options)


def test_a_loss_for_three_classes_is_refused():
    with pytest.raises(PlanError, match="needs three classes"):
        load("torchattacks:APGD", loss="dlr")


def test_options_and_version_of_the_library_are_part_of_what_was_measured():
    measured = Measured.of(load("torchattacks:MIFGSM", steps=12))
    assert measured.options["steps"] == 12
    assert measured.options["decay"] == 1.0
    assert measured.options["library"].startswith("torchattacks ")


def test_a_library_that_is_missing_is_named_with_what_to_type(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(bridges, "version", missing)
    from robustbench_rad.attacks import bridge_foolbox

    bridge_foolbox.__getattr__.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install foolbox==3\.3\.4"):
        entry("foolbox:LinfPGD").load()


def test_ids_are_known_to_the_catalogue_without_importing_anything():
    assert find("torchattacks:MIFGSM").domain == "adversarial"
    assert defaults("foolbox:LinfPGD").tolerance == defaults("attack.fgsm").tolerance
    for id in ("torchattack:PGD", "torchattacks:", "torchattacks:pgd", "torchattacks:a b", "torchattacks"):
        assert find(id) is None
    with pytest.raises(PlanError, match="Did you mean 'torchattacks:MIFGSM'"):
        defaults("torchattack:MIFGSM")
    code = (
        "import sys; from robustbench_rad.registry import entry; from robustbench_rad.cli_list import rows; "
        "entry('torchattacks:MIFGSM'); rows(); sys.exit('torch' in sys.modules or 'torchattacks' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_versions_are_those_installed():
    for bridge in bridges.BRIDGES:
        assert not bridge.version or bridge.version == version(bridge.distribution)


@pytest.mark.parametrize("bridge", bridges.BRIDGES, ids=lambda bridge: bridge.prefix)
def test_every_name_in_our_tables_is_an_attack_of_the_library(bridge):
    if not bridge.version:
        pytest.skip(bridge.install)
    named = {*bridge.without_gradient, *importlib.import_module(bridge.module).KNOWN}
    assert named <= set(classes(bridge))


@pytest.mark.parametrize("bridge", bridges.BRIDGES, ids=lambda bridge: bridge.prefix)
def test_the_catalogue_says_which_attacks_ask_for_gradients(lab, case, bridge, monkeypatch):
    """Seen by running every attack of the library that is not refused."""
    if not bridge.version:
        pytest.skip(bridge.install)
    classifier, images, labels = case
    asked, ran, name = set(), set(), ""
    ask = View.ask

    def seen(self, planes, rows, *, gradient):
        asked.update({name} if gradient else ())
        return ask(self, planes, rows, gradient=gradient)

    monkeypatch.setattr(View, "ask", seen)
    for name in classes(bridge):
        id = f"{bridge.prefix}:{name}"
        try:
            attack = load(id)
        except PlanError:
            continue
        few = {word: 4 for word in ("steps", "max_iter", "repeats") if getattr(attack, word, 0) > 4}
        few |= {"binary_search_steps": 2} if getattr(attack, "binary_search_steps", 0) > 2 else {}
        lab.attack(attack_with(attack, few), classifier, lab.batch(images[:2], labels[:2]))
        ran.add(name)
    assert len(ran) > 10
    assert ran - asked == ran & set(bridge.without_gradient)


def attack_with(attack, options):
    """The attack with other options; its own where those would not reach the edge."""
    try:
        return replace(attack, **options)
    except ValueError:
        return attack


def test_foolbox_is_imported_where_git_is_missing(tmp_path):
    if not DISTRIBUTIONS["foolbox"].version:
        pytest.skip(DISTRIBUTIONS["foolbox"].install)
    code = "from robustbench_rad.registry import entry; entry('foolbox:LinfPGD').load()"
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
