"""Diffusion decoders fitted to a trained method: against closed forms on the
linear-Gaussian oracle, what stays as it was, and bad inputs."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from torch import Tensor

import counterpoint as cp
from counterpoint.cli import main
from counterpoint.core.batch import Batch
from counterpoint.data import Dataset, Split
from counterpoint.diffusion import UNet
from counterpoint.methods import DMVAE, MMVAE, Method, MoPoE, load
from counterpoint.metrics import Evaluation
from counterpoint.metrics.evaluation import GROUPS, _origin
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.rules import Mixture, Product
from counterpoint.objectives.afterwards import DecoderFit
from counterpoint.objectives.loss import Terms
from counterpoint.training import NonFiniteLoss

ORACLE = LinearGaussian.make()
NETWORKS = cp.NetworkOptions(width=4, hidden=(16,))
IMAGE = DenoiserOptions(("image",), width=8, sampler_steps=5)


def exact() -> Method:
    """A method whose model is the exact one."""
    method = DMVAE(ORACLE.modalities, shared_dim=2, private_dim=1, networks=NETWORKS)
    method.model = ORACLE.model(Product(prior_expert="always"), experts="likelihood")
    return method.float().eval()


def rows(count: int, seed: int) -> dict[str, Tensor]:
    return {name: torch.from_numpy(v).float() for name, v in ORACLE.draw(count, seed).items()}


def data() -> Dataset:
    rng = np.random.default_rng(0)
    return cp.data.load(
        {
            "image": rng.random((40, 1, 8, 8), np.float32),
            "vector": rng.normal(size=(40, 3)).astype(np.float32),
        }
    )


def weights(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_what_is_drawn_has_the_exact_predictive_distribution() -> None:
    """a given b and c, and a from nothing: means, and the covariance of what is drawn,
    noise included; of the rest no bit changes."""
    method, x = exact(), rows(4000, 1)
    before = weights(method)
    split = Split({name: v.numpy() for name, v in x.items()}, ORACLE.modalities)
    stages = method.stages
    method.fit_decoder(
        split,
        denoiser=DenoiserOptions(("a",), width=6),
        max_steps=900,
        max_epochs=-1,
        cooldown=500,
        lr=4e-3,
        progress=False,
    )
    after = weights(method)
    assert (
        method.stages is stages
        and not method.training
        and all(p.requires_grad for p in method.parameters())
    )
    kept = [name for name in before if not name.startswith("model.decoders.a.")]
    assert len(kept) > 20 and all(torch.equal(before[name], after[name]) for name in kept)
    assert method.model.surrogates == ["a"]

    given = {name: v[:40] for name, v in rows(40, 2).items() if name != "a"}
    drawn = (
        method.translate(given, ["a"], n=1500, generator=torch.Generator().manual_seed(0))["a"]
        .double()
        .numpy()
    )
    mean, covariance = ORACLE.marginal(("b", "c", "a"))
    gain = np.linalg.solve(covariance[:-4, :-4], covariance[:-4, -4:]).T
    seen = np.concatenate([given["b"].numpy(), given["c"].numpy()], 1)
    left = covariance[-4:, -4:] - gain @ covariance[:-4, -4:]
    spread = np.sqrt(np.diag(left))
    expected = mean[-4:] + (seen - mean[:-4]) @ gain.T
    assert expected.std(0).max() > 0.9 * spread.max()  # so that the next line says something
    assert np.sqrt(((drawn.mean(0) - expected) ** 2).mean(0)).max() < 0.12
    centred = (drawn - drawn.mean(0)).reshape(-1, 4)
    assert np.abs(centred.T @ centred / len(centred) - left).max() < 0.1 * np.diag(left).max()

    alone = method.sample(20_000, generator=torch.Generator().manual_seed(0))["a"].double().numpy()
    mean, covariance = ORACLE.marginal(("a",))
    assert np.abs(alone.mean(0) - mean).max() < 0.1
    assert np.abs(np.cov(alone.T) - covariance).max() < 0.12 * np.diag(covariance).max()


def test_a_mixture_teaches_the_decoder_with_every_modality_that_a_row_has() -> None:
    method = MMVAE(ORACLE.modalities, shared_dim=2, networks=NETWORKS, estimator="elbo", samples=1)
    method.model = ORACLE.model(Mixture(), experts="posterior")
    method.float().eval()
    x = {name: v[:2] for name, v in rows(2, 3).items()}
    present = {
        "a": torch.tensor([True, True]),
        "b": torch.tensor([True, False]),
        "c": torch.tensor([False, False]),
    }
    batch = Batch({name: v * present[name].unsqueeze(1) for name, v in x.items()}, present)
    encoding = method.model.encode(batch)
    torch.manual_seed(0)
    draws = [DecoderFit(["a"])(method.model, encoding).draws[0].latents for _ in range(4000)]
    z, w = torch.cat([d.shared for d in draws]), torch.cat([d.private["a"] for d in draws])
    a, b = (encoding.shared[name].rsample(torch.Size((4000,))).detach() for name in "ab")  # type: ignore[union-attr]
    half = torch.cat([a[:2000, 0], b[:2000, 0]])
    torch.testing.assert_close(z[:, 0].mean(0), half.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(z[:, 0].std(0), half.std(0), atol=0, rtol=0.06)
    torch.testing.assert_close(z[:, 1].mean(0), encoding.shared["a"].loc[1], atol=0.06, rtol=0)  # type: ignore[union-attr]
    torch.testing.assert_close(w.mean(0), encoding.private["a"].loc, atol=0.06, rtol=0)
    assert float((half.mean(0) - a[:, 0].mean(0)).abs().max()) > 0.2  # the two differ


@pytest.mark.parametrize("condition", ["embed", "concat"])
def test_a_fitted_decoder_is_saved_and_its_draft_stays(condition: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    split = data().train
    method = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS)
    method.fit(split, max_steps=3, progress=False)
    draft = {
        name: v.clone() for name, v in method.model.decoder("image").network.state_dict().items()
    }
    method.fit_decoder(
        split, denoiser=replace(IMAGE, condition=condition), max_steps=3, progress=False
    )
    if condition == "concat":
        now = method.model.decoder("image").network.state_dict()
        assert draft and all(torch.equal(v, now[name]) for name, v in draft.items())
    method.fit_decoder(
        split, denoiser=DenoiserOptions(("vector",), width=1), max_steps=2, progress=False
    )
    method.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.model.surrogates == ["image", "vector"] and isinstance(
        again.model.likelihood("image"), Denoising
    )
    drawn = [m.sample(4, generator=torch.Generator().manual_seed(0)) for m in (method, again)]
    assert all(
        torch.equal(drawn[0][name], drawn[1][name]) and float(drawn[0][name].std()) > 1e-3
        for name in ("image", "vector")
    )


def test_what_goes_wrong_leaves_the_method_as_it_was() -> None:
    torch.manual_seed(0)
    split = data().train
    method = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS)
    before, stages = weights(method), method.stages
    with pytest.raises(NonFiniteLoss):
        method.fit_decoder(split, denoiser=IMAGE, max_steps=50, lr=1e25, progress=False)
    now = weights(method)
    assert before.keys() == now.keys() and all(
        torch.equal(before[name], now[name]) for name in before
    )
    assert method.stages is stages and method.model.surrogates == [] and not method.model.denoisers
    for options, message in (
        (DenoiserOptions(), "denoiser names no modality; choose some of image, vector"),
        (
            DenoiserOptions(("photo",)),
            "there is no modality 'photo'; the modalities are image, vector",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            method.fit_decoder(split, denoiser=options, progress=False)
    drawn = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS, denoiser=IMAGE)
    with pytest.raises(
        ValueError,
        match="condition='concat' reads what a feed-forward decoder draws, and this decoder is none",
    ):
        drawn.fit_decoder(
            split, denoiser=replace(IMAGE, condition="concat"), max_steps=1, progress=False
        )


def test_a_fit_that_was_stopped_goes_on_bitwise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    split = data().train
    base = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS)
    ends = []
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        for steps in parts:
            method = deepcopy(base)
            method.fit_decoder(
                split,
                denoiser=replace(IMAGE, condition="concat"),
                out=tmp_path / name,
                resume=True,
                max_steps=steps,
                batch_size=8,
                progress=False,
            )
        ends.append(weights(method))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    with pytest.raises(ValueError, match="already holds a run"):
        deepcopy(base).fit_decoder(
            split, denoiser=IMAGE, out=tmp_path / "whole", max_steps=4, batch_size=8, progress=False
        )
    with pytest.raises(
        ValueError, match=r"cannot resume .*: data.denoiser.width was 8 and is now 16"
    ):
        wider = replace(IMAGE, condition="concat", width=16)
        deepcopy(base).fit_decoder(
            split,
            denoiser=wider,
            out=tmp_path / "whole",
            resume=True,
            max_steps=4,
            batch_size=8,
            progress=False,
        )


def test_rows_without_the_modality_teach_nothing() -> None:
    """Few rows have an image, and most batches would have none; of a stream's, which
    are not chosen, such a batch counts 0."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = {
        "image": rng.random((40, 1, 8, 8), np.float32),
        "vector": rng.normal(size=(40, 3)).astype(np.float32),
    }
    method = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS)
    present = {"image": np.arange(40) % 20 == 7, "vector": np.ones(40, bool)}
    x["image"][~present["image"]] = 0
    split = Split(x, method.modalities, present)
    seen: list[int] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0])) if isinstance(module, UNet) else None
    )
    method.fit_decoder(split, denoiser=IMAGE, max_steps=3, batch_size=8, progress=False)
    hook.remove()
    assert seen == [2, 2, 2]
    method.begin(None)
    (loss,) = _terms(method, split.batch(np.arange(4))).values()
    loss.mean().backward()
    learned = [p.grad for p in method.model.likelihood("image").parameters()]
    assert torch.equal(loss, torch.zeros(4)) and all(g is not None and not g.any() for g in learned)
    nobody = {"image": np.zeros(40, bool), "vector": np.ones(40, bool)}
    with pytest.raises(
        ValueError,
        match="no row of train has image; give rows from which to learn what they look like",
    ):
        method.fit_decoder(
            Split({**x, "image": 0 * x["image"]}, method.modalities, nobody),
            denoiser=IMAGE,
            max_steps=1,
            progress=False,
        )


