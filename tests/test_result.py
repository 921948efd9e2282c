"""The result file: its schema, its round trip and its refusals."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from pydantic import ValidationError

from robustbench_rad.errors import DataError
from robustbench_rad.result import AuditResult, DataSummary, Domain, Interval, ModelSummary, Provenance, Score, Verdict

SCHEMA = resources.files("robustbench_rad").joinpath("result.schema.json")


def smallest() -> AuditResult:
    nothing = Interval(estimate=None, lower=None, upper=None)
    assert nothing.confidence == 0.95
    return AuditResult(
        title="empty",
        verdict=Verdict.INCONCLUSIVE,
        model=ModelSummary(source="m", head="sigmoid", findings=[], parameters=0, weights_sha256="0", input={}),
        data=DataSummary(cases=0, patients=0, modality="DX", role="internal", metadata={}, digest="0"),
        preflight=[],
        findings=[],
        criteria=[],
        score=Score(
            total=None,
            lower=None,
            upper=None,
            why_none="no case",
            evidence_coverage=0.0,
            domains=[],
            costliest=[],
            utility_gate=Verdict.INCONCLUSIVE,
        ),
        plan={},
        provenance=Provenance(
            tool_version="0",
            code_sha256="0",
            measurement_sha256="0",
            policy_sha256="0",
            profile="quick",
            profile_sha256="0",
            seed=1,
            device="cpu",
            versions={},
            started="",
            finished="",
            timings_s={},
        ),
    )


def test_schema_file_is_the_models_own() -> None:
    """Regenerate: python -m robustbench_rad.result > robustbench_rad/result.schema.json."""
    assert json.loads(SCHEMA.read_text("utf-8")) == AuditResult.model_json_schema()


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(smallest().to_json(), "utf-8")
    assert AuditResult.read(path) == smallest()
    assert path.read_text("utf-8").endswith("}\n")


def test_what_is_not_a_number_becomes_null() -> None:
    interval = Interval(estimate=float("nan"), lower=float("-inf"), upper=float("inf"))
    assert json.loads(interval.model_dump_json()) == {
        "estimate": None,
        "lower": None,
        "upper": None,
        "confidence": 0.95,
        "method": "",
    }


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"schema_version": "9.0"}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"verdict": "maybe"}, "verdict"),
        ({"score": {}}, "score.total"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_place(tmp_path: Path, change: dict[str, object], place: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**json.loads(smallest().to_json()), **change}), "utf-8")
    with pytest.raises(DataError) as caught:
        AuditResult.read(path)
    assert str(path) in caught.value.message
    assert f": {place}: " in caught.value.message
    assert caught.value.hint is not None
    assert "audit" in caught.value.hint


def test_a_later_minor_version_without_new_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(smallest().to_json().replace('"schema_version": "1.0"', '"schema_version": "1.7"'), "utf-8")
    assert AuditResult.read(path).schema_version == "1.7"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a result of schema"):
        AuditResult.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read: No such file"):
        AuditResult.read(tmp_path / "nowhere.json")


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        smallest().title = "better"  # type: ignore[misc]


def test_every_domain_has_a_place_in_the_order_of_a_report() -> None:
    assert [str(domain) for domain in Domain][:2] == ["clean", "adversarial"]
