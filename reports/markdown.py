"""The result as Markdown for a pull request or a job summary: verdict first, details folded, never over the limit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from robustbench_rad.reports import _positions, _words
from robustbench_rad.reports._certify import (
    CHART_ROWS,
    METRICS,
    CertifyWords,
    certify_cells,
    certify_rows,
    certify_words,
)
from robustbench_rad.reports._format import amount, cell, count, harm, interval, number, plain, points
from robustbench_rad.result import DEFENCES, AuditResult, Certifiable, Criterion, Domain, Regression, Table, Verdict

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$!^])")
_LINKS = re.compile(r"(?i)(:)(?=//)|(?<=www)(\.)")
_CODE = re.compile(r"[A-Za-z0-9._/+-]+")
_WORST_ROWS = 15
_POSITIONS = 60


def render_markdown(result: AuditResult, limit: int = 60_000) -> str:
    """Render a result as GitHub-flavoured Markdown.

    Args:
        result: What the audit found.
        limit: Longest text in characters. Folded sections that do not fit are left out whole and counted in a last
            sentence, so that a table or a fold is never cut in two.
    """
    text = "\n\n".join([*_head(result), *_worst(result)])
    left_out = []
    for title, section in _sections(result):
        folded = f"\n\n<details><summary>{escape(title)}</summary>\n\n{section}\n\n</details>"
        # Room for the closing sentence, which names what was left out.
        if len(text) + len(folded) + 400 <= limit:
            text += folded
        else:
            left_out.append(title)
    if left_out:
        text += "\n\n" + _shortened(left_out)
    return text + "\n" if len(text) < limit else _cut(text, limit)


def escape(text: object, limit: int = 120) -> str:
    r"""Foreign text as text: no table cells, code, links, mentions or HTML come out of it.

    >>> escape("a|b <img> `c` @team")
    'a\\|b &lt;img&gt; \\`c\\` @\u200bteam'
    """
    line = plain(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _LINKS.sub(lambda match: "\\" + match.group(), _SPECIAL.sub(r"\\\1", line))
    return line.replace("@", "@\u200b")


def _head(result: AuditResult) -> list[str]:
    verdict = _words.VERDICTS[result.verdict]
    lines = [f"## {verdict.sign} {verdict.word}: {escape(result.title)}", _words.headline(result)]
    if not result.complete:
        lines.append("**The audit is not complete**: some of the planned conditions were not measured.")
    score = result.score
    facts = [
        ("Score", escape(_words.score_words(result), 400)),
        ("Evidence coverage", _words.evidence_words(score)),
        ("Claims", _claims(result)),
        ("Costliest checks", _costliest(result)),
        ("Tested", _tested(result)),
    ]
    if result.regression is not None:
        words = escape(_words.regression_words(result.regression), 400)
        facts.append(("Baseline", f"{escape(result.regression.baseline)}: {words}"))
    if score.cap is not None:
        facts.insert(1, ("Cap", f"{points(score.cap)}: {escape(score.cap_reason, 300)}"))
    lines.append(table(("", ""), [(f"**{name}**", value) for name, value in facts]))
    return lines


def _claims(result: AuditResult) -> str:
    reason = escape(result.score.utility_reason, 300)
    words = _words.claims_words(result)[1]
    return f"{words}. {reason}" if reason else words


def _costliest(result: AuditResult) -> str:
    costs = [f"{code(c.check)} {escape(c.finding, 60)} (−{number(c.points_lost, 1)})" for c in result.score.costliest]
    return "; ".join(costs) or "–"


def _tested(result: AuditResult) -> str:
    data = result.data
    cases = f"{amount(data.cases, 'case')} of {amount(data.patients, 'patient')}"
    role = " (internal: an upper bound)" if data.role == "internal" else f" ({escape(data.role)})"
    return f"{escape(result.model.source)}, {cases}, {escape(data.modality)}{role}"


def _worst(result: AuditResult) -> list[str]:
    criteria = _words.open_criteria(result)
    if not criteria:
        return []
    shown = criteria[:_WORST_ROWS]
    more = len(criteria) - len(shown)
    lines = ["### Failed and undecided, worst first", _criteria_table(shown)]
    if more:
        lines.append(f"{amount(more, 'more criterion', 'more criteria')} failed or undecided; see the domains below.")
    return lines


def _criteria_table(criteria: Iterable[Criterion]) -> str:
    header = ("Verdict", "Check", "Finding", "Quantity, worst level", "Harm", "δ", "Why")
    return table(header, [_row(criterion) for criterion in criteria])


def _row(criterion: Criterion) -> tuple[str, ...]:
    verdict = _words.VERDICTS[criterion.verdict]
    level = "" if criterion.level is None else f", {escape(_words.level_words(criterion.level))}"
    reason = escape(criterion.reason, 300)
    if criterion.verdict is Verdict.INCONCLUSIVE and criterion.needed_positives is not None:
        reason += (
            f" ({criterion.needed_counted}: {count(criterion.available)} of {count(criterion.needed_positives)} needed)"
        )
    return (
        f"{verdict.sign} **{verdict.word}**" + (" (critical)" if criterion.critical else ""),
        code(criterion.check),
        escape(_words.subject(criterion)),
        escape(criterion.quantity) + level,
        harm(criterion.harm),
        number(criterion.tolerance, 3),
        reason,
    )


def _sections(result: AuditResult) -> list[tuple[str, str]]:
    sections = [("Findings: clean performance", _findings(result))]
    if result.regression is not None:
        sections.insert(0, ("Against the baseline", _regression(result.regression)))
    if gains := [shown for shown in result.tables if shown.check == DEFENCES]:
        sections.append((gains[0].title, _gains(gains)))
    for domain in Domain:
        criteria = [criterion for criterion in result.criteria if criterion.domain is domain]
        if criteria:
            title = f"{_words.title_of(domain)}: {amount(len(criteria), 'criterion', 'criteria')}"
            sections.append((title, _criteria_table(_words.worst_first(criteria))))
    if any(_positions.positions(shown) for shown in result.tables):
        sections.append(("Marker positions by effect", _by_position(result.tables)))
    if words := certify_words(result.certifiable):
        sections.append((words.title, _certify(result.certifiable, words)))
    rows = [(escape(item.name), item.status, escape(item.detail, 300)) for item in result.preflight]
    sections.append(("Preflight", table(("Item", "Status", "Detail"), rows)))
    if result.notices:
        sections.append(("Notices", "\n".join(f"- {escape(notice, 500)}" for notice in result.notices)))
    sections.append(("Provenance", _provenance(result)))
    return sections


def _regression(regression: Regression) -> str:
    rows = []
    for row in _words.regression_rows(regression):
        sign = _words.VERDICTS[_words.REGRESSION[row.verdict]].sign
        level = "" if row.level is None else f", {escape(_words.level_words(row.level))}"
        rows.append(
            (
                f"{sign} **{row.verdict}**",
                code(row.check),
                escape(row.finding),
                escape(row.quantity) + level,
                interval(row.baseline),
                interval(row.current),
                escape(_words.loss_words(row)),
                escape(row.reason, 300),
            )
        )
    header = ("Verdict", "Check", "Finding", "Quantity, worst level", "Baseline", "Now", "Loss", "Why")
    left = "".join(f"\n- not compared: {escape(text, 200)}" for text in regression.not_compared)
    return table(header, rows) + ("\n" + left if left else "")


def _gains(tables: Sequence[Table]) -> str:
    """What the defences gain, all domains in one table."""
    rows = [[escape(cell(value), 300) for value in row] for shown in tables for row in shown.rows]
    return f"{table(tables[0].columns, rows)}\n\n{escape(tables[0].note, 800)}"


def _by_position(tables: Sequence[Table]) -> str:
    """Where something was laid and what it did to the score there, all checks in one table."""
    found = [(shown.check, item) for shown in tables for item in _positions.positions(shown)]
    rows = [
        (code(check), escape(item.finding), escape(item.name), number(item.x), number(item.y), interval(item.effect))
        for check, item in found[:_POSITIONS]
    ]
    more = len(found) - len(rows)
    left = f"\n\n{amount(more, 'more row')} in result.json." if more else ""
    return f"{table(('Check', 'Finding', 'What', 'x', 'y', 'Object minus placebo, SD'), rows)}\n\n{_positions.LEGEND}{left}"


def _findings(result: AuditResult) -> str:
    rows = [
        (
            escape(finding.name),
            count(finding.positives),
            count(finding.negatives),
            *_words.metrics(finding),
            _words.claim_words(finding),
        )
        for finding in result.findings
    ]
    return table(("Finding", "Positives", "Negatives", "AUROC", "Sensitivity", "Specificity", "Claim"), rows)


def _certify(certifiable: Sequence[Certifiable], words: CertifyWords) -> str:
    parts = [escape(words.introduction, 500)]
    for metric in METRICS:
        rows = certify_rows(certifiable, metric)
        cells = [(escape(row.name, 130), *certify_cells(row)) for row in rows[:CHART_ROWS]]
        parts += [f"**{metric}**", table(("Finding and subgroup", *words.columns), cells)]
        if len(rows) > CHART_ROWS:
            parts.append(f"{amount(len(rows) - CHART_ROWS, 'more row')} in result.json.")
    supposed = [f"- {escape(finding, 60)} {levels}" for finding, levels in words.levels]
    supposed += [f"- {escape(text, 300)}" for text in words.assumptions]
    return "\n\n".join([*parts, escape(words.legend, 600), "Supposed:\n\n" + "\n".join(supposed)])


def _provenance(result: AuditResult) -> str:
    record = result.provenance
    rows = [
        ("Profile", escape(record.profile)),
        ("Weights SHA-256", code(result.model.weights_sha256)),
        ("Data SHA-256", code(result.data.digest)),
        ("Measurement SHA-256", code(record.measurement_sha256)),
        ("Policy SHA-256", code(record.policy_sha256)),
        ("Version", escape(record.tool_version)),
        ("Device", escape(record.device)),
        ("Seed", str(record.seed)),
    ]
    return table(("", ""), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are already escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(text: str) -> str:
    """A check id or hash in code type; anything else as escaped text."""
    return f"`{text}`" if _CODE.fullmatch(text) and len(text) <= 80 else escape(text)


def _shortened(left_out: Sequence[str]) -> str:
    names = plain(", ".join(left_out), 250)
    return f"_Shortened to fit: {escape(names, 300)} left out here; the HTML report and result.json hold all of it._"


def _cut(text: str, limit: int) -> str:
    # Only a very small limit, or hostile lengths, come here: cut between lines, before any fold.
    ending = "\n\n_Shortened to fit: the HTML report and result.json hold all of it._\n"
    kept = text.partition("\n\n<details>")[0][: max(0, limit - len(ending))]
    return (kept[: kept.rfind("\n")] if "\n" in kept else "") + ending
