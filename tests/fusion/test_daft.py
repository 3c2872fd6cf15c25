"""DAFT: the affine map of the film's feature maps, and what a stay without a film gets."""

import dataclasses

import pytest
import torch
from toy import write_preprocessed

from fusionctl import fusion
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import UsageError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy"), most_films=2))


def make(k=1, arch="resnet18", **options):
    torch.manual_seed(0)
    cxr = CxrEncoder(arch, 14, input_size=32, magnitude=0.0)
    return fusion.build("daft", EhrEncoder(n_outputs=k, hidden=16, dropout=0.0), cxr, k, options=options)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 25])
def test_the_number_of_parameters(k):
    with torch.device("meta"):
        model = fusion.build("daft", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", 14), k, options={})
    encoders = {1: 868_609, 25: 874_777}[k] + 21_284_672 + 513 * 14
    affine = (256 + 256) * 73 + 73 * 2 * 256  # 73 = int(512 / 7); no bias
    total = sum(p.numel() for p in model.parameters())
    assert total == encoders + affine + 513 * k == {1: 22_235_728, 25: 22_254_208}[k]


def test_scale_and_shift_of_the_maps_that_enter_the_last_stage(data):
    """Written out, film by film."""
    model, batch = make().eval(), collate(data, [0, 1, 2])
    assert batch.film_rows.tolist() == [0, 2, 2]
    with torch.no_grad():
        series = model.ehr.features(batch.series, batch.lengths)
        *before, last = model.cxr.stages()
        features = []
        for film, row in zip(batch.films, batch.film_rows.tolist(), strict=True):
            maps = model.cxr.prepared(film[None])
            for stage in before:
                maps = stage(maps)
            given = model.affine(torch.cat([maps[0].mean(dim=(1, 2)), series[row]]))
            maps = maps * (1 + given[None, :256, None, None]) + given[None, 256:, None, None]
            features.append(model.cxr.pool(last(maps))[0])
        expected = torch.stack([features[0], (features[1] + features[2]) / 2])
        close(model(batch).logits[[0, 2]], model.classifier(expected))


def test_without_scale_and_shift_it_is_the_film_alone(data):
    model, batch = make().eval(), collate(data, [0, 4])
    with torch.no_grad():
        before = model(batch).logits
        model.affine[2].weight.zero_()
        close(model(batch).logits, model.classifier(model.cxr.embed(batch.films)))
        assert not torch.allclose(before, model(batch).logits)


def test_the_series_counts_for_a_stay_with_a_film(data):
    model, batch = make().eval(), collate(data, [0, 4])
    with torch.no_grad():
        other = dataclasses.replace(batch, series=batch.series + 1)
        assert not torch.allclose(model(batch).logits, model(other).logits)


@pytest.mark.parametrize("absent", ["mask", "zero"])
def test_a_stay_without_a_film_is_the_series_encoders(data, absent):
    model, batch = make(absent=absent).eval(), collate(data, [0, 1, 3])
    with torch.no_grad():
        close(model(batch).logits[1:], model.ehr(batch.series, batch.lengths)[1:])


def test_it_knows_25_labels(data):
    with torch.no_grad():
        assert make(25).eval()(collate(data, [0, 1])).logits.shape == (2, 25)


def test_a_network_without_maps_is_refused():
    with torch.device("meta"), pytest.raises(UsageError, match="--arch vit_b_16 has none"):
        make(arch="vit_b_16")


def test_the_series_head_must_be_of_the_same_labels():
    with torch.device("meta"), pytest.raises(ValueError, match=r"ehr\.head has 3 outputs; expected one a label, 25"):
        fusion.build("daft", EhrEncoder(n_outputs=3), CxrEncoder("resnet18"), 25, options={})
