"""How like photographs their pictures are: the metrics that several tables share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from nerfgen.evaluate.subject import Subject
from nerfgen.metric import psnr, ssim
from nerfgen.metric.pretrained import SMALLEST_PICTURE
from nerfgen.report.table import Measured, Table


def likeness(
    subject: Subject,
    names: Sequence[str],
    photographs: UInt8[np.ndarray, "pictures size size 3"],
    pictures: UInt8[np.ndarray, "pictures size size 3"],
    where: Bool[np.ndarray, "pictures size size"],
    *,
    scale: str = "",
) -> Table:
    """PSNR, SSIM and LPIPS of each picture, over the pixels that count. LPIPS sees whole pictures, equal elsewhere.

    Args:
        scale: what the metrics' names have at their ends, before the unit.
    """
    first, second = photographs / 255, pictures / 255
    values = {
        f"psnr{scale}_db": [psnr(*triple) for triple in zip(second, first, where, strict=True)],
        f"ssim{scale}": [ssim(*triple) for triple in zip(second, first, where, strict=True)],
    }
    missing, network = [], subject.perceptual
    if isinstance(network, str):
        missing += [] if scale else [network]
    elif photographs.shape[1] < SMALLEST_PICTURE:
        missing.append(
            f"lpips{scale}: pictures of {photographs.shape[1]} pixels are too small for its network"
        )
    else:
        shown = np.where(where[..., None], pictures, photographs)
        values[f"lpips{scale}"] = network.distance(photographs, shown).tolist()
    return Table({name: Measured(names, np.array(own)) for name, own in values.items()}, missing=missing)
