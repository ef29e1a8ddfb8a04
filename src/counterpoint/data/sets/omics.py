"""Named sets of matched assays, each of one ``.npz`` file below ``omics/``: small,
real, and divided in five folds.

Observations are dealt out to folds at random by the seed, alike in every class: one
fold is test, the next val, the others train. What is done to the values before they are
standardised is said at each set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.core.modality import LikelihoodName
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import folds
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.assays import Assay, as_table
from counterpoint.data.sources.assemble import assemble
from counterpoint.data.sources.labels import UNKNOWN
from counterpoint.data.sources.observed import Observed, strata
from counterpoint.data.split import Array

FOLDS = 5

GATES = (("NK", "CD5", -15), ("CD4 T", "CD4", 50), ("myeloid", "CD11c", 40), ("B", "CD19", 30))
"""Lineages by one surface protein each: at least so many counts, or fewer than so many.
We chose the valleys of the histograms; of several lineages, the last counts."""


@dataclass(frozen=True)
class FoldOptions:
    """Options of ``tcga-brca``, ``scgem`` and ``snareseq``.

    >>> FoldOptions(fold=1).fold
    1

    Args:
        fold: which of five folds is test (0 to 4); the next one is val.
    """

    fold: int = 0


@dataclass(frozen=True)
class CiteSeqOptions:
    """Options of ``citeseq``.

    >>> CiteSeqOptions(top_features=500).fold
    0

    Args:
        fold: which of five folds is test (0 to 4); the next one is val.
        top_features: how many genes to keep, those that vary most.
    """

    fold: int = 0
    top_features: int = 1000


def tcga_brca(request: Request, options: FoldOptions) -> Dataset:
    """Read 348 breast tumours of The Cancer Genome Atlas, as the R package r.jive has
    them. The modalities are ``expression`` (645 genes, centred logarithms),
    ``methylation`` (574 probes, shares) and ``mirna`` (423, logarithms). The label
    ``cluster`` (3) was derived from the same data.

    Cancer Genome Atlas Network, "Comprehensive molecular portraits of human breast
    tumours", 2012, https://doi.org/10.1038/nature11412; O'Connell and Lock, "R.JIVE for
    exploration of multi-source molecular data", 2016,
    https://doi.org/10.1093/bioinformatics/btw324.

    Raises:
        FileNotFoundError, ValueError: the file lacks, or is corrupt or laid out
            otherwise.
    """
    file = _read(
        request.root,
        "tcga_brca348_rjive.npz",
        ("expression", "methylation", "mirna", "cluster", "sample", "methylation_feature"),
    )
    features = {"methylation": file["methylation_feature"]}
    assays = [
        _assay(name, file[name], "normal", features.get(name))
        for name in ("expression", "methylation", "mirna")
    ]
    return _folded(
        "tcga-brca",
        assays,
        {"cluster": file["cluster"]},
        file["sample"],
        options.fold,
        request.seed,
    )


def scgem(request: Request, options: FoldOptions) -> Dataset:
    """Read 177 cells on their way from fibroblasts to stem cells. The modalities are
    ``expression`` of 32 genes (logarithms, 60 % zeros; two more are never seen) and
    ``methylation`` of 27 sites (0 or 1, Bernoulli). The label is ``cell_type`` (5).

    Cheow et al., "Single-cell multimodal profiling reveals cellular epigenetic
    heterogeneity", 2016, https://doi.org/10.1038/nmeth.3961; as published with
    UnionCom, https://doi.org/10.1093/bioinformatics/btaa443.

    Raises:
        FileNotFoundError, ValueError: the file lacks, or is corrupt or laid out
            otherwise.
    """
    file = _read(
        request.root, "scgem_unioncom.npz", ("gene_expression", "dna_methylation", "cell_type")
    )
    expression = _assay("expression", file["gene_expression"], "normal")
    assays = [
        expression.only(expression.values.any(0)),
        _assay("methylation", file["dna_methylation"], "bernoulli"),
    ]
    return _folded(
        "scgem", assays, {"cell_type": file["cell_type"]}, None, options.fold, request.seed
    )


def snareseq(request: Request, options: FoldOptions) -> Dataset:
    """Read 1,047 cells of four lines. ``atac`` holds logarithms of the shares that 19
    topics of open chromatin have in a cell, ``rna`` 10 principal components of
    expression. The label is ``cell_type`` (4).

    Chen, Lake & Zhang, "High-throughput sequencing of the transcriptome and chromatin
    accessibility in the same cell", 2019, https://doi.org/10.1038/s41587-019-0290-0; as
    published with SCOT, https://doi.org/10.1089/cmb.2021.0446.

    Raises:
        FileNotFoundError, ValueError: the file lacks, or is corrupt or laid out
            otherwise.
    """
    file = _read(request.root, "snareseq_scot.npz", ("atac", "rna", "cell_type"))
    shares = np.log(file["atac"] / file["atac"].sum(1, keepdims=True))
    return _folded(
        "snareseq",
        [_assay("atac", shares, "normal"), _assay("rna", file["rna"], "normal")],
        {"cell_type": file["cell_type"]},
        None,
        options.fold,
        request.seed,
    )


def citeseq(request: Request, options: CiteSeqOptions) -> Dataset:
    """Read 500 blood cells: counts of ``rna``, the ``top_features`` genes of 11,980,
    and of ``adt``, 49 antibodies. Both are negative binomial.

    The label ``lineage`` (5) is gated on the counts of four antibodies (:data:`GATES`,
    our choice), so ``adt`` determines it. A cell is CD8 T if it has 50 counts of CD8
    and passes no other gate; 5 % of the cells stay unknown. The label ``hashtag`` (4)
    is the tag of a cell's tube, if nine in ten of the cell's tags are it; other rows
    may be two cells. The tube has no biological meaning: a probe that reads it finds an
    artefact.

    Mimitou et al., "Multiplexed detection of proteins, transcriptomes, clonotypes and
    CRISPR perturbations in single cells", 2019,
    https://doi.org/10.1038/s41592-019-0392-0; as published with CiteFuse,
    https://doi.org/10.1093/bioinformatics/btaa282.

    Raises:
        FileNotFoundError, ValueError: the file lacks, or is corrupt or laid out
            otherwise.
    """
    from scipy import sparse

    parts = ("rna_data", "rna_indices", "rna_indptr", "rna_shape", "rna_feature")
    file = _read(
        request.root, "citeseq_citefuse.npz", (*parts, "adt", "adt_feature", "hto", "cell")
    )
    data, indices, pointers, shape = (file[key] for key in parts[:4])
    rna = sparse.csr_array((data, indices, pointers), shape=tuple(map(int, shape)))
    genes = np.char.replace(file["rna_feature"], "hg19_", "")
    assays = [
        _assay("rna", rna, "nb", genes),
        _assay("adt", file["adt"], "nb", file["adt_feature"]),
    ]
    share = file["hto"].max(1) / file["hto"].sum(1)
    labels = {
        "lineage": _gated(file["adt"], file["adt_feature"]),
        "hashtag": np.where(share >= 0.9, file["hto"].argmax(1), UNKNOWN),
    }
    classes = {"lineage": [*_LINEAGES], "hashtag": ["1", "2", "3", "4"]}
    return _folded(
        "citeseq",
        assays,
        labels,
        file["cell"],
        options.fold,
        request.seed,
        options.top_features,
        classes,
    )


_LINEAGES = ("CD8 T", *(lineage for lineage, _, _ in GATES))


def _gated(counts: Array, proteins: Array) -> Array:
    """(N,) numbers of lineages, negative where no gate is passed."""
    of = {str(name): counts[:, i] for i, name in enumerate(proteins)}
    lineage = np.where(of["CD8"] >= 50, 0, UNKNOWN)
    for number, (_, protein, least) in enumerate(GATES, 1):
        lineage[of[protein] >= least if least > 0 else of[protein] < -least] = number
    return lineage


def _read(root: Path, name: str, keys: tuple[str, ...]) -> Mapping[str, Array]:
    """The arrays of a file below ``root/omics`` or in ``root``."""
    path = next((p for p in (root / "omics" / name, root / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{name} is neither in {root / 'omics'} nor in {root}; put it there"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is corrupt or lacks one of {', '.join(keys)} ({error}); make it again"
        ) from error


def _assay(
    name: str, values: Any, likelihood: LikelihoodName, features: Array | None = None
) -> Assay:
    """A matched assay; features without a name are numbered."""
    table = as_table(values, name)
    names = (
        np.array([f"{name} {i}" for i in range(1, table.shape[1] + 1)])
        if features is None
        else features
    )
    return Assay(name, table, np.arange(table.shape[0]), names, likelihood)


def _folded(
    name: str,
    assays: list[Assay],
    labels: dict[str, Array],
    ids: Array | None,
    fold: int,
    seed: int,
    top_features: int | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """The set with one fold for test and the next for val."""
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold {fold} of {name} must lie in [0, {FOLDS - 1}]")
    known = {label: np.unique(values[values >= 0]) for label, values in labels.items()}
    numbers = {
        label: np.where(values < 0, UNKNOWN, np.searchsorted(known[label], values))
        for label, values in labels.items()
    }
    count = len(assays[0].rows)
    told: dict[str, Sequence[str]] = {label: [*map(str, known[label])] for label in labels} | {
        **(classes or {})
    }
    observed = Observed(np.arange(count).astype(str) if ids is None else ids, numbers, classes=told)
    number = (folds(strata(observed, assays), FOLDS, seed) - fold) % FOLDS
    part = np.where(number == 0, "test", np.where(number == 1, "val", "train"))
    notes = {"fold": f"{fold} of {FOLDS} is test, the next val"}
    return assemble(
        name, assays, observed, parts=part, seed=seed, top_features=top_features, notes=notes
    )


SOURCES: tuple[Source[FoldOptions] | Source[CiteSeqOptions], ...] = (
    Source(
        "tcga-brca",
        "348 breast tumours: expression 645, methylation 574 and miRNA 423, 3 classes; reads a file",
        FoldOptions,
        tcga_brca,
    ),
    Source(
        "scgem",
        "177 cells: expression 32 and methylation 27, 5 classes; reads a file",
        FoldOptions,
        scgem,
    ),
    Source(
        "snareseq",
        "1,047 cells: chromatin 19 and expression 10, 4 classes; reads a file",
        FoldOptions,
        snareseq,
    ),
    Source(
        "citeseq",
        "500 blood cells: counts of 1,000 genes and 49 antibodies, 5 lineages; reads a file",
        CiteSeqOptions,
        citeseq,
    ),
)
