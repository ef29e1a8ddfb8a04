"""scverse's containers: a MuData object or an ``.h5mu`` or ``.h5ad`` file becomes a
data set.

Bredikhin, Kats & Stegle, "MUON: multimodal omics analysis framework", 2022,
https://doi.org/10.1186/s13059-021-02577-8. The observations of a MuData are the union
of those of its modalities; ``obsmap`` says where each stands in each modality, 0 where
it was not measured. Files are HDF5, of which nothing is ever unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core import checks
from counterpoint.core.containers import doubtful, given, inferred
from counterpoint.core.files import replacing
from counterpoint.core.optional import required
from counterpoint.data.ambiguity import CovariateKind, Zeros
from counterpoint.data.dataset import Dataset
from counterpoint.data.sources.arrays import PART_NAMES, PARTS, UNKNOWN, held_out, named_parts
from counterpoint.data.sources.assays import FAMILIES, Assay, SkipBad, as_table
from counterpoint.data.sources.assemble import Fractions, Observed, assemble, memory, strata
from counterpoint.data.split import Array

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SUFFIXES = (".h5mu", ".h5ad")

Columns = str | Sequence[str]


@checks.arguments
def setup_mudata(
    mdata: MuData | AnnData,
    *,
    modalities: Mapping[str, str | None] | None = None,
    layers: Mapping[str, str] | None = None,
    labels: Columns = (),
    private_labels: Mapping[str, Columns] | None = None,
    batch: Columns = (),
    fractions: Fractions = (0.8, 0.1, 0.1),
    splits: str | None = None,
    seed: int = 0,
    top_features: int | Mapping[str, int] | None = None,
    standardise: bool = True,
    zeros: Zeros = "measured",
    covariate_kinds: Mapping[str, CovariateKind] | None = None,
    skip_bad: SkipBad = False,
    name: str = "mudata",
) -> Dataset:
    """A data set from a MuData object, which stays as it is;
    :func:`counterpoint.annotate` writes what a method makes of it back.

    Values are copied, dense: counts in one byte each, or two or more where they don't
        fit, others in four. Sparse tables stay sparse until ``top_features`` are
        chosen. More than half of the machine's memory is refused.

    Args:
        mdata: modalities side by side. Of an AnnData object ``var["feature_types"]``
            parts the features, as MuData does it, or X is one modality ``data``, and
            entries of ``obsm`` that ``modalities`` names are others.
        modalities: which to read, and by what likelihood: "nb" or "zinb" (counts),
            "normal" or "laplace" (continuous, with a learned scale for each feature),
            "bernoulli" or "beta" (in [0, 1]); None infers it. By default all of them:
            Bernoulli where all values are 0 or 1, nb where they are counts, normal
            otherwise.
        layers: by modality, the layer to read in place of X, such as raw counts.
        labels: columns of ``obs`` that probes are to read off the latents, as
            categories; "rna:phase" is a column of a modality's own.
        private_labels: by modality, columns of its own ``obs`` that it alone is
            supposed to show.
        batch: columns of ``obs`` that decoders are told, so that latents need not know
            them: categories, or numbers (floats).
        fractions: of train, val and test, divided at random, alike in every class of
            the first label.
        splits: the column of ``obs`` that says "train", "val" (or "valid",
            "validation", "dev") or "test" instead. A val or test that it does not have
            is held out from train as fractions say, with a warning and a note.
        seed: of the division.
        top_features: keep so many features of each modality that has more, or by
            modality: those of the largest variance over the train rows, of log(1 +
            counts of a cell of median size), or of the values.
        standardise: shift and scale normal and Laplace features to mean 0 and variance
            1 of the train rows, and back again when results are written.
        zeros: ``"missing"`` takes cells that are zero everywhere in an assay, as
            padding makes them, for cells that it did not measure.
        covariate_kinds: by column of ``batch``, ``"category"`` or ``"number"``, where
            its dtype does not tell.
        skip_bad: leave out rows and features that are bad, with a warning and a note
            that count and list them, instead of refusing them; or the kinds for which
            to do so, such as ``["empty-cells", "duplicates"]``
            (:data:`counterpoint.data.sources.assays.BadKind`).
        name: of the data set, and what errors call it.

    Raises:
        ValueError: an unknown modality, layer or column, or bad data: see
            :func:`counterpoint.data.sources.assemble.assemble`.
        TypeError: values that are no numbers, or a label that is no category.
        ModuleNotFoundError: mudata is not installed.
    """
    mdata = as_mudata(mdata, [*(modalities or ())])
    if mdata.axis != 0:
        raise ValueError(
            f"{name}: the modalities share features and not observations (axis {mdata.axis}); give a MuData of axis 0"
        )
    wanted = dict.fromkeys(mdata.mod) if modalities is None else modalities
    assays = [
        _assay(
            mdata, _among(key, mdata.mod, "modality", name), family, (layers or {}).get(key), name
        )
        for key, family in wanted.items()
    ]
    by_modality = (
        layers,
        private_labels,
        top_features if isinstance(top_features, Mapping) else None,
    )
    stray = [key for given in by_modality for key in given or () if key not in wanted]
    if stray:
        raise ValueError(
            f"{name}: {stray[0]!r} is not among the modalities that are read ({', '.join(wanted)})"
        )
    observed = _observed(
        mdata,
        _texts(labels),
        {key: _texts(columns) for key, columns in (private_labels or {}).items()},
        _texts(batch),
        name,
    )
    parts: Array | Fractions = tuple(fractions)  # type: ignore[assignment]
    held: dict[str, str] = {}
    if splits is not None:
        column = _parts(_column(mdata, splits, name), splits, name)
        parts, held = _with_all_parts(
            column, strata(observed, assays), fractions, seed, f"{name}: column {splits!r}"
        )
    return assemble(
        name,
        assays,
        observed,
        parts=parts,
        notes=held,
        seed=seed,
        top_features=top_features,
        standardise=standardise,
        zeros=zeros,
        covariate_kinds=covariate_kinds,
        skip_bad=skip_bad,
    )


def read(path: Path, names: Sequence[str] = ()) -> MuData:
    """The object in an ``.h5mu`` or ``.h5ad`` file; of the latter also entries of
    ``obsm`` that are named.

    Raises:
        FileNotFoundError: no such file. ValueError: it is truncated, or no such file
            after all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module, reader = ("mudata", "read_h5mu") if path.suffix == ".h5mu" else ("anndata", "read_h5ad")
    library = required(module, "omics")
    try:
        claimed = _claimed(path)
        if claimed > memory():
            raise ValueError(
                f"its arrays claim {claimed / 1e9:,.3g} GB, and this machine has {memory() / 1e9:,.3g} GB of memory"
            )
        with quiet():
            return as_mudata(getattr(library, reader)(path), names)
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:  # h5py has them all
        raise ValueError(
            f"{path} is truncated or no {path.suffix} file ({' '.join(str(error).split())}); write it again"
        ) from error


