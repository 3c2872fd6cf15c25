"""The report's parts as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from fusionctl.report import html
from fusionctl.report.html import Html
from fusionctl.report.parts import Cell, Figure, Fold, Heading, Note, Part, Section, Table


def section(content: Section) -> Html:
    """A section with its heading."""
    return html.section(content.title, [part(each) for each in content.parts])


def part(content: Part) -> Html:
    """Any part of a section."""
    if isinstance(content, Table):
        return content.drawn if content.drawn is not None else table(content)
    if isinstance(content, Note):
        return html.paragraph(content.text, "soft")
    if isinstance(content, Heading):
        return html.heading(content.text)
    if isinstance(content, Fold):
        return html.details(content.summary, "".join(part(each) for each in content.parts))
    return content


def table(content: Table) -> Html:
    """A table; every number above its interval."""
    groups = [(_heading(title), [_row(row, content.texts) for row in rows]) for title, rows in content.groups]
    drawn = html.table(content.header, groups, name=content.name, texts=content.texts, stack=content.stack)
    return Html(html.paragraph(content.name, "caption") + drawn) if content.caption else drawn


def _heading(title: str) -> Html:
    name, _, rest = title.partition("|")
    return Html(html.text(name) + (f" <small>{html.text(rest)}</small>" if rest else ""))


def _row(row: Sequence[Cell], texts: int) -> list[object]:
    return [_cell(cell, text=i <= texts, first=i == 0) for i, cell in enumerate(row)]


def _cell(cell: Cell, *, text: bool, first: bool) -> object:
    if isinstance(cell, Figure):
        value, *rest = cell.lines
        return Html(html.text(value) + "".join(f"<small>{html.text(line)}</small>" for line in rest))
    if isinstance(cell, Html):
        return cell
    if first:
        return _heading(cell)
    return cell if text else html.stacked(cell)
