"""Seconds of each stage of an evaluation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Measures stages, which may be nested: a stage's seconds exclude those within it.

    Attributes:
        seconds: by stage.

    Args:
        tell: called with the name of each stage when it begins.

    >>> clock = Clock(lambda stage: None)
    >>> with clock.stage("judges"):
    ...     pass
    >>> [*clock.seconds]
    ['judges']
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = tell
        self._within = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what the block takes."""
        self._tell(name)
        before = self._within
        self._within = 0.0
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = round(spent - self._within, 2)
        self._within = before + spent


def teller(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    """The function that reports a stage: standard error, the caller's own, or none."""
    if callable(progress):
        return progress
    return _print_stage if progress else _ignore_stage


def _print_stage(stage: str) -> None:
    print(f"evaluate: {stage}", file=sys.stderr, flush=True)


def _ignore_stage(stage: str) -> None:
    pass
