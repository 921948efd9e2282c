"""Cases made in memory and an evaluator for them."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_rad.cases import Case, CaseRecord
from robustbench_rad.classifier import Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Unit
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.loading import wrap_classifier
from robustbench_rad.progress import Progress
from robustbench_rad.query import CountingQuery

SIZE = (6, 6)
CT = InputSpec(size=SIZE, window_hu=(-1000.0, 400.0))
FILM = InputSpec(size=SIZE, range=(0.0, 255.0))


@pytest.fixture
def lab():
    """This module: classifiers' inputs, cases and evaluators."""
    return sys.modules[__name__]


class Mean(nn.Module):
    """One logit: twenty times the mean above one half."""

    def forward(self, x):
        return 20 * (x.flatten(1).mean(1, keepdim=True) - 0.5)


class Curved(nn.Module):
    """One logit that depends on every pixel, with curvature."""

    def forward(self, x):
        x = x.flatten(1)
        weight = torch.linspace(-3, 4, x.shape[1], dtype=x.dtype).sin()
        return 4 * ((x - 0.4) * weight).sum(1, keepdim=True).tanh() + (x * x * weight.flip(0)).mean(1, keepdim=True)


def evaluator(spec=FILM, *, module=None, conditions=(), batch_size=4, rows=256):
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("f",), thresholds=(0.5,))
    classifier = wrap_classifier(module or Mean(), input=spec, head=head)
    return Evaluator(
        classifier=classifier,
        conditions=conditions,
        states={},
        modality="CT" if spec.window_hu else "DX",
        seed=1,
        batch_size=batch_size,
        query=CountingQuery(classifier, rows=rows),
        progress=Progress(),
    )


def case(name, image, *, unit=Unit.SIGNAL, bits=8, label=1.0, **fields):
    record = CaseRecord(case_id=name, patient_id=name, reference=name, files=(Path(name),), labels=(label,))
    return Case(record=record, image=image, unit=unit, stored_bits=bits, **fields)


def films(count=3, shape=(1, 12, 12), **fields):
    """Films in grey levels, 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=generator).float()
    return [case(f"c{row}", image, **fields) for row, image in enumerate(images)]


def slices(count=3, shape=(1, 12, 12), bits=12, **fields):
    """CT slices of whole HU, from air to bone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-1024, 1500, (count, *shape), generator=generator).float()
    return [case(f"c{row}", image, unit=Unit.HU, bits=bits, **fields) for row, image in enumerate(images)]


def square(shape=(1, 12, 12), first=2, last=5):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., first:last, first:last] = True
    return mask
