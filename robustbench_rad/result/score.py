"""The score, and what it rests on."""

from __future__ import annotations

from pydantic import Field

from robustbench_rad.result.record import Record
from robustbench_rad.result.terms import Domain, Verdict


class DomainScore(Record):
    """Points of one domain."""

    domain: Domain
    points: float | None = Field(description="0–100; None: nothing in the profile belongs to it")
    weight: float
    checks: int = Field(description="Number of checks of the profile")
    judged: int = Field(description="Number of checks of the profile that the data could decide")
    added: int = Field(default=0, description="Number of checks beyond the profile, which can only lower the points")
    added_judged: int = Field(default=0, description="Number of those that the data could decide")
    verdict: Verdict


class Cost(Record):
    """One of the checks that cost most points."""

    check: str
    finding: str
    points_lost: float


class Score(Record):
    """The score with its interval and what it rests on."""

    total: float | None = Field(description="0–100, or None: no score")
    lower: float | None
    upper: float | None
    why_none: str = ""
    cap: float | None = None
    cap_reason: str = ""
    evidence_coverage: float = Field(description="Share of the profile's checks that the data could decide")
    domains: list[DomainScore]
    costliest: list[Cost]
    utility_gate: Verdict
    utility_reason: str = ""
