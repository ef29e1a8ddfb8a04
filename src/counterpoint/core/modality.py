"""Modality: what one modality looks like, and how its values are distributed given the
latents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from counterpoint.core import checks
from counterpoint.core.registry import Registry

LikelihoodName = Literal["normal", "laplace", "bernoulli", "categorical", "nb", "zinb", "beta"]

LIKELIHOOD_NAMES: Registry[str] = Registry(
    "likelihood", {name: name for name in get_args(LikelihoodName)}
)
"""Names of likelihoods; :func:`counterpoint.extend.register_likelihood` adds others."""

COUNTS: tuple[str, ...] = ("nb", "zinb")
"""Likelihoods of counts."""

DISPLAY_FIELDS = ("words", "features", "units", "constants", "covariate_units")
"""Fields that name and measure values without changing them; checksums leave them out."""

NAME_SEPARATORS = "/.+>@,="
"""Signs that separate the names of metrics, weights and options; a modality's name has
none of them."""

CONTINUATION_MARK = "##"
"""Starts a word that continues the one before it."""


_CHECKED_FIELDS = (
    "likelihood",
    "weight",
    "classes",
    "unbounded",
    "gaps",
    "full_scale",
    "units",
    "covariate_units",
)


@dataclass(frozen=True)
class Modality:
    """What one modality looks like and how its values are distributed given the
    latents.

    >>> import counterpoint as cp
    >>> cp.Modality("image", (3, 32, 32)).scale
    0.75
    >>> cp.Modality("digit", (10,), "bernoulli", None).likelihood
    'bernoulli'
    >>> text = cp.Modality("text", (3,), "categorical", None, classes=2, words=("a", "b"))
    >>> text.text([1, 0, 1])
    'bab'

    Args:
        name: the key of this modality in every dictionary.
        shape: shape of one example: ``(C, H, W)`` for an image, ``(d,)`` for a vector,
            ``(length,)`` for word ids.
        likelihood: ``"normal"``, ``"laplace"``, ``"bernoulli"``, ``"categorical"`` (a
            sequence of ids in ``[0, classes)``); of vectors of counts ``"nb"``
            (negative binomial) or ``"zinb"`` (zero-inflated); of proportions in [0, 1]
            ``"beta"``.
        scale: standard deviation (normal) or diversity b (laplace); ``None`` learns one
            scale per feature, of .001 or more. Other likelihoods have none.
        weight: factor on this modality's log-likelihood in the objective.
        classes: size of the vocabulary of a categorical modality.
        unbounded: the values of an image may be any real numbers, as the latents of an
            autoencoder are; those of other images lie in [0, 1].
        words: what the ids of a categorical modality stand for, one for each of its
            ``classes``, where that is known; ``""`` for padding, and ``##s`` for a
            piece that goes on with the word before. Nothing but how ids are shown and
            how text is read hangs on them.
        covariates: names of the columns of ``Batch.covariates``, which its decoder
            reads beside the latents: all of them, or none.
        features: what the entries of a vector are called (genes, proteins), one each,
            where that is known.
        units: of a vector that was standardised the mean and the standard deviation of
            each entry before. Files are read and written in the units of before;
            nothing else hangs on them, or on names of features.
        full_scale: of values in [0, 1], the whole number that stands for 1: by default
            255 of images, as in 8-bit files, and 1 of vectors. Values that come as
            floats are in [0, 1] already.
        constants: features that were left out because they are the same in every row,
            and their value as it was measured.
        covariate_units: mean and standard deviation of each covariate before it was
            standardised; (0, 1) of categories.
        gaps: single entries of a row may be missing, which NaN marks: encoders read the
            mean of the training rows in their place, and the log-likelihood is that of
            the entries that are there. Neither word ids nor counts, whose total would
            not be known, can have gaps.

    Raises:
        ValueError: on an unknown likelihood, a non-positive scale or weight, an empty
            shape, a missing vocabulary, counts that are no vector, unbounded values of
            what is no image or has a likelihood that reads no such, words, features or
            units that are not as many as ids or entries, a covariate twice, or gaps in
            word ids or counts.
    """

    name: str
    shape: tuple[int, ...]
    likelihood: str = "laplace"
    scale: float | None = 0.75
    weight: float = 1.0
    classes: int | None = None
    unbounded: bool = False
    words: tuple[str, ...] = field(default=(), repr=False)
    covariates: tuple[str, ...] = field(default=(), repr=False)
    features: tuple[str, ...] = field(default=(), repr=False)
    units: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    gaps: bool = False
    full_scale: int = 0
    constants: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    covariate_units: tuple[tuple[float, float], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self._normalise_numbers()
        self._normalise_names()
        self._check_name_and_shape()
        self._check_likelihood()
        self._check_descriptions()

    def _normalise_numbers(self) -> None:
        """Read numbers, also those of NumPy, as the annotations say."""
        self._set("shape", _shape(self.name, self.shape))
        if self.full_scale == 0:
            self._set("full_scale", 255 if len(self.shape) == 3 else 1)
        self._set("covariate_units", _pairs(self.covariate_units))
        values = {name: getattr(self, name) for name in _CHECKED_FIELDS}
        plain = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }
        for name, value in checks.options(Modality, plain).items():
            self._set(name, value)
        self._set("units", _pairs(self.units))
        self._set("constants", tuple((str(name), float(value)) for name, value in self.constants))
        if isinstance(self.scale, np.integer | np.floating):
            self._set("scale", float(self.scale))

    def _normalise_names(self) -> None:
        """Read lists of names as tuples; refuse single names and repeated covariates."""
        for field_name in ("words", "features"):
            names = getattr(self, field_name)
            if isinstance(names, str | bytes) or not isinstance(names, Iterable):
                raise ValueError(
                    f"modality {self.name!r}: {field_name}={checks.shown(names)} must be a list of names"
                )
            self._set(field_name, tuple(names))
        if isinstance(self.covariates, str):
            raise ValueError(
                f"modality {self.name!r}: covariates={self.covariates!r} must be a list of names, such as [{self.covariates!r}]"
            )
        self._set("covariates", tuple(self.covariates))
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError(
                f"modality {self.name!r}: covariates repeat in {', '.join(self.covariates)}; name each column once"
            )
        if not self.covariates:
            self._set("covariate_units", ())

    def _check_name_and_shape(self) -> None:
        separators = {*NAME_SEPARATORS}
        if not isinstance(self.name, str) or not self.name.strip() or {*self.name} & separators:
            raise ValueError(
                f"modality name {self.name!r} must be text that is not empty and free of {' '.join(NAME_SEPARATORS)}"
            )
        if not self.shape or min(self.shape) < 1:
            raise ValueError(
                f"modality {self.name!r}: shape {self.shape} must have at least one axis, each of length 1 or more"
            )

    def _check_likelihood(self) -> None:
        """Refuse a likelihood that does not fit the shape, and its numbers."""
        if self.likelihood not in LIKELIHOOD_NAMES:
            raise ValueError(
                f"modality {self.name!r}: unknown likelihood {self.likelihood!r}; choose one of {', '.join(LIKELIHOOD_NAMES)}"
            )
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if self.scale is not None and not (number and 0 < self.scale < float("inf")):
            raise ValueError(
                f"modality {self.name!r}: scale {self.scale} must be positive, or None to learn it"
            )
        if not self.weight > 0:
            raise ValueError(f"modality {self.name!r}: weight {self.weight} must be positive")
        words = self.likelihood == "categorical"
        if words and (self.classes is None or self.classes < 2):
            raise ValueError(
                f"modality {self.name!r}: a categorical likelihood needs classes >= 2 (the vocabulary's size), got {self.classes}"
            )
        if words and len(self.shape) != 1:
            raise ValueError(
                f"modality {self.name!r}: a categorical likelihood needs shape (length,), got {self.shape}; flatten it"
            )
        if self.counts and len(self.shape) != 1:
            raise ValueError(
                f"modality {self.name!r}: a likelihood of counts needs shape (features,), got {self.shape}; flatten it"
            )
        located = len(self.shape) == 3 and self.likelihood in ("normal", "laplace")
        if self.unbounded and not located:
            raise ValueError(
                f"modality {self.name!r}: only images of a normal or Laplace likelihood can be unbounded,"
                f" got shape {self.shape} and {self.likelihood!r}; leave it out"
            )
        if self.gaps and (self.counts or words):
            raise ValueError(
                f"modality {self.name!r}: {'counts' if self.counts else 'word ids'} can't have gaps; leave rows of which not all is known"
                " out, by NaN in all of them or in 'present', or read them by another likelihood"
            )

    def _check_descriptions(self) -> None:
        """Refuse words, units and features that do not fit the values."""
        if self.words and (self.likelihood != "categorical" or len(self.words) != self.classes):
            raise ValueError(
                f"modality {self.name!r}: {len(self.words)} words for {self.classes} classes of a {self.likelihood} likelihood;"
                " give one for each class of a categorical one, or none"
            )
        if self.full_scale < 1:
            raise ValueError(
                f"modality {self.name!r}: full_scale {self.full_scale} must be a whole number of 1 or more"
            )
        if self.covariate_units and len(self.covariate_units) != len(self.covariates):
            raise ValueError(
                f"modality {self.name!r}: {len(self.covariate_units)} covariate_units for {len(self.covariates)} covariates; give one for each, or none"
            )
        if any(not std > 0 for _, std in self.units):
            raise ValueError(
                f"modality {self.name!r}: units hold a standard deviation of 0 or less; give 1 for an entry that does not vary"
            )
        for field_name in ("features", "units"):
            entries = getattr(self, field_name)
            if entries and self.shape != (len(entries),):
                raise ValueError(
                    f"modality {self.name!r}: {len(entries)} {field_name} for shape {self.shape}; give one for each entry of a vector, or none"
                )
        if len({*self.features}) < len(self.features):
            repeated = next(
                name for i, name in enumerate(self.features) if name in self.features[:i]
            )
            raise ValueError(
                f"modality {self.name!r}: feature {repeated!r} is there twice; give each feature a name of its own"
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def unit(self) -> bool:
        """Whether values lie in [0, 1]: those of images do, unless they are unbounded,
        and those of Bernoulli and beta vectors."""
        return self.likelihood in ("bernoulli", "beta") or (
            len(self.shape) == 3 and not self.unbounded
        )

    @property
    def counts(self) -> bool:
        """Whether values are counts: whole numbers of 0 or more, whose total says how
        much of a row was sampled."""
        return self.likelihood in COUNTS

    def read(self, stored: Tensor) -> Tensor:
        """Stored values as models take them: word ids int64; others float32, whole
        numbers of values in [0, 1] divided by ``full_scale``, with zeros in gaps."""
        if self.likelihood == "categorical":
            return stored.long()
        values = stored.float()
        if self.unit and not stored.is_floating_point():
            values = values.div_(self.full_scale)
        return values.masked_fill(values.isnan(), 0) if self.gaps else values

    @property
    def dtype(self) -> type[np.generic]:
        """What values are stored as where there are none."""
        return np.int64 if self.likelihood == "categorical" else np.float32

    @property
    def covariate_scales(self) -> tuple[tuple[float, float], ...]:
        """Mean and standard deviation of each covariate before it was standardised."""
        return self.covariate_units or ((0.0, 1.0),) * len(self.covariates)

    def standardised(self, values: Tensor) -> Tensor:
        """Values (..., *shape) in the units in which they were measured, as models take
        them."""
        if not self.units:
            return values
        mean, std = values.new_tensor(self.units).unbind(-1)
        return (values - mean) / std

    def original(self, values: Tensor) -> Tensor:
        """Values (..., *shape) as models give them, in the units in which they were
        measured."""
        if not self.units:
            return values
        mean, std = values.new_tensor(self.units).unbind(-1)
        return values * std + mean

    def text(self, ids: Iterable[int]) -> str:
        """One row of ids as text: single characters side by side, words with blanks
        between them; numbers where no words are known."""
        return spelled(self.words, ids) if self.words else " ".join(str(int(i)) for i in ids)

    def identity(self) -> dict[str, Any]:
        """What checksums are taken of: all fields but those that say how values are
        shown, and ``unbounded``, ``covariates``, ``gaps`` and ``full_scale`` only where
        they are not the usual, so that they are what they were before those were
        fields."""
        usual = {
            "unbounded": False,
            "covariates": (),
            "gaps": False,
            "full_scale": 255 if len(self.shape) == 3 else 1,
        }
        return {
            key: value
            for key, value in asdict(self).items()
            if key not in DISPLAY_FIELDS and (key not in usual or value != usual[key])
        }


def _pairs(values: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(first), float(second)) for first, second in values)


def _shape(name: str, given: Any) -> tuple[int, ...]:
    """A shape as whole numbers; one number is that of a vector.

    Raises:
        TypeError: what is none.
    """
    sizes = (
        (given,) if isinstance(given, int | np.integer) and not isinstance(given, bool) else given
    )
    try:
        if isinstance(sizes, str | bytes):
            raise TypeError
        return tuple(map(index, sizes))
    except TypeError:
        raise TypeError(
            f"modality {name!r}: shape {given!r} must be whole numbers, such as (3, 32, 32) or (5,)"
        ) from None


def covariates_of(modalities: Iterable[Modality]) -> tuple[str, ...]:
    """Names of the columns that the decoders of some modalities read.

    >>> covariates_of([Modality("rna", (2,), covariates=("batch=a", "batch=b"))])
    ('batch=a', 'batch=b')

    Raises:
        ValueError: two modalities that read different ones.
    """
    found = {m.covariates: m.name for m in modalities if m.covariates}
    if len(found) > 1:
        a, b = list(found.values())[:2]
        first, second = list(found)[:2]
        raise ValueError(
            f"modality {a!r} reads the covariates {', '.join(first)}, and {b!r} {', '.join(second)}; let each read all or none"
        )
    return next(iter(found), ())


def of_characters(words: Iterable[str]) -> bool:
    """Whether each of a modality's words is a single character, or none.

    >>> of_characters(["a", "b"]), of_characters(["red", "b"])
    (True, False)
    """
    return max(map(len, words)) == 1


def spelled(words: Sequence[str], ids: Iterable[int]) -> str:
    """The text that ids of words stand for: single characters side by side, words with
    blanks between them.

    >>> spelled(["red", "blue"], [1, 0])
    'blue red'
    >>> spelled(["a", "b"], [1, 0])
    'ba'
    """
    shown = [words[int(i)] for i in ids]
    return (
        "".join(shown)
        if of_characters(words)
        else " ".join(word for word in shown if word).replace(f" {CONTINUATION_MARK}", "")
    )
