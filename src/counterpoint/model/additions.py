"""Addition: what was fitted to a model beside its objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

AdditionKind = Literal["prior", "decoder", "refiner"]


@dataclass(frozen=True)
class Addition:
    """One thing that was fitted to a model, and the options that make it again.

    Args:
        kind: ``"prior"``, priors of z and every w_m; ``"decoder"``, the diffusion
            decoder of a modality; or ``"refiner"``.
        options: values that JSON has.

    Raises:
        ValueError: an unknown kind.

    >>> Addition("prior", {"kind": "gmm", "size": 10}).options["size"]
    10
    """

    kind: AdditionKind
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdditionKind):
            raise ValueError(
                f"unknown addition {self.kind!r}; choose one of {', '.join(get_args(AdditionKind))}"
            )
