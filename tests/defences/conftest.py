"""A small network, images and defended classifiers."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.defences.chain import defended
from robustbench_rad.defences.sections import KINDS


def _head(kind=Head.SIGMOID, outputs=Outputs.LOGITS, width=2):
    softmax = kind is Head.SOFTMAX
    return HeadSpec(
        kind=kind,
        outputs=outputs,
        findings=tuple(f"finding-{k}" for k in range(width)),
        thresholds=((float("nan") if softmax else 0.4),) * width,
        groups=tuple((k,) for k in range(width)) if softmax else (),
        classes=width if softmax else 0,
    )


def _network(axes, width=2):
    conv = nn.Conv2d if axes == 2 else nn.Conv3d
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(width))


def _plain(size=(12, 10), module=None, head=None):
    module = module or _network(len(size))
    module(torch.zeros(1, 1, *size))
    return Classifier(module=module.eval(), input=InputSpec(size=size), head=head or _head())


def _behind(classifier, *defences, seed=7):
    return defended(classifier, [KINDS[d["kind"]].model_validate(d) for d in defences], seed=seed)


def _images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def lab():
    return SimpleNamespace(head=_head, plain=_plain, behind=_behind, images=_images)
