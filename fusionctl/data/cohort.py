"""The cohort: which ICU stays are kept, by the rules of the paper, and what is known of each.

Rules in their order (Hayat et al., MLHC 2022; Harutyunyan et al., Scientific Data 2019): no transfer between care
units, admission and patient known, one stay an admission, an adult. Then: the stay's times make sense, and (after the
events are read) something was measured.
"""

from __future__ import annotations

import polars as pl

from fusionctl.data.attrition import Attrition
from fusionctl.errors import InputError

ADULT_YEARS = 18
OLDEST_YEARS = 120  # nobody in MIMIC is older than about 105: from 89 on ages are stored as 91
# More than a year. MIMIC-IV's longest stay is a fifth of this; a broken date would make one of centuries.
LONGEST_HOURS = 10_000
# Of so many ICD-9 codes some begin with a zero: one in forty-five does in the open demo.
_MANY_CODES = 300

STAY_COLUMNS = {
    "subject_id": pl.Int64,
    "hadm_id": pl.Int64,
    "stay_id": pl.Int64,
    "intime": pl.Datetime("us"),
    "outtime": pl.Datetime("us"),
    "admittime": pl.Datetime("us"),
    "dischtime": pl.Datetime("us"),
    "los_hours": pl.Float64,
    "age": pl.Float64,
    "sex": pl.String,
    "race": pl.String,
    "care_unit": pl.String,
    "died_in_hospital": pl.Boolean,
    "death_time": pl.Datetime("us"),
}


def build_stays(
    icustays: pl.DataFrame,
    admissions: pl.DataFrame,
    patients: pl.DataFrame,
    attrition: Attrition,
    protocol: str = "paper",
) -> pl.DataFrame:
    """The kept stays, one row each, sorted by stay_id.

    Args:
        icustays, admissions, patients: the raw tables, typed.
        attrition: counts stays by rule.
        protocol: `paper` or `legacy`.

    Returns:
        `STAY_COLUMNS`. `age` is in years at admission: anchor_age + admission year - anchor_year (`legacy`:
        anchor_age). `death_time` is the recorded time of death, or else the date of death at midnight; it may lie
        after discharge.

    Raises:
        InputError: no stay is left; the message has the counts.
    """
    attrition.before = icustays.height
    stays = attrition.keep(
        "first and last care unit differ or are unknown", icustays, pl.col("first_careunit") == pl.col("last_careunit")
    )
    joined = stays.join(admissions.drop("line"), on=["subject_id", "hadm_id"], how="inner")
    attrition.drop("the patient has no such admission", stays.height - joined.height)
    stays = joined.join(patients.drop("line"), on="subject_id", how="inner")
    attrition.drop("the patient is unknown", joined.height - stays.height)
    stays = attrition.keep("the admission has several stays left", stays, pl.len().over("hadm_id") == 1)
    age = pl.col("anchor_age")
    if protocol != "legacy":
        age = age + pl.col("admittime").dt.year() - pl.col("anchor_year")
    rule = f"age at admission below {ADULT_YEARS}, above {OLDEST_YEARS} or unknown"
    stays = attrition.keep(rule, stays, age.is_between(ADULT_YEARS, OLDEST_YEARS))
    stays = attrition.keep(
        "intime or outtime missing, or outtime before intime", stays, pl.col("outtime") >= pl.col("intime")
    )
    hours = hours_between("intime", "outtime")
    stays = attrition.keep(f"longer than {LONGEST_HOURS:,} h", stays, hours <= LONGEST_HOURS)
    if stays.is_empty():
        raise no_stays(attrition)
    return stays.select(
        *("subject_id", "hadm_id", "stay_id", "intime", "outtime", "admittime", "dischtime"),
        los_hours=hours,
        age=age.cast(pl.Float64),
        sex=pl.col("gender").fill_null(""),
        race=pl.col("race").fill_null(""),
        care_unit=pl.col("first_careunit"),
        died_in_hospital=_inside("deathtime") | _inside("dod"),
        death_time=pl.coalesce("deathtime", "dod"),
    ).sort("stay_id")


