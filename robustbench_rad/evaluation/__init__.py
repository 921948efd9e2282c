"""The pass: every condition on every case, chunk by chunk, while the images of the chunk are in memory.

What lies on disk afterwards does not depend on batch size, chunk size, order of cases, number of workers or resumption:
randomness comes from one seed per case, and rows of a batch do not depend on each other.
"""

from robustbench_rad.evaluation.evaluator import CHANGE, Evaluator

__all__ = ["CHANGE", "Evaluator"]
