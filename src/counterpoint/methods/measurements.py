"""Measurements of a trained method's posterior: bounds, likelihoods, divergences and
diagnostics of chains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from counterpoint import inference
from counterpoint.core import checks, noise
from counterpoint.methods import inputs
from counterpoint.methods.inputs import RuleLike, Values
from counterpoint.methods.questions import Questions


class Measurements(Questions):
    """Measurements of the posterior; a mixin of
    :class:`~counterpoint.methods.method.Method`.

    >>> from counterpoint import DMVAE, Modality
    >>> method = DMVAE([Modality("x", (3,)), Modality("y", (2,))], shared_dim=4, private_dim=1)
    >>> rows = {"x": torch.zeros(5, 3), "y": torch.zeros(5, 2)}
    >>> method.log_likelihood(rows, samples=10).shape
    torch.Size([5])
    >>> method.divergence(rows, given=["x"], samples=10).shape
    torch.Size([5])
    >>> method.diagnose(rows, given=["x"]) is None  # a product of normals takes no chains
    True
    """

    @checks.arguments
    def refine(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        steps: int | None = None,
        by: Literal["refiner", "gradient"] = "refiner",
        lr: float = 0.03,
        samples: int = 10,
        generator: torch.Generator | None = None,
    ) -> inference.Trace:
        """Refine the posterior given some modalities, and measure the bound at each step.

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to condition on; None for all present.
            steps: T; None for the refiner's own number, or 100 by gradient.
            by: the model's ``"refiner"``, or ``"gradient"``: ascent by Adam from the
                same start without a network, which shows what is left to gain.
            lr: learning rate of the ascent; it falls to zero by a cosine.
            samples: draws by which the bound is measured.
            generator: of the draws.

        Returns:
            λ_0 .. λ_T, the bound in nats (T + 1, B), and the rows that stopped early.

        Raises:
            ValueError: no step, no refiner, or a posterior that has no parameters.
        """
        if by not in ("refiner", "gradient"):
            raise ValueError(f"by={by!r} is unknown; choose 'refiner' or 'gradient'")
        checks.whole("samples", samples)
        with self.answering() as model, noise.seeded(generator):
            batch, names = inputs.conditioned(model, x, given)
            encoding = model.encode(batch)
            start = inference.approximation(model, encoding, names)
            beta = model.refiner.beta if isinstance(model.refiner, inference.Refiner) else 1.0
            if by == "refiner":
                trace = inference.refined(model, encoding, names, start, steps)
            else:
                steps = 100 if steps is None else steps
                trace = inference.ascended(
                    model, encoding, names, start, steps=steps, lr=lr, beta=beta
                )
            bounds = inference.measured(
                model, encoding, trace.steps, names, samples=samples, beta=beta
            )
            return dataclasses.replace(trace, elbo=bounds)

    @checks.arguments
    def log_likelihood(
        self,
        x: Values,
        samples: int = 1000,
        *,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Estimate log p(x) of what each row has, in nats, (B,).

        Args:
            x: a batch, or arrays by modality.
            samples: importance samples, drawn from the posterior.
            refine: as in ``encode``.
            generator: of the draws.

        Raises:
            ValueError: a decoder without an exact density.
        """
        with self.answering() as model, noise.seeded(generator):
            encoding = model.encode(inputs.read_batch(model, x))
            return inference.log_likelihood(model, encoding, samples, refine=refine)

    @checks.arguments
    def divergence(
        self,
        x: Values,
        given: Sequence[str],
        *,
        samples: int = 100,
        rule: RuleLike = "own",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Estimate KL(q(z | X) ‖ q(z | x_S)) in nats, (B,), by Monte Carlo.

        It measures how far the posterior given S is from that given everything.

        Args:
            x: a batch, or arrays by modality; every row complete.
            given: S.
            samples: draws.
            rule: as in ``encode``.
            generator: of the draws.

        Raises:
            ValueError: an unknown or empty ``given``, a row that lacks a modality, or
                no sample.
        """
        checks.whole("samples", samples)
        with self.answering() as model, noise.seeded(generator):
            batch = inputs.read_batch(model, x)
            names = inputs.conditioned(model, x, given)[1]
            lacking = ~torch.stack([*batch.present.values()]).all(0)
            if bool(lacking.any()):
                raise ValueError(
                    f"row {int(lacking.nonzero()[0])} lacks a modality; the divergence compares with what all of them say"
                )
            joined = inputs.chosen_rule(model, rule)
            return inference.divergence(model, model.encode(batch), names, samples, joined)

    @checks.arguments
    def diagnose(
        self,
        x: Values,
        given: Sequence[str],
        *,
        rule: RuleLike = "own",
        generator: torch.Generator | None = None,
    ) -> inference.Diagnostics | None:
        """Diagnose the chains that sample q(z | x_S).

        Args:
            x: a batch, or arrays by modality.
            given: S.
            rule: as in ``encode``.
            generator: of the draws.

        Returns:
            Acceptance, divergences, R-hat, effective sample size and improper rows, one
            value each for every row that takes chains; None where the posterior takes
            none.

        Raises:
            ValueError: an unknown or empty ``given``.
        """
        with self.answering() as model, noise.seeded(generator):
            batch, names = inputs.conditioned(model, x, given)
            joined = inputs.chosen_rule(model, rule)
            return inference.diagnose(model, model.encode(batch), names, joined)
