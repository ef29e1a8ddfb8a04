"""Values in every form that people bring, and what becomes of them: right, refused in
one line, wrong in silence, or a traceback.

    python benchmarks/inputs.py --count 600 --out inputs.json

Each trial takes known values of one modality, brings them in a random form (dtype,
container, order of axes, rows or columns) that does not change what they mean, or
changes what they mean (another scale, another order without names, masks that are
none), and asks a model for z, or loads them.

    same meaning       right: z, or the values of the data set, agree to 1e-4 with those of the plain form;  or refused
    another meaning    refused, or a warning names it;  wrong in silence otherwise
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

import counterpoint as cp

ROWS, GENES = 24, tuple(f"g{i}" for i in range(6))
Change = Callable[[np.ndarray, np.random.Generator], Any]


def plain(kind: str, rng: np.random.Generator) -> np.ndarray:
    """The known values."""
    return {
        "image": lambda: rng.integers(0, 256, (ROWS, 3, 8, 6), dtype=np.uint8),
        "grey": lambda: rng.integers(0, 256, (ROWS, 1, 8, 6), dtype=np.uint8),
        "vector": lambda: rng.integers(-9, 9, (ROWS, 6)).astype(np.float32),
        "counts": lambda: rng.poisson(3.0, (ROWS, 6)).astype(np.int16) + 1,
        "flags": lambda: rng.random((ROWS, 6)) < 0.5,
    }[kind]()


def frame(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=GENES, index=[f"r{i}" for i in range(len(x))])


def duplicated(x: np.ndarray) -> sparse.coo_matrix:
    """Each entry as the sum of two that stand in the same place, in one byte each."""
    rows, columns = np.indices(x.shape).reshape(2, -1)
    half = (x // 2).astype(np.uint8).ravel()
    rest = (x - x // 2).astype(np.uint8).ravel()
    return sparse.coo_matrix(
        (np.concatenate([half, rest]), (np.tile(rows, 2), np.tile(columns, 2))), shape=x.shape
    )


IMAGES: dict[str, Change] = {
    "int64": lambda x, _: x.astype(np.int64),
    "int32 tensor": lambda x, _: torch.from_numpy(x.astype(np.int32)),
    "uint16": lambda x, _: x.astype(np.uint16),
    "float32 / 255": lambda x, _: x.astype(np.float32) / 255,
    "float64 / 255": lambda x, _: x / 255,
    "big-endian float / 255": lambda x, _: (x / 255).astype(">f4"),
    "channels last": lambda x, _: x.transpose(0, 2, 3, 1),
    "channels last float": lambda x, _: (x / 255).transpose(0, 2, 3, 1).astype(np.float32),
    "Fortran order": lambda x, _: np.asfortranarray(x),
    "reversed strides": lambda x, _: np.ascontiguousarray(x[::-1])[::-1],
    "list": lambda x, _: [row for row in x],
    "read-only": lambda x, _: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape),
    "masked array, nothing masked": lambda x, _: np.ma.masked_array(x, False),
}
NUMBERS: dict[str, Change] = {
    "int64": lambda x, _: x.astype(np.int64),
    "int8": lambda x, _: x.astype(np.int8),
    "float64": lambda x, _: x.astype(np.float64),
    "float16": lambda x, _: x.astype(np.float16),
    "big-endian": lambda x, _: x.astype(">f8"),
    "big-endian int": lambda x, _: x.astype(">i4"),
    "lists": lambda x, _: x.tolist(),
    "objects": lambda x, _: x.astype(object),
    "bfloat16 tensor": lambda x, _: torch.from_numpy(x.astype(np.float32)).bfloat16(),
    "tensor": lambda x, _: torch.from_numpy(x.astype(np.float32)),
    "CSR": lambda x, _: sparse.csr_matrix(x),
    "COO array": lambda x, _: sparse.coo_array(x),
    "table": lambda x, _: frame(x),
    "table of nullable integers": lambda x, _: frame(x.astype(np.int64)).astype("Int64"),
    "table, columns in another order": lambda x, rng: frame(x)[list(rng.permutation(GENES))],
    "table with more columns": lambda x, _: frame(x).assign(more=1),
    "masked array, nothing masked": lambda x, _: np.ma.masked_array(x, False),
    "reversed strides": lambda x, _: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "Fortran order": lambda x, _: np.asfortranarray(x),
}
SAME: dict[str, dict[str, Change]] = {
    "image": IMAGES,
    "grey": {
        **IMAGES,
        "no axis of channels": lambda x, _: x[:, 0],
        "no axis of channels, float": lambda x, _: x[:, 0] / 255,
    },
    "vector": {**NUMBERS, "uint8": lambda x, _: x.astype(np.int64).astype(np.float64)},
    "counts": {
        **NUMBERS,
        "uint8": lambda x, _: x.astype(np.uint8),
        "sparse, entries twice": lambda x, _: duplicated(x),
    },
    "flags": {
        "uint8": lambda x, _: x.astype(np.uint8),
        "int64": lambda x, _: x.astype(np.int64),
        "float": lambda x, _: x.astype(np.float32),
        "table": lambda x, _: frame(x),
        "tensor": lambda x, _: torch.from_numpy(x),
        "objects": lambda x, _: x.astype(object),
    },
}
OTHER: dict[str, dict[str, Change]] = {
    "image": {
        "float 0..255": lambda x, _: x.astype(np.float32),
        "-300": lambda x, _: np.full(x.shape, -300.0),
        "standardised": lambda x, rng: rng.normal(size=x.shape),
        "16 bits": lambda x, _: x.astype(np.int64) * 257,
        "another size": lambda x, _: x[:, :, :5],
        "NaN": lambda x, _: np.where(x > 200, np.nan, x / 255),
    },
    "vector": {
        "a hundred times": lambda x, _: x * 100,
        "as pixels": lambda x, _: (x * 0 + 200).astype(np.uint8),
        "other names": lambda x, _: frame(x).rename(columns=lambda c: f"x{c}"),
        "one column less": lambda x, _: frame(x).drop(columns="g2"),
        "a column twice": lambda x, _: pd.concat([frame(x), frame(x)[["g0"]]], axis=1),
        "masked": lambda x, _: np.ma.masked_array(x, x > 4),
        "text": lambda x, _: x.astype(str),
        "complex": lambda x, _: x + 1j,
        "2^63": lambda x, _: np.full(x.shape, 2**63 + 5, np.uint64),
        "dates": lambda x, _: x.astype("datetime64[D]"),
    },
    "counts": {
        "logarithms": lambda x, _: np.log1p(x),
        "negative": lambda x, _: -x,
        "fractions": lambda x, _: x / 3,
    },
    "flags": {"twos": lambda x, _: x.astype(np.int64) * 2, "halves": lambda x, _: x * 1.5},
}
MASKS: dict[str, Callable[[np.random.Generator], Any]] = {
    "text": lambda _: np.array(["no"] * ROWS),
    "NaN": lambda _: np.array([1.0, np.nan] * (ROWS // 2)),
    "row numbers": lambda _: np.arange(ROWS),
    "None": lambda _: [True, None] * (ROWS // 2),
    "twos": lambda _: np.full(ROWS, 2),
}


def modality(kind: str) -> Any:
    if kind in ("image", "grey"):
        return cp.Modality("a", (3, 8, 6) if kind == "image" else (1, 8, 6))
    likelihood = {"vector": "normal", "counts": "nb", "flags": "bernoulli"}[kind]
    return cp.Modality("a", (6,), likelihood, None, features=GENES)


def asked(model: Any, value: Any) -> torch.Tensor:
    return model.encode({"a": value}).shared[0]


def verdict(call: Callable[[], Any], right: torch.Tensor | None) -> tuple[str, str]:
    """What became of a trial; ``right`` is what it should give, None where it must not
    pass in silence."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = call()
        except (ValueError, TypeError, OSError) as error:
            lines = str(error).splitlines()
            return (
                ("refused", str(error))
                if 0 < len(lines) <= 3
                else ("traceback", f"{type(error).__name__}: {lines[:1]}")
            )
        except Exception as error:  # what a benchmark of errors is there to count
            return "traceback", f"{type(error).__name__}: {str(error)[:120]}"
    told = [
        str(one.message)
        for one in said
        if issubclass(one.category, UserWarning) and "counterpoint" in (one.filename or "")
    ]
    if right is None:
        return ("warned", told[0]) if told else ("wrong in silence", "")
    same = found.shape == right.shape and torch.allclose(found, right, atol=1e-4, equal_nan=True)
    return ("right", "") if same else ("warned", told[0]) if told else ("wrong in silence", "")


