"""The training engine: the state, its step, and the run that joins them with files."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.train.dry_run import estimate_run
    from nerfgen.train.machine import Machine
    from nerfgen.train.metrics_log import DivergedError
    from nerfgen.train.rehearsal import load_base_model
    from nerfgen.train.run import Observers
    from nerfgen.train.settings import HostSettings
    from nerfgen.train.setup import (
        Setup,
        adversarial_recipe,
        continued_recipe,
        effective_recipe,
        set_up,
    )
    from nerfgen.train.stage import StartModel, TrainingFiles, train
    from nerfgen.train.step import make_step
    from nerfgen.train.step_plan import StepInput, StepPlan
    from nerfgen.train.topology_estimate import estimate_on_topology

__getattr__ = lazy_imports(__name__)

__all__ = [
    "DivergedError",
    "HostSettings",
    "Machine",
    "Observers",
    "Setup",
    "StartModel",
    "StepInput",
    "StepPlan",
    "TrainingFiles",
    "adversarial_recipe",
    "continued_recipe",
    "effective_recipe",
    "estimate_on_topology",
    "estimate_run",
    "load_base_model",
    "make_step",
    "set_up",
    "train",
]
