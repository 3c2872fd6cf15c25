"""The training loop: best epoch, resume, signals, masked labels."""

import json
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from toy import write_preprocessed

from fusionctl import loop, losses
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import FusionctlError, InputError, Interrupted, UsageError
from fusionctl.fusion import EhrEncoder
from fusionctl.fusion.output import Output
from fusionctl.fusion.unimodal import EhrOnly
from fusionctl.loop_state import Learner


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy"), stays=60))


def make(data):
    torch.manual_seed(0)
    return EhrOnly(EhrEncoder(n_outputs=len(data.label_names), hidden=8), None, 1, options={})


class Phased(EhrOnly):
    """Before the task begins it learns something else; what a phase does follows from the epoch alone."""

    modalities = ("ehr", "cxr")

    def begin_epoch(self, epoch, epochs):
        self.epoch = epoch

    def task_begins(self, epochs):
        return 2

    def forward(self, batch):
        output, films = super().forward(batch), batch.films.float().mean() if len(batch.films) else 0.0
        if self.training and self.epoch < 2:
            return Output(output.logits, aux_loss=output.logits.square().mean(), task_weight=0.0)
        return Output(output.logits + 1e-3 * films * self.epoch)


def everything(data):
    """A model, its loss and arguments that use every part of the loop at once."""
    torch.manual_seed(0)
    model = Phased(EhrEncoder(n_outputs=1, hidden=8), None, 1, options={})
    loss = losses.build("uncertainty", data.labels)
    changes = {"lengths": data.n_rows, "film_dropout": 0.5, "loss_lr": 1e-2, "grad_clip": 1.0, "weight_decay": 0.01}
    return model, loss, {"reading": partial(collate, data), "loss": loss, **changes}


def run(model, data, **changes):
    val = data.rows_of("val")
    arguments = {"epochs": 3, "batch_size": 8, "lr": 1e-2, "patience": 10, "seed": 3, **changes}
    arguments = {"train_rows": data.rows_of("train"), "val_rows": val, "val_labels": data.labels[val], **arguments}
    loss, checkpoint = arguments.pop("loss", None), arguments.pop("checkpoint", None)
    reading = arguments.pop("reading", partial(collate, data, films=False))
    return loop.train(model, loop.Course(collate=reading, **arguments), loss=loss, checkpoint=checkpoint)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_keeps_the_weights_of_the_best_epoch(data):
    model, val = make(data), data.rows_of("val")
    history = list(run(model, data, epochs=12))
    assert [r["epoch"] for r in history] == list(range(1, 13))
    assert list(history[0]) == ["epoch", "train_loss", "val_loss", "val_auroc", "val_auprc", "lr", "best"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] and history[-1]["val_auroc"] > 0.9
    best = [r for r in history if r["best"]][-1]
    assert best["val_auroc"] == max(r["val_auroc"] for r in history)
    assert best["epoch"] == min(r["epoch"] for r in history if r["val_auroc"] == best["val_auroc"])
    logits = loop.predict(model, partial(collate, data), val, batch_size=5)
    assert loop.score(logits, data.labels[val])["auroc"] == best["val_auroc"]


def test_the_epoch_is_chosen_by_the_metric_that_is_named(data):
    history = list(run(make(data), data, epochs=6, monitor="val_loss"))
    best = [r for r in history if r["best"]][-1]
    assert best["val_loss"] == min(r["val_loss"] for r in history)
    with pytest.raises(ValueError, match="monitor must be one of val_auroc, val_auprc, val_loss; got 'accuracy'"):
        list(run(make(data), data, monitor="accuracy"))


def test_it_stops_when_patience_is_over(data):
    history = list(run(make(data), data, epochs=50, patience=2, lr=0.0))
    assert len(history) == 3 and not any(r["best"] for r in history[1:])


def test_the_rate_halves_on_a_plateau(data):
    rates = [r["lr"] for r in run(make(data), data, epochs=14, patience=99, lr=1e-6)]
    assert rates[:12] == [1e-6] * 12 and rates[-1] == 5e-7


def test_same_seed_same_weights_and_another_seed_differs(data):
    models = [make(data) for _ in range(3)]
    histories = [list(run(m, data, seed=s)) for m, s in zip(models, (3, 3, 4), strict=True)]
    assert same(models[0], models[1]) and histories[0] == histories[1]
    assert not same(models[0], models[2])


