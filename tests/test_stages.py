"""Training in stages: who learns when, what is handed over, and resumption inside any
stage."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from processes import ranks
from pytorch_lightning.callbacks import Callback

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Split
from counterpoint.methods import JNF, MVAE, JNFShared, Method, Stage, load
from counterpoint.metrics.posteriors import score_posteriors
from counterpoint.model.encoders import FlowEncoder
from counterpoint.nn.mlp import mlp
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability.combining import log_normaliser
from counterpoint.probability.distributions import Flowed, Normal, gathered
from counterpoint.probability.flows import FlowOptions
from counterpoint.probability.mcmc import HMC
from counterpoint.probability.products import ImproperProduct, ProductOfPosteriors
from counterpoint.training import fit

MODALITIES = (Modality("a", (6,), "normal", scale=0.5), Modality("b", (4,), "normal", scale=0.5))
BASE: dict[str, Any] = {
    "batch_size": 8,
    "lr": 1e-2,
    "progress": False,
    "loggers": (),
    "accelerator": "cpu",
}


def rows(count: int, seed: int = 0) -> Split:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(count, 2))
    load = np.random.default_rng(9)
    x = {
        m.name: (
            z @ load.normal(size=(2, *m.shape)) + 0.5 * draw.normal(size=(count, *m.shape))
        ).astype(np.float32)
        for m in MODALITIES
    }
    return Split(x, MODALITIES)


def jnf() -> JNF:
    torch.manual_seed(0)
    return JNF(
        MODALITIES,
        shared_dim=2,
        flow=FlowOptions(hidden=(8,)),
        networks=NetworkOptions(hidden=(8,)),
    )


def parts(method: JNF) -> dict[str, torch.Tensor]:
    joint = [
        p.flatten()
        for module in (method.model.posterior.rule, method.model.decoders)
        for p in module.parameters()
    ]
    return {
        "joint": torch.cat(joint).detach().clone(),
        "flows": torch.cat([p.flatten() for p in method.model.posterior.encoders.parameters()])
        .detach()
        .clone(),
    }


def test_stages_follow_each_other(tmp_path: Path) -> None:
    """The first hands over the weights of its best validation, which the second leaves
    as they are; each has its own options."""
    method, out = jnf(), tmp_path / "run"
    before = parts(method)
    result = fit(
        method,
        rows(64),
        rows(32, seed=1),
        out=out,
        max_epochs=3,
        log_every=4,
        stages={
            "joint": {"lr": 0.3},
            "flows": {"max_epochs": 2, "batch_size": 16},
        },  # steps so wide that the first epoch is the best
        **BASE,
    )
    best = torch.load(out / "checkpoints" / "joint" / "best.ckpt", weights_only=True)["state_dict"]
    after = parts(method)
    for key, value in method.state_dict().items():
        if "encoders" not in key:
            assert torch.equal(value, best[key]), key
    assert not torch.equal(before["joint"], after["joint"]) and not torch.equal(
        before["flows"], after["flows"]
    )
    assert result.steps == 3 * 8 + 2 * 4
    with (out / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    validated = [
        float(row["val/loss"]) for row in written if row["val/loss"] and int(row["step"]) <= 24
    ]
    assert min(validated) < validated[-1]
    found = [row for row in written if row["train/loss"]]
    steps = [int(row["step"]) for row in found]
    assert steps == sorted(steps) and steps[-1] == 32
    assert [bool(row["train/fit"]) for row in found] == [step > 24 for step in steps]
    assert [bool(row["train/nll"]) for row in found] == [step <= 24 for step in steps]
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["flows", "joint"]
    assert not method.training and all(p.requires_grad for p in method.parameters())


@pytest.mark.parametrize("stop", [5, 24, 29])
def test_a_run_stopped_in_any_stage_goes_on_as_if_it_had_not(tmp_path: Path, stop: int) -> None:
    """Killed within the first stage, right after it, and within the second: the very
    same weights and metrics."""
    options = {"max_epochs": 3, "checkpoint_seconds": 0.0, "log_every": 1, **BASE}
    whole, halted, resumed = jnf(), jnf(), jnf()
    fit(whole, rows(64), rows(32, seed=1), out=tmp_path / "whole", **options)

    class Power(Exception):
        pass

    class Cut(Callback):
        count = 0

        def on_train_batch_start(self, *_: Any) -> None:
            if self.count == stop:
                raise Power
            self.count += 1

    options["callbacks"] = [Cut()]
    with pytest.raises(Power):
        fit(halted, rows(64), rows(32, seed=1), out=tmp_path / "cut", **options)
    options["callbacks"][0].count = stop + 1
    begun = {p.parent.name for p in (tmp_path / "cut" / "checkpoints").rglob("last.ckpt")}
    assert begun == ({"joint"} if stop <= 24 else {"joint", "flows"})
    result = fit(resumed, rows(64), rows(32, seed=1), out=tmp_path / "cut", resume=True, **options)
    assert result.steps == 48
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    metrics = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in csv.DictReader((tmp_path / n / "metrics.csv").read_text().splitlines())
        ]
        for n in ("whole", "cut")
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_two_processes_go_through_the_stages_together(tmp_path: Path) -> None:
    """Both hand over the same best weights, and a run stopped in the second stage goes
    on bitwise."""
    options = {**BASE, "devices": 2, "batch_size": 4, "max_epochs": 3}

    def train() -> None:
        data, val, whole, part = rows(64), rows(32, seed=1), tmp_path / "whole", tmp_path / "part"
        fit(jnf(), data, val, out=whole, **options)
        fit(jnf(), data, val, out=part, stages={"flows": {"max_steps": 5}}, **options)
        fit(jnf(), data, val, out=part, resume=True, **options)

    ranks(train, tmp_path)
    weights = {name: load(tmp_path / name / "model").state_dict() for name in ("whole", "part")}
    best = torch.load(
        tmp_path / "whole" / "checkpoints" / "joint" / "best.ckpt", weights_only=True
    )["state_dict"]
    fresh = jnf().state_dict()
    for key, value in weights["whole"].items():
        assert torch.equal(value, weights["part"][key]), key
        assert "encoders" in key or torch.equal(value, best[key]), key
    assert any(
        not torch.equal(value, fresh[key])
        for key, value in weights["whole"].items()
        if "encoders" in key
    )


def test_without_validation_the_last_weights_are_handed_over() -> None:
    alone, method = jnf(), jnf()
    alone.stages = alone.stages[:1]
    alone.begin(alone.stages[0])
    fit(alone, rows(64), max_steps=6, **BASE)
    result = fit(method, rows(64), max_steps=6, **BASE)
    assert result.steps == 12
    assert torch.equal(parts(method)["joint"], parts(alone)["joint"])
    assert not torch.equal(parts(method)["flows"], parts(alone)["flows"])


def test_chains_too_short_to_compare_are_left_out_of_the_scores() -> None:
    modalities = (*MODALITIES, Modality("c", (2,), "normal", scale=0.5))
    x = {
        m.name: np.random.default_rng(0).normal(size=(8, *m.shape)).astype(np.float32)
        for m in modalities
    }
    torch.manual_seed(0)
    method = JNF(
        modalities,
        shared_dim=2,
        flow=FlowOptions(hidden=(8,)),
        hmc=HMC(warmup=50, steps=3),
        networks=NetworkOptions(hidden=(8,)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImproperProduct)  # nothing was trained
        scores = score_posteriors(method, Split(x, modalities), samples=10)
    assert "posterior/kl/given2" in scores.metrics and "posterior/rhat/given2" not in scores.metrics
    assert "let hmc take steps=4 or more" in scores.left_out["posterior/rhat/given2"]


def test_options_of_a_stage_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="jnf has no stage 'flow'; its stages are joint, flows"):
        fit(jnf(), rows(16), max_steps=1, stages={"flow": {"lr": 1e-3}}, **BASE)
    with pytest.raises(ValueError, match="mvae has no stage 'joint'; it has only one"):
        fit(
            MVAE(MODALITIES, shared_dim=2),
            rows(16),
            max_steps=1,
            stages={"joint": {"lr": 1e-3}},
            **BASE,
        )
    with pytest.raises(
        ValueError, match=r"stages.flows: 'seed' is no option that a stage can have for itself"
    ):
        fit(jnf(), rows(16), max_steps=1, stages={"flows": {"seed": 3}}, **BASE)
    with pytest.raises(ValueError, match=r"lr -1\.0 must be positive"):
        fit(jnf(), rows(16), max_steps=1, stages={"flows": {"lr": -1}}, **BASE)


def test_a_resumed_run_may_change_how_long_a_stage_lasts_and_not_what_it_computes(
    tmp_path: Path,
) -> None:
    options = {"max_epochs": 1, **BASE}
    fit(jnf(), rows(16), out=tmp_path / "r", **options)
    longer = fit(
        jnf(),
        rows(16),
        out=tmp_path / "r",
        resume=True,
        stages={"flows": {"max_epochs": 2}},
        **options,
    )
    assert longer.steps == 2 + 4
    with pytest.raises(ValueError, match=r"fit.stages.flows.lr was 'not set' and is now 0.5"):
        fit(
            jnf(),
            rows(16),
            out=tmp_path / "r",
            resume=True,
            stages={"flows": {"max_epochs": 2, "lr": 0.5}},
            **options,
        )


def test_the_stage_is_named_where_the_run_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    fit(jnf(), rows(16), max_epochs=1, **{**BASE, "progress": True})
    said = capsys.readouterr().err
    assert "jnf, stage 1 of 2 (joint): " in said and "jnf, stage 2 of 2 (flows): " in said


def test_an_interrupted_stage_thaws_the_method() -> None:
    class Power(Exception):
        pass

    class Cut(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            raise Power

    method = jnf()
    with pytest.raises(Power):
        fit(method, rows(16), max_steps=1, callbacks=[Cut()], **BASE)
    assert all(p.requires_grad for p in method.parameters())


def test_a_stage_trains_everything_by_default() -> None:
    method = jnf()
    method.begin(method.stages[1])
    assert not all(p.requires_grad for p in method.parameters())
    method.begin(Stage(method.stages[0].losses))
    assert all(p.requires_grad for p in method.parameters())


def test_a_single_stage_freezes_what_it_does_not_train() -> None:
    method = MVAE(MODALITIES, shared_dim=2, networks=NetworkOptions(hidden=(8,)))
    method.stages = (Stage(method.stages[0].losses, trains=[method.model.decoders]),)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    fit(method, rows(16), max_steps=2, **BASE)
    for key, value in method.state_dict().items():
        trained = "decoders" in key and not key.endswith("scale_seen")
        assert torch.equal(value, before[key]) != trained, key
    assert all(p.requires_grad for p in method.parameters())


def test_stages_need_names_of_their_own() -> None:
    class Staged(Method):
        def __init__(self, modalities: Any, *, names: tuple[str, ...]) -> None:
            whole = jnf()
            super().__init__(
                whole.model, *(Stage(whole.stages[0].losses, name=name) for name in names)
            )

    for names in (("", ""), ("one", "one"), ()):
        with pytest.raises(
            ValueError, match="a method has one stage, or several with names of their own"
        ):
            Staged(MODALITIES, names=names)


def test_an_encoder_keeps_account_of_what_it_says_over_all_rows() -> None:
    """E[μ] and E[σ²] + Var[μ] of its base, from batches; not of rows it does not learn
    from, nor of one that stands in for none."""
    torch.manual_seed(0)
    encoder, x = FlowEncoder(mlp((5, 8)), 8, 2, FlowOptions(hidden=(8,))), 3 * torch.randn(512, 5)
    with torch.no_grad():
        base = encoder(x)[0].base
        for batch in range(800):
            encoder(x[torch.randperm(512, generator=torch.Generator().manual_seed(batch))[:64]])
        assert encoder.marginal is not None
        found = encoder.marginal
        torch.testing.assert_close(
            found.loc, base.loc.mean(0), atol=0.02 * float(found.scale.max()), rtol=0
        )
        torch.testing.assert_close(
            found.scale, (base.scale.square().mean(0) + base.loc.var(0)).sqrt(), atol=0, rtol=0.02
        )
        encoder(100 + x[:1])
        encoder.eval()
        encoder(100 + x)
    torch.testing.assert_close(encoder.marginal.loc, found.loc, atol=0, rtol=0)
    by_x = FlowEncoder(mlp((5, 8)), 8, 2, FlowOptions(hidden=(8,), conditional=True))
    assert by_x.marginal is None and by_x(x)[0].marginal is None


@pytest.mark.parametrize("kind", [JNF, JNFShared])
def test_the_last_stage_takes_account_of_what_its_encoders_say(kind: Any) -> None:
    """And no stage before it, nor validation."""
    torch.manual_seed(0)
    method = kind(
        MODALITIES,
        shared_dim=2,
        flow=FlowOptions(hidden=(8,)),
        networks=NetworkOptions(hidden=(8,)),
    )
    seen = {}
    for stage in method.stages:
        method.begin(stage)
        for step in range(30):
            method.losses(rows(32, seed=step).batch(slice(None)))
        seen[stage.name] = {
            name: encoder.marginal.loc for name, encoder in method.model.posterior.encoders.items()
        }
    method.begin(None)
    method.eval()
    method.losses(rows(32).batch(slice(None)))
    for name, encoder in method.model.posterior.encoders.items():
        with torch.no_grad():
            base = torch.cat(
                [
                    encoder(rows(32, seed=step).batch(slice(None)).x[name])[0].base.loc
                    for step in range(30)
                ]
            )
        torch.testing.assert_close(encoder.marginal.loc, base.mean(0), atol=1e-3, rtol=1e-3)
        assert torch.equal(encoder.marginal.loc, seen["flows"][name]) and bool(
            (seen["joint"][name] == 0).all()
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "coupling"])
def test_flows_learn_the_exact_unimodal_posteriors(kind: Any) -> None:
    """On a linear-Gaussian model of four modalities whose joint posterior is known:
    KL(p(z | x_m) ‖ q_m) within 0.02 nats a dimension, and as near the product's of two,
    three and four of them. What an encoder says over all rows is the prior."""
    oracle = LinearGaussian.make({"a": 4, "b": 5, "c": 3, "d": 4}, private_dim=0)
    torch.manual_seed(0)
    method = JNF(
        oracle.modalities,
        shared_dim=2,
        flow=FlowOptions(kind, hidden=(32, 32)),
        networks=NetworkOptions(hidden=(32,)),
    )
    method.model.posterior.rule = oracle.model(oracle.jnf_rule(HMC())).float().posterior.rule
    method.begin(method.stages[1])
    optimiser = torch.optim.Adam(method.model.posterior.encoders.parameters(), 6e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for step in range(300):
        loss = method.losses(single(oracle, oracle.draw(256, seed=step)))["fit"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = oracle.draw(500, seed=10_000)
    with torch.no_grad():
        encoding = method.model.encode(single(oracle, x))
        for name, q in encoding.shared.items():
            exact = Normal(
                *(
                    torch.as_tensor(p, dtype=torch.float32).expand(500, 2)
                    for p in oracle.posterior(x, [name])
                )
            )
            z = exact.rsample(torch.Size((200,)))
            assert float((exact.log_prob(z) - q.log_prob(z)).mean()) / 2 < 0.02
        prior = Normal(torch.zeros(2), torch.ones(2))
        z = prior.rsample(torch.Size((5000, 1)))
        for q in encoding.shared.values():
            assert isinstance(q, Flowed) and q.marginal is not None
            assert (
                float((prior.log_prob(z) - Flowed(q.marginal, q.flow).log_prob(z)).mean()) / 2
                < 0.02
            )
        some = torch.arange(40)
        for size in (2, 3, 4):
            names = oracle.names[:size]
            experts = [gathered(encoding.shared[name], some) for name in names]
            product = ProductOfPosteriors(
                experts,
                torch.ones(size, 40, dtype=torch.bool),
                prior,
                HMC(warmup=60, steps=30, leapfrogs=8),
            )
            exact = Normal(
                *(
                    torch.as_tensor(p, dtype=torch.float32).expand(500, 2)[some]
                    for p in oracle.posterior(x, names)
                )
            )
            z = exact.rsample(torch.Size((200,)))
            divergence = (exact.log_prob(z) - product.log_prob(z)).mean(0) + log_normaliser(
                product, exact, 1000
            )
            assert float(divergence.mean()) / 2 < 0.02


def single(oracle: LinearGaussian, x: dict[str, np.ndarray]) -> Batch:
    """The rows in single precision."""
    return Batch.of({n: v.astype(np.float32) for n, v in x.items()}, modalities=oracle.modalities)
