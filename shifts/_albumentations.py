"""The albumentations library, imported with care: the MIT line only, without its look for updates on the network.

Version 2.0.8 is the last one under MIT. Its successor AlbumentationsX has the same import name, another licence (AGPL-3.0 or
paid) and telemetry that is on by default, so it is told by what is installed, not by what is imported.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import packages_distributions
from types import ModuleType

from robustbench_rad.errors import MissingExtraError, PlanError

IMPORT_NAME = "albumentations"
SUCCESSOR = "albumentationsx"
INSTALL = "pip install 'albumentations>=2.0.8,<2.1'"


@cache
def albumentations() -> ModuleType:
    """The library.

    Raises:
        PlanError: AlbumentationsX is installed in its place.
        MissingExtraError: It is not installed.
    """
    refuse_successor()
    stay_off_the_network()
    try:
        import albumentations as library
    except ImportError as error:
        raise MissingExtraError("picture transforms", package=IMPORT_NAME, install=INSTALL) from error
    found: ModuleType = library
    return found


def stay_off_the_network() -> None:
    """Keep the library from looking for updates when it is imported, by whomever."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def refuse_successor() -> None:
    """Refuse to use AlbumentationsX.

    Raises:
        PlanError: It is installed; whichever distribution was unpacked last is imported.
    """
    installed = {name.lower().replace("_", "-") for name in packages_distributions().get(IMPORT_NAME, ())}
    if SUCCESSOR in installed:
        raise PlanError(
            "albumentations: expected the MIT-licensed albumentations 2.0.8, got AlbumentationsX, which is under AGPL-3.0 or a "
            "paid licence and sends telemetry by default",
            hint=f"pip uninstall {SUCCESSOR} && {INSTALL} --force-reinstall",
        )
