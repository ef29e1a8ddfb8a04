"""What is fitted to a trained method afterwards: priors, diffusion decoders, refiners."""

from counterpoint.training.afterwards.decoder import fit_decoder
from counterpoint.training.afterwards.prior import fit_prior
from counterpoint.training.afterwards.refiner import fit_refiner

__all__ = [
    "fit_decoder",
    "fit_prior",
    "fit_refiner",
]
