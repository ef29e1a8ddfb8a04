"""``tcga-mortality``: two tables of The Cancer Genome Atlas and who of its patients
lived for a year, which IDMVAE was tested on.

IDMVAE (2025, https://arxiv.org/abs/2509.23548) takes mRNA and miRNA, 100 numbers each,
and reads one-year mortality off the latents. How the 100 numbers are made is left open.
We chose standardised logarithms and their first principal components, all by the train
rows.

    x_nd  →  y_nd = log2(1 + x_nd)  →  (y_nd − mean_d) / std_d  →  scores on components 1..C, divided by the standard deviation of the first
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.core.optional import required
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.assays import Assay, moments
from counterpoint.data.sources.assemble import assemble
from counterpoint.data.sources.observed import Observed, divided
from counterpoint.data.split import Array

if TYPE_CHECKING:
    from pandas import DataFrame, Series

YEAR = 365

TABLES = ("mrna", "mirna")

_ENDS = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz", ".txt.gz")

_BARCODE = re.compile(r"(TCGA-\w{2}-\w{4})(?:-(\d{2}))?")

_NORMAL = 10  # sample types from here on are no tumours

_LOGARITHMS = 64.0  # the logarithm of no count is as large

_DEATH = ("days_to_death", "death_days_to")

_FOLLOWED = ("days_to_last_followup", "days_to_last_follow_up", "last_contact_days_to")


@dataclass(frozen=True)
class MortalityOptions:
    """Options of ``tcga-mortality``.

    >>> MortalityOptions(components=50).components
    50

    Args:
        components: principal components of each table; fewer than there are train rows.
    """

    components: int = 100


def tcga_mortality(request: Request, options: MortalityOptions) -> Dataset:
    """Read patients with ``mrna`` and ``mirna``: principal components of each, Laplace
    with learned scales. The label ``mortality`` is 1 if a patient died within 365 days,
    and 0 if the patient lived on day 365 or later. Patients who were followed for less,
    and not seen to die, are left out.

    Read from ``root/tcga`` (or ``root``), as ``.tsv``, ``.csv`` or ``.txt``, gzipped or
    not, as UCSC Xena, the GDC and cBioPortal publish them:

    - ``mrna`` and ``mirna``: features by samples, or samples by features, samples named
      by TCGA barcodes (TCGA-A1-A0SH-01). Of several tumours of a patient the one of the
      lowest sample type counts, normal tissue (types from 10 on) does not. A table with
      values of 64 or more has no logarithms yet. Features that lack in a patient, or
      are constant, are left out.
    - ``clinical``: patients by columns, with ``days_to_death`` (or ``death_days_to``)
      and ``days_to_last_followup`` (or ``days_to_last_follow_up``,
      ``last_contact_days_to``), numbers or nothing.

    Divided 70 : 10 : 20 at random, alike in both classes; we chose this division, too.

    Raises:
        FileNotFoundError: a table lacks.
        ValueError: a table that is laid out otherwise, or too few patients.
        ModuleNotFoundError: pandas is not installed.
    """
    root = request.root
    seed = request.seed
    folder = root / "tcga" if (root / "tcga").is_dir() else root
    paths = {name: _path(folder, name) for name in (*TABLES, "clinical")}
    tables = {name: _samples(paths[name]) for name in TABLES}
    died = _mortality(paths["clinical"])
    patients = sorted(died.keys() & {*tables["mrna"].index} & {*tables["mirna"].index})
    if not patients:
        sizes = ", ".join(
            f"{len(found)} of {name}" for name, found in (*tables.items(), ("clinical", died))
        )
        raise ValueError(
            f"{folder}: no patient is in all tables with a year known of; they hold {sizes}; give tables of the same patients"
        )
    observed = Observed(
        np.array(patients),
        {"mortality": np.array([died[p] for p in patients])},
        classes={"mortality": ["alive", "dead"]},
    )
    part = divided((0.7, 0.1, 0.2), [], observed, seed)
    assays = [
        _components(
            name, tables[name].loc[patients], part == "train", options.components, paths[name]
        )
        for name in TABLES
    ]
    notes = {
        "source": "TCGA, principal components by the train rows",
        "dead": f"{observed.labels['mortality'].mean():.3f} of all patients",
    }
    return assemble("tcga-mortality", assays, observed, parts=part, standardise=False, notes=notes)


def _path(folder: Path, name: str) -> Path:
    """The table of that name."""
    paths = (folder / f"{name}{end}" for end in _ENDS)
    table = next((path for path in paths if path.is_file()), None)
    if table is None:
        raise FileNotFoundError(
            f"{folder / name}.tsv is missing (.csv, .txt or gzipped will do); put it there"
        )
    return table


def _table(path: Path) -> DataFrame:
    """A table as text, its first column the names of its rows."""
    pandas = required("pandas", "omics")
    try:
        return pandas.read_csv(
            path,
            sep="," if ".csv" in path.suffixes else "\t",
            index_col=0,
            dtype=str,
            encoding_errors="replace",
        )
    except (ValueError, EOFError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(
            f"{path} is no table that can be read ({' '.join(str(error).split())}); fetch it again"
        ) from error


def _barcodes(names: Series) -> DataFrame:
    """Patient and sample type of each name, where it is a barcode; R writes dots for
    dashes."""
    return (
        names.astype(str)
        .str.upper()
        .str.replace(".", "-", regex=False)
        .str.extract(_BARCODE.pattern)
    )


def _samples(path: Path) -> DataFrame:
    """Numbers, patients by features: of each patient its first tumour."""
    pandas = required("pandas", "omics")
    table = _table(path)
    across, down = (_barcodes(pandas.Series([*names])) for names in (table.columns, table.index))
    if across[0].notna().sum() > down[0].notna().sum():
        table = table.T
        down = across
    kind = down[1].fillna("01").astype(int)
    tumours = np.flatnonzero(down[0].notna() & (kind < _NORMAL))
    if not len(tumours):
        raise ValueError(
            f"{path} has no TCGA barcode of a tumour (TCGA-A1-A0SH-01) in its first row or column; fetch it again"
        )
    order = tumours[np.argsort(kind.iloc[tumours], kind="stable")]
    numbers = (
        table.iloc[order]
        .apply(pandas.to_numeric, errors="coerce")
        .set_axis(down[0].iloc[order].rename(None))
    )
    return numbers[~numbers.index.duplicated()]


def _mortality(path: Path) -> dict[str, int]:
    """By patient, whether death came within a year; who is not known to have died or
    lived then is left out."""
    pandas = required("pandas", "omics")
    table = _table(path).reset_index()
    share = {column: _barcodes(table[column])[0].notna().mean() for column in table}
    named = max(share, key=lambda column: share[column])
    columns = [next((c for c in among if c in table), None) for among in (_DEATH, _FOLLOWED)]
    if not share[named] or None in columns:
        raise ValueError(
            f"{path} has no column of TCGA barcodes, {' or '.join(_DEATH)}, and {' or '.join(_FOLLOWED)}, a row a patient; fetch it again"
        )
    death, followed = (
        pandas.to_numeric(table[column], errors="coerce").to_numpy(float) for column in columns
    )
    survived = (death > YEAR) | (followed >= YEAR)
    died = np.where(death <= YEAR, 1, np.where(survived, 0, -1))
    patients = _barcodes(table[named])[0]
    return {
        str(patient): int(d)
        for patient, d in zip(patients, died, strict=True)
        if patient == patient and d >= 0
    }


def _components(name: str, table: DataFrame, train: Array, count: int, path: Path) -> Assay:
    """The scores of patients on the first principal components."""
    values = table.to_numpy(np.float64)
    values = values[:, np.isfinite(values).all(0)]
    if values.size and values.min() < 0 and values.max() >= _LOGARITHMS:
        raise ValueError(
            f"{path} spans [{values.min():g}, {values.max():g}]: neither counts nor their logarithms; give one of them"
        )
    logs = np.log2(1 + values) if values.size and values.max() >= _LOGARITHMS else values
    mean, variance = moments(logs[train])
    varies = variance > 0
    scale = np.sqrt(np.where(varies, variance, 1))
    scaled = ((logs - mean) / scale)[:, varies]
    most = min(int(train.sum()) - 1, scaled.shape[1])
    if not 1 <= count <= most:
        raise ValueError(
            f"{path}: {train.sum()} train rows of {scaled.shape[1]} features have {most} components, not {count}; set components"
        )
    directions = np.linalg.svd(scaled[train], full_matrices=False)[2][:count]
    scores = scaled @ directions.T
    scores = (scores / scores[train, 0].std()).astype(np.float32)
    return Assay(
        name,
        scores,
        np.arange(len(scores)),
        np.array([f"PC{i}" for i in range(1, count + 1)]),
        "laplace",
    )


SOURCE = Source(
    "tcga-mortality",
    "TCGA's mRNA and miRNA, 100 components each, and one-year mortality; reads its tables",
    MortalityOptions,
    tcga_mortality,
)
