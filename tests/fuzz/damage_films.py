"""Damages to the film files. A film that cannot be used is counted, and ends the run above a share of them."""

from __future__ import annotations

import gzip
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from broken_tree import BrokenTree
from damages import damage
from outcome import Error, Outcome, Read, Same, Warned

_ONE_BAD = r"films: 34 films, 1 of them unreadable"


def _refused(says: str) -> Error:
    return Error(says + r".*\(1 bad among \d+ of 34 films, --max-bad-films 0\.01 allows 0\)", file="mimic-cxr-jpg")


def film(name: str, outcome: Outcome, change: Callable[[bytes], bytes]) -> None:
    """A kind that changes the bytes of one film; if that is refused, also the kind in which it is treated as absent."""

    @damage("films", outcome, name=f"film {name}")
    def _(tree: BrokenTree) -> None:
        tree.put_film(change(tree.films()[3].read_bytes()), 3)

    if isinstance(outcome, Error):

        @damage("films treated as absent", Warned(_ONE_BAD), name=f"film {name}, treated as absent")
        def _(tree: BrokenTree) -> None:
            tree.put_film(change(tree.films()[3].read_bytes()), 3)
            tree.arguments += ["--max-bad-films", "0.1"]


def picture(height: int, width: int, channels: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = ".jpg", *flags: int) -> bytes:
    return cv2.imencode(kind, pixels, list(flags))[1].tobytes()


def cmyk() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture(64, 64, 4), mode="CMYK").save(out, "JPEG")
    return out.getvalue()


def with_sides(data: bytes, height: int, width: int) -> bytes:
    """The film with other sides in the header of its frame."""
    place = min(i for i in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if i > 0)
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def in_frame(data: bytes, offset: int, value: int) -> bytes:
    place = data.find(b"\xff\xc0")
    return data[: place + offset] + bytes([value]) + data[place + offset + 1 :]


def scan_at(data: bytes) -> int:
    return data.find(b"\xff\xda")


