"""Texts of languages that part words by no blanks, and vocabularies that do not know
what they are shown."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint.data import Dataset, Vocabulary, load

CHINESE = [
    "一只红色的小鸟站在树上",
    "蓝色的大鸟在湖边喝水",
    "白色的鸟飞过城市的湖面",
    "黑色的鸟在水边看着小鱼",
]
THAI = ["นกสีแดงบนต้นไม้", "นกสีฟ้าริมทะเลสาบ"]
JAPANESE = ["赤い鳥が木の上にいる", "青い鳥が湖で水を飲む"]


def test_characters_are_tokens_and_text_comes_back() -> None:
    for texts in (CHINESE, THAI, JAPANESE, ["One red bird", "two red birds"]):
        vocabulary = Vocabulary.learn(texts * 3, "characters", min_count=1)
        assert (
            set(vocabulary.tokens[2:]) == {*"".join(texts)}
            and len(set(map(len, vocabulary.tokens[1:]))) == 1
        )
        assert vocabulary.decode(vocabulary.encode(texts, 32)) == texts and not vocabulary.unknown(
            texts[0]
        )
        assert vocabulary.unknown(texts[0][:2] + "鱻") == ["鱻"]
        ids = vocabulary.encode([texts[0][:2] + "鱻"], 4)
        np.testing.assert_array_equal(ids[0, 2:], [vocabulary.unknown_id, 0])
    few = Vocabulary.learn(["aaa bbb c"], "characters", min_count=3)
    assert few.tokens == ("", "\ufffd", "a", "b") and Vocabulary.learn(
        ["aab"], "characters", min_count=1, size=3
    ).tokens[2:] == ("a",)


def photos(place: Path, texts: list[str], **options: Any) -> Dataset:
    place.mkdir()
    rows = []
    for i, text in enumerate(texts):
        Image.new("RGB", (8, 8), (i, i, i)).save(place / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "caption": text})
    (place / "captions.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return load(place, size=8, length=12, **options)


def test_captions_that_are_mostly_unknown_are_said(tmp_path: Path) -> None:
    texts = [f"{CHINESE[i % 4]}{i}" for i in range(40)]
    with pytest.warns(
        UserWarning,
        match=r"4 of the 4 tokens of the validation captions of .* 'characters' for a language",
    ):
        assert photos(tmp_path / "words", texts).modalities[1].words == ("", "<unk>")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = photos(tmp_path / "characters", texts, tokens="characters", seed=3)
        photos(
            tmp_path / "english", [f"a red bird {i}" for i in range(40)]
        )  # a number in four tokens is no third
    rows = [
        data.modalities[1].text(ids)
        for split in (data.train_split, data.val, data.test)
        for ids in split.x["caption"]
    ]
    assert {row[:8] for row in rows} == {text[:8] for text in CHINESE}


def test_texts_of_shards_that_are_mostly_unknown_are_said(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(
        pa.table({"note": [f"{CHINESE[i % 4]}{i}" for i in range(40)]}), tmp_path / "a.parquet"
    )
    with pytest.warns(UserWarning, match="4 of the 4 tokens of the validation texts 'note'"):
        load(tmp_path, length=12)
    data = load(tmp_path, length=12, tokens="characters")
    assert data.modalities[0].text(data.val.x["note"][0])[:6] in {text[:6] for text in CHINESE}
