"""Posteriors: encoders, what they say of a batch, and the rule that joins them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.model.encoding import Encoding
from counterpoint.model.rules import JointRule, MixtureRule, Rule
from counterpoint.nn.modules import ByName
from counterpoint.probability import distributions as dist


class Posterior(nn.Module):
    """Encoders and the rule that joins them.

    Args:
        encoders: by modality, in the model's order: from x to q(z | x) and q(w | x), or
            None in its place.
        rule: mixture, product, mixture of products or joint.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], rule: Rule) -> None:
        super().__init__()
        self.encoders = ByName(encoders)
        self.rule = rule

    def encode(self, batch: Batch) -> Encoding:
        """What each encoder says, run once on the rows that have its modality."""
        return Encoding(batch, self.encoders, self.rule)

    def condition(
        self, encoding: Encoding, given: tuple[str, ...], rule: Rule | None = None
    ) -> dist.Posterior:
        """q(z | x_S), parameters (B, D), by its own rule or by another one."""
        return (rule or self.rule)(encoding, given)

    def aggregated(self, encoding: Encoding) -> list[tuple[dist.Posterior, Tensor]]:
        """What the aggregate posterior of z is made of: posteriors, and which rows (B,)
        count. A mixture's experts each by itself; else what everything a row has says
        together, by the joint encoder where there is one."""
        if isinstance(self.rule, MixtureRule):
            return [(q, encoding.batch.present[name]) for name, q in encoding.shared.items()]
        return [
            (
                self.everything(encoding),
                torch.ones_like(encoding.members(tuple(encoding.shared))[0]),
            )
        ]

    def everything(self, encoding: Encoding) -> dist.Posterior:
        """q(z | all that a row has), parameters (B, D): by the joint encoder also in
        rows that lack a modality, where it can read such."""
        reads_gaps = (
            isinstance(self.rule, JointRule) and len(self.rule.encoder.tokens) > 0
        )  # else incomplete rows take the rule for subsets
        return (
            encoding.joint
            if reads_gaps and encoding.joint is not None
            else self.condition(encoding, tuple(encoding.shared))
        )
