"""A trained model answers from several threads at once exactly as it does alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.methods import METHODS, Method
from counterpoint.model.rules import BayesRule

ROWS = 4
THREADS = 8
MODALITIES = (
    Modality("image", (1, 8, 8), "laplace"),
    Modality("words", (3,), "categorical", classes=5),
    Modality("vector", (4,), "normal", scale=None),
)
OMICS = (
    Modality("rna", (5,), "nb"),
    Modality("protein", (4,), "zinb"),
    Modality("methylation", (3,), "beta"),
)
SMALL: dict[str, dict[str, Any]] = {
    "jnf": {"hmc": cp.HMC(warmup=3, steps=4, leapfrogs=3), "flow": cp.FlowOptions(hidden=(8,))},
    "jnf-shared": {
        "hmc": cp.HMC(warmup=3, steps=4, leapfrogs=3),
        "flow": cp.FlowOptions(hidden=(8,)),
        "projection_dim": 3,
    },
    "diff-mvae": {
        "denoiser": cp.DenoiserOptions(width=8, solver="ancestral", solver_steps=20),
        "score_width": 8,
    },
}
PRODUCT = BayesRule(cp.HMC(warmup=3, steps=4, leapfrogs=3))
SAMPLERS = {
    "idmvae": "diffusion",
    "mmvae+": "gmm",
    "mmvae": "flow",
    "mvae": "score-ode",
    "mopoe": "diffusion",
    "diff-mvae": "gmm",
}
"""Learned priors beside those that methods have."""


@cache
def model(name: str, omics: bool = False) -> Method:
    torch.manual_seed(0)
    networks = cp.NetworkOptions(width=4, hidden=(8,))
    kind: Any = METHODS[name]
    private = {"private_dim": 2} if name in ("idmvae", "mmvae+", "dmvae", "iterative") else {}
    made: Method = kind(
        OMICS if omics else MODALITIES,
        shared_dim=2,
        networks=networks,
        **private,
        **SMALL.get(name, {}),
    )
    if name in SAMPLERS and not omics:
        made.model.add_fitted_priors(SAMPLERS[name], 8)
    return made.eval()


@cache
def rows(omics: bool = False) -> Batch:
    rng = np.random.default_rng(0)
    if omics:
        counts = {"rna": rng.poisson(5.0, (ROWS, 5)), "protein": rng.poisson(1.0, (ROWS, 4))}
        return Batch.of(counts, modalities=OMICS)
    values = {
        "image": rng.random((ROWS, 1, 8, 8), dtype=np.float32),
        "words": rng.integers(0, 5, (ROWS, 3)),
        "vector": rng.normal(size=(ROWS, 4)).astype(np.float32),
    }
    here = {
        "image": np.array([True, True, False, True]),
        "vector": np.array([True, True, True, False]),
    }
    return Batch.of(values, here, modalities=MODALITIES)


def tensors(answer: object) -> list[Tensor]:
    """All numbers of an answer."""
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, dict):
        return [t for value in answer.values() for t in tensors(value)]
    if isinstance(answer, tuple | list):
        return [t for value in answer for t in tensors(value)]
    return (
        [t for value in vars(answer).values() for t in tensors(value)]
        if hasattr(answer, "__dict__")
        else []
    )


Question = Callable[[torch.Generator], object]


def questions(name: str) -> Iterator[tuple[str, Question]]:
    """Every verb of a method that draws, and those that do not."""
    m, x = model(name), rows()
    complete, some = x[:2], x.only(["words"])
    yield "encode", lambda g: m.encode(x, samples=3, generator=g)
    yield "means", lambda g: m.encode(x, generator=g)
    yield "translate", lambda g: m.translate(some, n=2, generator=g)
    yield "sample", lambda g: m.sample(2, generator=g)
    yield "standard", lambda g: m.sample(2, prior="standard", generator=g)
    yield "impute", lambda g: m.impute(x, n=19, samples=True, generator=g)
    yield "reconstruct", lambda g: m.reconstruct(x, generator=g)
    yield "divergence", lambda g: m.divergence(complete, ["image"], samples=3, generator=g)
    yield "product", lambda g: m.encode(complete, samples=2, rule=PRODUCT, generator=g)
    if not m.model.surrogates:
        yield "log_likelihood", lambda g: m.log_likelihood(x, samples=3, generator=g)
    if m.model.private_dims:
        yield "recombine", lambda g: m.recombine(x, x, generator=g)
    if name in ("jnf", "jnf-shared"):
        yield "diagnose", lambda g: m.diagnose(complete, ["image", "vector"], generator=g)
    else:
        yield "refine", lambda g: m.refine(complete, by="gradient", steps=2, samples=2, generator=g)
    if name == "iterative":
        yield "refiner", lambda g: m.translate(some, refine=2, generator=g)


def asked(question: Question, seed: int) -> list[Tensor]:
    return tensors(question(torch.Generator().manual_seed(seed)))


def together(questions: list[tuple[Question, int]]) -> list[list[Tensor]]:
    """Answers of ``THREADS`` threads that begin at once, in the order of the questions."""
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS, initializer=start.wait) as pool:
        return list(pool.map(lambda asked_for: asked(*asked_for), questions))


@pytest.mark.filterwarnings(
    "ignore::counterpoint.probability.products.ImproperProduct",
    "ignore::counterpoint.probability.products.StuckChains",
)
def test_threads_answer_as_one_does() -> None:
    """Every verb of every method, more than 640 calls in all: bit for bit, and torch's
    own generator is left alone."""
    told = [
        (question, seed) for name in METHODS for _, question in questions(name) for seed in range(5)
    ]
    assert len(told) >= 640
    alone = [asked(*each) for each in told]
    before = torch.random.get_rng_state()
    for (_, seed), one, many in zip(told, alone, together(told), strict=True):
        assert len(one) == len(many) > 0
        assert all(
            torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, many, strict=True)
        ), seed
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draws_of_every_likelihood_are_those_of_their_generator() -> None:
    impute = partial(model("mmvae", omics=True).impute, rows(omics=True), n=19, samples=True)
    told = [(lambda g: impute(generator=g), seed) for seed in range(16)]
    alone = [asked(*each) for each in told]
    assert not torch.equal(alone[0][-1], alone[1][-1])  # draws
    for one, many in zip(alone, together(told), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


def test_threads_leave_a_training_model_in_training() -> None:
    """As it was, dropout and frozen parts of a stage included, however the questions of
    threads overlap."""
    method = METHODS["jnf"](
        MODALITIES, shared_dim=2, networks=cp.NetworkOptions(width=4, hidden=(8,))
    )
    method.begin(method.stages[1])
    method.train()
    before = [part.training for part in method.modules()]
    assert True in before and False in before
    for _ in range(10):
        together([(lambda g: method.encode(rows()[:2], ["image"]), 0)] * 64)
        assert [part.training for part in method.modules()] == before


def test_an_answer_does_not_touch_the_mode_of_a_model_that_does_not_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(*_: object) -> None:
        pytest.fail("the mode was set")

    monkeypatch.setattr(Method, "train", train)
    model("mmvae").encode(rows())
