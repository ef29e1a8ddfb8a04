"""The methods: one short file each over the shared parts. ``METHODS`` maps the command
line's names to classes."""

from __future__ import annotations

from pathlib import Path

from counterpoint.core import checks
from counterpoint.core.documents import read_json
from counterpoint.core.memory import Budget, TooLarge
from counterpoint.core.modality import Modality
from counterpoint.inference import Refiner, RefinerOptions, refiner_of
from counterpoint.methods.diffmvae import DiffMVAE
from counterpoint.methods.idmvae import IDMVAE
from counterpoint.methods.iterative import IterativeMVAE
from counterpoint.methods.jmvae import JMVAE
from counterpoint.methods.jnf import JNF, JNFShared
from counterpoint.methods.method import Method
from counterpoint.methods.mmvae import MMVAE, MMVAEPlus
from counterpoint.methods.mopoe import MoPoE
from counterpoint.methods.product import DMVAE, MVAE, MVTCAE
from counterpoint.model import format as saving
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.nn.modules import weights_from
from counterpoint.objectives.stages import Ramp, Stage

SPARE = 2**28
"""Bytes of memory that a model may take beyond four times those of its weights: masks,
schedules and what is needed to make them."""

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
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
    folder = Path(folder)
    if (folder / "model").is_dir():
        folder = folder / "model"
    if not (folder / saving.CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} holds no {saving.CONFIG}; give a run folder or one written by save_pretrained"
        )
    try:
        record = read_json(folder / saving.CONFIG)
        known = saving.named(record)
        held = saving.weights_file(folder, known).stat().st_size
        with (
            Budget(4 * held + SPARE),
            weights_from(0),
        ):  # they are replaced, but to draw them must not move torch's generator
            modalities = [Modality(**m) for m in record["modalities"]]
            fresh = method(record["method"]).from_config(modalities, record["config"])
            unsaid = [option for option in fresh.config if option not in record["config"]]
            if unsaid:  # its default may be another than what the weights were trained with
                raise ValueError(f"it does not say {unsaid[0]!r}, so it is of another version")
            for kind, size in record["samplers"].items():
                fresh.model.add_samplers(kind, size)
            for options in record.get("denoisers", ()):
                fresh.model.put_denoisers(DenoiserOptions(**options))
            if found := record.get("refiner"):
                fresh.model.put_refiner(
                    Refiner(
                        modalities,
                        found["latents"],
                        RefinerOptions(**found["options"]),
                        beta=found["beta"],
                    )
                )
                refiner_of(fresh.model)
    except TooLarge:
        raise ValueError(
            f"{folder / saving.CONFIG} asks for a model far larger than the {held:,} bytes of its weights; restore it or train again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / saving.CONFIG} is damaged ({error}); restore it or train again"
        ) from error
    try:
        fresh.load_state_dict(saving.read_weights(folder, known))
    except RuntimeError as error:
        reason = str(error).partition(":")[2] or str(
            error
        )  # of torch's, what comes after the name of the class
        raise saving.refused(folder / saving.WEIGHTS, reason) from error
    return fresh.eval()
