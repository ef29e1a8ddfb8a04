"""What people bring that nobody foresaw: hundreds of calls and command lines with
values of the wrong kind, size or content.

Each either works, and then gives finite values, or is refused by one error whose
message has at most three lines and names what was wrong. Nothing ends in a traceback.
"""

from __future__ import annotations

import copy
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from inspect import signature
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.training import FitOptions, NonFiniteLoss

MODALITIES = (
    Modality("image", (1, 8, 8), "laplace"),
    Modality("words", (3,), "categorical", classes=5),
    Modality("rna", (4,), "nb"),
)
NAMES = [m.name for m in MODALITIES]
OTHERS = (Modality("image", (1, 8, 8), "laplace"), Modality("sound", (7,), "normal"))
SMALL = cp.NetworkOptions(width=4, hidden=(8,))
ROWS = 3
EXAMPLES = 500
quiet = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """Warnings are allowed: what is asked for is odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def model(name: str) -> cp.Method:
    torch.manual_seed(0)
    options: dict[str, Any] = (
        {"private_dim": 2} if name != "jnf" else {"hmc": cp.HMC(warmup=2, steps=4, leapfrogs=2)}
    )
    return cp.METHODS[name](MODALITIES, shared_dim=2, networks=SMALL, **options).eval()  # type: ignore[call-arg]


@cache
def values(
    modalities: tuple[Modality, ...] = MODALITIES, rows: int = ROWS
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = {
        "categorical": lambda shape: rng.integers(0, 5, shape),
        "nb": lambda shape: rng.poisson(3.0, shape),
    }
    return {
        m.name: kinds.get(m.likelihood, lambda shape: rng.random(shape, dtype=np.float32))(
            (rows, *m.shape)
        )
        for m in modalities
    }


def batch(modalities: tuple[Modality, ...] = MODALITIES) -> Batch:
    return Batch.of(values(modalities), modalities=modalities)


@cache
def latents() -> Latents:
    return model("mmvae+").encode(batch())


@cache
def split(rows: int = 8) -> cp.data.Split:
    return cp.data.load(values(rows=30), modalities=MODALITIES).train.take(np.arange(rows))


# ------------------------------------------------------------------------------------------------ the odd values

SCALARS: tuple[Any, ...] = (
    None, True, 0, 1, 2, -1, -(10**9), 10**30, 2.5, 3.0, math.nan, math.inf, -math.inf, 1e300, 1e-300, 1j,
    "", " ", "image", "nope", "auto", "é\n\x00", "1", b"image",
    np.int64(2), np.int8(-3), np.float32(1.5), np.float64("nan"), np.bool_(True), np.array(2), np.str_("image"),
)  # fmt: skip
CONTAINERS: tuple[Any, ...] = (
    [], (), {}, set(), ["image"], ["nope"], [None], [["image"]], ["image", "image"], {"image": 1}, {"nope": None}, {0: 0}, {"image"},
    [1, 2], [math.nan], object(), print, int, Modality("image", (2,)), SMALL, range(2), Path("nope"),
)  # fmt: skip
ARRAYS: tuple[Any, ...] = (
    np.zeros(0), np.zeros((0, 4)), np.ones(3), np.full(3, math.nan), np.array(["a", "b", "c"]), np.array([None, 1, 2], object),
    np.ones((3, 1, 8, 8)), np.full((3, 1, 8, 8), math.inf, np.float32), np.ones((3, 8, 8, 1)), np.ones((3, 4), complex),
    np.ones((3, 4), np.uint64) * 2**63, np.ones((3, 3), np.int64), np.full((3, 3), 99), -np.ones((3, 4)), np.ones((2, 4)),
    torch.zeros(3), torch.tensor(1.0), torch.full((3,), math.nan), torch.ones(3, 4, device="meta"), torch.ones(3, 4, dtype=torch.bfloat16),
    torch.ones(3, 4, requires_grad=True), torch.zeros(3, dtype=torch.bool), torch.ones(3, 4).to_sparse(), np.datetime64("2020-01-01"),
)  # fmt: skip
ODD = st.sampled_from(range(len(SCALARS) + len(CONTAINERS) + len(ARRAYS))).map(
    [*SCALARS, *CONTAINERS, *ARRAYS].__getitem__
)


def whole(name: str) -> Any:
    """Batches that are not what the model was made for."""
    made = {
        "another": batch(OTHERS),
        "rows": batch()[:0],
        "bits": Batch(
            {k: v.double() if v.is_floating_point() else v for k, v in batch().x.items()},
            batch().present,
        ),
        "mapping": {"image": values()["image"], "rna": np.full((ROWS, 4), math.nan)},
        "empty": {},
        "uneven": {"image": values()["image"], "rna": values()["rna"][:1]},
    }
    return made[name]


BATCHES = st.sampled_from(["another", "rows", "bits", "mapping", "empty", "uneven"]).map(whole)


def strange(name: str) -> Latents:
    """Latents that are not the model's."""
    z, w = latents().shared, latents().private
    made = {
        "wide": Latents(torch.zeros(1, ROWS, 9), w),
        "flat": Latents(z[0], w),
        "rows": Latents(z[:, :1], w),
        "none": Latents(z[:, :0], {name: v[:, :0] for name, v in w.items()}),
        "other": Latents(z, {"sound": z}),
        "text": Latents("z", {}),  # type: ignore[arg-type]
    }
    return made[name]