def _terms(method: Method, batch: Batch) -> Terms:
    ask = DecoderFit(["image"])(method.model, method.model.encode(batch))
    return ask.answered(method.model, batch.covariates)


def test_the_likelihood_of_a_draft_does_not_learn() -> None:
    torch.manual_seed(0)
    told = cp.Modality("image", (1, 8, 8), "normal", scale=None)
    split = Split({"image": np.random.default_rng(0).random((40, 1, 8, 8), np.float32)}, (told,))
    method = MoPoE((told,), shared_dim=3, networks=NETWORKS)
    before = weights(method)
    draws_by = replace(IMAGE, condition="concat")
    with pytest.raises(NonFiniteLoss):
        method.fit_decoder(split, denoiser=draws_by, max_steps=50, lr=1e25, progress=False)
    now = weights(method)
    assert before.keys() == now.keys() and all(
        torch.equal(before[name], now[name]) for name in before
    )
    method.fit_decoder(split, denoiser=draws_by, max_steps=3, lr=0.1, progress=False)
    kept = method.model.likelihood("image").coarse.state_dict()  # type: ignore[union-attr]
    assert torch.equal(kept["log_scale"], before["model.decoders.image.likelihood.log_scale"])


def test_what_needs_means_or_densities_is_refused_afterwards() -> None:
    torch.manual_seed(0)
    split = data().train
    method = MMVAE.for_data(data(), shared_dim=3, networks=NETWORKS, estimator="dreg", samples=2)
    method.fit_decoder(split, denoiser=IMAGE, max_steps=1, progress=False)
    with pytest.raises(
        ValueError,
        match="estimator='dreg' weighs draws by their density, and the decoder of 'image' has none",
    ):
        method.fit(split, max_steps=1, progress=False)
    method = MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS)
    method.fit_refiner(
        split, refiner=cp.RefinerOptions(steps=2, width=8, signal="error"), steps=1, progress=False
    )
    with pytest.raises(
        ValueError,
        match="compares values with decoded means, and diffusion has none; fit one with signal='gradient'",
    ):
        method.fit_decoder(split, denoiser=IMAGE, max_steps=1, progress=False)


