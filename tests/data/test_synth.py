"""The synthetic trees: layout, bytes, dirt, signal, and what happens with a bad target or source."""

from __future__ import annotations

import gzip
import hashlib
import os

import cv2
import numpy as np
import polars as pl
import pytest

from fusionctl.data import synth
from fusionctl.data.mimic import SYNTHETIC_MARKER
from fusionctl.data.synth import items, tree
from fusionctl.data.synth.cohort import build_cohort
from fusionctl.data.synth.films import draw_findings
from fusionctl.data.synth.layout import header, table_path, tables
from fusionctl.data.synth.render import render
from fusionctl.data.synth.signals import vital_signs
from fusionctl.data.synth.story import STUDY_NOISE, draw_latents, film_severity_from_outcome, stream
from fusionctl.errors import FusionctlError, InputError, LockedError, UsageError


def read(path):
    """A table as texts: "None" stays a text, an empty field is null."""
    return pl.read_csv(path, infer_schema=False)


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("synth") / "sixty stays"
    synth.write_tree(root, stays=60, layout="v3", seed=3)
    return root


@pytest.fixture(scope="module")
def chart(source):
    return read(source / "mimic-iv/icu/chartevents.csv.gz")


@pytest.fixture(scope="module")
def labs(source):
    return read(source / "mimic-iv/hosp/labevents.csv.gz")


@pytest.fixture(scope="module")
def stays(source):
    times = pl.col("intime", "outtime").str.to_datetime()
    return read(source / "mimic-iv/icu/icustays.csv.gz").with_columns(times)


@pytest.fixture(scope="module")
def films(source):
    """Metadata with the study's moment put back together."""
    frame = read(source / "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz")
    clock = pl.col("StudyTime").cast(pl.Float64).cast(pl.Int64).cast(pl.String).str.zfill(6)
    return frame.with_columns(time=(pl.col("StudyDate") + clock).str.to_datetime("%Y%m%d%H%M%S"))


# --- layout and bytes


@pytest.mark.parametrize("layout", ["v1", "v2", "v3"])
def test_every_table_has_the_header_of_its_release(tmp_path, layout):
    synth.write_tree(tmp_path, stays=5, layout=layout, seed=0, films=False)
    root = tmp_path / "mimic-iv"
    written = {path.relative_to(root).as_posix() for path in root.rglob("*.csv.gz")}
    assert written == {table_path(table, layout) for table in tables()}
    for table in tables():
        with gzip.open(root / table_path(table, layout), "rt") as file:
            assert file.readline().strip().split(",") == header(table, layout)
    assert not (tmp_path / "mimic-cxr-jpg").exists()


def test_headers_are_those_of_the_releases():
    v1, v3 = header("admissions", "v1"), header("admissions", "v3")
    assert "ethnicity" in v1 and "race" not in v1 and "admit_provider_id" not in v1
    assert v3[-4:] == ["race", "edregtime", "edouttime", "hospital_expire_flag"]
    assert header("chartevents", "v1")[:4] == ["subject_id", "hadm_id", "stay_id", "charttime"]
    assert header("chartevents", "v2")[:4] == ["subject_id", "hadm_id", "stay_id", "caregiver_id"]
    assert "order_provider_id" in header("labevents", "v3") and "order_provider_id" not in header("labevents", "v1")
    assert table_path("admissions", "v1").startswith("core/") and table_path("admissions", "v2").startswith("hosp/")


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        synth.write_tree(tmp_path / name, stays=8, layout="v2", seed=seed)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    tables_of = [name for name in a if name.endswith(".csv.gz") and "/d_" not in name]
    assert len(tables_of) > 8 and all(a[name] != c[name] for name in tables_of)


def test_blocks_hold_different_stays_and_rows_are_numbered_through(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "BLOCK", 4)
    synth.write_tree(tmp_path, stays=10, layout="v2", seed=0, films=False)
    charted = read(tmp_path / "mimic-iv/icu/chartevents.csv.gz")["stay_id"].drop_nulls()
    assert charted.n_unique() == 10
    ids = read(tmp_path / "mimic-iv/hosp/labevents.csv.gz")["labevent_id"].cast(int).to_list()
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("seed", range(4))
def test_number_of_stays_is_exact_however_few(tmp_path, count, seed):
    synth.write_tree(tmp_path, stays=count, layout="v2", seed=seed)
    assert read(tmp_path / "mimic-iv/icu/icustays.csv.gz").height == count


