"""NT-Xent against a plain loop, the normalisation of CrossMI, and GenAug's partners,
values and gradients."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from processes import ranks
from torch import Tensor, nn
from torch import distributed as torch_distributed

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.methods import JNFShared
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.model.rules import MixtureRule
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.contrast import (
    CrossMI,
    ProjectionCorrelation,
    canonical_correlations,
    nt_xent,
)
from counterpoint.objectives.genaug import GenAug, next_present
from counterpoint.objectives.loss import Loss

ORACLE = LinearGaussian.make()
NAMES = ORACLE.names


def plain_nt_xent(a: Tensor, b: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Chen et al. 2020, eq. 1, one cosine at a time; only valid rows take part."""
    out = torch.zeros(valid.shape, dtype=a.dtype)
    for p in range(len(a)):
        rows = [i for i in range(valid.shape[1]) if bool(valid[p, i])]
        vectors = [a[p, i] for i in rows] + [b[p, i] for i in rows]
        n = len(rows)
        if n < 2:
            continue
        for k, row in enumerate(rows):
            losses = []
            for i, j in ((k, k + n), (k + n, k)):
                cosines = [float(vectors[i] @ v / (vectors[i].norm() * v.norm())) for v in vectors]
                others = sum(math.exp(cosines[m] / temperature) for m in range(2 * n) if m != i)
                losses.append(-math.log(math.exp(cosines[j] / temperature) / others))
            out[p, row] = sum(losses) / 2
    return out


