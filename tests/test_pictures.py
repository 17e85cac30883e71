"""Pictures of views: what PNGs, contact sheets and videos show is what the views file holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from edited import edited
from PIL import Image

from nerfgen import storage
from nerfgen.cli.progress import Reporter
from nerfgen.errors import InputError
from nerfgen.geometry import camera_at, turned_cameras
from nerfgen.image import (
    DEPTH_LEVELS,
    color_normals,
    composite_over_white,
    depth_levels,
    save_image,
    save_video,
    shade_depth,
)
from nerfgen.interchange import CameraPath
from nerfgen.model import Objects, find_objects, table_objects
from nerfgen.render import (
    KINDS,
    RenderSettings,
    ViewFiles,
    input_images,
    render_to_file,
    video_frames,
    views_sheet,
)
from nerfgen.render.figures import framed_image

# Odd, and large enough for every dataset to be compressed.
SIZE, FPS = 105, 10
# The gap of contact sheets.
GAP = 2


@pytest.fixture(scope="module")
def written(run, trained, cars, tmp_path_factory):
    """A folder in which `nerfgen render` wrote two objects from three cameras and all the pictures of them."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copy(trained, folder / "model.h5")
    with h5py.File(trained) as file:
        for name in file["image"].asstr()[[0, 2]]:
            shutil.copy(cars / name, folder / name)
    (folder / "png").mkdir()
    (folder / "png" / "kept.txt").write_text("not ours")
    words = [
        "--rows",
        "0,2",
        "--yaw",
        "-30:30:2",
        "--pitch",
        "10",
        "--size",
        SIZE,
        "--samples",
        4,
        "--antialias",
        1,
    ]
    words += [
        "--png",
        folder / "png",
        "--kinds",
        ",".join(KINDS),
        "--sheet",
        folder / "sheet.png",
        "--fps",
        FPS,
    ]
    words += ["--video", folder / "turn.mp4", "--save-path", folder / "path.json"]
    done = run("render", folder, *words)
    assert done.code == 0, done.err
    assert "wrote 30 images" in done.err
    assert "Warning" not in done.err
    return folder


@pytest.fixture
def views(written):
    with storage.reading(written / "views.h5", "views/1") as file:
        yield file


def opened(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_views_file_has_one_view_a_chunk_compressed_and_says_its_units(views):
    units = {"rgb": "1/255", "rgba": "1/255", "depth": "world", "opacity": "1/255"}
    for kind in KINDS:
        dataset = views[kind]
        assert dataset.shape[:4] == (2, 3, SIZE, SIZE)
        assert dataset.chunks == (1, 1, *dataset.shape[2:])
        assert dataset.compression == "gzip"
        assert dataset.attrs.get("unit") == units.get(kind)
    assert views["normals"].attrs["frame"] == "world"
    told = json.loads(views.attrs["parameters"])
    assert told["antialias"] == 1
    assert told["yaw"] == [-30, 30]


def test_pngs_are_the_views(written, views):
    assert (written / "png" / "kept.txt").is_file()
    assert len(list((written / "png").glob("*.png"))) == 2 * 3 * len(KINDS)
    for number, view in np.ndindex(2, 3):
        stem = str(written / "png" / f"{number:04d}_{view:03d}")
        np.testing.assert_array_equal(opened(f"{stem}.png"), views["rgb"][number, view])
        np.testing.assert_array_equal(opened(f"{stem}.rgba.png"), views["rgba"][number, view])
        np.testing.assert_array_equal(opened(f"{stem}.opacity.png"), views["opacity"][number, view])
        np.testing.assert_array_equal(
            opened(f"{stem}.normals.png"), color_normals(views["normals"][number, view])
        )


def test_depth_pngs_hold_depth_to_half_a_step_and_say_their_unit(written, views):
    with Image.open(written / "png" / "0001_002.depth.png") as picture:
        assert picture.mode.startswith("I;16")
        assert picture.text["unit"] == "1/5000 world"
        levels = np.asarray(picture)
    depth = views["depth"][1, 2]
    assert (depth > 0).any()
    np.testing.assert_array_equal(levels > 0, depth > 0)
    assert np.abs(levels / DEPTH_LEVELS - depth).max() <= 0.5 / DEPTH_LEVELS + 1e-6


def test_depth_beyond_16_bits_is_the_last_level_and_small_depth_is_still_a_surface():
    levels = depth_levels(np.array([[0, 1e-6, 1.0, 13.107, 14.0, np.inf]], np.float32))
    np.testing.assert_array_equal(levels, [[0, 1, 5000, 65535, 65535, 65535]])


def test_depth_that_a_png_can_not_say_is_told(model, tmp_path, capsys):
    depth = np.array([[[[0, 2, 13], [13.2, 14, 100], [4, 4, 4]]]])
    with storage.Stage(tmp_path / "v.h5", "views/1", "cars").create() as file:
        for name, values in {"name": ["x"], "status": ["ok"], "row": [-1], "latents": [[0.0]]}.items():
            storage.put(file, name, values)
        storage.put(file, "angles", [[0.0, 0.0]])
        storage.put(file, "intrinsics", np.eye(3)[None, None])
        storage.put(file, "cam_to_world", np.eye(4)[None, None])
        for kind, channels in {"rgb": 3, "rgba": 4, "normals": 3}.items():
            storage.put(file, kind, np.zeros((1, 1, 3, 3, channels)))
        storage.put(file, "opacity", np.zeros((1, 1, 3, 3)))
        storage.put(file, "depth", depth)
    choice = ViewFiles(png=tmp_path / "png", kinds=("depth",))
    choice.write(tmp_path / "v.h5", model, tmp_path, CameraPath(camera_at([0, 0, 3])), Reporter().say)
    assert [path.name for path in (tmp_path / "png").iterdir()] == ["0000_000.depth.png"]
    assert "3 pixels are farther than 13.1 world units" in capsys.readouterr().err


def test_normals_are_colours_of_the_world():
    normals = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, 0]]], np.float16)
    expected = [[[255, 128, 128], [128, 0, 128], [128, 128, 255], [128, 128, 128]]]
    np.testing.assert_array_equal(color_normals(normals), expected)


