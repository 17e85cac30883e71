"""Synthetic objects in the SRN layout, and the way from there to a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.evaluate.truth import held_out_views_of
from nerfgen.interchange import (
    Placing,
    bring,
)
from nerfgen.synth import write_dataset

# Our own cars in the SRN layout.


@pytest.fixture(scope="module")
def srn_cars(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("srn")
    options = {"size": 24, "views": 2, "heldout_objects": 2, "workers": 1, "seed": 4}
    write_dataset("cars", folder, num_images=3, srn=True, views_per_instance=3, **options)
    return folder


def test_synthetic_srn_is_read_as_its_truth(srn_cars, tmp_path):
    bring(srn_cars, tmp_path, class_name="cars", placing=Placing(scale=1.0))
    table = columns(tmp_path / "cameras.h5")
    with artifact.reading(srn_cars / "truth.h5", "truth/1") as truth:
        assert table["image"] == artifact.strings(truth["image"])
        assert table["instance"] == artifact.strings(truth["instance"])
        assert table["instance"] == [f"{number:06d}" for number in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
        for name in ("intrinsics", "cam_to_world", "window"):
            np.testing.assert_allclose(table[name], truth[name][:], atol=1e-9)
    one = Image.open(srn_cars / "000001/rgb/000002.png")
    assert one.getpixel((0, 0)) == (255, 255, 255)


def test_held_out_views_are_those_of_the_objects(srn_cars):
    """Whichever photograph of an object a model has: the held-out cameras come out where they truly are."""
    with artifact.reading(srn_cars / "truth.h5", "truth/1") as truth:
        images = artifact.strings(truth["image"])
        rows = [7, 4, 2]
        held_out = held_out_views_of(
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
    options = {"size": 24, "views": 0, "workers": 1, "seed": 4}
    write_dataset("cars", tmp_path, num_images=2, srn=True, views_per_instance=2, **options)
    for name in ("000000/rgb/000001.png", "000001/pose/000001.txt", "000001/intrinsics.txt"):
        assert (tmp_path / name).read_bytes() == (srn_cars / name).read_bytes()
    # Replaced by pictures of the other layout, nothing is left of it.
    write_dataset("cars", tmp_path, num_images=2, overwrite=True, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "truth.h5"]
    with pytest.raises(InputError, match="SRN"):
        write_dataset("cars", tmp_path / "other", num_images=2, views_per_instance=2, **options)


def test_several_views_share_a_row_of_a_model(srn_cars, tmp_path, run, tiny_options):
    """The whole way by the command line: no landmarks, no masks."""
    assert run("import", srn_cars, "-o", tmp_path, "--class", "cars", "--scale", 1).code == 0
    done = run(
        *("train", srn_cars, "--cameras", tmp_path / "cameras.h5", "--no-masks", "-o", tmp_path / "model.h5"),
        *(*tiny_options, "--steps", 3, "--no-preview"),
    )
    assert done.code == 0, done.err
    with artifact.reading(tmp_path / "model.h5", "model/1") as file:
        assert len(file["latents"]) == 3
        assert len(file["further_row"]) == 6
