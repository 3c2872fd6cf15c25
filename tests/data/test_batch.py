"""Batches: the 76 columns, padding, absent films, noise."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from toy import SIDE, write_preprocessed

from fusionctl.data.batch import N_COLUMNS, StayData, collate, column_names, expand
from fusionctl.data.film_batch import FilmData, collate_films
from fusionctl.data.variables import CHEXPERT_LABELS, INDEX, VARIABLES
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


class Shift:
    """A noise that is easy to recognise: heart rate + the stay's id, film + 1."""

    def series(self, values, stay_id):
        shifted = values.copy()
        shifted[:, INDEX["Heart Rate"]] += stay_id % 100
        return shifted

    def film(self, film, stay_id):
        return film + np.uint8(1)


def test_noise_meets_each_stay_once_before_standardisation(data):
    rows = [2, 5, 6]
    clean, noisy = collate(data, rows), collate(data, rows, noise=Shift())
    column = column_names().index("Heart Rate")
    for position, row in enumerate(rows):
        n = int(clean.lengths[position])
        moved = (noisy.series - clean.series)[position, :n, column]
        expected = (data.stay_id[row] % 100) / data.normaliser["sd"][INDEX["Heart Rate"]]
        np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-4)
    np.testing.assert_array_equal(noisy.films.numpy(), clean.films.numpy() + 1)
    others = [c for c in range(N_COLUMNS) if c != column]
    assert torch.equal(noisy.series[..., others], clean.series[..., others])


def test_to_moves_every_tensor(data):
    batch = collate(data, [0, 1]).to("meta")
    assert {getattr(batch, f.name).device.type for f in dataclasses.fields(batch)} == {"meta"}


def test_a_damaged_artifact_is_one_clear_error(tmp_path):
    path = write_preprocessed(tmp_path / "p")
    (path / "values.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="is not a readable preprocess artifact"):
        StayData.open(path)
    with pytest.raises(InputError, match="is not a readable preprocess artifact"):
        FilmData.open(tmp_path / "nowhere")


def test_labels_of_films_not_mentioned_is_no_and_uncertain_or_unlabelled_teaches_nothing(tmp_path):
    path = write_preprocessed(tmp_path / "p")
    rows = {"Pneumonia": [1.0, 0.0, -1.0, None], "Edema": [None, None, 1.0, None]}
    table = pl.read_parquet(path / "films.parquet")[:4].with_columns(pl.lit(np.nan).alias(n) for n in CHEXPERT_LABELS)
    columns = [pl.Series(n, v, dtype=pl.Float32).fill_null(np.nan) for n, v in rows.items()]
    table.with_columns(columns).write_parquet(path / "films.parquet")
    data = FilmData.open(path)
    batch = collate_films(data, [0, 1, 2, 3])
    pneumonia, edema = (batch.labels[:, data.label_names.index(n)].numpy() for n in rows)
    np.testing.assert_array_equal(pneumonia, [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(edema, [0, 0, 1, np.nan])
    assert batch.labels[3].isnan().all() and not batch.labels[0].isnan().any()
    np.testing.assert_array_equal(batch.films[1, 0].numpy(), data.films[1])
