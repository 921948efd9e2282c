"""The run folder: atomic, locked, verified, and never mixed."""

import numpy as np
import pytest
import torch

from robustbench_rad.errors import RunFolderBusyError, RunFolderError
from robustbench_rad.runs import Identity, RunFolder
from robustbench_rad.scores import Chunk, Column, Quantity, ScoreTable

IDENTITY = Identity(plan="p" * 64, model="m" * 64, data="d" * 64)


def chunk(cases=("a", "b")):
    return Chunk(
        cases=cases,
        columns=(Column(condition="clean", level="", finding="f"),),
        margins=np.arange(len(cases), dtype=np.float32)[:, None],
        quantities=(Quantity(condition="shift", name="noise_sd"),),
        values=np.full((len(cases), 1), 0.5, np.float32),
        passes={"shift": (2, 1)},
        full_search=(("attack", "1/255"),),
        reasons=(("shift", "0.5", "no spacing"),),
    )


def test_a_chunk_comes_back_as_it_was(tmp_path):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        run.write_chunk(0, chunk())
        back = run.read_chunk(0, ["a", "b"])
    assert back.cases == ("a", "b")
    assert back.columns == chunk().columns
    assert back.reasons == chunk().reasons
    np.testing.assert_array_equal(back.margins, chunk().margins)


def test_case_ids_are_hashed_on_disk_and_the_salt_is_shared_by_siblings(tmp_path):
    with RunFolder.open(tmp_path / "one", IDENTITY, chunk_size=2) as run:
        run.write_chunk(0, chunk(("patient-smith", "b")))
        first = run.hashed("patient-smith")
        assert b"smith" not in run.chunk_path(0).read_bytes()
    with RunFolder.open(tmp_path / "two", IDENTITY, chunk_size=2) as run:
        assert run.hashed("patient-smith") == first
    with RunFolder.open(tmp_path / "elsewhere" / "run", IDENTITY, chunk_size=2) as run:
        assert run.hashed("patient-smith") != first


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_chunk_is_named(tmp_path, damage):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        run.write_chunk(0, chunk())
        path = run.chunk_path(0)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:40]), "empty": b""}[damage])
        with pytest.raises(RunFolderError, match=r"000000\.npz: damaged"):
            run.read_chunk(0, ["a", "b"])


def test_a_chunk_of_other_cases_is_refused(tmp_path):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        run.write_chunk(0, chunk())
        with pytest.raises(RunFolderError, match="other cases"):
            run.read_chunk(0, ["a", "c"])


@pytest.mark.parametrize("part", ["plan", "model", "data"])
def test_another_audit_is_refused_by_name(tmp_path, part):
    from dataclasses import replace

    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2):
        pass
    other = replace(IDENTITY, **{part: "x" * 64})
    with pytest.raises(RunFolderError, match=f"another {part}"), RunFolder.open(tmp_path / "run", other, chunk_size=2):
        pass


def test_two_processes_cannot_work_in_one_folder(tmp_path):
    with (
        RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2),
        pytest.raises(RunFolderBusyError),
        RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2),
    ):
        pass


def test_the_chunk_size_of_the_first_attempt_holds(tmp_path):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2):
        pass
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=99) as run:
        assert run.chunk_size == 2


def test_what_a_condition_learned_comes_back(tmp_path):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        assert run.read_state("shortcut.x") is None
        run.write_state("shortcut.x", {"mean": torch.arange(6.0).reshape(2, 3)})
        assert torch.equal(run.read_state("shortcut.x")["mean"], torch.arange(6.0).reshape(2, 3))


def test_a_complete_run_keeps_nothing_that_was_learned_from_images(tmp_path):
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        run.write_state("shortcut.x", {"donors": torch.ones(2)})
        run.write_chunk(0, chunk())
        run.finish()
        assert not (run.path / "states").exists()
        assert run.chunk_path(0).is_file()
    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        assert run.read_state("shortcut.x") is None
        run.finish()


def test_a_write_that_is_cut_short_leaves_no_chunk(tmp_path, monkeypatch):
    def cut(_handle):
        raise KeyboardInterrupt

    with RunFolder.open(tmp_path / "run", IDENTITY, chunk_size=2) as run:
        monkeypatch.setattr("os.fsync", cut)
        with pytest.raises(KeyboardInterrupt):
            run.write_chunk(0, chunk())
        assert not run.chunk_path(0).exists()


def test_chunks_join_in_the_order_of_the_cases_and_what_is_absent_is_nan():
    table = ScoreTable.join([chunk(("b", "c"))], ["a", "b", "c"])
    np.testing.assert_array_equal(table.clean("f"), [np.nan, 0, 1])
    assert np.isnan(table.margins("never", "run", "f")).all()
    assert table.reasons == {("shift", "0.5"): "no spacing"}
