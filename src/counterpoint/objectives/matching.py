"""Losses that match posteriors: unimodal ones with those given everything."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from counterpoint.inference import trace_of
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.objectives.loss import EncodingLoss, Terms
from counterpoint.probability import distributions as dist

Direction = Literal["forward", "reverse", "both"]


class PosteriorMatch(EncodingLoss):
    """Σ_m KL(q(z | X) ‖ q(z | x_m)) over the modalities a row has, where q(z | X) is
    given everything.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.JMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> PosteriorMatch(weight=1.0).terms(model, encoding)["match"].shape
    torch.Size([5])

    Args:
        weight: factor on the sum; JMVAE calls it α, MVTCAE weighs it by α/M.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        everything = model.posterior.condition(encoding, model.names)
        divergences = [
            encoding.batch.present[name] * dist.kl(everything, q)
            for name, q in encoding.shared.items()
        ]
        return {"match": self.weight * torch.stack(divergences).sum(0)}


class Alignment(EncodingLoss):
    """Σ_m KL(q_T(z | X) ‖ q(z | x_m)) over the modalities a row has: unimodal
    posteriors learn from the refined one, which no gradient reaches.
    Term: ``align``.

    2024, https://arxiv.org/abs/2410.11403

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> bool((Alignment().terms(model, encoding)["align"] >= 0).all())
    True

    Args:
        direction: ``"forward"``, as above; ``"reverse"``, KL(q(z | x_m) ‖ q_T(z | X));
            or ``"both"``, their mean.
    """

    def __init__(self, direction: Direction = "forward") -> None:
        super().__init__()
        if direction not in get_args(Direction):
            raise ValueError(
                f"direction={direction!r} is unknown; choose one of {', '.join(get_args(Direction))}"
            )
        self.direction = direction

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        teacher = dist.detached(trace_of(model, encoding).last.shared)
        return {
            "align": torch.stack(
                [
                    encoding.batch.present[name] * self._between(teacher, q)
                    for name, q in encoding.shared.items()
                ]
            ).sum(0)
        }

    def _between(self, teacher: dist.Posterior, q: dist.Expert) -> Tensor:
        match self.direction:
            case "forward":
                return dist.kl(teacher, q)
            case "reverse":
                return dist.kl(q, cast(dist.Expert, teacher))
            case _:
                return 0.5 * (dist.kl(teacher, q) + dist.kl(q, cast(dist.Expert, teacher)))


class PosteriorFit(EncodingLoss):
    """Σ_m −log q(z | x_m), z ~ q(z | X), over the modalities a row has: the part of
    KL(q(z | X) ‖ q(z | x_m)) that depends on the unimodal posterior, of which only the
    density is asked, whatever its form. No gradient reaches q(z | X). Term: ``fit``.

    JNF 2025, https://arxiv.org/abs/2502.03952

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.JMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> PosteriorFit(samples=3).terms(model, encoding)["fit"].shape
    torch.Size([5])

    Args:
        samples: draws of z.
    """

    def __init__(self, samples: int = 1) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples={samples} must be 1 or more")
        self.samples = samples

    def terms(self, model: Model, encoding: Encoding) -> Terms:
        with torch.no_grad():
            z = joint_posterior(encoding).rsample(torch.Size((self.samples,)))
        losses = [
            encoding.batch.present[name] * -q.log_prob(z).mean(0)
            for name, q in encoding.shared.items()
        ]
        return {"fit": torch.stack(losses).sum(0)}


def joint_posterior(encoding: Encoding) -> dist.Normal:
    """q(z | X) of the joint encoder.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.JMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> joint_posterior(encoding).loc.shape
    torch.Size([5, 4])

    Raises:
        ValueError: a posterior without one.
    """
    if encoding.joint is None:
        raise ValueError(
            "this objective needs a joint encoder; give the posterior the rule JointRule"
        )
    return encoding.joint
