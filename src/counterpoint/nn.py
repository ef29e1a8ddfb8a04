"""Networks without probability: trunks (values → features) and generators (latents → raw decoder outputs).

Four kinds, each a pair: ``mlp`` for vectors, ``conv`` (strided) and ``resnet`` for images, ``text`` for word ids.
``trunk`` and ``generator`` build one for a modality; ``features`` of a trunk is the width of what it returns.

The ResNet follows the towers used by MMVAE+ and IDMVAE: pre-activation leaky ReLU (0.2), residual branch times 0.1, average
pooling down and nearest neighbours up, no normalisation, widths doubling up to 8 times the first (512 for the published 64).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint import checks
from counterpoint.precision import wide
from counterpoint.types import Modality

NetworkKind = Literal["auto", "mlp", "conv", "resnet", "text"]
Norm = Literal["none", "batch"]
COARSE_BOUND = 3.0
"""Soft bound of a conv decoder's coarse image; ours."""


class ByName(nn.ModuleDict):
    """Modules by the name of a modality. PyTorch's own dictionary refuses names that its methods have, such as ``type`` or ``keys``."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module  # type: ignore[assignment]  # as torch's own does


class VectorsByName(nn.ParameterDict):
    """Parameters by the name of a modality, whatever that is, as :class:`ByName`."""

    def __setitem__(self, key: str, value: nn.Parameter) -> None:
        self._keys[key] = None
        self._parameters[key] = value

    def __getitem__(self, key: str) -> nn.Parameter:
        return cast(nn.Parameter, self._parameters[key])


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Draw initial weights from a stream fixed by ``seed``, and leave torch's own generators as they were.

    Raises:
        ValueError: a seed that is no whole number of 0 or more.
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise ValueError(f"seed={seed!r} must be a whole number of 0 or more")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(seed))
        yield


@dataclass(frozen=True)
class NetworkOptions:
    """How the networks of every modality are built.

    Args:
        kind: ``"auto"`` takes ``conv`` for images, ``text`` for word ids and ``mlp`` for vectors.
        width: channels of the first convolution, which double at each halving (up to 8 times as many); ``text``: channels.
        hidden: widths of the hidden layers of ``mlp``, mirrored in its generator; the last one also is the width of the
            dense layer of ``conv``. ``()`` leaves ``mlp`` linear, and with normal likelihoods the model a factor analysis.
        norm: ``"batch"`` normalises in the encoder's trunk of ``mlp`` and ``conv``, and changes nothing in ``resnet`` and ``text``;
            contrast needs it when training is short (see docs/concepts).
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
            raise ValueError(f"networks: kind={self.kind!r} has no normalisation; give norm='none', or kind='conv', 'mlp' or 'auto'")
        if self.width < 1 or min(self.hidden, default=1) < 1:
            raise ValueError(f"networks: width={self.width} and every entry of hidden={self.hidden} must be 1 or more")

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


def readable(modality: Modality, x: Tensor) -> Tensor:
    """Values (..., *shape) as networks see them: counts of d features as log(1 + d x / Σ x), whose scale is the same however deeply a row was sampled
    and however many features there are; others as they are. Differentiable, and 0 where all counts are."""
    return torch.log1p(x.shape[-1] * F.normalize(x, p=1, dim=-1)) if modality.counts else x


def trunk(modality: Modality, options: NetworkOptions) -> Trunk:
    """A fresh network from values (B, *shape), as :func:`readable`, to features (B, features)."""
    match kind_for(modality, options.kind):
        case "conv":
            return ConvTrunk(modality.shape, options.width, options.dense, options.norm)
        case "resnet":
            return ResNetTrunk(modality.shape, options.width)
        case "text":
            return TextTrunk(modality.shape[0], modality.classes or 0, options.width)
        case _:
            return MLPTrunk(modality, options.hidden, options.norm)


