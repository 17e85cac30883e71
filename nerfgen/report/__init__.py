"""What was found out about models: reports, comparisons and studies as values, files, pages and text."""

from nerfgen.report.file import Report, load_report, save_report
from nerfgen.report.study import Point, Study, load_study, save_study
from nerfgen.report.table import Measured, Pictures, Points, Table

__all__ = [
    "Measured",
    "Pictures",
    "Point",
    "Points",
    "Report",
    "Study",
    "Table",
    "load_report",
    "load_study",
    "save_report",
    "save_study",
]
