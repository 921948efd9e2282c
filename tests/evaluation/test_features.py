"""Penultimate features: read in the clean pass, for the conditions that want them, and kept with the scores."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from robustbench_rad.conditions import Applied, CaseVector, Condition, Space


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


@dataclass(frozen=True, kw_only=True)
class Features(Condition):
    id, version, space = "test.features", 1, Space.DISPLAY

    @property
    def reads_features(self):
        return True

    def apply(self, batch, query, state):
        del query, state
        known = batch.clean_features
        return Applied(variants=iter(()), vectors=[] if known is None else [CaseVector(name="features", values=known)])


@dataclass(frozen=True, kw_only=True)
class Blind(Features):
    id = "test.blind"

    @property
    def reads_features(self):
        return False


def test_features_come_with_the_clean_pass_and_are_kept_whatever_the_batches(lab):
    module, cases = Linear(), lab.films(count=5)
    one = lab.evaluator(module=module, conditions=(Features(), Blind()), batch_size=5)
    two = lab.evaluator(module=module, conditions=(Features(), Blind()), batch_size=2, rows=3)
    left, right = one.chunk(cases), two.chunk(cases)
    assert list(left.vectors) == [("test.features", "features")]
    features = left.vectors["test.features", "features"]
    assert features.shape == (5, 4)
    np.testing.assert_allclose(features, right.vectors["test.features", "features"], rtol=1e-6)
    display = one.display_batch(cases).images
    np.testing.assert_allclose(features, one.classifier.features(display).numpy(), rtol=1e-6)
    assert one.query.forwards == 5  # the features cost no pass of their own


def test_a_model_without_layers_has_no_features_and_is_scored_all_the_same(lab):
    chunk = lab.evaluator(conditions=(Features(),)).chunk(lab.films())
    assert not chunk.vectors
    assert np.isfinite(chunk.margins).all()
