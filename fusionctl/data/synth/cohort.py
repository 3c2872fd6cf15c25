"""Who the synthetic patients are and when their stays happen: grouping into admissions and patients, ids, times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusionctl.data.synth.story import Bools, Ints, Latents, quota, stream

HOUR, DAY = 3600, 86_400
SAME_PATIENT_RATE = 0.22  # stays that belong to the patient of the stay before them
SAME_ADMISSION_RATE = 0.35  # of those, stays of the same admission
MEDIAN_LOS_HOURS = 80.0
DEATH_IN_UNIT_RATE = 0.75  # the other deaths happen on the ward, up to three days later
# First year of the anchor year group, share of the patients. Only v3 has patients of 2020 - 2022.
_ERAS = ((2008, 0.12), (2011, 0.37), (2014, 0.36), (2017, 0.15))
_ERAS_V3 = ((2008, 0.12), (2011, 0.37), (2014, 0.36), (2017, 0.09), (2020, 0.06))


@dataclass(frozen=True)
class Cohort:
    """The people and times of the tree; one entry per stay (S,), times in seconds since 1970.

    Args:
        latents: hidden state of the stays, in the order of the other arrays.
        patient: row of the patient of each stay; rows of one patient are neighbours, in order of time.
        admission: row of the admission of each stay, likewise.
        subject_id, hadm_id, stay_id: MIMIC's ids.
        intime, outtime: of the ICU stay.
        admittime, dischtime: of its admission.
        year: calendar year before date shifting.
        female: sex of the patient.
    """

    latents: Latents
    patient: Ints
    admission: Ints
    subject_id: Ints
    hadm_id: Ints
    stay_id: Ints
    intime: Ints
    outtime: Ints
    admittime: Ints
    dischtime: Ints
    year: Ints
    anchor_year: Ints
    era: Ints
    female: Bools

    def last_of_admission(self) -> Ints:
        """Row of the last stay of each admission."""
        return np.flatnonzero(np.append(np.diff(self.admission) > 0, True))

    def last_of_patient(self) -> Ints:
        """Row of the last stay of each patient."""
        return np.flatnonzero(np.append(np.diff(self.patient) > 0, True))


def build_cohort(latents: Latents, seed: int, *, layout: str = "v2") -> Cohort:
    """Group stays into admissions and patients and lay them out in time; only a patient's last stay can end in death.

    The outcome is drawn before the grouping, and earlier stays are filled with survivors, so the grouping leaves the
    relation of severity to outcome as it is.
    """
    rng = stream(seed, "cohort")
    n = len(latents)
    same_patient = _limit(quota(rng, n, SAME_PATIENT_RATE), latents.died)
    latents = latents.take(_survivors_first(latents.died, same_patient, rng))
    repeated = np.flatnonzero(same_patient)
    same_admission = np.zeros(n, dtype=np.bool_)
    same_admission[repeated] = quota(rng, len(repeated), SAME_ADMISSION_RATE)
    patient, admission = np.cumsum(~same_patient) - 1, np.cumsum(~same_admission) - 1
    people = int(patient[-1]) + 1

    anchor_year = rng.integers(2110, 2200, people)[patient]
    eras = _ERAS_V3 if layout == "v3" else _ERAS
    era = rng.choice([year for year, _ in eras], people, p=[share for _, share in eras])[patient]
    offset, los, lead, tail = _timeline(latents, same_patient, same_admission, rng)
    intime = (anchor_year - 1970).astype("datetime64[Y]").astype("datetime64[s]").astype(np.int64) + offset
    outtime = intime + los
    first = np.flatnonzero(~same_admission)[admission]
    final = np.flatnonzero(np.append(~same_admission[1:], True))[admission]
    shifted_year = intime.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
    return Cohort(
        latents=latents,
        patient=patient,
        admission=admission,
        subject_id=draw_ids(rng, 10_000_000, people)[patient],
        hadm_id=draw_ids(rng, 20_000_000, int(admission[-1]) + 1)[admission],
        stay_id=draw_ids(rng, 30_000_000, n),
        intime=intime,
        outtime=outtime,
        admittime=(intime - lead)[first] // 60 * 60,
        dischtime=(outtime + tail)[final] // 60 * 60,
        year=era + rng.integers(0, 3, people)[patient] + shifted_year - anchor_year,
        anchor_year=anchor_year,
        era=era,
        female=(rng.random(people) < 0.44)[patient],
    )


def draw_ids(rng: np.random.Generator, start: int, count: int) -> Ints:
    """Distinct ids in [start, start + 10,000,000)."""
    return start + rng.choice(10_000_000, count, replace=False)


def _timeline(
    latents: Latents, same_patient: Bools, same_admission: Bools, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints, Ints]:
    """Seconds: start of the anchor year to intime, length of stay, admission to intime, outtime to discharge."""
    n = len(latents)
    hours = np.exp(np.log(MEDIAN_LOS_HOURS) + 0.15 * latents.z + 0.55 * rng.standard_normal(n))
    los = np.rint(np.clip(hours, 6, 330) * HOUR).astype(np.int64)
    lead = np.rint(np.clip(np.exp(rng.normal(1.4, 1.0, n)), 0.3, 60) * HOUR).astype(np.int64)
    in_unit = latents.died & (rng.random(n) < DEATH_IN_UNIT_RATE)
    tail_hours = np.where(latents.died, rng.uniform(2, 72, n), rng.uniform(8, 240, n))
    tail = np.where(in_unit, 0, np.rint(tail_hours * HOUR)).astype(np.int64)
    after_discharge = np.append(0, tail[:-1]) + lead + rng.integers(15 * DAY, 400 * DAY, n)
    opening = rng.integers(0, 330 * DAY, n)
    step = np.where(
        same_admission,
        rng.integers(8 * HOUR, 72 * HOUR, n),
        np.where(same_patient, after_discharge, opening),
    )
    elapsed = np.cumsum(step + np.where(same_patient, np.append(0, los[:-1]), 0))
    first = np.flatnonzero(~same_patient)
    before_patient = (elapsed - step)[first][np.cumsum(~same_patient) - 1]
    return elapsed - before_patient, los, lead, tail


def _limit(same_patient: Bools, died: Bools) -> Bools:
    """Drop repeated stays where there are too few survivors to fill the earlier ones (trees of a few stays)."""
    same_patient[0] = False
    excess = int(same_patient.sum() - (~died).sum())
    if excess > 0:
        same_patient[np.flatnonzero(same_patient)[-excess:]] = False
    return same_patient


def _survivors_first(died: Bools, same_patient: Bools, rng: np.random.Generator) -> Ints:
    """An order of the stays in which every stay that has a later one of the same patient is a survivor's."""
    early = np.append(same_patient[1:], False)
    alive, dead = rng.permutation(np.flatnonzero(~died)), np.flatnonzero(died)
    order = np.empty(len(died), dtype=np.int64)
    order[early] = alive[: early.sum()]
    order[~early] = rng.permutation(np.concatenate([alive[early.sum() :], dead]))
    return order
