"""The examples in docstrings run and give what they show, and nothing public lacks one."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import counterpoint

ROOT = Path(counterpoint.__file__).parent
MODULES = sorted(
    ".".join(("counterpoint", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text()
)
LISTED = re.compile(r"\.\. auto(module|class|function):: (\S+)((?:\n   :[^\n]*)*)")
NEEDS_FILES = {
    *("tcga_brca", "scgem", "snareseq", "citeseq", "tcga_mortality"),  # their data
    "prepare",  # MNIST and photos
    *("Autoencoder", "latents"),  # an autoencoder
    *("Stream", "StreamLoader"),  # shards, which the example of Index writes
}
"""What has no example of its own, since it reads files that are no part of the package."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str) -> None:
    torch.manual_seed(0)
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0 and failed == 0


def public() -> Iterator[object]:
    """What the package and ``extend`` name, and what docs/api.md lists."""
    for module in (counterpoint, counterpoint.extend):
        yield from (getattr(module, name) for name in module.__all__)
    page = (ROOT.parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    for kind, name, options in LISTED.findall(page):
        if kind != "module":
            module, _, of = name.rpartition(".")
            yield getattr(import_module(module), of)
        elif "no-members" not in options:
            yield from members(name)


def members(module: str) -> Iterator[object]:
    known = vars(import_module(module))
    own = (name for name, value in known.items() if getattr(value, "__module__", "") == module)
    return (known[name] for name in known.get("__all__", own) if not name.startswith("_"))


def shown(thing: type | object) -> bool:
    """Whether its docstring has an example, or that of its module has one with its name."""
    examples = re.findall(
        r"^(?:>>>|\.\.\.) .*$", import_module(thing.__module__).__doc__ or "", re.M
    )
    name = re.compile(rf"\b{thing.__name__}\b")  # type: ignore[attr-defined]
    return ">>> " in (thing.__doc__ or "") or any(map(name.search, examples))


def test_every_public_name_has_an_example() -> None:
    named = {
        f"{thing.__module__}.{thing.__name__}": thing
        for thing in public()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__.startswith("counterpoint")
        and thing.__name__ not in NEEDS_FILES
    }
    assert len(named) > 250
    assert not [name for name, thing in named.items() if not shown(thing)]
