"""What an audit costs is said before it runs, and is not less than what is then paid."""

import json
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.universal_linf import UniversalLinf
from robustbench_rad.audit import prepare, run_audit
from robustbench_rad.cli import app
from robustbench_rad.plan import read_plan
from robustbench_rad.pricing import Price, price_table, prices, sentence


def test_the_clean_images_are_the_first_price():
    clean, fgsm = prices([Fgsm()], findings=2, cases=10)
    assert (clean.id, clean.total) == ("clean", 10.0)
    assert (fgsm.id, fgsm.levels, fgsm.per_case) == ("attack.fgsm", 3, Fgsm().passes(2))


def test_a_defence_that_looks_three_times_costs_three_times():
    plain, dear = (prices([PgdLinf()], findings=1, cases=4, factor=factor) for factor in (1.0, 3.0))
    assert [price.total for price in dear] == [3 * price.total for price in plain]


def test_a_condition_of_a_sample_is_priced_by_its_sample():
    assert Price(id="x", levels=1, per_case=7.0, cases=3).total == 21.0


def test_what_is_learned_once_is_in_the_price():
    attack = UniversalLinf(epochs=2, fit_cases=3)
    clean, price = prices([attack], findings=2, cases=50, factor=2.0)
    assert price.once == 50 + 2 * 6 * 3 * 2 * 3  # every case; findings, kept, gradient, epochs, levels
    assert price.total == 2 * (50 * attack.passes(2) + price.once)
    assert clean.once == 0
    assert prices([attack], findings=1, cases=4)[1].once == 4 + 4 * 3 * 2 * 3


def test_the_table_shows_what_is_learned_once():
    console = Console(width=120, file=StringIO())
    console.print(price_table(prices([UniversalLinf(epochs=2, fit_cases=3)], findings=1, cases=50)))
    text = console.file.getvalue()
    assert "to learn" in text
    assert "158" in text


def test_the_table_fits_eighty_columns_with_every_name_whole():
    names = ("clean", "shortcut.spike-and-recovery", "attack.few-pixel-evolution", "shift.xr.detector-mtf")
    made = [Price(id=name, levels=3, per_case=1234.5, cases=99_999, once=50_000) for name in names]
    console = Console(width=80, file=StringIO())
    console.print(price_table(made))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2 + len(names) + 1  # title and head, one line each, and the sum
    for name in names:
        assert any(line.startswith(f"{name} ") and " 123,498,766 " in line for line in lines)


def test_the_sentence_names_the_dearest():
    text = sentence(prices([Fgsm(), PgdLinf()], findings=1, cases=100))
    assert "attack.pgd-linf" in text
    assert text.startswith("price: at most")


def test_audits_that_need_masks_cost_nothing_without(workshop, edit):
    with open(workshop / "plan.toml", "a") as file:
        file.write('[checks]\n"shortcut.background-swap" = {}\n"shortcut.spike-and-recovery" = {}\n')
    with_masks = {price.id: price for price in prepare(read_plan(workshop / "plan.toml")).prices}
    edit('anatomy = { column = "mask" }\n', "")
    without = {price.id: price for price in prepare(read_plan(workshop / "plan.toml")).prices}
    masked = ("shortcut.masked-anatomy", "shortcut.background-swap")
    assert [with_masks[id].per_case for id in (*masked, "shortcut.spike-and-recovery")] == [5.0, 3.0, 1.0 + 3.0 + 3.0]
    assert [without[id].per_case for id in (*masked, "shortcut.spike-and-recovery")] == [0.0, 0.0, 1.0]
    rest = with_masks.keys() - {*masked, "shortcut.spike-and-recovery"}
    assert all(without[id] == with_masks[id] for id in rest)


def test_what_costs_nothing_without_masks_then_pays_nothing(workshop, edit):
    with open(workshop / "plan.toml", "a") as file:
        file.write('[checks]\n"shortcut.background-swap" = {}\n"shortcut.spike-and-recovery" = {}\n')
    edit('anatomy = { column = "mask" }\n', "")
    paid = run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "run").result.provenance.passes
    assert paid["shortcut.masked-anatomy"] == paid["shortcut.background-swap"] == 0.0
    assert paid["shortcut.spike-and-recovery"] == 1.0


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
