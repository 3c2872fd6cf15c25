"""The report's page on made-up artifacts: what it says, what it hides, and that nothing of a patient is in it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from fusionctl import disclosure, report
from fusionctl.errors import InputError
from fusionctl.metrics import METRICS
from fusionctl.report import tables as report_tables
from fusionctl.report.charts import fitted_axis
from fusionctl.settings import EvaluateSettings, ReportSettings, Runtime
from fusionctl.stages import evaluate
from fusionctl.stages import report as stage
from fusionctl.workdir import Artifact, Draft

LABEL = "mortality"
MODELS = ("attention", "ehr", "cxr", "trees")
FILE = {"size": 12_345, "sha256": "0123456789abcdef" * 4}


def make(path, stage_name, number, *, sensitivity="credentialed", settings=None, files=None, **extra):
    """An artifact with the files given as name -> JSON content or data frame."""
    identity = f"{number:x}c0ffee{number:05x}"
    folder = path / stage_name / identity
    folder.mkdir(parents=True)
    for name, content in (files or {}).items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(folder / name)
        else:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    manifest = {
        "settings": {"task": {"value": LABEL, "source": "default"}, **(settings or {})},
        "created": "2026-11-20T10:00:00+00:00",
        "seed": 0,
        "device": "cpu",
        "versions": {"fusionctl": "0.1.0", "torch": "2.15.0"},
        "files": {name: FILE for name in files or {}},
        "sensitivity": sensitivity,
        **extra,
    }
    return Artifact(stage_name, identity, folder, manifest)


def samples_table(n, rng):
    severity = rng.normal(size=n)
    split = np.array(["train", "val", "test"])[np.searchsorted([0.7, 0.8], rng.random(n), side="right")]
    return pl.DataFrame(
        {
            "stay_id": np.sort(rng.choice(np.arange(30_000_000, 39_999_999), n, replace=False)),
            "subject_id": rng.choice(np.arange(10_000_000, 19_999_999), n, replace=False),
            "split": split,
            "age": np.clip(rng.normal(65, 16, n), 18, 91),
            "sex": np.where(rng.random(n) < 0.44, "F", "M"),
            "film": np.where(rng.random(n) < 0.35, np.arange(n), -1).astype(np.int32),
            LABEL: (severity + rng.normal(size=n) > 1.6).astype(np.float32),
            "severity": severity,
        }
    )


def fused(path, samples, number, fusion, noise, sensitivity, rng):
    held = samples.filter(pl.col("split") != "train")
    logit = 1.6 * held["severity"].to_numpy() + noise * rng.normal(size=len(held)) - 2.2
    prob = (1 / (1 + np.exp(-logit))).astype(np.float32)
    table = held.select(
        "stay_id", "subject_id", "split", (pl.col("film") >= 0).alias("has_film"), pl.col(LABEL).alias(f"label:{LABEL}")
    )
    if fusion == "cxr":
        prob = np.where(table["has_film"].to_numpy(), prob, np.nan).astype(np.float32)
    table = table.with_columns(pl.Series(f"prob:{LABEL}", prob))
    files = {"predictions.parquet": table}
    if fusion != "trees":
        files["history.jsonl"] = history(12 + number, rng)
    settings = {"fusion": {"value": fusion, "source": "flag"}, "epochs": {"value": 12, "source": "preset small"}}
    return make(path, "fuse", number, sensitivity=sensitivity, settings=settings, files=files)


def history(epochs, rng):
    t = np.arange(1, epochs + 1)
    columns = {
        "train_loss": 0.25 + 0.4 * np.exp(-t / 4),
        "val_loss": 0.3 + 0.3 * np.exp(-t / 4) + 0.01 * rng.normal(size=epochs),
        "val_auroc": 0.85 - 0.3 * np.exp(-t / 3) + 0.005 * rng.normal(size=epochs),
        "val_auprc": 0.5 - 0.3 * np.exp(-t / 3) + 0.01 * rng.normal(size=epochs),
    }
    rows = [{"epoch": int(e), "lr": 1e-4, **{k: float(v[i]) for k, v in columns.items()}} for i, e in enumerate(t)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def curve():
    rows = []
    for m, model in enumerate(("attention", "ehr", "cxr")):
        for noise in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
            for subset in ("all", "paired"):
                for k, metric in enumerate(METRICS):
                    value = (
                        float("nan")
                        if (model, subset) == ("cxr", "all")
                        else 0.86 - 0.13 * k - 0.06 * m - (0.2 + 0.1 * m) * noise
                    )
                    ends = {"value": value, "low": value - 0.025, "high": value + 0.02}
                    where = {"model": model, "noise": noise, "kind": "additive", "modality": "both"}
                    rows.append({**where, "subset": subset, "metric": metric, **ends})
    return pl.DataFrame(rows)


def attrition(n):
    def steps(table, unit, before, rules):
        rows = []
        for rule, dropped in rules:
            rows.append(
                {
                    "table": table,
                    "rule": rule,
                    "unit": unit,
                    "before": before,
                    "dropped": dropped,
                    "kept": before - dropped,
                }
            )
            before -= dropped
        return rows

    extract = steps(
        "icustays",
        "stays",
        3 * n + 340,
        [("transfer within the stay", 300), ("age below 18", 4), ("several stays of one admission", 36)],
    )
    extract += steps(
        "chartevents",
        "rows",
        2_000_000,
        [("item is none of the variables'", 1_500_000), ("implausible value", 3), ("no number", 120)],
    )
    preprocess = steps(
        "stays", "stays", 3 * n, [("ICU length of stay below 48 h", 2 * n - 6), ("no event in the window", 6)]
    )
    return extract, preprocess


def pairing(samples, rng):
    result = {}
    for split in ("all", "train", "val", "test"):
        rows = samples if split == "all" else samples.filter(pl.col("split") == split)
        paired = int((rows["film"] >= 0).sum())
        hours = rng.uniform(0.4, 47.6, max(paired, 1))
        middle = dict(
            zip(("min", "p25", "p50", "p75", "max"), np.quantile(hours, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True)
        )
        result[split] = {"stays": len(rows), "paired": paired, "mean": hours.mean(), "sd": hours.std(), **middle}
    return result


def world(path, *, n=3000, seed=0, sensitivity="open", resamples=200, models=MODELS):
    """Inputs of the report stage, and the table of all stays."""
    rng = np.random.default_rng(seed)
    samples = samples_table(n, rng)
    noise = {"attention": 0.6, "ehr": 1.0, "cxr": 2.5, "trees": 0.9}
    fuse = [fused(path, samples, i, f, noise[f], sensitivity, rng) for i, f in enumerate(models)]
    draft = Draft(path / "draft-evaluate")
    draft.path.mkdir()
    evaluate.run(draft, EvaluateSettings(resamples=resamples), {"fuse": fuse}, runtime=Runtime())
    files = {name: json.loads(draft.file(name).read_text()) for name in ("metrics.json", "tables.json")}
    extract, preprocess = attrition(n)
    one = {"sensitivity": sensitivity}
    inputs = {
        "evaluate": make(path, "evaluate", 10, files=files, **one),
        "robustness": make(path, "robustness", 11, files={"curve.parquet": curve()}, **one),
        "extract": make(
            path,
            "extract",
            12,
            files={"attrition.json": extract},
            raw={"mimic_root": {"path": "/home/someone/x"}},
            **one,
        ),
        "preprocess": make(
            path,
            "preprocess",
            13,
            files={"samples.parquet": samples, "attrition.json": preprocess, "pairing.json": pairing(samples, rng)},
            **one,
        ),
        "fuse": fuse,
        "pretrain-ehr": [make(path, "pretrain-ehr", 14, files={"history.jsonl": history(30, rng)}, **one)],
        "pretrain-cxr": [],
    }
    return inputs, samples


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return world(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def page(large):
    return report.render(stage.gather(large[0]))


class Reader(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and texts."""

    VOID = {"meta", "br", "line", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page_is_self_contained(page):
    reader = Reader(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "foreignobject"} & set(
        reader.tags
    )
    assert "http:" not in page and "https:" not in page and "url(" not in page and "@import" not in page
    assert not [
        name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")
    ]
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    policy = re.search(r'Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_links_lead_to_sections(page):
    attributes = Reader(page).attributes
    targets = {value for name, value in attributes if name == "id"}
    links = {value[1:] for name, value in attributes if name == "href"}
    assert links == targets and len(links) == 8


def test_no_identifier_and_no_path_in_anything_written(large, tmp_path):
    inputs, samples = large
    draft = Draft(tmp_path)
    stage.run(draft, ReportSettings(), inputs, runtime=Runtime())
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "results.md", "tables.json"}
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        windows = {text[i : i + 8] for i in range(len(text) - 7)}
        assert not windows & {str(i) for name in ("stay_id", "subject_id") for i in samples[name]}
        assert "someone" not in text


def test_same_inputs_same_bytes(large, page):
    assert report.render(stage.gather(large[0])) == page


def test_numbers_of_the_page_are_those_of_the_evaluation(large, page):
    metrics = large[0]["evaluate"].json("metrics.json")
    entry = metrics["subsets"]["paired"]["models"]["cxr"]["metrics"]["auprc"]
    assert f"<td>{entry['value']:.3f}<small>{entry['low']:.3f}–{entry['high']:.3f}</small></td>" in page
    missing, n = metrics["subsets"]["unpaired"]["n"], metrics["subsets"]["all"]["n"]
    assert f"no prediction for {missing} of {n} stays" in page
    p = metrics["subsets"]["all"]["differences"]["models"]["ehr"]["metrics"]["auroc"]["p"]
    assert f"<small>p {p:.3f}</small>" in page
    assert [r["model"] for r in report_tables.difference_rows(metrics) if r["subset"] == "paired"] == list(MODELS[1:])


@pytest.mark.parametrize(("sensitivity", "words"), [("synthetic", "Synthetic data"), ("open", "Open data")])
def test_banner_comes_first_and_the_paper_never(large, sensitivity, words):
    content = {**stage.gather(large[0]), "sensitivity": sensitivity}
    text = report.render(content)
    body = text.split("<body>")[1]
    assert words in body[:300] and report.INCOMPARABLE in body and report.INCOMPARABLE in report.markdown(content)
    assert "MedFuse" not in text and "0.691" not in text and "Rasekh" not in text and "5,243" not in text
    assert body.index(words) < body.index("<h1>")


def enlarged(content):
    """The content with as many test stays as the paper."""
    content = json.loads(json.dumps(content))
    content["metrics"]["subsets"]["all"]["n"] = 5243
    return {**content, "sensitivity": "credentialed"}


def test_paper_stands_beside_credentialed_data_of_its_size_only(large):
    content = enlarged(stage.gather(large[0]))
    text = report.render(content)
    assert (
        'class="banner"' not in text
        and "Contrastive + ViT" in text
        and "23,871,824" in text
        and "The paper</th>" in text
    )
    excerpt = report.render({**stage.gather(large[0]), "sensitivity": "credentialed"})
    assert "Not shown: the paper has 5,243 test stays" in excerpt and "MedFuse" not in excerpt
    content["metrics"]["task"] = "phenotyping"
    assert "MedFuse" not in report.render(content)


def test_one_made_up_source_makes_the_page_incomparable(large, tmp_path):
    inputs = dict(large[0])
    inputs["extract"] = make(tmp_path, "extract", 1, sources={"mimic_root": "credentialed", "cxr_root": "synthetic"})
    inputs["preprocess"] = make(tmp_path, "preprocess", 2)
    assert stage.least_like_the_paper([inputs["extract"], inputs["preprocess"]]) == "synthetic"
    assert stage.least_like_the_paper([inputs["preprocess"]]) == "credentialed"


def test_page_without_optional_parts(large):
    content = stage.gather({**large[0], "robustness": None, "pretrain-ehr": []})
    text = report.render({**content, "training": []})
    Reader(text)
    assert "Robustness" not in text and "#training" not in text


def test_texts_are_escaped(large):
    content = stage.gather(large[0])
    content["artifacts"][0]["settings"]["evil"] = {"value": "<script>alert(1)</script>", "source": "config"}
    text = report.render(content)
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_settings_that_are_not_the_default_come_first(page):
    settings = page[page.index('id="settings"') :]
    assert settings.index("preset small") < settings.index("Every setting")


def test_small_cohort_hides_counts_and_still_renders(tmp_path):
    inputs, samples = world(tmp_path, n=60, seed=0, resamples=400, models=("attention", "cxr"))
    content = stage.gather(inputs)
    text = report.render(content)
    Reader(text)
    subset = content["metrics"]["subsets"]["all"]
    positives, n = subset["positives"][LABEL], subset["n"]
    assert 0 < positives < 10 < n  # the case that is tested
    assert "with the outcome (" not in text and f"{100 * positives / n:.1f} %" not in text
    assert 'id="discrimination"' not in text  # steps of the curves would count the outcomes
    paired = subset["n"] - content["metrics"]["subsets"]["unpaired"]["n"]
    assert 0 < paired < 10 <= n - paired and "&lt;10 stays" in text and "≥10 stays" in text
    assert "no prediction for some stays" in text and "no prediction for these stays" in text
    assert not re.search(rf"\b{n - paired} (of|stays)", text)
    assert any(m["labels"][LABEL]["undefined"] for m in content["metrics"]["subsets"]["unpaired"]["models"].values())
    assert "resamples that drew one class only are left out" in text and "of 400 resamples" not in text
    assert "AUROC: all stays" in text and "AUROC: stays with a film" not in text  # robustness


def test_wrong_task_is_refused(large, tmp_path):
    inputs = dict(large[0])
    metrics = inputs["evaluate"].json("metrics.json")
    inputs["evaluate"] = make(tmp_path, "evaluate", 1, files={"metrics.json": {**metrics, "task": "phenotyping"}})
    with pytest.raises(InputError, match="is of the task phenotyping, not mortality"):
        stage.run(Draft(tmp_path), ReportSettings(), inputs, runtime=Runtime())


def test_terminal_and_markdown_tables(large):
    metrics = large[0]["evaluate"].json("metrics.json")
    table = report_tables.terminal_table(metrics)
    assert len(table["rows"]) == 12 and {len(row) for row in table["rows"]} == {len(table["header"])} == {8}
    assert table["rows"][0][:2] == ["all", "attention"] and table["rows"][2][4:] == ["–"] * 4
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3}–0\.\d{3}\)", table["rows"][0][4])
    lines = report_tables.markdown_table(table["header"], table["rows"]).splitlines()
    assert len(lines) == 14 and all(line.count("|") == 9 for line in lines)
    assert "no prediction for" in report.markdown(stage.gather(large[0]))