def vectors(sets: int = 3, rows: int = 6, dim: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(sets, rows, dim, dtype=torch.float64), torch.randn(
        sets, rows, dim, dtype=torch.float64
    )


MASKS = {
    "all": torch.ones(3, 6, dtype=torch.bool),
    "some": torch.tensor(
        [[1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool
    ),
    "alone or none": torch.tensor(
        [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], dtype=torch.bool
    ),
}


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("valid", MASKS.values(), ids=MASKS)
def test_nt_xent_is_the_plain_loop(valid: Tensor, temperature: float) -> None:
    a, b = vectors()
    torch.testing.assert_close(
        nt_xent(a, b, valid, temperature=temperature), plain_nt_xent(a, b, valid, temperature)
    )


def test_nt_xent_of_collapsed_vectors_is_the_log_of_the_number_of_others() -> None:
    ones = torch.ones(1, 5, 3)
    torch.testing.assert_close(
        nt_xent(ones, ones, MASKS["all"][:1, :5]), torch.full((1, 5), math.log(9))
    )


def test_nt_xent_ignores_length_and_follows_a_permutation() -> None:
    a, b = vectors()
    valid = MASKS["some"]
    losses, order = nt_xent(a, b, valid), torch.randperm(6)
    torch.testing.assert_close(
        nt_xent(7 * a, b * torch.rand(3, 6, 1).double().add(0.1), valid), losses
    )
    torch.testing.assert_close(nt_xent(a[:, order], b[:, order], valid[:, order]), losses[:, order])
    torch.testing.assert_close(nt_xent(b, a, valid), losses)
    assert not torch.allclose(nt_xent(a, b[:, order], valid), losses), "the pairing must matter"


def test_invalid_rows_reach_neither_loss_nor_gradient() -> None:
    a, b = vectors()
    valid = MASKS["some"]
    losses = nt_xent(a, b, valid)
    filled = a.masked_fill(~valid.unsqueeze(-1), 1e6).requires_grad_()
    again = nt_xent(filled, b, valid)
    torch.testing.assert_close(again, losses)
    again.sum().backward()
    assert filled.grad is not None
    assert (filled.grad[~valid] == 0).all() and (filled.grad[valid] != 0).any()


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_gradients_are_finite_where_pairs_are_masked(fill: float) -> None:
    for valid in MASKS.values():
        a, b = vectors()
        a = a.masked_fill(~valid.unsqueeze(-1), fill).requires_grad_()
        nt_xent(a, b, valid, temperature=0.05).sum().backward()
        assert a.grad is not None and torch.isfinite(a.grad).all()


def test_one_row_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match="at least two rows in a batch, got one; raise batch_size or drop the last batch",
    ):
        nt_xent(torch.ones(1, 1, 2), torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool))


# --- several processes --------------------------------------------------------------------------------------------------

WORLD, ROWS = 2, 6


def distributed_problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    x, y = (
        torch.randn(3, WORLD * ROWS, 4, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    return x, y, torch.rand(3, WORLD * ROWS, generator=generator) < 0.7, weight


def one_of_several(folder: str) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch_distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    x, y, valid, weight = distributed_problem()
    mine = slice(rank * ROWS, (rank + 1) * ROWS)
    losses = nt_xent(x[:, mine] @ weight, y[:, mine] @ weight, valid[:, mine], temperature=0.5)
    losses.mean().backward()
    assert weight.grad is not None
    torch_distributed.all_reduce(
        weight.grad
    )  # as DistributedDataParallel does: the mean over processes
    np.savez(
        f"{folder}/{rank}.npz",
        losses=losses.detach().numpy(),
        gradient=(weight.grad / WORLD).numpy(),
    )
    torch_distributed.destroy_process_group()


def test_processes_together_equal_one_with_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    ranks(partial(one_of_several, str(tmp_path)), tmp_path, WORLD)
    x, y, valid, weight = distributed_problem()
    losses = nt_xent(x @ weight, y @ weight, valid, temperature=0.5)
    losses.mean().backward()
    parts = [np.load(tmp_path / f"{rank}.npz") for rank in range(WORLD)]
    np.testing.assert_allclose(
        np.concatenate([p["losses"] for p in parts], 1), losses.detach().numpy(), atol=1e-5
    )
    for part in parts:
        np.testing.assert_allclose(part["gradient"], weight.grad.numpy(), atol=1e-5)  # type: ignore[union-attr]
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"


# --- CrossMI ------------------------------------------------------------------------------------------------------------


def terms(loss: Loss, model: Model, batch: Batch) -> tuple[Encoding, Tensor]:
    """The encoding, and the loss's one term."""
    encoding = model.encode(batch)
    (term,) = loss(model, encoding).answered(model, encoding.batch.covariates).values()
    return encoding, term


def test_cross_mi_sums_ordered_pairs_over_m_less_one() -> None:
    model, batch = ORACLE.model(MixtureRule()), ORACLE.batch(ORACLE.draw(8))
    encoding, term = terms(CrossMI(temperature=0.3), model, batch)
    everyone, expected = torch.ones(1, 8, dtype=torch.bool), torch.zeros(8, dtype=torch.float64)
    for i in NAMES:
        for j in NAMES:
            if i != j:
                expected += (
                    plain_nt_xent(
                        encoding.shared[i].loc[None].detach(),
                        encoding.shared[j].loc[None].detach(),
                        everyone,
                        0.3,
                    )[0]
                    / 2
                )
    torch.testing.assert_close(term, expected)


def test_cross_mi_of_a_row_counts_the_pairs_it_has() -> None:
    present = {
        "a": np.array([1, 1, 1, 1, 0], bool),
        "b": np.array([1, 1, 0, 1, 1], bool),
        "c": np.array([1, 1, 0, 0, 0], bool),
    }
    model, batch = ORACLE.model(MixtureRule()), ORACLE.batch(ORACLE.draw(5), present)
    encoding, term = terms(CrossMI(), model, batch)
    expected = torch.zeros(5, dtype=torch.float64)
    for i, j in (("a", "b"), ("a", "c"), ("b", "c")):
        both = torch.as_tensor(present[i] & present[j])[None]
        expected += (
            2
            * plain_nt_xent(
                encoding.shared[i].loc[None].detach(),
                encoding.shared[j].loc[None].detach(),
                both,
                1.0,
            )[0]
        )
    count = torch.tensor([3, 3, 1, 2, 1])
    torch.testing.assert_close(term, expected / (count - 1).clamp(min=1))
    assert term[2] == 0 and term[4] == 0, "a row with one modality has no pair"


# --- GenAug -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "partners"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 0]),
        ([1, 0, 1, 1], [2, 1, 3, 0]),
        ([0, 0, 1, 0], [0, 1, 2, 3]),
        ([0, 0, 0], [0, 1, 2]),
    ],
)
def test_partners_are_the_next_rows_that_have_the_modality(
    present: list[int], partners: list[int]
) -> None:
    assert next_present(torch.tensor(present, dtype=torch.bool)).tolist() == partners


@pytest.mark.parametrize("match", ["l2", "contrast"])
@pytest.mark.parametrize("partner", ["posterior", "prior"])
def test_genaug_value_is_that_of_the_formula(partner: str, match: str) -> None:
    """x⁺ decoded, encoded again and compared, all written out in numpy's terms of the
    linear model; one x⁺ serves both terms of posterior partners."""
    present = {n: np.array([1, 1, 0, 1], bool) if n == "b" else np.ones(4, bool) for n in NAMES}
    x = ORACLE.draw(4)
    model, loss = ORACLE.model(MixtureRule()), GenAug(partner=partner, match=match, temperature=0.5)  # type: ignore[arg-type]
    encoding = model.encode(ORACLE.batch(x, present))
    ask = loss(model, encoding)
    draws = ask.draws
    each = {"posterior": 1, "prior": 2}[partner]
    assert [d.targets for d in draws] == [(n,) for n in NAMES for _ in range(each)]
    term = ask.answered(model, encoding.batch.covariates)["genaug"].detach().numpy()
    expected = np.zeros(4)
    for i, n in enumerate(NAMES):
        images = []
        for draw in draws[each * i : each * (i + 1)]:
            z, w = (
                draw.latents.shared[0].detach().numpy(),
                draw.latents.private[n][0].detach().numpy(),
            )
            images.append({n: z @ ORACLE.shared[n].T + w @ ORACLE.private[n].T + ORACLE.offset[n]})
        beside = (
            ([1, 3, 2, 0] if n == "b" else [1, 2, 3, 0]) if partner == "posterior" else [0, 1, 2, 3]
        )
        pairs = [
            (ORACLE.posterior(x, [n])[0], ORACLE.posterior(images[0], [n])[0]),
            (ORACLE.private_posterior(x, n)[0][beside], ORACLE.private_posterior(images[-1], n)[0]),
        ]
        for before, after in pairs:
            if match == "l2":
                expected += 0.5 * present[n] * ((before - after) ** 2).sum(1)
            else:
                a, b, valid = (
                    torch.as_tensor(before)[None],
                    torch.as_tensor(after)[None],
                    torch.as_tensor(present[n])[None],
                )
                expected += 0.5 * plain_nt_xent(a, b, valid, 0.5)[0].numpy()
    np.testing.assert_allclose(term, expected, rtol=1e-5)


@pytest.mark.parametrize("partner", ["posterior", "prior"])
def test_genaug_keeps_one_latent_and_takes_the_other_from_its_partner(partner: str) -> None:
    """Means of many draws, within 4.5 standard errors: of the row's own posterior, of
    the next row that has the modality, or of N(0, 1)."""
    present = {
        n: np.array([1, 1, 0, 1, 1, 1], bool) if n == "b" else np.ones(6, bool) for n in NAMES
    }
    model = ORACLE.model(MixtureRule())
    encoding = model.encode(ORACLE.batch(ORACLE.draw(6), present))
    draws = [GenAug(partner=partner)(model, encoding).draws for _ in range(2000)]  # type: ignore[arg-type]
    each = len(draws[0]) // len(NAMES)
    for i, n in enumerate(NAMES):
        z, w = ((q.loc, q.scale) for q in (encoding.shared[n], encoding.private[n]))
        beside = [1, 3, 2, 4, 5, 0] if n == "b" else [1, 2, 3, 4, 5, 0]
        standard_z, standard_w = (
            (torch.zeros_like(loc), torch.ones_like(loc)) for loc, _ in (z, w)
        )
        expected = (
            [(z, tuple(u[beside] for u in w))]
            if partner == "posterior"
            else [(z, standard_w), (standard_z, w)]
        )
        for k, pair in enumerate(expected):
            latents = [d[each * i + k].latents for d in draws]
            drawn = (
                torch.cat([u.shared for u in latents]),
                torch.cat([u.private[n] for u in latents]),
            )
            for values, (loc, scale) in zip(drawn, pair, strict=True):
                error = (values.mean(0) - loc) / scale * len(draws) ** 0.5
                assert float(error.detach().abs().max()) < 4.5


@pytest.mark.parametrize(
    "loss", [GenAug(), GenAug(match="l2"), CrossMI()], ids=["contrast", "l2", "cross_mi"]
)
def test_no_gradient_is_stopped(loss: Loss) -> None:
    """Autograd agrees with finite differences along random directions of each
    parameter, the noise being fixed."""
    model, batch = ORACLE.model(MixtureRule()), ORACLE.batch(ORACLE.draw(5))

    def value() -> Tensor:
        torch.manual_seed(3)
        return terms(loss, model, batch)[1].mean()

    def value_at(parameter: nn.Parameter, there: Tensor) -> Tensor:
        parameter.copy_(there)
        return value()

    value().backward()
    concerned = {n: p for n, p in model.named_parameters() if p.grad is not None}
    if isinstance(loss, GenAug):
        assert len(concerned) == len(list(model.parameters())), (
            "encoders' means and scales, decoders: all take part"
        )
    for name, parameter in concerned.items():
        direction = torch.randn(parameter.shape, dtype=parameter.dtype)
        at, along = (
            parameter.detach().clone(),
            torch.sum(torch.as_tensor(parameter.grad) * direction),
        )
        with torch.no_grad():
            above, below = (value_at(parameter, at + size * direction) for size in (1e-5, -1e-5))
            parameter.copy_(at)
        assert float(above - below) / 2e-5 == pytest.approx(float(along), rel=1e-4, abs=1e-7), name


MIXED = [
    Modality("image", (1, 8, 8)),
    Modality("words", (4,), "categorical", classes=6),
    Modality("vector", (5,), "normal", scale=None),
]


def small_idmvae(**options: object) -> cp.IDMVAE:
    networks = cp.NetworkOptions(width=4, hidden=(16,))
    return cp.IDMVAE(MIXED, shared_dim=4, private_dim=3, networks=networks, **options)  # type: ignore[arg-type]


def mixed_batch(rows: int = 8) -> Batch:
    x = {
        "image": torch.rand(rows, 1, 8, 8),
        "words": torch.randint(6, (rows, 4)),
        "vector": torch.randn(rows, 5),
    }
    return Batch.of(x, modalities=MIXED)


@pytest.mark.parametrize("match", ["contrast", "l2"])
def test_genaug_trains_every_encoder_and_decoder_of_mixed_modalities(match: str) -> None:
    model = small_idmvae().model
    terms(GenAug(match=match), model, mixed_batch())[1].mean().backward()  # type: ignore[arg-type]
    for part in (model.posterior.encoders, model.decoders):
        for name, parameter in part.named_parameters():
            if not name.endswith("log_scale"):  # a likelihood's scale is not in its mean
                assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("partner", ["prior", "diffusion"])
def test_partners_from_a_prior(partner: str) -> None:
    model = small_idmvae().model
    loss = GenAug(partner=partner)  # type: ignore[arg-type]
    encoding = model.encode(mixed_batch())
    draws = loss(model, encoding).draws
    for i, n in enumerate(model.names):
        other_w, other_z = draws[2 * i].latents.private[n], draws[2 * i + 1].latents.shared
        assert other_w.shape == (1, 8, 3) and other_z.shape == (1, 8, 4)
        assert not other_w.requires_grad and not other_z.requires_grad
        assert (
            draws[2 * i].latents.shared.requires_grad
            and draws[2 * i + 1].latents.private[n].requires_grad
        )
    _, term = terms(loss, model, mixed_batch())
    assert term.shape == (8,) and torch.isfinite(term).all() and (term > 0).all()


@pytest.mark.parametrize("std", [np.log(2), 1.0])
def test_prior_partners_have_the_prior_s_standard_deviation(std: float) -> None:
    model = small_idmvae(prior_std=std).model
    encoding = model.encode(mixed_batch(400))
    draws = GenAug(partner="prior")(model, encoding).draws
    for draw in draws[1::2]:
        assert float(draw.latents.shared.std()) == pytest.approx(std, rel=0.08)


def test_genaug_refuses_a_model_without_private_latents() -> None:
    model = cp.MMVAE([cp.Modality("x", (5,)), cp.Modality("y", (3,))], shared_dim=2).model
    with pytest.raises(ValueError, match="GenAug needs private latents; give private_dim"):
        GenAug().check(model)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(
        ValueError, match="partner='friend' is unknown; choose 'posterior', 'prior' or 'diffusion'"
    ):
        GenAug(partner="friend")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="match='l1' is unknown; choose 'contrast' or 'l2'"):
        GenAug(match="l1")  # type: ignore[arg-type]


