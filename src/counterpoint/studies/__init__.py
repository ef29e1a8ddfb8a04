"""Studies: many runs that vary a configuration. Each run has a folder of its own, and a
study that was stopped can be resumed."""

from counterpoint.studies.cells import Cell, Sweep
from counterpoint.studies.comparing import compare
from counterpoint.studies.comparison import ComparedRun, Comparison, Cost, Repetition
from counterpoint.studies.recipe import Recipe
from counterpoint.studies.space import Choices, Range, fields_of, read_space
from counterpoint.studies.sweeping import sweep
from counterpoint.studies.trials import Trial, Tuning
from counterpoint.studies.tuning import tune

__all__ = [
    "Cell",
    "Choices",
    "ComparedRun",
    "Comparison",
    "Cost",
    "Range",
    "Recipe",
    "Repetition",
    "Sweep",
    "Trial",
    "Tuning",
    "compare",
    "fields_of",
    "read_space",
    "sweep",
    "tune",
]