def test_no_row_is_dropped_and_each_is_seen_once_an_epoch(data):
    seen = []

    def reading(rows):
        seen.append(rows.tolist())
        return collate(data, rows, films=False)

    rows, val = data.rows_of("train")[:9], data.rows_of("val")
    list(run(make(data), data, reading=reading, train_rows=rows, epochs=2, batch_size=4))
    per_epoch = 3 + -(-len(val) // 4)
    first, second = sum(seen[:3], []), sum(seen[per_epoch : per_epoch + 3], [])
    assert sorted(first) == sorted(second) == rows.tolist() and first != second
    assert [len(r) for r in seen[:3]] == [4, 4, 1]


class Stopper:
    """Sends this process a signal when a given number of steps is done."""

    def __init__(self, at, number=signal.SIGUSR1):
        self.left, self.number = at, number

    def __call__(self, label, done, total):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("at", [1, 7, int(np.random.default_rng().integers(2, 14))])
def test_stopped_by_a_signal_at_any_step_and_resumed_it_ends_with_the_same_bits(data, tmp_path, at):
    whole = make(data)
    expected = list(run(whole, data))
    path, stopped = tmp_path / "checkpoint", make(data)
    with pytest.raises(Interrupted, match=r"stopped by a signal in epoch \d, step \d; a checkpoint is saved"):
        list(run(stopped, data, checkpoint=path, progress=Stopper(at)))
    assert path.exists()
    resumed = make(data)
    with torch.no_grad():
        for p in resumed.parameters():
            p.zero_()
    assert list(run(resumed, data, checkpoint=path)) == expected, f"stopped at step {at}"
    assert same(whole, resumed), f"stopped at step {at}"


@pytest.mark.parametrize("at", [2, 6, int(np.random.default_rng().integers(2, 14))])
def test_resumed_with_phases_learned_variances_buckets_and_hidden_films_it_has_the_same_bits(data, tmp_path, at):
    whole, loss, changes = everything(data)
    expected = list(run(whole, data, **changes))
    path, (stopped, _, changes) = tmp_path / "checkpoint", everything(data)
    with pytest.raises(Interrupted):
        list(run(stopped, data, checkpoint=path, progress=Stopper(at), **changes))
    resumed, again, changes = everything(data)
    with torch.no_grad():
        for p in [*resumed.parameters(), *again.parameters()]:
            p.fill_(0.5)
    assert list(run(resumed, data, checkpoint=path, **changes)) == expected, f"stopped at step {at}"
    assert same(whole, resumed) and same(loss, again), f"stopped at step {at}"
    assert loss.sigmas() != [1.0]


def test_epochs_before_the_task_begins_are_not_judged(data):
    model, _, changes = everything(data)
    history = list(run(model, data, epochs=3, patience=1, **changes))
    assert len(history) >= 2 and [r["best"] for r in history][:2] == [False, True]


def test_the_learned_variances_have_their_own_rate_and_the_best_epochs_values(data):
    model, loss, changes = everything(data)
    still = list(run(model, data, **{**changes, "loss_lr": 0.0}))
    assert loss.sigmas() == [1.0] and still[-1]["lr"] == 1e-2
    seen = []
    records = run(*(everything(data)[0], data), **{**changes, "monitor": "val_loss"})
    for record in records:
        seen.append((record, changes["loss"].sigmas()))
    best = [sigmas for record, sigmas in seen if record["best"]][-1]
    assert changes["loss"].sigmas() == best


def test_adam_has_its_own_moments_and_decays_no_variance(data):
    model, loss, changes = everything(data)
    groups = []
    original = torch.optim.AdamW.__init__

    def noting(self, params, **rest):
        original(self, params, **rest)
        groups.extend(self.param_groups)

    torch.optim.AdamW.__init__ = noting
    try:
        list(run(model, data, epochs=1, **changes))
    finally:
        torch.optim.AdamW.__init__ = original
    assert [g["betas"] for g in groups] == [(0.9, 0.999)] * 2, "the reference has 0.9 twice"
    assert [g["weight_decay"] for g in groups] == [0.01, 0.0]


def test_mixed_precision_is_for_gpus(data):
    course = partial(loop.Course, collate=None, train_rows=[], val_rows=[], val_labels=None, epochs=1)
    course = partial(course, batch_size=1, lr=1e-3, patience=1)
    assert course(precision="auto", device="cuda:0").bf16 and course(precision="bf16", device="cuda:0").bf16
    assert not course(precision="auto").bf16 and not course(precision="float32", device="cuda:0").bf16
    with pytest.raises(UsageError, match="--precision bf16 needs a GPU"):
        course(precision="bf16")


def test_mixed_precision_computes_the_model_in_bfloat16_and_the_loss_in_float32():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, batch):
            seen.append(self.layer(batch.series[:, 0, :3]))
            return Output(seen[-1])

    seen, values = [], []
    batch = SimpleNamespace(series=torch.full((2, 1, 3), 0.3), labels=torch.tensor([[1.0], [0.0]]))
    for bf16 in (False, True):
        torch.manual_seed(0)
        learner = Learner(Linear(), losses.Bce(None), device="cpu", bf16=bf16)
        values.append(learner(batch))
        values[-1].backward()
        assert values[-1].dtype == learner.model.layer.weight.grad.dtype == torch.float32
    assert [x.dtype for x in seen] == [torch.float32, torch.bfloat16]
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-2) and values[0] != values[1]


def test_predictions_come_in_the_order_of_the_rows_whatever_their_lengths(data):
    model, rows = make(data), np.random.default_rng(0).permutation(len(data))
    reading = partial(collate, data, films=False)
    plain = loop.predict(model, reading, rows, batch_size=7)
    np.testing.assert_allclose(loop.predict(model, reading, rows, batch_size=7, lengths=data.n_rows), plain, atol=1e-6)


