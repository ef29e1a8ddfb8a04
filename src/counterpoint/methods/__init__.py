"""Methods: one short file each over the shared parts.

``METHODS`` has the classes by the names of the command line.
"""

from counterpoint.methods.diffmvae import DiffMVAE
from counterpoint.methods.dmvae import DMVAE
from counterpoint.methods.idmvae import IDMVAE
from counterpoint.methods.iterative import IterativeMVAE
from counterpoint.methods.jmvae import JMVAE
from counterpoint.methods.jnf import JNF
from counterpoint.methods.jnfshared import JNFShared
from counterpoint.methods.loading import load
from counterpoint.methods.method import Method
from counterpoint.methods.mmvae import MMVAE
from counterpoint.methods.mmvaeplus import MMVAEPlus
from counterpoint.methods.mopoe import MoPoE
from counterpoint.methods.mvae import MVAE
from counterpoint.methods.mvtcae import MVTCAE
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.methods.registry import METHODS, method_named, register
from counterpoint.objectives.stages import Ramp, Stage

__all__ = [
    "DMVAE",
    "IDMVAE",
    "JMVAE",
    "JNF",
    "METHODS",
    "MMVAE",
    "MVAE",
    "MVTCAE",
    "CommonOptions",
    "DiffMVAE",
    "IterativeMVAE",
    "JNFShared",
    "MMVAEPlus",
    "Method",
    "MoPoE",
    "Ramp",
    "Stage",
    "configured_by",
    "load",
    "method_named",
    "register",
]
