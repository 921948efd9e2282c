import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.cases import CaseRecord, CaseTable, read_cases
from robustbench_rad.classifier import Caveat, Classifier, Head, HeadSpec, InputSpec, Outputs, Resize
from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.data.images import PhysicalImage
from robustbench_rad.errors import ModelError
from robustbench_rad.plan import make_plan
from robustbench_rad.preflight import choose_sample, model_items, preflight, smallest_lesion_px
from robustbench_rad.preflight_items import (
    direction_items,
    duplicates_item,
    label_items,
    lesion_item,
    misfit_item,
    pixels_at_input,
)

N = 12


def images(n=N):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def batch(pictures=None, labels=None):
    pictures = images() if pictures is None else pictures
    n = len(pictures)
    alternating = torch.tensor([[float(row % 2)] for row in range(n)])
    return Batch(
        images=pictures,
        labels=alternating if labels is None else labels,
        case_ids=tuple(f"case-{row}" for row in range(n)),
        patient_ids=tuple(f"patient-{row}" for row in range(n)),
        seeds=tuple(range(n)),
        space=Space.DISPLAY,
    )


def classifier(module, *, kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, width=1, caveats=()):
    softmax = kind is Head.SOFTMAX
    head = HeadSpec(
        kind=kind,
        outputs=outputs,
        findings=("x",) if softmax else tuple("xyz"[:width]),
        thresholds=(0.5,) if softmax else (0.5,) * width,
        groups=((0,),) if softmax else (),
        classes=width if softmax else 0,
    )
    return Classifier(module=module, head=head, input=InputSpec(size=(8, 8)), caveats=caveats)


def linear(outputs=1, scale=1.0):
    torch.manual_seed(0)
    layer = nn.Linear(64, outputs)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return nn.Sequential(nn.Flatten(), layer)


