"""digits-quadrant, and what the digit sets are made with."""

from __future__ import annotations

import numpy as np
import pytest
from processes import own_seconds, ratio

from counterpoint.data import Dataset, load
from counterpoint.data.sets.compose import (
    crops,
    paint,
    pair_by_class,
    place,
    quadrant_corners,
    quadrant_paints,
    resize,
)
from counterpoint.data.sets.digits import _digits, _fixed_split
from counterpoint.data.sets.textures import texture


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits-quadrant")


def ink(images: np.ndarray, how: str) -> np.ndarray:
    """Where a view painted in a pure colour shows the solid part of its digit."""
    colour = np.array([255 * (how == "red"), 0, 255 * (how == "blue")], np.uint8)
    return (images == colour[:, None, None]).all(1)


def test_painting_costs_no_more_than_drawing_as_many_random_numbers() -> None:
    """In a copy of each digit; both grow with the number of pixels."""
    pixels = (
        sum(
            split.x["view0"].size for split in load("digits-quadrant", pairings=1).splits().values()
        )
        * 3
    )

    def draw() -> None:
        np.random.default_rng(0).normal(size=pixels)

    assert (
        ratio(
            lambda: own_seconds(lambda: load("digits-quadrant", pairings=1)),
            lambda: own_seconds(draw),
        )
        < 3
    )


def test_shapes_and_sizes(data: Dataset) -> None:
    assert {part: len(split) for part, split in data.splits().items()} == {
        "train": 17_600,
        "val": 800,
        "test": 1_988,
    }
    assert [(m.name, m.shape, m.likelihood, m.scale) for m in data.modalities] == [
        (f"view{v}", (3, 16, 16), "laplace", 0.75) for v in range(3)
    ]
    assert all(split.x["view1"].dtype == np.uint8 for split in data.splits().values())
    assert "synthesised" in data.notes["backgrounds"]


def test_no_digit_is_in_two_splits_and_classes_are_balanced() -> None:
    labels = _digits()[1]
    parts = _fixed_split(labels)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1797))
    assert (
        np.bincount(labels[parts["train"]]).tolist() == [110] * 10
        and np.bincount(labels[parts["val"]]).tolist() == [20] * 10
    )
    assert [int(parts[p][:500].sum()) for p in parts] == [
        int(_fixed_split(labels)[p][:500].sum()) for p in parts
    ]


def test_the_digit_stands_in_its_quadrant(data: Dataset) -> None:
    for name, how in (("view0", "red"), ("view2", "blue")):
        seen = ink(data.test.x[name], how).reshape(-1, 2, 8, 2, 8).sum((2, 4)).reshape(-1, 4)
        solid = seen.max(1) > 0  # a few faint digits have no pixel of full ink
        assert solid.mean() > 0.95 and np.sort(seen, 1)[:, :3].max() == 0
        np.testing.assert_array_equal(
            seen.argmax(1)[solid], data.test.private_labels["quadrant"][name][solid]
        )


def test_quadrants_are_uniform_and_independent_of_each_other_and_of_the_digit(
    data: Dataset,
) -> None:
    quadrant, digit = data.train.private_labels["quadrant"], data.train.shared_labels["digit"]
    rows = len(digit)
    for a, b, cells in (
        (quadrant["view0"], quadrant["view1"], 16),
        (quadrant["view1"], quadrant["view2"], 16),
        (quadrant["view0"], digit, 40),
    ):
        counts = np.bincount(a + 4 * b, minlength=cells)
        np.testing.assert_allclose(counts, rows / cells, rtol=0.2)


def test_views_show_different_digits_of_one_class(data: Dataset) -> None:
    images, labels = _digits()
    solid = images == 255
    known = [set(map(bytes, solid[labels == c])) for c in range(10)]
    found = []
    for name, how in (("view0", "red"), ("view2", "blue")):
        full = ink(data.val.x[name], how)
        top_left = quadrant_corners(data.val.private_labels["quadrant"][name], 16)
        found.append(
            [m[i : i + 8, j : j + 8].tobytes() for m, (i, j) in zip(full, top_left, strict=True)]
        )
        assert all(
            mask in known[c]
            for mask, c in zip(found[-1], data.val.shared_labels["digit"], strict=True)
        )
    same = np.mean([a == b for a, b in zip(*found, strict=True)])
    assert same < 0.1  # 1 in 20 by chance: 20 digits of a class in this split


def test_seed_and_options() -> None:
    small = load("digits-quadrant", pairings=1)
    assert (
        small.checksum()
        == load("digits-quadrant", pairings=1).checksum()
        != load("digits-quadrant", pairings=1, seed=1).checksum()
    )
    np.testing.assert_array_equal(
        small.test.x["view0"], load("digits-quadrant", pairings=2).test.x["view0"]
    )  # pairings are of the training set's
    large = load("digits-quadrant", size=32, views=5, pairings=1)
    assert (
        len(large.train) == 1100
        and large.train.x["view4"].shape == (1100, 3, 32, 32)
        and len(large.modalities) == 5
    )
    red, _, blue = large.train.x["view4"].astype(int).transpose(1, 0, 2, 3)
    assert 30 < (blue - red > 128).sum((1, 2)).mean() < 130


