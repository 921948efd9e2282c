"""Writing reports: whole files, in order, or a message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_rad.errors import PlanError, RunFolderError
from robustbench_rad.plan import ReportSection
from robustbench_rad.reports.writer import FORMATS, write_reports
from robustbench_rad.result import AuditResult


def test_all_formats(result: AuditResult, tmp_path: Path) -> None:
    paths = write_reports(result, tmp_path / "run")
    assert [path.name for path in paths] == ["result.json", "report.html", "report.md", "report.junit.xml"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(path.name for path in paths)
    assert AuditResult.read(paths[0]) == result


def test_result_json_is_always_written(result: AuditResult, tmp_path: Path) -> None:
    assert [path.name for path in write_reports(result, tmp_path, [])] == ["result.json"]


def test_a_format_named_twice_is_written_once(result: AuditResult, tmp_path: Path) -> None:
    assert len(write_reports(result, tmp_path, ["markdown", "markdown"])) == 2


def test_formats_are_those_of_the_plan() -> None:
    assert list(FORMATS) == ReportSection().formats


def test_unknown_format_suggests_and_writes_nothing(result: AuditResult, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="Did you mean 'html'"):
        write_reports(result, tmp_path, ["junit", "htm"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_named(result: AuditResult, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(RunFolderError, match=r"result\.json: cannot be written: "):
        write_reports(result, blocked / "run", [])


def test_a_hostile_result_is_written_and_read(hostile: AuditResult, tmp_path: Path) -> None:
    assert AuditResult.read(write_reports(hostile, tmp_path)[0]) == hostile


def test_reports_do_not_import_torch() -> None:
    modules = "console, html, junit, markdown, writer, charts"
    code = f"import sys; from robustbench_rad.reports import {modules}; "
    code += "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False False\n"
    )
