"""Damages to the compressed file of a table, bombs among them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib

from broken_tree import BrokenTree
from damages import EVERY, damage
from outcome import Error, Read, Same

_CUT = Error(r"ends in the middle of its compressed data, somewhere after line \d+")
_BROKEN = Error(r"the file (cannot be read|ends in the middle)")
_NO_GZIP = Error(r"named \.gz but is not gzip-compressed")


def _member(data: bytes, *, flags: int = 0, extra: bytes = b"") -> bytes:
    """A gzip member with header fields of our own (RFC 1952)."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff" + extra + body + struct.pack(
        "<II", zlib.crc32(data), len(data) & 0xFFFFFFFF
    )  # fmt: skip


@damage("gzip", _CUT, EVERY)
def cut_in_the_middle(tree, table):
    raw = tree.raw(table)
    tree.put_raw(table, raw[: len(raw) * 3 // 5])


@damage("gzip", _CUT, EVERY)
def checksum_cut_off(tree, table):
    tree.put_raw(table, tree.raw(table)[:-4])


@damage("gzip", _CUT, EVERY)
def nothing_but_the_start_of_the_gzip_header(tree, table):
    tree.put_raw(table, tree.raw(table)[:5])


@damage("gzip", _BROKEN, EVERY)
def wrong_checksum(tree, table):
    raw = bytearray(tree.raw(table))
    raw[-6] ^= 0xFF
    tree.put_raw(table, bytes(raw))


@damage("gzip", _BROKEN, EVERY)
def wrong_length(tree, table):
    raw = bytearray(tree.raw(table))
    raw[-3] ^= 0xFF
    tree.put_raw(table, bytes(raw))


@damage("gzip", Error(r"the file (cannot be read|ends in the middle)|: line \d+"), EVERY)
def one_bit_flipped_in_the_middle(tree, table):
    raw = bytearray(tree.raw(table))
    raw[len(raw) // 2] ^= 0x10
    tree.put_raw(table, bytes(raw))


@damage("gzip", Error(r"the file (cannot be read|ends in the middle)|: line \d+"), EVERY)
def zeros_in_the_middle(tree, table):
    raw = tree.raw(table)
    middle, n = len(raw) // 2, min(64, len(raw) // 4)
    tree.put_raw(table, raw[:middle] + bytes(n) + raw[middle + n :])


@damage("gzip", Same(), EVERY)
def members_one_after_the_other(tree, table):
    data = tree.data(table)
    thirds = [data[i * len(data) // 3 : (i + 1) * len(data) // 3] for i in range(3)]
    tree.put_raw(table, b"".join(map(gzip.compress, thirds)))


@damage("gzip", Same(), EVERY)
def empty_members_between(tree, table):
    empty = gzip.compress(b"")
    data = tree.data(table)
    tree.put_raw(table, empty + gzip.compress(data[:100]) + empty * 3 + gzip.compress(data[100:]) + empty)


@damage("gzip", Same(), EVERY)
def blocks_of_bgzip(tree, table):
    data, blocks = tree.data(table), b""
    for start in range(0, len(data), 30_000):
        block = _member(data[start : start + 30_000], flags=4, extra=b"\x06\x00BC\x02\x00\x00\x00")
        blocks += block[:16] + struct.pack("<H", len(block) - 1) + block[18:]
    tree.put_raw(table, blocks + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))


@damage("gzip", Same(), EVERY)
def gzip_header_with_a_name_and_a_comment(tree, table):
    tree.put_raw(table, _member(tree.data(table), flags=8 | 16, extra=b"x.csv\0a comment\0"))


@damage("gzip", Same(), EVERY)
def zeros_after_the_end(tree, table):
    tree.put_raw(table, tree.raw(table) + bytes(5000))


@damage("gzip", _BROKEN, EVERY)
def rubbish_after_the_end(tree, table):
    tree.put_raw(table, tree.raw(table) + b"rubbish after the end" * 3)


@damage("gzip", _BROKEN, EVERY)
def second_member_cut(tree, table):
    data = tree.data(table)
    tree.put_raw(table, gzip.compress(data[:100]) + gzip.compress(data[100:])[:-9])


@damage("gzip", _BROKEN, EVERY)
def unknown_method_of_compression(tree, table):
    raw = tree.raw(table)
    tree.put_raw(table, raw[:2] + b"\x07" + raw[3:])


@damage("gzip", _BROKEN, EVERY)
def reserved_flags_and_no_data(tree, table):
    tree.put_raw(table, b"\x1f\x8b\x08\xe0" + bytes(40))


@damage("gzip", Error(r"is empty"), EVERY)
def file_of_no_bytes(tree, table):
    tree.put_raw(table, b"")


@damage("gzip", _NO_GZIP, EVERY)
def text_named_gz(tree, table):
    tree.put_raw(table, tree.data(table))


@damage("gzip", _NO_GZIP, EVERY)
def zlib_stream(tree, table):
    tree.put_raw(table, zlib.compress(tree.data(table)))


@damage("gzip", _NO_GZIP, EVERY)
def bzip2(tree, table):
    tree.put_raw(table, bz2.compress(tree.data(table)))


@damage("gzip", _NO_GZIP, EVERY)
def xz(tree, table):
    tree.put_raw(table, lzma.compress(tree.data(table), preset=0))


@damage("gzip", _NO_GZIP, EVERY)
def zip_archive(tree, table):
    tree.put_raw(table, b"PK\x03\x04" + tree.raw(table))


@damage("gzip", _NO_GZIP, EVERY)
def login_page(tree, table):
    tree.put_raw(table, b"<!DOCTYPE html><html><title>Log in</title></html>\n")


@damage("gzip", _NO_GZIP, EVERY)
def pointer_of_large_file_storage(tree, table):
    tree.put_raw(table, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@damage("gzip", _NO_GZIP, EVERY)
def file_of_zeros(tree, table):
    tree.put_raw(table, bytes(50_000))


@damage("gzip", Error(r": line 1: "), EVERY)
def compressed_twice(tree, table):
    tree.put_raw(table, gzip.compress(tree.raw(table)))


@damage("gzip", Error(r": line 1: column .* is missing"), EVERY)
def login_page_compressed(tree, table):
    tree.put(table, b"<!DOCTYPE html>\n<html><title>Log in, please</title></html>\n")


def _as_plain(tree: BrokenTree, table: str, data: bytes) -> None:
    path = tree.path(table)
    path.unlink()
    tree.replace(path.with_suffix(""), data)


@damage("gzip", Same(), EVERY)
def not_compressed(tree, table):
    _as_plain(tree, table, tree.data(table))


@damage("gzip", Error(r": line 1: the header is not UTF-8"), EVERY)
def compressed_but_named_csv(tree, table):
    _as_plain(tree, table, tree.raw(table))


@damage("gzip", Error(r": line 1: the header is not UTF-8"), EVERY)
def spreadsheet_named_csv(tree, table):
    _as_plain(tree, table, b"PK\x03\x04\x14\0\x06\0\x08\0" + bytes(range(256)) * 20)


@damage("gzip", Same(), EVERY)
def plain_and_compressed_side_by_side(tree, table):
    tree.replace(tree.path(table).with_suffix(""), b"an unfinished copy")


# --- bombs: a few hundred kilobytes that inflate to hundreds of megabytes

_BLOCK = 1 << 20


def _bomb(tree: BrokenTree, table: str, before: bytes, unit: bytes, megabytes: int) -> None:
    """A member of `before`, then members that each hold the unit over and over, a megabyte."""
    block = gzip.compress((unit * (_BLOCK // len(unit) + 1))[: _BLOCK // len(unit) * len(unit)], 6)
    tree.put_raw(table, gzip.compress(before) + block * megabytes)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_zeros(tree, table):
    _bomb(tree, table, b"", b"\0", 600)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_zeros_after_the_header(tree, table):
    _bomb(tree, table, tree.data(table).partition(b"\n")[0] + b"\n", b"\0", 600)


@damage("bomb", Error(r": line 1"), EVERY)
def bomb_of_one_long_name(tree, table):
    _bomb(tree, table, b"", b"a", 600)


@damage("bomb", Error(r": line 1"), EVERY)
def bomb_of_commas(tree, table):
    _bomb(tree, table, b"", b",", 600)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_commas_after_the_header(tree, table):
    _bomb(tree, table, tree.data(table).partition(b"\n")[0] + b"\n", b",", 600)


@damage("bomb", Error(r"is empty"), EVERY)
def bomb_of_newlines(tree, table):
    _bomb(tree, table, b"", b"\n", 600)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_newlines_after_the_first_record(tree, table):
    _bomb(tree, table, b"\n".join(tree.data(table).split(b"\n")[:2]) + b"\n", b"\n", 600)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_quotes(tree, table):
    _bomb(tree, table, tree.data(table).partition(b"\n")[0] + b"\n", b'"', 600)


@damage("bomb", Error(r": line \d+"), EVERY)
def bomb_of_quoted_newlines(tree, table):
    _bomb(tree, table, tree.data(table).partition(b"\n")[0] + b'\n"', b"\n", 600)


_STREAMED = ("diagnoses_icd", "chartevents", "labevents")  # tables of any length; the others are held in memory


@damage(
    "bomb",
    Error(r": line \d+: (more than 3,000,000 rows|.* must be unique)"),
    tuple(table for table in EVERY if table not in _STREAMED),
)
def bomb_of_one_record_over_and_over(tree, table):
    _bomb(tree, table, tree.data(table), tree.data(table).split(b"\n")[1] + b"\n", 200)


@damage("bomb", Read(), _STREAMED)
def streamed_bomb_of_one_record_over_and_over(tree, table):
    """Read as it stands: memory, not the outcome, is what this is about."""
    item = {"chartevents": b",220045,", "labevents": b",50931,"}.get(table, b"")
    record = next(line for line in tree.data(table).split(b"\n")[1:] if item in line)
    _bomb(tree, table, tree.data(table), record + b"\n", 60)
