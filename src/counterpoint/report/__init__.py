"""Reports: what a trained method learned, as one HTML file and its figures."""

from __future__ import annotations

from counterpoint.report.html import write_report

__all__ = ["write_report"]
