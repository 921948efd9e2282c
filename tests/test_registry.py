import subprocess
import sys

import pytest

from robustbench_rad import registry
from robustbench_rad.conditions import Condition, Space
from robustbench_rad.errors import PlanError
from robustbench_rad.registry import Entry, catalogue, entry, register

SOURCE = '''
from robustbench_rad.conditions import Condition
from robustbench_rad.registry import register

@register(id="shift.test.other", version=3, space="display", domain="acquisition-shift", modalities=("CT",), unit="mm")
class Other(Condition):
    """Moves the image.

    More.
    """

class NotRegistered(Condition):
    pass
'''


class Point:
    """An entry point as importlib.metadata gives it."""

    def __init__(self, name, module):
        self.name, self.module = name, module


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "rad_third_party.py").write_text("raise ImportError('imported too early')\n" + SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    catalogue.cache_clear()
    yield "rad_third_party"
    catalogue.cache_clear()


def test_every_condition_loads_and_is_what_its_row_says():
    assert catalogue()
    for id, row in catalogue().items():
        loaded = row.load()
        assert issubclass(loaded, Condition)
        assert (loaded.id, loaded.version, str(loaded.space)) == (id, row.version, row.space)
        assert row.summary.endswith(".")
        assert row.kind in {"physical", "emulated", "approximate", "categorical"}
        assert set(row.modalities) <= set(registry.ALL_MODALITIES)
        assert id == id.lower()


def test_catalogue_is_sorted_and_ids_start_with_their_family():
    ids = list(catalogue())
    assert ids == sorted(ids)
    assert {id.partition(".")[0] for id in ids} <= {"attack", "clean", "shift", "shortcut", "saliency"}


def test_catalogue_does_not_import_torch():
    code = (
        "import sys; from robustbench_rad.registry import catalogue; catalogue(); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_decorator_names_the_class():
    @register(id="shift.test.one", version=2, space="physical", domain="acquisition-shift")
    class One(Condition):
        """One."""

    assert (One.id, One.version, One.space) == ("shift.test.one", 2, Space.PHYSICAL)


def test_third_party_conditions_are_read_without_import(package, monkeypatch):
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [Point("shift.test.other", package)] if group.endswith(".shifts") else [],
    )
    row = entry("shift.test.other")
    assert row == Entry(
        id="shift.test.other",
        version=3,
        space="display",
        domain="acquisition-shift",
        summary="Moves the image.",
        module=package,
        name="Other",
        modalities=("CT",),
        unit="mm",
    )
    with pytest.raises(ImportError, match="too early"):
        row.load()


def test_third_party_that_is_gone_or_tries_to_take_a_known_id(package, monkeypatch, tmp_path):
    taken = next(iter(catalogue()))
    (tmp_path / "rad_third_party.py").write_text(SOURCE.replace("shift.test.other", taken))
    catalogue.cache_clear()
    points = [
        Point("shift.test.gone", "no_such_module_here"),
        Point("shift.x", "no_such.module"),
        Point(taken, package),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group.endswith(".shifts") else [])
    assert catalogue()[taken].module != package
    assert "shift.test.gone" not in catalogue()


def test_third_party_package_is_not_imported_to_be_listed(tmp_path, monkeypatch):
    (tmp_path / "rad_third_package" / "shifts").mkdir(parents=True)
    (tmp_path / "rad_third_package" / "__init__.py").write_text("raise ImportError('imported too early')\n")
    (tmp_path / "rad_third_package" / "shifts" / "other.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    points = [Point("shift.test.other", "rad_third_package.shifts.other")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group.endswith(".shifts") else [])
    catalogue.cache_clear()
    assert entry("shift.test.other").module == "rad_third_package.shifts.other"
    catalogue.cache_clear()


def test_broken_third_party_is_named(package, tmp_path, monkeypatch):
    (tmp_path / "rad_third_party.py").write_text(SOURCE.replace("version=3", "version=1 + x"))
    points = [Point("shift.test.other", package)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group.endswith(".shifts") else [])
    with pytest.raises(PlanError, match=r"entry point 'shift\.test\.other' of"):
        catalogue()


def test_unknown_id_suggests_the_nearest():
    known = next(iter(catalogue()))
    with pytest.raises(PlanError, match=f"Did you mean '{known}'"):
        entry(known + "x")
