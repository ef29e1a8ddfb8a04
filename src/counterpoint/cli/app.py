"""``counterpoint app``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.cli.parsing import called
from counterpoint.cli.runs import opened, opened_model
from counterpoint.cli.values import read_values

if TYPE_CHECKING:
    from counterpoint.app import Explored


@dataclass(frozen=True)
class AppOptions:
    """Explore trained runs on a page in a browser.

    Args:
        run: run folder.
        compare: another run, whose answers stand beside those of the first.
        host: address to listen on. Any other than 127.0.0.1 makes a token, without
            which nothing is answered.
        port: port to listen on; 0 takes a free one.
    """

    run: Path
    compare: Path | None = None
    host: str = "127.0.0.1"
    port: int = 7860


def run(words: Sequence[str]) -> None:
    """Explore trained runs on a page in a browser."""
    wanted = called(AppOptions, "app", words)
    from counterpoint.app import Server

    folders = [wanted.run] if wanted.compare is None else [wanted.run, wanted.compare]
    with Server([explored(f) for f in folders], read_values, wanted.host, wanted.port) as server:
        print(server.url, flush=True)
        server.serve_forever()


def explored(folder: Path) -> Explored:
    """A run to explore. If its data are gone, it has no rows, and a line that says
    why.

    Raises:
        FileNotFoundError: no such run.
    """
    from counterpoint.app import Explored

    try:
        method, data = opened(folder)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        return Explored(str(folder), opened_model(folder), None, " ".join(str(error).split()))
    return Explored(str(folder), method, data.test)
