import torch

from robustbench_rad.seeds import derive_seed, generator, normal


def test_known_answer():
    # First eight bytes of SHA-256 over the parts joined by U+001F, halved: may never change, or old runs cannot resume.
    assert derive_seed(7, "shift.ct.dose", 1, "case-1") == 2442132364636016132
    assert derive_seed() == 8203414616412130826


def test_parts_are_kept_apart_and_ordered():
    seeds = {derive_seed("a", "bc"), derive_seed("ab", "c"), derive_seed("bc", "a"), derive_seed("abc")}
    assert len(seeds) == 4
    assert all(0 <= derive_seed(i) < 2**63 for i in range(200))


def test_generator_repeats_and_leaves_global_state():
    state = torch.get_rng_state()
    first = torch.rand(3, generator=generator("cpu", 1, "x"))
    assert torch.equal(first, torch.rand(3, generator=generator("cpu", 1, "x")))
    assert not torch.equal(first, torch.rand(3, generator=generator("cpu", 1, "y")))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_depends_on_its_own_seed_only():
    noise = normal((1, 4, 4), "cpu", [11, 22, 33], "shift.xr.dose", 1)
    assert noise.shape == (3, 1, 4, 4)
    assert torch.equal(noise[[2, 0]], normal((1, 4, 4), "cpu", [33, 11], "shift.xr.dose", 1))
    assert not torch.equal(noise, normal((1, 4, 4), "cpu", [11, 22, 33], "shift.xr.dose", 2))


def test_draws_are_standard_normal():
    values = normal((100, 100), "cpu", [5], "check")
    assert abs(values.mean()) < 0.04
    assert abs(values.std() - 1) < 0.04
