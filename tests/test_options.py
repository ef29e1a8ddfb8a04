"""Options of methods as records, additions, registries, and the keys of latents."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import counterpoint as cp
from counterpoint import extend
from counterpoint.core.latents import SHARED_KEY, Latents, modality_of, private_key
from counterpoint.core.modality import LIKELIHOOD_NAMES
from counterpoint.core.registry import Registry
from counterpoint.data import Split
from counterpoint.diffusion import SOLVERS, GaussianDiffusion, Solver, sample
from counterpoint.methods import METHODS, CommonOptions, Method, Ramp, Stage, configured_by
from counterpoint.methods.common import build
from counterpoint.model.additions import Addition
from counterpoint.model.fitted_priors import FITTED_PRIORS, EstimatedPrior, PriorKind
from counterpoint.model.likelihood import Likelihood
from counterpoint.model.likelihoods import LIKELIHOODS, register_likelihood
from counterpoint.model.rules import ProductRule
from counterpoint.nn.mlp import MLPGenerator, MLPTrunk
from counterpoint.nn.options import NETWORKS, NetworkKind
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything

MODALITIES = (cp.Modality("left", (3,), "normal"), cp.Modality("right", (2,), "normal"))
SMALL = cp.NetworkOptions(width=4, hidden=(8,))


@dataclass(frozen=True, kw_only=True)
class MineOptions(CommonOptions):
    """Options of :class:`Mine`.

    Args:
        private_dim: D_m.
        beta: β.
    """

    private_dim: int = 2
    beta: float = 1.0


class Mine(Method):
    """A method outside the library."""

    name = "mine"
    title = "A test"

    @configured_by(MineOptions)
    def __init__(self, modalities: Sequence[cp.Modality], options: MineOptions) -> None:
        model = build(
            modalities, options, rule=ProductRule("always"), private_dim=options.private_dim
        )
        bound = Bound(everything_to_everything, beta=options.beta)
        super().__init__(model, Stage([(bound, Ramp(1.0))]))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the registries as they were."""
    for registry in (METHODS, LIKELIHOODS, LIKELIHOOD_NAMES, NETWORKS, SOLVERS, FITTED_PRIORS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))


def rows(count: int = 40) -> Split:
    rng = np.random.default_rng(0)
    x = {m.name: rng.normal(size=(count, *m.shape)).astype(np.float32) for m in MODALITIES}
    return Split(x, MODALITIES)


@pytest.mark.parametrize("name", METHODS)
def test_a_constructor_shows_every_option_and_takes_no_other(name: str) -> None:
    kind: Any = METHODS[name]
    options = {field.name: field.default for field in fields(kind.options_type)}
    for function, own in ((kind, ["modalities"]), (kind.for_data, ["data", "seed"])):
        parameters = inspect.signature(function).parameters
        assert [*parameters] == [*own, *options]
        assert {key: parameters[key].default for key in options} == options
    assert set(CommonOptions.__dataclass_fields__) <= set(options)
    with pytest.raises(
        TypeError, match=f"{kind.__name__} has no option 'gamma'; its options are sh"
    ):
        kind(MODALITIES, gamma=1)
    with pytest.raises(TypeError, match=f"{kind.__name__} takes its options by keyword"):
        kind(MODALITIES, 8)


@pytest.mark.parametrize("name", METHODS)
def test_the_documentation_of_options_names_each_field(name: str) -> None:
    kinds = [kind for kind in METHODS[name].options_type.__mro__ if kind is not object]  # type: ignore[union-attr]
    for kind in kinds:
        told = (kind.__doc__ or "").partition("Args:")[2]
        for field in vars(kind)["__annotations__"]:
            if not any(field in vars(base)["__annotations__"] for base in kind.__mro__[1:-1]):
                assert f"{field}: " in told, (kind, field)


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_its_json(name: str) -> None:
    record: Any = METHODS[name].options_type
    options = record(shared_dim=7, networks=SMALL)
    config = json.loads(json.dumps(options.as_json()))
    assert record.of(config, name) == options and config["networks"]["hidden"] == [8]
    with pytest.raises(FrozenInstanceError):
        options.shared_dim = 3
    with pytest.raises(ValueError, match=r"networks has no option 'depth'; its options are kind"):
        record.of({"networks": {"depth": 3}}, name)
    with pytest.raises(TypeError, match=r"networks='big' must be NetworkOptions\(\.\.\.\)"):
        record(networks="big")


def test_a_copy_keeps_its_options() -> None:
    method = cp.MVAE(MODALITIES, networks=SMALL, subsets=2)
    twin = copy.deepcopy(method)
    assert twin.config == method.config and twin.config["subsets"] == 2


