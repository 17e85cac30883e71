"""Synthetic objects in the SRN layout, and the way from there to a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.evaluate.held_out_views import held_out_views_for_images
from nerfgen.interchange import WorldAlignment, import_cameras
from nerfgen.synth import SynthSettings, synthesize

# Our own cars in the SRN layout.


@pytest.fixture(scope="module")
def srn_cars(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("srn")
    options = {"size": 24, "views": 2, "heldout_objects": 2, "seed": 4}
    synthesize(
        "cars", folder, SynthSettings(num_images=3, srn=True, views_per_instance=3, **options), workers=1
    )
    return folder


def test_synthetic_srn_is_read_as_its_truth(srn_cars, tmp_path):
    import_cameras(srn_cars, tmp_path, object_class="cars", alignment=WorldAlignment(scale=1.0))
    table = columns(tmp_path / "cameras.h5")
    with storage.reading(srn_cars / "truth.h5", "truth/1") as truth:
        assert table["image"] == storage.strings(truth["image"])
        assert table["instance"] == storage.strings(truth["instance"])
        assert table["instance"] == [f"{number:06d}" for number in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
        for name in ("intrinsics", "cam_to_world", "window"):
            np.testing.assert_allclose(table[name], truth[name][:], atol=1e-9)
    one = Image.open(srn_cars / "000001/rgb/000002.png")
    assert one.getpixel((0, 0)) == (255, 255, 255)


def test_held_out_views_are_those_of_the_objects(srn_cars):
    """The held-out cameras are correct whichever image of an object a model has."""
    with storage.reading(srn_cars / "truth.h5", "truth/1") as truth:
        images = storage.strings(truth["image"])
        rows = [7, 4, 2]
        held_out = held_out_views_for_images(
            [images[row] for row in rows],
            truth["intrinsics"][:][rows],
            truth["cam_to_world"][:][rows],
            24,
            srn_cars / "truth.h5",
        )
        assert held_out.row.tolist() == [2, 2, 1, 1]
        np.testing.assert_allclose(
            held_out.cam_to_world, truth["heldout_cam_to_world"][:].reshape(-1, 4, 4), atol=1e-9
        )


def test_fewer_views_are_the_first_of_more(srn_cars, tmp_path):
    options = {"size": 24, "views": 0, "seed": 4}
    synthesize(
        "cars", tmp_path, SynthSettings(num_images=2, srn=True, views_per_instance=2, **options), workers=1
    )
    for name in ("000000/rgb/000001.png", "000001/pose/000001.txt", "000001/intrinsics.txt"):
        assert (tmp_path / name).read_bytes() == (srn_cars / name).read_bytes()
    # Images of the other layout replace it completely.
    synthesize("cars", tmp_path, SynthSettings(num_images=2, **options), workers=1, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "truth.h5"]
    with pytest.raises(InputError, match="`srn`"):
        synthesize(
            "cars",
            tmp_path / "other",
            SynthSettings(num_images=2, views_per_instance=2, **options),
            workers=1,
        )


@pytest.mark.slow
def test_several_views_share_a_row_of_a_model(srn_cars, tmp_path, call, tiny_options):
    """The whole way by the command line: no landmarks, no masks."""
    call("import", srn_cars, "-o", tmp_path, "--class", "cars", "--scale", 1)
    call(
        *("train", srn_cars, "--cameras", tmp_path / "cameras.h5", "--no-masks", "-o", tmp_path / "model.h5"),
        *(*tiny_options, "--steps", 3, "--no-preview"),
    )
    with storage.reading(tmp_path / "model.h5", "model/1") as file:
        assert len(file["latents"]) == 3
        assert len(file["further_row"]) == 6
