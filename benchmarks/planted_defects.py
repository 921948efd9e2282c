"""How often the shortcut audits are right, on planted defects and on controls: the published table of docs/validity.md.

Every trial is a data set of its own, so Wilson's intervals hold. Trials are spread over processes; each appends its line to
a JSON-lines file as soon as it is done, so a run that was stopped goes on where it was, and files of several machines can be
joined.

    python benchmarks/planted_defects.py run --output trials.jsonl --processes 2
    python benchmarks/planted_defects.py run --output trials.jsonl --device cuda --processes 12 --minutes 9
    python benchmarks/planted_defects.py table trials.jsonl > planted_defects.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from robustbench_rad.planted.programme import COMBINED, CONTROLS, KINDS, STRENGTHS, Cell, Trial, audits
from robustbench_rad.planted.readout import APART, Rate, b90, false_alarms, rate, release_bar, separation, wrong_passes

REFERENCE = (1000, 0.7)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One data set: a planted mark for all strengths, or a control."""

    kind: str
    control: bool
    association: float
    cases: int
    replicate: int

    @property
    def key(self) -> str:
        """Name of the job, the same in every run."""
        return f"{self.kind}|{self.control}|{self.association}|{self.cases}|{self.replicate}"


def jobs(sizes: Sequence[int], replicates: int, control_replicates: int) -> Iterator[Job]:
    """The reference cell and its controls first, then the rest of the matrix."""
    controls = [
        Job(kind=c.name, control=True, association=c.association, cases=REFERENCE[0], replicate=r)
        for r in range(control_replicates)
        for c in CONTROLS
    ]
    planted = [
        Job(kind=kind, control=False, association=association, cases=cases, replicate=r)
        for r in range(replicates)
        for cases in sizes
        for association in (0.7, 0.9, 0.6, 0.5)
        for kind in KINDS
    ]
    reference = [job for job in planted if (job.cases, job.association) == REFERENCE]
    yield from _alternating(controls, reference)
    yield from (job for job in planted if (job.cases, job.association) != REFERENCE)


def _alternating(controls: list[Job], reference: list[Job]) -> Iterator[Job]:
    """So that a run that is stopped early has some of both."""
    every = max(1, len(controls) // max(1, len(reference)))
    rest = iter(reference)
    for place, job in enumerate(controls):
        yield job
        if place % every == 0 and (planted := next(rest, None)) is not None:
            yield planted
    yield from rest


def done(job: Job, profile: str, device: str) -> list[dict[str, object]]:
    """Run one job; its trials as plain data."""
    import torch

    torch.set_num_threads(1)
    checks, where = audits(profile), torch.device(device)
    if job.control:
        control = next(c for c in CONTROLS if c.name == job.kind)
        trials = [control.trial(checks, job.cases, job.replicate, device=where)]
    else:
        cell = Cell(defect=job.kind, association=job.association, cases=job.cases, replicate=job.replicate)
        trials = [*cell.trials(checks, STRENGTHS, device=where)]
    return [asdict(trial) for trial in trials]


def _work(task: tuple[Job, str, str]) -> tuple[str, list[dict[str, object]]]:
    return task[0].key, done(*task)


def run(options: argparse.Namespace) -> None:
    """Run what the file does not hold yet, until it is done or the time is up."""
    output: Path = options.output
    finished = {json.loads(line)["job"] for line in output.read_text().splitlines()} if output.exists() else set()
    pending = [job for job in jobs(options.cases, options.replicates, options.controls) if job.key not in finished]
    end = time.monotonic() + 60 * options.minutes
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes) as pool, output.open("a") as file:
        tasks = [(job, options.profile, options.device) for job in pending]
        for key, trials in pool.imap_unordered(_work, tasks):
            file.write(json.dumps({"job": key, "trials": trials}) + "\n")
            file.flush()
            if time.monotonic() > end:
                pool.terminate()
                break


def read(paths: Sequence[Path]) -> list[Trial]:
    """All trials of some files, each job once."""
    found: dict[str, list[Trial]] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            content = json.loads(line)
            found[content["job"]] = [Trial(**trial) for trial in content["trials"]]
    return [trial for key in sorted(found) for trial in found[key]]


def table(options: argparse.Namespace) -> None:
    """Print the published tables as Markdown."""
    trials = read(options.files)
    print(_bar(trials))
    print(_audits(trials))
    print(_kinds(trials))
    print(_matrix(trials))
    print(_controls(trials))


def _markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        f"### {title}",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(r)} |" for r in rows),
    ]
    return "\n".join([*lines, ""])


