import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs, Resize, tensor_of, untouched
from robustbench_rad.errors import ModelError


def logit(p):
    return math.log(p / (1 - p))


def single(threshold=0.5, outputs=Outputs.LOGITS):
    return HeadSpec(kind=Head.SINGLE_LOGIT, outputs=outputs, findings=("x",), thresholds=(threshold,))


def sigmoid(*thresholds, outputs=Outputs.LOGITS, groups=(), classes=0):
    names = tuple(f"f{i}" for i in range(len(thresholds)))
    return HeadSpec(
        kind=Head.SIGMOID, outputs=outputs, findings=names, thresholds=thresholds, groups=groups, classes=classes
    )


def softmax(groups, classes, thresholds, outputs=Outputs.LOGITS):
    names = tuple(f"f{i}" for i in range(len(groups)))
    return HeadSpec(
        kind=Head.SOFTMAX, outputs=outputs, findings=names, thresholds=thresholds, groups=groups, classes=classes
    )


def classifier(module, head, size=(8, 8), **spec):
    return Classifier(module=module, head=head, input=InputSpec(size=size, **spec))


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, 0.31, 0.9])
def test_one_logit_two_logits_and_one_label_are_the_same(threshold):
    z = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)) * 4
    expected = z - logit(threshold)
    two = softmax(((1,),), 2, (threshold,)).margins(torch.cat([torch.zeros_like(z), z], 1))
    torch.testing.assert_close(single(threshold).margins(z), expected)
    torch.testing.assert_close(two, expected)
    torch.testing.assert_close(sigmoid(threshold).margins(z), expected)


def test_probability_at_the_threshold_has_margin_zero():
    head = sigmoid(0.31, 0.44, outputs=Outputs.PROBABILITIES)
    margins = head.margins(torch.tensor([[0.31, 0.44], [0.32, 0.43]]))
    torch.testing.assert_close(margins[0], torch.zeros(2), atol=1e-6, rtol=0)
    assert margins[1, 0] > 0 > margins[1, 1]


def test_group_of_classes_has_the_log_odds_of_its_summed_probability():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.01, 0.98, 0.01]])
    head = softmax(((0, 2),), 3, (0.4,))
    expected = torch.tensor([[logit(0.5) - logit(0.4)], [logit(0.02) - logit(0.4)]])
    torch.testing.assert_close(head.margins(p.log()), expected)
    torch.testing.assert_close(head.margins(p.log() + 7.0), expected)  # softmax does not see a common shift
    as_probabilities = softmax(((0, 2),), 3, (0.4,), outputs=Outputs.PROBABILITIES)
    torch.testing.assert_close(as_probabilities.margins(p), expected)


def test_without_threshold_the_largest_class_decides():
    head = softmax(((0,), (1,), (2,)), 3, (math.nan, math.nan, 0.5))
    z = torch.tensor([[2.0, 0.5, 1.0]], requires_grad=True)
    margins = head.margins(z)
    third = 1.0 - torch.tensor([2.0, 0.5]).logsumexp(0)
    torch.testing.assert_close(margins, torch.stack([torch.tensor([1.0, -1.5, third.item()])]))
    (gradient,) = torch.autograd.grad(margins[:, :2].sum(), z)
    torch.testing.assert_close(gradient, torch.tensor([[1.0 - 1.0, 1.0, -1.0]]))  # no NaN leaks from the other branch


def test_probabilities_near_one_keep_their_order():
    p = torch.tensor([[1 - 2.0**-20], [1 - 2.0**-21], [1 - 2.0**-22], [2.0**-40]])
    margins = single(outputs=Outputs.PROBABILITIES).margins(p).flatten()
    assert margins.dtype == torch.float32
    torch.testing.assert_close(margins, torch.special.logit(p.double()).float().flatten())
    assert margins[0] < margins[1] < margins[2]
    assert margins[3] < -27


def test_probabilities_of_exactly_zero_and_one_stay_finite():
    assert single(outputs=Outputs.PROBABILITIES).margins(torch.tensor([[0.0], [1.0]])).isfinite().all()
    two = softmax(((0,),), 2, (0.5,), outputs=Outputs.PROBABILITIES)
    assert two.margins(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).isfinite().all()


def test_sigmoid_takes_its_findings_out_of_more_outputs():
    head = sigmoid(0.5, 0.5, groups=((3,), (1,)), classes=4)
    assert head.width == 4
    torch.testing.assert_close(head.margins(torch.tensor([[0.0, 1.0, 2.0, 3.0]])), torch.tensor([[3.0, 1.0]]))


