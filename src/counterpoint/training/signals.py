"""Signals: SIGTERM and Ctrl-C end a run with a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SAVE = 1
STOP = 2


class Stopped(BaseException):
    """A signal asked the run to end, and its checkpoint is saved."""

    def __init__(self, signum: int, step: int) -> None:
        self.signum = signum
        self.step = step
        super().__init__(signum, step)


class Signals:
    """Catch SIGTERM and Ctrl-C, so that the run stops after the step. A second signal
    acts at once, unless it comes within a second: launchers signal a process and its
    group.

    Entering stores the handlers, leaving restores them. Call ``listen`` after Lightning
    has set its own handlers, which would broadcast from within the handler.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
            }

    def listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._catch)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:
            self.caught = number
            self._since = time.monotonic()
        elif time.monotonic() - self._since > 1:
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
            signal.raise_signal(number)
