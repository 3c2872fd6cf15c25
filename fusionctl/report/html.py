"""The few pieces of HTML that the report is made of. Every text is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from fusionctl.report.style import STYLE

# Nothing may be loaded and nothing may run: a page that describes patients must not be able to send anything anywhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(content: object) -> str:
    """Content as HTML: escaped, unless it is HTML already."""
    return content if isinstance(content, Html) else escape(str(content))


def page(title: str, body: Iterable[str]) -> str:
    """A whole document around its body."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section(title: str, parts: Iterable[str]) -> Html:
    """A section with its heading."""
    content = "\n".join(part for part in parts if part)
    return Html(f'<section id="{_anchor(title)}"><h2>{escape(title)}</h2>\n{content}</section>')


def contents(titles: Iterable[str]) -> Html:
    """Links to the sections of these titles."""
    links = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in titles)
    return Html(f'<nav aria-label="Contents"><ul>{links}</ul></nav>')


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def paragraph(content: object, kind: str = "") -> Html:
    """A paragraph, of a CSS class if given."""
    return Html(f"<p{_class(kind)}>{text(content)}</p>")


def heading(content: object) -> Html:
    """A heading inside a section."""
    return Html(f"<h3>{text(content)}</h3>")


def details(summary: object, content: str) -> Html:
    """Content that opens on request (and always in print)."""
    return Html(f"<details><summary>{text(summary)}</summary>{content}</details>" if content else "")


def figure(title: object, note: object, chart: str) -> Html:
    """A chart with its title above."""
    caption = f"<b>{text(title)}</b>" + (f"<br>{text(note)}" if note else "")
    return Html(f"<figure><figcaption>{caption}</figcaption>{chart}</figure>")


def charts(figures: Sequence[str], legend: str = "", *, small: bool = False) -> Html:
    """Figures side by side, as many as fit, under their common legend."""
    kind = "charts small" if small else "charts"
    return Html(f'{legend}<div class="{kind}">{"".join(figures)}</div>' if figures else "")


def table(
    header: Sequence[object],
    groups: Iterable[tuple[object, Sequence[Sequence[object]]]],
    *,
    name: str,
    texts: int = 0,
    stack: bool = False,
) -> Html:
    """A table that scrolls by itself where it is wider than the screen.

    Args:
        header: names of the columns.
        groups: (heading or "", rows); the first cell of a row names it.
        name: what the table is, for who cannot see it.
        texts: number of columns after the first that hold text, not numbers.
        stack: on a phone, put the name of a row above its numbers instead of scrolling.
    """
    kinds = ["text"] * (texts + 1) + [""] * (len(header) - texts - 1)
    head = "".join(f'<th scope="col"{_class(k)}>{text(h)}</th>' for h, k in zip(header, kinds, strict=True))
    bodies = []
    for title, rows in groups:
        inner = f'<div class="stay">{text(title)}</div>'
        group = f'<tr><th class="group" scope="rowgroup" colspan="{len(header)}">{inner}</th></tr>' if title else ""
        lines = "".join(_row(row, kinds) for row in rows)
        bodies.append(f"<tbody>{group}{lines}</tbody>")
    mark = f' class="stack" style="--columns:{len(header) - 1}"' if stack else ""
    inner = f"<table{mark}><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"
    return Html(f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">{inner}</div>')


def interval(entry: Mapping[str, float | None]) -> Html:
    """A value with its interval in a second line, or a dash."""
    value, low, high = (entry[key] for key in ("value", "low", "high"))
    if value is None:
        return Html("–")
    ends = "" if low is None or high is None else f"<small>{low:.3f}–{high:.3f}</small>"
    return Html(f"{value:.3f}{ends}")


def stacked(content: str) -> Html:
    """`12 (3.4 %)` with what is in brackets, without them, in a second line."""
    first, _, second = content.partition(" (")
    return Html(escape(first) + (f"<small>{escape(second.removesuffix(')'))}</small>" if second else ""))


def _row(cells: Sequence[object], kinds: Sequence[str]) -> str:
    rest = "".join(f"<td{_class(k)}>{text(c)}</td>" for c, k in zip(cells[1:], kinds[1:], strict=True))
    return f'<tr><th scope="row">{text(cells[0])}</th>{rest}</tr>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
