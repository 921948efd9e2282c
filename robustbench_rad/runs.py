"""The run folder: what a killed audit continues from, and what refuses to be mixed with another audit.

::

    run.json          what is being run, by hash; status
    states/*.npz      what conditions learned from the whole set; only until the run is complete
    chunks/*.npz      scores, one file per finished chunk
    judging.npz       what judging needs beside the scores, once the pass is complete
    result.json       the result, once complete; reports beside it
    undefended/       a run of the same model without its defences, when the plan declares some

Case ids in chunk files are salted hashes. The salt lies beside the run folders and is never part of a report. States name
patients by the same salted hashes, but some hold images (donors, references): they serve a stopped run alone, are removed when
it is complete, whatever the plan says of images, and can be made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from robustbench_rad.errors import RunFolderBusyError, RunFolderError
from robustbench_rad.scores import Chunk, write_atomic

if TYPE_CHECKING:
    from robustbench_rad.conditions import State

SALT_FILE = ".robustbench-rad-salt"
STALE = "The folder holds a run of something else: choose another --run-folder, or delete this one."


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a run is a run of, by hash.

    Attributes:
        plan: What is measured: conditions, levels, seed, input and head, kind of device.
        model: Weights.
        data: Case ids, labels and image files.
    """

    plan: str
    model: str
    data: str

    @property
    def sha256(self) -> str:
        """One hash of all."""
        return hashlib.sha256(f"{self.plan}/{self.model}/{self.data}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """An open run folder, locked by this process."""

    path: Path
    salt: bytes
    started: str
    chunk_size: int

    @classmethod
    @contextmanager
    def open(cls, path: Path, identity: Identity, *, chunk_size: int, within: Path | None = None) -> Iterator[Self]:
        """Create the folder or continue in it.

        Args:
            path: The folder.
            identity: What it is a run of.
            chunk_size: Cases per chunk; a run that is continued keeps its own.
            within: The run folder that this one is part of: they share the salt, which lies outside both.

        Raises:
            RunFolderError: It belongs to another plan, model or data set; another process works in it; it cannot be
                written.
        """
        try:
            for folder in (path, path / "chunks", path / "states"):
                folder.mkdir(parents=True, exist_ok=True)
            salt = _salt((within or path).parent)
            with _locked(path):
                header = _header(path, identity, chunk_size)
                yield cls(path=path, salt=salt, started=header["started"], chunk_size=header["chunk_size"])
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise _not_writable(path, error) from error
        except OSError as error:
            if error.errno in (28, 30, 122):  # no space, read-only, quota
                raise _not_writable(path, error) from error
            raise

    def hashed(self, name: str) -> str:
        """Salted hash of the id of a case or a patient."""
        return hashlib.sha256(self.salt + name.encode()).hexdigest()[:24]

    def chunk_path(self, number: int) -> Path:
        """File of a chunk."""
        return self.path / "chunks" / f"{number:06d}.npz"

    def read_state(self, condition: str) -> State | None:
        """What a condition learned in an earlier attempt, or None."""
        import torch

        path = self.path / "states" / f"{condition}.npz"
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: damaged: {error}", hint="Delete this file and run again.") from error

    def write_state(self, condition: str, state: State) -> None:
        """Keep what a condition learned."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
        np.savez(buffer, **arrays)
        write_atomic(self.path / "states" / f"{condition}.npz", buffer.getvalue())

    def chunks(self, cases: Sequence[Sequence[str]]) -> Iterator[Chunk]:
        """Read all chunks back, with case ids in the clear again."""
        for number, members in enumerate(cases):
            yield self.read_chunk(number, members)

    def read_chunk(self, number: int, members: Sequence[str]) -> Chunk:
        """Read one chunk and put the case ids back.

        Raises:
            RunFolderError: Damaged, or not of these cases.
        """
        from dataclasses import replace

        chunk = Chunk.read(self.chunk_path(number))
        if chunk.cases != tuple(self.hashed(case) for case in members):
            raise RunFolderError(f"{self.chunk_path(number)}: holds other cases than this run", hint=STALE)
        return replace(chunk, cases=tuple(members))

    def write_chunk(self, number: int, chunk: Chunk) -> None:
        """Write one chunk atomically, case ids hashed."""
        from dataclasses import replace

        replace(chunk, cases=tuple(self.hashed(case) for case in chunk.cases)).write(self.chunk_path(number))

    def finish(self) -> None:
        """Mark the run complete, and remove what only a stopped run needs and what holds images."""
        shutil.rmtree(self.path / "states")
        header = json.loads((self.path / "run.json").read_text("utf-8"))
        _write_header(self.path, {**header, "status": "complete"})


def _not_writable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: cannot be written: {error.strerror}", hint="Choose another place with --run-folder FOLDER."
    )


def _salt(parent: Path) -> bytes:
    path = parent / SALT_FILE
    try:
        with path.open("xb") as file:
            file.write(secrets.token_bytes(16))
    except FileExistsError:
        pass
    return path.read_bytes()


def _header(path: Path, identity: Identity, chunk_size: int) -> dict[str, Any]:
    file = path / "run.json"
    if not file.exists():
        header = {
            "plan": identity.plan,
            "model": identity.model,
            "data": identity.data,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "chunk_size": chunk_size,
            "status": "started",
        }
        _write_header(path, header)
        return header
    try:
        header = json.loads(file.read_text("utf-8"))
        differing = [name for name in ("plan", "model", "data") if header[name] != getattr(identity, name)]
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{file}: not a run's header: {error}", hint=STALE) from error
    if differing:
        raise RunFolderError(f"{path}: was made with another {' and another '.join(differing)}", hint=STALE)
    return dict(header)


def _write_header(path: Path, header: Mapping[str, Any]) -> None:
    write_atomic(path / "run.json", (json.dumps(header, indent=1) + "\n").encode())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; the operating system gives it back when the process dies, however it dies."""
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    with (path / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderBusyError(
                f"{path}: another audit is running in it", hint="Wait for it, or choose another --run-folder."
            ) from error
        yield


def default_folder(stem: str, identity: Identity) -> Path:
    """Folder of a run when none is declared: the same plan on the same model and data finds its run again."""
    return Path(os.environ.get("ROBUSTBENCH_RAD_RUNS", "runs")) / f"{stem}-{identity.sha256[:8]}"
