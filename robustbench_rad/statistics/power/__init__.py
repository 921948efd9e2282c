"""How many cases decide: from an estimate in hand, or from numbers alone."""

from robustbench_rad.statistics.power.areas import (
    auc_drop_size,
    auc_size,
    auc_variance,
    detectable_auc_drop,
    detectable_auc_gap,
)
from robustbench_rad.statistics.power.needed import UNREACHABLE, design_effect, needed_positives
from robustbench_rad.statistics.power.shares import (
    detectable_drop,
    detectable_paired_drop,
    mcnemar_size,
    proportion_half_width,
    proportion_size,
    two_proportion_power,
    two_proportion_size,
)

__all__ = [
    "UNREACHABLE",
    "auc_drop_size",
    "auc_size",
    "auc_variance",
    "design_effect",
    "detectable_auc_drop",
    "detectable_auc_gap",
    "detectable_drop",
    "detectable_paired_drop",
    "mcnemar_size",
    "needed_positives",
    "proportion_half_width",
    "proportion_size",
    "two_proportion_power",
    "two_proportion_size",
]
