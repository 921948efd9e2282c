"""What is installed: one import package, every sub-package declared, nothing else at the top of site-packages."""

import os
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {"attacks", "reports", "shifts"}


def declared() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_sub_package_is_declared():
    """A new one is silently left out of the wheel while an editable install still finds it."""
    inside = {path.parent for path in (ROOT / "robustbench_rad").glob("**/__init__.py")}
    found = {".".join(("robustbench_rad", *path.relative_to(ROOT / "robustbench_rad").parts)) for path in inside}
    found |= {f"robustbench_rad.{name}" for name in MAPPED}
    assert set(declared()["packages"]) == found


def test_the_mapped_folders_are_flat():
    for name in MAPPED:
        folders = {path.name for path in (ROOT / name).iterdir() if path.is_dir()} - {"__pycache__", "templates"}
        assert not folders


@pytest.fixture(scope="module")
def wheel() -> list[str]:
    path = os.environ.get("WHEEL")
    if not path:
        pytest.skip("no wheel: build one and name it in the environment variable WHEEL")
    with zipfile.ZipFile(ROOT / path) as archive:
        return archive.namelist()


def test_the_wheel_holds_only_the_package(wheel):
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"robustbench_rad"}


@pytest.mark.parametrize(
    "name",
    [
        "robustbench_rad/py.typed",
        "robustbench_rad/result.schema.json",
        "robustbench_rad/profiles/quick.toml",
        "robustbench_rad/demo/clean.safetensors",
        "robustbench_rad/demo/models.toml",
        "robustbench_rad/demo/plan.toml",
        "robustbench_rad/reports/templates/report.html.j2",
        "robustbench_rad/attacks/pgd_linf.py",
        "robustbench_rad/shifts/ct_dose.py",
    ],
)
def test_the_wheel_holds(wheel, name):
    assert name in wheel


def test_every_template_and_data_file_is_in_the_wheel(wheel):
    sources = [*(ROOT / "reports" / "templates").iterdir(), *(ROOT / "robustbench_rad" / "profiles").glob("*.toml")]
    names = {Path(name).name for name in wheel}
    assert {path.name for path in sources} <= names