LATENTS = st.sampled_from(["wide", "flat", "rows", "none", "other", "text"]).map(strange)

QUESTIONS: dict[str, dict[str, Any]] = {
    "encode": {"x": None, "given": ["image"], "samples": 2, "rule": "own", "refine": None, "generator": None},
    "translate": {"x": None, "to": ["rna"], "n": 1, "prior": "auto", "rule": "own", "refine": None, "covariates": None, "generator": None},
    "impute": {"x": None, "given": ["image"], "to": ["rna"], "n": 19, "level": 0.9, "samples": False, "prior": "auto", "rule": "own",
               "refine": None, "covariates": None, "totals": None, "generator": None, "progress": None},
    "sample": {"n": 2, "prior": "auto", "covariates": None, "generator": None},
    "reconstruct": {"x": None, "generator": None},
    "recombine": {"shared": None, "private": None, "generator": None},
    "log_likelihood": {"x": None, "samples": 2, "refine": None, "generator": None},
    "divergence": {"x": None, "given": ["image"], "samples": 2, "rule": "own", "generator": None},
    "diagnose": {"x": None, "given": ["image"], "rule": "own", "generator": None},
    "refine": {"x": None, "given": ["image"], "steps": 1, "by": "gradient", "lr": 0.03, "samples": 1, "generator": None},
    "decode": {"latents": None, "to": ["rna"], "covariates": None, "generator": None},
}  # fmt: skip


def tensors(answer: object) -> Iterator[Tensor]:
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, dict | tuple | list):
        for value in answer.values() if isinstance(answer, dict) else answer:
            yield from tensors(value)
    elif hasattr(answer, "__dict__"):
        yield from tensors(vars(answer))


def survives(call: Callable[[], object], odd: dict[str, Any]) -> None:
    """Finite values, or an error of the kinds that users get, which names what was odd."""
    try:
        answer = call()
    except NonFiniteLoss:
        return
    except (ValueError, TypeError, OSError) as error:
        said = str(error)
        assert 0 < len(said.splitlines()) <= 3 and len(said) < 1500, said
        assert any(named(name, value, said) for name, value in odd.items()), (
            f"{odd} is not named in: {said}"
        )
        return
    for values in tensors(answer):
        assert not values.is_floating_point() or bool(torch.isfinite(values).all()), (
            f"{odd} gave what is not finite"
        )


def named(name: str, value: object, said: str) -> bool:
    """Whether a message speaks of an argument: by its name, its value, or what the
    value holds."""
    parts = [*value] if isinstance(value, dict | list | tuple | set) else [value]
    words = {
        "x": "modalit",
        "shared": "modalit",
        "private": "modalit",
        "latents": "latent",
        "n": "draws",
    }
    texts = [
        name,
        repr(value),
        str(value),
        *map(repr, parts),
        *map(str, (p for p in parts if isinstance(p, str | int | float))),
        words.get(name, name),
    ]
    return any(text and text in said for text in texts) or "row" in said


@quiet
@given(st.data())
def test_no_question_ends_in_a_traceback(data: st.DataObject) -> None:
    verb = data.draw(st.sampled_from([*QUESTIONS]))
    name = (
        data.draw(st.sampled_from(["mmvae+", "mmvae+", "jnf"]))
        if verb not in ("recombine", "decode", "refine")
        else "mmvae+"
    )
    asked = {
        key: batch() if key in ("x", "shared", "private") else latents() if key == "latents" else v
        for key, v in QUESTIONS[verb].items()
    }
    keys = data.draw(st.lists(st.sampled_from([*asked]), min_size=1, max_size=2, unique=True))
    odd = {
        key: data.draw(
            BATCHES | ODD
            if isinstance(asked[key], Batch)
            else LATENTS | ODD
            if key == "latents"
            else ODD
        )
        for key in keys
    }
    survives(lambda: getattr(model(name), verb)(**{**asked, **odd}), odd)


def keywords(of: Callable[..., Any], *skipped: str) -> list[str]:
    return [name for name in signature(of).parameters if name not in skipped]


def loaded(**options: Any) -> object:
    """A data set of arrays with options, or of the odd source itself."""
    source = options.pop("source", values(rows=12))
    return cp.data.load(source, **{"modalities": MODALITIES, **options}).train.x


