"""How good a model is: the tables of the original, a report of them, comparisons and studies."""

from nerfgen.evaluate.report import Report, load_report
from nerfgen.evaluate.run import evaluate_model, table_names
from nerfgen.evaluate.sources import Settings, Sources
from nerfgen.evaluate.table import Measured, Pictures, Points, Table

__all__ = [
    "Measured",
    "Pictures",
    "Points",
    "Report",
    "Settings",
    "Sources",
    "Table",
    "evaluate_model",
    "load_report",
    "table_names",
]
