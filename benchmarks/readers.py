"""What readers make of whatever people bring: random containers, masks, shapes, images,
paths and damaged files, each of which has a known answer.

    python benchmarks/readers.py [--inputs 200] [--seed 0]

An input is *right* where the values that a model would see are those that were meant,
or where one line of at most three (ValueError, TypeError, OSError) refuses it; *said*
where a warning came with it. It is *wrong in silence* where other values come out and
nothing is said, and a *traceback* where anything else is raised.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from PIL import Image
from scipy import sparse

from counterpoint.data import Dataset, load, pack
from counterpoint.data.images import decode

ROWS = 24
Rng = np.random.Generator


def whole(data: Dataset, name: str) -> np.ndarray:
    return np.concatenate(
        [split.batch(slice(None)).x[name].numpy() for split in data.splits().values()]
    )


def by_id(data: Dataset, name: str) -> np.ndarray:
    """Values in the order of the modality ``id``, whose rows say their number."""
    order = np.argsort(whole(data, "id")[:, 0])
    here = np.concatenate([split.present[name] for split in data.splits().values()])
    return np.where(
        here.reshape(-1, *[1] * (whole(data, name).ndim - 1)), whole(data, name), np.nan
    )[order]


def stored(rng: Rng, values: np.ndarray) -> Any:
    """The same numbers in another dtype, order, memory layout or container."""
    dtype = rng.choice(["f4", ">f4", "f8", ">f8", "g"])
    values = values.astype(dtype)
    layout = rng.integers(4)
    if layout == 1:
        values = np.asfortranarray(values)
    if layout == 2:
        values = values[::-1].copy()[::-1]
    if layout == 3:
        values = np.repeat(values, 2, 1)[:, ::2]
    kind = rng.integers(9)
    native = values.astype("f4")
    return [
        lambda: values,
        lambda: values.tolist(),
        lambda: values.astype(object),
        lambda: torch.tensor(native, requires_grad=True),
        lambda: sparse.csr_matrix(native),
        lambda: sparse.coo_array(native),
        lambda: np.ma.array(values),
        lambda: pandas.DataFrame(native),
        lambda: pandas.DataFrame(native).astype("Float32"),
    ][kind]()


def containers(rng: Rng) -> None:
    values = rng.normal(size=(ROWS, 3)).astype(np.float32)
    data = load({"a": stored(rng, values), "id": np.arange(ROWS) / 10}, seed=int(rng.integers(99)))
    np.testing.assert_array_equal(by_id(data, "a"), values)


def tables(rng: Rng) -> None:
    """Tables of other orders and other rows; the answer by name."""
    values = rng.normal(size=(ROWS, 3)).astype(np.float32)
    names = np.array([f"s{i}" for i in rng.permutation(ROWS)])
    table = pandas.DataFrame(values, index=names, columns=[*"uvw"])
    rows = rng.permutation(ROWS)[: int(rng.integers(3, ROWS + 1))]
    kind = pandas.Series(np.arange(ROWS) % 3, index=names).sample(
        frac=1, random_state=int(rng.integers(99))
    )
    numbers = pandas.DataFrame({"n": np.arange(ROWS) / 10}, index=names)
    data = load(
        {"id": numbers, "a": table.iloc[rows]},
        labels={"k": kind.astype(rng.choice(["int64", "Int64", "float64", "category"]))},
    )
    found = by_id(data, "a")
    expected = np.full((ROWS, 3), np.nan, np.float32)
    expected[rows] = values[rows]
    np.testing.assert_array_equal(found, expected)
    labels = np.concatenate([split.shared_labels["k"] for split in data.splits().values()])
    np.testing.assert_array_equal(labels[np.argsort(whole(data, "id")[:, 0])], np.arange(ROWS) % 3)


def counts(rng: Rng) -> None:
    """Sparse counts, places of which repeat."""
    rows, columns = rng.integers(0, ROWS, 99), rng.integers(0, 4, 99)
    entries = rng.integers(1, 256, 99).astype(rng.choice(["u1", "i2", "u2", "i8"]))
    expected = np.zeros((ROWS, 4), np.int64)
    np.add.at(expected, (rows, columns), entries.astype(np.int64))
    made = sparse.coo_array((entries, (rows, columns)), shape=(ROWS, 4))
    data = load({"a": made, "id": np.arange(ROWS) / 10}, modalities=None)
    np.testing.assert_array_equal(by_id(data, "a"), expected)


def masks(rng: Rng) -> None:
    """Presence that is zeros and ones, and presence that is neither."""
    seen = rng.random(ROWS) < 0.5
    good = bool(rng.integers(2))
    given: Any = (
        [seen, seen.astype(int), seen.astype(float), seen.tolist(), torch.tensor(seen)][
            rng.integers(5)
        ]
        if good
        else [
            np.where(seen, "yes", "no"),
            np.where(seen, 1.0, np.nan),
            seen * 0.5,
            np.flatnonzero(seen),
            seen * 2,
            [None] * ROWS,
        ][rng.integers(6)]
    )
    data = load({"a": np.ones((ROWS, 2)), "id": np.arange(ROWS) / 10}, present={"a": given})
    if not good:
        raise AssertionError("a mask that is none was taken")
    np.testing.assert_array_equal(np.isnan(by_id(data, "a")[:, 0]), ~seen)


def layouts(rng: Rng) -> None:
    """Images with channels first or last, of any dtype; refused where a shape allows
    both."""
    channels, side = int(rng.choice([1, 3, 4])), int(rng.integers(5, 33))
    height = side if rng.integers(2) else side + 3
    pixels = rng.integers(0, 2, (ROWS, channels, height, side))
    last = pixels.transpose(0, 2, 3, 1)
    given = (last if rng.integers(2) else pixels).astype(
        rng.choice(["u1", "?", "f2", "f4", "f8", ">f4"])
    )
    data = load({"a": given, "id": np.arange(ROWS) / 10})
    np.testing.assert_array_equal(by_id(data, "a") > 0, pixels > 0)


def pictures(rng: Rng) -> None:
    """Images of any mode; brightness is what it was to one of 256."""
    ramp = rng.random((9, 9))
    grey = np.rint(ramp * 255).astype(np.uint8)
    deep = np.rint(ramp * 65535).astype(np.uint16)
    made = [
        (Image.fromarray(grey), "PNG"),
        (Image.fromarray(deep), "PNG"),
        (Image.fromarray(deep), "TIFF"),
        (Image.fromarray(ramp.astype(np.float32)), "TIFF"),
        (Image.fromarray(grey).convert("P"), "GIF"),
        (Image.fromarray(grey).convert("LA"), "PNG"),
        (Image.fromarray(grey).convert("RGBA"), "WEBP"),
        (Image.fromarray(grey).convert("CMYK"), "TIFF"),
    ][rng.integers(8)]
    content = io.BytesIO()
    made[0].save(content, made[1], **({"lossless": True} if made[1] == "WEBP" else {}))
    found = np.asarray(decode(content.getvalue(), "x", "L")).astype(int)
    if np.abs(found - grey).max() > 1:
        raise AssertionError("another image")


def paths(rng: Rng) -> None:
    """Names of files that leave the folder."""
    with tempfile.TemporaryDirectory() as place:
        folder, secret = Path(place) / "data", Path(place) / "secret.png"
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(secret)
        (folder / "link.png").symlink_to(secret)
        name = rng.choice(
            [
                str(secret),
                "../secret.png",
                "sub/../../secret.png",
                "link.png",
                "./../data/../secret.png",
            ]
        )
        (folder / "captions.jsonl").write_text(
            "".join(json.dumps({"file_name": n, "caption": "a"}) + "\n" for n in [name] * 1)
        )
        for i in range(6):
            Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
        load(folder, size=8, length=2, min_count=1)
        raise AssertionError("a file outside the folder was read")


def damage(rng: Rng) -> None:
    """Headers that claim more than there is, and a bit of a packed array that flipped."""
    with tempfile.TemporaryDirectory() as place:
        kind = rng.integers(3)
        shape = tuple(int(x) for x in 10 ** rng.integers(3, 12, 2))
        content = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            content, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        whole_file = content.getvalue() + bytes(64)
        if kind == 0:
            (Path(place) / "a.npy").write_bytes(whole_file)
            load(place)
        elif kind == 1:
            with zipfile.ZipFile(Path(place) / "a.npz", "w") as archive:
                archive.writestr("a.npy", whole_file)
            load(Path(place) / "a.npz")
        else:
            out = pack(
                load({"a": rng.normal(size=(ROWS, 3))}), Path(place) / "packed", progress=False
            )
            content_ = bytearray((out / "train" / "a.npy").read_bytes())
            content_[int(rng.integers(128, len(content_)))] ^= 1 << int(rng.integers(8))
            (out / "train" / "a.npy").write_bytes(content_)
            load(out)
        raise AssertionError("a damaged file was read")


CAMPAIGNS: dict[str, Callable[[Rng], None]] = {
    f.__name__: f for f in (containers, tables, counts, masks, layouts, pictures, paths, damage)
}


def verdict(campaign: Callable[[Rng], None], rng: Rng) -> str:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            campaign(rng)
        except AssertionError:
            return "said" if said else "wrong in silence"
        except (ValueError, TypeError, OSError) as error:
            return "refused" if str(error).count("\n") < 3 else "traceback"
        except Exception:
            return "traceback"
        return "right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200, help="of each campaign")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        "| campaign | inputs | right | refused in a line | said | wrong in silence | tracebacks |\n|---|---|---|---|---|---|---|"
    )
    for name, campaign in CAMPAIGNS.items():
        found = Counter(
            verdict(campaign, np.random.default_rng((options.seed, i)))
            for i in range(options.inputs)
        )
        print(
            f"| {name} | {options.inputs} | {' | '.join(str(found[v]) for v in ('right', 'refused', 'said', 'wrong in silence', 'traceback'))} |"
        )


if __name__ == "__main__":
    main()
