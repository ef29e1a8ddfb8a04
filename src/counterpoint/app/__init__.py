"""The explorer: a page in a browser that asks questions of trained runs."""

from __future__ import annotations

from counterpoint.app.answers import Answer, Explored, Question, answer
from counterpoint.app.serve import Server

__all__ = ["Answer", "Explored", "Question", "Server", "answer"]
