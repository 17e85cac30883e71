"""Masks of any class: plain and cluttered backgrounds, models and masks of one's own, the automatic choice."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy import ndimage

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.image import InputImage, decode, inside_image
from nerfgen.mask import MaskSettings, Segmentation, SegmentationRequest, SegmenterSpec, segment_folder
from nerfgen.objectclass import object_class
from nerfgen.pretrained import FACE_LANDMARKER, SELFIE_SEGMENTER, TASKS, find_model, mediapipe_interface
from nerfgen.synth import SynthSettings, synthesize

CARS = 20


def backdrop(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """A cluttered scene, 0 to 255: stripes, noise of many scales, tiles or blobs, in two colours of any contrast."""
    row, column = np.mgrid[:size, :size] / size
    kind = int(rng.integers(4))
    if kind == 0:
        angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(4, 14), rng.uniform(0, 6)
        across = column * np.cos(angle) + row * np.sin(angle)
        weight = 0.5 + 0.5 * np.sin(2 * np.pi * waves * across + phase)
    elif kind == 1:
        scales = [
            ndimage.zoom(rng.standard_normal((n, n)), size / n, order=1) / n**0.5 for n in (4, 8, 16, 32, 64)
        ]
        weight = 1 / (1 + np.exp(-2.5 * sum(scales) / np.std(sum(scales))))
    elif kind == 2:
        n = int(rng.integers(4, 11))
        weight = rng.uniform(0, 1, (n, n))[(row * n).astype(int), (column * n).astype(int)]
    else:
        weight = 0.3 * row
        for _ in range(40):
            x, y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.02, 0.12)
            weight = np.where(np.hypot(column - x, row - y) < radius, rng.uniform(0, 1), weight)
    first, second = rng.uniform(20, 235, (2, 3))
    shading = ndimage.gaussian_filter(rng.standard_normal((size, size, 3)), (size / 12, size / 12, 0))
    noise = rng.normal(0, 6, (size, size, 3))
    return first + weight[..., None] * (second - first) + 25 * shading / shading.std() + noise


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cars before white, with their truth, which serves as cameras."""
    folder = tmp_path_factory.mktemp("masks") / "cars"
    synthesize("cars", folder, SynthSettings(num_images=CARS, size=96, views=0), workers=1)
    return folder


def recomposed(
    cars: Path, folder: Path, background: Callable[[np.random.Generator, int], Any], suffix: str = ".png"
) -> Path:
    """The same cars before another background."""
    folder.mkdir()
    shutil.copy(cars / "truth.h5", folder / "truth.h5")
    with storage.reading(cars / "truth.h5", "truth/1") as file:
        for index, name in enumerate(storage.strings(file["image"])):
            clear = 1 - file["mask"][index][..., None] / 255
            behind = background(np.random.default_rng([7, index]), len(clear))
            picture = decode(cars / name) + clear * (behind - 255.0)
            Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(folder / name)
    return folder


def overlaps(masks: Path, truth: Path) -> np.ndarray:
    """Intersection over union of every image's mask and its true one, in the masks' windows; 0 without a mask."""
    scores = []
    with storage.reading(masks, "masks/1") as found, storage.reading(truth, "truth/1") as true:
        assert storage.strings(found["image"]) == storage.strings(true["image"])
        for index, window in enumerate(true["window"][:]):
            alpha = InputImage(np.repeat(true["mask"][index][..., None], 3, axis=-1))
            size = found["mask"].shape[1]
            # An image as its own alpha channel: the window of the true mask.
            wanted = masked(alpha, tuple(window), size)
            mask = found["mask"][index] > 127
            scores.append((mask & wanted).sum() / (mask | wanted).sum())
    return np.array(scores)


def masked(photo: InputImage, window: tuple[float, float, float], size: int) -> np.ndarray:
    from nerfgen.image import resample_window

    raster, valid = resample_window(photo.pixels()[0], window, size)
    return (raster[..., 0] > 127) & valid


