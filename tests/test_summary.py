"""``method.summary()``: shapes, parameters, and rows decoded, against counted calls."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_methods import MODALITIES, batch, every_method, make
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.core import noise
from counterpoint.methods import Method
from counterpoint.methods.summary import Part
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.probability.flows import FlowOptions

TWO = (cp.Modality("x", (3,)), cp.Modality("y", (2,)))
NETWORKS = cp.NetworkOptions(hidden=(8,))


def calls_in_training(method: Method, stage: int) -> dict[str, float]:
    """Rows that pass through each decoder in one step of training, for each row."""
    counts: Counter[str] = Counter()
    hooks = []
    for name in method.model.names:
        part = method.model.likelihood(name)
        network = method.model.denoisings[name].network if name in method.model.denoisings else None

        def count(module: nn.Module, read: tuple[Tensor, ...], made: Tensor, n: str = name) -> None:
            counts[n] += len(made)

        assert part is not None
        hooks.append((network or method.model.decoder(name)).register_forward_hook(count))
    method.begin(method.stages[stage])
    rows = batch()
    with noise.seeded(torch.Generator().manual_seed(0)):  # MVAE draws subsets of modalities
        terms = method.train().losses(rows, 10_000)
    torch.stack([*terms.values()]).sum(0).mean().backward()
    for hook in hooks:
        hook.remove()
    method.begin(None)
    return {name: counts[name] / len(rows) for name in method.model.names}


@every_method
def test_rows_decoded_are_those_of_a_step_of_training(name: str) -> None:
    method = make(name)
    decoded = method.summary().decoded
    assert [*decoded] == [stage.name for stage in method.stages]
    for index, stage in enumerate(method.stages):
        assert decoded[stage.name] == calls_in_training(method, index)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        # everything to everything: one draw
        (cp.MVTCAE(MODALITIES), 1),
        # each of three modalities to all: one draw of K for each
        (cp.MMVAE(MODALITIES, samples=5), 15),
        # the same with K = 1, and one pair of GenAug
        (cp.IDMVAE(MODALITIES, diffusion=0.0), 4),
        # each single and everything, to all
        (cp.DMVAE(MODALITIES), 4),
    ],
)
def test_rows_decoded_follow_from_routes_and_draws(method: Method, rows: int) -> None:
    assert method.summary().decoded == {"": dict.fromkeys(("image", "words", "vector"), rows)}


def test_parts_have_the_shapes_and_parameters_of_their_networks() -> None:
    """An encoder has two trunks and two heads, by hand: 3·8 + 8 and 8·4 + 4, ..."""
    summary = cp.DMVAE(TWO, shared_dim=2, private_dim=1, networks=NETWORKS).summary()
    assert summary.parts == (
        Part("encoder of x", ((3,),), ((2,), (1,)), 2 * 32 + 36 + 18),
        Part("encoder of y", ((2,),), ((2,), (1,)), 2 * 24 + 36 + 18),
        Part("decoder of x", ((3,),), ((3,),), 32 + 27),
        Part("decoder of y", ((3,),), ((2,),), 32 + 18),
        Part("prior of z", (), ((2,),), 0),
        Part("prior of w_x", (), ((1,),), 0),
        Part("prior of w_y", (), ((1,),), 0),
    )
    assert repr(summary).splitlines()[2] == "encoder of x  3      2; 1           118"


def test_a_flow_is_a_part_without_which_its_encoder_counts() -> None:
    flow = FlowOptions(hidden=(4,), transforms=1)
    method = cp.JNF(TWO, shared_dim=2, networks=NETWORKS, flow=flow)
    parts = {part.name: part for part in method.summary().parts}
    assert parts["encoder of x"].parameters == 3 * 8 + 8 + 8 * 4 + 4
    encoder = method.model.posterior.encoders["x"]
    assert parts["flow of x"].parameters == sum(p.numel() for p in encoder.flow.parameters()) > 0
    assert parts["joint encoder"].inputs == ((3,), (2,))
    assert [*method.summary().decoded["flows"].values()] == [0, 0]


def test_a_denoiser_is_counted_in_place_of_the_decoder_that_it_replaces() -> None:
    method = cp.MVTCAE(TWO, networks=NETWORKS, denoiser=DenoiserOptions(modalities=("x",)))
    summary = method.summary()
    parts = {part.name: part for part in summary.parts}
    assert parts["decoder of x"].parameters == 0 < parts["denoiser of x"].parameters
    assert summary.decoded == {"": {"x": 1, "y": 1}}


@every_method
def test_parts_add_up_to_the_method_which_stays_as_it_was(name: str) -> None:
    method = make(name)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    generator = torch.get_rng_state()
    summary = method.summary()
    assert summary.parameters == sum(p.numel() for p in method.parameters())
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state()) and method.training
