"""One model under one corruption; what the cells of a process share."""

import numpy as np
import pytest
import torch
from toy import write_preprocessed

from fusionctl import fusion, loop
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import InputError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.settings import CellSettings, Runtime
from fusionctl.stages import cell
from fusionctl.workdir import Artifact, Draft

NOISE = {"corruption": "noise", "level": 0.5, "kind": "additive", "modality": "both"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = write_preprocessed(tmp_path_factory.mktemp("toy") / "p", stays=96)
    return Artifact("preprocess", "p0", path, {"settings": {}})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = {}
    for name in ("attention", "ehr", "cxr"):
        torch.manual_seed(0)
        ehr, cxr = EhrEncoder(hidden=8), CxrEncoder("resnet18", input_size=32)
        path = tmp_path_factory.mktemp(name)
        model = fusion.build(name, ehr, cxr, 1, options={"dropout": 0.1})
        fusion.save(path / "weights.safetensors", model)
        found[name] = Artifact("fuse", name, path, {})
    return found


def make(folder, source, model, runtime, **settings):
    folder.mkdir(exist_ok=True)
    draft = Draft(folder)
    cell.run(draft, CellSettings(**settings), {"preprocess": source, "fuse": model}, runtime=runtime)
    assert [p.name for p in folder.iterdir()] == ["probabilities.npy"]
    return np.load(draft.file("probabilities.npy"))


def count(monkeypatch):
    """How many stays are read, and whether with films."""
    read = []

    def counting(data, rows, **arguments):
        read.append((len(rows), arguments["films"]))
        return collate(data, rows, **arguments)

    monkeypatch.setattr(cell, "collate", counting)
    return read


def test_the_clean_cell_is_the_models_own_prediction_of_the_test_stays(tmp_path, source, models):
    found = make(tmp_path / "c", source, models["cxr"], Runtime())
    data = StayData.open(source.path)
    model = fusion.load(models["cxr"].file("weights.safetensors"))
    logits = loop.predict(model, lambda rows: collate(data, rows), data.rows_of("test"), batch_size=5)
    np.testing.assert_allclose(found, loop.chances(logits), atol=1e-6)
    assert found.dtype == np.float32 and np.isnan(found).any() and not np.isnan(found).all()


@pytest.mark.parametrize("most", [1 << 30, 0])
def test_models_share_an_input_and_predict_as_if_each_were_alone(tmp_path, source, models, monkeypatch, most):
    monkeypatch.setattr(cell, "MOST_BYTES", most)
    read, shared = count(monkeypatch), Runtime(kept={})
    alone = {
        name: make(tmp_path / f"{name}-alone", source, models[name], Runtime(), **NOISE | {"modality": modality})
        for name, modality in (("attention", "both"), ("ehr", "ehr"), ("cxr", "cxr"))
    }
    n = sum(n for n, _ in read) // 3
    read.clear()
    for name, modality in (("attention", "both"), ("ehr", "ehr"), ("cxr", "cxr")):
        found = make(tmp_path / name, source, models[name], shared, **NOISE | {"modality": modality})
        np.testing.assert_array_equal(found, alone[name])
    assert sum(stays for stays, _ in read) == (n if most else 3 * n)


def test_an_input_serves_only_who_meets_the_same(tmp_path, source, models, monkeypatch):
    read, shared = count(monkeypatch), Runtime(kept={})
    series = NOISE | {"modality": "ehr"}
    make(tmp_path / "1", source, models["ehr"], shared, **series)
    assert {films for _, films in read} == {False}  # films that nobody looks at are not read
    one = make(tmp_path / "2", source, models["attention"], shared, **series)
    both = make(tmp_path / "3", source, models["attention"], shared, **NOISE)
    other = make(tmp_path / "4", source, models["attention"], shared, **NOISE | {"level": 0.6})
    assert len({n for n, _ in read}) == 1 and len(read) == 4
    assert (one != both).any() and (both != other).any()
    # "ehr" after "both", of a model that also reads films: these are clean now
    np.testing.assert_array_equal(make(tmp_path / "5", source, models["attention"], shared, **series), one)


def test_models_are_loaded_once_and_at_most_so_many(tmp_path, source, models, monkeypatch):
    loaded, load = [], fusion.load
    monkeypatch.setattr(fusion, "load", lambda path: loaded.append(path) or load(path))
    monkeypatch.setattr(cell, "MOST_MODELS", 2)
    shared = Runtime(kept={})
    for number, name in enumerate(["ehr", "cxr", "ehr", "cxr", "attention", "ehr"]):
        make(tmp_path / str(number), source, models[name], shared)
    assert len(loaded) == 4  # the third took the place of the first


def test_the_seed_and_the_imputation_of_the_data_matter(tmp_path, source, models):
    gap = {"corruption": "gap", "level": 0.5, "modality": "ehr"}
    base = make(tmp_path / "a", source, models["ehr"], Runtime(), **gap)
    assert (make(tmp_path / "b", source, models["ehr"], Runtime(seed=1), **gap) != base).any()
    zero = Artifact("preprocess", "p0", source.path, {"settings": {"impute": {"value": "zero"}}})
    assert (make(tmp_path / "c", zero, models["ehr"], Runtime(), **gap) != base).any()


def test_no_test_stay(tmp_path, source, models, monkeypatch):
    monkeypatch.setattr(StayData, "rows_of", lambda self, split: np.zeros(0, np.int64))
    with pytest.raises(InputError, match="preprocess/p0: no stay is in the test split"):
        make(tmp_path / "a", source, models["ehr"], Runtime())
