"""Questions to a trained method: encode, decode, reconstruct, translate, impute, sample,
recombine.

Every question runs in evaluation mode and without gradient, and takes a ``generator``
for what it draws; None means torch's own. In the examples:
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from counterpoint import inference
from counterpoint.core import checks, noise
from counterpoint.core.batch import Batch
from counterpoint.core.covariates import Covariates
from counterpoint.core.latents import SHARED_KEY, Latents
from counterpoint.methods import inputs
from counterpoint.methods.inputs import RuleLike, Values
from counterpoint.model.decoders import Draw
from counterpoint.model.model import Model
from counterpoint.nn.evaluation import evaluating
from counterpoint.training.trainable import TrainableModel


class Questions(TrainableModel):
    """What a user may ask of a method; a mixin of
    :class:`~counterpoint.methods.method.Method`.

    >>> from counterpoint import DMVAE, Modality
    >>> modalities = Modality("x", (3,)), Modality("y", (2,))
    >>> method = DMVAE(modalities, shared_dim=4, private_dim=1)
    >>> rows = {"x": torch.zeros(5, 3), "y": torch.zeros(5, 2)}
    >>> method.encode(rows).shared.shape
    torch.Size([1, 5, 4])
    >>> method.decode(method.encode(rows), to=["y"])["y"].shape
    torch.Size([1, 5, 2])
    >>> method.translate({"x": rows["x"]}, to=["y"], n=7)["y"].shape
    torch.Size([7, 5, 2])
    >>> method.reconstruct(rows)["x"].shape
    torch.Size([5, 3])
    >>> method.recombine(shared=rows, private=rows)["x"].shape
    torch.Size([5, 3])
    >>> method.sample(6)["x"].shape
    torch.Size([6, 3])
    >>> method.impute(rows, given=["x"], n=20).mean["y"].shape
    torch.Size([5, 2])
    """

    @property
    def priors(self) -> tuple[str, ...]:
        """Priors that generation can draw from.

        ``"standard"``, the density of the objective, comes first. Fitted priors follow
        in the order in which they were fitted.
        """
        return self.model.priors

    @contextmanager
    def answering(self) -> Iterator[Model]:
        """Enter evaluation mode without gradient, and restore both afterwards.

        Threads that ask at once share the mode; the last one restores it.

        Raises:
            MemoryError: the question takes more memory than there is.
        """
        with evaluating(self):
            yield self.model

    @checks.arguments
    def encode(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        samples: int | None = None,
        rule: RuleLike = "own",
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Latents:
        """Encode values: the latents given some modalities.

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to condition on; None for all present.
            samples: None for posterior means (K = 1), else the number K of draws.
            rule: how the encoders are joined. ``"own"`` is the method's rule.
                ``"product"`` is the product of unimodal posteriors, each over its own
                marginal or over the prior, times the prior
                (:class:`~counterpoint.model.rules.BayesRule`), sampled by
                Hamiltonian Monte Carlo where it has no closed form. Or give a rule.
            refine: steps by which the refiner improves the posterior; None for none.
            generator: of the draws.

        Returns:
            Shared (K, B, D); private (K, B, D_m) of each given modality.

        Raises:
            ValueError: an unknown or empty ``given``, a row with none of it, or
                ``refine`` below 1, without a refiner, or for a posterior that has no
                parameters.
        """
        checks.whole("samples", 1 if samples is None else samples)
        with self.answering() as model, noise.seeded(generator):
            batch, names = inputs.conditioned(model, x, given)
            joined = inputs.chosen_rule(model, rule)
            encoding = model.encode(batch)
            return inference.posterior_latents(model, encoding, names, samples, joined, refine)

    @checks.arguments
    def decode(
        self,
        latents: Latents,
        to: Sequence[str] | None = None,
        *,
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Decode latents: the mean of each modality.

        Args:
            latents: of ``encode``, for instance.
            to: modalities to decode; None for those whose private latents are there.
            covariates: what decoders read beside latents, as
                :func:`~counterpoint.core.reading.columns`; None for the average of the
                training rows.
            generator: of what diffusion decoders draw.

        Returns:
            Means (K, B, *shape) by modality; for words, probabilities (K, B, length,
            vocabulary).

        Raises:
            ValueError: a target whose private latent is missing.
        """
        model = self.model
        inputs.check_latents(model, latents)
        decodable = [
            name
            for name in model.names
            if name not in model.private_dims or name in latents.private
        ]
        targets = inputs.target_names(model, decodable if to is None else to)
        lacking = [name for name in targets if name not in decodable]
        if lacking:
            raise ValueError(
                f"decoding {lacking[0]!r} needs its private latent, which is not given; use translate to draw it from the prior"
            )
        known = inputs.covariate_columns(model, covariates, latents.shared.shape[1])
        with self.answering(), noise.seeded(generator):
            return inference.means(model, [Draw(latents, targets)], known)[0]

    @checks.arguments
    def reconstruct(
        self, x: Values, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Reconstruct every modality from its own posterior means, (B, *shape).

        A row that lacks a modality gets it from the rest of the row, with w at the mean
        of the private prior.
        """
        with self.answering() as model, noise.seeded(generator):
            batch = inputs.read_batch(model, x)
            encoding = model.encode(batch)
            everything = model.posterior.condition(encoding, model.names).point_estimate
            draws = []
            for name in model.names:
                alone = model.posterior.condition(encoding, (name,)).point_estimate
                own = torch.where(batch.present[name].unsqueeze(-1), alone, everything)
                w = encoding.private.get(name)
                private = {} if w is None else {name: w.point_estimate[None]}
                draws.append(Draw(Latents(own[None], private), (name,)))
            means = inference.means(model, draws, batch.covariates, batch.x)
            return {
                name: out[name].squeeze(0) for name, out in zip(model.names, means, strict=True)
            }

    @checks.arguments
    def translate(
        self,
        x: Values,
        to: Sequence[str] | None = None,
        n: int = 1,
        *,
        prior: str = "auto",
        rule: RuleLike = "own",
        refine: int | None = None,
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Translate: generate the target modalities from those in ``x``.

        z comes from the posterior. The private latent of a target comes from its own
        posterior if the target is in ``x``, else from the prior. To remove the effect
        of covariates, translate modalities to themselves with other covariates.

        Args:
            x: a batch, or arrays by modality.
            to: modalities to generate; None for all.
            n: draws of the latents.
            prior: of private latents, as in ``sample``.
            rule: of the posterior of z, as in ``encode``.
            refine: of the posterior of z, as in ``encode``.
            covariates: of what is decoded, as in ``decode``; None for those of ``x``,
                or for the average of the training rows where it has none.
            generator: of the draws.

        Returns:
            Means (n, B, *shape) by modality.
        """
        checks.whole("n", n)
        with self.answering() as model, noise.seeded(generator):
            batch, names = inputs.conditioned(model, x, None)
            known: Tensor | None = batch.covariates
            if covariates is not None:
                known = inputs.covariate_columns(model, covariates, len(batch))
            targets = inputs.target_names(model, to)
            joined = inputs.chosen_rule(model, rule)
            encoding = model.encode(batch)
            latents = inference.posterior_latents(model, encoding, names, n, joined, refine)
            draw = partial(model.draw_prior, prior=inputs.chosen_prior(model, prior))
            latents = inference.completed(model, latents, targets, batch.present, draw)
            return inference.means(model, [Draw(latents, targets)], known, batch.x)[0]

    @checks.arguments
    def impute(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        to: Sequence[str] | None = None,
        n: int = 100,
        level: float = 0.9,
        samples: bool = False,
        prior: str = "auto",
        rule: RuleLike = "own",
        refine: int | None = None,
        covariates: Covariates | None = None,
        totals: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> inference.Imputation:
        """Impute missing values by the mean of their predictive distribution, with an
        interval for each (:mod:`counterpoint.inference.imputation`).

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to condition on; None for all present. Other
                modalities are imputed in every row, as if they were absent. A row that
                has none of them stays missing: NaN, and −1 for ids
                (``Imputation.left``).
            to: modalities to impute; None for all.
            n: draws of the latents and of the values; intervals of 99 % need 199.
            level: probability that a value lies inside its interval, if the model is
                right.
            samples: return the draws, too.
            prior: of private latents, as in ``sample``.
            rule: of the posterior of z, as in ``encode``.
            refine: of the posterior of z, as in ``encode``.
            covariates: as in ``translate``.
            totals: by modality of counts, the totals (B,) of imputed rows; by default
                the typical total of the training rows.
            generator: of the draws.
            progress: called with the number of rows that were done since the last call.

        Returns:
            By modality, values with observed ones kept, (B, *shape); the ends of the
            intervals, and probabilities for words, which have no interval; which values
            were imputed; the draws (n, B, *shape) if ``samples``.

        Raises:
            ValueError: an unknown or empty ``given`` or ``to``, no row with any of
                ``given``, a level outside (0, 1), or too few draws for it.
        """
        with self.answering() as model, noise.seeded(generator):
            batch = inputs.read_batch(model, x)
            known_totals = inputs.count_totals(model, totals or {}, len(batch))
            known = inputs.covariate_columns(model, covariates, len(batch))
            if known is not None:
                batch = dataclasses.replace(batch, covariates=known)
            wanted, names = inputs.names_to_condition_on(model, batch, given)
            usable = _rows_with_any(batch, wanted)
            whole = bool(usable.all() or not usable.any())  # ``only`` refuses a batch without any
            if not whole:
                batch = batch[usable]
                known_totals = {name: counts[usable] for name, counts in known_totals.items()}
            imputation = inference.imputed(
                model,
                batch.only(wanted),
                names,
                inputs.target_names(model, to),
                n=n,
                level=level,
                prior=inputs.chosen_prior(model, prior),
                rule=inputs.chosen_rule(model, rule),
                refine=refine,
                samples=samples,
                totals=known_totals,
                progress=progress,
            )
            return imputation if whole else imputation.among(usable)

    @checks.arguments
    def sample(
        self,
        n: int,
        *,
        prior: str = "auto",
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Sample all modalities unconditionally, (n, *shape) means.

        Args:
            n: number of rows.
            prior: ``"standard"``, the kind of a fitted prior, or ``"auto"``: the prior
                fitted last, where there is one.
            covariates: as in ``decode``.
            generator: of the draws.
        """
        checks.whole("n", n)
        known = inputs.covariate_columns(self.model, covariates, n)
        with self.answering() as model, noise.seeded(generator):
            draw = partial(model.draw_prior, prior=inputs.chosen_prior(model, prior))
            shared = Latents(draw(SHARED_KEY, (1, n)))
            latents = inference.completed(model, shared, model.names, {}, draw)
            means = inference.means(model, [Draw(latents, model.names)], known)[0]
            return {name: x.squeeze(0) for name, x in means.items()}

    @checks.arguments
    def recombine(
        self, shared: Values, private: Values, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Recombine the shared content of one batch with the private content of another.

        Args:
            shared: gives z.
            private: gives w, the covariates, and the totals of counts.
            generator: of what diffusion decoders draw.

        Returns:
            Means (B, *shape) by modality.

        Raises:
            ValueError: a method without private latents, or batches of unequal size.
        """
        if not self.model.private_dims:
            raise ValueError(
                f"{self.name} has no private latents to recombine; use a method that has, such as idmvae or mmvae+"
            )
        with self.answering() as model, noise.seeded(generator):
            content = model.encode(inputs.read_batch(model, shared))
            style = model.encode(inputs.read_batch(model, private))
            if len(content.batch) != len(style.batch):
                raise ValueError(
                    f"recombine pairs rows, but shared has {len(content.batch)} and private {len(style.batch)}; give equally many"
                )
            z = model.posterior.condition(content, model.names).point_estimate[None]
            w = {name: posterior.point_estimate[None] for name, posterior in style.private.items()}
            draw = Draw(Latents(z, w), model.names)
            means = inference.means(model, [draw], style.batch.covariates, style.batch.x)[0]
            return {name: x.squeeze(0) for name, x in means.items()}


def _rows_with_any(batch: Batch, names: Sequence[str]) -> Tensor:
    """Rows (B,) that have any of the modalities; of unknown names, any at all."""
    present = [batch.present[name] for name in names if name in batch.present]
    return torch.stack(present or [*batch.present.values()]).any(0)
