"""The 25 phenotypes: which diagnosis codes make which label, and how that differs between the two coding eras."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

_TABLE = Path(__file__).with_name("phenotypes.toml")
# icd_version of the diagnoses and what the era is called.
ERAS = {9: "ICD-9", 10: "ICD-10"}


@dataclass(frozen=True)
class Phenotype:
    """One label.

    Attributes:
        name: as in the benchmark.
        type: "acute", "chronic" or "mixed".
        icd9, icd10: prefixes of codes without a dot, by icd_version.
        legacy: the exact ICD-10 codes of the MedFuse-era table.
    """

    name: str
    type: str
    icd9: tuple[str, ...]
    icd10: tuple[str, ...]
    legacy: frozenset[str]

    def holds(self, code: str, version: int, protocol: str) -> bool:
        """Whether a code without a dot belongs to the phenotype.

        Protocol `legacy` compares the ICD-10 codes whole, and joins codes without looking at their version.
        """
        if protocol == "legacy":
            return code in self.legacy or (version == 9 and code.startswith(self.icd9))
        return code.startswith(self.icd9 if version == 9 else self.icd10)


@cache
def phenotypes() -> tuple[Phenotype, ...]:
    """The 25 phenotypes in alphabetical order, as in the benchmark's label files."""
    entries = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["phenotype"]
    lists = [{key: entry[key].split() for key in ("icd9", "icd10", "legacy")} for entry in entries]
    return tuple(
        Phenotype(entry["name"], entry["type"], tuple(codes["icd9"]), tuple(codes["icd10"]), frozenset(codes["legacy"]))
        for entry, codes in zip(entries, lists, strict=True)
    )


def label_codes(diagnoses: pl.DataFrame, protocol: str) -> pl.DataFrame:
    """Which of the codes that occur belong to which label.

    Args:
        diagnoses: icd_code, icd_version.
        protocol: `paper` or `legacy`.

    Returns:
        icd_code, icd_version, name: one row a code and label; a code may have none or several.
    """
    codes = diagnoses.select("icd_code", "icd_version").unique().sort("icd_version", "icd_code")
    rows = [
        (code, version, phenotype.name)
        for code, version in codes.iter_rows()
        for phenotype in phenotypes()
        if phenotype.holds(code.replace(".", ""), version, protocol)
    ]
    return pl.DataFrame(rows, schema={**codes.schema, "name": pl.String}, orient="row")


def labels_of(admissions: pl.Series, diagnoses: pl.DataFrame, protocol: str) -> pl.DataFrame:
    """The 25 labels of admissions, from all of each one's diagnoses.

    Args:
        admissions: hadm_id, unique.
        diagnoses: hadm_id, icd_code, icd_version.
        protocol: `paper` or `legacy`.

    Returns:
        hadm_id and one Float32 column a label, in the order of `admissions`. Of an admission without any diagnosis
        every label is NaN (unknown) in `paper`, 0 in `legacy`.
    """
    found = diagnoses.join(label_codes(diagnoses, protocol), on=["icd_code", "icd_version"]).select("hadm_id", "name")
    sets = dict(found.unique().group_by("name").agg("hadm_id").iter_rows())
    coded = pl.col("hadm_id").is_in(diagnoses["hadm_id"].unique().implode()) | pl.lit(protocol == "legacy")
    columns = [
        pl.when(coded)
        .then(pl.col("hadm_id").is_in(pl.Series(sets.get(p.name, []), dtype=pl.Int64).implode()).cast(pl.Float32))
        .otherwise(float("nan"))
        .cast(pl.Float32)
        .alias(p.name)
        for p in phenotypes()
    ]
    return pl.DataFrame({"hadm_id": admissions}).select("hadm_id", *columns)


def era_of(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """The coding era of each admission, 9 or 10: that of most of its diagnoses, ICD-10 where they are even.

    Args:
        diagnoses: hadm_id, icd_version.

    Returns:
        hadm_id, era.
    """
    later = pl.col("icd_version").cast(pl.Int64).mean() >= (9 + 10) / 2
    return diagnoses.group_by("hadm_id").agg(era=pl.when(later).then(10).otherwise(9))


def eras(admissions: pl.Series, diagnoses: pl.DataFrame, labels: pl.DataFrame, protocol: str) -> list[dict[str, Any]]:
    """How many diagnoses and how much prevalence each label has by coding era.

    An admission's era is that of `era_of`.

    Args:
        admissions: hadm_id of the samples.
        diagnoses: hadm_id, icd_code, icd_version.
        labels: from `labels_of`.
        protocol: as given to `labels_of`.

    Returns:
        One record a label: "label", and by era ("ICD-9", "ICD-10") "diagnoses" (rows that belong to the label),
        "admissions" (of the era), "positive" and "prevalence" (NaN as None where the era has no admission).
    """
    of_samples = diagnoses.filter(pl.col("hadm_id").is_in(admissions.implode()))
    era = era_of(of_samples)
    counts = of_samples.join(label_codes(of_samples, protocol), on=["icd_code", "icd_version"])
    rows = {(name, version): n for name, version, n in counts.group_by("name", "icd_version").len().iter_rows()}
    parts = {v: labels.join(era.filter(pl.col("era") == v), on="hadm_id") for v in ERAS}
    return [
        {"label": p.name, **{ERAS[v]: _era(part[p.name], rows.get((p.name, v), 0)) for v, part in parts.items()}}
        for p in phenotypes()
    ]


def _era(label: pl.Series, diagnoses: int) -> dict[str, Any]:
    positive = int(label.fill_nan(0).sum())
    share = positive / len(label) if len(label) else None
    return {"diagnoses": diagnoses, "admissions": len(label), "positive": positive, "prevalence": share}


def era_table(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`eras` as a table for the terminal: title, header and rows of text."""
    header = ["label"] + [f"{era} {what}" for era in ERAS.values() for what in ("diagnoses", "positive", "prevalence")]
    rows = [[r["label"]] + [cell for era in ERAS.values() for cell in _cells(r[era])] for r in records]
    n = ", ".join(f"{records[0][era]['admissions']:,} {era}" for era in ERAS.values()) if records else ""
    return {"title": f"Phenotypes by coding era ({n} admissions)", "header": header, "rows": rows}


def _cells(era: dict[str, Any]) -> list[str]:
    share = era["prevalence"]
    return [f"{era['diagnoses']:,}", f"{era['positive']:,}", "–" if share is None else f"{share:.1%}"]
