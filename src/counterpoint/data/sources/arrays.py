"""Any user's arrays: a mapping, an ``.npz`` file, or a folder of ``.npy`` files.

All three name their arrays alike: ``NAME`` for the values of a modality,
``present/NAME`` for its mask, ``label/LABEL`` for a shared label and
``label/LABEL/NAME`` for a private one, ``covariate/NAME`` for what decoders may read
beside latents. With splits, the same names stand below ``train/``, ``val/`` (or
``valid/``, ``validation/``, ``dev/``) and ``test/``. A val or test that is not there is
held out from train.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.core.checks import shown
from counterpoint.core.containers import Given, given, inferred, together
from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import as_mask, turned, whole_numbers
from counterpoint.data.ambiguity import (
    AS_IT_IS,
    MOST_VALUES,
    ReadOptions,
    covariates_of_kinds,
    zeros_read,
)
from counterpoint.data.dataset import Dataset
from counterpoint.data.sources.files import (
    MANIFEST,
    check_files,
    check_npy,
    manifest_digest,
    read_manifest,
    read_npy,
)
from counterpoint.data.split import COVARIATES, Array, Split

PARTS = ("train", "val", "test")

PART_NAMES = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}
"""Names of splits in sources that are split, and what they mean."""

UNKNOWN = -1
"""The class of a row whose label is not known."""

IDS = "rows/ids"
"""Name of the array of what rows are called."""

CHANNELS = (1, 3, 4)
"""Channels that images have, as a rule."""

_LOOKED = 1000  # images that are looked at for whether they are masks

Flat = dict[str, Array]

Units = tuple[tuple[float, float], ...]


def from_mapping(
    name: str,
    data: Mapping[str, Any],
    *,
    present: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    covariates: Mapping[str, Any] | None = None,
    modalities: Sequence[Modality] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """A data set from arrays; see :func:`counterpoint.data.load`."""
    for option, told in (("present", present), ("labels", labels), ("covariates", covariates)):
        if told is not None and not hasattr(told, "items"):
            raise TypeError(
                f"{option}={shown(told)} must be a mapping of names to arrays, or a table"
            )
    columns = {m.name: m.features for m in modalities or () if m.features}
    if any(key in PART_NAMES for key in data) and all(
        isinstance(v, Mapping) for v in data.values()
    ):
        if present is not None or labels is not None or covariates is not None:
            raise ValueError(
                "with train, val and test given, put 'present/NAME', 'label/LABEL' and 'covariate/NAME' into each of them"
            )
        named = named_parts(name, [*data])
        parts, held = with_all_parts(
            name, {part: _flat(data[key], columns) for part, key in named.items()}, fractions, seed
        )
        _refuse_shared(parts)
        return from_flat(name, parts, modalities, held, options=options, columns=columns)
    items = {**data, **_under("present", present), **_under("covariate", covariates)}
    for label, values in _under("label", labels).items():
        items |= _under(label, values) if isinstance(values, Mapping) else {label: values}
    return from_flat(
        name,
        _divide(_flat(items, columns), fractions, seed),
        modalities,
        options=options,
        columns=columns,
    )


def _refuse_shared(parts: Mapping[str, Flat]) -> None:
    """Refuse rows that stand in two splits by the names in the index of their tables,
    by ValueError. Numbers from 0 on are no names."""
    named = {part: flat[IDS] for part, flat in parts.items() if IDS in flat}
    named = {
        part: ids
        for part, ids in named.items()
        if not np.array_equal(ids, np.arange(len(ids)).astype(str))
    }
    for one, other in combinations(named, 2):
        shared = named[other][np.isin(named[other], named[one])]
        if len(shared):
            raise ValueError(
                f"{len(shared):,} rows stand in {one} and in {other}, {str(shared[0])!r} first; keep each row in one of them"
            )


def _under(head: str, given: Any) -> dict[str, Any]:
    """Arrays by name, or the columns of a table, under the names that they have beside
    others."""
    return {} if given is None else {f"{head}/{name}": values for name, values in given.items()}


def from_npz(
    path: Path,
    modalities: Sequence[Modality] | None,
    fractions: tuple[float, float, float],
    seed: int,
    *,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """A data set from an ``.npz`` file, read into memory."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is truncated or not an .npz file; write it again with numpy.savez"
        )
    with zipfile.ZipFile(path) as archive:
        flat = {
            info.filename.removesuffix(".npy"): _read(archive, info, path)
            for info in archive.infolist()
            if not info.is_dir()
        }
    heads = dict.fromkeys(k.partition("/")[0] for k in flat if "/" in k)
    found = [head for head in heads if head in PART_NAMES]
    if found:
        _refuse_stray(
            path, [k for k in flat if not k.startswith(tuple(f"{head}/" for head in found))]
        )
        nested = {
            part: {
                k.removeprefix(f"{head}/"): v for k, v in flat.items() if k.startswith(f"{head}/")
            }
            for part, head in named_parts(path, found).items()
        }
        parts, held = with_all_parts(path, nested, fractions, seed)
        return from_flat(path.stem, parts, modalities, held, options=options)
    return from_flat(path.stem, _divide(flat, fractions, seed), modalities, options=options)


