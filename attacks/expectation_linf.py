"""Descent on the mean of several answers, for models that answer differently each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, repeat
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Objective
from robustbench_rad.attacks._search import Front, Oracle
from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.conditions import Batch, Level, ModelQuery
from robustbench_rad.registry import register
from robustbench_rad.seeds import derive_seed

REPEATS = 5  # answers to the originals that must agree
AGREE = 1e-4  # of a margin, or of 1 where it is smaller: beyond, a model is stochastic


@register(
    id="attack.expectation-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Athalye, Carlini, Wagner 2018, arXiv:1802.00420",
)
@dataclass(frozen=True, kw_only=True)
class ExpectationLinf(PgdLinf):
    """Projected gradient descent on the mean margin of a model that draws at random (dropout, noise, random resizing).

    The gradient at a plane is the mean of ``evaluations`` gradients, and its margin the mean of as many margins: that mean
    decides whether a call is wrong. A wrong call is confirmed by as many fresh evaluations, and the better of the two
    means counts, so that a lucky draw is no flip. Whether the clean call was right is decided by the audit's one clean
    margin.

    A model whose answers to the originals agree five times is asked once per plane, and the search is that of
    ``attack.pgd-linf``. What is not differentiable but close to the identity, such as rounding to grey levels, is passed
    straight through (BPDA).

    Random models draw from torch's global generator. It is seeded for each evaluation from the case's seed and put back
    after it, so results can be repeated and the caller's random state is left alone. For the same reason a random model is
    asked about one image at a time: its draws must not depend on the other images of a batch. That is slow on an
    accelerator.

    Attributes:
        evaluations: Answers that make a mean.

    >>> ExpectationLinf.from_options({"epsilon": "1/255", "random_starts": 0, "evaluations": 10}).passes(findings=1)
    615.0
    """

    evaluations: int = 20

    def __post_init__(self) -> None:
        """Refuse a mean of nothing."""
        super().__post_init__()
        value = self.evaluations
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"evaluations: expected a whole number of at least 1, got {value!r}")

    def passes(self, findings: int) -> float:
        """All evaluations of every plane, and the repeats; a model that is not random costs a part of it."""
        return REPEATS + self.evaluations * super().passes(findings)

    def oracle(self, query: ModelQuery, batch: Batch) -> Oracle:
        """The mean of several answers where the model is random, else its one answer."""
        if not is_stochastic(query, batch):
            return super().oracle(query, batch)
        return MeanOracle(
            query=query,
            bits=batch.stored_bits,
            evaluations=self.evaluations,
            seeds=batch.seeds,
            stage="stored",
            numbers=repeat(0),
        )

    def search(self, front: Front, level: Level) -> None:
        """As PGD, with draws that belong to the level."""
        if isinstance(front.oracle, MeanOracle):
            front.oracle = replace(front.oracle, stage=level.name, numbers=count())
        super().search(front, level)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanOracle(Oracle):
    """A random model as the mean of several answers.

    Attributes:
        evaluations: Answers that make a mean.
        seeds: One per case of the batch.
        stage: What the draws are for.
        numbers: Number of the next plane; all targets of a front are at the same one.
    """

    any_order: ClassVar[bool] = False

    evaluations: int
    seeds: tuple[int, ...]
    stage: str
    numbers: Iterator[int]

    def health(self, planes: Tensor, targets: Objective) -> Tensor:
        """Mean health ``(R,)``; of two means where the first says that the call is wrong, the better."""
        number = next(self.numbers)
        health = self._means(planes, targets, self._one_health, f"{number}")[0]
        return self._confirmed(planes, targets, health, number)

    def health_and_gradient(self, planes: Tensor, targets: Objective) -> tuple[Tensor, Tensor]:
        """Mean health ``(R,)`` as in :meth:`health`, and the mean gradient."""
        number = next(self.numbers)
        health, gradient = self._means(planes, targets, super().health_and_gradient, f"{number}")
        return self._confirmed(planes, targets, health, number), gradient

    def _one_health(self, planes: Tensor, targets: Objective) -> tuple[Tensor]:
        return (super().health(planes, targets),)

    def _confirmed(self, planes: Tensor, targets: Objective, health: Tensor, number: int) -> Tensor:
        rows = targets.wrong(health).nonzero()[:, 0]
        if not len(rows):
            return health
        (again,) = self._means(planes[rows], targets.select(rows), self._one_health, f"{number} again")
        return health.index_put((rows,), torch.maximum(health[rows], again))

    def _means(
        self, planes: Tensor, targets: Objective, ask: Callable[..., tuple[Tensor, ...]], number: str
    ) -> tuple[Tensor, ...]:
        rows = torch.arange(len(targets), device=planes.device)[:, None]
        means = [
            self._mean(planes[row], targets.select(row), ask, number, case)
            for row, case in zip(rows, targets.case.tolist(), strict=True)
        ]
        return tuple(torch.cat(column) for column in zip(*means, strict=True))

    def _mean(
        self, plane: Tensor, target: Objective, ask: Callable[..., tuple[Tensor, ...]], number: str, case: int
    ) -> tuple[Tensor, ...]:
        answers = []
        for evaluation in range(self.evaluations):
            with drawing_from(derive_seed(self.seeds[case], ExpectationLinf.id, self.stage, number, evaluation), plane):
                answers.append(ask(plane, target))
        return tuple(torch.stack(column).mean(0) for column in zip(*answers, strict=True))


@contextmanager
def drawing_from(seed: int, planes: Tensor) -> Iterator[None]:
    """Seed torch's global generators, of the CPU and of the planes' device; on leaving they are as they were."""
    devices = [planes.device] if planes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the devices that are not forked
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def is_stochastic(query: ModelQuery, batch: Batch) -> bool:
    """Whether the model's answers to the stored originals differ from one time to the next."""
    planes = stored(batch.images, batch.stored_bits)
    answers = []
    for number in range(REPEATS):
        with drawing_from(derive_seed(batch.audit_seed, ExpectationLinf.id, "repeat", number), planes):
            answers.append(query.margins(planes))
    margins = torch.stack(answers)
    spread = margins.amax(0) - margins.amin(0)
    return bool((spread > AGREE * margins.abs().amax(0).clamp_min(1.0)).any())
