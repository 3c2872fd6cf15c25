"""MMTM: gates of both modalities, the joint prediction, the branches' losses."""

import dataclasses

import pytest
import torch
from toy import write_preprocessed

from fusionctl import fusion, losses
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import UsageError
from fusionctl.fusion.mmtm import Transfer
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy"), most_films=2))


def make(k=1, arch="resnet18"):
    torch.manual_seed(0)
    cxr = CxrEncoder(arch, 14, input_size=32, magnitude=0.0)
    return fusion.build("mmtm", EhrEncoder(n_outputs=k, hidden=16, dropout=0.0), cxr, k, options={"dropout": 0.1})


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def open_gates(model, *, film=0.0):
    """Every gate is one, or those of the film are what its bias makes them."""
    with torch.no_grad():
        for module in model.transfer.values():
            for layer, bias in ((module.film, film), (module.series, 0.0)):
                layer.weight.zero_()
                layer.bias.fill_(bias)


@pytest.mark.parametrize("k", [1, 25])
def test_the_number_of_parameters(k):
    with torch.device("meta"):
        model = fusion.build("mmtm", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", 14), k, options={})
    modules = 0
    for channels in (256, 512):
        both = channels + 256
        modules += both * (both // 2) + both // 2 + (both // 2 + 1) * both
    encoders = {1: 868_609, 25: 874_777}[k] + 21_284_672 + 513 * 14
    heads = 513 * k + (257 * 512) + 1025 * k  # film, projection, joint
    total = sum(p.numel() for p in model.parameters())
    assert total == encoders + modules + heads == {1: 23_147_473, 25: 23_190_553}[k]


def test_open_gates_leave_the_two_encoders_and_a_linear_head(data):
    model, batch = make().eval(), collate(data, [0, 4])
    open_gates(model)
    with torch.no_grad():
        film = model.cxr.embed(batch.films)
        series = model.projection(model.ehr.features(batch.series, batch.lengths))
        close(model(batch).logits, model.classifier(torch.cat([series, film], dim=1)))


def test_closed_gates_shut_the_film_out(data):
    model, batch = make().eval(), collate(data, [0, 4])
    open_gates(model, film=-200.0)
    with torch.no_grad():
        before = model(batch).logits
        assert torch.equal(before, model(dataclasses.replace(batch, films=255 - batch.films)).logits)


def test_the_series_acts_on_the_film_and_the_film_on_the_series(data):
    model, batch = make().eval(), collate(data, [0, 4])
    other_series = dataclasses.replace(batch, series=batch.series + 1)
    other_films = dataclasses.replace(batch, films=255 - batch.films)
    for read, other in (("film", other_series), ("series", other_films)):
        model = make().eval()
        with torch.no_grad():
            half = slice(0, 512) if read == "film" else slice(512, 1024)
            model.classifier.weight[:, half] = 0.0  # the head reads the other modality alone
            assert not torch.allclose(model(batch).logits, model(other).logits)


def test_gates_are_twice_a_sigmoid_of_the_joint_vector():
    torch.manual_seed(0)
    module, film, series = Transfer(6, 4), torch.randn(3, 6), torch.randn(3, 4)
    assert module.joint.out_features == 5  # 2 (6 + 4) / 4
    film_gates, series_gates = module(film, series)
    joint = module.joint(torch.cat([film, series], dim=1)).clamp(min=0)
    close(film_gates, 2 / (1 + (-module.film(joint)).exp()))
    close(series_gates, 2 / (1 + (-module.series(joint)).exp()))


@pytest.mark.parametrize("absent", ["mask", "zero"])
def test_a_stay_without_a_film_is_the_series_encoders(data, absent):
    model, batch = make().eval(), collate(data, [0, 1, 3])
    model = fusion.build("mmtm", model.ehr, model.cxr, 1, options={"absent": absent}).eval()
    with torch.no_grad():
        close(model(batch).logits[1:], model.ehr(batch.series, batch.lengths)[1:])


def test_the_branches_learn_from_the_stays_with_films(data):
    model, batch = make().train(), collate(data, [0, 1, 4])
    open_gates(model)
    output, labels = model(batch), batch.labels[[0, 2]]
    film, series = model.cxr.embed(batch.films), model.ehr.features(batch.series, batch.lengths)[[0, 2]]
    branches = losses.bce(model.film_head(film), labels) + losses.bce(model.ehr.head(series), labels)
    close(output.aux_loss, branches * 2 / 3)
    assert make().eval()(batch).aux_loss is None


def test_without_any_film_the_branches_cost_nothing(data):
    model = make().train()
    output = model(collate(data, [1, 3]))
    assert output.aux_loss.item() == 0
    (output.logits.sum() + output.aux_loss).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_it_knows_25_labels(data):
    model, batch = make(25).eval(), collate(data, [0, 1])
    with torch.no_grad():
        assert model(batch).logits.shape == (2, 25)


def test_a_dense_network_serves_too(data):
    with torch.no_grad():
        assert make(arch="densenet121").eval()(collate(data, [0, 1])).logits.isfinite().all()


def test_a_network_without_maps_is_refused():
    with torch.device("meta"), pytest.raises(UsageError, match="--arch vit_b_16 has none"):
        make(arch="vit_b_16")


def test_the_series_head_must_be_of_the_same_labels():
    with torch.device("meta"), pytest.raises(ValueError, match=r"ehr\.head has 3 outputs; expected one a label, 25"):
        fusion.build("mmtm", EhrEncoder(n_outputs=3), CxrEncoder("resnet18"), 25, options={})