def from_folder(
    folder: Path,
    modalities: Sequence[Modality] | None,
    fractions: tuple[float, float, float],
    seed: int,
    *,
    verify: bool = False,
    options: ReadOptions = AS_IT_IS,
) -> Dataset:
    """A data set from a folder, whose ``.npy`` files stay on disk as memory maps
    (without sub-folders train, val, test: read into memory)."""
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if manifest is not None:
        check_files(folder, manifest, checksums=verify)
        modalities = modalities or [
            Modality(**{**m, "shape": tuple(m["shape"])}) for m in manifest["modalities"]
        ]
    elif verify:
        raise ValueError(f"{folder} has no {MANIFEST} to verify against; leave verify out")
    found, held = [head for head in PART_NAMES if (folder / head).is_dir()], dict[str, str]()
    if found:
        _refuse_stray(folder, sorted(p.name for p in folder.glob("*.npy")))
        opened = {
            part: _open_folder(folder / head) for part, head in named_parts(folder, found).items()
        }
        parts, held = with_all_parts(folder, opened, fractions, seed)
    else:
        parts = _divide(_open_folder(folder), fractions, seed)
    if manifest is None:
        return from_flat(folder.name, parts, modalities, held, options=options)
    return from_flat(
        manifest["name"],
        parts,
        modalities,
        manifest["notes"],
        manifest_digest(manifest),
        options=options,
    )


