"""Folders of images and captions, packed folders, and text on the command line: files
that the tests write."""

from __future__ import annotations

import csv
import json
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.data import Dataset, Vocabulary, load, pack
from counterpoint.data.images import Pictures
from counterpoint.data.sources import image_folder as folder
from counterpoint.data.sources import packing

WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
]
ROWS = 24
Row = dict[str, Any]


def pixels(i: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)


def rows(changes: dict[int, Row | None] | None = None) -> list[Row]:
    """A row an image, which says its number; of rows in changes other columns, or none
    at all."""
    made = [
        {
            "file_name": f"birds/{i:02d}.png",
            "caption": f"A bird number {WORDS[i % 12]}.",
            "label": ["wren", "jay"][i % 2],
            "split": ["train", "train", "validation", "test"][i % 4],
        }
        for i in range(ROWS)
    ]
    return [
        row | (changed or {})
        for i, row in enumerate(made)
        if (changed := (changes or {}).get(i, {})) is not None
    ]


def write(
    place: Path, table: Sequence[Row], name: str = "captions.jsonl", images: int = ROWS
) -> Path:
    """The folder: PNG files, of which not a pixel changes, and a table."""
    (place / "birds").mkdir(parents=True, exist_ok=True)
    for i in range(images):
        Image.fromarray(pixels(i)).save(place / "birds" / f"{i:02d}.png")
    if name.endswith(".csv"):
        with (place / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*dict.fromkeys(key for row in table for key in row)])
            writer.writeheader()
            writer.writerows(table)
    else:
        (place / name).write_text(
            "".join(json.dumps(row) + "\n" for row in table), encoding="utf-8"
        )
    return place


def shown(data: Dataset, part: str) -> list[int | None]:
    """Which image each row of a split shows, pixel for pixel."""
    whole = np.stack([pixels(i).transpose(2, 0, 1) for i in range(ROWS)])
    split = data.splits()[part]
    return [
        int(np.flatnonzero((whole == x).all((1, 2, 3)))[0]) if here else None
        for x, here in zip(np.asarray(split.x["image"]), split.present["image"], strict=True)
    ]


def said(data: Dataset, part: str) -> list[str | None]:
    split = data.splits()[part]
    texts = [data.modalities[1].text(ids) for ids in split.x["caption"]]
    return [
        text if here else None for text, here in zip(texts, split.present["caption"], strict=True)
    ]


def read(place: Path, **options: Any) -> Dataset:
    return load(place, **{"size": 8, "min_count": 1, "length": 8} | options)


@pytest.mark.parametrize(
    "name", ["captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl"]
)
def test_images_captions_labels_and_splits(name: str, tmp_path: Path) -> None:
    data = read(write(tmp_path / "aviary", rows(), name))
    assert data.name == "aviary" and [
        (m.name, m.shape, m.likelihood, m.scale) for m in data.modalities
    ] == [
        ("image", (3, 8, 8), "laplace", 0.75),
        ("caption", (8,), "categorical", None),
    ]
    assert {part: shown(data, part) for part in data.splits()} == {
        "train": [i for i in range(ROWS) if i % 4 < 2],
        "val": [*range(2, ROWS, 4)],
        "test": [*range(3, ROWS, 4)],
    }
    for part, split in data.splits().items():
        assert split.x["image"].dtype == np.uint8 and all(
            here.all() for here in split.present.values()
        )
        assert split.shared_labels["label"].tolist() == [
            1 - i % 2 for i in shown(data, part) if i is not None
        ]  # jay, wren
        known = [
            WORDS[i % 12] if part == "train" or i % 12 in (0, 1, 4, 5, 8, 9) else "<unk>"
            for i in shown(data, part)
            if i is not None
        ]
        assert said(data, part) == [f"a bird number {word} ." for word in known]
    assert data.notes["label/label"] == "jay, wren" and data.notes["incomplete"].startswith(
        "0 without an image (0 named"
    )
    assert data.checksum() == read(write(tmp_path / "again" / "aviary", rows())).checksum()


