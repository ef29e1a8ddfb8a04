"""Training-step speed against MultiVae 1.0.3, each in its own process and environment,
in alternation.

    python benchmarks/step.py --peer PEER_ENV/bin/python [CASE ...] [--settings NAME ...] [--pairs 5] [--threads 1] [--json FILE]

One round times a block of steps of the peer and of each of our settings, in an order
that turns round every time; the ratio of a round is the peer's median step over ours.
Reported: the median ratio over the rounds, and the smallest and largest. ``--clock
cpu`` counts
processor seconds instead of wall seconds: on one thread they mean the same on a quiet
machine, and they stand more noise on a busy one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from our_worker import Settings
from worker import Case

HERE = Path(__file__).resolve().parent

CASES: dict[str, Case] = {
    "conv": Case(),
    "conv-k10": Case(samples=10),
    "resnet": Case(network="resnet", batch=32),
    "mvtcae": Case(method="mvtcae", shared_dim=512),
    "mopoe": Case(method="mopoe", shared_dim=512),
    "mvtcae-64": Case(method="mvtcae", shared_dim=64),
    "mopoe-64": Case(method="mopoe", shared_dim=64),
    "jnf-joint": Case(method="jnf-joint", shared_dim=512),
    "jnf-flows": Case(method="jnf-flows", shared_dim=512),
    "jnf-joint-64": Case(method="jnf-joint", shared_dim=64),
    "jnf-flows-64": Case(method="jnf-flows", shared_dim=64),
    "jnf-draws-2": Case(method="jnf-draws", shared_dim=64, batch=100, given=2),
    "jnf-draws-4": Case(method="jnf-draws", shared_dim=64, batch=100, given=4),
}
SETTINGS: dict[str, Settings] = {
    "fp32": Settings(),
    "fp32 256": Settings(rows=256),
    "fp32 compile": Settings(compiled=True),
    "fp32 jitter": Settings(leapfrogs=10),
    "fp32 jitter compile": Settings(leapfrogs=10, compiled=True),
    "fp32 cl": Settings(channels_last=True),
    "fp32 cl 128": Settings(channels_last=True, rows=128),
    "fp32 cl 256": Settings(channels_last=True, rows=256),
    "fp32 cl 512": Settings(channels_last=True, rows=512),
    "fp32 cl compile": Settings(channels_last=True, rows=256, compiled=True),
    "bf16 cl": Settings("bf16", channels_last=True),
    "bf16 cl 128": Settings("bf16", channels_last=True, rows=128),
    "bf16 cl 256": Settings("bf16", channels_last=True, rows=256),
    "bf16 cl 512": Settings("bf16", channels_last=True, rows=512),
    "fp32 cl 256 recompute": Settings(channels_last=True, rows=256, activation_checkpointing=True),
    "bf16 cl 256 recompute": Settings(
        "bf16", channels_last=True, rows=256, activation_checkpointing=True
    ),
    "bf16 cl compile": Settings("bf16", channels_last=True, rows=256, compiled=True),
}
"""``cl``: channels-last weights; a number: most rows of a decoder call
(``decoder_batch_size``), by the library's default where there is none; ``jitter``: 1 to 10
leapfrogs, as the library takes by default, instead of ten on average."""
DEFAULT_CASES = ("conv", "conv-k10", "resnet", "mvtcae", "mopoe")
DEFAULT_SETTINGS = ("fp32", "fp32 cl 256", "bf16 cl 256")


class Worker:
    """A worker process that answers with the seconds of n steps."""

    def __init__(self, python: str, script: str, arguments: Sequence[str], threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [python, str(HERE / script), *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self.about = self._read()

    def run(self, steps: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"a worker ended early with code {self.process.wait()}; its own message stands above"
            )
        return json.loads(line)


def compare(
    case: Case, settings: Mapping[str, Settings], *, peer: str, pairs: int, steps: int, clock: str
) -> dict[str, Any]:
    """Alternate the peer and every setting; what was measured, as JSON values."""
    workers = {"peer": Worker(peer, "peer_worker.py", case.arguments, case.threads)}
    try:
        for name, chosen in settings.items():
            workers[name] = Worker(
                sys.executable, "our_worker.py", [*case.arguments, *chosen.arguments], case.threads
            )
        for worker in workers.values():
            worker.run(1)  # warm
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        peaks: dict[str, float] = {}
        for i in range(pairs):
            for name in list(workers)[:: 1 if i % 2 == 0 else -1]:
                answer = workers[name].run(steps)
                seconds[name].append(median(answer[clock]))
                peaks[name] = answer["peak_mb"]
        about = {name: worker.about for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    rows = {}
    for name in settings:
        ratios = [a / b for a, b in zip(seconds["peer"], seconds[name], strict=True)]
        rows[name] = {
            "ratio": median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "memory": peaks[name] / peaks["peer"],
            "ratios": ratios,
        }
    return {
        "case": asdict(case),
        "clock": clock,
        "steps": steps,
        "seconds": seconds,
        "peak_mb": peaks,
        "about": about,
        "settings": rows,
    }


HEADER = """| case | setting | peer, s/step | ours, s/step | ratio (least–most) | peak memory, MB (peer) | parameters (peer) |
|---|---|---|---|---|---|---|"""


def lines(name: str, result: Mapping[str, Any]) -> str:
    """One line of the table for each setting."""
    about, seconds, peaks = result["about"], result["seconds"], result["peak_mb"]
    return "\n".join(
        f"| {name} | {setting} | {median(seconds['peer']):.3f} | {median(seconds[setting]):.3f} "
        f"| **{row['ratio']:.2f}×** ({row['least']:.2f}–{row['most']:.2f}) | {peaks[setting]:.0f} ({peaks['peer']:.0f}) "
        f"| {about[setting]['parameters']:,} ({about['peer']['parameters']:,}) |"
        for setting, row in result["settings"].items()
    )


def machine() -> str:
    """Processor and number of cores."""
    info = Path("/proc/cpuinfo")
    models = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"of {', '.join(CASES)} (default: {', '.join(DEFAULT_CASES)})",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        default=DEFAULT_SETTINGS,
        choices=SETTINGS,
        metavar="NAME",
        help=f"of {', '.join(SETTINGS)}",
    )
    parser.add_argument("--peer", required=True, help="python of the peer's environment")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a block")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="instead of the case's own")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there too")
    options = parser.parse_args()
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; choose from {', '.join(CASES)}")
    results = {}
    print(
        f"{machine()}; {options.threads} thread(s), {options.clock} clock, {options.pairs} rounds of {options.steps} step(s)\n\n{HEADER}"
    )
    for name in options.cases or DEFAULT_CASES:
        case = replace(
            CASES[name],
            threads=options.threads,
            **({"batch": options.batch} if options.batch else {}),
        )
        chosen = {setting: SETTINGS[setting] for setting in options.settings}
        results[name] = compare(
            case,
            chosen,
            peer=options.peer,
            pairs=options.pairs,
            steps=options.steps,
            clock=options.clock,
        )
        print(lines(name, results[name]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
