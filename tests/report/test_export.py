"""The tables as Markdown, CSV and LaTeX."""

import csv
import io
import re

import pytest

from fusionctl.report import export
from fusionctl.report.html import Html
from fusionctl.report.parts import Figure, Fold, Heading, Note, Section, Table, blocks

TABLE = Table(
    name="Results & more",
    header=["Model", "n", "AUROC"],
    groups=[
        ("All|100 stays", [["A_1|note", "1,000", Figure(value=0.81234, low=0.7, high=0.9, p=0.0004, p_holm=0.05)]]),
        ("Some", [["B|C", Html("<code>a&lt;b</code>"), Figure(value=None)]]),
    ],
)
OTHER = Section("Other", [Heading("Of a drawing"), Html("<svg></svg>"), Heading("Of a table"), TABLE])
SECTIONS = [
    Section("First", [Note("Said 5 %."), Heading("Inside"), Html("<svg></svg>"), Fold("More", [TABLE])]),
    Section("Drawn", [Html("<svg></svg>")]),
    Section("Page", [Fold("More", [TABLE], page_only=True)]),
]


def test_markdown_has_every_table_and_no_drawing():
    text = export.markdown("Title", ["Banner", ""], SECTIONS)
    assert text.startswith("# Title\n\nBanner\n\n## First\n\nSaid 5 %.\n\n### Inside\n\n**Results & more**\n\n")
    assert "| All (100 stays) | A_1 (note) | 1,000 | 0.812 (0.700–0.900, p < 0.001, Holm 0.050) |" in text
    assert "| Some | B (C) | a<b | – |" in text
    assert "svg" not in text and "## Drawn" not in text and "## Page" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_a_heading_of_a_drawing_alone_is_left_out():
    text = export.markdown("Title", [], [OTHER])
    assert "### Of a table" in text and "Of a drawing" not in text


def test_a_group_is_named_once():
    rows = [["a", "1", "2"], ["b", "3", "4"]]
    text = export.markdown("Title", [], [Section("s", [Table(name="t", header=["x", "y", "z"], groups=[("G", rows)])])])
    assert "| G | a | 1 | 2 |\n|  | b | 3 | 4 |" in text


def test_csv_has_a_row_a_number_rounded():
    rows = list(csv.DictReader(io.StringIO(export.csv_text(SECTIONS))))
    assert len(rows) == 4 and {row["section"] for row in rows} == {"First"}
    assert rows[1] == {
        "section": "First",
        "table": "Results & more",
        "group": "All (100 stays)",
        "row": "A_1 (note)",
        "column": "AUROC",
        "value": "0.812",
        "low": "0.7",
        "high": "0.9",
        "p": "0.0004",
        "p_holm": "0.05",
        "text": "",
    }
    assert rows[2]["text"] == "a<b" and rows[3]["value"] == rows[3]["text"] == ""


@pytest.mark.parametrize("value", ["=1+1", "+A1", "-2", "@SUM(A1)"])
def test_csv_text_is_no_formula(value):
    table = Table(name="t", header=["Setting", "Value"], groups=[("", [["x", value]])])
    row = next(csv.DictReader(io.StringIO(export.csv_text([Section("s", [table])]))))
    assert row["text"] == "'" + value


def test_latex_escapes_and_balances():
    text = export.latex("Title", ["Banner"], SECTIONS)
    assert r"\caption{Results \& more}" in text and r"A\_1 (note)" in text and r"Said 5 \%." in text
    assert "0.700--0.900, p $<$ 0.001" in text
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}


def test_every_sign_that_latex_reads_is_escaped():
    text = export.latex("t", [], [Section("s", [Note(r"\ & % $ # _ { } ~ ^ ≥ − ±"), TABLE])])
    assert r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} $\geq$ $-$" in text


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=0.8, low=0.7, high=0.9), "0.800 (0.700–0.900)"),
        (Figure(value=-0.0001, low=-0.1, high=0.1, signed=True), "+0.000 (−0.100 to +0.100)"),
        (Figure(value=0.1, low=-0.2, high=0.3), "0.100 (−0.200 to 0.300)"),
        (Figure(value=1.234, digits=1), "1.2"),
        (Figure(value=None, low=0.1, high=0.2), "–"),
        (Figure.of({"value": 0.5, "low": None, "high": None, "p": 0.25}), "0.500 (p 0.250)"),
        (Figure.of(None), "–"),
    ],
)
def test_a_figure_as_text(figure, text):
    assert str(figure) == text


def test_columns_in_even_blocks():
    assert blocks(list("abcdefg"), 6) == [list("abcd"), list("efg")]
    assert blocks(list("abc"), 6) == [list("abc")] and blocks([], 6) == []
