"""The circles and squares, and SVHN's published files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

import counterpoint as cp
from counterpoint.data.sets.shapes import draw
from counterpoint.data.sets.words import WORDS


@pytest.mark.parametrize(
    ("name", "shared", "own"),
    [("circles-squares", "filled", "size"), ("circles-squares-size", "size", "filled")],
)
def test_one_property_is_shared_and_the_other_is_not(name: str, shared: str, own: str) -> None:
    data = cp.data.load(name)
    assert [m.name for m in data.modalities] == ["circle", "square"] and data.train.x[
        "circle"
    ].shape[1:] == (1, 32, 32)
    labels = {
        own: data.train.private_labels[own],
        shared: dict.fromkeys(("circle", "square"), data.train.shared_labels[shared]),
    }
    for modality, x in data.train.x.items():
        middle = x[:, 0, 15:17, 15:17].min((1, 2))
        np.testing.assert_array_equal(
            middle == 255, labels["filled"][modality] == 1
        )  # outlines have a hole
        across = (x[:, 0, 16] > 127).argmax(1)  # the first lit pixel of the middle row
        order = [across[labels["size"][modality] == size].mean() for size in range(4)]
        assert order == sorted(order, reverse=True) and order[0] - order[3] > 5
    together = np.corrcoef(labels[own]["circle"], labels[own]["square"])[0, 1]
    assert abs(together) < 0.03


def test_shapes_have_the_area_that_they_should() -> None:
    radius = np.array([0.2, 0.4])
    for shape, area in (("circle", np.pi * radius**2), ("square", (2 * radius) ** 2)):
        full = draw(shape, radius, np.ones(2, int), 64).mean((1, 2, 3)) / 255
        np.testing.assert_allclose(full, area, rtol=0.01)
        inner = area * ((radius - 0.06) / radius) ** 2
        np.testing.assert_allclose(
            draw(shape, radius, np.zeros(2, int), 64).mean((1, 2, 3)) / 255, area - inner, rtol=0.02
        )


def test_a_seed_and_a_size_of_the_shapes() -> None:
    a, b, c = (cp.data.load("circles-squares", seed=seed).test.x["circle"] for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert cp.data.load("circles-squares", size=16).test.x["square"].shape == (2000, 1, 16, 16)
    with pytest.raises(ValueError, match="size 8 of circles-squares must be at least 16"):
        cp.data.load("circles-squares", size=8)


# --- SVHN ---------------------------------------------------------------------------------------------------------------


def write_mnist(folder: Path) -> None:
    """Idx files whose every image is its class, of 60,000 and 10,000 rows."""
    folder.mkdir(parents=True)
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.repeat(labels, 28 * 28)
        for kind, magic, content, shape in (
            ("images-idx3", 2051, images, (count, 28, 28)),
            ("labels-idx1", 2049, labels, (count,)),
        ):
            head = struct.pack(f">{1 + len(shape)}i", magic, *shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(
                gzip.compress(head + content.tobytes(), 1)
            )


def svhn(count: int, **changes: Any) -> dict[str, np.ndarray]:
    """The published layout; every image is its class in red, and says its number in the
    first two pixels of green."""
    labels = 1 + np.arange(count) % 10
    images = np.zeros((32, 32, 3, count), np.uint8)
    images[:, :, 0] = labels % 10
    images[0, 0, 1], images[0, 1, 1] = np.arange(count) // 256, np.arange(count) % 256
    return {"X": images, "y": labels[:, None].astype(np.uint8), **changes}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("svhn")
    write_mnist(folder / "mnist")
    (folder / "svhn").mkdir()
    savemat(folder / "svhn" / "train_32x32.mat", svhn(5000))
    savemat(folder / "svhn" / "test_32x32.mat", svhn(1000))
    return folder


def test_mnist_and_svhn_are_paired_by_class(root: Path) -> None:
    data = cp.data.load("mnist-svhn", root=root, pairings=2)
    seen = {}
    for part, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        digit = split.shared_labels["digit"]
        assert np.array_equal(split.x["mnist"][:, 0, 0, 0], digit) and np.array_equal(
            split.x["svhn"][:, 0, 5, 5], digit
        )
        number = split.x["svhn"][:, 1, 0, :2].astype(int)
        seen[part] = set((256 * number[:, 0] + number[:, 1]).tolist())
    assert len(data.train) == 2 * 55_000 and len(data.val) == 5000 and len(data.test) == 10_000
    assert not seen["train"] & seen["val"] and len(seen["train"] | seen["val"]) == 5000
    assert data.train.x["svhn"].shape[1:] == (3, 32, 32)


def test_the_word_stands_beside_the_same_pairs(root: Path) -> None:
    pairs, data = (
        cp.data.load(name, root=root, pairings=2, seed=3)
        for name in ("mnist-svhn", "mnist-svhn-text")
    )
    assert data.name == "mnist-svhn-text" and [m.name for m in data.modalities] == [
        "mnist",
        "svhn",
        "text",
    ]
    for before, split in zip(pairs.splits().values(), data.splits().values(), strict=True):
        digit = split.shared_labels["digit"]
        assert np.array_equal(digit, before.shared_labels["digit"])
        assert np.array_equal(split.x["mnist"], before.x["mnist"]) and np.array_equal(
            split.x["svhn"], before.x["svhn"]
        )
        assert all(
            data.modalities[2].text(ids).strip("·") == WORDS[d]
            for ids, d in zip(split.x["text"][:500], digit[:500], strict=True)
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is neither in"),
        ({"X": np.zeros((3, 32, 32, 10), np.uint8)}, r"X has shape \(3, 32, 32, 10\)"),
        ({"X": np.zeros((32, 32, 3, 10))}, "dtype float64"),
        ({"y": np.full((10, 1), 11)}, r"y spans \[11, 11\], expected 1 to 10"),
        (b"MATLAB 5.0 no", "is corrupt or lacks X and y"),
        ({"z": 1}, "lacks X and y"),
    ],
)
def test_bad_svhn_files(root: Path, tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "mnist").symlink_to(root / "mnist")
    path = tmp_path / "train_32x32.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        full = svhn(10) | content
        savemat(path, {"z": 1} if "z" in content else full)
    if content is not None:
        savemat(tmp_path / "test_32x32.mat", svhn(10))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cp.data.load("mnist-svhn", root=tmp_path)
