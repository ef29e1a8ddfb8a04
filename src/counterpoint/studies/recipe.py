"""Recipes: the configuration of a run, which studies vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from counterpoint.data import Dataset, load
from counterpoint.data.loading import described
from counterpoint.methods import Method, method_named
from counterpoint.studies.space import placed
from counterpoint.training import FitOptions, FitResult, fit
from counterpoint.training.options import lifted, plain
from counterpoint.training.result import Watch

Source = Dataset | Mapping[str, Any] | str | Path
"""A data set, what names one, or keywords of ``data.load``, ``source`` among them."""


@dataclass(frozen=True)
class Recipe:
    """A method, its data and its training.

    >>> from counterpoint.methods import MVAE
    >>> recipe = Recipe.of(MVAE, "digits-quadrant", {"shared_dim": 2}, {"max_steps": 10})
    >>> recipe.changed({"fit.max_steps": 20}).fit
    {'max_steps': 20, 'progress': False}

    Args:
        method: the method.
        data: keywords of ``data.load``; empty if the caller gave a data set.
        model: keywords of the method.
        fit: fields of ``FitOptions``.
        loaded: the data set, if it is loaded.
    """

    method: type[Method]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    fit: Mapping[str, Any]
    loaded: Dataset | None = None

    @staticmethod
    def of(
        method: type[Method],
        data: Source,
        model: Mapping[str, Any] | None,
        fit: Mapping[str, Any] | FitOptions | None,
    ) -> Recipe:
        """Make a recipe of a caller's arguments."""
        keywords = (
            {}
            if isinstance(data, Dataset)
            else dict(data)
            if isinstance(data, Mapping)
            else {"source": str(data)}
        )
        given: Any = vars(fit) if isinstance(fit, FitOptions) else fit or {}
        plain = {
            key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for key, value in (model or {}).items()
        }
        return Recipe(
            method,
            keywords,
            plain,
            {**given, "progress": False},
            data if isinstance(data, Dataset) else None,
        )

    @staticmethod
    def of_entry(
        name: str, data: Source, settings: Mapping[str, Any], fit: Mapping[str, Any] | None
    ) -> Recipe:
        """Make the recipe of one of several methods.

        Args:
            name: of the entry; that of the method unless the settings say otherwise.
            data: as in :meth:`of`.
            settings: ``{"method": ..., "model": ..., "fit": ...}`` of its own.
            fit: fields of ``FitOptions`` of all methods. The method's own limits hold.

        Raises:
            ValueError: another setting, or an unknown method.
        """
        stray = [key for key in settings if key not in ("method", "model", "fit")]
        if stray:
            raise ValueError(f"methods: {name} has {stray[0]!r}; it may have method, model and fit")
        own = dict(settings.get("fit") or {})
        general = {key: value for key, value in (fit or {}).items() if key not in lifted(own)}
        method = method_named(settings.get("method") or name)
        return Recipe.of(method, data, settings.get("model"), {**general, **own})

    @property
    def about(self) -> dict[str, Any]:
        """The options of model and training without the seed, as plain values."""
        fit = {key: value for key, value in self.fit.items() if key != "seed"}
        return {"method": self.method.name, **plain({"model": self.model, "fit": fit})}

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """Change some fields, by dotted name (:mod:`counterpoint.studies.space`).

        A limit on training among them replaces the recipe's limits.

        Raises:
            ValueError: a field of the data, if the caller gave a data set.
        """
        gone = lifted(
            {
                name.removeprefix("fit."): value
                for name, value in values.items()
                if name.startswith("fit.")
            }
        )
        kept = {name: value for name, value in self.fit.items() if name not in gone}
        tree: dict[str, Any] = {"model": self.model, "fit": kept, "data": self.data}
        for name, value in values.items():
            tree = placed(tree, name, value)
        of_data = [name for name in values if name.startswith("data.")]
        if of_data and not self.data:
            raise ValueError(
                f"{of_data[0]} can't be varied of a data set that is loaded; give what data.load "
                "takes, such as its name"
            )
        loaded = None if of_data else self.loaded
        return replace(self, model=tree["model"], fit=tree["fit"], data=tree["data"], loaded=loaded)

    def dataset(self) -> Dataset:
        """Load the data, unless they are loaded."""
        return load(**self.data) if self.loaded is None else self.loaded

    def made(self, data: Dataset) -> Method:
        """Make the untrained method, with initial weights by the seed of the training.

        Raises:
            ValueError, TypeError: options that do not go together.
        """
        return self.method.for_data(data, seed=FitOptions(**self.fit).seed, **self.model)

    def trained(
        self, data: Dataset, folder: Path, *, resume: bool = False, watch: Watch | None = None
    ) -> tuple[Method, FitResult]:
        """Make and train the method in a run folder."""
        method = self.made(data)
        options = FitOptions(**self.fit)
        about = described(self.data)
        return method, fit(
            method,
            data.train,
            data.val,
            out=folder,
            resume=resume,
            describe=about,
            options=options,
            watch=watch,
        )
