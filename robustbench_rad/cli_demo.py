"""``robustbench-rad demo``: two audits side by side, so that the reader sees the shortcut model fail where it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from robustbench_rad.audit import Audit, run_audit
from robustbench_rad.checks.comparisons import worst_verdict
from robustbench_rad.cli_progress import make_progress
from robustbench_rad.cli_support import Output
from robustbench_rad.demo import KINDS, Kind, demo_plan
from robustbench_rad.plan import make_plan
from robustbench_rad.reports._format import points
from robustbench_rad.reports.console import print_summary, verdict_text
from robustbench_rad.reports.writer import write_reports
from robustbench_rad.result import AuditResult, Verdict

if TYPE_CHECKING:
    from rich.console import Console

SHORTCUT = "shortcut.masked-anatomy"


def run_demo(*, folder: Path, cases: int, train: bool, output: Output) -> None:
    """Audit both classifiers and show the two results side by side."""
    weights = _trained(folder / "weights", output) if train else None
    done = {kind: _audit(kind, folder / kind, cases, weights, output) for kind in KINDS}
    if output.json:
        shown = {kind: audit.result.model_dump(mode="json") for kind, audit in done.items()}
        output.print_json({"folder": str(folder), "results": shown})
        return
    for kind, audit in done.items():
        if not output.quiet:
            print_summary(audit.result, output.console, folder / kind / "report.html")
            output.console.print()
    _compare({kind: audit.result for kind, audit in done.items()}, folder, output.console)


def _trained(folder: Path, output: Output) -> Path:
    from robustbench_rad.demo.training import train_all

    output.say("training the two classifiers again; this takes some minutes")
    folder.mkdir(parents=True, exist_ok=True)
    train_all(folder)
    return folder


def _audit(kind: Kind, folder: Path, cases: int, weights: Path | None, output: Output) -> Audit:
    content = demo_plan(kind, folder=weights)
    content["data"] = {**content["data"], "max_cases": cases}
    plan = make_plan(content, base=Path.cwd(), source=f"demo-{kind}")
    progress = make_progress(output.messages, quiet=output.quiet or output.json)
    progress.message(f"auditing the {kind} classifier")
    done = run_audit(plan, folder=folder, progress=progress)
    write_reports(done.result, folder, plan.report.formats)
    return done


def _compare(results: dict[str, AuditResult], folder: Path, console: Console) -> None:
    judged = [c for result in results.values() for c in result.criteria if c.verdict is not Verdict.INFORMATIONAL]
    checks = list(dict.fromkeys(criterion.check for criterion in judged))
    table = Table(title="The two classifiers side by side", title_justify="left", box=None, header_style="bold")
    table.add_column("check")
    for kind in results:
        table.add_column(kind)
    for check in checks:
        table.add_row(check, *(verdict_text(_verdict(result, check)) for result in results.values()))
    table.add_row(Text("score", style="bold"), *(_score(result) for result in results.values()))
    console.print(table)
    console.print()
    console.print(_reading(results), markup=False)
    console.print(f"Reports: {', '.join(str(folder / kind / 'report.html') for kind in results)}", markup=False)


def _verdict(result: AuditResult, check: str) -> Verdict:
    return worst_verdict(criterion.verdict for criterion in result.criteria if criterion.check == check)


def _score(result: AuditResult) -> str:
    score = result.score
    if score.total is None:
        return "none"
    return f"{points(score.total)} [{points(score.lower)}, {points(score.upper)}]"


def _reading(results: dict[str, AuditResult]) -> str:
    """What the numbers say, in words; made from the result, whatever it is."""
    lines = []
    for kind, result in results.items():
        finding = result.findings[0]
        rows = [
            row for table in result.tables if table.check == SHORTCUT for row in table.rows if row[1] == "atlas-mean"
        ]
        left = f"{rows[0][3]:.2f}" if rows and isinstance(rows[0][3], float) else "unknown"
        clean = "unknown" if finding.auroc.estimate is None else f"{finding.auroc.estimate:.2f}"
        lines.append(
            f"The {kind} classifier has AUROC {clean} on the phantoms; with the lungs replaced by the mean image "
            f"{left} is left (0.5 would be chance): {SHORTCUT} {_verdict(result, SHORTCUT)}."
        )
    return "\n".join(lines)
