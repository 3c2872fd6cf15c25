"""The three training stages on a toy artifact: files, resume, leaks, one set of rows for every model."""

import dataclasses
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from toy import artifact, write_preprocessed

from fusionctl.checkpoint import read
from fusionctl.errors import InputError, Interrupted, LeakError
from fusionctl.fusion import FUSIONS as FUSION_CLASSES
from fusionctl.fusion import load
from fusionctl.settings import FuseSettings, PretrainCxrSettings, PretrainEhrSettings, Runtime, encoder_settings
from fusionctl.stages import fuse, pretrain_cxr, pretrain_ehr
from fusionctl.tabular import TABULAR
from fusionctl.workdir import Draft

EHR = PretrainEhrSettings(epochs=3, hidden=8, lr=1e-2, batch_size=8)
CXR = PretrainCxrSettings(epochs=2, arch="resnet18", input_size=32, lr=1e-3, batch_size=4)
FUSIONS = ("attention", "ehr", "cxr", "late", "contrastive", "card", *TABULAR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def inputs(folder):
    made = {"preprocess": artifact(write_preprocessed(folder / "preprocess", stays=60, known=0.95))}
    for name, stage, settings in (("pretrain-ehr", pretrain_ehr, EHR), ("pretrain-cxr", pretrain_cxr, CXR)):
        made[name] = artifact(do(stage, settings, folder / name, made).path)
    return made


@pytest.fixture(scope="module")
def fused(folder, inputs):
    return {name: do(fuse, setting(name), folder / f"fuse-{name}", inputs) for name in FUSIONS}


def setting(name, **changes):
    return FuseSettings(**{"fusion": name, "epochs": 2, "lr": 1e-3, "batch_size": 8, "card_samples": 3, **changes})


def do(stage, settings, path, inputs, progress=lambda *_: None):
    path.mkdir(exist_ok=True)
    draft = Draft(path)
    stage.run(draft, settings, inputs, runtime=Runtime(seed=1, progress=progress))
    return draft


class Stopper:
    def __init__(self, at):
        self.left = at

    def __call__(self, label, done, total):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize("name", ["pretrain-ehr", "pretrain-cxr", "attention"])
def test_stopped_at_a_random_step_and_rerun_the_files_have_the_same_bytes(name, folder, inputs, fused, tmp_path):
    stage, settings, whole, steps = {
        "pretrain-ehr": (pretrain_ehr, EHR, folder / "pretrain-ehr", 15),
        "pretrain-cxr": (pretrain_cxr, CXR, folder / "pretrain-cxr", 8),
        "attention": (fuse, setting("attention"), folder / "fuse-attention", 10),
    }[name]
    at = int(np.random.default_rng().integers(1, steps))
    with pytest.raises(Interrupted):
        do(stage, settings, tmp_path / "again", inputs, progress=Stopper(at))
    assert [p.name for p in (tmp_path / "again").iterdir()] == ["checkpoint.safetensors"]
    do(stage, settings, tmp_path / "again", inputs)
    names = sorted(p.name for p in whole.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "again").iterdir())
    for file in names:
        assert (whole / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), f"{file}, stopped at step {at}"


def test_files_of_the_pretraining_stages(folder, inputs):
    more = {"pretrain-ehr": [], "pretrain-cxr": ["predictions.parquet", "tables.json"]}
    for name, epochs in (("pretrain-ehr", 3), ("pretrain-cxr", 2)):
        path, expected = folder / name, ["history.jsonl", "metrics.json", "weights.safetensors"]
        assert sorted(p.name for p in path.iterdir()) == sorted(expected + more[name])
        history = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
        metrics = json.loads((path / "metrics.json").read_text())
        assert len(history) == epochs == metrics["epochs"]
        best = history[metrics["best_epoch"] - 1]
        assert best["best"] and metrics["val"]["auroc"] == best["val_auroc"]
        assert metrics["parameters"] > 0
    assert read(folder / "pretrain-ehr" / "weights.safetensors")[1]["hidden"] == 8
    assert json.loads((folder / "pretrain-ehr" / "metrics.json").read_text())["test"]["auroc"] > 0.5


def test_every_model_predicts_the_same_rows_and_drops_none(fused, inputs):
    samples = pl.read_parquet(inputs["preprocess"].file("samples.parquet")).filter(pl.col("split") != "train")
    for name, draft in fused.items():
        table = pl.read_parquet(draft.file("predictions.parquet"))
        assert table.schema == pl.Schema(
            {
                "stay_id": pl.Int64,
                "subject_id": pl.Int64,
                "split": pl.String,
                "has_film": pl.Boolean,
                "label:mortality": pl.Float32,
                "prob:mortality": pl.Float32,
                **({"sd:mortality": pl.Float32} if name == "card" else {}),
            }
        )
        assert table["stay_id"].to_list() == samples["stay_id"].to_list()
        assert table["split"].to_list() == samples["split"].to_list()
        np.testing.assert_array_equal(table["label:mortality"].to_numpy(), samples["mortality"].to_numpy())
        np.testing.assert_array_equal(table["has_film"].to_numpy(), samples["film"].to_numpy() >= 0)
        without = table["prob:mortality"].is_nan().to_numpy()
        expected = ~table["has_film"].to_numpy() if name == "cxr" else np.zeros(len(table), dtype=bool)
        np.testing.assert_array_equal(without, expected)
        probabilities = table["prob:mortality"].to_numpy()[~without]
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        assert draft.rows["predictions"] == len(table)


