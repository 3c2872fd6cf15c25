"""The time-series encoder: the paper's size, padding, pooling."""

import pytest
import torch

from fusionctl.models.ehr import EhrEncoder


@pytest.mark.parametrize(("n_outputs", "expected"), [(1, 868_609), (25, 874_777)])
def test_the_papers_parameter_count(n_outputs, expected):
    assert sum(p.numel() for p in EhrEncoder(n_outputs=n_outputs).parameters()) == expected


@pytest.mark.parametrize("n_running", [0, 4])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_padding_changes_nothing(pool, n_running):
    torch.manual_seed(0)
    encoder = EhrEncoder(5, hidden=8, pool=pool, n_running=n_running).eval()
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


def test_running_summaries_are_of_the_steps_so_far():
    encoder, seen = EhrEncoder(2, hidden=8, n_running=1).eval(), []
    encoder.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    series = torch.tensor([[[3.0, 9.0], [1.0, 9.0], [5.0, 9.0]]])
    encoder(series, torch.tensor([3]))
    expected = [[3.0, 9.0, 3.0, 3.0, 3.0], [1.0, 9.0, 2.0, 1.0, 3.0], [5.0, 9.0, 3.0, 1.0, 5.0]]
    torch.testing.assert_close(seen[0], torch.tensor([expected]))


def test_input_dropout_hides_whole_columns_in_training_only():
    encoder, seen = EhrEncoder(40, hidden=8, input_dropout=0.5), []
    encoder.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    series = torch.ones(2, 3, 40)
    encoder.train()(series, torch.tensor([3, 3]))
    hidden = seen[0] == 0
    assert (hidden.any(dim=1) == hidden.all(dim=1)).all() and 0.2 < hidden.float().mean() < 0.8
    assert not torch.equal(hidden[0], hidden[1])
    encoder.eval()(series, torch.tensor([3, 3]))
    assert torch.equal(seen[1], series)


def test_config_builds_the_same_encoder():
    encoder = EhrEncoder(5, 3, hidden=8, dropout=0.1, pool="mean", n_running=2, input_dropout=0.2)
    again = EhrEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    assert (again.dim, again.pool, again.dropout.p, again.input_dropout.p) == (8, "mean", 0.1, 0.2)
