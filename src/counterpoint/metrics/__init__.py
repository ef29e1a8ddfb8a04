"""Metrics: probes, judges, coherence, quality, dependence, likelihood, and ``evaluate``, which runs them all."""

from __future__ import annotations

from .coherence import score_coherence
from .dependence import Hsic, hsic, infonce, score_dependence
from .evaluation import GROUPS, Evaluation, evaluate, merge
from .generations import Generations
from .judges import Judge, JudgeOptions, Judges, Seen, score_judges, train_judges
from .latents import Means, posterior_means
from .likelihood import score_likelihood
from .probes import Probe, probe, score_chance, score_probes
from .quality import Prdc, frechet, frechet_distance, prdc, score_quality

__all__ = [
    "GROUPS",
    "Evaluation",
    "Generations",
    "Hsic",
    "Judge",
    "JudgeOptions",
    "Judges",
    "Means",
    "Prdc",
    "Probe",
    "Seen",
    "evaluate",
    "frechet",
    "frechet_distance",
    "hsic",
    "infonce",
    "merge",
    "posterior_means",
    "prdc",
    "probe",
    "score_chance",
    "score_coherence",
    "score_dependence",
    "score_judges",
    "score_likelihood",
    "score_probes",
    "score_quality",
    "train_judges",
]
