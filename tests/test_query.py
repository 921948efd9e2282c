"""Asking the model: chunked to what memory allows, counted, with gradients of the image only."""

import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.errors import ModelError
from robustbench_rad.loading import wrap_classifier
from robustbench_rad.query import CountingQuery


class Linear(nn.Module):
    """One logit, w·x; runs out of memory beyond ``most`` rows, as a device would."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 16))
        self.most = most
        self.asked: list[int] = []

    def forward(self, x):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return (x.flatten(1) * self.weight).sum(1, keepdim=True)


def query(module, rows=256):
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("f",), thresholds=(0.5,))
    return CountingQuery(wrap_classifier(module, input=InputSpec(size=(4, 4)), head=head), rows=rows)


@pytest.fixture
def images():
    return torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_gradient_is_that_of_the_weighted_margins(images):
    module = Linear()
    weights = torch.linspace(-1, 1, 10)[:, None]
    margins, gradient = query(module).margins_and_gradient(images, weights)
    torch.testing.assert_close(margins, module(images).detach())
    expected = weights[:, :, None, None] * module.weight.detach().reshape(1, 1, 4, 4)
    torch.testing.assert_close(gradient, expected)
    assert module.weight.grad is None
    assert not margins.requires_grad


def test_out_of_memory_halves_the_rows_and_gives_the_same_numbers(images):
    whole = query(Linear()).margins(images)
    small = query(Linear(most=3))
    assert torch.equal(small.margins(images), whole)
    assert small.rows <= 3
    small.classifier.module.asked.clear()
    small.margins(images)
    assert max(small.classifier.module.asked) <= 3  # what was learned is kept


def test_one_row_that_does_not_fit_is_an_error(images):
    with pytest.raises(ModelError, match="too little memory for one image"):
        query(Linear(most=0)).margins(images)


def test_passes_are_counted_by_row(images):
    asked = query(Linear(), rows=4)
    asked.margins(images)
    asked.margins_and_gradient(images[:3], torch.ones(3, 1))
    assert (asked.forwards, asked.backwards) == (13, 3)


def test_a_cut_graph_has_a_zero_gradient(images):
    class Cut(Linear):
        def forward(self, x):
            return super().forward(x).detach()

    _, gradient = query(Cut()).margins_and_gradient(images, torch.ones(10, 1))
    assert torch.equal(gradient, torch.zeros_like(images))


def test_rows_do_not_change_the_numbers(images):
    reference = query(Linear()).margins(images)
    for rows in (1, 3, 7, 10):
        torch.testing.assert_close(query(Linear(), rows=rows).margins(images), reference, rtol=0, atol=1e-6)


class Two(Linear):
    """Two logits, w·x and -2 w·x²; runs out of memory like a linear one."""

    def forward(self, x):
        return torch.cat([super().forward(x), -2 * (x.flatten(1).square() * self.weight).sum(1, keepdim=True)], dim=1)


def two_findings(module, rows=256):
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("f", "g"), thresholds=(0.3, 0.7))
    return CountingQuery(wrap_classifier(module, input=InputSpec(size=(4, 4)), head=head), rows=rows)


def smallest(margins, rows):
    """Weight 1 on the smallest margin of a row, so that the weighted sum is the smallest margin."""
    del rows
    return torch.nn.functional.one_hot(margins.argmin(1), margins.shape[1]).float()


def test_weights_may_be_chosen_from_the_margins(images):
    asked = two_findings(Two())
    margins, gradient = asked.margins_and_gradient(images, smallest)
    leaf = images.clone().requires_grad_(True)
    least = asked.classifier.margins(leaf).amin(1)
    (expected,) = torch.autograd.grad(least.sum(), leaf)
    torch.testing.assert_close(margins, asked.margins(images))
    torch.testing.assert_close(gradient, expected)
    assert 0 < int(margins.argmin(1).sum()) < len(images)  # either finding is the smaller one somewhere


@pytest.mark.parametrize(("most", "rows"), [(10**9, 3), (10**9, 1), (3, 256), (1, 7)])
def test_chosen_weights_see_the_margins_of_their_own_rows(images, most, rows):
    own = torch.linspace(-1, 1, 20).reshape(10, 2)
    reference, _ = two_findings(Two()).margins_and_gradient(images, own)

    def weigh(margins, at):
        assert at.dtype == torch.int64
        assert not margins.requires_grad
        torch.testing.assert_close(margins, reference[at])
        return own[at]

    margins, gradient = two_findings(Two(most), rows).margins_and_gradient(images, weigh)
    torch.testing.assert_close(margins, reference)
    torch.testing.assert_close(gradient, two_findings(Two()).margins_and_gradient(images, own)[1])


def test_weights_that_depend_on_the_margins_are_held_fixed(images):
    asked = two_findings(Two())
    _, gradient = asked.margins_and_gradient(images, lambda margins, _rows: margins)
    _, fixed = asked.margins_and_gradient(images, asked.margins(images))
    torch.testing.assert_close(gradient, fixed)  # not twice as large, as the gradient of the squares would be


def test_a_cut_graph_has_a_zero_gradient_also_with_chosen_weights(images):
    class Cut(Two):
        def forward(self, x):
            return super().forward(x).detach()

    _, gradient = two_findings(Cut()).margins_and_gradient(images, smallest)
    assert torch.equal(gradient, torch.zeros_like(images))
