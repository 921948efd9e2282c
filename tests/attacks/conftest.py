"""Small models and batches for the attack tests."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.seeds import derive_seed


class SpyQuery:
    """The plainest model query; remembers every plane it was asked about."""

    def __init__(self, classifier):
        self.classifier = classifier
        self.findings = classifier.findings
        self.planes = []
        self.backwards = 0

    def margins(self, display):
        self.planes.append(display.clone())
        with torch.no_grad():
            return self.classifier.margins(display)

    def margins_and_gradient(self, display, weights):
        self.planes.append(display.clone())
        self.backwards += len(display)
        image = display.detach().requires_grad_()
        margins = self.classifier.margins(image)
        if callable(weights):
            weights = weights(margins.detach(), torch.arange(len(image)))
        (gradient,) = torch.autograd.grad((margins * weights).sum(), image)
        return margins.detach(), gradient


class Linear(nn.Module):
    """``outputs = w . x + b`` on flattened images of any rank."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, images):
        return images.flatten(1) @ self.weight.T + self.bias


def _classifier(module, *, size, findings=1, head=Head.SIGMOID, channels=1, thresholds=None, groups=()):
    spec = HeadSpec(
        kind=head,
        outputs=Outputs.LOGITS,
        findings=tuple(f"finding-{k}" for k in range(findings)),
        thresholds=thresholds or (0.5,) * findings,
        groups=groups,
        classes=4 if groups else 0,
    )
    return Classifier(module=module.eval(), input=InputSpec(size=size, channels=channels), head=spec)


def _linear(pixels, *, findings=1, seed=0):
    source = torch.Generator().manual_seed(seed)
    weight = torch.randn(findings, pixels, generator=source)
    return Linear(weight, -0.5 * weight.sum(1) + 0.1 * torch.randn(findings, generator=source))


def _network(*, findings=1, channels=1, seed=0, act=nn.ReLU):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            act(),
            nn.Conv2d(6, 8, 3, stride=2),
            act(),
            nn.Flatten(),
            nn.Linear(8 * 9, findings),
        )


def _images(shape, *, seed=0, bits=None, saturated=0.0):
    source = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, generator=source)
    chance = torch.rand(shape, generator=source)
    images = torch.where(chance < saturated, (images > 0.5).float(), images)
    return images if bits is None else (images * (2**bits - 1)).round() / (2**bits - 1)


def _batch(images, labels, **options):
    names = tuple(f"case-{row}" for row in range(len(images)))
    return Batch(
        images=images,
        labels=labels,
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
        **options,
    )


def _called(classifier, images):
    """Labels for which every clean call is right."""
    with torch.no_grad():
        return (classifier.margins(images) >= 0).float()


def _attack(attack, classifier, batch, query=None):
    """Margins by level name, and measurements by (quantity, level, finding)."""
    applied = attack.apply(batch, query or SpyQuery(classifier), None)
    margins = {variant.level.name: variant.margins for variant in applied.variants}
    return margins, {(m.quantity, m.level, m.finding): m.values for m in applied.measurements}


def _side(labels):
    return labels * 2 - 1


@pytest.fixture(scope="session")
def lab():
    """The bench: factories for models and batches, and a way to run an attack."""
    return SimpleNamespace(
        SpyQuery=SpyQuery,
        Linear=Linear,
        classifier=_classifier,
        linear=_linear,
        network=_network,
        images=_images,
        batch=_batch,
        called=_called,
        attack=_attack,
        side=_side,
    )


@pytest.fixture(scope="session")
def calibrated(lab):
    """A small convolutional network on 15 x 15 images whose margins straddle 0, with images and right labels."""

    def make(*, findings=1, cases=8, channels=1, seed=0, scale=1.0, act=nn.ReLU):
        module = lab.network(findings=findings, channels=channels, seed=seed, act=act)
        classifier = lab.classifier(module, size=(15, 15), findings=findings, channels=channels)
        images = lab.images((cases, 1, 15, 15), seed=seed, bits=8)
        with torch.no_grad():
            module[-1].bias -= classifier.margins(images).median(0).values + 1e-4
            module[-1].weight *= scale
            module[-1].bias *= scale
        return classifier, images, lab.called(classifier, images)

    return make


@pytest.fixture(params=[Fgsm, PgdLinf], ids=["fgsm", "pgd-linf"])
def attack_class(request):
    return request.param
