"""Trained models with planted defects: a small network learns from phantoms whose mark goes with the label, or does not.

They confirm on real optimisation what the constructed models say. Training is deterministic on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.planted.defects import DEFECTS, carried_by, with_defect
from robustbench_rad.planted.phantoms import SIDE, Phantoms, phantoms
from robustbench_rad.planted.programme import COMBINED, Trial, trial_of
from robustbench_rad.planted.worlds import FINDING, audit_world
from robustbench_rad.profile import CheckSpec
from robustbench_rad.seeds import derive_seed
from robustbench_rad.statistics.auc import auc

TRAINING_CASES, EPOCHS, BATCH = 1800, 12, 60
PEAK_LEARNING_RATE = 6e-3
TEST_ASSOCIATION = 0.9


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a network is trained on, and audited on.

    Attributes:
        name: In words.
        defect: The mark in the data.
        training: Its association with the label in training; 0.5: it tells nothing, so nothing is learned of it.
        control: Nothing may be reported.
    """

    name: str
    defect: str
    training: float
    control: bool


RECIPES: tuple[Recipe, ...] = (
    Recipe(name="trained without a mark's help", defect="corner marker", training=0.5, control=True),
    Recipe(name="trained with all kernels alike", defect="kernel", training=0.5, control=True),
    *(Recipe(name=f"trained with {name} at 90 : 10", defect=name, training=0.9, control=False) for name in DEFECTS),
)


class SmallCNN(nn.Module):
    """Five convolutions, mean and maximum over the image, one logit: 22 thousand weights."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        plan = [(1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 4 * width, 2)]
        blocks = [_block(*step) for step in (*plan, (4 * width, 4 * width, 1))]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(8 * width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logit ``(N, 1)`` of images ``(N, 1, H, W)``."""
        maps = self.blocks(images - 0.4)
        logit: Tensor = self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))
        return logit


def _block(channels: int, width: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def _planted(given: Phantoms, defect: str, association: float) -> Tensor:
    images = with_defect(given, DEFECTS[defect], carried_by(given, association))
    return torch.from_numpy(np.clip(images, 0, 1))[:, None]


def train(recipe: Recipe, seed: int, *, cases: int = TRAINING_CASES, epochs: int = EPOCHS) -> SmallCNN:
    """Train a network by a recipe; the same seed gives the same weights on a CPU."""
    given = phantoms(cases, derive_seed("planted.training", recipe.name, seed))
    images, labels = _planted(given, recipe.defect, recipe.training), torch.from_numpy(given.labels).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallCNN()
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=1e-3)
    steps = epochs * (cases // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(cases, generator=generator), BATCH)[: cases // BATCH]:
            loss = functional.binary_cross_entropy_with_logits(network(images[rows])[:, 0], labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network.eval()


@dataclass(frozen=True, kw_only=True)
class TrainedTrial:
    """A trial of a trained network, and what it is worth without the mark.

    Attributes:
        trial: As of a constructed model.
        audited_auroc: On the audited data, where the mark goes with the label.
        decorrelated_auroc: On data where it does not.
    """

    trial: Trial
    audited_auroc: float
    decorrelated_auroc: float

    @property
    def found(self) -> bool:
        """Whether the shortcut domain reports it."""
        return self.trial.reports(COMBINED)


def trained_trials(
    checks: Sequence[CheckSpec], *, cases: int, replicates: int, device: torch.device
) -> Iterator[TrainedTrial]:
    """Train and audit every recipe, so many times."""
    for replicate in range(replicates):
        for recipe in RECIPES:
            network = train(recipe, replicate)
            yield _audited(recipe, network, checks, cases=cases, replicate=replicate, device=device)


def _audited(
    recipe: Recipe,
    network: SmallCNN,
    checks: Sequence[CheckSpec],
    *,
    cases: int,
    replicate: int,
    device: torch.device,
) -> TrainedTrial:
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=(FINDING,), thresholds=(0.5,))
    model = Classifier(module=network.to(device), input=InputSpec(size=(SIDE, SIDE)), head=head, device=device)
    given = phantoms(cases, derive_seed("planted.audited", recipe.name, replicate))
    world = audit_world(given, DEFECTS[recipe.defect], TEST_ASSOCIATION, checks, device=device, model=model)
    trial = trial_of(
        world,
        world.scores,
        checks,
        kind=recipe.name,
        control=recipe.control,
        strength=0.0,
        association=TEST_ASSOCIATION,
        cases=cases,
        replicate=replicate,
    )
    with torch.no_grad():
        scores = network(_planted(given, recipe.defect, 0.5).to(device))[:, 0].cpu().numpy()
    return TrainedTrial(
        trial=trial,
        audited_auroc=_auroc(given, world.scores.clean(FINDING)),
        decorrelated_auroc=_auroc(given, scores),
    )


def _auroc(given: Phantoms, scores: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return auc(given.labels, scores.astype(np.float64), np.arange(len(given)), len(given)).value
