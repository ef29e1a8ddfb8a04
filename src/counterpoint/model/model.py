"""A model: a prior on z, priors on each w_m, a posterior, and one decoder a modality.

    p(z, w, x) = p(z) ∏_m p(w_m) p(x_m | z, w_m),      q(z, w | x) = q(z | x_S) ∏_m q(w_m | x_m)

A decoder may read covariates c beside the latents, p(x_m | z, w_m, c): what is known of
a row and should not have to pass them.

``encode`` runs every encoder once. ``decode`` runs every decoder once on all the draws
that need it, stacked along the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality, covariates_of
from counterpoint.core.reading import kind
from counterpoint.model.decoders import Decoder, Draw
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.encoding import Encoding
from counterpoint.model.fitted_priors import Sampler, samplers
from counterpoint.model.likelihoods import Likelihood
from counterpoint.model.posteriors import Posterior
from counterpoint.model.priors import Prior
from counterpoint.nn.modules import ByName
from counterpoint.nn.running import Usual

FAR_FROM_TRAINING = 8.0
"""Root mean square of values, in standard deviations of the training values, from which
a warning is given; that of training rows is 1."""

CPU_ROWS = 256
"""Most rows of a decoder call on a CPU: with 6,400 rows of small convolutions a step
took twice as long (docs/results/speed)."""


class Model(nn.Module):
    """The generative model and its posterior; it knows nothing of losses.

    Args:
        modalities: in order.
        prior: p(z).
        private_priors: p(w_m) by modality; empty without private latents.
        posterior: encoders and the rule that joins them.
        decoders: by modality.
        auxiliary_priors: learned r_m(w), used for cross-reconstruction in training only
            (MMVAE+).
        decoder_rows: at most so many rows in one decoder call; larger stacks are cut,
            which keeps a call in the cache. None: 256 on a CPU, no limit elsewhere.

    Attributes:
        denoisers: the diffusion decoders that took the place of a trained one, by
            modality.
        activation_checkpointing: decode and compare again in the backward pass instead of keeping what
            decoders and likelihoods computed, which must not depend on how often they
            are called (no batch normalisation).
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
        decoder_rows: int | None = None,
    ) -> None:
        super().__init__()
        if decoder_rows is not None and decoder_rows < 1:
            raise ValueError(
                f"decoder_rows={decoder_rows} must be 1 or more, or None for the device's own limit"
            )
        self.modalities = {m.name: m for m in modalities}
        self.covariates = covariates_of(modalities)
        self.prior = prior
        self.private_priors = ByName(private_priors)
        self.private_dims = {name: prior.dim for name, prior in private_priors.items()}
        self.auxiliary_priors = ByName(auxiliary_priors or {})
        self.posterior = posterior
        self.decoders = ByName(decoders)
        self.samplers = nn.ModuleDict()
        self.refiners = nn.ModuleList()
        self.sampler_sizes: dict[str, int] = {}
        self.denoisers: dict[str, DenoiserOptions] = {}
        self.decoder_rows = decoder_rows
        self.activation_checkpointing = False

    @property
    def refiner(self) -> nn.Module | None:
        """What refines the posterior (:mod:`counterpoint.inference.refinement`), where
        there is one."""
        return self.refiners[0] if len(self.refiners) else None

    def put_refiner(self, refiner: nn.Module | None) -> None:
        """Take a refiner, or none, in the place of any that is there."""
        while len(self.refiners):
            del self.refiners[0]
        self.refiners.extend([] if refiner is None else [refiner])

    def put_denoisers(self, options: DenoiserOptions) -> None:
        """Untrained diffusion decoders in the place of those of the modalities that
        ``options`` name.

        Raises:
            ValueError: no name, an unknown one, or a modality that can't be drawn so.
        """
        options.check([*self.modalities.values()])
        if not options.modalities:
            raise ValueError(f"denoiser names no modality; choose some of {', '.join(self.names)}")
        made = {}
        for name in options.modalities:
            size = (
                self.shared_dim
                + self.private_dims.get(name, 0)
                + len(self.modalities[name].covariates)
            )
            made[name] = self.decoder(name).denoised(
                Denoising(self.modalities[name], size, options)
            )
        self.decoders.update(made)
        self.denoisers |= {name: replace(options, modalities=(name,)) for name in made}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.modalities)

    @property
    def shared_dim(self) -> int:
        return self.prior.dim

    @property
    def latents(self) -> dict[str, int]:
        """Sizes of z ("z") and of every w_m ("w_" and the modality)."""
        return {"z": self.shared_dim} | {
            f"w_{name}": dim for name, dim in self.private_dims.items()
        }

    def decoder(self, name: str) -> Decoder:
        return cast(Decoder, self.decoders[name])

    def likelihood(self, name: str) -> Likelihood:
        return self.decoder(name).likelihood

    @property
    def denoisings(self) -> dict[str, Denoising]:
        """By modality, what draws it by diffusion."""
        reads = {name: self.likelihood(name) for name in self.names}
        return {name: by for name, by in reads.items() if isinstance(by, Denoising)}

    @property
    def fillers(self) -> list[Usual]:
        """What encoders read in gaps, of the modalities that have any."""
        return [filler for name in self.names if (filler := self.decoder(name).filler) is not None]

    @property
    def surrogates(self) -> list[str]:
        """Modalities whose decoder has no exact density."""
        return [name for name in self.names if not self.likelihood(name).exact]

    def sampler(self, kind: str, name: str) -> Sampler:
        """The learned sampler of z ("z") or of w_m ("w_" and a modality)."""
        return cast(Sampler, cast(nn.ModuleDict, self.samplers[kind])[name])

    def encode(self, batch: Batch) -> Encoding:
        """What the encoders say of a batch, in whose gaps they read what is usual
        there."""
        fillers = {
            name: filler
            for name in batch.entries
            if (filler := self.decoder(name).filler) is not None
        }
        if not fillers:
            return self.posterior.encode(batch)
        filled = {
            name: filler(batch.x[name], batch.entries[name]) for name, filler in fillers.items()
        }
        return self.posterior.encode(replace(batch, x={**batch.x, **filled}))

    def add_samplers(self, kind: str, size: int | None = None) -> None:
        """Samplers of one kind for z and every w_m, not yet fitted, in the place of any
        that are there; keys "z", and "w_" and a modality.

        Args:
            kind: ``"diffusion"``, ``"score"``, ``"score-ode"``, ``"flow"`` or
                ``"gmm"``.
            size: width of the networks, or number of components; None for the usual.

        Raises:
            ValueError: an unknown kind, or a size below 1.
        """
        made, used = samplers(kind, size, self.latents)
        if kind in self.samplers:  # so that it becomes the last
            del self.samplers[kind]
        self.samplers[kind] = made
        self.sampler_sizes = {
            **{k: v for k, v in self.sampler_sizes.items() if k != kind},
            kind: used,
        }

    def decode(self, draws: Sequence[Draw], covariates: Tensor | None) -> list[dict[str, Tensor]]:
        """Raw decoder outputs of each draw, by target, (K, B, *output_shape).

        Args:
            covariates: of the rows of all draws, (B, C). None, and C = 0, stand for the
                average of the training rows. Where no decoder reads any, they change
                nothing.

        Raises:
            ValueError: another number of columns.
        """
        if (
            self.covariates
            and covariates is not None
            and covariates.shape[-1] not in (0, len(self.covariates))
        ):
            raise ValueError(
                f"there are {covariates.shape[-1]} covariates, and decoders read {', '.join(self.covariates)}; give all of them"
            )
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

    def observe(self, batch: Batch) -> None:
        """Let decoders that train take account of what generation needs to know of the
        data.

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
            if (usual := self.decoder(name).usual) is not None:
                usual(batch.covariates[present])
            if (filler := self.decoder(name).filler) is not None:
                filler.observe(batch.x[name], batch.observed(name))

    @property
    def knows_scale(self) -> bool:
        """Whether it remembers the scale of any training values."""
        return any(bool(self.decoder(name).scale_seen.any()) for name in self.names)

    def remember_scale(self, batch: Batch) -> None:
        """Keep mean and standard deviation of the real values of some training rows, so
        that values on another scale are noticed."""
        for name, modality in self.modalities.items():
            values = batch.x[name][batch.observed(name)]
            if kind(modality) == "real values" and values.numel() > 1:
                self.decoder(name).scale_seen.copy_(torch.stack([values.mean(), values.std()]))

    def on_another_scale(self, batch: Batch) -> str | None:
        """Which real values lie nowhere near those of training, in words; None where
        all do."""
        for name in self.names:
            mean, std = self.decoder(name).scale_seen.tolist()
            values = batch.x[name][batch.observed(name)] if std > 0 else batch.x[name][:0]
            far = float(((values - mean) / std).square().mean().sqrt()) if values.numel() else 0.0
            if far > FAR_FROM_TRAINING:
                return (
                    f"modality {name!r}: values lie {far:.3g} standard deviations from the mean of training ({mean:.3g} ± {std:.3g});"
                    " are they on another scale?"
                )
        return None

    def log_prob(self, name: str, raw: Tensor, batch: Batch) -> Tensor:
        """log p(x_m | raw), (K, B), of the decoder's raw outputs (K, B, *output_shape)
        and what of a batch is there; 0 in rows without the modality."""
        likelihood, x, present = self.likelihood(name), batch.x[name], batch.present[name]
        if likelihood.exact:
            there = batch.observed(name) if name in batch.entries else None
            return present * self._economical(likelihood.log_prob)(raw, x, there)
        lead = raw.shape[: raw.ndim - len(likelihood.output_shape)]
        values = x.expand(*lead, *likelihood.shape).flatten(0, len(lead) - 1)
        rows = (
            present.expand(lead).flatten().nonzero().squeeze(1)
        )  # a surrogate has a network of its own to run on every draw
        parts = zip(
            *(t[rows].split(self._most(raw)) for t in (raw.flatten(0, len(lead) - 1), values)),
            strict=True,
        )
        found = [self._economical(likelihood.log_prob)(*part) for part in parts if len(rows)]
        total = values.new_zeros(len(values))
        return (total.index_copy(0, rows, torch.cat(found)) if found else total).view(lead)

    def _most(self, like: Tensor) -> int:
        """Most rows of one call of a decoder."""
        return self.decoder_rows or (
            CPU_ROWS if like.device.type == "cpu" else max(like.shape[:-1].numel(), 1)
        )

    def _in_chunks(self, decoder: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        rows = self._most(u)
        decoder = self._economical(decoder)
        return (
            decoder(u) if len(u) <= rows else torch.cat([decoder(part) for part in u.split(rows)])
        )

    def _economical(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function, or one that computes its value again in the backward pass and
        keeps only its inputs until then."""
        return (
            partial(checkpoint, function, use_reentrant=False)
            if self.activation_checkpointing and torch.is_grad_enabled()
            else function
        )

    def _input(self, latents: Latents, name: str, covariates: Tensor | None) -> Tensor:
        """[z, w_m, c], (K, B, D + D_m + C)."""
        parts, usual = [latents.shared], self.decoder(name).usual
        if name in self.private_priors:
            parts.append(latents.private[name])
        if usual is not None:
            known = usual.mean if covariates is None or covariates.shape[-1] == 0 else covariates
            parts.append(known.expand(*latents.shared.shape[:-1], -1))
        return torch.cat(parts, -1)

    def draw_prior(self, name: str, shape: tuple[int, ...], *, prior: str = "standard") -> Tensor:
        """Latents of the prior, (*shape, dim); ``name`` is "z", or "w_" and a modality.

        Args:
            prior: ``"standard"``, the density of the objective, or the kind of a
                learned sampler.
        """
        if prior != "standard":
            return self.sampler(prior, name).sample(torch.Size(shape).numel()).unflatten(0, shape)
        density = self.prior if name == "z" else self.private_priors[name.removeprefix("w_")]
        return density().rsample(torch.Size(shape))
