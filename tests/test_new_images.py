"""New images: prepared in memory, like the images that a model was trained on."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nerfgen.errors import InputError
from nerfgen.image import decode
from nerfgen.inversion import FitSettings, fit_images, prepare_images
from nerfgen.mask import MaskSettings
from nerfgen.model import Model, Preparation, load_model
from nerfgen.synth import SynthSettings, synthesize

pytest.importorskip("mediapipe")

SMALL = Path(__file__).parent / "data" / "model_planes.h5"


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> list[Path]:
    """Two images of synthetic heads."""
    folder = tmp_path_factory.mktemp("heads")
    synthesize("heads", folder, SynthSettings(num_images=2, size=96, seed=7))
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def small() -> Model:
    """A small model of such heads."""
    return load_model(SMALL)


def prepared_by(model: Model, **settings: object) -> Model:
    return replace(model, preparation=replace(model.preparation, **settings))


@pytest.mark.slow
def test_images_in_memory_are_fitted_like_their_files(small, heads, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    nothing = np.zeros((64, 64, 3), np.uint8)
    images = [heads[0], decode(heads[0]), nothing, heads[1]]
    found = fit_images(small, images, fitting=FitSettings(steps=5, workers=1))
    assert found.names == [heads[0].name, "image", "image (2)", heads[1].name]
    assert found.status == ["ok", "ok", "no_object", "ok"]
    np.testing.assert_array_equal(found.latents[0], found.latents[1])
    np.testing.assert_array_equal(found.cameras.cam_to_world[0], found.cameras.cam_to_world[1])
    assert sorted(found.images) == [0, 1, 3]
    assert np.isnan(found.extra["fit_psnr"]).tolist() == [False, False, True, False]
    assert not list(tmp_path.iterdir()), "no temporary files"


def test_new_images_are_segmented_as_the_training_images_were(small, heads):
    by_class = prepare_images(small, heads[:1], workers=1)
    alpha = prepared_by(small, masks=MaskSettings("alpha"))
    with pytest.raises(InputError, match=rf"no image is usable \({heads[0].name}: no_alpha\)"):
        prepare_images(alpha, heads[:1], workers=1)
    lines: list[str] = []
    from_files = prepare_images(prepared_by(small, masks=None), heads[:1], workers=1, warn=lines.append)
    np.testing.assert_array_equal(from_files.framed.mask, by_class.framed.mask)
    assert any("came from files" in line for line in lines)


def test_cameras_of_new_images_are_fitted_as_the_training_cameras_were(small, heads):
    default = prepare_images(small, heads[:1], workers=1).framed
    flat = prepare_images(prepared_by(small, depth_weight=0.0), heads[:1], workers=1).framed
    assert np.abs(flat.cam_to_world - default.cam_to_world).max() > 1e-4
    with pytest.raises(InputError, match="not_converged"):
        prepare_images(prepared_by(small, max_error=1e-6), heads[:1], workers=1)


def test_training_records_how_its_images_were_prepared(tmp_path, small):
    from nerfgen import storage
    from nerfgen.model import recorded_preparation

    def file(name: str, **parameters: object) -> Path:
        path = tmp_path / name
        stage = storage.Stage(path, "scores/1", small.object_class, parameters=parameters)
        import h5py

        with h5py.File(path, "w") as opened:
            opened.attrs.update(stage.attributes())
        return path

    fitted = file("cameras.h5", robust=0.1, depth_weight=0.5, max_error=0.3, points="mesh")
    masks = file("masks.h5", method="color-1", background="white", size=256)
    found = recorded_preparation(fitted, masks)
    assert found == Preparation(depth_weight=0.5, robust=0.1, masks=MaskSettings("color", background="white"))
    assert recorded_preparation(file("imported.h5"), None) == Preparation()
    own = file("own.h5", method="files-1", masks="0" * 64, size=256)
    assert recorded_preparation(fitted, own).masks is None


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """Heads in three blocks of two images, some of which cannot be used."""
    folder = tmp_path / "album"
    synthesize("heads", folder, SynthSettings(num_images=3, size=96, seed=7))
    (folder / "truth.h5").unlink()
    for name in ("a.png", "b.png", "z.png"):  # the first block has none that can be used
        (folder / name).write_bytes(b"no image")
    for number in range(3):
        (folder / f"{number:06d}.png").rename(folder / f"c{number}.png")
    monkeypatch.setattr("nerfgen.inversion.new_images._BLOCK", 2)
    return folder


def words(album: Path) -> list[object]:
    """The command that fits and renders the album in a few steps."""
    few = ("--fit-steps", 3, "--tune", "--tune-steps", 3)
    return ["render", SMALL, "--image", album, *few, "--yaw", 20, "--size", 12, "--workers", 1, "-q"]


@pytest.mark.mediapipe
@pytest.mark.slow
def test_joined_shards_of_renderings_are_the_file_of_one_run(album, call, tmp_path):
    call(*words(album), "-o", tmp_path / "expected.h5")
    shards = [tmp_path / f"fitted.shard-{number}-of-2.h5" for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        call(*words(album), "--shard", f"{number}/2", "-o", shard)
    call("join", *shards, "-q")
    assert (tmp_path / "fitted.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()
    with pytest.raises(InputError, match="--shard 1/4 has no images"):
        call(*words(album), "--shard", "1/4", "-o", tmp_path / "none.h5")


@pytest.mark.mediapipe
@pytest.mark.slow
def test_workers_of_dask_fit_and_render_the_same(album, call, tmp_path):
    pytest.importorskip("distributed")
    call(*words(album), "-o", tmp_path / "expected.h5")
    call(*words(album), "--workers", 2, "--scheduler", "local", "-o", tmp_path / "found.h5")
    assert (tmp_path / "found.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()
