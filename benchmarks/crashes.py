"""Kill every command at random moments and at every rename and fsync, let it go on, and
compare with a run that was left alone.

    python benchmarks/crashes.py [FOLDER] [--only fit-jnf tune] [--random 21] [--moments 0] [--seed 0] [--json F.json]

A trial runs a command in a process of its own, kills it (KILL, TERM and INT in turn),
and looks at what is left:

- every model that is there opens, as the former one or the new one, and its record of
  additions is that of this model;
- every other file is whole;
- the command that goes on (`fit --resume RUN`, else the same command) is accepted,
  prints no traceback, and comes to the very same files: weights, metrics.csv (but for
  the seconds), evaluations, tables; no unfinished file of the killed process is left.

A moment is a call of `os.replace` or `os.fsync`, where files are overwritten also of
`os.unlink` or `os.rmdir`; `--moments N` takes N of them instead of all. Random moments
are spread over the time that the command takes. Processes are forked from one that has
imported everything. The exit code is that of a
shell: 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CLOCKS = re.compile(r'"(seconds|date|time)[^"]*": [^,\n}]+')
ENOUGH = 180.0
"""Seconds after which a process hangs."""

SHORT = [
    "--batch_size",
    "32",
    "--fit.progress",
    "false",
    "--fit.loggers",
    "[]",
    "--fit.accelerator",
    "cpu",
]
SHORT += ["--checkpoint_seconds", "0", "--log_every", "2", "--max_epochs", "2"]
SMALL = ["--shared_dim", "2", "--networks.hidden", "[4]", *SHORT]


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        words: of the command; its working folder is that of the trial, beside which
            lies ``data``.
        before: commands whose files are there when it starts.
        again: words that go on, of what is left in the working folder; by default the
            same words.
        calls: functions of ``os`` whose calls are moments.
        needs: heavy modules that it imports.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    again: Callable[[Path], tuple[str, ...] | None] = lambda folder: None
    calls: tuple[str, ...] = ("replace", "fsync")
    needs: tuple[str, ...] = ()


@dataclass
class Result:
    """What the trials of one command came to."""

    name: str
    seconds: float = 0.0
    moments: int = 0
    trials: Counter[str] = field(default_factory=Counter)
    struck: int = 0
    failures: list[str] = field(default_factory=list)


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> list[Command]:
    """Every verb that writes, on data of a few rows."""
    table = str(Path("..") / "data" / "toy.npz")
    fit = ("fit", "mvae", "--data", table, "--out", "run", *SMALL)
    plain = (fit,)
    private = (("fit", "mmvae+", "--data", table, "--out", "run", "--private_dim", "2", *SMALL),)
    images = (
        (
            "fit",
            "mvae",
            "--data",
            str(Path("..") / "data" / "images.npz"),
            "--out",
            "run",
            "--networks.width",
            "2",
            *SMALL,
        ),
    )
    decoder = ("fit-decoder", "run", "--denoiser.modalities", "[image]", "--denoiser.width", "8")
    decoder += (
        "--max_steps",
        "3",
        "--fit.batch_size",
        "16",
        "--checkpoint_seconds",
        "0",
        "--fit.progress",
        "false",
        "--fit.loggers",
        "[]",
    )
    measured = (fit, ("evaluate", "run", "--only", "likelihood", "--samples", "2"))

    def trained(name: str, *more: str, best: bool = True) -> Command:
        keep = ("--keep", "best") if best else ()
        return Command(
            f"fit-{name}",
            ("fit", name, "--data", table, "--out", "run", *SMALL, *keep, *more),
            again=resumed,
            needs=("zuko",),
        )

    search = ("--search", str(Path("..") / "data" / "space.yaml"), "--trials", "2")
    return [
        trained("mvae"),
        Command(
            "fit-ema-steps",
            (*fit, "--ema_decay", "0.7", "--max_epochs=-1", "--max_steps", "6"),
            again=resumed,
        ),
        trained("jnf", "--flow.hidden", "[4]", "--flow.transforms", "1"),
        trained("jnf-shared", "--flow.hidden", "[4]", "--flow.transforms", "1"),
        trained("diff-mvae"),
        trained("iterative"),
        Command(
            "fit-overwrite",
            (*fit, "--overwrite", "--fit.seed", "1"),
            measured,
            calls=("replace", "fsync", "unlink", "rmdir"),
        ),
        Command(
            "fit-further",
            ("fit", "--resume", "run", "--max_epochs", "3"),
            (*plain, ("fit-prior", "run", "--kind", "gmm", "--size", "2")),
        ),
        Command(
            "fit-prior",
            ("fit-prior", "run", "--kind", "gmm", "--size", "2"),
            (*private, *measured[1:]),
        ),
        Command(
            "fit-prior-again",
            ("fit-prior", "run", "--kind", "flow", "--size", "4", "--steps", "3"),
            (*plain, ("fit-prior", "run", "--kind", "gmm", "--size", "2")),
        ),
        Command("fit-decoder", decoder, images, again=lambda f: (*decoder, "--resume", "true")),
        Command(
            "fit-refiner",
            ("fit-refiner", "run", "--steps", "3", "--refiner.steps", "2", "--refiner.width", "4"),
            (*plain, *measured[1:]),
        ),
        Command(
            "evaluate",
            ("evaluate", "run", "--only", "probe", "match", "likelihood", "--samples", "2"),
            plain,
        ),
        Command("report", ("report", "run", "--maps", "pca"), (fit, ("evaluate", "run"))),
        Command(
            "tune",
            ("tune", "mvae", "--data", table, "--out", "run", *search, *SMALL),
            needs=("optuna", "sqlalchemy.dialects.sqlite"),
        ),
        Command(
            "sweep",
            (
                "sweep",
                "--methods",
                "mvae",
                "--rates",
                "0.4",
                "--only",
                "probe",
                "--data",
                table,
                "--out",
                "run",
                *SHORT,
            ),
        ),
        Command(
            "data-prepare",
            (
                "data",
                "prepare",
                "polymnist",
                "--root",
                "../data",
                "--out",
                "set",
                "--views",
                "2",
                "--progress",
                "false",
            ),
        ),
        Command("data-pack", ("data", "pack", table, "--out", "set")),
        Command(
            "data-index",
            ("data", "index", "../data/shards", "--out", "index.json", "--progress", "false"),
            needs=("pyarrow",),
        ),
        Command(
            "data-latents",
            (
                "data",
                "latents",
                "../data/images.npz",
                "--autoencoder",
                "../data/autoencoder",
                "--out",
                "set",
            ),
            needs=("diffusers",),
        ),
    ]


def resumed(folder: Path) -> tuple[str, ...] | None:
    """How a run goes on: by the same words where it has not begun."""
    return ("fit", "--resume", "run") if (folder / "run" / "config.yaml").is_file() else None


def make_data(folder: Path) -> None:
    """A table, a search space, images, an MNIST of 150 digits and shards."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, rows in (("train", 64), ("val", 32), ("test", 32)):
        z = rng.normal(size=(rows, 1))
        arrays |= {
            f"{part}/a": (z + rng.normal(size=(rows, 3))).astype(np.float32),
            f"{part}/b": (z + rng.normal(size=(rows, 2))).astype(np.float32),
        }
        arrays |= {f"{part}/label/sign": (z[:, 0] > 0).astype(np.int64)}
    folder.mkdir()
    np.savez(folder / "toy.npz", **arrays)
    pixels = rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    np.savez(
        folder / "images.npz",
        **{"image": pixels, "vector": rng.normal(size=(40, 2)).astype(np.float32)},
    )
    (folder / "space.yaml").write_text("fit.lr: {low: 1.0e-3, high: 1.0e-1, log: true}\n")
    (folder / "mnist").mkdir()
    for name, rows in (("train", 120), ("t10k", 30)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (rows, 28, 28))),
            ("labels-idx1", np.arange(rows) % 10),
        ):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / "mnist" / f"{name}-{kind}-ubyte.gz").write_bytes(
                gzip.compress(header + array.astype(np.uint8).tobytes())
            )
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "a.tar", "w") as archive:
        for row in range(40):
            content = io.BytesIO()
            np.save(content, rng.normal(size=3).astype(np.float32))
            member = tarfile.TarInfo(f"{row:03d}.npy")
            member.size = content.tell()
            content.seek(0)
            archive.addfile(member, content)


