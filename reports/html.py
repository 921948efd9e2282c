"""The result as one HTML page: offline, without script, light and dark, on paper and on a phone.

Templates hold the words and the order; this module gives them a result, cleaned, and the filters they print with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from robustbench_rad.reports import _format, _words
from robustbench_rad.reports._certify import certify_cells, certify_views, certify_words
from robustbench_rad.reports._page import domain_views, safe
from robustbench_rad.result import AuditResult, Criterion, Regression, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

PLAN_LIMIT = 200_000


def render_html(result: AuditResult) -> str:
    """Render a result as one self-contained page of at most 5 MB."""
    gate, words = _words.claims_words(result)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            domains=domain_views(result),
            headline=_words.headline(result),
            added=_words.added_words(result.score),
            claims={"verdict": gate, "words": words},
            role=_words.ROLES.get(result.data.role, ""),
            interval_words=_confidence(result),
            needed=_needed(result.criteria),
            hashes=_hashes(result),
            certify=certify_views(result.certifiable),
            certify_words=certify_words(result.certifiable),
            regression=_regression(result.regression),
            plan=_plan(result.plan),
        )
    )


def _regression(regression: Regression | None) -> dict[str, Any] | None:
    """The comparison with a baseline, ready to print."""
    if regression is None:
        return None
    rows = [(row, _words.REGRESSION[row.verdict]) for row in _words.regression_rows(regression)]
    tone = _words.REGRESSION[regression.verdict]
    return {"record": regression, "rows": rows, "tone": tone, "words": _words.regression_words(regression)}


def _needed(criteria: Iterable[Criterion]) -> list[Criterion]:
    """Per finding and subgroup the inconclusive criterion that asks for most positives."""
    hardest: dict[str, Criterion] = {}
    for criterion in criteria:
        if criterion.verdict is Verdict.INCONCLUSIVE and criterion.needed_positives is not None:
            key = _words.subject(criterion)
            if key not in hardest or criterion.needed_positives > (hardest[key].needed_positives or 0):
                hardest[key] = criterion
    return list(hardest.values())


def _confidence(result: AuditResult) -> str:
    """``95% interval`` where all clean metrics and curves agree; criteria may be wider and say so in their reasons."""
    clean = [metric for f in result.findings for metric in (f.auroc, f.sensitivity, f.specificity)]
    levels = {known.confidence for known in (*clean, *(curve.clean for curve in result.curves))}
    return f"{_format.percent(levels.pop())} interval" if len(levels) == 1 else "interval"


def _hashes(result: AuditResult) -> list[tuple[str, str]]:
    record = result.provenance
    return [
        ("Weights SHA-256", result.model.weights_sha256),
        ("Data SHA-256", result.data.digest),
        ("Code SHA-256", record.code_sha256),
        ("Measurement SHA-256", record.measurement_sha256),
        ("Policy SHA-256", record.policy_sha256),
        ("Profile SHA-256", record.profile_sha256),
    ]


def _plan(plan: Mapping[str, Any]) -> str:
    """The plan as indented JSON; line by line, so that its own layout survives the cleaning."""
    lines = json.dumps(plan, indent=2, ensure_ascii=False, default=str)[:PLAN_LIMIT].split("\n")
    return safe("\n".join(_escaped(line) for line in lines))


def _escaped(line: str) -> str:
    from markupsafe import escape

    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + str(escape(_format.plain(line)))


def _finalize(value: object) -> object:
    """Every string that a template prints is cleaned; Jinja escapes it after that."""
    from markupsafe import Markup

    return _format.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _top(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))[:12])


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("robustbench_rad.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "plain": _format.plain,
            "number": _format.number,
            "interval": _format.interval,
            "harm": _format.harm,
            "percent": _format.percent,
            "points": _format.points,
            "count": _format.count,
            "duration": _format.duration,
            "level": _words.level_words,
            "physical": _words.physical,
            "loss": _words.loss_words,
            "subject": _words.subject,
            "claims": _words.claim_words,
            "top": _top,
            "certify_cells": certify_cells,
        }
    )
    environment.globals.update(
        {
            "amount": _format.amount,
            "verdicts": _words.VERDICTS,
            "titles": {domain: title for domain, (title, _) in _words.DOMAINS.items()},
            "statuses": _words.STATUSES,
            "V": Verdict,
        }
    )
    return environment
