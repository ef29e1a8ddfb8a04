"""Options of the methods: what all have in common, and constructors that take them.

The options of a method are one frozen record. The constructor takes its fields as
keywords, the command line makes flags of them, and ``config.json`` holds them as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.encoders import Towers
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Estimator

P = ParamSpec("P")

Instance = TypeVar("Instance")

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every method.

    Args:
        shared_dim: D, the number of dimensions of z.
        networks: kind and sizes of the encoders and decoders.
        denoiser: which modalities have a diffusion decoder, and its options.
        decoder_batch_size: most rows in one call of a decoder. None means 256 on a CPU and no
            limit elsewhere.

    Raises:
        TypeError: a group of options that is not a record.
        ValueError: an option of another type or out of its range.

    >>> CommonOptions(shared_dim=8).as_json()["shared_dim"]
    8
    """

    shared_dim: int = 32
    networks: NetworkOptions = NetworkOptions()
    denoiser: DenoiserOptions = DenoiserOptions()
    decoder_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, kind in self.groups().items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(
                    f"{name}={checks.shown(value)} must be {kind.__name__}(...), whose options are {_listed(kind)}"
                )
        checks.record(self)
        checks.choices(self)
        if self.shared_dim < 1:
            raise ValueError(f"shared_dim={self.shared_dim} must be 1 or more")
        if getattr(self, "private_dim", 0) < 0:
            raise ValueError(f"private_dim={getattr(self, 'private_dim', 0)} must be 0 or more")

    @classmethod
    def groups(cls) -> dict[str, type]:
        """The fields that are records themselves, with the type of each."""
        kinds = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        return {name: kind for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}

    @classmethod
    def of(cls, config: Mapping[str, Any], method: str) -> Self:
        """Read options as :meth:`as_json` writes them; those left out keep their default.

        Args:
            config: by name; a group of options is a mapping or a record.
            method: its name, for messages.

        Raises:
            ValueError: an unknown option.
        """
        groups = cls.groups()
        values = dict(config)
        _refuse_unknown(values, cls, method)
        for name, kind in groups.items():
            if isinstance(group := values.get(name), Mapping):
                _refuse_unknown(group, kind, f"{method}.{name}")
                values[name] = kind(**group)
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """All options as values that JSON has: mappings, lists, numbers, texts."""
        return {field.name: _json(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def not_negative(self, *names: str) -> None:
        """Refuse negative values of some fields, by ValueError."""
        for name in names:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True, kw_only=True)
class MixtureOptions(CommonOptions):
    """Options of mixtures of experts with private latents.

    >>> MixtureOptions(beta=1.0).private_dim
    32

    Args:
        private_dim: D_m of every modality, 1 or more.
        beta: β, the weight of the KLs.
        estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"``, with ``samples`` draws.
        samples: K.
        cross_targets: number of random other modalities to decode for each source; None
            for all. Unbiased at K = 1.
        towers: separate or shared trunks of the encoders of z and w.
    """

    private_dim: int = 32
    beta: float = 2.5
    estimator: Estimator = "elbo"
    samples: int = 1
    cross_targets: int | None = None
    towers: Towers = "separate"


def configured_by(
    record: Callable[P, Record],
) -> Callable[
    [Callable[[Instance, Sequence[Modality], Record], None]],
    Callable[Concatenate[Instance, Sequence[Modality], P], None],
]:
    """Let a method's constructor take the fields of a record as keywords.

    The decorated ``__init__(self, modalities, options)`` gets the record. Callers see
    ``(modalities, *, shared_dim=..., ...)``, in ``help()`` too. The record is kept as
    ``self.options``.

    >>> from counterpoint.methods import Method
    >>> class Sized(Method):
    ...     @configured_by(CommonOptions)
    ...     def __init__(self, modalities, options):
    ...         raise ValueError(f"{options.shared_dim} dimensions")
    >>> Sized.options_type.__name__
    'CommonOptions'

    Args:
        record: a frozen, keyword-only dataclass, a subclass of :class:`CommonOptions`.
    """

    def decorated(
        construct: Callable[[Instance, Sequence[Modality], Record], None],
    ) -> Callable[Concatenate[Instance, Sequence[Modality], P], None]:
        checked: Any = checks.arguments(construct)

        @wraps(construct)
        def constructor(
            self: Instance, modalities: Sequence[Modality], *args: P.args, **keywords: P.kwargs
        ) -> None:
            if args:
                raise TypeError(
                    f"{type(self).__name__} takes its options by keyword, such as shared_dim=16"
                )
            _refuse_unknown(keywords, record, type(self).__name__, TypeError)
            options = record(*args, **keywords)
            checked(self, modalities, options)
            vars(self)["options"] = options

        shown: Any = with_options_shown(constructor, record, keep=2)
        shown.options_type = record
        return shown

    return decorated


def with_options_shown(
    function: Callable[..., Any], record: Callable[..., Any], keep: int
) -> Callable[..., Any]:
    """The same function, whose signature names each option of a record.

    Args:
        function: takes the options as keywords.
        record: the frozen dataclass of the options.
        keep: number of the function's own parameters, which come first.
    """

    @wraps(function)
    def shown(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    own = signature(function)
    leading = [*own.parameters.values()][:keep]
    options = [*signature(record).parameters.values()]
    cast(Any, shown).__signature__ = own.replace(parameters=[*leading, *options])
    return shown


def _refuse_unknown(
    values: Iterable[str], record: Any, owner: str, error: type[Exception] = ValueError
) -> None:
    """Refuse a name that a record has no field of."""
    known = {field.name for field in dataclasses.fields(record)}
    for name in values:
        if name not in known:
            raise error(f"{owner} has no option {name!r}; its options are {_listed(record)}")


def _listed(record: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(record))


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _json(part) for name, part in dataclasses.asdict(value).items()}
    return list(value) if isinstance(value, tuple) else value
