"""METHODS: the methods by the name that they have on the command line."""

from __future__ import annotations

from counterpoint.core.registry import Registry
from counterpoint.methods.diffmvae import DiffMVAE
from counterpoint.methods.dmvae import DMVAE
from counterpoint.methods.idmvae import IDMVAE
from counterpoint.methods.iterative import IterativeMVAE
from counterpoint.methods.jmvae import JMVAE
from counterpoint.methods.jnf import JNF
from counterpoint.methods.jnfshared import JNFShared
from counterpoint.methods.method import Method
from counterpoint.methods.mmvae import MMVAE
from counterpoint.methods.mmvaeplus import MMVAEPlus
from counterpoint.methods.mopoe import MoPoE
from counterpoint.methods.mvae import MVAE
from counterpoint.methods.mvtcae import MVTCAE

_NAMED: tuple[type[Method], ...] = (
    IDMVAE,
    JNF,
    JNFShared,
    MMVAE,
    MMVAEPlus,
    MVAE,
    MoPoE,
    MVTCAE,
    JMVAE,
    DMVAE,
    DiffMVAE,
    IterativeMVAE,
)

METHODS: Registry[type[Method]] = Registry("method", {kind.name: kind for kind in _NAMED})
"""The methods by name."""


def method_named(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        ValueError: an unknown name.

    >>> method_named("jnf").__name__
    'JNF'
    """
    return METHODS.named(name)


def register(method: type[Method]) -> type[Method]:
    """Add a method of your own, under its ``name``; also a class decorator.

    The command line then trains it, and :func:`~counterpoint.load` opens it.

    >>> import counterpoint as cp
    >>> cp.register(cp.MVAE) is cp.METHODS["mvae"]  # it was registered before
    True
    >>> class Mine(cp.Method):
    ...     name = "mvae"
    >>> cp.register(Mine)
    Traceback (most recent call last):
    ValueError: method 'mvae' is there already; give another name

    Raises:
        ValueError: another method has the name.
    """
    METHODS.register(method.name, method)
    return method