def _claimed(path: Path) -> int:
    """Bytes that the arrays of an HDF5 file take, by its headers."""
    import h5py

    sizes: list[int] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, found: (
                sizes.append(int(found.nbytes)) if isinstance(found, h5py.Dataset) else None
            )
        )
    return sum(sizes)


def write(mdata: MuData, path: Path) -> Path:
    """Write an ``.h5mu`` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), replacing(path) as beside:
        mdata.write_h5mu(beside)
    return path


def as_mudata(data: MuData | AnnData, names: Sequence[str] = ()) -> MuData:
    """A MuData object: the object itself, or of an AnnData one with its kinds of
    features, and entries of its ``obsm`` that are named, as modalities.

    Raises:
        TypeError: neither.
    """
    mudata = required("mudata", "omics")
    if isinstance(data, mudata.MuData):
        return data
    anndata = required("anndata", "omics")
    if not isinstance(data, anndata.AnnData):
        raise TypeError(f"expected a MuData or AnnData object, got {type(data).__name__}")
    with quiet():
        found = mudata.MuData(data)
        beside = {key: data.obsm[key] for key in names if key not in found.mod and key in data.obsm}
        if beside:
            mods = {
                key: anndata.AnnData(np.asarray(v), obs=data.obs[[]], var=_columns_of(v))
                for key, v in beside.items()
            }
            found = mudata.MuData(
                {**{key: mod for key, mod in found.mod.items() if key in names}, **mods}
            )
        found.obs = data.obs
        return found


def _columns_of(values: Any) -> Any:
    """An empty table whose rows are called as the columns of values are, or by their
    numbers."""
    pandas = required("pandas", "omics")
    return pandas.DataFrame(index=[*map(str, getattr(values, "columns", range(values.shape[1])))])


@contextmanager
def quiet() -> Iterator[None]:
    """Without what mudata says of its own plans, and anndata of the names of features,
    which do not concern who reads or writes a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"From 0\.4 \.update\(\) will not pull", FutureWarning)
        warnings.filterwarnings(
            "ignore", "(Observation|Variable|obs_names|var_names).* not unique", UserWarning
        )
        warnings.filterwarnings(
            "ignore", "Cannot join columns with the same name because var_names", UserWarning
        )  # a gene and its protein
        yield