def test_how_values_are_drawn_may_change_afterwards() -> None:
    """Guidance of 0 forgets latents, of more exaggerates them; the solver and its steps
    are counted by calls of the network."""
    torch.manual_seed(0)
    method = MoPoE.for_data(
        data(), shared_dim=3, networks=NETWORKS, denoiser=replace(IMAGE, drop=0.1)
    ).eval()
    calls: list[int] = []
    method.model.likelihood("image").network.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]

    def drawn(shift: float) -> Tensor:
        z = torch.full((1, 4, 3), shift)
        return method.decode(
            cp.Latents(z, {}), ["image"], generator=torch.Generator().manual_seed(0)
        )["image"]

    plain = drawn(1.0)
    assert len(calls) == 5
    method.draw_by(guidance=0.0, sampler="ddim", sampler_steps=3)
    calls.clear()
    assert torch.equal(drawn(1.0), drawn(-1.0)) and len(calls) == 2 * 2 * 3
    method.draw_by(guidance=4.0, sampler="dpm++", sampler_steps=5)
    exaggerated = drawn(1.0)
    noted = _origin(method, data())["method"]
    assert noted["denoisers"]["image"]["guidance"] == 4.0 and json.loads(json.dumps(noted)) == noted
    method.draw_by(guidance=1.0)
    assert torch.equal(drawn(1.0), plain) and float((exaggerated - plain).abs().max()) > 0.01
    method.draw_by()
    with pytest.raises(
        ValueError, match=r"sampler_steps=2000 .* must lie between 1 and steps=1000"
    ):
        method.draw_by(sampler_steps=2000)
    with pytest.raises(
        ValueError,
        match="no decoder of this model draws by diffusion; leave out guidance and samplers, or fit one with fit_decoder",
    ):
        MoPoE.for_data(data(), shared_dim=3, networks=NETWORKS).draw_by(guidance=2.0)