def hours_between(start: str, end: str) -> pl.Expr:
    """Hours from one time column to another, the nearest float64: 48 h are exactly 48.

    Polars divides by a scalar as a product with its reciprocal, off by one bit in a quarter of the cases; division by
    a column is exact.
    """
    microseconds = (pl.col(end) - pl.col(start)).dt.total_microseconds()
    return microseconds / (microseconds * 0 + 3.6e9)


def _inside(time: str) -> pl.Expr:
    """Whether a time lies in the admission, ends included; a missing time does not."""
    return pl.col(time).is_between(pl.col("admittime"), pl.col("dischtime")).fill_null(False)


def doubts(stays: pl.DataFrame) -> dict[str, int]:
    """How many kept stays have times that contradict each other, by what is wrong: nothing is dropped for that.

    Args:
        stays: from `build_stays`.
    """
    wrong = {
        "no time of discharge after admission, so nobody counts as having died in hospital": ~(
            pl.col("dischtime") >= pl.col("admittime")
        ).fill_null(False),
        "their whole stay outside of their admission": (pl.col("intime") > pl.col("dischtime"))
        | (pl.col("outtime") < pl.col("admittime")),
        "a death before the day of admission": pl.col("death_time") < pl.col("admittime").dt.truncate("1d"),
    }
    return {what: stays.filter(condition).height for what, condition in wrong.items()}


def keep_measured(stays: pl.DataFrame, measured: pl.Series, attrition: Attrition) -> pl.DataFrame:
    """The stays in which at least one of the variables was measured.

    Args:
        stays: from `build_stays`.
        measured: stay_id of every stay with an event.
        attrition: the one that counted `stays`.

    Raises:
        InputError: no stay is left.
    """
    kept = attrition.keep("nothing was measured", stays, pl.col("stay_id").is_in(measured.implode()))
    if kept.is_empty():
        raise no_stays(attrition)
    return kept


def no_stays(attrition: Attrition) -> InputError:
    """The error for an empty cohort."""
    hint = "check that the tables belong together: ids of icustays, admissions, patients and chartevents must match"
    return InputError(f"no ICU stay is left after the cohort's rules ({attrition})", hint=hint)


def build_diagnoses(diagnoses: pl.DataFrame, stays: pl.DataFrame, attrition: Attrition) -> pl.DataFrame:
    """Diagnoses of kept admissions: hadm_id, icd_code, icd_version, sorted by all three.

    Args:
        diagnoses: the raw table, typed.
        stays: the kept stays.
        attrition: counts rows by rule.
    """
    attrition.before += diagnoses.height
    kept = attrition.keep(
        "admission is not in the cohort", diagnoses, pl.col("hadm_id").is_in(stays["hadm_id"].implode())
    )
    # As released: capitals, no dots. Other spellings of a code would match no phenotype.
    kept = kept.with_columns(
        pl.col("icd_code").str.strip_chars().str.to_uppercase().str.replace_all(".", "", literal=True)
    )
    known = (pl.col("icd_code") != "") & pl.col("icd_version").is_in([9, 10])
    kept = attrition.keep("code missing, or icd_version neither 9 nor 10", kept, known)
    columns = (pl.col("hadm_id"), pl.col("icd_code"), pl.col("icd_version").cast(pl.Int8))
    return kept.select(columns).sort("hadm_id", "icd_version", "icd_code")


def doubtful_codes(diagnoses: pl.DataFrame) -> dict[str, int]:
    """How many diagnoses have codes that cannot be of their icd_version, by what is wrong.

    ICD-9-CM codes begin with a digit, E or V, and many with a zero; ICD-10-CM codes begin with a letter.

    Args:
        diagnoses: from `build_diagnoses`.
    """
    ninth, code = pl.col("icd_version") == 9, pl.col("icd_code")
    fits = pl.when(ninth).then(code.str.contains(r"^[0-9EV]")).otherwise(code.str.contains(r"^[A-Z]"))
    of_ninth = diagnoses.filter(ninth)
    zeros_lost = of_ninth.height >= _MANY_CODES and not of_ninth["icd_code"].str.starts_with("0").any()
    return {
        "codes that are none of their icd_version (versions exchanged?)": diagnoses.filter(~fits).height,
        "codes of ICD-9 none of which begins with 0 (leading zeros lost?)": of_ninth.height if zeros_lost else 0,
    }
