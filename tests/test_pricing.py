"""What an audit costs is said before it runs, and is not less than what is then paid."""

import json

import pytest
from typer.testing import CliRunner

from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.audit import prepare, run_audit
from robustbench_rad.cli import app
from robustbench_rad.plan import read_plan
from robustbench_rad.pricing import Price, prices, sentence


def test_the_clean_images_are_the_first_price():
    clean, fgsm = prices([Fgsm()], findings=2, cases=10)
    assert (clean.id, clean.total) == ("clean", 10.0)
    assert (fgsm.id, fgsm.levels, fgsm.per_case) == ("attack.fgsm", 3, Fgsm().passes(2))


def test_a_defence_that_looks_three_times_costs_three_times():
    plain, dear = (prices([PgdLinf()], findings=1, cases=4, factor=factor) for factor in (1.0, 3.0))
    assert [price.total for price in dear] == [3 * price.total for price in plain]


def test_a_condition_of_a_sample_is_priced_by_its_sample():
    assert Price(id="x", levels=1, per_case=7.0, cases=3).total == 21.0


def test_the_sentence_names_the_dearest():
    text = sentence(prices([Fgsm(), PgdLinf()], findings=1, cases=100))
    assert "attack.pgd-linf" in text
    assert text.startswith("price: at most")


def test_price_stops_before_anything_is_run(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    made = CliRunner().invoke(app, ["audit", "plan.toml", "--price", "--json", "--run-folder", "run"])
    assert made.exit_code == 0, made.output
    shown = json.loads(made.stdout)
    assert shown["total"] == pytest.approx(sum(row["total"] for row in shown["prices"]))
    assert shown["prices"][0]["id"] == "clean"
    assert not (workshop / "run").exists()


def test_no_audit_pays_more_than_its_price(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    plan = read_plan(workshop / "plan.toml")
    said = {price.id: price.per_case for price in prepare(plan).prices}
    paid = run_audit(plan).result.provenance.passes
    assert paid
    for id, passes in paid.items():
        assert passes <= said[id] + 0.01, id
