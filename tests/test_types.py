"""The records: what a batch makes of its values, and that every refusal names the thing
in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.core.reading import to_unit

IMAGE = Modality("image", (1, 2, 2))
WORDS = Modality("words", (3,), "categorical", classes=5)
VECTOR = Modality("vector", (2,), "normal")
ALL = (IMAGE, WORDS, VECTOR)


def values(rows: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (rows, 1, 2, 2), dtype=np.uint8),
        "words": rng.integers(0, 5, (rows, 3)),
        "vector": rng.normal(size=(rows, 2)).astype(np.float32),
    }


def refusal(kind: type[Exception], call: Callable[[], object]) -> str:
    """The message of the error that ``call`` must raise: one line."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- modalities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": ""}, "modality name ''"),
        ({"name": "a.b"}, "'a.b'"),
        ({"name": "a/b"}, "'a/b'"),
        ({"shape": ()}, r"shape \(\)"),
        ({"shape": (3, 0)}, r"shape \(3, 0\)"),
        ({"likelihood": "gauss"}, "unknown likelihood 'gauss'; choose one of normal, laplace"),
        ({"scale": 0.0}, "scale 0.0 must be positive"),
        ({"scale": float("nan")}, "scale nan must be positive"),
        ({"weight": -1.0}, "weight -1.0 must be positive"),
        ({"likelihood": "categorical"}, "classes >= 2"),
        ({"likelihood": "categorical", "classes": 1}, "got 1"),
        (
            {"likelihood": "categorical", "classes": 4, "shape": (2, 2)},
            r"shape \(length,\), got \(2, 2\)",
        ),
        (
            {"likelihood": "categorical", "classes": 4, "words": ("a", "b")},
            "2 words for 4 classes of a categorical likelihood; give one for",
        ),
        ({"words": ("a", "b")}, "2 words for None classes of a laplace likelihood"),
        (
            {"features": ("a", "b", "c")},
            r"3 features for shape \(2,\); give one for each entry of a vector",
        ),
        ({"units": ((0.0, 1.0),)}, r"1 units for shape \(2,\)"),
        ({"shape": (1, 2, 2), "features": ("a",) * 4}, r"4 features for shape \(1, 2, 2\)"),
    ],
)
def test_a_bad_modality_is_refused(options: dict[str, Any], named: str) -> None:
    assert re.search(
        named, refusal(ValueError, lambda: Modality(**{"name": "thing", "shape": (2,), **options}))
    )


def test_a_shape_from_json_becomes_a_tuple() -> None:
    assert Modality("thing", [3, np.int64(4)]).shape == (3, 4)  # type: ignore[arg-type]


def test_ids_are_shown_as_text() -> None:
    words = Modality("words", (4,), "categorical", classes=3, words=["", "red", "bird"])  # type: ignore[arg-type]
    assert (
        words.text(torch.tensor([1, 2, 0, 0])) == "red bird"
        and words.text([0, 2, 0, 1]) == "bird red"
    )
    assert (
        Modality("letters", (4,), "categorical", classes=3, words=("·", "a", "b")).text(
            np.array([0.0, 1.0, 2.0, 0.0])
        )
        == "·ab·"
    )
    assert Modality("ids", (4,), "categorical", classes=13).text([12, 1, 0, 3]) == "12 1 0 3"


def test_what_ids_and_entries_are_called_changes_no_checksum() -> None:
    units = ((0.0, 1.0), (5.0, 2.0))
    for plain, name, called in (
        (replace(WORDS, classes=2), "words", ("a", "b")),
        (VECTOR, "features", ("CD4", "CD8")),
        (VECTOR, "units", units),
    ):
        shown = replace(plain, **{name: called})
        assert (
            shown.identity() == plain.identity()
            and name not in plain.identity()
            and getattr(shown, name) == called
        )