def from_flat(
    name: str,
    parts: Mapping[str, Flat],
    modalities: Sequence[Modality] | None = None,
    notes: Mapping[str, str] | None = None,
    digest: str | None = None,
    *,
    options: ReadOptions = AS_IT_IS,
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> Dataset:
    """A data set from the named arrays of its three splits; modalities that are not
    given are inferred from the values.

    Args:
        options: how arrays are read.
        columns: of modalities that are tables: what their features are called, () where
            they have no names.
    """
    tables = columns or {}
    parts, codes = _number_labels(parts)
    parts = covariates_of_kinds(parts, options.covariate_kinds)
    told, names, units, scales = _columns(parts, covariates_of(modalities or ()))
    named = {m.name: m for m in modalities or ()}
    keys = [k for k in dict.fromkeys(k for part in PARTS for k in parts[part]) if "/" not in k]
    unknown = [k for k in keys if modalities and k not in named]
    if unknown:
        raise ValueError(
            f"array {unknown[0]!r} belongs to none of the modalities {', '.join(named)}; add a Modality for it or leave it out"
        )
    arrays = {
        k: {part: as_values(k, parts[part][k], named.get(k)) for part in PARTS if k in parts[part]}
        for k in keys
    }
    found = (
        tuple(modalities)
        if modalities
        else tuple(infer(k, list(arrays[k].values()), columns=tables.get(k)) for k in keys)
    )
    found = tuple(
        replace(m, features=m.features or _features(m, tables.get(m.name, ()))) for m in found
    )
    if options.nan == "missing":
        found = tuple(
            replace(m, gaps=m.gaps or any(map(_has_gaps, arrays.get(m.name, {}).values())))
            for m in found
        )
    if not covariates_of(found):
        found = tuple(replace(m, covariates=names, covariate_units=units) for m in found)
    splits = {
        part: _split(
            part,
            parts[part],
            {k: v[part] for k, v in arrays.items() if part in v},
            found,
            told[part],
            names,
        )
        for part in PARTS
    }
    if options.zeros is not None:
        splits = zeros_read(splits, options.zeros)
    return Dataset(
        name,
        found,
        splits["train"],
        splits["val"],
        splits["test"],
        {**(notes or {}), **codes, **scales},
        digest,
    )


def infer(
    name: str, arrays: Sequence[Array], *, columns: tuple[str, ...] | None = None
) -> Modality:
    """What values look like, from their dtype and shape.

    uint8 images and float images in [0, 1]: Laplace, b = 0.75; uint8 images of 0 and 1
        alone are masks: Bernoulli.
    Other floats: normal with a learned scale, and images of them unbounded. Booleans:
        Bernoulli.
    Integers: ids of a vocabulary that ends with the largest id; of a table counts
        (negative binomial), or Bernoulli where all are 0 or 1.

    Args:
        columns: of a table, whose columns, if there are several, are features and no
            places in a text; () of a sparse matrix, floats of which may be counts, too.
    """
    first = arrays[0]
    shape = first.shape[1:]
    counts = (
        columns is not None and shape != (1,) and first.dtype.kind in ("iu" if columns else "iuf")
    )
    if counts and (family := inferred(np.concatenate([*arrays]))) != "normal":
        return Modality(name, shape, family, None)
    if first.dtype.kind in "iu" and len(shape) < 3:
        top = max(int(a.max(initial=0)) for a in arrays)
        return Modality(name, shape, "categorical", None, classes=max(2, top + 1))
    if first.dtype == np.uint8:
        if (
            max(int(a[:_LOOKED].max(initial=0)) for a in arrays) == 1
        ):  # a mask, and no picture that is all but black
            return Modality(name, shape, "bernoulli", None, full_scale=1)
        return Modality(name, shape, "laplace", 0.75)
    if first.dtype.kind in "iu":
        raise TypeError(
            f"modality {name!r}: {first.dtype} images of shape {shape} are ambiguous; store them as uint8, or give its Modality"
        )
    if first.dtype.kind == "b":
        return Modality(name, shape, "bernoulli", None, full_scale=1)
    image = len(shape) == 3
    if image and all(not ((a < 0) | (a > 1)).any() for a in arrays):
        return Modality(name, shape, "laplace", 0.75)
    return Modality(name, shape, "normal", None, unbounded=image)


def _flat(data: Mapping[str, Any], columns: dict[str, tuple[str, ...]]) -> Flat:
    """The arrays of a mapping, rows that belong together side by side
    (:func:`counterpoint.core.containers.together`).

    Args:
        columns: of tables, the order of their columns; those of tables that it lacks
            are put there.
    """
    strange = [key for key in data if not isinstance(key, str)]
    if strange:
        raise TypeError(f"arrays are named by text, not by {strange[0]!r}; give each a name")
    found = {}
    for key, value in data.items():
        one = given(key, value)
        if one.columns is not None and "/" not in key:
            one = one.ordered(key, columns.setdefault(key, one.columns))
        found[key] = one
    found, ids = together(found)
    flat: Flat = {} if ids is None else {IDS: ids}
    for key, one in found.items():
        flat[key] = _filled(key, one, found.get(key.partition("/")[2]))
    for key, one in found.items():
        if "/" not in key and one.absent.any():
            told = flat.get(f"present/{key}", np.ones(len(one.values), bool))
            known = as_mask(key, told, len(told))
            flat[f"present/{key}"] = known & ~one.absent if len(known) == len(one.absent) else known
    return flat


def _filled(key: str, one: Given, of: Given | None) -> Array:
    """Values with something in the place of rows that are absent: of labels a mask, and
    of a mask of values that are absent, too, False.

    Args:
        of: what a mask is of.

    Raises:
        ValueError: covariates and masks must not lack rows.
    """
    head, values = key.partition("/")[0], one.values
    if head == "label":
        whole = one.ids is not None and values.dtype.kind == "f"
        absent = one.absent | np.isnan(values) if whole and values.ndim == 1 else one.absent
        if whole and not (values[~absent] != np.rint(values[~absent])).any():
            values = np.where(absent, 0, values).astype(
                np.int64
            )  # pandas keeps whole numbers as floats where some are missing
        return np.ma.array(values, mask=absent) if absent.any() and values.ndim == 1 else values
    if head == "present" and one.absent.any():
        lacking = one.absent if of is None else one.absent & ~of.absent
        values = np.where(one.absent, np.zeros(1, values.dtype), values)
    else:
        lacking = one.absent if "/" in key else np.zeros(0, bool)
    if lacking.any():
        row = int(lacking.argmax())
        raise ValueError(
            f"array {key!r} lacks row {row if one.ids is None else repr(str(one.ids[row]))}; give a value for each row"
        )
    return values


def _array(key: str, value: Any) -> Array:
    return given(key, value).values


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as file:
            return _array(key, read_npy(file, info.file_size))
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: array {key!r} is corrupt ({error}); write the file again"
        ) from error
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        if "object" in str(error).lower():
            raise TypeError(
                f"{path}: array {key!r} holds Python objects, which are never unpickled; save it with a numeric dtype"
            ) from error
        raise ValueError(
            f"{path}: array {key!r} cannot be read ({' '.join(str(error).split())}); write the file again"
        ) from error


