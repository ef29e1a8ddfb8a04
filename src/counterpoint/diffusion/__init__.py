"""Diffusion models of vectors and images, for latent priors and for decoders.

schedule     how signal turns into noise over time
process      noising, what a network may predict, losses, the variational bound
solvers      from noise to values: stochastic ones, and those of the probability-flow equation
networks     denoisers of vectors and of images
external     larger denoisers of images, made of the blocks of diffusers
"""

from counterpoint.diffusion.external import DiT, UNet2D
from counterpoint.diffusion.networks import Conditioning, TimeMLP, UNet
from counterpoint.diffusion.process import GaussianDiffusion, Network, Prediction, Weighting
from counterpoint.diffusion.schedule import Schedule, alpha_bars
from counterpoint.diffusion.solvers import SOLVERS, Solver, sample

__all__ = [
    "SOLVERS",
    "Conditioning",
    "DiT",
    "GaussianDiffusion",
    "Network",
    "Prediction",
    "Schedule",
    "Solver",
    "TimeMLP",
    "UNet",
    "UNet2D",
    "Weighting",
    "alpha_bars",
    "sample",
]
