"""NAME: what is new about the method, in one sentence (Authors YEAR, URL).

Write down the loss here, with its symbols, and what the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import ProductRule
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(CommonOptions):
    """Options of :class:`Template`.

    Args:
        beta: weight β of the divergence from the prior.
    """

    beta: float = 1.0


class Template(Method):
    """A product of experts with shared latents only.

    Args:
        modalities: one or more.
        options: keywords, see :class:`TemplateOptions`.

    >>> Template([Modality("x", (5,)), Modality("y", (3,))], shared_dim=4).model.shared_dim
    4
    """

    name = "template"
    title = "Template (YEAR), https://arxiv.org/abs/..."

    @configured_by(TemplateOptions)
    def __init__(self, modalities: Sequence[Modality], options: TemplateOptions) -> None:
        model = build(modalities, options, rule=ProductRule(prior_expert="always"))
        bound = Bound(everything_to_everything, beta=options.beta)
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
