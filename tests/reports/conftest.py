"""A made-up audit that looks like a real one, its hostile twin, and golden files."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from robustbench_rad.result import (
    AuditResult,
    Certifiable,
    Cost,
    Criterion,
    Curve,
    CurvePoint,
    DataSummary,
    Domain,
    DomainScore,
    FindingSummary,
    Interval,
    LevelRecord,
    ModelSummary,
    Panel,
    PanelLine,
    Picture,
    PreflightItem,
    Provenance,
    Score,
    Table,
    Verdict,
)

GOLDEN = Path(__file__).parent / "golden"
FINDINGS = ("pneumothorax", "effusion", "nodule")
HOSTILE = "<script>alert(1)</script>\x1b[31m[red]|`x`\u202eevil"
HOSTILE_NAMES = (HOSTILE, "استرواح الصدر", "n" * 3000 + '$\\frac{1}{2}$ & "quote" 肺')


def build_result(names: tuple[str, str, str] = FINDINGS, **changes: Any) -> AuditResult:
    """An audit of three findings over all domains, with pass, fail and inconclusive."""
    parts: dict[str, Any] = {
        "title": "Chest radiograph triage 2.3",
        "verdict": Verdict.FAIL,
        "model": _model(names),
        "data": _data(),
        "preflight": _preflight(),
        "findings": _findings(names),
        "criteria": _criteria(names),
        "curves": _curves(names),
        "tables": _tables(),
        "certifiable": _certifiable(names),
        "pictures": [
            Picture(
                check="attack.pgd-linf",
                domain=Domain.ADVERSARIAL,
                caption=f"Original and altered, {names[0]}",
                png_base64=tiny_png(),
            ),
            picture_with_panels(),
        ],
        "score": _score(names),
        "notices": ["The patient column was not given: every case counts as its own patient."],
        "plan": {"profile": "standard", "seed": 20260101, "model": {"head": "sigmoid", "thresholds": {names[0]: 0.31}}},
        "provenance": _provenance(),
    }
    return AuditResult(**{**parts, **changes})


def tiny_png(side: int = 64) -> str:
    """A small grey picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def tiny_jpeg(side: int = 16) -> str:
    """A small grey picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def picture_with_panels(finding: str = "pneumothorax") -> Picture:
    """An object and its placebo beside the original."""
    names = ("original", "top left", "top left, placebo")
    texts = ("0.412, not called", "0.412 → 0.731", "0.412 → 0.409")
    panels = [
        Panel(
            name=name,
            jpeg_base64=tiny_jpeg(),
            difference_base64="" if name == "original" else tiny_jpeg(),
            lines=[PanelLine(name=finding, text=text, flips=name == "top left")],
            group="" if name == "original" else "top left",
        )
        for name, text in zip(names, texts, strict=True)
    ]
    return Picture(check="shortcut.insert-marker", domain=Domain.SHORTCUT, caption=f"A case, {finding}", panels=panels)


def interval(estimate: float | None, half: float = 0.04) -> Interval:
    if estimate is None:
        return Interval(estimate=None, lower=None, upper=None)
    return Interval(
        estimate=estimate,
        lower=round(estimate - half, 4),
        upper=round(estimate + half, 4),
        method="clustered DeLong, logit scale",
    )


def _model(names: tuple[str, ...]) -> ModelSummary:
    return ModelSummary(
        source="my_package.models:densenet121",
        head="sigmoid",
        findings=list(names),
        parameters=7_978_856,
        weights_sha256="a3" * 32,
        input={"size": [224, 224], "channels": 3, "range": [0.0, 1.0], "resize": "stretch"},
    )


def _data() -> DataSummary:
    return DataSummary(
        cases=1248,
        patients=1031,
        modality="DX",
        role="internal",
        metadata={"scanner": {"Alpha DR": 702, "Beta CR": 546}, "sex": {"F": 601, "M": 640, "": 7}},
        excluded={"unreadable file": 3, "no label at all": 11},
        digest="5c" * 32,
    )


def _preflight() -> list[PreflightItem]:
    return [
        PreflightItem(name="evaluation mode", status="ok", detail="No module is in training mode."),
        PreflightItem(
            name="batch independence", status="ok", detail="Largest difference between batch sizes 1 and 32: 2.1e-07."
        ),
        PreflightItem(
            name="smallest lesion",
            status="warning",
            detail="The smallest nodule is 2.8 pixels wide at the model's input.",
        ),
    ]


def _findings(names: tuple[str, ...]) -> list[FindingSummary]:
    rows = (
        (0.31, 214, 1030, 4, 0.913, 0.86, 0.88, 0.85),
        (0.44, 388, 856, 4, 0.884, 0.84, 0.81, 0.85),
        (0.12, 37, 1209, 2, 0.781, 0.70, 0.79, None),
    )
    return [
        FindingSummary(
            name=name,
            threshold=threshold,
            positives=positives,
            negatives=negatives,
            unknown=unknown,
            auroc=interval(auroc, 0.02 if positives > 100 else 0.08),
            sensitivity=interval(sensitivity, 0.05),
            specificity=interval(specificity, 0.03),
            claim_auroc=claim,
        )
        for name, (threshold, positives, negatives, unknown, auroc, sensitivity, specificity, claim) in zip(
            names, rows, strict=True
        )
    ]


# check, domain, finding, quantity, level, harm, half width, δ, Δ, verdict, points, critical, needed
HIDE, CREATE = "hidden share of correct positives", "created share of correct negatives"
DROP, LEFT = "AUROC drop", "AUROC left without anatomy"
EPS_1, EPS_2 = ("ε 1/255", 1 / 255, "display"), ("ε 2/255", 2 / 255, "display")
DOSE, JPEG, MASKED = ("dose 0.25", 0.25, "× nominal"), ("quality 60", 60, ""), ("lungs masked", 1, "")
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("clean.auroc", Domain.CLEAN, 0, "AUROC below claim", None, -0.063, 0.02, 0.0, 0.1, "pass", 100, True, None),
    ("clean.auroc", Domain.CLEAN, 1, "AUROC below claim", None, -0.034, 0.02, 0.0, 0.1, "pass", 100, True, None),
    ("attack.pgd-linf", Domain.ADVERSARIAL, 0, HIDE, EPS_2, 0.612, 0.055, 0.30, 0.80, "fail", 21, True, None),
    ("attack.pgd-linf", Domain.ADVERSARIAL, 0, CREATE, EPS_2, 0.180, 0.030, 0.30, 0.80, "pass", 82, False, None),
    ("attack.pgd-linf", Domain.ADVERSARIAL, 1, HIDE, EPS_1, 0.333, 0.050, 0.30, 0.80, "inconclusive", 59, True, 1210),
    ("attack.pgd-linf", Domain.ADVERSARIAL, 2, HIDE, EPS_1, 0.290, 0.150, 0.30, 0.80, "inconclusive", 50, False, 320),
    ("attack.fgsm", Domain.ADVERSARIAL, 0, HIDE, EPS_1, 0.105, 0.040, 0.30, 0.80, "pass", 85, False, None),
    ("shift.xr.dose", Domain.ACQUISITION_SHIFT, 0, DROP, DOSE, 0.011, 0.006, 0.02, 0.10, "pass", 74, True, None),
    ("shift.xr.dose", Domain.ACQUISITION_SHIFT, 1, DROP, DOSE, 0.047, 0.012, 0.02, 0.10, "fail", 36, False, None),
    (
        "shift.xr.dose",
        Domain.ACQUISITION_SHIFT,
        2,
        DROP,
        DOSE,
        0.022,
        0.041,
        0.02,
        0.10,
        "inconclusive",
        32,
        False,
        250,
    ),
    ("shift.export.jpeg", Domain.ACQUISITION_SHIFT, 0, DROP, JPEG, 0.002, 0.002, 0.02, 0.10, "pass", 94, False, None),
    ("shift.export.jpeg", Domain.ACQUISITION_SHIFT, 1, DROP, JPEG, 0.003, 0.003, 0.02, 0.10, "pass", 91, False, None),
    ("shortcut.masked-anatomy", Domain.SHORTCUT, 0, LEFT, MASKED, 0.171, 0.031, 0.10, 0.25, "fail", 15, True, None),
    ("shortcut.masked-anatomy", Domain.SHORTCUT, 1, LEFT, MASKED, 0.020, 0.030, 0.10, 0.25, "pass", 85, True, None),
    (
        "shortcut.scanner",
        Domain.SHORTCUT,
        1,
        "scanner AUROC",
        None,
        0.561,
        0.02,
        None,
        None,
        "informational",
        *[None] * 3,
    ),
    ("saliency.randomise", Domain.SALIENCY, 0, "similarity", None, 0.12, 0.03, 0.30, 0.90, "pass", 88, False, None),
    ("subgroup.gap", Domain.SUBGROUP, 0, "AUROC gap", None, 0.034, 0.05, 0.05, 0.15, "inconclusive", 46, False, 390),
)
_REASONS = {
    "pass": "The whole interval lies within the tolerance.",
    "fail": "The whole interval lies beyond the tolerance.",
    "inconclusive": "The interval reaches across the tolerance: too few positives to decide.",
    "informational": "Shown for the reader; not judged.",
}


def _criteria(names: tuple[str, ...]) -> list[Criterion]:
    criteria = []
    for (
        check,
        domain,
        index,
        quantity,
        level,
        harm,
        half,
        delta,
        critical_harm,
        verdict,
        earned,
        critical,
        needed,
    ) in _ROWS:
        positives = (214, 388, 37)[index]
        criteria.append(
            Criterion(
                id=f"{check}/{names[index]}/{quantity}",
                check=check,
                domain=domain,
                finding=names[index],
                subgroup="scanner = Beta CR" if domain is Domain.SUBGROUP else "",
                quantity=quantity,
                level=None if level is None else LevelRecord(name=level[0], value=level[1], unit=level[2]),
                harm=interval(harm, half),
                tolerance=delta,
                critical_harm=critical_harm,
                verdict=Verdict(verdict),
                reason=_REASONS[verdict],
                points=earned,
                critical=bool(critical),
                needed_positives=needed,
                positives=positives,
                negatives=1244 - positives,
                patients=1031,
            )
        )
    return criteria


def _curves(names: tuple[str, ...]) -> list[Curve]:
    dose = [LevelRecord(name=f"dose {value:g}", value=value, unit="× nominal") for value in (0.5, 0.25, 0.1)]
    epsilon = [LevelRecord(name=f"ε {step}/255", value=step / 255, unit="display") for step in (0.5, 1, 2, 4)]
    curves = []
    for index, name in enumerate(names):
        clean = (0.913, 0.884, 0.781)[index]
        half = (0.02, 0.02, 0.08)[index]
        drops = [0.004, (0.011, 0.047, 0.022)[index], (0.03, 0.12, 0.06)[index]]
        curves.append(
            _curve(
                "shift.xr.dose", Domain.ACQUISITION_SHIFT, name, "AUROC", clean, dose, [clean - d for d in drops], half
            )
        )
        robust = [0.81, 0.62, (0.25, 0.41, 0.50)[index], 0.02]
        curves.append(
            _curve("attack.pgd-linf", Domain.ADVERSARIAL, name, "robust sensitivity", 0.86, epsilon, robust, 0.05)
        )
    return curves


def _curve(
    check: str,
    domain: Domain,
    name: str,
    metric: str,
    clean: float,
    levels: list[LevelRecord],
    values: list[float],
    half: float,
) -> Curve:
    points = [
        CurvePoint(level=level, value=interval(value, half), n=1244)
        for level, value in zip(levels, values, strict=True)
    ]
    return Curve(check=check, domain=domain, finding=name, metric=metric, clean=interval(clean, half), points=points)


def _certifiable(names: tuple[str, str, str]) -> list[Certifiable]:
    numbers = {
        "comparisons": 27,
        "auroc": 0.91,
        "sensitivity": 0.86,
        "auroc_tolerance": 0.05,
        "sensitivity_tolerance": 0.1,
    }
    few = {"auroc_drop": None, "auroc_drop_joint": None, "auroc_gap": None, "auroc_needed": None}
    rows = []
    for name, positives in zip(names, (212, 380, 4), strict=True):
        some = {
            "auroc_drop": 3 / positives,
            "auroc_drop_joint": 4.3 / positives,
            "auroc_gap": 9 / positives,
            "auroc_needed": 104,
        }
        sensitivity = {"sensitivity_drop": 0.06, "sensitivity_drop_joint": 0.112, "sensitivity_gap": 0.13}
        for subgroup in ("", "scanner Alpha"):
            counts = {"positives": positives, "negatives": 1000, "patients": 900}
            parts = numbers | counts | (some if positives > 10 else few) | sensitivity | {"sensitivity_needed": 217}
            rows.append(Certifiable.model_validate({"finding": name, "subgroup": subgroup, **parts}))
    return rows


def _tables() -> list[Table]:
    return [
        Table(
            check="subgroup.gap",
            domain=Domain.SUBGROUP,
            title="Pneumothorax by scanner",
            columns=["scanner", "cases", "positives", "AUROC"],
            rows=[["Alpha DR", 702, 120, 0.9231], ["Beta CR", 546, 94, 0.8894], ["not recorded", 0, 0, None]],
            note="Groups with fewer than 20 positives are shown but not compared.",
        ),
        position_table(),
    ]


def position_table(finding: str = "pneumothorax", check: str = "shortcut.insert-marker") -> Table:
    """A marker in three corners: it raises the score, lowers it, and was laid nowhere."""
    return Table(
        check=check,
        domain=Domain.SHORTCUT,
        title="Marker positions by effect",
        columns=["finding", "what", "x", "y", "cases", "object minus placebo", "lower", "upper", "p", "note"],
        rows=[
            [finding, "top left", 0.07, 0.08, 120, 0.4231, 0.3102, 0.536, 0.001, ""],
            [finding, "top right", 0.92, 0.08, 120, -0.1204, -0.24, -0.0012, 0.049, ""],
            [finding, "bottom left", 0.07, 0.93, 118, 0.01, -0.08, 0.1, 0.8, ""],
            [finding, "bottom right", None, None, 0, None, None, None, None, "not assessable: no such place"],
        ],
        note="Object minus placebo, signed.",
    )


def _score(names: tuple[str, ...]) -> Score:
    rows = (
        (Domain.CLEAN, 100.0, 2.0, 2, 2, Verdict.PASS),
        (Domain.ADVERSARIAL, 21.0, 2.0, 5, 3, Verdict.FAIL),
        (Domain.ACQUISITION_SHIFT, 34.0, 2.0, 5, 4, Verdict.FAIL),
        (Domain.SHORTCUT, 15.0, 2.0, 2, 2, Verdict.FAIL),
        (Domain.SALIENCY, 88.0, 0.5, 1, 1, Verdict.PASS),
        (Domain.SUBGROUP, None, 1.0, 1, 0, Verdict.INCONCLUSIVE),
    )
    return Score(
        total=33.4,
        lower=27.8,
        upper=41.2,
        cap=49.0,
        cap_reason="a critical check failed: attack.pgd-linf",
        evidence_coverage=0.75,
        domains=[DomainScore(domain=d, points=p, weight=w, checks=n, judged=j, verdict=v) for d, p, w, n, j, v in rows],
        costliest=[
            Cost(check="shortcut.masked-anatomy", finding=names[0], points_lost=21.4),
            Cost(check="attack.pgd-linf", finding=names[0], points_lost=17.9),
            Cost(check="shift.xr.dose", finding=names[1], points_lost=8.2),
        ],
        utility_gate=Verdict.PASS,
        utility_reason="The lower bound of every claimed AUROC reaches the minimum of 0.70.",
    )


def _provenance() -> Provenance:
    return Provenance(
        tool_version="0.1.0",
        code_sha256="c0" * 32,
        measurement_sha256="e1" * 32,
        policy_sha256="f2" * 32,
        profile="standard 1",
        profile_sha256="b4" * 32,
        seed=20260101,
        device="cpu, 2 threads",
        versions={"python": "3.11.9", "torch": "2.13.0", "numpy": "2.1.0"},
        started="2026-01-01T08:00:00Z",
        finished="2026-01-01T08:07:21Z",
        timings_s={"evaluation": 412.3, "statistics": 9.8, "reports": 1.4},
        passes={"attack.pgd-linf": 24.6, "shift.xr.dose": 4.0},
    )


def hostile_result() -> AuditResult:
    """The same audit with HTML, escapes, markup, right-to-left and endless names wherever a user can write."""
    result = build_result(HOSTILE_NAMES)
    return result.model_copy(
        update={
            "title": HOSTILE,
            "notices": [HOSTILE, "]]> </style> https://example.com @team"],
            "plan": {HOSTILE: HOSTILE},
            "tables": [
                Table(
                    check=HOSTILE,
                    domain=Domain.SHORTCUT,
                    title=HOSTILE,
                    columns=[HOSTILE],
                    rows=[[HOSTILE]],
                    note=HOSTILE,
                ),
                position_table(HOSTILE, HOSTILE),
            ],
            "pictures": [*result.pictures, picture_with_panels(HOSTILE)],
            "data": result.data.model_copy(
                update={"metadata": {HOSTILE: {HOSTILE: 3}}, "excluded": {HOSTILE: 1}, "role": HOSTILE}
            ),
            "model": result.model.model_copy(update={"source": HOSTILE, "weights_sha256": HOSTILE}),
        }
    )


@pytest.fixture(name="result")
def _result() -> AuditResult:
    return build_result()


@pytest.fixture(name="hostile")
def _hostile() -> AuditResult:
    return hostile_result()


@pytest.fixture(name="make_result")
def _make_result() -> Any:
    return build_result


@pytest.fixture(name="make_picture")
def _make_picture() -> Any:
    return picture_with_panels


@pytest.fixture(name="make_positions")
def _make_positions() -> Any:
    return position_table


@pytest.fixture(name="golden")
def _golden() -> Any:
    """Compare with a golden file; REGENERATE_GOLDEN=1 writes it anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("REGENERATE_GOLDEN"):
            path.write_text(text, "utf-8")
        assert path.is_file(), f"{name} is missing; make it with REGENERATE_GOLDEN=1"
        assert text == path.read_text("utf-8")

    return check
