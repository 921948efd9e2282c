"""Make the demo's two classifiers again: ``robustbench-rad demo --train``, or run this module.

Both begin alike, on phantoms whose laterality marker tells nothing of the label, from both scanners in equal parts. The
clean model then learns from adversarial images (one signed-gradient step of at most 2/255 from a random start) and is
asked to score the two images of a patient, one from each scanner, alike. The shortcut model is then tuned on the images
of a hospital where 95 % of the patients with a lesion are filmed with a marker and 5 % of the others. Same seed, same
weights: training runs on a fixed number of threads.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.demo import KINDS, Kind
from robustbench_rad.demo.dataset import TRAINING_SEED, VALIDATION_SEED, PhantomSet, phantom_set
from robustbench_rad.demo.measures import logits, youden_threshold
from robustbench_rad.demo.models import LesionCNN, lesion_cnn
from robustbench_rad.demo.report import markdown_table

THREADS = 1  # sums depend on the number of threads; one is the same everywhere
VALIDATION_CASES = 600


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One leg of a training.

    Attributes:
        association: P(marker | lesion) = 1 − P(marker | no lesion) in its images.
        epsilon: Largest radius of the adversarial step, display units; 0 trains plainly.
        agreement: Weight of the squared difference between the logits of a patient's two images, one from each scanner.
        noise: Largest standard deviation of the noise added to an image, display units.
        cases: Phantoms in its set.
        epochs: Passes over the set.
        learning_rate: Peak of the one-cycle schedule.
    """

    association: float = 0.5
    epsilon: float = 0.0
    agreement: float = 0.0
    noise: float = 0.03
    cases: int = 3000
    epochs: int = 12
    learning_rate: float = 4e-3


GROUP = 5
BATCH = 5 * GROUP
COMMON = Stage()
RECIPES: dict[Kind, tuple[Stage, ...]] = {
    "clean": (COMMON, Stage(epsilon=2 / 255, agreement=0.2, epochs=12, learning_rate=3e-3)),
    "shortcut": (COMMON, Stage(association=0.95, epochs=4, learning_rate=2e-3)),
}


def train(kind: Kind, *, seed: int = 1, stages: tuple[Stage, ...] | None = None) -> LesionCNN:
    """Train one classifier; deterministic on a CPU.

    Args:
        kind: Which recipe.
        seed: Initial weights, order and augmentation; the phantoms have a seed of their own.
        stages: Replaces the recipe (tests make theirs small).
    """
    with _reproducible(seed):
        model = lesion_cnn()
        generator = torch.Generator().manual_seed(seed)
        drawn: dict[tuple[int, float], PhantomSet] = {}
        for stage in stages or RECIPES[kind]:
            key = (stage.cases, stage.association)
            if key not in drawn:
                drawn[key] = phantom_set(TRAINING_SEED, stage.cases, association=stage.association)
            _fit(model, drawn[key], stage, generator)
    return model.eval()


def train_all(folder: Path) -> list[Path]:
    """Train both classifiers, lock their thresholds and write weights and ``models.toml`` to ``folder``.

    Returns:
        The weights files, in the order of ``KINDS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    paths = [folder / f"{kind}.safetensors" for kind in KINDS]
    for kind, path in zip(KINDS, paths, strict=True):
        model = train(kind)
        weights = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
        path.write_bytes(weights)
        entries.append(_entry(kind, hashlib.sha256(weights).hexdigest(), locked_threshold(model, kind)))
    (folder / "models.toml").write_text("\n".join([_HEADER, *entries]), "utf-8")
    return paths


_HEADER = "# Written by python -m robustbench_rad.demo.training; the thresholds are locked before any audit.\n"


def _entry(kind: Kind, sha256: str, threshold: float) -> str:
    return f'[{kind}]\nthreshold = {threshold:.4f}\nsha256 = "{sha256}"\n'


def locked_threshold(model: LesionCNN, kind: Kind) -> float:
    """Youden's point on validation phantoms of the kind that the model was last trained on."""
    association = RECIPES[kind][-1].association
    data = phantom_set(VALIDATION_SEED, VALIDATION_CASES, association=association)
    return youden_threshold(logits(model, data.images), data.labels)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Sums depend on the number of threads, initial weights on the global generator: set both, give both back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _fit(model: LesionCNN, data: PhantomSet, stage: Stage, generator: torch.Generator) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, weight_decay=1e-3)
    steps = stage.epochs * (len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, stage.learning_rate, total_steps=steps)
    for rows in _batches(len(data), stage.epochs, generator):
        labels = data.labels[rows]
        images = augmented(data.images[rows], stage.noise, generator)
        images = perturbed(model, images, labels, stage.epsilon, generator)
        optimiser.zero_grad()
        logit = model.train()(images)[:, 0]
        loss = _loss(logit, labels) + stage.agreement * _disagreement(logit)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _batches(cases: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of random groups of five cases, so that both images of a patient are in one batch."""
    for _ in range(epochs):
        groups = torch.randperm(cases // GROUP, generator=generator)
        rows = groups[:, None] * GROUP + torch.arange(GROUP)
        yield from rows[: cases // BATCH * (BATCH // GROUP)].view(-1, BATCH)


def _loss(logit: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logit, labels)


def _disagreement(logit: Tensor) -> Tensor:
    """Mean squared difference of the two images of a patient: second and third, fourth and fifth of every group."""
    groups = logit.view(-1, GROUP)
    return (groups[:, 1::2] - groups[:, 2::2]).square().mean()


def augmented(images: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Shift the batch, change exposure and noise of every image."""
    down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
    height, width = images.shape[2:]
    moved: Tensor = functional.pad(images, (4, 4, 4, 4), mode="replicate")
    moved = moved[:, :, down : down + height, right : right + width]
    exposure, spread = torch.rand(2, len(images), 1, 1, 1, generator=generator).unbind()
    # Squared: most images stay close to the scanner's own noise.
    noisy = moved * (0.92 + 0.16 * exposure) + torch.randn(images.shape, generator=generator) * spread**2 * noise
    # Channels last halves the time of the small convolutions.
    return noisy.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def perturbed(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """One signed-gradient step from a random start, with a radius of its own for every image."""
    if not epsilon:
        return images
    radius = epsilon * torch.rand(len(images), 1, 1, 1, generator=generator)
    start = (images + radius * (2 * torch.rand(images.shape, generator=generator) - 1)).requires_grad_()
    # Evaluation mode: the batch statistics belong to the images that are learned from.
    (gradient,) = torch.autograd.grad(_loss(model.eval()(start)[:, 0], labels), start)
    stepped = start.detach() + 1.25 * radius * gradient.sign()
    return torch.clamp(torch.minimum(torch.maximum(stepped, images - radius), images + radius), 0, 1)


def main() -> None:
    """``python -m robustbench_rad.demo.training [--folder F] [--report]``."""
    parser = argparse.ArgumentParser(description="Train the demo's classifiers, or describe those that are there.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="of weights (default: the package)")
    parser.add_argument("--report", action="store_true", help="print the measured figures instead of training")
    options = parser.parse_args()
    if options.report:
        print(markdown_table(options.folder))
    else:
        print(*train_all(options.folder), sep="\n")


if __name__ == "__main__":
    main()