def test_trees_say_that_they_are_synthetic(source):
    for root in ("mimic-iv", "mimic-cxr-jpg"):
        assert "synthetic" in (source / root / SYNTHETIC_MARKER).read_text()
    assert sorted(path.name for path in source.iterdir()) == ["mimic-cxr-jpg", "mimic-iv"]


def test_ids_are_in_mimics_ranges_and_unique(stays, films):
    for column, first in (("subject_id", 1), ("hadm_id", 2), ("stay_id", 3)):
        assert stays[column].str.contains(rf"^{first}\d{{7}}$").all()
    assert stays["stay_id"].n_unique() == 60
    assert films["study_id"].str.contains(r"^5\d{7}$").all()
    assert films["dicom_id"].str.contains(r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$").all()
    assert films["dicom_id"].n_unique() == films.height


# --- people and times


def test_only_the_last_admission_of_a_patient_ends_in_death():
    latents = draw_latents(3000, seed=1)
    cohort = build_cohort(latents, seed=1)
    early = np.setdiff1d(np.arange(3000), cohort.last_of_patient())
    assert len(early) > 500 and not cohort.latents.died[early].any()
    assert cohort.latents.died.sum() == latents.died.sum()
    assert 0.12 < latents.died.mean() < 0.18
    later = np.flatnonzero(np.diff(cohort.patient) == 0)
    assert (cohort.intime[later + 1] > cohort.outtime[later]).all()
    assert (cohort.admittime <= cohort.intime).all()


@pytest.mark.parametrize(("layout", "later_deaths"), [("v1", False), ("v2", True), ("v3", True)])
def test_date_of_death_by_release(tmp_path, layout, later_deaths):
    synth.write_tree(tmp_path, stays=40, layout=layout, seed=2, films=False)
    patients = read(tmp_path / "mimic-iv" / table_path("patients", layout))
    admissions = read(tmp_path / "mimic-iv" / table_path("admissions", layout))
    dead = admissions.filter(pl.col("hospital_expire_flag") == "1")
    assert patients["dod"].drop_nulls().str.contains(r"^\d{4}-\d\d-\d\d$").all()
    assert set(dead["subject_id"]) <= set(patients.filter(pl.col("dod").is_not_null())["subject_id"])
    assert dead["deathtime"].null_count() == 0 and dead.height > 0
    assert (patients["dod"].count() > dead.height) is later_deaths


def test_both_versions_of_icd_and_one_to_an_admission(source):
    codes = read(source / "mimic-iv/hosp/diagnoses_icd.csv.gz")
    assert set(codes["icd_version"]) == {"9", "10"}
    assert codes.group_by("hadm_id").agg(pl.col("icd_version").n_unique())["icd_version"].max() == 1
    assert codes.select("hadm_id", "seq_num").is_unique().all()


def test_several_stays_admissions_transfers_and_short_stays(stays):
    assert stays.group_by("hadm_id").len()["len"].max() > 1
    assert stays.group_by("subject_id").agg(pl.col("hadm_id").n_unique())["hadm_id"].max() > 1
    moved = (stays["first_careunit"] != stays["last_careunit"]).mean()
    assert 0.05 < moved < 0.2
    short = (stays["los"].cast(float) < 2).mean()
    assert 0.05 < short < 0.4


# --- dirt of the chart, laboratory and film tables


def test_units_go_by_item(chart):
    number = chart.with_columns(pl.col("valuenum").cast(float))

    def median(item):
        return number.filter(pl.col("itemid") == str(item))["valuenum"].median()

    assert 96 < median(223761) < 101 and 36 < median(223762) < 38.5
    assert median(226531) / median(226512) == pytest.approx(2.2, rel=0.25)
    assert median(226730) / median(226707) == pytest.approx(2.54, rel=0.1)
    oxygen = number.filter(pl.col("itemid") == "223835")["valuenum"]
    assert (oxygen <= 1).any() and (oxygen > 20).mean() > 0.8


def test_texts_stay_texts(chart):
    eyes = chart.filter(pl.col("itemid") == "220739")
    assert "None" in eyes["value"].to_list()
    assert eyes.filter(pl.col("value") == "None")["valuenum"].unique().to_list() == ["1.0"]
    assert "No Response-ETT" in chart.filter(pl.col("itemid") == "223900")["value"].to_list()
    for item in ("223951", "224308"):
        refill = chart.filter(pl.col("itemid") == item)
        assert {"Normal <3 Seconds", "Abnormal >3 Seconds"} <= set(refill["value"])
        assert refill["valuenum"].null_count() == refill.height


def test_commas_are_quoted(source, chart):
    assert chart["value"].str.contains(",", literal=True).any()
    with gzip.open(source / "mimic-iv/icu/chartevents.csv.gz", "rt") as file:
        assert '"Re-orient, Family at bedside"' in file.read()


def test_duplicate_times_differ_in_storetime_and_the_last_stored_is_not_always_last_in_the_file(chart):
    mapped = chart.filter(pl.col("itemid") == "220045").drop_nulls("storetime")
    pairs = mapped.group_by("stay_id", "charttime", maintain_order=True).agg("storetime", "value")
    pairs = pairs.filter(pl.col("storetime").list.len() > 1)
    first, last = pairs["storetime"].list.first(), pairs["storetime"].list.last()
    assert (first > last).any() and (first < last).any()
    assert (pairs["value"].list.first() != pairs["value"].list.last()).any()


def test_implausible_values(chart):
    number = chart.select("itemid", pl.col("valuenum").cast(float))
    for item, value in items.IMPLAUSIBLE.items():
        assert value in number.filter(pl.col("itemid") == str(item))["valuenum"].to_list()
    assert "1" in chart["warning"].to_list()


def test_most_rows_are_of_unwanted_items(chart):
    mapped = chart["itemid"].cast(int).is_in(list(items.MAPPED_ITEMS))
    assert 0.3 < mapped.mean() < 0.4
    assert 300 < mapped.sum() / 60 < 700


def test_gaps_and_times_outside_the_stay(chart, stays):
    assert 0 < chart["stay_id"].null_count() < 30
    assert 0 < chart["storetime"].null_count() < 200
    joined = chart.join(stays.select("stay_id", "intime", "outtime"), on="stay_id")
    time = joined["charttime"].str.to_datetime()
    assert (time < joined["intime"]).any() and (time > joined["outtime"]).any()


def test_dirt_of_the_laboratory(labs):
    assert 0.1 < labs["hadm_id"].null_count() / labs.height < 0.3
    masked = labs.filter(pl.col("value") == "___")
    assert masked.height > 0 and masked["valuenum"].null_count() == 0
    error = labs.filter(pl.col("value") == "ERROR")
    assert error.height > 0 and error["valuenum"].null_count() == error.height
    assert labs["comments"].drop_nulls().str.contains(",", literal=True).any()
    assert {"51478", "51491", "51094", "50831"} <= set(labs["itemid"])  # other fluids
    assert "NEG" in labs.filter(pl.col("itemid") == "51478")["value"].to_list()


def test_films_before_inside_and_after_a_stay_in_several_views(films, stays):
    joined = stays.join(films, on="subject_id")
    time, intime, outtime = (joined[name] for name in ("time", "intime", "outtime"))
    day2 = intime.dt.offset_by("48h")
    assert (time < intime).any() and (time > outtime).any()
    assert ((time > day2) & (time < outtime)).any()
    paired = joined.filter((joined["ViewPosition"] == "AP") & (time >= intime) & (time <= day2))
    assert 0.25 < paired["stay_id"].n_unique() / 60 < 0.6
    assert {"AP", "PA", "LATERAL"} <= set(films["ViewPosition"].drop_nulls())
    assert films["ViewPosition"].null_count() > 0


def test_study_times_have_lost_their_leading_zeros(films):
    assert films["StudyTime"].str.contains(".", literal=True).all()
    assert (films["StudyTime"].cast(float) < 100_000).any()
    assert not films["StudyTime"].str.starts_with("0").any()


def test_labels_are_one_zero_minus_one_or_empty(source, films):
    chexpert = read(source / "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz")
    negbio = read(source / "mimic-cxr-jpg/mimic-cxr-2.0.0-negbio.csv.gz")
    values = set(chexpert.unpivot(index=["subject_id", "study_id"])["value"])
    assert values == {"1.0", "0.0", "-1.0", None}
    assert chexpert.columns == negbio.columns and not chexpert.equals(negbio)
    assert set(chexpert["study_id"]) <= set(films["study_id"])
    split = read(source / "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz")
    assert set(split["dicom_id"]) == set(films["dicom_id"]) and set(split["split"]) <= {"train", "validate", "test"}


def test_every_film_is_a_grey_jpeg_where_the_ids_say(source, films):
    root = source / "mimic-cxr-jpg/files"
    assert len(list(root.rglob("*.jpg"))) == films.height
    for subject, study, dicom in films.select("subject_id", "study_id", "dicom_id").iter_rows():
        picture = cv2.imread(str(root / f"p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (384, 320) and picture.std() > 20


# --- signal


def test_each_modality_predicts_death_and_both_do_so_better():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count, seed = 600, 5
    latents = draw_latents(count, seed)
    signs = vital_signs(latents, np.arange(0.0, 48.0, 4.0), stream(seed, "test vitals"))
    means = np.stack(
        [signs[name].mean(axis=1) for name in ("heart_rate", "systolic", "respiratory_rate", "eye")], axis=1
    )
    shown = latents.film() + STUDY_NOISE * stream(seed, "test films").standard_normal(count)
    findings = draw_findings(shown, seed)
    pictures = [render(amounts, "AP", stream(seed, "test film", row)) for row, amounts in enumerate(findings)]
    # Both lungs, and the abdomen for the exposure.
    boxes = (np.s_[60:260, 30:140], np.s_[60:260, 190:300], np.s_[320:, 20:120])
    lungs = np.array([[picture[box].mean() for box in boxes] for picture in pictures])

    def auroc(inputs):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        scores = cross_val_predict(model, inputs, latents.died, cv=5, method="decision_function")
        return roc_auc_score(latents.died, scores)

    ehr, film, both = auroc(means), auroc(lungs), auroc(np.hstack([means, lungs]))
    assert 0.65 < ehr < 0.9
    assert 0.58 < film < 0.8
    assert both > max(ehr, film) + 0.01, (ehr, film, both)


def test_severity_grows_apart_over_the_stay():
    latents = draw_latents(4000, seed=0)
    course = latents.course(np.array([0.0, 48.0, 96.0]))
    gap = course[latents.died].mean(axis=0) - course[~latents.died].mean(axis=0)
    assert gap[1] > gap[0] + 0.2 and gap[2] == pytest.approx(gap[1])


# --- films for an existing tree


def test_films_for_the_stays_of_an_existing_tree(source, stays, tmp_path):
    for name in ("a", "b"):
        synth.write_films(tmp_path / name, mimic_root=source / "mimic-iv", seed=4)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mimic-cxr-jpg"]
    root = tmp_path / "a/mimic-cxr-jpg"
    assert (root / SYNTHETIC_MARKER).is_file()
    metadata = read(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    assert set(metadata["subject_id"]) <= set(stays["subject_id"]) and metadata.height > 40


def test_films_follow_the_outcome_of_the_tree():
    from sklearn.metrics import roc_auc_score

    died = np.arange(4000) % 7 == 0
    severity = film_severity_from_outcome(died, np.random.default_rng(0))
    shown = severity + STUDY_NOISE * np.random.default_rng(1).standard_normal(4000)
    assert 0.68 < roc_auc_score(died, shown) < 0.75


@pytest.fixture
def plain(tmp_path):
    """A small tree of uncompressed tables with capital column names, as some sites keep it."""
    synth.write_tree(tmp_path / "raw", stays=6, layout="v1", seed=0, films=False)
    for folder, table in (("icu", "icustays"), ("core", "admissions")):
        frame = read(tmp_path / f"raw/mimic-iv/{folder}/{table}.csv.gz")
        target = tmp_path / f"odd plain[1]/{folder}/{table}.csv"
        target.parent.mkdir(parents=True)
        frame.rename(str.upper).write_csv(target)
    return tmp_path / "odd plain[1]"


def test_plain_csv_and_capital_columns_are_read(plain, tmp_path):
    synth.write_films(tmp_path / "out", mimic_root=plain, seed=0)
    assert (tmp_path / "out/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz").is_file()


def test_bad_source_is_named(plain, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no icustays\.csv\.gz or icustays\.csv in icu/, hosp/ or core/") as error:
        synth.write_films(out, mimic_root=tmp_path / "nowhere", seed=0)
    assert error.value.hint
    path = plain / "icu/icustays.csv"
    good = path.read_text()
    path.write_text(good.replace("INTIME", "ARRIVAL", 1))
    with pytest.raises(InputError, match=r"icustays\.csv: column intime is missing"):
        synth.write_films(out, mimic_root=plain, seed=0)
    lines = good.splitlines()
    lines[3] = ",".join(["x", *lines[3].split(",")[1:]])
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"icustays\.csv: line 4, column subject_id: not a whole number"):
        synth.write_films(out, mimic_root=plain, seed=0)
    path.unlink()
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(good.encode())[:-40])
    with pytest.raises(InputError, match=r"icustays\.csv\.gz: not a readable CSV file"):
        synth.write_films(out, mimic_root=plain, seed=0)
    assert not out.exists()


# --- bad targets


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="exists and is not an empty directory") as error:
        synth.write_tree(tmp_path, stays=2, layout="v2", seed=0)
    assert "--out" in error.value.hint
    with pytest.raises(UsageError, match="not an empty directory"):
        synth.write_tree(tmp_path / "mine.txt", stays=2, layout="v2", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stays": 0}, "stays must be 1 or more, at most 10,000,000; got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"layout": "v4"}, "layout must be one of v1, v2, v3, got 'v4'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        synth.write_tree(tmp_path / "out", **{"stays": 2, "layout": "v2", "seed": 0, **change})
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tree, "write_film_tree", full)
    with pytest.raises(FusionctlError, match="No space left on device") as error:
        synth.write_tree(tmp_path, stays=2, layout="v2", seed=0)
    assert error.value.hint and list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / ".synth.partial/mimic-iv").mkdir(parents=True)
    synth.write_tree(tmp_path, stays=2, layout="v2", seed=0, films=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mimic-iv"]


def test_a_tree_is_written_once(tmp_path):
    out = tmp_path / "new/raw"
    synth.ensure_tree(out, stays=2, layout="v2", seed=0)
    assert sorted(path.name for path in out.iterdir()) == ["mimic-cxr-jpg", "mimic-iv"]
    assert [path.name for path in out.parent.iterdir()] == ["raw"]
    before = digests(out)
    synth.ensure_tree(out, stays=3, layout="v2", seed=1)
    assert digests(out) == before


def test_of_two_runs_that_want_a_tree_one_writes_it(tmp_path, monkeypatch):
    """The second one takes nothing from the first."""
    write, errors = tree.write_film_tree, []

    def asked_meanwhile(root, stays, seed):
        with pytest.raises(LockedError, match=f"raw is being written by another run .process {os.getpid()}") as error:
            synth.ensure_tree(tmp_path / "raw", stays=2, layout="v2", seed=0)
        errors.append(error.value)
        return write(root, stays, seed)

    monkeypatch.setattr(tree, "write_film_tree", asked_meanwhile)
    synth.ensure_tree(tmp_path / "raw", stays=2, layout="v2", seed=0)
    assert errors[0].exit_code == 5 and [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_what_a_killed_run_left_of_a_tree_is_replaced(tmp_path):
    (tmp_path / "raw.partial/mimic-iv").mkdir(parents=True)
    synth.ensure_tree(tmp_path / "raw", stays=2, layout="v2", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_tree_that_is_asked_for_wrongly_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="stays must be 1 or more"):
        synth.ensure_tree(tmp_path / "new/raw", stays=0, layout="v2", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionctlError, match="cannot write the synthetic tree to .*raw: Not a directory"):
        synth.ensure_tree(tmp_path / "file/new/raw", stays=2, layout="v2", seed=0)


def test_only_version_3_has_patients_of_2020_and_later(tmp_path):
    groups = {}
    for layout in ("v2", "v3"):
        synth.write_tree(tmp_path / layout, stays=150, layout=layout, seed=0, films=False)
        patients = pl.read_csv(tmp_path / layout / "mimic-iv/hosp/patients.csv.gz")
        groups[layout] = set(patients["anchor_year_group"])
    assert groups["v3"] - groups["v2"] == {"2020 - 2022"}
