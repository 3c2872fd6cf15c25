"""Identities of raw files notice what changes a result, and nothing else."""

import os

import pytest

from fusionctl.errors import InputError
from fusionctl.fingerprint import fingerprint


def test_size_time_and_content_count(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("one")
    os.utime(file, ns=(1, 1))
    first = fingerprint(tmp_path, ["*.csv"])
    assert first == fingerprint(tmp_path, ["*.csv"])
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert fingerprint(tmp_path, ["*.csv"]) != first


def test_listed_digests_replace_the_time(tmp_path):
    (tmp_path / "hosp").mkdir()
    file = tmp_path / "hosp" / "a.csv"
    file.write_text("one")
    (tmp_path / "SHA256SUMS.txt").write_text("abc123 hosp/a.csv\n")
    first = fingerprint(tmp_path, ["*/*.csv"])
    os.utime(file, ns=(1, 1))
    assert fingerprint(tmp_path, ["*/*.csv"]) == first == {"hosp/a.csv": [3, "abc123"]}


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        fingerprint(tmp_path / "nowhere", ["*.csv"])
