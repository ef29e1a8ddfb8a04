"""Where the tasks of a study run: in this process, in several, or on other machines.

    local      in this process, or, with jobs above 1, in that many others at a time
    submitit   jobs of a SLURM cluster, or of this machine where there is none
    ray        tasks of the Ray cluster that RAY_ADDRESS names, or of this machine

A task that fails does not stop the others. Threads are shared out, so that tasks of one
machine don't fight for its cores.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from counterpoint.core import checks
from counterpoint.core.files import write

Launcher = Literal["local", "submitit", "ray"]

CLUSTER_MINUTES = 24 * 60
"""Longest time that a job asks of SLURM."""


class Task(Protocol):
    """What runs: a picklable function without arguments, which keeps its own results."""

    def __call__(self) -> object:
        """Do it."""


@dataclass(frozen=True)
class Places:
    """How many tasks run at a time, and where.

    Args:
        launcher: ``"local"``, ``"submitit"`` or ``"ray"``.
        jobs: most tasks at a time.
        folder: gets ``logs/NAME.log`` of the tasks that fail or run elsewhere.

    Raises:
        ValueError: an unknown launcher, or fewer than one job.
        ModuleNotFoundError: the launcher is not installed.
    """

    folder: Path
    launcher: Launcher = "local"
    jobs: int = 1

    def __post_init__(self) -> None:
        checks.whole("jobs", self.jobs)
        if self.launcher not in get_args(Launcher):
            known = ", ".join(get_args(Launcher))
            raise ValueError(f"launcher={self.launcher!r} is unknown; choose one of {known}")
        if self.launcher != "local":
            _import(self.launcher)

    @property
    def here(self) -> bool:
        """Whether tasks run in this process."""
        return self.launcher == "local" and self.jobs == 1

    @property
    def threads(self) -> int:
        """Threads of a task."""
        return max(1, (os.cpu_count() or 1) // self.jobs)

    def log(self, name: str) -> Path:
        """Where a task of this name logs."""
        return self.folder / "logs" / f"{name}.log"

    def run(self, tasks: Mapping[str, Task]) -> Iterator[tuple[str, str | None]]:
        """Run all tasks, and yield the name of each as it ends, with why it failed."""
        if self.here:
            for name, task in tasks.items():
                yield name, self._here(name, task)
            return
        with _STARTERS[self.launcher](self) as start:
            started = {start(name, task): name for name, task in tasks.items()}
            for ended in as_completed(started):
                error = ended.exception()
                name = started[ended]
                yield name, ended.result() if error is None else self._told(name, error)

    def _here(self, name: str, task: Task) -> str | None:
        try:
            task()
        except Exception as error:  # whatever it is, the others go on
            return self._told(name, error)
        return None

    def _told(self, name: str, error: BaseException) -> str:
        """One line about an error, whose traceback goes to the log."""
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        write(self.log(name), "".join(traceback.format_exception(error)).encode())
        return said(error)


def said(error: BaseException) -> str:
    """An error on one line; its kind, where that is not that of a wrong value."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


Start = Callable[[str, Task], "Future[str | None]"]


@contextmanager
def _processes(places: Places) -> Iterator[Start]:
    """Start each task in a process of its own, at most ``jobs`` at a time. They end
    with this one."""
    running: set[subprocess.Popen[bytes]] = set()

    def run(name: str, payload: bytes) -> str | None:
        log = places.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(places.threads)}
        command = [sys.executable, "-m", "counterpoint.studies.worker"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment
            )
            running.add(process)
            process.communicate(payload)
            running.discard(process)
        if process.returncode == 0:
            log.unlink()
            return None
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the process ended with code {process.returncode}"

    with ThreadPoolExecutor(places.jobs) as pool:
        try:
            yield lambda name, task: pool.submit(run, name, _pickled(name, task))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [*running]:
                process.send_signal(signal.SIGTERM)  # a run that trains saves and stops
            raise


@contextmanager
def _submitit(places: Places) -> Iterator[Start]:
    """Submit each task as a job of submitit."""
    executor = _import("submitit").AutoExecutor(folder=places.folder / "logs")
    executor.update_parameters(timeout_min=CLUSTER_MINUTES, cpus_per_task=places.threads)
    with ThreadPoolExecutor(places.jobs) as pool:
        yield lambda name, task: pool.submit(lambda: _none(executor.submit(task).result()))


@contextmanager
def _ray(places: Places) -> Iterator[Start]:
    """Run each task as a task of Ray."""
    ray = _import("ray")
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    remote = ray.remote(num_cpus=places.threads)(_called)
    with ThreadPoolExecutor(places.jobs) as pool:
        yield lambda name, task: pool.submit(lambda: _none(ray.get(remote.remote(task))))


_STARTERS = {"local": _processes, "submitit": _submitit, "ray": _ray}


def _called(task: Task) -> object:
    return task()


def _none(_: object) -> None:
    """Tasks keep their own results."""


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"launcher={name!r} needs {name}; install it: pip install 'counterpoint[cluster]'"
        ) from error


def _pickled(name: str, task: Task) -> bytes:
    try:
        return pickle.dumps((sys.path, pickle.dumps(task)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{name} can't be sent to another process ({said(error)}); "
            "define its method in a module of its own, or use jobs=1"
        ) from error


def names_of(failed: Mapping[str, str]) -> Sequence[str]:
    """A line about each task that failed."""
    return [f"{name} came to nothing: {reason}" for name, reason in failed.items()]
