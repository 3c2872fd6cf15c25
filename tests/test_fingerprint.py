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
    with pytest.raises(InputError, match="nowhere: no such file or directory"):
        fingerprint(tmp_path / "nowhere", ["*.csv"])


def test_a_root_that_is_a_file_is_its_name_and_content_whole(tmp_path):
    file = tmp_path / "split.csv"
    file.write_bytes(b"0" * (4 << 20))
    first = fingerprint(file, ["*.csv"])
    os.utime(file, ns=(1, 1))
    assert fingerprint(file, ()) == first and list(first) == ["split.csv"]  # the time does not count
    with file.open("r+b") as f:
        f.seek(1_200_000)  # between the blocks that are sampled of a table in a folder
        f.write(b"1")
    assert fingerprint(file, ()) != first


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path):
    file = tmp_path / "split.csv"
    file.write_text("x")
    file.chmod(0)
    with pytest.raises(InputError, match="split.csv: Permission denied"):
        fingerprint(file, ())


def test_only_files_of_the_patterns_count(tmp_path):
    (tmp_path / "testset.csv").write_text("1,1")
    (tmp_path / "notes.txt").write_text("a")
    first = fingerprint(tmp_path, ["testset.csv", "valset.csv"])
    (tmp_path / "notes.txt").write_text("b")
    assert fingerprint(tmp_path, ["testset.csv", "valset.csv"]) == first and list(first) == ["testset.csv"]
