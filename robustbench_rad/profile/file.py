"""What a profile file holds: read, validated, locked with a hash of its content."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.plan import Section, digest, explain
from robustbench_rad.result import Domain

BUILT_IN = ("quick", "standard", "full")
SUITES = ("generic-c",)  # built in too, and shown only: they give no score
Multiplicity = Literal["check", "audit"]


class DomainSection(Section):
    """[domains.<name>]: weight of a domain in the score."""

    weight: Annotated[float, Field(ge=0)] = 1.0


class ProfileFile(Section):
    """A profile file."""

    name: str
    version: int
    sha256: str | None = None
    description: str = ""
    minimum_auroc: Annotated[float, Field(ge=0.5, le=1)] = 0.7
    multiplicity: Multiplicity = "check"
    domains: dict[Domain, DomainSection]
    checks: dict[str, dict[str, Any]]

    @property
    def content_sha256(self) -> str:
        """Hash of everything but the hash itself; comments and layout do not count."""
        # Left out where it is the default, so that saying nothing and saying the default are the same profile.
        usual = {"multiplicity"} if self.multiplicity == "check" else set()
        return digest(self.model_dump(mode="json", exclude={"sha256", *usual}))


def read_profile(name: str, *, base: Path = Path()) -> ProfileFile:
    """Read a built-in profile by name, or a file of the user's own.

    Raises:
        PlanError: No such profile, or not a valid one.
    """
    if name in (*BUILT_IN, *SUITES):
        text = resources.files("robustbench_rad.profiles").joinpath(f"{name}.toml").read_text("utf-8")
    else:
        path = base / name
        if path.suffix != ".toml" or not path.is_file():
            raise PlanError(
                f"profile {name!r}: neither built in nor a file", hint=suggestion(name, [*BUILT_IN, *SUITES])
            )
        text = path.read_text("utf-8")
    return parse_profile(text, name)


def parse_profile(text: str, name: str) -> ProfileFile:
    """Read a profile from its text, and refuse one that is locked and was changed.

    Raises:
        PlanError: Not a valid profile, or not the one that was locked.
    """
    file = _validated(text, name)
    if file.sha256 is not None and file.sha256 != file.content_sha256:
        raise PlanError(
            f"profile {name}: the profile was changed after it was locked: sha256 says {file.sha256[:12]}…, its content is "
            f"{file.content_sha256[:12]}…",
            hint=f"Undo the change, or agree on the new one and lock it: robustbench-rad profile lock {name}",
        )
    return file


def lock_profile(text: str, name: str) -> tuple[str, str]:
    """Write the hash of a profile's content into its text.

    Args:
        text: TOML of the profile; locked before or not.
        name: For messages.

    Returns:
        The new text, all else as it was, and the hash.

    Raises:
        PlanError: Not a valid profile.
    """
    sha256 = _validated(text, name).content_sha256
    head, bracket, tables = text.partition("\n[")
    line = f'sha256 = "{sha256}"'
    head, found = re.subn(r"(?m)^\s*sha256\s*=.*$", line, head, count=1)
    if not found:
        head = re.sub(r"(?m)^\s*version\s*=.*$", lambda match: f"{match.group()}\n{line}", head, count=1)
    locked = head + bracket + tables
    parse_profile(locked, name)
    return locked, sha256


def _validated(text: str, name: str) -> ProfileFile:
    try:
        return ProfileFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"profile {name}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise PlanError("\n".join(f"profile {name}: {line}" for line in explain(error, ProfileFile))) from error
