"""Denoisers of images made of the blocks of diffusers
(https://github.com/huggingface/diffusers), which the extra ``diffusion`` brings.

    UNet2D    its UNet2DModel: two residual blocks a resolution, attention at the coarsest        Ho et al. 2020, https://arxiv.org/abs/2006.11239
    DiT       its transformer blocks on patches, whose norms and gates the embedding sets         Peebles & Xie 2023, https://arxiv.org/abs/2212.09748

diffusers conditions on a class; here the condition is a vector c. In ``UNet2D`` a linear
map of c replaces the embedding of the class. ``DiT`` has one network from the embedding
of time and c to the six vectors that scale, shift and gate a block, and each block adds
vectors of its own: adaLN-single without a class (PixArt-α, Chen et al. 2024,
https://arxiv.org/abs/2310.00426). Sizes are our choice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.core.optional import required
from counterpoint.diffusion.networks import Conditioning, Embedding, depth_of, groups_of

MAX_PATCHES = 16
"""Most patches along a side of an image, as in the published DiT with patches of 2×2 on
latents of 32×32."""

MAX_PATCH_SIDE = 8
"""Largest side of a patch, in pixels."""


class UNet2D(nn.Module):
    """diffusers' UNet2DModel as a denoiser: called with x (N, C, H, W), times (N,) or
    (1,), whole or broken, and conditions (N, context).

    >>> network = UNet2D((3, 16, 16), width=32)
    >>> network(torch.zeros(1, 3, 16, 16), torch.tensor([5])).shape
    torch.Size([1, 3, 16, 16])

    Args:
        shape: (channels, height, width) of the images.
        width: channels at full size; twice as many below.
        context: size of the condition; 0 for none.
        conditioning: whether blocks add the embedding or are scaled and shifted by it.
        extra: channels that are read beside x and not predicted.

    Raises:
        ValueError: an image that can't be halved down to 8 pixels or fewer a side, or
            less than two channels, which leave time unseen.
        ModuleNotFoundError: diffusers is not installed.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 32,
        context: int = 0,
        conditioning: Conditioning = "embed",
        extra: int = 0,
    ) -> None:
        super().__init__()
        depth = depth_of(shape)
        groups = groups_of(width)
        if width < 2:
            raise ValueError(
                f"width={width} of the network 'unet2d' must be 2 or more, for its embedding of time is as wide"
            )
        self.condition = nn.Linear(context, 4 * width) if context else None
        self.unet = required("diffusers", "diffusion").UNet2DModel(
            sample_size=shape[1:],
            in_channels=shape[0] + extra,
            out_channels=shape[0],
            block_out_channels=(width, *[2 * width] * depth),
            down_block_types=(*["DownBlock2D"] * depth, "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", *["UpBlock2D"] * depth),
            attention_head_dim=None,  # one head
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            resnet_time_scale_shift="scale_shift" if conditioning == "film" else "default",
            class_embed_type="identity" if context else None,
        )

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        return self.unet(
            x, t, None if self.condition is None else self.condition(c), return_dict=False
        )[0]


class DiT(nn.Module):
    """A diffusion transformer; called as ``UNet2D`` is.

    >>> DiT((3, 16, 16), width=32, depth=1)(torch.zeros(1, 3, 16, 16), torch.tensor([5])).shape
    torch.Size([1, 3, 16, 16])

    Args:
        shape: (channels, height, width) of the images. Patches are the smallest, from
            1×1 to 8×8, of which at most 16 make a side.
        width: of each of the four heads.
        context: size of the condition; 0 for none.
        extra: channels that are read beside x and not predicted.
        depth: number of blocks.

    Raises:
        ValueError: an image that can't be cut into such patches. ModuleNotFoundError:
            diffusers is not installed.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 32,
        context: int = 0,
        extra: int = 0,
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.patch = _patch(shape)
        dim = 4 * width
        self.rows = shape[1] // self.patch
        attention, embeddings, normalization = (
            required(f"diffusers.models.{name}", "diffusion")
            for name in ("attention", "embeddings", "normalization")
        )
        self.embedding = Embedding(dim, context)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        # Positions of the longer side, cut to the image.
        self.first = embeddings.PatchEmbed(
            *shape[1:],
            self.patch,
            shape[0] + extra,
            dim,
            pos_embed_max_size=max(shape[1:]) // self.patch,
        )
        self.blocks = nn.ModuleList(
            attention.BasicTransformerBlock(
                dim,
                num_attention_heads=4,
                attention_head_dim=width,
                activation_fn="gelu-approximate",
                attention_bias=True,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                norm_eps=1e-6,
            )
            for _ in range(depth)
        )
        self.norm = normalization.AdaLayerNormContinuous(
            dim, dim, elementwise_affine=False, eps=1e-6
        )
        self.last = nn.Linear(dim, shape[0] * self.patch**2)

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        embedded = self.embedding(t, c).expand(len(x), -1)
        h = self.first(x)
        modulation = self.modulation(embedded)
        for block in self.blocks:
            h = block(h, timestep=modulation)
        tiles = (
            self.last(self.norm(h, embedded))
            .unflatten(2, (-1, self.patch, self.patch))
            .unflatten(1, (self.rows, -1))
        )
        return torch.einsum("nhwcpq->nchpwq", tiles).flatten(4).flatten(2, 3)


def _patch(shape: tuple[int, ...]) -> int:
    """Side of the patches.

    Raises:
        ValueError: no image, or one that can't be cut.
    """
    if len(shape) != 3:
        raise ValueError(f"a DiT reads images of shape (channels, height, width), got {shape}")
    for side in range(1, MAX_PATCH_SIDE + 1):
        if max(shape[1:]) <= MAX_PATCHES * side and not any(length % side for length in shape[1:]):
            return side
    raise ValueError(
        f"a DiT can't cut images of {shape[1]}×{shape[2]} into {MAX_PATCHES} patches a side or fewer, of {MAX_PATCH_SIDE}×{MAX_PATCH_SIDE} or less;"
        " pad or resize them, e.g. to 32×32 or 64×64"
    )
