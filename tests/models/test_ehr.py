"""The time-series encoders: one contract for all, and the paper's size, dropout and summaries."""

import copy

import pytest
import torch
from torch.nn import functional

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS
from fusionctl.models.ehr import TRUNKS, EhrEncoder

POOLS = ("last", "mean", "attention")
each_arch = pytest.mark.parametrize("arch", TRUNKS)


def stays(lengths=(6, 2, 4), seed=0):
    """Series as in a batch: values, then masks, then zeros after each stay's last row."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    values = torch.randn(len(lengths), int(lengths.max()), N_VALUE_COLUMNS, generator=generator)
    masks = torch.rand(*values.shape[:2], N_COLUMNS - N_VALUE_COLUMNS, generator=generator) < 0.4
    valid = torch.arange(values.shape[1]) < lengths[:, None]
    return torch.cat([values, masks.float()], dim=2) * valid[..., None], lengths


def build(arch="lstm", n_outputs=2, *, hidden=16, **options):
    torch.manual_seed(0)
    return EhrEncoder(n_outputs=n_outputs, arch=arch, hidden=hidden, **options)


@pytest.mark.parametrize("options", [{}, {"n_running": 4, "since_seen": True}])
@pytest.mark.parametrize("pool", POOLS)
@each_arch
def test_padding_changes_nothing_and_rows_are_independent(arch, pool, options):
    encoder = build(arch, pool=pool, **options).eval()
    series, lengths = stays()
    logits = encoder(series, lengths)
    for padding in (torch.zeros(3, 4, N_COLUMNS), torch.full((3, 4, N_COLUMNS), 1e3)):
        torch.testing.assert_close(encoder(torch.cat([series, padding], dim=1), lengths), logits, rtol=0, atol=1e-6)
    for row, length in enumerate(lengths):
        alone = encoder(series[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone, logits[row : row + 1], rtol=0, atol=1e-6)


@each_arch
def test_every_valid_row_is_read(arch):
    """A value of any row changes the prediction, whatever the pooling."""
    encoder = build(arch).eval()
    series, lengths = stays()
    series.requires_grad_()
    encoder(series, lengths).sum().backward()
    for row, length in enumerate(lengths):
        assert (series.grad[row, :length].abs().sum(dim=1) > 0).all() and (series.grad[row, length:] == 0).all()


@pytest.mark.parametrize("pool", POOLS)
@each_arch
def test_one_stay_of_one_row(arch, pool):
    encoder = build(arch, pool=pool, n_running=2, since_seen=True).eval()
    series, lengths = stays(lengths=(1,))
    features = encoder.features(series, lengths)
    assert features.shape == (1, encoder.dim) and features.isfinite().all()
    torch.testing.assert_close(features, encoder.steps(series, lengths)[:, 0])


@pytest.mark.parametrize("pool", POOLS)
@each_arch
def test_every_parameter_gets_a_gradient(arch, pool):
    encoder = build(arch, pool=pool, dropout=0.0).train()
    series, lengths = stays()
    functional.binary_cross_entropy_with_logits(encoder(series, lengths), torch.ones(3, 2)).backward()
    without = [name for name, parameter in encoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert without == []


@each_arch
def test_features_are_the_pooled_steps(arch):
    encoder = build(arch, pool="attention").eval()
    series, lengths = stays()
    steps = encoder.steps(series, lengths)
    assert steps.shape == (3, 6, 16) and encoder.dim == 16
    features = dict.fromkeys(POOLS)
    for pool in POOLS:
        encoder.pool = pool
        features[pool] = encoder.features(series, lengths)
    for row, length in enumerate(lengths):
        valid = steps[row, :length]
        torch.testing.assert_close(features["last"][row], valid[-1])
        torch.testing.assert_close(features["mean"][row], valid.mean(dim=0))
        weights = torch.softmax(valid @ encoder.score.weight[0], dim=0)
        torch.testing.assert_close(features["attention"][row], weights @ valid)


@each_arch
def test_deterministic_in_evaluation_and_random_in_training(arch):
    series, lengths = stays()
    for options in ({"dropout": 0.5}, {"dropout": 0.0, "input_dropout": 0.5}):
        encoder = build(arch, **options)
        assert not torch.equal(encoder.train()(series, lengths), encoder(series, lengths))
        assert torch.equal(encoder.eval()(series, lengths), encoder(series, lengths))


@each_arch
def test_config_builds_the_same_encoder(arch):
    options = {"layers": 1, "heads": 4, "dropout": 0.1, "pool": "attention", "n_running": 2, "since_seen": True}
    encoder = build(arch, **options, input_dropout=0.2, step_hours=1.0).eval()
    torch.manual_seed(1)
    again = EhrEncoder(**encoder.config).eval()
    again.load_state_dict(encoder.state_dict())
    assert again.config == encoder.config and again.config["arch"] == arch and again.input_dropout.p == 0.2
    assert torch.equal(encoder(*stays()), again(*stays()))
    assert torch.equal(encoder(*stays()), copy.deepcopy(encoder)(*stays()))


@each_arch
def test_learns_a_pattern(arch):
    """Which of two stays is longer ago: the same numbers in all columns, in another order of the rows."""
    encoder = build(arch, n_outputs=1, dropout=0.0)
    series, lengths = stays(lengths=(5,) * 8)
    series = torch.cat([series, series.flip(1)])
    lengths, labels = lengths.repeat(2), torch.tensor([[0.0]] * 8 + [[1.0]] * 8)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(40):
        loss = functional.binary_cross_entropy_with_logits(encoder(series, lengths), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((encoder(series, lengths) > 0) == labels.bool()).all() and loss < 0.2


@pytest.mark.parametrize(("n_outputs", "expected"), [(1, 868_609), (25, 874_777)])
def test_the_papers_parameter_count(n_outputs, expected):
    assert sum(p.numel() for p in EhrEncoder(n_outputs=n_outputs).parameters()) == expected


def test_weights_from_before_there_were_other_networks_still_load():
    encoder = build()
    old = {name.removeprefix("trunk."): tensor for name, tensor in encoder.state_dict().items()}
    config = {"n_inputs": 76, "n_outputs": 2, "hidden": 16, "dropout": 0.3, "pool": "last", "n_running": 0}
    torch.manual_seed(1)
    again = EhrEncoder(**config, input_dropout=0.0)
    again.load_state_dict(old)
    inside = torch.nn.ModuleDict({"ehr": EhrEncoder(**config)})
    inside.load_state_dict({f"ehr.{name}": tensor for name, tensor in old.items()})
    for loaded in (again, inside["ehr"]):
        assert torch.equal(loaded.eval()(*stays()), encoder.eval()(*stays()))
    assert set(old) == {"head.weight", "head.bias"} | {
        f"{layer}.{kind}_{gate}_l0"
        for layer in ("first", "second")
        for kind in ("weight", "bias")
        for gate in ("ih", "hh")
    }


def test_dropout_acts_between_the_layers_and_after_the_pooling():
    encoder, between = build(hidden=64, dropout=0.5), []
    encoder.trunk.second.register_forward_pre_hook(lambda module, inputs: between.append(inputs[0]))
    zeros = (encoder.train().features(*stays()) == 0).float().mean()
    assert 0.2 < zeros < 0.8 and (encoder.eval().features(*stays()) != 0).all()
    assert 0.2 < (between[0] == 0).float().mean() < 0.8 and (between[1] != 0).all()


def watch(encoder):
    """What the network reads, call by call."""
    seen = []
    encoder.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def test_running_summaries_are_of_the_steps_so_far():
    encoder = EhrEncoder(2, hidden=8, n_running=1).eval()
    seen = watch(encoder)
    encoder(torch.tensor([[[3.0, 9.0], [1.0, 9.0], [5.0, 9.0]]]), torch.tensor([3]))
    expected = [[3.0, 9.0, 3.0, 3.0, 3.0], [1.0, 9.0, 2.0, 1.0, 3.0], [5.0, 9.0, 3.0, 1.0, 5.0]]
    torch.testing.assert_close(seen[0], torch.tensor([expected]))


@each_arch
def test_input_dropout_hides_whole_columns_in_training_only(arch):
    encoder = build(arch, input_dropout=0.5)
    seen, series, lengths = watch(encoder), torch.ones(2, 3, N_COLUMNS), torch.tensor([3, 3])
    encoder.train()(series, lengths)
    hidden = seen[0] == 0
    assert (hidden.any(dim=1) == hidden.all(dim=1)).all() and 0.2 < hidden.float().mean() < 0.8
    assert not torch.equal(hidden[0], hidden[1])
    encoder.eval()(series, lengths)
    assert torch.equal(seen[1], series)


def test_what_an_encoder_cannot_be():
    with pytest.raises(ValueError, match="arch must be one of lstm, transformer, decay; got 'gru'"):
        EhrEncoder(arch="gru")
    with pytest.raises(ValueError, match="pool must be one of last, mean, attention; got 'max'"):
        EhrEncoder(pool="max")
    for options in ({"arch": "decay"}, {"since_seen": True}):
        with pytest.raises(ValueError, match="need the 76 columns of a batch; got 5"):
            EhrEncoder(5, **options)
