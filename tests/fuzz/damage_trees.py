"""Damages to the folders: tables that are missing or no files, odd names, links, and what lies beside the tables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from broken_tree import TABLES, BrokenTree
from damages import EVERY, damage
from outcome import Error, Same

_NEEDED = tuple(table for table in EVERY if table not in ("d_labitems", "test_labels"))
_MIMIC = tuple(table for table in _NEEDED if TABLES[table].startswith("mimic-iv"))


@damage("tree", Error(r"is missing"), _NEEDED)
def table_missing(tree, table):
    tree.path(table).unlink()


@damage("tree", Error(r"is missing|No such file"), _NEEDED)
def link_to_nothing(tree, table):
    _link(tree, table, Path("/nowhere/at/all"))


@damage("tree", Error(r"is missing|symbolic links"), _NEEDED)
def link_to_itself(tree, table):
    _link(tree, table, tree.path(table))


def _link(tree: BrokenTree, table: str, target: Path) -> None:
    path = tree.path(table)
    path.unlink()
    path.symlink_to(target)


@damage("tree", Same(), EVERY)
def link_to_the_table(tree, table):
    elsewhere = tree.root / "elsewhere.gz"
    tree.path(table).rename(elsewhere)
    tree.path(table).symlink_to(elsewhere)


@damage("tree", Error(r"Is a directory"), EVERY)
def folder_in_place_of_a_table(tree, table):
    tree.path(table).unlink()
    tree.path(table).mkdir()


@damage("tree", Error(r"not a file but a pipe or a device"), EVERY)
def pipe_in_place_of_a_table(tree, table):
    tree.path(table).unlink()
    os.mkfifo(tree.path(table))


@damage("tree", Error(r"not a file but a pipe or a device"), EVERY)
def device_in_place_of_a_table(tree, table):
    _link(tree, table, Path("/dev/zero"))


@damage("tree", Error(r"is missing.*\n.*looks like it: give it its released name"), _NEEDED)
def table_with_a_number_behind_its_name(tree, table):
    path = tree.path(table)
    path.rename(path.with_name(path.name.replace(".csv", "(1).csv")))


@damage("tree", Error(r"is missing.*\n.*looks like it"), _NEEDED)
def table_with_a_name_in_capitals(tree, table):
    path = tree.path(table)
    path.rename(path.with_name(path.name.replace(".csv.gz", ".CSV.GZ")))


@damage("tree", Error(r"is missing"), _NEEDED)
def table_with_bytes_that_are_no_text_in_its_name(tree, table):
    path = tree.path(table)
    os.rename(path, os.fsencode(path).replace(b".csv", b"\xff.csv"))


@damage("tree", Same(), EVERY)
def copies_of_other_systems_beside_a_table(tree, table):
    path = tree.path(table)
    for name in (f"._{path.name}", f"{path.name}~", f".{path.name}.swp", f"{path.name}.part", f"Copy of {path.name}"):
        tree.replace(path.with_name(name), b"\0\0rubbish")


@damage("tree", Error(r"several versions of one table", file="mimic-cxr-jpg"))
def two_versions_of_the_film_table(tree):
    path = tree.path("metadata")
    shutil.copy(path, path.with_name(path.name.replace("2.0.0", "2.1.0")))


@damage("tree", Error(r"no folder icu/ or hosp/ in it", file="mimic-iv"))
def empty_root(tree):
    shutil.rmtree(tree.mimic)
    tree.mimic.mkdir()


@damage("tree", Error(r"no such directory", file="mimic-iv"))
def root_missing(tree):
    shutil.rmtree(tree.mimic)


@damage("tree", Error(r"no such directory", file="mimic-iv"))
def root_is_a_file(tree):
    shutil.rmtree(tree.mimic)
    tree.replace(tree.mimic, b"")


@damage("tree", Error(r"no folder icu/ or hosp/ in it\n.*try --mimic-root .*/2\.2", file="mimic-iv"))
def root_one_folder_too_high(tree):
    tree.mimic.rename(tree.root / "inner")
    tree.mimic.mkdir()
    (tree.root / "inner").rename(tree.mimic / "2.2")


@damage("tree", Error(r"is missing", file="mimic-cxr-2.0.0-metadata"))
def roots_exchanged(tree):
    tree.mimic, tree.cxr = tree.mimic, tree.mimic


@damage("tree", Error(r"table (chartevents|icustays) is missing", file="mimic-iv"))
def no_folder_of_the_icu(tree):
    shutil.rmtree(tree.mimic / "icu")


@damage("tree", Same())
def tables_of_patients_in_core_too(tree):
    """A tree of v2 on top of one of v1: the tables are the same."""
    (tree.mimic / "core").mkdir()
    for table in ("patients", "admissions"):
        os.link(tree.path(table), tree.mimic / "core" / tree.path(table).name)


for _name, _folder in {
    "blanks and quotes": "it's \"raw\" data", "letters beyond ascii": "Zoë 数据", "a newline": "two\nlines",
    "a leading dash": "-rf", "percent and braces": "%s{0}$HOME", "bytes that are no text": os.fsdecode(b"raw\xff"),
    "a wildcard": "raw[1]*", "200 letters": "x" * 200,
}.items():  # fmt: skip

    @damage("tree", Same(), name=f"root with {_name} in its name")
    def _(tree, folder=_folder):
        moved = tree.root / folder
        moved.mkdir()
        for name in ("mimic-iv", "mimic-cxr-jpg"):
            (tree.root / name).rename(moved / name)
        tree.mimic, tree.cxr = moved / "mimic-iv", moved / "mimic-cxr-jpg"


for _name, _data in {"binary": bytes(range(256)) * 50, "of one long line": b"x" * 3_000_000, "empty": b""}.items():

    @damage("tree", Same(), name=f"licence and checksums {_name}")
    def _(tree, data=_data):
        for root in (tree.mimic, tree.cxr):
            for name in ("LICENSE.txt", "SHA256SUMS.txt", "README", "CHANGELOG.txt"):
                tree.replace(root / name, data)


@damage("tree", Same())
def folders_named_like_files(tree):
    for root in (tree.mimic, tree.cxr):
        for name in ("LICENSE.txt", "SHA256SUMS.txt", "README", "CHANGELOG.txt", "files.csv"):
            (root / name).mkdir()


@damage("tree", Same())
def odd_names_beside_the_tables(tree):
    for root in (tree.mimic, tree.cxr, tree.mimic / "hosp"):
        for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255, "Zoë".encode(), b"mimic-cxr-metadata.csv.gz.txt"):
            Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"")


@damage("tree", Error(r"list of changes ends with v3\.0", file="mimic-iv"))
def release_with_wrong_items(tree):
    tree.replace(tree.mimic / "CHANGELOG.txt", b"# MIMIC-IV v3.0\n\n## v2.2\n")
