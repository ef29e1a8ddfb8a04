"""Text as ids and back: what a word is, what is unknown, and pieces of words against
the library that they were trained with."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import ENVIRONMENT

from counterpoint.data import Vocabulary
from counterpoint.data.sets.words import ALPHABET, WORDS
from counterpoint.data.text import PADDING, UNKNOWN, words_of

BIRDS = ["a red bird, with red wings.", "A bird with a small beak", "small red birds"] * 2 + [
    "one yellow-winged warbler"
]


def test_words_are_cut_and_numbered() -> None:
    assert (
        " ".join(words_of("It's BLACK-and-white; 2 wings (long)."))
        == "it ' s black - and - white ; 2 wings ( long ) ."
    )
    assert words_of("a\ufffd\ufffdgrey  bird") == ["a", "grey", "bird"]
    assert Vocabulary((PADDING, UNKNOWN, "red", "wing")).encode(
        ["red red wing", "blue", ""], 2
    ).tolist() == [[2, 2], [1, 0], [0, 0]]


def test_words_are_learned_by_frequency() -> None:
    assert Vocabulary.learn(BIRDS, min_count=4).tokens == (
        "",
        "<unk>",
        "a",
        "red",
        "bird",
        "small",
        "with",
    )  # 6, then 4 each, by alphabet
    assert Vocabulary.learn(BIRDS, min_count=4, size=4).tokens == ("", "<unk>", "a", "red")
    assert Vocabulary.learn(reversed(BIRDS)).tokens == Vocabulary.learn(BIRDS).tokens
    assert Vocabulary.learn([], min_count=1).tokens == ("", "<unk>")


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_what_is_known_comes_back(kind: Any) -> None:
    """Decoding gives the words of each text with blanks between, and encoding those the
    same ids."""
    vocabulary = Vocabulary.learn(BIRDS, kind, min_count=1)
    ids = vocabulary.encode(BIRDS, 30)
    assert vocabulary.decode(ids) == [" ".join(words_of(text)) for text in BIRDS]
    np.testing.assert_array_equal(vocabulary.encode(vocabulary.decode(ids), 30), ids)
    assert not (ids == 1).any() and ids.max() < len(vocabulary) and ids.dtype == np.int64
    modality = vocabulary.modality("caption", 30)
    assert (modality.shape, modality.classes, modality.words) == (
        (30,),
        len(vocabulary),
        vocabulary.tokens,
    )
    assert modality.text(ids[0]) == "a red bird , with red wings ."
    np.testing.assert_array_equal(
        Vocabulary(modality.words).encode(BIRDS, 30), ids
    )  # the modality is all it takes


def test_what_is_long_is_cut_and_what_is_unknown_is_said() -> None:
    vocabulary = Vocabulary.learn(BIRDS, min_count=2)
    assert vocabulary.decode(vocabulary.encode(["red bird with a small beak"], 4)) == [
        "red bird with a"
    ]
    assert vocabulary.encode(["zebra red Quagga"], 4).tolist() == [
        [1, vocabulary.tokens.index("red"), 1, 0]
    ]
    assert (
        vocabulary.unknown("zebra red Quagga") == ["zebra", "quagga"]
        and vocabulary.unknown("Red BIRD.") == []
    )
    assert vocabulary.decode([[1, 0, 2]]) == [f"<unk> {vocabulary.tokens[2]}"]
    assert vocabulary.unknown("redbird") == [
        "redbird"
    ]  # two words joined are none where there are no pieces


def test_pieces_make_words_that_were_never_seen() -> None:
    vocabulary = Vocabulary(
        ("", "<unk>", "red", "r", "##wing", "##wings", "##ing", "##s", "##e", ".")
    )
    assert vocabulary.encode(["Redwings. redwing"], 6).tolist() == [
        [2, 5, 9, 2, 4, 0]
    ]  # the longest first
    assert vocabulary.decode([[2, 5, 9, 2, 4, 0]]) == ["redwings . redwing"]
    assert vocabulary.encode(["reds rex"], 4).tolist() == [
        [2, 7, 1, 0]
    ]  # "r", "##e", and nothing for the x: the whole word is unknown
    assert vocabulary.encode(["r" + "e" * 99, "r" + "e" * 100], 200)[:, :2].tolist() == [
        [3, 8],
        [1, 0],
    ]


def test_pieces_are_cut_as_tokenizers_cuts_them() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    rng = random.Random(0)
    texts = ["".join(rng.choices("abc ", (4, 2, 1, 2), k=40)) for _ in range(60)]
    vocabulary = Vocabulary.learn(texts[:40], "pieces", min_count=2, size=60)
    assert len(vocabulary) == 60 and sum(token.startswith("##") for token in vocabulary.tokens) > 20
    theirs = Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary.tokens)}, unk_token="<unk>")
    )
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for text, row in zip(texts, vocabulary.encode(texts, 60), strict=True):
        assert [i for i in row if i] == theirs.encode(text).ids


def test_pieces_are_the_same_whenever_they_are_learned() -> None:
    """A run that is opened again learns its vocabulary again; ties are many here, and
    hash tables have other orders in every process."""
    code = f"from counterpoint.data import Vocabulary; print(*Vocabulary.learn({BIRDS!r}, 'pieces', min_count=1, size=90).tokens)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1
    assert Vocabulary.learn(BIRDS[::-1], "pieces", min_count=1, size=90).tokens[2:] == tuple(
        found.pop().split()[1:]
    )


def test_frequent_pieces_are_joined_first() -> None:
    vocabulary = Vocabulary.learn(["wings"] * 5 + ["sings"] * 5 + ["was"], "pieces", min_count=2)
    assert {"wings", "sings"} <= {*vocabulary.tokens} and "was" not in vocabulary.tokens
    assert vocabulary.decode(vocabulary.encode(["was swing"], 12)) == [
        "was <unk>"
    ]  # w never goes on with a word


def test_characters_stand_side_by_side() -> None:
    """The digits' words: an alphabet whose blank is padding."""
    vocabulary = Vocabulary(tuple(ALPHABET))
    ids = vocabulary.encode([*WORDS, "  two"], 8)
    assert vocabulary.decode(ids[:2]) == ["zero····", "one·····"] and vocabulary.decode(
        ids[-1:]
    ) == ["··two···"]
    np.testing.assert_array_equal(vocabulary.encode(vocabulary.decode(ids), 8), ids)
    with pytest.raises(
        ValueError, match=r"'Q' in 'Quail' is none of the 16 tokens; choose other words"
    ):
        vocabulary.encode(["Quail"], 8)


