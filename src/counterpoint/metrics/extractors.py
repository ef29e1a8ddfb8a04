"""Feature spaces of the user's own, for Fréchet distances and their kin: any function
from values to features.

A network is such a function. So that figures compare with published ones, it has to be
the published network, and to make of values what that
one was given: enlarging and normalising belong to the function.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

Extractor = Callable[[Tensor], Tensor]
_ROWS = 64  # at a time: published networks enlarge images to 299×299


def extracted(name: str, extractor: Extractor, values: Tensor) -> Tensor:
    """(B, F): features of the values (B, *shape) of a modality, few rows at a time.

    Raises:
        ValueError: features of another shape, NaN or infinite. TypeError: no tensor.
    """
    parts = []
    for part in values.split(_ROWS):
        features = extractor(part)
        if not isinstance(features, Tensor):
            raise TypeError(
                f"the feature extractor of {name!r} gave {type(features).__name__}; expected a tensor (B, F)"
            )
        if features.dim() != 2 or len(features) != len(part):
            shapes = f"{tuple(features.shape)} of values {tuple(part.shape)}"
            raise ValueError(
                f"the feature extractor of {name!r} gave {shapes}; expected ({len(part)}, F): flatten what is left of each row"
            )
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                f"the feature extractor of {name!r} gave NaN or infinity; check what it makes of values in [0, 1]"
            )
        parts.append(features)
    return torch.cat(parts)


def name_of(extractor: Extractor) -> str:
    """Module and name of a function, or of the class of a network."""
    named = extractor if hasattr(extractor, "__qualname__") else type(extractor)
    return f"{named.__module__}.{named.__qualname__}"


@contextmanager
def settled(extractors: Iterable[Extractor]) -> Iterator[None]:
    """Networks in evaluation mode, and as they were afterwards."""
    training = [
        module
        for extractor in extractors
        if isinstance(extractor, nn.Module)
        for module in extractor.modules()
        if module.training
    ]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def read_extractor(path: Path) -> Extractor:
    """The function ``features`` of a Python file, which is run.

    Raises:
        FileNotFoundError: no such file. ValueError: it is no Python, fails, or defines
            no such function.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give a Python file that defines features(values)")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(
            f"{path} is no Python file; give one, NAME.py, that defines features(values)"
        )
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # its neighbours can be imported, as when it is run
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"{path} fails when it is run: {type(error).__name__}: {error}".partition("\n")[0]
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    extractor = getattr(module, "features", None)
    if not callable(extractor):
        raise ValueError(
            f"{path} defines no function features(values); expected one that returns (B, F)"
        )
    return extractor