def _among(name: str, known: Mapping[str, Any] | Sequence[str], what: str, where: str) -> str:
    """``name``, which must be one of those known."""
    if name in known:
        return name
    close = get_close_matches(name, [*known], 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{where} has no {what} {name!r}; {hint}it has {', '.join(map(str, known)) or 'none'}"
    )


def _texts(given: Columns) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _assay(
    mdata: MuData, name: str, likelihood: str | None, layer: str | None, where: str
) -> Assay:
    """One modality of the MuData."""
    mod = mdata[name]
    what = f"{where}: modality {name!r}"
    values = (
        mod.X
        if layer is None
        else mod.layers[_among(layer, mod.layers, f"layer of {name!r}", where)]
    )
    if values is None:
        raise ValueError(
            f"{what} has no X; name one of its layers: {', '.join(mod.layers) or 'it has none'}"
        )
    table = as_table(values, what)
    family = likelihood or inferred(table)
    if likelihood is None and family == "normal" and (why := doubtful(table)):
        warnings.warn(f"{what} {why}", stacklevel=3)
    if family not in FAMILIES:
        raise ValueError(
            f"{what}: unknown likelihood {family!r}; choose one of {', '.join(FAMILIES)}"
        )
    rows = _rows(mdata, name)
    here, names = np.flatnonzero(rows >= 0), np.asarray(mod.obs_names, str)
    fits = (
        len(rows) == mdata.n_obs and len(here) == len(names) and rows.max(initial=-1) < len(names)
    )
    wrong = here[names[rows[here]] != np.asarray(mdata.obs_names, str)[here]] if fits else here
    if not fits or len(wrong):
        example = (
            f": {mdata.obs_names[wrong[0]]} there is {names[rows[wrong[0]]]} here" if fits else ""
        )
        raise ValueError(
            f"{what} has other ids than the whole says{example}; call mdata.update() after changing a modality"
        )
    return Assay(name, table, rows, np.asarray(mod.var_names, str), family)


