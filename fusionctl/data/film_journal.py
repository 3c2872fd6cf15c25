"""Which blocks of the film cache are on disk: one line a block, in one file for each job that fills the cache.

A line is written only after the disk has confirmed the block's data. A line that a kill tore is ignored: its block
is read again.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

SYNC_SECONDS = 3.0  # a sync costs the decoding nothing this seldom, and a kill loses no more than this much work
_fdatasync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True)
class Block:
    """One block that is done.

    Attributes:
        block: its number.
        crc32: checksum of its bytes, to find out later whether storage kept them.
        unreadable: why a film could not be read, by row of the whole cache.
        n_dicom: its films that were DICOM files.
    """

    block: int
    crc32: int
    unreadable: dict[int, str] = field(default_factory=dict)
    n_dicom: int = 0


class Journal:
    """One job's journal, appended to. Use as a context manager: leaving it, even by an error, records what is done.

    Args:
        path: file of this job alone.
        data: file that the blocks are in.
    """

    def __init__(self, path: Path, data: Path) -> None:
        self._pending: list[Block] = []
        self._synced = time.monotonic()
        self._data = os.open(data, os.O_WRONLY)
        self._file = path.open("ab")
        if self._file.tell():
            self._file.write(b"\n")  # ends a line that a kill tore

    def add(self, block: Block) -> None:
        """Record a block whose data have been written."""
        self._pending.append(block)
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Force the data to disk, then write the lines of their blocks."""
        if self._pending:
            _fdatasync(self._data)
            self._file.write("".join(json.dumps(asdict(block)) + "\n" for block in self._pending).encode())
            self._file.flush()
        self._pending, self._synced = [], time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            os.close(self._data)
            self._file.close()


def path_of(folder: Path, shard: tuple[int, int]) -> Path:
    """Where share i of n keeps its journal."""
    return folder / f"journal-{shard[0]}-of-{shard[1]}.jsonl"


def read_all(folder: Path) -> dict[int, Block]:
    """The blocks that any job has recorded, by number. Of two records of a block the one with more films counts."""
    found: dict[int, Block] = {}
    for path in paths(folder):
        for line in path.read_bytes().split(b"\n"):
            block = _parse(line)
            if block and (known := found.get(block.block, block)) and len(block.unreadable) <= len(known.unreadable):
                found[block.block] = block
    return found


def paths(folder: Path) -> list[Path]:
    """Every job's journal."""
    return sorted(folder.glob("journal-*-of-*.jsonl"))


def _parse(line: bytes) -> Block | None:
    try:
        entry = json.loads(line)
        unreadable = {int(row): str(reason) for row, reason in entry["unreadable"].items()}
        return Block(int(entry["block"]), int(entry["crc32"]), unreadable, int(entry["n_dicom"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
