"""Metrics against closed forms: distances between Gaussians, constructed sets, probes,
intervals, dependence."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.core.modality import Modality
from counterpoint.metrics import (
    Evaluation,
    f1,
    frechet,
    frechet_distance,
    hsic,
    infonce,
    merge,
    prdc,
    probe,
)
from counterpoint.metrics.intervals import accuracy, wilson
from counterpoint.metrics.matchers import forced_choice
from counterpoint.metrics.quality import kernel_distance
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.score import Metric, Score, Setting, Way
from counterpoint.metrics.scores import Chance, Scores
from counterpoint.metrics.seen import detail


def correlated(
    rng: np.random.Generator, n: int, rho: float, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of standard normal vectors with correlation rho in each coordinate; their
    information is −dim/2·log(1−ρ²)."""
    a = rng.normal(size=(n, dim))
    return a, rho * a + math.sqrt(1 - rho**2) * rng.normal(size=(n, dim))


def test_frechet_of_commuting_gaussians() -> None:
    # with diagonal covariances the distance is ‖μ₁ − μ₂‖² + Σ (σ₁ − σ₂)²
    found = frechet_distance(
        np.array([0.0, 1.0]), np.diag([4.0, 1.0]), np.array([3.0, 1.0]), np.diag([1.0, 9.0])
    )
    assert found == pytest.approx(9 + (2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-9)


def test_frechet_of_general_gaussians_meets_scipy() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    a, b = (x @ x.T for x in rng.normal(size=(2, 6, 6)))
    mean = rng.normal(size=6)
    expected = (mean**2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(np.zeros(6), a, mean, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(mean, a, mean, a) == pytest.approx(0, abs=1e-8)


def test_frechet_of_samples_and_singular_covariances() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)).astype(np.float32) * [1, 2, 0]  # a dead feature has no variance
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet(x, x + np.array([0, 0, 2])) == pytest.approx(4, abs=1e-6)
    with pytest.raises(ValueError, match="two rows or more"):
        frechet(x, x[:1])


def test_kernel_distance_by_hand_and_without_bias() -> None:
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])

    def mean(pairs: list[tuple[Any, Any]]) -> float:
        return float(np.mean([(x @ y / 2 + 1) ** 3 for x, y in pairs]))

    within = [
        mean([(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)
    ]
    assert kernel_distance(a, b) == pytest.approx(
        sum(within) - 2 * mean([(x, y) for x in a for y in b])
    )
    rng = np.random.default_rng(0)
    same = [kernel_distance(*rng.normal(size=(2, 30, 4))) for _ in range(400)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 20 and min(same) < 0
    assert kernel_distance(rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 1) > 5 * np.std(
        same
    )
    with pytest.raises(ValueError, match="two rows or more"):
        kernel_distance(a, b[:1])


def test_f1_of_rows_meets_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    real, fake = (rng.random((2, 200, 6)) < rng.random((2, 200, 1))).astype(np.float32)
    real[:20], fake[10:30] = 0, 0  # ten rows where both are empty
    soft = (
        0.3 * rng.random((200, 6)).astype(np.float32) + 0.7 * fake - 0.2 * fake
    )  # 0 to .3, or .5 to .8
    found = f1(torch.tensor(real).view(200, 1, 2, 3), torch.tensor(soft).view(200, 1, 2, 3))
    assert float(found.mean()) == pytest.approx(
        f1_score(real, soft > 0.5, average="samples", zero_division=1.0), abs=1e-6
    )
    assert (found[10:20] == 1).all() and (found[:10] == 0).any()


def test_forced_choice_of_a_perfect_a_misled_and_a_blind_judge() -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=(300, 8))
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    others = ~np.eye(300, dtype=bool)
    assert (forced_choice(given, given, others) == 1).all() and (
        forced_choice(-given, given, others) == 0
    ).all()
    assert (forced_choice(np.ones((300, 8)), np.ones((300, 8)), others) == 0.5).all()
    assert forced_choice(rng.normal(size=(300, 8)), given, others).mean() == pytest.approx(
        0.5, abs=0.05
    )


def test_forced_choice_leaves_out_rows_that_share_a_value() -> None:
    rng = np.random.default_rng(0)
    points, given = rng.normal(size=(2, 12, 3))
    number = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    others = number[:, None] != number
    wins = [
        np.mean(
            [
                (points[i] @ given[i] > points[i] @ given[j])
                for j in range(12)
                if number[j] != number[i]
            ]
        )
        for i in range(12)
    ]  # by definition
    assert forced_choice(points, given, others).mean() == pytest.approx(np.mean(wins))
    alone = np.zeros((3, 3), bool)
    alone[0, 1] = alone[1, 0] = True
    assert np.isnan(forced_choice(points[:3], given[:3], alone)).tolist() == [False, False, True]


def test_forced_choice_is_as_uncertain_as_its_interval_says() -> None:
    rng = np.random.default_rng(0)
    means, widths = [], []
    for _ in range(300):
        a, b = correlated(rng, 60, 0.5, 2)
        p, (low, high) = accuracy(forced_choice(a, b, ~np.eye(60, dtype=bool))[:, None])
        means.append(p)
        widths.append((high - low) / 2 / 1.96)
    assert np.mean(widths) == pytest.approx(np.std(means), rel=0.15)


def test_detail_is_what_a_blur_takes_away() -> None:
    """A chequered pattern of ±1 has (8/9)² of its energy in what 3×3 means take away; a
    slope has none, and words have no detail."""
    board = torch.tensor([[(-1.0) ** (i + j) for j in range(8)] for i in range(8)])
    slope = torch.arange(8.0).expand(8, 8)
    found = detail(torch.stack([board, slope, 3 * board])[:, None], Modality("x", (1, 8, 8)))
    torch.testing.assert_close(found, torch.tensor([(8 / 9) ** 2, 0.0, 9 * (8 / 9) ** 2]))
    assert detail(torch.zeros(3, 5), Modality("x", (5,))).isnan().all()


def test_prdc_of_equal_disjoint_and_collapsed_sets() -> None:
    rng = np.random.default_rng(0)
    real, same = rng.normal(size=(2, 400, 2))
    equal = prdc(real, same)
    assert (
        equal.precision > 0.9
        and equal.recall > 0.9
        and equal.coverage > 0.9
        and equal.density == pytest.approx(1, abs=0.15)
    )
    far = prdc(real, same + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    collapsed = prdc(
        real, 0.01 * same
    )  # all in one place in the middle: precise, but it covers little
    assert collapsed.precision == 1 and collapsed.recall < 0.05 and collapsed.coverage < 0.2
    words = np.repeat(np.eye(3), 20, 0)  # discrete values repeat exactly
    assert (
        prdc(words, words).precision
        == prdc(words, words).recall
        == prdc(words, words).coverage
        == 1
    )
    with pytest.raises(ValueError, match="more than 5 rows"):
        prdc(real[:5], same)


def test_prdc_counts_by_hand() -> None:
    real = np.array([[0.0], [1.0], [10.0], [11.0]])  # with k = 1 every ball has radius 1
    fake = np.array([[0.4], [0.6], [5.0]])
    found = prdc(real, fake, k=1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx(4 / 3)  # each of the two near ones lies in two balls
    assert found.coverage == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(
        1 / 4
    )  # radii of the fake balls: .2, .2, 4.4; only the last reaches a real point, 1.0


def test_probe_reads_separable_labels_and_not_noise() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 3000) + 5
    separable = np.eye(4)[labels - 5] * 8 + rng.normal(size=(3000, 4))
    found = probe(separable[:2000], labels[:2000], separable[2000:], labels[2000:])
    assert found.hits.mean() > 0.99 and found.converged
    assert found.information == pytest.approx(math.log(4), abs=0.05)
    noise = rng.normal(size=(3000, 4))
    found = probe(noise[:2000], labels[:2000], noise[2000:], labels[2000:])
    assert found.hits.mean() == pytest.approx(0.25, abs=0.05)
    assert found.information == pytest.approx(0, abs=0.02)


def test_probe_information_is_below_the_true_one() -> None:
    # y = ±1, x = y + noise of deviation 1: I(x; y) = 0.3369 nats; logistic regression is the exact
    # posterior here
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40_000)
    x = (2 * y - 1 + rng.normal(size=len(y)))[:, None]
    assert probe(x[:20_000], y[:20_000], x[20_000:], y[20_000:]).information == pytest.approx(
        0.3369, abs=0.01
    )


def test_probe_edges() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), rng.integers(0, 2, 100)
    with pytest.raises(ValueError, match="single class"):
        probe(x, np.zeros(100, int), x, y)
    unseen = probe(
        np.c_[x, np.zeros(100)], y, np.c_[x, np.zeros(100)], np.full(100, 7)
    )  # a dead feature, a class not trained on
    assert unseen.hits.sum() == 0 and np.isfinite(unseen.information)


def test_hsic_tells_dependent_from_independent() -> None:
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(2, 300, 3))
    independent = hsic(x, other)
    assert abs(independent.value) < 0.05 and independent.p_value > 0.05
    dependent = hsic(x, x**2 + 0.1 * other)  # uncorrelated, yet dependent
    assert dependent.value > 0.1 and dependent.p_value < 0.02 and abs(dependent.null) < 0.01
    assert hsic(x, 3 * x).value == pytest.approx(1)
    assert hsic(x, np.ones((300, 2))).value == 0
    with pytest.raises(ValueError, match="same number of rows"):
        hsic(x, other[:10])