def _observed(
    mdata: MuData,
    labels: Sequence[str],
    private_labels: Mapping[str, Sequence[str]],
    batch: Sequence[str],
    where: str,
) -> Observed:
    """Ids, labels and batches of the observations."""
    slashed = [column for column in (*labels, *batch) if "/" in column]
    if slashed:
        raise ValueError(
            f"{where}: column {slashed[0]!r} holds '/', which parts the names of metrics; rename it"
        )
    shared = {column: _coded(_column(mdata, column, where), column, where) for column in labels}
    private: dict[str, dict[str, Array]] = {}
    classes = {column: names for column, (_, names) in shared.items()}
    for key, columns in private_labels.items():
        for column in columns:
            private.setdefault(column, {})[key], classes[f"{column}/{key}"] = _coded(
                _column(mdata, f"{key}:{column}", where), column, where
            )
    covariates = {column: _covariate(_column(mdata, column, where), column) for column in batch}
    return Observed(
        np.asarray(mdata.obs_names, str),
        {column: codes for column, (codes, _) in shared.items()},
        private,
        covariates,
        classes,
    )


def _rows(mdata: MuData, name: str) -> Array:
    """(N,) the row of each observation in a modality, −1 where it is not."""
    return np.asarray(mdata.obsmap[name]).reshape(-1).astype(np.int64) - 1


def _column(mdata: MuData, name: str, where: str) -> Any:
    """A column of obs, or "MODALITY:COLUMN" of a modality's own, aligned with the
    observations."""
    if name in mdata.obs:
        return mdata.obs[name]
    mod, _, column = name.partition(":")
    if mod in mdata.mod and column in mdata[mod].obs:
        rows = _rows(mdata, mod)
        values = mdata[mod].obs[column].iloc[rows.clip(0)].set_axis(mdata.obs_names)
        return values.where(rows >= 0)
    own = [f"{key}:{c}" for key in mdata.mod for c in mdata[key].obs]
    return _among(name, list(dict.fromkeys([*mdata.obs, *own])), "obs column", where)


def _coded(column: Any, name: str, where: str) -> tuple[Array, Sequence[str]]:
    """Numbers of classes, negative where unknown, and what they stand for, in order."""
    known = ~np.asarray(column.isna())
    values = given(name, column[known].array).values
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise TypeError(
            f"{where}: label {name!r} holds numbers that are no classes ({values[values != np.rint(values)][0]:g}); cut it into categories"
        )
    values = (
        values.astype(int)
        if values.dtype.kind in "bf"
        else values
        if values.dtype.kind in "iu"
        else values.astype(str)
    )
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) > max(2, len(values) / 2):
        raise ValueError(
            f"{where}: label {name!r} has {len(classes):,} classes in {len(values):,} observations; name a column of categories"
        )
    codes = np.full(len(known), UNKNOWN)
    codes[known] = numbers
    return codes, [*map(str, classes)]


def _covariate(column: Any, name: str) -> Array:
    """Floats as they are, integers too, anything else as text; "" or NaN where unknown."""
    one = given(name, column.array)
    whole = one.values.dtype.kind in "iu" and not one.absent.any()
    return (
        one.values
        if whole or one.values.dtype.kind == "f"
        else np.where(one.absent, "", one.values.astype(str))
    )


def _parts(column: Any, name: str, where: str) -> Array:
    """The part of each observation."""
    values = np.asarray(column.astype(str).str.lower(), str)
    found = np.unique(values)
    wrong = ~np.isin(values, [*PART_NAMES])
    if wrong.any():
        row = column.index[int(wrong.argmax())]
        raise ValueError(
            f"{where}: column {name!r} says '{values[wrong][0]}' of {row}; expected train, val or test"
        )
    named_parts(f"{where}: column {name!r}", [*map(str, found)])
    return np.array([PART_NAMES[value] for value in values])


def _with_all_parts(
    parts: Array, groups: Array, fractions: Fractions, seed: int, where: str
) -> tuple[Array, dict[str, str]]:
    """The parts with those that are missing held out from train, alike in every group;
    and notes on them."""
    notes: dict[str, str] = {}
    for part, share in zip(PARTS[1:], fractions[1:], strict=True):
        if part not in parts:
            train = np.flatnonzero(parts == "train")
            out, notes[part] = held_out(where, part, groups[train], share, seed)
            parts = parts.copy()
            parts[train[out]] = part
    return parts, notes
