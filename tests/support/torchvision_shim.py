"""torchvision beside a CPU build of torch: two operator schemas declared by hand let its models be imported.

On Linux the package index carries the CUDA build only, whose native library cannot load beside CPU torch.
"""

import importlib
import importlib.util
from types import ModuleType

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries = []  # a Library takes its schemas along when it is collected


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring the missing operators when its native library is absent."""
    if importlib.util.find_spec("torchvision") is None:
        raise ImportError("torchvision is not installed")
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    _libraries.append(library)
    return importlib.import_module("torchvision")