def test_hsic_null_is_uniform() -> None:
    rng = np.random.default_rng(1)
    p = [hsic(*rng.normal(size=(2, 40, 2)), permutations=19, seed=i).p_value for i in range(100)]
    assert 0.4 < np.mean(p) < 0.65 and np.mean(np.array(p) <= 0.1) < 0.2


def test_infonce_bounds_the_information_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    truth = -1.5 * math.log(1 - 0.8**2)  # 1.53 nats
    a, b = correlated(rng, 3000, 0.8, 3)
    found = infonce((a[:2000], b[:2000]), (a[2000:], b[2000:]))
    assert 0.85 * truth < found < truth + 0.1
    mixed = b @ rng.normal(size=(3, 3)) + 5  # information does not change under an invertible map
    assert infonce((a[:2000], mixed[:2000]), (a[2000:], mixed[2000:])) == pytest.approx(
        found, abs=0.05
    )
    few = infonce((a[:2000], b[:2000]), (a[2000:2003], b[2000:2003]))
    assert few <= math.log(3) + 1e-9


def test_infonce_of_independent_variables_is_not_above_zero() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 2000, 4))
    assert -0.1 < infonce((a[:1000], b[:1000]), (a[1000:], b[1000:])) < 0.02


def test_wilson_interval() -> None:
    low, high = wilson(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 50)[0] == 0 and wilson(0.0, 50)[1] == pytest.approx(0.0713, abs=1e-3)
    assert wilson(1.0, 50)[1] == 1


