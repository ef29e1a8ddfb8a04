"""Contrastive regularisers of IDMVAE (2025, https://arxiv.org/abs/2509.23548), and the
alignment of JNF-Shared's projectors.

CrossMI makes the shared posterior means of one example's modalities agree:

    C(a, b) = −NT-Xent over the 2B vectors [a; b], cosine similarity, temperature τ,
    L = (1/(M−1)) Σ_{i≠j} −C(μ_z(x_i), μ_z(x_j))                          (the published code's normalisation, M times the paper's)

GenAug removes from each latent what belongs to the other. With partners w'_i, z'_i of
another row (or of a prior),

    z-term: x⁺ = E[x_i | z_i, w'_i],  −C(μ_z(x_i), μ_z(x⁺));     w-term: x⁺ = E[x_i | z'_i, w_i],  −C(μ_w(x_i), μ_w(x⁺))
    L = Σ_i ½ (z-term + w-term)

so that z survives a change of w, and w a change of z. No gradient is stopped. The
published code decodes an image for each term. Partners from the next and the previous
row need one x⁺ for both (our choice, and half the decoding): E[x | z_i, w_{i+1}] keeps
the z of row i and the w of row i+1. Either term has the same expectation.

With modalities missing (our choice; the paper assumes complete data) a row takes part in the
pairs it has: (M−1) becomes the number of its modalities less one, partners come from
the next row that has the modality, and negatives are the rows that have both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import combinations
from typing import cast

import torch
from torch import Tensor
from torch import distributed as torch_distributed
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from counterpoint.core import checks
from counterpoint.core.precision import full_precision, wide
from counterpoint.model.encoders import FlowEncoder
from counterpoint.model.encoding import Encoding, on_present
from counterpoint.model.model import Model
from counterpoint.objectives.loss import EncodingLoss, Terms


def nt_xent(a: Tensor, b: Tensor, valid: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Normalised-temperature cross entropy of P sets of pairs (Chen et al. 2020,
    https://arxiv.org/abs/2002.05709).

    Each of the 2B vectors of a set has its pair as positive and the other valid vectors
    as negatives. Where processes train together, negatives come from all of them and
    the gradient reaches those too.

    >>> a = torch.eye(3)[None]
    >>> valid = torch.ones(1, 3, dtype=torch.bool)
    >>> nt_xent(a, a, valid, temperature=0.1)  # pairs are alike, others are not
    tensor([[0.0002, 0.0002, 0.0002]])

    Args:
        a, b: (P, B, D).
        valid: (P, B) bool, rows that take part.
        temperature: τ.

    Returns:
        (P, B): the mean of the two losses of each pair, 0 where a row takes no part or
            is alone.

    Raises:
        ValueError: a batch of one row, which has no negatives.
    """
    a = wide(a)
    b = wide(b)
    everyone_a, everyone_b, everyone_valid, first = _gathered(a, b, valid)
    if everyone_a.shape[1] < 2:
        raise ValueError(
            "a contrastive loss needs at least two rows in a batch, got one; raise batch_size or drop the last batch"
        )
    mine = F.normalize(torch.cat([a, b], 1), dim=-1)
    all_ = F.normalize(torch.cat([everyone_a, everyone_b], 1), dim=-1)
    with full_precision(a):  # cosines differ by less than bfloat16 can tell
        logits = mine @ all_.transpose(1, 2) / temperature  # (P, 2B, 2B·world)
    rows = a.shape[1]
    total = everyone_a.shape[1]
    own = first + torch.arange(rows, device=a.device)
    itself = torch.cat([own, own + total])
    partner = torch.cat([own + total, own])
    columns = torch.cat([everyone_valid, everyone_valid], 1).unsqueeze(1)  # (P, 1, 2B·world)
    logits = logits.masked_fill(~columns, float("-inf"))
    logits = logits.scatter(2, itself.view(1, -1, 1).expand(len(a), -1, 1), float("-inf"))
    taking_part = valid & (everyone_valid.sum(1, keepdim=True) > 1)
    # Rows that take no part keep their logits finite, so that no NaN enters the gradient.
    logits = torch.where(taking_part.repeat(1, 2).unsqueeze(-1), logits, torch.zeros_like(logits))
    losses = torch.logsumexp(logits, -1) - logits.gather(
        2, partner.view(1, -1, 1).expand(len(a), -1, 1)
    ).squeeze(-1)
    return torch.where(
        taking_part, (losses[:, :rows] + losses[:, rows:]) / 2, torch.zeros_like(losses[:, :rows])
    )


