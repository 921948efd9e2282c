"""The engine: one queue for all cases and findings, full forwards, memory that runs out, files that hold no flip."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks import _climb
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.curve_linf import CurveLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.spatial import Spatial
from robustbench_rad.conditions import Space
from robustbench_rad.errors import ModelError

PGD = PgdLinf(levels=ladder("2/255", "4/255"), steps=12, random_starts=0)


@pytest.fixture(scope="module")
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=6, cases=64, seed=2)
    with torch.no_grad():
        return classifier, lab.batch(images, labels, clean_margins=classifier.margins(images))


def run(lab, bench, attack=PGD, **options):
    """The record, and the rows of each question."""
    classifier, batch = bench
    spy = lab.SpyQuery(classifier)
    climb = replace(Climb.of(attack, batch, spy, None), **options)
    climb.run()
    return climb.record, [len(planes) for planes in spy.planes]


def test_all_cases_and_findings_share_one_queue_so_that_late_forwards_are_still_full(lab, bench):
    mostly = replace(PGD, levels=ladder("16/255"), steps=20, step_rule="constant")
    whole, asked = run(lab, bench, mostly)
    parted, in_parts = run(lab, bench, mostly, max_rows=32)
    assert ((whole.margins[0] >= 0).float() != whole.labels).float().mean() > 0.6
    torch.testing.assert_close(whole.margins, parted.margins, equal_nan=True)
    assert sum(asked) == sum(in_parts)  # no row is paid for twice
    assert asked[0] == 64 * 6
    rows_at_once = 32
    forwards, in_parts = (sum(-(-rows // rows_at_once) for rows in counts) for counts in (asked, in_parts))
    assert in_parts > 2 * forwards


@pytest.mark.parametrize("attack", [PGD, CurveLinf(levels=ladder("1/255", "4/255"), steps=6)], ids=["climb", "hunt"])
def test_planes_that_do_not_fit_into_memory_are_halved_with_the_same_numbers(lab, bench, attack, monkeypatch):
    classifier, batch = bench
    reference = [variant.margins for variant in attack.apply(batch, lab.SpyQuery(classifier), None).variants]
    begun, original = [], _climb.begin
    module = "robustbench_rad.attacks._climb.begin" if attack is PGD else "robustbench_rad.attacks._minimal.begin"

    def small(images, *rest):
        begun.append(len(images))
        if len(images) > 100:
            raise torch.OutOfMemoryError("planes")
        return original(images, *rest)

    monkeypatch.setattr(module, small)
    halved = [variant.margins for variant in attack.apply(batch, lab.SpyQuery(classifier), None).variants]
    for one, other in zip(reference, halved, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    assert begun[:3] == [384, 192, 96]
    assert sum(rows for rows in begun if rows <= 100) == 384


def test_memory_for_not_even_one_plane_is_said(lab, bench, monkeypatch):
    def none(*_given):
        raise torch.OutOfMemoryError("planes")

    monkeypatch.setattr(_climb, "begin", none)
    with pytest.raises(ModelError, match="too little memory to attack one image"):
        run(lab, bench)


@pytest.mark.parametrize("attack", [PGD, CurveLinf(steps=4), Spatial(refinements=1)], ids=["pgd", "curve", "spatial"])
def test_a_flip_counts_in_stored_space_only_where_the_file_can_hold_it(lab, bench, attack):
    classifier, batch = bench
    held = tuple(row % 4 > 0 for row in range(len(batch)))
    stored = replace(batch, space=Space.STORED, on_grid=held, stored_bits=12)
    for variant in attack.apply(stored, lab.SpyQuery(classifier), None).variants:
        assert variant.applicable.tolist() == list(held)
        assert variant.margins[~variant.applicable].isnan().all()
        assert "no flip can be said to survive it" in variant.reason
    shown = replace(stored, space=Space.DISPLAY, on_grid=())
    assert all(variant.applicable.all() for variant in attack.apply(shown, lab.SpyQuery(classifier), None).variants)


def test_every_reason_that_keeps_a_case_out_is_said(lab, bench):
    classifier, batch = bench
    anatomy = torch.ones_like(batch.images, dtype=torch.bool)
    anatomy[:5] = False
    held = (False,) * 3 + (True,) * 61
    stored = replace(batch, space=Space.STORED, on_grid=held, anatomy=anatomy)
    attack = PgdLinf(levels=ladder("0.4/255", "2/255"), steps=2, random_starts=0, mask="anatomy")
    small, large = attack.apply(stored, lab.SpyQuery(classifier), None).variants
    assert not small.applicable.any()
    said = ("survive it", "no anatomy mask is declared", "less than one grey level of 8")
    assert all(reason in small.reason for reason in said)
    assert large.applicable.sum() == 59
    assert [reason in large.reason for reason in said] == [True, True, False]