def test_accuracy_interval_accounts_for_shared_rows() -> None:
    hits = (np.random.default_rng(0).random((1000, 1)) < 0.7).astype(float)
    alone, copied = accuracy(hits), accuracy(np.repeat(hits, 5, 1))
    assert copied[0] == pytest.approx(alone[0]) and copied[1] == pytest.approx(
        alone[1]
    )  # five copies of a column tell nothing new
    independent = accuracy((np.random.default_rng(1).random((1000, 5)) < 0.7).astype(float))
    widths = [interval[1] - interval[0] for _, interval in (alone, independent)]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(5), rel=0.15)


def test_accuracy_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        hits = (rng.random((150, 3)) < 0.8).astype(float)
        hits[rng.random((150, 3)) < 0.3] = np.nan
        _, (low, high) = accuracy(hits)
        covered.append(low <= 0.8 <= high)
    assert 0.92 < np.mean(covered) < 0.98


def test_scores_leave_out_what_is_not_finite() -> None:
    a, b, c = (Metric(group="g", kind=kind) for kind in "abc")
    x, y = Way(target="x"), Way(target="y")
    scores = Scores()
    scores.add(a, float("nan"))
    scores.add_accuracy(b, {x: np.full(3, np.nan)})
    scores.add_accuracy(c, {x: np.array([1, 0, np.nan]), y: np.full(3, np.nan)})
    assert scores.metrics == {"c": 0.5, "c/x": 0.5} and set(scores.left_out) == {"a", "b"}
    assert [score.n for score in scores.records] == [2, 2]


