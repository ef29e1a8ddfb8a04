"""Answers of the explorer: from a question about rows of a run to arrays.

Every function is pure. A question holds its seed, so that equal questions have equal
answers, whoever else asks at the same time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.conversion import read_as
from counterpoint.core.latents import SHARED_KEY, Latents, modality_of
from counterpoint.data import Split
from counterpoint.methods import Method

Kind = Literal["recombine", "walk", "traverse", "translate", "sample"]

MOST_DRAWS = 64
"""Most draws or steps of one answer, so that no visitor occupies the machine."""

REACH = 3.0
"""A traversal goes from −REACH to REACH, three standard deviations of the prior N(0, 1)."""


@dataclass(frozen=True)
class Question:
    """A question about rows of a run.

    Args:
        kind: "recombine" (z of a row, w of another), "walk" (between two rows in one
            latent), "traverse" (one coordinate of a latent), "translate" (the given
            modalities to all) or "sample" (from the prior).
        row: the row, by its place in the test split.
        other: the row that gives w, or where a walk ends.
        latent: "z" or "w_MODALITY".
        coordinate: of the latent, to traverse.
        given: modalities to translate from; all that are present if empty.
        prior: of the latents that are drawn.
        n: draws, or steps of a walk or traversal.
        seed: of the draws.
        guidance: of diffusion decoders; None for the run's own.
    """

    kind: Kind = "recombine"
    row: int = 0
    other: int = 0
    latent: str = SHARED_KEY
    coordinate: int = 0
    given: tuple[str, ...] = ()
    prior: str = "auto"
    n: int = 8
    seed: int = 0
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown question {self.kind!r}; ask {', '.join(get_args(Kind))}")
        if not 1 <= self.n <= MOST_DRAWS:
            raise ValueError(f"n={self.n} must be from 1 to {MOST_DRAWS}")

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Question:
        """A question from JSON.

        Raises:
            ValueError: an unknown entry, or a value of another type.

        >>> Question.of({"kind": "walk", "row": 3, "given": ["image"]}).given
        ('image',)
        """
        known = {field.name: field.default for field in fields(cls)}
        read: dict[str, Any] = {}
        for name, value in entries.items():
            if name not in known:
                raise ValueError(f"unknown entry {name!r}; choose among {', '.join(known)}")
            read[name] = _entry(name, value, known[name])
        return cls(**read)


@dataclass(frozen=True)
class Answer:
    """What a question is answered with.

    Attributes:
        values: means (N, *shape) by modality, as ``decode`` returns them.
        titles: what each of the N is.
    """

    values: dict[str, Tensor]
    titles: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The values as arrays."""
        return {name: value.float().cpu().numpy() for name, value in self.values.items()}


@dataclass(frozen=True, eq=False)
class Explored:
    """A run that is explored.

    Args:
        name: the run folder, as it was given.
        method: the trained method.
        split: the rows to choose from; None if the run's data are gone.
        problem: one line that says why there are no rows.
    """

    name: str
    method: Method
    split: Split | None
    problem: str = ""

    @property
    def rows(self) -> Split:
        """The rows.

        Raises:
            ValueError: the run's data are gone.
        """
        if self.split is None:
            raise ValueError(f"{self.name} has no rows to choose from: {self.problem}")
        return self.split

    def batch(self, *rows: int) -> Batch:
        """Rows as the method reads them.

        Raises:
            ValueError: a row that is not there.
        """
        split = self.rows
        beyond = [row for row in rows if not 0 <= row < len(split)]
        if beyond:
            raise ValueError(f"no row {beyond[0]}; choose from 0 to {len(split) - 1}")
        device = next(self.method.parameters()).device
        chosen = split.batch(np.asarray(rows), device)
        return read_as(chosen, self.method.modalities)


def answer(
    run: Explored,
    question: Question,
    values: Mapping[str, np.ndarray] | None = None,
) -> Answer:
    """Answer a question.

    Args:
        run: the run that is asked.
        question: what is asked.
        values: rows (1, *shape) of the visitor's own to translate from, in place of a
            row of the run.

    Raises:
        ValueError: a row, modality, latent, coordinate or prior that is not there, or a
            question that the method can't answer.
    """
    method = _drawing_by(run.method, question.guidance)
    generator = torch.Generator().manual_seed(question.seed)
    if question.kind == "sample":
        drawn = method.sample(question.n, prior=question.prior, generator=generator)
        return Answer(drawn, _numbered("draw", question.n))
    if question.kind == "translate":
        source = _given(run, question, values)
        made = method.translate(source, n=question.n, prior=question.prior, generator=generator)
        return Answer({k: v[:, 0] for k, v in made.items()}, _numbered("draw", question.n))
    if question.kind == "recombine":
        return _recombined(run, method, question, generator)
    moved = _walked if question.kind == "walk" else _traversed
    return moved(run, method, question, generator)


