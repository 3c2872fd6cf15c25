"""JPEG films to one array of small grey images: decoded once, by as many processes as asked, the same bytes always."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import cv2
import joblib
import numpy as np
import numpy.typing as npt

from fusionctl.data.npy import NpyAppender
from fusionctl.errors import FusionctlError, InputError, UsageError

log = logging.getLogger("fusionctl")

Film = npt.NDArray[np.uint8]

# MIMIC-CXR's largest film has 14 megapixels. Far more is a broken header or an attack on memory.
MAX_PIXELS = 100_000_000
CLAHE_CLIP, CLAHE_TILES = 2.0, 8  # paper's reference code
BLOCK_FILMS = 64  # per task of a process: 4 MiB of result at 256 x 256
PROCESSES_FROM_SECONDS = 5.0  # starting them takes about a second
_LOGGED = 10  # bad films named in the log; all are counted

_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


def cache_films(
    root: Path,
    paths: Sequence[str],
    target: Path,
    *,
    size: int,
    clahe: bool,
    jobs: int,
    max_bad: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str | None]:
    """Write the readable films, in order, as rows of a .npy file of shape (F, size, size), uint8.

    Args:
        root: folder of MIMIC-CXR-JPG.
        paths: films, relative to `root`.
        target: file to write.
        size: side of the square films in pixels.
        clahe: equalise contrast locally.
        jobs: processes.
        max_bad: share of films, 0 to 1, that may be unreadable.
        progress: called with the films done and their total number.

    Returns:
        For each path None, or why that film could not be read.

    Raises:
        FusionctlError: the disk has too little room.
        InputError: more films than `max_bad` allows cannot be read; names the first.
        UsageError: `size` does not fit CLAHE's tiles.
    """
    if clahe and size % CLAHE_TILES:
        raise UsageError(f"--film-size must be a multiple of {CLAHE_TILES} with --clahe; got {size}")
    needed, free = len(paths) * size * size, shutil.disk_usage(target.parent).free
    if needed > free:  # better now than after an hour
        raise FusionctlError(
            f"{target}: {len(paths)} films of {size} x {size} need {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free",
            hint="free space, choose another --work-dir, or a smaller --film-size",
        )
    allowed, reasons = int(max_bad * len(paths) + 1e-9), list[str | None]()
    with NpyAppender(target, (size, size), np.uint8) as file:
        for films, block_reasons in _read_blocks(root, paths, size=size, clahe=clahe, jobs=jobs):
            file.append(films)
            reasons += block_reasons
            _check_bad(root, paths, reasons, allowed=allowed, max_bad=max_bad)
            progress(len(reasons), len(paths))
    _log_bad(paths, reasons)
    return reasons


def read_film(root: Path, path: str, *, size: int, clahe: bool) -> Film:
    """Read one film as (size, size) grey levels.

    Args:
        root: folder of MIMIC-CXR-JPG.
        path: the film, relative to `root`.
        size: side in pixels; both sides are scaled to it ("squeeze").
        clahe: equalise contrast locally.

    Raises:
        InputError: with the rule that the file breaks.
    """
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError("leaves the film folder; rule: paths stay inside --cxr-root")
    try:
        data = (root / relative).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    film = resize(decode(data, size=size), size=size)
    if clahe:
        return np.asarray(cv2.createCLAHE(CLAHE_CLIP, (CLAHE_TILES, CLAHE_TILES)).apply(film), dtype=np.uint8)
    return film


def decode(data: bytes, *, size: int) -> Film:
    """Decode a JPEG to grey at the smallest of the scales 1, 1/2, 1/4, 1/8 whose sides are still >= `size`.

    The scale is applied in the decoder's cosine transform, which is what makes it fast. EXIF orientation is ignored:
    MIMIC-CXR-JPG has none, and a stray tag must not turn a film.

    Args:
        data: content of the file.
        size: side wanted later, in pixels.

    Raises:
        InputError: not a JPEG, truncated, too large, or damaged.
    """
    width, height, scan = _jpeg_header(data)
    if width * height > MAX_PIXELS:
        raise InputError(f"has {width} x {height} pixels; rule: at most {MAX_PIXELS // 1_000_000} million")
    if data.rfind(b"\xff\xd9", scan) < 0:  # decoders fill the rest with grey and say nothing
        raise InputError("is truncated: the end-of-image marker is missing; rule: complete JPEG files")
    scale = next((s for s in (8, 4, 2) if -(-width // s) >= size and -(-height // s) >= size), 1)
    try:
        film = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[scale] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        film = None
    if film is None:
        raise InputError("cannot be decoded; rule: intact JPEG files")
    return np.asarray(film, dtype=np.uint8)


def resize(film: Film, *, size: int) -> Film:
    """Scale both sides to `size`: by area average, linearly where a side grows."""
    if film.shape == (size, size):
        return film
    method = cv2.INTER_AREA if min(film.shape) >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(film, (size, size), interpolation=method), dtype=np.uint8)


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the compressed data begin, without decoding anything."""
    if not data:
        raise InputError("is empty; rule: JPEG files")
    if not data.startswith(b"\xff\xd8\xff"):
        raise InputError("is not a JPEG image; rule: JPEG files")
    position, sides = 2, (0, 0)
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA and min(sides):  # start of scan
            return *sides, position
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            sides = (width, height)
        position += 2 + length
    raise InputError("is truncated or damaged: no image data after the JPEG header; rule: complete JPEG files")


