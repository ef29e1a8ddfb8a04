"""Training: one call, one run folder, exact resumption.

``fit`` averages a method's named terms over the batch and steps down their sum. Everything about machines (devices, precision,
processes, loggers) is PyTorch Lightning's; everything about what is learned is the method's.
"""

from .decoder import fit_decoder
from .options import FitOptions
from .prior import fit_prior
from .refiner import fit_refiner
from .run import FitResult, NonFiniteLoss, fit

__all__ = ["FitOptions", "FitResult", "NonFiniteLoss", "fit", "fit_decoder", "fit_prior", "fit_refiner"]