def difference(order: np.ndarray) -> torch.Tensor:
    """How far twice the values of a table are from those of another, whose rows stand
    in another order, once both are loaded."""
    values = plain("vector", np.random.default_rng(1))
    data = cp.data.load({"a": frame(values), "b": (frame(values) * 2).iloc[order]})
    batch = data.train.batch(slice(None))
    return (batch.x["b"] - 2 * batch.x["a"]).abs().max()


def trial(models: dict[str, Any], rng: np.random.Generator) -> dict[str, str]:
    kind = str(rng.choice([*SAME]))
    base, model = plain(kind, np.random.default_rng(int(rng.integers(2**31)))), models[kind]
    draw = rng.random()
    if draw < 0.55:
        form = str(rng.choice([*SAME[kind]]))
        right, value = asked(model, base), SAME[kind][form](base, rng)
        result = verdict(lambda: asked(model, value), right)
        way = "encode, same meaning"
    elif draw < 0.8 and kind in OTHER:
        form = str(rng.choice([*OTHER[kind]]))
        value = OTHER[kind][form](base, rng)
        result, way = verdict(lambda: asked(model, value), None), "encode, another meaning"
    elif draw < 0.9:
        form = str(rng.choice([*MASKS]))
        result = verdict(lambda: cp.data.load({"a": base}, present={"a": MASKS[form](rng)}), None)
        way = "load, masks that are none"
    else:
        form, way = "tables of the same rows in another order", "load, tables"
        order = rng.permutation(ROWS)
        result = verdict(lambda: difference(order), torch.zeros(()))
    return {"way": way, "kind": kind, "form": form, "verdict": result[0], "said": result[1][:160]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("inputs.json"))
    wanted = parser.parse_args()
    rng = np.random.default_rng(wanted.seed)
    torch.manual_seed(0)
    models = {}
    for kind in SAME:
        model = cp.MVAE(
            [modality(kind)], shared_dim=3, networks=cp.NetworkOptions(hidden=(16,), width=4)
        )
        values = plain(kind, np.random.default_rng(9))
        data = cp.data.load(
            {"a": values.astype(np.uint8) if kind == "flags" else values},
            modalities=[modality(kind)],
        )
        model.fit(data.train, max_steps=1, batch_size=8, progress=False)
        models[kind] = model.eval()
    trials = [trial(models, rng) for _ in range(wanted.count)]
    counts = {
        way: dict(Counter(t["verdict"] for t in trials if t["way"] == way))
        for way in sorted({t["way"] for t in trials})
    }
    bad = Counter(
        (t["kind"], t["form"], t["verdict"])
        for t in trials
        if t["verdict"] in ("wrong in silence", "traceback")
    )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(cp.__file__).parent,
        check=False,
    ).stdout.strip()
    record = {
        "command": " ".join(["python benchmarks/inputs.py", *sys.argv[1:]]),
        "commit": commit,
        "machine": platform.machine(),
        "counts": counts,
        "bad": [
            {"kind": k, "form": f, "verdict": v, "times": n} for (k, f, v), n in bad.most_common()
        ],
    }
    wanted.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(counts, indent=1))
    for entry in record["bad"]:
        print(entry)


if __name__ == "__main__":
    main()