def test_facades_have_the_signature_of_what_they_call() -> None:
    from counterpoint.training import fit, fit_decoder, fit_prior, fit_refiner

    for function in (fit, fit_prior, fit_decoder, fit_refiner):
        method: Any = getattr(cp.JNF, function.__name__)
        assert inspect.signature(method) == inspect.signature(function)
        assert inspect.getdoc(method) == inspect.getdoc(function)


# --- registries


def test_a_method_of_ones_own_is_trained_saved_and_opened_by_name(
    tmp_path: Path, without: None
) -> None:
    assert cp.register(Mine) is Mine and cp.METHODS["mine"] is Mine
    cp.register(Mine)  # again, as when a cell of a notebook is run again
    method = Mine(MODALITIES, networks=SMALL, private_dim=1)
    method.fit(rows(), max_steps=2, batch_size=8, progress=False)
    again = cp.load(method.save_pretrained(tmp_path))
    assert isinstance(again, Mine) and again.config == method.config
    x = rows().batch(slice(0, 4))
    torch.testing.assert_close(again.encode(x).shared, method.encode(x).shared)

    class Other(Mine):
        title = "another of the same name"

    with pytest.raises(ValueError, match="method 'mine' is there already; give another name"):
        cp.register(Other)


def test_a_method_without_a_record_has_no_options() -> None:
    class Plain(Method):
        name = "plain"

        def __init__(self, modalities: Sequence[cp.Modality]) -> None:
            super().__init__(Mine(modalities, networks=SMALL).model, Stage([]))

    assert Plain(MODALITIES).config == {} and Plain.options_type is None
    assert Plain.from_config(MODALITIES, {}).model.names == ("left", "right")
    with pytest.raises(ValueError, match="plain has no options, got beta; let configured_by give"):
        Plain.from_config(MODALITIES, {"beta": 1.0})


