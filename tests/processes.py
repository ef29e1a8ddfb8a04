"""Processes that tests start, how long they wait for them, and how a claim about speed
is tested.

No test asserts seconds, which are those of one machine: what must be quick is compared
with something else that the same machine does meanwhile.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

PATIENCE = 500
"""Seconds to wait for what takes less than fifty, below the limit of a test in
pyproject.toml."""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Fork:
    """A process that has imported what this one has, which takes seconds otherwise, and
    calls a function. It ends as a command would: with the code of a ``SystemExit``, or
    with a traceback and 1.

    Args:
        run: what it calls.
        folder: where what it says and complains of is kept.
        environment: variables that only it has.

    Attributes:
        returncode: as that of ``subprocess.Popen``, None while it runs.
    """

    def __init__(self, run: Callable[[], object], folder: Path, **environment: str) -> None:
        self.returncode: int | None = None
        self._files = [
            folder / f"{name}{environment.get('LOCAL_RANK', '')}" for name in ("said", "complained")
        ]
        with self._files[0].open("wb") as said, self._files[1].open("wb") as complained:
            self.pid = os.fork()
            if self.pid == 0:
                self._be(run, (said.fileno(), complained.fileno()), environment)

    @staticmethod
    def _be(
        run: Callable[[], object], streams: tuple[int, int], environment: dict[str, str]
    ) -> None:
        code: object = 1
        try:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
            sys.stdout, sys.stderr = (
                os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2)
            )
            for number in (signal.SIGINT, signal.SIGTERM):  # as a new process has them
                signal.signal(
                    number,
                    signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL,
                )
            os.environ.update(environment)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "default"
                )  # as a process of its own: only tests make them errors
                run()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)  # nothing of pytest's goes on in it

    def poll(self) -> int | None:
        """``returncode``, looked at now."""
        return self._ended(os.WNOHANG)

    def _ended(self, options: int = 0) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self._ended()

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """What it says and complains of until it ends."""
        began = time.monotonic()
        while self.poll() is None:
            if time.monotonic() - began > timeout:
                raise TimeoutError(
                    f"{timeout} seconds have passed; {[file.read_text() for file in self._files]}"
                )
            time.sleep(0.01)
        said, complained = (file.read_text() for file in self._files)
        return said, complained


def ranks(run: Callable[[], object], folder: Path, world: int = 2) -> str:
    """What some processes say, which must all succeed: those of one training, with the
    variables that Lightning's launcher gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [
        Fork(run, folder, **where, NODE_RANK="0", LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
        for rank in range(world)
    ]
    return succeeded(processes)


def succeeded(processes: Iterable[Fork]) -> str:
    """What processes say, which must succeed; where one does not, none is left."""
    processes = [*processes]
    try:
        while None in (codes := [process.poll() for process in processes]) and {*codes} <= {
            None,
            0,
        }:
            time.sleep(0.01)
        for process in processes:
            assert process.returncode in (None, 0), process.communicate()[1]
        return "".join(finished(process)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()


def finished(process: Fork) -> tuple[str, str]:
    """What a process says and complains of until it ends; it is killed where the wait
    ends first."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def wait_for(file: Path, process: Fork) -> None:
    """Wait until a running process has written a file."""
    began = time.monotonic()
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - began < PATIENCE, f"{file} is not there after {PATIENCE} seconds"
        time.sleep(0.02)


def child_seconds(*command: str | Path) -> float:
    """Processor seconds of a command, which must succeed; those of a busy machine are
    the same."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*map(str, command)], check=True, capture_output=True, env=ENVIRONMENT, timeout=PATIENCE
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own_seconds(run: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def ratio(what: Callable[[], float], reference: Callable[[], float], rounds: int = 5) -> float:
    """Median over rounds of the seconds of one thing over those of another, taken in
    turn."""
    return median(what() / reference() for _ in range(rounds))
