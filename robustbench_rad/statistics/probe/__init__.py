"""How well a linear probe tells an attribute from a vector of numbers per case: cross-fitted by patient, ridge, closed form.

What is tested is the whole procedure, choice of the penalty included, repeated for every permutation of the attribute. That is
cheap because everything but the attribute stays the same: one eigendecomposition per fold, then matrix products.
"""

from robustbench_rad.statistics.probe.ridge import FOLDS, NO_NUMBERS, PENALTIES, Probe, prepare
from robustbench_rad.statistics.probe.telling import DRAWS, LEAST, Told, mean_of, told

__all__ = [
    "DRAWS",
    "FOLDS",
    "LEAST",
    "NO_NUMBERS",
    "PENALTIES",
    "Probe",
    "Told",
    "mean_of",
    "prepare",
    "told",
]
