"""The page about the attacks names all of them, with the price that they have, and its plan is one."""

import re
import tomllib
from pathlib import Path

import pytest

from robustbench_rad.measured import make_conditions
from robustbench_rad.plan import make_plan
from robustbench_rad.profile import effective_profile
from robustbench_rad.registry import catalogue

PAGE = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text("utf-8")
ROWS = {
    id: row.split("|")[4].strip()
    for row in re.findall(r"^\| `attack\..*$", PAGE, flags=re.M)
    for id in re.findall(r"`(attack\.[a-z0-9-]+)`", row.split("|")[1])
}
ATTACKS = {id: entry for id, entry in catalogue().items() if entry.domain == "adversarial"}


def test_every_attack_has_its_row():
    assert set(ROWS) == set(ATTACKS)


@pytest.mark.parametrize("id", sorted(ATTACKS))
def test_the_price_of_the_row_is_that_of_the_defaults(id):
    needed = {"surrogate": {"factory": "a:b", "weights": "c"}} if id == "attack.transfer-linf" else {}
    passes = ATTACKS[id].load().from_options(needed).passes(findings=1)
    assert int(re.match(r"[\d,]+", ROWS[id]).group().replace(",", "")) == round(passes)


def test_the_plan_of_the_page_is_valid():
    snippet = re.search(r"```toml\n(.*?)```", PAGE, flags=re.S).group(1)
    model = {
        "factory": "a:b",
        "head": "sigmoid",
        "findings": ["effusion", "pneumothorax"],
        "input": {"size": [8, 8], "range": [0, 1]},
    }
    plan = make_plan({**tomllib.loads(snippet), "model": model, "data": {"manifest": "m.csv"}}, base=Path())
    made = make_conditions(plan, effective_profile(plan))
    assert {condition.id for condition in made} >= set(plan.checks)