def _open_folder(folder: Path) -> Flat:
    flat = {}
    for path in sorted(folder.rglob("*.npy")):
        key = path.relative_to(folder).with_suffix("").as_posix()
        try:
            with path.open("rb") as file:
                check_npy(file, path.stat().st_size)
            flat[key] = _array(key, np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError) as error:
            if "object" in str(error).lower():
                raise TypeError(
                    f"{path} holds Python objects, which are never unpickled; save it with a numeric dtype"
                ) from error
            raise ValueError(
                f"{path} is truncated or not an .npy file ({error}); write it again with numpy.save"
            ) from error
    if not any("/" not in key for key in flat):
        raise FileNotFoundError(
            f"{folder} holds no .npy file of values; expected one per modality, e.g. {folder / 'image.npy'}"
        )
    return flat


def named_parts(where: object, found: Sequence[str]) -> dict[str, str]:
    """By split, the name that it has in a source.

    Raises:
        ValueError: a name that means no split, two that mean the same, or no train.
    """
    unknown = [name for name in found if name not in PART_NAMES]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} names no split; expected train, val and test")
    by_part: dict[str, str] = {}
    for name in found:
        if (other := by_part.setdefault(PART_NAMES[name], name)) != name:
            raise ValueError(
                f"{where} has both {other} and {name}, which mean the same split; leave one of them"
            )
    if "train" not in by_part:
        raise ValueError(
            f"{where} has {', '.join(by_part)} but no train; give train, or no splits to have them made"
        )
    return {part: by_part[part] for part in PARTS if part in by_part}


