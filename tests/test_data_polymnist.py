"""The PolyMNIST family and MNIST–USPS, on tiny files of the published layout, and on
the real ones where they are."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.data import load, prepare
from counterpoint.data.sets import polymnist
from counterpoint.data.sets.mnist import MD5, download, mnist, read_idx
from counterpoint.data.sets.textures import photos, texture
from counterpoint.data.sets.words import WORDS
from counterpoint.data.sources import files

TINY = {"train": 120, "t10k": 30}


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def tiny_mnist(folder: Path) -> Path:
    """An MNIST of 120 + 30 digits: each class a bar of its own, with an unlike number
    of dark pixels in each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in TINY.items():
        rng = np.random.default_rng(rows)
        labels = np.arange(rows) % 10
        images = np.zeros((rows, 28, 28), np.uint8)
        for i, c in enumerate(labels):
            images[i, 4:24, 2 + 2 * c : 6 + 2 * c] = rng.integers(200, 256)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_mnist(tmp_path / "root" / "mnist")
    return tmp_path / "root"


def tiny_photos(folder: Path, *names: str, side: int = 80) -> Path:
    from PIL import Image

    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((side, side + 10, 3), (10 + i, 20 + i, 30 + i), np.uint8)).save(
            folder / name
        )
    return folder


def test_idx_files_gzipped_or_not(tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("a", "a.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_bad_idx_files_are_refused(tmp_path: Path) -> None:
    whole = idx(np.random.default_rng(0).integers(0, 256, (20, 9, 9)))
    packed = gzip.compress(whole)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 255
    cases = {
        "short": whole[:-1],
        "long": whole + b"0",
        "header": whole[:9],
        "empty": b"",
        "other": b"\0\0\x0d" + whole[3:],
        "short.gz": packed[:-20],
        "damaged.gz": bytes(damaged),
        "text.gz": b"<html>404</html>",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            read_idx(tmp_path / name)
        assert "\n" not in str(caught.value) and "fetch it again" in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none.gz")


def test_mnist_is_found_beside_or_below_the_root(root: Path) -> None:
    parts = mnist(root)
    assert {k: len(v[1]) for k, v in parts.items()} == {"train": 110, "val": 10, "test": 30}
    np.testing.assert_array_equal(mnist(root / "mnist")["test"][0], parts["test"][0])
    (root / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(29)))
    with pytest.raises(ValueError, match="t10k: images have shape"):
        mnist(root)
    (root / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels"):
        mnist(root)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    ) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()
        thread.join()


def test_download_checks_what_comes(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    sums = {}
    for name in MD5:
        content = gzip.compress(
            idx(np.arange(12).reshape(3, 2, 2) if "images" in name else np.arange(3))
        )
        (served / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    folder = download(tmp_path / "root", url, sums)
    assert sorted(p.name for p in folder.iterdir()) == sorted(MD5)
    assert (folder / "t10k-images-idx3-ubyte.gz").stat().st_mode & 0o444 == 0o444
    (served / "train-images-idx3-ubyte.gz").unlink()
    download(tmp_path / "root", url, sums)  # what is there is not fetched again

    with pytest.raises(ValueError, match="expected f68b3c2dcbeaaa9fbdd348bbdeb94873") as caught:
        (served / "train-images-idx3-ubyte.gz").write_bytes(b"other")
        download(tmp_path / "wrong", url)
    assert "\n" not in str(caught.value) and list((tmp_path / "wrong").rglob("*")) == [
        tmp_path / "wrong" / "mnist"
    ]

    (served / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(OSError, match=r"cannot download .*404"):
        prepare("polymnist", root=tmp_path / "gone", url=url, progress=False)
    assert [p.name for p in (tmp_path / "gone").rglob("*")] == ["mnist"]


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot download http://127\.0\.0\.1:9/"):
        download(tmp_path, "http://127.0.0.1:9/")


def test_quadrant_follows_the_paper(root: Path, tmp_path: Path) -> None:
    """On flat photos every pixel is known: background, or red, inverted, or blue on the
    digit's half-size bar in its quadrant."""
    shots = tiny_photos(tmp_path / "photos", "c.png", "a.png", "e.png", "b.png", "d.png")
    folder = prepare("polymnist-quadrant", root=root, pairings=2, photos=shots, progress=False)
    data = load("polymnist-quadrant", root=root, pairings=2)
    assert (
        folder == root / "prepared" / "polymnist-quadrant-pairings2"
        and data.name == "polymnist-quadrant"
    )
    assert {k: len(v) for k, v in data.splits().items()} == {"train": 220, "val": 10, "test": 30}
    assert [(m.shape, m.likelihood, m.scale) for m in data.modalities] == [
        ((3, 64, 64), "laplace", 0.75)
    ] * 5
    assert data.notes["backgrounds"] == "photos a.png, b.png, c.png, d.png, e.png"
    assert isinstance(data.train.x["view0"], np.memmap) and data.train.x["view0"].dtype == np.uint8
    pictures = list(photos(shots, 64).values())
    for v, picture in enumerate(pictures):
        flat = picture[:, 0, 0]
        ink = {0: np.array([255, 0, 0]), 4: np.array([0, 0, 255])}.get(v, 255 - flat)
        images, quadrant = (
            np.asarray(data.train.x[f"view{v}"]),
            data.train.private_labels["quadrant"][f"view{v}"],
        )
        on = (images == ink[:, None, None].astype(np.uint8)).all(1)
        off = (images == flat[:, None, None]).all(1)
        assert (on ^ off).all()
        for row in (0, 57, 219):
            top, left = divmod(int(quadrant[row]), 2)
            digit = int(data.train.shared_labels["digit"][row])
            corner = on[row, 32 * top : 32 * top + 32, 32 * left : 32 * left + 32]
            assert corner.sum() == on[row].sum() > 0
            rows_on, columns_on = np.flatnonzero(corner.any(1)), np.flatnonzero(corner.any(0))
            assert abs(rows_on.mean() - 13.5 * 32 / 28) < 1  # the bar's middle, scaled by 32/28
            assert abs(columns_on.mean() - ((3.5 + 2 * digit) * 32 / 28 + 2 / 28)) < 1
    assert set(np.unique(data.train.private_labels["quadrant"]["view2"])) == {0, 1, 2, 3}


def test_views_are_paired_with_independent_digits(root: Path) -> None:
    prepare("polymnist", root=root, views=2, pairings=1, progress=False)
    data = load("polymnist", root=root, views=2, pairings=1)
    assert data.train.private_labels == {} and data.train.x["view1"].shape == (110, 3, 28, 28)
    assert np.bincount(data.train.shared_labels["digit"]).tolist() == [11] * 10
    assert "synthesised textures" in data.notes["backgrounds"]


def test_plain_and_translated_digits(root: Path, tmp_path: Path) -> None:
    shots = tiny_photos(tmp_path / "photos", "a.png")
    flat = np.array([10, 20, 30], np.uint8)
    images = {}
    for name in ("polymnist", "translated-polymnist"):
        data = load(prepare(name, root=root, views=1, pairings=1, photos=shots, progress=False))
        x = np.asarray(data.test.x["view0"])
        on = (x == (255 - flat)[:, None, None]).all(1)
        assert (on | (x == flat[:, None, None]).all(1)).all()
        images[name] = (on, data.test.shared_labels["digit"])
    on, digit = images["polymnist"]
    for row, c in zip(on, digit, strict=True):
        assert row.sum() == 80 and row[4:24, 2 + 2 * c : 6 + 2 * c].all()
    on, _ = images["translated-polymnist"]
    assert (
        np.abs(on.sum((1, 2)) - 80 * 0.75**2).max() < 16
    )  # whole pixels: the bar is 2 or 3 wide, 15 high
    tops = [int(np.flatnonzero(row.any(1))[0]) for row in on]
    assert min(tops) <= 4 and max(tops) >= 8 and len(set(tops)) > 4  # 3 + 0..7


def test_other_sizes_and_missing_photos(root: Path, tmp_path: Path) -> None:
    tiny_photos(root / "polymnist_backgrounds", "only.png")
    data = load(
        prepare(
            "polymnist-quadrant",
            root=root,
            size=32,
            views=3,
            pairings=1,
            out=tmp_path / "own",
            progress=False,
        ),
        verify=True,
    )
    assert data.test.x["view2"].shape == (30, 3, 32, 32)
    assert (
        data.notes["backgrounds"]
        == "photos only.png; synthesised textures for view1 and later (only 1 photos given)"
    )
    background = np.asarray(data.test.x["view1"])[:, :, :, :]
    assert (
        background.std() > 10
        and abs(float(np.median(background)) - float(np.median(texture(1, 0, 512)))) < 30
    )


def test_blocks_and_repetition_do_not_change_the_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "root": root,
        "size": 16,
        "views": 2,
        "pairings": 1,
        "progress": False,
    }
    one = prepare("polymnist-quadrant", **options)
    monkeypatch.setattr(polymnist, "BLOCK", 7)
    two = prepare("polymnist-quadrant", out=tmp_path / "two", **options)
    three = prepare("polymnist-quadrant", out=tmp_path / "three", seed=1, **options)
    assert load(one).checksum() == load(two).checksum() != load(three).checksum()
    stamp = (one / "manifest.json").stat().st_mtime_ns
    assert (
        prepare("polymnist-quadrant", **options) == one
        and (one / "manifest.json").stat().st_mtime_ns == stamp
    )
    with pytest.raises(FileExistsError, match="other parameters"):
        prepare("polymnist-quadrant", out=one, seed=1, **options)


def test_a_damaged_set_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare("polymnist", root=root, views=1, pairings=1, progress=False)
    path = folder / "train" / "view0.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other contents"):
        load(folder)
    monkeypatch.setattr(files, "SMALL", 100)  # of larger files, only if asked
    load(folder)
    with pytest.raises(ValueError, match="other contents"):
        load("polymnist", root=root, views=1, pairings=1, verify=True)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="bytes, expected"):
        load(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"view0.npy is missing"):
        load(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not a manifest"):
        load(folder)


def test_a_full_disk_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, data: np.ndarray) -> None:
        written = file.write(data.data[:1])
        if file.tell() > 200 or written:
            raise OSError(28, "No space left on device")

    before = sorted(root.rglob("*"))
    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        prepare("polymnist", root=root, progress=False)
    assert sorted(p for p in root.rglob("*") if p != root / "prepared") == before


def test_an_interrupted_preparation_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(polymnist, "paint", interrupt)
    (tmp_path / "here").mkdir()
    with pytest.raises(KeyboardInterrupt):
        prepare("polymnist", root=root, out=tmp_path / "here" / "set", progress=False)
    assert list((tmp_path / "here").iterdir()) == []


def test_what_cannot_be_prepared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tiny_photos(tmp_path / "small", "a.png", side=40)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "none").mkdir()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"size": 33}, ValueError, "even"),
        ({"size": 4}, ValueError, "size 4"),
        ({"views": 0}, ValueError, "views 0"),
        ({"pairings": 0}, ValueError, "pairings 0"),
        ({"photos": small}, ValueError, "50×40, expected at least 64×64"),
        ({"photos": tmp_path / "broken"}, ValueError, "cannot read photo"),
        ({"photos": tmp_path / "none"}, FileNotFoundError, "no photos"),
        ({"photos": tmp_path / "nowhere"}, FileNotFoundError, "no photos"),
        ({"out": taken, "size": 16}, FileExistsError, "exists already"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            prepare("polymnist-quadrant", root=root, progress=False, **options)
    assert [p.name for p in taken.iterdir()] == ["mine.txt"]
    monkeypatch.setenv("COUNTERPOINT_DATA", str(root))
    with pytest.raises(
        FileNotFoundError, match=f"not prepared in {root}.*counterpoint data prepare polymnist"
    ):
        load("polymnist")


def tiny_usps(root: Path, top: float = 1.0) -> None:
    import h5py

    (root / "usps").mkdir()
    with h5py.File(root / "usps" / "usps.h5", "w") as file:
        for part, rows in (("train", 60), ("test", 20)):
            labels = np.arange(rows) % 10
            file[f"{part}/data"] = np.repeat(labels[:, None] / 9 * top, 256, 1).astype(np.float32)
            file[f"{part}/target"] = labels.astype(np.int32)


def test_digits_usps_pairs_by_class(root: Path) -> None:
    tiny_usps(root)
    data = load("digits-usps", root=root, pairings=2)
    assert [(m.name, m.shape, m.likelihood) for m in data.modalities] == [
        ("mnist", (1, 28, 28), "laplace"),
        ("usps", (1, 16, 16), "laplace"),
    ]
    assert {k: len(v) for k, v in data.splits().items()} == {"train": 220, "val": 30, "test": 30}
    for split in data.splits().values():
        digit = split.shared_labels["digit"]
        np.testing.assert_array_equal(np.rint(split.x["usps"][:, 0, 0, 0] / 255 * 9), digit)
        assert split.x["mnist"][np.arange(len(split)), 0, 10, 3 + 2 * digit].min() >= 200
    assert (
        data.checksum()
        == load("digits-usps", root=root, pairings=2).checksum()
        != load("digits-usps", root=root, pairings=2, seed=1).checksum()
    )


def test_the_word_stands_beside_the_same_pairs(root: Path) -> None:
    tiny_usps(root)
    pairs, data = (
        load(name, root=root, pairings=2, seed=3) for name in ("digits-usps", "digits-usps-text")
    )
    assert data.name == "digits-usps-text" and [m.name for m in data.modalities] == [
        "mnist",
        "usps",
        "text",
    ]
    for before, split in zip(pairs.splits().values(), data.splits().values(), strict=True):
        digit = split.shared_labels["digit"]
        np.testing.assert_array_equal(digit, before.shared_labels["digit"])
        for name in ("mnist", "usps"):
            np.testing.assert_array_equal(split.x[name], before.x[name])
        assert [data.modalities[2].text(ids).strip("·") for ids in split.x["text"]] == [
            WORDS[d] for d in digit
        ]
    assert data.checksum() != load("digits-usps-text", root=root, pairings=2, seed=4).checksum()


def test_bad_usps_files_are_refused(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"usps.h5"):
        load("digits-usps", root=root)
    tiny_usps(root, top=2.0)
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        load("digits-usps", root=root)
    path = root / "usps" / "usps.h5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="corrupt"):
        load("digits-usps", root=root)


def test_real_mnist_and_usps(real_data: Path) -> None:
    if not (real_data / "mnist").is_dir() or not (real_data / "usps").is_dir():
        pytest.skip("COUNTERPOINT_DATA has no mnist/ and usps/")
    parts = mnist(real_data)
    assert {k: len(v[1]) for k, v in parts.items()} == {
        "train": 55_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert parts["train"][1][:5].tolist() == [5, 0, 4, 1, 9] and parts["test"][1][:3].tolist() == [
        7,
        2,
        1,
    ]
    data = load("digits-usps", root=real_data)
    means = data.train.x["usps"].reshape(len(data.train), -1).mean(1)
    digit = data.train.shared_labels["digit"]
    assert (
        means[digit == 0].mean() > 1.5 * means[digit == 1].mean()
    )  # a zero has more ink than a one, in USPS too
    assert 55_000 <= len(data.train) < 56_000
    text = load("digits-usps-text", root=real_data).test
    assert np.array_equal(text.x["usps"], data.test.x["usps"])
    shown = [text.modalities[2].text(ids).strip("·") for ids in text.x["text"]]
    assert shown == [WORDS[d] for d in text.shared_labels["digit"]]
