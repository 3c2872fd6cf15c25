"""`pretrain-ehr` with each of its encoders."""

import json

import pytest
import torch
from toy import artifact, write_preprocessed

from fusionctl.checkpoint import load_into, read
from fusionctl.models.ehr import TRUNKS, EhrEncoder
from fusionctl.settings import EhrArch, PretrainEhrSettings, Runtime, get_args
from fusionctl.stages import pretrain_ehr
from fusionctl.workdir import Draft


def test_the_settings_name_every_encoder():
    assert get_args(EhrArch) == tuple(TRUNKS)


@pytest.mark.parametrize("arch", TRUNKS)
def test_every_encoder_is_trained_and_built_again_from_its_file(arch, tmp_path):
    (tmp_path / "made").mkdir()
    settings = PretrainEhrSettings(
        arch=arch, epochs=2, hidden=8, layers=1, heads=4, pool="attention", since_seen=True, running=True, lr=1e-2
    )
    inputs = {"preprocess": artifact(write_preprocessed(tmp_path / "preprocess"), timestep=1.0)}
    pretrain_ehr.run(Draft(tmp_path / "made"), settings, inputs, runtime=Runtime(seed=1))
    tensors, config = read(tmp_path / "made" / "weights.safetensors")
    assert (config["arch"], config["layers"], config["heads"], config["step_hours"]) == (arch, 1, 4, 1.0)
    assert (config["pool"], config["since_seen"], config["n_running"]) == ("attention", True, 59)
    encoder = EhrEncoder(**config)
    load_into(encoder, tensors, tmp_path)
    facts = json.loads((tmp_path / "made" / "metrics.json").read_text())
    assert facts["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert encoder.eval()(torch.zeros(2, 3, 76), torch.tensor([3, 1])).isfinite().all()