def test_units_are_taken_off_and_put_on_again() -> None:
    modality = Modality("vector", (2,), units=[[1, 2], [-3, 0.5]])  # type: ignore[list-item]  # as JSON has them
    values = torch.tensor([[[3.0, -3.0], [1.0, -2.0]]])
    torch.testing.assert_close(
        modality.standardised(values), torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    )
    torch.testing.assert_close(modality.original(modality.standardised(values)), values)
    assert VECTOR.original(values) is values and modality.units == ((1.0, 2.0), (-3.0, 0.5))


# --- batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_converts_what_it_takes() -> None:
    x = values()
    batch = Batch.of(x, modalities=ALL)
    assert len(batch) == 4
    torch.testing.assert_close(
        batch.x["image"], torch.as_tensor(x["image"].astype(np.float32) / 255)
    )
    assert batch.x["words"].dtype == torch.int64 and (batch.x["words"].numpy() == x["words"]).all()
    assert batch.x["vector"].dtype == torch.float32
    assert all(bool(p.all()) for p in batch.present.values())


def test_floats_are_not_divided_and_the_givers_array_is_untouched() -> None:
    x = {"image": np.full((2, 1, 2, 2), 0.75), "vector": np.ones((2, 2), np.float32)}
    batch = Batch.of(x, {"vector": np.array([True, False])}, modalities=ALL)
    assert float(batch.x["image"].max()) == 0.75
    assert batch.x["vector"].tolist() == [[1, 1], [0, 0]]
    assert (x["vector"] == 1).all()
    assert to_unit(torch.tensor([255, 51], dtype=torch.uint8)).tolist() == pytest.approx([1.0, 0.2])


def test_absent_rows_hold_zeros_whatever_was_there() -> None:
    x, here = values(), np.array([True, False, True, False])
    x["vector"][~here] = np.nan
    x["words"][~here] = 99
    x["image"] = x["image"].astype(np.float32) / 255
    x["image"][~here] = np.inf
    x["extra"] = np.zeros((4, 1))
    batch = Batch.of(
        x,
        {n: here for n in ("image", "words", "vector")},
        modalities=[*ALL, Modality("extra", (1,))],
    )
    for n in ("image", "words", "vector"):
        assert float(batch.x[n][~torch.as_tensor(here)].abs().sum()) == 0
        assert float(batch.x[n][torch.as_tensor(here)].float().abs().sum()) > 0


def test_a_modality_without_values_is_absent_everywhere() -> None:
    batch = Batch.of({"vector": np.ones((3, 2))}, modalities=ALL)
    assert batch.x["image"].shape == (3, 1, 2, 2) and batch.x["words"].dtype == torch.int64
    assert batch.present["image"].tolist() == [False] * 3


def test_rows_are_chosen_alike_in_values_and_presence() -> None:
    batch = Batch.of(values(), {"image": np.array([True, False, True, False])}, modalities=ALL)
    part = batch[torch.tensor([1, 2])]
    assert len(part) == 2 and part.present["image"].tolist() == [False, True]
    torch.testing.assert_close(part.x["vector"], batch.x["vector"][1:3])
    assert len(batch[:3]) == 3


def test_only_keeps_the_given() -> None:
    batch = Batch.of(values(), modalities=ALL)
    kept = batch.only(["words"])
    assert not kept.present["image"].any() and float(kept.x["image"].sum()) == 0
    assert kept.present["words"].all() and (kept.x["words"] == batch.x["words"]).all()
    assert batch.present["image"].all(), "the original must stay as it was"


def with_value(name: str, change: Callable[[Any], Any]) -> Callable[[], Batch]:
    x = values()
    x[name] = change(x[name])
    return lambda: Batch.of(x, modalities=ALL)


