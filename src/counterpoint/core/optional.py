"""Libraries that only an extra of this package brings."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def required(module: str, extra: str) -> Any:
    """A module of such a library, imported now.

    Raises:
        ModuleNotFoundError: the library is not installed; says which extra brings it.
    """
    library = module.partition(".")[0]
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {library}, which is not installed; run: pip install 'counterpoint[{extra}]'"
        ) from error
    return import_module(module)
