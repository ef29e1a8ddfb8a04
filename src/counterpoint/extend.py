"""What users extend: base classes, and the registries where parts get a name.

A registered name can stand in a configuration, on the command line and in
``config.json``. Register before :func:`counterpoint.load` opens what uses it.

    register                      a method, of class Method with configured_by(options)
    register_likelihood           a likelihood of real values, for Modality.likelihood
    NETWORKS.register             encoders and decoders, for NetworkOptions.kind
    SOLVERS.register              a walk from noise to values, for DenoiserOptions.solver
    FITTED_PRIORS.register        a prior that fit_prior fits, for its kind

Without a registry, as arguments of constructors: a ``Rule`` that joins encoders, a
``Loss`` with its ``Stage``, and any ``nn.Module`` as encoder or decoder of a ``Model``.

>>> from counterpoint import extend
>>> sorted(extend.SOLVERS)
['ancestral', 'ddim', 'dpm++', 'heun', 'pc']
"""

from counterpoint.core.registry import Registry
from counterpoint.diffusion.solvers import SOLVERS, Solver
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.methods.registry import METHODS, register
from counterpoint.model.fitted_priors import (
    FITTED_PRIORS,
    EstimatedPrior,
    FittedPrior,
    PriorKind,
    TrainedPrior,
)
from counterpoint.model.likelihood import Likelihood
from counterpoint.model.likelihoods import LIKELIHOODS, register_likelihood
from counterpoint.model.rules import Rule
from counterpoint.nn.options import NETWORKS, NetworkKind
from counterpoint.objectives.loss import Loss
from counterpoint.objectives.stages import Ramp, Stage

__all__ = [
    "FITTED_PRIORS",
    "LIKELIHOODS",
    "METHODS",
    "NETWORKS",
    "SOLVERS",
    "CommonOptions",
    "EstimatedPrior",
    "FittedPrior",
    "Likelihood",
    "Loss",
    "Method",
    "NetworkKind",
    "PriorKind",
    "Ramp",
    "Registry",
    "Rule",
    "Solver",
    "Stage",
    "TrainedPrior",
    "build",
    "configured_by",
    "register",
    "register_likelihood",
]