def put(array: Any, at: object, value: object) -> Any:
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda: Batch.of({"sound": np.zeros((4, 2))}, modalities=ALL),
            "unknown modality 'sound'; this model knows image, words, vector",
        ),
        (lambda: Batch.of({}, modalities=ALL), "no modality given; give at least one of image"),
        (
            lambda: Batch.of(
                {"vector": np.zeros((4, 2))}, {"image": np.ones(4, bool)}, modalities=ALL
            ),
            "'present' names 'image'",
        ),
        (
            lambda: Batch.of(values(), {"image": np.ones(3, bool)}, modalities=ALL),
            r"'present' of 'image' has shape \(3,\), expected \(4,\)",
        ),
        (
            lambda: Batch.of(
                values(), {n: np.array([True, True, False, True]) for n in values()}, modalities=ALL
            ),
            "row 2 has every modality missing",
        ),
        (with_value("vector", lambda v: v[:3]), "different numbers of rows: .*'vector': 3"),
        (
            with_value("vector", lambda v: v[:, :1]),
            r"'vector': rows have shape \(1,\), expected \(2,\)",
        ),
        (
            with_value("vector", lambda v: put(v, (1, 0), np.nan)),
            "'vector': row 1 holds NaN or infinity",
        ),
        (
            with_value("vector", lambda v: put(v, (3, 1), -np.inf)),
            "'vector': row 3 holds NaN or infinity",
        ),
        (
            with_value("words", lambda v: put(v, (0, 0), 5)),
            r"'words': row 0 holds 5, an id outside \[0, 4\]",
        ),
        (
            with_value("words", lambda v: put(v, (0, 0), -1)),
            r"'words': row 0 holds -1, an id outside \[0, 4\]",
        ),
        (with_value("vector", lambda v: np.float32(3)), "array 'vector' is a single number"),
    ],
)
def test_a_bad_batch_is_refused(call: Callable[[], Batch], named: str) -> None:
    assert re.search(named, refusal(ValueError, call))


def test_bernoulli_values_outside_the_unit_interval_are_refused() -> None:
    mask = Modality("mask", (2,), "bernoulli")
    assert Batch.of({"mask": np.array([[0.0, 1.0]])}, modalities=[mask]).x["mask"].tolist() == [
        [0.0, 1.0]
    ]
    message = refusal(
        ValueError, lambda: Batch.of({"mask": np.array([[0.0, 1.5]])}, modalities=[mask])
    )
    assert "'mask': row 0 spans [0, 1.5]" in message


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            with_value("words", lambda v: v.astype(float)),
            "'words': word ids must be integers, got float64",
        ),
        (
            with_value("vector", lambda v: v.astype(complex)),
            "array 'vector' has dtype complex128; give numbers",
        ),
        (
            with_value("vector", lambda v: v.astype(str)),
            "'vector': text is no numbers; encode it first",
        ),
        (
            with_value("vector", lambda v: np.full(v.shape, "x", object)),
            "'vector': text is no numbers",
        ),
    ],
)
def test_a_wrong_dtype_is_refused(call: Callable[[], Batch], named: str) -> None:
    assert re.search(named, refusal(TypeError, call))


def test_only_refuses_what_it_cannot_keep() -> None:
    batch = Batch.of(values(), {"image": np.array([True, False, True, True])}, modalities=ALL)
    assert "unknown modality 'sound'; choose from image, words, vector" in refusal(
        ValueError, lambda: batch.only(["sound"])
    )
    assert "no modality given" in refusal(ValueError, lambda: batch.only([]))
    assert "row 1 has none of the given modalities (image)" in refusal(
        ValueError, lambda: batch.only(["image"])
    )


def test_a_batch_is_shown_in_a_line() -> None:
    modalities = [Modality("image", (1, 2, 2)), Modality("genes", (3,), "normal")]
    batch = Batch.of(
        {"image": torch.rand(4, 1, 2, 2), "genes": torch.rand(4, 3)},
        {"genes": torch.tensor([1, 0, 1, 1]).bool()},
        modalities=modalities,
    )
    assert repr(batch) == "Batch(4 rows: image (1, 2, 2); genes (3,), 3 present)"
