"""Data: records, loaders, the embedded set, and the sets that are prepared from public files."""

from __future__ import annotations

from .autoencoder import Autoencoder, latents
from .catalog import load, names, prepare
from .loader import BatchLoader
from .records import Dataset, Split

__all__ = ["Autoencoder", "BatchLoader", "Dataset", "Split", "latents", "load", "names", "prepare"]