class Apply(nn.Module):
    """A layer made from a function of the images; parameters keep it differentiable."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 64))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        return self.function(self, x.flatten(1))


def score(layer, x):
    return (x @ layer.weight)[:, None]


def items_of(model, given=None):
    return {item.name: item for item in model_items(model, [given or batch()])}


def test_a_sound_model_has_no_remark():
    labels = (linear()(images()) > 0).float()
    items = items_of(classifier(linear()), batch(labels=labels.detach()))
    assert {item.status for item in items.values()} == {"ok"}
    assert set(items) == {
        "evaluation mode", "determinism", "independence", "state", "finite output", "outputs", "saturation", "gradient",
        "value range",
    }  # fmt: skip


def counts(layer, x):
    layer.seen += 1
    return score(layer, x)


class Stubborn(nn.Sequential):
    def train(self, mode=True):
        return super().train(True)


def batch_norm():
    return nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 1))


@pytest.mark.parametrize(
    ("module", "name", "status", "words"),
    [
        (Apply(lambda m, x: score(m, nn.functional.dropout(x, 0.5))), "determinism", "error", "something random"),
        (Apply(lambda m, x: score(m, x - x.mean(0))), "independence", "error", "influence"),
        (Apply(counts), "state", "error", "changed parameters or buffers"),
        (Stubborn(nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 1)), "evaluation mode", "error", "training mode"),
        (batch_norm(), "evaluation mode", "error", "track_running_stats"),
        (Apply(lambda m, x: score(m, x.round())), "gradient", "warning", "MASKED GRADIENTS"),
        (Apply(lambda m, x: score(m, x).relu() * 0), "gradient", "warning", "x on 12 of 12"),
        (Apply(lambda m, x: torch.from_numpy(score(m, x).detach().numpy())), "gradient", "warning", "MASKED"),
        (linear(scale=100.0), "saturation", "warning", "x "),
        (nn.Sequential(linear(), nn.Sigmoid()), "outputs", "error", "outputs = 'probabilities'"),
        (Apply(lambda m, x: score(m, x).sigmoid()), "outputs", "warning", "outputs = 'probabilities'"),
    ],
    ids=["dropout", "batch mean", "state", "stubborn", "batch norm", "round", "relu", "numpy", "saturated", "sigmoid",
         "functional sigmoid"],
)  # fmt: skip
def test_each_defect_is_found(module, name, status, words):
    item = items_of(classifier(module))[name]
    assert item.status == status
    assert words in item.detail
    assert item.detail.endswith(".")


def test_softmax_in_place_of_logits_is_an_error():
    module = nn.Sequential(linear(3), nn.Softmax(dim=1))
    assert items_of(classifier(module, kind=Head.SOFTMAX, width=3))["outputs"].status == "error"
    declared = classifier(module, kind=Head.SOFTMAX, width=3, outputs=Outputs.PROBABILITIES)
    assert items_of(declared)["outputs"].status == "ok"
    independent = classifier(
        nn.Sequential(linear(3), nn.Sigmoid()), kind=Head.SOFTMAX, width=3, outputs=Outputs.PROBABILITIES
    )
    assert items_of(independent)["outputs"].status == "error"


def nan_on_third(layer, x):
    out = score(layer, x)
    return torch.where((x == images()[2].flatten()).all(1, keepdim=True), torch.nan, out)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Apply(nan_on_third), {}, "NaN or infinity on 1 of 12 sampled cases: case-2"),
        (Apply(lambda m, x: score(m, x) / 0), {}, "NaN or infinity on 12 of 12"),
        (linear(5), {}, r"expected shape \(4, 1\).*got \(4, 5\)"),
        (nn.Linear(7, 1), {}, r"raised on an input of shape \(4, 1, 8, 8\): RuntimeError"),
        (linear(), {"outputs": Outputs.PROBABILITIES}, "'probabilities' is declared, case case-"),
    ],
    ids=["nan", "infinity", "width", "raises", "not probabilities"],
)
def test_what_makes_every_number_meaningless_is_an_error(module, options, message):
    with pytest.raises(ModelError, match=message) as caught:
        items_of(classifier(module, **options))
    assert caught.value.hint


def test_model_is_left_as_it_was():
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 1)).train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    assert items_of(classifier(module))["evaluation mode"].status == "ok"
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_constant_and_narrow_images_are_named():
    pictures = images()
    pictures[1] = 0.25
    pictures[2] = 0.5 + pictures[2] * 0.05
    item = items_of(classifier(linear()), batch(pictures))["value range"]
    assert item.status == "warning"
    assert "1 constant (case-1)" in item.detail
    assert "1 use less than 10% of the range (case-2)" in item.detail


def test_inverted_scores_are_noticed_and_chance_is_not():
    margins = np.arange(16.0)[:, None]
    low = (np.arange(16) < 8).astype(float)[:, None]
    (item,) = direction_items(("x",), low, margins)
    assert item.name == "score direction: x"
    assert "AUROC 0.00 on 8 positives and 8 negatives" in item.detail
    assert list(direction_items(("x",), 1 - low, margins)) == []
    assert list(direction_items(("x",), (np.arange(16) % 2)[:, None].astype(float), margins)) == []
    assert list(direction_items(("x",), np.full((16, 1), np.nan), margins)) == []
    assert list(direction_items(("x",), low, np.zeros((16, 1)))) == []


@pytest.mark.parametrize(
    ("positives", "negatives", "status", "words"),
    [(20, 30, "ok", "20 positives, 30 negatives, 1 unknown."), (0, 30, "warning", "without positives"),
     (20, 0, "warning", "without negatives"), (3, 30, "warning", "inconclusive")],
)  # fmt: skip
def test_label_coverage(positives, negatives, status, words):
    labels = np.array([[1.0]] * positives + [[0.0]] * negatives + [[np.nan]])
    (item,) = label_items(("x",), labels)
    assert item.status == status
    assert words in item.detail


def test_duplicates_count_across_patients_only():
    assert duplicates_item(["a", "a", "b"], ["p", "p", "q"]).status == "ok"
    item = duplicates_item(["a", "a", "b", "b"], ["p", "q", "r", "r"])
    assert item.status == "warning"
    assert "Among 4 images, 1 appear" in item.detail


def test_lesion_size():
    assert lesion_item(None) is None
    assert lesion_item(3.0).status == "ok"
    assert "1.5 pixels" in lesion_item(1.5).detail
    assert lesion_item(1.5).status == "warning"
    assert pixels_at_input(10.0, (1, 448, 896), InputSpec(size=(224, 224))) == 2.5
    assert pixels_at_input(10.0, (448, 896), InputSpec(size=(224, 224), resize=Resize.CROP)) == 5.0
    assert pixels_at_input(10.0, (448, 896), InputSpec(size=(224, 224), resize=Resize.PAD)) == 2.5


def test_sample_holds_both_classes_and_follows_the_ranking():
    labels = np.zeros((100, 1))
    labels[[70, 80, 90]] = 1
    ranked = list(range(99, -1, -1))
    chosen = choose_sample(labels, ranked, size=8)
    assert chosen == sorted({70, 80, 90, 99, 98, 97, 96, 95})
    assert choose_sample(np.full((3, 1), np.nan), [2, 0, 1], size=2) == [0, 2]
    assert choose_sample(np.zeros((0, 1)), [], size=2) == []


# --- the whole -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """A reader of pictures in memory."""

    pixels: torch.Tensor

    def read(self, record):
        return PhysicalImage(
            pixels=self.pixels[record.index, 0].numpy(), unit=Unit.SIGNAL, stored_bits=8, spacing_mm=(0.5, 2.0)
        )

    def fingerprint(self, record):
        return hashlib.sha256(self.pixels[record.index].numpy().tobytes()).hexdigest()


def table(pictures):
    records = tuple(
        CaseRecord(
            case_id=f"case-{row}", patient_id=f"patient-{row}", reference=str(row), files=(Path(str(row)),),
            labels=(float(row % 2),), index=row,
        )
        for row in range(len(pictures))
    )  # fmt: skip
    return CaseTable(findings=("x",), records=records, modality="DX", reader=Pictures(pictures))


def plan(lesion=None):
    model = {"factory": "a:b", "head": "single-logit", "findings": ["x"], "input": {"size": [8, 8], "range": [0, 1]}}
    data = {"manifest": "m.csv", **({"lesion": lesion} if lesion else {})}
    return make_plan({"model": model, "data": data}, base=Path())


def test_preflight_as_a_whole():
    pictures = images()
    pictures[5] = pictures[4]
    model = classifier(linear(), caveats=(Caveat(name="operating point", detail="LOUD."),))
    items = preflight(model, [batch(pictures)], table=table(pictures), plan=plan({"diameter_mm": 3.0}))
    by_name = {item.name: item for item in items}
    assert len(by_name) == len(items)
    assert by_name["operating point"].status == "warning"
    assert by_name["operating point"].detail == "LOUD."
    assert by_name["duplicates"].status == "warning"
    assert by_name["labels: x"].status == "warning"
    assert "1.5 pixels" in by_name["smallest lesion"].detail
    quiet = preflight(classifier(linear()), [], table=table(images()), plan=plan())
    assert [item.name for item in quiet] == ["operating point", "labels: x", "duplicates"]
    assert "x 0.5" in quiet[0].detail


def test_masks_of_another_size_are_a_warning_that_names_no_case(small_set, write_image):
    assert misfit_item({}, 6) is None
    write_image(np.ones((8, 9), np.uint8), "mask.png")
    table = read_cases(small_set)
    *_, item = preflight(classifier(linear()), [], table=table, plan=small_set)
    assert (item.name, item.status) == ("anatomy masks", "warning")
    assert item == misfit_item(table.misfits, 6)
    assert "6 of 6 cases come with an anatomy mask of another size" in item.detail
    assert not any(name in item.detail for name in (*table.case_ids, "mask.png"))


def test_smallest_lesion_needs_a_diameter():
    assert smallest_lesion_px(table(images()), plan(), InputSpec(size=(8, 8))) is None
    assert smallest_lesion_px(table(images()), plan({"diameter_mm": 8.0}), InputSpec(size=(4, 4))) == 2.0
