import math
import pickle

import pytest
import torch

from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.errors import DataError, ImageError

HEAD = """
import numpy as np
import torch

class Items:
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, index): return self.items[index]

image = torch.arange(64.).reshape(1, 8, 8) / 63

def build():
    return """


@pytest.fixture
def plan_of(tmp_path, plan_for):
    def make(expression, data=None, **options):
        name = f"set{len(list(tmp_path.iterdir()))}.py"
        (tmp_path / name).write_text(HEAD + expression + "\n")
        return plan_for({"source": "factory", "factory": f"{name}:build", **(data or {})}, **options)

    return make


def test_dictionaries(plan_of):
    item = """{"image": image, "labels": {"effusion": 1}, "case": "a", "patient": "p", "metadata": {"site": "x", "no": 1},
               "anatomy": image > 0.5, "spacing_mm": 0.2}"""
    other = '{"image": image[0], "labels": [float("nan")], "case": "b", "patient": "p", "metadata": {"site": None}}'
    table = require_readable(
        read_cases(plan_of(f"Items([{item}, {other}])", {"metadata": {"site": "nuisance"}})), "fail"
    )
    assert table.case_ids == ("a", "b")
    assert table.patient_codes.tolist() == [0, 0]
    assert table.metadata("site") == ["x", ""]
    assert math.isnan(table.labels[1, 0])
    case = table.load(0)
    assert case.spacing_mm == (0.2, 0.2)
    assert torch.equal(case.anatomy, case.image > 0.5)
    assert table.load(1).anatomy is None


def test_pairs_of_eight_bit_arrays(plan_of):
    table = read_cases(plan_of("Items([(np.full((8, 8), 51, np.uint8), torch.tensor([1, 0]))])", findings=("a", "b")))
    assert table.labels.tolist() == [[1, 0]]
    assert table.load(0).image[0, 0, 0].item() == pytest.approx(0.2)


def test_the_table_travels_and_is_verified_in_workers(plan_of):
    table = read_cases(plan_of("Items([(image, 1), (image, 0)])"))
    assert torch.equal(pickle.loads(pickle.dumps(table)).load(1).image, table.load(1).image)
    assert table.verify(workers=1) == []
    assert len(table.digest) == 64


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 / 0", "calling it failed: ZeroDivisionError"),
        ("5", "expected a torch Dataset with a length, got int"),
        ("Items([])", "the data set is empty"),
        ("Items([7])", r"item 0: expected a pair \(image, labels\) or a dictionary with both, got int"),
        ('Items([{"picture": image, "labels": 1}])', "got the keys picture, labels"),
        ('Items([{"image": image, "labels": 1, "patent": 3}])', "unknown key 'patent'(.|\n)*Did you mean 'patient'"),
        ("Items([(image, [1, 0])])", r"expected one label per finding \(1\), got 2"),
        ("Items([(image, 3)])", "item 0: labels: expected 1, 0, -1 or empty, got '3.0'"),
        ("Items([(image, 'yes')])", "item 0: labels"),
        ('Items([(image, {"effusions": 1})])', "'effusion' is missing(.|\n)*Known: effusions|Did you mean 'effusions'"),
        ('Items([{"image": image, "labels": 1, "spacing_mm": -1}])', "expected spacing_mm above 0, got -1"),
        ('Items([{"image": image, "labels": 1, "case": 1}] * 2)', "duplicate case ids: 1"),
        ("Items([(torch.zeros(3, 8, 8), 1)])", r"expected one grey image of shape \(H, W\).*got \(3, 8, 8\)"),
        ("Items([(image * 255, 1)])", "item 0: outside its declared range"),
        (
            "type('Broken', (Items,), {'__getitem__': lambda s, i: s.items['x']})([1])",
            "item 0 cannot be read: TypeError",
        ),
        (
            "type('Random', (Items,), {'__getitem__': lambda s, i: (torch.rand(8, 8), 1)})([1])",
            "another image when it is",
        ),
    ],
)
def test_bad_data_sets(plan_of, expression, message):
    with pytest.raises(DataError, match=message):
        read_cases(plan_of(expression))


@pytest.mark.parametrize(
    ("mask", "got"),
    [("image[:, 1:]", (7, 8)), ("image.reshape(1, 4, 16)", (4, 16)), ("torch.ones(3, 8, 8)", (3, 8, 8)), ("1", ())],
)
def test_a_mask_of_another_size_is_left_out_and_told_apart(plan_of, mask, got):
    table = require_readable(
        read_cases(plan_of(f'Items([{{"image": image, "labels": 1, "anatomy": {mask}}}])')), "fail"
    )
    case = table.load(0)
    assert case.anatomy is None
    assert (case.misfit.expected, case.misfit.got) == ((8, 8), got)
    assert table.misfits == {"0": case.misfit}
    fitting = read_cases(plan_of('Items([{"image": image, "labels": 1, "anatomy": image}])'))
    assert fitting.misfits == {}
    assert fitting.digest != table.digest


def test_missing_metadata(plan_of):
    plan = plan_of(
        'Items([{"image": image, "labels": 1, "metadata": {"sight": 1}}])', {"metadata": {"site": "nuisance"}}
    )
    with pytest.raises(DataError, match="metadata 'site' is missing"):
        read_cases(plan)


def test_a_later_item_is_checked_when_it_is_read(plan_of):
    table = read_cases(plan_of("Items([(image, 1), (image * float('nan'), 0)])"))
    with pytest.raises(ImageError, match="item 1: 64 of 64 pixels are NaN"):
        table.load(1)
