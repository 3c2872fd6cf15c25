"""Damages to times: that cannot be read, or contradict each other."""

from __future__ import annotations

from datetime import datetime, timedelta

from broken_tree import GLUCOSE, HEART_RATE
from damages import cell, damage
from outcome import Counted, Error, Read, Same, Warned

_DOUBT = r"extract: of \d+ stays 1 have "


def shifted(time: str, **delta: float) -> str:
    return str(datetime.fromisoformat(time) + timedelta(**delta))


_NO_TIME = {
    "of another country": "31.12.2150 10:00:00",
    "of a spreadsheet": "12/31/2150 10:00",
    "with am or pm": "2150-12-31 10:00 PM",
    "with a named month": "31-Dec-2150 10:00",
    "of two digits a year": "50-12-31 10:00:00",
    "before 1900": "1001-01-01 00:00:00",
    "in the year 9999": "9999-12-31 23:59:59",
    "in the year 12345": "12345-01-01 00:00:00",
    "in the year 0": "0000-00-00 00:00:00",
    "on 30 February": "2150-02-30 10:00:00",
    "on 29 February of no leap year": "2151-02-29 10:00:00",
    "at 24:00": "2150-12-31 24:00:00",
    "at 10:61": "2150-12-31 10:61:00",
    "in seconds since 1970": "5712345678",
    "as a serial number": "91234.5",
    "with a zone": "2150-12-31 10:00:00Z",
    "with an offset": "2150-12-31 10:00:00+02:00",
    "without a time of day": "2150-12-31",
    "of words": "yesterday",
    "with a minus": "-2150-12-31 10:00:00",
}
_TIMES = {"admissions": "dischtime", "icustays": "intime", "chartevents": "charttime", "labevents": "charttime"}
for _name, _value in _NO_TIME.items():

    @damage(
        "times",
        Error(r": line \d+: column '\w+' must be a time like 2150-01-31 23:59:00, from 1900"),
        tuple(_TIMES),
        name=f"time {_name}",
    )
    def _(tree, table, value=_value):
        items = {"chartevents": HEART_RATE, "labevents": GLUCOSE}.get(table)
        tree.set(table, _TIMES[table], value, records=tree.of_stay(table, items)[:1] if items else [1])


@damage("times", Same(), tuple(_TIMES))
def times_with_a_letter_t(tree, table):
    tree.set_all(table, _TIMES[table], lambda text: text.replace(" ", "T"))


@damage("times", Same(), tuple(_TIMES))
def times_with_fractions_of_seconds(tree, table):
    tree.set_all(table, _TIMES[table], lambda text: f"{text}.000" if text else "")


@damage("times", Same())
def dates_with_a_time_of_day(tree):
    tree.set_all("patients", "dod", lambda text: f"{text} 00:00:00" if text else "")


for _name, _value in {
    "in the year 9999": "9999-12-31",
    "of zeros": "0000-00-00",
    "of another country": "31.12.2150",
}.items():
    cell(
        "times",
        f"date of death {_name}",
        "patients",
        "dod",
        _value,
        Error(r": line 2: column 'dod' must be a date like 2150-01-31"),
    )


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_that_ends_before_it_begins(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", shifted(tree.lone["intime"], hours=-1))


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_without_a_begin(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "intime", "")


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_without_an_end(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", "")


@damage("times", Counted("longer than 10,000 h", table="icustays"))
def stay_of_fifty_years(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", shifted(tree.lone["intime"], days=50 * 365))


@damage("times", Counted("longer than 10,000 h", table="icustays"))
def stay_from_1900_on(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "intime", "1900-01-01 00:00:00")


@damage("times", Read())
def stay_of_no_duration(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", tree.lone["intime"])


@damage("times", Warned(_DOUBT + "their whole stay outside of their admission"))
def stay_years_after_its_admission(tree):
    for column, years in (("admittime", -3), ("dischtime", -3)):
        tree.set_of(
            "admissions", "hadm_id", tree.lone["hadm_id"], column, shifted(tree.lone["intime"], days=years * 365)
        )


@damage("times", Warned(_DOUBT + "no time of discharge after admission"))
def admission_without_an_end(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "dischtime", "")


@damage("times", Warned(_DOUBT + "no time of discharge after admission"))
def admission_that_ends_before_it_begins(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "dischtime", shifted(tree.lone["intime"], days=-30))


@damage("times", Counted("age at admission", table="icustays"))
def admission_without_a_begin(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "admittime", "")


@damage("times", Warned(_DOUBT + "a death before the day of admission"))
def death_years_before_the_admission(tree):
    tree.set_of("patients", "subject_id", tree.lone["subject_id"], "dod", shifted(tree.lone["intime"], days=-900)[:10])
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "deathtime", "")


@damage("times", Counted("charttime missing", 2), ("chartevents", "labevents"))
def events_without_a_time(tree, table):
    items = HEART_RATE if table == "chartevents" else GLUCOSE
    tree.set(table, "charttime", "", records=tree.of_stay(table, items)[:2])


@damage(
    "times",
    Warned(r"extract: of \d+ events 2 are charted more than a year from their stay's begin"),
    ("chartevents", "labevents"),
)
def events_decades_later(tree, table):
    items = HEART_RATE if table == "chartevents" else GLUCOSE
    tree.set(table, "charttime", "2290-01-01 00:00:00", records=tree.of_stay(table, items)[:2])


@damage("times", Read(), ("chartevents", "labevents"))
def events_never_stored(tree, table):
    tree.set_all(table, "storetime", lambda text: "")


@damage("times", Read(), ("chartevents", "labevents"))
def events_stored_before_they_were_charted(tree, table):
    tree.set_all(table, "storetime", lambda text: "2100-01-01 00:00:00")
