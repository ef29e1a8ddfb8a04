"""The command ``data``: what there is, and data sets made of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint import data as datasets
from counterpoint.cli import choose
from counterpoint.cli.data_flags import DataFlags, add_data_flags
from counterpoint.cli.names import expanded, gathered, option_names
from counterpoint.cli.parsing import called, parsed, parser_for
from counterpoint.cli.runs import loaded

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def run(words: Sequence[str]) -> None:
    """List data sets, prepare one, index one of shards, write one as arrays, or encode
    one's images."""
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(
            "usage: counterpoint data list\n       counterpoint data prepare NAME --root DIR [options]"
        )
        print("       counterpoint data index FOLDER [--out FILE] [options]")
        print("       counterpoint data pack SOURCE --out FOLDER [options]")
        print("       counterpoint data latents SOURCE --autoencoder DIR --out FOLDER [options]")
        return
    verb = choose(words[0], ["list", "prepare", "index", "pack", "latents"], "command")
    if verb == "list":
        parsed(parser_for("data list", "Known data sets."), words[1:])
        width = max(map(len, datasets.names()))
        for name, about in datasets.names().items():
            print(f"{name:<{width}}  {about}")
        return
    if verb == "prepare":
        print(called(datasets.prepare, "data prepare", words[1:]))
    else:
        print({"index": _index, "pack": _pack, "latents": _latents}[verb](words[1:]))


def _index(words: Sequence[str]) -> str:
    """What an index that is made now says."""
    path = called(datasets.index, "data index", gathered(words, ("columns",)))
    return datasets.Index.load(path).about(path)


def _pack(words: Sequence[str]) -> Path:
    """A data set as memory maps."""
    values = _read(
        words,
        "data pack",
        "Write a data set as a folder of arrays, images decoded once and for all.",
    )
    out = values.pop("out")
    return datasets.pack(loaded(values), out)


def _latents(words: Sequence[str]) -> Path:
    """Images of a data set as latents."""
    values = _read(
        words,
        "data latents",
        "Write a data set again, the images of one modality as latents of a frozen autoencoder.",
        _latents_flags,
    )
    autoencoder, out, modality = (values.pop(key) for key in ("autoencoder", "out", "modality"))
    return datasets.latents(loaded(values), autoencoder, out, modality=modality)


def _latents_flags(parser: ArgumentParser) -> None:
    """The flags of ``data latents`` alone."""
    parser.add_argument(
        "--autoencoder",
        type=Path,
        required=True,
        help="folder of diffusers' AutoencoderKL: config.json and safetensors",
    )
    parser.add_argument(
        "--modality",
        type=str,
        default=None,
        help="the images; by default the only modality of images",
    )


def _read(
    words: Sequence[str],
    verb: str,
    about: str,
    add: Callable[[ArgumentParser], None] = lambda parser: None,
) -> dict[str, Any]:
    """Read a data set, the options of loading it, and the folder to make of it.

    Args:
        add: adds flags of the verb's own.
    """
    called = words[0] if words and not words[0].startswith("-") else None
    flags = DataFlags.of(called)
    parser = parser_for(verb, about)
    parser.add_argument("source", type=str, help="name of a data set, a folder, or an .npz file")
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder to make; --data takes it"
    )
    add_data_flags(parser, flags.source, None)
    add(parser)
    names = option_names(parser)
    flags.check(words, names)
    return parsed(parser, expanded(words, names))