def with_all_parts(
    where: object, parts: Mapping[str, Flat], fractions: tuple[float, float, float], seed: int
) -> tuple[dict[str, Flat], dict[str, str]]:
    """The three splits; those that are missing are held out from train, alike in every
    class of the first shared label. And notes on them."""
    if not parts["train"]:
        raise ValueError(f"{where}: train holds no arrays; give at least one modality")
    found, notes = {part: dict(flat) for part, flat in parts.items()}, dict[str, str]()
    for part, share in zip(PARTS[1:], fractions[1:], strict=True):
        if part in found:
            continue
        train = found["train"]
        label = next(
            (
                values
                for key, values in train.items()
                if key.startswith("label/") and key.count("/") == 1
            ),
            None,
        )
        groups = (
            np.zeros(len(next(iter(train.values()))), int)
            if label is None
            else np.unique(label, return_inverse=True)[1].reshape(-1)
        )
        lengths = {key: len(values) for key, values in train.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: arrays of train have different numbers of rows: {lengths}")
        out, notes[part] = held_out(where, part, groups, share, seed)
        found[part] = {key: values[np.flatnonzero(out)] for key, values in train.items()}
        found["train"] = {key: values[np.flatnonzero(~out)] for key, values in train.items()}
    return {part: found[part] for part in PARTS}, notes


def held_out(where: object, part: str, groups: Array, share: float, seed: int) -> tuple[Array, str]:
    """Which rows of train become a split that a source does not have, (N,) bool, and a
    note that says so, as a warning does.

    Args:
        groups: (N,) numbers: of each as large a share is taken as rows allow.
        share: of the rows; at least one is taken, and one left.

    Raises:
        ValueError: a single row, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"fractions: the share {share} of {part} must lie between 0 and 1")
    if len(groups) < 2:
        raise ValueError(
            f"{where} has no {part} split and {len(groups)} row of train, too few to hold one out; give {part}"
        )
    order, count = shuffled(groups, seed), min(len(groups) - 1, max(1, round(share * len(groups))))
    out = np.zeros(len(groups), bool)
    out[
        order[
            np.linspace(0, len(order), count, endpoint=False, dtype=int) + len(order) // (2 * count)
        ]
    ] = True  # evenly spaced
    note = f"{count:,} of {len(groups):,} train rows, held out by the seed {seed}"
    warnings.warn(f"{where} has no {part} split: {note}", stacklevel=4)
    return out, note


def shuffled(groups: Array, seed: int) -> Array:
    """The order (N,) that goes through one group after the other, each at random: what
    is taken from it at even distances has of every group its share."""
    return np.lexsort((np.random.default_rng(seed).random(len(groups)), groups))


def folds(groups: Array, count: int, seed: int) -> Array:
    """(N,) the fold, 0 to ``count`` − 1, of each observation; folds differ by at most
    one in every group."""
    fold = np.empty(len(groups), int)
    fold[shuffled(groups, seed)] = np.arange(len(groups)) % count
    return fold


def _refuse_stray(where: Path, stray: Sequence[str]) -> None:
    if stray:
        raise ValueError(
            f"{where}: {stray[0]!r} stands beside train, val and test; move it into them"
        )


def _divide(flat: Flat, fractions: tuple[float, float, float], seed: int) -> dict[str, Flat]:
    """Cut unsplit arrays into train, val and test at random; each gets at least one
    row."""
    lengths = {key: len(values) for key, values in flat.items()}
    if not lengths:
        raise ValueError("no arrays given; give at least one modality")
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"arrays have different numbers of rows: {lengths}; mark missing rows in 'present' instead of leaving them out"
        )
    parts = divided(next(iter(lengths.values())), fractions, seed)
    return {
        part: {key: values[index] for key, values in flat.items()} for part, index in parts.items()
    }


def divided(rows: int, fractions: tuple[float, float, float], seed: int) -> dict[str, Array]:
    """The rows, in order, that fall to train, val and test at random; at least one to
    each.

    Raises:
        ValueError: fractions that are none, or fewer than three rows.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions {fractions} of train, val and test must be positive and sum to 1"
        )
    if rows < len(PARTS):
        raise ValueError(
            f"{rows} rows cannot be divided into train, val and test; give at least 3, or the splits themselves"
        )
    order = np.random.default_rng(seed).permutation(rows)
    val, test = (max(1, round(f * rows)) for f in fractions[1:])
    train = max(1, rows - val - test)
    val = min(val, rows - train - 1)
    return {
        part: np.sort(index)
        for part, index in zip(PARTS, np.split(order, [train, train + val]), strict=True)
    }


def _number_labels(parts: Mapping[str, Flat]) -> tuple[dict[str, Flat], dict[str, str]]:
    """Replace text labels by their number in alphabetical order, the same in all
    splits, and those that are masked by −1; the notes say which is which."""
    numbered, notes = {part: dict(parts[part]) for part in PARTS}, {}
    for key in dict.fromkeys(k for part in PARTS for k in parts[part] if k.startswith("label/")):
        found = {part: np.ma.asarray(parts[part][key]) for part in PARTS if key in parts[part]}
        known = {part: ~np.ma.getmaskarray(values) for part, values in found.items()}
        if all(values.dtype.kind == "U" for values in found.values()):
            classes = np.unique(
                np.concatenate([values.data[known[part]] for part, values in found.items()])
            )
            for part, values in found.items():
                numbered[part][key] = np.where(
                    known[part], np.searchsorted(classes, values.data), UNKNOWN
                )
            notes[key] = ", ".join(classes)
        else:
            for part, values in found.items():
                numbered[part][key] = (
                    values.data
                    if known[part].all()
                    else np.where(known[part], values.data, UNKNOWN)
                )
    return numbered, notes


