"""Film data: rows by the film column, the policy for uncertain labels, films of stays with their outcome."""

import numpy as np
import polars as pl
import pytest
import torch
from toy import SIDE, write_preprocessed

from fusionctl.data.film_batch import FilmData, collate_films
from fusionctl.data.variables import CHEXPERT_LABELS
from fusionctl.errors import InputError


@pytest.fixture
def path(tmp_path):
    return write_preprocessed(tmp_path / "preprocessed", most_films=2)


def labelled(path, **columns):
    """Give the first films these labels and no others; the rest are dropped."""
    n = len(next(iter(columns.values())))
    table = pl.read_parquet(path / "films.parquet")[:n]
    none = table.with_columns(pl.lit(np.nan, pl.Float32).alias(name) for name in CHEXPERT_LABELS)
    given = [pl.Series(name.replace("_", " "), v, dtype=pl.Float32).fill_null(np.nan) for name, v in columns.items()]
    none.with_columns(given).write_parquet(path / "films.parquet")


def test_rows_are_the_readable_films_of_all_patients_by_their_number(path):
    data = FilmData.open(path)
    table = pl.read_parquet(path / "films.parquet")
    assert data.label_names == CHEXPERT_LABELS and set(data.split) == {"train", "val", "test"}
    assert 0 not in data.film and data.film[0] == 1  # the toy's first film could not be read
    batch = collate_films(data, [3, 0])
    assert batch.films.shape == (2, 1, SIDE, SIDE) and batch.films.dtype == torch.uint8
    np.testing.assert_array_equal(batch.films[:, 0].numpy(), data.films[table["film"].to_numpy()[[3, 0]]])
    assert batch.labels[0, CHEXPERT_LABELS.index("Pneumonia")] == table["Pneumonia"][3]
    assert collate_films(data, np.array([], dtype=np.int64)).films.shape == (0, 1, SIDE, SIDE)


def test_the_order_of_the_rows_in_the_file_does_not_matter(path):
    data = FilmData.open(path)
    pl.read_parquet(path / "films.parquet").reverse().write_parquet(path / "films.parquet")
    again = FilmData.open(path)
    for name in ("film", "subject_id", "split", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))


@pytest.mark.parametrize(("uncertain", "value"), [("ignore", np.nan), ("zero", 0), ("one", 1)])
def test_uncertain_labels_by_policy_not_mentioned_is_no_and_unlabelled_is_unknown(path, uncertain, value):
    labelled(path, Pneumonia=[1, 0, -1, None], No_Finding=[None, None, 1, None])
    data = FilmData.open(path, uncertain=uncertain)
    found = dict(zip(data.label_names, data.labels.T, strict=True))
    np.testing.assert_array_equal(found["Pneumonia"], [1, 0, value, np.nan])
    np.testing.assert_array_equal(found["No Finding"], [0, 0, 1, np.nan])
    np.testing.assert_array_equal(found["Edema"], [0, 0, 0, np.nan])


def test_only_uncertain_findings_are_still_a_labelled_report(path):
    labelled(path, Pneumonia=[-1])
    np.testing.assert_array_equal(np.isnan(FilmData.open(path).labels[0]), np.array(CHEXPERT_LABELS) == "Pneumonia")


def test_films_of_stays_with_the_outcome_of_the_stay(path):
    data = FilmData.open(path, task="mortality")
    pairs, samples = pl.read_parquet(path / "pairs.parquet"), pl.read_parquet(path / "samples.parquet")
    assert len(pairs) > (samples["n_films"] > 0).sum()  # some stay has two
    expected = pairs.join(samples, on="stay_id", maintain_order="left")
    assert data.label_names == ("mortality",) and data.labels.shape == (len(pairs), 1)
    assert data.film.tolist() == pairs["film"].to_list()
    assert data.subject_id.tolist() == expected["subject_id"].to_list()
    assert data.split.tolist() == expected["split"].to_list()
    np.testing.assert_array_equal(data.labels[:, 0], expected["mortality"])
    batch = collate_films(data, [2])
    np.testing.assert_array_equal(batch.films[0, 0].numpy(), data.films[data.film[2]])


def test_an_artifact_of_another_task_is_refused(path):
    with pytest.raises(InputError, match="was made for another task: it has no label") as error:
        FilmData.open(path, task="phenotyping")
    assert "--preprocess ID" in error.value.hint


def test_patient_and_split_are_those_of_the_films_own_record(path):
    """The guard on pretraining films looks at them: a wrong pair must not hide a film of a test patient."""
    films = pl.read_parquet(path / "films.parquet")
    films.with_columns(subject_id=pl.col("subject_id") + 1, split=pl.lit("test")).write_parquet(path / "films.parquet")
    data = FilmData.open(path, task="mortality")
    assert set(data.split) == {"test"} and data.subject_id[0] == films["subject_id"][0] + 1


def test_no_films(tmp_path):
    path = write_preprocessed(tmp_path / "p", films=False)
    for task, n_labels in (("radiology", 14), ("mortality", 1)):
        data = FilmData.open(path, task=task)
        assert data.labels.shape == (0, n_labels) and len(data.film) == 0


@pytest.mark.parametrize("file", ["films.parquet", "films.npy", "pairs.parquet", "samples.parquet"])
def test_a_damaged_artifact_is_one_clear_error(path, file):
    (path / file).write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a readable preprocess artifact"):
        FilmData.open(path, task="mortality")
