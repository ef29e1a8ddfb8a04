"""Images as the latents of a frozen autoencoder, in which a diffusion decoder works on
a map of 4×8×8 instead of 3×64×64 pixels (Rombach et al. 2022,
https://arxiv.org/abs/2112.10752).

With the autoencoder's posterior q(y | x) of images x in [−1, 1] and its decoder g, a
latent and the image it stands for are

    z = (E[y | x] − c) s,    x ≈ g(z / s + c),

where s and c are the autoencoder's own: ``scaling_factor``, which is to give z a
variance of about 1, over ``latents_std``, and ``shift_factor`` or ``latents_mean``.
Most autoencoders have s alone. Channels are not standardised beyond that, so that decoding
needs only the autoencoder. We chose the mean of the posterior: a draw would add noise
that no modality explains.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.documents import read_json
from counterpoint.core.modality import Modality
from counterpoint.core.optional import required
from counterpoint.core.reading import to_unit
from counterpoint.data.dataset import Dataset
from counterpoint.data.sources.files import FolderWriter, new_folder, progress_bar
from counterpoint.data.sources.packing import carry_over
from counterpoint.data.split import Split

ROWS = 32
"""Most rows that pass through an autoencoder at once."""

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

_WANTED = f"an autoencoder is a folder with {CONFIG} and {WEIGHTS} of diffusers' AutoencoderKL"


class Autoencoder:
    """Encode and decode images with a frozen AutoencoderKL of diffusers, read from a
    folder. Nothing is downloaded or unpickled. It runs on the GPU if there is one.

    Args:
        folder: holds ``config.json`` and ``diffusion_pytorch_model.safetensors``.

    Attributes:
        record: what tells it from others: checksums (SHA-256) of the two files, and its
            ``scaling_factor``.

    Raises:
        FileNotFoundError: no such folder, or a file that lacks.
        ValueError: pickled weights, another kind of model, or files that can't be read
            or do not fit each other.
        ModuleNotFoundError: diffusers is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.network = _opened(Path(folder))
        self.config = self.network.config
        self.record = {
            "autoencoder": _checksum(Path(folder) / CONFIG),
            "weights": _checksum(Path(folder) / WEIGHTS),
            "scaling_factor": self.config.scaling_factor,
        }
        # How many pixels make a side of a latent.
        self.factor = 2 ** (len(self.config.block_out_channels) - 1)
        channels = self.config.latent_channels
        self.center = self._per_channel(
            self.config.latents_mean or [self.config.shift_factor or 0.0] * channels
        )
        self.spread = (
            self._per_channel(self.config.latents_std or [1.0] * channels)
            / self.config.scaling_factor
        )

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents of images of a shape.

        Raises:
            ValueError: no such images can be encoded.
        """
        if (
            len(shape) != 3
            or shape[0] != self.config.in_channels
            or any(side % self.factor for side in shape[1:])
        ):
            raise ValueError(
                f"the autoencoder reads images of {self.config.in_channels} channels and sides that {self.factor} divides, got shape {shape}"
            )
        return self.config.latent_channels, *(side // self.factor for side in shape[1:])

    def image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the images that latents of a shape stand for.

        Raises:
            ValueError: no latents of this autoencoder.
        """
        if len(shape) != 3 or shape[0] != self.config.latent_channels:
            raise ValueError(
                f"the autoencoder has latents of {self.config.latent_channels} channels, got values of shape {shape}"
            )
        return self.config.out_channels, *(side * self.factor for side in shape[1:])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, C, H, W) in [0, 1] as latents (N, c, h, w)."""
        self.latent_shape(tuple(images.shape[1:]))
        parts = [self.network.encode(2 * part - 1).latent_dist.mean for part in self._parts(images)]
        return ((torch.cat(parts) - self.center) / self.spread).to(images.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (..., c, h, w) to images (..., C, H, W) in [0, 1]."""
        shape = self.image_shape(tuple(latents.shape[-3:]))
        parts = [
            self.network.decode(part * self.spread + self.center).sample
            for part in self._parts(latents.reshape(-1, *latents.shape[-3:]))
        ]
        images = (0.5 * torch.cat(parts) + 0.5).clamp(0, 1)
        return images.to(latents.device).view(*latents.shape[:-3], *shape)

    def _parts(self, values: Tensor) -> Iterator[Tensor]:
        return (part.to(self.network.device) for part in values.split(ROWS))

    def _per_channel(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self.network.device).view(-1, 1, 1)


