"""Training: one call, one run folder, exact resumption.

``fit`` averages a method's named terms over the batch and steps down their sum.
Everything about machines (devices, precision, processes, loggers) is PyTorch
Lightning's; everything about what is learned is the method's.
"""

from counterpoint.training.afterwards.decoder import fit_decoder
from counterpoint.training.afterwards.prior import fit_prior
from counterpoint.training.afterwards.refiner import fit_refiner
from counterpoint.training.fitting import fit
from counterpoint.training.options import FitOptions
from counterpoint.training.result import FitResult, NonFiniteLoss

__all__ = [
    "FitOptions",
    "FitResult",
    "NonFiniteLoss",
    "fit",
    "fit_decoder",
    "fit_prior",
    "fit_refiner",
]
