"""Counterpoint: multimodal generative models that separate what modalities share from
what is private to each.

Names are imported when they are first used, so that the command line's help is there at
once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterpoint import data, extend
    from counterpoint.core.batch import Batch
    from counterpoint.core.latents import Latents
    from counterpoint.core.modality import Modality
    from counterpoint.data.sources.scverse import setup_mudata
    from counterpoint.inference import RefinerOptions
    from counterpoint.methods import (
        DMVAE,
        IDMVAE,
        JMVAE,
        JNF,
        METHODS,
        MMVAE,
        MVAE,
        MVTCAE,
        DiffMVAE,
        IterativeMVAE,
        JNFShared,
        Method,
        MMVAEPlus,
        MoPoE,
        load,
        register,
    )
    from counterpoint.metrics import evaluate
    from counterpoint.model.denoising import DenoiserOptions
    from counterpoint.nn.options import NetworkOptions
    from counterpoint.omics.annotation import annotate
    from counterpoint.probability.flows import FlowOptions
    from counterpoint.probability.mcmc import HMC
    from counterpoint.report import write_report
    from counterpoint.studies import compare, sweep, tune
    from counterpoint.training import fit

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(
        (
            "DMVAE",
            "IDMVAE",
            "JMVAE",
            "JNF",
            "METHODS",
            "MMVAE",
            "MVAE",
            "MVTCAE",
            "DiffMVAE",
            "IterativeMVAE",
            "MMVAEPlus",
            "JNFShared",
            "Method",
            "MoPoE",
            "load",
            "register",
        ),
        "methods",
    ),
    "Batch": "core.batch",
    "Latents": "core.latents",
    "Modality": "core.modality",
    "DenoiserOptions": "model.denoising",
    "FlowOptions": "probability.flows",
    "HMC": "probability.mcmc",
    "NetworkOptions": "nn.options",
    "RefinerOptions": "inference",
    "annotate": "omics.annotation",
    "compare": "studies",
    "evaluate": "metrics",
    "fit": "training",
    "setup_mudata": "data.sources.scverse",
    "sweep": "studies",
    "tune": "studies",
    "write_report": "report",
}

__all__ = [
    "DMVAE",
    "HMC",
    "IDMVAE",
    "JMVAE",
    "JNF",
    "METHODS",
    "MMVAE",
    "MVAE",
    "MVTCAE",
    "Batch",
    "DenoiserOptions",
    "DiffMVAE",
    "FlowOptions",
    "IterativeMVAE",
    "JNFShared",
    "Latents",
    "MMVAEPlus",
    "Method",
    "MoPoE",
    "Modality",
    "NetworkOptions",
    "RefinerOptions",
    "annotate",
    "compare",
    "data",
    "evaluate",
    "extend",
    "fit",
    "load",
    "register",
    "setup_mudata",
    "sweep",
    "tune",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name in ("data", "extend"):
        return import_module(f"counterpoint.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
    value = getattr(import_module(f"counterpoint.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
