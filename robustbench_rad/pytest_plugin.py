"""pytest plugin: thresholds of an audit asserted as tests.

Inactive unless used; loading it imports neither torch nor any other heavy package. ::

    # pytest --robustness-plan plan.toml          (or robustness_plan in the ini file)

    def test_dose(robustness):
        robustness.assert_check("shift.xr.dose", finding="pneumonia")

    @pytest.mark.robustness(check="shortcut.masked-anatomy")
    def test_no_shortcut(): ...

An inconclusive check skips its test with the reason; with ``--robustness-strict`` it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from robustbench_rad.pytest_support import Robustness

SESSION = pytest.StashKey["Robustness"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options and ini keys."""
    group = parser.getgroup("robustness", "radiology robustness audit")
    group.addoption("--robustness-plan", metavar="PLAN.toml", help="Audit this plan once and let tests assert on it.")
    group.addoption("--robustness-result", metavar="RESULT.json", help="Assert on this finished result instead.")
    group.addoption(
        "--robustness-strict", action="store_true", default=None, help="An inconclusive check fails its test."
    )
    parser.addini("robustness_plan", "Plan file, relative to the root folder.", default="")
    parser.addini("robustness_result", "Finished result, relative to the root folder.", default="")
    parser.addini("robustness_strict", "An inconclusive check fails its test.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "robustness(check, finding=None, quantity=None): "
        "pass only if the audit's criteria for this check (and finding) pass; inconclusive skips unless strict",
    )


@pytest.fixture(scope="session")
def robustness(request: pytest.FixtureRequest) -> Robustness:
    """The audit's result with assertion helpers; the audit runs once, on first use."""
    return _session(request.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Judge the markers of a test before its body runs."""
    for marker in item.iter_markers("robustness"):
        _judge(item, *marker.args, **marker.kwargs)
    return (yield)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - pytest's private type
    """Say the audit's verdict and score, when an audit was used."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        terminalreporter.section("robustness")
        terminalreporter.write_line(session.headline)


def _judge(item: pytest.Item, check: str, finding: str | None = None, quantity: str | None = None) -> None:
    __tracebackhide__ = True
    criteria = _session(item.config).assert_check(check, finding=finding, quantity=quantity)
    for criterion in criteria:
        item.user_properties.append((f"robustness.{criterion.id}", str(criterion.verdict)))


def _session(config: pytest.Config) -> Robustness:
    if SESSION not in config.stash:
        from robustbench_rad.pytest_support import open_session

        config.stash[SESSION] = open_session(
            plan=_path(config, "robustness_plan"),
            result=_path(config, "robustness_result"),
            strict=bool(config.getoption("robustness_strict") or config.getini("robustness_strict")),
        )
    return config.stash[SESSION]


def _path(config: pytest.Config, name: str) -> Path | None:
    given = config.getoption(name)
    if given:
        return Path(config.invocation_params.dir) / str(given)
    declared = config.getini(name)
    return Path(config.rootpath) / str(declared) if declared else None
