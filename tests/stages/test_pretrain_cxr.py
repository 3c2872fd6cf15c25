"""Pretraining of the film encoder: what it learns from, what it is tested on, what it leaves."""

import dataclasses
import json
import logging

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from toy import artifact, write_preprocessed

from fusionctl.checkpoint import read
from fusionctl.data.variables import CHEXPERT_LABELS
from fusionctl.errors import InputError, LeakError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.report.names import with_interval
from fusionctl.settings import PretrainCxrSettings, Runtime
from fusionctl.stages import pretrain_cxr
from fusionctl.tasks import TASKS
from fusionctl.workdir import Draft

SETTINGS = PretrainCxrSettings(epochs=1, arch="resnet18", input_size=32, lr=1e-3, batch_size=16)


def do(path, data, *, init=None, protocol="paper", **changes):
    path.mkdir()
    draft = Draft(path)
    inputs = {"preprocess": artifact(data, protocol=protocol), "init": init}
    pretrain_cxr.run(draft, dataclasses.replace(SETTINGS, **changes), inputs, runtime=Runtime(seed=1))
    return draft


def metrics(draft):
    return json.loads(draft.file("metrics.json").read_text())


def weights(draft):
    return read(draft.file("weights.safetensors"))[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Enough patients for 11 of them, with a film, to be for testing."""
    return write_preprocessed(tmp_path_factory.mktemp("data") / "preprocess", stays=132)


@pytest.fixture(scope="module")
def radiology(data, tmp_path_factory):
    return do(tmp_path_factory.mktemp("made") / "radiology", data)


@pytest.fixture(scope="module")
def mortality(data, tmp_path_factory):
    return do(tmp_path_factory.mktemp("made") / "mortality", data, task="mortality")


def test_files_and_rows(radiology, data):
    names = ["history.jsonl", "metrics.json", "predictions.parquet", "tables.json", "weights.safetensors"]
    assert sorted(p.name for p in radiology.path.iterdir()) == names
    films = pl.read_parquet(data / "films.parquet")
    count = dict(films["split"].value_counts().iter_rows())
    assert radiology.rows["train"] + radiology.rows["val"] == count["train"]
    assert radiology.rows["val"] > 0 and radiology.rows["predictions"] == count["val"] + count["test"]
    best = json.loads(radiology.file("history.jsonl").read_text().splitlines()[0])
    assert metrics(radiology)["val"]["auroc"] == best["val_auroc"]  # of the training patients that were held out


def test_every_labelled_film_of_other_patients_is_predicted(radiology, data):
    table = pl.read_parquet(radiology.file("predictions.parquet"))
    labels = {f"{kind}:{name}": pl.Float32 for kind in ("label", "prob") for name in CHEXPERT_LABELS}
    assert table.schema == pl.Schema({"film": pl.Int32, "subject_id": pl.Int64, "split": pl.String, **labels})
    films = pl.read_parquet(data / "films.parquet").filter(pl.col("split") != "train")
    for name in ("film", "subject_id", "split"):
        assert table[name].to_list() == films[name].to_list()
    assert table["label:Pneumonia"].to_list() == films["Pneumonia"].to_list()
    assert table["prob:Pneumonia"].is_between(0, 1).all()


def test_test_films_have_auroc_with_intervals_by_label(radiology, data):
    table = pl.read_parquet(radiology.file("predictions.parquet"))
    for key, split in (("test", "test"), ("val_split", "val")):
        found, part = metrics(radiology)[key], table.filter(pl.col("split") == split)
        assert (found["films"], found["patients"]) == (len(part), part["subject_id"].n_unique())
        pneumonia = found["labels"]["Pneumonia"]
        assert (pneumonia["n"], pneumonia["positives"]) == (len(part), part["label:Pneumonia"].sum())
        expected = roc_auc_score(part["label:Pneumonia"], part["prob:Pneumonia"])
        assert pneumonia["auroc"]["value"] == pytest.approx(expected, abs=1e-6)
        assert pneumonia["auroc"]["low"] <= expected <= pneumonia["auroc"]["high"]
        both = [found["labels"][name]["auroc"]["value"] for name in ("Pneumonia", "No Finding")]
        assert found["mean"]["auroc"]["value"] == pytest.approx(np.mean(both)) == pytest.approx(found["auroc"])


def test_terminal_table_shows_a_dash_for_one_class(radiology):
    (table,) = json.loads(radiology.file("tables.json").read_text())
    assert table["title"] == (
        "radiology: films of test patients (11 films, 11 patients), 95 % intervals from 1,000 resamples of patients"
    )
    assert table["header"] == ["label", "n", "prevalence", "AUROC (95 % interval)", "AUPRC (95 % interval)"]
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert list(rows) == [*CHEXPERT_LABELS, "mean of the labels"]
    assert rows["Edema"] == ["11", "0.0\u00a0%", "–", "–"]
    auroc = metrics(radiology)["test"]["labels"]["Pneumonia"]["auroc"]
    assert rows["Pneumonia"][:3] == ["11", "–", with_interval(auroc)]  # fewer than 10 with pneumonia: no prevalence
    assert all(len(row) == len(table["header"]) for row in table["rows"])


def test_radiology_learns_nothing_from_films_of_other_patients(radiology, data, tmp_path):
    """Whatever those films and labels are, the weights and the history are the same."""
    other = tmp_path / "other"
    other.mkdir()
    for file in data.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    table = pl.read_parquet(data / "films.parquet")
    foreign = pl.col("split") != "train"
    pixels = np.load(data / "films.npy")
    pixels[table.filter(foreign)["film"].to_numpy()] = 255 - pixels[0]
    np.save(other / "films.npy", pixels)
    table.with_columns(Pneumonia=pl.when(foreign).then(1 - pl.col("Pneumonia")).otherwise("Pneumonia")).write_parquet(
        other / "films.parquet"
    )
    again = do(tmp_path / "made", other)
    for file in ("weights.safetensors", "history.jsonl"):
        assert again.file(file).read_bytes() == radiology.file(file).read_bytes()
    assert again.file("metrics.json").read_bytes() != radiology.file("metrics.json").read_bytes()


def test_a_task_learns_from_the_films_of_its_stays_and_the_validation_split_chooses(mortality, data):
    pairs = pl.read_parquet(data / "pairs.parquet").join(pl.read_parquet(data / "samples.parquet"), on="stay_id")
    count = dict(pairs["split"].value_counts().iter_rows())
    assert mortality.rows == {"train": count["train"], "val": count["val"], "predictions": count["val"] + count["test"]}
    found = metrics(mortality)
    assert found["val"]["auroc"] == pytest.approx(found["val_split"]["labels"]["mortality"]["auroc"]["value"])
    table = pl.read_parquet(mortality.file("predictions.parquet"))
    assert table.columns == ["film", "subject_id", "split", "label:mortality", "prob:mortality"]
    (shown,) = json.loads(mortality.file("tables.json").read_text())
    assert [row[0] for row in shown["rows"]] == ["mortality"] and shown["title"].startswith("mortality: films of test")
    assert read(mortality.file("weights.safetensors"))[1]["n_outputs"] == 1


def test_phenotyping_has_its_25_labels(tmp_path):
    data = write_preprocessed(tmp_path / "p")
    samples, names = pl.read_parquet(data / "samples.parquet").drop("mortality"), TASKS["phenotyping"].labels
    drawn = np.random.default_rng(0).integers(0, 2, (len(samples), len(names))).astype(np.float32)
    samples.with_columns(pl.Series(name, column) for name, column in zip(names, drawn.T, strict=True)).write_parquet(
        data / "samples.parquet"
    )
    draft = do(tmp_path / "made", data, task="phenotyping")
    assert list(metrics(draft)["test"]["labels"]) == sorted(names) and len(names) == 25
    assert weights(draft)["head.weight"].shape == (25, 512)
    with pytest.raises(InputError, match="was made for another task: it has no label 'mortality'"):
        do(tmp_path / "other", data, task="mortality")


def test_without_other_patients_the_last_epoch_is_kept_and_nothing_is_tested(tmp_path, caplog):
    data = write_preprocessed(tmp_path / "p", stays=6)
    with caplog.at_level(logging.WARNING, "fusionctl"):
        draft = do(tmp_path / "made", data, task="mortality", epochs=2)
    assert "no row for validation: the last epoch is kept" in caplog.text
    found = metrics(draft)
    assert found["best_epoch"] == 2 and found["val"]["auroc"] is None
    assert found["test"]["films"] == 0 and found["test"]["labels"]["mortality"]["auroc"]["value"] is None
    assert len(pl.read_parquet(draft.file("predictions.parquet"))) == 0
    assert json.loads(draft.file("tables.json").read_text())[0]["rows"] == [["mortality", "0", "–", "–", "–"]]


def test_uncertain_labels_follow_the_protocol_of_the_data(data, tmp_path):
    """In `legacy` -1 is 0, so that a study with it counts."""
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in data.iterdir():
        (changed / file.name).symlink_to(file)
    (changed / "films.parquet").unlink()
    table = pl.read_parquet(data / "films.parquet").with_columns(Edema=pl.lit(-1.0, pl.Float32))
    table.write_parquet(changed / "films.parquet")
    found = metrics(do(tmp_path / "made", changed, protocol="legacy"))["test"]["labels"]["Edema"]
    assert (found["n"], found["positives"]) == (11, 0)


@pytest.mark.parametrize(
    ("protocol", "said", "expected"),
    [
        ("paper", "auto", "ignore"),
        ("legacy", "auto", "zero"),
        (None, "auto", "ignore"),
        ("legacy", "ignore", "ignore"),
        ("paper", "one", "one"),
    ],
)
def test_a_policy_for_uncertain_labels_that_is_said_goes_before(data, tmp_path, monkeypatch, protocol, said, expected):
    class OpenedError(Exception):
        pass

    def opened(path, *, uncertain, task):
        raise OpenedError(uncertain)

    monkeypatch.setattr(pretrain_cxr.FilmData, "open", opened)
    with pytest.raises(OpenedError, match=expected):
        do(tmp_path / "made", data, protocol=protocol, uncertain=said)


def test_init_is_where_training_starts(data, tmp_path):
    torch.manual_seed(7)
    trunk = CxrEncoder("resnet18").trunk.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in trunk.items()}, tmp_path / "w.safetensors")
    made = weights(do(tmp_path / "made", data, init=tmp_path / "w.safetensors", lr=0.0))
    parameters = [name for name in trunk if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(made[f"trunk.{name}"], trunk[name]) for name in parameters)


def test_no_films_is_one_clear_error(tmp_path):
    data = write_preprocessed(tmp_path / "p", films=False)
    with pytest.raises(InputError, match="no labelled film of a training patient to pretrain on"):
        do(tmp_path / "radiology", data)
    with pytest.raises(InputError, match=r"no film of a training stay \(mortality\) to pretrain on"):
        do(tmp_path / "mortality", data, task="mortality")


def test_a_patient_in_two_splits_stops_it(tmp_path):
    data = write_preprocessed(tmp_path / "p")
    films = pl.read_parquet(data / "films.parquet").with_columns(split=pl.lit("train"))
    films.write_parquet(data / "films.parquet")
    for task in ("radiology", "mortality"):
        with pytest.raises(LeakError, match="more than one split"):
            do(tmp_path / task, data, task=task)