MAKERS: dict[str, tuple[Callable[..., object], list[str]]] = {
    **{
        name: (lambda kind=kind, **o: kind.for_data(SHAPES, **{"shared_dim": 2, "networks": SMALL, **o}), keywords(kind, "modalities"))  # type: ignore[misc]
        for name, kind in cp.METHODS.items()
    },
    **{kind.__name__: (kind, keywords(kind)) for kind in (cp.NetworkOptions, cp.FlowOptions, cp.HMC, cp.DenoiserOptions, cp.RefinerOptions, FitOptions)},
    "fit_prior": (lambda **o: fitted("fit_prior", **o), ["kind", "size", "fit_to", "steps", "batch_size", "lr", "seed", "train"]),
    "fit_refiner": (lambda **o: fitted("fit_refiner", **o), ["refiner", "beta", "steps", "batch_size", "lr", "seed", "train"]),
    "data.load": (loaded, keywords(cp.data.load)),
    "load": (cp.load, ["folder"]),
}  # fmt: skip
SHAPES = SimpleNamespace(modalities=MODALITIES)
"""All that a method asks of a data set."""


def fitted(verb: str, **options: Any) -> None:
    usual = {"train": split(), "steps": 1, "batch_size": 2, "progress": False}
    getattr(copy.deepcopy(model("mmvae+")), verb)(**{**usual, **options})


@quiet
@given(st.data())
def test_nothing_is_made_of_odd_options(data: st.DataObject) -> None:
    maker = data.draw(st.sampled_from([*MAKERS]))
    make, names = MAKERS[maker]
    odd = {
        name: data.draw(ODD)
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    }
    survives(lambda: make(**odd), odd)


