"""Training from a stream beside training from memory, and a stream that is killed and
goes on.

    python benchmarks/streaming.py FOLDER [--gigabytes 0.2] [--jpeg] [--buffer 128] [--steps 500] [--rounds 5] [--kills 3]

FOLDER gets parquet shards of two images of 3×64×64 and a row number, as many as the
gigabytes are (if it does not hold them already); pixels are noise, as bytes of .npy
files, or one of 1,000 JPEGs. Then:

- `fit` takes so many steps from the stream and from rows in memory, in turns, each in a
  process of its own; the rate is that which `fit` reports, and counts the wait for the
  first block. On a busy machine look at processor seconds of memory over those of the
  stream. The stream's process notes its resident memory every 50 ms: anonymous pages
  (RssAnon), and pages of files (RssFile, of libraries for the most part, since shards
  are read, not mapped).
- a method that costs next to nothing trains two epochs, is killed (SIGKILL) at random
  moments, and goes on with `resume=True`. It notes the rows of each step; of a step
  that was done again after a kill the last counts, as its gradient does.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import counterpoint as cp

SIDE, SHARD_ROWS, GROUP_ROWS, ENCODED = 64, 8192, 256, 1000
VIEWS = ("left", "right")
EPOCHS = 2


def write(folder: Path, gigabytes: float, jpeg: bool, seed: int = 0) -> int:
    """The shards; the number of their rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    header = io.BytesIO()
    np.save(header, np.zeros((3, SIDE, SIDE), np.uint8))
    header_bytes = header.getvalue()[: -3 * SIDE * SIDE]
    encoded = [_jpeg(rng) for _ in range(ENCODED)] if jpeg else []
    row_bytes = 2 * (np.mean([len(e) for e in encoded]) if jpeg else 3 * SIDE * SIDE)
    rows = int(gigabytes * 1e9 / row_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, rows, SHARD_ROWS):
        count = min(SHARD_ROWS, rows - start)
        path = folder / f"shard-{start // SHARD_ROWS:05d}.parquet"
        if path.exists():
            continue
        columns = {}
        for view in VIEWS:
            if jpeg:
                cells = [encoded[i] for i in rng.integers(0, ENCODED, count)]
            else:
                pixels = rng.bytes(count * 3 * SIDE * SIDE)
                size = 3 * SIDE * SIDE
                cells = [header_bytes + pixels[i * size : (i + 1) * size] for i in range(count)]
            columns[view] = pa.array(cells, pa.binary())
        columns["row"] = pa.array(np.arange(start, start + count, dtype=np.float32))
        beside = path.with_suffix(".part")
        pq.write_table(
            pa.table(columns),
            beside,
            row_group_size=GROUP_ROWS,
            compression="none",
            use_dictionary=False,
        )
        os.replace(beside, path)
    return rows


