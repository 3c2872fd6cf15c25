"""Patients, admissions, ICU stays, transfers and diagnoses of the synthetic MIMIC-IV tree."""

from __future__ import annotations

import numpy as np
import polars as pl

from fusionctl.data.synth.cohort import DAY, HOUR, Cohort, draw_ids
from fusionctl.data.synth.layout import Layout
from fusionctl.data.synth.story import Bools, Ints, quota, sigmoid, stream

CARE_UNITS = (
    "Medical Intensive Care Unit (MICU)",
    "Surgical Intensive Care Unit (SICU)",
    "Cardiac Vascular Intensive Care Unit (CVICU)",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)",
    "Trauma SICU (TSICU)",
    "Coronary Care Unit (CCU)",
)
TRANSFER_RATE = 0.12
FIRST_ICD10_YEAR = 2016  # US hospitals changed in October 2015
_RACES = ("WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO - PUERTO RICAN", "ASIAN - CHINESE", "UNKNOWN")
_RACE_SHARES = (0.66, 0.12, 0.05, 0.04, 0.13)

# ICD-9-CM code, ICD-10-CM code, log odds: intercept, weight of z, of e, of f. The first 25 are one code of each of
# the benchmark's phenotypes (Harutyunyan et al. 2019), the rest belong to none.
DIAGNOSES: tuple[tuple[str, str, float, float, float, float], ...] = (
    ("5849", "N179", -1.0, 0.7, 0.4, 0.0),
    ("43491", "I639", -2.4, 0.2, 0.0, 0.0),
    ("41071", "I214", -2.1, 0.1, 0.2, 0.0),
    ("42731", "I4891", -0.8, 0.2, 0.1, 0.0),
    ("5859", "N189", -1.4, 0.2, 0.0, 0.0),
    ("496", "J449", -1.6, 0.0, 0.0, 0.4),
    ("99811", "T8111XA", -1.9, 0.2, 0.2, 0.0),
    ("4260", "I442", -2.6, 0.0, 0.1, 0.0),
    ("4280", "I509", -1.1, 0.3, 0.0, 0.4),
    ("41401", "I2510", -0.8, 0.0, 0.0, 0.0),
    ("25060", "E1140", -2.2, 0.1, 0.0, 0.0),
    ("25000", "E119", -1.4, 0.0, 0.0, 0.0),
    ("2724", "E785", -0.5, -0.1, 0.0, 0.0),
    ("4019", "I10", -0.2, -0.1, 0.0, 0.0),
    ("2762", "E872", -0.6, 0.6, 0.4, 0.0),
    ("5789", "K922", -2.4, 0.2, 0.2, 0.0),
    ("40390", "I129", -1.8, 0.1, 0.0, 0.0),
    ("5715", "K7460", -2.1, 0.3, 0.1, 0.0),
    ("78605", "R0602", -2.0, 0.2, 0.0, 0.3),
    ("47829", "J392", -2.6, 0.0, 0.0, 0.0),
    ("5119", "J90", -1.6, 0.3, 0.0, 0.8),
    ("486", "J189", -1.2, 0.4, 0.0, 0.9),
    ("51881", "J9600", -1.1, 0.8, 0.3, 0.5),
    ("0389", "A419", -1.3, 0.7, 0.5, 0.0),
    ("78551", "R570", -1.8, 0.8, 0.6, 0.0),
    ("V1582", "Z87891", -1.0, 0.0, 0.0, 0.0),
    ("2449", "E039", -2.0, 0.0, 0.0, 0.0),
    ("53081", "K219", -1.0, 0.0, 0.0, 0.0),
    ("30500", "F1010", -2.2, 0.0, 0.0, 0.0),
)


def patients_frame(cohort: Cohort, layout: Layout, seed: int) -> pl.DataFrame:
    """The patients table. dod: v1 deaths in hospital only; later releases also those within a year of discharge."""
    rng = stream(seed, "patients")
    last = cohort.last_of_patient()
    died = cohort.latents.died[last]
    later = quota(rng, len(last), 0.12) & ~died & (layout != "v1")
    delay = rng.integers(2 * DAY, 365 * DAY, len(last))
    dod = cohort.dischtime[last] + np.where(later, delay, 0)
    age = np.rint(np.clip(rng.normal(65, 15, len(last)), 18, 91)).astype(np.int64)
    return pl.DataFrame(
        {
            "subject_id": cohort.subject_id[last],
            "gender": np.where(cohort.female[last], "F", "M"),
            "anchor_age": np.where(age >= 90, 91, age),  # ages of 90 and more are given as 91
            "anchor_year": cohort.anchor_year[last],
            "anchor_year_group": [f"{year} - {year + 2}" for year in cohort.era[last].tolist()],
            "dod": moments(dod, died | later).dt.date(),
        }
    )


