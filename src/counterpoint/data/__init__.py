"""Data: records, loaders, the embedded set, and the sets that are prepared from public
files."""

from __future__ import annotations

from counterpoint.data.dataset import Dataset
from counterpoint.data.loader import BatchLoader
from counterpoint.data.loading import load, prepare
from counterpoint.data.registry import names
from counterpoint.data.rows import Rows
from counterpoint.data.sources.latents import Autoencoder, latents
from counterpoint.data.sources.packing import pack
from counterpoint.data.split import Split
from counterpoint.data.streams import Index, Stream, StreamLoader
from counterpoint.data.streams.survey import index
from counterpoint.data.text import Vocabulary

__all__ = [
    "Autoencoder",
    "BatchLoader",
    "Dataset",
    "Index",
    "Rows",
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
