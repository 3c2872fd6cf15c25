"""Small models and batches for the tests of the fusion methods, and what the loop does with them."""

import dataclasses

import numpy as np
import torch

from fusionctl import fusion, losses
from fusionctl.data.batch import collate
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

OPTIONS = {"dropout": 0.1}  # a method must do with these
EPOCHS = 4


def make(name, *, hidden=16, k=1, options=OPTIONS, **of_encoder):
    torch.manual_seed(0)
    method = fusion.FUSIONS[name]
    ehr = EhrEncoder(n_outputs=k, hidden=hidden, **of_encoder) if "ehr" in method.modalities else None
    cxr = CxrEncoder("resnet18", 14, input_size=32, magnitude=0.0) if "cxr" in method.modalities else None
    return fusion.build(name, ehr, cxr, k, options=options)


def batch_of(data, rows, *, k=1):
    """A batch with k labels: the data's own, or random ones of which some are unknown."""
    batch = collate(data, rows)
    if k == 1:
        return batch
    labels = np.random.default_rng(0).choice([0, 1, np.nan], (len(rows), k)).astype(np.float32)
    return dataclasses.replace(batch, labels=torch.from_numpy(labels))


def begin(model, epoch):
    if hasattr(model, "begin_epoch"):
        model.begin_epoch(epoch, EPOCHS)


def total(output, labels):
    """What the loop minimises."""
    loss = output.task_weight * losses.bce(output.logits, labels)
    return loss if output.aux_loss is None else loss + output.aux_loss


def loss_of(model, batch):
    return total(model(batch), batch.labels)


def logits(model, batch):
    with torch.no_grad():
        return model(batch).logits


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