def admissions_frame(cohort: Cohort, seed: int) -> pl.DataFrame:
    """The admissions table of v2 and v3 (v1 leaves columns out and calls race ethnicity)."""
    rng = stream(seed, "admissions")
    last = cohort.last_of_admission()
    died = cohort.latents.died[last]
    n = len(last)
    emergency = rng.random(n) < 0.6
    admitted = cohort.admittime[last]
    race = rng.choice(_RACES, int(cohort.patient[-1]) + 1, p=_RACE_SHARES)[cohort.patient[last]]
    return pl.DataFrame(
        {
            "subject_id": cohort.subject_id[last],
            "hadm_id": cohort.hadm_id[last],
            "admittime": moments(admitted),
            "dischtime": moments(cohort.dischtime[last]),
            "deathtime": moments(cohort.dischtime[last], died),
            "admission_type": np.where(emergency, "EW EMER.", "URGENT"),
            "admit_provider_id": rng.choice(provider_ids(rng), n),
            "admission_location": np.where(emergency, "EMERGENCY ROOM", "TRANSFER FROM HOSPITAL"),
            "discharge_location": np.where(died, "DIED", rng.choice(["HOME", "SKILLED NURSING FACILITY"], n)),
            "insurance": rng.choice(["Medicare", "Medicaid", "Other"], n),
            "language": rng.choice(["ENGLISH", "?"], n, p=[0.9, 0.1]),
            "marital_status": pl.Series(rng.choice(["MARRIED", "SINGLE", "WIDOWED", ""], n)).replace("", None),
            "race": race,
            "edregtime": moments(admitted - 5 * HOUR, emergency),
            "edouttime": moments(admitted + HOUR // 2, emergency),
            "hospital_expire_flag": died.astype(np.int64),
        }
    )


def stay_frames(cohort: Cohort, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The icustays and the transfers table; a share of the stays ends in another unit than it began in."""
    rng = stream(seed, "units")
    n = len(cohort.stay_id)
    first = rng.integers(0, len(CARE_UNITS), n)
    moved = quota(rng, n, TRANSFER_RATE)
    last = np.where(moved, (first + rng.integers(1, len(CARE_UNITS), n)) % len(CARE_UNITS), first)
    units = np.array(CARE_UNITS)
    ids = {"subject_id": cohort.subject_id, "hadm_id": cohort.hadm_id}
    icustays = pl.DataFrame(
        {
            **ids,
            "stay_id": cohort.stay_id,
            "first_careunit": units[first],
            "last_careunit": units[last],
            "intime": moments(cohort.intime),
            "outtime": moments(cohort.outtime),
            "los": (cohort.outtime - cohort.intime) / DAY,
        }
    )
    middle = np.where(moved, (cohort.intime + cohort.outtime) // 2, cohort.outtime)
    leave = cohort.last_of_admission()
    pieces = (  # rows, kind of event, care unit, begin, end
        (np.arange(n), "transfer", units[first], cohort.intime, middle),
        (np.flatnonzero(moved), "transfer", units[last], middle, cohort.outtime),
        (leave, "discharge", np.full(n, ""), cohort.dischtime, None),
    )
    frames = [
        pl.DataFrame(
            {
                "subject_id": cohort.subject_id[rows],
                "hadm_id": cohort.hadm_id[rows],
                "eventtype": [kind] * len(rows),
                "careunit": pl.Series(unit[rows]).replace("", None),
                "intime": moments(begin[rows]),
                "outtime": moments(begin[rows] if end is None else end[rows], np.full(len(rows), end is not None)),
            }
        )
        for rows, kind, unit, begin, end in pieces
    ]
    transfers = pl.concat(frames)
    return icustays, transfers.with_columns(transfer_id=pl.Series(draw_ids(rng, 30_000_000, transfers.height)))


def diagnoses_frame(cohort: Cohort, seed: int) -> pl.DataFrame:
    """The diagnoses_icd table: the last stay of an admission decides; ICD-10 from 2016 on."""
    rng = stream(seed, "diagnoses")
    last = cohort.last_of_admission()
    latents = cohort.latents.take(last)
    base, on_z, on_e, on_f = np.array([row[2:] for row in DIAGNOSES]).T
    odds = base + np.multiply.outer(latents.z, on_z) + np.multiply.outer(latents.e, on_e)
    odds += np.multiply.outer(latents.f, on_f)
    present = rng.random(odds.shape) < sigmoid(odds)
    present[:, -1] |= ~present.any(axis=1)  # no admission without a diagnosis
    row, code = np.nonzero(present)
    version = np.where(cohort.year[last] >= FIRST_ICD10_YEAR, 10, 9)[row]
    names = np.array([row[:2] for row in DIAGNOSES])
    frame = pl.DataFrame(
        {
            "subject_id": cohort.subject_id[last][row],
            "hadm_id": cohort.hadm_id[last][row],
            "icd_code": np.where(version == 10, names[code, 1], names[code, 0]),
            "icd_version": version,
            "order": rng.random(len(row)),
        }
    )
    rank = pl.col("order").rank("ordinal").over("hadm_id").cast(pl.Int64)
    return frame.with_columns(seq_num=rank)


def diagnosis_names() -> pl.DataFrame:
    """The d_icd_diagnoses table."""
    rows = [
        (code, version, f"code {code}") for row in DIAGNOSES for code, version in zip(row[:2], (9, 10), strict=True)
    ]
    return pl.DataFrame(rows, schema=["icd_code", "icd_version", "long_title"], orient="row")


def moments(seconds: Ints, where: Bools | None = None) -> pl.Series:
    """Seconds since 1970 as datetimes; null where `where` is false."""
    series = pl.Series(seconds * 1000, dtype=pl.Int64).cast(pl.Datetime("ms"))
    return series if where is None else series.set(pl.Series(~where), None)


def provider_ids(rng: np.random.Generator, count: int = 40) -> list[str]:
    """Provider ids of the form P03YMR."""
    letters = np.array(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"))
    return ["P" + "".join(row) for row in letters[rng.integers(0, len(letters), (count, 5))].tolist()]