def test_what_is_opaque_has_the_colour_of_the_view_before_any_background(views):
    for number, view in np.ndindex(2, 3):
        rgb, rgba = views["rgb"][number, view].astype(int), views["rgba"][number, view]
        opaque, clear = rgba[..., 3] == 255, rgba[..., 3] == 0
        assert opaque.any()
        assert np.abs(rgba[opaque, :3] - rgb[opaque]).max() <= 2
        assert np.abs(composite_over_white(rgba)[opaque] - rgb[opaque]).max() <= 2
        assert (composite_over_white(rgba)[clear] == 255).all()
    half = np.array([[[200, 100, 0, 51]]], np.uint8)
    np.testing.assert_array_equal(composite_over_white(half), [[[244, 224, 204]]])


def test_a_sheet_has_a_row_for_each_object_and_kind_and_the_photograph_first(written, views, model):
    sheet, step = opened(written / "sheet.png"), SIZE + GAP
    assert sheet.shape == (2 * 5 * step - GAP, 4 * step - GAP, 3)

    def cell(row, column):
        return sheet[row * step : row * step + SIZE, column * step : column * step + SIZE]

    for number, row in enumerate((0, 2)):
        np.testing.assert_array_equal(cell(5 * number, 0), framed_image(model, row, written, SIZE))
        assert (cell(5 * number + 1, 0) == 255).all(), "once for an object"
        for view in range(3):
            shown = [cell(5 * number + place, view + 1) for place in range(5)]
            np.testing.assert_array_equal(shown[0], views["rgb"][number, view])
            np.testing.assert_array_equal(shown[1], composite_over_white(views["rgba"][number, view]))
            np.testing.assert_array_equal(
                shown[2] > 0, views["depth"][number, view][..., None].repeat(3, -1) > 0
            )
            np.testing.assert_array_equal(shown[4][..., 0], views["opacity"][number, view])


def test_depth_is_shaded_alike_in_all_views_of_an_object(tmp_path):
    """A plane that comes nearer gets brighter, because near and far are those of all views together."""
    with h5py.File(tmp_path / "v.h5", "w") as file:
        depth = np.stack([np.full((4, 4), value, np.float32) for value in (5.0, 4.0, 3.0)])[None]
        file["depth"], file["rgb"] = depth, np.zeros((1, 3, 4, 4, 3), np.uint8)
        file["angles"] = np.zeros((3, 2))
        frames = list(video_frames(file, ["depth"]))
    assert [int(frame[0, 0, 0]) for frame in frames] == [38, 147, 255]
    alone = shade_depth(depth[0, 0], (3.0, 5.0))
    np.testing.assert_array_equal(alone, frames[0])
    assert (shade_depth(np.zeros((3, 3))) == 0).all(), "nothing is black"