def test_inverted_digits_stand_out_from_their_background(data: Dataset) -> None:
    """The picture without digits is the texture; under a digit of an inverting view the
    pixel is 255 minus it."""
    background = texture(1, 0).astype(int)
    assert (
        abs(background.mean(0) - 127.5).mean() > 40
    )  # so inverting changes brightness by 80 levels on average
    pixels = data.train.x["view1"].astype(int).mean(1)
    bright = pixels > 127.5
    assert 0.03 < bright.mean() < 0.2  # the digits: about a third of a quadrant


def test_labels_can_be_read_off_the_pixels(data: Dataset) -> None:
    """A linear classifier that looks at the right quadrant reads the digit: legible, in
    a view that inverts too."""
    from sklearn.linear_model import LogisticRegression

    def quarter(split: str) -> tuple[np.ndarray, np.ndarray]:
        part = data.splits()[split].take(np.arange(600))
        at = quadrant_corners(part.private_labels["quadrant"]["view1"], 16)
        return crops_of(part.x["view1"].mean(1), at, 8), part.shared_labels["digit"]

    def crops_of(grey: np.ndarray, at: np.ndarray, side: int) -> np.ndarray:
        return (
            np.stack(
                [g[i : i + side, j : j + side].ravel() for g, (i, j) in zip(grey, at, strict=True)]
            )
            / 255
        )

    fit = LogisticRegression(max_iter=2000).fit(*quarter("train"))
    assert fit.score(*quarter("test")) > 0.8


@pytest.mark.parametrize(
    "options", [{"size": 15}, {"size": 8}, {"views": 0}, {"pairings": 0}, {"seed": -1}]
)
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        load("digits-quadrant", **options)  # type: ignore[arg-type]


def test_pairs_are_permutations_within_the_class() -> None:
    labels = np.array([0, 1, 1, 0, 2, 1])
    digit, rows = pair_by_class([labels, labels], 3, np.random.default_rng(0))
    assert digit.shape == (18,) and rows.shape == (2, 18)
    for view in rows:
        np.testing.assert_array_equal(labels[view], digit)
        for draw in view.reshape(3, 6):
            assert sorted(draw) == list(range(6))
    assert (rows[0] != rows[1]).any()


def test_a_smaller_view_goes_round_again_evenly() -> None:
    small, large = np.array([0, 0, 1]), np.repeat([0, 1], [5, 4])
    digit, rows = pair_by_class([small, large], 1, np.random.default_rng(0))
    assert np.bincount(digit).tolist() == [5, 4] and sorted(rows[1]) == list(range(9))
    assert sorted(np.bincount(rows[0])) == [2, 3, 4]
    with pytest.raises(ValueError, match="view 1 has no row of class 2"):
        pair_by_class([np.array([0, 2]), np.array([0])], 1, np.random.default_rng(0))


def test_place_crop_and_paint_by_hand() -> None:
    canvas = place(np.full((2, 1, 2), 255, np.uint8), np.array([[0, 1], [2, 0]]), 3)
    np.testing.assert_array_equal(canvas[0], [[0, 255, 255], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(canvas[1], [[0, 0, 0], [0, 0, 0], [255, 255, 0]])
    picture = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    cut = crops(picture, np.array([[1, 2], [0, 0]]), 3)
    np.testing.assert_array_equal(cut[0], picture[:, 1:4, 2:5])
    inverted = paint(cut.copy(), canvas, "invert")
    assert inverted[0, 2, 0, 1] == 255 - cut[0, 2, 0, 1] and inverted[0, 2, 0, 0] == cut[0, 2, 0, 0]
    assert paint(cut.copy(), canvas, "red")[0, :, 0, 1].tolist() == [255, 0, 0]
    assert paint(cut.copy(), canvas, "blue")[1, :, 2, 1].tolist() == [0, 0, 255]
    assert paint(cut.copy(), canvas, "blue")[1, :, 2, 2].tolist() == cut[1, :, 2, 2].tolist()
    half = paint(
        cut.copy(), (canvas > 0) * np.uint8(51), "red"
    )  # a fifth of the way from the background to red
    assert half[0, :, 0, 1].tolist() == [
        round(0.8 * int(v) + 0.2 * r) for v, r in zip(cut[0, :, 0, 1], (255, 0, 0), strict=True)
    ]
    assert picture[0, 0, 0] == 0  # crops are copies


def test_resize_is_what_pil_does() -> None:
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for side in (21, 32):
        theirs = np.stack(
            [
                np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR))
                for i in images
            ]
        )
        assert np.abs(resize(images, side).astype(int) - theirs).max() <= 1


def test_paints_of_quadrant_sets() -> None:
    assert quadrant_paints(5) == ("red", "invert", "invert", "invert", "blue")
    assert [quadrant_paints(n) for n in (1, 2)] == [("red",), ("red", "blue")]


def test_textures_differ_between_views_and_repeat_by_seed() -> None:
    made = [texture(v, 0, 64) for v in range(7)]
    assert len({t.tobytes() for t in made}) == 7
    np.testing.assert_array_equal(made[6], texture(6, 0, 64))
    colours = np.stack([t.reshape(3, -1).mean(1) for t in made])
    assert min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 10
