"""Metrics end to end, on a small data set with image, vector and words, and methods
whose right answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.inference import Diagnostics, Imputation
from counterpoint.metrics import (
    Evaluation,
    Generations,
    JudgeOptions,
    Judges,
    Matchers,
    evaluate,
    posterior_means,
    score_probes_given_all,
    train_judges,
)
from counterpoint.metrics.judges import Judge
from counterpoint.metrics.matchers import different, train_matchers
from counterpoint.metrics.means import Means
from counterpoint.metrics.retrieval import score_retrieval
from counterpoint.nn.options import NetworkOptions

MODALITIES = (
    Modality("image", (1, 8, 8)),
    Modality("vector", (6,), "normal", 1.0),
    Modality("words", (4,), "categorical", classes=50),
)
QUICK = JudgeOptions(width=8, features=16, steps=120, check_every=40)
CLASSES, SIDES = 3, 2


def make_split(rows: int, seed: int) -> Split:
    """Class: which row of the image is lit, which coordinate is large, which word comes
    first. Side: left or right, sign, last word."""
    rng = np.random.default_rng(seed)
    digit = rng.integers(0, CLASSES, rows)
    side = {m.name: rng.integers(0, SIDES, rows) for m in MODALITIES}
    image = rng.integers(0, 60, (rows, 1, 8, 8)).astype(np.uint8)
    for i in range(rows):
        left = 4 * side["image"][i]
        image[i, 0, 2 * digit[i] + 1, left : left + 4] = 200
    vector = rng.normal(size=(rows, 6)).astype(np.float32)
    vector[np.arange(rows), digit] += 4.0
    vector[:, 5] += 6.0 * side["vector"] - 3
    said = np.where(
        rng.random(rows) < 0.1, rng.integers(0, CLASSES, rows), digit
    )  # a tenth of the words says anything
    number = np.arange(rows) + 1300 * (seed == 2)  # two words in the middle make each row unique
    words = np.stack([said, number // 50, number % 50, 5 + side["words"]], 1)
    return Split(
        {"image": image, "vector": vector, "words": words},
        MODALITIES,
        {},
        {"digit": digit},
        {"side": side},
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(
        "toy",
        MODALITIES,
        make_split(1200, 0),
        make_split(200, 1),
        make_split(400, 2),
        {"made": "for tests"},
    )


@pytest.fixture(scope="module")
def judges(data: Dataset) -> Judges:
    return train_judges(data, options=QUICK)


class Oracle(nn.Module):
    """Knows the labels of every row: z holds the class, w_m the side, and decoding
    finds a real test row of that class and side."""

    name = "oracle"
    additions = ()

    def __init__(
        self, data: Dataset, *, private: bool = True, priors: tuple[str, ...] = ("standard",)
    ) -> None:
        super().__init__()
        self.modalities, self.config, self.priors, self.private = (
            data.modalities,
            {"private": private},
            priors,
            private,
        )
        self.model = SimpleNamespace(
            private_dims={m.name: SIDES for m in data.modalities} if private else {},
            draw_prior=self.draw_prior,
            refiner=None,
            denoisings={},
        )
        self.test = data.test
        self.labels: dict[str, dict[bytes, tuple[int, int]]] = {m.name: {} for m in data.modalities}
        for split in (data.train, data.test):
            for name, values in split.batch(slice(None)).x.items():
                pairs = zip(
                    split.shared_labels["digit"].tolist(),
                    split.private_labels["side"][name].tolist(),
                    strict=True,
                )
                self.labels[name] |= {
                    value.numpy().tobytes(): pair for value, pair in zip(values, pairs, strict=True)
                }
        self.asked: list[tuple[str, int]] = []

    def draw_prior(self, name: str, shape: tuple[int, ...], *, prior: str) -> Tensor:
        return torch.eye(CLASSES if name == "z" else SIDES)[
            torch.randint(CLASSES if name == "z" else SIDES, shape)
        ]

    def encode(
        self,
        batch: Batch,
        given: Sequence[str] | None = None,
        *,
        samples: int | None = None,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Latents:
        assert samples is None and refine is None
        names = [name for name in batch.x if given is None or name in given]
        z = torch.zeros(1, len(batch), CLASSES)
        w = {name: torch.zeros(1, len(batch), SIDES) for name in names}
        for name in names:
            for i in batch.present[name].nonzero()[:, 0].tolist():
                digit, side = self.labels[name][batch.x[name][i].numpy().tobytes()]
                z[0, i], w[name][0, i, side] = torch.eye(CLASSES)[digit], 1.0
        return Latents(z, w if self.private else {})

    def decode(
        self, latents: Latents, to: Sequence[str], covariates: Any = None, generator: Any = None
    ) -> dict[str, Tensor]:
        out = {}
        for name in to:
            digit = self.digits(latents.shared[0])
            side = (
                latents.private[name][0].argmax(-1).numpy()
                if name in latents.private
                else np.random.default_rng(0).integers(0, SIDES, len(digit))
            )
            rows = [
                self.row(name, d, s, i) for i, (d, s) in enumerate(zip(digit, side, strict=True))
            ]
            values = self.test.batch(np.array(rows)).x[name]
            modality = next(m for m in self.modalities if m.name == name)
            out[name] = (
                nn.functional.one_hot(values, modality.classes).float()
                if modality.classes
                else values
            )[None]
        return out

    def digits(self, z: Tensor) -> np.ndarray:
        return z.argmax(-1).numpy()

    def row(self, name: str, digit: int, side: int, i: int) -> int:
        right = (self.test.shared_labels["digit"] == digit) & (
            self.test.private_labels["side"][name] == side
        )
        found = np.flatnonzero(right & self.test.present[name])
        return int(found[i % len(found)])

    def translate(
        self,
        x: Batch,
        to: Sequence[str],
        n: int = 1,
        *,
        prior: str = "auto",
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        given = [name for name, here in x.present.items() if bool(here.any())]
        self.asked.append((",".join(given), len(x)))
        return self.decode(self.encode(x, given), to)

    def sample(
        self,
        n: int,
        *,
        prior: str = "auto",
        covariates: Any = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        assert covariates is None, "these data have none"
        z = torch.eye(CLASSES)[torch.randint(CLASSES, (1, n), generator=generator)]
        return {
            name: values[0]
            for name, values in self.decode(Latents(z), [m.name for m in self.modalities]).items()
        }

    def recombine(self, shared: Batch, private: Batch, generator: Any = None) -> dict[str, Tensor]:
        latents = Latents(self.encode(shared).shared, self.encode(private).private)
        return {
            name: values[0]
            for name, values in self.decode(latents, [m.name for m in self.modalities]).items()
        }

    def log_likelihood(
        self,
        batch: Batch,
        samples: int = 1000,
        *,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return torch.arange(len(batch), dtype=torch.float32)

    def impute(
        self, x: Batch, given: Sequence[str], *, to: Sequence[str], level: float, **_: Any
    ) -> Imputation:
        """Values of some row of the class and the side of the first given modality, and
        intervals one wide on each side."""
        found = {
            name: values[0]
            for name, values in self.decode(self.encode(x, list(given)[:1]), to).items()
        }
        found |= {name: values.argmax(-1) for name, values in found.items() if name == "words"}
        ends = [
            {name: values + by for name, values in found.items() if name != "words"}
            for by in (-1.0, 1.0)
        ]
        return Imputation(found, *ends, {}, {}, level)

    def divergence(
        self, x: Batch, given: Sequence[str], *, samples: int, generator: torch.Generator
    ) -> Tensor:
        return torch.full((len(x),), 3.0 - len(given))

    def diagnose(
        self, x: Batch, given: Sequence[str], *, generator: torch.Generator
    ) -> Diagnostics | None:
        """Chains where two are given, of which every other row has mixed."""
        if len(given) == 1:
            return None
        even = torch.arange(len(x)) % 2
        return Diagnostics(
            torch.arange(len(x)),
            0.5 + 0 * even,
            0.0 * even,
            1.005 + 0.1 * even,
            40.0 + even,
            even == 2,
        )


class Blind(Oracle):
    """Decodes a random class, whatever z says, and draws every modality on its own."""

    def digits(self, z: Tensor) -> np.ndarray:
        return torch.randint(CLASSES, z.shape[:-1]).numpy()

    def log_likelihood(
        self,
        batch: Batch,
        samples: int = 1000,
        *,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        raise ValueError("no exact density")


KEPT = TemporaryDirectory()
"""Judges that have been trained, which are the same for the same data."""


def run(method: Any, data: Dataset, **options: Any) -> Evaluation:
    return evaluate(
        method,
        data,
        **{
            "samples": 200,
            "rows": None,
            "progress": False,
            "judge": QUICK,
            "cache": Path(KEPT.name),
            **options,
        },
    )


@pytest.fixture(scope="module")
def oracle(data: Dataset) -> Evaluation:
    return run(Oracle(data), data)


@pytest.fixture(scope="module")
def blind(data: Dataset) -> Evaluation:
    return run(
        Blind(data, private=False, priors=("standard", "diffusion")),
        data,
        only=["coherence", "quality", "likelihood"],
    )


def test_judges_are_good_and_reported(oracle: Evaluation) -> None:
    assert (
        oracle.metrics["judge/digit/image"] > 0.95 and oracle.metrics["judge/digit/vector"] > 0.95
    )
    assert oracle.metrics["judge/digit/words"] == pytest.approx(
        0.93, abs=0.03
    )  # noise in the words bounds it
    assert oracle.metrics["judge/side"] > 0.97
    names = [f"judge/digit/{m.name}" for m in MODALITIES]
    assert oracle.metrics["judge/digit"] == pytest.approx(
        np.mean([oracle.metrics[name] for name in names])
    )


def test_an_oracle_is_as_coherent_as_the_judges_are_right(oracle: Evaluation) -> None:
    for kind in ("self", "cross", "given1", "given2", "recombine"):
        assert oracle.metrics[f"coherence/{kind}/digit"] == pytest.approx(
            oracle.metrics["judge/digit"], abs=0.03
        )
    for kind in ("self", "recombine", "private"):
        assert oracle.metrics[f"coherence/{kind}/side"] == pytest.approx(
            oracle.metrics["judge/side"], abs=0.03
        )
    assert oracle.metrics["coherence/unconditional/digit"] == pytest.approx(
        np.prod([oracle.metrics[f"judge/digit/{m.name}"] for m in MODALITIES]), abs=0.06
    )
    assert (
        oracle.metrics["coherence/unconditional/digit"]
        == oracle.metrics["coherence/unconditional/digit@prior=standard"]
    )
    pairs = [
        name for name in oracle.metrics if name.startswith("coherence/cross/digit/") and ">" in name
    ]
    assert len(pairs) == 6
    into = [oracle.metrics[f"coherence/cross/digit/{s}>words"] for s in ("image", "vector")]
    assert oracle.metrics["coherence/cross/digit/words"] == pytest.approx(np.mean(into))


def test_a_blind_method_is_as_coherent_as_chance(blind: Evaluation) -> None:
    for kind in ("self", "cross", "given1", "given2"):
        assert blind.metrics[f"coherence/{kind}/digit"] == pytest.approx(1 / CLASSES, abs=0.06)
    assert blind.metrics["coherence/self/side"] == pytest.approx(1 / SIDES, abs=0.1)
    assert blind.chance("coherence/unconditional/digit") == pytest.approx(1 / 9)
    assert blind.metrics["coherence/unconditional/digit"] == pytest.approx(1 / 9, abs=0.08)
    assert (
        blind.metrics["coherence/unconditional/digit@prior=diffusion"]
        == blind.metrics["coherence/unconditional/digit"]
    )  # "auto" is the last prior
    assert (
        "coherence/recombine" in blind.meta["left_out"]
        and "coherence/private/side" not in blind.metrics
    )
    assert blind.meta["left_out"]["loglik/joint"] == "no exact density"


def test_probes_read_the_oracle_and_leakage_is_chance(oracle: Evaluation) -> None:
    metrics = oracle.metrics
    assert metrics["probe/z/digit"] == metrics["probe/zw/digit"] == metrics["probe/w/side"] == 1
    assert metrics["probe/all/digit"] == 1 and oracle.chance("probe/all/digit") == oracle.chance(
        "probe/z/digit"
    )
    assert "probe/all/side" not in metrics, "a private label is one of each modality"
    assert metrics["probe/z/side"] == pytest.approx(oracle.chance("probe/z/side"), abs=0.06)
    assert metrics["probe/w/digit"] == pytest.approx(oracle.chance("probe/w/digit"), abs=0.06)
    assert (
        metrics["mi/z/digit"] == pytest.approx(np.log(CLASSES), abs=0.05)
        and metrics["mi/w/digit"] < 0.02
    )
    assert metrics["mi/z_i,z_j"] == pytest.approx(np.log(CLASSES), abs=0.25)
    assert abs(metrics["hsic/z,w"]) < 0.02 and oracle.meta["p_values"]["hsic/z,w/image"] > 0.01
    low, high = oracle.score("probe/z/side").interval
    assert low < metrics["probe/z/side"] < high


def test_quality_of_real_rows_is_high(oracle: Evaluation, blind: Evaluation) -> None:
    for name in ("image", "vector", "words"):
        assert oracle.metrics[f"precision/{name}"] > 0.8 and oracle.metrics[f"fid/{name}"] < 2
        assert "penultimate" in oracle.meta["feature_space"][name]
    assert oracle.metrics["fid/cross"] == pytest.approx(
        np.mean([oracle.metrics[f"fid/cross/{m.name}"] for m in MODALITIES])
    )
    assert oracle.meta["quality_rows"]["fid/image"] == {
        "real": 400,
        "generated": 200,
        "precision": 200,
    }
    assert "fid/image" in blind.metrics
    assert (
        oracle.metrics["sharpness/image"] == pytest.approx(1, abs=0.1)
        and "sharpness/words" not in oracle.metrics
    )


def test_quality_drops_with_noise(data: Dataset) -> None:
    class Noise(Oracle):
        def decode(
            self, latents: Latents, to: Sequence[str], covariates: Any = None, generator: Any = None
        ) -> dict[str, Tensor]:
            return {
                name: torch.rand_like(values) if values.dim() == 5 else values
                for name, values in super().decode(latents, to).items()
            }

    found = run(Noise(data), data, only=["quality"]).metrics
    assert found["fid/image"] > 5 * found["fid/words"] and found["coverage/image"] < 0.5
    assert found["sharpness/image"] > 1.5 and found["kid/image"] > 10 * abs(found["kid/words"])


def test_likelihood_is_a_mean_with_its_interval(oracle: Evaluation) -> None:
    assert oracle.metrics["loglik/joint"] == pytest.approx(np.arange(32).mean())
    low, high = oracle.score("loglik/joint").interval
    assert (low + high) / 2 == pytest.approx(15.5) and high - low == pytest.approx(
        2 * 1.96 * np.arange(32).std(ddof=1) / 32**0.5, rel=1e-3
    )


def test_imputation_is_scored_against_the_usual_values(oracle: Evaluation, data: Dataset) -> None:
    """Another row of the right class: noise of σ = 1 twice, so that a value within one
    of it is P(|N(0, 2)| < 1). The image is left out unasked."""
    metrics = oracle.metrics
    vector = data.test.x["vector"]
    usual = oracle.chance("impute/rmse/vector")
    assert usual == pytest.approx(np.sqrt(vector.var(0).mean()), rel=0.02)
    assert metrics["impute/nrmse/vector"] == pytest.approx(metrics["impute/rmse/vector"] / usual)
    first = [
        metrics["impute/nrmse/vector"],
        metrics["impute/correlation/vector"],
        metrics["impute/accuracy/words"],
    ]
    assert (
        first[0] < 1.2
        and first[1] > 0.2
        and first[2] > oracle.chance("impute/accuracy/words") + 0.1
    )  # type: ignore[operator]
    assert metrics["impute/coverage90/vector"] < 0.6
    assert (
        "where the group is asked for" in oracle.meta["left_out"]["impute/image"]
        and "impute/rmse/image" not in metrics
    )
    asked = run(Oracle(data), data, only=["imputation"], rows=100)
    assert {"impute/rmse/image", "impute/coverage90/image"} <= set(asked.metrics) and asked.meta[
        "left_out"
    ] == {}


def test_evaluation_repeats_and_leaves_the_random_state_alone(data: Dataset) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    options: dict[str, Any] = {"rows": 100, "samples": 64, "only": ["coherence", "quality"]}
    first = run(Blind(data), data, **options)
    assert (
        torch.equal(before, torch.get_rng_state())
        and (np.random.get_state()[1] == before_numpy).all()
    )
    again, trained_again = (
        run(Oracle(data), data, **options, cache=cache) for cache in (Path(KEPT.name), None)
    )
    assert again.metrics == trained_again.metrics
    assert first.meta["rows"] == {
        "generated_from": 100,
        "samples": 64,
        "probe_train": 1200,
        "probe_held_out": 400,
    }


def test_groups_do_not_disturb_each_other(data: Dataset, oracle: Evaluation) -> None:
    alone = run(Oracle(data), data, only=["dependence"])
    assert set(alone.metrics) <= set(oracle.metrics) and "judge/digit" not in alone.metrics
    assert {name: oracle.metrics[name] for name in alone.metrics} == alone.metrics


def test_meta_is_json_and_says_what_the_numbers_rest_on(oracle: Evaluation, tmp_path: Path) -> None:
    assert Evaluation.from_json(oracle.to_json(tmp_path / "e.json")) == oracle
    assert oracle.meta["data"]["notes"] == {"made": "for tests"} and oracle.meta["method"] == {
        "name": "oracle",
        "config": {"private": True},
    }
    assert (
        set(oracle.meta["versions"]) >= {"torch", "counterpoint"}
        and oracle.meta["seconds"]["total"] > 0
    )
    accuracies = [s for s in oracle.scores if s.kind in ("probe", "coherence", "judge")]
    assert accuracies and all(score.interval is not None for score in accuracies)


def test_missing_modalities_are_left_out(data: Dataset) -> None:
    holes = Dataset(
        "holes", MODALITIES, *(split.with_missing(0.4, 3) for split in data.splits().values())
    )
    means = posterior_means(Oracle(holes), holes.test)
    absent = ~holes.test.present["image"]
    assert (
        absent.any()
        and (means.shared["image"][absent] == 0).all()
        and (means.shared["image"][~absent].sum(1) == 1).all()
    )
    method = Oracle(holes)
    found = run(method, holes, samples=50)
    assert (
        found.metrics["probe/z/digit"] == 1
        and found.metrics["coherence/cross/digit"] > 0.9
        and found.metrics["coherence/recombine/side"] > 0.9
    )
    pairs = {given: sum(n for g, n in method.asked if g == given) for given, _ in method.asked}
    assert pairs["image"] == int(holes.test.present["image"].sum())


def test_joint_probes_read_what_each_row_has(data: Dataset) -> None:
    """Words are wrong in a tenth of the rows, and the vector is right: what is left
    decides how much is read. Unknown labels do not count."""
    said = data.test.x["words"][:, 0]

    class Reader(Oracle):
        def encode(self, batch: Batch, given: Sequence[str] | None = None, **_: Any) -> Latents:
            z = nn.functional.one_hot(batch.x["words"][:, 0], CLASSES).float()
            known = batch.present["vector"].nonzero()[:, 0]
            z[known] = nn.functional.one_hot(
                batch.x["vector"][known, :CLASSES].argmax(1), CLASSES
            ).float()
            return Latents(z[None])

    right = (data.test.x["vector"][:, :CLASSES].argmax(1), said)
    for rate in (0.0, 0.5, 1.0):
        test = data.test.with_missing(rate, 1, among=["vector"])
        test = replace(
            test,
            shared_labels={"digit": np.where(np.arange(400) < 40, -1, test.shared_labels["digit"])},
        )
        expected = (
            np.where(test.present["vector"], *right)[40:] == data.test.shared_labels["digit"][40:]
        )
        found = score_probes_given_all(Reader(data), data.train, test)
        assert found.metrics == {"probe/all/digit": pytest.approx(expected.mean())}


@pytest.mark.parametrize("name", ["idmvae", "mopoe"])
def test_real_methods_are_evaluated_with_holes_in_the_data(data: Dataset, name: str) -> None:
    from counterpoint.methods import METHODS

    holes = Dataset(
        "holes", MODALITIES, *(split.with_missing(0.3, 3) for split in data.splits().values())
    )
    torch.manual_seed(0)
    networks = NetworkOptions(width=4, hidden=(32,))
    method = METHODS[name].for_data(
        holes, shared_dim=4, networks=networks, **({"private_dim": 3} if name == "idmvae" else {})
    )
    method.train()
    found = run(
        method, holes, samples=50, rows=50, probe_rows=300, likelihood_rows=4, likelihood_samples=5
    )
    lacking = {"refinement", "impute/image"} | (
        set() if name == "idmvae" else {"coherence/recombine", "hsic/z,w"}
    )
    few = {
        key for key, why in found.meta["left_out"].items() if why.endswith("50 of each are needed")
    }
    assert (
        method.training
        and found.meta["left_out"].keys() - few == lacking
        and all(key.startswith("fid") for key in few)
    )
    assert (
        found.metrics["coherence/unconditional/digit"]
        == found.metrics[f"coherence/unconditional/digit@prior={method.priors[-1]}"]
    )
    if (
        name == "idmvae"
    ):  # each prior has a distance of its own, and the last prior's is that of "auto"
        assert (
            found.metrics["fid/image@prior=diffusion"] == found.metrics["fid/image"]
            and found.metrics["fid@prior=diffusion"] == found.metrics["fid"]
        )
        assert (
            abs(found.metrics["fid/image@prior=standard"] / found.metrics["fid/image"] - 1) > 1e-3
        )
    else:
        assert not any(score.kind == "fid" and score.prior for score in found.scores), (
            "where there is one prior, nothing is said twice"
        )
    assert (
        ("coherence/private/side" in found.metrics)
        == ("probe/w/side" in found.metrics)
        == (name == "idmvae")
    )
    auto, last = (
        method.sample(3, prior=prior, generator=torch.Generator().manual_seed(1))
        for prior in ("auto", method.priors[-1])
    )
    assert all(
        torch.equal(auto[m.name], last[m.name]) for m in MODALITIES
    )  # metrics name the last prior "auto"


def test_matches_of_an_oracle_and_of_a_blind_method(data: Dataset, tmp_path: Path) -> None:
    """Two of three alternatives show another class, the third a chance to tell; labels
    are there, so matches have to be asked for."""
    seen = run(Oracle(data), data, only=["match"], cache=tmp_path)
    assert seen.metrics["judge/match"] == pytest.approx(5 / 6, abs=0.05) and seen.metrics[
        "match"
    ] == pytest.approx(seen.metrics["judge/match"], abs=0.03)
    assert seen.metrics["match"] == pytest.approx(
        np.mean([s.value for s in seen.scores if s.kind == "match" and not s.setting and s.given])
    )
    assert sum(name.startswith("judge/match/") for name in seen.metrics) == 6 and not seen.complete
    assert seen.metrics["match/unconditional"] == pytest.approx(
        seen.metrics["judge/match"], abs=0.03
    ), "samples agree in their class"
    assert (
        seen.metrics["match/unconditional@prior=standard"] == seen.metrics["match/unconditional"]
        and seen.chance("match/unconditional@prior=standard") == 0.5
    )
    low, high = seen.score("match/image>words").interval
    assert low < seen.metrics["match/image>words"] < high
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("match-*.safetensors")}
    again = run(Blind(data), data, only=["match"], cache=tmp_path)
    assert len(written) == 3 and written == {
        file: file.stat().st_mtime_ns for file in tmp_path.glob("match-*.safetensors")
    }
    assert again.metrics["match/unconditional"] == pytest.approx(0.5, abs=0.05)
    assert (
        again.metrics["match"] == pytest.approx(0.5, abs=0.03)
        and again.metrics["judge/match"] == seen.metrics["judge/match"]
    )


def test_retrieval_of_an_oracle(data: Dataset) -> None:
    """z is the class: another class is told apart always, the same one by chance.
    Labels are there, so that it has to be asked for."""
    digit = data.test.shared_labels["digit"]
    same = np.array([(digit == one).sum() - 1 for one in digit])
    found = run(Oracle(data), data, only=["retrieval"])
    expected = 1 - same.mean() / 2 / (len(digit) - 1)
    assert (
        found.metrics["retrieval/image>vector"]
        == pytest.approx(expected)
        == found.metrics["retrieval"]
    )
    assert (
        found.metrics["retrieval@10/words>image"]
        == pytest.approx((10 / (1 + same)).mean())
        == found.metrics["retrieval@10"]
    )
    assert found.chance("retrieval/vector>words") == 0.5 and found.chance(
        "retrieval@1/image>words"
    ) == pytest.approx(1 / 400)
    assert sum(name.startswith("retrieval/") for name in found.metrics) == 6 and not found.complete
    blank = replace(
        posterior_means(Oracle(data), data.test),
        shared={m.name: np.ones((400, 3)) for m in MODALITIES},
    )
    told = score_retrieval(blank, data.test)
    assert all(
        told.score(name).value == pytest.approx(told.score(name).chance)
        for name in ("retrieval", "retrieval@1", "retrieval@10/image>words")
    )
    assert "retrieval" not in run(Oracle(data), data, only=["coherence"]).metrics


def test_retrieval_is_that_of_an_independent_implementation(data: Dataset) -> None:
    """Rows are noisy, and some lack a modality; every row is there twice, which is no
    alternative to itself."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 5))
    z = {
        name: np.repeat(truth + noise * rng.normal(size=truth.shape), 2, 0)
        for name, noise in (("image", 0.4), ("words", 0.8))
    }
    split = data.test.take(np.repeat(np.arange(60), 2)).with_missing(0.3, 1, among=["image"])
    kept = {"x": {k: split.x[k] for k in z}, "present": {k: split.present[k] for k in z}}
    split = replace(split, **kept, modalities=(MODALITIES[0], MODALITIES[2]), private_labels={})
    found = score_retrieval(Means(z, {}, split.present, {}), split)
    rows = np.flatnonzero(split.present["image"])
    cosines = cosine_similarity(z["image"][rows], z["words"][rows])
    for way, s in (("image>words", cosines), ("words>image", cosines.T)):
        areas, ranks = [], []
        for i, row in enumerate(rows):
            others = [j for j, other in enumerate(rows) if other // 2 != row // 2]
            areas.append(roc_auc_score([1] + [0] * len(others), [s[i, i], *s[i, others]]))
            ranks.append(1 + int((s[i, others] > s[i, i]).sum()))
        assert (
            found.metrics[f"retrieval/{way}"] == pytest.approx(np.mean(areas))
            and 0.6 < np.mean(areas) < 1
        )
        for k in (1, 10):
            assert found.metrics[f"retrieval@{k}/{way}"] == pytest.approx(
                np.mean(np.array(ranks) <= k)
            )


def test_rows_that_share_a_value_are_no_alternatives(data: Dataset) -> None:
    """Each image is there twice, as captions repeat images: with the pair of another
    row beside it, the judge would choose blindly."""
    twice = [s.take(np.repeat(np.arange(len(s) // 2), 2)) for s in data.splits().values()]
    rows = np.arange(6)
    expected = rows[:, None] // 2 != rows // 2
    assert (different(twice[2], ("image", "words"), rows) == expected).all()
    own = replace(twice[2], x={**twice[2].x, "words": data.test.x["words"]})
    assert (different(own, ("image", "words"), rows) == expected).all()
    assert (different(own, ("vector", "words"), rows) == expected).all()


def test_pairs_that_are_never_there_together_have_no_matches(data: Dataset) -> None:
    def apart(split: Split) -> Split:
        half = np.arange(len(split)) % 2 == 0
        return replace(split, present={"image": half, "vector": ~half})

    holed = Dataset("apart", MODALITIES, *map(apart, data.splits().values()))
    found = run(Oracle(holed), holed, only=["match"])
    assert found.meta["left_out"] == {
        "match/image+vector": "fewer than two training rows have both image and vector"
    }
    assert {s.name for s in found.scores if s.kind == "match" and not s.setting and s.given} == {
        f"match/{pair}" for pair in ("image>words", "words>image", "vector>words", "words>vector")
    }
    tested = replace(data, test=holed.test)
    found = run(Oracle(tested), tested, only=["match"])
    assert (
        "no two held-out rows have both image and vector"
        in found.meta["left_out"]["match/image+vector"]
    )


def with_bits(data: Dataset) -> Dataset:
    """The vector replaced by bits that say the class."""
    modalities = (MODALITIES[0], Modality("bits", (CLASSES,), "bernoulli", None), MODALITIES[2])
    splits = []
    for split in data.splits().values():
        x = {
            "image": split.x["image"],
            "bits": np.eye(CLASSES, dtype=np.float32)[split.shared_labels["digit"]],
            "words": split.x["words"],
        }
        side = {
            "bits" if name == "vector" else name: values
            for name, values in split.private_labels["side"].items()
        }
        splits.append(Split(x, modalities, {}, split.shared_labels, {"side": side}))
    return Dataset("bits", modalities, *splits)


def test_f1_of_every_given_set(data: Dataset) -> None:
    bits = with_bits(data)
    found = run(Oracle(bits, private=False), bits, only=["coherence"])
    sets = [
        f"f1/given{n}/{given}>bits" for n, given in ((1, "image"), (1, "words"), (2, "image+words"))
    ]
    assert [name for name in found.metrics if name.startswith("f1/") and ">" in name] == sets
    assert all(
        found.metrics[name] == 1
        for name in (*sets, "f1/self", "f1/self/bits", "f1/given1", "f1/given2")
    )
    # one bit of three is on, in either: what is drawn for nothing is right in a third of the rows
    for name in (*sets, "f1/given1", "f1/self", "f1/self/bits"):
        assert found.chance(name) == found.chance("f1/self/bits")
        assert found.chance(name) == pytest.approx(1 / CLASSES, abs=0.08)
    blind = run(Blind(bits, private=False), bits, only=["coherence"])
    low, high = blind.score("f1/given2/image+words>bits").interval
    assert low < blind.metrics["f1/given2/image+words>bits"] < high and low < 1 / CLASSES < high
    assert not any(
        name.startswith("f1") for name in run(Oracle(data), data, only=["coherence"]).metrics
    )


def test_absent_targets_count_for_no_f1(data: Dataset) -> None:
    bits = with_bits(data)
    test = replace(bits.test, present={"bits": np.arange(400) < 100})

    class Wrong(Oracle):
        def digits(self, z: Tensor) -> np.ndarray:
            found = super().digits(z)
            return np.where(np.arange(len(found)) < 100, found, (found + 1) % CLASSES)

    holed = replace(bits, test=test)
    method = Wrong(bits, private=False)
    assert (
        run(method, holed, only=["coherence"], batch_size=400).metrics["f1/given1/image>bits"] == 1
    )


def test_frechet_distances_of_every_given_set_rest_on_all_rows(
    data: Dataset, oracle: Evaluation
) -> None:
    rows = oracle.meta["quality_rows"]
    for given in ("image+words", "image", "words"):
        name = f"fid/given{1 + given.count('+')}/{given}>vector"
        assert rows[name] == {"real": 400, "generated": 400} and oracle.metrics[name] < 2
    pairs = [v for name, v in oracle.metrics.items() if name.startswith("fid/given2/")]
    assert len(pairs) == 3 and oracle.metrics["fid/given2"] == pytest.approx(np.mean(pairs))


def test_rows_are_dealt_to_the_sets_of_many_modalities(data: Dataset) -> None:
    copies = {f"vector{i}": "vector" for i in (2, 3)}
    modalities = (*MODALITIES, *(replace(MODALITIES[1], name=name) for name in copies))

    def widened(split: Split) -> Split:
        side = split.private_labels["side"]
        x, sides = (
            {**found, **{name: found[of] for name, of in copies.items()}}
            for found in (split.x, side)
        )
        return Split(x, modalities, {}, split.shared_labels, {"side": sides})

    five = Dataset("five", modalities, *map(widened, data.splits().values()))
    method = Oracle(five)
    found = run(method, five, only=["quality"], rows=60)
    assert "5 modalities have too many sets" in found.meta["left_out"]["fid/given2"]
    assert (
        len([name for name in found.metrics if name.startswith("fid/given1/")]) == 20
        and "fid/given2" not in found.metrics
    )
    assert not any(
        "," in given for given, _ in method.asked
    )  # nothing is generated that nothing is made of
    generations = Generations(
        method,
        five.test.take(np.arange(60)),
        train_judges(five, options=QUICK),
        Matchers({}, {}),
        samples=1,
    )
    for size, sets in ((2, 10), (3, 10), (4, 5)):
        seen = {
            given: next(iter(found.values())).rows
            for given, found in generations.given.items()
            if len(given) == size
        }
        assert len(seen) == sets and sorted(np.concatenate([*seen.values()])) == [*range(60)]


def test_frechet_distance_in_a_space_of_ones_own_is_that_of_the_gaussians(data: Dataset) -> None:
    """Samples are the held-out rows moved by 2 in each of six coordinates: 6 · 2² where
    values are their own features."""

    class Shifted(Oracle):
        def sample(
            self,
            n: int,
            *,
            prior: str = "auto",
            covariates: Any = None,
            generator: torch.Generator | None = None,
        ) -> dict[str, Tensor]:
            rows = self.drawn + np.arange(n)
            self.drawn += n
            values = self.test.batch(rows).x
            return {
                **values,
                "vector": values["vector"] + 2,
                "words": nn.functional.one_hot(values["words"], 50).float(),
            }

    def values(x: Tensor) -> Tensor:
        return x

    method = Shifted(data)
    method.drawn = 0
    found = run(method, data, only=["quality"], samples=400, feature_extractors={"vector": values})
    assert found.metrics["fid/vector"] == pytest.approx(24, rel=1e-5) and found.metrics[
        "fid/image"
    ] == pytest.approx(0, abs=1e-4)
    assert (
        "values, given by the user" in found.meta["feature_space"]["vector"]
        and "judge" in found.meta["feature_space"]["image"]
    )
    assert found.metrics["judge/digit/vector"] > 0.95  # the judge still says what is shown


def test_networks_extract_features_in_evaluation_mode(data: Dataset) -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.9))
    network[2].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = run(Oracle(data), data, only=["quality"], feature_extractors={"image": network}).metrics
    assert network.training and network[1].training and not network[2].training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    plain = run(
        Oracle(data),
        data,
        only=["quality"],
        feature_extractors={"image": lambda x: x.flatten(1) / (1 + 1e-5) ** 0.5},
    ).metrics
    assert found["fid/image"] == pytest.approx(plain["fid/image"], rel=1e-4)


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (lambda x: x, r"gave \(64, 1, 8, 8\) of values \(64, 1, 8, 8\); expected \(64, F\)"),
        (lambda x: x.flatten(1)[:3], r"gave \(3, 64\)"),
        (lambda x: x.flatten(1) / 0, "gave NaN or infinity"),
        (lambda x: x.numpy(), "gave ndarray; expected a tensor"),
        ("inception", "is str; expected a function"),
    ],
)
def test_features_that_are_none_are_refused(data: Dataset, extractor: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as error:
        run(Oracle(data), data, only=["quality"], feature_extractors={"image": extractor})
    assert "\n" not in str(error.value) and "'image'" in str(error.value)


def test_data_without_labels_have_only_what_needs_none(data: Dataset) -> None:
    bare = Dataset(
        "bare",
        MODALITIES,
        *(replace(split, shared_labels={}, private_labels={}) for split in data.splits().values()),
    )
    found = run(Oracle(data), bare)
    assert {name.split("/")[0] for name in found.metrics} >= {"fid", "hsic", "mi", "loglik"}
    assert not any(name.startswith(("probe", "coherence", "judge/digit")) for name in found.metrics)
    assert (
        found.complete
        and found.chance("match/image>words")
        == found.chance("match")
        == found.chance("judge/match")
        == 0.5
    )
    assert 0.5 < found.metrics["match"] == pytest.approx(found.metrics["judge/match"], abs=0.1)
    assert (
        found.meta["left_out"]["probe"]
        == found.meta["left_out"]["coherence"]
        == "the data set has no labels"
    )
    assert "principal components" in found.meta["feature_space"]["words"]


def test_a_single_class_is_refused_in_one_line(data: Dataset) -> None:
    constant = Dataset(
        "one",
        MODALITIES,
        *(
            replace(s, shared_labels={"digit": np.zeros(len(s), int)})
            for s in data.splits().values()
        ),
    )
    for only in ("probe", "coherence"):
        with pytest.raises(ValueError, match="'digit' of modality 'image' has 1 class") as error:
            run(Oracle(data), constant, only=[only])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["fid"]}, "unknown group of metrics 'fid'"),
        ({"samples": 0}, "samples = 0 must be"),
        ({"likelihood_rows": 0}, "likelihood_rows = 0 must be"),
        ({"only": []}, "only is empty"),
        ({"split": "train"}, "split='train' is unknown"),
        ({"likelihood_samples": 0}, "likelihood_samples = 0 must be"),
        (
            {"feature_extractors": {"sound": abs}},
            "feature_extractors names 'sound'; the modalities are image, vector, words",
        ),
    ],
)
def test_wrong_options_are_refused(data: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(Oracle(data), data, **options)


def test_names_that_metrics_have_are_refused_before_anything_is_measured(data: Dataset) -> None:
    method = Oracle(data)
    method.modalities = (replace(MODALITIES[0], name="cross"), *MODALITIES[1:])
    with pytest.raises(ValueError, match=r"a modality is named 'cross', as a metric is"):
        run(method, data)
    digit = {"match": data.test.shared_labels["digit"]}
    labelled = replace(data, test=replace(data.test, shared_labels=digit))
    with pytest.raises(ValueError, match=r"a label is named 'match', as a metric is"):
        run(Oracle(data), labelled)


def test_other_modalities_and_diverged_methods_are_refused(data: Dataset) -> None:
    other = Oracle(data)
    other.modalities = MODALITIES[:2]
    with pytest.raises(ValueError, match="the method knows modalities image, vector"):
        run(other, data)

    class Diverged(Oracle):
        def encode(
            self,
            batch: Batch,
            given: Sequence[str] | None = None,
            *,
            samples: int | None = None,
            refine: int | None = None,
        ) -> Latents:
            return Latents(torch.full((1, len(batch), 2), torch.nan))

    with pytest.raises(ValueError, match="given 'image' holds NaN"):
        run(Diverged(data), data)


def weights(judges: Judges) -> Mapping[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, judge in judges.by_modality.items()
        for key, value in judge.state_dict().items()
    }


def same(a: Judges, b: Judges) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_judges_are_cached_by_data_and_settings(
    data: Dataset, judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.get_rng_state()
    assert same(train_judges(data, options=QUICK, cache=tmp_path / "cache"), judges)
    assert torch.equal(state, torch.get_rng_state())
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 3 and all(f.suffix == ".safetensors" for f in files)
    files[0].write_bytes(b"damaged")
    assert same(train_judges(data, options=QUICK, cache=tmp_path / "cache"), judges)

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("counterpoint.metrics.judges._fit", refuse)
    assert same(train_judges(data, options=QUICK, cache=tmp_path / "cache"), judges)
    with pytest.raises(AssertionError):
        train_judges(data, options=QUICK, seed=1, cache=tmp_path / "cache")
    with pytest.raises(AssertionError):
        train_judges(replace(data, digest="other"), options=QUICK, cache=tmp_path / "cache")


def test_a_judge_takes_probabilities_and_unordered_classes(data: Dataset) -> None:
    relabelled = [
        replace(s, shared_labels={"digit": s.shared_labels["digit"] * 10 + 7}, private_labels={})
        for s in data.splits().values()
    ]
    judges = train_judges(Dataset("tens", MODALITIES, *relabelled), options=QUICK)
    words = data.test.batch(slice(0, 100)).x["words"]
    seen = judges.see("words", words, np.arange(100))
    soft = judges.see(
        "words", 0.6 * nn.functional.one_hot(words, 50).float() + 0.008, np.arange(100)
    )
    assert (seen.labels["digit"] == soft.labels["digit"]).all() and set(
        np.unique(seen.labels["digit"])
    ) == {7, 17, 27}
    hits = seen.hits(
        "digit", np.where(np.arange(400) < 10, -1, relabelled[2].shared_labels["digit"])
    )
    assert np.isnan(hits[:10]).all() and np.isnan(hits[100:]).all() and np.nanmean(hits) > 0.8


def test_ids_may_be_stored_in_any_integers(data: Dataset) -> None:
    """Small ones save memory; judges, feature spaces without labels and matching judges
    look at them as at any others."""
    modalities, options = (
        MODALITIES[1:],
        JudgeOptions(width=8, features=16, steps=20, check_every=10),
    )

    def seen(dtype: type, labels: bool) -> np.ndarray:
        parts = []
        for split in data.splits().values():
            x = {"vector": split.x["vector"], "words": split.x["words"].astype(dtype)}
            parts.append(Split(x, modalities, shared_labels=split.shared_labels if labels else {}))
        stored = Dataset("words", modalities, *parts)
        if labels:
            train_matchers(stored, options=options)
        return train_judges(stored, options=options).look(stored.test)["words"].features

    for labels in (True, False):
        np.testing.assert_array_equal(seen(np.uint8, labels), seen(np.int64, labels))


def test_judges_skip_unknown_labels_and_need_no_validation_rows_of_a_modality(
    data: Dataset,
) -> None:
    digit = data.train.shared_labels["digit"].copy()
    digit[:600] = -1
    val = replace(data.val, present={**data.val.present, "image": np.zeros(200, bool)})
    partly = replace(data, train=replace(data.train, shared_labels={"digit": digit}), val=val)
    found = train_judges(partly, options=QUICK)
    judge = found.by_modality["image"]
    assert isinstance(judge, Judge) and judge.classes["digit"].tolist() == [0, 1, 2]
    seen = found.look(data.test)["image"]
    assert np.mean(seen.hits("digit", data.test.shared_labels["digit"])) > 0.9


def test_posteriors_and_chains_are_reported(oracle: Evaluation) -> None:
    metrics = oracle.metrics
    assert (
        metrics["posterior/kl/given1"] == metrics["posterior/kl/given1/image"] == 2.0
        and metrics["posterior/kl/given2"] == 1.0
    )
    assert (
        metrics["posterior/cosine/given1"]
        == metrics["posterior/cosine/given1/words"]
        == pytest.approx(1)
    )  # each modality knows the class
    assert (
        metrics["posterior/acceptance/given2"] == 0.5 and metrics["posterior/mixed/given2"] == 0.5
    )
    assert metrics["posterior/ess/given2"] == 40 and metrics["posterior/improper/given2"] == 0
    assert not any(name.startswith("posterior/rhat/given1") for name in metrics)
    assert oracle.meta["posterior"]["unit"] == "nats"


def test_without_a_refiner_there_is_nothing_to_measure_of_it(oracle: Evaluation) -> None:
    assert not any(name.startswith("refinement") for name in oracle.metrics)
    assert oracle.meta["left_out"]["refinement"].startswith(
        "this model has no refiner; fit one by fit_refiner"
    )
    old = Evaluation(
        (),
        {
            "split": "test",
            "groups": [
                group for group in oracle.meta["groups"] if group not in ("refinement", "match")
            ],
        },
    )
    assert oracle.complete and old.complete