def test_cohort_table(large):
    _, samples = large
    columns = {name: samples[name].to_numpy() for name in ("split", "subject_id", "age", "sex", "film", LABEL)}
    header, rows = report_tables.cohort_rows(report_tables.cohort(columns, [LABEL]))
    train = samples.filter(pl.col("split") == "train")
    cells = {row[0]: row[1] for row in rows}
    assert header == ["", "Training", "Validation", "Test"]
    assert cells["Stays"] == f"{len(train):,}"
    women = (train["sex"] == "F").sum()
    assert cells["Sex F"] == f"{women:,} ({100 * women / len(train):.1f}\u00a0%)"
    q = np.quantile(train["age"].to_numpy(), [0.25, 0.5, 0.75])
    assert cells["Age in years, median (quartiles)"] == f"{q[1]:.0f} ({q[0]:.0f}–{q[2]:.0f})"


def test_cohort_table_hides_small_counts_and_their_complements():
    n = 30
    columns = {
        "split": np.array(["train"] * 20 + ["test"] * 10),
        "subject_id": np.arange(n),
        "age": np.full(n, 60.0),
        "sex": np.array((["F"] * 4 + ["M"] * 16) + ["F"] * 10),
        "film": np.array([0] * 20 + [-1] * 10),
        LABEL: np.array([1.0] * 3 + [0.0] * 27),
    }
    _, rows = report_tables.cohort_rows(report_tables.cohort(columns, [LABEL]))
    cells = {row[0]: [cell.replace("\u00a0", " ") for cell in row[1:]] for row in rows}
    assert cells["Sex F"] == ["<10", "10 (100.0 %)"] and cells["Sex M"] == ["≥10", "0 (0.0 %)"]
    assert cells["Outcome: mortality"] == ["<10", "0 (0.0 %)"]
    assert cells["Film in the window"] == ["20 (100.0 %)", "0 (0.0 %)"]


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        ([100, 50], ["100", "50"]),
        ([100, 9], ["≥10", "<10"]),
        ([100, 9, 20], ["≥10", "<10", "20"]),
        ([100, 9, 3], ["100", "<10", "<10"]),
        ([100, 0], ["100", "0"]),
        ([5, 0], ["<10", "0"]),
    ],
)
def test_hidden_parts_cannot_be_computed(parts, texts):
    assert disclosure.shown_parts(parts) == texts


