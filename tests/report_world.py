"""Artifacts as the stages leave them, made up small and fast, for the tests of the report."""

import json

import numpy as np
import polars as pl

from fusionctl.metrics import METRICS
from fusionctl.settings import EvaluateSettings, Runtime
from fusionctl.stages import evaluate
from fusionctl.workdir import Artifact, Draft

LABEL = "mortality"
MODELS = ("attention", "ehr", "cxr", "trees")
FILE = {"size": 12_345, "sha256": "0123456789abcdef" * 4}
SKILL = {"attention": 0.6, "ehr": 1.0, "cxr": 2.5, "trees": 0.9, "medfuse": 0.7}
UNITS = (
    "Medical Intensive Care Unit (MICU)",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)",
    "Cardiac Vascular Intensive Care Unit (CVICU)",
)


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
        "settings": {"task": {"value": "mortality", "source": "default"}, **(settings or {})},
        "inputs": {},
        "created": "2026-11-20T10:00:00+00:00",
        "seed": 0,
        "device": "cpu",
        "duration_s": 240.0 + 120 * extra.get("seed", 0),
        "versions": {"fusionctl": "0.1.0", "torch": "2.15.0"},
        "files": {name: FILE for name in files or {}},
        "sensitivity": sensitivity,
        **extra,
    }
    return Artifact(stage_name, identity, folder, manifest)


def samples_table(n, labels, rng):
    severity = rng.normal(size=n)
    split = np.array(["train", "val", "test"])[np.searchsorted([0.7, 0.8], rng.random(n), side="right")]
    rare = np.linspace(1.6, 2.2, len(labels))
    return pl.DataFrame(
        {
            "stay_id": np.sort(rng.choice(np.arange(30_000_000, 39_999_999), n, replace=False)),
            "subject_id": rng.choice(np.arange(10_000_000, 19_999_999), n, replace=False),
            "hadm_id": rng.choice(np.arange(20_000_000, 29_999_999), n, replace=False),
            "split": split,
            "age": np.clip(rng.normal(65, 16, n), 18, 91),
            "sex": np.where(rng.random(n) < 0.44, "F", "M"),
            "race": rng.choice(
                ["WHITE", "BLACK/AFRICAN AMERICAN", "UNKNOWN", "ASIAN - CHINESE"], n, p=[0.6, 0.2, 0.19, 0.01]
            ),
            "care_unit": rng.choice(UNITS, n),
            "film": np.where(rng.random(n) < 0.35, np.arange(n), -1).astype(np.int32),
            **{k: (severity + rng.normal(size=n) > rare[i]).astype(np.float32) for i, k in enumerate(labels)},
            "severity": severity,
        }
    )


def fused(path, samples, labels, number, model, sensitivity, rng, seed=0):
    fusion, _, loss = model.partition("+")
    held = samples.filter(pl.col("split") != "train")
    known = {f"label:{name}": held[name] for name in labels}
    table = held.select("stay_id", "subject_id", "split", (pl.col("film") >= 0).alias("has_film")).with_columns(**known)
    for name in labels:
        logit = 1.6 * held["severity"].to_numpy() + SKILL[fusion] * rng.normal(size=len(held)) - 2.2
        prob = (1 / (1 + np.exp(-logit))).astype(np.float32)
        if fusion == "cxr":
            prob = np.where(table["has_film"].to_numpy(), prob, np.nan).astype(np.float32)
        table = table.with_columns(pl.Series(f"prob:{name}", prob))
    files = {"predictions.parquet": table, "metrics.json": {"parameters": 11_629_776}}
    if loss:
        files["metrics.json"]["sigmas"] = {name: 0.5 + 0.04 * i for i, name in enumerate(labels)}
    if fusion != "trees":
        files["history.jsonl"] = history(12 + number, rng)
    settings = {
        "fusion": {"value": fusion, "source": "flag"},
        "loss": {"value": loss or "bce", "source": "flag" if loss else "default"},
        "epochs": {"value": 12, "source": "preset small"},
    }
    return make(path, "fuse", number, sensitivity=sensitivity, settings=settings, files=files, seed=seed)


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


