"""Randomised twins: everything forgotten, nothing else changed."""

import pytest
import torch
from torch import nn

from robustbench_rad.errors import ModelError
from robustbench_rad.saliency.twins import randomised_twin

EVERY = ["convolutional", "dense", "vgg", "transformer", "fused transformer"]


@pytest.mark.parametrize("network", EVERY)
def test_every_parameter_differs_also_bare_ones(nets, network):
    classifier = nets.build(network)
    twin = randomised_twin(classifier, 1, nets.images())
    perturbed = dict(classifier.module.named_parameters())
    with torch.no_grad():  # a layer norm that was never trained is 1 before and after
        for parameter in perturbed.values():
            parameter.add_(0.1 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)))
    twin = randomised_twin(classifier, 1, nets.images())
    for name, parameter in twin.module.named_parameters():
        assert not torch.isclose(parameter, perturbed[name]).all(), name
    assert twin.margins(nets.images()).isfinite().all()


def test_weight_norm_and_bare_layers_without_reset_are_redrawn_with_their_own_spread(nets):
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3) * 0.05 + 2.0)
            self.scale = nn.Parameter(torch.tensor(3.0))
            self.dead = nn.Parameter(torch.zeros(4))
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 1))

        def forward(self, x):
            x = torch.nn.functional.conv2d(x, self.kernel, self.dead).mean((2, 3))
            return self.normed(x * self.scale)

    classifier = nets.wrap(Bare())
    before = {name: value.clone() for name, value in classifier.module.named_parameters()}
    twin = randomised_twin(classifier, 3, nets.images())
    after = dict(twin.module.named_parameters())
    for name in set(before) - {"dead"}:
        assert not torch.equal(before[name], after[name]), name
    assert abs(after["kernel"].mean() - 2.0) < 0.05
    assert 0.02 < after["kernel"].std() < 0.08
    assert (after["dead"] == 0).all()


def test_own_reset_with_arguments_does_not_stop_it(nets):
    class Asks(nn.Linear):
        def reset_parameters(self, gain=None) -> None:
            if gain is None and hasattr(self, "ready"):
                raise TypeError("gain is missing")
            super().reset_parameters()

    module = nn.Sequential(nn.Flatten(), Asks(1024, 1))
    module[1].ready = True
    twin = randomised_twin(nets.wrap(module), 3, nets.images())
    assert not torch.equal(twin.module[1].weight, module[1].weight)


def test_the_trained_model_and_random_state_are_left_alone(nets):
    classifier = nets.build("convolutional")
    before = {key: value.clone() for key, value in classifier.module.state_dict().items()}
    random = torch.random.get_rng_state()
    randomised_twin(classifier, 1, nets.images())
    assert all(torch.equal(before[key], value) for key, value in classifier.module.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert not classifier.module.training


def test_a_seed_makes_one_twin(nets):
    classifier = nets.build("convolutional")
    one, again, other = (randomised_twin(classifier, seed, nets.images()).module.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_batch_norm_is_measured_again_on_the_calibration_images(nets):
    classifier, images = nets.build("convolutional"), nets.images(8)
    twin = randomised_twin(classifier, 1, images)
    first, norm = twin.module.features[0], twin.module.features[1]
    seen = first(classifier.input.network(images)).detach()
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)))
    assert (norm.momentum, twin.module.training, norm.training) == (0.1, False, False)
    assert (randomised_twin(classifier, 1, images[:1]).module.features[1].running_mean == 0).all()


def test_scripted_models_forget_too(nets):
    classifier = nets.build("convolutional")
    scripted = nets.wrap(torch.jit.trace(classifier.module, nets.images()), 3, hookable=False)
    twin = randomised_twin(scripted, 1, nets.images())
    theirs = dict(scripted.module.named_parameters())
    assert all(not torch.equal(value, theirs[name]) for name, value in twin.module.named_parameters())


def test_a_model_that_cannot_be_copied_is_explained(nets):
    class Single(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("only one of me")

    with pytest.raises(ModelError, match="cannot be copied: only one of me"):
        randomised_twin(nets.wrap(nn.Sequential(nn.Flatten(), Single(1024, 1))), 1, nets.images())