def test_chance_is_that_of_the_pair_or_else_of_its_target_or_else_the_mean() -> None:
    chance = Chance(0.1, {Way(("a",), "b"): 0.2, Way(target="c"): 0.3})
    ways = (Way(("a",), "b"), Way(("a",), "c"), Way(("a", "b"), "c"), Way(("b",), "a"), Way())
    assert [chance.of(way) for way in ways] == [0.2, 0.3, 0.3, 0.1, 0.1]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"kind": "probe", "latent": "z", "label": "digit"}, "probe/z/digit"),
        ({"kind": "probe", "setting": "all", "label": "digit"}, "probe/all/digit"),
        (
            {"kind": "coherence", "setting": "cross", "label": "d", "given": ("a",), "target": "b"},
            "coherence/cross/d/a>b",
        ),
        (
            {"kind": "coherence", "setting": "unconditional", "label": "d", "prior": "gmm"},
            "coherence/unconditional/d@prior=gmm",
        ),
        (
            {"kind": "f1", "setting": "given", "size": 2, "given": ("a", "b"), "target": "c"},
            "f1/given2/a+b>c",
        ),
        (
            {"kind": "refinement/elbo", "setting": "given", "size": 1, "step": 0, "given": ("a",)},
            "refinement/elbo/given1/t0/a",
        ),
        ({"kind": "fid", "target": "a", "prior": "diffusion"}, "fid/a@prior=diffusion"),
    ],
)
def test_names_are_derived_from_the_fields_and_records_rebuild_the_score(
    fields: dict[str, Any], name: str
) -> None:
    score = Score(group="g", value=0.5, interval=(0.25, 0.75), chance=0.0, n=0, **fields)
    assert score.name == name and Score.of_record(json.loads(json.dumps(score.record()))) == score


def test_wrong_settings_of_a_metric_are_refused() -> None:
    with pytest.raises(ValueError, match="setting='joint' is unknown; choose from self"):
        Metric(group="g", kind="k", setting="joint")  # type: ignore[arg-type]
    settings: tuple[tuple[Setting, int | None], ...] = (("given", None), ("cross", 1))
    for setting, size in settings:
        with pytest.raises(ValueError, match="give a size with the setting 'given', and only"):
            Metric(group="g", kind="k", setting=setting, size=size)


def test_seeds_differ_by_purpose_and_rows_are_capped() -> None:
    assert len({seed_of(seed, purpose) for seed in (0, 1) for purpose in ("a", "b")}) == 4
    rows = chosen(100, 10, 3)
    assert (
        len(np.unique(rows)) == 10
        and (np.diff(rows) > 0).all()
        and (chosen(5, 10, 0) == np.arange(5)).all()
    )


def digit(value: float, chance: float | None = None, target: str | None = None) -> Score:
    return Score(
        group="probe",
        kind="probe",
        latent="z",
        label="digit",
        target=target,
        value=value,
        interval=(0.7, 0.8),
        chance=chance,
    )


def test_merge_and_json(tmp_path: Path) -> None:
    evaluations = [
        Evaluation((digit(v, chance=0.1),), {"seed": i}) for i, v in enumerate((0.2, 0.4, 0.6))
    ]
    information = Score(group="probe", kind="mi", latent="z", label="digit", value=1.0)
    evaluations[0] = replace(evaluations[0], scores=(*evaluations[0].scores, information))
    merged = merge(evaluations)
    assert merged.metrics["probe/z/digit"] == pytest.approx({"mean": 0.4, "std": 0.2, "n": 3})
    assert merged.metrics["mi/z/digit"] == {"mean": 1.0, "std": 0.0, "n": 1}
    assert merged.chance("probe/z/digit") == pytest.approx(0.1)
    path = merged.to_json(tmp_path / "new" / "evaluation.json")
    assert Evaluation.from_json(path) == merged and [p.name for p in path.parent.iterdir()] == [
        "evaluation.json"
    ]
    assert json.loads(path.read_text())["meta"]["merged"][2] == {"seed": 2}
    with pytest.raises(ValueError, match="already merged"):
        merge([merged])
    on_val = Evaluation((digit(0.2),), {"split": "val"})
    with pytest.raises(ValueError, match=r"different splits \(test, val\)"):
        merge([evaluations[0], on_val])
    assert (
        "measured on the validation split" in merge([on_val]).table()
        and "validation" not in merged.table()
    )


