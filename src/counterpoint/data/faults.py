"""Keep a ledger of what is bad in a source: refuse it at once, or leave it out, warn
and list it in the notes.

A fault is either one row (an image that can't be read), or a group of names that share
what is wrong with them (observations without counts).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np

BadKind = Literal["duplicates", "bad-values", "empty-cells", "unknown-batches", "one-class-labels"]
"""What may be bad in assays: ids of observations and names of features that repeat,
entries that a likelihood does not read, cells without counts, observations without a
batch, and labels that do not tell observations apart."""

SkipBad = bool | BadKind | Sequence[BadKind]
"""Whether to leave out what is bad, or the kinds for which to do so."""

REMEDY = "fix it, or pass skip_bad to leave out what is bad"
"""What errors about one row advise."""

_LISTED = 100  # names of a group that the notes list; the numbers are exact


class Faults:
    """A ledger of what is bad.

    >>> faults = Faults("birds", True)
    >>> with faults.at("row 3"):
    ...     raise ValueError("no image")
    >>> faults.rows
    ['row 3: no image']

    Args:
        where: the file or folder that messages name.
        skip: whether to go on, or the kinds of badness for which to go on.

    Attributes:
        rows: what is wrong with single rows that were left out.
        groups: names that were left out, by what they have in common.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, where: str, skip: SkipBad = False) -> None:
        self.where = where
        self.kinds = _kinds(skip)
        self.rows: list[str] = []
        self.groups: dict[str, list[str]] = {}

    def row(self, fault: str, error: ValueError | None = None) -> None:
        """Add a row that is bad.

        Args:
            fault: where the row is, and what is wrong with it.
            error: to raise; by default one that says the fault and :data:`REMEDY`.

        Raises:
            ValueError: nothing may be skipped.
        """
        if not self.kinds:
            raise error or ValueError(f"{fault}; {REMEDY}")
        self.rows.append(fault)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Add the row at a place if the block raises a ValueError."""
        try:
            yield
        except ValueError as error:
            fault = str(error)
        else:
            return
        self.row(f"{place}: {fault}")

    def group(
        self,
        kind: BadKind | None,
        described: str,
        names: Sequence[str] | np.ndarray,
        first: str,
        remedy: str,
    ) -> None:
        """Add names that are bad for the same reason, unless there are none.

        Args:
            kind: of badness; None for what follows from what was skipped.
            described: what is left out: "observations of rna without counts".
            names: of all that are bad.
            first: what is wrong with the first of them.
            remedy: how to fix it.

        Raises:
            ValueError: such may not be skipped.
        """
        if not len(names):
            return
        if not self.kinds or (kind is not None and kind not in self.kinds):
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            which = f" ({kind})" if kind is not None else ""
            raise ValueError(
                f"{self.where}: {first}{more}; {remedy}, or give skip_bad{which} to leave out such"
            )
        self.groups.setdefault(described, []).extend(map(str, names))

    def settle(self, listed_in: str = "the notes list") -> dict[str, str]:
        """Warn of what was left out, and return a note that lists it; nothing if
        nothing was.

        Args:
            listed_in: where the warning says that all rows are listed.
        """
        notes = {}
        if self.rows:
            warnings.warn(
                f"{self.where}: skipped {len(self.rows)}, the first {self.rows[0]}; {listed_in} all",
                stacklevel=3,
            )
            notes["skipped"] = all_rows(self.rows)
        if self.groups:
            warnings.warn(f"{self.where}: skipped {all_groups(self.groups, 3)}", stacklevel=3)
            notes["skipped"] = all_groups(self.groups)
        return notes


def all_rows(faults: Sequence[str]) -> str:
    """List the faults of single rows.

    >>> all_rows(["row 1: no image", "row 5: no caption"])
    '2: row 1: no image; row 5: no caption'
    """
    return f"{len(faults)}: {'; '.join(faults)}"


def all_groups(groups: Mapping[str, Sequence[str]], most: int = _LISTED) -> str:
    """List groups of names, at most so many names of each.

    >>> all_groups({"cells without counts": ["a", "b", "c"]}, 2)
    '3 cells without counts (a, b, … and 1 more)'
    """
    parts = []
    for described, names in groups.items():
        more = f", … and {len(names) - most:,} more" if len(names) > most else ""
        parts.append(f"{len(names):,} {described} ({', '.join(names[:most])}{more})")
    return "; ".join(parts)


def _kinds(skip: SkipBad) -> tuple[str, ...]:
    """The kinds of badness that may be skipped."""
    kinds: tuple[str, ...] = get_args(BadKind)
    if isinstance(skip, bool):
        return kinds if skip else ()
    chosen = (skip,) if isinstance(skip, str) else tuple(skip)
    unknown = [kind for kind in chosen if kind not in kinds]
    if unknown:
        raise ValueError(
            f"skip_bad names {unknown[0]!r}; choose among {', '.join(kinds)}, or give True for all"
        )
    return chosen