def test_the_middle_square_is_shown_upright(tmp_path: Path) -> None:
    """A wide photo loses its sides, and one that was taken with the camera on its side
    is turned."""
    place = write(tmp_path, rows({3: {"file_name": "wide.png"}, 7: {"file_name": "turned.png"}}))
    Image.fromarray(np.concatenate([pixels(99)[:, :2], pixels(3), pixels(98)[:, :2]], 1)).save(
        place / "wide.png"
    )
    turned = Image.fromarray(np.rot90(pixels(7)).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(place / "turned.png", exif=exif)
    for i in (3, 7):
        (place / "birds" / f"{i:02d}.png").unlink()
    assert shown(read(place), "test") == [*range(3, ROWS, 4)]


def test_rows_are_divided_where_the_table_names_no_splits(tmp_path: Path) -> None:
    """By image: all captions of one fall to one split, whichever is picked."""
    table = [{**row, "split": None} for row in rows() for _ in range(3)]
    for row in table:
        del row["split"]
    place = write(tmp_path, table, "captions.csv")
    one, other, every = (
        read(place),
        read(place, seed=1),
        read(place, captions="all", fractions=(0.5, 0.25, 0.25)),
    )
    assert [len(split) for split in one.splits().values()] == [20, 2, 2] and [
        len(s) for s in every.splits().values()
    ] == [36, 18, 18]
    for data in (one, other):
        assert sorted(i for part in data.splits() for i in shown(data, part) if i is not None) == [
            *range(ROWS)
        ]
    assert shown(one, "test") != shown(other, "test")
    parts = [{*shown(every, part)} for part in every.splits()]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and len(set.union(*parts)) == ROWS


@pytest.mark.parametrize("as_list", [True, False])
def test_several_captions_of_an_image(as_list: bool, tmp_path: Path) -> None:
    """A list, and rows of the same image wherever they stand, are alike."""
    table = rows()
    if as_list:
        table = [{**row, "caption": [row["caption"], f"again {i}"]} for i, row in enumerate(table)]
    else:
        table += [{**row, "caption": f"again {i}"} for i, row in enumerate(table)]
    write(tmp_path, table)
    data = read(tmp_path, captions="all")
    assert shown(data, "train") == [i for i in range(ROWS) if i % 4 < 2 for _ in range(2)]
    assert said(data, "train") == [
        t
        for i in range(ROWS)
        if i % 4 < 2
        for t in (f"a bird number {WORDS[i % 12]} .", f"again {i}")
    ]
    assert data.train.shared_labels["label"].tolist() == [
        1 - i % 2 for i in range(ROWS) if i % 4 < 2 for _ in range(2)
    ]
    one, again, other = read(tmp_path), read(tmp_path), read(tmp_path, seed=5)
    assert shown(one, "train") == [i for i in range(ROWS) if i % 4 < 2] == shown(other, "train")
    first = [text is not None and text.startswith("again") for text in said(one, "train")]
    assert 0 < sum(first) < len(first) and said(one, "train") == said(again, "train") != said(
        other, "train"
    )
    assert (
        one.modalities[1].words == data.modalities[1].words
    )  # of all captions, whichever are picked


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_what_is_not_there_is_absent(name: str, tmp_path: Path) -> None:
    """Null, an empty field, no such file, and an image that the table does not name."""
    place = write(
        tmp_path,
        rows(
            {
                0: {"caption": None},
                1: {"file_name": None},
                3: {"file_name": "birds/gone.png"},
                4: None,
            }
        ),
        name,
    )
    data = read(place)
    train = [
        0,
        None,
        5,
        *(i for i in range(6, ROWS) if i % 4 < 2),
        1,
        3,
        4,
    ]  # what is named, then images 1, 3 and 4, which are not
    assert shown(data, "train") == train and shown(data, "test") == [None, *range(7, ROWS, 4)]
    assert (
        said(data, "train")[:2] == [None, "a bird number one ."]
        and said(data, "train")[-3:] == [None] * 3
    )
    assert (
        said(data, "test")[0] == "a bird number <unk> ."
        and not data.test.x["image"][0].any()
        and not data.train.x["caption"][0].any()
    )
    assert (
        data.train.shared_labels["label"].tolist()[-3:] == [-1] * 3
        and data.train.shared_labels["label"][1] == 0
    )
    assert (
        data.notes["incomplete"]
        == "2 without an image (1 named and not there), 4 without a caption"
    )
    batch = data.train.batch(slice(0, 2))
    assert batch.present["image"].tolist() == [True, False] and batch.present[
        "caption"
    ].tolist() == [False, True]


def test_tables_of_other_make(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, quoted line breaks and blank lines;
    ``text`` for captions; whole numbers for labels."""
    (write(tmp_path / "csv", []) / "captions.jsonl").unlink()
    lines = [f'birds/{i:02d}.png,"two\nlines, ""{WORDS[i % 12]}""",{i % 3}' for i in range(ROWS)]
    (tmp_path / "csv" / "metadata.csv").write_bytes(
        "\r\n".join(["\ufefffile_name,text,label", *lines[:5], "", *lines[5:], ""]).encode()
    )
    data = read(tmp_path / "csv", fractions=(0.5, 0.25, 0.25), length=9)
    for part, split in data.splits().items():
        assert split.shared_labels["label"].tolist() == [
            i % 3 for i in shown(data, part) if i is not None
        ]
        texts = [text for text in said(data, part) if text]
        assert len(texts) == len(split) and all(text.startswith('two lines , " ') for text in texts)
    assert "label/label" not in data.notes
    table = [
        {
            "file_name": f"birds/{i:02d}.png",
            "captions": "a\u2028b" if i % 2 else ["c"],
            "label": i % 3 - 1,
        }
        for i in range(ROWS)
    ]
    (write(tmp_path / "json", table) / "captions.jsonl").write_text(
        "\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    )
    data = read(tmp_path / "json")
    assert {*said(data, "train")} == {"a b", "c"} and {
        *data.train.shared_labels["label"].tolist()
    } == {-1, 0, 1}


def test_pieces_and_vocabularies_of_files(tmp_path: Path) -> None:
    place = write(tmp_path / "a", rows({3: {"caption": "a zone bird."}}))
    pieces = read(place, tokens="pieces", vocabulary_size=90, length=20)
    assert pieces.modalities[1].classes == len(pieces.modalities[1].words) <= 90
    assert said(pieces, "test")[0] == "a zone bird ."  # letters were seen, the word was not
    with pytest.warns(
        UserWarning, match="18 of the 30 tokens of the validation captions of .* are unknown"
    ):
        words = read(place, vocabulary_size=4)
    assert (
        words.modalities[1].words == ("", "<unk>", ".", "a")
        and read(place, min_count=12).modalities[1].classes == 2 + 4
    )
    Vocabulary(("", "<unk>", *WORDS, "a", "bird", "number", ".", "zone")).save(tmp_path / "v.json")
    given = read(place, vocabulary=tmp_path / "v.json")
    assert (
        given.modalities[1].words == Vocabulary.load(tmp_path / "v.json").tokens
        and said(given, "test")[0] == "a zone bird ."
    )


BAD: dict[str, tuple[dict[int, Row | None], str, str]] = {
    "no word": (
        {5: {"caption": " "}},
        "captions.csv",
        r"captions.csv line 7: caption ' ' holds no word; null says",
    ),
    "an empty text": (
        {5: {"caption": ""}},
        "captions.jsonl",
        r"captions.jsonl line 6: caption '' holds no word; null says",
    ),
    "an empty text of several": (
        {5: {"caption": ["a", ""]}},
        "captions.jsonl",
        r"line 6: caption '' holds no word",
    ),
    "no text": (
        {5: {"caption": 3}},
        "captions.jsonl",
        r"line 6: caption is 3, expected text, a list of texts, or null",
    ),
    "no texts": (
        {5: {"caption": ["a", None]}},
        "captions.jsonl",
        r"line 6: caption is \['a', None\], expected text",
    ),
    "no name": ({5: {"file_name": 3}}, "captions.jsonl", r"line 6: file_name is 3, expected text"),
    "no label": (
        {5: {"label": [1]}},
        "captions.jsonl",
        r"line 6: label is \[1\], expected text or a whole number",
    ),
    "truth as a label": ({5: {"label": True}}, "captions.jsonl", r"line 6: label is True"),
    "another split": (
        {5: {"split": "extra"}},
        "captions.csv",
        r"line 7: split is 'extra', expected one of train, val, valid, validation, dev, test",
    ),
    "no split": (
        {5: {"split": None}},
        "captions.csv",
        r"line 7: split is null, and other rows have one",
    ),
    "nothing": (
        {5: {"caption": None, "file_name": None}},
        "captions.jsonl",
        r"line 6: neither an image nor a caption",
    ),
    "no file and nothing": (
        {5: {"caption": None, "file_name": "x.png"}},
        "captions.csv",
        r"line 7: no file .*x.png, and no caption",
    ),
    "an id twice": (
        {4: {"id": 7}, 5: {"id": 7}},
        "captions.jsonl",
        r"line 6: id 7 is there already",
    ),
    "an id twice in CSV": (
        {i: {"id": min(i, 22)} for i in range(24)},
        "captions.csv",
        r"line 25: id '22' is there already",
    ),
    "another label": (
        {5: {"file_name": "birds/01.png", "label": "tit"}},
        "captions.csv",
        r"line 7: label .* is 'tit' here and 'jay' in .* line 3",
    ),
    "another place": (
        {6: {"file_name": "birds/00.png"}},
        "captions.csv",
        r"line 8: split .* is 'val' here and 'train' in .* line 2",
    ),
}


UNNAMED = ("no name", "nothing", "no file and nothing", "another label", "another place")
"""Cases in which the row that is skipped names no image, or that of another row."""


@pytest.mark.parametrize("case", [*BAD])
def test_what_is_bad_is_named_or_skipped_and_listed(case: str, tmp_path: Path) -> None:
    changes, name, message = BAD[case]
    place = write(tmp_path, rows(changes), name)
    with pytest.raises(ValueError, match=message) as caught:
        read(place)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(
        "; fix it, or pass skip_bad to leave out what is bad"
    )
    with pytest.warns(
        UserWarning, match=rf"skipped 1, the first .*{message}.*; the notes list all"
    ):
        data = read(place, skip_bad=True)
    assert data.notes["skipped"].startswith(f"1: {tmp_path / name} line ")
    images = {number for part in data.splits() for number in shown(data, part)}
    left = {*range(ROWS)} - (
        set() if case in UNNAMED else {max(changes)}
    )  # what no row names is there all the same, without a caption
    assert images == left and sum(map(len, data.splits().values())) == len(left)


def broken(content: bytes) -> Callable[[Path], Any]:
    return lambda place: (place / "birds" / "05.png").write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        broken(b""),
        broken(b"GIF89a"),
        lambda place: broken((place / "birds" / "05.png").read_bytes()[:-40])(place),
        lambda place: broken((place / "birds" / "05.png").read_bytes().replace(b"IHDR", b"IHXX"))(
            place
        ),
    ],
    ids=["empty", "another kind", "truncated", "corrupt"],
)
def test_an_image_that_cannot_be_read(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    spoil(write(tmp_path, rows()))
    with pytest.raises(
        ValueError,
        match=r"cannot read photo .*05.png \(.*captions.jsonl line 6\): .*; remove or replace it",
    ) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=r"skipped 1, the first cannot read photo .*05.png"):
        data = read(tmp_path, skip_bad=True)
    assert shown(data, "train") == [i for i in range(ROWS) if i % 4 < 2 and i != 5]


def test_an_image_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels(5, 40)).save(write(tmp_path, rows()) / "birds" / "05.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"cannot read photo .*05.png \(.* line 6\): .*decompression bomb"
    ):
        read(tmp_path)


