"""Densities, divergences and products are of full precision, whatever that of the
networks: one test over all methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from test_methods import batch, every_method, kind_of, make
from torch import Tensor, nn

from counterpoint.diffusion import GaussianDiffusion
from counterpoint.methods import Method
from counterpoint.model import encoders
from counterpoint.model.fitted_priors import GaussianMixture
from counterpoint.probability.distributions import Mixture, Normal, product
from counterpoint.probability.flows import Flow, FlowOptions
from counterpoint.probability.mcmc import HMC

PROBABILITY = ("counterpoint.model.", "counterpoint.inference.", "counterpoint.methods.")
"""Where modules hold networks, but are none."""


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The largest modules that are networks and nothing else. Flows belong to a
    density."""
    holder = type(module).__module__.startswith(PROBABILITY)
    if isinstance(module, Flow | GaussianDiffusion):
        return
    if holder or isinstance(module, nn.ModuleDict | nn.ModuleList):
        for child in module.children():
            yield from networks(child)
    elif any(True for _ in module.parameters()):
        yield module


def rounded(method: Method, half: torch.dtype, *, mixed: bool) -> Method:
    """Networks that say the same in both precisions: of exact computations, what
    ``half`` keeps, as ``half`` or in float32."""

    def call(exact: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            said = exact(*(u.float() if u.is_floating_point() else u for u in inputs)).to(half)
        return said if mixed else said.float()

    for network in networks(method):
        network.forward = partial(call, network.forward)  # type: ignore[method-assign]
    return method


def answers(method: Method, data: str) -> dict[str, Tensor]:
    """Draws of latents, translations, imputations and, where there are densities,
    likelihoods and divergences."""
    of, given = batch(data), method.model.names[0]
    torch.manual_seed(3)
    found = {"z": method.encode(of).shared, "drawn": method.encode(of, samples=2).shared}
    found |= method.translate(of, n=2) | {f"sampled {k}": v for k, v in method.sample(3).items()}
    if not method.model.surrogates:
        found["log p(x)"] = method.log_likelihood(of, 3)
    if "missing" not in data:
        found["divergence"] = method.divergence(of, [given], samples=3)
    return found


def everything(
    name: str, data: str, half: torch.dtype, *, mixed: bool, narrow: bool
) -> dict[str, Tensor]:
    """By stage and term, and by answer."""
    options: dict[str, Any] = {"hmc": HMC(warmup=4, steps=2, leapfrogs=2)} if "jnf" in name else {}
    method = rounded(make(name, kind_of(data), **options), half, mixed=mixed)
    if narrow:  # σ = .0025, whose precisions float16 can't hold
        for head in [m for m in method.model.posterior.modules() if isinstance(m, encoders.Head)]:
            nn.init.constant_(head.linear.bias[head.linear.out_features // 2 :], -6.0)
    found = {}
    with torch.autocast("cpu", half) if mixed else nullcontext(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of products and chains, which untrained encoders give reason to
        for stage in method.stages:
            method.begin(stage)
            torch.manual_seed(7)
            found |= {
                f"{stage.name} {term}": value.detach()
                for term, value in method.losses(batch(data), 10).items()
            }
        method.begin(None)
        return found | answers(method.eval(), data)


@every_method
@pytest.mark.parametrize(
    ("data", "half", "narrow"),
    [
        ("complete", torch.bfloat16, False),
        ("omics missing", torch.bfloat16, False),
        ("missing", torch.float16, True),
    ],
    ids=["bf16", "bf16 omics missing", "fp16 narrow missing"],
)
def test_terms_and_answers_do_not_depend_on_the_precision_of_the_networks(
    name: str, data: str, half: torch.dtype, narrow: bool
) -> None:
    full, mixed = (
        everything(name, data, half, mixed=mixed, narrow=narrow) for mixed in (False, True)
    )
    for key, value in mixed.items():
        assert value.dtype == torch.float32 and torch.isfinite(value).all(), key
        torch.testing.assert_close(
            value, full[key], rtol=1e-4, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_what_else_multiplies_matrices_does_so_in_full(half: torch.dtype) -> None:
    """Products of subsets, means of mixtures, flows and their inverses, draws of a
    mixture of normals."""
    experts = Normal(torch.randn(3, 50, 4), 0.002 + torch.rand(3, 50, 4))
    members, subsets = (
        torch.ones(3, 50, dtype=torch.bool),
        torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool),
    )
    flow = Flow(4, 2, FlowOptions("nsf", hidden=(8,), conditional=True))(torch.randn(50, 2))
    gmm = GaussianMixture(4, components=2)
    gmm.factors.copy_(torch.linalg.cholesky(torch.cov(torch.randn(4, 9)).expand(2, 4, 4)))
    z = torch.randn(50, 4)

    def found() -> list[Tensor]:
        torch.manual_seed(0)
        of_subsets = product(experts, members, subsets)
        u, volume = flow.call_and_ladj(z)
        return [
            of_subsets.loc,
            of_subsets.scale,
            Mixture(experts, members).mean,
            u,
            volume,
            flow.inv(u),
            flow(z),
            gmm.sample(9),
        ]

    with torch.no_grad():
        full = found()
        with torch.autocast("cpu", half):
            torch.testing.assert_close(found(), full, rtol=0, atol=0)
    torch.testing.assert_close(full[5], z, rtol=0, atol=1e-3)


def test_parameters_of_half_precision_are_widened() -> None:
    q = Normal(
        torch.zeros(2, 3, dtype=torch.bfloat16), torch.full((2, 3), 1e-3, dtype=torch.bfloat16)
    )
    assert q.loc.dtype == q.scale.dtype == q.log_prob(torch.zeros(2, 3)).dtype == torch.float32
    assert (
        Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)).loc.dtype
        == torch.float64
    )
