"""What can be chosen by name: fusions, losses, encoders and tasks, each with one sentence.

The sentence is the first one of what a class says about itself, so that a new one lists itself.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_args

from fusionctl.settings import CxrArch, Fusion

Kind = Literal["fusions", "losses", "encoders", "tasks"]

# The models of tables are no classes of their own.
_TABULAR = {
    "trees": "Gradient boosting on summaries of each variable's measured values.",
    "logistic": "Logistic regression on the same summaries.",
    "trees-film": "The trees, with the pretrained film encoder's scores as more columns.",
    "logistic-film": "The logistic regression, with the pretrained film encoder's scores as more columns.",
}


def listed(kind: str) -> list[dict[str, str]]:
    """One record a name: `name`, what it is for (`reads` or `for`, where there is a choice) and `what`, a sentence."""
    return {"fusions": _fusions, "losses": _losses, "encoders": _encoders, "tasks": _tasks}[kind]()


def _sentence(described: Any) -> str:
    return (inspect.getdoc(described) or "").splitlines()[0]


def _fusions() -> list[dict[str, str]]:
    from fusionctl.fusion import FUSIONS

    rows = []
    for name in get_args(Fusion):
        both = name not in FUSIONS and name.endswith("-film")
        modalities = FUSIONS[name].modalities if name in FUSIONS else ("ehr", "cxr") if both else ("ehr",)
        what = _sentence(FUSIONS[name]) if name in FUSIONS else _TABULAR[name]
        rows.append({"name": name, "reads": " + ".join(modalities), "what": what})
    return rows


def _losses() -> list[dict[str, str]]:
    from fusionctl.losses import LOSSES

    return [{"name": name, "what": _sentence(loss)} for name, loss in LOSSES.items()]


def _encoders() -> list[dict[str, str]]:
    from fusionctl.models.ehr import Lstm
    from fusionctl.models.ehr_decay import Decay
    from fusionctl.models.ehr_transformer import Transformer

    series = {"lstm": Lstm, "transformer": Transformer, "decay": Decay}
    rows = [{"name": name, "for": "pretrain-ehr", "what": _sentence(network)} for name, network in series.items()]
    films = "torchvision's network of this name without its classifier, and a linear head."
    return rows + [{"name": name, "for": "pretrain-cxr", "what": films} for name in get_args(CxrArch)]


def _tasks() -> list[dict[str, str]]:
    from fusionctl.tasks import TASKS

    return [{"name": name, "what": _sentence(type(task))} for name, task in TASKS.items()]
