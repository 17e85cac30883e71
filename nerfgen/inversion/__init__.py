"""Latent codes of new images: initial guess, latent fitting, tuning."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.inversion.image_preparation import (
        NoUsableImageError,
        PreparedImages,
        find_networks,
        name_images,
        prepare_images,
    )
    from nerfgen.inversion.initial_guess import guess_images, learn_initial_guess, thumbnails
    from nerfgen.inversion.joint_fitting import JointFit, fit_one_object
    from nerfgen.inversion.latent_fitting import Fitted, fit_latents
    from nerfgen.inversion.new_images import (
        FittedImages,
        fit_images,
        fit_prepared,
        images_of_shard,
        tune_prepared,
    )
    from nerfgen.inversion.personal import personalise, personalise_prepared
    from nerfgen.inversion.reconstruction import reconstruction_psnr
    from nerfgen.inversion.settings import FitSettings, PersonalSettings
    from nerfgen.inversion.tuning import Tuned, tune_networks

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FitSettings",
    "Fitted",
    "FittedImages",
    "JointFit",
    "NoUsableImageError",
    "PersonalSettings",
    "PreparedImages",
    "Tuned",
    "find_networks",
    "fit_images",
    "fit_latents",
    "fit_one_object",
    "fit_prepared",
    "guess_images",
    "images_of_shard",
    "learn_initial_guess",
    "name_images",
    "personalise",
    "personalise_prepared",
    "prepare_images",
    "reconstruction_psnr",
    "thumbnails",
    "tune_networks",
    "tune_prepared",
]
