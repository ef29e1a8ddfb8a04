"""The shape of the code, measured: width, density, sizes, and imports that point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import counterpoint

PACKAGE = Path(counterpoint.__file__).parent
WIDTH, DENSITY, LONGEST_FUNCTION, LONGEST_FILE = 100, 9.5, 60, 400


@dataclass(frozen=True)
class Source:
    """A file, and the lines of it that are code: no blank line, comment or docstring."""

    path: Path
    lines: list[str]
    tree: ast.Module
    code: frozenset[int]

    @classmethod
    def read(cls, path: Path) -> Source:
        text = path.read_text(encoding="utf-8")
        lines, tree = text.splitlines(), ast.parse(text)
        docs = {n for node in ast.walk(tree) if is_text(node) for n in span(node)}
        shown = {n for n, line in enumerate(lines, 1) if line.strip()}
        comments = {n for n, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
        return cls(path, lines, tree, frozenset(shown - comments - docs))

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and lines of code of each function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{self.path.name}:{node.name}", len(self.code & {*span(node)})


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def span(node: ast.AST) -> range:
    return range(node.lineno, node.end_lineno + 1)  # type: ignore[attr-defined]


SOURCES = [Source.read(path) for path in sorted(PACKAGE.rglob("*.py"))]


def test_lines_are_narrow() -> None:
    """At most 2 % run over the columns, which strings and formulas may."""
    widths = [len(line) for source in SOURCES for line in source.lines]
    assert sum(width > WIDTH for width in widths) <= 0.02 * len(widths)


def test_lines_say_one_thing() -> None:
    """Nodes of the syntax tree for each line of code."""
    nodes = sum(1 for source in SOURCES for _ in ast.walk(source.tree))
    assert nodes / sum(len(source.code) for source in SOURCES) <= DENSITY


def test_functions_are_short() -> None:
    sizes = dict(entry for source in SOURCES for entry in source.functions())
    assert median(sizes.values()) <= 10
    assert quantiles(sizes.values(), n=10)[-1] <= 30
    long = {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION}
    assert not [name for name in long if not name.endswith(":__init__")], long


def test_files_are_short() -> None:
    long = {str(source.path): len(source.lines) for source in SOURCES}
    assert not {path: count for path, count in long.items() if count > LONGEST_FILE}


def imported(source: Source) -> Iterator[Path]:
    """Files of the package that a file imports, also for types."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint"):
            base = PACKAGE.parent.joinpath(*str(node.module).split("."))
            for name in node.names:
                for path in (base / f"{name.name}.py", base / name.name / "__init__.py"):
                    if path.is_file():
                        yield path
                        break
                else:
                    module = base.with_suffix(".py")
                    yield module if module.is_file() else base / "__init__.py"


def test_imports_go_in_no_circle() -> None:
    arrows = {source.path: {*imported(source)} for source in SOURCES}
    left = dict(arrows)
    while free := [path for path, to in left.items() if not to & left.keys()]:
        for path in free:
            del left[path]
    assert not left, "in or above a circle: " + ", ".join(
        str(path.relative_to(PACKAGE)) for path in left
    )
