"""The paper's own figures, and where they may stand beside this work's: on data of the same source and size alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fusionctl.report import tables
from fusionctl.report.names import DASH, METRIC_NAMES, model_name, size
from fusionctl.report.parts import Cell, Figure, Heading, Note, Part, Rows, Table

# A cohort below this share of the paper's test stays is an excerpt; the paper's figures beside it would mislead.
LEAST_SHARE_OF_PAPER = 0.5
# Rows of the paper's tables, and the model that each is: its name, and whether its films are equalised (CLAHE).
SYSTEMS: dict[str, tuple[str, bool]] = {
    "MedFuse": ("medfuse", False),
    "Contrastive + ViT": ("contrastive", False),
    "CARD": ("card", False),
    "Attention": ("attention", False),
    "Attention + CLAHE": ("attention", True),
    "Attention + Uncertainty + CLAHE": ("attention+uncertainty", True),
    "Time series only": ("ehr", False),
    "Image only": ("cxr", False),
    "Multimodal LSTM Fusion": ("medfuse", False),
    "Multimodal Attention": ("attention", False),
    "Attention + Uncertainty Loss": ("attention+uncertainty", False),
}
# Films play no part, so whether they were equalised is no difference.
WITHOUT_FILMS = ("ehr",)
TABLES = {
    "mortality": {"table2_mortality": "Table 2"},
    "phenotyping": {"table3_phenotyping": "Table 3", "table4_ablation_phenotyping": "Table 4"},
}
# The noise of the paper's Tables 5 and 6 (section V-G), for phenotyping.
NOISE_TABLES = {"noisy": "table5_robustness_trained_on_noise", "clean": "table6_robustness_trained_clean"}
NOISE_MODELS = {"attention": "Attention", "medfuse": "MedFuse"}


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The paper's facts for one task; `comparable`: this cohort has the size of the paper's."""

    facts: Mapping[str, Any]
    task: str
    clahe: bool
    comparable: bool

    @property
    def cohort(self) -> Mapping[str, Any]:
        """Stays by split, and those of them with a film."""
        return self.facts["cohorts"][self.task]  # type: ignore[no-any-return]

    def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        """Rows of one of the paper's tables, by its key."""
        return self.facts[table]  # type: ignore[no-any-return]


def figures(content: Mapping[str, Any]) -> Paper | None:
    """The paper's figures for this task, or None beside any data but the credentialed, where they would mislead."""
    task = content["metrics"]["task"]
    if content["sensitivity"] != "credentialed" or task not in TABLES:
        return None
    text = resources.files("fusionctl").joinpath("data/paper_results.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    comparable = content["metrics"]["subsets"]["all"]["n"] >= LEAST_SHARE_OF_PAPER * facts["cohorts"][task]["test"]
    return Paper(facts=facts, task=task, clahe=bool(content.get("clahe")), comparable=comparable)


def beside(metrics: Mapping[str, Any], parameters: Mapping[str, int], paper: Paper | None) -> list[Part]:
    """The paper's tables with what was found here and the differences."""
    if not paper:
        return []
    cohort = f"{paper.cohort['test']:,} test stays, {paper.cohort['paired']['test']:,} of them with a film"
    if not paper.comparable:
        stays = tables.subset_counts(metrics)["all"]["stays"]
        return [Note(f"Not shown: the paper has {cohort}, this page {stays}. An excerpt is no cohort to compare with.")]
    parts: list[Part] = [
        Note(
            f"{paper.facts['source']}. Intervals there: {paper.facts['interval']}. The paper: {cohort}. Other "
            "patients, another split and often another MIMIC version: a difference has no test, and a small one no "
            "meaning. Films alone are compared on the stays with a film."
        )
    ]
    for key, title in TABLES[paper.task].items():
        groups = [(str(row["model"]), _system(row, metrics, parameters, paper)) for row in paper.rows(key)]
        header, name = ["", *METRIC_NAMES.values(), "Parameters"], f"{title} of the paper and here"
        parts += [Heading(f"{title} of the paper"), Table(name=name, header=header, groups=groups, stack=True)]
    return parts


def _system(row: Mapping[str, Any], metrics: Mapping[str, Any], parameters: Mapping[str, int], paper: Paper) -> Rows:
    """A system of the paper, the same here if it is there, and the differences."""
    rows: list[list[Cell]] = [
        ["The paper", *(Figure.of(row[m]) for m in METRIC_NAMES), size(row.get("parameters"))],
    ]
    model, clahe = SYSTEMS[row["model"]]
    if model not in metrics["models"] or (clahe != paper.clahe and model not in WITHOUT_FILMS):
        return rows
    found = metrics["subsets"]["paired" if model == "cxr" else "all"]["models"][model]["metrics"]
    rows.append(
        [f"Here|{model_name(model)}", *(Figure.of(found.get(m)) for m in METRIC_NAMES), size(parameters.get(model))]
    )
    rows.append(["Difference", *(difference(found.get(m), row[m]) for m in METRIC_NAMES), DASH])
    return rows


def difference(here: Mapping[str, Any] | None, there: Mapping[str, Any]) -> Cell:
    """What was found here less what the paper found; no interval, as the two share no stays."""
    if not here or here["value"] is None:
        return DASH
    return Figure(value=here["value"] - there["value"], signed=True)


def noise_rows(trained: str, level: float, model: str, paper: Paper | None) -> Mapping[str, Any] | None:
    """The paper's row for a model at a share of noise (Tables 5 and 6), where it may be shown."""
    if not paper or not paper.comparable or paper.task != "phenotyping" or model not in NOISE_MODELS:
        return None
    rows = paper.rows(NOISE_TABLES[trained])
    return next((r for r in rows if r["model"] == NOISE_MODELS[model] and abs(r["noise"] - level) < 1e-9), None)


def taskwise_rows(paper: Paper | None) -> dict[str, Mapping[str, Any]]:
    """The paper's Table 7 by phenotype, where it may be shown."""
    if not paper or not paper.comparable or paper.task != "phenotyping":
        return {}
    return {_key(row["phenotype"]): row for row in paper.rows("table7_taskwise")}


def of_phenotype(rows: Mapping[str, Mapping[str, Any]], label: str) -> Mapping[str, Any] | None:
    """The row of a label, whose name may go on in brackets where the paper's does not."""
    return rows.get(_key(label))


def _key(label: str) -> str:
    return label.partition(" (")[0].casefold()
