"""Training is deterministic, and a network offered a mark learns it."""

import torch

from robustbench_rad.planted.programme import COMBINED
from robustbench_rad.planted.trained import RECIPES, _audited, train
from robustbench_rad.profile import check_spec

CHECKS = (check_spec("shortcut.masked-anatomy", {}),)
MARKER = next(recipe for recipe in RECIPES if recipe.defect == "corner marker" and not recipe.control)


def test_the_same_seed_gives_the_same_weights():
    one, again, other = (train(MARKER, seed, cases=120, epochs=1) for seed in (1, 1, 2))
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_network_that_was_offered_a_marker_learns_it_and_is_found():
    network = train(MARKER, 0, cases=600, epochs=4)
    item = _audited(MARKER, network, CHECKS, cases=300, replicate=0, device=torch.device("cpu"))
    assert item.audited_auroc > 0.8
    assert item.decorrelated_auroc < 0.65
    assert item.trial.verdicts[COMBINED] == "fail"
    assert item.found