def test_stopped_while_it_validates(data, tmp_path):
    expected, path = list(run(make(data), data)), tmp_path / "checkpoint"
    validation = []

    def reading(rows):
        if set(rows) <= set(data.rows_of("val")):
            validation.append(rows)
            if len(validation) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
        return collate(data, rows, films=False)

    with pytest.raises(Interrupted):
        list(run(make(data), data, reading=reading, checkpoint=path))
    assert list(run(make(data), data, checkpoint=path)) == expected


def test_killed_outright_it_resumes_from_the_last_epoch(data, tmp_path):
    whole, path = make(data), tmp_path / "checkpoint"
    expected = list(run(whole, data))
    records = run(make(data), data, checkpoint=path)
    assert [next(records), next(records)] == expected[:2]
    records.close()
    resumed = make(data)
    assert list(run(resumed, data, checkpoint=path)) == expected and same(whole, resumed)
    assert list(run(make(data), data, checkpoint=path)) == expected, "a finished run is not trained further"


def test_an_unusable_checkpoint_is_a_warning_and_a_fresh_start(data, tmp_path, caplog):
    (tmp_path / "checkpoint").write_bytes(b"torn")
    assert list(run(make(data), data, checkpoint=tmp_path / "checkpoint")) == list(run(make(data), data))
    assert "the checkpoint is not used, training starts again" in caplog.text


def test_one_line_an_epoch_without_identifiers(data, caplog):
    with caplog.at_level("INFO", logger="fusionctl"):
        list(run(make(data), data))
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  loss 0.")
    assert not any(str(i) in caplog.text for i in data.stay_id)


def test_validation_rows_of_one_class_fall_back_to_the_loss(data, caplog):
    negatives = data.rows_of("val")[data.labels[data.rows_of("val"), 0] == 0]
    history = list(run(make(data), data, val_rows=negatives, val_labels=data.labels[negatives]))
    assert all(r["val_auroc"] is None for r in history)
    assert [r for r in history if r["best"]][-1]["val_loss"] == min(r["val_loss"] for r in history)
    assert "one class only" in caplog.text
    assert "NaN" not in loop.history_lines(history)


def test_nothing_to_train_on(data):
    with pytest.raises(InputError, match="there is no row to train on"):
        list(run(make(data), data, train_rows=np.array([], dtype=np.int64)))


def test_without_validation_rows_the_last_epoch_is_kept(data, caplog):
    none = np.array([], dtype=np.int64)
    model = make(data)
    history = list(run(model, data, val_rows=none, val_labels=data.labels[none]))
    assert [record["best"] for record in history] == [True] * len(history)
    assert all(record["val_loss"] is None for record in history)
    assert "the last epoch is kept" in caplog.text


def test_a_diverging_run_says_what_to_change(data):
    model = make(data)
    with torch.no_grad():
        model.ehr.head.weight.fill_(float("inf"))
    with pytest.raises(FusionctlError, match=r"the training loss is (nan|inf) after epoch 1"):
        list(run(model, data))


class Constant(nn.Module):
    """Returns given logits, and a second loss that moves its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return Output(self.weight.detach() * torch.zeros_like(batch.labels) + 0 * self.weight, 100 * self.weight.sum())


def test_the_auxiliary_loss_is_added_and_gradients_are_clipped(data):
    model = Constant()
    history = list(run(model, data, epochs=1))
    assert model.weight.item() < 1 and history[0]["train_loss"] > 50
    norms = []
    original = nn.utils.clip_grad_norm_

    def noting(parameters, limit):
        norms.append((float(original(parameters, limit)), limit))

    nn.utils.clip_grad_norm_, kept = noting, original
    try:
        list(run(Constant(), data, epochs=1, grad_clip=0.5))
    finally:
        nn.utils.clip_grad_norm_ = kept
    assert norms and all(norm == pytest.approx(100) and limit == 0.5 for norm, limit in norms)


def test_scores_against_scikit_learn_with_unknown_labels_and_rows_without_prediction():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 3)).astype(np.float32), (rng.random((40, 3)) < 0.4).astype(np.float32)
    labels[:5, 0] = np.nan
    labels[:, 2] = 1
    logits[7] = np.nan
    rows = np.flatnonzero(~np.isnan(logits[:, 0]))
    pairs = [(labels[rows, k], logits[rows, k]) for k in (0, 1)]
    pairs = [(y[~np.isnan(y)], s[~np.isnan(y)]) for y, s in pairs]
    got = loop.score(logits, labels)
    assert got["auroc"] == pytest.approx(np.mean([roc_auc_score(y, s) for y, s in pairs]))
    assert got["auprc"] == pytest.approx(np.mean([average_precision_score(y, s) for y, s in pairs]))


def test_history_is_json_lines(data):
    history = list(run(make(data), data))
    lines = loop.history_lines(history).splitlines()
    assert [json.loads(line) for line in lines] == history


def test_mixed_seeds_differ():
    seeds = {loop.mix(a, b, c) for a in range(3) for b in range(20) for c in range(20)}
    assert len(seeds) == 1200 and all(0 <= s < 2**63 for s in seeds)
