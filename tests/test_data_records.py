"""Split, Dataset and BatchLoader."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.core.modality import Modality
from counterpoint.data import BatchLoader, Dataset, Split

IMAGE = Modality("image", (1, 2, 2), "laplace", 0.75)
VECTOR = Modality("vector", (3,), "normal", None)
WORDS = Modality("words", (4,), "categorical", None, classes=5)
ALL = (IMAGE, VECTOR, WORDS)


def arrays(rows: int = 10) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (rows, 1, 2, 2), dtype=np.uint8),
        "vector": rng.standard_normal((rows, 3)).astype(np.float32),
        "words": rng.integers(0, 5, (rows, 4)),
    }


def numbered(rows: int) -> Split:
    """A split whose value in each row is the row's number."""
    return Split(
        {"vector": np.arange(rows, dtype=np.float32)[:, None]},
        (Modality("vector", (1,), "normal", 1.0),),
    )


def rows_of(loader: BatchLoader) -> list[list[int]]:
    return [b.x["vector"][:, 0].int().tolist() for b in loader]


def test_batch_converts_each_kind_and_zeroes_what_is_absent() -> None:
    x = arrays()
    x["vector"][2] = np.nan
    present = {"vector": np.arange(10) != 2, "image": np.arange(10) != 5}
    split = Split(x, ALL, present)
    batch = split.batch(np.array([2, 5, 7]))
    assert batch.x["image"].dtype == torch.float32 and batch.x["words"].dtype == torch.int64
    np.testing.assert_allclose(batch.x["image"][0], x["image"][2] / 255, rtol=1e-6)
    np.testing.assert_array_equal(batch.x["image"][1], np.zeros((1, 2, 2)))
    np.testing.assert_array_equal(batch.x["vector"][0], np.zeros(3))
    np.testing.assert_array_equal(batch.x["vector"][2], x["vector"][7])
    np.testing.assert_array_equal(batch.x["words"], x["words"][[2, 5, 7]])
    assert batch.present["vector"].tolist() == [False, True, True]
    assert batch.present["image"].tolist() == [True, False, True]


def test_a_batch_shares_no_memory_with_the_split() -> None:
    split = numbered(4)
    split.batch(slice(0, 4)).x["vector"].fill_(9)
    assert split.x["vector"][:, 0].tolist() == [0, 1, 2, 3]


def test_a_modality_without_values_is_absent_everywhere() -> None:
    split = Split({"vector": arrays()["vector"]}, ALL)
    batch = split.batch(slice(3, 5))
    assert not batch.present["image"].any() and batch.x["image"].shape == (2, 1, 2, 2)
    assert batch.x["words"].dtype == torch.int64 and batch.present["vector"].all()


def test_take_carries_masks_and_labels() -> None:
    digit, side = np.arange(10), np.arange(10)[::-1]
    split = Split(
        arrays(), ALL, {"image": np.arange(10) > 0}, {"digit": digit}, {"side": {"vector": side}}
    )
    part = split.take(np.array([0, 4]))
    assert (
        len(part) == 2
        and part.shared_labels["digit"].tolist() == [0, 4]
        and part.private_labels["side"]["vector"].tolist() == [9, 5]
    )
    assert part.present["image"].tolist() == [False, True] and part.present["words"].all()


def test_rows_keep_their_ids_and_no_checksum_hangs_on_them() -> None:
    x = arrays(3)
    split = Split(x, ALL, ids=np.array(["a", "b", "c"], object))
    assert split.take(np.array([2, 0])).ids.tolist() == ["c", "a"] and split.with_missing(
        0.5
    ).ids.tolist() == ["a", "b", "c"]  # type: ignore[union-attr]
    plain = Split(x, ALL)
    assert plain.ids is None and plain.take(slice(0, 2)).ids is None
    assert (
        Dataset("a", ALL, split, split, split).checksum()
        == Dataset("a", ALL, plain, plain, plain).checksum()
    )
    with pytest.raises(ValueError, match=r"ids have shape \(2,\), expected \(3,\)"):
        Split(x, ALL, ids=np.array(["a", "b"]))


def test_batches_cover_all_rows_in_order() -> None:
    assert [b.x["vector"][:, 0].tolist() for b in numbered(5).batches(2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 1.0])
