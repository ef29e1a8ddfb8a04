"""What every test shares: one thread a process, fixed seeds, small data."""

from __future__ import annotations

import gc
import os

# Tests run side by side, one process a core: a second thread in any of them only gets in the way.
# Set before torch starts, and in the environment, so that the processes that tests start do the
# same.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "NUMBA_OPT", "0"
)  # umap maps a few points once, and what compiles its functions well takes longer

from pathlib import Path

import numpy as np
import pytest
import torch

import counterpoint as cp

torch.set_num_threads(1)
# until everything is imported, which leaves millions of objects and hardly any garbage
gc.disable()


def pytest_collection_finish() -> None:
    """What is there by now stays, and need not be looked through again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def digits() -> cp.data.Dataset:
    """The embedded digits-quadrant set, cut to 256 / 64 / 128 rows."""
    from dataclasses import replace

    data = cp.data.load("digits-quadrant")
    small = {
        name: getattr(data, name).take(np.arange(rows))
        for name, rows in (("train", 256), ("val", 64), ("test", 128))
    }
    return replace(data, **small)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets named by COUNTERPOINT_DATA; the test skips where
    there is none."""
    folder = os.environ.get("COUNTERPOINT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("COUNTERPOINT_DATA names no folder of real data")
    return Path(folder)
