"""Data: records, loaders, the embedded set, and the sets that are prepared from public files."""

from __future__ import annotations

from .autoencoder import Autoencoder, latents
from .catalog import load, names, prepare
from .loader import BatchLoader
from .packing import pack
from .records import Dataset, Split
from .text import Vocabulary

__all__ = ["Autoencoder", "BatchLoader", "Dataset", "Split", "Vocabulary", "latents", "load", "names", "pack", "prepare"]
