"""How full the forwards of an attack are, and how many it takes: levels and starts in turn, filled up, and ahead of their turn.

Run from a checkout, on a processor or an accelerator::

    python benchmarks/attack_queue.py --device cuda --pixels 224 --cases 32 448 --output attack_queue.md

Three ways to the same record, each with forwards of at most as many rows as the capacity says:

- *in step*: one level after the other and one start after the other, all targets together, compacted as they flip;
- *filled up*: rows that finish make room for rows whose turn it is; every row is searched at its turn, none in vain;
- *ahead*: what room is left goes to rows ahead of their turn, which a flip before them may make pointless.

32 cases are a batch of a plan with one finding, 448 have as many targets as a batch of a plan with 14.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from attacks import CURVE, CURVE_BITS, STEPS, Scene, resnet  # noqa: TID251 - benchmarks/attacks.py, beside this script
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._pool import Capacity
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.conditions import Batch
from robustbench_rad.query import CountingQuery

ATTACKS = {
    "8 levels with exit": PgdLinf(levels=CURVE, steps=STEPS, random_starts=0),
    "5 starts": PgdLinf(levels=ladder("2/255"), steps=STEPS, random_starts=4),
    "3 levels, 2 starts": PgdLinf(levels=ladder("1/255", "2/255", "4/255"), steps=STEPS, random_starts=1),
}
WAYS = ("in step", "filled up", "ahead")


class InStep(Climb):
    """Levels and starts one after the other."""

    def _shares_levels(self, member: object) -> bool:
        del member
        return False


class Forwards(CountingQuery):
    """Counts how often the model is called."""

    calls = 0

    def _margins(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super()._margins(images)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run found and cost; seconds by :func:`clock`."""

    record: Record
    query: Forwards
    seconds: float


def run(scene: Scene, batch: Batch, attack: PgdLinf, way: str, rows: int) -> Outcome:
    query = Forwards(scene.classifier, rows=rows)
    climb = Climb.of(attack, batch, query, None)
    if way == "in step":
        climb = InStep(**{name: getattr(climb, name) for name in Climb.__dataclass_fields__})
    else:
        climb = replace(climb, capacity=Capacity(rows=rows, ahead=rows if way == "ahead" else 0))
    begun = clock(batch)
    climb.run()
    return Outcome(record=climb.record, query=query, seconds=clock(batch) - begun)


def clock(batch: Batch) -> float:
    """Seconds: of the process on a processor, where others may run beside it; of the wall on an accelerator."""
    if batch.device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def flips(record: Record) -> Tensor:
    return (record.margins >= 0) != (record.labels > 0.5)


def lines(scene: Scene, batch: Batch, capacities: list[int], repeats: int) -> Iterator[str]:
    for name, attack in ATTACKS.items():
        for rows in capacities:
            reference = None
            for way in WAYS:
                outcomes = [run(scene, batch, attack, way, rows) for _ in range(repeats)]
                query, found = outcomes[0].query, flips(outcomes[0].record)
                reference = found if reference is None else reference
                share = found[-1].float().mean().item()
                seconds = statistics.median(outcome.seconds for outcome in outcomes)
                yield (
                    f"| {len(batch)} | {name} ({share:.0%} flip) | {rows} | {way} | {query.calls} "
                    f"| {query.forwards / query.calls:.1f} | {query.forwards} | {query.backwards} "
                    f"| {1000 * seconds:.0f} | {int((found == reference).all(0).sum())} |"
                )


def on(scene: Scene, device: str) -> tuple[Scene, Batch]:
    scene.module.to(device)
    moved = replace(scene, images=scene.images.to(device), labels=scene.labels.to(device))
    return moved, moved.batch(CURVE_BITS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, default=16)
    parser.add_argument("--cases", type=int, nargs="+", default=[32, 448])
    parser.add_argument("--capacities", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the table there instead of to the terminal")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = [
        "| cases | attack | capacity | way | forwards | rows per forward | rows forward | rows backward | time (ms) "
        "| same curve |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cases in options.cases:
        scene, batch = on(Scene.make("ResNet", resnet(), pixels=options.pixels, cases=cases), options.device)
        table += lines(scene, batch, options.capacities, options.repeats)
    text = "\n".join(table) + "\n"
    options.output.write_text(text, "utf-8") if options.output else print(text)


if __name__ == "__main__":
    main()