def test_with_missing_never_empties_a_row(fraction: float) -> None:
    split = Split(arrays(4000), ALL, {"words": np.arange(4000) % 2 == 0})
    lossy = split.with_missing(fraction, seed=1)
    had, has = (np.stack([s.present[m.name] for m in ALL], 1) for s in (split, lossy))
    assert has.any(1).all() and not (has & ~had).any()
    # independent losses, but a row that would lose all keeps one: fraction^k of the rows with k
    # values get one back
    expected = sum(had.sum(1) * (1 - fraction) + fraction ** had.sum(1)) / had.sum()
    assert has.sum() / had.sum() == pytest.approx(expected, abs=0.02)
    np.testing.assert_array_equal(
        lossy.present["image"], split.with_missing(fraction, seed=1).present["image"]
    )


def test_with_missing_at_one_keeps_each_modality_equally_often() -> None:
    kept = [
        split.mean()
        for split in Split(arrays(3000), ALL).with_missing(1.0, seed=3).present.values()
    ]
    np.testing.assert_allclose(kept, 1 / 3, atol=0.04)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.6])
def test_blocks_of_rows_lack_a_modality_each(fraction: float) -> None:
    """Of 300 rows: one circular run of the fraction for each modality, a third apart;
    up to two thirds no row is in all three."""
    split = Split(arrays(300), ALL)
    lossy = split.with_missing(fraction, seed=4, how="block")
    missing = ~np.stack([lossy.present[m.name] for m in ALL], 1)
    np.testing.assert_allclose(missing.mean(0), fraction, atol=1 / 300)
    assert not missing.all(1).any()
    if fraction == 0:
        return
    assert ((missing != np.roll(missing, 1, 0)).sum(0) == 2).all(), (
        "one run each, of rows that follow each other"
    )
    begins = np.sort((missing & ~np.roll(missing, 1, 0)).argmax(0))
    np.testing.assert_allclose(np.diff([*begins, begins[0] + 300]), 100, atol=1)
    other = split.with_missing(fraction, seed=5, how="block")
    assert any((other.present[m.name] != lossy.present[m.name]).any() for m in ALL)


def test_blocks_beyond_what_rows_can_lose_keep_one_value_of_each_row() -> None:
    lossy = Split(arrays(300), ALL).with_missing(0.9, seed=4, how="block")
    has = np.stack([lossy.present[m.name] for m in ALL], 1)
    assert (
        (has.sum(1) >= 1).all()
        and (has.sum(0) >= 99).all()
        and has.mean() == pytest.approx(1 / 3, abs=0.01)
    )


@pytest.mark.parametrize("how", ["random", "block"])
def test_only_some_modalities_may_go_missing(how: Any) -> None:
    split = Split(arrays(1000), ALL, {"image": np.arange(1000) % 10 > 0})
    lossy = split.with_missing(0.5, seed=1, how=how, among=["vector"])
    assert (lossy.present["image"] == split.present["image"]).all() and lossy.present["words"].all()
    assert (~lossy.present["vector"]).mean() == pytest.approx(0.5, abs=0.05)
    assert all(
        s.all()
        for s in split.with_missing(1.0, how=how, among=[]).take(np.arange(1, 10)).present.values()
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fraction": 1.1}, "fraction 1.1 of missing values must lie in"),
        (
            {"fraction": 0.1, "how": "blocks"},
            "how='blocks' is unknown; choose one of random, block",
        ),
        (
            {"fraction": 0.1, "among": ["sound"]},
            "among names 'sound'; the modalities are image, vector, words",
        ),
    ],
)
def test_what_cannot_go_missing_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Split(arrays(10), ALL).with_missing(**options)


def broken(**changes: Any) -> Any:
    return lambda: Split(**{"x": arrays(), "modalities": ALL, **changes})


def with_value(name: str, value: float) -> dict[str, Any]:
    x = arrays()
    x[name][3] = value
    return x


