"""The stages, in the order of the data: what each reads, and the module that does it.

A stage module has one entry, `run(draft, settings, inputs, *, runtime)`, which writes the artifact's files into the
draft. It is imported only when it runs, and never imports another stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusionctl import settings as s


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the pipeline needs to know of a stage.

    Attributes:
        schema_version: raised by hand when the same settings and inputs give another content.
        upstream: stages whose artifacts it reads. A trailing `*` means one artifact a model, `?` that it may lack,
            `+` those that the other inputs were made from.
        roots: raw folders and files that it reads.
        content_of: upstream stages of which it reads one file alone: that file's content, not the artifact's id, is
            part of its identity. So both protocols' extracts share one cache of films.
        seeded: the seed is part of the artifact's identity.
        trains: keeps checkpoints and saves one on a signal.
        resumes: keeps other work in its draft that the next run uses.
        shards: parts of its work can be done by several jobs at once (`--shard I/N`).
        networks: runs torch, so it needs a device.
        hidden: run by another stage's command alone, many times: it has no command, and `status` sums it up.
    """

    name: str
    help: str
    module: str
    settings: type[Any]
    schema_version: int
    upstream: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    content_of: Mapping[str, str] = field(default_factory=dict)
    seeded: bool = False
    trains: bool = False
    resumes: bool = False
    shards: bool = False
    networks: bool = False
    hidden: bool = False

    @property
    def keeps_draft(self) -> bool:
        """What a stopped run left is used by the next one."""
        return self.trains or self.resumes

    def values(self, sourced: Mapping[str, Mapping[str, Any]]) -> Any:
        """The stage's settings from their values with sources; those borrowed of other stages are left out."""
        return self.settings(**{name: entry["value"] for name, entry in sourced.items() if "." not in name})

    @staticmethod
    def borrowed(sourced: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Settings of other stages (`STAGE.NAME`) that a stage was given too: their values by stage and name."""
        found: dict[str, dict[str, Any]] = {}
        for name, entry in sourced.items():
            owner, dot, own_name = name.partition(".")
            if dot:
                found.setdefault(owner, {})[own_name] = entry["value"]
        return found


# Globs of the files whose content identifies a raw folder. A root that is a file is identified by itself.
ROOT_PATTERNS = {
    "mimic_root": ("*.csv", "*.csv.gz", "*/*.csv", "*/*.csv.gz"),
    "cxr_root": ("*.csv", "*.csv.gz"),
    "split_file": ("testset.csv", "testset_iv.csv", "valset.csv", "valset_iv.csv"),
    "init": (),
}

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="extract",
            help="Read the raw tables in one pass: stays, events, diagnoses, films.",
            module="fusionctl.stages.extract",
            settings=s.ExtractSettings,
            schema_version=3,
            roots=("mimic_root", "cxr_root"),
        ),
        Stage(
            name="films",
            help="Decode every film once, into one array (preprocess runs it where it is missing).",
            module="fusionctl.stages.films",
            settings=s.FilmsSettings,
            schema_version=2,
            upstream=("extract",),
            roots=("cxr_root",),
            content_of={"extract": "films.parquet"},
            resumes=True,
            shards=True,
        ),
        Stage(
            name="preprocess",
            help="Put events on a time grid, pair films, split by patient (runs extract with --mimic-root, and films).",
            module="fusionctl.stages.preprocess",
            settings=s.PreprocessSettings,
            schema_version=2,
            upstream=("extract", "films?"),
            roots=("split_file",),
        ),
        Stage(
            name="pretrain-ehr",
            help="Train the time-series encoder on the task.",
            module="fusionctl.stages.pretrain_ehr",
            settings=s.PretrainEhrSettings,
            schema_version=2,
            upstream=("preprocess",),
            seeded=True,
            trains=True,
            networks=True,
        ),
        Stage(
            name="pretrain-cxr",
            help="Train the film encoder on the radiology labels, or on the task.",
            module="fusionctl.stages.pretrain_cxr",
            settings=s.PretrainCxrSettings,
            schema_version=3,
            upstream=("preprocess",),
            roots=("init",),
            seeded=True,
            trains=True,
            networks=True,
        ),
        Stage(
            name="fuse",
            help="Train one model on the task (fusionctl list fusions).",
            module="fusionctl.stages.fuse",
            settings=s.FuseSettings,
            schema_version=4,
            upstream=("preprocess", "pretrain-ehr", "pretrain-cxr"),
            seeded=True,
            trains=True,
            networks=True,
        ),
        Stage(
            name="evaluate",
            help="Compare models on the test patients, with bootstrap intervals.",
            module="fusionctl.stages.evaluate",
            settings=s.EvaluateSettings,
            schema_version=3,
            upstream=("preprocess", "extract", "fuse*"),
            seeded=True,
        ),
        Stage(
            name="cell",
            help="Predict the test stays under one corruption.",
            module="fusionctl.stages.cell",
            settings=s.CellSettings,
            schema_version=1,
            upstream=("preprocess", "fuse"),
            seeded=True,
            networks=True,
            hidden=True,
        ),
        Stage(
            name="robustness",
            help="Evaluate models on test inputs corrupted by noise, absent or bad films, gaps or wrong units.",
            module="fusionctl.stages.robustness",
            settings=s.RobustnessSettings,
            schema_version=3,
            upstream=("preprocess", "fuse*", "cell+"),
            seeded=True,
            shards=True,
        ),
        Stage(
            name="report",
            help="Write one HTML page from everything above.",
            module="fusionctl.stages.report",
            settings=s.ReportSettings,
            schema_version=4,
            upstream=(
                "evaluate",
                "robustness?",
                "extract",
                "preprocess",
                "films+",
                "fuse*",
                "pretrain-ehr+",
                "pretrain-cxr+",
            ),
        ),
    )
}

HIDDEN = tuple(name for name, stage in STAGES.items() if stage.hidden)

# What each fusion reads besides the preprocessed data. A fusion that is not named here needs both encoders.
ENCODERS_OF: dict[str, tuple[str, ...]] = {
    "ehr": ("pretrain-ehr",),
    "cxr": ("pretrain-cxr",),
    "trees": (),
    "logistic": (),
    "trees-film": ("pretrain-cxr",),
    "logistic-film": ("pretrain-cxr",),
}
BOTH = ("pretrain-ehr", "pretrain-cxr")
# Models that are predictions only: no noisy input can be put through them later.
WITHOUT_WEIGHTS = ("trees", "logistic", "trees-film", "logistic-film")


def encoders_of(fusion: str, *, from_scratch: bool = False) -> tuple[str, ...]:
    """Stages whose encoders a fusion reads; from scratch, a network reads none."""
    return () if from_scratch and fusion not in WITHOUT_WEIGHTS else ENCODERS_OF.get(fusion, BOTH)