# --- projectors of JNF-Shared -------------------------------------------------------------------------------------------


def test_canonical_correlations_are_those_of_the_population() -> None:
    """Two sets of variables made from latents with correlations .9, .5 and 0, mixed and
    scaled at random: the mixing changes nothing."""
    torch.manual_seed(0)
    truth, rows = torch.tensor([0.9, 0.5, 0.0]), 200_000
    common = torch.randn(rows, 3)
    a, b = (truth.sqrt() * common + (1 - truth).sqrt() * torch.randn(rows, 3) for _ in range(2))
    mixed = [u @ torch.randn(3, 3) * 5 + 3 for u in (a, b)]
    torch.testing.assert_close(canonical_correlations(*mixed, ridge=0.0), truth, atol=0.01, rtol=0)
    shuffled = canonical_correlations(mixed[0], mixed[1][torch.randperm(rows)], ridge=0.0)
    assert float(shuffled.max()) < 0.02


def test_a_constant_projection_has_no_correlation_and_a_gradient() -> None:
    a, b = torch.zeros(20, 3, requires_grad=True), torch.randn(20, 3)
    loss = ProjectionCorrelation().pair(a, b, torch.ones(20, dtype=torch.bool))
    loss.mean().backward()
    assert loss.shape == (20,) and float(loss.detach().abs().max()) < 1e-5
    assert a.grad is not None and bool(torch.isfinite(a.grad).all())


