"""What a value means does not hang on the container, the dtype, the order or the
storage that it comes in."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import counterpoint as cp
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, load
from counterpoint.data.sources.inference import as_values

pandas = pytest.importorskip("pandas")

ROWS = 60
NAMES = [f"s{i}" for i in range(ROWS)]
VALUES = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
TABLE = pandas.DataFrame(VALUES, index=NAMES, columns=["g1", "g2", "g3"])
SHUFFLED = np.random.default_rng(1).permutation(ROWS)


def whole(data: Dataset, name: str) -> np.ndarray:
    """Values of all rows, as models take them."""
    return np.concatenate(
        [split.batch(slice(None)).x[name].numpy() for split in data.splits().values()]
    )


def present(data: Dataset, name: str) -> np.ndarray:
    return np.concatenate([split.present[name] for split in data.splits().values()])


def ids(data: Dataset) -> list[str]:
    found: list[str] = []
    for split in data.splits().values():
        assert split.ids is not None
        found += split.ids.tolist()
    return found


# --- containers and storage -----------------------------------------------------------------------------------------------------


def of_strided() -> np.ndarray:
    wide = np.zeros((ROWS, 6), np.float32)
    wide[:, ::2] = VALUES
    return wide[:, ::2]


def of_bytes(dtype: str) -> Callable[[], np.ndarray]:
    return lambda: VALUES.astype(dtype)


@pytest.mark.parametrize(
    "made",
    [
        lambda: VALUES.tolist(),
        lambda: [tuple(row) for row in VALUES.tolist()],
        lambda: [*VALUES],
        lambda: VALUES.astype(object),
        lambda: np.asfortranarray(VALUES),
        lambda: np.ascontiguousarray(VALUES[::-1, ::-1])[::-1, ::-1],
        of_strided,
        of_bytes(">f4"),
        of_bytes(">f8"),
        of_bytes("f8"),
        of_bytes("g"),
        lambda: VALUES.view(np.matrix),
        lambda: np.ma.array(VALUES),
        lambda: torch.tensor(VALUES, requires_grad=True),
        lambda: torch.tensor(VALUES).to_sparse(),
        lambda: sparse.csr_matrix(VALUES),
        lambda: sparse.coo_array(VALUES),
        lambda: sparse.csc_matrix(VALUES),
        lambda: TABLE.reset_index(drop=True),
        lambda: TABLE.astype("Float32").reset_index(drop=True),
        lambda: np.frombuffer(VALUES.tobytes(), np.float32).reshape(
            VALUES.shape
        ),  # cannot be written to
    ],
)
def test_a_container_changes_no_value(made: Callable[[], Any]) -> None:
    data = load({"a": made()}, seed=3)
    expected = load({"a": VALUES}, seed=3)
    assert [(m.shape, m.likelihood) for m in data.modalities] == [((3,), "normal")]
    np.testing.assert_array_equal(whole(data, "a"), whole(expected, "a"))


def test_half_precision_is_what_it_says() -> None:
    np.testing.assert_array_equal(
        np.sort(whole(load({"a": VALUES.astype(np.float16)}), "a").ravel()),
        np.sort(VALUES.astype(np.float16).astype(np.float32).ravel()),
    )
    brain = torch.tensor(VALUES).bfloat16()
    np.testing.assert_array_equal(
        np.sort(whole(load({"a": brain}), "a").ravel()), np.sort(brain.float().numpy().ravel())
    )


def test_numbers_that_are_python_objects_and_what_is_missing_among_them() -> None:
    rows = np.array([Fraction(1, 4), 2, None, np.float32(0.5), True] * 12, object)
    data = load({"a": rows, "b": VALUES}, seed=0)
    here = present(data, "a")
    assert here.sum() == 48 and sorted(set(whole(data, "a")[here].ravel().tolist())) == [
        0.25,
        0.5,
        1.0,
        2.0,
    ]


def test_text_of_any_storage_is_text() -> None:
    texts = ["é", "y"] * (ROWS // 2)
    made = {
        "list": texts,
        "unicode": np.array(texts),
        "bytes": np.array([text.encode() for text in texts]),
        "objects": np.array([text.encode() for text in texts], object),  # as h5py reads text
        "strings": np.array(texts, np.dtypes.StringDType()),
        "categories": pandas.Categorical(texts),
        "index": pandas.Index(texts),
        "missing": [None if text == "y" else text for text in texts],
    }
    data = load({"a": VALUES}, labels=made)
    assert {key: note for key, note in data.notes.items() if key.startswith("label/")} == {
        f"label/{name}": "é" if name == "missing" else "y, é" for name in made
    }
    assert set(np.unique(data.train.shared_labels["missing"])) == {-1, 0}
    for name in [*made][1:-1]:
        np.testing.assert_array_equal(
            data.train.shared_labels[name], data.train.shared_labels["list"]
        )
    with pytest.raises(ValueError, match="'label/k' holds bytes that are no UTF-8"):
        load({"a": VALUES}, labels={"k": np.array([b"x", b"\xff"] * (ROWS // 2))})


def test_rows_may_have_names_of_several_levels_and_one_column_of_whole_numbers_is_a_class() -> None:
    table = pandas.DataFrame(
        VALUES, index=pandas.MultiIndex.from_product([[1, 2], range(ROWS // 2)])
    )
    assert "(1, 0)" in ids(load({"a": table}))
    assert load({"a": pandas.Series(np.arange(ROWS) % 3)}).modalities[0].likelihood == "categorical"
    with pytest.warns(
        UserWarning, match="whole numbers alone and is read as normal"
    ):  # ages and years may be floats
        assert (
            load({"a": pandas.DataFrame({"age": 20.0 + np.arange(ROWS), "year": 1990.0})})
            .modalities[0]
            .likelihood
            == "normal"
        )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_entries_of_a_sparse_tensor_that_repeat_add_up_too() -> None:
    places, counts = (
        [[*np.repeat(np.arange(9), 2)], [0, 0] * 9],
        torch.tensor([200, 150] * 9, dtype=torch.uint8),
    )
    data = load({"rna": torch.sparse_coo_tensor(places, counts, (9, 2))})
    assert data.modalities[0].likelihood == "nb" and whole(data, "rna").sum() == 9 * 350


@pytest.mark.parametrize("form", ["coo", "csr", "csc", "matrix"])
def test_entries_of_a_sparse_matrix_that_repeat_add_up_without_wrapping(form: str) -> None:
    rows, columns = np.repeat(np.arange(30), 3), np.tile([0, 0, 1], 30)
    counts = np.tile(np.array([200, 150, 7], np.uint8), 30)
    made: Any = {
        "coo": lambda: sparse.coo_array((counts, (rows, columns)), shape=(30, 2)),
        "csr": lambda: sparse.csr_array((counts, columns, np.arange(0, 91, 3)), shape=(30, 2)),
        "csc": lambda: sparse.csc_array((counts, rows, [0, 0, 90]), shape=(30, 2)),
        "matrix": lambda: sparse.coo_matrix((counts, (rows, columns)), shape=(30, 2)),
    }[form]()
    before = made.data.copy()
    data = load({"rna": made})
    assert data.modalities[0].likelihood == "nb"
    np.testing.assert_array_equal(
        whole(data, "rna"), np.tile([0, 357] if form == "csc" else [350, 7], (30, 1))
    )
    np.testing.assert_array_equal(made.data, before)  # what was given stays as it was


def test_sparse_zeros_and_ones_are_bernoulli_and_fractions_normal() -> None:
    bits = sparse.csr_array((np.random.default_rng(0).random((40, 8)) < 0.3).astype(np.int8))
    assert load({"a": bits}).modalities[0].likelihood == "bernoulli"
    assert load({"a": bits * -0.5}).modalities[0].likelihood == "normal"


def test_masked_rows_are_absent_and_masked_entries_never_pass_for_values() -> None:
    mask = np.zeros(VALUES.shape, bool)
    mask[::4] = True
    data = load({"a": np.ma.array(VALUES, mask=mask), "b": VALUES})
    assert (~present(data, "a")).sum() == 15 and whole(data, "a")[~present(data, "a")].sum() == 0
    mask[1, 2] = True
    holed = np.ma.array(VALUES, mask=mask)
    with pytest.raises(ValueError, match=r"row \d+ holds NaN or infinity.*nan='missing'"):
        load({"a": holed, "b": VALUES})
    gapped = load({"a": holed, "b": VALUES}, nan="missing")
    entries = [
        split.batch(slice(None)).entries["a"].numpy()[split.present["a"]]
        for split in gapped.splits().values()
    ]
    assert gapped.modalities[0].gaps and (~np.concatenate(entries)).sum() == 1
    with pytest.raises(
        ValueError, match="array 'w' holds whole numbers of which some are missing in row 1"
    ):
        load({"w": np.ma.array(np.ones((ROWS, 3), int), mask=mask)}, nan="missing")


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES.astype(">f4"))
    np.testing.assert_array_equal(whole(load(tmp_path), "a"), whole(load({"a": VALUES}), "a"))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (VALUES + 0j, TypeError, "array 'a' has dtype complex"),
        (
            np.full((9, 2), "2020-01-01", "M8[D]"),
            TypeError,
            "dtype datetime64.D.; give numbers of one unit, such as days",
        ),
        (np.full((9, 2), 3, "m8[s]"), TypeError, "such as days"),
        (
            [[1.0, 2.0]] * 9 + [[1.0]],
            ValueError,
            r"array 'a' has rows of different lengths \(1 and 2\); pad them",
        ),
        ([np.zeros(2), np.zeros(3)] * 5, ValueError, "different (lengths|shapes)"),
        (np.zeros(20, [("x", "f4")]), TypeError, "of several fields"),
        ({"x": 1}, TypeError, "array 'a' is a dict"),
        ("x.npy", TypeError, "array 'a' is the text 'x.npy'"),
        (None, TypeError, "array 'a' is a NoneType"),
        ({1.0, 2.0}, TypeError, "array 'a' is a set"),
        (iter([1.0]), TypeError, "array 'a' is a list_iterator"),
        (Path("x.npy"), TypeError, "array 'a' is a Posix"),
        (pandas.DataFrame({"x": []}), ValueError, "table 'a' has no rows"),
        (np.array([1, "x", 2.0] * 5, object), TypeError, "int .entry 0. and str .entry 1."),
        (np.full((9, 2), 1e300), ValueError, "row 0 holds 1e.300, more than float32 holds"),
        (np.full((9, 2), 2**63, np.uint64), ValueError, "9223372036854775808, more than 2.63"),
        (np.array([2**70] * 9, object), ValueError, "more than 64 bits"),
        (pandas.DataFrame({"x": pandas.date_range("2020", periods=9)}), TypeError, "datetime"),
        (
            pandas.DataFrame({"x": ["u"] * 9, "y": 1.0}),
            TypeError,
            "column 'x' of table 'a' holds text",
        ),
        (
            pandas.DataFrame(np.ones((9, 2)), index=[*"abcdefgha"]),
            ValueError,
            "row 'a' is there 2 times; make the index unique",
        ),
        (
            pandas.DataFrame(np.ones((9, 2)), columns=["u", "u"]),
            ValueError,
            "column 'u' is there 2 times",
        ),
        (
            pandas.DataFrame(np.ones((3, 2)), index=["x", None, "y"]),
            ValueError,
            "row 1 has no name",
        ),
        (pandas.DataFrame(index=range(9)), ValueError, "has no columns"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_in_one_line(
    value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load({"a": value})
    assert "\n" not in str(caught.value)
    assert (
        "array" in str(caught.value)
        or "table" in str(caught.value)
        or "modality" in str(caught.value)
    )


def test_names_that_are_none_and_sources_that_are_none() -> None:
    with pytest.raises(TypeError, match="not by 3; give each a name"):
        load({3: VALUES})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"source=.* must be a text or Path or a mapping"):
        load(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'label/\.\./a' is no name"):
        load({"a": VALUES, "label/../a": np.zeros(ROWS, int)})


# --- axes -----------------------------------------------------------------------------------------------------------------------

DTYPES = ("uint8", "bool", "float16", "float32", "float64", ">f4")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28, 1), (1, 28, 28)),
        ((32, 32, 3), (3, 32, 32)),
        ((9, 11, 4), (4, 9, 11)),
        ((1, 28, 28), (1, 28, 28)),
        ((3, 4, 4), (3, 4, 4)),  # four columns are no channels: rows and columns are as many
        ((4, 4, 3), (3, 4, 4)),
        ((2, 8, 8), (2, 8, 8)),
        ((8, 8, 2), (2, 8, 8)),
        ((5, 20, 30), (5, 20, 30)),
        ((28, 28), (1, 28, 28)),
    ],
)
def test_images_are_laid_out_by_their_shape_whatever_their_dtype(
    dtype: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (6, *shape))
    found = as_values("a", pixels.astype(dtype), None)
    last = len(shape) == 3 and expected == (shape[2], *shape[:2])
    axes = pixels.transpose(0, 3, 1, 2) if last else pixels.reshape(6, *expected)
    np.testing.assert_array_equal(found, axes)
    assert load({"a": pixels.astype(dtype)}).modalities[0].shape == expected


@pytest.mark.parametrize(
    "shape", [(3, 3, 3), (1, 28, 1), (3, 8, 3), (3, 3, 10), (20, 30, 5), (16, 4, 4)]
)
def test_images_that_may_be_either_are_refused_and_laid_out_by_their_modality(
    shape: tuple[int, ...],
) -> None:
    pixels = np.random.default_rng(0).random((20, *shape)).astype(np.float32)
    with pytest.raises(
        ValueError, match=r"may have their channels first or last; .*Modality\('a'"
    ) as caught:
        load({"a": pixels})
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(as_values("a", pixels, Modality("a", shape)), pixels)
    turned = (shape[2], *shape[:2])
    if turned != shape:
        np.testing.assert_array_equal(
            as_values("a", pixels, Modality("a", turned)), pixels.transpose(0, 3, 1, 2)
        )


# --- tables ---------------------------------------------------------------------------------------------------------------------


def test_tables_are_paired_by_the_names_of_their_rows_and_keep_those_of_columns() -> None:
    data = load({"a": TABLE, "b": (2 * TABLE).iloc[SHUFFLED]})
    np.testing.assert_array_equal(whole(data, "b"), 2 * whole(data, "a"))
    assert [m.features for m in data.modalities] == [("g1", "g2", "g3")] * 2 and sorted(
        ids(data)
    ) == sorted(NAMES)
    np.testing.assert_array_equal(whole(data, "a"), TABLE.loc[ids(data)].to_numpy())


def test_rows_are_the_union_and_absent_where_a_table_lacks_them() -> None:
    data = load({"a": TABLE.iloc[:50], "b": TABLE.iloc[SHUFFLED].drop(index=NAMES[:10])})
    places = np.array([NAMES.index(name) for name in ids(data)])
    assert len(places) == ROWS
    np.testing.assert_array_equal(present(data, "a"), places < 50)
    np.testing.assert_array_equal(present(data, "b"), places >= 10)
    np.testing.assert_array_equal(whole(data, "b")[places >= 10], VALUES[places[places >= 10]])


def test_numbers_for_names_are_names_and_a_difference_is_said() -> None:
    numbered = TABLE.reset_index(drop=True)
    data = load({"a": numbered, "b": numbered.iloc[SHUFFLED]})
    np.testing.assert_array_equal(whole(data, "a"), whole(data, "b"))
    with pytest.warns(UserWarning, match="'a', 'b' have numbers for names, and 40 to 60 of them"):
        assert present(load({"a": numbered, "b": numbered.iloc[:40]}), "b").sum() == 40


def test_labels_masks_and_covariates_are_paired_by_name_too() -> None:
    kind = pandas.Series(
        np.where(np.arange(ROWS) % 3 == 0, None, np.where(np.arange(ROWS) % 2, "x", "y")),
        index=NAMES,
    ).iloc[SHUFFLED]
    stage = pandas.Series(
        np.where(np.arange(ROWS) < 9, np.nan, np.arange(ROWS) % 4), index=NAMES
    ).iloc[SHUFFLED]
    donor = pandas.Series(
        pandas.Categorical(np.where(np.arange(ROWS) % 2, "d1", "d2")), index=NAMES
    ).iloc[SHUFFLED]
    seen = pandas.Series(np.arange(ROWS) % 5 != 0, index=NAMES, dtype="boolean").iloc[SHUFFLED]
    data = load(
        {"a": TABLE, "b": TABLE},
        labels={"kind": kind, "stage": stage, "few": pandas.Series([1, 0], index=NAMES[:2])},
        covariates=pandas.DataFrame({"donor": donor}),
        present={"a": seen},
    )
    places = np.array([NAMES.index(name) for name in ids(data)])
    labels = {
        k: np.concatenate([s.shared_labels[k] for s in data.splits().values()])
        for k in ("kind", "stage", "few")
    }
    np.testing.assert_array_equal(labels["kind"], np.where(places % 3 == 0, -1, 1 - places % 2))
    np.testing.assert_array_equal(labels["stage"], np.where(places < 9, -1, places % 4))
    np.testing.assert_array_equal(labels["few"], np.select([places == 0, places == 1], [1, 0], -1))
    np.testing.assert_array_equal(present(data, "a"), places % 5 != 0)
    assert data.notes["label/kind"] == "x, y" and data.covariate_names == ("donor=d1", "donor=d2")
    np.testing.assert_array_equal(
        np.concatenate([s.covariates[:, 0] for s in data.splits().values()]), places % 2
    )


def test_columns_of_given_splits_and_modalities_are_put_in_order() -> None:
    parts = {part: {"a": TABLE.iloc[i::3]} for i, part in enumerate(("train", "val", "test"))}
    parts["val"]["a"] = parts["val"]["a"][["g3", "g1", "g2"]]
    np.testing.assert_array_equal(load(parts).val.x["a"], VALUES[1::3])
    parts["test"]["a"] = parts["test"]["a"][["g3", "g1"]]
    with pytest.raises(ValueError, match="table 'a' lacks 1 of 3 columns, 'g2' first"):
        load(parts)
    few = Modality("a", (2,), "normal", None, features=("g3", "g1"))
    np.testing.assert_array_equal(
        whole(load({"a": TABLE}, modalities=[few], seed=1), "a"),
        whole(load({"a": VALUES[:, [2, 0]]}, seed=1), "a"),
    )


def test_nullable_dtypes_are_what_they_hold() -> None:
    holed = TABLE.astype("Float64")
    holed.iloc[3] = pandas.NA
    assert (~present(load({"a": holed, "b": TABLE}), "a")).sum() == 1
    holed.iloc[4, 1] = pandas.NA
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        load({"a": holed, "b": TABLE})
    assert load({"a": holed, "b": TABLE}, nan="missing").modalities[0].gaps
    counts = pandas.DataFrame(
        {
            "u": pandas.array([3, 0, 5] * 20, dtype="Int64"),
            "v": pandas.array([1, 2, 0] * 20, dtype="Int16"),
        }
    )
    data = load({"a": counts})
    assert (
        data.modalities[0].likelihood == "nb"
        and whole(data, "a").sum() == counts.to_numpy(int).sum()
    )
    flags = pandas.DataFrame({"u": pandas.array([True, False] * 30, dtype="boolean")})
    assert load({"a": flags}).modalities[0].likelihood == "bernoulli"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            {"a": TABLE, "b": TABLE.iloc[SHUFFLED], "c": VALUES},
            {},
            "the rows of 'c' have no names, and tables 'a' and 'b' have different",
        ),
        (
            {"a": TABLE, "b": TABLE.rename(index=str.upper)},
            {},
            "shares no row with another: its first is called 's0', that of 'b' 'S0'",
        ),
        (
            {"a": TABLE},
            {"labels": {"k": pandas.Series([1] * ROWS)}},
            "table 'label/k' shares no row",
        ),
        (
            {"a": TABLE},
            {"covariates": {"k": pandas.Series(["x"] * 9, index=NAMES[:9])}},
            "array 'covariate/k' lacks row 's9'",
        ),
        (
            {"a": TABLE, "b": TABLE},
            {"present": {"a": pandas.Series([True], index=["s1"])}},
            "array 'present/a' lacks row 's0'",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)


def test_arrays_beside_tables_of_one_order_go_by_their_place() -> None:
    data = load({"a": TABLE, "b": VALUES}, labels={"k": np.arange(ROWS) % 2})
    np.testing.assert_array_equal(whole(data, "a"), whole(data, "b"))


# --- presence, covariates, likelihoods, zeros -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        np.arange(ROWS) % 2,
        np.arange(ROWS) % 2 * 1.0,
        (np.arange(ROWS) % 2).tolist(),
        torch.arange(ROWS) % 2 == 1,
    ],
)
def test_a_mask_may_be_zeros_and_ones(given: Any) -> None:
    assert present(load({"a": VALUES, "b": VALUES}, present={"a": given}), "a").sum() == ROWS // 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array(["no"] * ROWS), "'present' of 'a' holds text"),
        (np.full(ROWS, np.nan), "'present' of 'a' holds (nan|nothing)"),
        (np.full(ROWS, 0.5), "'present' of 'a' holds 0.5"),
        (np.arange(ROWS), "'present' of 'a' holds 2"),
        ([None] * ROWS, "'present/a' lacks row 0"),
        ([0, 4, 8], "different numbers of rows"),
        (np.ones((ROWS, 3), bool), "shape"),
    ],
)
def test_masks_that_are_none_are_refused(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        load({"a": VALUES, "b": VALUES}, present={"a": given})
    if not isinstance(given, list):
        np.savez(tmp_path / "a.npz", **{"a": VALUES, "b": VALUES, "present/a": given})
        with pytest.raises((ValueError, TypeError), match=message):
            load(tmp_path / "a.npz")


def test_covariates_that_may_be_either_are_said_and_settled() -> None:
    runs = {"run": np.arange(ROWS) % 2 * 1.0}
    with pytest.warns(
        UserWarning,
        match="covariate 'run' holds the whole numbers 0 to 1 as floats.*'run': 'category'",
    ):
        assert load({"a": VALUES}, covariates=runs).covariate_names == ("run",)
    with pytest.warns(
        UserWarning, match="covariate 'barcode' has 60 values in 60 rows, and each is a column"
    ):
        load({"a": VALUES}, covariates={"barcode": np.array(NAMES)})
    with pytest.warns(UserWarning, match="covariate 'age' has 40 values in 60 rows"):
        load({"a": VALUES}, covariates={"age": 20 + np.arange(ROWS) % 40})
    both = {**runs, "age": np.arange(ROWS), "dose": np.array(["1.5", "2"] * 30)}
    data = load(
        {"a": VALUES},
        covariates=both,
        covariate_kinds={"run": "category", "age": "number", "dose": "number"},
    )
    assert data.covariate_names == ("run=0", "run=1", "age", "dose")
    age = data.train.covariates[:, 2]
    assert abs(age.mean()) < 1e-6 and abs(age.std() - 1) < 1e-5
    for kinds, message in (
        ({"runs": "category"}, "names 'runs'; the covariates are run"),
        ({"run": "text"}, "calls 'run' 'text'; choose one of"),
    ):
        with pytest.raises(ValueError, match=message):
            load({"a": VALUES}, covariates=runs, covariate_kinds=kinds)
    with pytest.raises(ValueError, match=r"covariate_kinds=.'run'. must be a mapping"):
        load({"a": VALUES}, covariates=runs, covariate_kinds=["run"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="covariate 'b' is no number"):
        load(
            {"a": VALUES},
            covariates={"b": np.array(["x", "y"] * 30)},
            covariate_kinds={"b": "number"},
        )


def test_likelihoods_that_do_not_suit_are_said() -> None:
    rng = np.random.default_rng(0)
    raw = rng.lognormal(3, 3, (ROWS, 5))
    for values, message in (
        (
            raw,
            r"modality 'rna' spans 0 to [\d,.e+]+ and is read as normal, which suits logarithms; give log1p",
        ),
        (rng.poisson(3, (ROWS, 5)) * 0.5, "counts of which .*% are fractions"),
        (rng.poisson(3, (ROWS, 5)) * 1.0, "whole numbers alone .* 'nb' if they are counts"),
    ):
        with pytest.warns(UserWarning, match=message):
            load({"rna": values})
    with pytest.warns(
        UserWarning, match="has one feature, and its likelihood 'nb' is told the total"
    ):
        load({"rna": rng.poisson(5, (ROWS, 1))}, likelihood="nb")
    with pytest.warns(UserWarning, match="whole numbers up to 255, .*store them as uint8"):
        load({"a": np.tile(np.arange(256.0).reshape(1, 16, 16), (9, 1, 1, 1))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load({"rna": np.log1p(raw), "b": VALUES, "area": rng.uniform(50, 500, (ROWS, 4))})
        load({"rna": rng.poisson(3, (ROWS, 5)) * 1.0}, likelihood="nb")
        load({"rna": raw}, modalities=[Modality("rna", (5,), "normal", None)])


def test_rows_of_zeros_are_said_and_may_be_missing(tmp_path: Path) -> None:
    padded = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float32)
    padded[::2] = 0
    with pytest.warns(
        UserWarning, match="30 of 60 rows of atac are zero everywhere.*zeros='missing'"
    ):
        assert present(load({"rna": VALUES, "atac": padded}), "atac").all()
    np.save(tmp_path / "atac.npy", padded)
    np.save(tmp_path / "rna.npy", VALUES)
    for source in ({"rna": VALUES, "atac": padded}, tmp_path):
        data = load(source, zeros="missing")
        assert present(data, "atac").sum() == 30 and present(data, "rna").all()
        assert (whole(data, "atac")[present(data, "atac")] != 0).any(1).all()
    few = (
        np.random.default_rng(0).random((ROWS, 3)) < 0.3
    )  # a third of the rows of three rare flags is zero by chance
    load({"flags": few, "rna": VALUES})
    with pytest.raises(ValueError, match="zeros='absent' is unknown"):
        load({"rna": VALUES}, zeros="absent")  # type: ignore[arg-type]


# --- files that claim what they do not hold -------------------------------------------------------------------------------------


def claiming(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return content.getvalue() + bytes(64)


@pytest.mark.parametrize("shape", [(10**9, 10**6), (10**12, 10**12), (1 << 62, 4), (20, 4)])
@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_headers_that_claim_more_than_there_is_are_refused(
    shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    if kind == "folder":
        (tmp_path / "a.npy").write_bytes(claiming(shape))
    else:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", claiming(shape))
    with pytest.raises(
        ValueError, match=r"its header claims [\d,]+ bytes of shape .* and 64 are there"
    ) as caught:
        load(tmp_path if kind == "folder" else tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def test_a_bit_that_flipped_in_a_packed_folder_is_found(tmp_path: Path) -> None:
    out = cp.data.pack(load({"a": VALUES}), tmp_path / "packed", progress=False)
    content = bytearray((out / "train" / "a.npy").read_bytes())
    content[200] ^= 1
    (out / "train" / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match="has other contents than its manifest says"):
        load(out)


def test_names_of_rows_and_features_are_packed(tmp_path: Path) -> None:
    data = load({"a": TABLE})
    again = load(cp.data.pack(data, tmp_path / "packed", progress=False))
    assert ids(again) == ids(data) and again.modalities[0].features == ("g1", "g2", "g3")
    np.testing.assert_array_equal(whole(again, "a"), TABLE.loc[ids(again)].to_numpy())


def test_options_of_readers_are_flags(tmp_path: Path) -> None:
    from counterpoint.cli.settings import settings

    (tmp_path / "c.yaml").write_text(
        "data:\n  covariate_kinds: {run: category}\n  skip_bad: [empty-cells, duplicates]\n"
    )
    flags = ["--zeros", "missing", "--data.tokens", "characters"]
    found = settings(
        ["idmvae", "--data", "a.npz", "--config", str(tmp_path / "c.yaml"), *flags]
    ).data
    assert found["covariate_kinds"] == {"run": "category"} and found["skip_bad"] == [
        "empty-cells",
        "duplicates",
    ]
    assert found["zeros"] == "missing" and found["tokens"] == "characters"
    same = settings(
        ["idmvae", "--data", "a.npz", "--covariate_kinds", "{run: number}", "--skip_bad", "true"]
    ).data
    assert same["covariate_kinds"] == {"run": "number"} and same["skip_bad"] is True
    with pytest.raises(ValueError, match="skip_bad"):
        settings(["idmvae", "--data", "a.npz", "--skip_bad", "[empty]"])


def test_a_batch_that_once_had_a_nan_is_a_category_and_what_is_unknown_the_average() -> None:
    runs = np.where(np.arange(60) % 6 == 5, np.nan, np.arange(60) % 2)
    data = load({"a": VALUES}, covariates={"run": runs}, covariate_kinds={"run": "category"})
    assert data.covariate_names == ("run=0", "run=1")
    columns = np.concatenate([split.covariates for split in data.splits().values()])
    known = {(0.0, 1.0), (1.0, 0.0)}
    unknown = [row for row in columns.tolist() if tuple(row) not in known]
    train = np.array([row for row in data.train.covariates.tolist() if tuple(row) in known])
    assert len(unknown) == 10 and np.allclose(unknown, train.mean(0))


def test_rows_that_stand_in_two_splits_are_refused() -> None:
    table = pandas.DataFrame(VALUES, index=[f"s{i}" for i in range(60)])
    with pytest.raises(ValueError, match="10 rows stand in train and in test, 's30' first"):
        load({"train": {"a": table[:40]}, "val": {"a": table[50:]}, "test": {"a": table[30:40]}})
    numbered = {part: {"a": pandas.DataFrame(VALUES)} for part in ("train", "val", "test")}
    assert len(load(numbered).test) == 60, "numbers from 0 on are no names"


def test_numbers_that_were_reset_in_one_table_alone_are_told() -> None:
    table = pandas.DataFrame(VALUES)
    kept = table[VALUES[:, 0] > np.median(VALUES[:, 0])]
    with pytest.warns(UserWarning, match="have numbers for names, and 30 to 30 of them"):
        load({"a": kept, "b": kept.reset_index(drop=True)})


def test_a_quantity_beside_a_number_of_things_is_not_taken_for_scaled_counts() -> None:
    rng = np.random.default_rng(0)
    load({"a": np.stack([rng.random(60) * 9, rng.integers(1, 9, 60)], 1)})
    with pytest.warns(UserWarning, match="are fractions"):
        load({"a": rng.poisson(3, (60, 5)) * 0.5})