def test_one_caption_that_is_bad_leaves_the_others(tmp_path: Path) -> None:
    table = [*rows(), {**rows()[1], "caption": " "}, {**rows()[0], "caption": ""}]
    write(tmp_path, table)
    with pytest.warns(UserWarning, match="skipped 2"):
        data = read(tmp_path, skip_bad=True, captions="all")
    assert (
        shown(data, "train") == [i for i in range(ROWS) if i % 4 < 2]
        and data.notes["skipped"].count("line ") == 2
    )


def test_words_outside_a_given_vocabulary(tmp_path: Path) -> None:
    Vocabulary(("", "<unk>", *WORDS[:-1], "a", "bird", "number", ".")).save(tmp_path / "v.json")
    place = write(tmp_path / "a", rows())
    with pytest.raises(
        ValueError,
        match=r"line 12: 'eleven' in caption 'A bird number eleven.' is none of the 17 tokens",
    ):
        read(place, vocabulary=str(tmp_path / "v.json"))
    with pytest.warns(UserWarning, match="skipped 2"):
        data = read(place, vocabulary=str(tmp_path / "v.json"), skip_bad=True)
    assert shown(data, "test") == [3, 7, 15, 19]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "captions.csv",
            "file_name,caption\nbirds/00.png,a\nbirds/01.png,b,c\nbirds/02.png,d\nbirds/03.png,e\n",
            "3: it has 3 fields, expected 2",
        ),
        (
            "captions.csv",
            'file_name,caption\nbirds/00.png,a\nbirds/01.png,"b"c\nbirds/02.png,d\nbirds/03.png,e\n',
            "3: it is no CSV",
        ),
        (
            "captions.csv",
            'file_name,caption\nbirds/00.png,a\nbirds/02.png,d\nbirds/03.png,e\nbirds/01.png,"b\n\n',
            "5: it is no CSV",
        ),
        (
            "captions.jsonl",
            '{"text": "a"}\n{"text": "d"}\n{"text": \n{"text": "e"}',
            "3: it is no JSON",
        ),
        (
            "captions.jsonl",
            '{"text": "a"}\n{"text": "d"}\n["b"]\n{"text": "e"}',
            "3: it is no JSON object",
        ),
    ],
)
def test_lines_that_are_no_rows(name: str, content: str, line: str, tmp_path: Path) -> None:
    write(tmp_path, [], name, images=4)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} line {line}") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    Vocabulary(("", "<unk>", "a", "d", "e")).save(tmp_path / "v.json")
    with pytest.warns(UserWarning, match="skipped 1"):
        data = read(tmp_path, skip_bad=True, vocabulary=tmp_path / "v.json")
    assert sorted(text for part in data.splits() for text in said(data, part) if text) == [
        "a",
        "d",
        "e",
    ]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("file,caption\nbirds/00.png,a\n", {}, "names no image that is there"),
        ("file,words\nbirds/00.png,a\n", {}, "line 2: neither an image nor a caption"),
        ("file,words\n", {}, "has neither file_name nor caption, captions, text in any row"),
        ("", {}, "has neither file_name nor"),
        (
            "file_name,text,caption\nbirds/00.png,a,b\n",
            {},
            "line 2: both caption and text hold captions; leave one",
        ),
        (
            "file_name,text,text\nbirds/00.png,a,b\n",
            {},
            "names a column twice in file_name, text, text",
        ),
        ("file_name,text\nbirds/00.png,\nbirds/01.png,\n", {}, "names no caption"),
        ("file_name,text\nbirds/00.png,caf\xe9\n", {}, "is not UTF-8"),
        (
            "file_name,text,split\nbirds/00.png,a,train\nbirds/01.png,a,test\n",
            {},
            "has no val split and 1 row of train, too few to hold one out; give val",
        ),
        ("file_name,text\nbirds/00.png,a\n", {}, "2 rows cannot be divided"),
        (None, {"size": 4}, "size 4 of .* must be 8 or more"),
        (None, {"length": 0}, "length 0 of .* must be 1 or more"),
        (None, {"min_count": 0}, "min_count 0 must be 1 or more"),
        (None, {"captions": "two"}, "captions 'two' of .* must be one of one, all"),
        (None, {"tokens": "letters"}, "tokens 'letters' must be one of words, pieces"),
        (
            None,
            {"vocabulary": "v.json", "tokens": "pieces"},
            "vocabulary v.json is given, and not learned; leave out tokens",
        ),
        (None, {"views": 2}, "option 'views' does not apply to"),
        (None, {"unpaired": True}, "option 'unpaired' does not apply to"),
        (None, {"verify": True}, "option 'verify' does not apply to"),
        (
            None,
            {"modalities": (cp.Modality("image", (3, 8, 8)),)},
            "option 'modalities' does not apply to",
        ),
    ],
)
def test_bad_tables_and_options(
    table: str | None, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path, rows(), images=ROWS if table is None else 2)
    if table is not None:
        (tmp_path / "captions.jsonl").rename(tmp_path / "captions.csv")
        (tmp_path / "captions.csv").write_text(table, encoding="latin-1")
        if "there" in message:
            for path in (tmp_path / "birds").iterdir():
                path.unlink()
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_two_tables_and_no_vocabulary(tmp_path: Path) -> None:
    write(tmp_path, rows())
    with pytest.raises(FileNotFoundError, match=r"no vocabulary nowhere.json"):
        read(tmp_path, vocabulary="nowhere.json")
    with pytest.raises(ValueError, match="'tokens' does not apply to digits-quadrant"):
        load("digits-quadrant", tokens="pieces")
    write(tmp_path, rows(), "metadata.csv")
    with pytest.raises(
        ValueError, match=r"holds captions.jsonl and metadata.csv; leave one of them"
    ):
        read(tmp_path)


