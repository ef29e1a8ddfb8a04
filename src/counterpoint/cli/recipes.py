"""Recipes: configurations of the package, in ``counterpoint/recipes/``, which are found
by name from any folder."""

from __future__ import annotations

from pathlib import Path

from counterpoint.cli import choose

FOLDER = Path(__file__).parent.parent / "recipes"


def recipes() -> dict[str, str]:
    """The recipes: by name, the first line of the file.

    >>> "demo" in recipes()
    True
    """
    files = sorted(FOLDER.glob("*.yaml"))
    return {path.stem: _first_line(path).lstrip("# ").rstrip() for path in files}


def recipe(name: str) -> Path:
    """The file of a recipe.

    Raises:
        ValueError: no such recipe; the closest is suggested.

    >>> recipe("demo").name
    'demo.yaml'
    """
    return FOLDER / f"{choose(name.removesuffix('.yaml'), [*recipes()], 'recipe')}.yaml"


def config_file(given: str) -> Path:
    """The file that ``--config`` names: a YAML file, the config.yaml of a run folder, or
    the recipe of that file name."""
    path = Path(given)
    if path.is_dir():
        return path / "config.yaml"
    shipped = FOLDER / path.name
    return shipped if not path.exists() and given == path.name and shipped.is_file() else path


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()
