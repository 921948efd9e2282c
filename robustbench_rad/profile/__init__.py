"""Profiles: which checks are run, at which levels, and how they are judged; versioned TOML with a hash.

A check's table holds options of its condition (levels, steps: *measurement*) and keys of judgement (tolerance, critical_harm,
critical: *policy*); the two are hashed apart, so a finished run can be judged again under another policy.
"""

from robustbench_rad.profile.effective import NEEDS, Profile, effective_profile
from robustbench_rad.profile.file import (
    BUILT_IN,
    SUITES,
    DomainSection,
    Multiplicity,
    ProfileFile,
    lock_profile,
    parse_profile,
    read_profile,
)
from robustbench_rad.profile.specs import POLICY_KEYS, CheckSpec, check_spec

__all__ = [
    "BUILT_IN",
    "NEEDS",
    "POLICY_KEYS",
    "SUITES",
    "CheckSpec",
    "DomainSection",
    "Multiplicity",
    "Profile",
    "ProfileFile",
    "check_spec",
    "effective_profile",
    "lock_profile",
    "parse_profile",
    "read_profile",
]
