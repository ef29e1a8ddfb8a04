"""A model: a prior on z, priors on each w_m, a posterior, and one decoder a modality.

    p(z, w, x) = p(z) ∏_m p(w_m) p(x_m | z, w_m),      q(z, w | x) = q(z | x_S) ∏_m q(w_m | x_m)

A decoder may read covariates c beside the latents, p(x_m | z, w_m, c), so that the
latents need not encode them.

``encode`` runs every encoder once. ``decode`` runs every decoder once on all the draws
that need it, stacked along the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.core.batch import Batch
from counterpoint.core.latents import SHARED_KEY, Latents, modality_of, private_key
from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import kind
from counterpoint.model.additions import Addition
from counterpoint.model.decoders import Decoder, Draw
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.encoding import Encoding
from counterpoint.model.fitted_priors import FittedPrior, make_fitted_priors
from counterpoint.model.likelihood import Likelihood
from counterpoint.model.posteriors import Posterior
from counterpoint.model.priors import Prior
from counterpoint.nn.modules import ByName
from counterpoint.nn.running import MeanImputer

FAR_FROM_TRAINING = 8.0
"""Root mean square of values, in standard deviations of the training values, above which
a warning is given. Training rows have 1."""

CPU_ROWS = 256
"""Most rows of a decoder call on a CPU. With 6,400 rows of small convolutions a step took
twice as long (docs/results/speed)."""


class Model(nn.Module):
    """The generative model and its posterior, without losses.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> model.names, model.latents
    (('x', 'y'), {'z': 4, 'w_x': 1, 'w_y': 1})
    >>> model.draw_prior("z", (5,)).shape
    torch.Size([5, 4])

    Args:
        modalities: in order.
        prior: p(z).
        private_priors: p(w_m) by modality; empty without private latents.
        posterior: encoders and the rule that joins them.
        decoders: by modality.
        auxiliary_priors: learned r_m(w), used for cross-reconstruction in training only
            (MMVAE+).
        decoder_batch_size: most rows in one call of a decoder. Larger stacks are cut,
            which keeps a call in the cache. None means 256 on a CPU, no limit elsewhere.

    Attributes:
        additions: fitted priors and diffusion decoders that replaced others, in the
            order in which they were added.
        activation_checkpointing: recompute decoders and likelihoods in the backward
            pass instead of keeping their activations. They must not depend on how often
            they are called (no batch normalisation).
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        prior: Prior,
        private_priors: Mapping[str, Prior],
        posterior: Posterior,
        decoders: Mapping[str, Decoder],
        auxiliary_priors: Mapping[str, Prior] | None = None,
        decoder_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if decoder_batch_size is not None and decoder_batch_size < 1:
            raise ValueError(
                f"decoder_batch_size={decoder_batch_size} must be 1 or more, or None for the device's own limit"
            )
        self.modalities = {m.name: m for m in modalities}
        self.covariates = covariates_of(modalities)
        self.prior = prior
        self.private_priors = ByName(private_priors)
        self.private_dims = {name: prior.dim for name, prior in private_priors.items()}
        self.auxiliary_priors = ByName(auxiliary_priors or {})
        self.posterior = posterior
        self.decoders = ByName(decoders)
        self.fitted_priors = nn.ModuleDict()
        self.refiners = nn.ModuleList()
        self.additions: dict[str, Addition] = {}
        self.decoder_batch_size = decoder_batch_size
        self.activation_checkpointing = False

    @property
    def refiner(self) -> nn.Module | None:
        """The network that refines the posterior, where there is one
        (:mod:`counterpoint.inference.refinement`)."""
        return self.refiners[0] if len(self.refiners) else None

    def put_refiner(self, refiner: nn.Module | None) -> None:
        """Replace the refiner; None removes it."""
        while len(self.refiners):
            del self.refiners[0]
        self.refiners.extend([] if refiner is None else [refiner])

    def replace_decoders(self, options: DenoiserOptions) -> None:
        """Replace the decoders of the modalities that ``options`` name by untrained
        diffusion decoders.

        Raises:
            ValueError: no name, an unknown one, or a modality that diffusion can't draw.
        """
        options.check([*self.modalities.values()])
        if not options.modalities:
            raise ValueError(f"denoiser names no modality; choose some of {', '.join(self.names)}")
        decoders = {}
        for name in options.modalities:
            modality = self.modalities[name]
            size = self.shared_dim + self.private_dims.get(name, 0) + len(modality.covariates)
            decoders[name] = self.decoder(name).denoised(Denoising(modality, size, options))
        self.decoders.update(decoders)
        for name in options.modalities:
            own = asdict(replace(options, modalities=(name,)))
            self._record(f"decoder of {name}", Addition("decoder", own))

    def _record(self, key: str, addition: Addition) -> None:
        """Remember an addition as the last one, in place of one of the same key."""
        self.additions.pop(key, None)
        self.additions[key] = addition

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.modalities)

    @property
    def shared_dim(self) -> int:
        return self.prior.dim

    @property
    def latents(self) -> dict[str, int]:
        """Sizes of z and every w_m, by the keys of :mod:`counterpoint.core.latents`."""
        private = {private_key(name): dim for name, dim in self.private_dims.items()}
        return {SHARED_KEY: self.shared_dim, **private}

    def decoder(self, name: str) -> Decoder:
        return cast(Decoder, self.decoders[name])

    def likelihood(self, name: str) -> Likelihood:
        return self.decoder(name).likelihood

    @property
    def denoisings(self) -> dict[str, Denoising]:
        """The likelihoods of modalities with a diffusion decoder, by name."""
        likelihoods = {name: self.likelihood(name) for name in self.names}
        return {name: part for name, part in likelihoods.items() if isinstance(part, Denoising)}

    @property
    def fillers(self) -> list[MeanImputer]:
        """The imputers of modalities with gaps."""
        return [filler for name in self.names if (filler := self.decoder(name).filler) is not None]

    @property
    def priors(self) -> tuple[str, ...]:
        """Names of what latents can be drawn from: ``"standard"``, the density of the
        objective, and the fitted priors, the last one fitted last."""
        return ("standard", *self.fitted_priors)

    @property
    def surrogates(self) -> list[str]:
        """Modalities whose decoder has no exact density."""
        return [name for name in self.names if not self.likelihood(name).exact]

    def fitted_prior(self, kind: str, key: str) -> FittedPrior:
        """The fitted prior of a latent.

        Args:
            kind: of the prior.
            key: of the latent, see :mod:`counterpoint.core.latents`.
        """
        return cast(FittedPrior, cast(nn.ModuleDict, self.fitted_priors[kind])[key])

    def encode(self, batch: Batch) -> Encoding:
        """Encode a batch, with missing entries imputed by their training means."""
        x = dict(batch.x)
        for name, there in batch.entries.items():
            if (filler := self.decoder(name).filler) is not None:
                x[name] = filler(x[name], there)
        return self.posterior.encode(replace(batch, x=x) if batch.entries else batch)

    def add_fitted_priors(self, kind: str, size: int | None = None) -> None:
        """Add priors of one kind for z and every w_m, not yet fitted, and remove those
        of the same kind.

        Args:
            kind: one of :data:`~counterpoint.model.fitted_priors.FITTED_PRIORS`.
            size: width of the networks, or number of components; None for the default.

        Raises:
            ValueError: an unknown kind, or a size below 1.
        """
        priors, used = make_fitted_priors(kind, size, self.latents)
        if kind in self.fitted_priors:  # so that it becomes the last
            del self.fitted_priors[kind]
        self.fitted_priors[kind] = priors
        self._record(f"prior {kind}", Addition("prior", {"kind": kind, "size": used}))

    def decode(self, draws: Sequence[Draw], covariates: Tensor | None) -> list[dict[str, Tensor]]:
        """Decode draws, each decoder once on all draws that need it.

        Args:
            draws: latents and targets.
            covariates: of the rows of all draws, (B, C). None and C = 0 mean the
                average of the training rows. Decoders without covariates ignore them.

        Returns:
            Raw outputs of each draw, by target, (K, B, *output_shape).

        Raises:
            ValueError: another number of columns.
        """
        self._check_columns(covariates)
        outputs: list[dict[str, Tensor]] = [{} for _ in draws]
        for name, decoder in self.decoders.items():
            wanted = [i for i, draw in enumerate(draws) if name in draw.targets]
            if not wanted:
                continue
            inputs = [self._input(draws[i].latents, name, covariates) for i in wanted]
            raw = self._in_chunks(decoder, torch.cat([u.flatten(0, -2) for u in inputs]))
            for i, u, part in zip(
                wanted, inputs, raw.split([u.shape[:-1].numel() for u in inputs]), strict=True
            ):
                outputs[i][name] = part.unflatten(0, u.shape[:-1])
        return outputs

    def _check_columns(self, covariates: Tensor | None) -> None:
        if not self.covariates or covariates is None:
            return
        if (count := covariates.shape[-1]) not in (0, len(self.covariates)):
            raise ValueError(
                f"there are {count} covariates, and decoders read {', '.join(self.covariates)}; give all of them"
            )

    def observe(self, batch: Batch) -> None:
        """Track, in training, the statistics of the data that generation needs: totals
        of counts, mean covariates, means of entries with gaps.

        Raises:
            ValueError: a batch without the covariates that decoders read.
        """
        if self.covariates and batch.covariates.shape[1] == 0:
            raise ValueError(
                f"the batch has no covariates, and decoders read {', '.join(self.covariates)}; give them to the split or the batch"
            )
        for name in self.names:
            present = batch.present[name]
            self.likelihood(name).observe(batch.x[name], present)
            if (moments := self.decoder(name).mean_covariates) is not None:
                moments(batch.covariates[present])
            if (filler := self.decoder(name).filler) is not None:
                filler.observe(batch.x[name], batch.observed(name))

    @property
    def knows_scale(self) -> bool:
        """Whether the model remembers the scale of any training values."""
        return any(bool(self.decoder(name).scale_seen.any()) for name in self.names)

    def remember_scale(self, batch: Batch) -> None:
        """Remember the mean and standard deviation of the real values of training rows.
        Questions then warn of values on another scale."""
        for name, modality in self.modalities.items():
            values = batch.x[name][batch.observed(name)]
            if kind(modality) == "real values" and values.numel() > 1:
                self.decoder(name).scale_seen.copy_(torch.stack([values.mean(), values.std()]))

    def on_another_scale(self, batch: Batch) -> str | None:
        """A message that names a modality whose real values lie far from those of
        training; None if all lie near."""
        for name in self.names:
            mean, std = self.decoder(name).scale_seen.tolist()
            observed = batch.observed(name) if std > 0 else slice(0)
            values = batch.x[name][observed]
            far = float(((values - mean) / std).square().mean().sqrt()) if values.numel() else 0.0
            if far > FAR_FROM_TRAINING:
                return (
                    f"modality {name!r}: values lie {far:.3g} standard deviations from the mean of training ({mean:.3g} ± {std:.3g});"
                    " are they on another scale?"
                )
        return None

    def log_prob(self, name: str, raw: Tensor, batch: Batch) -> Tensor:
        """log p(x_m | raw) of the observed entries, (K, B); 0 in rows without the
        modality.

        Args:
            name: of the modality.
            raw: outputs of its decoder, (K, B, *output_shape).
            batch: the rows.
        """
        likelihood = self.likelihood(name)
        x = batch.x[name]
        present = batch.present[name]
        if likelihood.exact:
            there = batch.observed(name) if name in batch.entries else None
            return present * self._economical(likelihood.log_prob)(raw, x, there)
        return self._surrogate(likelihood, raw, x, present)

    def _surrogate(self, likelihood: Likelihood, raw: Tensor, x: Tensor, present: Tensor) -> Tensor:
        """The surrogate of log p(x_m | raw), (K, B). Its network runs on every draw of
        the present rows, and in parts."""
        lead = raw.shape[: raw.ndim - len(likelihood.output_shape)]
        values = x.expand(*lead, *likelihood.shape).flatten(0, len(lead) - 1)
        total = values.new_zeros(len(values))
        rows = present.expand(lead).flatten().nonzero().squeeze(1)
        if len(rows) == 0:
            return total.view(lead)
        log_prob = self._economical(likelihood.log_prob)
        most = self._most(raw)
        outputs = raw.flatten(0, len(lead) - 1)[rows].split(most)
        parts = zip(outputs, values[rows].split(most), strict=True)
        return total.index_copy(0, rows, torch.cat([log_prob(*part) for part in parts])).view(lead)

    def _most(self, like: Tensor) -> int:
        """Most rows of one call of a decoder."""
        return self.decoder_batch_size or (
            CPU_ROWS if like.device.type == "cpu" else max(like.shape[:-1].numel(), 1)
        )

    def _in_chunks(self, decoder: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        rows = self._most(u)
        decoder = self._economical(decoder)
        return (
            decoder(u) if len(u) <= rows else torch.cat([decoder(part) for part in u.split(rows)])
        )

    def _economical(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function, under activation checkpointing if that is on."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return partial(checkpoint, function, use_reentrant=False)
        return function

    def _input(self, latents: Latents, name: str, covariates: Tensor | None) -> Tensor:
        """[z, w_m, c], (K, B, D + D_m + C)."""
        parts = [latents.shared]
        moments = self.decoder(name).mean_covariates
        if name in self.private_priors:
            parts.append(latents.private[name])
        if moments is not None:
            known = moments.mean if covariates is None or covariates.shape[-1] == 0 else covariates
            parts.append(known.expand(*latents.shared.shape[:-1], -1))
        return torch.cat(parts, -1)

    def draw_prior(self, key: str, shape: tuple[int, ...], *, prior: str = "standard") -> Tensor:
        """Draw latents from a prior, (*shape, dim).

        Args:
            key: of the latent, see :mod:`counterpoint.core.latents`.
            shape: of the draws.
            prior: ``"standard"``, the density of the objective, or the kind of a fitted
                prior.
        """
        if prior != "standard":
            drawn = self.fitted_prior(prior, key).sample(torch.Size(shape).numel())
            return drawn.unflatten(0, shape)
        name = modality_of(key)
        density = self.prior if name is None else self.private_priors[name]
        return density().rsample(torch.Size(shape))
