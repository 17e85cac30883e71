"""A trained model as a value: networks, table, latent space, recipe, and its file."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.model.code_prior import CodePrior, fit_code_prior
    from nerfgen.model.codebook import dequantised, nearest_entries, perplexity, quantised
    from nerfgen.model.direction import (
        FEW_LABELS,
        FEW_OF_A_WORD,
        Direction,
        find_direction,
        learn_direction,
        load_direction,
        save_direction,
    )
    from nerfgen.model.labels import Labels, read_labels
    from nerfgen.model.latent_space import Principal, principal_axes, truncated_draws
    from nerfgen.model.mixture import Mixture, fit_mixture
    from nerfgen.model.nearness import Drawn, Neighbours, draw_identities, neighbours
    from nerfgen.model.objects import (
        ModelShape,
        Objects,
        concatenate,
        drawn_objects,
        file_reference,
        find_objects,
        named_samples,
        names_rows,
        new_objects,
        parse_numbers,
        read_objects,
        resolve_references,
        stored_objects,
        table_objects,
        typicality,
    )
    from nerfgen.model.person_file import PERSONAL_SCHEMA, save_personal
    from nerfgen.model.preparation import Preparation, recorded_preparation
    from nerfgen.model.recipe import PRESETS, Recipe, recorded_recipe
    from nerfgen.model.regression import ridge
    from nerfgen.model.settings import (
        MAX_COORDINATE,
        Prior,
        SampleSettings,
        WalkSettings,
        parse_coordinates,
    )
    from nerfgen.model.trained import InitialGuess, Model, load_model, model_file, save_model
    from nerfgen.model.walk import great_arc, mean_object, move_to, walk_axis, walk_between, walk_direction

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FEW_LABELS",
    "FEW_OF_A_WORD",
    "MAX_COORDINATE",
    "PERSONAL_SCHEMA",
    "PRESETS",
    "CodePrior",
    "Direction",
    "Drawn",
    "InitialGuess",
    "Labels",
    "Mixture",
    "Model",
    "ModelShape",
    "Neighbours",
    "Objects",
    "Preparation",
    "Principal",
    "Prior",
    "Recipe",
    "SampleSettings",
    "WalkSettings",
    "concatenate",
    "dequantised",
    "draw_identities",
    "drawn_objects",
    "file_reference",
    "find_direction",
    "find_objects",
    "fit_code_prior",
    "fit_mixture",
    "great_arc",
    "learn_direction",
    "load_direction",
    "load_model",
    "mean_object",
    "model_file",
    "move_to",
    "named_samples",
    "names_rows",
    "nearest_entries",
    "neighbours",
    "new_objects",
    "parse_coordinates",
    "parse_numbers",
    "perplexity",
    "principal_axes",
    "quantised",
    "read_labels",
    "read_objects",
    "recorded_preparation",
    "recorded_recipe",
    "resolve_references",
    "ridge",
    "save_direction",
    "save_model",
    "save_personal",
    "stored_objects",
    "table_objects",
    "truncated_draws",
    "typicality",
    "walk_axis",
    "walk_between",
    "walk_direction",
]
