"""The file of a personalised object: its code, the codes of its images, and one change of the networks for all."""

from __future__ import annotations

from nerfgen import storage
from nerfgen.model.objects import Objects

PERSONAL_SCHEMA = "personal/1"


def save_personal(stage: storage.Stage, objects: Objects) -> None:
    """Write the stage's output, a ``personal/1`` file.

    Args:
        objects: the object itself, then its images, all with cameras and the same change of the networks, or none.
    """
    cameras = objects.cameras
    assert cameras is not None
    with stage.create() as file:
        storage.put(file, "name", objects.names)
        storage.put(file, "status", objects.status)
        storage.put(file, "row", objects.rows)
        storage.put(file, "latents", objects.latents)
        storage.put(file, "own_intrinsics", cameras.intrinsics)
        storage.put(file, "own_cam_to_world", cameras.cam_to_world)
        for name in ("fit_psnr", "fit_iterations"):
            storage.put(file, name, objects.extra[name])
        images = {str(number): image for number, image in objects.images.items()}
        storage.put_tree(file.create_group("photographs"), images)
        for delta in list(objects.tuned.values())[:1]:
            storage.put_tree(file.create_group("delta"), delta)
