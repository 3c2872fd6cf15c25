"""Batches: the 76 columns, padding, absent films, corruptions."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from toy import SIDE, write_preprocessed

from fusionctl.corruption import Corruption
from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS, StayData, collate, column_names, expand
from fusionctl.data.variables import INDEX, VARIABLES
from fusionctl.errors import InputError


@pytest.fixture
def data(tmp_path):
    return StayData.open(write_preprocessed(tmp_path / "preprocessed"))


def test_columns_are_alphabetical_variables_then_masks():
    names = column_names()
    assert len(names) == N_COLUMNS == 76
    assert names[:4] == ["Capillary refill rate=0.0", "Capillary refill rate=1.0", "Diastolic blood pressure"] + [
        "Fraction inspired oxygen"
    ]
    assert names[59:] == [f"observed:{v.name}" for v in VARIABLES]


def test_expand_against_a_cell_by_cell_reading():
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, len(v.categories) or 200, 5) for v in VARIABLES], axis=1).astype(np.float32)
    observed = rng.random(values.shape) < 0.5
    mean = [0.0 if v.is_categorical else 10.0 + i for i, v in enumerate(VARIABLES)]
    sd = [1.0 if v.is_categorical else 2.0 + i for i, v in enumerate(VARIABLES)]
    got = expand(values, observed, {"mean": mean, "sd": sd})
    for row in range(5):
        expected = []
        for i, v in enumerate(VARIABLES):
            if v.is_categorical:
                expected += [float(values[row, i] == k) for k in range(len(v.categories))]
            else:
                expected.append((values[row, i] - mean[i]) / sd[i])
        np.testing.assert_allclose(got[row], [*expected, *observed[row]], rtol=1e-6)


def test_no_category_is_a_group_of_zeros_and_touches_no_other_column():
    values = np.stack([np.full(4, v.normal_value) for v in VARIABLES], axis=1).astype(np.float32)
    observed = np.ones(values.shape, dtype=bool)
    normaliser = {"mean": np.zeros(len(VARIABLES)), "sd": np.ones(len(VARIABLES))}
    full = expand(values, observed, normaliser)
    for i in (i for i, v in enumerate(VARIABLES) if v.is_categorical):
        without = values.copy()
        without[[0, 3], i] = -1
        group = [c for c, name in enumerate(column_names()) if name.startswith(f"{VARIABLES[i].name}=")]
        expected = full.copy()
        expected[np.ix_([0, 3], group)] = 0
        assert full[:, group].sum(axis=1).tolist() == [1, 1, 1, 1]
        np.testing.assert_array_equal(expand(without, observed, normaliser), expected)


def test_a_stay_reads_the_same_alone_and_in_company(data):
    together = collate(data, [7, 0, 12])
    for position, row in enumerate([7, 0, 12]):
        alone = collate(data, [row])
        n = int(alone.lengths[0])
        assert n == data.n_rows[row]
        assert torch.equal(together.series[position, :n], alone.series[0])
        assert not together.series[position, n:].any()


def test_rows_come_from_their_own_stay(data):
    first = data.first_row[5]
    rows = slice(first, first + data.n_rows[5])
    expected = expand(data.values[rows], data.observed[rows], data.normaliser)
    np.testing.assert_array_equal(collate(data, [5]).series[0].numpy(), expected)


def test_only_films_that_are_there_enter_the_batch(data):
    batch = collate(data, [1, 2, 3, 6])
    assert batch.has_film.tolist() == [False, True, False, True]
    assert batch.film_rows.tolist() == [1, 3]
    assert batch.films.shape == (2, 1, SIDE, SIDE) and batch.films.dtype == torch.uint8
    np.testing.assert_array_equal(batch.films[1, 0].numpy(), data.films[data.film[6]])


def test_all_films_of_a_stay_enter_in_order_of_time(tmp_path):
    path = write_preprocessed(tmp_path / "p", most_films=3)
    data, pairs = StayData.open(path), pl.read_parquet(path / "pairs.parquet")
    rows = [4, 1, 2, 0]
    batch = collate(data, rows)
    assert batch.film_rows.tolist() == [0, 0, 0, 2, 2, 3]
    assert batch.has_film.tolist() == [True, False, True, True]
    for position, row in enumerate(rows):
        expected = pairs.filter(pl.col("stay_id") == data.stay_id[row]).sort("film_hours")["film"].to_numpy()
        assert len(expected) == data.n_films[row] and data.film[row] == (expected[-1] if len(expected) else -1)
        np.testing.assert_array_equal(batch.films[batch.film_rows == position, 0].numpy(), data.films[expected])


def test_rows_of_films_npy_and_of_films_parquet_are_not_the_same(data, tmp_path):
    """The toy has a film that could not be read, so that the tests tell one from the other."""
    assert data.film[0] == 1 and not data.films[0].any()
    assert collate(data, [0]).films.any()


def test_a_batch_without_any_film(data):
    for batch in (collate(data, [1, 3]), collate(data, [0, 2], films=False)):
        assert batch.films.shape == (0, 1, SIDE, SIDE)
        assert not batch.has_film.any() and not len(batch.film_rows)


def test_no_film_at_all_in_the_artifact(tmp_path):
    data = StayData.open(write_preprocessed(tmp_path / "p", films=False))
    assert collate(data, [0, 1]).films.shape[0] == 0
    assert len(data.rows_of("train", with_film=True)) == 0


def test_unknown_labels_are_nan_and_the_splits_are_kept(tmp_path):
    data = StayData.open(write_preprocessed(tmp_path / "p", known=0.5))
    assert data.label_names == ("mortality",)
    assert collate(data, np.arange(len(data))).labels.isnan().any()
    assert sum(len(data.rows_of(s)) for s in ("train", "val", "test")) == len(data)


class Shift(Corruption):
    """Easy to recognise: heart rate + the stay's id, a stay's films + 1, + 2, ..."""

    def series(self, values, observed, stay_id):
        shifted = values.copy()
        shifted[:, INDEX["Heart Rate"]] += stay_id % 100
        return shifted, observed

    def film(self, film, stay_id, number):
        return film + np.uint8(1 + number)


def test_a_corruption_meets_each_stay_once_before_standardisation(data):
    rows = [2, 5, 6]
    clean, noisy = collate(data, rows), collate(data, rows, corruption=Shift(level=1, seed=0))
    column = column_names().index("Heart Rate")
    for position, row in enumerate(rows):
        n = int(clean.lengths[position])
        moved = (noisy.series - clean.series)[position, :n, column]
        expected = (data.stay_id[row] % 100) / data.normaliser["sd"][INDEX["Heart Rate"]]
        np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-4)
    np.testing.assert_array_equal(noisy.films.numpy(), clean.films.numpy() + 1)
    others = [c for c in range(N_COLUMNS) if c != column]
    assert torch.equal(noisy.series[..., others], clean.series[..., others])


def test_each_film_of_a_stay_is_corrupted_by_its_own_number(tmp_path):
    data = StayData.open(write_preprocessed(tmp_path / "p", most_films=3))
    clean, noisy = collate(data, [4, 1, 2, 0]), collate(data, [4, 1, 2, 0], corruption=Shift(level=1, seed=0))
    moved = (noisy.films - clean.films).flatten(start_dim=1)
    assert moved.unique(dim=1)[:, 0].tolist() == [1, 2, 3, 1, 2, 1]


class Without(Corruption):
    """Takes away the films of one stay, and says that no other stay's heart rate was measured."""

    def __init__(self, stay_id):
        super().__init__(level=1, seed=0)
        self.stay_id = stay_id

    def series(self, values, observed, stay_id):
        observed = observed.copy()
        observed[:, INDEX["Heart Rate"]] = stay_id == self.stay_id
        return values, observed

    def films(self, films, stay_ids):
        return np.where(stay_ids == self.stay_id, -1, films)


