"""Stage `extract`: the raw tables, read once, become stays, events, diagnoses and films.

    icustays, admissions, patients       ->  stays.parquet
    chartevents, labevents               ->  events.parquet
    diagnoses_icd                        ->  diagnoses.parquet
    MIMIC-CXR-JPG metadata and CheXpert  ->  films.parquet
    what every rule dropped              ->  attrition.json

The two large tables are read piece by piece, by several processes. Records of other items are dropped before they are
parsed; what is left is cleaned and goes to buckets on disk, which are then sorted one after the other. So memory
depends on the events of a bucket of stays, not on the size of the tables.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from fusionctl.data import event_tables, films, mimic, tables
from fusionctl.data.attrition import Attrition, table_of
from fusionctl.data.buckets import Buckets
from fusionctl.data.cohort import build_diagnoses, build_stays, doubtful_codes, doubts, keep_measured
from fusionctl.data.events import EVENT_COLUMNS, columns_of, in_order
from fusionctl.data.records import AGAIN
from fusionctl.data.tables import Table
from fusionctl.data.variables import GCS_TOTAL, Source
from fusionctl.errors import InputError
from fusionctl.settings import ExtractSettings, Runtime
from fusionctl.workdir import Draft

log = logging.getLogger("fusionctl")

_EVENT_TABLES: tuple[tuple[str, Source], ...] = (("chartevents", "chart"), ("labevents", "lab"))
_FAR_HOURS = 24 * 366
# Three times what all of MIMIC-IV has: a table that repeats itself, which would fill the memory.
_MOST_DIAGNOSES = 20_000_000
_KEYS = {"patients": "subject_id", "admissions": "hadm_id", "icustays": "stay_id", "metadata": "dicom_id"}


def run(draft: Draft, settings: ExtractSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write stays, events, diagnoses, films and the attrition of each.

    Args:
        draft: receives the files; `facts` gets "layout", "layout_evidence", "sources" and "sensitivity".
        settings: the protocol.
        inputs: "mimic_root" and "cxr_root", which may be None.
        runtime: jobs and progress.

    Raises:
        InputError: a raw table is missing or damaged, or no stay is left.
    """
    mimic_root: Path = inputs["mimic_root"]
    cxr_root: Path | None = inputs.get("cxr_root")
    layout = mimic.find_layout(mimic_root)
    paths = layout.paths | (mimic.find_films(cxr_root, settings.labels) if cxr_root else {})
    opened = {name: tables.open_table(path, mimic.COLUMNS[name]) for name, path in paths.items()}
    roots = {"mimic_root": mimic_root, "cxr_root": cxr_root}
    said = settings.sensitivity
    sources = {name: mimic.sensitivity(root) if said == "auto" else said for name, root in roots.items() if root}
    draft.facts |= {"sources": sources, "sensitivity": mimic.strictest(sources.values())}
    stays, cohort, version = _stays(opened, layout, settings.protocol)
    draft.facts |= {"layout": version, "layout_evidence": layout.evidence}
    log.info("extract: MIMIC-IV %s (%s), %s data", version, layout.evidence, draft.facts["sensitivity"])
    _check_items(opened, version)
    films_attrition = _write_films(draft, opened, settings.labels)
    events_attrition = _read_events(draft, opened, stays, settings.protocol, runtime)
    _check_events(opened, events_attrition)
    buckets = Buckets(draft.path, stays["stay_id"], columns_of(settings.protocol))
    measured = _write_events(draft, buckets, settings.protocol)
    stays = keep_measured(stays, measured, cohort)
    _warn("of %d stays %d have %s", stays.height, doubts(stays))
    diagnoses_attrition = _write_diagnoses(draft, opened, stays)
    stays.write_parquet(draft.file("stays.parquet"))
    draft.rows["stays"] = stays.height
    attrition = [cohort, *events_attrition, diagnoses_attrition, *films_attrition]
    draft.write_json("attrition.json", [entry for counted in attrition for entry in counted.rows()])
    draft.write_json("tables.json", [table_of(attrition)])


def _stays(opened: Mapping[str, Table], layout: mimic.Layout, protocol: str) -> tuple[pl.DataFrame, Attrition, str]:
    frames = {name: _read_keyed(opened[name], _KEYS[name]) for name in ("icustays", "admissions", "patients")}
    attrition = Attrition("icustays", "stays")
    stays = build_stays(frames["icustays"], frames["admissions"], frames["patients"], attrition, protocol)
    return stays, attrition, mimic.refine_version(layout, frames["patients"])


def _check_items(opened: Mapping[str, Table], version: str) -> None:
    """Refuse the release whose laboratory item ids are wrong, or say that it cannot be told from its successor."""
    if "d_labitems" in opened:
        mimic.check_lab_items(opened["d_labitems"].path, tables.read(opened["d_labitems"]))
    elif version == "v3":
        log.warning("extract: without hosp/d_labitems v3.0, whose lab item ids are wrong, cannot be told from v3.1")


