"""Which rows make up a step: all once, alike in length; films hidden; reading ahead."""

import threading

import numpy as np
import pytest
import torch
from toy import write_preprocessed

from fusionctl import loop_batches
from fusionctl.data.batch import StayData, collate

ROWS = np.arange(100, 333)
LENGTHS = np.random.default_rng(0).integers(1, 1000, 400)


def drawn(epoch=1, lengths=LENGTHS, size=16):
    return loop_batches.batches(ROWS, size, lengths=lengths, seed=(0, epoch))


@pytest.mark.parametrize("lengths", [None, np.full(400, 24), LENGTHS], ids=["none", "equal", "different"])
def test_every_row_comes_once_an_epoch_in_an_order_of_its_own(lengths):
    first, again, second = drawn(1, lengths), drawn(1, lengths), drawn(2, lengths)
    assert sorted(np.concatenate(first)) == ROWS.tolist()
    assert sorted(len(rows) for rows in first) == [len(ROWS) % 16] + [16] * (len(ROWS) // 16)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {frozenset(rows) for rows in first}.isdisjoint({frozenset(rows) for rows in second})


def test_equal_lengths_are_as_no_lengths():
    for a, b in zip(drawn(lengths=None), drawn(lengths=np.full(400, 24)), strict=True):
        assert np.array_equal(a, b)


def test_rows_of_a_batch_are_alike_in_length_and_batches_are_not_sorted():
    def padded(batches):
        return sum(LENGTHS[rows].max() * len(rows) for rows in batches) / LENGTHS[ROWS].sum()

    assert padded(drawn()) < 1.3 < 1.7 < padded(drawn(lengths=None))
    means = [LENGTHS[rows].mean() for rows in drawn()]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_shares_are_everything_and_may_be_uneven_or_empty():
    for n in range(1, 9):
        rows = np.arange(n)
        shares = [loop_batches.share(rows, rank, 3) for rank in range(3)]
        assert (
            np.array_equal(np.sort(np.concatenate(shares)), rows) and max(map(len, shares)) - min(map(len, shares)) <= 1
        )
    assert np.array_equal(loop_batches.share(rows, 0, 1), rows)


def test_hidden_films_are_as_if_they_were_not_there(tmp_path):
    data = StayData.open(write_preprocessed(tmp_path, most_films=3))
    rows = np.array([0, 1, 2, 4])
    batch = collate(data, rows)
    hidden = loop_batches.hide_films(batch, torch.tensor([False, True, True, False]))
    assert batch.film_rows.tolist() == [0, 2, 2, 3, 3, 3] and hidden.film_rows.tolist() == [0, 3, 3, 3]
    assert torch.equal(hidden.films, batch.films[[0, 3, 4, 5]])
    assert hidden.has_film.tolist() == [True, False, False, True]
    none, without = loop_batches.hide_films(batch, torch.ones(4, dtype=torch.bool)), collate(data, rows, films=False)
    assert none.films.shape == without.films.shape and torch.equal(none.series, without.series)
    assert loop_batches.mute(batch).labels.isnan().all() and not batch.labels.isnan().any()


def test_reading_ahead_is_in_order_and_one_step_ahead():
    read = []
    source = loop_batches.ahead(lambda step: read.append(step) or step * 10, range(3, 7))
    assert next(source) == 30
    assert [*source] == [40, 50, 60] and read == [3, 4, 5, 6]
    assert list(loop_batches.ahead(lambda step: step, range(0))) == []


def test_the_reading_thread_ends_with_its_reader_and_its_errors_arrive():
    before = threading.active_count()
    source = loop_batches.ahead(lambda step: step, range(100))
    assert next(source) == 0
    source.close()
    assert threading.active_count() == before

    def failing(step):
        if step == 1:
            raise OSError("no such film")
        return step

    with pytest.raises(OSError, match="no such film"):
        list(loop_batches.ahead(failing, range(3)))
    assert threading.active_count() == before
