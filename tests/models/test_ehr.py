"""The time-series encoder: the paper's size, padding, pooling."""

import pytest
import torch

from fusionctl.models.ehr import EhrEncoder


@pytest.mark.parametrize(("n_outputs", "expected"), [(1, 868_609), (25, 874_777)])
def test_the_papers_parameter_count(n_outputs, expected):
    assert sum(p.numel() for p in EhrEncoder(n_outputs=n_outputs).parameters()) == expected


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_padding_changes_nothing(pool):
    torch.manual_seed(0)
    encoder = EhrEncoder(5, hidden=8, pool=pool).eval()
    series = torch.randn(3, 6, 5)
    lengths = torch.tensor([6, 2, 4])
    padded = torch.cat([series, torch.full((3, 4, 5), 1e3)], dim=1)
    torch.testing.assert_close(encoder(series, lengths), encoder(padded, lengths), rtol=0, atol=1e-6)
    alone = encoder(series[1:2, :2], lengths[1:2])
    torch.testing.assert_close(encoder(series, lengths)[1:2], alone, rtol=0, atol=1e-6)


def test_last_is_the_state_at_the_last_valid_step_and_mean_the_mean():
    torch.manual_seed(0)
    encoder = EhrEncoder(5, hidden=8).eval()
    series, lengths = torch.randn(1, 4, 5), torch.tensor([3])
    steps, _ = encoder.second(encoder.first(series)[0])
    torch.testing.assert_close(encoder.features(series, lengths), steps[:, 2])
    encoder.pool = "mean"
    torch.testing.assert_close(encoder.features(series, lengths), steps[:, :3].mean(dim=1))


def test_dropout_acts_between_the_layers_and_after():
    torch.manual_seed(0)
    encoder = EhrEncoder(5, hidden=64, dropout=0.5).train()
    features = encoder.features(torch.randn(2, 3, 5), torch.tensor([3, 3]))
    assert 0.2 < float((features == 0).float().mean()) < 0.8
    encoder.eval()
    assert (encoder.features(torch.randn(2, 3, 5), torch.tensor([3, 3])) != 0).all()


def test_config_builds_the_same_encoder():
    encoder = EhrEncoder(5, 3, hidden=8, dropout=0.1, pool="mean")
    again = EhrEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    assert (again.dim, again.pool, again.dropout.p) == (8, "mean", 0.1)
