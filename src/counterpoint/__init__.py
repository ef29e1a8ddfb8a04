"""Counterpoint: multimodal generative models that separate what modalities share from what is private to each."""

from __future__ import annotations

from counterpoint import data
from counterpoint.methods import DMVAE, IDMVAE, JMVAE, METHODS, MMVAE, MVAE, MVTCAE, Method, MMVAEPlus, MoPoE, load
from counterpoint.nn import NetworkOptions
from counterpoint.types import Batch, Latents, Modality

__version__ = "0.1.0"

__all__ = [
    "DMVAE",
    "IDMVAE",
    "JMVAE",
    "METHODS",
    "MMVAE",
    "MVAE",
    "MVTCAE",
    "Batch",
    "Latents",
    "MMVAEPlus",
    "Method",
    "MoPoE",
    "Modality",
    "NetworkOptions",
    "data",
    "evaluate",
    "fit",
    "load",
    "report",
]

_LAZY = {"evaluate": "counterpoint.metrics", "fit": "counterpoint.training", "report": "counterpoint.report"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
