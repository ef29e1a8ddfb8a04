"""Streams: what shards hold, that each row comes exactly once however many processes
share them, and what is bad in them."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from processes import ENVIRONMENT, PATIENCE, Fork, finished, ranks, wait_for
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.data import Dataset, Index, Split, Stream, StreamLoader, Vocabulary, index, load
from counterpoint.data.images import middle
from counterpoint.data.streams import BadRow, Wanted, shards, stream
from counterpoint.data.streams.survey import survey
from counterpoint.training import FitOptions, fit
from counterpoint.training.history import History
from counterpoint.training.trainable import Trainable

QUIET: dict[str, Any] = {"progress": False, "loggers": (), "accelerator": "cpu"}


# --- shards to read --------------------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def pictures(count: int, side: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write_tar(path: Path, rows: Iterable[Mapping[str, bytes]], first: int = 0) -> Path:
    """A row a mapping of extensions to contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, row in enumerate(rows, first):
            for extension, content in row.items():
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: Mapping[str, Any], group: int = 4, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=group, **options)
    return path


def numbered(folder: Path, sizes: Iterable[int], group: int = 4) -> Path:
    """Parquet shards of so many rows each, whose only value is the number of the row."""
    first = 0
    for i, size in enumerate(sizes):
        write_parquet(
            folder / f"{i:03d}.parquet",
            {"row": np.arange(first, first + size, dtype=np.float32)},
            group,
        )
        first += size
    return folder


def whole(folder: Path, rows: int = 1000, **options: Any) -> Stream:
    """All rows but two as a stream whose blocks hold ``rows`` rows."""
    data = load(folder, fractions=(1 - 2e-6, 1e-6, 1e-6), **options)
    assert isinstance(data.train, Stream)
    return Blocks(**{f.name: getattr(data.train, f.name) for f in fields(Stream)}, size=rows)


class Blocks(Stream):
    """A stream whose blocks are counted in rows."""

    def __init__(self, size: int, **fields: Any) -> None:
        super().__init__(**fields)
        object.__setattr__(self, "size", size)

    @property
    def block_rows(self) -> int:
        return int(self.size)  # type: ignore[attr-defined]


def rows_of(batches: Iterable[cp.Batch]) -> list[list[int]]:
    return [batch.x["row"][:, 0].int().tolist() for batch in batches]


# --- what shards hold ------------------------------------------------------------------------------------------------


