"""The faces: tiny files of the published layout with known pixels, and procedural
faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faces import HAIR, NAMES, draw_faces
from PIL import Image

from counterpoint.data import load
from counterpoint.data.sets.celebamask import ANNOTATION, ATTRIBUTES, IMAGES, MASKS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw_faces(root / "celebamask", 60, size=64, seed=3)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(
        path, "PNG"
    )  # also where the name ends in .jpg: nothing is lost, and readers look at what a file holds


def annotate(folder: Path, rows: dict[int, set[int]]) -> None:
    """Write the attribute file: by image, the places of the attributes that it has."""
    lines = [
        f"{i}.jpg  {' '.join('1' if a in has else '-1' for a in range(40))}"
        for i, has in rows.items()
    ]
    (folder / ANNOTATION).write_text("\n".join([str(len(rows)), " ".join(NAMES), *lines, ""]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty images of 8×8 around number 2000, whose red says the number, with masks of
    16×16: skin everywhere, hair above, a narrow hat."""
    place = tmp_path / "CelebAMask-HQ"
    skin, hair, hat = (np.zeros((16, 16), np.uint8) for _ in range(3))
    skin[:] = hair[:5] = hat[:, 13:] = 255
    for i in range(1990, 2010):
        save(place / IMAGES / f"{i}.jpg", np.full((8, 8, 3), (i - 1990, 7, 9), np.uint8))
        for part, pixels in (("skin", skin), ("hair", hair), ("hat", hat)):
            save(place / MASKS / str(i // 2000) / f"{i:05d}_{part}.png", pixels)
    annotate(place, {i: {4, 20} if i % 2 else {0, 1, 35} for i in range(1990, 2010)})
    return place


def test_photos_masks_and_attributes(folder: Path) -> None:
    data = load("celebamask", root=folder.parent, size=8)
    assert [(m.name, m.shape, m.likelihood, m.scale) for m in data.modalities] == [
        ("image", (3, 8, 8), "laplace", 0.75),
        ("mask", (1, 8, 8), "bernoulli", None),
        ("attributes", (18,), "bernoulli", None),
    ]
    shown = [split.x["image"][:, 0, 0, 0].tolist() for split in data.splits().values()]
    assert shown == [[*range(16)], [16, 17], [18, 19]] and data.name == "celebamask"
    expected = np.zeros((8, 8))
    expected[:3] = 1  # rows 0 to 4 of 16: the third is half covered
    expected[:, 6:] = 1  # columns 13 to 15: the seventh is half covered
    batch = data.test.batch(slice(0, 2))
    assert np.array_equal(batch.x["mask"].numpy(), np.broadcast_to(expected, (2, 1, 8, 8))) and all(
        batch.present["mask"]
    )
    names = [*ATTRIBUTES.values()]
    has = [{names[a] for a in np.flatnonzero(row)} for row in batch.x["attributes"].numpy()]
    assert has == [{"Wearing_Hat"}, {"Bald", "Male"}] and set(np.unique(batch.x["attributes"])) == {
        0.0,
        1.0,
    }
    assert [NAMES[place] for place in ATTRIBUTES] == names and data.notes[
        "attributes"
    ] == ", ".join(names)


def test_less_than_half_a_pixel_is_not_covered(folder: Path) -> None:
    for i in range(1990, 2010):
        hair, hat = np.zeros((2, 16, 16), np.uint8)
        hair[:3, ::2] = 255  # rows 0 and 1 are half covered, the next row of pixels a quarter
        save(folder / MASKS / str(i // 2000) / f"{i:05d}_hair.png", hair)
        save(folder / MASKS / str(i // 2000) / f"{i:05d}_hat.png", hat)
    mask = load("celebamask", root=folder.parent, size=8).train.x["mask"]
    assert (mask[:, :, 0] == 255).all() and not mask[:, :, 1:].any()


def test_a_mask_of_skin_alone_is_empty_and_no_part_is_an_error(folder: Path) -> None:
    for part in ("hair", "hat"):
        (folder / MASKS / "1" / f"02009_{part}.png").unlink()
    data = load("celebamask", root=folder)
    assert (
        not data.test.x["mask"][1].any()
        and data.test.x["mask"][0].any()
        and data.test.present["mask"].all()
    )
    (folder / MASKS / "1" / "02009_skin.png").unlink()
    (folder / IMAGES / "1992.jpg").unlink()
    (folder / IMAGES / "1995.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1992.jpg is missing, the first of 2; .*incomplete=True"
    ):
        load("celebamask", root=folder)
    data = load("celebamask", root=folder, size=8, incomplete=True)
    assert (
        np.flatnonzero(~data.train.present["image"]).tolist() == [2, 5]
        and data.train.present["mask"].all()
    )
    assert (
        data.test.present["mask"].tolist() == [True, False]
        and data.test.present["attributes"].all()
    )
    assert data.train.x["image"][:7, 0, 0, 0].tolist() == [0, 1, 0, 3, 4, 0, 6]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda place: (place / MASKS / "1" / "02003_skin.png").rename(
                place / MASKS / "0" / "02003_skin.png"
            ),
            None,
            "",
        ),
        (
            lambda place: [path.unlink() for path in (place / MASKS / "1").glob("02003_*")],
            FileNotFoundError,
            r"1/02003_\*.png: no part of this mask is there, the first of 1; .*incomplete=True",
        ),
        (
            lambda place: save(place / MASKS / "1" / "02003_hat.png", np.zeros((8, 8), np.uint8)),
            ValueError,
            "02003_.* differ in size",
        ),
        (
            lambda place: (place / MASKS / "1" / "02003_hat.png").write_bytes(b""),
            ValueError,
            "cannot read photo .*02003_hat.png",
        ),
        (
            lambda place: (place / IMAGES / "1992.jpg").write_bytes(b"x"),
            ValueError,
            "cannot read photo .*1992.jpg",
        ),
        (
            lambda place: (place / ANNOTATION).unlink(),
            FileNotFoundError,
            "CelebAMask-HQ-attribute-anno.txt is in none of",
        ),
        (
            lambda place: (place / ANNOTATION).write_text(""),
            ValueError,
            "line 2 does not name the 40 attributes",
        ),
        (
            lambda place: change(place, " Bald ", " Hairless "),
            ValueError,
            "line 2 does not name the 40 attributes",
        ),
        (
            lambda place: change(place, "20\n", "21\n"),
            ValueError,
            "says '21' images and has rows of 20",
        ),
        (
            lambda place: change(place, "1991.jpg  -1 ", "1991.jpg  "),
            ValueError,
            "line 4 is not I.jpg and 40 values",
        ),
        (
            lambda place: change(place, "1991.jpg  -1 ", "1991.jpg  0 "),
            ValueError,
            "line 4 is not I.jpg and 40 values",
        ),
        (lambda place: change(place, "1991.jpg", "1991.png"), ValueError, "line 4 is not I.jpg"),
        (
            lambda place: change(place, "1991.jpg", "1990.jpg"),
            ValueError,
            "says '20' images and has rows of 19",
        ),
        (
            lambda place: annotate(place, {i: set() for i in range(1990, 1999)}),
            ValueError,
            "has 9 images, expected 10 or more",
        ),
    ],
)
def test_bad_files(
    folder: Path, spoil: Callable[[Path], Any], error: type[Exception] | None, message: str
) -> None:
    spoil(folder)
    if error is None:  # a part that lies elsewhere is nobody's
        assert load("celebamask", root=folder).test.x["mask"].any()
        return
    with pytest.raises(error, match=message) as caught:
        load("celebamask", root=folder)
    assert "\n" not in str(caught.value)


def change(place: Path, old: str, new: str) -> None:
    text = (place / ANNOTATION).read_text()
    assert old in text
    (place / ANNOTATION).write_text(text.replace(old, new, 1))


def test_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size 4 of celebamask must be 8 or more"):
        load("celebamask", root=tmp_path, size=4)
    with pytest.raises(ValueError, match="option 'unpaired' does not apply to celebamask"):
        load("celebamask", root=tmp_path, unpaired=True)


# --- the procedural faces -------------------------------------------------------------------------------------------------


def read(root: Path) -> list[tuple[set[str], np.ndarray, dict[str, np.ndarray]]]:
    """By face: its attributes, its photo (64, 64, 3), and its masks by part."""
    place = root / "celebamask"
    found = []
    for i, line in enumerate((place / ANNOTATION).read_text().splitlines()[2:]):
        has = {name for name, value in zip(NAMES, line.split()[1:], strict=True) if value == "1"}
        photo = np.asarray(Image.open(place / IMAGES / f"{i}.jpg")).astype(int)
        paths = (place / MASKS / "0").glob(f"{i:05d}_*.png")
        found.append(
            (
                has,
                photo,
                {path.stem.partition("_")[2]: np.asarray(Image.open(path)) > 127 for path in paths},
            )
        )
    return found


def test_attributes_of_drawn_faces_are_seen(drawn: Path) -> None:
    faces = read(drawn)
    seen = set().union(*(has for has, _, _ in faces))
    assert seen == {*ATTRIBUTES.values()}
    for has, photo, parts in faces:
        assert ("eye_g" in parts) == ("Eyeglasses" in has) and ("hat" in parts) == (
            "Wearing_Hat" in has
        )
        assert ("hair" not in parts) == ("Bald" in has) and ("mouth" in parts) == (
            "Mouth_Slightly_Open" in has
        )
        assert np.sum([*parts.values()], 0).max() == 1  # no pixel has two parts
        colour = has & {*HAIR}
        assert len(colour) <= 1 and len(has & {"Straight_Hair", "Wavy_Hair"}) == ("Bald" not in has)
        if "hair" in parts:
            shade = np.median(photo[parts["hair"]], 0)
            nearest = min(HAIR, key=lambda name: float(np.abs(shade - HAIR[name]).sum()))
            assert {nearest} - {""} == colour
        pale = np.median(photo[parts["skin"]], 0).min() > 200
        assert pale == ("Pale_Skin" in has)
        assert not has & {"Bangs", "Receding_Hairline"} or not has & {"Bald", "Wearing_Hat"}
        lip = np.argwhere(parts["u_lip"])
        end, centre = lip[lip[:, 1].argmin()], round(lip[:, 1].mean())
        assert (end[0] < lip[lip[:, 1] == centre, 0].min()) == (
            "Smiling" in has
        )  # its ends are drawn up


def test_drawn_faces_are_read_back(drawn: Path) -> None:
    data = load("celebamask", root=drawn, size=64)
    assert [len(split) for split in data.splits().values()] == [48, 6, 6]
    faces = read(drawn)
    for i in (0, 30, 47):
        has, photo, parts = faces[i]
        np.testing.assert_array_equal(data.train.x["image"][i], photo.transpose(2, 0, 1))
        union = np.logical_or.reduce([mask for name, mask in parts.items() if name != "skin"])
        np.testing.assert_array_equal(data.train.x["mask"][i, 0] == 255, union)
        assert {
            name
            for name, v in zip(ATTRIBUTES.values(), data.train.x["attributes"][i], strict=True)
            if v
        } == has
    assert 0.2 < (load("celebamask", root=drawn).train.x["mask"] == 255).mean() < 0.6


def test_a_drawn_face_hangs_on_seed_and_number_alone(drawn: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 3), ("other", 4)):
        draw_faces(tmp_path / name, 10, seed=seed)
    first = [
        (place / IMAGES / "4.jpg").read_bytes()
        for place in (drawn / "celebamask", tmp_path / "again", tmp_path / "other")
    ]
    assert first[0] == first[1] != first[2]
