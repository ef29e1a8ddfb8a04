"""What a trained method learned, for people: one HTML file, and the figures that it is
made of."""

from __future__ import annotations

from counterpoint.report.html import write_report

__all__ = ["write_report"]