def test_files_of_fuse(fused):
    network = ["history.jsonl", "metrics.json", "predictions.parquet", "weights.safetensors"]
    for name, draft in fused.items():
        files = sorted(p.name for p in draft.path.iterdir())
        assert files == (["metrics.json", "predictions.parquet"] if name in TABULAR else network)
        metrics = json.loads(draft.file("metrics.json").read_text())
        assert 0 <= metrics["test"]["auroc"] <= 1 and metrics["val"]["loss"] > 0
        if name not in TABULAR:
            assert draft.facts["precision"] == "float32"
            assert metrics["parameters"] == sum(p.numel() for p in load(draft.file("weights.safetensors")).parameters())


def test_the_fused_model_starts_from_the_pretrained_encoders(inputs, tmp_path):
    settings = FuseSettings(fusion="attention", epochs=1, lr=0.0, batch_size=20)
    model = load(do(fuse, settings, tmp_path / "frozen", inputs).file("weights.safetensors"))
    for name, encoder in (("pretrain-ehr", model.ehr), ("pretrain-cxr", model.cxr)):
        tensors, _ = read(inputs[name].file("weights.safetensors"))
        for key, parameter in encoder.named_parameters():
            assert (parameter == tensors[key]).all(), key


def test_a_missing_encoder_names_the_command(inputs, tmp_path):
    with pytest.raises(InputError, match="run first: fusionctl pretrain-cxr"):
        do(fuse, setting("attention"), tmp_path / "a", {**inputs, "pretrain-cxr": None})
    do(fuse, setting("ehr"), tmp_path / "b", {**inputs, "pretrain-cxr": None})
    do(fuse, setting("trees"), tmp_path / "c", {"preprocess": inputs["preprocess"]})


def test_no_films(tmp_path):
    given = {"preprocess": artifact(write_preprocessed(tmp_path / "p", films=False))}
    with pytest.raises(InputError, match="no labelled film of a training patient"):
        do(pretrain_cxr, CXR, tmp_path / "cxr", given)
    ehr = artifact(do(pretrain_ehr, EHR, tmp_path / "ehr", given).path)
    do(fuse, setting("ehr"), tmp_path / "fused", {**given, "pretrain-ehr": ehr})


def test_stays_with_several_films_train_and_are_predicted(inputs, tmp_path):
    path = write_preprocessed(tmp_path / "p", stays=60, most_films=3)
    draft = do(fuse, setting("attention"), tmp_path / "fused", {**inputs, "preprocess": artifact(path)})
    table, samples = (pl.read_parquet(p) for p in (draft.file("predictions.parquet"), path / "samples.parquet"))
    assert samples["n_films"].unique().sort().to_list() == [0, 1, 2, 3]
    assert table["has_film"].to_list() == (samples.filter(pl.col("split") != "train")["n_films"] > 0).to_list()
    assert table["prob:mortality"].is_not_nan().all()


def test_pretraining_reads_films_of_training_patients_only(inputs, tmp_path, monkeypatch):
    seen = {"training": set(), "testing": set()}
    original, weights = pretrain_cxr.collate_films, tmp_path / "cxr" / "weights.safetensors"

    def watch(data, rows):
        seen["testing" if weights.exists() else "training"].update(data.film[rows].tolist())
        return original(data, rows)

    monkeypatch.setattr(pretrain_cxr, "collate_films", watch)
    do(pretrain_cxr, dataclasses.replace(CXR, epochs=1), tmp_path / "cxr", inputs)
    films = pl.read_parquet(inputs["preprocess"].file("films.parquet"))
    assert seen["training"] == set(films.filter(pl.col("split") == "train")["film"])
    assert seen["testing"] > set(films.filter(pl.col("split") != "train")["film"])


def test_a_patient_in_two_splits_stops_every_stage(tmp_path):
    path = write_preprocessed(tmp_path / "p")
    samples = pl.read_parquet(path / "samples.parquet").with_columns(subject_id=pl.lit(10_000_001, dtype=pl.Int64))
    samples.write_parquet(path / "samples.parquet")
    for stage, settings in ((pretrain_ehr, EHR), (fuse, setting("trees"))):
        with pytest.raises(LeakError, match="more than one split"):
            do(stage, settings, tmp_path / "x", {"preprocess": artifact(path)})