# --------------------------------------------------------------------------------------------- command lines


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run, its data, and files of every wrong kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "data").mkdir()
    for name, array in values(rows=30).items():
        np.save(folder / "data" / f"{name}.npy", array)
    quick = [
        "--max_steps=1",
        "--batch_size=4",
        "--progress=false",
        "--loggers=[]",
        "--networks.width=4",
        "--networks.hidden=[8]",
    ]
    quick += ["--shared_dim=2", "--private_dim=2"]
    with redirect_stdout(StringIO()):
        assert (
            main(
                [
                    "fit",
                    "mmvae+",
                    "--data",
                    str(folder / "data"),
                    "--out",
                    str(folder / "run"),
                    *quick,
                ]
            )
            == 0
        )
    rng = np.random.default_rng(0)
    for name in ("config.yaml", "model/config.json", "model/model.safetensors", "metrics.csv"):
        content = (folder / "run" / name).read_bytes()
        flipped = bytearray(content)
        flipped[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        for kind, damaged in {
            "short": content[: len(content) // 2],
            "empty": b"",
            "bits": bytes(flipped),
            "noise": rng.bytes(500),
        }.items():
            copied = folder / f"{kind}-{name.replace('/', '-')}"
            shutil.copytree(folder / "run", copied)
            (copied / name).write_bytes(damaged)
    odd = {
        "twice.yaml": "fit: {lr: 0.1}\nfit: {seed: 1}\n",
        "deep.yaml": "[" * 5000,
        "alias.yaml": "a: &a [x, x]\n"
        + "".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
            for a, b in pairwise("abcdefghij")
        ),
        "loop.yaml": "&a {fit: *a}",
        "class.yaml": "fit: {trainer: {plugins: [{class_path: os.system}]}}",
        "list.yaml": "- 1\n- 2\n",
        "text.yaml": "hello",
        "tag.yaml": "!!python/object/apply:os.system ['true']",
        "null.yaml": "fit:\nmodel:\nmethod:\ndata: [1]\n",
        "numbers.json": "[[1, 2, 3, 4]]",
        "deep.json": "[" * 100_000,
        "words.csv": "a,b\n1\n",
        "empty.npy": "",
        "text.txt": "hello world\n",
        "picture.png": "no picture",
    }
    for name, text in odd.items():
        (folder / name).write_text(text)
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(folder / "image.npy", values()["image"])
    (folder / "bare").mkdir()
    return folder


VERBS: dict[str, list[str]] = {
    "sample": ["--n", "--out", "--prior", "--covariates", "--autoencoder", "--guidance", "--solver_steps", "--seed"],
    "translate": ["--given", "--to", "--n", "--out", "--prior", "--rule", "--refine", "--covariates", "--autoencoder", "--seed"],
    "impute": ["--given", "--split", "--to", "--out", "--n", "--level", "--samples", "--prior", "--rule", "--refine", "--covariates"],
    "fit-prior": ["--kind", "--size", "--fit_to", "--steps", "--batch_size", "--lr", "--seed"],
    "fit-decoder": ["--denoiser.modalities", "--denoiser.width", "--denoiser", "--fit.max_epochs", "--resume"],
    "fit-refiner": ["--refiner", "--refiner.steps", "--beta", "--steps", "--batch_size", "--lr", "--seed"],
    "annotate": ["--out", "--seed"],
    "report": ["--out", "--maps", "--seed"],
    "evaluate": ["--only", "--json", "--guidance", "--seed", "--feature_extractors", "--split"],
    "fit": ["--data", "--out", "--config", "--resume", "--overwrite", "--max_steps", "--max_epochs", "--max_time", "--lr", "--clip", "--ema_decay", "--seed",
            "--batch_size", "--shared_dim", "--networks", "--networks.hidden", "--fit", "--fit.trainer", "--fit.trainer.callbacks", "--fit.stages",
            "--fit.stages.a.b", "--precision", "--devices", "--accelerator", "--strategy", "--data.seed", "--data.modalities", "--missing", "--keep",
            "--method"],
    "tune": ["--search", "--data", "--out", "--config", "--metric", "--trials", "--storage", "--direction"],
    "sweep": ["--methods", "--data", "--out", "--config", "--rates", "--seeds", "--how"],
    "data": ["--root", "--out", "--size", "--views", "--autoencoder", "--modality", "--columns"],
}  # fmt: skip
WORDS = ("", " ", "-1", "0", "2", "2.5", "nan", "inf", "1e400", "99999999999999999999999", "true", "null", "[]", "{}", "[1", "{a: 1}", "[a, b]",
         "[nan, null]", "nope", "image", "idmvae", "mmvae+", "gmm", "é\u2028", "\x00", "--", "-", "..", "/", "~", "*", "%s", "a=b", "image=",
         "=image",
         "[[[[]]]]", "{class_path: os.system}", "!!python/name:os.system ''", "&a [*a]", "x" * 3000, "1_000", "0x10", "'", "\"", ":", "test")  # fmt: skip


def texts(place: Path) -> list[str]:
    files = [str(p) for p in sorted(place.iterdir())]
    return [*WORDS, *files, *(f"image={file}" for file in files)]


@pytest.fixture
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``place``, from an empty folder in it."""
    monkeypatch.chdir(place / "bare")
    return place


QUICK = {
    "fit": [
        "mmvae+",
        "--max_steps=1",
        "--batch_size=4",
        "--progress=false",
        "--loggers=[]",
        "--networks.width=4",
        "--networks.hidden=[8]",
    ],
    "tune": ["mmvae+", "--max_steps=1", "--trials=1"],
    "sweep": ["--max_steps=1"],
    "fit-prior": ["--steps=1", "--size=4", "--batch_size=2"],
    "fit-refiner": ["--steps=1", "--batch_size=2"],
    "fit-decoder": [
        "--fit.max_steps=1",
        "--fit.batch_size=4",
        "--denoiser.width=8",
        "--fit.progress=false",
    ],
}
"""What keeps a command short where nothing else is wrong with it."""


def command_line(draw: Callable[[Any], Any], folder: Path) -> list[str]:
    """A verb, a run, and flags with odd values. What measures runs would take long on a
    good one, and gets none."""
    words = texts(folder)
    verb = draw(st.sampled_from([*VERBS]))
    run = draw(
        st.sampled_from(
            WORDS if verb in ("evaluate", "report") else [str(folder / "run")] * len(words) + words
        )
    )
    made = draw(st.sampled_from(["list", "prepare", "index", "pack", "latents", "nope"]))
    line = [
        verb,
        *{"fit": [], "tune": [], "sweep": [], "data": [made, run]}.get(verb, [run]),
        *QUICK.get(verb, []),
    ]
    for flag in draw(st.lists(st.sampled_from(VERBS[verb]), max_size=3)):
        value = draw(st.sampled_from(words))
        line += draw(st.sampled_from([[flag, value], [f"{flag}={value}"], [flag]]))
    return line + draw(st.lists(st.sampled_from(["--nope", "-x", "--n", *words]), max_size=1))


@quiet
@given(st.data())
def test_no_command_line_ends_in_a_traceback(inside: Path, data: st.DataObject) -> None:
    """Code 0, or 2 after one line."""
    answered(command_line(data.draw, inside))


def answered(line: list[str]) -> tuple[int, str]:
    """The code and the message of a command line."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(line)
    said = [
        text
        for text in err.getvalue().splitlines()
        if text.startswith("counterpoint: ") and not text.startswith("counterpoint: warning: ")
    ]
    assert code in (0, 2), (line, err.getvalue(), traceback_of(err.getvalue()))
    assert code == 0 or len(said) == 1, (line, err.getvalue())
    return code, err.getvalue()


def traceback_of(said: str) -> str:
    kept = said.rpartition("report it with ")[2].strip()
    return Path(kept).read_text() if kept and Path(kept).is_file() else ""
