"""robustbench-rad: scored robustness reports for radiology image classifiers.

The public names below are loaded on first use, so importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustbench_rad.audit import run_audit as run_audit
    from robustbench_rad.plan import Plan as Plan
    from robustbench_rad.plan import make_plan as make_plan
    from robustbench_rad.plan import read_plan as read_plan
    from robustbench_rad.result import AuditResult as AuditResult

__version__ = "0.1.0"

_HOMES = {
    "AuditResult": "robustbench_rad.result",
    "Plan": "robustbench_rad.plan",
    "make_plan": "robustbench_rad.plan",
    "read_plan": "robustbench_rad.plan",
    "run_audit": "robustbench_rad.audit",
}

__all__ = ["AuditResult", "Plan", "__version__", "make_plan", "read_plan", "run_audit"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attribute hook
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
