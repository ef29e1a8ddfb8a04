"""Registry: parts by the name that they have in configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

Part = TypeVar("Part")


class Registry(Mapping[str, Part], Generic[Part]):
    """Parts by name, to which users add their own.

    Args:
        kind: what the parts are, for messages, such as "solver".
        parts: the first ones, by name.

    >>> shapes = Registry("shape", {"square": 4})
    >>> shapes.register("triangle", 3)
    >>> shapes.named("triangle")
    3
    >>> shapes.named("circle")
    Traceback (most recent call last):
    ValueError: unknown shape 'circle'; choose one of square, triangle
    """

    def __init__(self, kind: str, parts: Mapping[str, Part]) -> None:
        self.kind = kind
        self._parts = dict(parts)

    def register(self, name: str, part: Part) -> None:
        """Add a part.

        Raises:
            ValueError: another part has the name.
        """
        if self._parts.get(name, part) is not part:
            raise ValueError(f"{self.kind} {name!r} is there already; give another name")
        self._parts[name] = part

    def named(self, name: str) -> Part:
        """The part of a name.

        Raises:
            ValueError: an unknown name.
        """
        self.check(name)
        return self._parts[name]

    def check(self, name: str, option: str = "") -> None:
        """Refuse an unknown name.

        Args:
            name: of a part.
            option: the option that gives the name, for the message.

        Raises:
            ValueError: an unknown name.
        """
        if name not in self._parts:
            known = ", ".join(self._parts)
            problem = f"{option}={name!r} is unknown" if option else f"unknown {self.kind} {name!r}"
            raise ValueError(f"{problem}; choose one of {known}")

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
