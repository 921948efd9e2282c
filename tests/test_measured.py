"""Of what a run measured, which levels serve a profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robustbench_rad.conditions import Level
from robustbench_rad.measured import Measured, coverage
from robustbench_rad.registry import catalogue
from robustbench_rad.shortcuts.frequency_bands import FrequencyBands


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_condition_that_was_measured_serves_each_of_its_own_levels(name: str) -> None:
    try:
        condition = catalogue()[name].load()()
    except TypeError:
        pytest.skip("needs an option")
    measured = Measured.of(condition)
    assert coverage([measured], {name: measured}).levels[name] == condition.levels


def test_a_high_pass_band_that_was_not_measured_is_missing_although_the_low_pass_band_of_its_frequency_was() -> None:
    asked = Measured.of(FrequencyBands())
    low = replace(asked, levels=tuple(level for level in asked.levels if level.name.startswith("low-pass")))
    found = coverage([asked], {asked.id: low})
    assert found.levels[asked.id] == low.levels
    assert "high-pass 0.08 cycles/mm" in found.partial[asked.id]


def test_a_level_of_the_same_strength_serves_under_another_name() -> None:
    half = Measured(id="a", version=1, levels=(Level(name="0.5", value=0.5, unit="of the dose"),), options={})
    other = Level(name="1/2", value=0.5, unit="of the dose")
    assert half.level_like(other) == half.levels[0]
