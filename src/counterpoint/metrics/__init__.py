"""Metrics: groups of scores, and ``evaluate``, which measures them.

Probes, dependence, judges, coherence, matches, retrieval, quality, posteriors,
refinement, likelihood and imputation.
"""

from __future__ import annotations

from counterpoint.metrics.agreement import score_f1
from counterpoint.metrics.binary_f1 import f1
from counterpoint.metrics.chance import majority_classes, smallest_classes
from counterpoint.metrics.coherence import score_coherence, score_judges
from counterpoint.metrics.context import Context, Group
from counterpoint.metrics.dependence import Hsic, hsic, infonce, score_dependence
from counterpoint.metrics.direction import Direction, direction, is_leak
from counterpoint.metrics.evaluating import evaluate
from counterpoint.metrics.evaluation import Evaluation, merge
from counterpoint.metrics.extractors import read_extractor
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.groups import GROUPS, group_of, register
from counterpoint.metrics.imputation import score_imputation
from counterpoint.metrics.judge_fitting import JudgeOptions
from counterpoint.metrics.judges import Judge, Judges, train_judges
from counterpoint.metrics.likelihood import score_likelihood
from counterpoint.metrics.matchers import Matchers, train_matchers
from counterpoint.metrics.matching import score_matches
from counterpoint.metrics.means import Means, means_given_all, posterior_means
from counterpoint.metrics.names import check_names
from counterpoint.metrics.posteriors import score_posteriors
from counterpoint.metrics.probes import (
    Probe,
    ProbeSettings,
    probe,
    score_probes,
    score_probes_given_all,
)
from counterpoint.metrics.quality import Prdc, frechet, frechet_distance, prdc, score_quality
from counterpoint.metrics.recorded import Recorded, numbered
from counterpoint.metrics.refinement import score_refinement
from counterpoint.metrics.retrieval import score_retrieval
from counterpoint.metrics.score import Metric, Score, Way
from counterpoint.metrics.scores import Chance, Scores
from counterpoint.metrics.seen import Seen

__all__ = [
    "GROUPS",
    "Chance",
    "Context",
    "Direction",
    "Evaluation",
    "Generations",
    "Group",
    "Hsic",
    "Judge",
    "JudgeOptions",
    "Judges",
    "Matchers",
    "Means",
    "Metric",
    "Prdc",
    "Probe",
    "ProbeSettings",
    "Recorded",
    "Score",
    "Scores",
    "Seen",
    "Way",
    "check_names",
    "direction",
    "evaluate",
    "f1",
    "frechet",
    "frechet_distance",
    "group_of",
    "hsic",
    "infonce",
    "is_leak",
    "majority_classes",
    "means_given_all",
    "merge",
    "numbered",
    "posterior_means",
    "prdc",
    "probe",
    "read_extractor",
    "register",
    "score_coherence",
    "score_dependence",
    "score_f1",
    "score_imputation",
    "score_judges",
    "score_likelihood",
    "score_matches",
    "score_posteriors",
    "score_probes",
    "score_probes_given_all",
    "score_quality",
    "score_refinement",
    "score_retrieval",
    "smallest_classes",
    "train_judges",
    "train_matchers",
]
