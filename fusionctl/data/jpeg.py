"""JPEG files to grey pictures, decoded at the smallest scale that suffices."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fusionctl.errors import InputError

Film = npt.NDArray[np.uint8]

# MIMIC-CXR's largest film has 14 megapixels. Far more is a broken header or an attack on memory.
MAX_PIXELS = 100_000_000
# Four times what an uncompressed film of that size could have.
MAX_BYTES = 256 << 20
# An encoder makes about ten. Each is a pass over the whole picture, and a few bytes are enough for one.
MAX_SCANS = 100
SCALES = (8, 4, 2, 1)

_STANDARD_ERROR = 2
_ALONE = threading.Lock()  # a process has one standard error: of two threads neither would hear its own film's
_COMPLAINT = re.compile(rb"(?:Corrupt JPEG data: |(?=Premature end of JPEG))([^\n]*)\n?")

_FLAGS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}


class UnreadableFilm(InputError):
    """One film cannot be used. The message says why and can follow "film ...": the caller knows which film."""


@dataclass(frozen=True)
class Header:
    """What stands before the compressed data: sides in pixels, and where those data begin in the file."""

    width: int
    height: int
    scan: int


def read_file(path: Path) -> bytes:
    """Content of a film file.

    Raises:
        UnreadableFilm: it is a pipe, a device or a folder, or too large.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for a writer
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFilm("is no file but a folder, a pipe or a device; rule: film files")
        if status.st_size > MAX_BYTES:
            raise UnreadableFilm(f"has {status.st_size / 1e6:,.0f} MB; rule: at most {MAX_BYTES / 1e6:.0f} MB")
        return file.read()


def read_header(data: bytes) -> Header:
    """Read a JPEG's header, without decoding anything.

    Raises:
        UnreadableFilm: not a JPEG, of a kind that is not read, too large, or truncated.
    """
    header = _parse(data)
    check_sides(header.width, header.height)
    if data.rfind(b"\xff\xd9", header.scan) < 0:  # decoders fill the rest with grey and say nothing
        raise UnreadableFilm("is truncated: the end-of-image marker is missing; rule: complete JPEG files")
    return header


def check_sides(width: int, height: int) -> None:
    """Refuse a picture that would take too much memory.

    Raises:
        UnreadableFilm: more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise UnreadableFilm(f"has {width} x {height} pixels; rule: at most {MAX_PIXELS // 1_000_000} million")


def decode(data: bytes, header: Header, *, width: int, height: int) -> Film:
    """Decode to grey at the smallest of the scales 1/8, 1/4, 1/2, 1 that leaves both sides as long as asked.

    The scale is applied in the decoder's cosine transform, which is what makes it fast. Colours (RGB, CMYK) become
    grey. EXIF orientation is ignored: MIMIC-CXR-JPG has none, and a stray tag must not turn a film.

    Args:
        data: content of the file.
        header: from `read_header`.
        width: least width wanted, in pixels; a picture that is smaller than that is decoded whole.
        height: least height wanted.

    Raises:
        UnreadableFilm: damaged.
    """
    scale = next((s for s in SCALES if -(-header.width // s) >= width and -(-header.height // s) >= height), 1)
    with _ALONE:
        film, complaint = _overheard(lambda: _decoded(data, _FLAGS[scale] | cv2.IMREAD_IGNORE_ORIENTATION))
    if complaint:
        raise UnreadableFilm(f"is damaged ({complaint}); rule: intact JPEG files")
    if film is None:
        raise UnreadableFilm("cannot be decoded; rule: intact JPEG files")
    return np.asarray(film, dtype=np.uint8)


def _decoded(data: bytes, flags: int) -> Any:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _overheard(decode: Callable[[], Any]) -> tuple[Any, str]:
    """Decode, and hear what the JPEG library complains of.

    Of data that are cut or garbled it makes a picture that is grey from there on, and says so on standard error alone.
    """
    try:
        usual = os.dup(_STANDARD_ERROR)
    except OSError:  # it is closed: there is nothing to hear
        return decode(), ""
    ear, mouth = os.pipe()
    os.set_blocking(ear, False)
    os.set_blocking(mouth, False)
    os.dup2(mouth, _STANDARD_ERROR)
    os.close(mouth)
    try:
        film = decode()
    finally:
        os.dup2(usual, _STANDARD_ERROR)
        os.close(usual)
        with open(ear, "rb", buffering=0) as file:
            said = file.read() or b""
    complaint = _COMPLAINT.search(said)
    if rest := _COMPLAINT.sub(b"", said):
        os.write(_STANDARD_ERROR, rest)
    return film, complaint[1].decode("ascii", "replace") if complaint else ""


def _parse(data: bytes) -> Header:
    if not data:
        raise UnreadableFilm("is empty; rule: JPEG files")
    if not data.startswith(b"\xff\xd8\xff"):
        raise UnreadableFilm("is not a JPEG image; rule: JPEG files")
    position, sides, passes = 2, (0, 0), False
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA and min(sides):  # start of scan
            if passes and (scans := data.count(b"\xff\xda", position)) > MAX_SCANS:
                raise UnreadableFilm(f"has {scans} scans; rule: at most {MAX_SCANS}")
            return Header(*sides, position)
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            if data[position + 4] != 8:
                raise UnreadableFilm(f"has {data[position + 4]} bits a pixel; rule: 8-bit JPEG files")
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            sides = (width, height)
            passes = marker == 0xC2 or data[position + 9 : position + 10] > b"\1"  # progressive, or of several colours
        position += 2 + length
    raise UnreadableFilm("is truncated or damaged: no image data after the JPEG header; rule: complete JPEG files")
