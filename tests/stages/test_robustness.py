"""The noise sweep on a tiny hand-made preprocess artifact and untrained models."""

import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch

from fusionctl import fusion, loop, metrics
from fusionctl.data.batch import StayData, collate
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import InputError, UsageError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.settings import RobustnessSettings, Runtime
from fusionctl.stages import robustness
from fusionctl.workdir import Artifact, Draft

N, T, S = 60, 4, 32
LEVELS = (0.0, 0.3, 0.9)


@pytest.fixture(scope="module")
def preprocess(tmp_path_factory):
    """60 stays: 30 for training, 30 for testing, every second one with a film."""
    folder = tmp_path_factory.mktemp("preprocess")
    rng = np.random.default_rng(0)
    film = np.where(np.arange(N) % 2 == 0, np.arange(N) // 2, -1).astype(np.int32)
    pl.DataFrame(
        {
            "stay_id": np.arange(N) + 100,
            "subject_id": np.arange(N) + 500,
            "split": ["train"] * 30 + ["test"] * 30,
            "first_row": np.arange(N) * T,
            "n_rows": np.full(N, T, np.int32),
            "window_hours": np.full(N, 8.0),
            "last_event_hours": np.full(N, 7.0),
            "film": film,
            "n_films": (film >= 0).astype(np.int32),
            "film_hours": np.where(film >= 0, 3.0, np.nan),
            "intime": [datetime(2150, 1, 1)] * N,
            "mortality": (rng.random(N) < 0.4).astype(np.float32),
        }
    ).write_parquet(folder / "samples.parquet")
    write_pairs(folder)
    values = np.tile(np.array([v.normal_value for v in VARIABLES], np.float32), (N * T, 1))
    continuous = np.array([not v.is_categorical for v in VARIABLES])
    values[:, continuous] *= rng.normal(1, 0.1, (N * T, continuous.sum()))
    np.save(folder / "values.npy", values)
    np.save(folder / "observed.npy", rng.random((N * T, 17)) < 0.5)
    np.save(folder / "films.npy", rng.integers(0, 256, (N // 2, S, S)).astype(np.uint8))
    mean, sd = np.where(continuous, values.mean(axis=0), 0), np.where(continuous, values.std(axis=0), 1)
    (folder / "normaliser.json").write_text(json.dumps({"mean": mean.tolist(), "sd": sd.tolist()}))
    return Artifact("preprocess", "p0", folder, {"settings": {}, "inputs": {}})


def write_pairs(folder):
    """pairs.parquet with the one film that samples.parquet tells of each stay."""
    samples = pl.read_parquet(folder / "samples.parquet").filter(pl.col("film") >= 0)
    samples.select("stay_id", "film", "film_hours").write_parquet(folder / "pairs.parquet")


def save_model(folder, name, artifact_id):
    torch.manual_seed(int(artifact_id, 16))
    ehr = EhrEncoder(hidden=8) if name != "cxr" else None
    cxr = CxrEncoder("resnet18", input_size=S) if name != "ehr" else None
    model = fusion.build(name, ehr, cxr, 1, options={"dropout": 0.1})
    path = folder / artifact_id
    path.mkdir()
    fusion.save(path / "weights.safetensors", model)
    return artifact(path, name, artifact_id)


def artifact(path, name, artifact_id, preprocess="p0"):
    return Artifact(
        "fuse", artifact_id, path, {"settings": {"fusion": {"value": name}}, "inputs": {"preprocess": preprocess}}
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuse")
    names = (("attention", "a1"), ("ehr", "e1"), ("cxr", "c1"))
    return [save_model(folder, name, artifact_id) for name, artifact_id in names]


def sweep(folder, preprocess, models, *, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    draft = Draft(folder)
    options = RobustnessSettings(**{"noise": "0.3,0.9", "resamples": 20} | settings)
    robustness.run(draft, options, {"preprocess": preprocess, "fuse": models}, runtime=Runtime(seed=seed))
    return draft


@pytest.fixture(scope="module")
def done(tmp_path_factory, preprocess, models):
    return sweep(tmp_path_factory.mktemp("robustness"), preprocess, models)


def curve(draft):
    return pl.read_parquet(draft.file("curve.parquet"))


def values(draft, **where):
    return curve(draft).filter(**where).sort("noise")["value"].to_list()


def test_one_row_a_cell(done):
    found = curve(done)
    keys = ["model", "noise", "kind", "modality", "subset", "metric"]
    assert found.columns == [*keys, "value", "low", "high"]
    assert len(found) == len(LEVELS) * 3 * 2 * 4 == found.select(keys).n_unique() == done.rows["curve"]
    assert sorted(found["noise"].unique()) == [0.0, 0.3, 0.9]
    known = found.filter(pl.col("value").is_not_nan())
    assert (known["low"] <= known["high"]).all()


def test_the_clean_level_is_the_models_own_prediction(done, preprocess, models):
    data = StayData.open(preprocess.path)
    rows = data.rows_of("test")
    for one in models:
        model = fusion.load(one.file("weights.safetensors"))
        logits = loop.predict(model, lambda chunk: collate(data, chunk), rows, batch_size=7)
        paired = data.film[rows] >= 0
        expected = metrics.scores_of(data.labels[rows, 0][paired], loop.chances(logits)[paired, 0])
        found = [values(done, model=one.setting("fusion"), subset="paired", metric=m)[0] for m in metrics.METRICS]
        assert found == pytest.approx(expected, abs=1e-9)


def test_intervals_use_the_resamples_that_evaluate_draws(done, preprocess, models):
    data = StayData.open(preprocess.path)
    rows = data.rows_of("test")
    logits = loop.predict(
        fusion.load(models[1].file("weights.safetensors")), lambda chunk: collate(data, chunk), rows, batch_size=64
    )
    boot = metrics.bootstrap(
        data.labels[rows], loop.chances(logits), data.subject_id[rows], resamples=20, seed=(0, 0), threshold=0.5
    )
    row = curve(done).filter(model="ehr", noise=0.0, subset="all", metric="auroc").to_dicts()[0]
    assert {key: row[key] for key in ("value", "low", "high")} == pytest.approx(boot.interval(0)["auroc"])


def test_a_film_only_model_has_no_metric_over_all_stays(done):
    assert np.isnan(values(done, model="cxr", subset="all", metric="auroc")).all()
    assert not np.isnan(values(done, model="cxr", subset="paired", metric="auroc")).any()
    stored = json.loads(done.file("metrics.json").read_text())
    assert {r["value"] for r in stored["curve"] if r["model"] == "cxr" and r["subset"] == "all"} == {None}


def test_noise_changes_predictions(done):
    for model in ("attention", "ehr", "cxr"):
        assert len(set(values(done, model=model, subset="paired", metric="auroc"))) > 1


def test_one_modality_leaves_the_other_models_alone(tmp_path, preprocess, models):
    films = sweep(tmp_path / "cxr", preprocess, models[1:], modality="cxr", noise="0.9")
    series = sweep(tmp_path / "ehr", preprocess, models[1:], modality="ehr", noise="0.9")
    for metric in metrics.METRICS:
        assert len(set(values(films, model="ehr", subset="all", metric=metric))) == 1
        assert len(set(values(series, model="cxr", subset="paired", metric=metric))) == 1
    assert len(set(values(films, model="cxr", subset="paired", metric="auroc"))) > 1
    assert len(set(values(series, model="ehr", subset="paired", metric="auroc"))) > 1


def test_same_bytes_on_a_rerun_and_for_any_choice_of_models(done, tmp_path, preprocess, models):
    again = sweep(tmp_path / "again", preprocess, models)
    for name in ("curve.parquet", "curve.svg", "metrics.json", "tables.json"):
        assert again.file(name).read_bytes() == done.file(name).read_bytes(), name
    alone = sweep(tmp_path / "alone", preprocess, models[1:2], noise="0.9")
    expected = curve(done).filter(pl.col("model") == "ehr", pl.col("noise").is_in([0.0, 0.9]))
    assert curve(alone).equals(expected)


def test_batches_do_not_matter(done, tmp_path, preprocess, models, monkeypatch):
    monkeypatch.setattr(robustness, "BATCH", 7)
    again = sweep(tmp_path / "again", preprocess, models[1:2])
    np.testing.assert_allclose(curve(again)["value"], curve(done).filter(model="ehr")["value"], atol=1e-9)


def test_the_seed_matters(done, tmp_path, preprocess, models):
    other = sweep(tmp_path / "other", preprocess, models[1:2], seed=1)
    where = {"model": "ehr", "subset": "paired", "metric": "auroc"}
    assert values(other, **where)[0] == values(done, **where)[0]
    assert values(other, **where)[1:] != values(done, **where)[1:]


def test_the_figure_and_the_table(done):
    svg = done.file("curve.svg").read_text(encoding="utf-8")
    for text in ("AUROC, all stays", "AUPRC, stays with a film", "attention", "cxr", "share corrupted (%)"):
        assert text in svg
    assert "<dc:date>" not in svg
    (found,) = json.loads(done.file("tables.json").read_text())
    assert found["header"] == ["stays", "model", "metric", "0", "0.3", "0.9"]
    # attention and ehr on all, all three on the paired stays, two metrics each
    assert [row[:3] for row in found["rows"]][:2] == [["all", "attention", "AUROC"], ["all", "attention", "AUPRC"]]
    assert len(found["rows"]) == 2 * 2 + 3 * 2


def test_the_settings_are_recorded(done):
    stored = json.loads(done.file("metrics.json").read_text())
    assert stored["artifacts"] == {"attention": "a1", "ehr": "e1", "cxr": "c1"}
    assert (stored["levels"], stored["kind"]) == ([0.0, 0.3, 0.9], "additive")
    assert (stored["modality"], stored["seed"]) == ("both", 0)


def test_two_models_of_one_fusion_are_told_apart(tmp_path, preprocess, models):
    (tmp_path / "fuse").mkdir()
    twin = save_model(tmp_path / "fuse", "ehr", "e2")
    found = sweep(tmp_path / "sweep", preprocess, [models[1], twin], noise="0.5")
    assert curve(found)["model"].unique().sort().to_list() == ["ehr e1", "ehr e2"]


def test_subsets_of_fewer_than_ten_patients_are_left_out(tmp_path, preprocess, models, caplog):
    folder = tmp_path / "few"
    folder.mkdir()
    for path in preprocess.path.iterdir():
        (folder / path.name).symlink_to(path)
    samples = pl.read_parquet(folder / "samples.parquet")
    few = samples.with_columns(film=pl.when(pl.col("stay_id") < 140).then("film").otherwise(-1).cast(pl.Int32))
    for name in ("samples.parquet", "pairs.parquet"):
        (folder / name).unlink()
    few = few.with_columns(n_films=(pl.col("film") >= 0).cast(pl.Int32))
    few.write_parquet(folder / "samples.parquet")  # five test patients with a film
    write_pairs(folder)
    found = sweep(tmp_path / "sweep", Artifact("preprocess", "p0", folder, {}), models[1:2])
    assert curve(found)["subset"].unique().to_list() == ["all"]
    assert "paired stays: fewer than 10 test patients" in caplog.text
    assert "stays with a film" not in found.file("curve.svg").read_text(encoding="utf-8")


def test_trees_have_no_weights(tmp_path, preprocess, models):
    with pytest.raises(UsageError, match=r"fuse/t1 \(trees\) reads summaries.* rule: robustness takes networks"):
        sweep(tmp_path, preprocess, [models[0], artifact(tmp_path, "trees", "t1")])


def test_a_model_of_other_data(tmp_path, preprocess, models):
    stranger = artifact(models[0].path, "attention", "a9", preprocess="p9")
    with pytest.raises(InputError, match="fuse/a9 was trained on preprocess/p9, not on preprocess/p0"):
        sweep(tmp_path, preprocess, [stranger])


def test_wrong_levels(tmp_path, preprocess, models):
    with pytest.raises(UsageError, match="--noise must be"):
        sweep(tmp_path, preprocess, models, noise="0.5:2")


def test_no_test_stay(tmp_path, preprocess, models):
    samples = pl.read_parquet(preprocess.file("samples.parquet"))
    for path in preprocess.path.glob("*.npy"):
        (tmp_path / path.name).symlink_to(path)
    for name in ("normaliser.json", "pairs.parquet"):
        (tmp_path / name).symlink_to(preprocess.file(name))
    samples.with_columns(split=pl.lit("train")).write_parquet(tmp_path / "samples.parquet")
    with pytest.raises(InputError, match="preprocess/p0: no stay is in the test split"):
        sweep(tmp_path / "out", Artifact("preprocess", "p0", tmp_path, {}), models)
