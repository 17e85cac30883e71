"""The viewer in a real browser: CONTRIBUTING says how to get one. Skipped without it."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("viser")
pytest.importorskip("playwright")

from playwright.sync_api import sync_playwright

from nerfgen.live import Listening, LiveModel
from nerfgen.view import Viewer, ViewerSettings, compile_programs

CHROMIUM = os.environ.get("NERFGEN_CHROMIUM") or shutil.which("chromium") or ""
DATA = Path(__file__).parent / "data"
PHOTOS = Path(os.environ.get("NERFGEN_DATA", Path(__file__).parents[2] / "shared" / "data")) / "pairs"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed"),
]

# Chromium draws on the processor where there is no graphics card.
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "model.h5"
    path.write_bytes((DATA / "model_planes.h5").read_bytes())
    live = LiveModel("faces", path)
    compile_programs(live)
    with Viewer(live, Listening(port=0), ViewerSettings(size=256)) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, viewer):
    """The page of a visitor, and all that it asked the network for."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(viewer.url)
    page.get_by_text("Shown: mean").wait_for(timeout=60_000)
    still(page)
    yield page
    others = [url for url in requests if not url.startswith((viewer.url, "data:", "blob:"))]
    assert others == []
    page.close()


def screen(page):
    """What is seen of the frame, left of the panels."""
    content = page.screenshot(clip={"x": 400, "y": 200, "width": 400, "height": 400})
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), float)


def still(page, seconds=30.0):
    """The frame when it changes no more."""
    before, deadline = screen(page), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(1.5)
        now = screen(page)
        if np.abs(now - before).mean() < 0.1:
            return now
        before = now
    raise AssertionError("the frame does not settle")


def differs(one, other):
    return float(np.abs(one - other).mean())


def move_first_axis(page):
    """Drag the slider of the first axis, which follows that of truncation, to the right."""
    box = page.get_by_role("slider").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(10):
        page.mouse.move(x + 5 * step, y)
        time.sleep(0.02)
    page.mouse.up()


def test_dragging_turns_the_object(page):
    front = still(page)
    page.mouse.move(500, 400)
    page.mouse.down()
    for step in range(20):
        page.mouse.move(500 + 10 * step, 400)
        time.sleep(0.02)
    page.mouse.up()
    assert differs(still(page), front) > 3


def test_sliders_move_the_object(page):
    mean = still(page)
    move_first_axis(page)
    assert differs(still(page), mean) > 1
    page.get_by_role("button", name="Back to the mean").click()
    assert differs(still(page), mean) < 1


def test_a_mesh_is_downloaded(page):
    page.get_by_role("tab", name="Files").click()
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name="Mesh (GLB)").click()
    assert download.value.suggested_filename == "mean.glb"
    assert Path(download.value.path()).read_bytes()[:4] == b"glTF"


@pytest.mark.mediapipe
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no images: set NERFGEN_DATA")
def test_an_image_is_fitted(page):
    before = still(page)
    page.get_by_role("tab", name="Image").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files(sorted(PHOTOS.glob("*_a.jpg"))[0])
    page.get_by_text("Fitted:").wait_for(timeout=180_000)
    fitted = still(page)
    assert differs(fitted, before) > 3
    page.get_by_role("tab", name="Object").click()
    assert page.get_by_text("your image").is_visible()
    move_first_axis(page)
    assert differs(still(page), fitted) > 0.5


@pytest.mark.parametrize("width", [1280, 390])
def test_all_panels_can_be_reached(browser, viewer, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(viewer.url)
    page.get_by_text("Shown: mean").wait_for(timeout=60_000)
    for name, words in (
        ("Table", "Rows 0 to 13 of 14"),
        ("Walk", "Pick what is shown as A"),
        ("Image", "Choose an image"),
        ("Look", "Training cameras"),
        ("Files", "Command for this view"),
        ("Object", "Back to the mean"),
    ):
        page.get_by_role("tab", name=name).click()
        page.get_by_text(words).first.wait_for(timeout=10_000)
    page.close()
