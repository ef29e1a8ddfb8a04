"""Studies: many runs that vary a configuration. Each run has a folder of its own, and a
study that was stopped can be resumed."""

from counterpoint.studies.cells import Cell, Sweep
from counterpoint.studies.recipe import Recipe
from counterpoint.studies.space import Choices, Range, fields_of, read_space
from counterpoint.studies.sweeping import sweep
from counterpoint.studies.trials import Trial, Tuning
from counterpoint.studies.tuning import tune

__all__ = [
    "Cell",
    "Choices",
    "Range",
    "Recipe",
    "Sweep",
    "Trial",
    "Tuning",
    "fields_of",
    "read_space",
    "sweep",
    "tune",
]
