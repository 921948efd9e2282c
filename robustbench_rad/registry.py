"""The catalogue of conditions and checks, readable without importing torch.

A condition registers itself with a decorator whose arguments are literals::

    @register(id="shift.ct.dose", version=1, space="physical", domain="acquisition-shift", ...)
    class CtDose(Condition): ...

The catalogue reads these literals from the source by parsing it, so ``--help``, ``list`` and the pytest plugin stay
light; the implementation is imported when it is used. Third parties add entry points in the groups
``robustbench_rad.attacks``, ``robustbench_rad.shifts``, ``robustbench_rad.checks``, ``robustbench_rad.loaders`` and
``robustbench_rad.reporters``: name = id, value = ``module:Class``.

An id such as ``torchattacks:MIFGSM`` names an attack of another library, see :mod:`robustbench_rad.bridges`. These are too
many to be listed and known only to the library, so they are found by :func:`find` and :func:`entry`, not in the catalogue.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_rad import bridges
from robustbench_rad.errors import PlanError, suggestion

if TYPE_CHECKING:
    from robustbench_rad.conditions import Condition

PACKAGES = (
    "robustbench_rad.attacks",
    "robustbench_rad.shifts",
    "robustbench_rad.shortcuts",
    "robustbench_rad.saliency",
)
ENTRY_POINT_GROUPS = ("robustbench_rad.attacks", "robustbench_rad.shifts", "robustbench_rad.checks")
BRIDGE_VERSION = 1  # of every adapter to another library; raised when its numbers change
ALL_MODALITIES = ("CR", "CT", "DX", "MG", "MR", "US")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a condition without importing it."""

    id: str
    version: int
    space: str
    domain: str
    summary: str
    module: str
    name: str
    kind: str = "physical"
    modalities: tuple[str, ...] = ALL_MODALITIES
    reference: str = ""
    unit: str = ""
    gradient: bool = True

    def load(self) -> type[Condition]:
        """Import the implementation."""
        loaded: type[Condition] = getattr(importlib.import_module(self.module), self.name)
        return loaded


def register(
    *,
    id: str,
    version: int,
    space: str,
    domain: str,
    kind: str = "physical",
    modalities: tuple[str, ...] = ALL_MODALITIES,
    reference: str = "",
    unit: str = "",
    gradient: bool = True,
) -> Callable[[type[Any]], type[Any]]:
    """Give a condition its identity; every argument must be a literal.

    Args:
        id: Stable kebab-case id, e.g. ``attack.pgd-linf``.
        version: Raised whenever the numbers it gives change; part of every seed and record.
        space: ``physical`` or ``display``.
        domain: ``clean``, ``adversarial``, ``acquisition-shift``, ``shortcut`` or ``saliency``.
        kind: ``physical``, ``emulated``, ``approximate`` or ``categorical``.
        modalities: DICOM modality codes it has meaning for.
        reference: Authors, year, DOI.
        unit: Unit of its levels.
        gradient: For an attack: whether it follows the gradient of each case. One that does not is a control of those that
            do, and is not misled by what misleads a gradient.
    """
    from robustbench_rad.conditions import Space

    del domain, kind, modalities, reference, unit, gradient  # read from the source by the catalogue

    def name(cls: type[Any]) -> type[Any]:
        cls.id, cls.version, cls.space = id, version, Space(space)
        return cls

    return name


@cache
def catalogue() -> dict[str, Entry]:
    """All conditions by id, sorted."""
    found = {entry.id: entry for package in PACKAGES for entry in _scan(package)}
    for entry in _third_party():
        found.setdefault(entry.id, entry)
    return dict(sorted(found.items()))


def entry(id: str) -> Entry:
    """The entry of ``id``.

    Raises:
        PlanError: No such condition; the nearest id is named.
    """
    found = find(id)
    if found is None:
        raise PlanError(f"unknown check {id!r}", hint=suggestion(id, names()))
    return found


def find(id: str) -> Entry | None:
    """The entry of ``id``, in the catalogue or an attack of another library; None without one.

    Whether the other library is installed, and has an attack of that name, is seen when the entry is loaded.
    """
    return catalogue().get(id) or _bridged(id)


def names() -> list[str]:
    """Ids to suggest: the catalogue's, and an example of each bridge."""
    return [*catalogue(), *(bridge.example for bridge in bridges.BRIDGES)]


def _bridged(id: str) -> Entry | None:
    bridge = bridges.find(id)
    if bridge is None:
        return None
    return Entry(
        id=id,
        version=BRIDGE_VERSION,
        space="display",
        domain="adversarial",
        summary=f"{id.partition(bridges.SEPARATOR)[2]} of {bridge.package}, on one finding at a time, re-verified.",
        module=bridge.module,
        name=id.partition(bridges.SEPARATOR)[2],
        reference=bridge.reference,
        gradient=id.partition(bridges.SEPARATOR)[2] not in bridge.without_gradient,
    )


def _scan(package: str) -> Iterator[Entry]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.py")):
            if not path.name.startswith("_"):
                yield from _read(path.read_text("utf-8"), f"{package}.{path.stem}")


def _read(source: str, module: str) -> Iterator[Entry]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                literals = {str(key.arg): ast.literal_eval(key.value) for key in call.keywords}
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                yield Entry(summary=summary, module=module, name=node.name, **literals)


def _third_party() -> Iterator[Entry]:
    for group in ENTRY_POINT_GROUPS:
        for point in entry_points(group=group):
            path = _source_file(point.module)
            if path is None:
                continue
            try:
                yield from (found for found in _read(path.read_text("utf-8"), point.module) if found.id == point.name)
            except (SyntaxError, TypeError, ValueError) as error:
                raise PlanError(
                    f"entry point {point.name!r} of {group}: {path} cannot be read: {error}",
                    hint="Arguments of @register must be literals. Repair or uninstall the package.",
                ) from error


def _source_file(module: str) -> Path | None:
    """Find a module's source without importing its parents, which may import torch."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    stems = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    candidates = [path for stem in stems for path in (stem.with_suffix(".py"), stem / "__init__.py")]
    return next((path for path in candidates if path.is_file()), None)