def spread(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over draws (N, d) of each feature, (d,) each.

    >>> mean, sd = spread(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    >>> mean.tolist(), sd.tolist()
    ([1.0, 1.0], [1.0, 0.0])
    """
    array = values.float().cpu().numpy()
    return array.mean(0), array.std(0)


def most_moved(values: Tensor, most: int = 12) -> np.ndarray:
    """Indices of the features of (N, d) whose range over N is largest, first the
    largest.

    >>> most_moved(torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 2.0]]), most=2).tolist()
    [1, 2]
    """
    array = values.float().cpu().numpy()
    return np.argsort(-np.ptp(array, axis=0), kind="stable")[:most]


def code(run: Explored, question: Question, files: Mapping[str, str] | None = None) -> str:
    """The lines of Python that make an answer again, and write it as answer.npz.

    Args:
        run: the run that was asked.
        question: what was asked.
        files: by modality the file or text that the visitor gave.
    """
    lines = [
        "from pathlib import Path",
        "",
        "import numpy as np",
        "",
        "from counterpoint.app import Question, answer",
        "from counterpoint.cli.app import explored",
        *(["from counterpoint.cli.values import read_values"] if files else []),
        "",
        f"run = explored(Path({run.name!r}))",
        f"question = {question!r}",
    ]
    if files:
        lines += [
            f"files = {dict(files)!r}",
            "modalities = run.method.model.modalities",
            "values = {name: read_values(modalities[name], file) for name, file in files.items()}",
        ]
    given = ", values" if files else ""
    return "\n".join([*lines, f"np.savez('answer.npz', **answer(run, question{given}).arrays)", ""])


# ------------------------------------------------------------------------------ each kind


def _recombined(
    run: Explored, method: Method, question: Question, generator: torch.Generator
) -> Answer:
    made = method.recombine(run.batch(question.row), run.batch(question.other), generator=generator)
    return Answer(made, (f"z of row {question.row}, w of row {question.other}",))


def _walked(
    run: Explored, method: Method, question: Question, generator: torch.Generator
) -> Answer:
    """Straight from one row to another in one latent; the others are those of the first
    row."""
    ends = method.encode(run.batch(question.row, question.other))
    here, there = _values(ends, question.latent)[0]
    share = torch.linspace(0, 1, question.n, device=here.device).unsqueeze(-1)
    moved = here + share * (there - here)
    titles = tuple(f"{float(t):.2f}" for t in share)
    return Answer(_decoded(run, method, question, ends, moved, generator), titles)


def _traversed(
    run: Explored, method: Method, question: Question, generator: torch.Generator
) -> Answer:
    """One coordinate from −REACH to REACH; everything else is as in the row."""
    latents = method.encode(run.batch(question.row))
    here = _values(latents, question.latent)[0, 0]
    if not 0 <= question.coordinate < len(here):
        raise ValueError(
            f"{question.latent} has no coordinate {question.coordinate}; choose from 0 to {len(here) - 1}"
        )
    reached = torch.linspace(-REACH, REACH, question.n, device=here.device)
    moved = here.repeat(question.n, 1)
    moved[:, question.coordinate] = reached
    titles = tuple(f"{float(value):+.2f}" for value in reached)
    return Answer(_decoded(run, method, question, latents, moved, generator), titles)


def _decoded(
    run: Explored,
    method: Method,
    question: Question,
    latents: Latents,
    moved: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Decode ``moved`` (N, D) in place of one latent, with the others of the first
    row."""
    n = len(moved)
    values = {key: value[:, :1].repeat(1, n, 1) for key, value in latents.by_key().items()}
    values[question.latent] = moved[None]
    private = {name: w for key, w in values.items() if (name := modality_of(key)) is not None}
    known = run.batch(question.row).covariates
    covariates = known.repeat(n, 1) if method.model.covariates else None
    made = method.decode(
        Latents(values[SHARED_KEY], private), covariates=covariates, generator=generator
    )
    return {name: value[0] for name, value in made.items()}


def _values(latents: Latents, key: str) -> Tensor:
    known = latents.by_key()
    if key not in known:
        raise ValueError(f"unknown latent {key!r}; choose one of {', '.join(known)}")
    return known[key]


def _given(run: Explored, question: Question, values: Mapping[str, np.ndarray] | None) -> Batch:
    """What is translated: the visitor's own values, or some modalities of a row."""
    if values:
        device = next(run.method.parameters()).device
        return Batch.of(values, modalities=run.method.modalities, device=device)
    batch = run.batch(question.row)
    return batch.only(question.given) if question.given else batch


def _drawing_by(method: Method, guidance: float | None) -> Method:
    """The method with another guidance. It is a copy, since others ask the same one."""
    if guidance is None:
        return method
    guided = copy.deepcopy(method)
    guided.draw_by(guidance=guidance)
    return guided


def _numbered(what: str, n: int) -> tuple[str, ...]:
    return tuple(f"{what} {i + 1}" for i in range(n))


def _entry(name: str, value: Any, default: Any) -> Any:
    """A value of JSON as the type of the default of its entry."""
    if name == "given":
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"given={value!r} must be a list of modalities")
        return tuple(value)
    if name == "guidance":
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not numeric:
            raise ValueError(f"guidance={value!r} must be a number")
        return value
    if type(value) is not type(default):
        wanted = "a whole number" if isinstance(default, int) else "text"
        raise ValueError(f"{name}={value!r} must be {wanted}")
    return value
