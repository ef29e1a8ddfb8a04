"""Feature extractors of the user, for Fréchet distances and their kin.

An extractor is any function or network from values to features. To compare with
published figures, use the published network. Resize and normalise the values within
the function, as that network expects.
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
_ROWS_AT_ONCE = 64  # published networks enlarge images to 299×299


def extracted(name: str, extractor: Extractor, values: Tensor) -> Tensor:
    """Extract features (B, F) of the values (B, *shape) of a modality.

    Raises:
        ValueError: features of another shape, NaN or infinite.
        TypeError: the extractor returns no tensor.
    """
    parts = []
    for part in values.split(_ROWS_AT_ONCE):
        features = extractor(part)
        if not isinstance(features, Tensor):
            raise TypeError(
                f"the feature extractor of {name!r} gave {type(features).__name__}; expected a "
                "tensor (B, F)"
            )
        if features.dim() != 2 or len(features) != len(part):
            shapes = f"{tuple(features.shape)} of values {tuple(part.shape)}"
            raise ValueError(
                f"the feature extractor of {name!r} gave {shapes}; expected ({len(part)}, F): "
                "flatten what is left of each row"
            )
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                f"the feature extractor of {name!r} gave NaN or infinity; check what it makes of "
                "values in [0, 1]"
            )
        parts.append(features)
    return torch.cat(parts)


def name_of(extractor: Extractor) -> str:
    """Name a function, or the class of a network, with its module."""
    named = extractor if hasattr(extractor, "__qualname__") else type(extractor)
    return f"{named.__module__}.{named.__qualname__}"


@contextmanager
def settled(extractors: Iterable[Extractor]) -> Iterator[None]:
    """Put networks in evaluation mode, and restore their mode afterwards."""
    training = []
    for extractor in extractors:
        if isinstance(extractor, nn.Module):
            for module in extractor.modules():
                if module.training:
                    training.append(module)
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def read_extractor(path: Path) -> Extractor:
    """Run a Python file and return its function ``features``.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile("w", suffix=".py") as file:
    ...     print("features = lambda x: x.flatten(1)", file=file, flush=True)
    ...     read_extractor(Path(file.name))(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 12])

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not Python, fails, or does not define the function.
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
