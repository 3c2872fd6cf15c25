"""The report's tables as Markdown, as one CSV file and as LaTeX, from the same parts as the page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from html import unescape

from fusionctl.report.html import Html
from fusionctl.report.parts import Cell, Figure, Fold, Heading, Note, Part, Section, Table

CSV_HEADER = ("section", "table", "group", "row", "column", "value", "low", "high", "p", "p_holm", "text")
# Digits of a number and of a p in the CSV file: no more than the page shows, so that no count follows from a share.
CSV_DIGITS, P_DIGITS = 3, 4
LATEX_HEAD = r"""% Tables for \input{results}. They need: \usepackage{booktabs, longtable}
"""
LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "≥": r"$\geq$",
    "<": r"$<$",
    ">": r"$>$",
    "\u00a0": "~",
    "\u2060": "",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "|": r"\textbar{}",
}


def markdown(title: str, head: Sequence[str], sections: Iterable[Section]) -> str:
    """Headings, notes and tables as Markdown."""
    parts = [f"# {title}", *head]
    for name, found in _exported(sections):
        parts += [f"## {name}", *_markdown(found)]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _markdown(parts: Iterable[Table | Note | Heading]) -> list[str]:
    texts = []
    for part in parts:
        if isinstance(part, Table):
            texts += [f"**{part.name}**", _markdown_table(part)]
        else:
            texts.append(f"### {part.text}" if isinstance(part, Heading) else part.text)
    return texts


def _markdown_table(table: Table) -> str:
    several = any(title for title, _ in table.groups)
    header = ["", *table.header] if several else list(table.header)
    marks = ["---"] * (table.texts + 1 + several) + ["---:"] * (len(table.header) - table.texts - 1)
    rows = [
        [*([plain(title) if i == 0 else ""] if several else []), *(plain(cell) for cell in row)]
        for title, rows in table.groups
        for i, row in enumerate(rows)
    ]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, marks, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def csv_text(sections: Iterable[Section]) -> str:
    """Every number of every table in a row of its own, with what it is."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for section, parts in _exported(sections):
        for table in (part for part in parts if isinstance(part, Table)):
            for title, rows in table.groups:
                for first, *cells in rows:
                    for column, cell in zip(table.header[1:], cells, strict=True):
                        where = (section, table.name, plain(title), plain(first), column)
                        writer.writerow([*(_inert(text) for text in where), *_facts(cell)])
    return file.getvalue()


def _facts(cell: Cell) -> list[object]:
    if not isinstance(cell, Figure):
        return ["", "", "", "", "", _inert(plain(cell))]
    numbers = [(x, CSV_DIGITS) for x in (cell.value, cell.low, cell.high)]
    numbers += [(x, P_DIGITS) for x in (cell.p, cell.p_holm)]
    return [*("" if x is None else round(x, digits) + 0.0 for x, digits in numbers), ""]


def _inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula (a setting's value may be anything)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def latex(title: str, head: Sequence[str], sections: Iterable[Section]) -> str:
    """Every table as a `longtable` with its caption; the notes as text between them."""
    parts = [LATEX_HEAD, *(f"% {line}" for line in (title, *head) if line)]
    for section, found in _exported(sections):
        parts.append(rf"\section*{{{_tex(section)}}}")
        for part in found:
            if isinstance(part, Table):
                parts.append(_latex_table(part))
            else:
                parts.append(rf"\subsection*{{{_tex(part.text)}}}" if isinstance(part, Heading) else _tex(part.text))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    width = len(table.header)
    columns = "l" * (table.texts + 1) + "r" * (width - table.texts - 1)
    lines = [rf"\begin{{longtable}}{{{columns}}}", rf"\caption{{{_tex(table.name)}}}\\", r"\toprule"]
    lines += [_latex_row(table.header), r"\midrule", r"\endhead"]
    for index, (title, rows) in enumerate(table.groups):
        if title:
            lines += [r"\addlinespace"] if index else []
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_tex(plain(title))}}}}}\\")
        lines += [_latex_row([plain(cell) for cell in row]) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}"])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


def _tex(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def plain(cell: Cell) -> str:
    """A cell as text: small print in brackets, and HTML without its tags."""
    if isinstance(cell, Html):
        return unescape(re.sub(r"<[^>]*>", "", cell))
    if isinstance(cell, Figure):
        return str(cell)
    name, _, rest = cell.partition("|")
    return f"{name} ({rest})" if rest else name


def _exported(sections: Iterable[Section]) -> list[tuple[str, list[Table | Note | Heading]]]:
    """Title and parts of the sections that have a table."""
    found = [(section.title, _flat(section.parts)) for section in sections]
    return [(title, _with_content(parts)) for title, parts in found if any(isinstance(p, Table) for p in parts)]


def _flat(parts: Iterable[Part]) -> list[Table | Note | Heading]:
    """Tables, notes and headings in order; drawings are the page's alone."""
    found: list[Table | Note | Heading] = []
    for part in parts:
        if isinstance(part, Fold):
            found += [] if part.page_only else _flat(part.parts)
        elif isinstance(part, (Table, Note, Heading)):
            found.append(part)
    return found


def _with_content(parts: Sequence[Table | Note | Heading]) -> list[Table | Note | Heading]:
    """The parts without headings of drawings alone."""
    after = [*parts[1:], Heading("")]
    return [p for p, q in zip(parts, after, strict=True) if not (isinstance(p, Heading) and isinstance(q, Heading))]
