"""The methods: one short file each over the shared parts. ``METHODS`` maps the command line's names to classes."""

from __future__ import annotations

import textwrap
from pathlib import Path

from counterpoint import checks
from counterpoint.denoising import DenoiserOptions
from counterpoint.documents import read_json
from counterpoint.inference import Refiner, RefinerOptions, refiner_of
from counterpoint.memory import Budget, TooLarge
from counterpoint.methods.base import Method
from counterpoint.methods.diffmvae import DiffMVAE
from counterpoint.methods.idmvae import IDMVAE
from counterpoint.methods.iterative import IterativeMVAE
from counterpoint.methods.jmvae import JMVAE
from counterpoint.methods.jnf import JNF, JNFShared
from counterpoint.methods.mmvae import MMVAE, MMVAEPlus
from counterpoint.methods.mopoe import MoPoE
from counterpoint.methods.product import DMVAE, MVAE, MVTCAE
from counterpoint.methods.stages import Ramp, Stage
from counterpoint.types import Modality

SPARE = 2**28
"""Bytes of memory that a model may take beyond four times those of its weights: masks, schedules and what is needed to make them."""

METHODS: dict[str, type[Method]] = {
    m.name: m for m in (IDMVAE, JNF, JNFShared, MMVAE, MMVAEPlus, MVAE, MoPoE, MVTCAE, JMVAE, DMVAE, DiffMVAE, IterativeMVAE)
}

__all__ = [
    "DMVAE",
    "IDMVAE",
    "JMVAE",
    "JNF",
    "METHODS",
    "MMVAE",
    "MVAE",
    "MVTCAE",
    "DiffMVAE",
    "IterativeMVAE",
    "JNFShared",
    "MMVAEPlus",
    "Method",
    "MoPoE",
    "Ramp",
    "Stage",
    "load",
]


def method(name: str) -> type[Method]:
    """The class of the method called ``name``.

    Raises:
        ValueError: an unknown name.
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


@checks.arguments
def load(folder: str | Path) -> Method:
    """Open what ``save_pretrained`` wrote; a run folder is taken by its ``model/``.

    Raises:
        FileNotFoundError: no model there.
        ValueError: files that are damaged or do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if (folder / "model").is_dir():
        folder = folder / "model"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}; give a run folder or one written by save_pretrained")
    weights = folder / "model.safetensors"
    try:
        record = read_json(folder / "config.json")
        with Budget(4 * weights.stat().st_size + SPARE):
            modalities = [Modality(**m) for m in record["modalities"]]
            fresh = method(record["method"]).from_config(modalities, record["config"])
            for kind, size in record["samplers"].items():
                fresh.model.add_samplers(kind, size)
            for options in record.get("denoisers", ()):
                fresh.model.put_denoisers(DenoiserOptions(**options))
            if found := record.get("refiner"):
                fresh.model.put_refiner(Refiner(modalities, found["latents"], RefinerOptions(**found["options"]), beta=found["beta"]))
                refiner_of(fresh.model)
    except TooLarge:
        raise ValueError(
            f"{folder / 'config.json'} asks for a model far larger than the {weights.stat().st_size:,} bytes of {weights.name}; "
            "restore it or train again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged ({error}); restore it or train again") from error
    try:
        fresh.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = textwrap.shorten(str(error).partition(":")[2] or str(error), 160)  # of torch's, what comes after the name of the class
        raise ValueError(f"{weights} is damaged, of another model or of another version ({reason}); restore it or train again") from error
    return fresh.eval()
