"""What groups of metrics measure: a method, data, and what they share.

Means, judges and generations are made when the first group asks for them, and once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from counterpoint.metrics.chance import majority_classes, smallest_classes
from counterpoint.metrics.clock import Clock
from counterpoint.metrics.generations import Generations
from counterpoint.metrics.judges import Judges, train_judges
from counterpoint.metrics.matchers import Matchers, train_matchers
from counterpoint.metrics.means import Means, device_of, posterior_means
from counterpoint.metrics.options import EvaluationOptions
from counterpoint.metrics.sampling import chosen, seed_of
from counterpoint.metrics.scores import Chance, Scores
from counterpoint.metrics.seen import Seen

if TYPE_CHECKING:
    from counterpoint.data import Dataset, Split
    from counterpoint.methods import Method

Default = Literal["always", "unlabelled", "never"]


class Context:
    """What the groups of an evaluation share.

    >>> from counterpoint.metrics import Context
    >>> from counterpoint.metrics.options import EvaluationOptions
    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.DMVAE.for_data(data, shared_dim=2, private_dim=1)
    >>> split = data.test.take(range(8))
    >>> context = Context(method, data, EvaluationOptions(rows=4))
    >>> len(context.sources)
    4

    Args:
        method: the method to measure.
        data: its data set.
        options: what was asked for.
        groups: the names of the groups that are measured.
        clock: measures the stages.
    """

    def __init__(
        self,
        method: Method,
        data: Dataset,
        options: EvaluationOptions,
        groups: tuple[str, ...] = (),
        clock: Clock | None = None,
    ) -> None:
        self.method = method
        self.data = data
        self.options = options
        self.groups = groups
        self.clock = clock or Clock(lambda stage: None)
        self.held_out: Split = data.test if options.split == "test" else data.val

    @cached_property
    def sources(self) -> Split:
        """The held-out rows to generate from."""
        # the purpose "test rows" keeps old figures repeatable
        seed = seed_of(self.options.seed, "test rows")
        return self.held_out.take(chosen(len(self.held_out), self.options.rows, seed))

    @cached_property
    def probed(self) -> tuple[Split, Split]:
        """The rows of the train split and the held-out rows that probes read."""
        seed = seed_of(self.options.seed, "probe rows")
        most = self.options.probe_rows
        train = self.data.train_split
        held_out = self.held_out
        return (
            train.take(chosen(len(train), most, seed)),
            held_out.take(chosen(len(held_out), most, seed)),
        )

    @cached_property
    def means(self) -> tuple[Means, Means]:
        """Posterior means of the rows that probes read."""
        with self.clock.stage("encode"):
            train, held_out = self.probed
            return self.means_of(train), self.means_of(held_out)

    def means_of(self, split: Split) -> Means:
        """Posterior means of other rows."""
        options = self.options
        return posterior_means(
            self.method, split, batch_size=options.batch_size, refine=options.refine
        )

    @cached_property
    def chances(self) -> dict[str, Chance]:
        """By label, the accuracy of guessing on the held-out rows."""
        return majority_classes(self.held_out)

    @cached_property
    def rarest(self) -> dict[str, int]:
        """By label, the rows of its smallest class among those to generate from."""
        return smallest_classes(self.sources)

    @cached_property
    def judges(self) -> Judges:
        """The judge of each modality."""
        with self.clock.stage("judges"):
            options = self.options
            device = device_of(self.method)
            judges = train_judges(
                self.data, options=options.judge, seed=0, cache=options.cache, device=device
            )
            return replace(judges, extractors=options.feature_extractors)

    @cached_property
    def real(self) -> dict[str, Seen]:
        """By modality, what its judge sees in the real held-out rows."""
        return self.judges.look(self.held_out)

    @cached_property
    def matchers(self) -> Matchers:
        """The matching judges; none unless matches are measured."""
        if "match" not in self.groups:
            return Matchers({}, {})
        with self.clock.stage("matching judges"):
            options = self.options
            device = device_of(self.method)
            return train_matchers(
                self.data, options=options.judge, seed=0, cache=options.cache, device=device
            )

    @cached_property
    def generations(self) -> Generations:
        """Everything that the method generates, as the judges see it."""
        options = self.options
        return Generations(
            self.method,
            self.sources,
            self.judges,
            self.matchers,
            samples=options.samples,
            seed=options.seed,
            batch_size=options.batch_size,
            refine=options.refine,
        )


@dataclass(frozen=True)
class Group:
    """Metrics that are measured together.

    >>> from counterpoint.metrics import GROUPS
    >>> GROUPS["coherence"].needs, GROUPS["probe"].kinds
    (('judge',), ('probe', 'mi'))

    Args:
        name: how ``evaluate(only=...)`` names it.
        kinds: the kinds of its metrics, in the order of tables.
        measure: measures them; what it needs of the context is made then.
        needs: groups that are measured with it.
        default: whether it is measured if no groups are named: always, for data without
            shared labels, or never.
        complete: whether an evaluation without it is incomplete.
        higher, lower: the kinds of which higher, or lower, values are better. Of others
            neither is.
    """

    name: str
    kinds: tuple[str, ...]
    measure: Callable[[Context], Scores]
    needs: tuple[str, ...] = ()
    default: Default = "never"
    complete: bool = False
    higher: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
