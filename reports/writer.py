"""Writes the reports of a result into a folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from robustbench_rad.errors import PlanError, RunFolderError, suggestion
from robustbench_rad.result import AuditResult


def _html(result: AuditResult) -> str:
    from robustbench_rad.reports.html import render_html  # matplotlib and jinja2 load only when a page is made

    return render_html(result)


def _markdown(result: AuditResult) -> str:
    from robustbench_rad.reports.markdown import render_markdown

    return render_markdown(result)


def _junit(result: AuditResult) -> str:
    from robustbench_rad.reports.junit import render_junit

    return render_junit(result)


RESULT_FILE = "result.json"
FORMATS: dict[str, tuple[str, Callable[[AuditResult], str]]] = {
    "html": ("report.html", _html),
    "markdown": ("report.md", _markdown),
    "junit": ("report.junit.xml", _junit),
}


def write_reports(result: AuditResult, folder: Path, formats: Iterable[str] = tuple(FORMATS)) -> list[Path]:
    """Write ``result.json`` and the reports asked for; return their paths in that order.

    Raises:
        PlanError: Unknown format.
        RunFolderError: The folder cannot be written.
    """
    wanted = list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMATS:
            raise PlanError(f"report format {name!r} is not known", hint=suggestion(name, FORMATS))
    paths = [write_result(result, folder / RESULT_FILE)]
    for name in wanted:
        file, render = FORMATS[name]
        paths.append(_write(folder / file, render(result)))
    return paths


def write_result(result: AuditResult, path: Path) -> Path:
    """Write the result alone.

    Raises:
        RunFolderError: The file cannot be written.
    """
    return _write(path, result.to_json())


def _write(path: Path, text: str) -> Path:
    from robustbench_rad.scores import write_atomic

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode("utf-8"))
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error
    return path