def test_a_video_runs_over_views_or_over_objects(views):
    over_views = list(video_frames(views, ["rgb", "normals"]))
    assert len(over_views) == 2, "the photographs' own views differ by object"
    step = SIZE + GAP
    assert over_views[0].shape == (SIZE, 4 * step - GAP, 3)
    np.testing.assert_array_equal(over_views[1][:, :SIZE], views["rgb"][0, 2])
    np.testing.assert_array_equal(over_views[1][:, 2 * step : 2 * step + SIZE], views["rgb"][1, 2])
    over_objects = list(video_frames(views, over="objects"))
    assert len(over_objects) == 2
    np.testing.assert_array_equal(over_objects[1][:, :SIZE], views["rgb"][1, 1])
    np.testing.assert_array_equal(over_objects[1][:, step:], views["rgb"][1, 2])


def test_an_mp4_plays_in_browsers(written):
    # Reading a video forks, which JAX warns of in this process.
    script = (
        "import imageio.v2 as imageio, json, sys\n"
        "with imageio.get_reader(sys.argv[1]) as video:\n"
        "    told = video.get_meta_data()\n"
        "    kept = {name: told[name] for name in ('codec', 'pix_fmt', 'size', 'fps')}\n"
        "    print(json.dumps(kept | {'frames': sum(1 for _ in video)}))\n"
    )
    words = [sys.executable, "-c", script, str(written / "turn.mp4")]
    told = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert told["codec"] == "h264"
    assert told["pix_fmt"].startswith("yuv420p")
    assert told["frames"] == 2
    assert told["fps"] == pytest.approx(FPS)
    # Two objects of five kinds, side by side; the odd height made even.
    assert told["size"] == [10 * (SIZE + GAP) - GAP + 10 * (SIZE + GAP) % 2, SIZE + 1]
    content = (written / "turn.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "it plays while it is loading"


def test_a_gif_has_every_frame_and_its_speed(tmp_path):
    ramp = np.add.outer(np.arange(9), np.arange(17)).astype(np.uint8)[..., None].repeat(3, -1)
    frames = [ramp * 4 + 20 * number for number in range(5)]
    save_video(tmp_path / "x.gif", iter(frames), 12.5)
    with Image.open(tmp_path / "x.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (5, 80, 0)
        for number, frame in enumerate(frames):
            gif.seek(number)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() <= 2


def test_videos_that_can_not_be_are_told_and_leave_nothing(tmp_path):
    frame = np.zeros((2, 16400, 3), np.uint8)
    for name, rate, told in (("x.mp4", 24, "16400 x 2"), ("x.gif", 51, "at most 50"), ("x.mov", 24, "x.mov")):
        with pytest.raises(InputError, match=told):
            save_video(tmp_path / name, [frame], rate)
    with pytest.raises(InputError, match=r"x\.xyz"):
        save_image(tmp_path / "x.xyz", frame)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def flown(run, written):
    """The same model's objects of that file, along the path that it left: from the command line."""
    words = [
        "--codes",
        f"{written / 'views.h5'}:1",
        "--codes",
        written / "views.h5",
        "--path",
        written / "path.json",
    ]
    words += ["--size", SIZE, "--samples", 4, "--antialias", 1, "-o", written / "flown.h5", "--quiet"]
    done = run("render", written, *words, "--video", written / "flown.gif")
    assert (done.code, done.out, done.err) == (0, "", "")
    return written / "flown.h5"


def test_codes_and_a_path_give_the_same_pictures_again(flown, views, written):
    with storage.reading(flown, "views/1") as again:
        assert storage.strings(again["name"]) == [storage.strings(views["name"])[n] for n in (1, 0, 1)]
        np.testing.assert_array_equal(again["row"], [2, 0, 2])
        np.testing.assert_allclose(again["cam_to_world"][1:], views["cam_to_world"][:], atol=1e-6)
        np.testing.assert_allclose(again["intrinsics"][1:], views["intrinsics"][:], atol=1e-6 * SIZE)
        assert np.abs(again["rgb"][1:].astype(int) - views["rgb"][:]).max() <= 1
        np.testing.assert_array_equal(again["rgb"][0], again["rgb"][2])
        assert [record["file"] for record in json.loads(again.attrs["inputs"])] == [
            "model.h5",
            "path.json",
            "views.h5",
        ]
    with Image.open(written / "flown.gif") as gif:
        assert gif.n_frames == 2
        assert gif.info["duration"] == 1000 / FPS, "as fast as the path says"


def test_a_path_that_changed_is_noticed(run, flown, written, tmp_path):
    changed = json.loads((written / "path.json").read_text(encoding="utf-8"))
    changed["camera_path"][1]["fov"] += 1
    (tmp_path / "path.json").write_text(json.dumps(changed), encoding="utf-8")
    words = [
        "--codes",
        f"{written / 'views.h5'}:1",
        "--codes",
        written / "views.h5",
        "--path",
        tmp_path / "path.json",
    ]
    done = run("render", written, *words, "--size", SIZE, "--samples", 4, "--antialias", 1, "-o", flown)
    assert done.code == 2
    assert "differs in input path.json" in done.err


def test_codes_are_not_replaced_by_what_is_made_of_them(run, written):
    before = (written / "views.h5").read_bytes()
    done = run("render", written, "--codes", written / "views.h5", "--overwrite")
    assert done.code == 2
    assert f"--codes reads {written / 'views.h5'}; choose another --output" in done.err
    assert (written / "views.h5").read_bytes() == before


def test_codes_of_another_model_are_refused(run, trained, written, tmp_path):
    shutil.copy(trained, tmp_path / "model.h5")
    with edited(tmp_path / "model.h5") as file:
        file["latents"][0, 0] += 1
    done = run("render", tmp_path, "--codes", written / "views.h5")
    assert (done.code, done.out) == (2, "")
    assert "views.h5 was made with another model" in done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.h5"]


def test_objects_are_found_by_rows_files_and_numbers(model, trained, written):
    _, digest = storage.file_digest(trained)
    found = find_objects(model, digest, ["7", str(written / "views.h5"), f"{written / 'views.h5'}:1"])
    np.testing.assert_array_equal(found.rows, [7, 0, 2, 2])
    np.testing.assert_array_equal(found.latents, model.latents[[7, 0, 2, 2]])
    np.testing.assert_allclose(found.cameras.cam_to_world, model.cam_to_world[[7, 0, 2, 2]])
    with pytest.raises(InputError, match="objects 0 to 1"):
        find_objects(model, digest, [f"{written / 'views.h5'}:2"])
    with pytest.raises(InputError, match="does not exist"):
        find_objects(model, digest, ["none.h5:0"])


def test_photographs_that_objects_were_fitted_to_go_with_their_codes(model, trained, tmp_path):
    size, digest = 12, storage.file_digest(trained)[1]
    picture = np.random.default_rng(2).integers(0, 255, (model.size, model.size, 3), np.uint8)
    fitted = Objects(["me", "you"], ["ok", "ok"], np.full(2, -1), model.latents[:2], images={1: picture})
    inputs = [{"file": "m", "size": 1, "sha256": digest}]
    cameras = turned_cameras(np.array([0.0]), np.array([0.0]), 3.0)

    def rendered(objects, name):
        stage = storage.Stage(tmp_path / name, "views/1", "cars", inputs=inputs)
        render_to_file(
            model,
            objects,
            stage,
            cameras=cameras,
            rendering=RenderSettings(size=size, samples=2, antialias=1),
        )
        return tmp_path / name

    first = rendered(fitted, "first.h5")
    again = rendered(find_objects(model, digest, ["5", f"{first}:1", str(first)]), "again.h5")
    with storage.reading(again, "views/1") as file:
        shown = list(input_images(file, model, tmp_path, size))
        sheet = views_sheet(file, images=shown)
    assert [None if each is None else each.shape for each in shown] == [
        (12, 12, 3),
        (12, 12, 3),
        None,
        (12, 12, 3),
    ]
    assert (shown[0] == 128).all(), "a row whose photograph is not there"
    np.testing.assert_array_equal(shown[1], shown[3])
    reduced = np.asarray(Image.fromarray(picture).reduce(2)).astype(int)
    assert np.abs(shown[1] - reduced).mean() < 30
    assert sheet.shape == (4 * 14 - 2, 2 * 14 - 2, 3)
    np.testing.assert_array_equal(sheet[14:26, :12], shown[1])
    assert (sheet[28:40, :12] == 255).all()


def test_pictures_are_sampled_twice_as_finely_as_the_model_was_trained(model):
    assert model.size == 24
    sizes = {6: 4, 12: 4, 16: 3, 24: 2, 40: 2, 48: 1, 512: 1}
    assert {size: RenderSettings(size=size).antialias_of(model) for size in sizes} == sizes


def test_unusable_objects_are_black_and_without_opacity(model, tmp_path):
    objects = replace(table_objects(model, [0, 1]), status=["no_object", "ok"])
    cameras = turned_cameras(np.array([0.0]), np.array([0.0]), 3.0)
    stage = storage.Stage(tmp_path / "v.h5", "views/1", "cars")
    render_to_file(
        model, objects, stage, cameras=cameras, rendering=RenderSettings(size=8, samples=2, antialias=1)
    )
    with storage.reading(tmp_path / "v.h5", "views/1") as file:
        assert all(not file[kind][0].any() for kind in KINDS)
        assert file["rgb"][1].any()
        (frame,) = video_frames(file, KINDS)
    assert frame.shape[1] == 2 * len(KINDS) * (8 + GAP) - GAP
