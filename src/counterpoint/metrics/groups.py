"""The groups of metrics, by name, in the order of measuring and of tables."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from counterpoint.metrics import (
    coherence,
    dependence,
    imputation,
    likelihood,
    matching,
    posteriors,
    probes,
    quality,
    refinement,
    retrieval,
)
from counterpoint.metrics.context import Group

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        probes.GROUP,
        dependence.GROUP,
        coherence.JUDGE_GROUP,
        coherence.GROUP,
        matching.GROUP,
        retrieval.GROUP,
        quality.GROUP,
        posteriors.GROUP,
        refinement.GROUP,
        likelihood.GROUP,
        imputation.GROUP,
    )
}
"""Every group that ``evaluate`` can measure; :func:`register` adds to it."""


def register(group: Group) -> None:
    """Add a group of metrics of your own, which ``evaluate`` then measures.

    Args:
        group: its name and its kinds must be new, and what it needs must be known.

    >>> from counterpoint.metrics import GROUPS, Group, Metric, Scores, group_of, register
    >>> def measure(context):
    ...     scores = Scores()
    ...     width = Metric(group="width", kind="width")
    ...     scores.add(width, max(m.shape[-1] for m in context.data.modalities))
    ...     return scores
    >>> register(Group("width", ("width",), measure))
    >>> group_of("width")
    'width'
    >>> del GROUPS["width"]

    Raises:
        ValueError: a name or kind that another group has, or an unknown need.
    """
    if group.name in GROUPS:
        raise ValueError(f"a group {group.name!r} is there already; choose another name")
    taken = {}
    for other in GROUPS.values():
        for kind in other.kinds:
            taken[kind] = other.name
    for kind in group.kinds:
        if kind in taken:
            raise ValueError(
                f"the kind {kind!r} of group {group.name!r} belongs to {taken[kind]!r}; "
                "choose another name"
            )
    for need in group.needs:
        if need not in GROUPS:
            raise ValueError(
                f"group {group.name!r} needs {need!r}, which is unknown; "
                f"choose from {', '.join(GROUPS)}"
            )
    GROUPS[group.name] = group


def groups_for(only: Sequence[str] | None, *, labelled: bool) -> tuple[str, ...]:
    """The groups to measure, with those that they need, in order.

    Args:
        only: the groups that were asked for; None for the default ones.
        labelled: whether the data have shared labels.

    >>> groups_for(["quality"], labelled=True)
    ('judge', 'quality')

    Raises:
        ValueError: no group, or an unknown one.
    """
    if only is not None and not only:
        raise ValueError(f"only is empty; choose from {', '.join(GROUPS)}, or leave it out")
    for name in only or ():
        if name not in GROUPS:
            raise ValueError(f"unknown group of metrics {name!r}; choose from {', '.join(GROUPS)}")
    wanted: set[str] = set()
    for name in only or default_groups(labelled=labelled):
        _add_with_needs(wanted, name)
    return tuple(name for name in GROUPS if name in wanted)


def _add_with_needs(wanted: set[str], name: str) -> None:
    wanted.add(name)
    for need in GROUPS[name].needs:
        _add_with_needs(wanted, need)


def default_groups(*, labelled: bool) -> tuple[str, ...]:
    """The groups that are measured if none are named.

    >>> sorted({*default_groups(labelled=False)} - {*default_groups(labelled=True)})
    ['match', 'retrieval']
    """
    kept = ("always",) if labelled else ("always", "unlabelled")
    return tuple(name for name, group in GROUPS.items() if group.default in kept)


def complete_groups() -> set[str]:
    """The groups that a complete evaluation has.

    >>> "probe" in complete_groups(), "retrieval" in complete_groups()
    (True, False)
    """
    return {name for name, group in GROUPS.items() if group.complete}


def group_of(metric: str) -> str:
    """The group that measures a metric, by its flat name.

    >>> from counterpoint.metrics import group_of
    >>> group_of("coherence/cross/digit")
    'coherence'

    Raises:
        ValueError: no group's metrics begin so.
    """
    kinds = {}
    for group in GROUPS.values():
        for kind in group.kinds:
            kinds[kind] = group.name
    fitting = [kind for kind in kinds if _begins_with(metric, kind)]
    if fitting:
        return kinds[max(fitting, key=len)]
    hint = _closest(metric, [*kinds]) or f"metrics begin with {', '.join(kinds)}"
    raise ValueError(f"unknown metric {metric!r}; {hint}")


def _closest(metric: str, kinds: Sequence[str]) -> str:
    """A hint at the kind that the beginning of a name resembles; may be empty."""
    parts = metric.split("/")
    for kind in kinds:
        size = kind.count("/") + 1
        if get_close_matches("/".join(parts[:size]), [kind]):
            return f"did you mean {'/'.join([kind, *parts[size:]])!r}?"
    return ""


def _begins_with(metric: str, kind: str) -> bool:
    return metric == kind or metric.startswith((f"{kind}/", f"{kind}@"))