_TRUNCATED, _NO_JPEG = _refused("is truncated"), _refused("is not a JPEG image")
film("cut in half", _TRUNCATED, lambda d: d[: len(d) // 2])
film("cut by two bytes", _TRUNCATED, lambda d: d[:-2])
film("cut inside its header", _TRUNCATED, lambda d: d[:100])
film("of three bytes", _TRUNCATED, lambda d: d[:3])
film("empty", _refused("is empty"), lambda d: b"")
film("of zeros", _NO_JPEG, lambda d: bytes(len(d)))
film("of text", _NO_JPEG, lambda d: b"<html>Log in</html>")
film("compressed", _NO_JPEG, gzip.compress)
film("as PNG", _NO_JPEG, lambda d: encoded(picture(64, 64), ".png"))
film("as 16-bit PNG", _NO_JPEG, lambda d: encoded(picture(64, 64).astype(np.uint16) * 257, ".png"))
film("as TIFF", _NO_JPEG, lambda d: encoded(picture(64, 64), ".tiff"))
film("as WebP", _NO_JPEG, lambda d: encoded(picture(64, 64), ".webp"))
film("as JPEG 2000", _NO_JPEG, lambda d: encoded(picture(64, 64), ".jp2"))
film("behind rubbish", _NO_JPEG, lambda d: b"rubbish" + d)
film("cut in half with an end put on it", _refused("is damaged"), lambda d: d[: len(d) // 2] + b"\xff\xd9")
film("zeros in its middle", _refused("is damaged"), lambda d: d[: len(d) // 2] + bytes(200) + d[len(d) // 2 + 200 :])
film("without its Huffman tables, which are the usual ones", Read(), lambda d: d.replace(b"\xff\xc4", b"\xff\xe7"))
film("without quantisation", _refused("(cannot be decoded|is damaged)"), lambda d: d.replace(b"\xff\xdb", b"\xff\xe7"))
film("with 12 bits", _refused("has 12 bits"), lambda d: in_frame(d, 4, 12))
film("with 16 bits", _refused("has 16 bits"), lambda d: in_frame(d, 4, 16))
film("with 0 components", _refused("(cannot be decoded|is damaged|is truncated)"), lambda d: in_frame(d, 9, 0))
film("with 200 components", _refused("(cannot be decoded|is damaged|is truncated)"), lambda d: in_frame(d, 9, 200))
film("of 0 x 0 pixels", _refused("(is truncated|has 0)"), lambda d: with_sides(d, 0, 0))
film(
    "of 30,000 x 30,000 pixels in its header",
    _refused("has 30000 x 30000 pixels"),
    lambda d: with_sides(d, 30_000, 30_000),
)
film(
    "of 65,500 x 65,500 pixels in its header",
    _refused("has 65500 x 65500 pixels"),
    lambda d: with_sides(d, 65_500, 65_500),
)
film("of 30,000 x 3,000 pixels in its header", _refused("is damaged"), lambda d: with_sides(d, 3_000, 30_000))
film("of 30,000 x 1 pixels in its header", _refused("is (damaged|truncated)"), lambda d: with_sides(d, 1, 30_000))
film("lossless", _refused("(cannot be decoded|is damaged)"), lambda d: d.replace(b"\xff\xc0", b"\xff\xc3", 1))
film(
    "coded arithmetically", _refused("(cannot be decoded|is damaged)"), lambda d: d.replace(b"\xff\xc0", b"\xff\xc9", 1)
)
film("with a length that leads nowhere", _TRUNCATED, lambda d: d[:4] + b"\xff\xff" + d[6:])
film(
    "with a length of zero", _refused("(is truncated|cannot be decoded|is damaged)"), lambda d: d[:4] + b"\0\0" + d[6:]
)
film("of 1 x 1 pixel", Read(), lambda d: encoded(picture(1, 1)))
film("of 1 x 1,000 pixels", Read(), lambda d: encoded(picture(1, 1000)))
film("of 20,000 x 1 pixels", Read(), lambda d: encoded(picture(20_000, 1)))
film("in colours", Read(), lambda d: encoded(picture(64, 64, 3)))
film("in CMYK", Read(), lambda d: cmyk())
film("progressive", Read(), lambda d: encoded(picture(64, 64), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
film("with restart marks", Read(), lambda d: encoded(picture(64, 64), ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2))
film("with rubbish behind it", Read(), lambda d: d + b"rubbish" * 100)
film("with fill bytes", Read(), lambda d: d[:2] + b"\xff" * 20 + d[2:])
film(
    "turned by a tag",
    Read(),
    lambda d: (
        d[:2] + b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0" + d[2:]
    ),
)
film("with a large comment", Read(), lambda d: d[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 30 + d[2:])
film("of one grey level", Read(), lambda d: encoded(np.full((64, 64), 128, np.uint8)))


def _bomb_of_scans(data: bytes) -> bytes:
    """A progressive film that goes over its 64 million pixels thousands of times (Cisco's and others' old bug)."""
    progressive = encoded(picture(64, 64), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    start, end = progressive.rfind(b"\xff\xda"), progressive.rfind(b"\xff\xd9")
    return with_sides(progressive[:end] + progressive[start:end] * 5000 + progressive[end:], 8000, 8000)


film("of five thousand scans", _refused("has 5\\d{3} scans"), _bomb_of_scans)


def _in_place(name: str, outcome: Outcome, change: Callable[[BrokenTree, Path], None]) -> None:
    @damage("film files", outcome, name=f"film {name}")
    def _(tree: BrokenTree) -> None:
        path = tree.films()[3]
        change(tree, path)


def _linked(target: str) -> Callable[[BrokenTree, Path], None]:
    def change(tree: BrokenTree, path: Path) -> None:
        path.unlink()
        path.symlink_to(target if target else path)

    return change


def _pipe(tree: BrokenTree, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(tree: BrokenTree, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _moved(tree: BrokenTree, path: Path) -> None:
    elsewhere = tree.root / "elsewhere.jpg"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _endless(tree: BrokenTree, path: Path) -> None:
    """Ten gigabytes that take no room on the disk."""
    data = path.read_bytes()
    tree.replace(path, data)
    os.truncate(path, 10 << 30)


def _dicom(data: bytes) -> Callable[[BrokenTree, Path], None]:
    def change(tree: BrokenTree, path: Path) -> None:
        path.unlink()
        tree.replace(path.with_suffix(".dcm"), data)

    return change


_in_place("missing", _refused("cannot be read: No such file"), lambda tree, path: path.unlink())
_in_place("that is a link to nothing", _refused("cannot be read: No such file"), _linked("/nowhere"))
_in_place("that is a link to itself", _refused("cannot be read: Too many levels"), _linked(""))
_in_place("that is a link to a device", _refused("is no file"), _linked("/dev/zero"))
_in_place("that is a pipe", _refused("is no file"), _pipe)
_in_place("that is a folder", _refused("(is no file|Is a directory)"), _folder)
_in_place("that is a link to the film", Same(), _moved)
_in_place("of ten gigabytes", _refused("has 10,\\d+ MB"), _endless)
_in_place("as DICOM of text", _refused("is not a DICOM file"), _dicom(b"no DICOM at all" * 100))
_in_place("as DICOM that is empty", _refused("is not a DICOM file"), _dicom(b""))
_in_place(
    "as DICOM that ends after its mark",
    _refused("(is truncated|has no|has photometric|names no)"),
    _dicom(bytes(128) + b"DICM"),
)
_in_place(
    "as DICOM of rubbish after its mark",
    _refused("(is truncated|has no|has photometric|names no)"),
    _dicom(bytes(128) + b"DICM" + bytes(range(256)) * 9),
)


@damage("film files", Same(inputs_only=True))
def film_folder_that_is_a_link(tree):
    folder = tree.films()[0].parents[1]
    folder.rename(tree.root / "elsewhere")
    folder.symlink_to(tree.root / "elsewhere")


@damage("film files", Error(r"34 bad among 34|bad among \d+ of 34 films", file="mimic-cxr-jpg"))
def all_films_missing(tree):
    (tree.cxr / "files").rename(tree.cxr / "Files")


_NAMES = {
    "that climbs out": "../../../../../../etc/passwd",
    "that is absolute": "/etc/passwd",
    "that is a parent": "..",
    "of 300 letters": "x" * 300,
    "with a newline": "a\nb",
    "with blanks and quotes": "a b\"c'd",
    "of an emoji": "\U0001f9e0",
    "with wildcards": "*",
    "with a backslash": "a\\b",
    "with a colour": "\x1b[31mred",
}
for _name, _value in _NAMES.items():

    @damage("film names", _refused("(leaves the film folder|cannot be read: )"), name=f"film name {_name}")
    def _(tree, value=_value):
        tree.set("metadata", "dicom_id", value)


@damage("film names", Same())
def file_names_of_nobody_among_the_films(tree):
    folder = tree.films()[0].parent
    for name in (b"\xff\xfe.jpg", b"new\nline.jpg", b"-rf.jpg", b"x" * 250 + b".jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"rubbish")