def latents(
    data: Dataset,
    autoencoder: str | Path | Autoencoder,
    out: str | Path,
    *,
    modality: str | None = None,
    progress: bool = True,
) -> Path:
    """Write a data set again, the images of one modality as latents; :func:`load` opens
    the folder as memory maps.

    The latents are unbounded, normal with a learned scale. Other modalities, presence
    and labels are as they were; absent rows hold zeros. The notes say which autoencoder
    it was and of what images.

    Args:
        autoencoder: one, or its folder.
        out: the folder to make.
        modality: the images; by default the only modality of images.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: no such modality, or images that can't be encoded.
        OSError: no autoencoder, a full disk, or a folder that holds something. Nothing
            half-written remains.
    """
    image = _chosen(data, modality)
    encoder = autoencoder if isinstance(autoencoder, Autoencoder) else Autoencoder(autoencoder)
    shape = encoder.latent_shape(image.shape)
    latent = replace(image, shape=shape, likelihood="normal", scale=None, unbounded=True)
    with new_folder(Path(out)) as folder, progress_bar(progress) as bar:
        task = bar.add_task(f"encoding {image.name}", total=sum(map(len, data.splits().values())))
        writer = FolderWriter(folder)
        for part, split in data.splits().items():
            blocks = _encoded(
                encoder, split, image.name, shape, lambda made: bar.advance(task, made)
            )
            writer.array(f"{part}/{image.name}", blocks, (len(split), *shape), np.float32)
            carry_over(writer, part, split, but=[image.name])
        spread = _deviation(
            folder / "train" / f"{image.name}.npy", data.splits()["train"].present[image.name]
        )
        if not 0.5 <= spread <= 2:
            warnings.warn(
                f"the latents of {image.name!r} have a standard deviation of {spread:.2g}, and diffusion expects about 1;"
                f" scaling_factor {encoder.config.scaling_factor / spread:.4g} in the autoencoder's {CONFIG} would give that",
                stacklevel=2,
            )
        pixels = "×".join(map(str, image.shape))
        about = ", ".join(f"{key} {value}" for key, value in encoder.record.items())
        writer.manifest(
            f"{data.name}-latents",
            {
                "data": data.name,
                "modality": image.name,
                "image_shape": list(image.shape),
                **encoder.record,
            },
            [latent if m.name == image.name else m for m in data.modalities],
            {
                **data.notes,
                f"latents/{image.name}": f"of images {pixels}; {about}; standard deviation {spread:.3g} in training",
            },
        )
    return Path(out)


def _chosen(data: Dataset, name: str | None) -> Modality:
    """The modality to encode.

    Raises:
        ValueError: no such modality, no image, or several to choose from.
    """
    images = {m.name: m for m in data.modalities if len(m.shape) == 3 and m.unit}
    if name is None and len(images) == 1:
        return next(iter(images.values()))
    if name not in images:
        given = (
            "which images to encode is not said"
            if name is None
            else f"{name!r} is no modality of images in [0, 1]"
        )
        raise ValueError(
            f"{given}; modality must be one of {', '.join(images)}"
            if images
            else f"{data.name!r} holds no images in [0, 1]"
        )
    return images[name]


def _encoded(
    encoder: Autoencoder,
    split: Split,
    name: str,
    shape: tuple[int, ...],
    made: Callable[[int], None],
) -> Iterator[np.ndarray]:
    for start in range(0, len(split), ROWS):
        rows = slice(start, start + ROWS)
        here = torch.from_numpy(np.array(split.present[name][rows]))
        block = torch.zeros(len(here), *shape)
        if bool(here.any()):
            block[here] = encoder.encode(
                to_unit(torch.from_numpy(np.array(split.x[name][rows]))[here])
            )
        made(len(block))
        yield block.numpy()


def _deviation(path: Path, present: np.ndarray) -> float:
    """Standard deviation of the latents of a file, over the rows that are there."""
    return float(np.load(path, mmap_mode="r", allow_pickle=False)[present].std())


def _opened(folder: Path) -> Any:
    """The network of a folder, frozen."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; {_WANTED}, and none is downloaded")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = name == WEIGHTS and any(folder.glob("*.bin"))
            also = (
                "; pickled weights are not read: save it again with safe_serialization=True"
                if pickled
                else ""
            )
            raise FileNotFoundError(f"{folder} holds no {name}; {_WANTED}{also}")
    if (folder / f"{WEIGHTS}.index.json").exists():
        raise ValueError(
            f"{folder} holds weights in several files; save it again in one, with a larger max_shard_size"
        )
    try:
        kind = read_json(folder / CONFIG).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG} is no configuration ({error}); {_WANTED}") from None
    if kind != "AutoencoderKL":
        raise ValueError(
            f"{folder} holds {kind or 'a model without a name'}, expected AutoencoderKL; {_WANTED}"
        )
    network, found = _read(folder)
    stray = [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]
    if stray:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit its {CONFIG}: {stray[0]} is missing, unknown or of another shape; save both again"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.float().eval().requires_grad_(False).to(device)


def _read(folder: Path) -> tuple[Any, dict[str, list[Any]]]:
    """The network of a folder, and which of its weights were not found."""
    kind = required("diffusers", "diffusion").AutoencoderKL
    try:
        return kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # of many kinds
        raise ValueError(
            f"{folder} holds no autoencoder that can be read ({' '.join(str(error).split())}); {_WANTED}"
        ) from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
