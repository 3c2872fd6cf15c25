"""What a trained model is called: its fusion, and its loss where that is not binary cross-entropy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from fusionctl.workdir import Artifact


def model_name(artifact: Artifact) -> str:
    """Name of a trained model, `FUSION` or `FUSION+LOSS` (`attention+focal`)."""
    fusion, loss = artifact.setting("fusion"), artifact.setting("loss")
    return str(fusion) if loss in (None, "bce") else f"{fusion}+{loss}"


def parts(name: str) -> tuple[str, str | None]:
    """Fusion and loss of a name; no loss where none is said."""
    fusion, plus, loss = name.partition("+")
    return fusion, loss if plus else None


def fusion_of(name: str) -> str:
    """The fusion of a name."""
    return parts(name)[0]


def model_names(artifacts: Sequence[Artifact]) -> list[str]:
    """One name an artifact: those that differ in nothing but the seed share theirs, others of one name add an id."""
    kinds = [_but_for_the_seed(artifact) for artifact in artifacts]
    made = Counter((kind, artifact.manifest["seed"]) for kind, artifact in zip(kinds, artifacts, strict=True))
    # Twice the same seed: they differ in their encoders, by more than those of a group do.
    twice = {kind for (kind, _), n in made.items() if n > 1}
    kinds = [a.id if kind in twice else kind for kind, a in zip(kinds, artifacts, strict=True)]
    names = [model_name(artifact) for artifact in artifacts]
    first = {kind: artifact.id[:6] for kind, artifact in reversed(list(zip(kinds, artifacts, strict=True)))}
    of_name = Counter(name for name, _ in set(zip(names, kinds, strict=True)))
    return [n if of_name[n] == 1 else f"{n} {first[kind]}" for n, kind in zip(names, kinds, strict=True)]


def _but_for_the_seed(artifact: Artifact) -> str:
    """What a model was made with, without its seed and the encoders, which have seeds of their own."""
    inputs = {n: ids for n, ids in artifact.manifest["inputs"].items() if not n.startswith("pretrain-")}
    settings = {name: entry["value"] for name, entry in artifact.manifest["settings"].items()}
    return json.dumps([settings, inputs], sort_keys=True)
