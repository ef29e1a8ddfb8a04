"""Which names metrics of a data set can have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING, get_args

from counterpoint.metrics.groups import GROUPS, group_of
from counterpoint.metrics.score import Setting

if TYPE_CHECKING:
    from counterpoint.data import Dataset

LATENTS = ("z", "w", "zw")


def check_names(names: Sequence[str], data: Dataset) -> None:
    """Check that a data set can have metrics of these names.

    A name that passes may still be left out, for example because a method has no private
    latents.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> check_names(["probe/z/digit", "fid/cross/view0>view1"], data)
    >>> check_names(["probe/z/digits"], data)
    Traceback (most recent call last):
    ValueError: digits-quadrant has no metric 'probe/z/digits'; did you mean 'probe/z/digit'?

    Raises:
        ValueError: it can't; the closest is suggested.
    """
    possible = {*_possible(data)}
    modality = "|".join(re.escape(m.name) for m in data.modalities)
    way = re.compile(rf"/(?:(?:{modality})(?:\+(?:{modality}))*>)?(?:{modality})$")
    for name in names:
        group_of(name)
        plain = re.sub(r"@prior=[\w-]+$", "", name)
        if not {plain, way.sub("", plain)} & possible:
            close = get_close_matches(plain, sorted(possible), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{data.name} has no metric {name!r}{hint}")


def _possible(data: Dataset) -> Iterator[str]:
    """Names without modalities and priors: kind, latent, setting, label."""
    labels = (None, *data.test.shared_labels, *data.test.private_labels)
    given = [f"given{n}" for n in range(1, len(data.modalities) + 1)]
    settings = (None, *get_args(Setting), *given)
    for group in GROUPS.values():
        for parts in product(group.kinds, (None, *LATENTS), settings, labels):
            yield "/".join(part for part in parts if part is not None)
