"""The kinds of shards."""

from __future__ import annotations

from pathlib import Path

from counterpoint.data.streams.parquet import Parquet
from counterpoint.data.streams.shard import Shard
from counterpoint.data.streams.tar import Tar

KINDS: dict[str, type[Shard]] = {".parquet": Parquet, ".tar": Tar}
"""Kinds of shards by the end of their name."""


def shard_of(path: Path) -> Shard:
    """Return the shard that a file is.

    Raises:
        ValueError: its name says that it is none.
    """
    if path.suffix not in KINDS:
        raise ValueError(f"{path} is no shard; expected a file that ends in {' or '.join(KINDS)}")
    return KINDS[path.suffix](path)
