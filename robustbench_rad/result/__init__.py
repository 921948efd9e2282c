"""The result of an audit: one versioned, self-describing JSON object; every report is a pure function of it.

Nothing here holds a patient's name, a path of a file or an identifier in the clear: cases and patients appear as salted
hashes. The schema file beside this package is made anew by
``python -m robustbench_rad.result > robustbench_rad/result.schema.json``.
"""

from robustbench_rad.result.audit_result import SCHEMA_VERSION, AuditResult
from robustbench_rad.result.evidence import Criterion, Curve, CurvePoint, Table
from robustbench_rad.result.pictures import Panel, PanelLine, Picture
from robustbench_rad.result.record import Interval, LevelRecord, Record
from robustbench_rad.result.regression import Regression, RegressionRow, RegressionVerdict
from robustbench_rad.result.score import Cost, DomainScore, Score
from robustbench_rad.result.summaries import (
    Certifiable,
    DataSummary,
    FindingSummary,
    ModelSummary,
    PreflightItem,
    Provenance,
)
from robustbench_rad.result.terms import DEFENCES, NOT_RUN, Domain, Verdict

__all__ = [
    "DEFENCES",
    "NOT_RUN",
    "SCHEMA_VERSION",
    "AuditResult",
    "Certifiable",
    "Cost",
    "Criterion",
    "Curve",
    "CurvePoint",
    "DataSummary",
    "Domain",
    "DomainScore",
    "FindingSummary",
    "Interval",
    "LevelRecord",
    "ModelSummary",
    "Panel",
    "PanelLine",
    "Picture",
    "PreflightItem",
    "Provenance",
    "Record",
    "Regression",
    "RegressionRow",
    "RegressionVerdict",
    "Score",
    "Table",
    "Verdict",
]
