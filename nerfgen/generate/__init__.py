"""What a trained model makes: views of codes, new codes, codes of photographs."""

from nerfgen.generate.fit import Fitted, fit_latents
from nerfgen.generate.sampling import Principal, principal_axes, truncated_draws
from nerfgen.generate.views import Views, framing_intrinsics, render_views, turned_views

__all__ = [
    "Fitted",
    "Principal",
    "Views",
    "fit_latents",
    "framing_intrinsics",
    "principal_axes",
    "render_views",
    "truncated_draws",
    "turned_views",
]