def _warn(text: str, among: int, counts: Mapping[str, int]) -> None:
    """Say what is doubtful about what was kept, each with its count."""
    for what, count in counts.items():
        if count:
            log.warning(f"extract: {text}", among, count, what)


def _read_keyed(table: Table, key: str) -> pl.DataFrame:
    frame = tables.read(table)
    tables.require_unique(frame, [key], table.path)
    return frame


def _write_films(draft: Draft, opened: Mapping[str, Table], labeller: str) -> list[Attrition]:
    """Write the films; what was left out of them, and of their labels."""
    counted = [Attrition("films", "rows"), Attrition(labeller, "rows")]
    found = films.no_films()
    if "metadata" in opened:
        metadata = _read_keyed(opened["metadata"], _KEYS["metadata"])
        labels = tables.read(opened[labeller])
        tables.require_unique(labels, ["subject_id", "study_id"], opened[labeller].path)
        by_hand = _read_keyed(opened["test_labels"], "study_id") if "test_labels" in opened else None
        found = films.build_films(metadata, labels, counted[0], labeller=labeller, test_labels=by_hand)
        films.count_labels(labels, metadata, counted[1])
        unlabelled = found.filter(pl.col("labelled_by") == "").height
        if unlabelled > found.height / 2:
            log.warning("extract: %d of %d films are of studies without labels", unlabelled, found.height)
    found.write_parquet(draft.file("films.parquet"))
    draft.rows["films"] = found.height
    return counted


def _write_diagnoses(draft: Draft, opened: Mapping[str, Table], stays: pl.DataFrame) -> Attrition:
    table, attrition = opened["diagnoses_icd"], Attrition("diagnoses_icd", "rows")
    parts = []
    for frame, _ in tables.batches(table):
        parts.append(build_diagnoses(frame, stays, attrition))
        if attrition.kept > _MOST_DIAGNOSES:
            what = f"{table.path}: line {frame['line'][-1]}: {attrition.kept:,} diagnoses of {stays.height} stays"
            raise InputError(f"{what}; rule: at most {_MOST_DIAGNOSES:,}", hint=AGAIN)
    diagnoses = pl.concat(parts)
    _check_rows(table, attrition)
    diagnoses = diagnoses.sort("hadm_id", "icd_version", "icd_code")
    _warn("of %d diagnoses %d are %s", diagnoses.height, doubtful_codes(diagnoses))
    diagnoses.write_parquet(draft.file("diagnoses.parquet"))
    draft.rows["diagnoses"] = diagnoses.height
    return attrition


def _check_rows(table: Table, counted: Attrition) -> None:
    """Refuse a table without rows, and say when nothing of one is kept."""
    if not counted.before:
        raise tables.no_rows(table)
    if not counted.kept:
        log.warning(
            "extract: none of %d rows of %s is kept; attrition.json has the reasons", counted.before, counted.table
        )


def _read_events(
    draft: Draft, opened: Mapping[str, Table], stays: pl.DataFrame, protocol: str, runtime: Runtime
) -> list[Attrition]:
    """Clean both tables of events into the buckets."""
    started = time.perf_counter()
    attrition = event_tables.read_events(
        [(opened[name], source) for name, source in _EVENT_TABLES],
        stays,
        draft.path,
        protocol=protocol,
        jobs=runtime.jobs,
        progress=runtime.progress,
    )
    rows, seconds = sum(counted.before for counted in attrition), time.perf_counter() - started
    log.info("extract: %d rows of chartevents and labevents read in %.1f s", rows, seconds)
    return attrition


def _check_events(opened: Mapping[str, Table], counted: list[Attrition]) -> None:
    for (name, _), attrition in zip(_EVENT_TABLES, counted, strict=True):
        _check_rows(opened[name], attrition)


def _write_events(draft: Draft, buckets: Buckets, protocol: str) -> pl.Series:
    """Sort and write the buckets, each a row group; stay_id of every stay with an event."""
    schema = pl.DataFrame(schema=EVENT_COLUMNS).to_arrow().schema
    measured, rows, totals, far = [], 0, 0, 0
    with pq.ParquetWriter(draft.file("events.parquet"), schema, compression="zstd") as writer:
        for bucket in buckets.drain():
            events = in_order(bucket, protocol)
            if events.height:
                writer.write_table(events.to_arrow(), row_group_size=events.height)
            measured.append(events["stay_id"].unique())
            rows, totals = rows + events.height, totals + events.filter(pl.col("variable") == GCS_TOTAL).height
            far += events.filter(pl.col("hours").abs() > _FAR_HOURS).height
    _warn("of %d events %d are %s", rows, {"charted more than a year from their stay's begin; no task reads them": far})
    draft.rows |= {"events": rows, "coma_totals": totals}
    return pl.concat(measured)
