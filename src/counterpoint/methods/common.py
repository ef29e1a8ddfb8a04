"""Parts that the constructors of the named methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from counterpoint.core.modality import Modality
from counterpoint.methods.options import CommonOptions, MixtureOptions
from counterpoint.model.decoders import Decoder
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.encoders import Encoder, Towers
from counterpoint.model.likelihoods import likelihood
from counterpoint.model.model import Model
from counterpoint.model.posteriors import Posterior
from counterpoint.model.priors import Prior
from counterpoint.model.rules import Rule
from counterpoint.nn.build import generator
from counterpoint.objectives.bound import Bound, of_everything
from counterpoint.objectives.routes import Routes, SinglesToSome, singles_to_everything


def mixture_bound(modalities: Sequence[Modality], options: MixtureOptions) -> Bound:
    """The bound of a mixture of experts: each modality in turn is the source of z.

    Raises:
        ValueError: ``cross_targets`` is below 1 or above the number of others.
    """
    return Bound(
        singles(modalities, options.cross_targets),
        estimator=options.estimator,
        samples=options.samples,
        beta=options.beta,
        density=of_everything,
    )


def singles(modalities: Sequence[Modality], cross_targets: int | None) -> Routes:
    """Routes from each modality to all, or to itself and some random others.

    Args:
        cross_targets: the number of others; None for all.

    Raises:
        ValueError: ``cross_targets`` is below 1 or above the number of others.
    """
    if cross_targets is None:
        return singles_to_everything
    if not 1 <= cross_targets < len(modalities):
        raise ValueError(
            f"cross_targets={cross_targets} must lie in 1..{len(modalities) - 1} for {len(modalities)} modalities, or be None"
        )
    return SinglesToSome(cross_targets)


def check_modalities(modalities: Sequence[Modality]) -> None:
    """Refuse an empty list and repeated names, by ValueError."""
    names = [m.name for m in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"modalities must be one or more with distinct names, got {names}")


def build(
    modalities: Sequence[Modality],
    options: CommonOptions,
    *,
    rule: Rule,
    private_dim: int = 0,
    encoders: Mapping[str, nn.Module] | None = None,
    posterior: str = "normal",
    towers: Towers = "separate",
    scale: float = 1.0,
    prior_scale: bool = False,
    auxiliary: bool = False,
    denoiser: DenoiserOptions | None = None,
) -> Model:
    """Build a model with one encoder and one decoder a modality, joined by a rule.

    Args:
        modalities: in order, with distinct names.
        options: sizes and networks.
        rule: joins what the encoders say.
        private_dim: D_m of every modality; 0 for no private latents.
        encoders: by modality. None builds them from ``options.networks``.
        posterior: family of posteriors and priors, ``"normal"`` or ``"laplace"``.
        towers: separate or shared trunks of the encoders of z and w.
        scale: of p(z) and every p(w_m); learned scales start there.
        prior_scale: learn the scale of p(z).
        auxiliary: add learned auxiliary private priors for cross-reconstruction.
        denoiser: overrides ``options.denoiser``.

    Raises:
        ValueError: no modality, or a name given twice.

    >>> from counterpoint.model.rules import MixtureRule
    >>> build([Modality("x", (3,))], CommonOptions(shared_dim=2), rule=MixtureRule()).latents
    {'z': 2}
    """
    check_modalities(modalities)
    diffusion = options.denoiser if denoiser is None else denoiser
    diffusion.check(modalities)
    prior = partial(Prior, name=posterior, scale=scale)
    private = [m.name for m in modalities] if private_dim else []
    private_priors = {name: prior(private_dim) for name in private}
    shared_prior = prior(options.shared_dim, learned_scale=prior_scale)
    joined = Posterior(
        encoders or _encoders(modalities, options, private_dim, posterior, towers), rule
    )
    decoders = {m.name: _decoder(m, options, private_dim, diffusion) for m in modalities}
    learned = {name: prior(private_dim, learned_scale=True) for name in private if auxiliary}
    return Model(
        modalities,
        prior=shared_prior,
        private_priors=private_priors,
        posterior=joined,
        decoders=decoders,
        auxiliary_priors=learned,
        decoder_batch_size=options.decoder_batch_size,
    )


def _encoders(
    modalities: Sequence[Modality],
    options: CommonOptions,
    private_dim: int,
    posterior: str,
    towers: Towers,
) -> dict[str, nn.Module]:
    return {
        m.name: Encoder(
            m,
            options.shared_dim,
            private_dim,
            networks=options.networks,
            posterior=posterior,
            towers=towers,
        )
        for m in modalities
    }


def _decoder(
    modality: Modality, options: CommonOptions, private_dim: int, denoiser: DenoiserOptions
) -> Decoder:
    """The decoder of a modality, by diffusion where ``denoiser`` names it."""
    covariates = len(modality.covariates)
    size = options.shared_dim + private_dim + covariates
    if modality.name not in denoiser.modalities:
        density = likelihood(modality)
        network = generator(modality, size, density.output_shape, options.networks)
        return Decoder(network, density, covariates)
    denoising = Denoising(modality, size, denoiser)
    draft = (
        nn.Identity()
        if denoising.coarse is None
        else generator(modality, size, denoising.output_shape, options.networks)
    )
    return Decoder(draft, denoising, covariates)
