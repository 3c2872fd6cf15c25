import json
import re

import numpy as np
import polars as pl
import pytest

from fusionctl import metrics
from fusionctl.errors import InputError, UsageError
from fusionctl.settings import EvaluateSettings, Runtime
from fusionctl.stages import evaluate
from fusionctl.workdir import Artifact, Draft

LABEL = "mortality"


def stays(n=240, seed=0):
    """Test and validation rows of one preprocess artifact: two stays for some patients, a film for a third of them."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "stay_id": np.sort(rng.choice(np.arange(30_000_000, 39_999_999), n, replace=False)),
            "subject_id": rng.integers(10_000_000, 10_000_000 + n, n),
            "split": np.where(np.arange(n) % 5 == 0, "val", "test"),
            "has_film": rng.random(n) < 0.4,
            f"label:{LABEL}": (rng.random(n) < 0.3).astype(np.float32),
        }
    )


def probabilities(table, signal, seed, *, films_only=False):
    rng = np.random.default_rng(seed)
    logit = signal * table[f"label:{LABEL}"].to_numpy() + rng.normal(size=len(table)) - 1
    p = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return np.where(table["has_film"].to_numpy(), p, np.nan).astype(np.float32) if films_only else p


def artifact(tmp_path, fusion, table, prob, *, number=1, task="mortality", seed=0, loss="bce", sigmas=None, **more):
    identity = f"{number:012x}"
    path = tmp_path / identity
    path.mkdir()
    table.with_columns(pl.Series(f"prob:{LABEL}", prob)).write_parquet(path / "predictions.parquet")
    (path / "metrics.json").write_text(json.dumps({"sigmas": sigmas} if sigmas else {}))
    values = {"fusion": fusion, "task": task, "loss": loss, **more}
    settings = {name: {"value": value, "source": "flag"} for name, value in values.items()}
    return Artifact("fuse", identity, path, {"settings": settings, "seed": seed, "inputs": {}})


def upstream(tmp_path, table):
    """The preprocess and extract artifacts of these stays, as far as evaluate reads them."""
    n = len(table)
    samples = table.select(
        "stay_id",
        hadm_id=pl.col("stay_id") - 10_000_000,
        sex=pl.Series(["F", "M"] * n)[:n],
        age=pl.Series(np.linspace(18, 91, n)),
        race=pl.lit("WHITE - RUSSIAN"),
        care_unit=pl.lit("Medical Intensive Care Unit (MICU)"),
        film=pl.col("has_film").cast(pl.Int32) - 1,
    )
    diagnoses = samples.select("hadm_id", icd_code=pl.lit("I10"), icd_version=pl.lit(10, pl.Int8))
    found = {}
    for name, file, content in (("preprocess", "samples", samples), ("extract", "diagnoses", diagnoses)):
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        content.write_parquet(path / f"{file}.parquet")
        found[name] = Artifact(name, "0" * 12, path, {})
    return found


@pytest.fixture
def models(tmp_path):
    table = stays()
    return [
        artifact(tmp_path, "attention", table, probabilities(table, 2.0, 1), number=1),
        artifact(tmp_path, "ehr", table, probabilities(table, 1.0, 2), number=2),
        artifact(tmp_path, "cxr", table, probabilities(table, 1.0, 3, films_only=True), number=3),
    ]


def run(tmp_path, artifacts, **settings):
    draft = Draft(tmp_path / "draft")
    draft.path.mkdir(exist_ok=True)
    seen = []
    runtime = Runtime(seed=3, progress=lambda label, done, total: seen.append((label, done, total)))
    table = pl.read_parquet(artifacts[0].file("predictions.parquet"))
    inputs = {"fuse": artifacts, **upstream(tmp_path, table)}
    evaluate.run(draft, EvaluateSettings(**{"resamples": 50, **settings}), inputs, runtime=runtime)
    label, done, total = seen[-1]
    assert label == "bootstrap, subgroups" and done == total > 0
    return draft, json.loads((draft.path / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_values_are_those_of_the_test_stays(tmp_path, models):
    _, result = run(tmp_path, models)
    table = pl.read_parquet(models[1].file("predictions.parquet")).filter(pl.col("split") == "test")
    for name, rows in (("all", table), ("unpaired", table.filter(~pl.col("has_film")))):
        subset = result["subsets"][name]
        labels, prob = rows[f"label:{LABEL}"].to_numpy(), rows[f"prob:{LABEL}"].to_numpy()
        assert subset["n"] == len(rows) and subset["patients"] == rows["subject_id"].n_unique() < len(rows)
        assert subset["positives"][LABEL] == labels.sum() and subset["known"][LABEL] == len(rows)
        assert subset["prevalence"][LABEL] == pytest.approx(labels.mean())
        auroc = subset["models"]["ehr"]["metrics"]["auroc"]
        assert auroc["value"] == pytest.approx(metrics.auroc(labels, prob), abs=1e-12)
        assert auroc["low"] < auroc["value"] < auroc["high"]
        assert subset["models"]["ehr"]["labels"][LABEL]["metrics"]["auroc"] == auroc
    assert result["subsets"]["paired"]["n"] + result["subsets"]["unpaired"]["n"] == result["subsets"]["all"]["n"]
    assert result["models"] == ["attention", "ehr", "cxr"] and result["artifacts"]["cxr"] == [models[2].id]


def test_film_only_model_is_judged_on_paired_stays_only(tmp_path, models):
    _, result = run(tmp_path, models)
    everyone, paired = (result["subsets"][name]["models"]["cxr"] for name in ("all", "paired"))
    missing, n = result["subsets"]["unpaired"]["n"], result["subsets"]["all"]["n"]
    assert everyone["missing"] == missing and everyone["note"] == f"no prediction for {missing} of {n} stays"
    assert set(everyone["metrics"]) == {*metrics.METRICS, *metrics.TUNED}
    assert all(entry == {"value": None, "low": None, "high": None} for entry in everyone["metrics"].values())
    assert everyone["labels"][LABEL]["roc"] == [] and everyone["labels"][LABEL]["calibration"] == []
    assert paired["missing"] == 0 and paired["note"] is None and paired["metrics"]["auroc"]["value"] > 0.5
    assert set(result["subsets"]["all"]["differences"]["models"]) == {"ehr"}
    assert set(result["subsets"]["paired"]["differences"]["models"]) == {"ehr", "cxr"}


def test_difference_is_against_the_first_complete_model(tmp_path, models):
    _, result = run(tmp_path, [models[2], models[1], models[0]])
    assert result["subsets"]["paired"]["differences"]["reference"] == "cxr"
    assert result["subsets"]["all"]["differences"]["reference"] == "ehr"
    entry = result["subsets"]["all"]["differences"]["models"]["attention"]["metrics"]["auroc"]
    values = [result["subsets"]["all"]["models"][m]["metrics"]["auroc"]["value"] for m in ("attention", "ehr")]
    assert entry["value"] == pytest.approx(values[0] - values[1]) and 0 < entry["p"] <= 1


def test_joined_predictions_hold_no_patient_and_no_validation_row(tmp_path, models):
    draft, result = run(tmp_path, models)
    table = pl.read_parquet(draft.file("predictions.parquet"))
    names = [f"prob:{model}:{LABEL}" for model in result["models"]]
    assert table.columns == ["stay_id", "has_film", f"label:{LABEL}", *names]
    assert len(table) == result["subsets"]["all"]["n"] == draft.rows["predictions"]
    source = pl.read_parquet(models[0].file("predictions.parquet")).filter(pl.col("split") == "test")
    assert table["stay_id"].equals(source["stay_id"])
    assert table[names[0]].equals(source[f"prob:{LABEL}"], check_names=False)


def test_metrics_file_holds_no_identifier_and_no_score(tmp_path, models):
    draft, _ = run(tmp_path, models)
    text = (draft.path / "metrics.json").read_text() + (draft.path / "tables.json").read_text()
    table = pl.read_parquet(models[0].file("predictions.parquet"))
    numbers = set(re.findall(r"[\d.]+", text))
    for column in ("stay_id", "subject_id", f"prob:{LABEL}"):
        assert not numbers & {str(value) for value in table[column].to_list()}


def test_curves_are_on_the_grid(tmp_path, models):
    _, result = run(tmp_path, models)
    label = result["subsets"]["all"]["models"]["ehr"]["labels"][LABEL]
    assert len(result["grid"]) == len(label["roc"]) == len(label["pr"]) <= 100
    assert sum(b["n"] for b in label["calibration"]) == result["subsets"]["all"]["n"]


def test_one_class_and_an_empty_subset_are_notes(tmp_path):
    table = stays().with_columns(pl.lit(False).alias("has_film"), pl.lit(0, pl.Float32).alias(f"label:{LABEL}"))
    model = artifact(tmp_path, "ehr", table, probabilities(table, 1.0, 1))
    _, result = run(tmp_path, [model])
    assert result["subsets"]["all"]["models"]["ehr"]["labels"][LABEL]["note"].startswith("one class only")
    assert result["subsets"]["all"]["models"]["ehr"]["metrics"]["auroc"]["value"] is None
    assert result["subsets"]["paired"]["n"] == 0 and result["subsets"]["paired"]["prevalence"][LABEL] is None


def test_resamples_with_one_class_are_counted(tmp_path):
    table = stays().with_columns(pl.lit(0, pl.Float32).alias(f"label:{LABEL}"))
    table = table.with_columns((pl.int_range(pl.len()) < 3).cast(pl.Float32).alias(f"label:{LABEL}"))
    model = artifact(tmp_path, "ehr", table, probabilities(table, 1.0, 1))
    _, result = run(tmp_path, [model], resamples=200)
    label = result["subsets"]["all"]["models"]["ehr"]["labels"][LABEL]
    assert 0.07 * 200 < label["undefined"] < 0.2 * 200 and label["note"] is None  # e^-2 = 0.135


def test_unknown_labels_are_equal_to_each_other_and_left_out(tmp_path):
    table = stays().with_columns(
        pl.when(pl.col("stay_id") % 3 == 0)
        .then(float("nan"))
        .otherwise(pl.col(f"label:{LABEL}"))
        .cast(pl.Float32)
        .alias(f"label:{LABEL}")
    )
    pair = [
        artifact(tmp_path, f, table, probabilities(stays(), 1.0, i), number=i) for i, f in enumerate(["ehr", "trees"])
    ]
    _, result = run(tmp_path, pair)
    assert 0 < result["subsets"]["all"]["known"][LABEL] < result["subsets"]["all"]["n"]
    assert result["subsets"]["all"]["models"]["trees"]["metrics"]["auroc"]["value"] > 0.5


def test_same_inputs_same_bytes(tmp_path, models):
    first, _ = run(tmp_path, models)
    before = {p.name: p.read_bytes() for p in first.path.iterdir()}
    second, _ = run(tmp_path, models)
    assert before == {p.name: p.read_bytes() for p in second.path.iterdir()}
    assert set(before) == {"metrics.json", "tables.json", "predictions.parquet"}


def test_two_models_of_one_fusion_are_told_apart(tmp_path):
    table = stays()
    pair = [artifact(tmp_path, "ehr", table, probabilities(table, 1.0, i), number=i << 40, lr=i) for i in (1, 2)]
    _, result = run(tmp_path, pair)
    assert result["models"] == ["ehr 010000", "ehr 020000"]


def test_threshold_is_chosen_on_validation_and_judged_on_test_stays(tmp_path, models):
    _, result = run(tmp_path, models)
    every = pl.read_parquet(models[1].file("predictions.parquet"))
    truth, prob = (
        {split: every.filter(pl.col("split") == split)[f"{kind}:{LABEL}"].to_numpy() for split in ("val", "test")}
        for kind in ("label", "prob")
    )
    scores = [metrics.f1(truth["val"], prob["val"], threshold=t) for t in prob["val"].tolist()]
    chosen = result["thresholds"]["ehr"][LABEL]
    assert metrics.f1(truth["val"], prob["val"], threshold=chosen) == max(scores) > min(scores)
    found = result["subsets"]["all"]["models"]["ehr"]["metrics"]
    assert found["binary_f1_tuned"]["value"] == pytest.approx(metrics.f1(truth["test"], prob["test"], threshold=chosen))
    assert found["binary_f1"]["value"] == pytest.approx(metrics.f1(truth["test"], prob["test"]))
    # The film-only model predicts some validation stays only, and its threshold is chosen on those.
    assert result["thresholds"]["cxr"][LABEL] is not None


def test_comparison_of_chosen_models_is_of_all_pairs(tmp_path, models):
    _, result = run(tmp_path, models, compare="ehr, attention,cxr")
    everyone, paired = (result["subsets"][name] for name in ("all", "paired"))
    assert [(c["a"], c["b"]) for c in everyone["comparisons"]] == [("attention", "ehr")]
    pairs = [("attention", "ehr"), ("cxr", "ehr"), ("cxr", "attention")]
    assert [(c["a"], c["b"]) for c in paired["comparisons"]] == pairs
    assert everyone["differences"]["reference"] == paired["differences"]["reference"] == "ehr"
    for pair in paired["comparisons"]:
        value = pair["metrics"]["auroc"]["value"]
        assert pair["labels"][LABEL]["delong"]["difference"] == pytest.approx(value)
        assert pair["metrics"]["auroc"]["p"] <= pair["metrics"]["auroc"]["p_holm"] <= 1


def test_unknown_model_of_a_comparison_is_refused(tmp_path, models):
    with pytest.raises(UsageError, match="--compare: 'cnn' is not one of the evaluated models") as error:
        run(tmp_path, models, compare="ehr,cnn")
    assert error.value.hint == "known: attention, ehr, cxr"


def test_seeds_of_one_model_are_one_row_and_an_ensemble(tmp_path):
    table = stays()
    drawn = [probabilities(table, 1.0, i) for i in range(3)]
    single = probabilities(table, 1.5, 9)
    three = [artifact(tmp_path, "attention", table, p, number=i << 40, seed=i) for i, p in enumerate(drawn, 1)]
    draft, result = run(tmp_path, [three[0], artifact(tmp_path, "ehr", table, single, number=9), *three[1:]])
    assert result["models"] == ["attention", "attention ensemble", "ehr"]
    assert result["artifacts"]["attention"] == result["artifacts"]["attention ensemble"] == [a.id for a in three]
    test = (table["split"] == "test").to_numpy()
    truth = table[f"label:{LABEL}"].to_numpy()[test]
    values = [metrics.auroc(truth, p[test]) for p in drawn]
    entry = result["seeds"]["attention"]
    assert entry["n"] == 3 and entry["seeds"] == [1, 2, 3]
    assert entry["subsets"]["all"]["auroc"]["values"] == pytest.approx(values)
    assert entry["subsets"]["all"]["auroc"]["sd"] == pytest.approx(np.std(values, ddof=1))
    found = result["subsets"]["all"]["models"]
    assert found["attention"]["metrics"]["auroc"]["value"] == pytest.approx(np.mean(values))
    ensemble = np.mean([p[test].astype(float) for p in drawn], axis=0)
    assert found["attention ensemble"]["metrics"]["auroc"]["value"] == pytest.approx(metrics.auroc(truth, ensemble))
    assert found["attention"]["labels"][LABEL]["roc"] == found["attention ensemble"]["labels"][LABEL]["roc"]
    brier = result["calibration"]["attention"][LABEL]["brier"]
    assert brier["value"] == pytest.approx(np.mean((ensemble - truth) ** 2)) and brier["low"] < brier["high"]
    # DeLong's test is of one ranking: a mean over seeds has none.
    tests = {(c["a"], c["b"]): c["labels"][LABEL]["delong"] for c in result["subsets"]["all"]["comparisons"]}
    assert tests["attention ensemble", "attention"] is None and tests["ehr", "attention"] is None
    names = [name for name in pl.read_parquet(draft.file("predictions.parquet")).columns if name.startswith("prob:")]
    ids = [f"prob:attention {i}:{LABEL}" for i in ("010000", "020000", "030000")]
    assert names == [ids[0], f"prob:ehr:{LABEL}", *ids[1:], f"prob:attention ensemble:{LABEL}"]


def test_uncertainty_loss_is_compared_with_cross_entropy(tmp_path):
    table = stays()
    pair = [
        artifact(tmp_path, "attention", table, probabilities(table, 1.0, 1), number=1),
        artifact(
            tmp_path,
            "attention",
            table,
            probabilities(table, 2.0, 2),
            number=2,
            loss="uncertainty",
            sigmas={LABEL: 0.7},
        ),
    ]
    _, result = run(tmp_path, pair)
    assert result["models"] == ["attention", "attention+uncertainty"]
    assert result["sigmas"] == {"attention+uncertainty": {LABEL: 0.7}}
    (row,) = result["taskwise"]
    values = [result["subsets"]["all"]["models"][m]["metrics"]["auroc"]["value"] for m in result["models"]]
    assert (row["label"], row["fusion"], row["sigma"]) == (LABEL, "attention", 0.7)
    assert [row["bce"]["auroc"], row["uncertainty"]["auroc"]] == values
    assert row["difference"]["auroc"]["value"] == pytest.approx(values[1] - values[0])


def test_subgroups_are_of_all_test_stays(tmp_path, models):
    _, result = run(tmp_path, models)
    n = result["subsets"]["all"]["n"]
    by = {}
    for entry in result["subgroups"]:
        by[entry["by"]] = by.get(entry["by"], 0) + entry["n"]
    assert by == dict.fromkeys(("sex", "age", "race", "care_unit", "era", "film"), n)
    with_film = next(e for e in result["subgroups"] if e["group"] == "with a film")
    paired = result["subsets"]["paired"]["models"]
    assert with_film["n"] == result["subsets"]["paired"]["n"]
    for model in result["models"]:
        expected = paired[model]["metrics"]["auroc"]["value"]
        assert with_film["models"][model]["auroc"]["value"] == pytest.approx(expected)


def test_the_interval_of_each_metric_is_recorded_and_used(tmp_path, models):
    _, auto = run(tmp_path, models[:1])
    assert auto["interval"] == "auto"
    assert auto["intervals"]["values"]["auprc"] == "shifted" and auto["intervals"]["values"]["auroc"] == "percentile"
    assert set(auto["intervals"]["differences"].values()) == {"percentile"}
    _, percentile = run(tmp_path, models[:1], interval="percentile")
    one, other = (r["subsets"]["all"]["models"]["attention"]["metrics"] for r in (auto, percentile))
    assert one["auroc"] == other["auroc"] and one["auprc"]["low"] != other["auprc"]["low"]


def test_too_few_resamples_for_the_corrected_p_are_a_warning(tmp_path, models, caplog):
    caplog.set_level("WARNING", "fusionctl")
    run(tmp_path, models, resamples=70)
    assert caplog.messages == [
        "--resamples 70: with 2 comparisons no p is below 0.05 after Holm's correction; --resamples 80 suffices"
    ]
    caplog.clear()
    run(tmp_path, models, resamples=80)
    run(tmp_path, models[:1], resamples=10)  # nothing is compared
    assert not caplog.messages


def test_bca_intervals_are_other_intervals_of_the_same_values(tmp_path, models):
    _, percentile = run(tmp_path, models[:1])
    _, bca = run(tmp_path, models[:1], interval="bca")
    one, other = (r["subsets"]["all"]["models"]["attention"]["metrics"]["auroc"] for r in (percentile, bca))
    assert one["value"] == other["value"] and (one["low"], one["high"]) != (other["low"], other["high"])
    assert bca["interval"] == "bca"


def test_predictions_with_a_spread_are_compared_with_others(tmp_path):
    table = stays()
    sampled = table.with_columns(pl.lit(0.1).alias(f"sd:{LABEL}"))
    pair = [
        artifact(tmp_path, "card", sampled, probabilities(table, 1.0, 1), number=1),
        artifact(tmp_path, "ehr", table, probabilities(table, 1.0, 2), number=2),
    ]
    assert run(tmp_path, pair)[1]["models"] == ["card", "ehr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.filter(pl.col("stay_id") != t["stay_id"][1]), r"different stays \(192 and 191 rows\)"),
        (lambda t: t.with_columns(pl.col("stay_id") + 1), r"different stays \(192 and 192 rows\)"),
        (
            lambda t: t.with_columns((1 - pl.col(f"label:{LABEL}")).alias(f"label:{LABEL}")),
            "disagree about patients, films or labels",
        ),
        (lambda t: t.rename({f"label:{LABEL}": "label:other"}), "predict different labels"),
    ],
)
def test_models_of_different_stays_are_refused(tmp_path, change, message):
    table = stays()
    one = artifact(tmp_path, "attention", table, probabilities(table, 1.0, 1), number=1)
    other = change(table)
    two = artifact(tmp_path, "ehr", other, np.full(len(other), 0.5, np.float32), number=2)
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path, [one, two])
    assert "fuse/000000000001 and fuse/000000000002" in error.value.message
    assert "fusionctl fuse --preprocess" in error.value.hint
    assert not any(str(i) in str(error.value) for i in table["stay_id"])


def test_models_of_different_tasks_are_refused(tmp_path):
    table = stays()
    pair = [artifact(tmp_path, "ehr", table, np.full(240, 0.5), number=i, task=t) for i, t in enumerate(["a", "b"])]
    with pytest.raises(InputError, match=r"different tasks \(a and b\)"):
        run(tmp_path, pair)


def test_no_test_stay_is_an_error(tmp_path):
    table = stays().with_columns(pl.lit("val").alias("split"))
    with pytest.raises(InputError, match="no stay is in the test split"):
        run(tmp_path, [artifact(tmp_path, "ehr", table, np.full(240, 0.5))])
