"""Splits that the user brings: MedFuse's two lists of patients, or one table of patients and splits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fusionctl.data.splits import SPLITS
from fusionctl.errors import InputError

# The first names are those of the benchmark's lists and of most code that builds on MedFuse, the second MedFuse's own.
_LISTS = {"test": ("testset.csv", "testset_iv.csv"), "val": ("valset.csv", "valset_iv.csv")}
_COLUMNS = ("subject_id", "split")
_LIST_RULE = "rows are subject_id,flag without a header, flag 1 for a patient of the list and 0 for another"
_TABLE_RULE = "a header subject_id,split, then a patient a line with train, val or test"
_HINT = "correct the file, or leave out --split-file for the built-in split"
_MAX_DIGITS = 18  # fits 64 bits

# Of each patient: the split, and the line that says so.
_Answers = dict[int, tuple[str, int]]


def read_split_file(path: Path) -> dict[int, str]:
    """Read which patient belongs to which split.

    Args:
        path: a folder with MedFuse's two lists, testset.csv and valset.csv (or testset_iv.csv and valset_iv.csv), in
            which flag 0 says nothing but that the patient is in no list; or a CSV file with the columns subject_id
            and split. UTF-8, with or without a byte order mark, with line ends of any kind.

    Returns:
        The split of every patient that stands in a file; flag 0 in all lists is "train".

    Raises:
        InputError: a file is missing, unreadable or breaks a rule, with the line and never with the patient's id.
    """
    try:
        return _read_lists(path) if path.is_dir() else _read_table(path)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise InputError(
            f"{error.filename or path}: {reason}",
            hint="--split-file takes a folder with testset.csv and valset.csv, or a CSV file with subject_id,split",
        ) from error


def assign(subject_ids: npt.ArrayLike, listed: Mapping[int, str]) -> tuple[npt.NDArray[np.str_], int]:
    """Split of each patient by the files; who stands in no file is for training, as in MedFuse.

    Lists that were made for one MIMIC release know nothing of the patients of a later one, who then all land in the
    training split: hence the count.

    Args:
        subject_ids: (N,) integer ids, repeats allowed.
        listed: from `read_split_file`.

    Returns:
        (N,) names of the splits, and the number of patients that stand in no file.
    """
    patients, row = np.unique(np.asarray(subject_ids, dtype=np.int64), return_inverse=True)
    names = np.array([listed.get(patient, "train") for patient in patients.tolist()], dtype="U5")
    return names[row], sum(patient not in listed for patient in patients.tolist())


def _read_lists(folder: Path) -> dict[int, str]:
    path = {split: _find_list(folder, names) for split, names in _LISTS.items()}
    answers = {}
    for split in _LISTS:
        rows = ((line, *row) for line, row in _records(path[split], _LIST_RULE))
        answers[split] = _collect(path[split], rows, {"0": "train", "1": split}, _LIST_RULE)
        _check_has(path[split], answers[split], split)
    for patient, (split, line) in answers["test"].items():
        other, other_line = answers["val"].get(patient, ("train", 0))
        if split == "test" and other == "val":
            raise InputError(
                f"{path['test']}: line {line}: this patient has flag 1 here and in {path['val'].name}, line "
                f"{other_line}; rule: a patient has one split",
                hint="set one of the two flags to 0",
            )
    listed = {patient: "train" for found in answers.values() for patient in found}
    for found in answers.values():
        listed |= {patient: split for patient, (split, _) in found.items() if split != "train"}
    return listed


def _find_list(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: both {names[0]} and {names[1]} are there", hint="keep one of them in this folder")
    if not found:
        raise InputError(
            f"{folder}: {names[0]} is missing; rule: a folder for --split-file holds testset.csv and valset.csv",
            hint="copy both lists into one folder, or give a CSV file with the columns subject_id and split",
        )
    return found[0]


def _read_table(path: Path) -> dict[int, str]:
    records = _records(path, _TABLE_RULE)
    header = [name.strip().lower() for name in next(records, (0, ("", "")))[1]]
    if sorted(header) != sorted(_COLUMNS):
        raise InputError(
            f"{path}: line 1: no header with the columns subject_id and split; rule: {_TABLE_RULE}",
            hint="write the header; MedFuse's two lists are given as the folder that holds them",
        )
    patient, split = (header.index(name) for name in _COLUMNS)
    rows = ((line, row[patient], row[split]) for line, row in records)
    answers = _collect(path, rows, {name: name for name in SPLITS}, _TABLE_RULE)
    for name in ("val", "test"):
        _check_has(path, answers, name)
    return {patient: split for patient, (split, _) in answers.items()}


def _records(path: Path, rule: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line numbers and the two fields of the lines that are not empty."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "convert it: iconv -f latin1 -t utf-8, or get the file again"
        raise InputError(f"{path}: line {line}: not UTF-8", hint=hint) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row and len(row) != len(_COLUMNS):
                what = f"{path}: line {reader.line_num}: {len(row)} fields instead of {len(_COLUMNS)}; rule: {rule}"
                raise InputError(what, hint=_HINT)
            if row:
                yield reader.line_num, (row[0], row[1])
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}; rule: {rule}", hint=_HINT) from error


def _collect(path: Path, rows: Iterable[tuple[int, str, str]], known: Mapping[str, str], rule: str) -> _Answers:
    """The answer of each patient: what `known` makes of the text beside the id."""
    answers: _Answers = {}
    for line, patient, answer in rows:
        digits, name = patient.strip(), answer.strip().lower()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise InputError(f"{path}: line {line}: subject_id is not a whole number; rule: {rule}", hint=_HINT)
        if name not in known:
            # the columns may be swapped: a number could be a patient's id
            shown = "the number" if any(character.isdigit() for character in name) else repr(name[:20])
            what = f"{path}: line {line}: {shown} is not one of {', '.join(known)}; rule: {rule}"
            raise InputError(what, hint=_HINT)
        split, first_line = answers.setdefault(int(digits), (known[name], line))
        if split != known[name]:
            raise InputError(
                f"{path}: lines {first_line} and {line} give one patient two answers; rule: a patient has one split",
                hint="remove one of the two lines",
            )
    return answers


def _check_has(path: Path, answers: _Answers, split: str) -> None:
    if split not in {name for name, _ in answers.values()}:
        raise InputError(
            f"{path}: no patient for {split}; rule: {split} needs at least one, and who is not listed is for training",
            hint=_HINT,
        )
