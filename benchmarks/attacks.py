"""What a PGD step costs, and what leaving at the flip saves.

Run from a checkout; torchattacks, foolbox and ART are compared where they are installed (``pip install --no-deps
torchattacks==3.5.1 foolbox==3.3.4 eagerpy adversarial-robustness-toolbox==1.20.1`` and what they import)::

    python benchmarks/attacks.py --output attacks.md

Everything compared runs in one process on one thread, interleaved, on the same images and model; the figures are ratios
of process CPU time (and of wall time), so that a busy machine disturbs both sides alike. The floor is 20 bare forward and
backward passes with gradients of the input only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.curve_linf import CurveLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.query import CountingQuery

STEPS = 20


class Residual(nn.Module):
    """Two convolutions around a shortcut, halving the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.body(images) + self.skip(images))


class Dense(nn.Module):
    """Four convolutions that each see all before them, then a halving."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        widths = [inputs + growth * layer for layer in range(5)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, growth, 3, padding=1)) for w in widths[:4]
        )
        self.shrink = nn.Sequential(nn.Conv2d(widths[4], widths[4] // 2, 1), nn.AvgPool2d(2))

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = torch.cat([images, layer(images)], 1)
        return self.shrink(images)


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1)]


def resnet() -> nn.Module:
    stem = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, Residual(16, 32), Residual(32, 64), Residual(64, 128), *head(128))


def densenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 5, stride=2, padding=2), Dense(16, 12), Dense(32, 12), *head(40))


def blobs(cases: int, pixels: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise on a grey ground; a faint disc, somewhere, where the label is 1."""
    labels = (torch.arange(cases) % 2).float()
    axis = torch.linspace(-1, 1, pixels)
    x, y = (torch.rand(2, cases, 1, 1, generator=source) - 0.5).unbind(0)
    disc = ((axis[:, None] - y) ** 2 + (axis - x) ** 2 < 0.06).float()
    images = 0.45 + 0.12 * labels[:, None, None] * disc + 0.1 * torch.randn(cases, pixels, pixels, generator=source)
    return (images.clamp(0, 1)[:, None] * 255).round() / 255, labels


