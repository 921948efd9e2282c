"""What masked anatomy and background swap say of columns that do not go with the label, and that only of these."""

import numpy as np
import pytest

from robustbench_rad.checks import background_swap, masked_anatomy, metadata_ceiling
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.shortcuts.background_swap import donor_level
from robustbench_rad.shortcuts.masked_anatomy import fill_level

MASKED, SWAP = (check_spec(f"shortcut.{name}", {}) for name in ("masked-anatomy", "background-swap"))
CHECKS = ((masked_anatomy, MASKED), (background_swap, SWAP))
DONORS = tuple(donor_level(number) for number in (1, 2, 3))
N = 800


def context(seed=0, *, b=0.0, r=0.5, role="nuisance", findings=("f",), columns=None, positives=0.5):
    """A model of evidence and b SD of a scanner outside of the anatomy, which goes with the label as r to 1 - r."""
    rng = np.random.default_rng(seed)
    label = (rng.random(N) < positives).astype(float)
    scanner = rng.random(N) < np.where(label == 1, r, 1 - r)
    evidence = 1.5 * label + rng.normal(size=N)
    donor = np.stack([rng.permutation(N) for _ in DONORS], axis=1)
    margins = {("clean", ""): evidence + b * scanner}
    margins |= {(MASKED.id, fill): b * scanner + 1e-3 * rng.normal(size=N) for fill in masked_anatomy.FILLS}
    margins |= {
        (SWAP.id, level.name): evidence + b * scanner[donor[:, k]] + 0.1 * rng.normal(size=N)
        for k, level in enumerate(DONORS)
    }
    quantities = {Quantity(condition=SWAP.id, name="own_number_as_donor"): np.arange(N)}
    for k, level in enumerate(DONORS):
        quantities[Quantity(condition=SWAP.id, name="donor", level=level.name)] = donor[:, k]
        for finding in findings:
            of = Quantity(condition=SWAP.id, name="donor_label", level=level.name, finding=finding)
            quantities[of] = label[donor[:, k]]
    metadata = {"scanner": np.where(scanner, "A", "B")} if columns is None else columns
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=level, finding=finding): np.asarray(values, np.float32)
                for (c, level), values in margins.items()
                for finding in findings
            },
            quantities={key: np.asarray(values, np.float32) for key, values in quantities.items()},
        ),
        findings=findings,
        labels=np.repeat(label[:, None], len(findings), axis=1),
        patients=np.arange(N),
        metadata={name: [str(value) for value in values] for name, values in metadata.items()},
        roles=dict.fromkeys(metadata, role),
        levels={SWAP.id: DONORS, MASKED.id: tuple(map(fill_level, masked_anatomy.FILLS))},
    )


@pytest.mark.parametrize(("module", "check"), CHECKS)
def test_a_column_that_does_not_go_with_the_label_is_not_powered_with_its_association(module, check):
    found = module.judge(context(), check)
    assert {item.criterion.verdict for item in found.judged} == {Verdict.PASS}
    for item in found.judged:
        assert "; not powered for scanner (AUROC for the label 0.5" in item.criterion.reason
    (notice,) = found.notices
    assert notice.startswith(f"{check.id}: not powered for scanner (f), which is not shown to go with the label")
    assert "audit cases in which it goes with the label as in development too" in notice


@pytest.mark.parametrize(("module", "check"), CHECKS)
def test_a_strong_use_that_does_not_go_with_the_label_is_missed_and_that_is_told(module, check):
    """Balanced data: the model gives a whole SD to the scanner, and neither audit can tell."""
    found = module.judge(context(b=1.0), check)
    assert Verdict.FAIL not in {item.criterion.verdict for item in found.judged}
    assert all("not powered for scanner" in item.criterion.reason for item in found.judged)


@pytest.mark.parametrize(("module", "check"), CHECKS)
def test_a_column_that_goes_with_the_label_is_looked_for_and_a_failure_needs_no_mark(module, check):
    fair, uses = (module.judge(context(b=b, r=0.9), check) for b in (0.0, 1.0))
    assert {item.criterion.verdict for item in fair.judged} == {Verdict.PASS}
    assert {item.criterion.verdict for item in uses.judged} == {Verdict.FAIL}
    for found in (fair, uses):
        assert not any("not powered" in item.criterion.reason for item in found.judged)
        assert not found.notices
    rng = np.random.default_rng(1)
    mixed = context(b=1.0, r=0.9)
    balanced = {**mixed.metadata, "room": [*rng.choice(["1", "2"], N)]}
    failed = module.judge(
        JudgeContext(**{**vars(mixed), "metadata": balanced, "roles": dict.fromkeys(balanced, "nuisance")}), check
    )
    assert not any("not powered" in item.criterion.reason for item in failed.judged)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"role": "risk_factor"}, False),
        ({"columns": {}}, False),
        ({"columns": {"scanner": ["A"] * N}}, False),
        ({"columns": {"kvp": [str(60 + (7 * k) % 40) for k in range(N)]}}, True),
        ({"findings": ("f", "g")}, True),
    ],
    ids=["risk factor", "no column", "one value", "continuous", "two findings"],
)
def test_only_nuisance_columns_that_vary_are_marked_and_findings_share_a_sentence(options, said):
    for module, check in CHECKS:
        found = module.judge(context(**options), check)
        assert all(("not powered" in item.criterion.reason) is said for item in found.judged)
        assert len(found.notices) == said


def test_the_same_columns_are_not_powered_in_the_table_of_the_ceiling():
    ceiling = check_spec("shortcut.metadata-ceiling", {})
    for r, said in ((0.5, "not powered: not shown to go with it"), (0.9, "can see it")):
        (row,) = metadata_ceiling.judge(context(r=r), ceiling).tables[0].rows
        assert row[10] == said


def test_too_few_positives_to_tell_the_association_are_marked_too():
    (item,) = masked_anatomy.judge(context(positives=0.01), MASKED).judged
    assert item.criterion.positives < 10
    assert "not powered for scanner (too few cases to tell its AUROC for the label)" in item.criterion.reason