NOWHERE = {name: np.arange(10) != 6 for name in ("image", "vector", "words")}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            broken(x=arrays() | {"vector": arrays(9)["vector"]}),
            ValueError,
            "different numbers of rows",
        ),
        (broken(x=arrays(0)), ValueError, "empty"),
        (broken(x={}), ValueError, "at least one modality"),
        (broken(x=arrays() | {"sound": np.zeros((10, 1))}), ValueError, "unknown modality 'sound'"),
        (
            broken(x=arrays() | {"image": np.zeros((10, 2, 2), np.uint8)}),
            ValueError,
            r"shape \(2, 2\), expected \(1, 2, 2\)",
        ),
        (
            broken(x=with_value("vector", np.nan)),
            ValueError,
            "'vector': row 3 holds NaN or infinity",
        ),
        (broken(x=with_value("vector", np.inf)), ValueError, "row 3 holds NaN or infinity"),
        (broken(x=with_value("words", 5)), ValueError, r"row 3 holds 5, an id outside \[0, 4\]"),
        (broken(x=with_value("words", -1)), ValueError, "row 3 holds -1, an id"),
        (broken(x=arrays() | {"words": np.zeros((10, 4))}), TypeError, "give integers"),
        (broken(x=arrays() | {"vector": np.zeros((10, 3), object)}), TypeError, "dtype object"),
        (broken(present=NOWHERE), ValueError, "row 6 has every modality missing"),
        (
            broken(present={"image": np.ones(9, bool)}),
            ValueError,
            r"shape \(9,\), expected \(10,\)",
        ),
        (broken(present={"image": np.full(10, "yes")}), TypeError, "give True or False"),
        (
            broken(present={"sound": np.ones(10, bool)}),
            ValueError,
            "present names unknown modality 'sound'",
        ),
        (
            broken(x={"vector": arrays()["vector"]}, present={"image": np.ones(10, bool)}),
            ValueError,
            "has no values",
        ),
        (broken(shared_labels={"digit": np.zeros(9, int)}), ValueError, "label 'digit' has shape"),
        (broken(shared_labels={"digit": np.zeros(10)}), TypeError, "expected integers"),
        (
            broken(private_labels={"side": {"sound": np.zeros(10, int)}}),
            ValueError,
            "label 'side' names unknown modality",
        ),
        (
            broken(modalities=(IMAGE, IMAGE), x={"image": arrays()["image"]}),
            ValueError,
            "names repeat",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_one_class_labels_are_allowed() -> None:
    assert (
        Split(arrays(), ALL, shared_labels={"digit": np.zeros(10, int)})
        .shared_labels["digit"]
        .dtype
        == np.int64
    )


def test_a_memory_map_is_checked_when_it_is_read(tmp_path: Any) -> None:
    values = arrays()["vector"]
    values[7] = np.nan
    np.save(tmp_path / "vector.npy", values)
    split = Split({"vector": np.load(tmp_path / "vector.npy", mmap_mode="r")}, (VECTOR,))
    assert len(split.batch(slice(0, 7))) == 7
    with pytest.raises(ValueError, match="NaN"):
        split.batch(np.array([1, 7]))


def test_checksum_sees_values_masks_and_labels() -> None:
    split = Split(arrays(), ALL, shared_labels={"digit": np.arange(10)})
    data = Dataset("a", ALL, split, split, split)
    assert data.checksum() == Dataset("b", ALL, split.take(np.arange(10)), split, split).checksum()
    changed = arrays()
    changed["image"][9, 0, 1, 1] ^= 1
    others = [
        replace(split, x=changed),
        split.with_missing(0.5, 0),
        replace(split, shared_labels={"digit": np.arange(10)[::-1]}),
    ]
    assert len({data.checksum(), *(replace(data, val=other).checksum() for other in others)}) == 4


def test_splits_of_a_data_set_have_the_same_modalities() -> None:
    with pytest.raises(ValueError, match="val split"):
        Dataset("a", ALL, Split(arrays(), ALL), numbered(3), Split(arrays(), ALL))


def test_each_pass_is_a_new_permutation_fixed_by_seed_and_epoch() -> None:
    loader = BatchLoader(numbered(50), 8, seed=3)
    first, second = rows_of(loader), rows_of(loader)
    assert [len(b) for b in first] == [8] * 6 + [2] and len(loader) == 7
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(50)) and first != second
    assert (
        rows_of(BatchLoader(numbered(50), 8, seed=3))
        == first
        != rows_of(BatchLoader(numbered(50), 8, seed=4))
    )
    loader.set_epoch(1)
    assert rows_of(loader) == second
    assert rows_of(BatchLoader(numbered(5), 2, shuffle=False)) == [[0, 1], [2, 3], [4]]
    once = BatchLoader(numbered(50), 8, seed=3, shuffle="once")
    assert rows_of(once) == rows_of(once) == first


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("rows", [24, 25, 27, 32])
def test_ranks_together_see_the_batches_of_one_process(rows: int, drop_last: bool) -> None:
    one = rows_of(BatchLoader(numbered(rows), 12, seed=1, drop_last=drop_last))
    ranks = [
        rows_of(BatchLoader(numbered(rows), 4, seed=1, drop_last=drop_last, rank=r, world_size=3))
        for r in range(3)
    ]
    if rows == 25 and not drop_last:  # one row cannot be shared by three ranks
        one = one[:-1]
    assert [len(r) for r in ranks] == [len(one)] * 3
    assert [sorted(chain(*shares)) for shares in zip(*ranks, strict=True)] == [
        sorted(b) for b in one
    ]
    assert all(ranks[0]) and all(ranks[2])


