"""Users' own arrays: mappings, .npz files, folders; and the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.core.modality import Modality
from counterpoint.data import load, names, prepare


def arrays(rows: int = 40) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    genes = rng.standard_normal((rows, 6))
    genes[::5] = np.nan
    return {
        "photo": rng.integers(0, 256, (rows, 3, 8, 8), dtype=np.uint8),
        "genes": genes,
        "words": np.tile(np.arange(4), (rows, 1)),
        "label/kind": np.arange(rows) % 2,
        "label/colour/photo": np.where(np.arange(rows) % 3 == 0, "red", "blue"),
        "present/words": np.arange(rows) % 4 != 0,
    }


def write_folder(folder: Path, content: dict[str, Any]) -> Path:
    for key, values in content.items():
        path = folder / f"{key}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return folder


def test_a_mapping_is_understood_and_divided() -> None:
    source = arrays()
    data = load(source, seed=4)
    assert [(m.name, m.shape, m.likelihood, m.scale, m.classes) for m in data.modalities] == [
        ("photo", (3, 8, 8), "laplace", 0.75, None),
        ("genes", (6,), "normal", None, None),
        ("words", (4,), "categorical", None, 4),
    ]
    assert [len(s) for s in data.splits().values()] == [32, 4, 4]
    rows = np.concatenate(
        [
            [int(np.flatnonzero((source["photo"] == p).all((1, 2, 3)))[0]) for p in s.x["photo"]]
            for s in data.splits().values()
        ]
    )
    assert (
        sorted(rows) == list(range(40))
        and data.checksum() == load(source, seed=4).checksum() != load(source, seed=5).checksum()
    )
    genes = np.concatenate([s.present["genes"] for s in data.splits().values()])
    np.testing.assert_array_equal(genes, rows % 5 != 0)  # rows of NaN are absent
    np.testing.assert_array_equal(
        np.concatenate([s.present["words"] for s in data.splits().values()]), rows % 4 != 0
    )
    np.testing.assert_array_equal(
        np.concatenate([s.shared_labels["kind"] for s in data.splits().values()]), rows % 2
    )
    colour = np.concatenate([s.private_labels["colour"]["photo"] for s in data.splits().values()])
    np.testing.assert_array_equal(colour, rows % 3 == 0)
    assert data.notes["label/colour/photo"] == "blue, red"
    assert np.isfinite(data.train.batch(slice(0, 32)).x["genes"].numpy()).all()


def test_keywords_instead_of_slashed_names_and_own_modalities() -> None:
    source = arrays()
    own = (Modality("genes", (6,), "laplace", 0.5), Modality("photo", (3, 8, 8), "laplace", 0.01))
    data = load(
        {"photo": source["photo"], "genes": source["genes"]},
        present={"photo": np.arange(40) != 7},
        labels={"kind": source["label/kind"], "colour": {"photo": source["label/kind"]}},
        modalities=own,
        fractions=(0.5, 0.25, 0.25),
    )
    assert data.modalities == own and len(data.val) == 10
    assert sum(int((~s.present["photo"]).sum()) for s in data.splits().values()) == 1
    assert set(data.test.private_labels["colour"]) == {"photo"} and set(
        data.test.shared_labels
    ) == {"kind"}


def test_npz_folder_and_mapping_agree(tmp_path: Path) -> None:
    source = arrays()
    np.savez(tmp_path / "a.npz", **source)
    folder = write_folder(tmp_path / "a", source)
    sums = {
        load(s, seed=2, modalities=load(source).modalities).checksum()
        for s in (source, tmp_path / "a.npz", str(folder))
    }
    assert len(sums) == 1 and load(tmp_path / "a.npz").name == "a"


def test_given_splits_are_kept_and_stay_on_disk(tmp_path: Path) -> None:
    parts = {"train": arrays(12), "val": arrays(5), "test": arrays(6)}
    for part, content in parts.items():
        write_folder(tmp_path / "a" / part, content)
    np.savez(
        tmp_path / "a.npz",
        **{f"{part}/{k}": v for part, content in parts.items() for k, v in content.items()},
    )
    data = load(tmp_path / "a")
    assert [len(s) for s in data.splits().values()] == [12, 5, 6] and isinstance(
        data.train.x["photo"], np.memmap
    )
    assert data.train.present["genes"].tolist() == [i % 5 != 0 for i in range(12)]
    others = [load(source, modalities=data.modalities) for source in (parts, tmp_path / "a.npz")]
    assert {data.checksum()} == {other.checksum() for other in others}
    assert np.isfinite(data.train.batch(np.array([0, 5, 3])).x["genes"].numpy()).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros((9, 8, 8), np.uint8), ((1, 8, 8), "laplace")),
        (np.zeros((9, 8, 10, 3), np.uint8), ((3, 8, 10), "laplace")),
        (np.full((9, 1, 8, 8), 0.5), ((1, 8, 8), "laplace")),
        (np.full((9, 1, 8, 8), 1.5), ((1, 8, 8), "normal")),
        (np.zeros(9), ((1,), "normal")),
        (np.array([0, 1, 2] * 3), ((1,), "categorical")),
        (np.zeros((9, 4), bool), ((4,), "bernoulli")),
    ],
)
def test_what_is_inferred(values: np.ndarray, expected: tuple[tuple[int, ...], str]) -> None:
    data = load({"a": values})
    assert (data.modalities[0].shape, data.modalities[0].likelihood) == expected
    assert data.train.batch(slice(0, 2)).x["a"].shape == (2, *expected[0])


def test_booleans_become_zero_and_one() -> None:
    values = np.random.default_rng(0).random((30, 4)) < 0.5
    data = load({"a": values})
    batch = data.train.batch(slice(0, 24)).x["a"]
    assert (
        set(batch.unique().tolist()) == {0.0, 1.0}
        and int(batch.sum()) == int((data.train.x["a"] == 1).sum()) > 0
    )


def test_channels_last_images_are_turned() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    data = load({part: {"a": image} for part in ("train", "val", "test")})
    np.testing.assert_array_equal(data.val.x["a"][2, 1], image[2, :, :, 1])


def without_row(row: int) -> dict[str, Any]:
    return {
        "a": np.zeros((9, 2)),
        "b": np.zeros((9, 2)),
        "present/a": np.arange(9) != row,
        "present/b": np.arange(9) != row,
    }


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (
            {"a": np.zeros((5, 2)), "b": np.zeros((4, 2))},
            {},
            ValueError,
            "different numbers of rows",
        ),
        (
            {"a": np.array([[1.0, np.nan]] * 5)},
            {},
            ValueError,
            "train: modality 'a': row 0 holds NaN",
        ),
        ({"a": np.array([[1.0, np.inf]] * 5)}, {}, ValueError, "NaN or infinity"),
        ({"a": np.zeros((0, 2))}, {}, ValueError, "0 rows cannot be divided"),
        ({"a": np.zeros((2, 2))}, {}, ValueError, "2 rows cannot be divided"),
        (
            {
                "train": {"a": np.zeros((2, 2))},
                "val": {"a": np.zeros((0, 2))},
                "test": {"a": np.zeros((2, 2))},
            },
            {},
            ValueError,
            "val: a split is empty",
        ),
        ({}, {}, ValueError, "no arrays given"),
        (without_row(3), {}, ValueError, "every modality missing"),
        ({"a": np.full((5, 2), np.nan)}, {}, ValueError, "every modality missing"),
        (
            {"a": np.array([{}] * 5)},
            {},
            TypeError,
            r"array 'a' holds Python objects, dict \(entry 0\)",
        ),
        ({"a": np.array(["x"] * 5)}, {}, TypeError, "holds text"),
        (
            {"a": np.zeros((5, 2)), "mask/a": np.zeros(5)},
            {},
            ValueError,
            "array 'mask/a' is not understood",
        ),
        ({"a": np.zeros((5, 2)), "label/k": np.zeros(5)}, {}, TypeError, "expected integers"),
        (
            {"a": np.zeros((5, 2))},
            {"modalities": (Modality("b", (2,)),)},
            ValueError,
            "belongs to none of the modalities b",
        ),
        (
            {"a": np.zeros((5, 2))},
            {"modalities": (Modality("a", (3,)),)},
            ValueError,
            r"shape \(2,\), expected \(3,\)",
        ),
        ({"a": np.zeros((5, 2))}, {"fractions": (0.5, 0.5, 0.5)}, ValueError, "sum to 1"),
        ({"a": np.zeros((5, 2))}, {"size": 32}, ValueError, "'size' does not apply to a mapping"),
        ({"a": np.float64(3)}, {}, ValueError, "single number"),
        ({"a": np.zeros((5, 3, 4, 4), np.int32)}, {}, TypeError, "ambiguous"),
        (
            "digits-quadrat",
            {},
            FileNotFoundError,
            "digits-quadrant, polymnist, translated-polymnist, polymnist-quadrant, digits-usps",
        ),
        ("nowhere/a.npz", {}, FileNotFoundError, "nowhere/a.npz"),
        ("digits-usps", {"views": 3}, ValueError, "'views' does not apply"),
        ("digits-quadrant", {"labels": {}}, ValueError, "'labels' does not apply"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    source: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", a=np.array([{}] * 5))
    np.savez(tmp_path / "whole.npz", a=np.zeros((50, 2)))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    damaged = bytearray((tmp_path / "whole.npz").read_bytes())
    damaged[400] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    (tmp_path / "a.csv").write_text("1,2")
    (tmp_path / "text.npz").write_text("hello")
    for name, error, message in (
        ("object.npz", TypeError, "never unpickled"),
        ("half.npz", ValueError, "truncated"),
        ("damaged.npz", ValueError, "corrupt"),
        ("text.npz", ValueError, "not an .npz file"),
        (
            "a.csv",
            ValueError,
            "neither a folder, a .parquet .* nor an .npz, .h5mu or .h5ad file; convert it",
        ),
    ):
        with pytest.raises(error, match=message):
            load(tmp_path / name)


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    objects = write_folder(tmp_path / "objects", {"a": np.array([{}] * 5)})
    half = write_folder(tmp_path / "half", {"a": np.zeros((50, 2))})
    (half / "a.npy").write_bytes((half / "a.npy").read_bytes()[:200])
    partial = write_folder(tmp_path / "partial" / "test", {"a": np.zeros((5, 2))}).parent
    mixed = tmp_path / "mixed"
    for part in ("", "train", "val", "test"):
        write_folder(mixed / part, {"a": np.zeros((5, 2))})
    for folder, error, message in (
        (tmp_path / "empty", FileNotFoundError, "no .npy file"),
        (objects, TypeError, "never unpickled"),
        (half, ValueError, "truncated"),
        (partial, ValueError, "has test but no train"),
        (mixed, ValueError, "beside train, val and test"),
    ):
        with pytest.raises(error, match=message):
            load(folder)
    with pytest.raises(ValueError, match="verify"):
        load(write_folder(tmp_path / "fine", {"a": np.zeros((5, 2))}), verify=True)


def test_every_name_has_a_line() -> None:
    quadrants = {"digits-quadrant", "polymnist", "translated-polymnist", "polymnist-quadrant"}
    pairs = {"digits-usps", "digits-usps-text", "mnist-svhn", "mnist-svhn-text"}
    omics = {"tcga-brca", "scgem", "snareseq", "citeseq", "tcga-mortality"}
    assert set(names()) == {
        *quadrants,
        *pairs,
        *omics,
        "cub",
        "celebamask",
        "circles-squares",
        "circles-squares-size",
    }
    assert all(line and "\n" not in line for line in names().values())
    with pytest.raises(ValueError, match="needs no preparation"):
        prepare("digits-quadrant")
    with pytest.raises(ValueError, match="not a known data set; what can be prepared is polymnist"):
        prepare("cifar")


def test_missing_hides_training_values_only_and_changes_the_checksum() -> None:
    whole, holed = (
        load("digits-quadrant", pairings=1),
        load("digits-quadrant", pairings=1, missing=0.3),
    )
    hidden = np.mean([~holed.train.present[m.name] for m in holed.modalities])
    assert 0.27 < hidden < 0.32  # 0.3, less the rows that would have lost everything (0.027 / 3)
    assert np.stack([holed.train.present[m.name] for m in holed.modalities]).any(0).all()
    assert all(holed.test.present[m.name].all() for m in holed.modalities)
    assert holed.checksum() != whole.checksum() and "0.3" in holed.notes["missing"]
    blocks = load("digits-quadrant", pairings=1, missing=0.3, missing_how="block")
    runs = np.stack([~blocks.train.present[m.name] for m in blocks.modalities])
    assert ((runs != np.roll(runs, 1, 1)).sum(1) == 2).all() and blocks.notes["missing"].startswith(
        "runs of 0.3"
    )
    assert blocks.checksum() not in (holed.checksum(), whole.checksum())
    with pytest.raises(ValueError, match="how='rows' is unknown"):
        load("digits-quadrant", pairings=1, missing=0.3, missing_how="rows")  # type: ignore[arg-type]


def test_another_likelihood_is_that_of_every_modality_but_word_ids() -> None:
    rng = np.random.default_rng(0)
    source = {
        "a": rng.random((20, 3, 4, 4)),
        "b": rng.normal(size=(20, 2)),
        "words": rng.integers(0, 5, (20, 6)),
    }
    as_normal = load(source, likelihood="normal", scale=0.3)
    assert [(m.likelihood, m.scale) for m in as_normal.modalities] == [
        ("normal", 0.3),
        ("normal", 0.3),
        ("categorical", None),
    ]
    assert [(m.likelihood, m.scale) for m in load(source, likelihood="laplace").modalities][:2] == [
        ("laplace", None)
    ] * 2
    assert [(m.likelihood, m.scale) for m in load(source, scale=2.0).modalities][:2] == [
        ("laplace", 2.0),
        ("normal", 2.0),
    ]
    assert (
        as_normal.modalities
        == as_normal.train.modalities
        == load(source, likelihood="normal", scale=0.3, missing=0.3).test.modalities
    )
    for part, split in load(source).splits().items():
        np.testing.assert_array_equal(split.x["b"], as_normal.splits()[part].x["b"])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"words": np.zeros((9, 2), np.int64)}, {"likelihood": "normal"}, "word ids alone"),
        (
            {"a": np.zeros((9, 2))},
            {"likelihood": "categorical"},
            "must be one of normal, laplace, bernoulli",
        ),
        (
            {"a": np.eye(9) * 1.5},
            {"likelihood": "bernoulli"},
            r"modality 'a': row \d spans \[0, 1.5\], but a Bernoulli",
        ),
        (
            {"a": np.zeros((9, 2))},
            {"likelihood": "bernoulli", "scale": 1.0},
            "has no scale, got 1.0",
        ),
        ({"a": np.zeros((9, 2), bool)}, {"scale": 1.0}, "has no scale, got 1.0"),
        ({"a": np.zeros((9, 2))}, {"scale": -1.0}, "must be positive"),
    ],
)
def test_likelihoods_that_do_not_fit_are_refused(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(source, **options)