def _jpeg(rng: np.random.Generator) -> bytes:
    from PIL import Image

    small = rng.integers(
        0, 256, (8, 8, 3), dtype=np.uint8
    )  # noise of this scale compresses as photos do
    file = io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Memory(threading.Thread):
    """Notes the most anonymous and file pages of this process, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = {"RssAnon": 0.0, "RssFile": 0.0, "VmRSS": 0.0}

    def run(self) -> None:
        while True:
            said = dict(
                line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
            )
            for name in self.most:
                self.most[name] = max(self.most[name], int(said[name].split()[0]) / 1024)
            time.sleep(0.05)


class Counted(nn.Module):
    """A method that costs next to nothing, and notes which rows it was given in which
    step."""

    name = "counted"

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.weight = nn.Parameter(torch.zeros(1))
        self.file = file.open("ab")

    def losses(self, batch: cp.Batch, step: int | None) -> dict[str, Tensor]:
        rows = batch.x["row"][:, 0].to(torch.int64)
        self.file.write(np.array([step, len(rows), *rows.tolist()], np.int64).tobytes())
        self.file.flush()
        return {"loss": (batch.x["left"].mean((1, 2, 3)) - self.weight).square()}

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


def noted(file: Path) -> dict[int, list[int]]:
    """The rows of each step, as it was done last."""
    numbers, steps, at = np.fromfile(file, np.int64), {}, 0
    while at + 2 <= len(numbers) and at + 2 + numbers[at + 1] <= len(numbers):
        steps[int(numbers[at])] = numbers[at + 2 : at + 2 + numbers[at + 1]].tolist()
        at += 2 + int(numbers[at + 1])
    return steps


def trained(options: argparse.Namespace) -> dict[str, float]:
    """What a worker measures: rate and memory."""
    data = cp.data.load(
        options.folder, buffer=options.buffer
    )  # with its validation and test rows in memory
    rows = data.train if options.worker == "stream" else data.train.sample(options.rows)
    torch.manual_seed(0)
    networks = cp.NetworkOptions(kind=options.networks, width=16, hidden=(64,))
    method = cp.MVTCAE(
        [m for m in data.modalities if len(m.shape) == 3], shared_dim=16, networks=networks
    )
    memory = Memory()
    memory.start()
    before = time.process_time()
    result = method.fit(
        rows, max_epochs=-1, max_steps=options.steps, batch_size=options.batch, **QUIET
    )
    return {"rate": result.samples_per_second, "cpu": time.process_time() - before, **memory.most}


def counted(options: argparse.Namespace) -> None:
    """Train the counting method to its end, or until somebody kills it."""
    tiny = 1e-9  # one row to validate and one to test
    cp.fit(
        Counted(options.run / "rows"),  # type: ignore[arg-type]  # all that fit needs of a method
        cp.data.load(
            options.folder, buffer=options.buffer, fractions=(1 - 2 * tiny, tiny, tiny)
        ).train,
        out=options.run / "run",
        resume=True,
        max_epochs=EPOCHS,
        batch_size=options.batch,
        checkpoint_seconds=1.0,
        **QUIET,
    )


QUIET: dict[str, Any] = {"progress": False, "loggers": (), "accelerator": "cpu"}


def worker(options: argparse.Namespace, kind: str, *more: str) -> list[str]:
    """The command of a process of its own."""
    names = ("buffer", "steps", "batch", "rows", "networks", "threads")
    return [
        sys.executable,
        __file__,
        str(options.folder),
        f"--worker={kind}",
        *(f"--{n}={getattr(options, n)}" for n in names),
        *more,
    ]


def killed(options: argparse.Namespace, rows: int) -> None:
    """Kill the counting run so many times, let it end, and count."""
    run = Path(f"{options.folder}-run-{os.getpid()}")
    run.mkdir()
    luck = random.Random(options.seed)
    command, last = (
        worker(options, "count", f"--run={run}"),
        run / "run" / "checkpoints" / "last.ckpt",
    )
    kills = []
    while True:
        process = subprocess.Popen(command)
        before = last.stat().st_mtime_ns if last.exists() else 0
        if len(kills) < options.kills:
            while process.poll() is None and (
                not last.exists() or last.stat().st_mtime_ns == before
            ):
                time.sleep(0.02)  # until it has saved something new
            time.sleep(luck.uniform(0, 2))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills.append(max(noted(run / "rows"), default=0))
        if process.wait() == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"the counting run failed with {process.returncode}")
    steps = noted(run / "rows")
    per_epoch = len(steps) // EPOCHS
    seen = [
        [row for step in range(e * per_epoch, (e + 1) * per_epoch) for row in steps[step]]
        for e in range(EPOCHS)
    ]
    print(
        f"\nkilled after steps {kills} of {len(steps)}; {rows - 2:,} rows to train on, 2 held out"
    )
    for epoch, found in enumerate(seen):
        times = np.bincount(found, minlength=rows)
        print(
            f"epoch {epoch}: {len(found):,} rows seen, {int((times > 1).sum())} of them twice, {int((times == 0).sum()) - 2} never"
        )
    print("orders of the epochs differ" if seen[0] != seen[1] else "the epochs have the same order")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=0.2)
    parser.add_argument(
        "--jpeg", action="store_true", help="images as JPEGs, which must be decoded"
    )
    parser.add_argument("--buffer", type=int, default=128, help="MB of a block")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rows", type=int, default=10_000, help="rows in memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument(
        "--networks",
        choices=("mlp", "conv"),
        default="mlp",
        help="mlp trains faster, so that more must be read",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--worker", choices=("stream", "memory", "count"), help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.worker == "count":
        return counted(options)
    if options.worker:
        return print(json.dumps(trained(options)))
    began = time.perf_counter()
    rows = write(options.folder, options.gigabytes, options.jpeg)
    size = sum(p.stat().st_size for p in options.folder.glob("*.parquet")) / 1e9
    print(
        f"{rows:,} rows, {size:.2f} GB in {options.folder}, {time.perf_counter() - began:.0f} s\n"
    )
    print(
        "| round | stream, samples/s | memory, samples/s | ratio | of processor s | stream's RSS, MB | of it anonymous | of files |"
    )
    print("|---|---|---|---|---|---|---|---|")
    ratios = []
    for turn in range(options.rounds):
        found = {}
        for kind in ("stream", "memory"):
            said = subprocess.run(
                worker(options, kind), check=True, capture_output=True, text=True
            ).stdout
            found[kind] = json.loads(said.splitlines()[-1])
        ratios.append(found["stream"]["rate"] / found["memory"]["rate"])
        stream, memory = found["stream"], found["memory"]
        print(
            f"| {turn + 1} | {stream['rate']:.0f} | {memory['rate']:.0f} | {ratios[-1]:.3f} | {memory['cpu'] / stream['cpu']:.3f} |"
            f" {stream['VmRSS']:.0f} | {stream['RssAnon']:.0f} | {stream['RssFile']:.0f} |",
            flush=True,
        )
    if ratios:
        print(
            f"\nrate of the stream over that from memory: {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
        )
    killed(options, rows)


if __name__ == "__main__":
    main()