def test_a_film_after_the_prediction_time_stops_every_stage(tmp_path):
    path = write_preprocessed(tmp_path / "p")
    samples = pl.read_parquet(path / "samples.parquet").with_columns(pl.col("film_hours") + 40)
    samples.write_parquet(path / "samples.parquet")
    for stage, settings in ((pretrain_ehr, EHR), (fuse, setting("trees"))):
        with pytest.raises(LeakError, match="film after the time of prediction"):
            do(stage, settings, tmp_path / "x", {"preprocess": artifact(path)})


def test_the_learned_sigmas_are_reported_by_label_and_counted(inputs, tmp_path):
    draft = do(fuse, setting("ehr", loss="uncertainty", loss_lr=0.01), tmp_path / "u", inputs)
    facts = json.loads(draft.file("metrics.json").read_text())
    assert list(facts["sigmas"]) == ["mortality"] and facts["sigmas"]["mortality"] != 1.0
    model = load(draft.file("weights.safetensors"))
    assert facts["parameters"] == sum(p.numel() for p in model.parameters()) + 1


@pytest.mark.parametrize("changes", [{"loss": "focal"}, {"loss": "balanced"}, {"film_dropout": 0.9}], ids=str)
def test_another_loss_and_hidden_films_give_another_model(inputs, fused, tmp_path, changes):
    draft = do(fuse, setting("attention", **changes), tmp_path / "other", inputs)
    other, plain = (d.file("weights.safetensors").read_bytes() for d in (draft, fused["attention"]))
    assert other != plain


def test_film_dropout_leaves_a_model_of_films_alone(inputs, fused, tmp_path):
    draft = do(fuse, setting("cxr", film_dropout=0.9), tmp_path / "cxr", inputs)
    assert draft.file("weights.safetensors").read_bytes() == fused["cxr"].file("weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("absent", "protocol", "expected"),
    [("auto", "paper", "mask"), ("auto", "legacy", "zero"), ("mask", "legacy", "mask"), ("zero", "paper", "zero")],
)
def test_what_stands_for_an_absent_film_follows_the_protocol_unless_said(inputs, tmp_path, absent, protocol, expected):
    given = {**inputs, "preprocess": artifact(inputs["preprocess"].path, protocol=protocol)}
    settings = setting("attention", absent=absent, epochs=1, batch_size=40)
    model = load(do(fuse, settings, tmp_path / "x", given).file("weights.safetensors"))
    assert model.config["options"]["absent"] == expected and model.masks_absent == (expected == "mask")


def test_from_scratch_no_pretrained_encoder_is_read(inputs, tmp_path):
    borrowed = {
        "pretrain-ehr": {n: getattr(EHR, n) for n in encoder_settings(PretrainEhrSettings)},
        "pretrain-cxr": {n: getattr(CXR, n) for n in encoder_settings(PretrainCxrSettings)},
    }
    given = {"preprocess": inputs["preprocess"], "settings": borrowed}
    draft = do(fuse, setting("attention", from_scratch=True, epochs=1, lr=0.0), tmp_path / "x", given)
    model = load(draft.file("weights.safetensors"))
    assert model.ehr.dim == 8 and model.cxr.config["arch"] == "resnet18" and model.cxr.input_size == 32
    tensors, _ = read(inputs["pretrain-ehr"].file("weights.safetensors"))
    assert not torch.equal(model.ehr.head.weight, tensors["head.weight"])
    with pytest.raises(InputError, match="run first: fusionctl pretrain-cxr"):
        do(fuse, setting("trees-film", from_scratch=True), tmp_path / "y", given)


@pytest.mark.parametrize(("labels", "head"), [(1, 14), (25, 25)])
def test_from_scratch_a_film_encoder_has_the_head_of_a_pretrained_one(labels, head):
    values = {n: getattr(CXR, n) for n in encoder_settings(PretrainCxrSettings)}
    data = SimpleNamespace(label_names=tuple(map(str, range(labels))))
    encoder = fuse._random_cxr({"settings": {"pretrain-cxr": values}}, data)
    assert encoder.head.out_features == head


def test_late_fusion_settles_its_weight_on_the_validation_stays(inputs, tmp_path, monkeypatch):
    seen = {}

    def settle(self, parts, labels):
        seen.update(parts, labels=labels)
        self.weight.fill_(0.25)

    monkeypatch.setattr(FUSION_CLASSES["late"], "settle", settle)
    draft = do(fuse, setting("late", epochs=1), tmp_path / "late", inputs)
    samples = pl.read_parquet(inputs["preprocess"].file("samples.parquet")).filter(pl.col("split") == "val")
    assert seen["ehr"].shape == seen["cxr"].shape == seen["labels"].shape == (len(samples), 1)
    np.testing.assert_array_equal(seen["cxr"].isnan().numpy()[:, 0], samples["film"].to_numpy() < 0)
    assert load(draft.file("weights.safetensors")).weight.item() == 0.25
