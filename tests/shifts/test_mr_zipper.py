"""A zipper in MR: one line, its strength, and another phase in every line of k-space."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.mr_zipper import MrZipper


@pytest.mark.parametrize(("encoding", "axis"), [("column", -2), ("row", -1)])
def test_interference_stays_in_its_line_and_has_the_requested_strength(physical_batch, run, encoding, axis):
    images = torch.zeros(2, 1, 2048, 64) if axis == -2 else torch.zeros(2, 1, 64, 2048)
    images.narrow(-3 - axis, 0, 2)[...] = 0.5  # tissue, so that the strength has a meaning
    batch = physical_batch(images, unit=Unit.MAGNITUDE)
    variants, measured = run(MrZipper(phase_encoding=encoding), batch)
    for variant in variants:
        for case in range(2):
            place = int(measured["zipper_position", variant.level.name][case])
            added = variant.images[case, 0].select(-3 - axis, place)
            assert 100 * added.square().mean().sqrt().item() / 0.5 == pytest.approx(variant.level.value, rel=0.05)
            assert added.mean().item() / added.square().mean().sqrt().item() == pytest.approx(
                0.886, abs=0.02
            )  # Rayleigh
            far = (torch.arange(64) - place).abs() > 4
            far[:2] = False
            rest = variant.images[case, 0].movedim(-3 - axis, 0)[far]
            assert rest.max() < 1e-3 * variant.level.value


def test_neighbouring_lines_are_independent(physical_batch, run):
    batch = physical_batch(torch.ones(1, 1, 1024, 32), unit=Unit.MAGNITUDE)
    variants, measured = run(MrZipper(), batch)
    line = variants[0].images[0, 0, :, int(measured["zipper_position", "2"])]
    centred = line - line.mean()
    assert abs((centred[1:] * centred[:-1]).mean() / centred.square().mean()) < 0.1


def test_slices_have_the_zipper_at_one_place(physical_batch, run):
    batch = physical_batch(torch.ones(1, 1, 3, 32, 32), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0, 1.0))
    variants, measured = run(MrZipper(), batch)
    change = (variants[-1].images - 1.0).abs().mean((0, 1, 3))
    assert (change.argmax(1) - measured["zipper_position", "40"]).abs().max() <= 1
    assert not torch.equal(change[0], change[1])
