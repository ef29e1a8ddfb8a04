"""Metrics: probes, judges, coherence, matches, retrieval, quality, dependence, likelihood, imputation, and ``evaluate``, which runs them all."""

from __future__ import annotations

from .agreement import f1, score_f1
from .coherence import score_coherence
from .dependence import Hsic, hsic, infonce, score_dependence
from .evaluation import GROUPS, Evaluation, evaluate, group_of, merge
from .extractors import read_extractor
from .generations import Generations
from .imputation import score_imputation
from .judges import Judge, JudgeOptions, Judges, Seen, score_judges, train_judges
from .latents import Means, joint_means, posterior_means
from .likelihood import score_likelihood
from .matching import Matchers, score_matches, train_matchers
from .posteriors import score_posteriors
from .probes import Probe, probe, score_chance, score_joint_probes, score_probes
from .quality import Prdc, frechet, frechet_distance, prdc, score_quality
from .refinement import score_refinement
from .retrieval import score_retrieval

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
