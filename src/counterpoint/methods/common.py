"""What the constructors of the named methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from counterpoint.core.modality import Modality
from counterpoint.model.decoders import Decoder
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.encoders import Encoder, Towers
from counterpoint.model.likelihoods import likelihood
from counterpoint.model.model import Model
from counterpoint.model.posteriors import Posterior
from counterpoint.model.priors import Prior
from counterpoint.model.rules import Rule
from counterpoint.nn.build import generator
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.routes import Routes, SinglesToSome, singles_to_everything


def singles(modalities: Sequence[Modality], cross_targets: int | None) -> Routes:
    """Each modality to all, or to itself and ``cross_targets`` random others.

    Raises:
        ValueError: more others than there are, or none.
    """
    if cross_targets is None:
        return singles_to_everything
    if not 1 <= cross_targets < len(modalities):
        raise ValueError(
            f"cross_targets={cross_targets} must lie in 1..{len(modalities) - 1} for {len(modalities)} modalities, or be None"
        )
    return SinglesToSome(cross_targets)


def check_sizes(modalities: Sequence[Modality], shared_dim: int, private_dim: int = 0) -> None:
    """Refuse no modality, a name given twice, and latent sizes below 1 (0 for private
    ones), by ValueError."""
    names = [m.name for m in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"modalities must be one or more with distinct names, got {names}")
    if shared_dim < 1 or private_dim < 0:
        raise ValueError(
            f"shared_dim={shared_dim} must be 1 or more and private_dim={private_dim} 0 or more"
        )


def build(
    modalities: Sequence[Modality],
    *,
    rule: Rule,
    shared_dim: int,
    private_dim: int = 0,
    networks: NetworkOptions,
    encoders: Mapping[str, nn.Module] | None = None,
    posterior: str = "normal",
    towers: Towers = "separate",
    scale: float = 1.0,
    prior_scale: bool = False,
    auxiliary: bool = False,
    denoiser: DenoiserOptions = DenoiserOptions(),
    decoder_rows: int | None = None,
) -> Model:
    """The model that the named methods share: one encoder and one decoder a modality,
    joined by ``rule``.

    Args:
        private_dim: D_m of every modality; 0 for none.
        encoders: by modality, where they are not the usual ones.
        posterior: family of posteriors and priors.
        scale: of p(z) and every p(w_m); those that are learned start there.
        prior_scale: learn the scale of p(z).
        auxiliary: learned auxiliary private priors for cross-reconstruction.
        denoiser: which modalities have a diffusion decoder, and of what kind.

    Raises:
        ValueError: no modality, a name given twice, or a latent size below 1.
    """
    check_sizes(modalities, shared_dim, private_dim)
    denoiser.check(modalities)
    names = [m.name for m in modalities]

    def encoder(modality: Modality) -> Encoder:
        return Encoder(
            modality, shared_dim, private_dim, networks=networks, posterior=posterior, towers=towers
        )

    def decoder(modality: Modality) -> Decoder:
        covariates = len(modality.covariates)
        size = shared_dim + private_dim + covariates
        if modality.name not in denoiser.modalities:
            reads = likelihood(modality)
            return Decoder(
                generator(modality, size, reads.output_shape, networks), reads, covariates
            )
        by_denoising = Denoising(modality, size, denoiser)
        draft = (
            nn.Identity()
            if by_denoising.coarse is None
            else generator(modality, size, by_denoising.output_shape, networks)
        )
        return Decoder(draft, by_denoising, covariates)

    def private_priors(learned: bool) -> dict[str, Prior]:
        return {
            name: Prior(private_dim, posterior, scale=scale, learned_scale=learned)
            for name in names
            if private_dim
        }

    return Model(
        modalities,
        prior=Prior(shared_dim, posterior, scale=scale, learned_scale=prior_scale),
        private_priors=private_priors(learned=False),
        posterior=Posterior(encoders or {m.name: encoder(m) for m in modalities}, rule),
        decoders={m.name: decoder(m) for m in modalities},
        auxiliary_priors=private_priors(learned=True) if auxiliary else {},
        decoder_rows=decoder_rows,
    )
