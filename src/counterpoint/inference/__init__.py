"""What a trained model answers, and how its posteriors are refined.

Functions of a model and an encoding; they hold no state. Gradients and modes are the
caller's business.
"""

from counterpoint.inference.approximations import Approximation, approximation
from counterpoint.inference.bounds import elbo, measured
from counterpoint.inference.diagnostics import Diagnostics, diagnose, divergence
from counterpoint.inference.generation import completed, means, posterior_latents
from counterpoint.inference.imputation import Imputation, imputed, interval
from counterpoint.inference.likelihood import log_likelihood
from counterpoint.inference.refinement import Trace, ascended, refined, trace_of
from counterpoint.inference.refiner import Refiner, RefinerOptions, refiner_of

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
    "refiner_of",
    "trace_of",
]