@pytest.mark.parametrize(
    ("meta", "complete"),
    [
        (
            {
                "split": "test",
                "groups": [
                    "likelihood",
                    "probe",
                    "coherence",
                    "quality",
                    "dependence",
                    "posterior",
                ],
            },
            True,
        ),
        (
            {
                "split": "val",
                "groups": [
                    "likelihood",
                    "probe",
                    "coherence",
                    "quality",
                    "dependence",
                    "posterior",
                ],
            },
            False,
        ),
        ({"split": "test", "groups": ["probe"]}, False),
    ],
)
def test_an_evaluation_is_complete_with_all_groups_on_test(
    meta: dict[str, Any], complete: bool
) -> None:
    assert Evaluation((), meta).complete is complete


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no evaluation"):
        merge([])


@pytest.mark.parametrize("content", ["", "[1]", '{"meta": {}}', '{"metrics": 3}'])
def test_broken_json_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not an evaluation") as error:
        Evaluation.from_json(path)
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    whole, broken = (Evaluation((digit(value),)) for value in (1.0, float("nan")))
    path = whole.to_json(tmp_path / "e.json")
    with pytest.raises(ValueError):
        broken.to_json(path)
    assert Evaluation.from_json(path) == whole and len(list(tmp_path.iterdir())) == 1


def test_table_shows_means_and_on_demand_each_modality() -> None:
    drawn = Score(
        group="coherence",
        kind="coherence",
        setting="unconditional",
        label="digit",
        prior="x",
        value=0.3,
        chance=0.01,
    )
    distance = Score(group="quality", kind="fid", value=3.5)
    scores = (distance, digit(0.75, 0.125), digit(0.8, 0.125, target="a"), drawn)
    evaluation = Evaluation(scores)
    lines = evaluation.table().splitlines()
    row = next(line for line in lines if "probe/z/digit" in line)
    assert row.split() == ["probe/z/digit", "0.750", "0.125", "[0.700,", "0.800]"]
    assert next(line for line in lines if "unconditional" in line).split() == [
        "coherence/unconditional/digit@prior=x",
        "0.300",
        "0.010",
    ]
    assert "probe/z/digit/a" not in evaluation.table() and "probe/z/digit/a" in evaluation.table(
        detail=True
    )
    assert evaluation.table().index("probe") < evaluation.table().index("fid")
    assert evaluation._repr_html_().startswith("<pre>") and "fid" in evaluation._repr_html_()
    assert repr(evaluation).startswith("Evaluation(4 scores of quality, probe, coherence on the")


def test_a_score_is_found_by_name_and_names_are_unique() -> None:
    evaluation = Evaluation((digit(0.5),), {"left_out": {"hsic/z,w": "no private latents"}})
    assert evaluation.score("probe/z/digit").value == 0.5
    with pytest.raises(ValueError, match="no score 'probe/z/digt'; did you mean 'probe/z/digit'"):
        evaluation.score("probe/z/digt")
    with pytest.raises(ValueError, match="it was left out: no private latents"):
        evaluation.score("hsic/z,w")
    with pytest.raises(ValueError, match="two scores have the name 'probe/z/digit'"):
        Evaluation((digit(0.5), digit(0.6)))


def test_a_group_of_ones_own_is_measured_once_it_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from counterpoint.metrics import GROUPS, Group, group_of, groups, register

    monkeypatch.setattr(groups, "GROUPS", {**GROUPS})
    own = Group("rows", ("rows",), lambda context: Scores(), needs=("judge",))
    register(own)
    assert group_of("rows/a") == "rows" and "rows" not in GROUPS
    assert groups.groups_for(["rows"], labelled=True) == ("judge", "rows")
    assert "rows" not in groups.groups_for(None, labelled=True)
    for wrong, message in (
        (own, "a group 'rows' is there already"),
        (Group("r", ("fid",), own.measure), "the kind 'fid' of group 'r' belongs to 'quality'"),
        (Group("r", ("r",), own.measure, needs=("x",)), "group 'r' needs 'x', which is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            register(wrong)


@pytest.mark.parametrize(
    ("metric", "group"),
    [
        ("mi/z/digit", "probe"),
        ("mi/z_i,z_j/a+b", "dependence"),
        ("judge/digit", "judge"),
        ("judge/match", "match"),
        ("fid@prior=diffusion", "quality"),
        ("retrieval@10/a>b", "retrieval"),
        ("impute/entries/rmse/a", "imputation"),
        ("posterior/kl/given1", "posterior"),
        ("f1/given2", "coherence"),
    ],
)
def test_a_metric_belongs_to_the_group_of_its_kind(metric: str, group: str) -> None:
    from counterpoint.metrics import group_of

    assert group_of(metric) == group
