"""Processes that tests start, how long they wait for them, and how a claim about speed
is tested.

No test asserts seconds, which are those of one machine: what must be quick is compared
with something else that the same machine does meanwhile.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

PATIENCE = 500
"""Seconds to wait for what takes less than fifty, below the limit of a test in
pyproject.toml."""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def script(path: Path, module: str, code: str) -> subprocess.Popen[str]:
    """The code in a process of its own, with the names of a module of tests."""
    here = str(Path(__file__).parent)
    path.write_text(
        f"import sys\nsys.path.insert(0, {here!r})\nfrom {module} import *\nimport torch\ntorch.set_num_threads(1)\n{code}\n"
    )
    return subprocess.Popen(
        [sys.executable, str(path)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process says and complains of until it ends; it is killed where the wait
    ends first."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def run_script(path: Path, module: str, code: str) -> str:
    """What a script says, which must succeed."""
    process = script(path, module, code)
    said, complained = finished(process)
    assert process.returncode == 0, complained
    return said


def wait_for(file: Path, process: subprocess.Popen[Any]) -> None:
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