# --- outputs ---------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Turns per-image means into whatever ``shape_output`` makes of them."""

    def __init__(self, shape_output):
        super().__init__()
        self.shape_output = shape_output

    def forward(self, x):
        return self.shape_output(x.mean((2, 3)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: z,
        lambda z: z[:, 0],  # (N,)
        lambda z: z[:, :, None, None],
        lambda z: (z, z * 0),
        lambda z: [z],
        lambda z: {"logits": z, "aux": z * 0},
        lambda z: {"anything": z},
        lambda z: SimpleNamespace(logits=z),
        lambda z: z.double(),
    ],
    ids=["tensor", "flat", "maps", "tuple", "list", "dict", "one-entry-dict", "object", "float64"],
)
def test_outputs_of_every_kind_are_read(wrap):
    images = torch.rand(3, 1, 8, 8)
    model = classifier(Fixed(wrap), single())
    torch.testing.assert_close(model.margins(images), images.mean((2, 3)))
    assert model.margins(images).dtype == torch.float32


def test_wrong_width_says_what_was_expected_and_what_came():
    model = classifier(Fixed(lambda z: z.repeat(1, 5)), sigmoid(0.5, 0.5))
    with pytest.raises(ModelError, match=r"expected shape \(3, 2\).*got \(3, 5\)"):
        model.margins(torch.rand(3, 1, 8, 8))


@pytest.mark.parametrize("wrap", [lambda z: z.mean(), lambda z: z[:1], lambda z: z.T])
def test_output_that_is_not_one_row_per_case_is_refused(wrap):
    with pytest.raises(ModelError, match="expected shape"):
        classifier(Fixed(wrap), single()).margins(torch.rand(3, 1, 8, 8))


@pytest.mark.parametrize("output", ["text", None, {"a": torch.ones(1), "b": torch.ones(1)}, (), 3.0])
def test_output_without_a_tensor_is_refused(output):
    with pytest.raises(ModelError, match="expected a tensor"):
        tensor_of(output)


# --- display and network space ---------------------------------------------------------------------------------------


def test_window_maps_and_clips_as_a_viewer_does():
    spec = InputSpec(size=(1, 4), window_hu=(-1000.0, 400.0))
    shown = spec.display(torch.tensor([[[[-1024.0, -1000.0, -300.0, 500.0]]]]))
    torch.testing.assert_close(shown, torch.tensor([[[[0.0, 0.0, 0.5, 1.0]]]]))


def test_stretch_of_a_constant_and_halving_of_a_step():
    spec = InputSpec(size=(2, 2), antialias=False)
    image = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(1, 1, 2, 4)
    torch.testing.assert_close(spec.display(image), torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]))


def test_pad_keeps_the_aspect_and_fills_with_black():
    spec = InputSpec(size=(4, 4), resize=Resize.PAD)
    shown = spec.display(torch.ones(1, 1, 2, 4))
    torch.testing.assert_close(shown[0, 0], torch.tensor([[0.0] * 4, [1.0] * 4, [1.0] * 4, [0.0] * 4]))


def test_crop_keeps_the_aspect_and_takes_the_middle():
    spec = InputSpec(size=(2, 2), resize=Resize.CROP)
    image = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(1, 1, 2, 4)
    torch.testing.assert_close(spec.display(image), torch.tensor([[[[0.2, 0.3], [0.2, 0.3]]]]))


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("shape", [(7, 5), (5, 9), (16, 3), (8, 8)])
def test_display_has_the_declared_size_and_range(resize, shape):
    spec = InputSpec(size=(8, 6), resize=resize, interpolation="bicubic")
    shown = spec.display(torch.rand(2, 1, *shape))
    assert shown.shape == (2, 1, 8, 6)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_volume_is_resized_with_its_low_pass():
    spec = InputSpec(size=(2, 4, 4))
    stripes = torch.zeros(1, 1, 8, 4, 4)
    stripes[:, :, ::2] = 1.0  # every other slice: without a low-pass one phase would be picked
    shown = spec.display(stripes)
    assert shown.shape == (1, 1, 2, 4, 4)
    torch.testing.assert_close(shown, torch.full_like(shown, 0.5), atol=0.05, rtol=0)
    ramp = torch.linspace(0, 1, 4).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    torch.testing.assert_close(InputSpec(size=(4, 2, 2)).display(ramp)[0, 0, :, 0, 0], torch.linspace(0, 1, 4))