def make_autoencoder(folder: Path) -> None:
    """One of random weights."""
    from diffusers import AutoencoderKL

    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    }
    AutoencoderKL(**blocks, block_out_channels=(4, 4, 8), norm_num_groups=2).save_pretrained(folder)


# --- processes -------------------------------------------------------------------------------------------------------


def forked(
    words: Sequence[str], folder: Path, log: Path, struck: Callable[[], None] | None = None
) -> int:
    """Start a command in a process of its own; its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        os.setpgid(0, 0)
        with log.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        from counterpoint.cli import main

        if struck is not None:
            struck()
        code = main([*words])
    except KeyboardInterrupt:  # before main could take it
        code = 130
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ended(number: int, kill_after: float | None = None, by: int = 0) -> int | None:
    """Wait for a process, which gets a signal after so many seconds; its exit code, as
    a shell gives it. None: it hung."""
    began, sent = time.monotonic(), False
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic() - began
        if kill_after is not None and not sent and now >= kill_after:
            os.kill(number, by)
            sent = True
        if now > ENOUGH:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            return None
        time.sleep(0.002)


def striking(calls: Sequence[str], moment: int, by: int) -> Callable[[], None]:
    """Makes a process kill itself before one of these calls, counted from 0; the
    process ends after the last."""

    def install() -> None:
        count = iter(range(1 << 30))

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                if next(count) == moment:
                    os.kill(os.getpid(), by)
                return real(*given, **named)

            return call

        for name in calls:
            setattr(os, name, wrapped(getattr(os, name)))

    return install


def counting(calls: Sequence[str], path: Path, modules: Path) -> Callable[[], None]:
    """Makes a process write down each of these calls, and what it imports."""

    def install() -> None:
        file, known, end = (
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            {*sys.modules},
            os._exit,
        )

        def leave(code: int) -> None:
            modules.write_text("\n".join(name for name in sys.modules if name not in known))
            end(code)

        os._exit = leave  # type: ignore[assignment]

        def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                os.write(file, f"{name}\n".encode())
                return real(*given, **named)

            return call

        for name in calls:
            setattr(os, name, wrapped(name, getattr(os, name)))

    return install


# --- what is left ----------------------------------------------------------------------------------------------------


def damage(folder: Path) -> list[str]:
    """What is not whole of the files in a folder, where unfinished ones do not count."""
    from counterpoint.data import load as load_data
    from counterpoint.methods import load
    from counterpoint.training.history import read_rows
    from counterpoint.training.run_folder import RunFolder

    found = []

    def tried(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            found.append(f"{what}: {type(error).__name__}: {error}")

    for path in sorted(folder.rglob("*")):
        name = path.name
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if name == "config.json":
            tried(f"{path} opens", lambda path=path: load(path.parent))
        elif name == "afterwards.json":
            tried(f"{path} is read", lambda path=path: RunFolder(path.parent).additions())
        elif name == "metrics.csv":
            tried(f"{path} is read", lambda path=path: read_rows(path))
        elif name == "manifest.json":
            tried(f"{path} opens", lambda path=path: load_data(path.parent, verify=True))
        elif name.endswith(".json"):
            tried(f"{path} is JSON", lambda path=path: json.loads(path.read_text()))
        elif name.endswith(".ckpt"):
            tried(f"{path} is read", lambda path=path: torch.load(path, weights_only=True))
        elif name == "report.html" and not path.read_text().rstrip().endswith("</html>"):
            found.append(f"{path} is cut off")
    return found


def recorded(folder: Path) -> list[str]:
    """A record of additions that is not that of the model."""
    from counterpoint.methods import load
    from counterpoint.training.run_folder import RunFolder

    run = folder / "run"
    if not (run / "model" / "config.json").exists():
        return []
    try:
        model, said = load(run), RunFolder(run).additions()
    except (ValueError, OSError):
        return []  # which damage says
    kinds = {words[words.index("--kind") + 1] for words in said if words[0] == "fit-prior"}
    wrong = []
    if kinds != {*model.priors} - {"standard"} and said:
        wrong.append(f"priors {model.priors} are recorded as {kinds}")
    if any(words[0] == "fit-refiner" for words in said) and model.model.refiner is None:
        wrong.append("a refiner is recorded that is not there")
    if any(words[0] == "fit-decoder" for words in said) and not model.model.additions:
        wrong.append("a decoder is recorded that is not there")
    return wrong


def content(path: Path) -> Any:
    """What of a file must be the same in two runs."""
    if path.name == "metrics.csv":
        with path.open(newline="") as file:
            return [
                {k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)
            ]
    if path.name == "trials.csv":
        with path.open(newline="") as file:
            return [
                {k: v for k, v in row.items() if k not in ("seconds", "trial")}
                for row in csv.DictReader(file)
                if row["state"] != "interrupted"
            ]
    if path.suffix == ".ckpt":
        return sorted(
            (key, value.numpy().tobytes())
            for key, value in torch.load(path, weights_only=True)["state_dict"].items()
        )
    if path.name.startswith("evaluation") or path.parent.name == "evaluations":
        return json.loads(path.read_text())["metrics"]
    if path.suffix == ".json":
        return CLOCKS.sub("", path.read_text())
    if path.name == "best.yaml":
        return path.read_text().partition("\n")[2]
    return path.read_bytes()


def finals(folder: Path) -> dict[str, Any]:
    """By name, what must be the same in two runs; of trials of a search, those that
    count."""
    skip = {"report.html", "sweep.png", "study.db", "afterwards.json", "trials"}
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not skip.intersection(path.parts) and not name.endswith(".lock"):
            found[name] = content(path)
    for path in (folder / "run").glob("trials/*/model/model.safetensors"):
        found.setdefault("models of trials", set()).add(path.read_bytes())
    return found


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    wrong = [
        f"{name} is {'missing' if name in wanted else 'left over'}"
        for name in sorted(found.keys() ^ wanted.keys())
    ]
    return wrong + [
        f"{name} is another"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]


# --- trials ----------------------------------------------------------------------------------------------------------


def begun(command: Command, place: Path) -> tuple[Path, dict[str, Any], int, float]:
    """What is there when the command starts, what is there when nothing kills it, its
    moments and its time."""
    start, whole, log = place / "start", place / "whole", place / "log"
    start.mkdir(parents=True)
    for words in command.before:
        if (code := ended(forked(words, start, log))) != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {code}: {log.read_text()[-2000:]}")
    shutil.copytree(start, whole)
    counted, modules, began = place / "counted", place / "modules", time.monotonic()
    if (
        code := ended(forked(command.words, whole, log, counting(command.calls, counted, modules)))
    ) != 0:
        raise RuntimeError(
            f"{' '.join(command.words)} ended with {code}: {log.read_text()[-2000:]}"
        )
    seconds = time.monotonic() - began
    for name in modules.read_text().split():  # so that the next processes start with them
        with suppress(ImportError):
            import_module(name)
    gc.freeze()
    return start, finals(whole), len(counted.read_text().split()), seconds


def trial(
    command: Command,
    start: Path,
    wanted: dict[str, Any],
    place: Path,
    by: int,
    moment: int | None,
    after: float,
) -> tuple[bool, list[str]]:
    """Kill the command once, and let it go on: whether the signal came in time, and
    what was wrong."""
    work, log = place / "work", place / "trial.log"
    for left in (work, log):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    shutil.copytree(start, work)
    if moment is None:
        code = ended(forked(command.words, work, log), after, by)
    else:
        code = ended(forked(command.words, work, log, striking(command.calls, moment, by)))
    wrong = [] if code in (0, -by, 128 + by) else [f"killed by {by}, it ended with {code}"]
    wrong += damage(work) + recorded(work)
    words = command.again(work) or command.words
    if (code != 0 or command.name.startswith("fit")) and (
        other := ended(forked(words, work, log))
    ) != 0:
        already = (
            command.name.startswith("data") and "exists already" in log.read_text()
        )  # killed when all was done
        wrong += [] if already else [f"{' '.join(words[:3])} ended with {other}"]
    if "Traceback" in log.read_text():
        wrong.append("a traceback")
    wrong += differences(finals(work), wanted)
    if wrong:
        wrong.append(log.read_text()[-600:])
    return code != 0, wrong


def campaign(command: Command, place: Path, random_trials: int, moments: int, seed: int) -> Result:
    """All trials of a command."""
    result, draw = Result(command.name), random.Random(f"{seed}-{command.name}")
    start, wanted, result.moments, result.seconds = begun(command, place)
    chosen = (
        range(result.moments)
        if not moments or moments >= result.moments
        else sorted(draw.sample(range(result.moments), moments))
    )
    plan: list[tuple[int, int | None, float]] = [
        (SIGNALS[(i + i // 3) % 3], m, 0.0) for i, m in enumerate(chosen)
    ]
    plan += [
        (SIGNALS[i % 3], None, result.seconds * (i + draw.random()) / random_trials)
        for i in range(random_trials)
    ]
    for by, moment, after in plan:
        name = signal.Signals(by).name
        struck, wrong = trial(command, start, wanted, place, by, moment, after)
        result.trials[name] += 1
        result.struck += struck
        if wrong:
            when = f"moment {moment}" if moment is not None else f"{after:.2f} s"
            result.failures.append(f"{name} at {when}: {'; '.join(wrong)}")
            print(f"  {command.name}, {result.failures[-1]}", flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of the trials; a temporary one by default"
    )
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--random", type=int, default=21, help="random moments of each command")
    parser.add_argument("--moments", type=int, default=0, help="of each command, 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    chosen = [command for command in commands() if not wanted.only or command.name in wanted.only]
    warm(chosen)
    folder = (wanted.folder or Path(tempfile.mkdtemp(prefix="crashes-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    began = time.monotonic()
    for command in chosen:
        place = folder / command.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        make_data(place / "data")
        if command.name == "data-latents":
            make_autoencoder(place / "data" / "autoencoder")
        results.append(campaign(command, place, wanted.random, wanted.moments, wanted.seed))
        last = results[-1]
        tried = sum(last.trials.values())
        print(
            f"{last.name:16} {tried:4} trials, {last.moments} moments, {last.struck} killed, {len(last.failures)} failed",
            flush=True,
        )
        if wanted.json:
            write_results(wanted.json, results, time.monotonic() - began, wanted)
        shutil.rmtree(place, ignore_errors=not last.failures)
    failed = sum(len(result.failures) for result in results)
    print(
        f"{failed} failures of {sum(sum(r.trials.values()) for r in results)} in {time.monotonic() - began:.0f} s"
    )
    return int(failed > 0)


def warm(chosen: Sequence[Command]) -> None:
    """Import what commands import, so that their processes start with it."""
    torch.set_num_threads(1)
    usual = (
        "pytorch_lightning",
        "counterpoint.cli.settings",
        "counterpoint.training.run",
        "counterpoint.report.html",
    )
    for name in dict.fromkeys(
        [*usual, *(module for command in chosen for module in command.needs)]
    ):
        import_module(name)


def write_results(
    path: Path, results: Sequence[Result], seconds: float, wanted: argparse.Namespace
) -> None:
    rows = [{**vars(r), "seconds": round(r.seconds, 2), "trials": dict(r.trials)} for r in results]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    total = {
        "trials": sum(sum(r.trials.values()) for r in results),
        "killed": sum(r.struck for r in results),
        "failed": sum(len(r.failures) for r in results),
        "seconds": round(seconds),
    }
    command = f"python benchmarks/crashes.py --random {wanted.random} --moments {wanted.moments} --seed {wanted.seed}"
    path.write_text(
        json.dumps(
            {"command": command, "commit": commit, "total": total, "commands": rows}, indent=1
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
