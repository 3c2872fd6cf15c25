"""Item ids, texts, units and effect sizes of the synthetic chart and laboratory rows.

Ids, labels and units are MIMIC-IV's (d_items, d_labitems); means are of the order seen in adult intensive care,
effect sizes are invented: see the story in `fusionctl.data.synth`.
"""

from __future__ import annotations

from typing import NamedTuple


class Signal(NamedTuple):
    """x(t) = base + gain * severity(t) + stay offset + AR(1) noise, cut to [low, high]."""

    base: float
    gain: float
    offset_sd: float
    noise_sd: float
    low: float
    high: float


SIGNALS = {
    "heart_rate": Signal(84, 9, 9, 6, 30, 190),
    "respiratory_rate": Signal(18.5, 2.6, 2.6, 2.6, 5, 50),
    "oxygen_saturation": Signal(96.8, -1.0, 1.0, 1.2, 65, 100),
    "systolic": Signal(122, -9, 10, 8, 50, 230),
    "diastolic": Signal(64, -5, 6, 5, 22, 130),
    "temperature": Signal(36.9, 0.15, 0.25, 0.25, 33.5, 41.0),  # degC
    "fio2": Signal(0.42, 0.08, 0.08, 0.04, 0.21, 1.0),
    "glucose": Signal(130, 14, 20, 22, 40, 600),
    "ph": Signal(7.39, -0.035, 0.035, 0.025, 6.9, 7.65),
    "coma": Signal(-0.3, 0.8, 0.7, 0.35, -9, 9),  # cut by the thresholds below
}

# Glasgow coma scale: a part loses one point for every threshold that `coma` exceeds.
GCS_EYE, GCS_VERBAL, GCS_MOTOR = 220739, 223900, 223901
GCS_THRESHOLDS = {
    "eye": (4, (0.2, 0.8, 1.5)),
    "verbal": (5, (-0.2, 0.5, 0.9, 1.3)),
    "motor": (6, (0.4, 0.9, 1.4, 1.8, 2.2)),
}
ETT_CODE = 0  # verbal response of an intubated patient
CAPILLARY_RIGHT, CAPILLARY_LEFT = 223951, 224308

# Texts by code. The code is the valuenum for the GCS; the other texts have an empty valuenum.
MAPPED_TEXTS: dict[int, dict[int, str]] = {
    GCS_EYE: {4: "Spontaneously", 3: "To Speech", 2: "To Pain", 1: "None"},
    GCS_VERBAL: {
        5: "Oriented",
        4: "Confused",
        3: "Inappropriate Words",
        2: "Incomprehensible sounds",
        1: "No Response",
        ETT_CODE: "No Response-ETT",
    },
    GCS_MOTOR: {
        6: "Obeys Commands",
        5: "Localizes Pain",
        4: "Flex-withdraws",
        3: "Abnormal Flexion",
        2: "Abnormal extension",
        1: "No response",
    },
    CAPILLARY_RIGHT: {0: "Normal <3 Seconds", 1: "Abnormal >3 Seconds", 2: "Brisk", 3: "Delayed"},
    CAPILLARY_LEFT: {0: "Normal <3 Seconds", 1: "Abnormal >3 Seconds", 2: "Brisk", 3: "Delayed"},
}

# itemid: label, unit, decimals (decimals None: a text)
MAPPED_ITEMS: dict[int, tuple[str, str | None, int | None]] = {
    220045: ("Heart Rate", "bpm", 0),
    220210: ("Respiratory Rate", "insp/min", 0),
    224690: ("Respiratory Rate (Total)", "insp/min", 0),
    224689: ("Respiratory Rate (spontaneous)", "insp/min", 0),
    224422: ("Spont RR", "bpm", 0),
    220277: ("O2 saturation pulseoxymetry", "%", 0),
    220227: ("Arterial O2 Saturation", "%", 0),
    220050: ("Arterial Blood Pressure systolic", "mmHg", 0),
    220051: ("Arterial Blood Pressure diastolic", "mmHg", 0),
    220052: ("Arterial Blood Pressure mean", "mmHg", 0),
    220179: ("Non Invasive Blood Pressure systolic", "mmHg", 0),
    220180: ("Non Invasive Blood Pressure diastolic", "mmHg", 0),
    220181: ("Non Invasive Blood Pressure mean", "mmHg", 0),
    225309: ("ART BP Systolic", "mmHg", 0),
    225310: ("ART BP Diastolic", "mmHg", 0),
    225312: ("ART BP Mean", "mmHg", 0),
    224167: ("Manual Blood Pressure Systolic Left", "mmHg", 0),
    224643: ("Manual Blood Pressure Diastolic Left", "mmHg", 0),
    223761: ("Temperature Fahrenheit", "°F", 1),
    223762: ("Temperature Celsius", "°C", 1),
    223835: ("Inspired O2 Fraction", None, 2),
    225664: ("Glucose finger stick (range 70-100)", None, 0),
    220621: ("Glucose (serum)", None, 0),
    226537: ("Glucose (whole blood)", None, 0),
    223830: ("PH (Arterial)", None, 2),
    220274: ("PH (Venous)", None, 2),
    226512: ("Admission Weight (Kg)", "kg", 1),
    226531: ("Admission Weight (lbs.)", None, 1),
    224639: ("Daily Weight", "kg", 1),
    226707: ("Height", "Inch", 0),
    226730: ("Height (cm)", "cm", 0),
    GCS_EYE: ("GCS - Eye Opening", None, None),
    GCS_VERBAL: ("GCS - Verbal Response", None, None),
    GCS_MOTOR: ("GCS - Motor Response", None, None),
    CAPILLARY_RIGHT: ("Capillary Refill R", None, None),
    CAPILLARY_LEFT: ("Capillary Refill L", None, None),
}