def _read_blocks(
    root: Path, paths: Sequence[str], *, size: int, clahe: bool, jobs: int
) -> Iterator[tuple[Film, list[str | None]]]:
    # fixed blocks, results in order: the number of processes changes nothing in the file
    blocks = [paths[start : start + BLOCK_FILMS] for start in range(0, len(paths), BLOCK_FILMS)]
    started = time.monotonic()
    for block in blocks[:1]:
        yield _read_block(root, block, size, clahe)
    worthwhile = (time.monotonic() - started) * len(blocks) > PROCESSES_FROM_SECONDS
    parallel = joblib.Parallel(n_jobs=jobs if worthwhile else 1, return_as="generator")
    results = parallel(joblib.delayed(_read_block)(root, block, size, clahe) for block in blocks[1:])
    try:
        for result in results:  # noqa: UP028 - with `yield from` a close would not pass through here
            yield result
    finally:
        with warnings.catch_warnings():  # after a bad film, that the other blocks were for nothing is no news
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _read_block(root: Path, paths: Sequence[str], size: int, clahe: bool) -> tuple[Film, list[str | None]]:
    cv2.setNumThreads(1)  # the processes are the parallelism
    films, reasons, good = np.empty((len(paths), size, size), np.uint8), list[str | None](), 0
    for path in paths:
        try:
            films[good] = read_film(root, path, size=size, clahe=clahe)
            reasons.append(None)
            good += 1
        except InputError as error:
            reasons.append(error.message)
    return films[:good], reasons


def _check_bad(
    root: Path, paths: Sequence[str], reasons: Sequence[str | None], *, allowed: int, max_bad: float
) -> None:
    bad = [i for i, reason in enumerate(reasons) if reason is not None]
    if len(bad) > allowed:
        raise InputError(
            f"{root / _unnamed(paths[bad[0]])}: film {reasons[bad[0]]} ({len(bad)} bad among the first {len(reasons)} "
            f"of {len(paths)} films, --max-bad-films {max_bad:g} allows {allowed})",
            hint="download the film again, or treat some films as absent with --max-bad-films, say 0.01",
        )


def _unnamed(path: str) -> str:
    """The path with the patient's folder as a pattern: `ls` finds the film, and a message holds no patient's id."""
    parts = PurePosixPath(path).parts
    return str(PurePosixPath(*parts[:2], f"{parts[1]}*", *parts[3:])) if len(parts) == 5 else path


def _log_bad(paths: Sequence[str], reasons: Sequence[str | None]) -> None:
    bad = [(PurePosixPath(path).parent.name, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
    for study, reason in bad[:_LOGGED]:
        log.warning("film of study %s %s; treated as absent", study, reason)
    if len(bad) > _LOGGED:
        log.warning("%d more films treated as absent", len(bad) - _LOGGED)
