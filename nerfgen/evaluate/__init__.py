"""Evaluation of models: the tables of the paper for any model, and studies of models that differ in one setting."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.evaluate.held_out_views import (
        HeldOutViews,
        camera_errors,
        fitted_camera_errors,
        held_out_views_for_images,
        score_latents,
        score_model,
        score_views,
    )
    from nerfgen.evaluate.model_report import evaluate_model, table_names
    from nerfgen.evaluate.settings import EvaluationInputs, EvaluationSettings
    from nerfgen.evaluate.sweep import Sweep, SweepTraining, parse_sweep, run_study

__getattr__ = lazy_imports(__name__)

__all__ = [
    "EvaluationInputs",
    "EvaluationSettings",
    "HeldOutViews",
    "Sweep",
    "SweepTraining",
    "camera_errors",
    "evaluate_model",
    "fitted_camera_errors",
    "held_out_views_for_images",
    "parse_sweep",
    "run_study",
    "score_latents",
    "score_model",
    "score_views",
    "table_names",
]