def generator(modality: Modality, latent_dim: int, output_shape: tuple[int, ...], options: NetworkOptions) -> nn.Module:
    """A fresh network from latents (N, latent_dim) to raw outputs (N, *output_shape)."""
    match kind_for(modality, options.kind):
        case "conv":
            return ConvGenerator(latent_dim, output_shape, options.width, options.dense)
        case "resnet":
            return ResNetGenerator(latent_dim, output_shape, options.width)
        case "text":
            return TextGenerator(latent_dim, output_shape, options.width)
        case _:
            return MLPGenerator(latent_dim, output_shape, options.hidden[::-1])


class Trunk(nn.Module):
    """Values to features; ``features`` is their number."""

    features: int


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of vectors or maps. Fewer than two rows have no statistics of their own: they take the running ones, and
    leave those as they are. So a modality that a single row of a batch has can be trained, and one that no row has moves nothing."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Statistics(nn.Module):
    """Running mean and variance of vectors (N, dim), for what needs them and not for normalising: all batches count the same at first, and
    later ones one in a hundred, so that few batches are enough and what changes is followed. Fewer than two rows change nothing.

    A batch of mean m and variance v, which counts a share s, moves them by the law of total variance, so that batches may differ (a modality
    after the other):

        variance ← (1 − s) variance + s v + s (1 − s) (m − mean)²,      mean ← (1 − s) mean + s m

    Args:
        dim: size of the vectors.

    Attributes:
        mean: (dim,), 0 at first.
        variance: (dim,), 1 at first.
        count: batches seen.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    LEAST = 0.01
    """The share of later batches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Take account of x when training; returns it as it is."""
        if self.training and len(x) > 1:
            share = self.count.add_(1).float().reciprocal().clamp(min=self.LEAST)
            values = wide(x)
            apart = values.mean(0) - self.mean
            self.variance.lerp_(values.var(0, correction=0), share).add_(share * (1 - share) * apart.square())
            self.mean.add_(share * apart)
        return x

    @torch.no_grad()
    def settle(self, x: Tensor) -> None:
        """Take mean and variance from all of x (N, dim); batches that come later count one in a hundred."""
        self.mean.copy_(x.mean(0))
        self.variance.copy_(x.var(0, correction=0))
        self.count.fill_(round(1 / self.LEAST))


class Usual(nn.Module):
    """The mean of every entry over all that were there in training, which stands for those that are missing.

    Args:
        shape: of one example.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("count", torch.zeros(shape))

    @torch.no_grad()
    def observe(self, x: Tensor, there: Tensor) -> None:
        """Take account, when training, of values (B, *shape), where they are there."""
        if self.training:
            self.count.add_(there.sum(0))
            self.mean.add_(((x - self.mean) * there).sum(0) / self.count.clamp(min=1))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Values (B, *shape) with the mean in the place of those that are not there."""
        return torch.where(there, x, self.mean.to(x.dtype))


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation use each batch's own statistics without moving the running ones: for inputs that are not data."""
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def mlp(sizes: Sequence[int], norm: Norm = "none") -> nn.Sequential:
    """Linear layers, each followed by an optional batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), *([BatchNorm(b)] if norm == "batch" else []), nn.ReLU()]
    return nn.Sequential(*layers)


class MLPTrunk(Trunk):
    def __init__(self, modality: Modality, hidden: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        sizes = (math.prod(modality.shape), *hidden)
        self.modality = modality
        self.features = sizes[-1]
        self.layers = mlp(sizes, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(readable(self.modality, x).flatten(1))


class MLPGenerator(nn.Module):
    def __init__(self, latent_dim: int, output_shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (latent_dim, *hidden)
        self.output_shape = output_shape
        self.layers = mlp(sizes)
        self.head = nn.Linear(sizes[-1], math.prod(output_shape))

    def forward(self, u: Tensor) -> Tensor:
        return self.head(self.layers(u)).unflatten(-1, self.output_shape)


def halvings(size: int, smallest: int = 4) -> list[int]:
    """Side lengths from ``size`` down, each half of the one before (rounded up), until ``smallest`` or less."""
    sizes = [size]
    while sizes[-1] > smallest:
        sizes.append(math.ceil(sizes[-1] / 2))
    return sizes


class ConvTrunk(Trunk):
    """3×3 convolutions of stride 2 down to 4×4 or less, then one dense layer."""

    def __init__(self, shape: tuple[int, ...], width: int, hidden: int, norm: Norm) -> None:
        super().__init__()
        heights, widths = halvings(shape[1]), halvings(shape[2])
        depth = max(len(heights), len(widths)) - 1
        channels = [shape[0], *(width * 2 ** min(i, 3) for i in range(depth))]
        layers: list[nn.Module] = []
        for a, b in pairwise(channels):
            normed = [BatchNorm(b)] if norm == "batch" else []
            layers += [nn.Conv2d(a, b, 3, 2, 1, bias=not normed), *normed, nn.ReLU()]
        side = math.prod(math.ceil(s / 2**depth) for s in shape[1:])
        self.layers = nn.Sequential(*layers, nn.Flatten(), mlp((channels[-1] * side, hidden), norm))
        self.features = hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvGenerator(nn.Module):
    """A coarse image and its detail, added.

    A linear map of the first dense layer gives the image at 8×8 or less, which is enlarged (bilinear); two dense layers to the smallest map and
    4×4 transposed convolutions of stride 2, cut to the sizes of ``ConvTrunk``, give the detail. Colours and places need not pass the
    convolutions, and are learned many times faster (docs/decisions/0008). Soft bounds of ±3 on the coarse image, before any sigmoid, leave the
    last word to the detail.

    Transposed convolutions rather than enlargement and convolution: on a CPU the same depth and width is 3.5 times faster.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int, hidden: int) -> None:
        super().__init__()
        depth = max(len(halvings(shape[1])), len(halvings(shape[2]))) - 1
        self.sizes = [tuple(math.ceil(s / 2**i) for s in shape[1:]) for i in reversed(range(depth + 1))]
        channels = [*(width * 2 ** min(i, 3) for i in reversed(range(depth))), shape[0]]
        self.first = (channels[0], *self.sizes[0])
        self.coarse_shape = (shape[0], *(halvings(s, 8)[-1] for s in shape[1:]))
        self.dense = mlp((latent_dim, hidden))
        self.coarse = nn.Linear(hidden, math.prod(self.coarse_shape))
        self.spread = nn.Linear(hidden, math.prod(self.first))
        self.convolutions = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(channels))

    def forward(self, u: Tensor) -> Tensor:
        hidden = self.dense(u)
        coarse = COARSE_BOUND * torch.tanh(self.coarse(hidden) / COARSE_BOUND).unflatten(-1, self.coarse_shape)
        h = self.spread(hidden).unflatten(-1, self.first)
        for convolution, (height, width) in zip(self.convolutions, self.sizes[1:], strict=True):
            h = convolution(F.relu(h))[..., :height, :width]
        return h + F.interpolate(coarse, size=self.sizes[-1], mode="bilinear")  # the sum has the memory format of h


