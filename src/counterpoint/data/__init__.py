"""Data: records, loaders, the embedded set, and the sets that are prepared from public files."""

from __future__ import annotations

from .autoencoder import Autoencoder, latents
from .catalog import load, names, prepare
from .loader import BatchLoader
from .packing import pack
from .records import Dataset, Split
from .streams import Index, Stream, StreamLoader
from .streams.survey import index
from .text import Vocabulary

__all__ = [
    "Autoencoder",
    "BatchLoader",
    "Dataset",
    "Index",
    "Split",
    "Stream",
    "StreamLoader",
    "Vocabulary",
    "index",
    "latents",
    "load",
    "names",
    "pack",
    "prepare",
]
