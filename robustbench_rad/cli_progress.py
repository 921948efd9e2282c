"""Progress for people: a live display on a terminal, plain lines and a heartbeat everywhere else."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from robustbench_rad.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

HEARTBEAT_S = 60.0


def make_progress(console: Console, *, quiet: bool) -> Progress:
    """Choose by where the output goes."""
    if quiet:
        return Progress()
    return LiveProgress(console) if console.is_terminal and console.is_interactive else PlainProgress(console)


class LiveProgress(Progress):
    """A rich progress bar: stage, condition, chunk, cases per second, time left."""

    def __init__(self, console: Console) -> None:
        from rich import progress as rich

        self._display = rich.Progress(
            rich.SpinnerColumn(),
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=24),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[rate]}", markup=False),
            rich.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._display.start()
        self._task: rich.TaskID | None = None
        self._name = ""
        self._chunk = ""
        self._clock = _Clock()

    def stage(self, name: str, total: int, unit: str = "cases") -> None:
        if self._task is not None:
            self._display.remove_task(self._task)
        self._name, self._chunk, self._clock = name, "", _Clock(unit)
        self._task = self._display.add_task(name, total=total or None, rate="")

    def condition(self, name: str) -> None:
        self._describe(f"{self._name} · {name}")

    def advance(self, done: int) -> None:
        self._clock.add(done)
        if self._task is not None:
            self._display.update(self._task, advance=done, rate=f"{self._clock.rate} {self._chunk}".strip())

    def chunk(self, number: int, of: int) -> None:
        self._chunk = f"chunk {number}/{of}"
        self._describe(self._name)

    def message(self, text: str) -> None:
        self._display.console.print(text, markup=False)

    def close(self) -> None:
        self._display.stop()

    def _describe(self, text: str) -> None:
        if self._task is not None:
            self._display.update(self._task, description=text)


class PlainProgress(Progress):
    """One line per stage and finished chunk, and a heartbeat each minute, so that a CI log never looks dead."""

    def __init__(self, console: Console, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._console = console
        self._clock = _Clock()
        self._name, self._condition, self._total, self._done = "", "", 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(heartbeat_s,), daemon=True)
        self._thread.start()

    def stage(self, name: str, total: int, unit: str = "cases") -> None:
        self._name, self._total, self._done, self._condition, self._clock = name, total, 0, "", _Clock(unit)
        self._line(f"{name}: {total} {unit}" if total else name)

    def condition(self, name: str) -> None:
        self._condition = name

    def advance(self, done: int) -> None:
        self._done += done
        self._clock.add(done)

    def chunk(self, number: int, of: int) -> None:
        left = self._clock.left(self._total - self._done)
        self._line(f"{self._name}: chunk {number}/{of}, {self._done}/{self._total} cases, {self._clock.rate}{left}")

    def message(self, text: str) -> None:
        self._line(text)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _beat(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            at = f", {self._condition}" if self._condition else ""
            self._line(f"still running: {self._name}{at}, {self._done}/{self._total}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class _Clock:
    """Cases per second since the first one of a stage."""

    def __init__(self, unit: str = "cases") -> None:
        self._unit, self._start, self._count = unit, time.monotonic(), 0

    def add(self, count: int) -> None:
        self._count += count

    @property
    def _per_second(self) -> float:
        return self._count / max(time.monotonic() - self._start, 1e-6)

    @property
    def rate(self) -> str:
        return f"{self._per_second:.1f} {self._unit}/s"

    def left(self, remaining: int) -> str:
        if not self._count or remaining <= 0:
            return ""
        seconds = remaining / self._per_second
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {max(1, round(seconds))} s left"