def test_saved_and_loaded_alike(tmp_path: Path) -> None:
    vocabulary = Vocabulary.learn([*BIRDS, "über 鳥"], "pieces", min_count=1)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary and [
        p.name for p in tmp_path.iterdir()
    ] == ["v.json"]
    assert "鳥" in (tmp_path / "v.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "v.json holds no vocabulary"),
        ("[]", "v.json holds no vocabulary"),
        ('{"format": 1}', r"v.json holds no vocabulary \('tokens'\)"),
        (
            json.dumps({"format": 2, "tokens": ["a", "b"]}),
            "v.json holds no list of tokens of format 1",
        ),
        (json.dumps({"format": 1, "tokens": ["a", 2]}), "v.json holds no list of tokens"),
        (json.dumps({"format": 1, "tokens": ["a"]}), "has 1 tokens; give two"),
        (json.dumps({"format": 1, "tokens": ["a", "b", "a"]}), "holds 'a' more than once"),
    ],
)
def test_what_is_no_vocabulary(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        Vocabulary.load(tmp_path / "v.json")
    assert "\n" not in str(caught.value)


def test_bad_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in (
        ({"kind": "letters"}, "tokens 'letters' must be one of words, pieces"),
        ({"min_count": 0}, "min_count 0 must be 1 or more"),
        ({"size": 2}, "vocabulary_size 2 must be 3 or more"),
        (
            {"kind": "pieces", "size": 10},
            r"vocabulary_size 10 is too small: .* the characters alone are \d\d",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Vocabulary.learn(BIRDS, **options)
    with pytest.raises(FileNotFoundError, match=r"no vocabulary .*none.json"):
        Vocabulary.load(tmp_path / "none.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"this needs tokenizers, .*counterpoint\[text\]"):
        Vocabulary.learn(BIRDS, "pieces")
    assert len(Vocabulary.learn(BIRDS)) > 2