def enlarged_conv(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 3×3 convolution of padding 1 on the map x (N, C, H, W) at twice its size (nearest), (N, C', 2H, 2W).

    Computed as the 4×4 transposed convolution of stride 2 that it equals: along one axis, output 2s − 1 + t of the large map reads x[s]
    by the taps 2 − t and 3 − t, so tap t of the larger kernel is the sum of those. 4/9 of the multiplications, and the large map
    is never made.
    """
    kernel = F.avg_pool2d(convolution.weight.flip(-2, -1), 2, 1, 1, divisor_override=1)  # sums of neighbouring taps
    return F.conv_transpose2d(x, kernel.transpose(0, 1), convolution.bias, 2, 1)


class ResidualBlock(nn.Module):
    """x ↦ shortcut(x) + 0.1·conv(σ(conv(σ(x)))), σ the leaky ReLU of slope 0.2.

    Args:
        enlarge: take x at twice its size (nearest).
    """

    def __init__(self, channels: int, out: int, *, enlarge: bool = False) -> None:
        super().__init__()
        middle = min(channels, out)
        self.first = nn.Conv2d(channels, middle, 3, 1, 1)
        self.second = nn.Conv2d(middle, out, 3, 1, 1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)
        self.enlarge = enlarge

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(x, 0.2)
        middle = enlarged_conv(active, self.first) if self.enlarge else self.first(active)
        branch = self.second(F.leaky_relu(middle, 0.2))
        short = self.shortcut(x)  # at the small size: a 1×1 convolution does not see neighbours
        return (F.interpolate(short, scale_factor=2) if self.enlarge else short) + 0.1 * branch


def resnet_plan(size: int, width: int) -> tuple[int, list[int]]:
    """Side of the smallest map, and channels at each resolution from fine to coarse."""
    depth = 0
    while size % 2 == 0 and size > 7:
        size, depth = size // 2, depth + 1
    return size, [width * 2 ** min(i, 3) for i in range(depth + 1)]


class ResNetTrunk(Trunk):
    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        _square(shape)
        side, channels = resnet_plan(shape[1], width)
        blocks: list[nn.Module] = [ResidualBlock(channels[0], channels[0])]
        for a, b in pairwise(channels):
            blocks += [nn.AvgPool2d(3, 2, 1), ResidualBlock(a, b)]
        self.layers = nn.Sequential(nn.Conv2d(shape[0], channels[0], 3, 1, 1), *blocks, nn.LeakyReLU(0.2), nn.Flatten())
        self.features = channels[-1] * side * side

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResNetGenerator(nn.Module):
    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        _square(shape)
        side, channels = resnet_plan(shape[1], width)
        channels = channels[::-1]
        self.first = (channels[0], side, side)
        self.dense = nn.Linear(latent_dim, math.prod(self.first))
        plan = [*pairwise(channels), (channels[-1], channels[-1])]
        blocks = [ResidualBlock(a, b, enlarge=i > 0) for i, (a, b) in enumerate(plan)]
        self.layers = nn.Sequential(*blocks, nn.LeakyReLU(0.2), nn.Conv2d(channels[-1], shape[0], 3, 1, 1))

    def forward(self, u: Tensor) -> Tensor:
        return self.layers(self.dense(u).unflatten(-1, self.first))


def _square(shape: tuple[int, ...]) -> None:
    if shape[1] != shape[2]:
        raise ValueError(f"network 'resnet' needs square images, got {shape}; use network 'conv'")


class TextTrunk(Trunk):
    """Word embeddings, then convolutions of stride 2 along the sentence."""

    def __init__(self, length: int, classes: int, width: int) -> None:
        super().__init__()
        lengths = halvings(length)
        self.embedding = nn.Embedding(classes, width)
        self.layers = nn.ModuleList(nn.Conv1d(width * 2 ** min(i, 2), width * 2 ** min(i + 1, 2), 3, 2, 1) for i in range(len(lengths) - 1))
        self.features = lengths[-1] * width * 2 ** min(len(lengths) - 1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        # A matrix of probabilities (B, length, classes) stands for its expected embedding: generated text stays differentiable.
        h = ids @ self.embedding.weight if ids.is_floating_point() else self.embedding(ids)
        h = h.transpose(1, 2)
        for layer in self.layers:
            h = F.relu(layer(h))
        return h.flatten(1)


class TextGenerator(nn.Module):
    """Mirror of ``TextTrunk``: raw outputs (N, length, classes)."""

    def __init__(self, latent_dim: int, output_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        length, classes = output_shape
        self.lengths = halvings(length)[::-1]
        depth = len(self.lengths) - 1
        channels = [width * 2 ** min(i, 2) for i in reversed(range(depth + 1))]
        self.first = (channels[0], self.lengths[0])
        self.dense = nn.Linear(latent_dim, math.prod(self.first))
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 3, 1, 1) for a, b in pairwise(channels))
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, u: Tensor) -> Tensor:
        h = self.dense(u).unflatten(-1, self.first)
        for layer, length in zip(self.layers, self.lengths[1:], strict=True):
            h = F.relu(layer(F.interpolate(h, size=length, mode="nearest")))
        return self.head(h.transpose(1, 2))


def sinusoidal(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (N, dim) of times (N,), frequencies from 1 down to 1e-4 (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""
    frequencies = torch.exp(torch.linspace(0, -math.log(1e4), dim // 2, device=t.device))
    angles = t.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
