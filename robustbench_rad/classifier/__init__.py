"""Any trained classifier behind one face: images in, margins at the locked operating point out.

The margin of a finding is its log-odds minus the log-odds of its locked threshold; the finding is called when the
margin is at least 0. Attacks, shifts and statistics work on margins only, so one-logit, multi-label and softmax heads
look the same.
"""

from robustbench_rad.classifier.classifier import Caveat, Classifier
from robustbench_rad.classifier.head_spec import Head, HeadSpec, Outputs
from robustbench_rad.classifier.input_spec import InputSpec, Resize
from robustbench_rad.classifier.outputs import tensor_of
from robustbench_rad.classifier.side_effects import untouched

__all__ = [
    "Caveat",
    "Classifier",
    "Head",
    "HeadSpec",
    "InputSpec",
    "Outputs",
    "Resize",
    "tensor_of",
    "untouched",
]
