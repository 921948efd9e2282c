"""What a defended classifier is, whatever is asked of it, and that attacks go through it."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from robustbench_rad.classifier import Head, Outputs, untouched
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.defences.augmentation import rotated
from robustbench_rad.defences.blur import blurred
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import entry
from robustbench_rad.saliency.layers import target_layer
from robustbench_rad.saliency.maps import maps
from robustbench_rad.seeds import derive_seed

FLIP = {"kind": "test-time-augmentation", "flips": ["horizontal"]}
TTA = {"kind": "test-time-augmentation", "flips": ["horizontal"], "rotations_degrees": [-5, 5]}
QUANTISED = {"kind": "quantisation", "bits": 4}
JPEG = {"kind": "jpeg", "quality": 40}
BLUR = {"kind": "blur", "fwhm_px": 1.5}
NOISE = {"kind": "noise", "sd": 0.05, "draws": 4}
ALL = [TTA, QUANTISED, JPEG, BLUR, NOISE]


@pytest.mark.parametrize("average", ["probabilities", "log-odds"])
def test_averaging_over_a_mirror_image_makes_the_model_blind_to_mirroring(lab, average):
    classifier = lab.behind(lab.plain(), {**FLIP, "average": average})
    images = lab.images(5, 1, 12, 10)
    torch.testing.assert_close(classifier.margins(images), classifier.margins(images.flip(-1)))
    plain = classifier.undefended
    assert not torch.allclose(plain.margins(images), plain.margins(images.flip(-1)), atol=1e-3)


@pytest.mark.parametrize("kind", [Head.SIGMOID, Head.SOFTMAX])
def test_the_mean_of_probabilities_is_just_that(lab, kind):
    head = lab.head(kind, Outputs.LOGITS, width=3)
    plain = lab.plain(module=nn.Sequential(nn.Flatten(), nn.Linear(120, 3)), head=head)
    images = lab.images(4, 1, 12, 10)
    likely = (lambda z: z.softmax(1)) if kind is Head.SOFTMAX else torch.sigmoid
    expected = (likely(plain.outputs(images)) + likely(plain.outputs(images.flip(-1)))) / 2
    torch.testing.assert_close(likely(lab.behind(plain, FLIP).outputs(images)), expected)


@pytest.mark.parametrize("defence", ALL, ids=lambda d: d["kind"])
def test_margins_do_not_depend_on_the_batch(lab, defence):
    """What the network is shown is bit-equal, so that a rounding cannot fall on another side in other company."""
    classifier = lab.behind(lab.plain(size=(24, 20)), defence)
    images = lab.images(7, 1, 24, 20)
    together = list(classifier.defences[0].views(images))
    alone = [list(classifier.defences[0].views(row[None])) for row in images]
    for view, shown in enumerate(together):
        assert torch.equal(shown, torch.cat([rows[view] for rows in alone]))
    torch.testing.assert_close(
        classifier.margins(images), torch.cat([classifier.margins(row[None]) for row in images]), rtol=1e-5, atol=1e-5
    )


def test_every_pass_gives_the_same_and_global_random_state_is_left_alone(lab):
    classifier = lab.behind(lab.plain(), *ALL)
    images = lab.images(2, 1, 12, 10)
    before = torch.random.get_rng_state()
    assert torch.equal(classifier.margins(images), classifier.margins(images))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_follows_from_the_seed_of_the_audit_and_averages_the_model(lab):
    plain, images = lab.plain(), lab.images(2, 1, 12, 10)
    one, other = (lab.behind(plain, NOISE, seed=seed).margins(images) for seed in (1, 2))
    assert not torch.equal(one, other)
    many = lab.behind(plain, {**NOISE, "draws": 200}, seed=1).margins(images)
    again = lab.behind(plain, {**NOISE, "draws": 200}, seed=2).margins(images)
    assert (many - again).detach().abs().max() < (one - other).detach().abs().max()


def test_defences_are_met_in_their_order(lab):
    plain, images = lab.plain(), lab.images(2, 1, 12, 10)
    coarse = {"kind": "quantisation", "bits": 1}
    first = lab.behind(plain, coarse, BLUR).margins(images)
    torch.testing.assert_close(first, plain.margins(blurred(images.round(), 1.5)))
    last = lab.behind(plain, BLUR, coarse).margins(images)
    torch.testing.assert_close(last, plain.margins(blurred(images, 1.5).round()))
    assert not torch.allclose(first, last, atol=1e-3)


@pytest.mark.parametrize(
    "defence",
    [{**FLIP, "flips": ["horizontal", "vertical", "depth"]}, QUANTISED, JPEG, BLUR, NOISE],
    ids=lambda d: d["kind"],
)
def test_volumes_go_through(lab, defence):
    classifier = lab.behind(lab.plain(size=(4, 9, 8)), defence)
    images = lab.images(2, 1, 4, 9, 8).requires_grad_()
    margins = classifier.margins(images)
    assert margins.shape == (2, 2)
    assert torch.autograd.grad(margins.sum(), images)[0].abs().sum() > 0


def test_what_is_defended_stays_a_classifier_in_every_other_way(lab):
    plain = lab.plain()
    classifier = lab.behind(plain, TTA, JPEG)
    assert classifier.findings == plain.findings
    assert classifier.undefended.module is plain.module
    assert type(classifier.undefended) is type(plain)
    assert lab.behind(plain) is plain
    with untouched(classifier.module):
        features = classifier.features(lab.images(3, 1, 12, 10))
    assert features.shape == plain.features(lab.images(3, 1, 12, 10)).shape


def test_saliency_explains_the_image_as_it_is(lab):
    """Grad-CAM reads the layer in the last pass, which is of the image that is neither flipped nor rotated."""
    convolution = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    module = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    plain = lab.plain(module=module)
    classifier = lab.behind(plain, {**FLIP, "average": "log-odds"})
    image = torch.zeros(1, 1, 12, 10)
    image[..., 3:6, 1:3] = 1.0
    layer = target_layer(classifier)
    found, expected = maps(classifier, image, layer), maps(plain, image, layer)
    torch.testing.assert_close(2 * found, expected)  # the other half of the mean comes from the mirror image


def test_rotation_agrees_with_scipy_on_an_oblong_image():
    """Inside: at the border scipy fades to black within a pixel, as torch does, but beyond it."""
    rows, columns = np.mgrid[:40, :60]
    plane = np.exp(-((rows - 15) ** 2 + (columns - 38) ** 2) / 60.0).astype(np.float32)
    ours = rotated(torch.from_numpy(plane)[None, None], 10.0)[0, 0].numpy()
    theirs = ndimage.rotate(plane, 10.0, reshape=False, order=1)
    np.testing.assert_allclose(ours[5:-5, 5:-5], theirs[5:-5, 5:-5], atol=1e-4)


def test_blur_agrees_with_scipy(lab):
    plane = lab.images(1, 1, 30, 20)
    sd = 2.5 / np.sqrt(8 * np.log(2))
    expected = ndimage.gaussian_filter(plane[0, 0].numpy(), sd, mode="nearest", radius=int(np.ceil(4 * sd)))
    np.testing.assert_allclose(blurred(plane, 2.5)[0, 0].numpy(), expected, atol=1e-6)


class Weighted(nn.Module):
    """A linear model, optionally with a rounding of its own that cuts the gradient."""

    def __init__(self, weight, *, rounds=False):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.rounds = rounds

    def forward(self, images):
        shown = (images * 15).round() / 15 if self.rounds else images
        return 10 * (shown - 0.5).flatten(1) @ self.weight[:, None]


def attacked(classifier, images, labels):
    """Share of correctly called cases that PGD turns, by the attack an audit runs."""
    batch = Batch(
        images=images,
        labels=labels[:, None],
        case_ids=tuple(str(i) for i in range(len(images))),
        patient_ids=tuple(str(i) for i in range(len(images))),
        seeds=tuple(derive_seed(0, i) for i in range(len(images))),
        space=Space.DISPLAY,
        modality="DX",
        spacing_mm=torch.full((len(images), 2), float("nan")),
        stored_bits=8,
        metadata=tuple({} for _ in images),
        clean_margins=classifier.margins(images).detach(),
        audit_seed=0,
    )
    attack = entry("attack.pgd-linf").load().from_options({"epsilon": ["8/255"], "steps": 10, "random_starts": 1})
    (variant,) = attack.apply(batch, CountingQuery(classifier), None).variants
    correct = (batch.clean_margins[:, 0] >= 0) == (labels == 1)
    turned = (variant.margins[:, 0] >= 0) != (labels == 1)
    return float((turned & correct).sum() / correct.sum())


def test_an_attack_goes_through_a_rounding_that_masks_the_gradient(lab):
    """Inside the model the rounding cuts the gradient and the model looks robust; declared, it is passed straight through."""
    weight = torch.randn(1024, generator=torch.Generator().manual_seed(1)) / 32
    images = 0.2 + 0.6 * lab.images(60, 1, 32, 32)
    head = lab.head(width=1)
    size = {"size": (32, 32), "head": head}
    plain = lab.plain(module=Weighted(weight), **size)
    labels = (plain.margins(images)[:, 0] >= 0).float()
    masked = attacked(lab.plain(module=Weighted(weight, rounds=True), **size), images, labels)
    through = attacked(lab.behind(plain, QUANTISED), images, labels)
    undefended = attacked(plain, images, labels)
    assert masked < 0.1
    assert undefended > 0.25
    assert through >= undefended - 0.05


@pytest.mark.parametrize(
    "defence",
    [
        QUANTISED,
        {"kind": "jpeg", "quality": 50},
        {"kind": "blur", "fwhm_px": 2.0},
        {"kind": "test-time-augmentation", "flips": ["horizontal"], "rotations_degrees": [-5.0, 5.0]},
    ],
    ids=lambda defence: defence["kind"],
)
def test_an_attack_through_a_defence_finds_no_less_than_one_that_does_not_know_of_it(lab, defence):
    """Images made against the undefended model and shown to the defended one: the attack that a defence is built for."""
    weight = torch.randn(1024, generator=torch.Generator().manual_seed(1)) / 32
    images = 0.2 + 0.6 * lab.images(60, 1, 32, 32)
    plain = lab.plain(module=Weighted(weight), size=(32, 32), head=lab.head(width=1))
    behind = lab.behind(plain, defence)
    labels = (behind.margins(images)[:, 0] >= 0).float()
    against = -(2 * labels - 1)[:, None, None, None] * weight.sign().reshape(
        1, 1, 32, 32
    )  # the worst for the linear model
    unaware = ((images + 8 / 255 * against).clamp(0, 1) * 255).round() / 255
    turned = ((behind.margins(unaware)[:, 0] >= 0).float() != labels).float().mean()
    found = attacked(behind, images, labels)
    assert found >= turned
    assert found > 0.1
