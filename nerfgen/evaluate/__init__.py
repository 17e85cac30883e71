"""How good a model is: the tables of the original for any model, and studies of models that differ in a setting."""

from nerfgen.evaluate.run import evaluate_model, table_names
from nerfgen.evaluate.sources import Settings, Sources

__all__ = ["Settings", "Sources", "evaluate_model", "table_names"]
