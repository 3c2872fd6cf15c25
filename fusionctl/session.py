"""One invocation of the program: its common options, and how it runs one stage or all of them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from fusionctl import pipeline, resolve, sweep
from fusionctl.config import Sourced, collect
from fusionctl.errors import UsageError
from fusionctl.model_name import fusion_of, parts
from fusionctl.settings import Fusion, Loss, Runtime, encoder_settings
from fusionctl.stages import STAGES, WITHOUT_WEIGHTS, encoders_of
from fusionctl.workdir import Artifact, Work

log = logging.getLogger("fusionctl")

MODELS: tuple[str, ...] = get_args(Fusion)
RUN_MODELS = ("attention", "ehr", "cxr", "trees")  # of `run` unless told: the paper's model and what it must beat
LOSSES: tuple[str, ...] = get_args(Loss)
NOISE = ("train_noise", "noise_kind", "noise_modality")  # settings of `fuse`
WITHOUT_FILMS = tuple(m for m in MODELS if "pretrain-cxr" not in encoders_of(m))


@dataclass(frozen=True, kw_only=True)
class Session:
    """Options that every command shares, and the stages' settings as far as they were given.

    Attributes:
        flags: settings given on the command line, by stage.
        config: tables of the TOML file.
        roots: raw data folders, as far as they were given.
        dry_run: say what would run and why, and run nothing.
    """

    work: Work
    runtime: Runtime
    preset: str = "paper"
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    roots: Mapping[str, Path | None] = field(default_factory=dict)
    force: bool = False
    dry_run: bool = False

    def settings(self, stage: str, **extra: Any) -> Sourced:
        """Value and source of every setting of a stage."""
        flags = {**self.flags.get(stage, {}), **extra}
        sourced = collect(stage, STAGES[stage].settings, flags=flags, config=self.config, preset=self.preset)
        if stage == "robustness":  # said now, not after hours of training
            importlib.import_module("fusionctl.noise").parse_levels(sourced["noise"]["value"])
        if stage == "fuse" and sourced["from_scratch"]["value"]:
            sourced |= self._encoder_settings(sourced["fusion"]["value"])
        if stage == "fuse" and not sourced["train_noise"]["value"]:
            # Without noise nothing is said of it: a model made before there was a choice is the same model.
            sourced = {name: entry for name, entry in sourced.items() if name not in NOISE}
        return sourced

    def _encoder_settings(self, fusion: str) -> Sourced:
        """What a model from scratch takes from the pretraining stages: how its encoders are built."""
        borrowed: Sourced = {}
        for stage in () if fusion in WITHOUT_WEIGHTS else encoders_of(fusion):
            sourced = self.settings(stage)
            borrowed |= {f"{stage}.{name}": sourced[name] for name in encoder_settings(STAGES[stage].settings)}
        return borrowed

    def run_stage(
        self,
        name: str,
        *,
        pins: Mapping[str, list[str]] | None = None,
        models: Iterable[str] = (),
        shard: tuple[int, int] | None = None,
    ) -> Artifact | None:
        """Run one stage, or one share of it, on the upstream artifacts that are there.

        Returns:
            The artifact; None after one share.

        Raises:
            FusionctlError: upstream is missing or ambiguous, or the stage failed.
        """
        stage, sourced = STAGES[name], self.settings(name)
        if name == "extract":
            return self._execute(name, {}, sourced)
        pins = dict(pins or {})
        values = stage.values(sourced)
        if name == "preprocess":
            inputs = self._preprocess_inputs(values, pins)
        else:
            inputs = resolve.resolve(self.work, stage, values, pins, models, seed=self.runtime.seed)
        if name == "robustness":
            return self._sweep(inputs, shard=shard)
        if shard:
            pipeline.execute_shard(self.work, self._plan(name, inputs, sourced), shard, dry_run=self.dry_run)
            return None
        return self._execute(name, inputs, sourced)

    def _preprocess_inputs(self, values: Any, pins: Mapping[str, list[str]]) -> resolve.Inputs:
        """The one stage that runs its upstream: raw folders in, model-ready arrays out, in one command."""
        # What is wrong with the settings is said before the films are decoded, not an hour later.
        for name in STAGES:
            self.settings(name)
        importlib.import_module(STAGES["preprocess"].module).check(values, self.roots.get("split_file"))
        if self.roots.get("mimic_root"):
            extract = self._extract(values.protocol, force=False)
        else:
            pinned = {"extract": pins["extract"]} if "extract" in pins else {}
            alone = replace(STAGES["preprocess"], upstream=("extract",))
            extract = resolve.resolve(self.work, alone, values, pinned, ())["extract"]
            if (made := extract.setting("protocol")) not in (None, values.protocol):
                raise UsageError(
                    f"--extract {extract.id} was made with protocol {made}, not {values.protocol}",
                    hint=f"add --protocol {made}, or choose an extract of protocol {values.protocol}",
                )
        if pins.get("films"):
            return {"extract": extract, "films": self.work.find("films", pins["films"][0])}
        return {"extract": extract, "films": self._films(extract, force=False)}

    def _extract(self, protocol: str, *, force: bool) -> Artifact:
        """The extract of a protocol, made where it is missing."""
        sourced = self.settings("extract")
        if sourced["protocol"]["source"] == "default":
            sourced["protocol"] = {"value": protocol, "source": "preprocess"}
        elif (said := sourced["protocol"]["value"]) != protocol:
            raise UsageError(f"extract has protocol {said}, preprocess {protocol}", hint="give both the same protocol")
        return self._execute("extract", {}, sourced, force=force)

    def _films(self, extract: Artifact, *, force: bool) -> Artifact | None:
        """The cache of the films that extract lists, made where it is missing; None where it lists none."""
        listed = extract.manifest.get("rows", {}).get("films", self.roots.get("cxr_root") is not None)
        return self._execute("films", {"extract": extract}, self.settings("films"), force=force) if listed else None

    def run_all(self, models: Iterable[str], *, seeds: int = 1) -> Artifact:
        """Run every stage in order; the artifacts are handed on, so nothing is looked up or guessed.

        Args:
            models: names of models, `FUSION` or `FUSION+LOSS`.
            seeds: how many times encoders and models are trained, with seeds from the run's own on.

        Raises:
            FusionctlError: a stage failed; what was done before it stays, and the same command goes on from there.
        """
        if not self.roots.get("mimic_root"):
            raise UsageError(
                "run needs --mimic-root", hint="fusionctl run --mimic-root DIR --cxr-root DIR --work-dir W"
            )
        made: dict[str, Any] = {"fuse": [], "pretrain-ehr": [], "pretrain-cxr": []}
        chosen = self.check(models)
        made["extract"] = self._extract(self.settings("preprocess")["protocol"]["value"], force=self.force)
        made["films"] = self._films(made["extract"], force=self.force)
        made["preprocess"] = self._execute("preprocess", self._inputs("preprocess", made), self.settings("preprocess"))
        for seed in range(self.runtime.seed, self.runtime.seed + seeds):
            replace(self, runtime=replace(self.runtime, seed=seed))._train(chosen, made)
        made["evaluate"] = self._execute("evaluate", self._inputs("evaluate", made), self.settings("evaluate"))
        networks = [a for m, a in zip(chosen * seeds, made["fuse"], strict=True) if fusion_of(m) not in WITHOUT_WEIGHTS]
        inputs = {"preprocess": made["preprocess"], "fuse": networks}
        made["robustness"] = self._sweep(inputs) if networks else None
        return self._execute("report", self._inputs("report", made), self.settings("report"))

    def check(self, models: Iterable[str]) -> list[str]:
        """Check the settings of all stages, and the models, before anything runs.

        Returns:
            The models to train; those of `run` where none is named.

        Raises:
            UsageError: a setting breaks its rule, or a model is unknown or reads films that are not given.
        """
        values = {name: stage.values(self.settings(name)) for name, stage in STAGES.items()}
        importlib.import_module(STAGES["preprocess"].module).check(values["preprocess"], self.roots.get("split_file"))
        return self._models(list(models))

    def _train(self, models: list[str], made: dict[str, Any]) -> None:
        """Train the encoders that the models need, and the models, with this session's seed; add them to `made`."""
        scratch = self.settings("fuse")["from_scratch"]["value"]
        needed = {model: encoders_of(fusion_of(model), from_scratch=scratch) for model in models}
        encoders = {}
        for name in ("pretrain-ehr", "pretrain-cxr"):
            if any(name in of_model for of_model in needed.values()):
                settings = self.settings(name)
                if name == "pretrain-cxr" and settings["task"]["source"] == "default":
                    # The paper pretrains films on the radiology labels for mortality, on the labels for phenotyping.
                    task = self.settings("preprocess")["task"]["value"]
                    settings["task"]["value"] = task if task == "phenotyping" else resolve.RADIOLOGY
                encoders[name] = self._execute(name, {"preprocess": made["preprocess"]}, settings)
                made[name].append(encoders[name])
        for model in models:
            inputs = {"preprocess": made["preprocess"], **{n: encoders[n] for n in needed[model]}}
            fusion, loss = parts(model)
            settings = self.settings("fuse", fusion=fusion, **({"loss": loss} if loss else {}))
            made["fuse"].append(self._execute("fuse", inputs, settings))

    def _models(self, models: list[str]) -> list[str]:
        for model in models:
            fusion, loss = parts(model)
            if fusion not in MODELS:
                raise UsageError(f"--models: {fusion!r} is not a model", hint=f"known: {', '.join(MODELS)}")
            if loss is not None and (loss not in LOSSES or fusion in WITHOUT_WEIGHTS):
                rule = "trains no network" if fusion in WITHOUT_WEIGHTS else f"{loss!r} is not a loss"
                raise UsageError(f"--models {model}: {rule}", hint=f"FUSION+LOSS, losses: {', '.join(LOSSES)}")
        if self.roots.get("cxr_root"):
            return models or list(RUN_MODELS)
        default = [m for m in RUN_MODELS if m in WITHOUT_FILMS]
        if not models:
            log.warning("no --cxr-root: only the models that read no films run (%s)", ", ".join(default))
        if {fusion_of(m) for m in models} - set(WITHOUT_FILMS):
            raise UsageError(f"--models {','.join(models)} reads films; --cxr-root is not given")
        return models or default

    @staticmethod
    def _inputs(name: str, made: Mapping[str, Any]) -> resolve.Inputs:
        """What a stage reads of what was made, in the shape that `resolve` gives: a list where it reads several."""
        found: resolve.Inputs = {}
        for entry in STAGES[name].upstream:
            source = entry.rstrip("*?+")
            artifact = made.get(source)
            one = entry[-1] == "+" and not isinstance(artifact, list)
            found[source] = ([artifact] if artifact else []) if one else artifact
        return found

    def _execute(self, name: str, inputs: resolve.Inputs, sourced: Sourced, *, force: bool | None = None) -> Artifact:
        planned = self._plan(name, inputs, sourced)
        force = self.force if force is None else force
        return pipeline.execute(self.work, planned, force=force, dry_run=self.dry_run)

    def _sweep(self, inputs: resolve.Inputs, shard: tuple[int, int] | None = None) -> Artifact | None:
        options: dict[str, Any] = {"shard": shard, "force": self.force, "dry_run": self.dry_run}
        return sweep.run(self.work, self.runtime, self.settings("robustness"), inputs, **options)

    def _plan(self, name: str, inputs: resolve.Inputs, sourced: Sourced) -> pipeline.Plan:
        roots = {**self._recorded_roots(inputs), **{n: p for n, p in self.roots.items() if p}}
        if name == "extract" and not roots.get("mimic_root"):
            raise UsageError("extract needs --mimic-root", hint="fusionctl extract --mimic-root DIR [--cxr-root DIR]")
        return pipeline.plan(STAGES[name], sourced, inputs, roots, self.runtime)

    @staticmethod
    def _recorded_roots(inputs: resolve.Inputs) -> dict[str, Path]:
        """Where extract read its raw data: a later stage finds the films there without being told again."""
        extract = inputs.get("extract")
        raw = extract.manifest.get("raw", {}) if isinstance(extract, Artifact) else {}
        return {name: Path(entry["path"]) for name, entry in raw.items()}
