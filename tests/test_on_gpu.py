"""What runs networks, on a GPU that is only pretended: every tensor is where it must be, mixed precision fits."""

from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from pretended_gpu import OnGpu, pretended_gpu
from toy import artifact, write_preprocessed

from fusionctl.fusion import FUSIONS
from fusionctl.settings import (
    CellSettings,
    CxrArch,
    EhrArch,
    FuseSettings,
    Loss,
    PretrainCxrSettings,
    PretrainEhrSettings,
    Runtime,
)
from fusionctl.stages import cell, fuse, pretrain_cxr, pretrain_ehr
from fusionctl.workdir import Artifact, Draft

STEPS = {"epochs": 2, "batch_size": 8, "grad_clip": 1.0}
EHR = {"hidden": 8, **STEPS}
CXR = {"arch": "resnet18", "input_size": 32, **STEPS}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    with pretended_gpu(monkeypatch):
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    path = write_preprocessed(folder / "preprocess", stays=24, most_films=2)
    made = {"preprocess": Artifact("preprocess", "p0", path, {"settings": {}})}
    for stage, settings in ((pretrain_ehr, PretrainEhrSettings(**EHR)), (pretrain_cxr, PretrainCxrSettings(**CXR))):
        name = stage.__name__.rpartition(".")[2].replace("_", "-")
        made[name] = artifact(do(stage, settings, folder / name, made, device="cpu").path)
    return made


def do(stage, settings, path, inputs, *, device="cuda:0"):
    path.mkdir()
    stage.run(draft := Draft(path), settings, inputs, runtime=Runtime(device=device))
    return draft


def test_the_pretence_refuses_what_a_gpu_refuses(gpu):
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert isinstance(there, OnGpu) and there.is_cuda and (there * 2).cpu().tolist() == [2, 2, 2]
    for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: torch.nn.Linear(3, 1)(there)):
        with pytest.raises(RuntimeError, match="on the CPU"):
            wrong()
    with pytest.raises(AssertionError, match="positions on the GPU"):
        here[there.long()]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.nn.Linear(3, 1).to("cuda")(there).dtype == torch.bfloat16


@pytest.mark.parametrize("arch", get_args(EhrArch))
def test_the_series_encoders(arch, gpu, inputs, tmp_path):
    more = {"running": True, "since_seen": True, "summary": True, "pool": "attention"}
    do(pretrain_ehr, PretrainEhrSettings(arch=arch, heads=2, **EHR, **more), tmp_path / "made", inputs)


@pytest.mark.parametrize("arch", sorted({*get_args(CxrArch)} - {"resnet34", "resnet50"}))
def test_the_film_encoders(arch, gpu, inputs, tmp_path):
    do(pretrain_cxr, PretrainCxrSettings(**{**CXR, "arch": arch, "epochs": 1}), tmp_path / "made", inputs)


@pytest.mark.parametrize("name", [*FUSIONS, "trees-film"])
def test_the_models(name, gpu, inputs, tmp_path):
    """Training, with some films hidden, prediction, and prediction of corrupted inputs."""
    more = {"film_dropout": 0.3, "card_samples": 2, "train_noise": 0.2 if name == "attention" else 0.0}
    draft = do(fuse, FuseSettings(fusion=name, **STEPS, **more), tmp_path / "made", inputs)
    assert not pl.read_parquet(draft.file("predictions.parquet"))["stay_id"].is_empty()
    if name in FUSIONS:
        settings = CellSettings(corruption="noise", level=0.5, kind="additive", modality="both")
        model = {"preprocess": inputs["preprocess"], "fuse": Artifact("fuse", "f0", draft.path, {})}
        found = do(cell, settings, tmp_path / "cell", model).file("probabilities.npy")
        assert np.isfinite(np.load(found)).any()


@pytest.mark.parametrize("loss", get_args(Loss))
def test_the_losses(loss, gpu, inputs, tmp_path):
    do(fuse, FuseSettings(fusion="ehr", loss=loss, **STEPS), tmp_path / "made", inputs)


def test_training_goes_on_from_a_checkpoint(gpu, inputs, tmp_path):
    stopped = Draft(tmp_path)
    settings = FuseSettings(fusion="attention", **STEPS)
    runs = []

    def stop(label, done, total):
        runs.append(label)
        if len(runs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse.run(stopped, settings, inputs, runtime=Runtime(device="cuda:0", progress=stop))
    fuse.run(stopped, settings, inputs, runtime=Runtime(device="cuda:0"))
    assert stopped.file("predictions.parquet").exists()
