import csv
import logging
import sys

import film_files
import numpy as np
import polars as pl
import pytest

from fusionctl.data import film_cache, images
from fusionctl.data.films import FILM_COLUMNS
from fusionctl.errors import InputError
from fusionctl.settings import FilmsSettings, Runtime
from fusionctl.stages import STAGES, films
from fusionctl.workdir import Artifact, Draft

N = 5


def path(i):
    return f"files/p10/p1000000{i}/s5000000{i}/a.jpg"


def extract(tmp_path, n=N):
    """An extract artifact that lists n films."""
    folder = tmp_path / "extract"
    folder.mkdir(exist_ok=True)
    rows = [{"path": path(i), "study_id": 50000000 + i} for i in range(n)]
    pl.DataFrame(rows, schema={k: FILM_COLUMNS[k] for k in ("path", "study_id")}).write_parquet(
        folder / "films.parquet"
    )
    return Artifact("extract", "abc", folder, {})


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(film_cache, "BLOCK_FILMS", 2)
    for i in range(N):
        film_files.write(tmp_path / "cxr", path(i), film_files.jpeg(300, 280, seed=i))
    return {"extract": extract(tmp_path), "cxr_root": tmp_path / "cxr"}


def draft(inputs, name="draft"):
    folder = inputs["extract"].path.parent / name
    folder.mkdir(exist_ok=True)
    return Draft(folder)


def run(inputs, name="draft", *, shard=None, jobs=1, progress=lambda label, done, total: None, **settings):
    made, runtime = draft(inputs, name), Runtime(jobs=jobs, progress=progress)
    settings = FilmsSettings(**({"film_size": 64} | settings))
    if shard:
        films.run_shard(made, settings, inputs, shard, runtime=runtime)
    else:
        films.run(made, settings, inputs, runtime=runtime)
    return made


def names(draft):
    return sorted(p.name for p in draft.path.iterdir())


def content(draft):
    return {p.name: p.read_bytes() for p in draft.path.iterdir()}


def damage(inputs, *numbers):
    for i in numbers:
        film_files.write(inputs["cxr_root"], path(i), b"")


def test_the_artifact(inputs):
    seen = []
    made = run(inputs, progress=lambda *call: seen.append(call), film_fit="pad", clahe=True)
    assert names(made) == ["films.npy", "films.parquet"]
    array, table = np.load(made.file("films.npy")), pl.read_parquet(made.file("films.parquet"))
    assert table.schema == {"film": pl.Int32, "readable": pl.Boolean}
    assert table["film"].to_list() == list(range(N)) and table["readable"].all()
    for i in range(N):
        expected = images.read_film(inputs["cxr_root"], path(i), size=64, fit="pad", clahe=True, backend="opencv")
        np.testing.assert_array_equal(array[i], expected)
    assert made.rows == {"films": N, "unreadable": 0}
    assert made.facts == {
        "decoder": images.decoder_version(), "clahe_backend": images.backend_version("opencv"), "dicom_films": 0
    }  # fmt: skip
    assert seen == [("films", done, N) for done in (0, 2, 4, 5)]


def test_the_backend_of_clahe_is_recorded_and_used(inputs):
    opencv, skimage = run(inputs, "a", clahe=True), run(inputs, "b", clahe=True, clahe_backend="skimage")
    assert skimage.facts["clahe_backend"].startswith("skimage ")
    assert content(opencv)["films.npy"] != content(skimage)["films.npy"]
    plain = run(inputs, "c", clahe_backend="skimage")
    assert plain.facts["clahe_backend"] is None
    assert content(plain)["films.npy"] not in (content(opencv)["films.npy"], content(skimage)["films.npy"])


def test_unreadable_films_are_listed_for_the_owner_alone(inputs, caplog):
    damage(inputs, 1, 4)
    with caplog.at_level(logging.WARNING, logger="fusionctl"):
        made = run(inputs, max_bad_films=0.4)
    assert caplog.messages == ["films treated as absent: 2, of which each is empty; rule: JPEG files"]
    assert names(made) == ["films.npy", "films.parquet", "unreadable.csv"]
    assert made.file("unreadable.csv").stat().st_mode & 0o777 == 0o600
    rows = list(csv.reader(made.file("unreadable.csv").open()))
    assert rows == [["study_id", "reason"], *([s, "is empty; rule: JPEG files"] for s in ("50000001", "50000004"))]
    assert pl.read_parquet(made.file("films.parquet"))["readable"].to_list() == [True, False, True, True, False]
    assert not np.load(made.file("films.npy"))[[1, 4]].any()
    assert made.rows == {"films": N, "unreadable": 2}


def test_many_reasons_are_not_all_logged(tmp_path, caplog):
    inputs = {"extract": extract(tmp_path, 14), "cxr_root": tmp_path}
    for i in range(14):
        data = b"\xff\xd8\xff\xc0\x00\x0b" + bytes([20 + i]) + bytes(9)  # bits a pixel
        film_files.write(tmp_path, path(i), data)
    with caplog.at_level(logging.WARNING, logger="fusionctl"):
        run(inputs, max_bad_films=1)
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "films treated as absent for other reasons: 4; unreadable.csv names them all"