def test_drop_last_avoids_a_batch_of_one_row() -> None:
    assert [len(b) for b in BatchLoader(numbered(9), 4)] == [4, 4, 1]
    assert [len(b) for b in BatchLoader(numbered(9), 4, drop_last=True)] == [4, 4]


@pytest.mark.parametrize("stop", [0, 1, 3, 6, 7])
def test_resume_continues_exactly(stop: int) -> None:
    whole = BatchLoader(numbered(50), 8, seed=3)
    rows_of(whole)
    expected = [rows_of(whole), rows_of(whole)]
    loader = BatchLoader(numbered(50), 8, seed=3)
    rows_of(loader)
    seen, going = [], iter(loader)
    for _ in range(stop):
        seen.append(next(going).x["vector"][:, 0].int().tolist())
    resumed = BatchLoader(numbered(50), 8, seed=3)
    resumed.load_state_dict(loader.state_dict())
    if stop < 7:
        assert seen + rows_of(resumed) == expected[0]
    assert rows_of(resumed) == expected[1]


def test_a_pass_left_early_is_not_continued() -> None:
    loader = BatchLoader(numbered(50), 8, seed=3)
    next(iter(loader))
    second = rows_of(loader)
    assert loader.epoch == 1 and len(second) == 7
    fresh = BatchLoader(numbered(50), 8, seed=3)
    fresh.set_epoch(1)
    assert rows_of(fresh) == second


def test_state_of_another_order_is_refused() -> None:
    state = BatchLoader(numbered(50), 8, seed=3).state_dict()
    BatchLoader(numbered(50), 4, seed=3, world_size=2).load_state_dict(
        state
    )  # the same rows a step
    for other in (
        BatchLoader(numbered(50), 8, seed=4),
        BatchLoader(numbered(49), 8, seed=3),
        BatchLoader(numbered(50), 4, seed=3),
    ):
        with pytest.raises(ValueError, match="cannot resume"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2, "rank": 1},
        {"batch_size": 9, "drop_last": True},
        {"batch_size": 2, "seed": -1},
        {"batch_size": 2, "shuffle": "twice"},
    ],
)
def test_loader_refuses_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        BatchLoader(numbered(8), **options)


@pytest.mark.filterwarnings("ignore")  # Lightning's own, about its defaults
@pytest.mark.parametrize("step", [5, 7])
def test_lightning_resumes_in_and_between_epochs(step: int, tmp_path: Any) -> None:
    import pytorch_lightning as pl

    class Recorder(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[list[int]] = []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            self.seen.append(batch.x["vector"][:, 0].int().tolist())
            return (self.factor * batch.x["vector"]).mean()

        def on_train_epoch_end(self) -> None:
            if self.trainer.global_step == step:
                self.trainer.save_checkpoint(tmp_path / "a.ckpt")

        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == step and step % 5:
                self.trainer.save_checkpoint(tmp_path / "a.ckpt")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 1e-3)

    def train(checkpoint: Any = None) -> list[list[int]]:
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        module = Recorder()
        pl.Trainer(accelerator="cpu", devices=1, max_epochs=3, **quiet).fit(
            module, BatchLoader(numbered(40), 8, seed=3), ckpt_path=checkpoint
        )
        return module.seen

    loader = BatchLoader(numbered(40), 8, seed=3)
    expected = [*rows_of(loader), *rows_of(loader), *rows_of(loader)]
    assert train() == expected
    assert train(tmp_path / "a.ckpt") == expected[step:]
