"""Method: a model, the losses that train it, and the questions that a user may ask.

A named method is a constructor: it composes a model and stages of weighted losses from
a record of options, which is saved beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from torch import nn

from counterpoint import inference
from counterpoint.core.batch import Batch
from counterpoint.core.conversion import read_as
from counterpoint.core.memory import Budget, TooLarge, physical
from counterpoint.core.modality import Modality
from counterpoint.figures.plots import Plots
from counterpoint.methods.display import counted, parts_as_html
from counterpoint.methods.measurements import Measurements
from counterpoint.methods.options import CommonOptions, with_options_shown
from counterpoint.methods.saving import Saving
from counterpoint.methods.summary import Summary, summarised
from counterpoint.model.model import Model
from counterpoint.nn.modules import Trunk, weights_from
from counterpoint.objectives.loss import Terms
from counterpoint.objectives.stages import Stage
from counterpoint.training import afterwards, fitting
from counterpoint.training.trainable import Losses

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Rows
    from counterpoint.training import FitResult

TRAINING_COPIES = 4
"""Memory of training, in copies of the model: weights, gradients and Adam's two moments."""

SCALE_ROWS = 256
"""Training rows from which a model remembers the scale of its values."""


class Method(Measurements, Saving):
    """A trained or trainable method.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> method = cp.MVAE.from_config(modalities, {"shared_dim": 2}, seed=0)
    >>> method
    MVAE(x, y; z 2; 269,837 parameters)
    >>> method.config["shared_dim"], [stage.name for stage in method.stages]
    (2, [''])
    >>> method.encode({"x": [[0.0, 1.0, 2.0]]}).shared.shape  # y is missing
    torch.Size([1, 1, 2])

    Args:
        model: prior, decoders, posterior.
        stages: how it is trained, one after the other. Each starts from the best
            weights of the one before.

    Attributes:
        options: the record that a named method was made from; None for a method that is
            composed directly.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The paper, year and URL."""

    options_type: ClassVar[type[CommonOptions] | None] = None
    options: CommonOptions | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.options_type = getattr(cls.__init__, "options_type", None)
        if cls.options_type is not None:
            shown = with_options_shown(Method.for_data.__func__, cls.options_type, keep=3)  # type: ignore[attr-defined]
            cls.for_data = classmethod(shown)  # type: ignore[assignment, method-assign]

    def __init__(self, model: Model, *stages: Stage) -> None:
        super().__init__()
        names = [stage.name for stage in stages]
        if not stages or (len(stages) > 1 and ("" in names or len(set(names)) < len(names))):
            raise ValueError(
                f"a method has one stage, or several with names of their own; got {names}"
            )
        self.model = model
        self.parts = nn.ModuleList(loss for stage in stages for loss, _ in stage.losses)
        for stage in stages:
            for loss, _ in stage.losses:
                loss.check(model)
        self.stages = stages
        self.stage = stages[0]
        self._learning: Sequence[nn.Module] | None = None

    def __repr__(self) -> str:
        latents = ", ".join(f"{key} {size}" for key, size in self.model.latents.items())
        names = ", ".join(self.model.names)
        return f"{type(self).__name__}({names}; {latents}; {counted(self):,} parameters)"

    def _repr_html_(self) -> str:
        return parts_as_html(repr(self), self.model)

    @property
    def plot(self) -> Plots:
        """Its figures (:mod:`counterpoint.figures.plots`)."""
        return Plots(self)

    def summary(self) -> Summary:
        """Its parts, their shapes and parameters, and the rows that a step of training
        decodes; a table in print."""
        return summarised(self, self.name)

    # --- configuration ---------------------------------------------------------------

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.model.modalities.values())

    @property
    def config(self) -> dict[str, Any]:
        """All options, defaults included, as JSON values."""
        return {} if self.options is None else self.options.as_json()

    @classmethod
    def from_config(
        cls, modalities: Sequence[Modality], config: Mapping[str, Any], *, seed: int = 0
    ) -> Self:
        """Make an untrained method of a configuration.

        Args:
            modalities: in order.
            config: options by name, as :attr:`config` has them.
            seed: of the initial weights, as in :meth:`for_data`.

        Raises:
            ValueError: an unknown option, sizes beyond the memory of this computer, or
                a seed that is not a whole number of 0 or more.
        """
        budget = Budget(physical() // TRAINING_COPIES)
        construct: Any = cls  # a named method takes modalities and options
        if cls.options_type is None and config:
            raise ValueError(
                f"{cls.name} has no options, got {', '.join(config)}; let configured_by give its constructor a record"
            )
        options = {} if cls.options_type is None else vars(cls.options_type.of(config, cls.name))
        try:
            with budget, weights_from(seed):
                return construct(modalities, **options)
        except TooLarge as error:
            if error.budget is not budget:
                raise
            groups = {} if cls.options_type is None else cls.options_type.groups()
            sizes = {k: v for k, v in config.items() if isinstance(v, int) or k in groups}
            raise ValueError(
                f"{cls.name} takes {error}, more than this machine can train; lower the sizes in {sizes}"
            ) from None

    @classmethod
    def for_data(cls, data: Dataset, *, seed: int = 0, **options: Any) -> Self:
        """Make an untrained method for the modalities of a data set.

        The initial weights follow ``seed``; torch's own generator is left as it was.
        The order of the rows and the noise of training follow the ``seed`` of
        :meth:`fit`. ``for_data(data, seed=s)`` and ``fit(..., seed=s)`` are the run of
        the command ``counterpoint fit --seed s``. A constructor that is called directly
        draws from torch's generator.

        Args:
            data: gives the modalities.
            seed: of the initial weights.
            options: keywords of the constructor.

        Raises:
            ValueError: an unknown option, or a seed that is not a whole number of 0 or
                more.
        """
        method = cls.from_config(data.modalities, options, seed=seed)
        method._remember_scale(getattr(data, "train", None))
        return method

    def _remember_scale(self, train: Any) -> None:
        """Let a model that knows no scale remember that of some training rows. A stream
        is not read for this."""
        if hasattr(train, "batch") and not self.model.knows_scale:
            rows = np.unique(np.linspace(0, len(train) - 1, SCALE_ROWS).astype(int))
            self.model.remember_scale(read_as(train.batch(rows, self.device), self.modalities))

    # --- training --------------------------------------------------------------------

    def begin(self, stage: Stage | None) -> None:
        """Enter a stage: its losses count, and all else is frozen. None ends training
        and unfreezes everything."""
        self.stage = stage or self.stages[-1]
        self._learning = None if stage is None else stage.trains
        self.zero_grad()
        self.requires_grad_(self._learning is None)
        for module in self._learning or ():
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but modules that the stage does not train stay in evaluation
        mode. The imputers of gaps learn in the first stage only, since later ones may
        freeze the encoders."""
        super().train(mode and self._learning is None)
        for module in self._learning or ():
            module.train(mode)
        for filler in self.model.fillers:
            filler.train(mode and self.stage is self.stages[0])
        self.training = mode
        return self

    def losses(self, batch: Batch, step: int | None = None) -> Terms:
        """Weighted named terms of the current stage, (B,) each; the loss is the mean
        over B of their sum.

        Every encoder runs once, then every decoder once on all draws. Losses of weight
        0 are skipped.

        Args:
            batch: the rows.
            step: of training, for weights that rise. None takes their final values, so
                that validation compares steps by one objective.
        """
        self.model.observe(batch)
        return self.stage.terms(self.model, self.model.encode(batch), step)

    @wraps(fitting.fit)  # signature and description stand there
    def fit(self, train: Rows, val: Rows | None = None, **options: Any) -> FitResult:
        result = fitting.fit(self, train, val, **options)
        self._remember_scale(train)
        return result

    fit_prior = afterwards.fit_prior
    fit_decoder = afterwards.fit_decoder
    fit_refiner = afterwards.fit_refiner

    def compile_networks(self) -> None:
        """Compile encoders, decoders, the trunks of a joint encoder and denoisers in
        place, by ``torch.compile``.

        Raises:
            ValueError: an unrolled refiner, since compiled networks can't be
                differentiated twice.
        """
        if isinstance(self.model.refiner, inference.Refiner) and self.model.refiner.options.unroll:
            raise ValueError(
                "compile=True can't differentiate twice, as the refiner's unroll=True asks; leave out one of them"
            )
        trunks = [part for part in self.model.posterior.rule.modules() if isinstance(part, Trunk)]
        denoisers = [part.network for part in self.model.denoisings.values()]
        for network in (
            *self.model.posterior.encoders.values(),
            *trunks,
            *self.model.decoders.values(),
            *denoisers,
        ):
            network.compile()

    def compiled_losses(self) -> Losses:
        """Compile the networks, and return ``losses``."""
        self.compile_networks()
        return self.losses

    def draw_by(
        self,
        *,
        guidance: float | None = None,
        solver: str | None = None,
        solver_steps: int | None = None,
    ) -> None:
        """Set how diffusion decoders draw from now on; None keeps an option. It is not
        saved.

        Args:
            guidance: g. More than 1 amplifies the latents, at twice the cost, and needs
                decoders that were trained with ``condition_dropout``.
            solver: one of :data:`~counterpoint.diffusion.solvers.SOLVERS`.
            solver_steps: steps of the solver.

        Raises:
            ValueError: no diffusion decoder, or options that a decoder can't take.
        """
        wanted = [value for value in (guidance, solver, solver_steps) if value is not None]
        denoisings = [*self.model.denoisings.values()]
        if wanted and not denoisings:
            raise ValueError(
                "no decoder of this model draws by diffusion; leave out guidance and solvers, or fit one with fit_decoder"
            )
        changed = [part.options.drawing_by(guidance, solver, solver_steps) for part in denoisings]
        for part, options in zip(denoisings, changed, strict=True):
            part.options = options
