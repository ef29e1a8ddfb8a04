"""Posterior: encoders and the rule that joins them."""

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

    >>> import counterpoint as cp
    >>> model = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2}).model
    >>> batch = cp.Batch.of({"x": [[0.0, 0.0, 0.0]]}, modalities=model.modalities.values())
    >>> q = model.posterior.condition(model.posterior.encode(batch), ("x",))
    >>> q.loc.shape
    torch.Size([1, 2])

    Args:
        encoders: by modality, in the model's order: from x to q(z | x), and to q(w | x)
            or None.
        rule: one of :mod:`counterpoint.model.rules`, or your own.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], rule: Rule) -> None:
        super().__init__()
        self.encoders = ByName(encoders)
        self.rule = rule

    def encode(self, batch: Batch) -> Encoding:
        """Encode a batch: each encoder runs once, on the rows that have its modality."""
        return Encoding(batch, self.encoders, self.rule)

    def condition(
        self, encoding: Encoding, given: tuple[str, ...], rule: Rule | None = None
    ) -> dist.Posterior:
        """q(z | x_S), parameters (B, D).

        Args:
            encoding: of a batch.
            given: S, the names of the modalities to condition on.
            rule: None for the posterior's own.
        """
        return (rule or self.rule)(encoding, given)

    def aggregated(self, encoding: Encoding) -> list[tuple[dist.Posterior, Tensor]]:
        """The parts of the aggregate posterior of z: posteriors, and which rows (B,)
        count.

        A mixture gives its experts, one part each. Other rules give one part, the
        posterior given all that a row has.
        """
        if isinstance(self.rule, MixtureRule):
            return [(q, encoding.batch.present[name]) for name, q in encoding.shared.items()]
        rows = torch.ones_like(encoding.members(tuple(encoding.shared))[0])
        return [(self.everything(encoding), rows)]

    def everything(self, encoding: Encoding) -> dist.Posterior:
        """q(z | all that a row has), parameters (B, D).

        A joint encoder with tokens reads incomplete rows too. Without tokens they take
        the rule for subsets.
        """
        reads_incomplete = isinstance(self.rule, JointRule) and len(self.rule.encoder.tokens) > 0
        if reads_incomplete and encoding.joint is not None:
            return encoding.joint
        return self.condition(encoding, tuple(encoding.shared))
