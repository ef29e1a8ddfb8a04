"""Evaluation mode during a question, safe for threads that ask the same module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import nn

_lock = Lock()
_asked: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()
"""By module, how many questions run now, and whether it trained before the first."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Enter evaluation mode without gradient, and restore both afterwards.

    Threads that ask at once share the mode; the last one restores it.

    Raises:
        MemoryError: the question takes more memory than there is.
    """
    with _lock:
        inside, training = _asked.get(module, (0, module.training))
        _asked[module] = inside + 1, training
        if module.training:
            module.eval()
    try:
        with torch.no_grad():
            yield
    except RuntimeError as error:  # on a CPU torch has no error of its own for memory
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError(
                "the answer takes more memory than there is; ask for fewer rows, samples or draws at a time"
            ) from None
        raise
    finally:
        with _lock:
            inside, training = _asked.pop(module)
            if inside > 1:
                _asked[module] = inside - 1, training
            elif training:
                module.train()
