"""Protocol `legacy`: how the MedFuse-era extraction turns a raw row's text into a value, quirks included.

It reads the column `value`, never `valuenum`, applies no plausible range, and of two rows of one variable at one time
it keeps the greatest after a sort: as text where no rule turned the variable into numbers. Facts from the MIMIC-III
benchmark (Harutyunyan et al., Scientific Data 2019) and MedFuse (Hayat et al., MLHC 2022).
"""

from __future__ import annotations

import polars as pl

from fusionctl.data.attrition import Attrition
from fusionctl.data.variables import INDEX, POUND, VARIABLES, Source

# Variables that no rule of the reference turns into numbers before its sort: "98" comes after "100".
SORTED_AS_TEXT = ("Heart Rate", "Mean blood pressure", "Respiratory rate")
# Variables of which only plain decimal numbers are taken; "ERROR", "___" and "> 500" are missing.
PLAIN_NUMBER = ("Glucose", "pH", "Oxygen saturation")
_PLAIN = r"^(\d+(\.\d*)?|\.\d+)$"
# Temperatures from here on are taken for Fahrenheit, whatever the item says.
FAHRENHEIT_FROM = 79.0
# Bytes of a text that its rank holds: more than any charted number has, and a positive 64-bit number.
_RANK_BYTES = 7


def values(rows: pl.DataFrame, source: Source, attrition: Attrition) -> pl.DataFrame:
    """Read the rows' text.

    Args:
        rows: itemid, value (text) and whatever else.
        source: the table that the rows are from.
        attrition: counts rows by rule.

    Returns:
        The rows that have a value, with `variable`, `value` (Float32: a number, or a category's index) and `rank`
        (Int64), by which the reference sorts rows of one variable and time before it looks at the value.
    """
    rows = rows.drop("valuenum").rename({"value": "text"}).join(_items(source), on="itemid", how="inner")
    rows = attrition.keep("no text in value", rows, (pl.col("text") != "").fill_null(False))
    categories = rows.filter(pl.col("categorical")).join(_categories(), on=["variable", "text"], how="inner")
    attrition.drop(
        "text is none of the variable's categories", rows.filter(pl.col("categorical")).height - categories.height
    )
    # Finite as it is stored: the reference has no plausible ranges, and 1e39 would be infinite.
    numbers = rows.filter(~pl.col("categorical")).with_columns(value=_number().cast(pl.Float32))
    numbers = attrition.keep("no number in value", numbers, pl.col("value").is_finite())
    numbers = numbers.with_columns(rank=_rank())
    return pl.concat([numbers, categories.select(numbers.columns)])


def _number() -> pl.Expr:
    """The number that a row's text stands for; null where the reference finds none."""
    text, number = pl.col("text"), pl.col("text").str.strip_chars().cast(pl.Float64, strict=False)
    plain = pl.when(text.str.contains(_PLAIN)).then(number)
    systolic, diastolic = (text.str.extract(r"^(\d+)/(\d+)$", group).cast(pl.Float64) for group in (1, 2))
    return (
        pl.when(_is(*PLAIN_NUMBER))
        .then(pl.when(_is("Oxygen saturation") & (number <= 1)).then(plain * 100).otherwise(plain))
        .when(_is("Systolic blood pressure") & text.str.contains("/"))
        .then(systolic)
        .when(_is("Diastolic blood pressure") & text.str.contains("/"))
        .then(diastolic)
        .when(_is("Fraction inspired oxygen"))
        .then(number / 100)  # a fraction is divided again
        .when(_is("Temperature") & (number >= FAHRENHEIT_FROM))
        .then((number - 32) * 5 / 9)
        .when(pl.col("pounds"))
        .then(number * POUND[0])
        .otherwise(number)  # a height in inches stays in inches
    )


def _rank() -> pl.Expr:
    """Order of the texts of variables that are sorted as text; 0 elsewhere, where the values themselves are sorted."""
    digits = pl.col("text").str.encode("hex").str.slice(0, 2 * _RANK_BYTES).str.pad_end(2 * _RANK_BYTES, "0")
    return pl.when(_is(*SORTED_AS_TEXT)).then(digits.str.to_integer(base=16, strict=False)).otherwise(0)


def _is(*names: str) -> pl.Expr:
    return pl.col("variable").is_in([INDEX[name] for name in names])


def _items(source: Source) -> pl.DataFrame:
    rows = [
        (item.itemid, index, variable.is_categorical, variable.name == "Weight" and item.scale == POUND[0])
        for index, variable in enumerate(VARIABLES)
        for item in variable.read("legacy")
        if item.source == source
    ]
    schema = {"itemid": pl.Int64, "variable": pl.UInt8, "categorical": pl.Boolean, "pounds": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _categories() -> pl.DataFrame:
    """Index and alphabetical rank of each category's text, which must match letter by letter."""
    rows = [
        (index, text, float(variable.categories.index(text)), rank)
        for index, variable in enumerate(VARIABLES)
        for rank, text in enumerate(sorted(variable.categories))
    ]
    schema = {"variable": pl.UInt8, "text": pl.String, "value": pl.Float32, "rank": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")
