"""What a method makes of observations, written back into the MuData that they are from.

    mdata.obsm["X_counterpoint"]                       z: posterior means given all that an observation has, (N, D)
    mdata.obsm["X_counterpoint_<modality>_private"]    w of a modality, (N, D_m)
    mdata[modality].layers["counterpoint_imputed"]     its values as the model has them, for the observations that have it
    mdata.obsm["counterpoint_imputed_<modality>"]      the same for every observation, where some lack the modality
    mdata.uns["counterpoint"]                          method, version, and the features that are the columns of the last

The names follow scvi-tools (Gayoso et al. 2022,
https://doi.org/10.1038/s41587-021-01206-w). Where there is nothing, there is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.core import checks
from counterpoint.core.conversion import read_as

if TYPE_CHECKING:
    from mudata import MuData

    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method

KEY = "counterpoint"

Array = np.ndarray


@checks.arguments
def annotate(
    mdata: MuData, method: Method, data: Dataset, *, batch_size: int = 256, seed: int = 0
) -> None:
    """Put the latents of every observation, and its modalities as the model has them,
    into ``mdata``, in place as scanpy does.

    - ``mdata.obsm["X_counterpoint"]``: z, posterior means given all that an observation
      has;
    - ``mdata.obsm["X_counterpoint_<modality>_private"]``: w of a modality, where an
      observation has it and the method has private latents;
    - ``mdata[modality].layers["counterpoint_imputed"]``: reconstructions
      (``method.reconstruct``) in the units of the data, of the features that the data
      set was made of; the others stay NaN. A dense layer of the size of the modality;
    - ``mdata.obsm["counterpoint_imputed_<modality>"]``: the same of every observation,
      with a column for each feature in
      ``mdata.uns["counterpoint"]["features"][modality]``, where some observation lacks
      the modality. Counts of an observation that lacks them have the total of a usual
      one.

    An observation that the data set left out has NaN everywhere.

    >>> import counterpoint as cp
    >>> import numpy as np
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from mudata import MuData, set_options
    >>> def table(letter):
    ...     names = pd.DataFrame(index=[f"{letter}{i}" for i in range(6)])
    ...     return AnnData(np.random.default_rng(0).poisson(5, (40, 6)).astype("f4"), var=names)
    >>> with set_options(pull_on_update=False):
    ...     mdata = MuData({"rna": table("g"), "adt": table("p")})
    >>> data = cp.setup_mudata(mdata)
    >>> cp.annotate(mdata, cp.MVAE.for_data(data, shared_dim=2), data)
    >>> mdata.obsm["X_counterpoint"].shape, [*mdata["rna"].layers]
    ((40, 2), ['counterpoint_imputed'])

    Args:
        mdata: what the data set was made of, or at least its observations and features.
        method: trained on it, or on other observations with features of the same names:
            values are read as it reads them, features by name and in the units of its
            training rows.
        data: :func:`counterpoint.setup_mudata` made it, or ``data.load`` from a file.
        batch_size: rows at a time.
        seed: of what posteriors without a mean draw.

    Raises:
        ValueError: a data set without ids of its rows, or whose ids or features
            ``mdata`` lacks, or modalities that differ.
    """
    checks.whole("batch_size", batch_size)
    for what, given, needed in (("mdata", mdata, "obsmap"), ("data", data, "splits")):
        if not hasattr(given, needed):
            raise TypeError(
                f"{what} is {type(given).__name__}; give a MuData object, and a data set that setup_mudata made of it"
            )
    places = {part: _places(mdata, split) for part, split in data.splits().items()}
    known = {m.name: m for m in method.modalities}
    own = {m.name: (*m.features, *dict(m.constants)) for m in data.modalities}
    columns = {
        m.name: _columns(mdata, m.name, m.features, own[m.name])
        for m in method.modalities
        if m.name in own
    }
    shared = _blank(mdata.n_obs, method.model.shared_dim)
    private = {name: _blank(mdata.n_obs, dim) for name, dim in method.model.private_dims.items()}
    values = {name: _blank(mdata.n_obs, m.shape[0]) for name, m in known.items()}
    present = {name: np.zeros(mdata.n_obs, bool) for name in known}
    generator = torch.Generator().manual_seed(seed)
    for part, split in data.splits().items():
        for start in range(0, len(split), batch_size):
            batch = split.batch(slice(start, start + batch_size), method.device)
            rows = places[part][start : start + batch_size]
            batch = read_as(batch, method.modalities)
            latents = method.encode(batch, generator=generator)
            means = method.reconstruct(batch, generator=generator)
            shared[rows] = latents.shared[0].cpu().numpy()
            for name, here in batch.present.items():
                present[name][rows] = here.cpu().numpy()
                values[name][rows] = known[name].original(means[name]).cpu().numpy()
                if name in private and name in latents.private:
                    private[name][rows] = np.where(
                        here.cpu().numpy()[:, None], latents.private[name][0].cpu().numpy(), np.nan
                    )
    mdata.obsm[f"X_{KEY}"] = shared
    for name, w in private.items():
        mdata.obsm[f"X_{KEY}_{name}_private"] = w
    for name, found in values.items():
        if name in columns:
            mdata[name].layers[f"{KEY}_imputed"] = _layer(
                mdata, name, found, present[name], columns[name]
            )
        if not present[name].all():
            mdata.obsm[f"{KEY}_imputed_{name}"] = found
    features = {m.name: np.array(m.features, object) for m in method.modalities}
    mdata.uns[KEY] = {"method": method.name, "version": version(KEY), "features": features}


def _blank(rows: int, columns: int) -> Array:
    return np.full((rows, columns), np.nan, np.float32)


def _places(mdata: MuData, split: Split) -> Array:
    """Where the rows of a split stand among the observations."""
    if split.ids is None:
        raise ValueError(
            "the data set does not say what its rows are called; make it by setup_mudata, or load it from an .h5mu file"
        )
    return _found(mdata.obs_names, split.ids, "observation")


def _columns(mdata: MuData, name: str, features: tuple[str, ...], own: tuple[str, ...]) -> Array:
    """Where the features of a modality stand in its table; −1 for those that its data
    never had."""
    if name not in mdata.mod:
        raise ValueError(
            f"modality {name!r} is not in mdata, which has {', '.join(mdata.mod)}; annotate the MuData that the data set was made of"
        )
    place = dict(zip(own, _found(mdata[name].var_names, own, f"feature of {name}"), strict=True))
    return np.array([place.get(feature, -1) for feature in features])


def _found(names: Iterable[str], wanted: Iterable[str], what: str) -> Array:
    """Where each wanted name stands."""
    # An index of pandas refuses names that repeat, which skip_bad leaves out.
    place = {name: i for i, name in enumerate(names)}
    lacking = next((name for name in wanted if name not in place), None)
    if lacking is not None:
        raise ValueError(
            f"{what} {lacking} is not in mdata; annotate the MuData that the data set was made of"
        )
    return np.array([place[name] for name in wanted])


def _layer(mdata: MuData, name: str, values: Array, present: Array, columns: Array) -> Array:
    """The values of the observations that have a modality, in the order of its own
    table."""
    rows = np.asarray(mdata.obsmap[name]).reshape(-1).astype(np.int64) - 1
    kept = present & (rows >= 0)
    layer = _blank(mdata[name].n_obs, mdata[name].n_vars)
    known = columns >= 0
    places = np.ix_(rows[kept], columns[known])
    layer[places] = values[kept][:, known]
    return layer
