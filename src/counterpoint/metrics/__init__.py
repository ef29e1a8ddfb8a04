"""Metrics: probes, judges, coherence, matches, retrieval, quality, dependence,
likelihood, imputation, and ``evaluate``, which runs them all."""

from __future__ import annotations

from counterpoint.metrics.agreement import score_f1
from counterpoint.metrics.binary_f1 import f1
from counterpoint.metrics.coherence import score_coherence
from counterpoint.metrics.dependence import Hsic, hsic, infonce, score_dependence
from counterpoint.metrics.evaluation import GROUPS, Evaluation, evaluate, group_of, merge
from counterpoint.metrics.extractors import read_extractor
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.imputation import score_imputation
from counterpoint.metrics.judges import (
    Judge,
    JudgeOptions,
    Judges,
    Seen,
    score_judges,
    train_judges,
)
from counterpoint.metrics.likelihood import score_likelihood
from counterpoint.metrics.matchers import Matchers, train_matchers
from counterpoint.metrics.matching import score_matches
from counterpoint.metrics.means import Means, joint_means, posterior_means
from counterpoint.metrics.posteriors import score_posteriors
from counterpoint.metrics.probes import Probe, probe, score_chance, score_joint_probes, score_probes
from counterpoint.metrics.quality import Prdc, frechet, frechet_distance, prdc, score_quality
from counterpoint.metrics.refinement import score_refinement
from counterpoint.metrics.retrieval import score_retrieval

__all__ = [
    "GROUPS",
    "Evaluation",
    "Generations",
    "Hsic",
    "Judge",
    "JudgeOptions",
    "Judges",
    "Matchers",
    "Means",
    "Prdc",
    "Probe",
    "Seen",
    "evaluate",
    "f1",
    "frechet",
    "frechet_distance",
    "group_of",
    "hsic",
    "infonce",
    "joint_means",
    "merge",
    "posterior_means",
    "prdc",
    "probe",
    "read_extractor",
    "score_chance",
    "score_coherence",
    "score_dependence",
    "score_f1",
    "score_imputation",
    "score_joint_probes",
    "score_judges",
    "score_likelihood",
    "score_matches",
    "score_posteriors",
    "score_probes",
    "score_quality",
    "score_refinement",
    "score_retrieval",
    "train_judges",
    "train_matchers",
]
