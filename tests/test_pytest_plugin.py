"""The pytest plugin: fixture, marker, strictness, messages, and a light load."""

import json
import shutil
import subprocess
import sys

import pytest

from robustbench_rad.audit import run_audit
from robustbench_rad.plan import read_plan


@pytest.fixture
def result(workshop, pytester):
    """A finished result beside the tests of an inner pytest run."""
    done = run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "run").result
    path = pytester.path / "result.json"
    path.write_text(done.to_json())
    return path


def inner(pytester, body, *arguments):
    pytester.makepyfile(body)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_a_passing_check_passes_and_the_summary_says_the_verdict(pytester, result):
    done = inner(
        pytester,
        """
        def test_clean(robustness):
            robustness.assert_check("clean.performance", finding="bright")
            robustness.assert_auroc("bright", at_least=0.6)
        """,
        "--robustness-result",
        result,
    )
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*robustness*", "A small audit: *score*"])


def test_an_inconclusive_check_skips_with_the_reason_and_fails_when_strict(pytester, result):
    body = """
        import pytest

        @pytest.mark.robustness(check="shift.xr.dose", finding="bright")
        def test_dose():
            pass
        """
    done = inner(pytester, body, "--robustness-result", result, "-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*inconclusive: shift.xr.dose (bright)*"])
    strict = inner(pytester, body, "--robustness-result", result, "--robustness-strict")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["*inconclusive: shift.xr.dose (bright)*"])


def test_a_failed_check_fails_and_says_why(pytester, result):
    content = json.loads(result.read_text())
    for criterion in content["criteria"]:
        criterion["verdict"], criterion["reason"] = "fail", "made to fail"
    result.write_text(json.dumps(content))
    done = inner(
        pytester,
        """
        def test_attack(robustness):
            robustness.assert_check("attack.fgsm")
        """,
        "--robustness-result",
        result,
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*fail: attack.fgsm (bright): hide*at ?/255*tolerance 0.3*made to fail*"])


def test_an_unknown_check_names_the_nearest(pytester, result):
    done = inner(
        pytester,
        """
        def test_typo(robustness):
            robustness.assert_check("attack.fgms")
        """,
        "--robustness-result",
        result,
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*Did you mean 'attack.fgsm'?*"])


def test_without_an_audit_the_message_says_what_to_give(pytester):
    done = inner(
        pytester,
        """
        def test_nothing(robustness):
            pass
        """,
    )
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*--robustness-plan PLAN.toml*"])


def test_a_wrong_plan_is_a_message_not_a_traceback(pytester):
    (pytester.path / "plan.toml").write_text("profil = 'quick'\n")
    done = inner(
        pytester,
        """
        def test_nothing(robustness):
            pass
        """,
        "--robustness-plan",
        "plan.toml",
    )
    done.stdout.fnmatch_lines(["*profil: unknown key. Did you mean 'profile'?*"])
    assert "Traceback" not in done.stdout.str()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_plan_runs_once_also_under_xdist(pytester, workshop, monkeypatch, workers):
    monkeypatch.setenv("ROBUSTBENCH_RAD_RUNS", str(pytester.path / "runs"))
    for path in workshop.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, pytester.path / path.name)
    pytester.makeini("[pytest]\nrobustness_plan = plan.toml\n")
    done = inner(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_clean(robustness, number):
            robustness.assert_check("clean.performance")
        """,
        *(["-n", str(workers)] if workers else []),
    )
    done.assert_outcomes(passed=4)
    assert len(list((pytester.path / "runs").glob("plan-*"))) == 1


def test_criteria_are_recorded_for_junit(pytester, result):
    inner(
        pytester,
        """
        import pytest

        @pytest.mark.robustness(check="clean.performance")
        def test_clean():
            pass
        """,
        "--robustness-result",
        result,
        "--junitxml=out.xml",
    )
    assert "robustness.clean.performance/bright" in (pytester.path / "out.xml").read_text()


def test_loading_the_plugin_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_empty.py").write_text("def test_nothing(): pass\n")
    code = (
        "import sys, pytest; "  # the plugin of jaxtyping, which comes with TorchIO, imports NumPy
        "assert pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:jaxtyping', sys.argv[1]]) == 0; "
        "heavy = {'torch', 'numpy', 'pandas', 'pydantic', 'rich', 'robustbench_rad.audit'} & set(sys.modules); "
        "assert 'robustbench_rad.pytest_plugin' in sys.modules; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
