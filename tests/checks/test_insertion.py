"""Judging insertions and the ablated border with linear models, whose answers can be computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.checks import border_ablation, insertion
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.profile import check_spec
from robustbench_rad.registry import entry
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.seeds import derive_seed

SIDE, N = 48, 300
LABEL = np.tile([1.0, 0.0], N // 2)
MARKER = "shortcut.insert-marker"
CORNER = (slice(1, 9), slice(SIDE - 9, SIDE - 1))


def films(n=N) -> Batch:
    """Dark films with a lesion in the middle, brighter where the finding is, and noise."""
    images = torch.full((n, 1, SIDE, SIDE), 0.3)
    noise = torch.randn(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images[:, 0, 20:28, 20:28] += 0.1 * torch.tensor(LABEL[:n])[:, None, None]
    images = (images + 0.05 * noise + 0.05 * noise[:, :, :1, :1]).clamp(0, 1)
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=images.float(),
        labels=torch.tensor(LABEL[:n, None], dtype=torch.float32),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
    )


def lesion(images):
    """Evidence of the finding, of SD about 1."""
    return 10 * (images[:, 0, 20:28, 20:28].mean((1, 2)) - 0.35)


def corner(images):
    """What a model reads that looks at the upper right corner."""
    return images[:, 0, *CORNER].mean((1, 2))


def context(condition, batch, model, labels=None, patients=None, **changed) -> JudgeContext:
    """Scores of a model on every level of a condition, as a finished pass has them."""
    state = condition.fit(None, iter([batch])) if condition.needs_fit else None
    applied = condition.apply(batch, None, state)
    columns = {Column(condition="clean", level="", finding="f"): model(batch.images).numpy()}
    for variant in applied.variants:
        margins = model(variant.images).numpy().astype(np.float32)
        if variant.applicable is not None:
            margins = np.where(variant.applicable.numpy(), margins, np.nan)
        columns[Column(condition=condition.id, level=variant.level.name, finding="f")] = margins
    quantities = {
        Quantity(condition=condition.id, name=m.quantity, level=m.level): m.values.numpy() for m in applied.measurements
    }
    return JudgeContext(
        scores=ScoreTable(cases=batch.case_ids, columns=columns, quantities=quantities),
        findings=("f",),
        labels=(LABEL[: len(batch)] if labels is None else labels)[:, None],
        patients=np.arange(len(batch)) if patients is None else patients,
        levels={condition.id: condition.levels},
        **changed,
    )


def condition(id=MARKER, **options):
    return entry(id).load().from_options(options)


def judged(made, id=MARKER):
    outcome = (border_ablation if "ablation" in id else insertion).judge(made, check_spec(id, {}))
    return {item.criterion.quantity: item.criterion for item in outcome.judged}, outcome


def rows(outcome, title="Marker positions by effect"):
    (table,) = [table for table in outcome.tables if table.title == title]
    return {row[1]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_effect_on_a_model_that_reads_the_corner_is_exact():
    batch, marker = films(), condition(height_share=0.12)
    made = context(marker, batch, lambda x: lesion(x) + 4 * corner(x))
    found = rows(judged(made)[1])["top right"]
    images = {v.level.name: v.images for v in marker.apply(batch, None, None).variants}
    clean = (lesion(batch.images) + 4 * corner(batch.images)).double().numpy()
    real = 4 * (corner(images["top right"]) - corner(batch.images)).double().numpy()
    placebo = 4 * (corner(images["top right, placebo"]) - corner(batch.images)).double().numpy()
    assert not placebo.any()
    assert found["object minus placebo"] == pytest.approx(real.mean() / clean.std(), abs=2e-4)
    assert found["placebo"] == 0.0
    assert (found["x"] > 0.8, found["y"] < 0.2) == (True, True)
    assert found["object minus placebo"] > 0.15


def test_a_model_that_ignores_the_corner_has_no_effect_at_all_and_passes():
    criteria, outcome = judged(context(condition(), films(), lesion))
    for row in rows(outcome).values():
        assert {row[name] for name in ("object minus placebo", "object", "placebo", "flips", "by placebo")} == {0.0}
        assert row["p"] == 1.0
    assert {c.verdict for c in criteria.values()} == {Verdict.PASS}
    assert criteria["effect unexplained by placebo"].harm.upper == 0.0


@pytest.mark.parametrize("kind", ["border", "collimation", "marker", "text"])
def test_pixels_that_a_model_ignores_change_its_margins_by_exactly_nothing(kind):
    """Known answer: object 0 and placebo 0, to the last bit, at every place; only the middle is read."""
    inserted = entry(f"shortcut.insert-{kind}").load()()
    made = context(inserted, films(40), lambda x: 10 * (x[:, 0, 22:26, 22:26].mean((1, 2)) - 0.35))
    for level in inserted.levels[::2]:
        found = insertion.changes(made, inserted.id, level.name, "f")
        assert found.known.any()
        assert not found.real[found.known].any()
        assert not found.placebo[found.known].any()


@pytest.mark.parametrize(
    ("b", "effect", "flips"),
    [
        (0.0, Verdict.PASS, Verdict.PASS),
        (0.05, Verdict.PASS, Verdict.PASS),
        (0.5, Verdict.FAIL, Verdict.FAIL),
        (-0.5, Verdict.FAIL, Verdict.FAIL),
        (2.0, Verdict.FAIL, Verdict.FAIL),
    ],
)
def test_a_planted_marker_is_recovered_at_its_strength_with_its_sign(b, effect, flips):
    """b SD per marker, a detector that answers 1 to the marker in the upper right corner and 0 to none."""
    batch, marker = films(), condition(height_share=0.12, levels=["top left", "top right"])
    spread = float(lesion(batch.images).std(correction=0))
    images = {v.level.name: v.images for v in marker.apply(batch, None, None).variants}
    answer = float((corner(images["top right"]) - corner(batch.images)).mean())
    made = context(marker, batch, lambda x: lesion(x) + b * spread * (corner(x) - 0.3) / answer)
    criteria, outcome = judged(made)
    found = rows(outcome)
    spread_of_all = float((lesion(batch.images) + b * spread * (corner(batch.images) - 0.3) / answer).std(correction=0))
    assert found["top right"]["object minus placebo"] == pytest.approx(b * spread / spread_of_all, abs=0.01)
    assert found["top left"]["object minus placebo"] == pytest.approx(0.0, abs=1e-6)
    assert criteria["effect unexplained by placebo"].verdict is effect
    assert criteria["flips beyond placebo"].verdict is flips
    if b:
        assert criteria["effect unexplained by placebo"].level.name == "top right"
        assert criteria["effect unexplained by placebo"].harm.estimate == pytest.approx(
            abs(b) * spread / spread_of_all, abs=0.01
        )
        assert "sign-flip p 0.0005" in criteria["effect unexplained by placebo"].reason


def test_an_effect_between_a_tenth_and_a_fifth_is_warned_of_in_words_only():
    batch, marker = films(), condition(height_share=0.12, levels=["top right"])
    spread = float(lesion(batch.images).std(correction=0))
    images = next(iter(marker.apply(batch, None, None).variants)).images
    answer = float((corner(images) - corner(batch.images)).mean())
    criteria, _ = judged(context(marker, batch, lambda x: lesion(x) + 0.15 * spread * (corner(x) - 0.3) / answer))
    assert criteria["effect unexplained by placebo"].verdict is Verdict.PASS
    assert criteria["effect unexplained by placebo"].reason.endswith("warning: beyond 0.1 SD")


def test_a_model_that_any_bright_spot_moves_alike_is_not_blamed_for_the_marker():
    marker = condition(height_share=0.12, levels=["top right"])
    criteria, outcome = judged(context(marker, films(), lambda x: lesion(x) + 0.5 * x.clamp_min(0.45).sum((1, 2, 3))))
    found = rows(outcome)["top right"]
    assert found["object"] > 0.2
    assert abs(found["object minus placebo"]) < 0.3 * found["object"]
    assert criteria["effect unexplained by placebo"].verdict is Verdict.PASS


def test_a_model_that_only_the_placebo_moves_is_not_blamed():
    marker = condition(height_share=0.12, levels=["top right"])
    lateral = (slice(18, 30), slice(SIDE - 9, SIDE - 1))
    criteria, outcome = judged(context(marker, films(), lambda x: lesion(x) + 20 * x[:, 0, *lateral].mean((1, 2))))
    assert rows(outcome)["top right"]["object minus placebo"] < -0.2
    assert (
        "object minus placebo" not in criteria
    )  # another quantity: it has a sign, and counts what only the placebo does
    assert "The judged effect unexplained by placebo has no sign" in outcome.tables[0].note
    assert criteria["effect unexplained by placebo"].harm.upper < 0.05
    assert criteria["effect unexplained by placebo"].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("model", "labels", "reason"),
    [
        (lesion, np.random.default_rng(0).permutation(LABEL), "shows no signal"),
        (lambda x: torch.zeros(len(x)), LABEL, "shows no signal"),
        (lesion, np.full(N, np.nan), "no case with a known label"),
        (lesion, np.ones(N), "expected both classes"),
        (
            lambda x: torch.where(corner(x) > 0.4, torch.nan, lesion(x)).nan_to_num(nan=torch.inf),
            LABEL,
            "NaN or infinity",
        ),
    ],
)
def test_what_cannot_be_judged_says_why_and_shows_what_it_has(model, labels, reason):
    made = context(condition(height_share=0.12), films(), model, labels=labels)
    criteria, outcome = judged(made)
    assert {c.verdict for c in criteria.values()} == {Verdict.INCONCLUSIVE}
    assert all(c.reason.startswith("not assessable") and reason in c.reason for c in criteria.values())
    assert len(rows(outcome)) == 4


def test_too_few_patients_are_counted():
    patients = np.repeat(np.arange(5), N // 5)
    criteria, _ = judged(context(condition(), films(), lesion, patients=patients))
    assert all("5 patients can be compared, 10 are needed" in c.reason for c in criteria.values())


def test_where_nothing_can_be_removed_no_call_can_hang_on_it_and_the_share_found_is_told():
    removal = condition("shortcut.remove-markers", levels=["frame"])
    made = context(removal, films(), lesion)
    reasons = {(removal.id, "frame"): "no uniform frame found"}
    criteria, outcome = judged(replace(made, scores=replace(made.scores, reasons=reasons)), removal.id)
    assert list(criteria) == ["flips beyond placebo"]
    flips = criteria["flips beyond placebo"]
    assert flips.verdict is Verdict.PASS
    assert (flips.harm.estimate, flips.harm.lower) == (0.0, 0.0)
    assert flips.harm.upper == pytest.approx(1 - 0.025 ** (1 / N))  # Clopper and Pearson
    assert "bounds the flips" in flips.harm.method
    assert rows(outcome)["frame"]["cases"] == 0
    (table,) = [t for t in outcome.tables if t.title == "What was found beside the patient"]
    assert table.rows == [["frame", N, 0, 0.0]]
    assert "frame found in 0 patients only" in outcome.notices[0]


def test_nothing_to_remove_on_few_films_decides_nothing():
    removal = condition("shortcut.remove-markers", levels=["frame"])
    made = context(removal, films(), lesion)
    measured = {
        key: np.where(np.arange(N) < 40, values, np.nan).astype(np.float32)
        for key, values in made.scores.quantities.items()
    }
    criteria, _ = judged(replace(made, scores=replace(made.scores, quantities=measured)), removal.id)
    assert criteria["flips beyond placebo"].verdict is Verdict.INCONCLUSIVE


def test_a_removed_marker_is_judged_on_the_films_that_had_one():
    batch = films()
    batch.images[:100, :, 2:8, SIDE - 8 : SIDE - 6] = 1.0
    batch.images[:100, :, 6:8, SIDE - 8 : SIDE - 3] = 1.0
    removal = condition("shortcut.remove-markers", levels=["markers"])
    criteria, outcome = judged(context(removal, batch, lambda x: lesion(x) + 6 * corner(x)), removal.id)
    row = rows(outcome)["markers"]
    assert 95 <= row["cases"] <= 115  # noise looks like a letter now and then
    assert row["object minus placebo"] < -0.3
    assert criteria["effect unexplained by placebo"].verdict is Verdict.FAIL


def test_what_too_few_patients_have_is_told_and_does_not_keep_the_rest_from_being_judged():
    batch = films()
    batch.images[:150, :, 2:8, SIDE - 8 : SIDE - 6] = 1.0
    batch.images[:150, :, 6:8, SIDE - 8 : SIDE - 3] = 1.0
    batch.images[:4, :, :3] = 0.0
    removal = condition("shortcut.remove-markers")
    criteria, outcome = judged(context(removal, batch, lesion), removal.id)
    assert criteria["effect unexplained by placebo"].verdict is Verdict.PASS
    assert outcome.notices == ["shortcut.remove-markers: frame found in 4 patients only, 10 are needed: not judged"]
    assert rows(outcome)["frame"]["note"].startswith("not assessable: 4 patients")


def test_what_may_be_new_to_a_model_is_shown_and_judged_only_when_asked():
    frame = condition("shortcut.insert-border", levels=["black frame"])
    made = context(frame, films(), lambda x: lesion(x) + 20 * x[:, 0, :1].mean((1, 2)))
    shown, _ = judged(made, frame.id)
    assert {c.verdict for c in shown.values()} == {Verdict.INFORMATIONAL}
    asked = check_spec(frame.id, {"tolerance": {"effect": 0.2, "flip": 0.05}})
    verdicts = {item.criterion.quantity: item.criterion.verdict for item in insertion.judge(made, asked).judged}
    assert verdicts["effect unexplained by placebo"] is Verdict.FAIL


def test_a_placebo_that_is_much_weaker_is_told():
    marker = condition(height_share=0.12, levels=["top right"])
    made = context(marker, films(), lesion)
    weak = Quantity(condition=MARKER, name="change_rms", level="top right, placebo")
    quantities = dict(made.scores.quantities) | {weak: np.full(N, 1e-4, np.float32)}
    _, outcome = judged(replace(made, scores=replace(made.scores, quantities=quantities)))
    (notice,) = outcome.notices
    assert "top right" in notice
    assert "much less than the object" in notice


ABLATION = "shortcut.border-ablation"


def test_a_model_that_uses_a_corner_that_goes_with_the_label_loses_its_area_and_another_loses_none():
    batch = films()
    batch.images[:, :, *CORNER] += 0.3 * torch.tensor(LABEL)[:, None, None, None].float()
    ablation = condition(ABLATION, corner_share=0.25)
    criteria, outcome = judged(context(ablation, batch, lambda x: 0.1 * lesion(x) + 20 * corner(x)), ABLATION)
    found = criteria["AUROC drop without the border"]
    assert found.verdict is Verdict.FAIL
    assert found.harm.estimate > 0.02
    criteria, outcome = judged(context(ablation, batch, lesion), ABLATION)
    found = criteria["AUROC drop without the border"]
    assert (found.harm.estimate, found.verdict) == (0.0, Verdict.INCONCLUSIVE)  # 150 positives bound a drop by 0.024
    table = rows(outcome, "What is lost without the border")
    assert table["corners"]["effect"] == 0.0
    assert table["corners"]["covered"] == pytest.approx(0.25, abs=0.01)


def test_the_area_that_is_left_is_that_of_the_evidence_that_is_left():
    """With the corner gone the ranking is that of the lesion alone, so the drop is known without any image."""
    batch = films()
    batch.images[:, :, *CORNER] += 0.1 * torch.tensor(LABEL)[:, None, None, None].float()
    ablation = condition(ABLATION, corner_share=0.25, levels=["corners"])
    made = context(ablation, batch, lambda x: lesion(x) + 10 * corner(x))
    row = rows(judged(made, ABLATION)[1], "What is lost without the border")["corners"]
    scores = {"whole": lesion(batch.images) + 10 * corner(batch.images), "left": lesion(batch.images)}
    area = {
        name: float((s[LABEL == 1][:, None] > s[LABEL == 0][None]).float().mean())
        for name, s in ((name, torch.as_tensor(value)) for name, value in scores.items())
    }
    assert row["AUROC drop"] == pytest.approx(area["whole"] - area["left"], abs=1e-4)


def test_an_ablation_of_a_model_without_signal_is_not_assessable_and_its_effect_is_shown():
    labels = np.random.default_rng(1).permutation(LABEL)
    criteria, outcome = judged(context(condition(ABLATION), films(), lambda x: lesion(x) + corner(x), labels), ABLATION)
    assert "shows no signal" in criteria["AUROC drop without the border"].reason
    assert rows(outcome, "What is lost without the border")["ring"]["effect"] is not None
