"""Text as ids. A vocabulary is a list of tokens, and that list is all it takes to turn
text into ids and back, so that a model which knows what its ids stand for
(``Modality.words``) reads and writes text.

Text in lower case is cut into words, each a run of letters and digits or a single other
sign; signs that could not be decoded part words and vanish. Id 0 is padding, 1 an
unknown word, and the tokens follow. A word that is a token has its id. Any other is cut
into pieces, from its start on the longest token that fits, where a token that goes on
with a word begins with ``##``: "redwings" may be "red ##wing ##s". A word that can't be
cut so is unknown, and where no token begins with ``##`` that is every word that is no
token itself. This is WordPiece (Wu et al., "Google's Neural Machine Translation
System", 2016, https://arxiv.org/abs/1609.08144); which pieces there are is learned by
joining the most frequent pair over and over (Sennrich et al., "Neural Machine
Translation of Rare Words with Subword Units", 2016, https://arxiv.org/abs/1508.07909).

Where every token is a single character, as in the alphabet of the digits' words, text
is cut into characters as they are; the sign of what could not be decoded stands for one
that is unknown. Languages that part words by no blanks (Chinese, Thai, Japanese) are
read so.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from counterpoint.core.documents import read_json
from counterpoint.core.files import write
from counterpoint.core.modality import CONTINUATION_MARK, Modality, of_characters, spelled
from counterpoint.core.optional import required
from counterpoint.core.reading import UNKNOWN_TOKENS

Tokens = Literal["words", "pieces", "characters"]

PADDING = ""
UNKNOWN, UNKNOWN_SIGN = (
    UNKNOWN_TOKENS  # no words: "<" is a sign of its own; the second is for tokens that are single characters
)
PIECES = 2000
"""Tokens of a vocabulary of pieces unless it is said otherwise."""

_LONGEST = (
    100  # letters of a word that is cut into pieces; cutting takes time by the square of them
)
_MARKS = 0xF0000  # where private characters begin
_WANTED = "a vocabulary is a JSON file that Vocabulary.save wrote"


@dataclass(frozen=True)
class Vocabulary:
    """Map tokens of text to ids and back.

    >>> vocabulary = Vocabulary.learn(["a red bird", "a bird"], min_count=1)
    >>> ids = vocabulary.encode(["a bird", "a cat"], length=3)
    >>> vocabulary.decode(ids)
    ['a bird', 'a <unk>']

    Args:
        tokens: by id. That of id 0 is padding.

    Raises:
        ValueError: fewer than two tokens, or one that is there twice.
    """

    tokens: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        repeated = [token for token, count in Counter(self.tokens).items() if count > 1]
        if len(self.tokens) < 2 or repeated:
            what = (
                f"holds {repeated[0]!r} more than once"
                if repeated
                else f"has {len(self.tokens)} tokens"
            )
            raise ValueError(f"a vocabulary {what}; give two tokens or more, each once")

    @staticmethod
    def learn(
        texts: Iterable[str], kind: Tokens = "words", *, min_count: int = 3, size: int | None = None
    ) -> Vocabulary:
        """Learn the vocabulary of some texts. The same texts in any order give the
        same.

        Args:
            kind: ``"words"``, the most frequent first; ``"pieces"`` of words, which
                needs the extra ``text`` to be learned, but not to be used; or
                ``"characters"``, the most frequent first.
            min_count: how often a word, a character, or a pair of pieces that becomes
                one, must occur.
            size: most tokens, padding and the unknown word included; of words as many
                as there are by default, of pieces 2000.

        Raises:
            ValueError: an unknown kind, a number out of range, or a size below that of
                the characters alone, of which pieces are made.
            ModuleNotFoundError: tokenizers is not installed.
        """
        if kind not in get_args(Tokens):
            raise ValueError(f"tokens {kind!r} must be one of {', '.join(get_args(Tokens))}")
        for option, value, least in (("min_count", min_count, 1), ("vocabulary_size", size, 3)):
            if value is not None and value < least:
                raise ValueError(f"{option} {value} must be {least} or more")
        cut = _characters if kind == "characters" else words_of
        counts = Counter(word for text in texts for word in cut(text))
        if kind == "pieces":
            return Vocabulary((PADDING, UNKNOWN, *_pieces(counts, min_count, (size or PIECES) - 2)))
        frequent = sorted(
            (word for word, count in counts.items() if count >= min_count),
            key=lambda word: (-counts[word], word),
        )
        return Vocabulary(
            (PADDING, UNKNOWN_SIGN if kind == "characters" else UNKNOWN, *frequent)[:size]
        )

    @staticmethod
    def load(path: str | Path) -> Vocabulary:
        """Read the vocabulary of a file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it holds none.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no vocabulary {path}; {_WANTED}")
        try:
            record = read_json(Path(path))
            tokens = record["tokens"] if record["format"] == 1 else None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{path} holds no vocabulary ({error}); {_WANTED}") from None
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"{path} holds no list of tokens of format 1; {_WANTED}")
        return Vocabulary(tuple(tokens))

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a JSON file, whole or not at all."""
        write(
            Path(path),
            json.dumps({"format": 1, "tokens": self.tokens}, ensure_ascii=False).encode(),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def modality(self, name: str, length: int) -> Modality:
        """Return the modality of texts of so many tokens."""
        return Modality(name, (length,), "categorical", None, classes=len(self), words=self.tokens)

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Encode texts as ids int64 (N, length), cut or padded to length.

        Raises:
            ValueError: an unknown word where no token stands for one.
        """
        ids = np.zeros((len(texts), length), np.int64)
        unknown = [] if self.unknown_id is None else [self.unknown_id]
        for row, text in zip(ids, texts, strict=True):
            found = [self._ids(word) or unknown for word in self._cut(text)]
            if [] in found:
                raise ValueError(
                    f"{self.unknown(text)[0]!r} in {text!r} is none of the {len(self)} tokens; choose other words"
                )
            kept = [i for pieces in found for i in pieces][:length]
            row[: len(kept)] = kept
        return ids

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that are unknown, in its order."""
        return [word for word in self._cut(text) if not self._ids(word)]

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Decode each row of ids to text: words with blanks between them, or characters
        side by side. Padding gives nothing."""
        return [spelled(self.tokens, row) for row in ids]

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for every word without one, if there is such."""
        return next(
            (self._number[token] for token in UNKNOWN_TOKENS if token in self._number), None
        )

    @cached_property
    def _number(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def _cut(self, text: str) -> list[str]:
        return [*text] if of_characters(self.tokens) else words_of(text)

    def _ids(self, word: str) -> list[int]:
        """Ids of a word or of its pieces, none if it is unknown. A blank that is no
        token is padding."""
        if word in self._number:
            return [self._number[word]]
        if word.isspace():
            return [0]
        ids = []
        start = 0
        while start < len(word) <= _LONGEST:
            mark = CONTINUATION_MARK if start else ""
            end = next(
                (
                    end
                    for end in range(len(word), start, -1)
                    if mark + word[start:end] in self._number
                ),
                start,
            )
            if end == start:
                return []
            ids.append(self._number[mark + word[start:end]])
            start = end
        return ids


def warn_of_unknown(vocabulary: Vocabulary, ids: np.ndarray, what: str) -> None:
    """Warn where more than a third of the tokens of texts (N, length) are unknown.

    Args:
        what: the texts, in words.
    """
    total = int((ids != 0).sum())
    unknown = int((ids == vocabulary.unknown_id).sum())
    if unknown > total / 3:
        warnings.warn(
            f"{unknown:,} of the {total:,} tokens of {what} are unknown to the vocabulary of {len(vocabulary)}; lower min_count, or give"
            " tokens='pieces', or 'characters' for a language that parts words by no blanks",
            stacklevel=3,
        )


def _characters(text: str) -> list[str]:
    return [sign for sign in text if sign == " " or (not sign.isspace() and sign != UNKNOWN_SIGN)]


def words_of(text: str) -> list[str]:
    """Split a text into its words, in lower case."""
    return re.findall(r"\w+|[^\w\s\ufffd]", text.lower())


def _pieces(counts: Counter[str], min_count: int, size: int) -> list[str]:
    """Tokens that words are made of, at most ``size``.

    Letters that go on with a word are trained as private characters of their own:
    trained with a prefix, tokenizers numbers them by the order of a hash table, which
    differs from run to run, and so do the pieces that ties decide.
    """
    tokenizers = required("tokenizers", "text")
    alphabet = sorted({letter for word in counts for letter in word})
    marks = {ord(letter): chr(_MARKS + i) for i, letter in enumerate(alphabet)}
    letters = {ord(mark): chr(letter) for letter, mark in marks.items()}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_count, show_progress=False
    )
    marked = (
        word[0] + word[1:].translate(marks) for word in sorted(counts) for _ in range(counts[word])
    )
    tokenizer.train_from_iterator(marked, trainer)
    found: dict[str, int] = tokenizer.get_vocab()
    if len(found) > size:
        raise ValueError(
            f"vocabulary_size {size + 2} is too small: padding, the unknown word and the characters alone are {len(found) + 2}"
        )
    return [
        (CONTINUATION_MARK if ord(token[0]) >= _MARKS else "") + token.translate(letters)
        for token in sorted(found, key=lambda t: found[t])
    ]