def segmented(method: str, photo: InputImage, size: int = 64, **settings: Any) -> Segmentation:
    """The whole of a square photograph."""
    spec = SegmenterSpec(MaskSettings(method, **settings), object_class("car"))
    return spec.prepared().build()(
        SegmentationRequest(photo, (0.0, 0.0, float(photo.size[0])), size, "a.jpg")
    )


def picture(size: int = 64, background: tuple[int, int, int] = (250, 250, 250)) -> np.ndarray:
    """A red disc with a round hole, off the middle, half of it as bright as the background."""
    y, x = np.mgrid[:size, :size] + 0.5
    image = np.full((size, size, 3), background, np.uint8)
    image[np.hypot(x - 30, y - 34) < 20] = (200, 40, 30)
    image[np.hypot(x - 30, y - 34) < 8] = background
    return image


def test_cars_before_white(cars: Path, tmp_path: Path) -> None:
    summary = segment_folder(
        cars, tmp_path / "masks.h5", cameras=cars / "truth.h5", settings=MaskSettings(size=96), workers=1
    )
    assert summary["methods"] == {"color": CARS}
    assert overlaps(tmp_path / "masks.h5", cars / "truth.h5").mean() > 0.97


@pytest.mark.mediapipe
def test_cars_before_clutter(cars: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    data = recomposed(cars, tmp_path / "cluttered", backdrop)
    output = tmp_path / "masks.h5"
    summary = segment_folder(
        data, output, cameras=data / "truth.h5", settings=MaskSettings("grabcut", size=96)
    )
    assert summary["statuses"] == {"ok": CARS}
    assert overlaps(output, data / "truth.h5").mean() > 0.90
    # The same files by another number of workers, to the bit.
    again = tmp_path / "again.h5"
    segment_folder(
        data, again, cameras=data / "truth.h5", settings=MaskSettings("grabcut", size=96), workers=1
    )
    assert output.read_bytes() == again.read_bytes()


@pytest.mark.mediapipe
def test_the_choice_is_told(cars: Path, tmp_path: Path, run: Any) -> None:
    pytest.importorskip("cv2")
    data = recomposed(cars, tmp_path / "mixed", lambda rng, size: 255.0)
    cluttered = recomposed(cars, tmp_path / "cluttered", backdrop)
    for index in (1, 2):
        shutil.copy(cluttered / f"{index:06d}.png", data)
    image = np.dstack([decode(cars / "000000.png"), np.eye(96, dtype=np.uint8) * 255])
    Image.fromarray(image).save(data / "000000.png")
    arguments = ("segment", data, "--cameras", data / "truth.h5", "--size", 64)
    done = run(*arguments, "--json")
    assert done.code == 0, done.err
    chosen = {"alpha": 1, "color": CARS - 3, "grabcut": 2}
    assert json.loads(done.out)["methods"] == chosen
    assert f"1 by alpha, {CARS - 3} by color, 2 by grabcut" in done.err
    kept = run(*arguments, "--json")
    assert json.loads(kept.out)["methods"] == chosen
    assert json.loads(kept.out)["kept"]
    other = run(*arguments, "--background", "black")
    assert other.code == 2
    assert "background" in other.err


@pytest.mark.mediapipe
@pytest.mark.parametrize("scene_number", [5, 6, 8])
def test_landmarks_tell_the_ears_from_the_gap_between_them(scene_number: int) -> None:
    """A striped head with two ears before tiles or noise."""
    pytest.importorskip("cv2")
    size, rng = 128, np.random.default_rng(2)
    y, x = np.mgrid[:size, :size] + 0.5
    ears = [
        np.array([[28.0, 50.0], [24.0, 14.0], [54.0, 38.0]]),
        np.array([[100.0, 50.0], [104.0, 14.0], [74.0, 38.0]]),
    ]
    head = np.hypot((x - 64) / 42, (y - 72) / 38) < 1
    for ear in ears:
        head |= np.asarray(_triangle(ear, size))
    fur = np.array([150.0, 110.0, 70.0]) + 25 * np.sin(x / 3)[..., None] + rng.normal(0, 8, (size, size, 3))
    image = np.where(head[..., None], fur, backdrop(np.random.default_rng(scene_number), size))
    points = np.concatenate([[[48.0, 66.0], [80.0, 66.0], [64.0, 90.0]], *ears])
    request = SegmentationRequest(
        InputImage(image.clip(0, 255).astype(np.uint8)),
        (0.0, 0.0, 128.0),
        128,
        bounds=(1.0, 1.0, 1.0),
        landmarks=points,
    )
    found = SegmenterSpec(MaskSettings("grabcut"), object_class("cat")).prepared().build()(request).mask
    assert found is not None
    mask = found > 127
    assert (mask & head).sum() / (mask | head).sum() > 0.9
    assert all(
        mask[round(y), round(x)] for x, y in np.concatenate([0.8 * ear + 0.2 * ear.mean(0) for ear in ears])
    )
    assert not mask[18:28, 50:78].any()


def test_an_object_of_which_the_image_shows_a_corner() -> None:
    """What colours cannot tell apart is cut by position: less the farther the image lies from the window's centre."""
    pytest.importorskip("cv2")
    segment = SegmenterSpec(MaskSettings("grabcut"), object_class("cat")).prepared().build()
    image = InputImage(np.full((128, 128, 3), 90, np.uint8))
    covered = []
    for corner in (-80.0, -140.0, -200.0):
        request = SegmentationRequest(image, (corner, corner, 256.0), 64, bounds=(1.0, 1.0, 1.0))
        found = segment(request).mask
        assert found is not None
        shown = inside_image(image.size, request.window, 64)
        assert not found[~shown].any()
        covered.append(float((found[shown] > 127).mean()))
    assert covered[0] > covered[1] > covered[2], covered


def _triangle(corners: np.ndarray, size: int) -> Image.Image:
    picture = Image.new("1", (size, size))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], fill=1)
    return picture


