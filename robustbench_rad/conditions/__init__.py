"""What can be done to an image, and the contract every attack, shift and shortcut image keeps.

A condition takes a batch and gives back, for each of its levels, an altered batch (a shift, a shortcut image) or margins it
has found and verified itself (an attack). It works in one image space, never in place, and draws randomness only from the
seeds of the cases.
"""

from robustbench_rad.conditions.applied import Applied, CaseVector, Measurement
from robustbench_rad.conditions.batch import Batch
from robustbench_rad.conditions.condition import SHOWS_BURNED_IN, Condition, State
from robustbench_rad.conditions.levels import Level, fraction
from robustbench_rad.conditions.query import ModelQuery, Weigh
from robustbench_rad.conditions.terms import Kind, Space, Unit
from robustbench_rad.conditions.variant import Variant

__all__ = [
    "SHOWS_BURNED_IN",
    "Applied",
    "Batch",
    "CaseVector",
    "Condition",
    "Kind",
    "Level",
    "Measurement",
    "ModelQuery",
    "Space",
    "State",
    "Unit",
    "Variant",
    "Weigh",
    "fraction",
]
