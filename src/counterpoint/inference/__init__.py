"""What a trained model answers, and how its posteriors are refined.

Functions of a model and an encoding; they hold no state. Gradients and modes are the caller's business.
"""

from .answers import (
    Diagnostics,
    completed,
    diagnose,
    divergence,
    log_likelihood,
    means,
    posterior_latents,
)
from .bounds import Approximation, approximation, elbo, measured
from .imputation import Imputation, imputed, interval
from .iterative import Refiner, RefinerOptions, Trace, ascended, refined, refinement, refiner_of

__all__ = [
    "Approximation",
    "Diagnostics",
    "Imputation",
    "Refiner",
    "RefinerOptions",
    "Trace",
    "approximation",
    "ascended",
    "completed",
    "diagnose",
    "divergence",
    "elbo",
    "imputed",
    "interval",
    "log_likelihood",
    "means",
    "measured",
    "posterior_latents",
    "refined",
    "refinement",
    "refiner_of",
]