def _bar(trials: Sequence[Trial]) -> str:
    bar = release_bar(trials)
    met = {True: "met", False: "not met"}
    rows = [
        [
            "false alarms of the combined judgement, share ≤ 5 %, upper limit ≤ 8 %, 400 controls or more",
            f"{bar['false_alarms']} of {bar['controls']}: {false_alarms(trials)}",
            met[bool(bar["false_alarms_met"])],
        ],
        [
            "b90 ≤ 0.3 at 1,000 cases, r = 0.7",
            ", ".join(f"{key[4:]} {_limit(value)}" for key, value in bar.items() if key.startswith("b90 ")),
            met[bool(bar["b90_met"])],
        ],
        ["passes of models without signal", str(wrong_passes(trials)), ""],
    ]
    return _markdown("Release bar", ["bar", "measured", ""], rows)


def _limit(value: object) -> str:
    return "–" if value is None else f"{value:g}"


def _reference(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if not t.control and (t.cases, t.association) == REFERENCE]


def _audits(trials: Sequence[Trial]) -> str:
    reference = _reference(trials)
    controls = [t for t in trials if t.control and t.kind not in APART]
    names = [COMBINED, *(name for name in trials[0].verdicts if name != COMBINED)]
    rows = []
    for name in names:
        shares = [str(rate((t for t in reference if t.strength == b), name)) for b in (0.1, 0.3, 1.0)]
        area = separation([t for t in reference if t.strength == 0.3], controls, name)
        shown = "–" if area is None or name == COMBINED else f"{area:.2f}"
        rows.append([f"`{name}`", *shares, str(false_alarms(trials, name)), shown])
    head = ["audit", "finds 0.1 SD", "0.3 SD", "1 SD", "false alarms", "ROC-AUC at 0.3 SD"]
    return _markdown("Audits, all six marks together, 1,000 cases, r = 0.7", head, rows)


def _kinds(trials: Sequence[Trial]) -> str:
    reference = _reference(trials)
    rows = []
    for kind in KINDS:
        own = [t for t in reference if t.kind == kind]
        by = [str(rate((t for t in own if t.strength == b), COMBINED)) for b in STRENGTHS]
        rows.append([kind, *by, _limit(b90(own))])
    head = ["mark", *(f"{b:g} SD" for b in STRENGTHS), "b90"]
    return _markdown("How often the shortcut domain reports a mark, 1,000 cases, r = 0.7", head, rows)


def _matrix(trials: Sequence[Trial]) -> str:
    cells = sorted({(t.cases, t.association) for t in trials if not t.control})
    rows = []
    for cases, association in cells:
        own = [t for t in trials if not t.control and (t.cases, t.association) == (cases, association)]
        shares = [str(rate((t for t in own if t.strength == b), COMBINED)) for b in STRENGTHS]
        rows.append([f"{cases:,}", f"{association:g}", str(len(own) // len(STRENGTHS)), *shares])
    head = ["cases", "r", "data sets", *(f"{b:g} SD" for b in STRENGTHS)]
    return _markdown("The matrix: all marks together, reported by the shortcut domain", head, rows)


def _controls(trials: Sequence[Trial]) -> str:
    names = [COMBINED, *(name for name in trials[0].verdicts if name != COMBINED)]
    rows = []
    for control in CONTROLS:
        own = [t for t in trials if t.control and t.kind == control.name]
        alarms = {name: rate(own, name) for name in names}
        by = [f"`{name}` {found.count}" for name, found in alarms.items() if found.count and name != COMBINED]
        shown = f"{control.name} (shown apart)" if control.shown_apart else control.name
        rows.append([shown, str(len(own)), _alarms(alarms[COMBINED]), ", ".join(by)])
    return _markdown("Controls, 1,000 cases", ["control", "data sets", "reported", "by"], rows)


def _alarms(found: Rate) -> str:
    return f"{found.count}: {found}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run")
    runner.add_argument("--output", type=Path, required=True)
    runner.add_argument("--device", default="cpu")
    runner.add_argument("--processes", type=int, default=2)
    runner.add_argument("--minutes", type=float, default=1e9)
    runner.add_argument("--cases", type=int, nargs="+", default=[1000, 250, 100, 4000])
    runner.add_argument("--replicates", type=int, default=10)
    runner.add_argument("--controls", type=int, default=45, help="data sets per control")
    runner.add_argument("--profile", default="standard")
    runner.set_defaults(run=run)
    shown = commands.add_parser("table")
    shown.add_argument("files", type=Path, nargs="+")
    shown.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
