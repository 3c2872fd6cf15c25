"""The fusion methods. A new one is a file with a class like `Attention` and one line in `FUSIONS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fusionctl.checkpoint import load_into, read, write_weights
from fusionctl.fusion.attention import Attention
from fusionctl.fusion.card import Card
from fusionctl.fusion.concatenation import Early, Joint
from fusionctl.fusion.contrastive import Contrastive
from fusionctl.fusion.daft import Daft
from fusionctl.fusion.drfuse import DrFuse
from fusionctl.fusion.late import Late
from fusionctl.fusion.medfuse import MedFuse
from fusionctl.fusion.mmtm import Mmtm
from fusionctl.fusion.output import Output
from fusionctl.fusion.unimodal import CxrOnly, EhrOnly
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

__all__ = ["FUSIONS", "Output", "build", "load", "save"]

FUSIONS: dict[str, Any] = {
    "attention": Attention,
    "medfuse": MedFuse,
    "early": Early,
    "joint": Joint,
    "late": Late,
    "mmtm": Mmtm,
    "daft": Daft,
    "drfuse": DrFuse,
    "contrastive": Contrastive,
    "card": Card,
    "ehr": EhrOnly,
    "cxr": CxrOnly,
}


def build(
    name: str, ehr: EhrEncoder | None, cxr: CxrEncoder | None, n_outputs: int, *, options: Mapping[str, Any]
) -> nn.Module:
    """A fusion model around two encoders; one that the method does not use may be None.

    Args:
        name: key of `FUSIONS`.
        ehr: encoder of the series.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: the method's own options.
    """
    model: nn.Module = FUSIONS[name](ehr, cxr, n_outputs, options=options)
    model.config = {  # type: ignore[assignment]
        "fusion": name,
        "n_outputs": n_outputs,
        "options": dict(options),
        "ehr": ehr.config if ehr else None,
        "cxr": cxr.config if cxr else None,
    }
    return model


def save(path: Path, model: nn.Module) -> None:
    """Write a model from `build`, its weights and what it takes to build it again, to a safetensors file."""
    write_weights(path, model, config=model.config)  # type: ignore[arg-type]


def load(path: Path) -> nn.Module:
    """Build the model that `save` wrote, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is unreadable or its weights do not fit its description.
    """
    tensors, config = read(path)
    ehr = EhrEncoder(**config["ehr"]) if config["ehr"] else None
    cxr = CxrEncoder(**config["cxr"]) if config["cxr"] else None
    model = build(config["fusion"], ehr, cxr, config["n_outputs"], options=config["options"])
    load_into(model, tensors, path)
    return model.eval()
