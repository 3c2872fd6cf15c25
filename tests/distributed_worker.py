"""One of the processes of test_distributed.py: `distributed_worker.py DATA OUT`; its place is in the environment."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch

from fusionctl import checkpoint, distributed, fusion, loop, losses
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import Interrupted
from fusionctl.fusion.nt_xent import nt_xent_of_all
from fusionctl.loop_state import Learner
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

BATCH = 7
ROWS = 4 * BATCH + 1  # the last step has one row, so one process has none


def course(data, **changes):
    rows, val = data.rows_of("train")[:ROWS], data.rows_of("val")
    arguments = {"epochs": 3, "batch_size": BATCH, "lr": 1e-2, "loss_lr": 1e-2, "patience": 9, "grad_clip": 0.5}
    arguments |= {"train_rows": rows, "val_rows": val, "val_labels": data.labels[val], "lengths": data.n_rows}
    return loop.Course(**{"collate": partial(collate, data, films=False), "seed": 3, **arguments, **changes})


def learn(data, *, path=None, **changes):
    """Train the series' encoder without dropout, from the same start in every process."""
    torch.manual_seed(0)
    model = fusion.build("ehr", EhrEncoder(n_outputs=1, hidden=8, dropout=0.0), None, 1, options={})
    loss = losses.build("uncertainty", data.labels)
    history = list(loop.train(model, course(data, **changes), loss=loss, checkpoint=path))
    return {"loss": loss.log_variance.detach(), **model.state_dict()}, history


def stopped(data, path, rank):
    """Interrupt one process after six steps; both must leave, and go on together from the first one's checkpoint."""
    done = []

    def progress(*_):
        done.append(1)
        if len(done) == 6 and rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    try:
        learn(data, path=path, progress=progress)
    except Interrupted:
        return learn(data, path=path)
    raise AssertionError("it was not interrupted")


def fused(data):
    """Films in some shares only: the film encoder has a gradient in one process and none in the other."""
    torch.manual_seed(0)
    cxr = CxrEncoder("resnet18", 14, input_size=32, magnitude=0.0)
    model = fusion.build("attention", EhrEncoder(n_outputs=1, hidden=8), cxr, 1, options={"dropout": 0.0})
    changes = {"collate": partial(collate, data), "train_rows": data.rows_of("train")[:9], "batch_size": 2}
    history = list(loop.train(model, course(data, **changes, epochs=1, film_dropout=0.3)))
    return {name: p.detach() for name, p in model.named_parameters()}, history


def shared(data, name):
    """Gradients of a step of nine rows and of a step of one, of which a process has none.

    Of fusions whose own loss counts pairs: the processes have films and labels of another number each.
    """
    torch.manual_seed(0)
    cxr = CxrEncoder("resnet18", 14, input_size=32, magnitude=0.0)
    model = fusion.build(name, EhrEncoder(n_outputs=1, hidden=8, dropout=0.0), cxr, 1, options={"dropout": 0.0})
    learner = Learner(model, losses.Bce(data.labels), device="cpu", bf16=False)
    for module in learner.train().modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # it sees the share alone
            module.eval()
    group, rows = distributed.current(), data.rows_of("train")[:9]
    wrapped, found = group.wrap(learner, "cpu", partly_used=True), {}
    for step, batches in enumerate([[rows], [rows[:1]]]):
        batch, _ = course(data, collate=partial(collate, data)).read(1, batches, 0)
        known = loop._agree(group, False, batch.labels)[1]
        learner.zero_grad()
        wrapped(batch, torch.tensor(known) if known else None).backward()
        found |= {f"{step}-{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found, []


def contrasted(rank, size):
    """The contrastive loss of 5 pairs, of which this process has every size-th, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    a, b = (x[rank::size].clone().requires_grad_() for x in torch.randn(2, 5, 3, generator=generator))
    loss = nt_xent_of_all(a, b, 0.1)
    loss.backward()
    return {"loss": loss.detach(), "a": a.grad / size, "b": b.grad / size}, []


SHARED = ("late", "mmtm", "drfuse")


def main(data_path, out):
    torch.set_num_threads(1)
    where, data = distributed.place(), StayData.open(Path(data_path))
    with distributed.joined(where, device="cpu"):
        path = Path(out) / f"checkpoint-{where.rank}"
        runs = {"whole": learn(data), "stopped": stopped(data, path, where.rank), "fused": fused(data)}
        runs |= {name: shared(data, name) for name in SHARED}
        runs["contrasted"] = contrasted(where.rank, where.size)
    for name, (tensors, history) in runs.items():
        facts = {"history": json.dumps(history)}
        checkpoint.write(Path(out) / f"{name}-{where.rank}", tensors, facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