def test_a_corruption_takes_films_and_measurements_away(data):
    clean, less = collate(data, [2, 4, 6]), collate(data, [2, 4, 6], corruption=Without(data.stay_id[4]))
    assert clean.has_film.all() and less.has_film.tolist() == [True, False, True]
    assert less.film_rows.tolist() == [0, 2] and torch.equal(less.films, clean.films[[0, 2]])
    seen = less.series[..., N_VALUE_COLUMNS + INDEX["Heart Rate"]]
    assert seen[1, : less.lengths[1]].all() and not seen[0].any() and not seen[2].any()
    assert torch.equal(less.series[..., :N_VALUE_COLUMNS], clean.series[..., :N_VALUE_COLUMNS])


def test_a_corruption_of_one_modality_is_not_asked_about_the_other(data):
    for modality, name in (("ehr", "films"), ("cxr", "series")):
        corruption = Without(data.stay_id[4])
        corruption.modality = modality
        setattr(corruption, name, None)  # would fail if it were called
        collate(data, [2, 4], corruption=corruption)


def test_to_moves_every_tensor(data):
    batch = collate(data, [0, 1]).to("meta")
    assert {getattr(batch, f.name).device.type for f in dataclasses.fields(batch)} == {"meta"}


def test_a_damaged_artifact_is_one_clear_error(tmp_path):
    path = write_preprocessed(tmp_path / "p")
    (path / "values.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="is not a readable preprocess artifact"):
        StayData.open(path)
    with pytest.raises(InputError, match="is not a readable preprocess artifact"):
        StayData.open(tmp_path / "nowhere")


def test_an_artifact_without_its_pairs_or_with_others_is_unreadable(tmp_path):
    path = write_preprocessed(tmp_path / "p", most_films=2)
    pairs = pl.read_parquet(path / "pairs.parquet")
    (path / "pairs.parquet").unlink()
    with pytest.raises(InputError, match=r"is not a readable preprocess artifact: .*\n.*fusionctl preprocess --force"):
        StayData.open(path)
    stranger = pl.concat([pairs, pairs[-1:].with_columns(stay_id=pl.lit(1, pl.Int64))]).sort("stay_id")
    other_film = pairs.with_columns(film=pl.lit(1, pl.Int32))
    for wrong in (pairs[1:], stranger, other_film):
        wrong.write_parquet(path / "pairs.parquet")
        with pytest.raises(InputError, match=r"pairs\.parquet and samples\.parquet disagree about the films"):
            StayData.open(path)
    pairs.write_parquet(path / "pairs.parquet")
    StayData.open(path)