def as_values(name: str, values: Array, modality: Modality | None) -> Array:
    """Give values the axes of a modality: a feature axis for numbers, channels first
    for images, whatever their dtype.

    Raises:
        TypeError: text. ValueError: numbers beyond float32, or images of which no axis
            stands out as that of channels.
    """
    if values.dtype.kind in "US":
        raise TypeError(
            f"modality {name!r} holds text; give word ids, or name it 'label/{name}' if it is a label"
        )
    if values.dtype.kind == "f" and values.dtype != np.float32:
        values = _float32(name, values)
    shape = values.shape[1:]
    if modality is not None:
        return turned(modality, values)
    if values.ndim in (1, 3):
        return values[:, None]
    return (
        values.transpose(0, 3, 1, 2) if values.ndim == 4 and _channels_last(name, shape) else values
    )


def _float32(name: str, values: Array, block: int = 4096) -> Array:
    """Floats of another precision as float32; memory maps are read block by block."""
    found = np.empty(values.shape, np.float32)
    for i in range(0, len(values), block):
        with np.errstate(over="ignore"):
            found[i : i + block] = values[i : i + block]
        beyond = np.isinf(found[i : i + block]) & np.isfinite(values[i : i + block])
        if beyond.any():
            row = int(beyond.reshape(len(beyond), -1).any(1).argmax())
            raise ValueError(
                f"modality {name!r}: row {i + row} holds {values[i + row][beyond[row]].ravel()[0]:g}, more than float32 holds; rescale it"
            )
    return found


