"""scverse's containers: a MuData object or an ``.h5mu`` or ``.h5ad`` file becomes a
data set.

Bredikhin, Kats & Stegle, "MUON: multimodal omics analysis framework", 2022,
https://doi.org/10.1186/s13059-021-02577-8. The observations of a MuData are the union
of those of its modalities; ``obsmap`` says where each stands in each modality, 0 where
it was not measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.core import checks
from counterpoint.core.guesses import doubtful, inferred
from counterpoint.data.ambiguity import CovariateKind, Zeros
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import DEFAULT_FRACTIONS, Fractions
from counterpoint.data.faults import SkipBad
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.assays import FAMILIES, Assay, as_table
from counterpoint.data.sources.assemble import assemble
from counterpoint.data.sources.mudata_files import SUFFIXES, as_mudata, read
from counterpoint.data.sources.obs_columns import (
    among,
    coded,
    column_of,
    covariate,
    row_numbers,
    split_names,
    with_held_out,
)
from counterpoint.data.sources.observed import Observed, strata
from counterpoint.data.split import Array

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

Columns = str | Sequence[str]


@dataclass(frozen=True)
class ScverseOptions:
    """Options of an ``.h5mu`` or ``.h5ad`` file.

    Args:
        layers: by modality, the layer to read in place of X, such as raw counts.
        private_labels: by modality, columns of its own obs that it alone is supposed to
            show.
        batch: columns of obs that decoders are told: categories, or numbers (floats).
        splits: the column of obs that says "train", "val" or "test".
        top_features: how many features of each modality to keep, those that vary most;
            or by modality.
        standardise: shift and scale continuous features to mean 0 and variance 1.
        zeros: "missing" takes cells that are zero everywhere in an assay for cells that
            it did not measure.
        covariate_kinds: by column of batch, "category" or "number".
        skip_bad: leave out what is bad, list it in the notes and warn; or the kinds of
            badness for which to do so, such as [empty-cells, duplicates].
    """

    layers: Mapping[str, str] | None = None
    private_labels: Mapping[str, Sequence[str]] | None = None
    batch: Sequence[str] | None = None
    splits: str | None = None
    top_features: int | Mapping[str, int] | None = None
    standardise: bool = True
    zeros: Zeros = "measured"
    covariate_kinds: Mapping[str, CovariateKind] | None = None
    skip_bad: SkipBad = False


@checks.arguments
def setup_mudata(
    mdata: MuData | AnnData,
    *,
    modalities: Mapping[str, str | None] | None = None,
    layers: Mapping[str, str] | None = None,
    labels: Columns = (),
    private_labels: Mapping[str, Columns] | None = None,
    batch: Columns = (),
    fractions: Fractions = DEFAULT_FRACTIONS,
    splits: str | None = None,
    seed: int = 0,
    top_features: int | Mapping[str, int] | None = None,
    standardise: bool = True,
    zeros: Zeros = "measured",
    covariate_kinds: Mapping[str, CovariateKind] | None = None,
    skip_bad: SkipBad = False,
    name: str = "mudata",
) -> Dataset:
    """Make a data set of a MuData object, which stays as it is;
    :func:`counterpoint.annotate` writes what a method makes of it back.

    Values are copied, dense. A count takes one byte, or as many as it needs; another
    value takes four. Sparse tables stay sparse until ``top_features`` are chosen. More
    than half of the machine's memory is refused.

    >>> import counterpoint as cp
    >>> from anndata import AnnData
    >>> counts = np.random.default_rng(0).poisson(5, (40, 6))
    >>> kinds = {"kind": ["B", "T"] * 20}
    >>> data = cp.setup_mudata(AnnData(counts.astype("f4"), obs=kinds), labels="kind")
    >>> data
    Dataset 'mudata': 32 train, 4 val, 4 test rows
    data 6 nb
    labels: kind
    note on memory: 0.00024 MB
    note on label/kind: B, T

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
            (:data:`counterpoint.data.faults.BadKind`).
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
    chosen = layers or {}
    assays = [
        _assay(mdata, among(key, mdata.mod, "modality", name), family, chosen.get(key), name)
        for key, family in wanted.items()
    ]
    _check_keys(wanted, (layers, private_labels, top_features), name)
    private = {key: _texts(columns) for key, columns in (private_labels or {}).items()}
    observed = _observed(mdata, _texts(labels), private, _texts(batch), name)
    parts: Array | Fractions = fractions
    held: dict[str, str] = {}
    if splits is not None:
        column = split_names(column_of(mdata, splits, name), splits, name)
        parts, held = with_held_out(
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


def _check_keys(wanted: Iterable[str], by_modality: Sequence[object], where: str) -> None:
    """Check that mappings by modality name only modalities that are read."""
    known = [*wanted]
    keys = []
    for mapping in by_modality:
        if isinstance(mapping, Mapping):
            for key in mapping:
                keys.append(key)
    stray = [key for key in keys if key not in known]
    if stray:
        raise ValueError(
            f"{where}: {stray[0]!r} is not among the modalities that are read ({', '.join(known)})"
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
        else mod.layers[among(layer, mod.layers, f"layer of {name!r}", where)]
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
    rows = row_numbers(mdata, name)
    names = np.asarray(mod.obs_names, str)
    _check_rows(mdata, rows, names, what)
    return Assay(name, table, rows, np.asarray(mod.var_names, str), family)


def _check_rows(mdata: MuData, rows: Array, names: Array, what: str) -> None:
    """Check that the observations of a modality are those that the whole maps to it.

    Args:
        rows: (N,) the row of each observation in the modality, negative without one.
        names: of the rows of the modality.
        what: how errors call the modality.
    """
    there = np.flatnonzero(rows >= 0)
    fits = (
        len(rows) == mdata.n_obs and len(there) == len(names) and rows.max(initial=-1) < len(names)
    )
    whole = np.asarray(mdata.obs_names, str)
    wrong = there[names[rows[there]] != whole[there]] if fits else there
    if not fits or len(wrong):
        example = f": {whole[wrong[0]]} there is {names[rows[wrong[0]]]} here" if fits else ""
        raise ValueError(
            f"{what} has other ids than the whole says{example}; call mdata.update() after changing a modality"
        )


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
    shared = {column: coded(column_of(mdata, column, where), column, where) for column in labels}
    private: dict[str, dict[str, Array]] = {}
    classes = {column: names for column, (_, names) in shared.items()}
    for key, columns in private_labels.items():
        for column in columns:
            private.setdefault(column, {})[key], classes[f"{column}/{key}"] = coded(
                column_of(mdata, f"{key}:{column}", where), column, where
            )
    covariates = {column: covariate(column_of(mdata, column, where), column) for column in batch}
    return Observed(
        np.asarray(mdata.obs_names, str),
        {column: codes for column, (codes, _) in shared.items()},
        private,
        covariates,
        classes,
    )


def open_file(request: Request, options: ScverseOptions) -> Dataset:
    """Open an ``.h5mu`` or ``.h5ad`` file."""
    if isinstance(request.labels, Mapping):
        raise TypeError(f"'labels' of {request.called} must be a list, not a mapping")
    families = request.families
    return setup_mudata(
        read(request.path, [*(families or ())]),
        modalities=families,
        layers=options.layers,
        labels=request.labels or (),
        private_labels=options.private_labels,
        batch=options.batch or (),
        fractions=request.fractions,
        splits=options.splits,
        seed=request.seed,
        top_features=options.top_features,
        standardise=options.standardise,
        zeros=options.zeros,
        covariate_kinds=options.covariate_kinds,
        skip_bad=options.skip_bad,
        name=request.path.name,
    )


def is_scverse(path: Path) -> bool:
    """Whether a path is called as files of scverse are."""
    return path.suffix in SUFFIXES


SOURCE = Source(
    "scverse",
    "an .h5mu or .h5ad file",
    ScverseOptions,
    open_file,
    frozenset({"missing", "fractions", "labels", "modalities"}),
    recognises=is_scverse,
)