def test_hugging_face_parquet(tmp_path: Path) -> None:
    """Written by the library itself, with its features: images, absent ones, names of
    classes, lists and arrays."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    pixels, rng = pictures(9), np.random.default_rng(1)
    vectors, cubes = (
        rng.normal(size=(9, 5)).astype(np.float32),
        rng.integers(0, 256, (9, 3, 4, 4), dtype=np.uint8),
    )
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "vector": datasets.Sequence(datasets.Value("float32"), length=5),
            "loose": datasets.Sequence(datasets.Value("float64")),
            "cube": datasets.Array3D((3, 4, 4), "uint8"),
        }
    )
    table = {
        "image": [None if i == 4 else {"bytes": png(pixels[i]), "path": None} for i in range(9)],
        "caption": [None if i == 2 else f"picture number {i}" for i in range(9)],
        "label": [i % 2 for i in range(9)],
        "vector": [None if i == 3 else v.tolist() for i, v in enumerate(vectors)],
        "loose": [v[:4].tolist() for v in vectors],
        "cube": [c.tolist() for c in cubes],
    }
    written = datasets.Dataset.from_dict(table, features=features)
    for i in range(3):  # the names that the hub gives
        written.select(range(3 * i, 3 * i + 3)).to_parquet(
            tmp_path / "data" / f"{('train', 'validation', 'test')[i]}-00000-of-00001.parquet"
        )
    data = load(tmp_path, min_count=1, length=4)
    assert [(m.name, m.shape, m.likelihood) for m in data.modalities] == [
        ("image", (3, 6, 6), "laplace"),
        ("caption", (4,), "categorical"),
        ("vector", (5,), "normal"),
        ("loose", (4,), "normal"),
        ("cube", (3, 4, 4), "laplace"),
    ]
    train, val = data.train_split, data.val
    assert np.array_equal(train.x["image"], pixels[:3].transpose(0, 3, 1, 2)) and train.present[
        "caption"
    ].tolist() == [True, True, False]
    assert val.present["image"].tolist() == [True, False, True] and np.array_equal(
        val.x["image"][2], pixels[5].transpose(2, 0, 1)
    )
    assert np.array_equal(val.x["vector"][1:], vectors[4:6]) and val.present["vector"].tolist() == [
        False,
        True,
        True,
    ]
    assert np.allclose(data.test.x["loose"], vectors[6:, :4]) and np.array_equal(
        data.test.x["cube"], cubes[6:]
    )
    assert (
        data.test.shared_labels["label"].tolist() == [0, 1, 0]
        and data.notes["label/label"] == "cat, dog"
    )
    words = next(m for m in data.modalities if m.name == "caption")
    assert (
        words.text(train.x["caption"][0]) == "picture number 0"
        and words.text(val.x["caption"][0]) == "picture number <unk>"
    )


def test_webdataset_tar(tmp_path: Path) -> None:
    """Written by the library itself; fields of JSON are columns."""
    webdataset = pytest.importorskip("webdataset")
    pixels = pictures(6)
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for i in range(6):
            row: dict[str, Any] = {
                "__key__": f"some/{i:03d}",
                "npy": np.arange(i, i + 2, dtype=np.float32),
                "side.cls": i % 3,
            }
            row |= {"photo.png": pixels[i]} if i != 1 else {}
            row |= {"txt": f"number {i}"} if i != 2 else {}
            sink.write(
                row | {"json": {"price": i / 2, "colour": "red" if i % 2 else "blue", "kind": i}}
            )
    stream = whole(tmp_path, min_count=1, length=3)
    shown = stream.sample()
    assert {m.name: m.shape for m in stream.modalities} == {
        "array": (2,),
        "photo": (3, 6, 6),
        "text": (3,),
        "price": (1,),
        "colour": (3,),
    }
    order = shown.shared_labels["kind"]  # two rows are held out
    assert len(order) == 4 and shown.shared_labels["side"].tolist() == (order % 3).tolist()
    assert np.array_equal(shown.x["array"][:, 0], order) and np.array_equal(
        shown.x["price"][:, 0], order / 2
    )
    assert (
        shown.present["photo"].tolist() == (order != 1).tolist()
        and shown.present["text"].tolist() == (order != 2).tolist()
    )
    there = shown.present["photo"]
    assert np.array_equal(shown.x["photo"][there], pixels[order[there]].transpose(0, 3, 1, 2))
    colour = next(m for m in stream.modalities if m.name == "colour")
    assert [colour.text(ids) for ids in shown.x["colour"]] == [
        "red" if i % 2 else "blue" for i in order
    ]


def test_columns_by_name_and_labels_by_modality(tmp_path: Path) -> None:
    columns = {
        "view": [npy(v) for v in pictures(8)],
        "url": [f"http://{i}" for i in range(8)],
        "label/digit": np.arange(8),
        "label/side/view": pa.array([i % 2 if i else None for i in range(8)]),
        "flags": [[True, False, i % 2 == 0] for i in range(8)],
        "ids": [[i, 7 - i] for i in range(8)],
    }
    write_parquet(tmp_path / "a.parquet", columns)
    data = load(tmp_path, columns=["view", "label/digit", "label/side/view", "flags", "ids"])
    assert [(m.name, m.shape, m.likelihood, m.classes) for m in data.modalities] == [
        ("view", (3, 6, 6), "laplace", None),
        ("flags", (3,), "bernoulli", None),
        ("ids", (2,), "categorical", 8),
    ]
    train = data.train_split
    digit = train.shared_labels["digit"]
    assert np.array_equal(train.x["view"], pictures(8)[digit].transpose(0, 3, 1, 2))
    assert train.private_labels["side"]["view"].tolist() == [i % 2 if i else -1 for i in digit]
    assert np.array_equal(
        train.batch(slice(None)).x["flags"].numpy()[:, 2], (digit % 2 == 0).astype(np.float32)
    )
    assert np.array_equal(train.x["ids"], np.stack([digit, 7 - digit], 1))


def test_images_are_made_alike_by_the_square_in_their_middle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 12), (9, 9), (20, 11), (8, 8)]
    colour = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    write_tar(
        tmp_path / "a.tar",
        [
            {"png": png(p), "depth.png": png(p[..., 0]), "cls": str(i).encode()}
            for i, p in enumerate(colour)
        ],
    )
    shown = whole(tmp_path, size=4).sample()
    assert {m.name: m.shape for m in shown.modalities} == {"image": (3, 4, 4), "depth": (1, 4, 4)}
    for i, image, depth in zip(
        shown.shared_labels["class"], shown.x["image"], shown.x["depth"], strict=True
    ):
        assert np.array_equal(image, middle(Image.fromarray(colour[i]), 4))
        assert np.array_equal(depth, middle(Image.fromarray(colour[i][..., 0]), 4))


def test_a_row_of_nan_is_absent(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    values[2] = np.nan
    write_parquet(
        tmp_path / "a.parquet",
        {"a": pa.array(values.tolist()), "row": np.arange(6, dtype=np.float32)},
    )
    shown = whole(tmp_path).sample()
    assert shown.present["a"].tolist() == (shown.x["row"][:, 0] != 2).tolist()


def test_entries_may_be_missing_within_a_row(tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.float32).reshape(8, 2)
    values[5, 1] = np.nan
    values[6] = np.nan
    write_parquet(
        tmp_path / "a.parquet",
        {"a": pa.array(values.tolist()), "row": np.arange(8, dtype=np.float32)},
    )
    with pytest.raises(BadRow, match=r"a\.parquet row 5: modality 'a': holds NaN or infinity"):
        rows_of_all(load(tmp_path))
    stream = load(tmp_path, nan="missing", fractions=(1 - 2e-6, 1e-6, 1e-6), seed=5).train
    assert isinstance(stream, Stream) and stream.modalities[0].gaps
    shown = stream.sample()
    number = shown.x["row"][:, 0].astype(int)
    assert {5, 6} <= {*number} and np.array_equal(np.isnan(shown.x["a"]).sum(1)[number == 5], [1])
    assert shown.present["a"].tolist() == (number != 6).tolist()


def test_chunks_of_a_tar_begin_where_the_survey_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names too long for a header stand in members of their own, before the member."""
    monkeypatch.setattr("counterpoint.data.streams.tar.CHUNK_ROWS", 3)
    rows = [{f"{'long' * 30}.npy": npy(np.array([i], np.float32))} for i in range(10)]
    archive = shards.Tar(write_tar(tmp_path / "a.tar", rows))
    found = archive.survey()
    assert [rows for _, rows in found.chunks] == [3, 3, 3, 1]
    read = [archive.cells(place, rows)["long" * 30].values for place, rows in found.chunks]
    assert [np.load(io.BytesIO(cell))[0] for cell in chain(*read)] == [*range(10)]