def test_network_replicates_the_plane_and_normalises():
    spec = InputSpec(size=(2, 2), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    network = spec.network(torch.full((1, 1, 2, 2), 0.5))
    assert network.shape == (1, 3, 2, 2)
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(network[0, :, 0, 0], expected)


@pytest.mark.parametrize("resize", list(Resize))
def test_display_has_the_right_gradient(resize):
    spec = InputSpec(size=(3, 4), resize=resize)
    image = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    direction = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(2))
    image.requires_grad_(True)
    (gradient,) = torch.autograd.grad((spec.display(image) * direction).sum(), image)
    step = torch.randn(1, 1, 6, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ahead, behind = (spec.display(image + s * 1e-2 * step) for s in (1, -1))
    numeric = ((ahead - behind) * direction).sum() / 2e-2
    torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-3, atol=1e-4)


def test_display_does_not_change_its_input():
    image = torch.full((1, 1, 4, 4), 2.0)
    InputSpec(size=(4, 4)).display(image)
    assert (image == 2.0).all()


# --- features --------------------------------------------------------------------------------------------------------


class Cnn(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.head = nn.Linear(5, classes)  # declared first, run last
        self.stem = nn.Conv2d(1, 5, 3, padding=1)

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((2, 3)))


def test_features_of_a_cnn_are_what_enters_the_last_linear_layer():
    module = Cnn()
    model = classifier(module, sigmoid(0.5, 0.5))
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.features(images), module.stem(images).relu().mean((2, 3)).detach())
    torch.testing.assert_close(module.head(model.features(images)), model.outputs(images))
    assert model.last_linear() is module.head
    assert not module.head._forward_hooks


def test_margins_and_features_come_from_one_pass_and_are_those_of_two():
    model = classifier(Cnn(), sigmoid(0.5, 0.5))
    images = torch.rand(3, 1, 8, 8)
    margins, features = model.margins_and_features(images)
    assert torch.equal(margins, model.margins(images).detach())
    assert torch.equal(features, model.features(images))
    assert model.has_features
    assert not replace(model, hookable=False).has_features


def test_features_before_a_last_convolution_are_averaged_over_positions():
    stem, head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 2, 1)
    model = classifier(nn.Sequential(stem, head, nn.AdaptiveAvgPool2d(1)), sigmoid(0.5, 0.5))
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.features(images), stem(images).mean((2, 3)).detach())


class TinyTransformer(nn.Module):
    """Patches, a class token, one encoder layer, a linear head over all tokens, of which the first is the answer."""

    def __init__(self, classes=2):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, classes)

    def tokens(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return self.encoder(torch.cat([self.token.expand(len(x), -1, -1), patches], 1))

    def forward(self, x):
        return self.head(self.tokens(x))[:, 0]


def test_features_of_a_transformer_are_its_class_token():
    module = TinyTransformer().eval()
    model = classifier(module, sigmoid(0.5, 0.5))
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.features(images), module.tokens(images)[:, 0])


def test_features_with_one_layer_per_finding():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3)
            self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(2)])

        def forward(self, x):
            pooled = self.stem(x).mean((2, 3))
            return torch.cat([head(pooled) for head in self.heads], 1)

    module = Heads()
    images = torch.rand(3, 1, 8, 8)
    features = classifier(module, sigmoid(0.5, 0.5)).features(images)
    torch.testing.assert_close(features, module.stem(images).mean((2, 3)).detach())


@pytest.mark.parametrize("hookable", [True, False])
def test_no_layers_no_features(hookable):
    module = Fixed(lambda z: z) if hookable else Cnn(1)
    model = Classifier(module=module, head=single(), input=InputSpec(size=(8, 8)), hookable=hookable)
    with pytest.raises(ModelError, match="no access to its layers"):
        model.features(torch.rand(1, 1, 8, 8))


# --- untouched -------------------------------------------------------------------------------------------------------


def test_untouched_leaves_mode_gradients_buffers_and_random_state():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    module.train()
    module[1].eval()
    module(torch.rand(2, 1, 8, 8)).sum().backward()
    gradient = module[0].weight.grad
    before = gradient.clone()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    with untouched(module):
        assert not any(child.training for child in module.modules())
        module(torch.rand(2, 1, 8, 8)).sum().backward()
        module[1].running_mean.add_(1.0)
        torch.rand(3)
    assert module.training
    assert module[2].training
    assert not module[1].training
    assert module[0].weight.grad is gradient
    torch.testing.assert_close(gradient, before, rtol=0, atol=0)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


def test_untouched_restores_after_an_exception():
    module = nn.Sequential(nn.BatchNorm2d(1)).train()

    def fail():
        with untouched(module):
            module[0].running_var.mul_(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert module[0].training
    assert module[0].running_var == 1.0


def test_thresholds_and_findings():
    model = classifier(Cnn(), sigmoid(0.3, 0.4))
    assert model.findings == ("f0", "f1")
    torch.testing.assert_close(model.thresholds, torch.tensor([0.3, 0.4]))
