"""Cells and their merge on a tiny hand-made preprocess artifact and untrained models."""

import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch

from fusionctl import corruption_cells, fusion, loop, metrics
from fusionctl.data.batch import StayData, collate
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import InputError, UsageError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.noise import parse_levels
from fusionctl.settings import CellSettings, RobustnessSettings, Runtime
from fusionctl.stages import cell, robustness
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
    write_films(folder)
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


def write_films(folder):
    """films.parquet: every paired film, of which those of every fourth stay are their patient's second."""
    owner = np.arange(N // 2) * 2 + 500
    pl.DataFrame(
        {
            "film": np.arange(N // 2, dtype=np.int32),
            "subject_id": np.where(np.arange(N // 2) % 2 == 1, owner - 2, owner),
            "view": ["AP"] * (N // 2),
            "study_time": [datetime(2150, 1, 1, 3 * (i % 2)) for i in range(N // 2)],
        }
    ).write_parquet(folder / "films.parquet")


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
        "fuse",
        artifact_id,
        path,
        {"settings": {"fusion": {"value": name}}, "inputs": {"preprocess": preprocess}, "seed": 0},
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuse")
    names = (("attention", "a1"), ("ehr", "e1"), ("cxr", "c1"))
    return [save_model(folder, name, artifact_id) for name, artifact_id in names]


def cell_artifacts(folder, preprocess, models, settings, seed):
    """The cells of a sweep, in its order."""
    curves = corruption_cells.curves(
        settings.corruption, kind=settings.kind, modality=settings.modality, train_on=settings.train_on
    )
    reads = [fusion.FUSIONS[model.setting("fusion")].modalities for model in models]
    runtime = Runtime(seed=seed, kept={})
    made = []
    for number, one in enumerate(corruption_cells.cells(curves, (0.0, *parse_levels(settings.noise)), reads)):
        path = folder / f"cell-{number}"
        path.mkdir()
        values = {name: getattr(one, name) for name in ("corruption", "level", "kind", "modality")}
        inputs = {"preprocess": preprocess, "fuse": models[one.model]}
        cell.run(Draft(path), CellSettings(**values), inputs, runtime=runtime)
        made.append(Artifact("cell", f"c{number}", path, {}))
    return made


def sweep(folder, preprocess, models, *, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    draft = Draft(folder)
    options = RobustnessSettings(**{"noise": "0.3,0.9", "resamples": 20} | settings)
    cells = cell_artifacts(folder, preprocess, models, options, seed)
    inputs = {"preprocess": preprocess, "fuse": models, "cell": cells}
    robustness.run(draft, options, inputs, runtime=Runtime(seed=seed))
    return draft


@pytest.fixture(scope="module")
def done(tmp_path_factory, preprocess, models):
    return sweep(tmp_path_factory.mktemp("robustness"), preprocess, models)


def curve(draft):
    return pl.read_parquet(draft.file("curve.parquet"))


def values(draft, **where):
    return curve(draft).filter(**where).sort("level")["value"].to_list()


def test_one_row_a_cell(done):
    found = curve(done)
    keys = ["model", "trained", "corruption", "kind", "modality", "level", "subset", "metric"]
    assert found.columns == [*keys, "value", "low", "high", "relative", "relative_low", "relative_high"]
    assert len(found) == len(LEVELS) * 3 * 2 * 4 == found.select(keys).n_unique() == done.rows["curve"]
    assert sorted(found["level"].unique()) == [0.0, 0.3, 0.9]
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
    row = curve(done).filter(model="ehr", level=0.0, subset="all", metric="auroc").to_dicts()[0]
    assert {key: row[key] for key in ("value", "low", "high")} == pytest.approx(boot.interval(0)["auroc"])
    row = curve(done).filter(model="ehr", level=0.0, subset="all", metric="auprc").to_dicts()[0]
    shifted = boot.interval(0, method="auto")["auprc"]
    assert {key: row[key] for key in ("value", "low", "high")} == pytest.approx(shifted)


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
    expected = curve(done).filter(pl.col("model") == "ehr", pl.col("level").is_in([0.0, 0.9]))
    assert curve(alone).equals(expected)


def test_batches_do_not_matter(done, tmp_path, preprocess, models, monkeypatch):
    monkeypatch.setattr(cell, "BATCH", 7)
    again = sweep(tmp_path / "again", preprocess, models[1:2])
    np.testing.assert_allclose(curve(again)["value"], curve(done).filter(model="ehr")["value"], atol=1e-9)


def test_the_seed_matters(done, tmp_path, preprocess, models):
    other = sweep(tmp_path / "other", preprocess, models[1:2], seed=1)
    where = {"model": "ehr", "subset": "paired", "metric": "auroc"}
    assert values(other, **where)[0] == values(done, **where)[0]
    assert values(other, **where)[1:] != values(done, **where)[1:]


def test_the_figure_and_the_table(done):
    svg = done.file("curve.svg").read_text(encoding="utf-8")
    for text in (
        "AUROC, all stays",
        "AUPRC, stays with a film",
        "Attention fusion",
        "Film alone",
        "share with noise (%)",
    ):
        assert text in svg
    (found,) = json.loads(done.file("tables.json").read_text())
    assert found["header"] == ["stays", "model", "metric", "0 %", "30 %", "90 %", "area (95 % interval)"]
    assert found["title"] == "mortality: Gaussian noise, additive: series and films"
    # attention and ehr on all, all three on the paired stays, two metrics each
    assert [row[:3] for row in found["rows"]][:2] == [["all", "attention", "AUROC"], ["all", "attention", "AUPRC"]]
    assert len(found["rows"]) == 2 * 2 + 3 * 2
    assert all(len(row) == len(found["header"]) for row in found["rows"])


def test_the_settings_are_recorded(done):
    stored = json.loads(done.file("metrics.json").read_text())
    assert stored["artifacts"] == {"attention": ["a1"], "ehr": ["e1"], "cxr": ["c1"]}
    assert (stored["levels"], stored["kind"], stored["corruptions"]) == ([0.0, 0.3, 0.9], "additive", ["noise"])
    assert (stored["modality"], stored["seed"], stored["train_on"]) == ("both", 0, "clean")
    assert stored["subsets"] == {"all": {"n": 30, "patients": 30}, "paired": {"n": 15, "patients": 15}}
    assert stored["films"] == {"stays": 15, "with_earlier_film": 8}


def test_a_share_is_of_what_is_above_guessing_and_none_of_an_untrained_model(done):
    stored = json.loads(done.file("metrics.json").read_text())
    assert stored["chance"]["all"]["auroc"] == 0.5 and 0.2 < stored["chance"]["all"]["auprc"] < 0.6
    for row in curve(done).filter(level=0.0, metric="auroc").to_dicts():
        clear = row["low"] > 0.5
        assert (row["relative"] == row["relative_low"] == 1) if clear else np.isnan(row["relative"])
    assert curve(done).filter(pl.col("metric").str.contains("f1"))["relative"].is_nan().all()
    assert {a["metric"] for a in stored["area"]} == {"auroc", "auprc"}
    pairs = {(d["a"], d["b"]) for d in stored["area_differences"]}
    assert pairs == {("attention", "ehr"), ("attention", "cxr"), ("ehr", "cxr")}
    undefined = [d for d in stored["area_differences"] if d["b"] == "cxr" and d["subset"] == "all"]
    assert {d["value"] for d in undefined} == {d["p_holm"] for d in undefined} == {None}


def test_relative_performance_and_its_area():
    """A sweep of one model whose AUROC falls from 0.9 to 0.6, AUPRC from 0.6 to 0.3 where guessing gives 0.2."""
    (one,) = corruption_cells.curves("noise", kind="additive", modality="both", train_on="clean")
    made = robustness._Sweep([one], LEVELS, ["ehr"], [("ehr",)])
    values = np.array([[0.9, 0.6, 0.5, 0.5], [0.7, 0.4, 0.4, 0.4], [0.6, 0.3, 0.3, 0.3]])
    noise = np.random.default_rng(0).normal(0, 0.01, (50, 1))
    cells = [corruption_cells.cell_of(one, level, 0, ("ehr",)) for level in LEVELS]
    scores = {cell: (value, value + noise) for cell, value in zip(cells, values, strict=True)}
    guess = np.array([0.5, 0.2, np.nan, np.nan])
    chance = guess, np.tile(guess, (50, 1))
    rows = list(made.rows("all", scores, chance))
    assert [r["relative"] for r in rows if r["metric"] == "auroc"] == pytest.approx([1, 0.5, 0.25])
    assert [r["relative"] for r in rows if r["metric"] == "auprc"] == pytest.approx([1, 0.5, 0.25])
    areas = {key[-1]: area for key, area in made.areas("all", scores, chance).items()}
    assert set(areas) == {"auroc", "auprc"}
    assert areas["auroc"][0] == pytest.approx((0.75 * 0.3 + 0.375 * 0.6) / 0.9) and areas["auroc"][1].shape == (50,)


def test_a_seed_group_is_one_model_the_mean_over_its_seeds(tmp_path, preprocess, models):
    (tmp_path / "fuse").mkdir()
    twin = save_model(tmp_path / "fuse", "ehr", "e5")
    seeded = [Artifact(m.stage, m.id, m.path, {**m.manifest, "seed": seed}) for seed, m in enumerate([models[1], twin])]
    group = curve(sweep(tmp_path / "group", preprocess, seeded, noise="0.5"))
    alone = [curve(sweep(tmp_path / m.id, preprocess, [m], noise="0.5")) for m in seeded]
    assert group["model"].unique().to_list() == ["ehr"]
    np.testing.assert_allclose(group["value"], (alone[0]["value"] + alone[1]["value"]) / 2)
    assert not group["low"].equals((alone[0]["low"] + alone[1]["low"]) / 2)  # draws are averaged, not interval ends


def test_films_that_are_wrong_do_not_concern_the_series_alone(tmp_path, preprocess, models):
    wrong = "film-missing,film-stale,blur,jpeg,contrast"
    found = sweep(tmp_path / "films", preprocess, models[:2], noise="0.5,1", corruption=wrong)
    table = curve(found)
    for name in wrong.split(","):
        line = table.filter(model="ehr", corruption=name, subset="paired", metric="auroc")
        assert line["value"].n_unique() == 1 and line["modality"].unique().to_list() == ["cxr"]
    missing = table.filter(model="attention", corruption="film-missing", level=1.0, metric="auroc")
    data = StayData.open(preprocess.path)
    model = fusion.load(models[0].file("weights.safetensors"))
    rows = data.rows_of("test")
    without = loop.chances(loop.predict(model, lambda chunk: collate(data, chunk, films=False), rows, batch_size=30))
    expected = metrics.auroc(data.labels[rows, 0], without[:, 0])
    assert missing.filter(subset="all")["value"].item() == pytest.approx(expected)
    titles = [t["title"] for t in json.loads(found.file("tables.json").read_text())]
    assert titles[0] == "mortality: Films taken away" and len(titles) == 5


def test_a_film_only_model_has_no_curve_where_films_are_missing(tmp_path, preprocess, models):
    found = sweep(tmp_path / "films", preprocess, models[2:], noise="0.5", corruption="film-missing")
    line = curve(found).filter(subset="paired", metric="auroc").sort("level")
    assert not np.isnan(line["value"][0]) and np.isnan(line["value"][1])


def test_without_an_earlier_film_a_warning_says_that_nothing_changes(tmp_path, preprocess, models, caplog):
    folder = tmp_path / "one-film-each"
    folder.mkdir()
    for path in preprocess.path.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "films.parquet").unlink()
    films = pl.read_parquet(preprocess.file("films.parquet")).with_columns(subject_id=pl.col("film"))
    films.write_parquet(folder / "films.parquet")
    source = Artifact("preprocess", "p0", folder, preprocess.manifest)
    sweep(tmp_path / "sweep", source, models[:1], noise="0.5", corruption="film-stale")
    assert "film-stale: no test stay's patient has an earlier film" in caplog.text


def test_two_models_of_one_fusion_are_told_apart(tmp_path, preprocess, models):
    (tmp_path / "fuse").mkdir()
    twin = save_model(tmp_path / "fuse", "ehr", "e2")
    twin.manifest["settings"]["lr"] = {"value": 0.5}
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
    found = sweep(tmp_path / "sweep", Artifact("preprocess", "p0", folder, {"settings": {}}), models[1:2])
    assert curve(found)["subset"].unique().to_list() == ["all"]
    assert "paired stays: fewer than 10 test patients" in caplog.text
    assert "stays with a film" not in found.file("curve.svg").read_text(encoding="utf-8")


def test_wrong_levels(tmp_path, preprocess, models):
    with pytest.raises(UsageError, match="--noise must be"):
        sweep(tmp_path, preprocess, models, noise="0.5:2")


def test_no_test_stay(tmp_path, preprocess, models):
    samples = pl.read_parquet(preprocess.file("samples.parquet"))
    for path in preprocess.path.glob("*.npy"):
        (tmp_path / path.name).symlink_to(path)
    for name in ("normaliser.json", "pairs.parquet", "films.parquet"):
        (tmp_path / name).symlink_to(preprocess.file(name))
    samples.with_columns(split=pl.lit("train")).write_parquet(tmp_path / "samples.parquet")
    with pytest.raises(InputError, match="preprocess/p0: no stay is in the test split"):
        sweep(tmp_path / "out", Artifact("preprocess", "p0", tmp_path, {"settings": {}}), models)