def train(module: nn.Module, pixels: int, source: torch.Generator) -> nn.Module:
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(60):
        images, labels = blobs(32, pixels, source)
        loss = nn.functional.binary_cross_entropy_with_logits(module(images)[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval().requires_grad_(False)


class TwoLogits(nn.Module):
    """``[0, z]``: what torchattacks needs to see of a one-logit model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        z = self.inner(images)
        return torch.cat([torch.zeros_like(z), z], 1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A model with correctly called cases to attack."""

    name: str
    module: nn.Module
    classifier: Classifier
    images: Tensor
    labels: Tensor

    @classmethod
    def make(cls, name: str, module: nn.Module, *, pixels: int, cases: int) -> Scene:
        source = torch.Generator().manual_seed(0)
        train(module, pixels, source)
        spec = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("disc",), thresholds=(0.5,))
        classifier = Classifier(module=module, input=InputSpec(size=(pixels, pixels)), head=spec)
        images, labels = blobs(2 * cases, pixels, source)
        with torch.no_grad():
            right = (classifier.margins(images)[:, 0] >= 0).float() == labels
        kept = right.nonzero()[:cases, 0]
        title = f"{name} {pixels}², N={len(kept)}"
        return cls(name=title, module=module, classifier=classifier, images=images[kept], labels=labels[kept, None])

    def batch(self, bits: int) -> Batch:
        names = tuple(str(row) for row in range(len(self.images)))
        with torch.no_grad():
            clean = self.classifier.margins(self.images)
        return Batch(
            images=self.images,
            labels=self.labels,
            case_ids=names,
            patient_ids=names,
            seeds=tuple(range(len(names))),
            space=Space.DISPLAY,
            stored_bits=bits,
            clean_margins=clean,
        )


def ours(
    scene: Scene, epsilon: str, *, full: bool = False, bits: int = 8
) -> Callable[[], tuple[Tensor, CountingQuery]]:
    attack = PgdLinf(levels=ladder(epsilon), steps=STEPS, random_starts=0, full_search=(epsilon,) if full else ())
    batch = scene.batch(bits)

    def run() -> tuple[Tensor, CountingQuery]:
        query = CountingQuery(scene.classifier)
        (variant,) = attack.apply(batch, query, None).variants
        assert variant.margins is not None
        return variant.margins, query

    return run


def torchattacks_pgd(scene: Scene, epsilon: str) -> Callable[[], object]:
    import torchattacks

    radius = ladder(epsilon)[0].value
    model = TwoLogits(scene.module).eval()
    attack = torchattacks.PGD(model, eps=radius, alpha=radius / 4, steps=STEPS, random_start=False)
    labels = scene.labels[:, 0].long()
    return lambda: attack(scene.images, labels)


def foolbox_pgd(scene: Scene, epsilon: str) -> Callable[[], object]:
    import foolbox

    model = foolbox.PyTorchModel(TwoLogits(scene.module).eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=STEPS, random_start=False)
    labels, radius = scene.labels[:, 0].long(), ladder(epsilon)[0].value
    return lambda: attack(model, scene.images, labels, epsilons=radius)


def art_pgd(scene: Scene, epsilon: str) -> Callable[[], object]:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    radius = ladder(epsilon)[0].value
    model = PyTorchClassifier(
        TwoLogits(scene.module).eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(scene.images.shape[1:]),
        nb_classes=2,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    options = {"eps": radius, "eps_step": radius / 4, "max_iter": STEPS, "batch_size": len(scene.images)}
    attack = ProjectedGradientDescent(model, verbose=False, **options)
    images, labels = scene.images.numpy(), nn.functional.one_hot(scene.labels[:, 0].long(), 2).numpy()
    return lambda: attack.generate(images, labels)


PEERS = {  # library: how its PGD-20 is made, and how much faster ours should be on images that mostly flip
    "torchattacks": (torchattacks_pgd, "≥ 2.5"),
    "foolbox": (foolbox_pgd, "≥ 3"),
    "adversarial-robustness-toolbox": (art_pgd, "≥ 3"),
}


def installed(distribution: str) -> str:
    """Version of a peer; "" where it is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def floor(scene: Scene) -> Callable[[], None]:
    def run() -> None:
        for _ in range(STEPS):
            image = scene.images.detach().requires_grad_(True)
            torch.autograd.grad(scene.module(image).sum(), image)

    return run


def ratios(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Process time and wall time of ``one`` over ``other``, repeat by repeat, after one warm-up of each."""
    one(), other()
    processor, wall = [], []
    for _ in range(repeats):
        first, second = timed(one), timed(other)
        processor.append(first[0] / second[0])
        wall.append(first[1] / second[1])
    return processor, wall


def timed(run: Callable[[], object]) -> tuple[float, float]:
    processor, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - processor, time.perf_counter() - wall


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} – **{statistics.median(values):.2f}** – {max(values):.2f}"


def flipped(scene: Scene, margins: Tensor) -> float:
    return ((margins >= 0).float() != scene.labels).float().mean().item()


def lines(scene: Scene, repeats: int) -> list[str]:
    rows = []

    def row(what: str, values: tuple[list[float], list[float]], target: str, note: str = "") -> None:
        rows.append(f"| {scene.name} | {what} | {spread(values[0])} | {spread(values[1])} | {target} | {note} |")

    full, untouched = ours(scene, "4/255", full=True), ours(scene, "1/65535", bits=16)
    row("PGD-20, full search / floor", ratios(full, floor(scene), repeats), "≤ 1.10", passes(full, scene))
    row("PGD-20, none flips / floor", ratios(untouched, floor(scene), repeats), "≤ 1.12", passes(untouched, scene))
    for epsilon in ("8/255", "4/255", "2/255"):
        run = ours(scene, epsilon)
        mostly = flipped(scene, run()[0]) > 0.5
        for library, (make, target) in PEERS.items():
            if found := installed(library):
                values = ratios(make(scene, epsilon), run, repeats)
                what = f"{library} {found} PGD-20 / PGD-20 with exit, ε = {epsilon}"
                row(what, values, target if mostly else "–", passes(run, scene))
    return rows


def passes(run: Callable[[], tuple[Tensor, CountingQuery]], scene: Scene) -> str:
    margins, query = run()
    cases = len(scene.images)
    share, forwards, backwards = flipped(scene, margins), query.forwards / cases, query.backwards / cases
    return f"{share:.0%} flip; {forwards:.1f} F + {backwards:.1f} B per case"


CURVE = ladder("0.25/255", "0.5/255", "1/255", "2/255", "4/255", "8/255", "16/255", "32/255")
CURVE_BITS = 12  # so that all eight levels can be stored


def bisected(scene: Scene, *, refine: float) -> Callable[[], tuple[Tensor, CountingQuery]]:
    """Ours: one search for the ladder; flips ``(8, N)``."""
    attack, batch = CurveLinf(levels=CURVE, steps=STEPS, refine=refine), scene.batch(CURVE_BITS)

    def run() -> tuple[Tensor, CountingQuery]:
        query = CountingQuery(scene.classifier)
        margins = [variant.margins for variant in attack.apply(batch, query, None).variants]
        return torch.stack([(m >= 0).float() != scene.labels for m in margins if m is not None])[..., 0], query

    return run


def climbed(scene: Scene) -> Callable[[], tuple[Tensor, CountingQuery]]:
    """Our PGD-20 up the same ladder: leaves at the flip, and a flip answers all larger levels."""
    attack, batch = PgdLinf(levels=CURVE, steps=STEPS, random_starts=0), scene.batch(CURVE_BITS)

    def run() -> tuple[Tensor, CountingQuery]:
        query = CountingQuery(scene.classifier)
        margins = [variant.margins for variant in attack.apply(batch, query, None).variants]
        return torch.stack([(m >= 0).float() != scene.labels for m in margins if m is not None])[..., 0], query

    return run


def every_level(scene: Scene) -> Callable[[], tuple[Tensor, CountingQuery]]:
    """The full ladder: PGD-20 at every level anew and to its end, as libraries with a list of epsilons do it."""
    batch = scene.batch(CURVE_BITS)
    attacks = [PgdLinf(levels=(level,), steps=STEPS, random_starts=0, full_search=(level.name,)) for level in CURVE]

    def run() -> tuple[Tensor, CountingQuery]:
        query, flips = CountingQuery(scene.classifier), []
        for attack in attacks:
            (variant,) = attack.apply(batch, query, None).variants
            assert variant.margins is not None
            flips.append((variant.margins >= 0).float() != scene.labels)
        return torch.stack(flips)[..., 0], query

    return run


def curve_lines(scene: Scene) -> list[str]:
    """Passes per case of the ways to one curve, where their flips differ, and the time of the full ladder over each."""
    (reference, full), full_time = measured(every_level(scene))
    cases, rows = len(scene.images), []
    ways = {
        "one search (`attack.curve-linf`, refine = 0)": bisected(scene, refine=0.0),
        "one search, refined to 5 %": bisected(scene, refine=0.05),
        "PGD-20 up the ladder with exit": climbed(scene),
    }
    for name, run in ways.items():
        (flips, query), taken = measured(run)
        same = int((flips == reference).all(0).sum())
        rows.append(
            f"| {scene.name} | {name} | {query.forwards / cases:.1f} F + {query.backwards / cases:.1f} B "
            f"| {full.forwards / cases:.1f} F + {full.backwards / cases:.1f} B "
            f"| **{full.backwards / query.backwards:.2f}** | {full_time / taken:.2f} | {same} of {cases} |"
        )
    return rows


def measured(run: Callable[[], tuple[Tensor, CountingQuery]]) -> tuple[tuple[Tensor, CountingQuery], float]:
    """What a run gives, and its process time in seconds."""
    begun = time.process_time()
    return run(), time.process_time() - begun


def curve_table(cases: int) -> list[str]:
    scenes = [Scene.make("ResNet", resnet(), pixels=64, cases=cases)]
    scenes.append(Scene.make("DenseNet", densenet(), pixels=64, cases=cases))
    return [
        "8-level curve, 12 bits; the full ladder is PGD-20 at every level, each to its end.",
        "",
        "| model | way | passes per case | full ladder | backward passes, full / this (target ≥ 3.5) "
        "| process time, full / this | same curve |",
        "|---|---|---|---|---|---|---|",
        *(line for scene in scenes for line in curve_lines(scene)),
    ]


def step_table(cases: int, repeats: int) -> list[str]:
    scenes = [
        Scene.make("ResNet", resnet(), pixels=64, cases=cases),
        Scene.make("DenseNet", densenet(), pixels=96, cases=cases),
    ]
    return [
        "| model | ratio | process time: min – median – max | wall time: min – median – max | target | what happened |",
        "|---|---|---|---|---|---|",
        *(line for scene in scenes for line in lines(scene, repeats)),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--curve-cases", type=int, default=32)
    parser.add_argument("--only-curve", action="store_true", help="leave out the comparison with torchattacks")
    parser.add_argument("--output", type=Path, help="write the table there instead of to the terminal")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = [] if options.only_curve else step_table(options.cases, options.repeats)
    text = "\n".join([*table, *curve_table(options.curve_cases)]) + "\n"
    options.output.write_text(text, "utf-8") if options.output else print(text)


if __name__ == "__main__":
    main()
