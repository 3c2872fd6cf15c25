import pytest

from fusionctl.data import film_journal
from fusionctl.data.film_journal import Block, Journal


@pytest.fixture
def data(tmp_path):
    (tmp_path / "films.npy").write_bytes(b"data")
    return tmp_path / "films.npy"


def write(data, shard, *blocks):
    path = film_journal.path_of(data.parent, shard)
    with Journal(path, data) as journal:
        for block in blocks:
            journal.add(block)
    return path


FIRST, SECOND = Block(0, 123, {5: 'is "odd"\n'}), Block(7, 2**32 - 1, {}, n_dicom=3)


def test_blocks_of_all_jobs_are_found(data):
    assert film_journal.read_all(data.parent) == {}
    assert write(data, (1, 2), FIRST).name == "journal-1-of-2.jsonl"
    write(data, (2, 2), SECOND)
    assert film_journal.read_all(data.parent) == {0: FIRST, 7: SECOND}
    assert [p.name for p in film_journal.paths(data.parent)] == ["journal-1-of-2.jsonl", "journal-2-of-2.jsonl"]


def test_a_line_that_was_torn_anywhere_is_ignored_and_harms_no_other(data):
    path = write(data, (1, 1), FIRST, SECOND)
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert film_journal.read_all(data.parent) == {0: FIRST}, whole[start:end]
    third = Block(9, 1)
    write(data, (1, 1), third)
    assert film_journal.read_all(data.parent) == {0: FIRST, 9: third}, "appended after the torn line"
    path.write_bytes(b"\0" * 50 + b"\n" + b"[1]\n3\n{}\n\xff\n" + whole)
    assert film_journal.read_all(data.parent) == {0: FIRST, 7: SECOND}


def test_of_two_records_the_one_with_more_films_counts(data):
    again = Block(0, 456, {})
    write(data, (1, 1), again)
    write(data, (2, 2), FIRST)
    assert film_journal.read_all(data.parent) == {0: again}


def test_lines_are_written_after_the_sync_of_their_data(data, monkeypatch):
    events = []
    monkeypatch.setattr(film_journal, "_fdatasync", lambda descriptor: events.append(path.read_bytes().count(b"\n")))
    clock = iter([0.0, 1.0, 2.0, 5.0, 5.0, 6.0])
    monkeypatch.setattr(film_journal.time, "monotonic", lambda: next(clock))
    path = film_journal.path_of(data.parent, (1, 1))
    with Journal(path, data) as journal:
        journal.add(FIRST)
        journal.add(SECOND)
        assert events == [] and film_journal.read_all(data.parent) == {}, "not on disk yet, so not recorded"
        journal.add(Block(8, 1))
        assert events == [0] and len(film_journal.read_all(data.parent)) == 3
    assert events == [0], "nothing was left to write"


def test_an_error_keeps_what_is_done(data):
    path = film_journal.path_of(data.parent, (1, 1))
    with pytest.raises(KeyboardInterrupt), Journal(path, data) as journal:
        journal.add(FIRST)
        raise KeyboardInterrupt
    assert film_journal.read_all(data.parent) == {0: FIRST}


def test_a_failed_sync_records_nothing(data, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(film_journal, "_fdatasync", fail)
    with pytest.raises(OSError, match="No space left"):
        write(data, (1, 1), FIRST)
    assert film_journal.read_all(data.parent) == {}
