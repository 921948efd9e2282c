"""Models that hide from attacks without being robust: through a whole audit, none of them may end in a pass."""

import numpy as np
import pytest
from PIL import Image

from robustbench_rad.audit import run_audit
from robustbench_rad.plan import read_plan
from robustbench_rad.result import Verdict

MODELS = '''
import numpy as np
import torch
from torch import nn


class Brightness(nn.Module):
    """20 times the mean less one half: an attack of 2/255 moves it by 0.16, and no case lies within 3 of the boundary."""

    def __init__(self, before=None, after=None, gain=20.0):
        super().__init__()
        self.before, self.after, self.gain = before, after, gain

    def forward(self, x):
        x = self.before(x) if self.before else x
        z = self.gain * (x.mean((1, 2, 3)) - 0.5)[:, None]
        return self.after(z) if self.after else z


def robust(): return Brightness()
def hot(): return Brightness(after=lambda z: 1000 * z)
def appended_sigmoid(): return Brightness(after=torch.sigmoid)
def saturated_probabilities(): return Brightness(after=lambda z: torch.sigmoid(1000 * z))
def rounded_input(): return Brightness(before=lambda x: (x * 16).round() / 16)
def rounded_output(): return Brightness(after=lambda z: z.round())
def stochastic(): return Brightness(after=lambda z: z + 0.05 * torch.randn_like(z))
def argmax_in_the_graph(): return Brightness(after=lambda z: 2.0 * torch.cat([-z, z], 1).argmax(1, keepdim=True) - 1.0)
def detour_through_numpy(): return Brightness(after=lambda z: torch.from_numpy(np.asarray(z.detach().cpu())))
def shattered(): return Brightness(after=lambda z: z + 3 * torch.sin(3e5 * z))
def saturated_relu(): return Brightness(after=lambda z: 6 * (torch.relu(1 - torch.relu(0.5 - z)) - 0.5))


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z): return z.clone()
    @staticmethod
    def backward(ctx, gradient): return -gradient


def reversed_gradient(): return Brightness(after=WrongGradient.apply)


class Winners(nn.Module):
    """k-WTA: only the largest tenth of the activations goes on (Xiao et al. 2020, broken by Tramer et al. 2020)."""

    def __init__(self):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(256, 2048, generator=source))
        self.out = nn.Parameter(torch.randn(2048, generator=source))

    def forward(self, x):
        flat = x.flatten(1)
        hidden = (flat - flat.mean(1, keepdim=True)) @ self.mix
        least = hidden.topk(20, dim=1).values[:, -1:]
        winners = torch.where(hidden >= least, hidden, torch.zeros_like(hidden))
        return (20 * (flat.mean(1) - 0.5) + 0.2 * winners @ self.out)[:, None]


def winners_take_all(): return Winners()


class Training(nn.Module):
    """A normalisation that cannot be put into evaluation mode: it learns from every batch it is attacked with."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.norm.train()

    def train(self, mode=True):
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, x):
        self.norm(x)
        return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None]


def training_mode(): return Training()
'''

PLAN = """
title = "A broken model"
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
name = "honesty"
version = 1
minimum_auroc = 0.6
[domains.clean]
[domains.adversarial]
[checks."clean.performance"]
[checks."attack.diagnostics"]
max_cases = 8
[checks."attack.fgsm"]
epsilon = ["1/255", "2/255"]
[checks."attack.pgd-linf"]
epsilon = ["2/255"]
steps = 10
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    source = np.random.default_rng(0)
    lines = ["image,patient,label"]
    for index in range(48):
        label = index % 2
        plane = 255 * (0.32 + 0.36 * label) + source.normal(0, 25, (16, 16))
        Image.fromarray(plane.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,p{index},{label}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    (folder / "models.py").write_text(MODELS)
    (folder / "profile.toml").write_text(PROFILE)
    return folder


def audited(workshop, model, outputs="logits", profile=PROFILE):
    (workshop / "profile.toml").write_text(profile)
    path = workshop / f"{model}.toml"
    path.write_text(PLAN.format(model=model, outputs=outputs))
    return run_audit(read_plan(path), folder=workshop / f"run-{model}-{hash(profile)}").result


def attacked(result):
    return [criterion for criterion in result.criteria if criterion.check.startswith("attack.")]


def rows(result):
    (table,) = [table for table in result.tables if table.title == "May the answer be believed?"]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_a_plain_model_with_large_margins_passes_and_no_row_trips(workshop):
    result = audited(workshop, "robust")
    assert {criterion.verdict for criterion in attacked(result)} == {Verdict.PASS}
    found = rows(result)
    assert len(found) == 18
    states = {name: row["state"] for name, row in found.items()}
    assert states.pop("black beats white") == "not measured"
    assert set(states.values()) == {"ok"}, states
    assert all(
        row["measured"] and row["trips when"] and row["Carlini et al. 2019"]
        for row in found.values()
        if row["state"] == "ok"
    )


BROKEN = {
    "hot": ("saturation",),
    "appended_sigmoid": ("unbounded control",),
    "saturated_probabilities": ("zero gradient", "saturation"),
    "rounded_input": ("zero gradient", "graph break"),
    "rounded_output": ("zero gradient", "graph break"),
    "stochastic": ("stochastic forward", "state hash"),
    "argmax_in_the_graph": ("graph break",),
    "detour_through_numpy": ("graph break",),
    "shattered": ("ruggedness",),
    "saturated_relu": ("zero gradient",),
    "reversed_gradient": ("gradient truth",),
    "winners_take_all": (),
    "training_mode": ("state hash",),
}


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_fails_or_is_inconclusive_with_the_reason_and_never_passes(workshop, model):
    result = audited(workshop, model, "probabilities" if model == "saturated_probabilities" else "logits")
    criteria = attacked(result)
    assert criteria
    assert {criterion.verdict for criterion in criteria} <= {Verdict.FAIL, Verdict.INCONCLUSIVE}
    assert result.verdict is not Verdict.PASS
    for criterion in criteria:
        assert criterion.verdict is Verdict.FAIL or any(
            word in criterion.reason
            for word in ("not trustworthy", "not assessable", "masked", "no correct call", "interval")
        )
    found = rows(result)
    for name in BROKEN[model]:
        assert found[name]["state"] == "trips", found[name]
    if not any(criterion.verdict is Verdict.FAIL for criterion in criteria):
        assert any(row["state"] == "trips" for row in found.values())


def test_without_the_diagnostics_their_rows_say_that_nothing_was_measured(workshop):
    without = PROFILE.replace('[checks."attack.diagnostics"]\nmax_cases = 8\n', "")
    found = rows(audited(workshop, "robust", profile=without))
    assert found["gradient truth"]["state"] == "not measured"
    assert found["positive control"]["state"] == "ok"
    assert found["single beats iterative"]["state"] == "ok"
