"""The digit's word as a third modality."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint import figures
from counterpoint.data import Dataset, Split
from counterpoint.data.sets.words import ALPHABET, WORDS, with_words
from counterpoint.metrics import JudgeOptions, train_judges

ROWS = 6000


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    """Two modalities, of which one is absent in places; all splits have the same rows."""
    rng = np.random.default_rng(0)
    modalities = (cp.Modality("left", (2,), "normal", 1.0), cp.Modality("right", (1, 4, 4)))
    digit = rng.integers(0, 10, ROWS)
    x = {
        "left": rng.normal(size=(ROWS, 2)),
        "right": rng.integers(0, 256, (ROWS, 1, 4, 4), dtype=np.uint8),
    }
    split = Split(
        x,
        modalities,
        {"left": rng.random(ROWS) < 0.9},
        {"digit": digit},
        {"side": {"left": digit % 2}},
    )
    return Dataset("pairs", modalities, split, split, split, {"source": "made"})


@pytest.fixture(scope="module")
def spelt(pairs: Dataset) -> Dataset:
    return with_words(pairs)


def starts(split: Split) -> np.ndarray:
    """Where the word of each row starts."""
    return (split.x["text"] > 0).argmax(1)


def test_every_row_spells_its_digit(spelt: Dataset) -> None:
    text = spelt.modalities[2]
    assert (text.name, text.shape, text.likelihood, text.classes, text.weight) == (
        "text",
        (8,),
        "categorical",
        16,
        1.0,
    )
    assert set(ALPHABET) == {"·", *"".join(WORDS)} and len(ALPHABET) == 16
    for split in spelt.splits().values():
        assert split.x["text"].dtype == np.uint8
        shown = [text.text(ids) for ids in split.x["text"]]
        assert {len(word) for word in shown} == {8}
        assert [word.strip("·") for word in shown] == [
            WORDS[digit] for digit in split.shared_labels["digit"]
        ]
    assert spelt.test.batch(slice(0, 3)).x["text"].dtype == torch.int64


def test_words_stand_wherever_they_fit(spelt: Dataset) -> None:
    digit = spelt.train.shared_labels["digit"]
    for number, word in enumerate(WORDS):
        places = 9 - len(word)
        counts = np.bincount(starts(spelt.train)[digit == number])
        share = counts / counts.sum()
        assert len(share) == places and abs(share - 1 / places).max() < 4 * np.sqrt(
            0.25 / counts.sum()
        )


def test_places_hang_on_the_seed_and_the_split_alone(pairs: Dataset, spelt: Dataset) -> None:
    again, other = with_words(pairs), with_words(pairs, seed=1)
    assert spelt.checksum() == again.checksum() != other.checksum()
    three = np.isin(
        pairs.train.shared_labels["digit"], (1, 2, 6)
    )  # words of three letters have six places
    for a, b in (
        (spelt.train, spelt.val),
        (spelt.train, spelt.test),
        (spelt.val, spelt.test),
        (spelt.train, other.train),
    ):
        assert (starts(a) == starts(b))[three].mean() == pytest.approx(1 / 6, abs=0.04)


def test_all_else_stays(pairs: Dataset, spelt: Dataset) -> None:
    assert (
        spelt.name == "pairs-text"
        and spelt.notes == pairs.notes
        and spelt.modalities[:2] == pairs.modalities
    )
    for before, after in zip(pairs.splits().values(), spelt.splits().values(), strict=True):
        assert all(np.array_equal(after.x[name], before.x[name]) for name in before.x)
        assert (
            np.array_equal(after.present["left"], before.present["left"])
            and after.present["text"].all()
        )
        assert np.array_equal(after.shared_labels["digit"], before.shared_labels["digit"])
        assert after.private_labels["side"].keys() == {"left"}


def test_a_judge_reads_the_digit(spelt: Dataset) -> None:
    judges = train_judges(spelt, options=JudgeOptions(width=16, features=32, steps=200))
    assert (
        judges.look(spelt.test)["text"].hits("digit", spelt.test.shared_labels["digit"]).mean()
        > 0.99
    )


def test_pictures_show_the_words(spelt: Dataset) -> None:
    method = cp.MMVAE(
        spelt.modalities, shared_dim=2, networks=cp.NetworkOptions(width=4, hidden=(8,))
    )
    rows = figures.complete_rows(spelt.test, 10, spelt.test.shared_labels["digit"])
    drawn = [
        text.get_text() for text in figures.reconstructions(method, spelt.test, n=10).axes[0].texts
    ]
    data = drawn[:10]
    assert data == [spelt.modalities[2].text(ids) for ids in spelt.test.x["text"][rows]] and {
        word.strip("·") for word in data
    } == {*WORDS}
    assert all(len(made) == 8 and set(made) <= set(ALPHABET) for made in drawn[10:20])