def test_a_likelihood_of_ones_own(without: None) -> None:
    class Cauchy(Likelihood):
        def log_prob(self, raw: Tensor, x: Tensor, there: Tensor | None = None) -> Tensor:
            return self.total(torch.distributions.Cauchy(raw, 1.0).log_prob(x), there)

        def mean(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
            return raw

        def sample(self, raw: Tensor, x: Tensor | None = None) -> Tensor:
            return torch.distributions.Cauchy(raw, 1.0).sample()

    with pytest.raises(ValueError, match="unknown likelihood 'cauchy'; choose one of normal"):
        cp.Modality("left", (3,), "cauchy")
    register_likelihood("cauchy", Cauchy)
    modalities = (cp.Modality("left", (3,), "cauchy"), MODALITIES[1])
    method = cp.MVAE(modalities, networks=SMALL)
    assert isinstance(method.model.likelihood("left"), Cauchy)
    losses = method.losses(cp.Batch.of(rows().batch(slice(0, 4)).x, modalities=modalities))
    assert all(bool(torch.isfinite(value).all()) for value in losses.values())


def test_networks_of_ones_own(without: None) -> None:
    with pytest.raises(
        ValueError, match="networks: kind='deep' is unknown; choose one of mlp, conv"
    ):
        cp.NetworkOptions(kind="deep")
    deep = NetworkKind(
        lambda modality, o: MLPTrunk(modality, (o.width,) * 3, "none"),
        lambda latent_dim, shape, o: MLPGenerator(latent_dim, shape, (o.width,) * 3),
        lambda modality: modality.name == "left",
    )
    NETWORKS.register("deep", deep)
    options = cp.NetworkOptions(kind="deep", width=5)
    method = cp.MVAE(MODALITIES[:1], networks=options)
    widths = [m.out_features for m in method.model.decoders.modules() if isinstance(m, nn.Linear)]
    assert widths == [5, 5, 5, 3]
    with pytest.raises(ValueError, match=r"'right' of shape \(2,\) .* can't use network 'deep'"):
        cp.MVAE(MODALITIES, networks=options)
    with pytest.raises(ValueError, match="kind='deep' has no normalisation"):
        cp.NetworkOptions(kind="deep", norm="batch")


def test_a_solver_of_ones_own(without: None) -> None:
    def straight(process: Any, denoise: Any, x: Tensor, times: Tensor) -> Tensor:
        return denoise(x, times[:1])

    with pytest.raises(ValueError, match="denoiser: solver='straight' is unknown"):
        cp.DenoiserOptions(solver="straight")
    SOLVERS.register("straight", Solver(straight, min_steps=3))
    with pytest.raises(ValueError, match="'straight' goes wrong in 2 steps; give it 3 or more"):
        cp.DenoiserOptions(solver="straight", solver_steps=2)
    process = GaussianDiffusion(prediction_type="x0")
    noise = torch.randn(4, 2)
    drawn = sample(process, lambda x, t: 0.5 * x, noise, steps=7, solver="straight")
    torch.testing.assert_close(drawn, 0.25 * noise)


def test_a_fitted_prior_of_ones_own(tmp_path: Path, without: None) -> None:
    class Box(EstimatedPrior):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.register_buffer("low", torch.zeros(dim))
            self.register_buffer("high", torch.zeros(dim))

        def fit(self, latents: Tensor, seed: int = 0) -> float:
            self.low.copy_(latents.amin(0))  # type: ignore[operator]
            self.high.copy_(latents.amax(0))  # type: ignore[operator]
            return float((self.high - self.low).log().sum())  # type: ignore[operator]

        def sample(self, n: int) -> Tensor:
            return self.low + (self.high - self.low) * torch.rand(n, len(self.low))  # type: ignore[operator,arg-type]

    method = cp.MMVAEPlus(MODALITIES, networks=SMALL, shared_dim=2, private_dim=1)
    with pytest.raises(ValueError, match="unknown fitted prior 'box'; choose one of diffusion"):
        method.fit_prior(rows(), kind="box", progress=False)
    FITTED_PRIORS.register("box", PriorKind(lambda dim, size: Box(dim), 1))
    assert len(method.fit_prior(rows(), kind="box", progress=False)) == 1
    means = method.encode(rows().batch(slice(None)), given=["left"]).shared[0]
    again = cp.load(method.save_pretrained(tmp_path))
    assert again.priors == ("standard", "box")
    drawn = again.model.draw_prior(SHARED_KEY, (500,), prior="box")
    assert bool((drawn.amin(0) <= means.mean(0)).all() and (drawn.amax(0) >= means.mean(0)).all())


def test_registries_refuse_names_that_they_lack_or_have() -> None:
    shapes = Registry("shape", {"square": 4})
    shapes.register("square", 4)
    with pytest.raises(ValueError, match="shape 'square' is there already"):
        shapes.register("square", 5)
    with pytest.raises(ValueError, match="unknown shape 'circle'; choose one of square"):
        shapes.named("circle")
    with pytest.raises(ValueError, match="form='circle' is unknown; choose one of square"):
        shapes.check("circle", "form")
    with pytest.raises(KeyError):
        shapes["circle"]
    assert [*shapes.items()] == [("square", 4)] and len(shapes) == 1


def test_everything_to_extend_is_there() -> None:
    assert [name for name in extend.__all__ if not hasattr(extend, name)] == []


# --- additions


def test_additions_are_written_and_applied_in_order(tmp_path: Path) -> None:
    method = cp.MMVAEPlus(MODALITIES, networks=SMALL, shared_dim=2, private_dim=1)
    assert method.additions == ()
    for kind in ("gmm", "flow", "gmm"):
        method.fit_prior(rows(), kind=kind, size=2, steps=1, progress=False)
    denoiser = cp.DenoiserOptions(("right",), width=1, solver_steps=2)
    method.fit_decoder(rows(), denoiser=denoiser, max_steps=1, progress=False)
    method.fit_refiner(
        rows(), refiner=cp.RefinerOptions(width=4), beta=2.0, steps=1, progress=False
    )
    again = cp.load(method.save_pretrained(tmp_path))
    record = json.loads((tmp_path / "config.json").read_text())["additions"]
    assert [addition["kind"] for addition in record] == ["prior", "prior", "decoder", "refiner"]
    assert record[0]["options"] == {"kind": "flow", "size": 2} and record[3]["options"]["beta"] == 2
    assert again.priors == ("standard", "flow", "gmm") and [*again.model.denoisings] == ["right"]
    assert json.dumps([a.options for a in again.additions]) == json.dumps(
        [a.options for a in method.additions]
    )
    for key, value in method.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)
    with pytest.raises(
        ValueError, match="unknown addition 'sampler'; choose one of prior, decoder"
    ):
        Addition("sampler", {})  # type: ignore[arg-type]


# --- keys of latents


def test_keys_of_latents_are_made_and_parsed_alike() -> None:
    for name in ("image", "w_", "z", "w_w_z"):
        assert modality_of(private_key(name)) == name
    assert modality_of(SHARED_KEY) is None
    latents = Latents(torch.zeros(1, 2, 3), {"image": torch.ones(1, 2, 1)})
    assert [*latents.by_key()] == [SHARED_KEY, private_key("image")]
    model = cp.MMVAEPlus(MODALITIES, networks=SMALL, shared_dim=2, private_dim=1).model
    assert model.latents == {"z": 2, "w_left": 1, "w_right": 1}