def test_large_folders_are_decoded_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same data set, whose images stay in their files until a batch wants them."""
    place = write(
        tmp_path,
        [*rows({0: {"caption": None}, 5: {"file_name": None}}), {**rows()[9], "caption": "again"}],
    )
    known = read(place, captions="all")
    monkeypatch.setattr(folder, "IN_MEMORY", (ROWS + 1) * 3 * 64)
    with pytest.warns(
        UserWarning,
        match=r"take more than 4.\d+e-06 GiB and are decoded whenever a batch asks .*; counterpoint data pack .* does so",
    ):
        data = read(place, captions="all")
    assert isinstance(data.train.x["image"], Pictures) and isinstance(
        known.train.x["image"], np.ndarray
    )
    assert isinstance(data.train.take(slice(2, 5)).x["image"], Pictures) and isinstance(
        data.train.take(np.arange(2)).x["image"], np.ndarray
    )
    index = np.array([0, 3, 4, 2])
    for name, values in known.train.batch(index).x.items():
        np.testing.assert_array_equal(data.train.batch(index).x[name], values)
    assert (
        data.checksum() == known.checksum()
        and data.with_likelihood("normal").modalities[0].likelihood == "normal"
    )
    (place / "birds" / "04.png").write_bytes(b"")
    assert len(data.train.batch(slice(0, 2))) == 2
    with pytest.raises(ValueError, match=r"cannot read photo .*04.png \(.* line 5\)"):
        data.train.batch(slice(2, 5))
    with pytest.raises(ValueError, match=r"cannot read photo .*04.png"):
        pack(data, tmp_path / "packed", progress=False)
    assert not (tmp_path / "packed").exists() and not [
        p for p in tmp_path.iterdir() if p.name.startswith(".")
    ]


@pytest.mark.parametrize("lazy", [True, False])
def test_packed_is_what_it_was(lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(
        tmp_path / "aviary", rows({0: {"caption": None}, 1: {"file_name": None}}), "captions.csv"
    )
    monkeypatch.setattr(folder, "IN_MEMORY", 0 if lazy else 1 << 20)
    monkeypatch.setattr(packing, "BLOCK", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = read(place)
    made = load(pack(data, tmp_path / "packed", progress=False), verify=True)
    assert all(
        isinstance(split.x[name], np.memmap) for split in made.splits().values() for name in split.x
    )
    assert replace(made, digest=None).checksum() == data.checksum() and (made.name, made.notes) == (
        data.name,
        data.notes,
    )
    assert (
        made.modalities == data.modalities and made.modalities[1].words == data.modalities[1].words
    )
    with pytest.raises(FileExistsError, match="exists already"):
        pack(data, tmp_path / "packed", progress=False)


def test_any_data_set_is_packed(tmp_path: Path) -> None:
    """Private labels, floats, and a modality that no row has."""
    rng = np.random.default_rng(0)
    source = {
        "a": rng.normal(size=(30, 3)),
        "b": rng.integers(0, 9, (30, 2)),
        "label/k/a": np.arange(30) % 2,
        "present/b": np.arange(30) % 3 > 0,
    }
    modalities = (
        cp.Modality("a", (3,), "normal"),
        cp.Modality("b", (2,), "categorical", classes=9),
        cp.Modality("c", (4,), "normal"),
    )
    data = load(source, modalities=modalities, missing=0.2)
    made = load(pack(data, tmp_path / "packed", progress=False))
    assert replace(made, digest=None).checksum() == data.checksum() and made.notes == data.notes


def test_packing_is_bounded_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """47 MB of images pass through blocks of 2 MB."""
    place = write(tmp_path / "a", rows())
    monkeypatch.setattr(folder, "IN_MEMORY", 1 << 20)
    monkeypatch.setattr(packing, "BLOCK", 1 << 21)
    with pytest.warns(UserWarning, match="decoded whenever"):
        data = load(place, size=800, min_count=1)
    tracemalloc.start()
    pack(data, tmp_path / "packed", progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(path.stat().st_size for path in (tmp_path / "packed").rglob("image.npy"))
    assert size > 46e6 and peak < 16e6


def test_a_folder_is_trained_on_packed_and_asked_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way on the command line: the run knows its words, so that text goes in
    and out."""
    write(tmp_path / "aviary", rows({4: {"caption": " "}}), "captions.csv")
    options = ["--size", "8", "--min_count", "1", "--length", "8"]
    warnings.simplefilter("always")  # they are lines on the screen; pytest resets this
    assert (
        main(
            [
                "data",
                "pack",
                f"{tmp_path}/aviary",
                *options,
                "--skip-bad",
                "true",
                "--out",
                f"{tmp_path}/packed",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert (
        out.endswith(f"{tmp_path}/packed\n")
        and "skipped 1, the first" in err
        and "line 6: caption ' ' holds no word" in err
    )
    tiny = [
        "--networks.width",
        "4",
        "--networks.hidden",
        "[16]",
        "--shared_dim",
        "3",
        "--fit.progress",
        "false",
        "--loggers",
        "[]",
    ]
    assert (
        main(
            [
                "fit",
                "mvae",
                "--data",
                f"{tmp_path}/packed",
                *tiny,
                "--max_steps",
                "2",
                "--batch_size",
                "8",
                "--out",
                f"{tmp_path}/run",
            ]
        )
        == 0
    )
    capsys.readouterr()
    (tmp_path / "asked.txt").write_text(
        "A bird number five.\r\nbird QUAGGA one zebra quagga\n", encoding="utf-8"
    )
    words = load(tmp_path / "packed").modalities[1].words
    ids = Vocabulary(words).encode(["a bird number five .", "bird zebra one zebra zebra"], 8)
    np.save(tmp_path / "asked.npy", ids)
    answers = {}
    for kind in ("txt", "npy"):
        asked = ["translate", f"{tmp_path}/run", "--given", f"caption={tmp_path}/asked.{kind}"]
        assert main([*asked, "--to", "image", "caption", "--out", f"{tmp_path}/{kind}.npz"]) == 0
        answers[kind] = np.load(tmp_path / f"{kind}.npz")["image"]
        err = capsys.readouterr().err
        assert err == (
            "counterpoint: warning: the model does not know quagga, zebra, which 'caption' was given\n"
            if kind == "txt"
            else ""
        )
    np.testing.assert_array_equal(answers["txt"], answers["npy"])
    assert (
        main(
            [
                "translate",
                f"{tmp_path}/run",
                "--given",
                "caption=A bird, number two.",
                "--to",
                "caption",
                "image",
                "--out",
                f"{tmp_path}/t.npz",
            ]
        )
        == 0
    )
    assert np.load(tmp_path / "t.npz")["image"].shape == (1, 3, 8, 8)
    capsys.readouterr()
    assert (
        main(
            [
                "translate",
                f"{tmp_path}/run",
                "--given",
                f"image={tmp_path}/aviary/birds/03.png",
                "--to",
                "caption",
            ]
        )
        == 0
    )
    (text,) = json.loads(capsys.readouterr().out)["caption"]
    assert {*text.split()} <= {*words}
    (tmp_path / "empty.txt").write_text("a bird\n\none\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for given, says in (
        (
            f"{tmp_path}/empty.txt",
            "empty.txt holds no text in line 2, as 'caption' needs; give one a line",
        ),
        (f"{tmp_path}/none.txt", "none.txt: No such file"),
        (f"{tmp_path}/latin.txt", "latin.txt is not UTF-8"),
        ("", "the text holds no text in line 1"),
    ):
        assert (
            main(["translate", f"{tmp_path}/run", "--given", f"caption={given}", "--to", "caption"])
            == 2
        )
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1
