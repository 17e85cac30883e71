"""Evaluation results of models: reports, comparisons and studies as values, files, HTML pages and text."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.report.catalogue import METRICS, TABLES
    from nerfgen.report.comparison import Comparison, compare
    from nerfgen.report.pages import report_page, save_page, study_page
    from nerfgen.report.pair_metrics import BACKGROUNDS, COMPARED, PairMetric
    from nerfgen.report.report_file import (
        REPORT_SCHEMA,
        ImageGrid,
        ItemValues,
        Report,
        ScatterPoints,
        Table,
        is_report,
        load_report,
        merge_tables,
        save_report,
    )
    from nerfgen.report.study_file import STUDY_SCHEMA, Point, Study, load_study, save_study
    from nerfgen.report.text import comparison_text, report_text, study_text

__getattr__ = lazy_imports(__name__)

__all__ = [
    "BACKGROUNDS",
    "COMPARED",
    "METRICS",
    "REPORT_SCHEMA",
    "STUDY_SCHEMA",
    "TABLES",
    "Comparison",
    "ImageGrid",
    "ItemValues",
    "PairMetric",
    "Point",
    "Report",
    "ScatterPoints",
    "Study",
    "Table",
    "compare",
    "comparison_text",
    "is_report",
    "load_report",
    "load_study",
    "merge_tables",
    "report_page",
    "report_text",
    "save_page",
    "save_report",
    "save_study",
    "study_page",
    "study_text",
]
