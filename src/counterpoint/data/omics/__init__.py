"""Omics: assays of the same samples or cells, from MuData, files or named sets."""

from __future__ import annotations

from collections.abc import Callable

from ..records import Dataset
from .assays import SkipBad
from .mortality import tcga_mortality
from .scverse import SUFFIXES, read, setup_mudata, write
from .sets import citeseq, scgem, snareseq, tcga_brca

SETS: dict[str, Callable[..., Dataset]] = {
    "tcga-brca": tcga_brca,
    "scgem": scgem,
    "snareseq": snareseq,
    "citeseq": citeseq,
    "tcga-mortality": tcga_mortality,
}
"""The named sets; each takes the folder where data lie, options of its own and a seed."""

__all__ = ["SETS", "SUFFIXES", "SkipBad", "citeseq", "read", "scgem", "setup_mudata", "snareseq", "tcga_brca", "tcga_mortality", "write"]
