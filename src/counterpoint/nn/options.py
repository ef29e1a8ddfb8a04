"""NetworkOptions: kind and sizes of the networks of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from counterpoint.core import checks
from counterpoint.core.modality import Modality

NetworkKind = Literal["auto", "mlp", "conv", "resnet", "text"]

Norm = Literal["none", "batch"]


@dataclass(frozen=True)
class NetworkOptions:
    """How the networks of every modality are built.

    Args:
        kind: ``"auto"`` takes ``conv`` for images, ``text`` for word ids and ``mlp``
            for vectors.
        width: channels of the first convolution, which double at each halving (up to 8
            times as many); ``text``: channels.
        hidden: widths of the hidden layers of ``mlp``, mirrored in its generator; the
            last one also is the width of the dense layer of ``conv``. ``()`` leaves
            ``mlp`` linear, and with normal likelihoods the model a factor analysis.
        norm: ``"batch"`` normalises in the encoder's trunk of ``mlp`` and ``conv``, and
            changes nothing in ``resnet`` and ``text``; contrast needs it when training
            is short (see docs/concepts).
    """

    kind: NetworkKind = "auto"
    width: int = 32
    hidden: tuple[int, ...] = (256, 256)
    norm: Norm = "none"

    def __post_init__(self) -> None:
        checks.record(self)
        if self.kind not in get_args(NetworkKind) or self.norm not in get_args(Norm):
            raise ValueError(
                f"networks: unknown kind={self.kind!r} or norm={self.norm!r}; kinds are {get_args(NetworkKind)}, norms {get_args(Norm)}"
            )
        if self.norm == "batch" and self.kind in ("resnet", "text"):
            raise ValueError(
                f"networks: kind={self.kind!r} has no normalisation; give norm='none', or kind='conv', 'mlp' or 'auto'"
            )
        if self.width < 1 or min(self.hidden, default=1) < 1:
            raise ValueError(
                f"networks: width={self.width} and every entry of hidden={self.hidden} must be 1 or more"
            )

    @property
    def dense(self) -> int:
        """Width of the dense layer of networks that have one.

        Raises:
            ValueError: there are no hidden layers.
        """
        if not self.hidden:
            raise ValueError(
                "networks: hidden=() makes vectors' networks linear; images, and the flows of jnf-shared, need a width, such as (256,)"
            )
        return self.hidden[-1]


def kind_for(modality: Modality, kind: NetworkKind) -> NetworkKind:
    """The kind of network for a modality.

    Raises:
        ValueError: a network that cannot read this modality.
    """
    image, words = len(modality.shape) == 3, modality.likelihood == "categorical"
    if kind == "auto":
        return "text" if words else "conv" if image else "mlp"
    if (kind == "text") != words or (kind in ("conv", "resnet") and not image):
        raise ValueError(
            f"modality {modality.name!r} of shape {modality.shape} ({modality.likelihood}) can't use network {kind!r}; use 'auto'"
        )
    return kind
