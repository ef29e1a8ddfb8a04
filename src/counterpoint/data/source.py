"""What a source of data is: a name, a line about it, a record of options, and a
function that opens it.

    request + options  →  open  →  Dataset

A named set and a kind of file are sources alike. :mod:`counterpoint.data.registry`
lists them, :func:`counterpoint.data.load` looks them up, and the command line makes its
flags from the records of options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.data.dataset import Dataset
from counterpoint.data.division import DEFAULT_FRACTIONS, Fractions

Shared = Literal["present", "labels", "covariates", "modalities", "verify", "missing", "fractions"]
"""Options of ``load`` that some sources have and others do not."""

Options = TypeVar("Options")


@runtime_checkable
class Indexed(Protocol):
    """An object with rows: a table of pandas, a data set of torch or of Hugging Face.

    >>> import pandas
    >>> table: Indexed = pandas.DataFrame({"gene": [0.5, 1.5]})
    >>> table["gene"].tolist()
    [0.5, 1.5]
    """

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Request:
    """What is asked of a source, beside its own options.

    Attributes:
        source: a name, a path, a mapping of arrays, or an object with rows.
        root: folder where data sets live.
        seed: of the pairs, or of the division into splits.
        fractions: of train, val and test.
        present, labels, covariates, modalities, verify: as
            :func:`counterpoint.data.load` takes them.

    >>> Request("digits.csv", Path("data")).path.suffix
    '.csv'
    """

    source: str | Path | Mapping[str, Any] | Indexed
    root: Path
    seed: int = 0
    fractions: Fractions = DEFAULT_FRACTIONS
    present: Any = None
    labels: Any = None
    covariates: Any = None
    modalities: Sequence[Modality] | Mapping[str, str | None] | None = None
    verify: bool = False

    @property
    def called(self) -> str:
        """How messages call the source."""
        if isinstance(self.source, str | Path):
            return str(self.source)
        kind = "mapping" if isinstance(self.source, Mapping) else type(self.source).__name__
        return f"a {kind}"

    @property
    def name(self) -> str:
        """The source, where it is a name."""
        return str(self.source)

    @property
    def path(self) -> Path:
        """The source, where it is a path."""
        return Path(self.name)

    @property
    def records(self) -> Sequence[Modality] | None:
        """The modalities as a list of records.

        Raises:
            TypeError: a mapping.
        """
        if self.modalities is None or not isinstance(self.modalities, Mapping):
            return self.modalities
        raise TypeError(f"'modalities' of {self.called} must be a list, not a mapping")

    @property
    def families(self) -> Mapping[str, str | None] | None:
        """The modalities as a mapping of names to likelihoods.

        Raises:
            TypeError: a list.
        """
        if self.modalities is None or isinstance(self.modalities, Mapping):
            return self.modalities
        raise TypeError(f"'modalities' of {self.called} must be a mapping, not a list")


@dataclass(frozen=True)
class Source(Generic[Options]):
    """A source of data.

    Attributes:
        name: of the set, or of the kind of files.
        about: one line about it.
        options: its record of options, a frozen dataclass with a default for each.
        open: reads or makes the data.
        reads: which of the shared options of ``load`` it has.
        recognises: whether a path is of this kind; None for a named set.
        holds: whether an object in memory is of this kind; None for names and paths.
        infers: likelihoods are inferred from values, and doubtful ones are warned of.

    >>> import counterpoint as cp
    >>> cp.data.registry.find("digits-quadrant").option_names
    ('size', 'views', 'pairings')
    """

    name: str
    about: str
    options: type[Options]
    open: Callable[[Request, Options], Dataset]
    reads: frozenset[Shared] = frozenset({"missing"})
    recognises: Callable[[Path], bool] | None = None
    infers: bool = False
    holds: Callable[[object], bool] | None = None

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of its own options."""
        return tuple(field.name for field in fields(self.options))  # type: ignore[arg-type]

    def read(self, options: Mapping[str, Any], called: str) -> Options:
        """Return the record of options; None stands for a default.

        Args:
            options: by name.
            called: how messages call the source.

        Raises:
            ValueError: an option that it does not have, or a value of another type.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        for name in chosen:
            if name not in self.option_names:
                raise ValueError(self.refusal(name, called))
        return self.options(**checks.options(self.options, chosen))

    def refusal(self, option: str, called: str) -> str:
        """Say that an option does not apply, and which do."""
        known = ", ".join(self.option_names)
        return f"option {option!r} does not apply to {called}, whose options are {known}"

    def check(self, shared: Mapping[Shared, Any], called: str) -> None:
        """Check that the shared options that were given apply.

        Raises:
            ValueError: one does not.
        """
        for name, value in shared.items():
            if value and name not in self.reads:
                raise ValueError(f"option {name!r} does not apply to {called}; leave it out")
