"""Read and write ``.h5mu`` and ``.h5ad`` files of scverse. They are HDF5, of which
nothing is ever unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core.files import replacing
from counterpoint.core.optional import required
from counterpoint.data.sources.assemble import memory

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SUFFIXES = (".h5mu", ".h5ad")


def read(path: Path, names: Sequence[str] = ()) -> MuData:
    """Read the object in an ``.h5mu`` or ``.h5ad`` file; of the latter also the entries
    of ``obsm`` that are named.

    Raises:
        FileNotFoundError: no such file. ValueError: it is truncated, or no such file
            after all.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module, reader = ("mudata", "read_h5mu") if path.suffix == ".h5mu" else ("anndata", "read_h5ad")
    library = required(module, "omics")
    try:
        claimed = _claimed(path)
        if claimed > memory():
            raise ValueError(
                f"its arrays claim {claimed / 1e9:,.3g} GB, and this machine has {memory() / 1e9:,.3g} GB of memory"
            )
        with quiet():
            return as_mudata(getattr(library, reader)(path), names)
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:  # h5py has them all
        raise ValueError(
            f"{path} is truncated or no {path.suffix} file ({' '.join(str(error).split())}); write it again"
        ) from error


def _claimed(path: Path) -> int:
    """Bytes that the arrays of an HDF5 file take, by its headers."""
    import h5py

    sizes: list[int] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, found: (
                sizes.append(int(found.nbytes)) if isinstance(found, h5py.Dataset) else None
            )
        )
    return sum(sizes)


def write(mdata: MuData, path: Path) -> Path:
    """Write an ``.h5mu`` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), replacing(path) as beside:
        mdata.write_h5mu(beside)
    return path


def as_mudata(data: MuData | AnnData, names: Sequence[str] = ()) -> MuData:
    """Return a MuData object: the object itself, or one made of an AnnData object. Its
    kinds of features become modalities, and so do entries of ``obsm`` that are named.

    Raises:
        TypeError: neither.
    """
    mudata = required("mudata", "omics")
    if isinstance(data, mudata.MuData):
        return data
    anndata = required("anndata", "omics")
    if not isinstance(data, anndata.AnnData):
        raise TypeError(f"expected a MuData or AnnData object, got {type(data).__name__}")
    with quiet():
        found = mudata.MuData(data)
        beside = {}
        for key in names:
            if key not in found.mod and key in data.obsm:
                beside[key] = data.obsm[key]
        if beside:
            mods = {
                key: anndata.AnnData(np.asarray(v), obs=data.obs[[]], var=_columns_of(v))
                for key, v in beside.items()
            }
            found = mudata.MuData(
                {**{key: mod for key, mod in found.mod.items() if key in names}, **mods}
            )
        found.obs = data.obs
        return found


def _columns_of(values: Any) -> Any:
    """An empty table whose rows are called as the columns of values are, or by their
    numbers."""
    pandas = required("pandas", "omics")
    return pandas.DataFrame(index=[*map(str, getattr(values, "columns", range(values.shape[1])))])


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of mudata and anndata that do not concern who reads or writes a
    file: their own plans, and names that repeat."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"From 0\.4 \.update\(\) will not pull", FutureWarning)
        warnings.filterwarnings(
            "ignore", "(Observation|Variable|obs_names|var_names).* not unique", UserWarning
        )
        # A gene and its protein.
        warnings.filterwarnings(
            "ignore", "Cannot join columns with the same name because var_names", UserWarning
        )
        yield
