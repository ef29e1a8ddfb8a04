"""Sources that come with some of the splits: what they lack is held out from train, and
it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas
import pytest

import counterpoint as cp
from counterpoint.data import load
from counterpoint.data.division import held_out
from counterpoint.data.sources.mudata_files import quiet

HELD = r"has no val split: 10 of 100 train rows, held out by the seed 0"


def part(rows: int, first: int = 0) -> dict[str, np.ndarray]:
    """Rows whose first number says which they are, in four classes of unequal size."""
    number = np.arange(first, first + rows, dtype=np.float32)
    classes = np.searchsorted([0.4, 0.7, 0.9], np.arange(rows) / rows, "right")
    return {"a": np.stack([number, -number], 1), "b": number[:, None] * -2, "label/kind": classes}


def rows_of(data: cp.data.Dataset, name: str) -> set[int]:
    return {*data.splits()[name].x["a"][:, 0].astype(int).tolist()}


def written(kind: str, folder: Path, splits: dict[str, dict[str, np.ndarray]]) -> Any:
    """The same splits as a mapping, an .npz file, or a folder of .npy files."""
    if kind == "mapping":
        return splits
    if kind == "npz":
        np.savez(
            folder / "x.npz",
            **{
                f"{name}/{key}": values
                for name, flat in splits.items()
                for key, values in flat.items()
            },
        )
        return folder / "x.npz"
    for name, flat in splits.items():
        for key, values in flat.items():
            path = folder / "x" / name / f"{key}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    return folder / "x"


@pytest.mark.parametrize("kind", ["mapping", "npz", "folder"])
def test_val_is_held_out_from_train_where_it_is_not_given(kind: str, tmp_path: Path) -> None:
    source = written(kind, tmp_path, {"train": part(100), "test": part(30, 1000)})
    with pytest.warns(UserWarning, match=HELD):
        data = load(source)
    assert data.notes["val"] == "10 of 100 train rows, held out by the seed 0"
    assert rows_of(data, "test") == {*range(1000, 1030)}
    assert rows_of(data, "train") | rows_of(data, "val") == {*range(100)} and not rows_of(
        data, "train"
    ) & rows_of(data, "val")
    assert np.bincount(data.val.shared_labels["kind"]).tolist() == [
        4,
        3,
        2,
        1,
    ]  # a tenth of every class
    with pytest.warns(UserWarning, match=HELD):
        assert rows_of(load(source), "val") == rows_of(data, "val")
    with pytest.warns(UserWarning, match="20 of 100 train rows, held out by the seed 3"):
        assert len(load(source, fractions=(0.7, 0.2, 0.1), seed=3).val) == 20


@pytest.mark.parametrize("kind", ["mapping", "npz", "folder"])
@pytest.mark.parametrize("name", ["valid", "validation", "dev"])
def test_val_has_other_names(kind: str, name: str, tmp_path: Path) -> None:
    data = load(
        written(kind, tmp_path, {"train": part(20), name: part(5, 500), "test": part(6, 1000)})
    )
    assert [len(split) for split in data.splits().values()] == [20, 5, 6] and rows_of(
        data, "val"
    ) == {*range(500, 505)}
    assert "val" not in data.notes


@pytest.mark.parametrize("kind", ["mapping", "npz", "folder"])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("train", "val", "dev", "test"),
            "has both val and dev, which mean the same split; leave one of them",
        ),
        (("val", "test"), "has val, test but no train"),
    ],
)
def test_splits_that_mean_nothing_or_too_much_are_refused(
    kind: str, names: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        load(written(kind, tmp_path, {name: part(10) for name in names}))


def test_a_mistyped_split_and_a_train_of_one_row_are_named() -> None:
    with pytest.raises(ValueError, match="'tets' names no split; expected train, val and test"):
        load({"train": part(10), "tets": part(10)})
    with pytest.raises(
        ValueError, match="has no val split and 1 row of train, too few to hold one out; give val"
    ):
        load({"train": part(1), "test": part(10)})


def test_what_is_held_out_is_alike_in_every_group_and_leaves_a_row() -> None:
    groups = np.repeat([0, 1, 2], [60, 30, 10])
    with pytest.warns(UserWarning, match="has no val split"):
        assert np.bincount(groups[held_out("x", "val", groups, 0.2, 0)[0]]).tolist() == [12, 6, 2]
    with pytest.warns(UserWarning, match="has no val split"):
        assert held_out("x", "val", np.zeros(2, int), 0.9, 0)[0].sum() == 1


def cells(splits: list[str]) -> mudata.MuData:
    ids = [f"c{i}" for i in range(len(splits))]
    values = np.random.default_rng(0).normal(size=(2, len(ids), 4))
    assays = {
        name: anndata.AnnData(v, pandas.DataFrame(index=ids))
        for name, v in zip(("rna", "adt"), values, strict=True)
    }
    for name, assay in assays.items():
        assay.var_names = [f"{name}{i}" for i in range(4)]
    with quiet():
        found = mudata.MuData(assays)
    found.obs["split"], found.obs["kind"] = splits, ["t", "b"] * (len(ids) // 2)
    return found


def test_a_column_of_scverse_without_val() -> None:
    mdata = cells(["Train"] * 40 + ["test"] * 10)
    with pytest.warns(UserWarning, match="column 'split' has no val split: 4 of 40 train rows"):
        data = cp.setup_mudata(mdata, labels="kind", splits="split")
    assert [len(split) for split in data.splits().values()] == [36, 4, 10]
    assert np.bincount(data.val.shared_labels["kind"]).tolist() == [2, 2] and data.notes[
        "val"
    ].startswith("4 of 40 train rows")
    assert data.test.ids is not None and [*data.test.ids] == [f"c{i}" for i in range(40, 50)]
    # The units are those of the rows that are trained on, without the rows held out.
    assert abs(data.train.x["rna"].mean(0)).max() < 1e-6 < abs(data.val.x["rna"].mean(0)).max()
    other = cp.setup_mudata(
        cells(["train"] * 40 + ["dev"] * 4 + ["test"] * 6), labels="kind", splits="split"
    )
    assert [len(split) for split in other.splits().values()] == [40, 4, 6]
    with pytest.raises(ValueError, match="says 'holdout' of c40; expected train, val or test"):
        cp.setup_mudata(cells(["train"] * 40 + ["holdout"] * 10), splits="split")


def test_a_table_of_images_without_val(tmp_path: Path) -> None:
    from PIL import Image

    lines = ["file_name,caption,label,split"]
    for i in range(24):
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,a b c,{i % 2},{'test' if i >= 20 else 'train'}")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="has no val split: 2 of 20 train rows"):
        data = load(tmp_path, size=8, min_count=1)
    assert [len(split) for split in data.splits().values()] == [18, 2, 4] and "val" in data.notes
    assert sorted(data.val.shared_labels["label"]) == [0, 1]
