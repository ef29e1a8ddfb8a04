"""Backgrounds: synthesised textures, or photos, as uint8 arrays ``(3, height, width)``
from which random crops are cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoint.data.images import decode

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class _Recipe:
    """How one texture looks: the palette's colours from low to high, spectral slope,
    orientation (radians) and elongation of the grain."""

    palette: tuple[tuple[int, int, int], ...]
    slope: float
    angle: float
    stretch: float


# Palettes avoid middle grey, on which an inverted digit vanishes, and red and blue, in which the
# first and last view paint theirs.
_RECIPES = (
    _Recipe(((8, 40, 38), (24, 88, 66), (92, 150, 96), (172, 206, 150)), 1.3, 0.0, 1.0),
    _Recipe(((18, 10, 8), (58, 30, 18), (112, 62, 22), (164, 104, 44)), 1.1, 0.35, 4.0),
    _Recipe(((166, 136, 84), (206, 180, 120), (232, 214, 160), (250, 244, 220)), 1.0, 1.8, 3.0),
    _Recipe(((12, 8, 40), (40, 22, 84), (70, 44, 110), (110, 84, 128)), 1.7, 2.4, 1.5),
    _Recipe(((150, 150, 140), (196, 190, 176), (222, 206, 206), (246, 240, 236)), 0.8, 0.9, 1.2),
)


def texture(view: int, seed: int, side: int = 256) -> np.ndarray:
    """Synthesise the texture of a view, uint8 ``(3, side, side)``: noise with a
    power-law spectrum, mapped through a palette.

    Views differ in palette, smoothness and orientation; beyond the five built-in
    recipes they reappear with channels swapped and turned.
    """
    recipe = _RECIPES[view % len(_RECIPES)]
    again = view // len(_RECIPES)
    rng = np.random.default_rng((seed, view))
    levels = _noise(rng, side, recipe.slope, recipe.angle + 0.7 * again, recipe.stretch)
    tone = np.clip(0.5 + levels / 4, 0, 1)  # two standard deviations span the palette
    stops = np.linspace(0, 1, len(recipe.palette))
    palette = np.roll(np.array(recipe.palette, float), again, axis=1)
    grain = 8 * _noise(rng, side, 0.3, 0.0, 1.0)
    return np.stack(
        [np.clip(np.interp(tone, stops, palette[:, c]) + grain, 0, 255) for c in range(3)]
    ).astype(np.uint8)


def _noise(
    rng: np.random.Generator, side: int, slope: float, angle: float, stretch: float
) -> np.ndarray:
    """Gaussian noise (side, side) of mean 0 and variance 1 whose amplitude falls as
    frequency^-slope; it is periodic."""
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    along = np.cos(angle) * fx + np.sin(angle) * fy
    across = np.cos(angle) * fy - np.sin(angle) * fx
    frequency = np.hypot(stretch * along, across)
    frequency[0, 0] = np.inf
    # Flat below four cycles: a crop meets all tones of the texture.
    amplitude = np.maximum(frequency, 4 / side) ** -slope
    amplitude[0, 0] = 0.0
    noise = np.fft.ifft2(amplitude * np.fft.fft2(rng.standard_normal((side, side)))).real
    return noise / noise.std()


def photos(folder: Path, least: int) -> dict[str, np.ndarray]:
    """Read the photos of a folder, sorted by name: file name to uint8 ``(3, height,
    width)``.

    Args:
        least: the smallest height and width that is of use.

    Raises:
        FileNotFoundError: the folder is not there, or holds no photo.
        ValueError: a photo cannot be read, or is smaller than ``least``.
    """
    paths = (
        sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        if folder.is_dir()
        else []
    )
    if not paths:
        raise FileNotFoundError(
            f"no photos ({', '.join(PHOTO_SUFFIXES)}) in {folder}; give a folder of photos, or none for synthesised textures"
        )
    found = {}
    for path in paths:
        pixels = np.asarray(decode(path, str(path), "RGB"))
        if min(pixels.shape[:2]) < least:
            raise ValueError(
                f"photo {path} is {pixels.shape[1]}×{pixels.shape[0]}, expected at least {least}×{least}; use a larger photo"
            )
        found[path.name] = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return found