def test_attrition_never_shows_a_small_difference():
    steps, before = [], 1000
    for rule, dropped in (("a", 3), ("b", 500), ("c", 0), ("d", 4), ("e", 2)):
        steps.append({"rule": rule, "before": before, "dropped": dropped, "kept": before - dropped})
        before -= dropped
    safe = disclosure.safe_attrition(steps)
    assert [(s["rule"], s["before"], s["dropped"], s["kept"]) for s in safe] == [
        ("a; b; c; d; e", "1,000", "509", "491")
    ]
    lone = disclosure.safe_attrition(steps[:1])
    assert (lone[0]["before"], lone[0]["dropped"], lone[0]["kept"]) == ("1,000", "<10", "≥10")


def test_calibration_bins_are_joined_until_large_enough():
    bins = [
        {"n": 40, "positives": p, "predicted": i / 10, "observed": p / 40} for i, p in enumerate([0, 2, 9, 12, 20, 38])
    ]
    safe = disclosure.safe_bins(bins)
    assert [round(b["observed"], 3) for b in safe] == [round(11 / 120, 3), 12 / 40, round(58 / 80, 3)]
    assert safe[0]["predicted"] == pytest.approx(0.1)
    assert disclosure.safe_bins(bins[:2]) == []


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.9], [1, 40], [0.8712, 0.8713], [], [None, float("nan")], [-3, 250]])
def test_axis_holds_its_values_with_few_round_ticks(values):
    axis = fitted_axis("x", values)
    known = [v for v in values if v is not None and v == v]
    assert 2 <= len(axis.ticks) <= 8 and axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in known)
    assert len({axis.text(t) for t in axis.ticks}) == len(axis.ticks)


def test_several_labels_get_their_mean_and_a_curve_each(large):
    content = json.loads(json.dumps(stage.gather(large[0])))
    metrics = content["metrics"]
    metrics["labels"] = [LABEL, "other"]
    for subset in metrics["subsets"].values():
        for by_label in (subset["known"], subset["positives"], subset["prevalence"]):
            by_label["other"] = by_label[LABEL]
        for model in subset["models"].values():
            model["labels"]["other"] = model["labels"][LABEL]
    text = report.render(content)
    Reader(text)
    assert "mean prevalence of 2 labels" in text and "ROC: all stays, other" in text and "with the outcome" not in text
