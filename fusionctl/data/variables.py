"""The 17 clinical variables of the paper on MIMIC-IV: items, units, plausible ranges, categories and normal values.

The variables, their categories and normal values are those of the MIMIC-III benchmark (Harutyunyan et al., Scientific
Data 2019), which MedFuse (Hayat et al., MLHC 2022) and the paper use; item ids are MetaVision's (`d_items`) and the
laboratory's (`d_labitems`). Plausible ranges are the benchmark's `variable_ranges.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Source = Literal["chart", "lab"]

FAHRENHEIT = (5 / 9, -160 / 9)  # degC = degF x 5/9 - 160/9
INCH = (2.54, 0.0)  # cm, exact by definition
POUND = (0.453592, 0.0)  # kg
AS_IS = (1.0, 0.0)


@dataclass(frozen=True)
class Item:
    """An item id of the raw tables and the linear map of its numbers to the variable's unit."""

    itemid: int
    source: Source
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Variable:
    """One clinical variable.

    Attributes:
        name: as in the benchmark, spelling included.
        items: raw items read as this variable; none for one that is derived.
        unit: unit after conversion; empty for a category.
        normal: value imputed before the first measurement: a number in `unit`, or one of `categories`.
        low, high: closed plausible range in `unit`; a value outside is treated as missing.
        categories: names of the categories in the order of the one-hot columns; empty for a number.
        texts: raw texts that stand for a category, where they differ from its name.
        scores: points of the Glasgow coma scale by category.
        percent_above: numbers above this are percent and are divided by 100.
        legacy_extra: items that protocol `legacy` reads too, although they are another fluid.
        legacy_normal: what `legacy` imputes, where it differs; a category's CareVue spelling.
        legacy_unread: `legacy` reads none of the items, so the variable is always imputed.
    """

    name: str
    items: tuple[Item, ...]
    normal: float | str
    unit: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    categories: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    scores: tuple[int, ...] = ()
    percent_above: float = float("inf")
    legacy_extra: tuple[Item, ...] = ()
    legacy_normal: str = ""
    legacy_unread: bool = False

    @property
    def is_categorical(self) -> bool:
        """Whether a value is an index into `categories`."""
        return bool(self.categories)

    @property
    def normal_value(self) -> float:
        """The normal value as stored: a number in `unit`, or the index of a category."""
        return self.imputed("paper")

    def imputed(self, protocol: str) -> float:
        """What a protocol imputes before the first measurement, as stored."""
        value = self.legacy_normal if protocol == "legacy" and self.legacy_normal else self.normal
        return float(self.categories.index(value)) if isinstance(value, str) else float(value)

    def read(self, protocol: str) -> tuple[Item, ...]:
        """The items that a protocol reads as this variable."""
        if protocol == "legacy":
            return () if self.legacy_unread else self.items + self.legacy_extra
        return self.items


def _items(source: Source, *ids: int, convert: tuple[float, float] = AS_IS) -> tuple[Item, ...]:
    return tuple(Item(itemid, source, *convert) for itemid in ids)


# Categories carry CareVue's spellings (MIMIC-III) beside MetaVision's, so that the 76 columns are the benchmark's.
# Points: Teasdale and Jennett, Lancet 1974; a verbal response that a tube prevents counts 1 ("1.0 ET/Trach").
_EYE = {
    "To Pain": 2,
    "3 To speech": 3,
    "1 No Response": 1,
    "4 Spontaneously": 4,
    "None": 1,
    "To Speech": 3,
    "Spontaneously": 4,
    "2 To pain": 2,
}
_MOTOR = {
    "1 No Response": 1,
    "3 Abnorm flexion": 3,
    "Abnormal extension": 2,
    "No response": 1,
    "4 Flex-withdraws": 4,
    "Localizes Pain": 5,
    "Flex-withdraws": 4,
    "Obeys Commands": 6,
    "Abnormal Flexion": 3,
    "6 Obeys Commands": 6,
    "5 Localizes Pain": 5,
    "2 Abnorm extensn": 2,
}
_VERBAL = {
    "1 No Response": 1,
    "No Response": 1,
    "Confused": 4,
    "Inappropriate Words": 3,
    "Oriented": 5,
    "No Response-ETT": 1,
    "5 Oriented": 5,
    "Incomprehensible sounds": 2,
    "1.0 ET/Trach": 1,
    "4 Confused": 4,
    "2 Incomp sounds": 2,
    "3 Inapprop words": 3,
}
_TOTAL = {str(points): points for points in (11, 10, 13, 12, 15, 14, 3, 5, 4, 7, 6, 9, 8)}
_REFILL = {
    "Normal <3 Seconds": "0.0",
    "Normal <3 secs": "0.0",
    "Brisk": "0.0",
    "Abnormal >3 Seconds": "1.0",
    "Abnormal >3 secs": "1.0",
    "Delayed": "1.0",
}


