"""Studies: many runs that vary what a run is made of, resumable, each in a run folder
of its own."""

from counterpoint.studies.recipe import Recipe
from counterpoint.studies.space import Choices, Range, fields_of, read_space
from counterpoint.studies.sweeping import Cell, Sweep, sweep
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
