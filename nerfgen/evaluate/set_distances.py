"""Distances between sets of images, by the networks that are available."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from nerfgen.evaluate.context import EvaluationContext
from nerfgen.metric import Estimate, FrechetDistance, InceptionScore, KernelDistance


def lacking_set_distances(context: EvaluationContext) -> list[str]:
    """Which distances are unavailable, why, and how to add them."""
    inception, features = context.inception, context.image_features
    missing = [inception] if isinstance(inception, str) else []
    return missing + ([f"feature_frechet: {features}"] if isinstance(features, str) else [])


def set_distances(
    context: EvaluationContext,
    real: UInt8[np.ndarray, "real size size 3"],
    generated: UInt8[np.ndarray, "generated size size 3"],
) -> dict[str, Estimate]:
    """The available ones of FID, KID, IS of the generated images, and Fréchet feature distance."""
    inception, features, seed = context.inception, context.image_features, context.settings.seed
    found: dict[str, Estimate] = {}
    if not isinstance(inception, str):
        real_features, _ = inception.features(real)
        generated_features, classes = inception.features(generated)
        found |= {
            "fid": FrechetDistance(real_features, generated_features).estimate(seed),
            "kid": _times_thousand(KernelDistance(real_features, generated_features).estimate(seed)),
            "inception_score": InceptionScore(classes).estimate(seed),
        }
    if not isinstance(features, str):
        distance = FrechetDistance(features.pooled(real), features.pooled(generated))
        found["feature_frechet"] = distance.estimate(seed)
    return found


def _times_thousand(kid: Estimate) -> Estimate:
    """Kernel distances are usually reported times 1000."""
    return Estimate(1000 * kid.mean, 1000 * kid.low, 1000 * kid.high, kid.n)
