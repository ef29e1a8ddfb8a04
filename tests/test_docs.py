"""The documentation's own rules: tables are those of the measured figures, pages stay
short, every method has a page, and tutorials are notebooks that check themselves."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import counterpoint as cp

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "notebook"
TUTORIALS = [path for path in sorted((DOCS / "tutorials").glob("*.md")) if path.stem != "index"]
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def module_of_docs(name: str) -> ModuleType:
    """A module in ``docs``, which is no package."""
    specification = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """``docs/tables.py``."""
    return module_of_docs("tables")


def test_pages_hold_the_tables_of_the_measured_figures(tables: ModuleType) -> None:
    """Otherwise run ``python docs/tables.py``."""
    assert [
        page.name for page in tables.pages() if tables.updated(page.read_text()) != page.read_text()
    ] == []


def test_every_table_has_a_page(tables: ModuleType) -> None:
    written = {
        name for page in tables.pages() for _, name, _ in tables.MARKED.findall(page.read_text())
    }
    assert {path.stem for path in (tables.RESULTS / "tables").glob("*.json")} == written


def test_a_table_prints_seeds_measurements_and_the_best_in_bold(tables: ModuleType) -> None:
    measurement = {"file": "idmvae", "run": 4, "metric": "probe/z/digit"}
    table = {
        "columns": [
            {"name": "probe", "best": "max"},
            {"name": "FID", "format": ".1f", "best": "min"},
        ],
        "rows": [
            {"label": "a", "cells": [[0.9, 0.8], 3.04]},
            {"label": "b", "cells": [measurement, None]},
            {"label": "paper", "cells": [0.99, 1.0], "published": True},
        ],
    }
    assert tables.rendered(table).splitlines() == [
        "|  | probe | FID |",
        "| --- | --- | --- |",
        "| a | .900 / .800 | **3.0** |",
        "| b | **.978** |  |",
        "| paper | .990 | 1.0 |",
    ]


def test_a_reference_without_a_run_is_the_mean_over_seeds_or_their_range(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = {
        "0": {"a": {"value": 0.2}, "b": {"value": 1}},
        "1": {"a": {"value": 0.4}, "b": {"value": 1}},
    }
    (tmp_path / "demo.json").write_text(json.dumps({"seeds": seeds}))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    mean = {"file": "demo", "metric": "a"}
    assert tables.text(mean, ".3f") == ".300"
    assert tables.text(mean | {"show": "range"}, ".3f") == ".200 to .400"
    assert tables.text({"file": "demo", "metric": "b", "show": "range"}, ".3f") == "1.000"


def test_a_table_with_a_row_that_is_too_short_is_refused(tables: ModuleType) -> None:
    table = {"columns": [{"name": "a"}, {"name": "b"}], "rows": [{"label": "x", "cells": [1.0]}]}
    with pytest.raises(ValueError, match="row 'x' has 1 cells, not 2"):
        tables.rendered(table)


def test_the_overviews_repeat_figures_of_the_pages(tables: ModuleType) -> None:
    """Each number of the table of results is on the page that its row links to; each
    number of the README is on some page."""
    pages = {path.name: path.read_text() for path in (DOCS / "results").glob("*.md")}
    overviews = [
        (row["cells"][2], pages[re.search(r"\((\S+)\)", row["cells"][3])[1]])  # type: ignore[index]
        for row in tables.read("index")["rows"]
    ]
    everything = "".join(pages.values())
    overviews += [
        (" ".join(row["cells"][2:]), everything) for row in tables.read("summary")["rows"]
    ]
    numbers = [(n, page) for cell, page in overviews for n in re.findall(r"\d*\.\d+", cell)]
    assert [number for number, page in numbers if number not in page] == []
    assert len(numbers) > 40


def test_a_part_of_a_table_takes_its_cells(tables: ModuleType) -> None:
    whole = {
        "columns": [{"name": "a"}, {"name": "b", "format": ".1f"}],
        "rows": [{"label": "x", "cells": [0.1, 2.04]}, {"label": "y", "cells": [0.3, 4.0]}],
    }
    view = {"corner": "data", "columns": ["b"], "rows": {"x": "ours"}}
    assert tables.rendered(tables.part(whole, view)).splitlines()[::2] == [
        "| data | b |",
        "| ours | 2.0 |",
    ]


def test_pages_of_results_and_the_readme_stay_short() -> None:
    limits = {path: 80 for path in (DOCS / "results").glob("*.md")} | {ROOT / "README.md": 150}
    long = {
        path.name: n
        for path, most in limits.items()
        if (n := len(path.read_text().splitlines())) > most
    }
    assert long == {}


def test_every_method_has_a_page() -> None:
    pages = {path.stem for path in (DOCS / "methods").glob("*.md")}
    assert pages - {"index"} == {name.replace("+", "-plus") for name in cp.METHODS}


def test_every_figure_is_shown() -> None:
    """A picture that no page shows is left over."""
    text = "".join(path.read_text() for path in [ROOT / "README.md", *DOCS.rglob("*.md")])
    pictures = [
        path
        for kind in ("svg", "png", "jpg")
        for path in DOCS.rglob(f"*.{kind}")
        if "_build" not in path.parts
    ]
    assert [path.name for path in pictures if path.name not in text] == []


def test_the_notebook_is_outside_the_navigation() -> None:
    assert [
        path.name
        for path in NOTEBOOK.glob("*.md")
        if not re.match(r"---\norphan: true\n---\n", path.read_text())
    ] == []


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_is_a_notebook_that_checks_what_it_prints(page: Path) -> None:
    """The cells themselves run in ``make docs``."""
    text = page.read_text()
    assert text.startswith("---\njupytext:\n  text_representation:\n    extension: .md\n")
    assert f"{{nb-download}}`Download this page as a notebook <{page.stem}.ipynb>`" in text
    assert "{testcode}" not in text
    printed = False
    for cell in CELL.findall(text):
        hidden = cell.startswith(":tags: [remove-cell]\n")
        assert hidden == bool(re.search(r"^assert ", cell, re.MULTILINE)), cell
        printed = not hidden and (printed or "print(" in cell)
    assert not printed, "the last cell that prints has no check after it"


def test_a_notebook_for_download_holds_what_jupyter_can_show(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    v4 = nbformat.v4
    path = tmp_path / "a.ipynb"
    prose = (
        "{nb-download}`Download this page <a.ipynb>`\n\n"
        "{py:class}`~counterpoint.core.latents.Latents` and {py:mod}`counterpoint.extend`, "
        "[here](../data.md#a) and [there](https://example.org).\n\n![A figure](../a.png)\n\nEnd."
    )
    hidden = {"tags": ["remove-cell"]}
    cells = [v4.new_markdown_cell(prose), v4.new_code_cell("1 + 1")]
    cells += [v4.new_code_cell("assert True", metadata=hidden)]
    nbformat.write(v4.new_notebook(cells=cells), path)
    env = SimpleNamespace(
        mystnb_config=SimpleNamespace(output_folder=str(tmp_path)), docname="a", nb_metadata={"a"}
    )
    module_of_docs("conf").plain_notebook(SimpleNamespace(env=env), None)
    assert [cell.source for cell in nbformat.read(path, as_version=4).cells] == [
        "`Latents` and `counterpoint.extend`, here and [there](https://example.org).\n\nEnd.",
        "1 + 1",
    ]


def test_formulas_ask_for_nothing_outside() -> None:
    """MathJax is a file of the site."""
    pytest.importorskip("sphinx")
    conf = module_of_docs("conf")
    assert [Path(folder, conf.mathjax_path).exists() for folder in conf.html_static_path][1:] == [
        True
    ]
