"""Images, archives and tables on disk: what they store is what is read, and nothing
beside them is."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint.cli.values import read_values
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, load
from counterpoint.data.images import FORMATS, decode
from counterpoint.data.sources.files import inside

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
GREY = np.rint(RAMP * 255).astype(np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def palette() -> bytes:
    return stored(
        Image.fromarray(COLOUR // 64 * 64).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    )


DEEP = np.rint(RAMP * 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (stored(Image.fromarray(GREY)), GREY),
        (stored(Image.fromarray(DEEP)), GREY),
        (stored(Image.fromarray(DEEP), "TIFF"), GREY),
        (png(DEEP, 0), GREY),
        (stored(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), GREY),
        (stored(Image.fromarray(GREY > 127)), np.where(GREY > 127, 255, 0)),
        (stored(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (16, 16), 255)])), GREY),
        (
            stored(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (16, 16), 0)])),
            np.full((16, 16), 255),
        ),
        (stored(Image.fromarray(COLOUR)), COLOUR),
        (stored(Image.fromarray(COLOUR), "BMP"), COLOUR),
        (stored(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
        (stored(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), COLOUR),
        (stored(Image.fromarray(COLOUR).convert("RGBA")), COLOUR),
        (
            stored(
                Image.merge("RGBA", [*Image.fromarray(COLOUR).split(), Image.new("L", (16, 16), 0)])
            ),
            np.full((16, 16, 3), 255),
        ),
        (palette(), COLOUR // 64 * 64),
        (png(COLOUR.astype(np.uint16) * 257, 2), COLOUR),
    ],
)
def test_whatever_an_image_stores_is_its_brightness_in_eight_bits(
    content: bytes, expected: np.ndarray
) -> None:
    image = decode(content, "x")
    assert image.mode == ("L" if expected.ndim == 2 else "RGB")
    np.testing.assert_array_equal(np.asarray(image), expected)
    coloured = expected if expected.ndim == 3 else np.stack([expected] * 3, 2)
    np.testing.assert_array_equal(np.asarray(decode(content, "x", "RGB")), coloured)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
            "no image of a format that is read",
        ),
        (stored(Image.fromarray(COLOUR), "PPM"), "no image of a format that is read"),
        (
            stored(Image.fromarray((RAMP * 3).astype(np.float32)), "TIFF"),
            r"its floats span \[0, 3\], expected \[0, 1\]",
        ),
        (
            stored(Image.fromarray((RAMP * 1e6).astype(np.int32)), "TIFF"),
            "whole numbers of 32 bits",
        ),
        (stored(Image.fromarray(COLOUR))[:60], "cannot read photo x.png"),
        (
            png(DEEP, 0).replace(
                struct.pack(">II", 16, 16), struct.pack(">II", 1 << 30, 1 << 30), 1
            ),
            "cannot read photo x.png",
        ),
        (b"", "no image"),
    ],
)
def test_what_is_no_such_image_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    assert "EPS" not in FORMATS
    with pytest.raises(ValueError, match=message) as caught:
        decode(content, "x.png")
    assert "\n" not in str(caught.value)
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(
        ValueError, match=message.replace("photo x.png", "photo .*x.png")
    ):  # at the command line, too
        read_values(Modality("image", (3, 8, 8)), str(tmp_path / "x.png"))


def test_the_command_line_reads_images_as_data_sets_do(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(stored(Image.fromarray(DEEP)))
    np.testing.assert_array_equal(
        read_values(Modality("image", (1, 16, 16)), str(tmp_path / "x.png"))[0, 0], GREY
    )


# --- folders of images ----------------------------------------------------------------------------------------------------------


def folder(place: Path, rows: list[dict[str, Any]], images: int = 12) -> Path:
    place.mkdir(parents=True)
    for i in range(images):
        Image.fromarray(COLOUR).save(place / f"{i}.png")
    (place / "captions.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return place


ROWS: list[dict[str, Any]] = [{"file_name": f"{i}.png", "caption": "a bird"} for i in range(12)]


@pytest.mark.parametrize("how", ["absolute", "up", "link", "linked folder"])
def test_images_outside_the_folder_are_refused(how: str, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    secret = tmp_path / "away" / "secret.png"
    Image.fromarray(COLOUR).save(secret)
    name = {
        "absolute": str(secret),
        "up": "../away/secret.png",
        "link": "link.png",
        "linked folder": "birds/secret.png",
    }[how]
    place = folder(tmp_path / "data", [*ROWS, {"file_name": name, "caption": "a bird"}])
    if how == "link":
        (place / "link.png").symlink_to(secret)
    if how == "linked folder":
        (place / "birds").symlink_to(secret.parent)
    with pytest.raises(
        ValueError,
        match=r"captions.jsonl line 13: .* leaves the folder .*/data, for .*/away/secret.png; copy the file into it",
    ):
        load(place, size=8, length=4, min_count=1)
    with pytest.warns(UserWarning, match="skipped 1"):
        data = load(place, size=8, length=4, min_count=1, skip_bad=True)
    assert sum(map(len, data.splits().values())) == 12


def test_a_path_that_goes_up_and_comes_back_is_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b.png") == tmp_path / "a/../b.png"
    place = folder(tmp_path / "data", [{**ROWS[0], "file_name": "./0.png"}, *ROWS[1:]])
    assert sum(map(len, load(place, size=8, length=4, min_count=1).splits().values())) == 12


def test_a_line_of_deep_nesting_is_a_bad_row(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", ROWS)
    with (place / "captions.jsonl").open("a") as file:
        file.write("[" * 200_000 + "\n")
    with pytest.raises(ValueError, match="line 13: it is no JSON"):
        load(place, size=8, length=4, min_count=1)


# --- tars -----------------------------------------------------------------------------------------------------------------------


def tar(place: Path, names: list[str]) -> Dataset:
    place.mkdir()
    with tarfile.open(place / "a.tar", "w") as archive:
        for name in names:
            content = stored(Image.fromarray(COLOUR))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return load(place)


def test_members_of_a_tar_are_told_apart_at_the_first_dot_and_the_message_says_so(
    tmp_path: Path,
) -> None:
    data = tar(
        tmp_path / "a", [f"v1.0/{i}.{name}.png" for i in range(9) for name in ("left", "right")]
    )
    assert [m.name for m in data.modalities] == ["left", "right"] and len(data.train) + len(
        data.val
    ) + len(data.test) == 9
    for name, names in {
        "b": [f"2021.01.{i:02d}.png" for i in range(20)],
        "c": [f"img.{i}.{e}.png" for i in range(9) for e in "ab"],
    }.items():
        with pytest.raises(
            ValueError,
            match=r"the key of a row ends at the first dot of a member's name, as in webdataset, so that '",
        ) as caught:
            tar(tmp_path / name, names)
        assert "\n" not in str(caught.value)


def test_labels_and_arrays_of_any_storage_in_shards(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = np.random.default_rng(0).normal(size=(12, 3))

    def npy(row: np.ndarray) -> bytes:
        content = io.BytesIO()
        np.save(content, row)
        return content.getvalue()

    def shard(columns: dict[str, Any]) -> Path:
        place = tmp_path / str(len([*tmp_path.iterdir()]))
        place.mkdir()
        pq.write_table(pa.table(columns), place / "a.parquet")
        return place

    place = shard(
        {"a": [npy(row.astype(">f8")) for row in values], "kind": pa.array([0, 1] * 6, pa.uint64())}
    )
    data = load(place, fractions=(0.5, 0.25, 0.25))
    rows = [
        split.batch(slice(None)).x["a"].numpy() for split in (data.train_split, data.val, data.test)
    ]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(rows).ravel()), np.sort(values.astype(np.float32).ravel())
    )
    place = shard({"a": values.tolist(), "kind": pa.array([0, 2**63 + 5] * 6, pa.uint64())})
    with pytest.raises(ValueError, match="the label 9223372036854775813 takes more than 64 bits"):
        load(place).train_split  # noqa: B018
    images = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
    data = load(shard({"a": [npy(image) for image in images]}))
    assert data.modalities[0].shape == (3, 8, 8)
    whole = np.concatenate([split.x["a"] for split in (data.train_split, data.val, data.test)])
    np.testing.assert_allclose(
        np.sort(whole.sum((2, 3)).ravel()), np.sort(images.sum((1, 2)).ravel()), rtol=1e-5
    )
