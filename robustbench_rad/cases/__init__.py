"""Cases: the labelled test set as a table of records, and one case at a time as a physical image."""

from robustbench_rad.cases.reading import read_cases, require_readable
from robustbench_rad.cases.records import Case, CaseRecord, Reader, TissueFile, Unreadable
from robustbench_rad.cases.table import CaseTable, Progress

__all__ = [
    "Case",
    "CaseRecord",
    "CaseTable",
    "Progress",
    "Reader",
    "TissueFile",
    "Unreadable",
    "read_cases",
    "require_readable",
]
