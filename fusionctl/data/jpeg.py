"""JPEG files to grey pictures, decoded at the smallest scale that suffices."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fusionctl.errors import InputError

Film = npt.NDArray[np.uint8]

# MIMIC-CXR's largest film has 14 megapixels. Far more is a broken header or an attack on memory.
MAX_PIXELS = 100_000_000
SCALES = (8, 4, 2, 1)

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
    try:
        film = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[scale] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        film = None
    if film is None:
        raise UnreadableFilm("cannot be decoded; rule: intact JPEG files")
    return np.asarray(film, dtype=np.uint8)


def _parse(data: bytes) -> Header:
    if not data:
        raise UnreadableFilm("is empty; rule: JPEG files")
    if not data.startswith(b"\xff\xd8\xff"):
        raise UnreadableFilm("is not a JPEG image; rule: JPEG files")
    position, sides = 2, (0, 0)
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA and min(sides):  # start of scan
            return Header(*sides, position)
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            if data[position + 4] != 8:
                raise UnreadableFilm(f"has {data[position + 4]} bits a pixel; rule: 8-bit JPEG files")
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            sides = (width, height)
        position += 2 + length
    raise UnreadableFilm("is truncated or damaged: no image data after the JPEG header; rule: complete JPEG files")
