"""The report: one self-contained HTML page, and its tables as Markdown, CSV and LaTeX, from plain dictionaries."""

from fusionctl.report.page import FORMATS, INCOMPARABLE, banner, csv_text, latex, markdown, render

__all__ = ["FORMATS", "INCOMPARABLE", "banner", "csv_text", "latex", "markdown", "render"]
