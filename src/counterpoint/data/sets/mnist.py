"""MNIST from its idx files (LeCun, Cortes, Burges; http://yann.lecun.com/exdb/mnist):
reading, finding, downloading."""

from __future__ import annotations

import gzip
import hashlib
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from counterpoint.core.files import replacing

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

VALIDATION_START = 55_000  # MNIST[:55000] trains, the rest of the 60,000 validates


def read_idx(path: Path) -> np.ndarray:
    """Read the uint8 array of an idx file, gzipped or not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an idx file of bytes, truncated, or corrupt.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is truncated or corrupt ({error}); delete it and fetch it again"
        ) from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(
            f"{path} is not an idx file of bytes (its header is wrong); delete it and fetch it again"
        )
    axes = raw[3]
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if data.size != int(np.prod(shape)):
        raise ValueError(
            f"{path} is truncated or corrupt: it holds {data.size} bytes, expected {int(np.prod(shape))} for shape {shape}; fetch it again"
        )
    return data.reshape(shape)


def mnist(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read images uint8 (N, 28, 28) and classes int64 (N,) of ``train`` (55,000),
    ``val`` (5,000) and ``test`` (10,000).

    The idx files, gzipped or not, are looked for in ``root/mnist`` and in ``root``.

    Raises:
        FileNotFoundError: a file is in neither place.
        ValueError: a file is corrupt, or images and labels do not fit together.
    """
    train, test = (_pair(root, part) for part in ("train", "t10k"))
    cut = min(VALIDATION_START, len(train[0]) * 11 // 12)  # a shortened MNIST keeps the proportions
    return {
        "train": (train[0][:cut], train[1][:cut]),
        "val": (train[0][cut:], train[1][cut:]),
        "test": test,
    }


def has_mnist(root: Path) -> bool:
    """Whether all four files are there."""
    return all(_find(root, name) is not None for name in MD5)


def download(root: Path, url: str = URL, md5: Mapping[str, str] = MD5) -> Path:
    """Fetch the files that ``root/mnist`` lacks, and return that folder. A file appears
    only once it is complete and its checksum is right.

    Args:
        url: folder on a web server that holds the files.
        md5: file name to checksum.

    Raises:
        OSError: the server cannot be reached, or refuses.
        ValueError: what came has the wrong checksum.
    """
    folder = root / "mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in md5.items():
        if not (folder / name).exists():
            _fetch(f"{url.rstrip('/')}/{name}", folder / name, expected)
    return folder


def _fetch(url: str, path: Path, expected: str) -> None:
    total = hashlib.md5(usedforsecurity=False)
    with replacing(path) as beside:
        try:
            with beside.open("wb") as file, urllib.request.urlopen(url, timeout=60) as answer:
                while block := answer.read(1 << 20):
                    file.write(block)
                    total.update(block)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise OSError(
                f"cannot download {url}: {error}; put the file into {path.parent} yourself, or give another url"
            ) from error
        if total.hexdigest() != expected:
            raise ValueError(
                f"{url} has md5 {total.hexdigest()}, expected {expected}; the download is corrupt or the server changed: try again"
            )


def _find(root: Path, name: str) -> Path | None:
    candidates = []
    for folder in (root / "mnist", root):
        for n in (name, name.removesuffix(".gz")):
            candidates.append(folder / n)
    return next((path for path in candidates if path.is_file()), None)


def _pair(root: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name in (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"):
        path = _find(root, name)
        if path is None:
            raise FileNotFoundError(
                f"MNIST file {name} is neither in {root / 'mnist'} nor in {root}; put it there, or call counterpoint.data.sets.mnist.download"
            )
        arrays.append(read_idx(path))
    images, labels = arrays
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"MNIST {part}: images have shape {images.shape} and labels {labels.shape}, which do not fit together; fetch both again"
        )
    return images, labels.astype(np.int64)