def test_without_opencv(cars: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what needs OpenCV fails, and says what to install."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    arguments = ("segment", cars, "--cameras", cars / "truth.h5", "--size", 32, "--workers", 1)
    monkeypatch.setenv(
        "PYTHONPATH", f"{broken}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    )
    plain = run(*arguments, "-o", tmp_path / "plain.h5")
    assert plain.code == 0, plain.err
    failed = run(*arguments, "-o", tmp_path / "cut.h5", "--method", "grabcut")
    assert failed.code == 2
    assert "libGL.so.1 is missing (apt-get install libgl1)" in failed.err
    assert len(failed.err.splitlines()) == 1
    (broken / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\")")
    failed = run(*arguments, "-o", tmp_path / "cut.h5", "--method", "grabcut")
    assert "pip install opencv-contrib-python" in failed.err


@pytest.mark.parametrize("background", [(250, 250, 250), (20, 90, 40), (0, 0, 0)])
def test_a_hole_shows_the_background(background: tuple[int, int, int]) -> None:
    mask = segmented("color", InputImage(picture(background=background))).mask
    assert mask is not None
    assert mask[34, 30] == 0  # the hole
    assert mask[34, 16] == mask[20, 30] == 255
    assert not mask[:12].any()


def test_bright_parts_of_the_object_are_no_holes() -> None:
    image = picture()
    y, x = np.mgrid[:64, :64] + 0.5
    glint = np.exp(-(((x - 15) ** 2 + (y - 40) ** 2) / 8))[..., None]
    image = (image + glint * (250.0 - image)).astype(np.uint8)  # fades to the colour of the background
    mask = segmented("color", InputImage(image)).mask
    assert mask is not None
    assert (mask[35:45, 13:20] > 127).all()


def test_edges_are_soft_and_cover_what_the_object_covers() -> None:
    fine = np.full((512, 512, 3), 255, np.uint8)
    y, x = np.mgrid[:512, :512] + 0.5
    inside = np.hypot(x - 250, y - 260) < 150
    fine[inside] = (30, 60, 160)
    small = np.asarray(Image.fromarray(fine).reduce(8))
    mask = segmented("color", InputImage(small)).mask
    assert mask is not None
    truth = np.asarray(Image.fromarray(inside.astype(np.uint8) * 255).reduce(8))
    assert abs(mask.astype(int) - truth).max() < 30
    assert ((mask > 20) & (mask < 235)).sum() > 40


@pytest.mark.parametrize("spoil", ["noise", "jpeg"])
def test_noisy_backgrounds(spoil: str, tmp_path: Path) -> None:
    image = picture(background=(228, 232, 236))
    clean = segmented("color", InputImage(image)).mask
    assert clean is not None
    if spoil == "noise":
        noisy = image + np.random.default_rng(0).normal(0, 6, image.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    else:
        Image.fromarray(image).save(tmp_path / "a.png", format="JPEG", quality=60)
    mask = segmented("color", InputImage(tmp_path / "a.png")).mask
    assert mask is not None
    assert ((mask > 127) ^ (clean > 127)).sum() < 0.03 * (clean > 127).sum()


def test_a_background_that_is_not_plain_or_not_the_one_given() -> None:
    stripes = picture()
    stripes[::4] = (0, 0, 200)
    stripes[1::4] = (0, 200, 0)
    assert segmented("color", InputImage(stripes)).status == "no_plain_background"
    assert segmented("color", InputImage(picture()), background="#fafafa").status == "ok"
    assert segmented("color", InputImage(picture()), background="black").status == "no_plain_background"


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("color", {"background": "blueish"}, "#rrggbb"),
        ("alpha", {"background": "white"}, "`background` is for method color"),
        ("tflite", {}, "needs `model`"),
        ("files", {}, "needs `masks`"),
        ("grabcut", {"model": Path("a.tflite")}, "`model` is for method tflite"),
        ("magic", {}, "`method` is one of auto"),
        ("files", {"masks": Path("/nowhere")}, "is not a folder"),
        ("files", {"masks": Path("."), "category": "cat"}, "number"),
    ],
)
def test_unsuitable_settings(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmenterSpec(MaskSettings(method, **settings), object_class("car")).build()


def test_own_masks(cars: Path, tmp_path: Path) -> None:
    """Masks written as PNGs come back; names, missing, damaged and unlike ones are told."""
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    segment_folder(cars, first, cameras=cars / "truth.h5", settings=MaskSettings("color", size=96), workers=1)
    from nerfgen.mask import write_png_masks

    folder = tmp_path / "png"
    write_png_masks(first, folder, workers=1)
    (folder / "000001.png.png").rename(folder / "000001_mask.png")
    (folder / "000002.png.png").rename(folder / "000002.png")
    (folder / "000003.png.png").unlink()
    (folder / "000004.png.png").write_bytes(b"damaged")
    Image.new("L", (96, 50)).save(folder / "000005.png.png")
    Image.open(folder / "000006.png.png").resize((192, 192)).save(folder / "000006.png.png")

    def segment(**more: Any) -> dict[str, Any]:
        return segment_folder(
            cars,
            second,
            cameras=cars / "truth.h5",
            settings=MaskSettings("files", masks=folder, size=96),
            workers=1,
            **more,
        )

    assert segment()["statuses"] == {"bad_mask": 2, "no_mask": 1, "ok": CARS - 3}
    with storage.reading(first, "masks/1") as there, storage.reading(second, "masks/1") as back:
        statuses = storage.strings(back["status"])
        assert [statuses[index] for index in (3, 4, 5)] == ["no_mask", "bad_mask", "bad_mask"]
        for index in [0, 1, 2, *range(6, CARS)]:
            given, found = there["mask"][index] > 127, back["mask"][index] > 127
            assert (given & found).sum() / (given | found).sum() > 0.96
    assert segment()["kept"]
    (folder / "000004.png.png").unlink()
    with pytest.raises(OutputExistsError, match="masks"):
        segment()


def test_own_labels(tmp_path: Path) -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:20, 10:24] = 3
    labels[22:30] = 5
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([0, 0, 0] * 8)  # all categories look alike
    image.save(tmp_path / "a.png")
    photo = InputImage(picture())
    mask = segmented("files", photo, 32, masks=tmp_path, category="3").mask
    assert mask is not None
    assert (mask[9:19, 11:23] == 255).all()
    assert not mask[22:].any()


def selfie_model() -> Path:
    if mediapipe_interface() == TASKS:
        return find_model(SELFIE_SEGMENTER.name)
    package = Path(pytest.importorskip("mediapipe").__file__).parent
    return package / "modules" / "selfie_segmentation" / "selfie_segmentation.tflite"


def face_network() -> bytes:
    """A network that segments nothing."""
    if mediapipe_interface() == TASKS:
        with zipfile.ZipFile(find_model(FACE_LANDMARKER.name)) as bundle:
            return bundle.read("face_landmarks_detector.tflite")
    return (selfie_model().parents[1] / "face_landmark" / "face_landmark.tflite").read_bytes()


@pytest.mark.mediapipe
@pytest.mark.parametrize("category", [None, "selfie", "0"])
def test_a_model_of_ones_own(heads_photo: InputImage, category: str | None) -> None:
    wanted = segmented("selfie", heads_photo).mask
    found = segmented("tflite", heads_photo, model=selfie_model(), category=category).mask
    assert wanted is not None
    assert found is not None
    assert 0.2 < (wanted > 127).mean() < 0.9
    assert abs(found.astype(int) - wanted).max() <= 2


@pytest.fixture(scope="module")
def heads_photo() -> InputImage:
    from nerfgen.synth import render_object

    return InputImage(render_object("heads", 0, 3, size=128, supersample=1).rgb)


@pytest.mark.mediapipe
def test_models_that_do_not_serve(tmp_path: Path, heads_photo: InputImage) -> None:
    model = selfie_model()
    with pytest.raises(InputError, match="no category 'cat'; its categories are selfie"):
        segmented("tflite", heads_photo, model=model, category="cat")
    (tmp_path / "names.txt").write_text("person\n")
    named = segmented("tflite", heads_photo, model=model, category="person", labels=tmp_path / "names.txt")
    assert named.status == "ok"
    (tmp_path / "text.tflite").write_text("not a model")
    with pytest.raises(InputError, match="not a TensorFlow Lite model"):
        segmented("tflite", heads_photo, model=tmp_path / "text.tflite")
    (tmp_path / "cut.tflite").write_bytes(model.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"damaged|can't run"):
        segmented("tflite", heads_photo, model=tmp_path / "cut.tflite")
    (tmp_path / "faces.tflite").write_bytes(face_network())
    with pytest.raises(InputError, match="segmentation model"):
        segmented("tflite", heads_photo, model=tmp_path / "faces.tflite")
    with pytest.raises(InputError, match="can't be read"):
        segmented("tflite", heads_photo, model=tmp_path / "absent.tflite")


@pytest.mark.mediapipe
def test_descriptions_of_hostile_models_are_read_within_bounds(tmp_path: Path) -> None:
    """Any bytes of a model's description give a description or an error; archives of names are not believed."""
    from nerfgen.mask.tflite_model import TFLiteModel

    content = selfie_model().read_bytes()
    path = tmp_path / "model.tflite"
    random = np.random.default_rng(0)
    # What the description says stands at the end of the file, behind the weights.
    places = np.concatenate([np.arange(8, 400), np.arange(len(content) - 40_000, len(content))])
    refused = []
    for _ in range(int(os.environ.get("NERFGEN_MUTANTS", "100"))):
        mutant = bytearray(content)
        for place in random.choice(places, 20):
            mutant[place] = random.choice([0, 1, 127, 255, int(random.integers(256))])
        path.write_bytes(mutant)
        try:
            found = TFLiteModel(path)
        except InputError as error:
            refused.append(str(error))
        else:
            assert 0 < max(found.width, found.height) <= 8192
            assert np.isfinite(found.pixel_range).all()
    assert refused
    assert all(message.isprintable() for message in refused)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"\x1b" * (1 << 26))
    path.write_bytes(content + bomb.getvalue())
    names = TFLiteModel(path).names
    assert names
    assert sum(map(len, names)) <= 4 << 20
    (tmp_path / "endless.tflite").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        TFLiteModel(tmp_path / "endless.tflite")