class Charting(NamedTuple):
    """How an item is charted: which signal, every how many hours, in which stays, and the share of times that it is."""

    item: int
    sign: str
    every: int = 1
    where: str = "all"
    share: float = 0.93


CHARTING = (
    Charting(220045, "heart_rate"),
    Charting(220210, "respiratory_rate"),
    Charting(224690, "respiratory_rate", 4, "ventilated"),
    Charting(224689, "respiratory_rate", 8, "ventilated"),
    Charting(224422, "respiratory_rate", 12, "ventilated"),
    Charting(220277, "oxygen_saturation"),
    Charting(220227, "oxygen_saturation", 12, "arterial"),
    Charting(220179, "systolic", 1, "cuff"),
    Charting(220180, "diastolic", 1, "cuff"),
    Charting(220181, "mean", 1, "cuff"),
    Charting(220179, "systolic", 4, "arterial"),
    Charting(220180, "diastolic", 4, "arterial"),
    Charting(220181, "mean", 4, "arterial"),
    Charting(220050, "systolic", 1, "line"),
    Charting(220051, "diastolic", 1, "line"),
    Charting(220052, "mean", 1, "line"),
    Charting(225309, "systolic", 1, "newer line"),
    Charting(225310, "diastolic", 1, "newer line"),
    Charting(225312, "mean", 1, "newer line"),
    Charting(224167, "systolic", 24, "all", 0.1),
    Charting(224643, "diastolic", 24, "all", 0.1),
    Charting(223761, "temperature_f", 4, "fahrenheit"),
    Charting(223762, "temperature", 4, "celsius"),
    Charting(223835, "fio2_charted", 4, "ventilated"),
    Charting(225664, "glucose", 6),
    Charting(220621, "glucose", 12, "all", 0.8),
    Charting(226537, "glucose", 12, "arterial", 0.4),
    Charting(223830, "ph", 6, "arterial"),
    Charting(220274, "venous_ph", 12, "ventilated", 0.5),
    Charting(226512, "weight", 1, "kilograms, once"),
    Charting(226531, "weight_lb", 1, "pounds, once"),
    Charting(224639, "weight", 24, "later"),
    Charting(226730, "height", 1, "centimetres, once", 0.6),
    Charting(226707, "height_in", 1, "inches, once", 0.6),
    Charting(GCS_EYE, "eye", 4),
    Charting(GCS_VERBAL, "verbal", 4),
    Charting(GCS_MOTOR, "motor", 4),
    Charting(CAPILLARY_RIGHT, "refill", 8, "refill"),
    Charting(CAPILLARY_LEFT, "refill", 8, "refill"),
)

# What a nurse's slip or a loose sensor leaves in the real tables.
IMPLAUSIBLE = {220045: 999.0, 223761: 0.0, 223762: 0.0, 220277: 1000.0, 225664: 999999.0, 220181: 0.0, 226531: 0.0}