# --- the order -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 23), min_size=1, max_size=4),
    group=st.integers(1, 9),
    batch=st.integers(1, 7),
    ranks=st.integers(1, 4),
    block=st.integers(1, 30),
    seed=st.integers(0, 3),
)
def test_each_row_comes_exactly_once_and_ranks_get_equally_many(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    group: int,
    batch: int,
    ranks: int,
    block: int,
    seed: int,
) -> None:
    sizes[0] += ranks + 2
    source = whole(numbered(tmp_path_factory.mktemp("shards"), sizes, group), block)
    loaders = [
        StreamLoader(source, batch, seed=seed, rank=r, world_size=ranks) for r in range(ranks)
    ]
    left_out = []
    for _ in range(2):
        passes = [rows_of(loader) for loader in loaders]
        assert len({tuple(map(len, batches)) for batches in passes}) == 1 and len(passes[0]) == len(
            loaders[0]
        )
        assert all(len(b) == batch for b in passes[0][:-1])
        seen = [*chain(*chain(*passes))]
        assert len({*seen}) == len(seen) == ranks * (len(source) // ranks)
        assert {*seen} <= {*all_numbers(source)}
        left_out.append({*all_numbers(source)} - {*seen})
    assert len(left_out[0]) == len(source) % ranks


def all_numbers(source: Stream) -> list[int]:
    """Numbers of the rows of a stream that :func:`numbered` wrote."""
    return [
        int(v)
        for split in [stream.Reader(source).read([(c, c.rows) for c in source.chunks])]
        for v in split.x["row"][:, 0]
    ]


def test_the_order_is_fixed_by_seed_and_epoch_and_mixes_shards(tmp_path: Path) -> None:
    source = whole(numbered(tmp_path, [40, 40, 40]), 32)
    loader = StreamLoader(source, 8, seed=1)
    first, second = rows_of(loader), rows_of(loader)
    assert first != second and sorted(chain(*first)) == sorted(chain(*second))
    assert (
        rows_of(StreamLoader(source, 8, seed=1))
        == first
        != rows_of(StreamLoader(source, 8, seed=2))
    )
    again = StreamLoader(source, 8, seed=1)
    again.set_epoch(1)
    assert rows_of(again) == second
    assert np.mean([len({row // 40 for row in batch}) for batch in first[:-1]]) > 1.5
    assert [*chain(*rows_of(StreamLoader(source, 8, shuffle=False)))] == all_numbers(source)
    once = StreamLoader(source, 8, seed=1, shuffle="once")
    assert rows_of(once) == rows_of(once) == first


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stop", [0, 1, 3, 4, 7, 10])  # blocks have four batches
def test_resume_continues_exactly_and_reads_the_open_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, rank: int
) -> None:
    source = whole(numbered(tmp_path, [30, 33, 21]), 16)

    def fresh() -> StreamLoader:
        return StreamLoader(source, 4, seed=3, rank=rank, world_size=2)

    whole_run = fresh()
    rows_of(whole_run)
    expected = rows_of(whole_run)
    loader = fresh()
    rows_of(loader)
    going = iter(loader)
    seen = rows_of(next(going) for _ in range(stop))
    going.close()  # type: ignore[attr-defined]
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = fresh()
    resumed.load_state_dict(state)
    read: list[int] = []
    cells = shards.Parquet.cells
    monkeypatch.setattr(
        shards.Parquet,
        "cells",
        lambda self, place, rows, names: (read.append(rows), cells(self, place, rows, names))[1],
    )
    batches = iter(resumed)
    rest = rows_of([next(batches)])
    batches.close()  # type: ignore[attr-defined]
    assert sum(read) <= 2 * (
        16 + 4 + 3
    )  # the block and the one after it, with the chunks that they begin and end in
    resumed.load_state_dict(state)
    assert seen + rows_of(resumed) == expected and expected[stop : stop + 1] == rest


def test_a_rank_reads_its_share_of_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read = whole(numbered(tmp_path, [40, 40, 40]), 16), []
    cells = shards.Parquet.cells
    monkeypatch.setattr(
        shards.Parquet,
        "cells",
        lambda self, place, rows, names: (read.append(rows), cells(self, place, rows, names))[1],
    )
    rows_of(StreamLoader(source, 4, rank=1, world_size=4))
    assert (
        sum(read) <= 120 / 4 + 2 * 4
    )  # and what shares a chunk with its neighbours; the chunk between two blocks is read once


def test_the_last_batch_may_be_dropped(tmp_path: Path) -> None:
    source = whole(numbered(tmp_path, [21]), 8)  # 19 rows
    assert [len(b) for b in StreamLoader(source, 4)] == [4, 4, 4, 4, 3]
    assert [len(b) for b in StreamLoader(source, 4, drop_last=True)] == [4, 4, 4, 4] and len(
        StreamLoader(source, 4, drop_last=True)
    ) == 4


def test_state_of_another_order_is_refused(tmp_path: Path) -> None:
    source = whole(numbered(tmp_path / "a", [50]), 16)
    state = StreamLoader(source, 4, seed=1, world_size=2).state_dict()
    others = [
        StreamLoader(source, 4, seed=2, world_size=2),
        StreamLoader(source, 8, seed=1),
        StreamLoader(whole(numbered(tmp_path / "a", [50]), 32), 4, seed=1, world_size=2),
        StreamLoader(whole(numbered(tmp_path / "b", [25, 25]), 16), 4, seed=1, world_size=2),
    ]
    for other in others:
        with pytest.raises(ValueError, match="cannot resume the data order"):
            other.load_state_dict(state)


def test_a_pass_that_is_left_early_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    batches = iter(StreamLoader(whole(numbered(tmp_path, [50]), 8), 4))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("counterpoint-stream")]


# --- training --------------------------------------------------------------------------------------------------------


class Counted(Trainable):
    """A method as ``fit`` sees it, with noise and momentum, that notes the rows of each
    step."""

    name = "counted"

    def __init__(self, notes: Path | None = None, slow: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.notes, self.slow = notes, slow

    def losses(self, batch: cp.Batch, step: int | None = None) -> dict[str, Tensor]:
        time.sleep(self.slow)
        if self.notes is not None and self.training:
            with self.notes.open("a") as file:
                file.write(json.dumps([step, *batch.x["row"][:, 0].int().tolist()]) + "\n")
        return {
            "loss": (
                (batch.x["row"] / 100 + 0.1 * torch.randn(len(batch), 3) - self.weight) ** 2
            ).sum(1)
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        Path(folder).mkdir(exist_ok=True)
        torch.save(self.state_dict(), Path(folder) / "weights.pt")
        return Path(folder)


def noted(*files: Path) -> list[list[int]]:
    """The rows of each step, of all processes together, as it was done last."""
    steps: dict[int, list[int]] = {}
    for number, file in enumerate(files):
        mine = {line[0]: line[1:] for line in map(json.loads, file.read_text().splitlines())}
        for step, rows in mine.items():
            steps[step] = [*steps.get(step, []), *rows] if number else rows
    return [steps[step] for step in sorted(steps)]


def data_of(folder: Path) -> Dataset:
    """108 rows in shards of unlike sizes, 4 of them held out; a block holds as many
    rows as fit in a megabyte of padding, 16."""
    first = 0
    if not folder.exists():
        for i, size in enumerate((50, 33, 25)):
            columns = {
                "row": np.arange(first, first + size, dtype=np.float32),
                "padding": [npy(np.zeros((1, 125, 500), np.uint8))] * size,
            }
            write_parquet(folder / f"{i}.parquet", columns, group=5)
            first += size
    data = load(folder, buffer=1, fractions=(1 - 4 / 108, 2 / 108, 2 / 108))
    assert isinstance(data.train, Stream) and len(data.train) == 104 and data.train.block_rows == 15
    return data


TRAIN: dict[str, Any] = {"batch_size": 4, "lr": 1e-2, "max_epochs": 2, "log_every": 1, **QUIET}


def test_fit_sees_what_the_loader_gives(tmp_path: Path) -> None:
    data = data_of(tmp_path / "shards")
    result = fit(Counted(tmp_path / "notes"), data.train, data.val, **TRAIN)  # type: ignore[arg-type]
    loader = StreamLoader(data.train, 4, seed=0)  # type: ignore[arg-type]
    assert noted(tmp_path / "notes") == [*rows_of(loader), *rows_of(loader)] and result.steps == 52
    for epoch in range(2):
        seen = sorted(chain(*noted(tmp_path / "notes")[26 * epoch : 26 * (epoch + 1)]))
        assert seen == sorted(all_numbers(data.train))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "first", [1, 26, 30]
)  # in the first block, at the end of a pass, in the second pass
def test_a_resumed_run_is_bitwise_the_same(tmp_path: Path, first: int) -> None:
    train = data_of(tmp_path / "shards").train
    one, part, rest = (
        Counted(tmp_path / "one"),
        Counted(tmp_path / "two"),
        Counted(tmp_path / "two"),
    )
    fit(one, train, out=tmp_path / "whole", **TRAIN)  # type: ignore[arg-type]
    fit(part, train, out=tmp_path / "r", max_steps=first, **TRAIN)  # type: ignore[arg-type]
    fit(rest, train, out=tmp_path / "r", resume=True, **TRAIN)  # type: ignore[arg-type]
    assert torch.equal(one.weight, rest.weight) and not torch.equal(one.weight, part.weight)
    assert noted(tmp_path / "one") == noted(tmp_path / "two")


def test_processes_share_the_last_batch(tmp_path: Path) -> None:
    """Of 27 rows two processes take 13 each, and a last batch of one row is left out."""
    from counterpoint.training.loaders import Loaders

    for rows, sizes in ((27, [4, 4, 4]), (28, [4, 4, 4, 2]), (29, [4, 4, 4, 2]), (5, [2])):
        source, seen = whole(numbered(tmp_path / str(rows), [rows + 2])), []
        for rank in range(2):
            data = Loaders(source, None, FitOptions(batch_size=4))
            data.trainer = SimpleNamespace(
                world_size=2, global_rank=rank, strategy=SimpleNamespace(root_device="cpu")
            )  # type: ignore[assignment]
            data.setup("fit")
            seen.append([len(batch) for batch in data.loader])
        assert seen == [sizes, sizes]


@pytest.mark.slow
def test_a_killed_process_goes_on_and_each_row_comes_once_an_epoch(tmp_path: Path) -> None:
    train, out, notes = data_of(tmp_path / "shards").train, tmp_path / "r", tmp_path / "notes"
    options = {**TRAIN, "max_epochs": 12, "checkpoint_seconds": 0.1}
    run = Fork(lambda: fit(Counted(notes, slow=0.05), train, out=out, **options), tmp_path)  # type: ignore[arg-type]
    wait_for(out / "checkpoints" / "last.ckpt", run)
    time.sleep(float(np.random.default_rng().uniform(0, 1)))  # seeds would not fix the moment
    run.send_signal(signal.SIGKILL)
    finished(run)
    assert run.returncode == -signal.SIGKILL and 0 < len(noted(notes)) < 12 * 26
    rest, one = Counted(notes), Counted(tmp_path / "one")
    fit(rest, train, out=out, resume=True, **options)  # type: ignore[arg-type]
    fit(one, train, **options)  # type: ignore[arg-type]
    assert torch.equal(rest.weight, one.weight) and noted(notes) == noted(tmp_path / "one")
    for epoch in range(12):
        assert sorted(chain(*noted(notes)[26 * epoch : 26 * (epoch + 1)])) == sorted(
            all_numbers(train)
        )  # type: ignore[arg-type]


SHARED_OUT = [
    "fit",
    "mvtcae",
    "--max_epochs",
    "1",
    "--shared_dim",
    "2",
    "--devices",
    "2",
    "--accelerator",
    "cpu",
    "--strategy",
    "fsdp",
]
SHARED_OUT += ["--loggers", "[]", "--batch_size", "6"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes: ``whole`` and ``part``, which is stopped, note their rows;
    ``contrast`` takes one step; ``command`` is that of a command, which says what is in
    ``said``."""
    folder = tmp_path_factory.mktemp("processes")
    data_of(folder / "shards")
    contrasted(folder / "views")
    command = [*SHARED_OUT, "--data", str(folder / "views"), "--out", str(folder / "command")]

    def run(name: str, **options: Any) -> None:
        method = Counted(folder / f"{name}-{os.environ['LOCAL_RANK']}")
        fit(
            method,
            data_of(folder / "shards").train,
            out=folder / name,
            devices=2,
            **TRAIN,
            **options,
        )  # type: ignore[arg-type]

    def train() -> None:
        run("whole")
        run("part", max_steps=9)
        run("part", resume=True)
        data, method = contrasted(folder / "views")
        method.fit(
            data.train,
            out=folder / "contrast",
            devices=2,
            batch_size=6,
            max_steps=1,
            log_every=1,
            **QUIET,
        )
        assert main(command) == 0

    (folder / "said").write_text(ranks(train, folder))
    return folder


@pytest.mark.slow
def test_two_processes_share_the_rows_stop_and_go_on(of_two: Path) -> None:
    train = data_of(of_two / "shards").train
    both = [noted(of_two / f"{name}-0", of_two / f"{name}-1") for name in ("whole", "part")]
    assert both[0] == both[1] and len(both[0]) == 2 * 13
    assert [len(rows) for rows in both[0]] == [8] * 26
    for epoch in range(2):
        assert sorted(chain(*both[0][13 * epoch : 13 * (epoch + 1)])) == sorted(all_numbers(train))  # type: ignore[arg-type]
    weights = [
        torch.load(of_two / name / "model" / "weights.pt", weights_only=True)["weight"]
        for name in ("whole", "part")
    ]
    assert torch.equal(*weights)


def contrasted(folder: Path) -> tuple[Dataset, cp.Method]:
    """Two views of the same few numbers, and a method that contrasts them."""
    rng = np.random.default_rng(0)
    if not folder.exists():
        for i in range(2):
            shared = rng.normal(size=(30, 1))
            views = {
                name: (shared + 0.1 * rng.normal(size=(30, 4))).astype(np.float32).tolist()
                for name in "ab"
            }
            write_parquet(folder / f"{i}.parquet", views)
    data = load(folder)
    torch.manual_seed(1)
    return data, cp.IDMVAE.for_data(
        data, shared_dim=2, private_dim=2, networks=cp.NetworkOptions(hidden=(8,))
    )


@pytest.mark.slow
def test_contrast_sees_the_rows_of_all_processes(of_two: Path) -> None:
    """The term of the first step, which has no noise, against that of one process on
    both batches together."""
    data, method = contrasted(of_two / "views")
    history = History(of_two / "contrast" / "metrics.csv")
    history.rewind(1)
    first, second = (
        next(iter(StreamLoader(data.train, 6, rank=rank, world_size=2))) for rank in range(2)
    )  # type: ignore[arg-type]
    both = cp.Batch(
        {name: torch.cat([x, second.x[name]]) for name, x in first.x.items()},
        {name: torch.cat([here, second.present[name]]) for name, here in first.present.items()},
    )
    with torch.no_grad():
        together, alone = (
            method.losses(both)["cross_mi"][:6].mean(),
            method.losses(first)["cross_mi"].mean(),
        )
    assert history.latest()["train/cross_mi"] == pytest.approx(float(together), rel=1e-4)
    assert abs(float(together - alone)) > 0.1 * abs(float(together))


@pytest.mark.slow
def test_the_command_line_trains_from_shards_on_two_processes(of_two: Path, tmp_path: Path) -> None:
    """Once in the processes of another run and once in its own, which write over what
    the first has left."""
    out = tmp_path / "r"
    shutil.copytree(of_two / "command", out)
    said = (of_two / "said").read_text()
    assert f"{of_two / 'command'}: 4 steps" in said and said.count("next:") == 1
    command = [
        Path(sys.executable).parent / "counterpoint",
        *SHARED_OUT,
        "--data",
        of_two / "views",
        "--out",
        out,
        "--overwrite",
    ]
    environment = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}
    again = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"{out}: 4 steps") and np.isfinite(
        float(again.stdout.split("loss ")[1].split()[0])
    )
    assert (
        main(
            [
                "evaluate",
                str(out),
                "--only",
                "likelihood",
                "--likelihood_rows",
                "2",
                "--likelihood_samples",
                "3",
            ]
        )
        == 0
    )


# --- beside training -------------------------------------------------------------------------------------------------


def test_what_looks_at_training_rows_takes_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samplers, refiners, probes and judges see the very sample, and no more."""
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    views = {
        name: (kinds[:, None] + 0.1 * rng.normal(size=(90, 4))).astype(np.float32).tolist()
        for name in "ab"
    }
    write_parquet(tmp_path / "a.parquet", {**views, "kind": kinds})
    data = load(tmp_path)
    assert isinstance(data.train, Stream) and isinstance(data.train_split, Split)
    few = data.train.sample(40)
    monkeypatch.setattr(Stream, "sample", lambda self: few)
    in_memory = replace(data, train=few, digest=None)
    streamed, held = (
        cp.MMVAEPlus.for_data(
            data, shared_dim=2, private_dim=2, networks=cp.NetworkOptions(hidden=(8,))
        )
        for _ in range(2)
    )
    held.load_state_dict(streamed.state_dict())
    options: dict[str, Any] = {"steps": 3, "batch_size": 8, "progress": False}
    assert streamed.fit_prior(data.train, kind="flow", **options) == held.fit_prior(
        few, kind="flow", **options
    )
    assert streamed.fit_refiner(data.train, **options) == held.fit_refiner(few, **options)
    fresh = load(tmp_path)
    found, expected = (
        cp.evaluate(streamed, d, only=["probe", "coherence"], progress=False)
        for d in (fresh, in_memory)
    )
    assert found.metrics == expected.metrics and found.meta["rows"]["probe_train"] == 40
    assert found.meta["data"]["checksum"] == data.checksum()


# --- splits ----------------------------------------------------------------------------------------------------------


def test_rows_are_held_out_once_and_by_the_seed(tmp_path: Path) -> None:
    numbered(tmp_path, [40, 60])
    data, other = load(tmp_path, seed=0), load(tmp_path, seed=1)
    assert isinstance(data.train, Stream) and (len(data.train), len(data.val), len(data.test)) == (
        80,
        10,
        10,
    )
    held = [{*split.x["row"][:, 0].astype(int)} for split in (data.val, data.test)]
    assert held[0].isdisjoint(held[1]) and {*all_numbers(data.train)} | held[0] | held[1] == {
        *range(100)
    }
    assert len({row // 4 for row in held[0]}) > 5  # spread over the chunks
    assert (
        held[0] != {*other.val.x["row"][:, 0].astype(int)}
        and data.checksum() != other.checksum() == load(tmp_path, seed=1).checksum()
    )
    assert data.notes["val"] == "10 rows of train, held out by the seed"


def test_held_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.data.streams.index.MOST_ROWS", 7)
    numbered(tmp_path / "train", [50])
    numbered(tmp_path / "valid", [20])
    with pytest.warns(
        UserWarning, match="has no test split: 5 rows of train, held out by the seed"
    ):
        data = load(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (45, 7, 5)
    assert data.notes["val"] == "7 of 20 rows, by the seed" and {*data.val.x["row"][:, 0]} <= {
        *range(20)
    }
    assert len(data.train.sample(9)) == 9 and len({*data.train.sample(9).x["row"][:, 0]}) == 9  # type: ignore[union-attr]


def test_who_wants_all_rows_in_memory_is_told(tmp_path: Path) -> None:
    numbered(tmp_path, [30])
    data = load(tmp_path)
    for ask in (data.splits, lambda: cp.data.pack(data, tmp_path / "packed", progress=False)):
        with pytest.raises(ValueError, match=r": the 24 training rows are a stream") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "packed").exists()
    with pytest.raises(ValueError, match="option 'missing' does not apply"):
        load(tmp_path, missing=0.5)


def test_another_likelihood(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [{"png": png(p)} for p in pictures(9)])
    data = load(tmp_path, likelihood="normal", scale=0.5)
    assert data.train.modalities[0].likelihood == "normal" == data.val.modalities[0].likelihood
    assert data.train_split.modalities[0].scale == 0.5


# --- the index -------------------------------------------------------------------------------------------------------


def captioned(folder: Path, count: int = 12) -> Path:
    pixels = pictures(count)
    texts = ["a red bird", "a blue bird", "a red fish"]
    for shard in range(2):
        rows = [
            {"png": png(pixels[i]), "txt": texts[i % 3].encode(), "cls": b"%d" % i}
            for i in range(shard, count, 2)
        ]
        write_tar(folder / f"{shard}.tar", rows, first=100 * shard)
    return folder


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_a_saved_index_opens_the_same_stream(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned(tmp_path / "shards")
    fresh = load(folder, min_count=1, length=4)
    made = index(
        folder,
        out=None if place == "beside" else tmp_path / "my.json",
        min_count=1,
        length=4,
        progress=False,
    )
    monkeypatch.setattr(shards.Tar, "survey", None)  # it is not looked at again
    opened = load(folder if place == "beside" else made)
    assert opened.checksum() == fresh.checksum() and opened.modalities == fresh.modalities
    assert np.array_equal(opened.train_split.x["image"], fresh.train_split.x["image"])
    assert next(m for m in opened.modalities if m.name == "text").words == (
        "",
        "<unk>",
        "a",
        "bird",
        "red",
        "blue",
        "fish",
    )
    with pytest.raises(ValueError, match="was made with length 4, and length 5 is asked for"):
        load(made, length=5)
    if place == "beside":
        folder.rename(tmp_path / "moved")
        assert load(tmp_path / "moved").modalities == fresh.modalities


def test_a_vocabulary_of_the_user_s(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "shards")
    Vocabulary(("", "<unk>", "a", "red", "blue", "bird", "fish")).save(tmp_path / "words.json")
    data = load(folder, vocabulary=tmp_path / "words.json", length=3)
    assert data.train_split.x["text"].max() <= 6 and 1 not in data.train_split.x["text"]
    Vocabulary(("", "<unk>", "a", "red", "blue", "bird")).save(tmp_path / "less.json")
    with pytest.raises(
        ValueError,
        match=r"\d.tar row \d+: column 'text': 'fish' in 'a red fish' is none of the 6 tokens",
    ):
        rows = load(folder, vocabulary=tmp_path / "less.json").train_split
        assert rows is None
    with pytest.warns(UserWarning, match="skipped 4"):
        kept = load(folder, vocabulary=tmp_path / "less.json", skip_bad=True)
    assert len(kept.train) + len(kept.val) + len(kept.test) == 8


def test_a_shard_that_changed_or_vanished_since_the_index(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "shards")
    index(folder, progress=False)
    write_tar(folder / "0.tar", [{"png": png(p), "txt": b"a bird"} for p in pictures(30)])
    with pytest.raises(
        ValueError,
        match=r"0\.tar has \d+ bytes, and had \d+ when it was indexed; make the index again",
    ):
        load(folder)
    (folder / "0.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.tar is gone since it was indexed"):
        load(folder)
    (folder / "counterpoint-index.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="is no index of shards"):
        load(folder)


def test_index_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = captioned(tmp_path / "shards")
    rows = [
        {"png": b"no image", "txt": b"a bird"},
        {"png": png(pictures(1)[0]), "txt": b"  "},
        {"png": png(pictures(1)[0])},
    ]
    write_tar(folder / "2.tar", rows, first=300)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert (
            main(
                [
                    "data",
                    "index",
                    str(folder),
                    "--columns",
                    "image",
                    "text",
                    "--skip_bad",
                    "true",
                    "--min_count",
                    "1",
                ]
            )
            == 0
        )
    out, err = capsys.readouterr()
    assert (
        "13 rows of train in 3 shards" in out
        and "modalities: image 3×6×6 laplace, text 32 categorical" in out
        and "skipped 2:" in out
    )
    assert (
        "2.tar row 0: column 'image': cannot read photo" in out
        and "2.tar row 1: column 'text': text '  ' holds no word" in out
    )
    assert "skipped 2, the first 2.tar row 0" in err
    assert len(Index.load(folder / "counterpoint-index.json").skipped) == 2
    assert (
        main(["data", "index", str(tmp_path / "nowhere")]) == 2
        and "no folder of shards" in capsys.readouterr().err
    )


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = 12


def spoilt_tar(folder: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Twelve good rows, and one in the second shard, the fourth there, that is changed."""
    rows = [
        {
            "png": png(p),
            "txt": b"a red bird",
            "v.npy": npy(np.ones(3, np.float32)),
            "json": b'{"n": 0.5}',
        }
        for p in pictures(13)
    ]
    change(rows[9])
    write_tar(folder / "a.tar", rows[:6])
    write_tar(folder / "b.tar", rows[6:], first=6)


def put(**members: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda row: row.update(
        {name.replace("_", "."): content for name, content in members.items()}
    )


def huge(row: dict[str, bytes]) -> None:
    row["png"] = png(pictures(1, 7)[0])


TAR_ROWS = {
    "unreadable image": (
        put(png=png(pictures(1)[0])[:40]),
        "column 'image': cannot read photo of 40 bytes",
    ),
    "no image": (put(png=b"text"), "column 'image': cannot read photo"),
    "another size": (huge, "column 'image': an image of 7×7, expected 6×6; give size"),
    "empty caption": (put(txt=b" \n"), r"column 'text': text ' \\n' holds no word"),
    "no UTF-8": (put(txt=b"\xff\xfe"), "column 'text': member .txt is no text in UTF-8"),
    "broken JSON": (put(json=b"{"), "column 'n': member .json is no JSON"),
    "JSON of another kind": (put(json=b"[1]"), "column 'n': member .json is no JSON object"),
    "a field of another kind": (put(json=b'{"n": "x"}'), "column 'n': 'x', expected numbers"),
    "another shape": (
        put(v_npy=npy(np.ones(4, np.float32))),
        r"column 'v': values have shape \(4,\), expected \(3,\)",
    ),
    "no numbers": (
        put(v_npy=npy(np.ones(3, complex))),
        "column 'v': values of complex128, expected numbers",
    ),
    "objects": (
        put(v_npy=npy(np.array([{}, []], object), allow_pickle=True)),
        "column 'v': an array of Python objects, which are never unpickled",
    ),
    "cut off": (put(v_npy=npy(np.ones(3, np.float32))[:-2]), "column 'v': no whole .npy file"),
    "NaN": (
        put(v_npy=npy(np.array([1, np.nan, 1], np.float32))),
        "modality 'v': holds NaN or infinity",
    ),
    "twice the same": (
        put(jpg=png(pictures(1)[0])),
        "column 'image': two members are called 'image'",
    ),
    "nothing": (
        lambda row: [row.pop(k) for k in [*row]] and row.update({"cls": b"3"}),
        "has every modality missing",
    ),
}


@pytest.mark.parametrize("case", TAR_ROWS)
def test_a_bad_row_of_a_tar_is_named_or_skipped(tmp_path: Path, case: str) -> None:
    change, message = TAR_ROWS[case]
    spoilt_tar(tmp_path, change)
    with pytest.raises(
        BadRow, match=rf"b\.tar row 3: {message}.*; fix it, or pass skip_bad"
    ) as caught:
        rows_of_all(load(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=rf"skipped 1, the first b\.tar row 3: {message}"):
        data = load(tmp_path, skip_bad=True)
    assert len(rows_of_all(data)) == GOOD and data.notes["skipped"].startswith("1: b.tar row 3")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (np.ones(2), "values of float32, expected int64"),
        (np.ones(3, int), r"values have shape \(3,\)"),
    ],
)
def test_the_odd_one_is_named_even_if_it_is_first(
    tmp_path: Path, other: np.ndarray, why: str
) -> None:
    values = [np.ones(2, int), np.ones(2, int), other, np.ones(2, int), np.ones(2, int)]
    write_tar(tmp_path / "a.tar", [{"v.npy": npy(value)} for value in values])
    source = survey(tmp_path, Wanted()).stream("train")
    source = replace(
        source, columns=(replace(source.columns[0], dtype="int64"),)
    )  # as if more rows had been whole numbers
    rows = np.array([2, 3, 4])
    with pytest.raises(BadRow, match=rf"a\.tar row 2: column 'v': {why}"):
        stream.Reader(source).read([(replace(source.chunks[0], rows=rows), rows)])


def rows_of_all(data: Dataset) -> list[int]:
    """Every row of a data set is read; the number of each part's."""
    assert isinstance(data.train, Stream)
    batches = [*StreamLoader(data.train, 4, drop_last=False)]
    return [1] * (sum(map(len, batches)) + len(data.val) + len(data.test))


PARQUET_ROWS = {
    "unreadable image": ({"image": b"\x89PNG no"}, "column 'image': cannot read photo"),
    "empty caption": ({"text": ""}, "column 'text': text '' holds no word"),
    "another length": ({"v": [1.0, 2.0]}, r"column 'v': values have shape \(2,\), expected \(3,\)"),
    "a null in a list": ({"v": [1.0, None, 2.0]}, "column 'v': values of object, expected numbers"),
    "infinity": ({"v": [1.0, np.inf, 2.0]}, "modality 'v': holds NaN or infinity"),
    "nothing": ({"image": None, "text": None, "v": None}, "has every modality missing"),
}


@pytest.mark.parametrize("case", PARQUET_ROWS)
def test_a_bad_row_of_parquet_is_named_or_skipped(tmp_path: Path, case: str) -> None:
    change, message = PARQUET_ROWS[case]
    rows = [{"image": png(p), "text": "a red bird", "v": [1.0, 2.0, 3.0]} for p in pictures(13)]
    rows[9] |= change
    for name, part in (("a", rows[:6]), ("b", rows[6:])):
        write_parquet(
            tmp_path / f"{name}.parquet",
            {key: [row[key] for row in part] for key in rows[0]},
            group=2,
        )
    with pytest.raises(BadRow, match=rf"b\.parquet row 3: {message}.*; fix it, or pass skip_bad"):
        rows_of_all(load(tmp_path))
    with pytest.warns(UserWarning, match=rf"skipped 1, the first b\.parquet row 3: {message}"):
        data = load(tmp_path, skip_bad=True)
    assert len(rows_of_all(data)) == GOOD


def test_a_row_that_is_bad_in_training_ends_the_run_by_name(tmp_path: Path) -> None:
    spoilt_tar(tmp_path, put(png=b"no image"))
    data = load(tmp_path, columns=["image", "v"], fractions=(0.8, 0.1, 0.1), seed=3)
    method = cp.MVTCAE.for_data(
        data, shared_dim=2, networks=cp.NetworkOptions(width=2, hidden=(4,))
    )
    with pytest.raises(BadRow, match=r"b\.tar row 3: column 'image': cannot read photo"):
        method.fit(data.train, max_epochs=1, batch_size=2, **QUIET)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_a_tar_that_ends_early_is_named_or_read_as_far_as_it_goes(tmp_path: Path) -> None:
    captioned(tmp_path)  # six rows a shard; a row is three members of a header and a block each
    for size, row in (
        (3 * 3 * 1024 + 1024 + 700, 3),
        (3 * 3 * 1024 + 1024, 3),
        (3 * 3 * 1024 + 2 * 1024 + 100, 3),
        (6 * 3 * 1024, 5),
    ):
        captioned(tmp_path)
        cut(tmp_path / "1.tar", size)
        with pytest.raises(
            BadRow, match=rf"1\.tar: ends early, in row {row} \(00010{row}\)"
        ) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
        with pytest.warns(
            UserWarning, match=rf"skipped 1, the first 1\.tar: ends early, in row {row}"
        ):
            data = load(tmp_path, skip_bad=True)
        assert len(rows_of_all(data)) == 6 + row
    cut(tmp_path / "1.tar", 700)
    with pytest.raises(BadRow, match=r"1\.tar: ends early, in row 0"):
        load(tmp_path)
    with pytest.warns(UserWarning, match="skipped 1"):
        assert len(rows_of_all(load(tmp_path, skip_bad=True))) == 6


def test_a_parquet_file_that_ends_early_is_named_or_left_out(tmp_path: Path) -> None:
    numbered(tmp_path, [8, 8])
    cut(tmp_path / "001.parquet", 300)
    with pytest.raises(BadRow, match=r"001\.parquet: is no whole Parquet file"):
        load(tmp_path)
    with pytest.warns(
        UserWarning, match=r"skipped 1, the first 001\.parquet: is no whole Parquet file"
    ):
        assert len(rows_of_all(load(tmp_path, skip_bad=True))) == 8


def test_a_corrupt_row_group_is_named_or_left_out(tmp_path: Path) -> None:
    numbered(tmp_path, [8])
    write_parquet(
        tmp_path / "001.parquet",
        {"row": np.arange(8, dtype=np.float32)},
        group=4,
        compression="zstd",
        use_dictionary=False,
    )
    path = tmp_path / "001.parquet"
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 30] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(BadRow, match=r"001\.parquet: rows 4 to 7: row group 1 cannot be read"):
        rows_of_all(load(tmp_path))
    with pytest.warns(
        UserWarning,
        match=r"skipped 1, the first 001\.parquet: rows 4 to 7: row group 1 cannot be read",
    ):
        assert len(rows_of_all(load(tmp_path, skip_bad=True))) == 12


def test_shards_that_differ_are_named_or_left_out(tmp_path: Path) -> None:
    numbered(tmp_path, [8])
    write_parquet(tmp_path / "001.parquet", {"row": [str(i) for i in range(4)]})
    with pytest.raises(
        BadRow, match=r"001\.parquet: column 'row' is string, and float in 000\.parquet"
    ):
        load(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped 1, the first 001\.parquet"):
        assert len(rows_of_all(load(tmp_path, skip_bad=True))) == 8
    write_parquet(tmp_path / "001.parquet", {"row": np.zeros(4, np.float32), "more": np.zeros(4)})
    with pytest.raises(
        BadRow, match=r"001\.parquet: column 'more' is double, and not there in 000\.parquet"
    ):
        load(tmp_path)
    assert len(load(tmp_path, columns=["row"]).train) == 10
    with pytest.raises(
        BadRow, match=r"000\.parquet: column 'more' is not there; the columns are row"
    ):
        load(tmp_path, columns=["more"])


FOLDERS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "nothing": (lambda f: (f / "x").mkdir(), FileNotFoundError, "holds no .npy file"),
    "compressed": (
        lambda f: (f / "a.tar.gz").write_bytes(b""),
        ValueError,
        r"a\.tar\.gz is compressed",
    ),
    "two kinds": (
        lambda f: (numbered(f, [4]), captioned(f)),
        ValueError,
        r"holds both 0\.tar and 000\.parquet|holds both",
    ),
    "pickled": (
        lambda f: write_tar(f / "a.tar", [{"pyd": pickle.dumps(3), "txt": b"a"}]),
        ValueError,
        r"a\.tar: a member \.pyd \(column 'pyd'\) is pickled, and nothing is unpickled here; leave it out",
    ),
    "sound": (
        lambda f: write_tar(f / "a.tar", [{"mp3": b"la", "txt": b"a"}]),
        ValueError,
        r"a member \.mp3 \(column 'mp3'\) is not read",
    ),
    "labels alone": (
        lambda f: write_tar(f / "a.tar", [{"cls": b"1"}] * 5),
        ValueError,
        "holds labels alone",
    ),
    "a column of nulls": (
        lambda f: write_parquet(
            f / "a.parquet", {"row": np.zeros(4), "no": pa.array([None] * 4, pa.float32())}
        ),
        ValueError,
        "column 'no' has no value",
    ),
    "a date": (
        lambda f: write_parquet(f / "a.parquet", {"day": pa.array([0] * 4, pa.date32())}),
        ValueError,
        r"a\.parquet: rows 0 to 3: column 'day' is a date32\[day\], which is not read; leave it out",
    ),
    "text labels": (
        lambda f: write_parquet(f / "a.parquet", {"label/x": ["a"] * 4}),
        ValueError,
        "a label must hold whole numbers, and it holds text",
    ),
    "paths of images": (
        lambda f: write_parquet(f / "a.parquet", {"image": [{"bytes": None, "path": "x.png"}] * 4}),
        ValueError,
        r"a\.parquet: rows 0 to 3: column 'image' holds the path 'x\.png' instead of an image",
    ),
    "no train": (
        lambda f: numbered(f / "test", [4]),
        ValueError,
        "has shards of test but none of train",
    ),
    "a stray shard": (
        lambda f: (numbered(f / "train", [4]), numbered(f, [4])),
        ValueError,
        r"000\.parquet belongs to no split",
    ),
    "too few rows": (
        lambda f: numbered(f, [2]),
        ValueError,
        "has 2 rows, too few for train, val and test",
    ),
    "no member": (lambda f: write_tar(f / "a.tar", []), ValueError, r"a\.tar: holds no row"),
    "no image that can be read": (
        lambda f: write_tar(f / "a.tar", [{"png": b"x"}] * 5),
        ValueError,
        "column 'image' of .*: cannot read photo",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_which_nothing_can_be_made(tmp_path: Path, case: str) -> None:
    make, error, message = FOLDERS[case]
    make(tmp_path)
    with pytest.raises(error, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_pickled_may_be_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [{"pyd": pickle.dumps(3), "npy": npy(np.ones(2))}] * 5)
    assert len(load(tmp_path, columns=["array"]).train) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size 0 of shards must be 1 or more"),
        ({"length": 0}, "length 0 of shards"),
        ({"buffer": 0}, "buffer 0 must be 1 megabyte or more"),
        ({"fractions": (0.5, 0.5, 0.5)}, "must be positive and sum to 1"),
        ({"views": 2}, "option 'views' does not apply"),
        ({"verify": True}, "option 'verify' does not apply"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(numbered(tmp_path, [8]), **options)


def test_loader_refuses_what_gives_no_batch(tmp_path: Path) -> None:
    source = whole(numbered(tmp_path, [6]))
    with pytest.raises(ValueError, match="4 rows give no batch with batch_size 8"):
        StreamLoader(source, 8, drop_last=True)
    with pytest.raises(ValueError, match="rank 2 must lie in"):
        StreamLoader(source, 1, rank=2, world_size=2)
