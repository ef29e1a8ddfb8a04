"""Studies: many runs that vary what a run is made of, resumable, each in a run folder of its own."""

from .missing import Cell, Sweep, sweep
from .recipe import Recipe
from .searching import tune
from .space import Choices, Range, fields_of, read_space
from .trials import Trial, Tuning

__all__ = ["Cell", "Choices", "Range", "Recipe", "Sweep", "Trial", "Tuning", "fields_of", "read_space", "sweep", "tune"]
