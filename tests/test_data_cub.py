"""The birds and their captions: tiny files of both layouts, and the real ones where
they are."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint.data import Dataset, load
from counterpoint.data.images import square
from counterpoint.data.sets.cub_files import CLUSTERS, TABLE, facing

SPECIES = ("001.Black_Bird", "004.White_Bird")
EACH, TRAIN_EACH = 12, 8  # images of a species, and those of them that train or validate
BOX = (
    10.0,
    4.0,
    8.0,
    16.0,
)  # in a photo of 40×20, so that the square is its columns 6 to 21 and its rows 4 to 19
WORDS = ["", "<unk>", "bird", ",", ".", "a", "red", "wings", "with"]


def path_of(i: int) -> str:
    return f"{SPECIES[i // EACH]}/Bird_{i:04d}.jpg"


def captions_of(i: int) -> list[str]:
    """Two captions, of which the second says which image it is."""
    return ["A red bird, with wings.", f"bird number{i}"]


def trains(i: int) -> bool:
    return i % EACH < TRAIN_EACH


def photo(i: int, side: tuple[int, int] = (20, 40)) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (*side, 3), dtype=np.uint8)


def file_of(pixels: np.ndarray) -> bytes:
    """PNG, so that not a pixel changes; a reader looks at what a file holds, not at its
    name."""
    to = io.BytesIO()
    Image.fromarray(pixels).save(to, "PNG")
    return to.getvalue()


def published(root: Path) -> Path:
    """The published layout with 24 images of two species; every photo has the same box."""
    place = root / "cub" / "CUB_200_2011"
    place.mkdir(parents=True)
    images = range(EACH * len(SPECIES))
    lists: dict[str, Callable[[int], str]] = {
        "images": path_of,
        "image_class_labels": lambda i: str(int(path_of(i)[:3])),
        "train_test_split": lambda i: str(int(trains(i))),
        "bounding_boxes": lambda i: " ".join(map(str, BOX)),
    }
    for name, column in lists.items():
        (place / f"{name}.txt").write_text("".join(f"{i + 1} {column(i)}\n" for i in images))
    for i in images:
        for path, content in (
            (place / "images" / path_of(i), file_of(photo(i))),
            (
                (root / "cub" / "text_c10" / path_of(i)).with_suffix(".txt"),
                "\n".join([*captions_of(i), ""]).encode(),
            ),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def row(i: int, **changes: Any) -> dict[str, Any]:
    species = int(path_of(i)[:3]) - 1
    return {
        "path": path_of(i),
        "label": species,
        "cub_is_train": int(trains(i)),
        "captions": captions_of(i),
        "image_src": "somewhere",
    } | changes


def table(root: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    """The layout of one table: of each species image 0 has no captions and image 1 no
    photo, and so has test image 8 no captions."""
    (root / "cub").mkdir(parents=True, exist_ok=True)
    images = range(EACH * len(SPECIES))
    uncaptioned, unseen = (
        [i for i in images if i % EACH in (0, 8)],
        [i for i in images if i % EACH == 1],
    )
    made = [
        row(
            i,
            **(
                {"captions": None}
                if i in uncaptioned
                else {"image_src": None}
                if i in unseen
                else {}
            ),
        )
        for i in images
    ]
    (root / "cub" / TABLE).write_bytes(
        gzip.compress("".join(json.dumps(r) + "\n" for r in rows or made).encode())
    )
    for name, inside in (
        ("paired", {*images} - {*uncaptioned, *unseen}),
        ("uncaptioned", {*uncaptioned}),
    ):
        with zipfile.ZipFile(root / "cub" / f"images_{name}_bbox227.zip", "w") as archive:
            for i in sorted(inside):
                archive.writestr(path_of(i), file_of(photo(i, (16, 16))))
    return root


def numbers(data: Dataset, part: str, source: Callable[[int], np.ndarray]) -> list[int]:
    """Which images a split shows, in its order."""
    whole = np.stack([source(i).transpose(2, 0, 1) for i in range(EACH * len(SPECIES))])
    return [
        int(np.flatnonzero((whole == x).all((1, 2, 3)))[0]) for x in data.splits()[part].x["image"]
    ]


def crop(i: int) -> np.ndarray:
    return photo(i)[4:20, 6:22]


def test_photos_captions_and_splits_of_the_published_layout(tmp_path: Path) -> None:
    data = load("cub", root=published(tmp_path), size=16, length=9)
    assert [(m.name, m.shape, m.likelihood, m.scale, m.classes) for m in data.modalities] == [
        ("image", (3, 16, 16), "laplace", 0.75, None),
        ("caption", (9,), "categorical", None, len(WORDS)),
    ]
    assert [*data.modalities[1].words] == WORDS and data.notes["label/class"] == ", ".join(SPECIES)
    assert data.modalities[1].text([5, 6, 2, 3, 8, 7, 4, 0, 0]) == "a red bird , with wings ."
    shown = {
        part: numbers(data, part, crop) for part in data.splits()
    }  # fails unless every pixel of every crop is as cut by hand
    assert shown["test"] == [i for i in range(24) if not trains(i)] and sorted(
        i for rows in shown.values() for i in rows
    ) == [*range(24)]
    assert [sum(i // EACH == c for i in shown["val"]) for c in (0, 1)] == [3, 3] and len(
        shown["train"]
    ) == 10
    for part, split in data.splits().items():
        assert split.shared_labels["class"].tolist() == [0 if i < EACH else 3 for i in shown[part]]
        assert all(mask.all() for mask in split.present.values())
        known = [[5, 6, 2, 3, 8, 7, 4, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0, 0]]
        assert all(ids in known for ids in split.x["caption"].tolist())
    batch = data.test.batch(slice(0, 1))
    assert (
        batch.x["image"].numpy()[0] == pytest.approx(crop(8).transpose(2, 0, 1) / 255)
        and batch.x["caption"].dtype.is_floating_point is False
    )


def test_the_seed_picks_captions_and_nothing_else(tmp_path: Path) -> None:
    published(tmp_path)
    one, again, other = (load("cub", root=tmp_path, size=16, seed=seed) for seed in (0, 0, 1))
    assert one.checksum() == again.checksum() != other.checksum()
    first = [(data.train.x["caption"][:, 0] == 5).mean() for data in (one, other)]
    assert all(0 < share < 1 for share in first)
    for part in one.splits():
        np.testing.assert_array_equal(
            one.splits()[part].x["image"], other.splits()[part].x["image"]
        )


def test_all_captions_are_rows_of_their_own(tmp_path: Path) -> None:
    data = load("cub", root=published(tmp_path), size=16, min_count=1, captions="all")
    words = data.modalities[1].words
    assert {part: len(split) for part, split in data.splits().items()} == {
        "train": 20,
        "val": 12,
        "test": 16,
    }
    for part, split in data.splits().items():
        shown = numbers(data, part, crop)
        assert shown[::2] == shown[1::2] and not split.x["caption"][:, 7:].any()
        assert (split.x["caption"][::2, 0] == words.index("a")).all() and (
            split.x["caption"][1::2, 0] == words.index("bird")
        ).all()
        named = [words[i] for i in split.x["caption"][1::2, 1]]
        assert named == (
            [f"number{i}" for i in shown[::2]] if part == "train" else ["<unk>"] * (len(split) // 2)
        )


def test_unpaired_rows_of_the_published_layout(tmp_path: Path) -> None:
    published(tmp_path)
    whole = load("cub", root=tmp_path, size=16)
    images, texts = tmp_path / "cub" / "CUB_200_2011" / "images", tmp_path / "cub" / "text_c10"
    (images / path_of(8)).unlink()
    (texts / path_of(9)).with_suffix(".txt").unlink()
    (images / path_of(10)).unlink()
    (texts / path_of(10)).with_suffix(".txt").unlink()
    data = load("cub", root=tmp_path, size=16, unpaired=True)
    assert data.test.present["image"].tolist() == [False, *[True] * 6] and data.test.present[
        "caption"
    ].tolist() == [
        True,
        False,
        *[True] * 5,
    ]
    kept = [0, 1, 3, 4, 5, 6, 7]  # the third has neither
    np.testing.assert_array_equal(data.test.x["image"][1:], whole.test.x["image"][kept][1:])
    np.testing.assert_array_equal(
        np.delete(data.test.x["caption"], 1, 0), np.delete(whole.test.x["caption"][kept], 1, 0)
    )
    assert data.test.shared_labels["class"].tolist() == [0, 0, 0, 3, 3, 3, 3]
    many = load("cub", root=tmp_path, size=16, unpaired=True, captions="all")
    assert (
        many.test.present["image"].tolist() == [False, False, *[True] * 11]
        and int((~many.test.present["caption"]).sum()) == 1
    )
    with pytest.raises(FileNotFoundError, match=r"Bird_0008.jpg is missing; .*unpaired=True"):
        load("cub", root=tmp_path)


def test_one_table_beside_zips(tmp_path: Path) -> None:
    data = load("cub", root=table(tmp_path), size=16, min_count=1)
    assert "stretched" in data.notes["crops"]
    shown = {part: numbers(data, part, lambda i: photo(i, (16, 16))) for part in data.splits()}
    assert sorted(i for rows in shown.values() for i in rows) == [
        i for i in range(24) if i % EACH not in (0, 1, 8)
    ]
    assert shown["test"] == [9, 10, 11, 21, 22, 23]
    published(tmp_path / "other")
    elsewhere = numbers(load("cub", root=tmp_path / "other", size=16), "val", crop)
    assert shown["val"] == [
        i for i in elsewhere if i % EACH not in (0, 1)
    ]  # the same images validate in either layout
    more = load("cub", root=tmp_path, size=16, min_count=1, unpaired=True)
    assert sum(len(split) for split in more.splits().values()) == 24
    absent = {
        name: sum(int((~split.present[name]).sum()) for split in more.splits().values())
        for name in ("image", "caption")
    }
    assert absent == {"image": 2, "caption": 4}
    assert (
        more.test.present["caption"].tolist() == [False, True, True, True] * 2
        and more.test.present["image"].all()
    )
    assert not more.test.x["caption"][0].any()
    decoded = [data.modalities[1].words[i] for i in data.train.x["caption"][1] if i]
    assert decoded in (
        ["a", "red", "bird", ",", "with", "wings", "."],
        ["bird", f"number{shown['train'][1]}"],
    )


PARTS = [
    "back",
    "beak",
    "belly",
    "breast",
    "crown",
    "forehead",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
]


def parts_of(i: int) -> dict[str, tuple[float, int]]:
    """Where parts are from the left, and whether they are seen: even images look left,
    odd ones right, and some do not say."""
    head, body = (3.5, 8.0) if i % 2 == 0 else (30.0, 8.5)
    match i:
        case 8:  # no head is seen, for a beak that is hidden may be anywhere
            return {"beak": (0.0, 0), "back": (body, 1)}
        case 9:  # as far left as right
            return {"crown": (4.0, 1), "back": (4.0, 1)}
        case 10:  # the beak is right of the body, and the head all in all is not
            return {
                "beak": (20.0, 1),
                "crown": (1.0, 1),
                "left eye": (0.0, 1),
                "left leg": (900.0, 1),
                "belly": (9.0, 1),
                "breast": (10.0, 1),
            }
        case 20:  # the file says nothing of it
            return {}
    return {
        "beak": (head, 1),
        "nape": (500.0, 1),
        "back": (body, 1),
        "breast": (500.0 * (i % 2), 0),
        "left wing": (900.0, 1),
    }


def clustered(root: Path, parts: bool = True) -> Path:
    """The published layout, its species those of a cluster and of none."""
    place = published(root) / "cub" / "CUB_200_2011"
    for path in [*place.parent.rglob("*_Bird")]:
        path.rename(
            path.with_name(
                path.name.replace("White_Bird", "Bar_tailed_Warbler").replace(
                    "Black_Bird", "Brown_Thrasher"
                )
            )
        )
    lines_of(
        place / "images.txt",
        lambda lines: [
            x.replace("White_Bird", "Bar_tailed_Warbler").replace("Black_Bird", "Brown_Thrasher")
            for x in lines
        ],
    )
    if parts:
        (place / "parts").mkdir()
        seen = [
            (i, PARTS.index(part) + 1, x, visible)
            for i in range(24)
            for part, (x, visible) in parts_of(i).items()
        ]
        (place / "parts" / "part_locs.txt").write_text(
            "".join(f"{i + 1} {part} {x} 7.0 {visible}\n" for i, part, x, visible in seen)
        )
    return root


def test_clusters_and_where_birds_look(tmp_path: Path) -> None:
    """Birds of no cluster train without a label, and nothing is measured on them."""
    species, data = (
        load("cub", root=clustered(tmp_path), size=16),
        load("cub", root=tmp_path, size=16, classes="clusters"),
    )
    assert (
        data.notes["label/cluster"] == "Blackbird, Gull, Jay, Oriole, Tanager, Tern, Warbler, Wren"
        and data.notes["label/facing"] == "left, right"
    )
    shown = {part: numbers(data, part, crop) for part in data.splits()}
    assert shown == {
        part: [i for i in numbers(species, part, crop) if part == "train" or i >= 12]
        for part in data.splits()
    }
    unknown = {8: -1, 9: -1, 10: 0, 20: -1}
    for part, split in data.splits().items():
        assert {name: [*values] for name, values in split.shared_labels.items()} == {
            "cluster": [6 if i >= 12 else -1 for i in shown[part]]
        }
        assert split.private_labels["facing"]["image"].tolist() == [
            unknown.get(i, i % 2) for i in shown[part]
        ]
    assert {8, 9, 10} & {*shown["test"]} == set() and 20 in shown["test"]
    every = load("cub", root=tmp_path, size=16, classes="clusters", captions="all")
    assert [*every.test.private_labels["facing"]["image"]] == [
        unknown.get(i, i % 2) for i in shown["test"] for _ in range(2)
    ]
    assert not species.train.private_labels and [*species.train.shared_labels] == ["class"]


def test_heads_and_bodies_are_told_apart(tmp_path: Path) -> None:
    path = clustered(tmp_path) / "cub" / "CUB_200_2011" / "parts" / "part_locs.txt"
    found = facing(path)
    assert found == {str(i + 1): {8: -1, 9: -1, 10: 0}.get(i, i % 2) for i in range(24) if i != 20}
    for line in ("1 2 3 4", "1 2 x 4 1", "1 2 3 4 y"):
        path.write_text(f"1 2 3 4 1\n{line}\n")
        with pytest.raises(
            ValueError,
            match=rf"part_locs.txt: line 2 is '{line}', expected image, part, x, y and whether it is visible; fetch",
        ):
            load("cub", root=tmp_path, size=16, classes="clusters")
    assert len(load("cub", root=tmp_path, size=16).train) == 10  # nobody asked


def test_clusters_without_part_locations(tmp_path: Path) -> None:
    data = load("cub", root=clustered(tmp_path / "a", parts=False), size=16, classes="clusters")
    assert (
        data.train.private_labels == {}
        and data.notes["label/facing"] == "unknown: CUB_200_2011/parts/part_locs.txt is not there"
    )
    assert {*data.test.shared_labels["cluster"].tolist()} == {6}
    table(tmp_path / "b")
    with pytest.raises(
        ValueError, match="gives the val split no row; give all images of a species"
    ):
        load("cub", root=tmp_path / "b", size=16, classes="clusters")  # of black and white birds


def test_boxes_become_squares_within_the_photo() -> None:
    assert square(BOX, (40, 20)) == (6, 4, 22, 20)
    assert square((0, 0, 20, 10), (40, 20)) == (0, 0, 20, 15)  # five rows would lie above the photo
    assert square((30, 5, 6, 20), (40, 24)) == (23, 5, 40, 24)


def test_crops_are_smoothed_when_they_shrink(tmp_path: Path) -> None:
    published(tmp_path)
    stripes = np.zeros((20, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    (tmp_path / "cub" / "CUB_200_2011" / "images" / path_of(8)).write_bytes(file_of(stripes))
    assert (
        np.abs(
            load("cub", root=tmp_path, size=8).test.x["image"][0, :, :, 1:-1].astype(int) - 100
        ).max()
        < 30
    )


def lines_of(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


PUBLISHED_ERRORS: list[tuple[Callable[[Path], Any], type[Exception], str]] = [
    (
        lambda place: (place / "bounding_boxes.txt").unlink(),
        FileNotFoundError,
        r"bounding_boxes.txt is missing; fetch it",
    ),
    (
        lambda place: lines_of(place / "train_test_split.txt", lambda lines: lines[:-1]),
        ValueError,
        r"train_test_split.txt has 23 rows, expected one for each of the 24",
    ),
    (
        lambda place: lines_of(place / "images.txt", lambda lines: [*lines, "x"]),
        ValueError,
        r"images.txt: line 25 is 'x', expected",
    ),
    (
        lambda place: lines_of(
            place / "images.txt", lambda lines: [lines[0], f"2 {path_of(0)}", *lines[2:]]
        ),
        ValueError,
        "more than once",
    ),
    (
        lambda place: lines_of(
            place / "bounding_boxes.txt", lambda lines: ["1 a b c d", *lines[1:]]
        ),
        ValueError,
        "image 1 has a label, split or bounding box that is no number",
    ),
    (
        lambda place: lines_of(
            place / "bounding_boxes.txt", lambda lines: ["1 50 50 4 4", *lines[1:]]
        ),
        ValueError,
        r"bounding box \(50.0, 50.0, 4.0, 4.0\) lies outside .*Bird_0000.jpg, which is 40×20",
    ),
    (
        lambda place: (place / "images" / path_of(3)).unlink(),
        FileNotFoundError,
        r"Bird_0003.jpg is missing; .*unpaired=True",
    ),
    (
        lambda place: (place / "images" / path_of(3)).write_bytes(b"no"),
        ValueError,
        r"cannot read photo .*Bird_0003.jpg",
    ),
    (
        lambda place: (place.parent / "text_c10" / path_of(3)).with_suffix(".txt").unlink(),
        FileNotFoundError,
        r"Bird_0003.txt is missing; fetch the captions",
    ),
    (
        lambda place: (
            (place.parent / "text_c10" / path_of(3)).with_suffix(".txt").write_text("\n \n")
        ),
        ValueError,
        r"Bird_0003.txt holds no caption, expected one a line",
    ),
    (
        lambda place: lines_of(
            place / "train_test_split.txt", lambda lines: [f"{i} 1" for i in range(1, 25)]
        ),
        ValueError,
        "gives the test split no row",
    ),
    (
        lambda place: [
            (place / f"{name}.txt").write_text("")
            for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
        ],
        ValueError,
        "gives the train split no row",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "message"), PUBLISHED_ERRORS)
def test_bad_files_of_the_published_layout(
    tmp_path: Path, spoil: Callable[[Path], Any], error: type[Exception], message: str
) -> None:
    spoil(published(tmp_path) / "cub" / "CUB_200_2011")
    with pytest.raises(error, match=message) as caught:
        load("cub", root=tmp_path)
    assert "\n" not in str(caught.value)


def rows_with(i: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(j, **(changes if j == i else {})) for j in range(24)]


TABLE_ERRORS: list[tuple[Callable[[Path], Any], type[Exception], str]] = [
    (
        lambda folder: (folder / "images_paired_bbox227.zip").unlink(),
        FileNotFoundError,
        "images_paired_bbox227.zip is missing",
    ),
    (
        lambda folder: (folder / "images_paired_bbox227.zip").write_bytes(b"PK"),
        ValueError,
        "images_paired_bbox227.zip is truncated or corrupt",
    ),
    (
        lambda folder: (folder / TABLE).write_bytes((folder / TABLE).read_bytes()[:-20]),
        ValueError,
        "captions.jsonl.gz is truncated",
    ),
    (
        lambda folder: (folder / TABLE).write_bytes(gzip.compress(b"{}\n")),
        ValueError,
        "line 1 is not a row of path, label",
    ),
    (
        lambda folder: table(folder.parent, rows_with(2, captions=[])),
        ValueError,
        "line 3 is not a row",
    ),
    (
        lambda folder: table(folder.parent, rows_with(2, captions=[" "])),
        ValueError,
        "line 3 is not a row",
    ),
    (
        lambda folder: table(folder.parent, rows_with(2, cub_is_train=2)),
        ValueError,
        "line 3 is not a row",
    ),
    (
        lambda folder: table(folder.parent, rows_with(2, path="b.jpg")),
        ValueError,
        "names an image .*Bird_0000.jpg that no zip",
    ),
    (
        lambda folder: table(folder.parent, [*rows_with(0, image_src=None, captions=None)[2:8]]),
        ValueError,
        "has no row for 12 images",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "message"), TABLE_ERRORS)
def test_bad_files_of_the_table(
    tmp_path: Path, spoil: Callable[[Path], Any], error: type[Exception], message: str
) -> None:
    spoil(table(tmp_path) / "cub")
    with pytest.raises(error, match=message) as caught:
        load("cub", root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "size 4 of cub must be 8 or more"),
        ({"length": 0}, "length 0 of cub must be 1 or more"),
        ({"min_count": 0}, "min_count 0"),
        ({"captions": "two"}, "captions 'two' of cub must be one of one, all"),
        ({"classes": "orders"}, "classes 'orders' of cub must be one of species, clusters"),
        ({"incomplete": True}, "option 'incomplete' does not apply to cub"),
        ({"views": 2}, "option 'views' does not apply to cub"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("cub", root=tmp_path, **options)


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"neither CUB_200_2011/images.txt nor captions.jsonl.gz is in .*/cub or in ",
    ):
        load("cub", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_real_birds(real_data: Path) -> None:
    if not (real_data / "cub").is_dir():
        pytest.skip("COUNTERPOINT_DATA has no cub/")
    if not (real_data / "cub" / TABLE).is_file():
        pytest.skip("the facts are those of the single table")
    data = load("cub", root=real_data)
    more = load("cub", root=real_data, size=16, unpaired=True)
    names = np.array(
        [
            line.strip().rpartition("_")[2]
            for line in (real_data / "cub" / "classes.txt").read_text().splitlines()
        ]
    )
    assert {part: len(split) for part, split in data.splits().items()} == {
        "train": 837,
        "val": 93,
        "test": 851,
    }
    assert sum(len(split) for split in data.splits().values()) == 1781
    assert all(
        np.unique(split.shared_labels["class"]).size == 31 for split in data.splits().values()
    )
    assert np.unique(data.val.shared_labels["class"], return_counts=True)[1].tolist() == [3] * 31
    absent = {
        name: sum(int((~split.present[name]).sum()) for split in more.splits().values())
        for name in ("image", "caption")
    }
    assert (
        absent == {"caption": 4431, "image": 1427}
        and sum(len(split) for split in more.splits().values()) == 7639
    )
    words = data.modalities[1].words
    assert (
        words[:6] == ("", "<unk>", "a", "and", "bird", ".")
        and data.modalities[1].classes == len(words) == 699
    )
    assert (data.test.x["caption"] == 1).sum() < 0.01 * (data.test.x["caption"] > 0).sum()
    groups = load("cub", root=real_data, size=16, unpaired=True, classes="clusters")
    assert len(groups.train) == len(more.train) and len(groups.test) + len(groups.val) == sum(
        int(np.isin(names[split.shared_labels["class"]], CLUSTERS).sum())
        for split in (more.test, more.val)
    )
    for part, split in groups.splits().items():
        expected = {*range(8), -1} if part == "train" else {*range(8)}
        assert {*split.shared_labels["cluster"].tolist()} == expected and not split.private_labels
    known = groups.train.shared_labels["cluster"]
    assert (
        np.where(known < 0, "", np.array(CLUSTERS)[known])
        == np.where(
            np.isin(names[more.train.shared_labels["class"]], CLUSTERS),
            names[more.train.shared_labels["class"]],
            "",
        )
    ).all()
    images = {
        part: {x.tobytes() for x in split.x["image"]} for part, split in data.splits().items()
    }
    assert (
        not images["train"] & images["val"]
        and not (images["train"] | images["val"]) & images["test"]
    )