def _channels_last(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the last axis of an image is that of channels, and not the first: it has
    as many entries as images have channels, or the other two are as long as each other.

    Raises:
        ValueError: one says this and the other that, or neither says anything.
    """
    first, middle, last = shape
    by_count, by_square = (
        (last in CHANNELS) - (first in CHANNELS),
        (first == middle) - (middle == last),
    )
    if shape == (1, 1, 1):
        return False
    if by_count * by_square < 0 or (
        not by_count and not by_square and not (first < min(middle, last) and last not in CHANNELS)
    ):
        turned = (last, first, middle)
        raise ValueError(
            f"modality {name!r}: images of shape {shape} may have their channels first or last; put them first and give"
            f" modalities=[Modality({name!r}, {shape}, ...)]"
            + ("" if turned == shape else f", or {turned} if they are last")
        )
    return (by_count or by_square) > 0


def all_nan(values: Array, block: int = 4096) -> Array:
    """Which rows are NaN entirely: that is how tables mark what is missing. Memory maps
    are read block by block."""
    parts = [
        np.isnan(values[i : i + block]).reshape(len(values[i : i + block]), -1).all(1)
        for i in range(0, len(values), block)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _has_gaps(values: Array, block: int = 4096) -> bool:
    """Whether some row is NaN in part."""
    if values.dtype.kind != "f":
        return False
    parts = (
        np.isnan(values[i : i + block]).reshape(len(values[i : i + block]), -1)
        for i in range(0, len(values), block)
    )
    return any(bool((part.any(1) & ~part.all(1)).any()) for part in parts)


def _columns(
    parts: Mapping[str, Flat], named: tuple[str, ...]
) -> tuple[Flat, tuple[str, ...], Units, dict[str, str]]:
    """Columns of covariates by split, their names, the mean and scale of each before it
    was standardised, and notes that say what they are: floats make one column, all else
    one for each value.

    Args:
        named: the columns that the modalities name, which a prepared folder holds as
            they are.
    """
    if all(COVARIATES in flat for flat in parts.values()):
        return {part: flat[COVARIATES] for part, flat in parts.items()}, named, (), {}
    found = {
        part: [np.zeros((len(next(iter(flat.values()), ())), 0))] for part, flat in parts.items()
    }
    names: list[str] = []
    units: list[tuple[float, float]] = []
    notes = {}
    for key in dict.fromkeys(
        k for flat in parts.values() for k in flat if k.startswith("covariate/")
    ):
        given = {
            part: _covariate(part, key, flat.get(key), len(found[part][0]))
            for part, flat in parts.items()
        }
        kinds = {"number" if values.dtype.kind == "f" else "name" for values in given.values()}
        if len(kinds) > 1:
            raise TypeError(
                f"array {key!r} holds floats in some splits and none in others; give it the same dtype in all"
            )
        made, own, scales, notes[key] = (_standardised if kinds == {"number"} else _one_hot)(
            key, given
        )
        names += own
        units += scales
        for part, values in made.items():
            found[part].append(values)
    return (
        {part: np.concatenate(columns, 1, dtype=np.float32) for part, columns in found.items()},
        tuple(names),
        tuple(units),
        notes,
    )


def _covariate(part: str, key: str, given: Array | None, rows: int) -> Array:
    if given is None:
        raise ValueError(
            f"{part}: array {key!r} is missing; give it in all of train, val and test, or in none"
        )
    if given.shape != (rows,):
        raise ValueError(
            f"{part}: array {key!r} has shape {given.shape}, expected ({rows},): a number or a name for each row"
        )
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError(
            f"{part}: array {key!r} holds NaN or infinity in row {int(np.isfinite(given).argmin())}; fill it in, or drop the row"
        )
    return given if given.dtype.kind == "f" else np.asarray(given).astype(str)


def _standardised(key: str, given: Flat) -> tuple[Flat, list[str], list[tuple[float, float]], str]:
    """Numbers as one column, of mean 0 and variance 1 in training."""
    mean, scale = (
        float(given["train"].mean(dtype=np.float64)),
        float(given["train"].std(dtype=np.float64)),
    )
    scale = scale if scale > 0 else 1.0
    columns = {part: (values[:, None] - mean) / scale for part, values in given.items()}
    return (
        columns,
        [key.removeprefix("covariate/")],
        [(mean, scale)],
        f"standardised by mean {mean:g} and scale {scale:g} of the training rows",
    )


def _one_hot(key: str, given: Flat) -> tuple[Flat, list[str], list[tuple[float, float]], str]:
    """Names, and numbers that stand for such, as a column for each that training has.
    Of others, and of empty ones, nothing is known: such rows have the average of
    training."""
    values = np.unique(given["train"][given["train"] != ""])
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"array {key!r} has {len(values)} values, and each would be a column; give floats where it is a quantity"
        )
    hits = {part: own[:, None] == values for part, own in given.items()}
    average = hits["train"][hits["train"].any(1)].mean(0)
    columns = {
        part: np.where(hit.any(1, keepdims=True), hit, average) for part, hit in hits.items()
    }
    strange = sorted(
        {value for part, own in given.items() for value in own[~hits[part].any(1)].tolist()} - {""}
    )
    note = (
        f"one of {', '.join(values)}"
        + f"; of {', '.join(strange)}, which training does not have, nothing is known"
        * bool(strange)
    )
    names = [f"{key.removeprefix('covariate/')}={value}" for value in values]
    return columns, names, [(0.0, 1.0)] * len(names), note


def _split(
    part: str,
    flat: Flat,
    x: Flat,
    modalities: tuple[Modality, ...],
    covariates: Array,
    covariate_names: tuple[str, ...],
) -> Split:
    present, shared = {}, {}
    private: dict[str, dict[str, Array]] = {}
    for key, values in flat.items():
        if {"", ".", ".."} & {*key.split("/")} or any(sign in key for sign in "\\\0"):
            raise ValueError(
                f"array {key!r} is no name that a file could have; name it without '..', '\\' and empty parts"
            )
        match key.split("/"):
            case [_]:
                continue
            case ["present", name]:
                present[name] = as_mask(name, values, len(values))
            case ["label", label]:
                shared[label] = values
            case ["label", label, name]:
                private.setdefault(label, {})[name] = values
            case ["covariate", *_]:
                continue
            case _ if key == IDS or (key == COVARIATES and covariate_names):
                continue
            case _:
                expected = "NAME, present/NAME, label/LABEL, label/LABEL/NAME or covariate/NAME"
                raise ValueError(f"array {key!r} is not understood; expected {expected}")
    known = {m.name: m for m in modalities}
    for name, values in x.items():
        if values.dtype.kind == "b":
            x[name] = whole_numbers(known[name], values)
        elif values.dtype.kind == "f" and (
            name not in present or len(present[name]) == len(values)
        ):
            present[name] = present.get(name, True) & ~all_nan(values)
    try:
        return Split(
            x, modalities, present, shared, private, covariates, covariate_names, flat.get(IDS)
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"{part}: {error}") from error


def _features(modality: Modality, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns of a table, if they are those of the entries of a vector."""
    return columns if modality.shape == (len(columns),) else ()
