"""Can published figures hold together? Precision, recall, F1 and the like of one confusion table, after rounding.

Every figure here is a ratio of two sums of the counts TP, FP, FN and TN. A printed value confines it to the rounding interval
``value ± half a unit of the last digit``, which is linear in the counts: ``low * denominator <= numerator <= high *
denominator``. Without class counts the counts may be any non-negative numbers, and a linear program answers exactly; with
them they are whole, and a search over all tables answers exactly (see ``whole_tables``).

This holds for the figures of *one* confusion table. Averages over classes or folds (macro, weighted) need not obey it.
"""

from robustbench_rad.consistency.examining import examine
from robustbench_rad.consistency.figures import FIGURES, Counts, Printed, check_sum
from robustbench_rad.consistency.report import Consistency, Reach, Report, shown
from robustbench_rad.consistency.rows import Checked, check_rows, check_sums

__all__ = [
    "FIGURES",
    "Checked",
    "Consistency",
    "Counts",
    "Printed",
    "Reach",
    "Report",
    "check_rows",
    "check_sum",
    "check_sums",
    "examine",
    "shown",
]
