"""Method: a model, the losses it is trained by, and what a user may ask of it.

A concrete method is a constructor only: it composes a model and a list of weighted
losses. Its keywords are its configuration, which is saved beside the weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint import inference
from counterpoint.core import checks, noise
from counterpoint.core.batch import Batch
from counterpoint.core.conversion import read_as
from counterpoint.core.covariates import Covariates, columns
from counterpoint.core.latents import Latents
from counterpoint.core.memory import Budget, TooLarge, physical
from counterpoint.core.modality import Modality
from counterpoint.diffusion import Sampler
from counterpoint.model import format as saving
from counterpoint.model.decoders import Draw
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.fitted_priors import SamplerName
from counterpoint.model.model import Model
from counterpoint.model.rules import PosteriorProduct, Rule
from counterpoint.nn.evaluation import evaluating
from counterpoint.nn.modules import Trunk, weights_from
from counterpoint.objectives.loss import Terms, added
from counterpoint.objectives.stages import Stage
from counterpoint.training.trainable import Losses, TrainableModel

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Rows
    from counterpoint.training import FitResult

Values = Batch | Mapping[str, Tensor | np.ndarray]

RuleLike = Rule | Literal["own", "product"]

TRAINED = 4
"""How many times its own memory a model takes in training: weights, gradients and the
two moments of Adam."""


SCALE_ROWS = 256
"""Training rows from which a model remembers the scale of its values."""


class Method(TrainableModel):
    """A trained or trainable method.

    Args:
        model: prior, decoders, posterior.
        stages: how it is trained, one after the other, each from the best weights of
            the one before.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The paper, year and URL."""

    def __new__(
        cls, modalities: Sequence[Modality] = (), **options: Any
    ) -> Self:  # copies are made without arguments
        self = super().__new__(cls)
        for key, parameter in inspect.signature(cls).parameters.items():
            wanted = type(parameter.default)
            if (
                key in options
                and dataclasses.is_dataclass(wanted)
                and not isinstance(options[key], wanted)
            ):
                fields = ", ".join(f.name for f in dataclasses.fields(wanted))
                raise TypeError(
                    f"{key}={checks.shown(options[key])} must be {wanted.__name__}(...), whose options are {fields}"
                )
        object.__setattr__(self, "_options", options)
        return self

    def __init_subclass__(cls) -> None:
        """A concrete method's constructor checks its options by their annotations."""
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = checks.arguments(cls.__init__)  # type: ignore[method-assign]

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

    # --- configuration -----------------------------------------------------------------------------------------------

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.model.modalities.values())

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's keywords, defaults included, as JSON values."""
        defaults = {
            k: p.default
            for k, p in inspect.signature(type(self)).parameters.items()
            if k != "modalities"
        }
        return {k: _to_json(v) for k, v in {**defaults, **self._options}.items()}  # type: ignore[dict-item]

    @classmethod
    def from_config(
        cls, modalities: Sequence[Modality], config: Mapping[str, Any], *, seed: int = 0
    ) -> Self:
        """A fresh method of the given configuration.

        Args:
            modalities: in order.
            config: keywords of the constructor, as :attr:`config` has them.
            seed: of the initial weights, as in :meth:`for_data`.

        Raises:
            ValueError: a key that this method does not have, or a seed that is no whole
                number of 0 or more.
        """
        parameters = {
            k: p for k, p in inspect.signature(cls).parameters.items() if k != "modalities"
        }
        unknown = [k for k in config if k not in parameters]
        if unknown:
            raise ValueError(
                f"{cls.name} has no option {unknown[0]!r}; its options are {', '.join(parameters)}"
            )
        options = {}
        for key, value in config.items():
            kind: Any = type(parameters[key].default)
            nested = dataclasses.is_dataclass(kind) and isinstance(value, Mapping)
            fields = [f.name for f in dataclasses.fields(kind)] if nested else []
            strange = [name for name in value if name not in fields] if nested else []
            if strange:
                raise ValueError(
                    f"{cls.name}.{key} has no option {strange[0]!r}; its options are {', '.join(fields)}"
                )
            options[key] = kind(**value) if nested else value
        construct: Any = cls  # a concrete method, whose constructor takes modalities and options
        budget = Budget(physical() // TRAINED)
        try:
            with budget, weights_from(seed):
                return construct(modalities, **options)
        except TooLarge as error:
            if error.budget is not budget:
                raise
            sizes = {
                key: value
                for key, value in config.items()
                if isinstance(value, int | Mapping) or dataclasses.is_dataclass(value)
            }
            raise ValueError(
                f"{cls.name} takes {error}, more than this machine can train; lower the sizes in {sizes}"
            ) from None

    @classmethod
    def for_data(cls, data: Dataset, *, seed: int = 0, **options: Any) -> Self:
        """A fresh method for the modalities of a data set.

        One rule for seeds: the initial weights follow the ``seed`` given here, whatever
            torch's own generator has drawn before, and that is left as it was; the
            order of the rows and the noise of training follow the ``seed`` of
            :meth:`fit`. ``for_data(data, seed=s)`` and ``fit(..., seed=s)`` are the run
            of the command ``counterpoint fit --seed s``. Only a constructor that is
            called by itself draws from torch's generator.

        Args:
            data: whose modalities the method is for.
            seed: of the initial weights.
            options: the constructor's keywords.

        Raises:
            ValueError: an option that this method does not have, or a seed that is no
                whole number of 0 or more.
        """
        method = cls.from_config(data.modalities, options, seed=seed)
        method._remember_scale(getattr(data, "train", None))
        return method

    def _remember_scale(self, train: Any) -> None:
        """Let the model know the scale of some training rows, where it knows none; of a
        stream, which would be read for it, it knows none."""
        if hasattr(train, "batch") and not self.model.knows_scale:
            rows = np.unique(np.linspace(0, len(train) - 1, SCALE_ROWS).astype(int))
            self.model.remember_scale(read_as(train.batch(rows, self.device), self.modalities))

    # --- training ----------------------------------------------------------------------------------------------------

    def begin(self, stage: Stage | None) -> None:
        """Enter a stage: its losses count, and what it does not train is frozen. None
        ends training: nothing is frozen any more."""
        self.stage = stage or self.stages[-1]
        self._learning = None if stage is None else stage.trains
        self.zero_grad()
        self.requires_grad_(self._learning is None)
        for module in self._learning or ():
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As in torch; what the stage does not train stays in evaluation mode. What
        encoders read in gaps is learned in the first stage, whatever that trains, and
        stays as it is in later ones, whose encoders may be frozen."""
        super().train(mode and self._learning is None)
        for module in self._learning or ():
            module.train(mode)
        for filler in self.model.fillers:
            filler.train(mode and self.stage is self.stages[0])
        self.training = mode
        return self

    def losses(self, batch: Batch, step: int | None = None) -> Terms:
        """Weighted named terms of the present stage, (B,) each; the loss is the mean
        over B of their sum.

        Every encoder runs once, then every decoder once on what all parts of the loss
        asked for. Parts whose weight is 0 are skipped.

        Args:
            batch: the rows.
            step: of training, which sets the weights that rise. None takes the weights
                they rise to: the objective of the stage, by which validation compares
                the weights of one step with those of another.
        """
        active = [(loss, weight) for loss, ramp in self.stage.losses if (weight := ramp(step)) > 0]
        self.model.observe(batch)
        encoding = self.model.encode(batch)
        asks = [loss(self.model, encoding) for loss, _ in active]
        ask = added(asks, [weight for _, weight in active])
        return ask.answered(self.model, batch.covariates)

    def fit(self, train: Rows, val: Rows | None = None, **options: Any) -> FitResult:
        """Train with Lightning; see ``counterpoint.training.fit`` for the options."""
        from counterpoint.training import fit

        result = fit(self, train, val, **options)
        self._remember_scale(train)
        return result

    def fit_prior(
        self,
        train: Rows,
        *,
        kind: SamplerName = "diffusion",
        size: int | None = None,
        of: Literal["means", "samples"] = "means",
        **options: Any,
    ) -> list[float]:
        """Fit samplers of z and every w_m to the posteriors of a trained method,
        whatever its own loss has.

        Args:
            train: the rows whose posteriors to learn.
            kind: ``"diffusion"``, ``"score"``, ``"score-ode"``, ``"flow"`` or
                ``"gmm"``. Those there already are replaced; generation then draws from
                these.
            size: width of the networks, or number of the mixture's components; None for
                512, 512, 512, 128 or 10.
            of: learn posterior ``"means"`` or ``"samples"``.
            options: keywords of ``counterpoint.training.fit_prior``: steps, batch_size,
                lr, seed, progress.

        Returns:
            The mean loss of every hundred steps; of a mixture, its mean negative
            log-likelihood.
        """
        from counterpoint.training import fit_prior

        return fit_prior(self, train, kind=kind, size=size, of=of, **options)

    def fit_decoder(
        self,
        train: Rows,
        val: Rows | None = None,
        *,
        denoiser: DenoiserOptions,
        **options: Any,
    ) -> FitResult:
        """Fit diffusion decoders in the place of some of a trained method's, which
        otherwise stays as it is: sharp images of the same latents
        (:func:`counterpoint.training.fit_decoder`).

        Args:
            train: the rows to learn from.
            val: the rows to validate on.
            denoiser: which modalities, and what kind of decoder.
            options: how to train, as for ``fit``.
        """
        from counterpoint.training import fit_decoder

        return fit_decoder(self, train, val, denoiser=denoiser, **options)

    def fit_refiner(
        self,
        train: Rows,
        *,
        refiner: inference.RefinerOptions | None = None,
        **options: Any,
    ) -> list[float]:
        """Fit a network that refines the posteriors of a trained method, which stays as
        it is (:mod:`counterpoint.inference.refinement`).

        Args:
            train: the rows whose posteriors to refine.
            refiner: its steps, signals and sizes. One that is there already is
                replaced.
            options: keywords of ``counterpoint.training.fit_refiner``: beta, steps,
                batch_size, lr, seed, progress.

        Returns:
            The mean of −ELBO over the refinement, of every hundred steps.
        """
        from counterpoint.training import fit_refiner

        return fit_refiner(self, train, refiner=refiner, **options)

    def compile_networks(self) -> None:
        """Let ``torch.compile`` fuse the encoders and decoders, in place; of a joint
        encoder its trunks, of diffusion decoders their denoisers.

        Raises:
            ValueError: a refiner that is unrolled, for what is compiled can't be
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
        """The losses, over networks that are compiled."""
        self.compile_networks()
        return self.losses

    def draw_by(
        self,
        *,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        sampler_steps: int | None = None,
    ) -> None:
        """How diffusion decoders draw from now on; None leaves as it is. It is not
        saved.

        Args:
            guidance: g: more than 1 exaggerates what latents say, at twice the cost;
                for decoders that were trained with dropped latents.
            sampler: from noise to values.
            sampler_steps: how many steps it takes.

        Raises:
            ValueError: no decoder draws by diffusion, or options that a decoder can't
                take.
        """
        wanted = [value for value in (guidance, sampler, sampler_steps) if value is not None]
        denoisings = [*self.model.denoisings.values()]
        if wanted and not denoisings:
            raise ValueError(
                "no decoder of this model draws by diffusion; leave out guidance and samplers, or fit one with fit_decoder"
            )
        changed = [part.options.drawing_by(guidance, sampler, sampler_steps) for part in denoisings]
        for part, options in zip(denoisings, changed, strict=True):
            part.options = options

    # --- inference ---------------------------------------------------------------------------------------------------

    @property
    def priors(self) -> tuple[str, ...]:
        """Priors that generation can draw from: the density of the objective, and
        learned samplers in the order they were made."""
        return ("standard", *self.model.samplers)

    @checks.arguments
    def encode(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        samples: int | None = None,
        rule: RuleLike = "own",
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Latents:
        """Latents given some modalities (all that are there by default).

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to condition on.
            samples: None for posterior means (K = 1), else the number K of draws.
            rule: how q(z | x_S) is made of what the encoders say: the method's
                ``"own"`` rule; ``"product"``, the product of unimodal posteriors, each
                over its own marginal or over the prior, times the prior
                (:class:`~counterpoint.model.rules.PosteriorProduct`), by Hamiltonian
                Monte Carlo where it has no closed form; or a rule.
            refine: steps by which the refiner improves the posterior for what is given;
                None for none.
            generator: of the draws; torch's own where None.

        Returns:
            Shared (K, B, D); private (K, B, D_m) of each given modality.

        Raises:
            ValueError: an unknown or empty ``given``, a row with none of it, or
                ``refine`` of less than one step, without a refiner, or of a posterior
                that has no parameters.
        """
        checks.whole("samples", 1 if samples is None else samples)
        with self.answering() as model, noise.seeded(generator):
            batch, names = self._given(x, given)
            return inference.posterior_latents(
                model, model.encode(batch), names, samples, self._rule(rule), refine
            )

    @checks.arguments
    def refine(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        steps: int | None = None,
        by: Literal["refiner", "gradient"] = "refiner",
        lr: float = 0.03,
        samples: int = 10,
        generator: torch.Generator | None = None,
    ) -> inference.Trace:
        """The posterior given some modalities, refined step by step, and the bound at
        each.

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to condition on; all that are there by
                default.
            steps: T; by default the refiner's own number, or 100 by gradient.
            by: the model's ``"refiner"``, or ``"gradient"``: ascent by Adam from the
                same start, without any network, which shows what is left to gain.
            lr: of the ascent; it falls to zero by a cosine.
            samples: draws by which the bound is measured.
            generator: of the draws.

        Returns:
            λ_0 .. λ_T, the bound in nats (T + 1, B), and the rows that stopped early.

        Raises:
            ValueError: no step, no refiner, or a posterior that has no parameters.
        """
        if by not in ("refiner", "gradient"):
            raise ValueError(f"by={by!r} is unknown; choose 'refiner' or 'gradient'")
        checks.whole("samples", samples)
        with self.answering() as model, noise.seeded(generator):
            batch, names = self._given(x, given)
            encoding = model.encode(batch)
            start = inference.approximation(model, encoding, names)
            beta = model.refiner.beta if isinstance(model.refiner, inference.Refiner) else 1.0
            if by == "refiner":
                trace = inference.refined(model, encoding, names, start, steps)
            else:
                trace = inference.ascended(
                    model,
                    encoding,
                    names,
                    start,
                    steps=100 if steps is None else steps,
                    lr=lr,
                    beta=beta,
                )
            bounds = inference.measured(
                model, encoding, trace.steps, names, samples=samples, beta=beta
            )
            return dataclasses.replace(trace, elbo=bounds)

    @checks.arguments
    def decode(
        self,
        latents: Latents,
        to: Sequence[str] | None = None,
        *,
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Decoder means (K, B, *shape) by modality; for words, probabilities (K, B,
        length, vocabulary).

        Args:
            latents: of ``encode``, for instance.
            to: modalities to decode; by default those whose private latents are there.
            covariates: what decoders read beside latents, as
                :func:`~counterpoint.core.covariates.columns`; by default the average of
                the training rows.
            generator: of what diffusion decoders draw.

        Raises:
            ValueError: a target whose private latent is missing.
        """
        self._check_latents(latents)
        here = [
            name
            for name in self.model.names
            if name not in self.model.private_dims or name in latents.private
        ]
        targets = self._targets(here if to is None else to)
        lacking = [name for name in targets if name not in here]
        if lacking:
            raise ValueError(
                f"decoding {lacking[0]!r} needs its private latent, which is not given; use translate to draw it from the prior"
            )
        known = self._columns(covariates, latents.shared.shape[1])
        with self.answering() as model, noise.seeded(generator):
            return inference.means(model, [Draw(latents, targets)], known)[0]

    @checks.arguments
    def reconstruct(
        self, x: Values, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Every modality from its own posterior means, (B, *shape); where a row lacks
        it, from the rest of the row, with w at the private prior's mean."""
        with self.answering() as model, noise.seeded(generator):
            batch = self._batch(x)
            encoding = model.encode(batch)
            everything = model.posterior.condition(encoding, model.names).centre
            draws = []
            for name in model.names:
                alone = model.posterior.condition(encoding, (name,)).centre
                own = torch.where(batch.present[name].unsqueeze(-1), alone, everything)
                private = (
                    {name: encoding.private[name].centre[None]} if name in encoding.private else {}
                )
                draws.append(Draw(Latents(own[None], private), (name,)))
            made = inference.means(model, draws, batch.covariates, batch.x)
            return {name: out[name].squeeze(0) for name, out in zip(model.names, made, strict=True)}

    @checks.arguments
    def translate(
        self,
        x: Values,
        to: Sequence[str] | None = None,
        n: int = 1,
        *,
        prior: str = "auto",
        rule: RuleLike = "own",
        refine: int | None = None,
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Generate the target modalities from those in ``x``, (n, B, *shape) means.

        z comes from the posterior, by ``rule`` and ``refine`` as in ``encode``; the
        private latent of a target from its own posterior if it is in ``x``, else from
        the prior. What is decoded has the ``covariates`` given, as in ``decode``,
        whatever those of ``x`` are; without, it has those of ``x``, or the average of
        the training rows where it has none. To translate to itself with other
        covariates is to take their effect away.
        """
        checks.whole("n", n)
        with self.answering() as model, noise.seeded(generator):
            batch, names = self._given(x, None)
            known = (
                batch.covariates if covariates is None else self._columns(covariates, len(batch))
            )
            targets = self._targets(to)
            latents = inference.posterior_latents(
                model, model.encode(batch), names, n, self._rule(rule), refine
            )
            draw = partial(model.draw_prior, prior=self._prior(prior))
            latents = inference.completed(model, latents, targets, batch.present, draw)
            return inference.means(model, [Draw(latents, targets)], known, batch.x)[0]

    @checks.arguments
    def impute(
        self,
        x: Values,
        given: Sequence[str] | None = None,
        *,
        to: Sequence[str] | None = None,
        n: int = 100,
        level: float = 0.9,
        samples: bool = False,
        prior: str = "auto",
        rule: RuleLike = "own",
        refine: int | None = None,
        covariates: Covariates | None = None,
        totals: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> inference.Imputation:
        """Fill what is missing by the mean of its predictive distribution, with an
        interval for each value (:mod:`counterpoint.inference.imputation`).

        Args:
            x: a batch, or arrays by modality.
            given: names of the modalities to go by, all that are there by default;
                others are filled in every row, as if they were not there. A row that
                has none of them stays missing: NaN, and −1 for ids
                (``Imputation.left``).
            to: modalities to fill; all by default.
            n: draws of the latents and of the values; 199 or more for intervals of 99
                %.
            level: probability with which a value lies inside its interval, if the model
                is right.
            samples: return the draws, too.
            prior: of private latents, as in ``sample``.
            rule, refine: of the posterior of z, as in ``encode``.
            covariates: as in ``translate``.
            totals: by modality of counts, the totals (B,) of rows that are filled,
                where they are known; that of a usual row by default.
            generator: of the draws.
            progress: called with a number of rows, whenever so many more are done.

        Returns:
            By modality, values with what is there kept, (B, *shape); ends of the
            intervals, and for words, which have none, probabilities; what was filled;
            draws (n, B, *shape) where asked for.

        Raises:
            ValueError: an unknown or empty ``given`` or ``to``, no row with any of
                ``given``, a level outside (0, 1), or too few draws for it.
        """
        with self.answering() as model, noise.seeded(generator):
            batch = self._batch(x)
            known_totals = self._totals(totals or {}, len(batch))
            if (known := self._columns(covariates, len(batch))) is not None:
                batch = dataclasses.replace(batch, covariates=known)
            names = self._names(batch, given)
            here = torch.stack(
                [batch.present[name] for name in names if name in batch.present]
                or [*batch.present.values()]
            ).any(0)
            whole = bool(
                here.all() or not here.any()
            )  # what is wrong with all rows is said by ``only``
            if not whole:
                known_totals = {name: of_rows[here] for name, of_rows in known_totals.items()}
            found = inference.imputed(
                model,
                (batch if whole else batch[here]).only(names),
                tuple(name for name in self.model.names if name in names),
                self._targets(to),
                n=n,
                level=level,
                prior=self._prior(prior),
                rule=self._rule(rule),
                refine=refine,
                samples=samples,
                totals=known_totals,
                progress=progress,
            )
            return found if whole else found.among(here)

    @checks.arguments
    def sample(
        self,
        n: int,
        *,
        prior: str = "auto",
        covariates: Covariates | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Unconditional samples of all modalities, (n, *shape) means.

        Args:
            prior: ``"standard"``, the kind of a learned sampler, or ``"auto"``: the
                sampler learned last, where there is one.
            covariates: as in ``decode``.
        """
        known = self._columns(covariates, checks.whole("n", n))
        with self.answering() as model, noise.seeded(generator):
            draw = partial(model.draw_prior, prior=self._prior(prior))
            latents = inference.completed(model, Latents(draw("z", (1, n))), model.names, {}, draw)
            return {
                name: x.squeeze(0)
                for name, x in inference.means(model, [Draw(latents, model.names)], known)[
                    0
                ].items()
            }

    @checks.arguments
    def recombine(
        self, shared: Values, private: Values, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """What ``shared`` says in the manner of ``private``: each modality decoded from
        the z of the one and the w, the covariates and the totals of counts of the
        other, (B, *shape).

        Raises:
            ValueError: a method without private latents.
        """
        if not self.model.private_dims:
            raise ValueError(
                f"{self.name} has no private latents to recombine; use a method that has, such as idmvae or mmvae+"
            )
        with self.answering() as model, noise.seeded(generator):
            what, manner = model.encode(self._batch(shared)), model.encode(self._batch(private))
            if len(what.batch) != len(manner.batch):
                raise ValueError(
                    f"recombine pairs rows, but shared has {len(what.batch)} and private {len(manner.batch)}; give equally many"
                )
            z = model.posterior.condition(what, model.names).centre[None]
            latents = Latents(z, {name: w.centre[None] for name, w in manner.private.items()})
            made = inference.means(
                model, [Draw(latents, model.names)], manner.batch.covariates, manner.batch.x
            )[0]
            return {name: x.squeeze(0) for name, x in made.items()}

    @checks.arguments
    def log_likelihood(
        self,
        x: Values,
        samples: int = 1000,
        *,
        refine: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x) of what each row has, in nats, (B,), by importance sampling from the
        posterior, refined as in ``encode``; refused for decoders without an exact
        density."""
        with self.answering() as model, noise.seeded(generator):
            return inference.log_likelihood(
                model, model.encode(self._batch(x)), samples, refine=refine
            )

    @checks.arguments
    def divergence(
        self,
        x: Values,
        given: Sequence[str],
        *,
        samples: int = 100,
        rule: RuleLike = "own",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """KL(q(z | X) ‖ q(z | x_S)) in nats, (B,), by Monte Carlo: how far the
        posterior given S is from that given everything.

        Raises:
            ValueError: an unknown or empty ``given``, a row that lacks a modality, or
                no sample.
        """
        checks.whole("samples", samples)
        with self.answering() as model, noise.seeded(generator):
            batch, names = self._batch(x), self._given(x, given)[1]
            lacking = ~torch.stack([*batch.present.values()]).all(0)
            if bool(lacking.any()):
                raise ValueError(
                    f"row {int(lacking.nonzero()[0])} lacks a modality; the divergence compares with what all of them say"
                )
            return inference.divergence(
                model, model.encode(batch), names, samples, self._rule(rule)
            )

    @checks.arguments
    def diagnose(
        self,
        x: Values,
        given: Sequence[str],
        *,
        rule: RuleLike = "own",
        generator: torch.Generator | None = None,
    ) -> inference.Diagnostics | None:
        """How the chains that sample q(z | x_S) fare: acceptance, divergences, R-hat,
        effective sample size, improper rows; one value each for every row that takes
        chains. None where that posterior takes none.

        Raises:
            ValueError: an unknown or empty ``given``.
        """
        with self.answering() as model, noise.seeded(generator):
            batch, names = self._given(x, given)
            return inference.diagnose(model, model.encode(batch), names, self._rule(rule))

    # --- saving ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors``; whatever happens meanwhile,
        the folder holds the former model or the new one.

        Raises:
            OSError: the disk is full or the folder cannot be written; the folder holds
                the model that it held.
        """
        folder = Path(folder)
        record = {
            "method": self.name,
            "modalities": [dataclasses.asdict(m) for m in self.modalities],
            "config": self.config,
            "samplers": self.model.sampler_sizes,
            "denoisers": [dataclasses.asdict(options) for options in self.model.denoisers.values()],
        }
        if isinstance(refiner := self.model.refiner, inference.Refiner):
            record["refiner"] = {
                "latents": refiner.latents,
                "options": dataclasses.asdict(refiner.options),
                "beta": refiner.beta,
            }
        saving.keep(folder, record, self._weights())
        return folder

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights as ``save_pretrained`` writes them."""
        return saving.checksum(self._weights())

    def push_to_hub(
        self, repository: str, *, token: str | None = None, private: bool = False
    ) -> str:
        """Upload what ``save_pretrained`` writes to a model repository of the Hugging
        Face Hub, made where there is none.

        Args:
            repository: "owner/name".
            token: of an account that may write there; by default the one this machine
                is logged in with.
            private: of a new repository.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder))

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}

    @contextmanager
    def answering(self) -> Iterator[Model]:
        """Evaluation mode and no gradient, both restored afterwards: the mode by the
        last of the threads that ask at once.

        Raises:
            MemoryError: what is asked takes more memory than there is.
        """
        with evaluating(self):
            yield self.model

    def _batch(self, x: Values) -> Batch:
        """The one door: values as the model reads them, on its device and in its
        precision."""
        given = (
            x
            if isinstance(x, Batch)
            else Batch.of(x, modalities=self.modalities, device=self.device)
        )
        if len(given) == 0:
            raise ValueError("the batch has no rows (0); give at least one")
        parameter = next(self.parameters())
        batch = read_as(given.to(parameter.device), self.modalities)
        if strange := self.model.on_another_scale(batch):
            warnings.warn(strange, stacklevel=3)
        values = {
            name: v.to(parameter.dtype) if v.is_floating_point() else v
            for name, v in batch.x.items()
        }
        return dataclasses.replace(batch, x=values)

    def _check_latents(self, latents: Latents) -> None:
        """Refuse latents that are not of this model's sizes, or of other rows than each
        other, by ValueError."""
        parts = {"z": latents.shared} | {f"w_{name}": w for name, w in latents.private.items()}
        lead = tuple(getattr(latents.shared, "shape", ()))[:2]
        for key, values in parts.items():
            if not isinstance(values, Tensor):
                raise ValueError(
                    f"the latents {key!r} are {checks.shown(values)}, expected a tensor (K, B, D)"
                )
            if key not in self.model.latents:
                raise ValueError(
                    f"the latents hold {key!r}, and this model has {', '.join(self.model.latents)}; give it latents of its own"
                )
            wanted = (*lead, self.model.latents[key])
            if values.ndim != 3 or tuple(values.shape) != wanted or 0 in wanted:
                raise ValueError(
                    f"the latents {key!r} have shape {tuple(values.shape)}, expected (K, B, {wanted[-1]}) with one K and B of 1 or more for all"
                )

    def _given(self, x: Values, given: Sequence[str] | None) -> tuple[Batch, tuple[str, ...]]:
        batch = self._batch(x)
        names = self._names(batch, given)
        return batch.only(names), tuple(name for name in self.model.names if name in names)

    def _names(self, batch: Batch, given: Sequence[str] | None) -> Sequence[str]:
        """What is to be gone by: as given, or all that some row has."""
        if isinstance(given, str):
            raise ValueError(f"given={given!r} must be a list of names, such as [{given!r}]")
        return (
            [name for name in self.model.names if bool(batch.present[name].any())]
            if given is None
            else given
        )

    def _columns(self, covariates: Covariates | None, rows: int) -> Tensor | None:
        return (
            None
            if covariates is None
            else columns(covariates, self.model.covariates, rows, self.device)
        )

    def _targets(self, to: Sequence[str] | None) -> tuple[str, ...]:
        if isinstance(to, str):
            raise ValueError(f"to={to!r} must be a list of names, such as [{to!r}]")
        targets = self.model.names if to is None else tuple(to)
        unknown = [name for name in targets if name not in self.model.names]
        if unknown or not targets:
            what = (
                f"unknown modality {unknown[0]!r}"
                if unknown
                else f"to={to!r} names no target modality"
            )
            raise ValueError(f"{what}; choose from {', '.join(self.model.names)}")
        return targets

    def _totals(self, totals: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Totals by modality; those of what are no counts, and those that are not one
        for each row, are refused by ValueError."""
        found = {}
        for name, values in totals.items():
            if name not in self.model.names or not self.model.modalities[name].counts:
                counts = ", ".join(m.name for m in self.modalities if m.counts) or "none"
                raise ValueError(
                    f"totals name {name!r}, which are no counts; the modalities of counts are {counts}"
                )
            totals_of = _number_tensor(f"totals of {name!r}", values)
            if totals_of.shape != (rows,) or not bool(
                ((totals_of >= 0) & totals_of.isfinite()).all()
            ):
                raise ValueError(
                    f"totals of {name!r} must be {rows} numbers that are not negative, one for each row, got {checks.shown(values)}"
                )
            found[name] = totals_of.to(self.device)
        return found

    def _rule(self, rule: RuleLike) -> Rule | None:
        if isinstance(rule, Rule):
            return rule
        if rule not in ("own", "product"):
            raise ValueError(f"rule={rule!r} is unknown; choose 'own', 'product', or give a Rule")
        return (
            PosteriorProduct(self.model.posterior.rule.hmc, prior=self.model.prior())
            if rule == "product"
            else None
        )

    def _prior(self, prior: str) -> str:
        if prior == "auto":
            return self.priors[-1]
        if prior not in self.priors:
            raise ValueError(
                f"this model has no prior {prior!r}; it has {', '.join(self.priors)}, or 'auto'"
            )
        return prior


def _number_tensor(what: str, values: object) -> Tensor:
    """Numbers as a tensor.

    Raises:
        ValueError: there are others among them.
    """
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{what} must be numbers, got {checks.shown(values)}") from None


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: _to_json(v) for k, v in dataclasses.asdict(value).items()}
    return list(value) if isinstance(value, tuple) else value
