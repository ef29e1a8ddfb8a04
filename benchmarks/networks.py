"""The peer's PolyMNIST networks (``multivae.models.nn.mmnist`` 1.0.3) as plain modules:
the same layers, for this library's encoders and decoders. Mean and scale of a posterior
come from one linear layer of twice the width, which has the same weights as two."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.methods import JNF
from counterpoint.model.encoders import FlowEncoder, Head, Towers
from counterpoint.nn.conv import enlarged_conv
from counterpoint.nn.mlp import mlp
from counterpoint.nn.modules import Trunk
from counterpoint.probability.distributions import Diagonal
from counterpoint.probability.flows import FlowOptions


class ConvTrunk(Trunk):
    """3×28×28 → 2048 features."""

    features = 2048

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Transposed(nn.ConvTranspose2d):
    """The peer's first transposed convolution, 4×4 → 7×7. oneDNN has no fast bf16
    kernel for the odd size (five times slower on AVX-512), so under autocast the layer
    gives 8×8, of which 7×7 are kept: the same values."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        return F.conv_transpose2d(x, self.weight, self.bias, 2, 1, output_padding=1)[..., :-1, :-1]


class ConvGenerator(nn.Module):
    """Latents (N, D) → 3×28×28."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 2048),
            nn.ReLU(),
            nn.Unflatten(-1, (128, 4, 4)),
            Transposed(128, 64, 3, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 3, 2, 1, output_padding=1),
        )

    def forward(self, u: Tensor) -> Tensor:
        return self.layers(u)


class Block(nn.Module):
    """x ↦ shortcut(x) + 0.1·σ(conv(σ(conv(x)))), of x at twice its size where asked;
    the peer enlarges in a layer before."""

    def __init__(self, channels: int, out: int, *, enlarge: bool = False) -> None:
        super().__init__()
        middle = min(channels, out)
        self.first = nn.Conv2d(channels, middle, 3, 1, 1)
        self.second = nn.Conv2d(middle, out, 3, 1, 1)
        self.shortcut = (
            nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)
        )
        self.enlarge = enlarge

    def forward(self, x: Tensor) -> Tensor:
        middle = enlarged_conv(x, self.first) if self.enlarge else self.first(x)
        branch = F.leaky_relu(self.second(F.leaky_relu(middle, 0.2)), 0.2)
        short = self.shortcut(x)
        return (F.interpolate(short, scale_factor=2) if self.enlarge else short) + 0.1 * branch


class ResNetTrunk(Trunk):
    """3×28×28 → 12,544 features."""

    features = 256 * 7 * 7

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1),
            Block(64, 64),
            nn.AvgPool2d(3, 2, 1),
            Block(64, 128),
            nn.AvgPool2d(3, 2, 1),
            Block(128, 256),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResNetGenerator(nn.Module):
    """Latents (N, D) → 3×28×28."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 256 * 7 * 7),
            nn.Unflatten(-1, (256, 7, 7)),
            Block(256, 128),
            Block(128, 64, enlarge=True),
            Block(64, 64, enlarge=True),
            nn.Conv2d(64, 3, 3, 1, 1),
            nn.LeakyReLU(0.2),
        )

    def forward(self, u: Tensor) -> Tensor:
        return self.layers(u)


class TowerEncoder(nn.Module):
    """The forward pass of ``counterpoint.model.encoders.Encoder``, with trunks of the
    caller's: one for z and, with a private latent, one for w, or one for both
    (``towers="shared"``)."""

    def __init__(
        self, trunk: type[Trunk], shared_dim: int, private_dim: int, *, towers: Towers = "separate"
    ) -> None:
        super().__init__()
        self.shared_trunk = trunk()
        self.shared_head = Head(trunk.features, shared_dim, "normal")
        self.private_trunk = trunk() if private_dim and towers == "separate" else None
        self.private_head = Head(trunk.features, private_dim, "normal") if private_dim else None

    def forward(self, x: Tensor) -> tuple[Diagonal, Diagonal | None]:
        h = self.shared_trunk(x)
        if self.private_head is None:
            return self.shared_head(h), None
        return self.shared_head(h), self.private_head(
            h if self.private_trunk is None else self.private_trunk(x)
        )


class Embedding(Trunk):
    """What the peer's joint encoder reads of a modality: a trunk and a linear layer to
    as many features as the latent has dimensions."""

    def __init__(self, trunk: type[Trunk], dim: int) -> None:
        super().__init__()
        self.features = dim
        self.trunk = trunk()
        self.linear = nn.Linear(trunk.features, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.trunk(x))


def joint_networks(method: JNF, trunk: type[Trunk], dim: int) -> None:
    """Give a JNF the peer's encoders, unimodal and joint. Unimodal posteriors of
    standard deviation 0.3 make a proper product."""
    joint = method.model.posterior.rule.encoder
    names = method.model.names
    joint.layers = mlp((len(names) * dim, 512, 512))
    for name in names:
        joint.trunks[name] = Embedding(trunk, dim)
        joint.tokens[name] = nn.Parameter(torch.zeros(dim))
        encoder = method.model.posterior.encoders[name] = FlowEncoder(
            trunk(), trunk.features, dim, FlowOptions()
        )
        nn.init.constant_(encoder.head.linear.bias.detach()[dim:], -1.05)  # softplus(−1.05) = 0.3


NETWORKS: dict[str, tuple[type[Trunk], type[nn.Module]]] = {
    "conv": (ConvTrunk, ConvGenerator),
    "resnet": (ResNetTrunk, ResNetGenerator),
}
