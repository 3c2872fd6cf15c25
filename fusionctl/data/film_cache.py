"""The film cache: every film once in one array, filled in fixed blocks by as many processes and jobs as asked.

    films.npy                (F, size, size) uint8 at its full size from the start; an unreadable film's row is black
    journal-<i>-of-<n>.jsonl blocks that job i of n has put there

Where a block lies, and what is in it, depends on its number alone: however the work is shared, and wherever a job was
killed, the file ends up with the same bytes.
"""

from __future__ import annotations

import shutil
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

import cv2
import joblib
import numpy as np

from fusionctl.data import film_file, film_journal
from fusionctl.data.film_journal import Block
from fusionctl.data.images import FilmFormat, FilmReader
from fusionctl.data.jpeg import UnreadableFilm
from fusionctl.errors import FusionctlError, InputError, UsageError

BLOCK_FILMS = 64  # a task of one process: 4 MiB of result at 256 x 256, about a second of work
PROCESSES_FROM_SECONDS = 5.0  # starting them takes about a second
_PROBED = 4  # films that tell how long the rest will take

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FilmCache:
    """A film cache that is being filled.

    Attributes:
        folder: where films.npy and the journals are.
        root: folder of MIMIC-CXR-JPG.
        paths: all films, relative to `root`; film i is row i of films.npy.
        form: format of the rows.
    """

    folder: Path
    root: Path
    paths: Sequence[str]
    form: FilmFormat

    @property
    def file(self) -> Path:
        """The array's file."""
        return self.folder / "films.npy"

    @property
    def n_blocks(self) -> int:
        """Number of blocks, the last of which may be shorter."""
        return -(-len(self.paths) // BLOCK_FILMS)

    def block_paths(self, block: int) -> Sequence[str]:
        """The films of a block."""
        return self.paths[block * BLOCK_FILMS : (block + 1) * BLOCK_FILMS]

    def fill(
        self,
        *,
        jobs: int,
        max_bad: float,
        shard: tuple[int, int] = (1, 1),
        progress: Progress = lambda done, total: None,
    ) -> dict[int, Block]:
        """Put every film of the share into its row, except those that are there already.

        Args:
            jobs: processes. `joblib.parallel_config` around the call chooses another kind of parallelism.
            max_bad: share of all films, 0 to 1, that may be unreadable.
            shard: which of how many shares; the blocks go round.
            progress: called with the films done and the films of the share.

        Returns:
            The share's blocks by number.

        Raises:
            FusionctlError: the disk has too little room.
            InputError: more films than `max_bad` allows cannot be read; says the first one's row, no id. What was
                read is kept.
            UsageError: the size does not fit CLAHE's tiles, or several jobs.
        """
        self._check_size(shard)
        self._prepare()
        share = range(shard[0] - 1, self.n_blocks, shard[1])
        done = self._recorded(share)
        todo = [block for block in share if block not in done]
        total = sum(len(self.block_paths(block)) for block in share)
        n_done = total - sum(len(self.block_paths(block)) for block in todo)
        unreadable = {film: reason for block in done.values() for film, reason in block.unreadable.items()}
        self._check_bad(unreadable, n_done, max_bad)
        progress(n_done, total)
        with film_journal.Journal(film_journal.path_of(self.folder, shard), self.file) as journal:
            for block in self._write_blocks(todo, jobs):
                journal.add(block)
                done[block.block] = block
                n_done += len(self.block_paths(block.block))
                unreadable |= block.unreadable
                self._check_bad(unreadable, n_done, max_bad)
                progress(n_done, total)
        return done

    def _check_size(self, shard: tuple[int, int]) -> None:
        self.form.check()
        if shard[1] > 1 and BLOCK_FILMS * self.form.size**2 % film_file.PAGE:
            raise UsageError(
                f"--film-size must be a multiple of 8 with --shard; got {self.form.size}",
                hint="blocks of other sizes share pages of the file, which two machines must not write at once",
            )

    def _prepare(self) -> None:
        """Make films.npy, after a look at the free space: better now than after an hour."""
        size = film_file.PAGE + len(self.paths) * self.form.size**2
        needed, free = film_file.missing_bytes(self.file, size), shutil.disk_usage(self.folder).free
        if needed > free:
            raise FusionctlError(
                f"{self.file}: {len(self.paths)} films of {self.form.size} x {self.form.size} need "
                f"{needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free",
                hint="free space, choose another --work-dir, or a smaller --film-size",
            )
        stale = film_journal.paths(self.folder)  # listed first: another job makes the file, then its journal
        if not self.file.exists():
            for path in stale:  # of a file that someone has removed
                path.unlink(missing_ok=True)
        film_file.create(self.file, (len(self.paths), self.form.size, self.form.size), np.uint8)

    def _recorded(self, share: range) -> dict[int, Block]:
        """What earlier jobs did, without the blocks in which a film that was unreadable then can be read now."""
        reader = FilmReader(self.root, self.form)
        recorded = {n: block for n, block in film_journal.read_all(self.folder).items() if n in share}
        return {n: b for n, b in recorded.items() if not any(self._readable(reader, f) for f in b.unreadable)}

    def _readable(self, reader: FilmReader, film: int) -> bool:
        try:
            reader.read(self.paths[film], np.empty((self.form.size, self.form.size), np.uint8))
        except UnreadableFilm:
            return False
        return True

    def _write_blocks(self, blocks: Sequence[int], jobs: int) -> Iterator[Block]:
        constant = self.file, self.root, self.form
        tasks = ((block, block * BLOCK_FILMS, self.block_paths(block), *constant) for block in blocks)
        if jobs == 1 or len(blocks) < 2 or not self._worthwhile(blocks):
            yield from starmap(_write_block, tasks)
            return
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
        results = parallel(joblib.delayed(_write_block)(*task) for task in tasks)
        try:
            for result in results:  # noqa: UP028 - with `yield from` a close would not pass through here
                yield result
        finally:
            with warnings.catch_warnings():  # after an error, that the other blocks were for nothing is no news
                warnings.simplefilter("ignore", UserWarning)
                results.close()

    def _worthwhile(self, blocks: Sequence[int]) -> bool:
        """Whether the work takes much longer than starting processes, judged by the first few films."""
        probed, started = self.block_paths(blocks[0])[:_PROBED], time.monotonic()
        unreadable = FilmReader(self.root, self.form).read_block(probed)[1]
        seconds = (time.monotonic() - started) / len(probed) * BLOCK_FILMS * len(blocks)
        return bool(unreadable) or seconds > PROCESSES_FROM_SECONDS  # what cannot be read is read fast

    def _check_bad(self, unreadable: Mapping[int, str], n_done: int, max_bad: float) -> None:
        allowed = int(max_bad * len(self.paths) + 1e-9)
        if len(unreadable) > allowed:
            first = min(unreadable)
            raise InputError(
                f"{self.root}: the film in row {first} of extract's films.parquet {unreadable[first]} "
                f"({len(unreadable)} bad among {n_done} of {len(self.paths)} films, --max-bad-films {max_bad:g} allows "
                f"{allowed})",
                hint="download the film again and run the same command: what was read is kept; "
                "or treat more films as absent with a higher --max-bad-films",
            )


def _write_block(block: int, first_row: int, paths: Sequence[str], file: Path, root: Path, form: FilmFormat) -> Block:
    """Read films and write them at their place, in any process that sees both folders."""
    cv2.setNumThreads(1)  # the processes are the parallelism
    reader = FilmReader(root, form)
    films, unreadable = reader.read_block(paths)
    film_file.write_rows(file, first_row, films)
    reasons = {first_row + row: reason for row, reason in unreadable.items()}
    return Block(block, zlib.crc32(films.data), reasons, reader.n_dicom)
