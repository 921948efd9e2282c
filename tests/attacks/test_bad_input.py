"""Input that leaves an attack nothing to say, through a whole audit: each ends in a clear state with its reason."""

import numpy as np
import pytest
from PIL import Image

from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.audit import run_audit
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import read_plan
from robustbench_rad.result import Verdict

MODELS = """
import numpy as np
import torch
from torch import nn


class Brightness(nn.Module):
    def __init__(self, after=None):
        super().__init__()
        self.after = after

    def forward(self, x):
        z = 20.0 * (x.mean((1, 2, 3)) - 0.5)[:, None]
        return self.after(z) if self.after else z


def plain(): return Brightness()
def without_gradient(): return Brightness(lambda z: torch.from_numpy(np.asarray(z.detach())))
def probabilities(): return Brightness(torch.sigmoid)
def sure_probabilities(): return Brightness(lambda z: torch.sigmoid(30 * z))
def saturated(): return Brightness(lambda z: 1000 * z)
def always_wrong(): return Brightness(lambda z: -z)
"""

PLAN = """
title = "Bad input"
profile = "profile.toml"
seed = 3
[model]
factory = "models.py:{model}"
head = "single-logit"
outputs = "{outputs}"
findings = ["bright"]
thresholds = {{ bright = 0.5 }}
[model.input]
size = [16, 16]
range = [0.0, 1.0]
[data]
manifest = "cases.csv"
patient = "patient"
findings = {{ bright = "label" }}
"""

PROFILE = """
name = "bad input"
version = 1
minimum_auroc = 0.5
[domains.clean]
[domains.adversarial]
[checks."clean.performance"]
{checks}
"""

PGD = """
[checks."attack.pgd-linf"]
epsilon = ["{epsilon}"]
steps = 4
random_starts = 0
{more}
"""
DIAGNOSTICS = """
[checks."attack.diagnostics"]
max_cases = 8
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    source = np.random.default_rng(0)
    lines = ["image,patient,label"]
    for index in range(40):
        label = index % 2
        plane = 255 * (0.32 + 0.36 * label) + source.normal(0, 25, (16, 16))
        Image.fromarray(plane.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,p{index},{label}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    (folder / "models.py").write_text(MODELS)
    return folder


def audited(workshop, model, *, epsilon="2/255", more="", diagnostics=False, outputs="logits"):
    checks = PGD.format(epsilon=epsilon, more=more) + DIAGNOSTICS * diagnostics
    (workshop / "profile.toml").write_text(PROFILE.format(checks=checks))
    path = workshop / "plan.toml"
    path.write_text(PLAN.format(model=model, outputs=outputs))
    name = f"run-{model}-{abs(hash(checks))}"
    return run_audit(read_plan(path), folder=workshop / name).result


def attacked(result):
    found = [criterion for criterion in result.criteria if criterion.check == "attack.pgd-linf"]
    assert {criterion.quantity.split(":")[0] for criterion in found} == {"hide", "create"}
    return found


CLEAR = {
    "a model without gradients": ({"model": "without_gradient"}, "masked gradients"),
    "a model without gradients, measured": ({"model": "without_gradient", "diagnostics": True}, "not assessable"),
    "probabilities that are exactly 0 and 1": (
        {"model": "sure_probabilities", "outputs": "probabilities", "diagnostics": True},
        "saturation",
    ),
    "saturated logits": ({"model": "saturated", "diagnostics": True}, "saturation"),
    "less than one grey level": ({"model": "plain", "epsilon": "0.4/255"}, "less than one grey level of 8 stored bits"),
    "a mask that leaves no pixel": ({"model": "plain", "more": 'mask = "anatomy"'}, "no anatomy mask is declared"),
    "no lesion is said": ({"model": "plain", "more": 'mask = "lesion-only"'}, "no lesion is declared"),
    "no correct case": ({"model": "always_wrong"}, "no correct call that could be flipped"),
}


@pytest.mark.parametrize("case", CLEAR)
def test_it_is_inconclusive_and_says_why(workshop, case):
    options, reason = CLEAR[case]
    result = audited(workshop, **options)
    for criterion in attacked(result):
        assert criterion.verdict is Verdict.INCONCLUSIVE
        assert reason in criterion.reason, criterion.reason
    assert result.verdict is not Verdict.PASS


def test_probabilities_alone_are_inverted_and_called_limited(workshop):
    result = audited(workshop, "probabilities", outputs="probabilities", diagnostics=True)
    assert {criterion.verdict for criterion in attacked(result)} == {
        Verdict.PASS
    }  # the margins are within float32's reach
    (table,) = [table for table in result.tables if table.title == "May the answer be believed?"]
    (row,) = [dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == "saturation"]
    assert row["state"] == "info"
    assert "precision-limited" in row["measured"]


@pytest.mark.parametrize(("space", "more"), [("stored", 'space = "stored"'), ("display", "")])
def test_the_files_own_pixels_are_attacked_where_the_plan_says_so(workshop, space, more):
    result = audited(workshop, "plain", more=more, epsilon="60/255")
    assert {criterion.verdict for criterion in attacked(result)} == {Verdict.FAIL}, space


@pytest.mark.parametrize("epsilon", ["two", "1/0", "1/2/3", "", "/255"])
def test_a_level_that_is_no_number_says_what_one_looks_like(epsilon):
    with pytest.raises(PlanError, match='expected a number or a fraction such as "1/255"'):
        PgdLinf.from_options({"epsilon": [epsilon]})
