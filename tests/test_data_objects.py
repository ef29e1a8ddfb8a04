"""Data sets from one pandas table, from torch's data sets and from Hugging Face's."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

import counterpoint as cp

pandas = pytest.importorskip("pandas")

ROWS = 20
RNA = np.arange(ROWS * 2, dtype=np.float32).reshape(ROWS, 2) / 7
ADT = np.sqrt(np.arange(ROWS * 3, dtype=np.float32)).reshape(ROWS, 3)
KIND = np.array(["a", "b"] * (ROWS // 2))
NAMES = [f"cell {i}" for i in range(ROWS)]


def flat() -> Any:
    table = pandas.DataFrame(RNA, columns=["CD3", "CD8"], index=NAMES)
    table[["x", "y", "z"]] = ADT
    return table.assign(kind=KIND, age=np.linspace(0.0, 1.0, ROWS) ** 2)


def by_row(data: cp.data.Dataset, name: str) -> dict[str, list[float]]:
    """Values by the name of the row, over all splits."""
    return {
        str(row): values.tolist()
        for split in data.splits().values()
        for row, values in zip(split.ids, split.x[name], strict=True)
    }


# --- one table ------------------------------------------------------------------------


def test_columns_of_two_levels_are_modalities_and_their_features() -> None:
    columns = pandas.MultiIndex.from_tuples(
        [("rna", "CD3"), ("rna", "CD8"), ("adt", "x"), ("adt", "y"), ("adt", "z"), ("kind", "")]
    )
    table = pandas.concat([flat()[["CD3", "CD8", "x", "y", "z"]], flat()["kind"]], axis=1)
    table.columns = columns
    data = cp.data.load(table, labels=["kind"])
    assert [(m.name, m.features) for m in data.modalities] == [
        ("rna", ("CD3", "CD8")),
        ("adt", ("x", "y", "z")),
    ]
    assert by_row(data, "rna") == dict(zip(NAMES, RNA.tolist(), strict=True))
    assert by_row(data, "adt") == dict(zip(NAMES, ADT.tolist(), strict=True))
    for split in data.splits().values():
        want = [int(name.split()[1]) % 2 for name in map(str, split.ids)]
        assert split.shared_labels["kind"].tolist() == want


def test_features_divide_the_columns_of_a_table() -> None:
    modalities = [
        cp.Modality("adt", (2,), "normal", features=("z", "x")),
        cp.Modality("rna", (1,), "normal", features=("CD8",)),
    ]
    data = cp.data.load(flat(), modalities=modalities, labels=["kind"])
    assert by_row(data, "adt") == dict(zip(NAMES, ADT[:, [2, 0]].tolist(), strict=True))
    assert by_row(data, "rna") == dict(zip(NAMES, RNA[:, [1]].tolist(), strict=True))


def test_a_table_alone_is_one_modality_without_its_labels_and_covariates() -> None:
    data = cp.data.load(flat(), labels=["kind"], covariates=["age"])
    (modality,) = data.modalities
    assert modality.name == "table" and modality.features == ("CD3", "CD8", "x", "y", "z")
    assert data.covariate_names == ("age",) and [*data.train.shared_labels] == ["kind"]


def test_a_table_refuses_columns_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="a DataFrame has no column 'sort' for labels"):
        cp.data.load(flat(), labels=["sort"])
    with pytest.raises(ValueError, match=r"modality 'rna' needs features .* no column 'CD4'"):
        cp.data.load(flat(), modalities=[cp.Modality("rna", (1,), features=("CD4",))])
    with pytest.raises(TypeError, match="labels='kind' must be a list of names"):
        cp.data.load(flat(), labels="kind")


def test_a_dictionary_of_tables_is_paired_by_their_rows() -> None:
    tables = {"rna": flat()[["CD3", "CD8"]], "adt": flat()[["x", "y", "z"]][::-1]}
    data = cp.data.load(tables, labels={"kind": flat()["kind"]})
    assert by_row(data, "adt") == dict(zip(NAMES, ADT.tolist(), strict=True))


# --- torch ----------------------------------------------------------------------------


class Items(TorchDataset[dict[str, Any]]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def items(first: int = 0, last: int = ROWS) -> Items:
    return Items(
        [
            {"rna": torch.from_numpy(RNA[i]), "adt": ADT[i], "kind": int(i % 2)}
            for i in range(first, last)
        ]
    )


def test_items_of_torch_are_rows_in_order() -> None:
    parts = {"train": items(0, 12), "val": items(12, 16), "test": items(16, 20)}
    data = cp.data.load(parts, labels=["kind"])
    np.testing.assert_array_equal(data.val.x["rna"], RNA[12:16])
    np.testing.assert_array_equal(data.test.x["adt"], ADT[16:])
    assert data.train.shared_labels["kind"].tolist() == [0, 1] * 6


def test_one_data_set_of_torch_is_divided() -> None:
    data = cp.data.load(items(), labels=["kind"], fractions=(0.6, 0.2, 0.2))
    rows = np.concatenate([split.x["rna"] for split in data.splits().values()])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], RNA)
    assert [len(split) for split in data.splits().values()] == [12, 4, 4]


def test_what_an_item_lacks_is_absent() -> None:
    some = items()
    some.items[3]["adt"] = None
    del some.items[5]["rna"]
    parts = {"train": some, "val": items(), "test": items()}
    train = cp.data.load(parts, labels=["kind"]).train
    assert np.flatnonzero(~train.present["adt"]).tolist() == [3]
    assert np.flatnonzero(~train.present["rna"]).tolist() == [5]


def test_data_sets_of_torch_that_can_not_be_read_say_why() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield {}

    with pytest.raises(TypeError, match="Endless has no length"):
        cp.data.load(Endless())
    with pytest.raises(TypeError, match="item 0 is tuple; expected a dictionary"):
        cp.data.load(Items([(1, 2)]))
    with pytest.raises(ValueError, match=r"item 1: 'a' has shape \(3,\), expected \(2,\)"):
        cp.data.load(Items([{"a": np.zeros(2)}, {"a": np.zeros(3)}]))
    with pytest.raises(ValueError, match="the Items has no items"):
        cp.data.load(Items([]))


# --- Hugging Face -----------------------------------------------------------------------

needs_datasets = pytest.mark.skipif(not find_spec("datasets"), reason="needs datasets")


def hugging(first: int = 0, last: int = ROWS) -> Any:
    import datasets
    from PIL import Image

    pixels = np.arange(ROWS * 48, dtype=np.uint8).reshape(ROWS, 4, 4, 3)
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "genes": datasets.Sequence(datasets.Value("float32")),
            "kind": datasets.ClassLabel(names=["a", "b"]),
            "site": datasets.Value("string"),
        }
    )
    rows = range(first, last)
    columns = {
        "photo": [Image.fromarray(pixels[i]) for i in rows],
        "genes": [RNA[i].tolist() if i != 1 else None for i in rows],
        "kind": [i % 2 for i in rows],
        "site": ["n" if i < 10 else "s" for i in rows],
    }
    return datasets.Dataset.from_dict(columns, features=features)


@needs_datasets
def test_features_of_hugging_face_are_images_vectors_and_labels() -> None:
    import datasets

    parts = datasets.DatasetDict(
        {"train": hugging(0, 12), "validation": hugging(12, 16), "test": hugging(8, 12)}
    )
    data = cp.data.load(parts, covariates=["site"])
    assert [(m.name, m.shape) for m in data.modalities] == [("photo", (3, 4, 4)), ("genes", (2,))]
    pixels = np.arange(ROWS * 48, dtype=np.uint8).reshape(ROWS, 4, 4, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.val.x["photo"], pixels[12:16])
    np.testing.assert_array_equal(data.val.x["genes"], RNA[12:16])
    assert np.flatnonzero(~data.train.present["genes"]).tolist() == [1]
    assert data.train.shared_labels["kind"].tolist() == [0, 1] * 6
    assert data.covariate_names == ("site=n", "site=s")
    assert data.test.covariates[:, 0].tolist() == [1, 1, 0, 0]


@needs_datasets
def test_one_data_set_of_hugging_face_is_divided() -> None:
    data = cp.data.load(hugging().remove_columns("site"))
    assert sum(map(len, data.splits().values())) == ROWS


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="must be a text, a path, a mapping"):
        cp.data.load([1, 2])
