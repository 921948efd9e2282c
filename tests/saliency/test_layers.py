"""The target layer: found in every kind of network, overridden by name, and nothing left behind."""

import pytest
import torch
from torch import nn

from robustbench_rad.errors import ModelError
from robustbench_rad.saliency.layers import TargetLayer, frozen, target_layer, token_grid


@pytest.mark.parametrize(
    ("network", "name", "tokens"),
    [
        ("convolutional", "features", False),
        ("dense", "norm5", False),
        ("vgg", "features", False),
        ("transformer", "blocks.1.norm1", True),  # after it the patches no longer reach a class-token head
        ("transformer without class token", "norm", True),
        ("fused transformer", "blocks.layers.1.norm1", True),
    ],
)
def test_last_layer_with_places_that_count(nets, network, name, tokens):
    assert target_layer(nets.build(network)) == TargetLayer(name=name, tokens=tokens)


def test_a_name_overrides_the_search(nets):
    assert target_layer(nets.build("convolutional"), "features.0") == TargetLayer(name="features.0")


@pytest.mark.parametrize(
    ("network", "name", "message"),
    [
        ("convolutional", "featurs", "Did you mean 'features'"),
        ("convolutional", "head", "holds no places"),
        ("transformer", "blocks.1.mlp.0", "holds no places"),
    ],
)
def test_a_wrong_name_is_explained(nets, network, name, message):
    with pytest.raises(ModelError, match=message):
        target_layer(nets.build(network), name)


def test_no_layer_without_hooks_or_places(nets):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 1))
    assert target_layer(nets.wrap(linear)) is None
    assert target_layer(nets.wrap(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()), hookable=False)) is None


@pytest.mark.parametrize("side", [32, 40])
def test_attention_matrices_are_not_mistaken_for_images(nets, side):
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.drop, self.head = nn.Conv2d(1, 4, side // 4, side // 4), nn.Dropout(), nn.Linear(4, 1)
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            x = self.norm(self.patch(x).flatten(2).transpose(1, 2))
            weights = self.drop((x @ x.transpose(1, 2)).softmax(-1)[:, None])
            return self.head((weights[:, 0] @ x).mean(1))

    assert target_layer(nets.wrap(Attends(), side=side)) == TargetLayer(name="norm", tokens=True)


def test_the_search_leaves_the_model_as_it_was(nets):
    for name in nets.names:
        classifier = nets.build(name)
        classifier.module.train()
        before = {key: value.clone() for key, value in classifier.module.state_dict().items()}
        random = torch.random.get_rng_state()
        target_layer(classifier)
        assert nets.hooks(classifier.module) == 0
        assert classifier.module.training
        assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.module.parameters())
        assert all(torch.equal(before[key], value) for key, value in classifier.module.state_dict().items())
        assert torch.equal(random, torch.random.get_rng_state())


def test_frozen_gives_back_only_what_it_took(nets):
    module = nets.build("convolutional").module
    module.head.bias.requires_grad_(False)

    def fail() -> None:
        with frozen(module):
            assert not any(parameter.requires_grad for parameter in module.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [name for name, parameter in module.named_parameters() if not parameter.requires_grad] == ["head.bias"]


def test_tokens_become_the_grid_they_came_from():
    grid = torch.arange(12.0).reshape(1, 1, 3, 4)
    tokens = torch.cat([torch.full((1, 1, 1), -1.0), grid.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(TargetLayer(name="x", tokens=True).places(tokens, (30, 40)), grid)
    with pytest.raises(ModelError, match="13 tokens are not a grid"):
        TargetLayer(name="x", tokens=True).places(tokens, (30, 7))
    assert token_grid(16, (4, 4, 4)) is None