def test_the_command_replaces_the_decoder_of_a_run(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, picture = tmp_path / "run", str(tmp_path / "a.png")
    assert (
        main(
            [
                "fit",
                "mopoe",
                "--data",
                "digits-quadrant",
                "--max_steps",
                "2",
                "--networks.width",
                "2",
                "--out",
                str(run),
            ]
        )
        == 0
    )
    (run / "evaluation.json").write_text("{}")
    words = [
        "fit-decoder",
        str(run),
        "--denoiser.modalities",
        "[view1]",
        "--denoiser.width",
        "8",
        "--max_steps",
        "2",
    ]
    assert main(words) == 0
    assert not (run / "evaluation.json").exists() and load(run).model.surrogates == ["view1"]
    assert (run / "decoder" / "checkpoints" / "last.ckpt").exists() and main(
        words
    ) == 0  # another takes its place
    assert main([*words[:-1], "3", "--resume", "true"]) == 0
    assert f"{run}: view1 by diffusion, 3 steps, loss " in capsys.readouterr().out
    assert main(["sample", str(run), "--n", "2", "--sampler_steps", "2", "--out", picture]) == 0
    whole = Evaluation({"fid": 1.0}, meta={"split": "test", "groups": [*GROUPS]})
    assert whole.complete
    with monkeypatch.context() as patch:
        patch.setattr("counterpoint.metrics.evaluate", lambda *_, **__: whole)
        for options, name in (
            ([], "evaluation.json"),
            (["--sampler_steps", "3"], "evaluation-partial.json"),
        ):
            assert main(["evaluate", str(run), *options]) == 0
            assert (run / name).exists() and len([*run.glob("evaluation*.json")]) == 1
            (run / name).unlink()
    capsys.readouterr()
    assert main(["sample", str(run), "--n", "2", "--guidance", "2", "--out", picture]) == 2
    assert capsys.readouterr().err == (
        "counterpoint: error: denoiser: guidance=2.0 needs a network that has learned to do without latents; train with drop=0.1\n"
    )
    assert main(["fit-decoder", str(run)]) == 2
    assert (
        capsys.readouterr().err
        == "counterpoint: error: denoiser names no modality; choose some of view0, view1, view2\n"
    )
