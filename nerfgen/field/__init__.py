"""Encodings, foreground and background networks, and trained models as files. Never renders."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.field.generative import (
        FieldConfig,
        GenerativeField,
        add_parameters,
        parameter_shapes,
        tunable_parameters,
    )
    from nerfgen.field.mlp import positional_encoding
    from nerfgen.field.planes import plane_smoothness
    from nerfgen.field.radiance import (
        background_color,
        conditioned_field,
        latent_condition,
        radiance_field,
        render_rays,
    )

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FieldConfig",
    "GenerativeField",
    "add_parameters",
    "background_color",
    "conditioned_field",
    "latent_condition",
    "parameter_shapes",
    "plane_smoothness",
    "positional_encoding",
    "radiance_field",
    "render_rays",
    "tunable_parameters",
]