@pytest.mark.parametrize("align", ["contrast", "correlation"])
def test_projectors_learn_what_modalities_share(align: Any) -> None:
    """Each modality mixes a shared and a part of its own, of equal size: after the
    stage g tells the first, and hardly the second."""
    rng = np.random.default_rng(0)
    shared, own = (
        rng.normal(size=(2000, 1)),
        {name: rng.normal(size=(2000, 1)) for name in ("a", "b", "c")},
    )
    modalities = [Modality(name, (2,), "normal", scale=0.3) for name in own]
    values = {
        name: np.concatenate([shared + w, shared - w], 1).astype(np.float32)
        for name, w in own.items()
    }
    torch.manual_seed(0)
    method = JNFShared(
        modalities,
        shared_dim=2,
        projection_dim=3 if align == "contrast" else 1,
        align=align,
        temperature=0.2,
        networks=NetworkOptions(hidden=(16,)),
    )
    method.begin(method.stages[0])
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(150):
        rows = rng.integers(0, 2000, 128)
        loss = method.losses(
            Batch.of({n: v[rows] for n, v in values.items()}, modalities=modalities)
        )["align"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, x in values.items():
        encoder: Any = method.model.posterior.encoders[name]
        with torch.no_grad():
            g = encoder.projector(torch.as_tensor(x))
            g = (torch.nn.functional.normalize(g, dim=-1) if align == "contrast" else g).numpy()
        g = np.concatenate([g, np.ones((2000, 1))], 1)
        told = [
            1 - np.linalg.lstsq(g, v, rcond=None)[1][0] / (v**2).sum() for v in (shared, own[name])
        ]
        assert told[0] > 0.6 and told[1] < 0.1, (name, told)


def test_absent_modalities_take_no_part_in_the_alignment() -> None:
    modalities = [Modality(name, (2,), "normal") for name in "abc"]
    torch.manual_seed(0)
    method = JNFShared(modalities, shared_dim=2, networks=NetworkOptions(hidden=(4,)))
    x = {name: np.random.default_rng(i).normal(size=(8, 2)) for i, name in enumerate("abc")}
    here = {"a": np.ones(8, bool), "b": np.arange(8) < 5, "c": np.zeros(8, bool)}
    terms = method.losses(Batch.of(x, here, modalities=modalities))
    assert bool((terms["align"][:5] > 0).all()) and bool((terms["align"][5:] == 0).all())
    alone = {
        n: Batch.of({k: v[:5] for k, v in x.items() if k != "c"}, modalities=modalities)
        for n in "a"
    }["a"]
    torch.testing.assert_close(method.losses(alone)["align"], terms["align"][:5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": "l2"}, "align='l2' is unknown"),
        ({"projection_dim": 0}, "projection_dim=0 must be 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"align": "correlation", "top": 0}, "top=0 must be 1 or more"),
    ],
)
def test_bad_options_of_jnf_shared(options: dict[str, Any], message: str) -> None:
    modalities = [Modality(name, (2,), "normal") for name in "ab"]
    with pytest.raises(ValueError, match=message):
        JNFShared(modalities, **options)
    with pytest.raises(ValueError, match="needs two or more, got 1"):
        JNFShared(modalities[:1])