def _coma(part: str, points: Mapping[str, int], normal: str, *itemids: int, legacy: str = "") -> Variable:
    name, items = f"Glascow coma scale {part}", _items("chart", *itemids)
    return Variable(name, items, normal, categories=tuple(points), scores=tuple(points.values()), legacy_normal=legacy)


# Alphabetical: a variable's position here is its number everywhere.
VARIABLES: tuple[Variable, ...] = (
    Variable(
        "Capillary refill rate",
        _items("chart", 223951, 224308),  # right, left
        "0.0",
        categories=("0.0", "1.0"),
        texts=MappingProxyType(_REFILL),
        legacy_unread=True,
    ),
    Variable(
        "Diastolic blood pressure", _items("chart", 220051, 225310, 220180, 224643), 59.0, unit="mmHg", low=0, high=375
    ),
    Variable(
        "Fraction inspired oxygen",
        _items("chart", 223835),  # charted in percent, sometimes already as a fraction
        0.21,
        unit="fraction",
        low=0.2,
        high=1.0,
        percent_above=1.0,
    ),
    _coma("eye opening", _EYE, "Spontaneously", 220739, legacy="4 Spontaneously"),
    _coma("motor response", _MOTOR, "Obeys Commands", 223901, legacy="6 Obeys Commands"),
    _coma("total", _TOTAL, "15"),  # MIMIC-IV has no such item: the sum of the three parts of one chart time
    _coma("verbal response", _VERBAL, "Oriented", 223900, legacy="5 Oriented"),
    Variable(
        "Glucose",
        _items("chart", 225664, 220621, 226537) + _items("lab", 50931, 50809),
        128.0,
        unit="mg/dL",
        low=33,
        high=2000,
        legacy_extra=_items("lab", 51478),  # urine
    ),
    Variable("Heart Rate", _items("chart", 220045), 86.0, unit="bpm", low=0, high=350),
    Variable(
        "Height", _items("chart", 226730) + _items("chart", 226707, convert=INCH), 170.0, unit="cm", low=100, high=240
    ),
    Variable(
        "Mean blood pressure", _items("chart", 220052, 225312, 224322, 220181), 77.0, unit="mmHg", low=14, high=330
    ),
    Variable(
        "Oxygen saturation", _items("chart", 220227, 220277) + _items("lab", 50817), 98.0, unit="%", low=0, high=100
    ),
    Variable(
        "Respiratory rate", _items("chart", 220210, 224689, 224422, 224690), 19.0, unit="breaths/min", low=0, high=300
    ),
    Variable(
        "Systolic blood pressure",
        _items("chart", 220050, 225309, 220179, 224167, 227243),
        118.0,
        unit="mmHg",
        low=0,
        high=375,
    ),
    Variable(
        "Temperature",
        _items("chart", 223762) + _items("chart", 223761, convert=FAHRENHEIT),
        36.6,
        unit="degC",
        low=26,
        high=45,
    ),
    Variable(
        "Weight",
        _items("chart", 224639, 226512) + _items("chart", 226531, convert=POUND),
        81.0,
        unit="kg",
        low=20,
        high=250,
    ),
    Variable(
        "pH",
        _items("chart", 223830, 220274) + _items("lab", 50820),
        7.4,
        unit="pH",
        low=6.3,
        high=8.4,
        legacy_extra=_items("lab", 51491, 50831, 51094),  # urine, other body fluid, urine
    ),
)

INDEX: Mapping[str, int] = MappingProxyType({variable.name: i for i, variable in enumerate(VARIABLES)})
GCS_TOTAL = INDEX["Glascow coma scale total"]
GCS_PARTS = tuple(INDEX[f"Glascow coma scale {part}"] for part in ("eye opening", "motor response", "verbal response"))

# The 14 labels of CheXpert (Irvin et al., AAAI 2019), in the order of the columns of mimic-cxr-2.0.0-chexpert.csv.
CHEXPERT_LABELS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
