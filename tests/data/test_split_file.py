import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionctl.data import split_file
from fusionctl.errors import InputError

TESTSET, VALSET = "10000001,1\n10000002,0\n10000003,0\n", "10000002,1\n10000003,0\n"


@pytest.fixture
def lists(tmp_path):
    return write(tmp_path)


def write(folder, testset=TESTSET, valset=VALSET, names=("testset.csv", "valset.csv")):
    for name, text in zip(names, (testset, valset), strict=True):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def table(tmp_path, text):
    path = tmp_path / "splits.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        split_file.read_split_file(path)
    assert caught.value.exit_code == 3 and caught.value.hint
    message = str(caught.value).replace(str(path), "")
    assert "1000000" not in message, "a patient's id is in the message"
    return message


def test_two_lists_and_who_stands_in_neither_is_train(lists):
    listed = split_file.read_split_file(lists)
    assert listed == {10000001: "test", 10000002: "val", 10000003: "train"}
    names, unlisted = split_file.assign([10000003, 10000001, 99, 10000001, 10000002, 99, 100], listed)
    assert names.tolist() == ["train", "test", "train", "test", "val", "train", "train"]
    assert unlisted == 2  # patients, not rows


def test_medfuses_own_names(tmp_path):
    write(tmp_path, names=("testset_iv.csv", "valset_iv.csv"))
    assert split_file.read_split_file(tmp_path)[10000002] == "val"
    (tmp_path / "testset.csv").write_text(TESTSET)
    refused(tmp_path, "both testset.csv and testset_iv.csv are there")


@pytest.mark.parametrize(
    "text", ["subject_id,split\n1,test\n2,val\n3,train\n", "split,subject_id\ntest,1\nval,2\ntrain,3\n"]
)
def test_one_table(tmp_path, text):
    assert split_file.read_split_file(table(tmp_path, text)) == {1: "test", 2: "val", 3: "train"}


def test_a_byte_order_mark_crlf_blanks_quotes_and_empty_lines(tmp_path):
    text = b'\xef\xbb\xbfSubject_ID, split\r\n "1", Test\r\n\r\n2 ,"val"\r\n1,test\r\n'
    assert split_file.read_split_file(table(tmp_path, text.replace(b' "1"', b'"1"'))) == {1: "test", 2: "val"}
    listed = split_file.read_split_file(write(tmp_path, b"\xef\xbb\xbf1,1\r\n2,0", "2,1\r\n"))
    assert listed == {1: "test", 2: "val"}


def test_flags_of_zero_do_not_undo_the_other_list(tmp_path):
    listed = split_file.read_split_file(write(tmp_path, "1,1\n2,0\n", "1,0\n2,1\n"))
    assert listed == {1: "test", 2: "val"}


def test_a_patient_in_both_lists(tmp_path):
    write(tmp_path, valset="10000003,0\n10000001,1\n")
    refused(
        tmp_path, r"testset\.csv: line 1: this patient has flag 1 here and in valset\.csv, line 2; rule: a patient has"
    )


@pytest.mark.parametrize(
    ("testset", "match"),
    [
        (
            "10000001,1\n10000002.0,0\n",
            r"testset\.csv: line 2: subject_id is not a whole number; rule: rows are subject_id",
        ),
        ("subject_id,flag\n10000001,1\n", "line 1: subject_id is not a whole number; .* without a header"),
        ("-5,1\n", "line 1: subject_id is not a whole number"),
        ("1000000" * 3 + ",1\n", "line 1: subject_id is not a whole number"),
        ("10000001,1\n\n10000002,2\n", "line 3: the number is not one of 0, 1"),
        ("10000001,yes\n", "line 1: 'yes' is not one of 0, 1; rule: rows are subject_id,flag"),
        ("1,10000001\n", "line 1: the number is not one of 0, 1"),
        ("10000001,1\n10000002,0\n10000001,0\n", "lines 1 and 3 give one patient two answers"),
        ("10000001;1\n", "line 1: 1 fields instead of 2"),
        ("10000001,1\n10000001,1,1\n", "line 2: 3 fields instead of 2"),
        ("10000001,0\n", r"testset\.csv: no patient for test; rule: test needs at least one"),
        ("", r"testset\.csv: no patient for test"),
        (b"10000001,1\n10000002,\xff\n", "line 2: not UTF-8"),
    ],
)
def test_faults_of_a_list(tmp_path, testset, match):
    refused(write(tmp_path, testset), match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (TESTSET, "line 1: no header with the columns subject_id and split; rule: a header"),
        ("", "line 1: no header"),
        ("subject_id,set\n10000001,test\n", "line 1: no header"),
        ("subject_id,split\n10000001,validation\n", "line 2: 'validation' is not one of train, val, test; rule"),
        ("split,subject_id\n10000001,test\n", "line 2: subject_id is not a whole number"),
        ("subject_id,split\n10000001,test\n10000001,val\n", "lines 2 and 3 give one patient two answers"),
        ("subject_id,split\n10000001,test\n", r"splits\.csv: no patient for val"),
        ("subject_id,split\n10000001,val\n", r"splits\.csv: no patient for test"),
        ("subject_id,split\n", "no patient for val"),
        ("subject_id,split\n" + "1" * 200_000 + ",test\n", "line 2: field larger than field limit"),
    ],
)
def test_faults_of_a_table(tmp_path, text, match):
    refused(table(tmp_path, text), match)


def test_missing_files(tmp_path):
    refused(tmp_path / "nowhere.csv", "nowhere.csv: no such file or directory")
    refused(tmp_path, r"testset\.csv is missing; rule: a folder for --split-file holds testset\.csv and valset\.csv")
    (tmp_path / "testset.csv").write_text(TESTSET)
    refused(tmp_path, r"valset\.csv is missing")


def test_no_patients():
    names, unlisted = split_file.assign([], {1: "test"})
    assert names.tolist() == [] and unlisted == 0


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(1, 60), st.sampled_from(["train", "val", "test"]), min_size=1),
    st.lists(st.integers(1, 80)),
)
def test_lists_and_table_say_the_same(tmp_path_factory, listed, asked):
    listed |= {1001: "val", 1002: "test"}
    folder = tmp_path_factory.mktemp("lists")
    texts = [
        "".join(f"{patient},{int(split == name)}\n" for patient, split in listed.items()) for name in ("test", "val")
    ]
    rows = "".join(f"{patient},{split}\n" for patient, split in listed.items())
    read = split_file.read_split_file(write(folder, *texts))
    assert read == listed == split_file.read_split_file(table(folder, "subject_id,split\n" + rows))
    names, unlisted = split_file.assign(np.array(asked, np.int64), read)
    assert names.tolist() == [listed.get(patient, "train") for patient in asked]
    assert unlisted == len(set(asked) - set(listed))
