"""A ``torch.utils.data.Dataset`` of dictionaries as a data set, or a mapping of train,
val and test to such.

Each item is a dictionary of values by name, with the names that a mapping of arrays has
(:mod:`counterpoint.data.sources.mappings`). A name that an item lacks, or that is None
there, is absent in that row. All items are read once, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from counterpoint.data.ambiguity import ReadOptions
from counterpoint.data.dataset import Dataset
from counterpoint.data.source import Request, Source
from counterpoint.data.sources.columns import SHARED, each, opened


def is_torch(source: object) -> bool:
    """Whether it is a data set of torch, or a mapping of such."""
    return each(source, lambda one: isinstance(one, TorchDataset))


def arrays_of(source: TorchDataset[Any]) -> dict[str, Any]:
    """Arrays by name, and masks of rows that lack a name.

    Raises:
        TypeError: no length, or an item that is no dictionary.
        ValueError: no items, or values of different shapes.
    """
    if not isinstance(source, Sized):
        raise TypeError(
            f"a {type(source).__name__} has no length; give one with __len__, or shards"
        )
    items = [source[i] for i in range(len(source))]
    for i, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise TypeError(
                f"item {i} is {type(item).__name__}; expected a dictionary of values by name"
            )
    names = dict.fromkeys(name for item in items for name in item)
    if not names:
        raise ValueError(f"the {type(source).__name__} has no items; give at least one")
    arrays: dict[str, Any] = {}
    for name in names:
        values = [cast(Mapping[str, Any], item).get(name) for item in items]
        arrays |= column(name, values)
    return arrays


def column(name: str, values: list[Any]) -> dict[str, Any]:
    """The rows of one name, with zeros and a mask where there is none."""
    known = [None if value is None else _array(value) for value in values]
    like = next((value for value in known if value is not None), None)
    if like is None:
        return {}
    for i, value in enumerate(known):
        if value is not None and value.shape != like.shape:
            raise ValueError(
                f"item {i}: {name!r} has shape {value.shape}, expected {like.shape} as before"
            )
    there = np.array([value is not None for value in known])
    blank = np.zeros_like(like)
    stacked = np.stack([blank if value is None else value for value in known])
    if there.all():
        return {name: stacked}
    if "/" in name:
        return {name: np.ma.array(stacked, mask=~there)}
    return {name: stacked, f"present/{name}": there}


def _array(value: Any) -> np.ndarray:
    tensor = isinstance(value, torch.Tensor)
    return np.asarray(value.detach().cpu().numpy() if tensor else value)


def open_torch(request: Request, options: ReadOptions) -> Dataset:
    """Open a data set of torch."""
    return opened("torch", request, options, arrays_of)


SOURCE = Source(
    "torch",
    "a data set of torch, whose items are dictionaries",
    ReadOptions,
    open_torch,
    SHARED,
    infers=True,
    holds=is_torch,
)
