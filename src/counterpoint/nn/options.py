"""NetworkOptions: kind and sizes of the networks of a method, and the kinds there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.core.registry import Registry
from counterpoint.nn.conv import ConvGenerator, ConvTrunk
from counterpoint.nn.mlp import MLPGenerator, MLPTrunk
from counterpoint.nn.modules import Norm, Trunk
from counterpoint.nn.resnet import ResNetGenerator, ResNetTrunk
from counterpoint.nn.text import TextGenerator, TextTrunk


@dataclass(frozen=True)
class NetworkOptions:
    """How the networks of every modality are built.

    Args:
        kind: one of :data:`NETWORKS`. ``"auto"`` means ``conv`` for images, ``text``
            for word ids and ``mlp`` for vectors.
        width: channels of the first convolution, which double at each halving (up to 8
            times as many); ``text``: channels.
        hidden: widths of the hidden layers of ``mlp``, mirrored in its generator. The
            last one is also the width of the dense layer of ``conv``. ``()`` makes
            ``mlp`` linear, and with normal likelihoods the model a factor analysis.
        norm: ``"batch"`` normalises in the encoder's trunk of ``mlp`` and ``conv``.
            Contrast needs it when training is short (see docs/concepts).

    Raises:
        ValueError: an unknown kind, a kind without normalisation, or a width below 1.

    >>> NetworkOptions(hidden=(64, 32)).dense
    32
    """

    kind: str = "auto"
    width: int = 32
    hidden: tuple[int, ...] = (256, 256)
    norm: Norm = "none"

    def __post_init__(self) -> None:
        checks.record(self)
        checks.choices(self, "networks: ")
        if self.kind != "auto":
            NETWORKS.check(self.kind, "networks: kind")
            if self.norm == "batch" and not NETWORKS[self.kind].normalises:
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


@dataclass(frozen=True)
class NetworkKind:
    """How networks of one kind are made.

    >>> NETWORKS["mlp"].fits(Modality("x", (5,)))
    True

    Args:
        trunk: makes a network from values (B, *shape), as
            :func:`~counterpoint.nn.modules.readable`, to features (B, features).
        generator: makes a network from latents (N, latent_dim) to raw outputs
            (N, *output_shape).
        fits: whether the networks can read a modality.
        normalises: whether the trunk has batch normalisation for ``norm="batch"``.
    """

    trunk: Callable[[Modality, NetworkOptions], Trunk]
    generator: Callable[[int, tuple[int, ...], NetworkOptions], nn.Module]
    fits: Callable[[Modality], bool]
    normalises: bool = False


def _image(modality: Modality) -> bool:
    return len(modality.shape) == 3 and not _words(modality)


def _words(modality: Modality) -> bool:
    return modality.likelihood == "categorical"


NETWORKS: Registry[NetworkKind] = Registry(
    "network",
    {
        "mlp": NetworkKind(
            lambda modality, o: MLPTrunk(modality, o.hidden, o.norm),
            lambda latent_dim, shape, o: MLPGenerator(latent_dim, shape, o.hidden[::-1]),
            lambda modality: not _words(modality),
            normalises=True,
        ),
        "conv": NetworkKind(
            lambda modality, o: ConvTrunk(modality.shape, o.width, o.dense, o.norm),
            lambda latent_dim, shape, o: ConvGenerator(latent_dim, shape, o.width, o.dense),
            _image,
            normalises=True,
        ),
        "resnet": NetworkKind(
            lambda modality, o: ResNetTrunk(modality.shape, o.width),
            lambda latent_dim, shape, o: ResNetGenerator(latent_dim, shape, o.width),
            _image,
        ),
        "text": NetworkKind(
            lambda modality, o: TextTrunk(modality.shape[0], modality.classes or 0, o.width),
            lambda latent_dim, shape, o: TextGenerator(latent_dim, shape, o.width),
            _words,
        ),
    },
)
"""Kinds of networks by the name that ``NetworkOptions.kind`` takes."""


def kind_for(modality: Modality, kind: str) -> NetworkKind:
    """The kind of network for a modality.

    >>> kind_for(Modality("x", (5,)), "auto") is NETWORKS["mlp"]
    True

    Raises:
        ValueError: a network that cannot read this modality.
    """
    if kind == "auto":
        image = len(modality.shape) == 3
        return NETWORKS["text" if _words(modality) else "conv" if image else "mlp"]
    chosen = NETWORKS.named(kind)
    if not chosen.fits(modality):
        raise ValueError(
            f"modality {modality.name!r} of shape {modality.shape} ({modality.likelihood}) can't use network {kind!r}; use 'auto'"
        )
    return chosen