def robustness(models=("attention", "ehr", "cxr"), panels=(("noise", "both"), ("film-missing", "cxr"))):
    """metrics.json of the robustness stage: curves, areas, differences of areas."""
    rows, areas, differences = [], [], []
    for corruption, modality in panels:
        where = {"trained": "clean", "corruption": corruption, "modality": modality}
        kind = "additive" if corruption == "noise" else None
        for m, model in enumerate(models):
            for subset in ("all", "paired"):
                if (model, subset) == ("cxr", "all"):
                    continue
                for k, metric in enumerate(METRICS):
                    share = metric in ("auroc", "auprc")
                    for level in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
                        value = 0.86 - 0.13 * k - 0.06 * m - (0.2 + 0.1 * m) * level
                        ends = {"value": value, "low": value - 0.025, "high": value + 0.02}
                        rows.append(
                            {
                                "model": model,
                                **where,
                                "kind": kind,
                                "level": level,
                                "subset": subset,
                                "metric": metric,
                                **ends,
                                **dict.fromkeys(("relative", "relative_low", "relative_high"), 1.0 if share else None),
                            }
                        )
                    if not share:
                        continue
                    at = {**where, "kind": kind, "subset": subset, "metric": metric}
                    areas.append(
                        {"model": model, **at, "value": 0.9 - 0.1 * m, "low": 0.85 - 0.1 * m, "high": 0.95 - 0.1 * m}
                    )
                    if m:
                        ends = {"value": 0.1 * m, "low": 0.02, "high": 0.2, "p": 0.04, "p_holm": 0.08}
                        differences.append({"a": models[0], "b": model, **at, **ends})
    chance = {subset: {"auroc": 0.5, "auprc": 0.2} for subset in ("all", "paired")}
    return {"task": "mortality", "chance": chance, "curve": rows, "area": areas, "area_differences": differences}


def attrition(n):
    def steps(table, unit, before, rules):
        rows = []
        for rule, dropped in rules:
            kept = before - dropped
            rows.append(
                {"table": table, "rule": rule, "unit": unit, "before": before, "dropped": dropped, "kept": kept}
            )
            before = kept
        return rows

    stays = [("transfer within the stay", 300), ("age below 18", 4), ("several stays of one admission", 36)]
    charted = [("item is none of the variables'", 1_500_000), ("implausible value", 3), ("no number", 120)]
    extract = steps("icustays", "stays", 3 * n + 340, stays) + steps("chartevents", "rows", 2_000_000, charted)
    short = [("ICU length of stay below 48 h", 2 * n - 6), ("no event in the window", 6)]
    return extract, steps("stays", "stays", 3 * n, short)


def pairing(samples, rng):
    result = {}
    for split in ("all", "train", "val", "test"):
        rows = samples if split == "all" else samples.filter(pl.col("split") == split)
        paired = int((rows["film"] >= 0).sum())
        hours = rng.uniform(0.4, 47.6, max(paired, 1))
        quantiles = np.quantile(hours, [0, 0.25, 0.5, 0.75, 1]).tolist()
        middle = dict(zip(("min", "p25", "p50", "p75", "max"), quantiles, strict=True))
        result[split] = {"stays": len(rows), "paired": paired, "mean": hours.mean(), "sd": hours.std(), **middle}
    return result


def world(path, *, n=2000, seed=0, sensitivity="open", resamples=20, models=MODELS, labels=(LABEL,), seeds=1):
    """Inputs of the report stage, and the table of all stays. The first model is trained `seeds` times."""
    rng, labels = np.random.default_rng(seed), list(labels)
    samples = samples_table(n, labels, rng)
    trained = [(m, s) for m in models for s in range(seeds if m == models[0] else 1)]
    fuse = [fused(path, samples, labels, i, m, sensitivity, rng, s) for i, (m, s) in enumerate(trained)]
    one, steps = {"sensitivity": sensitivity}, attrition(n)
    diagnoses = samples.select("hadm_id", icd_code=pl.lit("J960"), icd_version=pl.col("stay_id") % 2 + 9)
    stays = samples.select("stay_id", "subject_id", "hadm_id", los_hours=pl.col("age") + 10)
    films = pl.DataFrame({"dicom_id": [f"{i:08x}-film" for i in range(n)], "study_id": np.arange(n) + 50_000_000})
    inputs = {
        "robustness": make(path, "robustness", 11, files={"metrics.json": robustness()}, **one),
        "extract": make(
            path,
            "extract",
            12,
            files={
                "attrition.json": steps[0],
                "diagnoses.parquet": diagnoses,
                "stays.parquet": stays,
                "films.parquet": films,
            },
            raw={"mimic_root": {"path": "/home/someone/x"}},
            **one,
        ),
        "preprocess": make(
            path,
            "preprocess",
            13,
            files={"samples.parquet": samples, "attrition.json": steps[1], "pairing.json": pairing(samples, rng)},
            **one,
        ),
        "films": make(path, "films", 15, settings={"clahe": {"value": False, "source": "default"}}, **one),
        "fuse": fuse,
        "pretrain-ehr": [make(path, "pretrain-ehr", 14, files={"history.jsonl": history(30, rng)}, **one)],
        "pretrain-cxr": [],
    }
    draft = Draft(path / "draft-evaluate")
    draft.path.mkdir()
    evaluate.run(draft, EvaluateSettings(resamples=resamples), inputs, runtime=Runtime())
    files = {name: json.loads(draft.file(name).read_text()) for name in ("metrics.json", "tables.json")}
    return {"evaluate": make(path, "evaluate", 10, files=files, **one), **inputs}, samples