# itemid: label, unit, mean, sd, decimals
UNWANTED_NUMBERS: dict[int, tuple[str, str | None, float, float, int]] = {
    220046: ("Heart rate Alarm - High", "bpm", 120, 8, 0),
    220047: ("Heart Rate Alarm - Low", "bpm", 50, 5, 0),
    223751: ("Non-Invasive Blood Pressure Alarm - High", "mmHg", 160, 10, 0),
    223752: ("Non-Invasive Blood Pressure Alarm - Low", "mmHg", 90, 6, 0),
    223769: ("O2 Saturation Pulseoxymetry Alarm - High", "%", 100, 0, 0),
    223770: ("O2 Saturation Pulseoxymetry Alarm - Low", "%", 89, 2, 0),
    224161: ("Resp Alarm - High", "insp/min", 32, 3, 0),
    224162: ("Resp Alarm - Low", "insp/min", 8, 1, 0),
    220074: ("Central Venous Pressure", "mmHg", 11, 4, 0),
    224685: ("Tidal Volume (observed)", "mL", 460, 90, 0),
    224687: ("Minute Volume", "L/min", 8.6, 2, 1),
    220339: ("PEEP set", "cmH2O", 6, 2, 0),
    223834: ("O2 Flow", "L/min", 4, 2, 0),
}
UNWANTED_TEXTS: dict[int, tuple[str, tuple[str, ...]]] = {
    220048: ("Heart Rhythm", ("SR (Sinus Rhythm)", "ST (Sinus Tachycardia) ", "AF (Atrial Fibrillation)")),
    224650: ("Ectopy Type 1", ("None", "PVCs", "PACs")),
    224642: ("Temperature Site", ("Oral", "Axillary", "Blood")),
    228096: ("Richmond-RAS Scale", (" 0  Alert and calm", "-1 Awakens to voice, eye contact > 10 sec", "+1 Anxious")),
    223781: ("Pain Present", ("No", "Yes", "Unable to assess, sedated")),
    224093: ("Position", ("Left Side", "Supine", 'Bed flat, head "up" 30')),
    227958: ("Less Restrictive Measures", ("Re-orient, Family at bedside", "Music, Night light", "Bed alarm")),
    226732: ("O2 Delivery Device(s)", ("Nasal cannula", "None", "Endotracheal tube")),
}


class Lab(NamedTuple):
    """A laboratory item; `panel` is the draw that it belongs to: blood, gas or urine."""

    label: str
    fluid: str
    category: str
    unit: str | None
    signal: Signal
    decimals: int
    reference: tuple[float, float] | None
    panel: str


LABS: dict[int, Lab] = {
    50931: Lab("Glucose", "Blood", "Chemistry", "mg/dL", SIGNALS["glucose"], 0, (70, 100), "blood"),
    50809: Lab("Glucose", "Blood", "Blood Gas", "mg/dL", SIGNALS["glucose"], 0, (70, 105), "gas"),
    50817: Lab("Oxygen Saturation", "Blood", "Blood Gas", "%", SIGNALS["oxygen_saturation"], 0, None, "gas"),
    50820: Lab("pH", "Blood", "Blood Gas", "units", SIGNALS["ph"], 2, (7.35, 7.45), "gas"),
    50813: Lab("Lactate", "Blood", "Blood Gas", "mmol/L", Signal(1.9, 0.7, 0.6, 0.3, 0.4, 20), 1, (0.5, 2), "gas"),
    50912: Lab(
        "Creatinine", "Blood", "Chemistry", "mg/dL", Signal(1.3, 0.4, 0.5, 0.1, 0.2, 12), 1, (0.4, 1.1), "blood"
    ),
    51006: Lab("Urea Nitrogen", "Blood", "Chemistry", "mg/dL", Signal(26, 8, 10, 2, 3, 180), 0, (6, 20), "blood"),
    50983: Lab("Sodium", "Blood", "Chemistry", "mEq/L", Signal(138.5, 0.3, 3.5, 1, 115, 165), 0, (133, 145), "blood"),
    50971: Lab("Potassium", "Blood", "Chemistry", "mEq/L", Signal(4.1, 0.1, 0.3, 0.2, 2, 8), 1, (3.3, 5.1), "blood"),
    50882: Lab("Bicarbonate", "Blood", "Chemistry", "mEq/L", Signal(24, -1.5, 2.5, 1, 6, 45), 0, (22, 32), "blood"),
    51301: Lab("White Blood Cells", "Blood", "Hematology", "K/uL", Signal(11, 2, 3, 1, 0.2, 80), 1, (4, 11), "blood"),
    51265: Lab(
        "Platelet Count", "Blood", "Hematology", "K/uL", Signal(210, -25, 70, 12, 5, 900), 0, (150, 440), "blood"
    ),
    51222: Lab("Hemoglobin", "Blood", "Hematology", "g/dL", Signal(10.4, -0.4, 1.4, 0.4, 4, 18), 1, (12, 16), "blood"),
    51478: Lab("Glucose", "Urine", "Hematology", "mg/dL", Signal(150, 0, 250, 50, 0, 1000), 0, (0, 0), "urine"),
    51491: Lab("pH", "Urine", "Hematology", "units", Signal(6, 0, 0.6, 0.2, 5, 9), 1, (5, 8), "urine"),
    51094: Lab("pH", "Urine", "Chemistry", "units", Signal(6, 0, 0.6, 0.2, 5, 9), 0, None, "urine"),
    50831: Lab("pH", "Other Body Fluid", "Blood Gas", "units", Signal(7.3, 0, 0.2, 0.05, 6, 8), 2, None, "urine"),
}
LAB_COMMENTS = ("HEMOLYZED, SLIGHTLY.", "RANDOM.  CHECK, REPEAT IF NEEDED.", '"___", READ BACK BY ___')
FOLEY, VOID = 226559, 226560
