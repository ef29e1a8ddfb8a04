"""A peer: what another library encoded and generated, measured by the same judges.

A peer is an ``.npz`` file, of any names below that the library can answer:

    train/z, test/z              (N, D)        means of z given all that a row has
    train/z/M, test/z/M          (N, D)        given modality M alone
    train/w/M, test/w/M          (N, D_M)      private latents given M alone
    test/T|A, test/T|A+B         (N, *shape)   modality T, generated from A, or A and B
    sample/M                     (n, *shape)   unconditional samples, row by row together
    train/ids, test/ids          (N,)          names of the rows, if the data have them

Rows are those of the split, in its order. Values are in the units that the data set
gives to methods: images in [0, 1], whole numbers for counts and word ids.

The peer looks answers up by the number of a row, which it finds in the place of
covariates (:func:`numbered`). Metrics see a method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.data.sources.arrays import read_npz

if TYPE_CHECKING:
    from counterpoint.data import Dataset

PARTS = ("train", "test")

OFFSET = 2**23
"""What the numbers of test rows begin with; whole numbers below 2^24 are exact in
float32."""


@dataclass(frozen=True)
class _Model:
    """What metrics ask of the model of a method."""

    private_dims: Mapping[str, int] = field(default_factory=dict)
    denoisings: Mapping[str, Any] = field(default_factory=dict)


class Recorded(nn.Module):
    """The answers of a peer, in the place of a method.

    Args:
        name: how tables call it.
        modalities: of the data.
        arrays: by the names of this module.

    >>> import numpy as np
    >>> import counterpoint as cp
    >>> data = cp.data.load({"a": np.arange(24.0).reshape(12, 2), "b": np.ones((12, 1))})
    >>> parts = {"train": data.train, "test": data.test}
    >>> names = ("z", "z/a", "z/b")
    >>> arrays = {f"{p}/{z}": np.ones((len(s), 3)) for p, s in parts.items() for z in names}
    >>> peer = Recorded("theirs", data.modalities, arrays)
    >>> peer.groups
    ('probe',)
    >>> tuple(peer.encode(numbered(data).test.batch(slice(None)), given=["a"]).shared.shape)
    (1, 1, 3)

    Raises:
        ValueError: an unknown name, or nothing that can be measured.
    """

    additions: tuple[Any, ...] = ()
    priors = ("peer",)

    def __init__(
        self, name: str, modalities: Sequence[Modality], arrays: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__()
        self.name = name
        self.modalities = tuple(replace(m, covariates=()) for m in modalities)
        self.config: dict[str, Any] = {}
        self._arrays = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
        names = [m.name for m in modalities]
        self._private = [name for name in names if f"test/w/{name}" in arrays]
        self.model = _Model()  # without private latents, which it can't recombine

    @staticmethod
    def read(path: Path, data: Dataset, name: str = "") -> Recorded:
        """Read a peer's file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a name that means nothing, another number of rows, or other rows.
        """
        arrays = read_npz(path)
        _check(path, arrays, data)
        kept = {key: value for key, value in arrays.items() if not key.endswith("/ids")}
        return Recorded(name or path.stem, data.modalities, kept)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of metrics that the answers suffice for."""
        names = [m.name for m in self.modalities]
        alone = [f"{part}/z/{name}" for part in PARTS for name in names]
        subsets = [c for size in range(1, len(names)) for c in combinations(names, size)]
        generated = []
        for given in subsets:
            for to in names:
                if len(given) == 1 or to not in given:
                    generated.append(f"test/{to}|{'+'.join(given)}")
        sampled = [f"sample/{name}" for name in names]
        found = []
        if all(key in self._arrays for key in (*alone, "train/z", "test/z")):
            found += ["probe"]
        if all(key in self._arrays for key in (*generated, *sampled)):
            found += ["judge", "coherence", "match", "quality"]
        return tuple(found)

    def encode(
        self, batch: Batch, *, given: Sequence[str] | None = None, refine: int | None = None
    ) -> Latents:
        """The recorded means of the rows of a batch, (1, B, D)."""
        tail = "" if given is None else f"/{given[0]}"
        private = {}
        for name in self._private:
            if given is None or name in given:
                private[name] = self._rows(f"w/{name}", batch)[None]
        return Latents(self._rows(f"z{tail}", batch)[None], private)

    def translate(
        self,
        batch: Batch,
        to: Sequence[str],
        *,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The recorded generations, (1, B, *shape), from the modalities of the batch."""
        given = "+".join(m.name for m in self.modalities if bool(batch.present[m.name].any()))
        return {name: self._rows(f"{name}|{given}", batch)[None] for name in to}

    def sample(
        self,
        n: int,
        *,
        prior: str = "peer",
        covariates: Any = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The first ``n`` recorded samples, from the first again if there are fewer."""
        arrays = {m.name: self._arrays[f"sample/{m.name}"] for m in self.modalities}
        return {
            name: values[torch.arange(n) % len(values)].float() for name, values in arrays.items()
        }

    def _rows(self, key: str, batch: Batch) -> Tensor:
        """The rows of a batch in the array of its split."""
        numbers = batch.covariates[:, 0].long().cpu()
        part = "test" if bool((numbers >= OFFSET).all()) else "train"
        values = self._arrays[f"{part}/{key}"][numbers % OFFSET]
        return values if values.dtype == torch.int64 else values.float()


def numbered(data: Dataset) -> Dataset:
    """The same data with the numbers of rows in the place of covariates.

    >>> import counterpoint as cp
    >>> data = numbered(cp.data.load("digits-quadrant", pairings=1, views=2))
    >>> data.train.covariates[:3, 0].tolist()
    [0.0, 1.0, 2.0]
    """
    modalities = tuple(replace(m, covariates=()) for m in data.modalities)
    parts: dict[str, Any] = {}
    for part, split in data.splits().items():
        first = OFFSET if part == "test" else 0
        numbers = np.arange(first, first + len(split), dtype=np.float32)[:, None]
        parts[part] = replace(
            split, modalities=modalities, covariates=numbers, covariate_names=("row",)
        )
    return replace(data, **parts, modalities=modalities, digest=data.checksum())


def _check(path: Path, arrays: Mapping[str, np.ndarray], data: Dataset) -> None:
    """Refuse names that mean nothing, and rows that are not those of the data."""
    known = {m.name: m for m in data.modalities}
    for key, values in arrays.items():
        head, _, tail = key.partition("/")
        part = data.splits().get(head) if head in PARTS else None
        if tail == "ids" and part is not None:
            _check_ids(path, key, values, part.ids)
        elif not _means_something(head, tail, known):
            raise ValueError(
                f"{path}: {key!r} means nothing; expected names such as train/z, test/w/"
                f"{next(iter(known))}, test/{next(iter(known))}|{[*known][-1]} or sample/"
                f"{next(iter(known))}"
            )
        elif part is not None and len(values) != len(part):
            raise ValueError(
                f"{path}: {key} has {len(values)} rows, the {head} split {len(part)}; "
                "give one for each row, in the order of the split"
            )


def _means_something(head: str, tail: str, known: Mapping[str, Modality]) -> bool:
    if head == "sample":
        return tail in known
    if head not in PARTS:
        return False
    latent, _, name = tail.partition("/")
    if latent in ("z", "w"):
        return name in known or (latent == "z" and not name)
    target, _, given = tail.partition("|")
    return target in known and bool(given) and {*given.split("+")} <= {*known}


def _check_ids(path: Path, key: str, ids: np.ndarray, ours: np.ndarray | None) -> None:
    if ours is None:
        return
    differing = [i for i, (a, b) in enumerate(zip(ids, ours, strict=False)) if str(a) != str(b)]
    if len(ids) != len(ours) or differing:
        at = (
            f"row {differing[0]} is {str(ids[differing[0]])!r}" if differing else f"{len(ids)} rows"
        )
        raise ValueError(
            f"{path}: {key} names other rows than the data: {at}; "
            "save what the peer says of the rows of this data set, in its order"
        )
