"""A bound on the memory that a block may ask for, so that a size that nobody can mean
is refused before the machine runs out of memory."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKERS = frozenset(
    {
        torch.empty,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.eye,
        torch.arange,
        torch.linspace,
        torch.rand,
        torch.randn,
    }
)


class TooLarge(ValueError):
    """More memory was asked for than a budget allows.

    Attributes:
        budget: which.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        super().__init__(f"{budget.bytes / 2**30:.3g} GiB of memory or more")


def physical() -> int:
    """Bytes of memory that this machine has, or that its container may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else ""
    return min(machine, int(allowed)) if allowed.isdigit() else machine


class Budget(TorchFunctionMode):
    """Count what tensors are made in a block and refuse, before it is made, the one
    that is too much.

    Args:
        bytes: most that all of them may take together.

    Raises:
        TooLarge: they would take more.
    """

    def __init__(self, bytes: int) -> None:
        super().__init__()
        self.left = self.bytes = bytes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS:
            options = {key: value for key, value in kwargs.items() if key != "generator"} | {
                "device": "meta"
            }
            self._take(lambda: func(*args, **options))
        elif func is Tensor.repeat:
            self._take(lambda: args[0].to("meta").repeat(*args[1:], **kwargs))
        return func(*args, **kwargs)

    def _take(self, made: Callable[[], Tensor]) -> None:
        try:
            like = made()
            size: float = like.numel() * like.element_size()
        except (RuntimeError, TypeError, OverflowError) as error:
            if "overflow" not in str(error).lower():
                return  # another mistake, which is made again in earnest
            size = math.inf
        if size > self.left:
            raise TooLarge(self)
        self.left -= int(size)


def forget_peak() -> None:
    """Let :func:`peak` begin anew, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int | None:
    """Most bytes of memory that this process has had since :func:`forget_peak`; None
    where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else None