def test_too_many_unreadable_films_end_the_run_and_nothing_is_lost(inputs):
    damage(inputs, 3)
    with pytest.raises(InputError) as caught:
        run(inputs)
    said = f"{inputs['cxr_root']}: the film in row 3 of extract's films.parquet is empty"
    assert said in caught.value.message and "unreadable-1-of-1.csv names the studies" in caught.value.hint
    assert "50000003" not in str(caught.value)
    assert "--max-bad-films 0.01 allows 0" in caught.value.message and "--max-bad-films" in caught.value.hint
    assert "10000003" not in str(caught.value)
    assert names(draft(inputs)) == ["films.npy", "journal-1-of-1.jsonl", "unreadable-1-of-1.csv"]
    listed = draft(inputs).file("unreadable-1-of-1.csv")
    assert listed.read_text().splitlines()[1] == "50000003,is empty; rule: JPEG files"
    assert listed.stat().st_mode & 0o777 == 0o600
    film_files.write(inputs["cxr_root"], path(3), film_files.jpeg(300, 280, seed=3))
    seen = []
    mended = run(inputs, progress=lambda label, done, total: seen.append(done))
    assert seen == [2, 4, 5], "the first block was kept, the one with the film read again"
    assert content(mended) == content(run(inputs, "fresh"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_shares_and_a_final_run_make_the_bytes_of_one_run(inputs, monkeypatch, jobs):
    monkeypatch.setattr(film_cache, "BLOCK_FILMS", 1)
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    damage(inputs, 2)
    whole = content(run(inputs, "whole", max_bad_films=0.2))
    for i in (3, 1):
        shared = run(inputs, shard=(i, 3), max_bad_films=0.2, jobs=jobs)
        assert not shared.file("films.parquet").exists(), "a share publishes nothing"
    assert names(shared) == ["films.npy", "journal-1-of-3.jsonl", "journal-3-of-3.jsonl"]
    seen = []
    run(inputs, max_bad_films=0.2, jobs=jobs, progress=lambda label, done, total: seen.append(done))
    assert seen == [3, 4, 5] and content(shared) == whole


def test_a_finished_draft_waits_for_its_publication(inputs, monkeypatch):
    damage(inputs, 2)
    first = run(inputs, max_bad_films=0.2)
    before = content(first)
    monkeypatch.setattr(film_cache.FilmCache, "fill", None)
    again = run(inputs, max_bad_films=0.2)
    run(inputs, shard=(1, 2), max_bad_films=0.2)
    assert content(again) == before and (again.rows, again.facts) == (first.rows, first.facts)


def test_a_list_of_an_earlier_try_does_not_stay(inputs, monkeypatch):
    damage(inputs, 2)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(films.os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("killed")))
        run(inputs, max_bad_films=0.2)
    assert "unreadable.csv" in names(draft(inputs)) and "journal-1-of-1.jsonl" in names(draft(inputs))
    film_files.write(inputs["cxr_root"], path(2), film_files.jpeg(300, 280, seed=2))
    assert names(run(inputs, max_bad_films=0.2)) == ["films.npy", "films.parquet"]


def test_no_films_at_all(tmp_path):
    made = run({"extract": extract(tmp_path, 0), "cxr_root": None})
    assert np.load(made.file("films.npy"), mmap_mode="r").shape == (0, 64, 64)
    assert pl.read_parquet(made.file("films.parquet")).schema == {"film": pl.Int32, "readable": pl.Boolean}
    assert made.rows == {"films": 0, "unreadable": 0} and names(made) == ["films.npy", "films.parquet"]


@pytest.mark.parametrize("shard", [None, (1, 2)])
def test_the_folder_of_the_films_is_needed(inputs, shard):
    with pytest.raises(InputError, match="extract/abc lists 5 films, but their folder was not given") as caught:
        run(inputs | {"cxr_root": None}, shard=shard)
    assert caught.value.hint.startswith("add --cxr-root DIR")


def test_dicom_films_are_counted_and_named(inputs, caplog, monkeypatch):
    (inputs["cxr_root"] / path(1)).unlink()
    film_files.write_dicom(inputs["cxr_root"], path(1).replace(".jpg", ".dcm"), film_files.picture(300, 280))
    with caplog.at_level(logging.WARNING, logger="fusionctl"):
        made = run(inputs)
    assert made.facts["dicom_films"] == 1 and ", pydicom " in made.facts["decoder"]
    assert caplog.messages == ["1 films were DICOM files; their contrast differs from MIMIC-CXR-JPG's equalised films"]
    assert made.rows["unreadable"] == 0 and np.load(made.file("films.npy"))[1].any()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match="pydicom is not installed"):
        run(inputs, "without", max_bad_films=1)


def test_the_stage_is_in_the_table():
    stage = STAGES["films"]
    assert stage.resumes and stage.shards and stage.upstream == ("extract",) and stage.settings is FilmsSettings
