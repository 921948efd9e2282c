"""The plan: what is audited, on which cases, under which profile. One TOML file, strictly validated.

An unknown key is an error that suggests the nearest known one; a wrong value names file, key, what was expected and
what came. Relative paths are relative to the plan's folder, or to ``root`` when one is given on the command line.
"""

from robustbench_rad.plan.data_section import DataSection, Role
from robustbench_rad.plan.explaining import explain
from robustbench_rad.plan.hashing import digest
from robustbench_rad.plan.mask_sections import AnatomySection, LesionSection, TissueSection
from robustbench_rad.plan.model_section import InputSection, ModelSection
from robustbench_rad.plan.plan import ClaimSection, Plan, ReportSection, RunSection
from robustbench_rad.plan.reading import make_plan, read_plan
from robustbench_rad.plan.section import Probability, Section

__all__ = [
    "AnatomySection",
    "ClaimSection",
    "DataSection",
    "InputSection",
    "LesionSection",
    "ModelSection",
    "Plan",
    "Probability",
    "ReportSection",
    "Role",
    "RunSection",
    "Section",
    "TissueSection",
    "digest",
    "explain",
    "make_plan",
    "read_plan",
]