def _gathered(a: Tensor, b: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Vectors of all processes along the row axis, and the index of this process's
    first row."""
    if (
        not (torch_distributed.is_available() and torch_distributed.is_initialized())
        or torch_distributed.get_world_size() == 1
    ):
        return a, b, valid, 0
    joined = torch.cat([a, b, valid.unsqueeze(-1).to(a.dtype)], -1).contiguous()
    everyone = torch.cat(all_gather(joined), 1)
    sizes = [a.shape[-1], b.shape[-1], 1]
    ours, theirs, mask = everyone.split(sizes, -1)
    return ours, theirs, mask.squeeze(-1) > 0.5, torch_distributed.get_rank() * a.shape[1]


class CrossMI(EncodingLoss):
    """Contrast of posterior means of z over all pairs of modalities. Term:
    ``cross_mi``.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> CrossMI(temperature=0.5).terms(model, encoding)["cross_mi"].shape
    torch.Size([5])

    Args:
        temperature: τ.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checks.positive("temperature", temperature)

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        present = encoding.members(model.names)  # (M, B)
        # (M, B, D)
        means = torch.stack([encoding.shared[name].point_estimate for name in model.names])
        pairs = torch.tensor(list(combinations(range(len(model.names)), 2)), device=means.device)
        left, right = pairs.T
        losses = nt_xent(
            means[left], means[right], present[left] & present[right], temperature=self.temperature
        )
        return {"cross_mi": 2 * losses.sum(0) / (present.sum(0) - 1).clamp(min=1)}


class Projected(EncodingLoss, ABC):
    """A loss on what the projectors of flow encoders say of each pair of modalities
    that a row has. Term: ``align``.

    >>> class Distance(Projected):
    ...     def pair(self, a, b, valid):
    ...         return ((a - b) ** 2).sum(-1) * valid
    >>> Distance().pair(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([True]))
    tensor([2.])
    """

    @abstractmethod
    def pair(self, a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
        """Loss (B,) of projections (B, dim) of two modalities; ``valid`` (B,) are the
        rows that have both."""

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        batch = encoding.batch
        projected = {}
        for name in model.names:
            projector = cast(FlowEncoder, model.posterior.encoders[name]).projector
            if projector is None:
                raise ValueError(f"the encoder of {name!r} has no projector to align")
            absent = torch.zeros(
                len(batch), projector.linear.out_features, device=batch.present[name].device
            )
            projected[name] = on_present(projector, batch.x[name], batch.present[name], absent)
        losses = [
            self.pair(projected[i], projected[j], batch.present[i] & batch.present[j])
            for i, j in combinations(model.names, 2)
        ]
        return {"align": torch.stack(losses).sum(0)}


class ProjectionContrast(Projected):
    """NT-Xent of the projections.

    >>> a, valid = torch.eye(3), torch.ones(3, dtype=torch.bool)
    >>> ProjectionContrast().pair(a, a, valid)  # pairs are alike, others are not
    tensor([0.0002, 0.0002, 0.0002])

    Args:
        temperature: τ.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = checks.positive("temperature", temperature)

    def pair(self, a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
        return nt_xent(a[None], b[None], valid[None], temperature=self.temperature)[0]


class ProjectionCorrelation(Projected):
    """Deep canonical correlation: minus the sum of the largest canonical correlations
    of the projections over the batch, the same for every row (Andrew et al. 2013,
    https://proceedings.mlr.press/v28/andrew13.html).

    >>> a = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> loss = ProjectionCorrelation().pair(a, 2 * a, torch.ones(100, dtype=torch.bool))
    >>> round(loss[0].item(), 1)  # two correlations of 1
    -2.0

    Args:
        top: how many correlations count; None for all.
        ridge: added to the variances.
    """

    def __init__(self, *, top: int | None = None, ridge: float = 1e-3) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise ValueError(f"top={top} must be 1 or more, or None for all correlations")
        self.top = top
        self.ridge = ridge

    def pair(self, a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
        total = (
            canonical_correlations(a[valid], b[valid], ridge=self.ridge)[: self.top].sum()
            if int(valid.sum()) > 1
            else a.new_zeros(())
        )
        return (-total).expand(len(a))


def canonical_correlations(a: Tensor, b: Tensor, *, ridge: float = 1e-3) -> Tensor:
    """Canonical correlations of rows a (N, d) and b (N, d), the largest first: singular
    values of L_a⁻¹ Σ_ab L_b⁻ᵀ, Σ_aa + ridge = L_a L_aᵀ.

    Whitening by Cholesky factors gives the singular values that inverse square roots
    give, and a gradient where eigenvalues coincide.

    >>> a = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> canonical_correlations(a, a.flip(1)).round()
    tensor([1., 1.])
    """
    with full_precision(a):
        a, b = (u.double() - u.double().mean(0) for u in (a, b))
        count = len(a) - 1
        eye = torch.eye(a.shape[1], dtype=torch.float64, device=a.device)
        ridged = ridge * eye
        left = torch.linalg.cholesky(a.T @ a / count + ridged)
        right = torch.linalg.cholesky(b.T @ b / count + ridged)
        whitened = torch.linalg.solve_triangular(left, a.T @ b / count, upper=False)
        return torch.linalg.svdvals(
            torch.linalg.solve_triangular(right, whitened.T, upper=False)
        ).float()
