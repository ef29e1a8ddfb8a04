"""A fingerprint of the data of a run, by which a later command finds what has changed.

    data.json   {"format", "name", "source", "digest", "features": {modality: [name]}, "splits": {part: {"named", "values", "labels", "keys"}}}

The key of a row is its id, or a checksum of its values if the data have no ids. Streams
and prepared data sets have a checksum of their own, which is kept in place of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.core.files import write
from counterpoint.data import Split
from counterpoint.data.images import Pictures

if TYPE_CHECKING:
    from counterpoint.data import Dataset

_BLOCK_ROWS = 4096  # rows read together for a checksum
_MAX_NAMED = 3  # rows or features that a message names


@dataclass(frozen=True)
class Rows:
    """The rows of a split.

    Attributes:
        named: whether keys are ids, and not checksums of values.
        values: one checksum of the values of all rows, in any order.
        labels: one checksum of labels and covariates.
        keys: one for each row.
    """

    named: bool
    values: str
    labels: str
    keys: tuple[str, ...]

    @staticmethod
    def of(split: Split) -> Rows:
        held = [*_checksums(split)]
        keys = tuple(held if split.ids is None else map(str, split.ids))
        total = hashlib.sha256("".join(sorted(held)).encode()).hexdigest()
        return Rows(
            split.ids is not None,
            total,
            _label_checksum(split, np.argsort(keys, kind="stable")),
            keys,
        )


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a data set.

    Attributes:
        name: of the data set.
        source: the name or the path that it was loaded by.
        digest: checksum known beforehand; where there is one, rows are not kept.
        features: by modality, the names of its features.
        splits: by name.
    """

    name: str
    source: str
    digest: str | None
    features: dict[str, tuple[str, ...]]
    splits: dict[str, Rows]

    @staticmethod
    def of(data: Dataset, source: object = "") -> Fingerprint:
        digest = data.digest or data.train.digest
        rows = {} if digest else {name: Rows.of(part) for name, part in data.splits().items()}
        return Fingerprint(
            data.name, str(source), digest, {m.name: m.features for m in data.modalities}, rows
        )

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write(
            path,
            (json.dumps({"format": 1, **asdict(self)}, ensure_ascii=False) + "\n").encode(),
        )

    @staticmethod
    def read(path: Path) -> Fingerprint | None:
        """The fingerprint in a file; None if there is no file.

        Raises:
            ValueError: the file is damaged.
        """
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            features = {
                str(name): tuple(map(str, names)) for name, names in record["features"].items()
            }
            splits = {
                str(part): Rows(
                    bool(r["named"]), str(r["values"]), str(r["labels"]), tuple(map(str, r["keys"]))
                )
                for part, r in record["splits"].items()
            }
            return Fingerprint(
                str(record["name"]), str(record["source"]), record["digest"], features, splits
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove it, and nothing will be said of changes in the data"
            ) from None

    def changes(self, now: Fingerprint) -> Iterator[str]:
        """What has changed since, a line each."""
        if self.digest or now.digest:
            if self.digest != now.digest:
                yield f"the contents of {now.name!r} have another checksum"
            return
        for name, features in self.features.items():
            yield from _names(f"features of {name!r}", features, now.features.get(name, ()))
        if not (self.splits and now.splits):
            return
        then = self._part_of()
        today = now._part_of()
        named = all(rows.named for known in (self, now) for rows in known.splits.values())
        yield from _names("rows", [*then], [*today], named)
        if moved := [key for key, part in then.items() if today.get(key, part) != part]:
            seen = sum(today[key] == "test" and then[key] != "test" for key in moved)
            learned = (
                f", among them {seen:,} that were trained or validated on and stand in test now"
                if seen
                else ""
            )
            yield f"{len(moved):,} rows fall to another split{learned}{_examples(moved, named)}"
        if then == today:
            other = [(rows, now.splits[part]) for part, rows in self.splits.items()]
            if any(sorted(a.keys) != sorted(b.keys) for a, b in other):
                yield "rows stand there more often or less"
            elif any(a.values != b.values for a, b in other):
                yield "rows hold other values"
            elif any(a.labels != b.labels for a, b in other):
                yield "labels or covariates are others"

    def _part_of(self) -> dict[str, str]:
        """The split of each row, by its key."""
        return {key: part for part, rows in self.splits.items() for key in rows.keys}


def _examples(keys: Sequence[str], named: bool = True) -> str:
    """The first keys, in brackets, where they are names."""
    more = ", …" if len(keys) > _MAX_NAMED else ""
    return f" ({', '.join(keys[:_MAX_NAMED])}{more})" if named and keys else ""


def _names(
    title: str, then: Sequence[str], now: Sequence[str], named: bool = True
) -> Iterator[str]:
    known = {*then}
    current = {*now}
    gone = [key for key in then if key not in current]
    new = [key for key in now if key not in known]
    if gone or new:
        parts = [
            f"{len(keys):,} {verb}{_examples(keys, named)}"
            for keys, verb in ((gone, "gone"), (new, "new"))
            if keys
        ]
        yield f"{title}: {len(then):,} then and {len(now):,} now, {' and '.join(parts)}"


def _label_checksum(split: Split, order: np.ndarray) -> str:
    """A checksum of labels and covariates, of rows in this order."""
    private = {}
    for label, by in split.private_labels.items():
        for name, values in by.items():
            private[f"{label}/{name}"] = values
    names = (split.covariate_names, sorted(split.shared_labels), sorted(private))
    total = hashlib.sha256(repr(names).encode())
    labels = {**split.shared_labels, **private}
    for values in (split.covariates, *(labels[name] for name in sorted(labels))):
        total.update(np.ascontiguousarray(np.asarray(values)[order]).data)
    return total.hexdigest()


def _checksums(split: Split) -> Iterator[str]:
    """A checksum of the values of each row, with features in the order of their names."""
    orders = {m.name: np.argsort(m.features, kind="stable") for m in split.modalities if m.features}
    for start in range(0, len(split), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        blocks: Mapping[str, Any] = {
            name: _bytes(values, rows, orders.get(name)) for name, values in split.x.items()
        }
        for i in range(len(split.present[split.modalities[0].name][rows])):
            total = hashlib.blake2b(digest_size=8)
            for name, block in blocks.items():
                if split.present[name][start + i]:
                    total.update(name.encode())
                    total.update(block[i] if isinstance(block, list) else block[i].data)
            yield total.hexdigest()


def _bytes(values: Any, rows: slice, order: np.ndarray | None) -> Any:
    """The bytes of which the checksum of each row is taken: of images that are decoded
    on demand, the name of their source."""
    if isinstance(values, Pictures):
        return [repr(source).encode() for source in values.sources[rows]]
    return np.ascontiguousarray(values[rows] if order is None else values[rows][:, order])
