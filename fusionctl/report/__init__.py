"""The report: one self-contained HTML page, and the same tables as Markdown, from plain dictionaries."""

from fusionctl.report.page import INCOMPARABLE, banner, markdown, paper_figures, render

__all__ = ["INCOMPARABLE", "banner", "markdown", "paper_figures", "render"]
