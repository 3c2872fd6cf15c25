"""Damages to the file that says who is for testing (`--split-file`)."""

from __future__ import annotations

from collections.abc import Callable

from broken_tree import BrokenTree
from damages import damage
from outcome import Error, Read, Warned


def _table(tree: BrokenTree, change: Callable[[bytes], bytes]) -> None:
    """A table of all patients, a tenth each for validation and testing, changed."""
    header, *rows = tree.rows("patients")
    splits = ["val" if i % 5 == 0 else "test" if i % 5 == 1 else "train" for i in range(len(rows))]
    lines = ["subject_id,split", *(f"{row[0]},{split}" for row, split in zip(rows, splits, strict=True))]
    path = tree.replace(tree.root / "split.csv", change("\n".join([*lines, ""]).encode()))
    tree.arguments += ["--split-file", str(path)]


def _second(data: bytes, line: bytes) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join([lines[0], line, *lines[2:]])


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "as it should be": lambda data: data,
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "with carriage returns": lambda data: data.replace(b"\n", b"\r\n"),
    "of carriage returns alone": lambda data: data.replace(b"\n", b"\r"),
    "with capitals and blanks": lambda data: data.upper().replace(b",", b" , "),
    "with empty lines": lambda data: data.replace(b"\n", b"\n\n"),
}
for _name, _change in _CHANGES.items():

    @damage("split file", Read(), name=f"split file {_name}")
    def _(tree, change=_change):
        _table(tree, change)


_FAULTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": ("line 1: no header", lambda data: b""),
    "without a header": ("line 1: no header", lambda data: data.partition(b"\n")[2]),
    "with another header": ("line 1: no header", lambda data: data.replace(b"split", b"fold", 1)),
    "in UTF-16": ("line 1: not UTF-8", lambda data: data.decode().encode("utf-16")),
    "in latin1": (r"line \d+: not UTF-8", lambda data: data.replace(b"train", b"tr\xe4in", 1)),
    "with three columns": ("line 2: 3 fields", lambda data: data.replace(b",", b",x,").replace(b",x,", b",", 1)),
    "with semicolons": ("line 1", lambda data: data.replace(b",", b";")),
    "with an unknown split": ("line 2: 'holdout' is not one of", lambda data: _second(data, b"123,holdout")),
    "with a text for an id": ("line 2: subject_id is not a whole number", lambda data: _second(data, b"p12,test")),
    "with a negative id": ("line 2: subject_id is not a whole number", lambda data: _second(data, b"-12,test")),
    "with an id of thirty digits": ("line 2: subject_id is not", lambda data: _second(data, b"9" * 30 + b",test")),
    "with columns exchanged": ("line 2: subject_id is not", lambda data: _second(data, b"test,12345")),
    "with a NUL byte": ("line 2", lambda data: _second(data, b"12\x003,test")),
    "with an unclosed quote": (r"line \d+", lambda data: _second(data, b'"123,test')),
    "with two answers for a patient": ("lines 2 and 3 give one patient two", lambda d: _second(d, b"7,test\n7,train")),
    "without anybody for testing": ("no patient for test", lambda data: data.replace(b"test", b"train")),
    "without anybody for validation": ("no patient for val", lambda data: data.replace(b"val", b"train")),
    "of NUL bytes": ("line 1", lambda data: bytes(1000)),
    "of one endless field": (r"line \d+", lambda data: data + b"1" * 300_000 + b",test\n"),
}
for _name, (_says, _change) in _FAULTS.items():

    @damage("split file", Error(_says, file="split.csv"), name=f"split file {_name}")
    def _(tree, change=_change):
        _table(tree, change)


@damage("split file", Warned(r"\d+ of \d+ patients stand on no list"))
def split_file_of_other_patients(tree):
    _table(tree, lambda data: b"subject_id,split\n1,val\n2,test\n3,train\n")


@damage("split file", Error("testset.csv is missing", file="lists"))
def split_folder_without_lists(tree):
    (tree.root / "lists").mkdir()
    tree.arguments += ["--split-file", str(tree.root / "lists")]


@damage("split file", Error("flag 1 here and in", file="testset.csv"))
def split_folder_with_a_patient_in_both_lists(tree):
    for name in ("testset.csv", "valset.csv"):
        tree.replace(tree.root / "lists" / name, b"7,1\n8,0\n")
    tree.arguments += ["--split-file", str(tree.root / "lists")]
