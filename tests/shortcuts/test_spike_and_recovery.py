"""The spike: what is implanted, what its detector sees, and what is kept of every audit's images."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Level, Space, Variant
from robustbench_rad.errors import PlanError
from robustbench_rad.shortcuts import _spike
from robustbench_rad.shortcuts.masked_anatomy import MaskedAnatomy
from robustbench_rad.shortcuts.spike_and_recovery import CLEAN, MARGINS, SEEN, SpikeAndRecovery, vector_name


class Reader:
    """Asks a linear model: the mean of the lower half, and ten times that of the upper left corner."""

    findings = ("body", "corner")

    def __init__(self):
        self.rows = 0

    def margins(self, images):
        self.rows += len(images)
        lower = images[..., images.shape[-2] // 2 :, :].flatten(1).mean(1)
        return torch.stack([lower, 10 * images[..., :6, :6].flatten(1).mean(1)], dim=1)


def batch(count=6, side=64):
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.05 * torch.randn(count, 1, side, side, generator=generator)
    mask = torch.zeros(count, 1, side, side, dtype=torch.bool)
    mask[..., side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = True
    names = tuple(f"c{row}" for row in range(count))
    return Batch(
        images=images.clamp(0, 1),
        labels=torch.tensor([[1.0, 0.0]]).expand(count, 2),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(count)),
        space=Space.DISPLAY,
        anatomy=mask,
    )


@pytest.mark.parametrize("shape", [(3, 1, 20, 20), (2, 1, 224, 160), (2, 1, 5, 64, 64), (1, 1, 4, 4)])
def test_the_detector_gives_one_where_the_marker_is_and_is_linear(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    marked = _spike.implanted(images)
    torch.testing.assert_close(_spike.response(marked), torch.ones(shape[0], dtype=torch.float64))
    torch.testing.assert_close(
        _spike.response(0.5 * images + 0.5 * marked), 0.5 * _spike.response(images) + 0.5, rtol=0, atol=1e-6
    )
    assert (marked != images).flatten(1).float().mean() <= (_spike.SIDE_FRACTION + 4 / min(shape[-2:])) ** 2
    assert not _spike.response(torch.full(shape, 0.7)).any()


def test_marked_images_are_asked_plain_and_under_every_judged_level():
    given, query = batch(), Reader()
    audit = MaskedAnatomy(donors=3)
    spike = SpikeAndRecovery().among((audit,))
    state = {f"{audit.id}/{name}": value for name, value in audit.fit(None, iter([given])).items()}
    applied = spike.apply(given, query, state)
    assert not list(applied.variants)
    kept = {vector.name: vector.values for vector in applied.vectors}
    levels = ("atlas-mean", "atlas-blur", "atlas-donor")
    names = [(CLEAN, ""), *((audit.id, level) for level in levels)]
    assert set(kept) == {vector_name(*name, quantity) for name in names for quantity in (MARGINS, SEEN)}
    assert query.rows == spike.passes(2) * len(given) == 4 * len(given)
    marked = replace(given, images=_spike.implanted(given.images))
    torch.testing.assert_close(kept[vector_name(CLEAN, "", MARGINS)], query.margins(marked.images))
    own_state = {name.partition("/")[2]: value for name, value in state.items()}
    for variant in audit.apply(marked, None, own_state).variants:
        if variant.level.name in levels:
            found = kept[vector_name(audit.id, variant.level.name, MARGINS)]
            torch.testing.assert_close(found, query.margins(variant.images))
    for name in names:
        seen = kept[vector_name(*name, SEEN)]
        assert seen[:, 1].allclose(torch.ones(6), atol=1e-5)  # the corner is outside of the anatomy
        assert seen[:, 0].abs().max() < 0.3


def test_a_level_without_meaning_is_left_out_and_other_cases_keep_theirs():
    class Half(MaskedAnatomy):
        def apply(self, batch, query, state):
            images = [
                Variant(
                    level=Level(name="atlas-mean", value=0, unit="fill"),
                    images=batch.images,
                    applicable=torch.arange(len(batch)) < 2,
                ),
                Variant(
                    level=Level(name="atlas-blur", value=1, unit="fill"), margins=torch.full((len(batch), 2), torch.nan)
                ),
            ]
            return replace(super().apply(batch, query, None), variants=iter(images))

    kept = {v.name: v.values for v in SpikeAndRecovery().among((Half(),)).apply(batch(), Reader(), None).vectors}
    margins = kept[vector_name(Half.id, "atlas-mean", MARGINS)]
    assert margins[:2].isfinite().all()
    assert margins[2:].isnan().all()
    assert vector_name(Half.id, "atlas-blur", MARGINS) not in kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strengths": []}, "strengths must rise"),
        ({"strengths": [0.2, 0.1]}, "strengths must rise"),
        ({"association": 0.5}, "association must be between"),
        ({"draws": 0}, "draws must be 1"),
        ({"highest_limit": 0}, "highest_limit must be above 0"),
        ({"levels": [1.0]}, "strengths"),
        ({"beside": []}, "unknown option 'beside'"),
    ],
)
def test_nonsense_is_refused(options, said):
    with pytest.raises(PlanError, match=said):
        SpikeAndRecovery.from_options(options)
