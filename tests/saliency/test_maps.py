"""Grad-CAM and the input gradient against closed forms and against captum."""

import warnings

import pytest
import torch
from torch import nn

from robustbench_rad.errors import ModelError
from robustbench_rad.saliency.layers import TargetLayer, target_layer
from robustbench_rad.saliency.maps import blurred, grad_cam, input_gradient, maps, resized

EVERY = ["convolutional", "dense", "vgg", "transformer", "transformer without class token", "fused transformer"]


def test_grad_cam_of_a_pooled_linear_head_is_the_class_activation_map(nets):
    """CAM (Zhou 2016): the head's weights times the activations; Grad-CAM divides by the number of places."""
    classifier, images = nets.build("convolutional", 4), nets.images()
    with torch.no_grad():
        activation = classifier.module.features(classifier.input.network(images))
    cam = torch.einsum("kc,nchw->nkhw", classifier.module.head.weight.detach(), activation) / 64
    torch.testing.assert_close(grad_cam(classifier, images, TargetLayer(name="features")), cam)


@pytest.mark.parametrize("network", ["convolutional", "dense", "vgg"])
def test_equals_captum_for_each_of_fourteen_findings(nets, network):
    from captum.attr import LayerGradCam

    classifier, images = nets.build(network, 14), nets.images()
    layer = target_layer(classifier)
    found = grad_cam(classifier, images, layer)
    assert found.shape[:2] == (5, 14)
    oracle = LayerGradCam(classifier.margins, layer.module(classifier))
    for finding in range(14):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = oracle.attribute(images, target=finding)[:, 0].detach()
        assert (found[:, finding] - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("network", EVERY)
def test_maps_are_finite_detached_and_not_flat(nets, network):
    classifier = nets.build(network, 2)
    found = maps(classifier, nets.images(), target_layer(classifier))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.isfinite().all()
    assert (found.flatten(2).std(2) > 0).all()


@pytest.mark.parametrize("network", EVERY)
def test_a_map_does_not_depend_on_its_batch_mates(nets, network):
    classifier, images = nets.build(network), nets.images(4)
    layer = target_layer(classifier)
    whole = grad_cam(classifier, images, layer)
    single = torch.cat([grad_cam(classifier, image[None], layer) for image in images])
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-6)


def test_findings_are_chosen_and_ordered(nets):
    classifier, images = nets.build("convolutional", 5), nets.images()
    layer = target_layer(classifier)
    assert torch.equal(
        grad_cam(classifier, images, layer, findings=[3, 1]), grad_cam(classifier, images, layer)[:, [3, 1]]
    )
    chosen = input_gradient(classifier, images, findings=[3, 1])
    torch.testing.assert_close(chosen, input_gradient(classifier, images)[:, [3, 1]])


@pytest.mark.parametrize("method", ["grad-cam", "input gradient"])
def test_model_hooks_and_random_state_are_left_alone(nets, method):
    classifier = nets.build("convolutional")
    layer = target_layer(classifier) if method == "grad-cam" else None
    classifier.module.train()
    before = {key: value.clone() for key, value in classifier.module.state_dict().items()}
    random, images = torch.random.get_rng_state(), nets.images()
    copy = images.clone()
    maps(classifier, images, layer)
    assert nets.hooks(classifier.module) == 0
    assert classifier.module.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.module.parameters())
    assert all(torch.equal(before[key], value) for key, value in classifier.module.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert torch.equal(images, copy)


def test_hooks_go_when_the_model_raises(nets):
    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of order")

    module = nn.Sequential(nn.Conv2d(1, 1, 3), Raises())
    with pytest.raises(RuntimeError, match="out of order"):
        grad_cam(nets.wrap(module), nets.images(), TargetLayer(name="0"))
    assert nets.hooks(module) == 0
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_layer_that_does_not_run_is_an_error(nets):
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.used(x).mean((2, 3))

    with pytest.raises(ModelError, match="'unused' gave no tensor"):
        grad_cam(nets.wrap(Skips()), nets.images(), TargetLayer(name="unused"))


def test_a_model_without_gradient_is_an_error(nets):
    class Closed(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(ModelError, match="no gradient"):
        input_gradient(nets.wrap(Closed()), nets.images())


def test_a_model_that_ignores_the_image_has_zero_maps(nets):
    class Constant(nn.Module):
        def forward(self, x):
            return 0 * x.mean((2, 3)) + 1

    assert (input_gradient(nets.wrap(Constant()), nets.images()) == 0).all()


def test_input_gradient_of_a_linear_model_is_its_weight(nets):
    module = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 2))
    found = input_gradient(nets.wrap(module, 2), nets.images(), blur_fraction=0)
    expected = module[1].weight.detach().abs().reshape(1, 2, 32, 32) / 0.2  # the network divides by its std
    torch.testing.assert_close(found, expected.expand(5, 2, 32, 32))


def test_input_gradient_needs_no_hooks(nets):
    classifier = nets.build("convolutional")
    scripted = torch.jit.trace(classifier.module, classifier.input.network(nets.images()))
    without = nets.wrap(scripted, 3, hookable=False)
    assert target_layer(without) is None
    torch.testing.assert_close(maps(without, nets.images(), None), input_gradient(classifier, nets.images()))


@pytest.mark.parametrize("shape", [(1, 2, 9, 9), (1, 1, 3, 9, 9)])
def test_blur_keeps_a_constant_and_spreads_a_point(shape):
    torch.testing.assert_close(blurred(torch.full(shape, 0.7), 1.2), torch.full(shape, 0.7))
    point = torch.zeros(shape)
    point[..., 4, 4] = 1
    spread = blurred(point, 1.0).reshape(-1, 9, 9).mean(0)
    assert spread[4, 4] > spread[4, 5] > spread[4, 6] > 0
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0))


def test_volumes_work(nets):
    module = nn.Sequential(nn.Conv3d(1, 3, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 1))
    classifier = nets.wrap(module)
    object.__setattr__(classifier.input, "size", (8, 16, 16))
    layer = target_layer(classifier)
    found = grad_cam(classifier, torch.rand(2, 1, 8, 16, 16), layer)
    assert found.shape == (2, 1, 4, 8, 8)
    assert resized(found, (8, 16, 16)).shape == (2, 1, 8, 16, 16)
    assert input_gradient(classifier, torch.rand(2, 1, 8, 16, 16)).shape == (2, 1, 8, 16, 16)
