"""What a person waits for before anything is trained, and for a report: processor
seconds of this machine, the least of a few processes.

    python benchmarks/waits.py [--rounds 3]

Most of what a report with every map takes is numba compiling umap. Tests compare some
of these with others and assert no seconds.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "counterpoint")


def spent(*words: str) -> float:
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="processes of each, of which the quickest counts"
    )
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        small = (
            "--max_steps",
            "4",
            "--data.pairings",
            "1",
            "--fit.progress",
            "false",
            "--fit.loggers",
            "[]",
        )
        spent(COMMAND, "fit", "idmvae", "--data", "digits-quadrant", *small, "--out", run)
        spent(COMMAND, "evaluate", run, "--only", "probe")
        waits = {
            "counterpoint --help": (COMMAND, "--help"),
            "import torch": (sys.executable, "-c", "import torch"),
            "import counterpoint": (sys.executable, "-c", "import counterpoint"),
            "the digits": (
                sys.executable,
                "-c",
                "import counterpoint as cp; cp.data.load('digits-quadrant')",
            ),
            "report, plane only": (COMMAND, "report", run, "--maps", "pca"),
            "report, every map": (COMMAND, "report", run),
        }
        print("| what | processor seconds |\n|---|---|")
        for what, words in waits.items():
            print(f"| {what} | {min(spent(*words) for _ in range(rounds)):.2f} |")


if __name__ == "__main__":
    main()
