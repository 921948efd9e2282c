"""Exact gradients where there are any, the identity where there are none."""

import pytest
import torch
from torch.autograd import gradcheck

from robustbench_rad.classifier import Head, Outputs
from robustbench_rad.defences.augmentation import Augmentation, rotated
from robustbench_rad.defences.averaging import Average, averaged
from robustbench_rad.defences.blur import blurred
from robustbench_rad.defences.noise import Noise

STRAIGHT = [{"kind": "quantisation", "bits": 3}, {"kind": "jpeg", "quality": 20}]


def gradient(classifier, images, weights=None):
    images = images.clone().requires_grad_()
    margins = classifier.margins(images)
    (found,) = torch.autograd.grad((margins * (1.0 if weights is None else weights)).sum(), images)
    return found


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (1, 1, 2, 5, 6)])
def test_blur_has_its_own_gradient(lab, shape):
    images = lab.images(*shape, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: blurred(x, 1.5), (images,))


def test_rotation_has_its_own_gradient(lab):
    images = lab.images(2, 1, 6, 5, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: rotated(x, 7.0), (images,))


def test_noise_has_its_own_gradient(lab):
    images = (0.4 + 0.2 * lab.images(1, 1, 4, 3, dtype=torch.float64)).requires_grad_()
    noise = Noise(sd=0.05, draws=3, average=Average.PROBABILITIES, seed=1)
    assert gradcheck(lambda x: torch.cat(list(noise.views(x))), (images,))


@pytest.mark.parametrize("average", list(Average))
@pytest.mark.parametrize("outputs", list(Outputs))
@pytest.mark.parametrize("kind", [Head.SIGMOID, Head.SOFTMAX])
def test_averages_have_their_own_gradient(lab, kind, outputs, average):
    head = lab.head(kind, outputs, width=3)
    raw = [3 * lab.images(2, 3, seed=view, dtype=torch.float64) for view in range(3)]
    if outputs is Outputs.PROBABILITIES:
        raw = [value.softmax(1) if kind is Head.SOFTMAX else value.sigmoid() for value in raw]
    views = [value.requires_grad_() for value in raw]
    assert gradcheck(lambda *v: averaged(v, head, average), tuple(views))


@pytest.mark.parametrize("defence", STRAIGHT)
def test_a_straight_through_gradient_is_the_one_at_the_altered_image(lab, defence):
    """d margin(g(x)) / dx with dg/dx = 1 is the undefended gradient, taken at g(x)."""
    plain = lab.plain()
    images = lab.images(3, 1, 12, 10)
    (altered,) = lab.behind(plain, defence).defences[0].views(images)
    assert not torch.equal(altered, images)
    assert torch.equal(gradient(lab.behind(plain, defence), images), gradient(plain, altered))


@pytest.mark.parametrize("defence", STRAIGHT)
def test_on_a_linear_model_the_gradient_is_the_undefended_one(lab, defence):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(120, 2))
    plain = lab.plain(module=module)
    images = lab.images(3, 1, 12, 10)
    torch.testing.assert_close(gradient(lab.behind(plain, defence), images), gradient(plain, images))


def test_the_chain_multiplies_the_gradients_of_its_links(lab):
    """Blur of what came out of a rounding: the adjoint blur of the gradient there, straight through the rounding."""
    plain = lab.plain()
    images = lab.images(2, 1, 12, 10)
    (rounded,) = lab.behind(plain, STRAIGHT[0]).defences[0].views(images)
    blur = {"kind": "blur", "fwhm_px": 2.0}
    torch.testing.assert_close(
        gradient(lab.behind(plain, STRAIGHT[0], blur), images), gradient(lab.behind(plain, blur), rounded)
    )


def test_saturated_views_keep_a_gradient(lab):
    """Logits of ±40 are probabilities of exactly 1 and 0 in float32; the mean of probabilities is still pulled."""
    views = [torch.full((1, 2), 40.0, requires_grad=True), torch.full((1, 2), 38.0, requires_grad=True)]
    mean = averaged(views, lab.head(), Average.PROBABILITIES)
    mean.sum().backward()
    assert all(bool((view.grad > 0.01).all()) for view in views)
    assert 38.0 < float(mean.detach()[0, 0]) < 40.0


def test_augmentation_ends_with_the_image_as_it_is(lab):
    images = lab.images(1, 1, 4, 4)
    tta = Augmentation(flips=("vertical",), rotations_degrees=(5.0,), average=Average.LOG_ODDS)
    *others, last = tta.views(images)
    assert torch.equal(last, images)
    assert len(others) == 2
