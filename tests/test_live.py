"""Models in memory: the queue of renderings, long tasks, who may ask, and images that others send."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.geometry import turned_cameras
from nerfgen.image import UnreadableImageError
from nerfgen.live import (
    Access,
    BusyError,
    ClosedError,
    ExpiredError,
    Jobs,
    LiveModel,
    ModelHost,
    RenderQueue,
    Uploads,
    Urgency,
    View,
    is_loopback,
)
from nerfgen.render import Part, render_views, samples_of
from nerfgen.settings import SettingError

DATA = Path(__file__).parent / "data"
SIZE = 16


@pytest.fixture(scope="module")
def model():
    return LiveModel("planes", DATA / "model_planes.h5")


def views_of(model, rows, size=SIZE, **options):
    """A view of each row, from the front."""
    cameras = turned_cameras(np.zeros(1), 0.0, model.model.distance)
    matrix, pose = cameras.matrices(size)[0], cameras.cam_to_world[0]
    samples = samples_of(model.model)
    return [
        View(model.object(model.model.latents[row]), matrix, pose, Part(0, 0, size, size), samples, **options)
        for row in rows
    ]


class Slow(RenderQueue):
    """Notes what is rendered together, and renders when the test says so."""

    def __init__(self, **options):
        self.batches, self.turnstile = [], threading.Semaphore(0)
        super().__init__(**options)

    def _next_batch(self):
        batch = super()._next_batch()
        if batch:
            self.turnstile.acquire()
            self.batches.append([(request.urgency, place) for request, place in batch])
        return batch


def test_views_are_those_of_render(model):
    rows = [0, 5, 0, 9]
    options = {"antialias": 2, "with_normals": True}
    with RenderQueue() as queue:
        found = queue.submit(views_of(model, rows, **options)).result(60)
    cameras = turned_cameras(np.zeros(4), 0.0, model.model.distance)
    expected = render_views(
        model.model, model.model.latents[rows], cameras.matrices(SIZE), cameras.cam_to_world, SIZE, **options
    )
    for place, views in enumerate(found):
        for name in ("rgb", "foreground", "opacity", "depth", "normals"):
            np.testing.assert_array_equal(getattr(views, name), getattr(expected, name)[place])


def test_parts_make_up_the_view(model):
    whole = views_of(model, [3])[0]
    parts = [Part(top, left, 6, 9) for top in (0, 6) for left in (0, 7)]
    with RenderQueue() as queue:
        full = queue.submit([whole]).result(60)[0]
        tiles = queue.submit([View(**vars(whole) | {"part": part}) for part in parts]).result(60)
    for (top, left, height, width), tile in zip(parts, tiles, strict=True):
        there = full.foreground[top : top + height, left : left + width]
        np.testing.assert_allclose(tile.foreground, there, atol=1e-5)


def test_the_most_urgent_goes_first_and_requests_take_turns(model):
    with Slow(max_batch=2) as queue:
        queue.submit(views_of(model, [4]))
        time.sleep(0.05)  # that one is taken; the others wait
        long = queue.submit(views_of(model, [0] * 4))
        sharp = queue.submit(views_of(model, [1]), urgency=Urgency.SHARPENING)
        short = queue.submit(views_of(model, [2], size=8))
        moving = queue.submit(views_of(model, [3]), urgency=Urgency.MOVING)
        queue.turnstile.release(10)
        for future in (long, sharp, short, moving):
            future.result(60)
    answer = Urgency.ANSWER
    assert queue.batches[1:] == [
        [(Urgency.MOVING, 0)],
        [(answer, 0), (answer, 1)],
        [(answer, 0)],
        [(answer, 2), (answer, 3)],
        [(Urgency.SHARPENING, 0)],
    ]


def test_equal_shapes_are_rendered_together(model):
    with Slow(max_batch=3, batch_seconds=5.0) as queue:
        queue.turnstile.release(10)
        futures = [queue.submit(views_of(model, [row])) for row in range(3)]
        for future in futures:
            future.result(60)
    assert [len(batch) for batch in queue.batches] == [3]
    assert queue.statistics.views == 3
    assert queue.statistics.batches == 1


def test_a_full_queue_says_when_to_come_back(model):
    with Slow(limit=2) as queue:
        queue.submit(views_of(model, [0]))
        time.sleep(0.05)
        waiting = [queue.submit(views_of(model, [row])) for row in (1, 2)]
        with pytest.raises(BusyError) as refused:
            queue.submit(views_of(model, [3]))
        assert refused.value.retry_seconds >= 1
        # Moving frames replace each other: there is one for each visitor at most.
        moving = queue.submit(views_of(model, [4]), urgency=Urgency.MOVING)
        queue.turnstile.release(10)
        for future in [*waiting, moving]:
            future.result(60)
    assert queue.statistics.refused == 1


def test_what_is_cancelled_or_late_is_not_rendered(model):
    with Slow() as queue:
        queue.submit(views_of(model, [0]))
        time.sleep(0.05)
        cancelled = queue.submit(views_of(model, [1]))
        late = queue.submit(views_of(model, [2]), seconds=0.1)
        assert cancelled.cancel()
        time.sleep(0.2)
        queue.turnstile.release(10)
        with pytest.raises(ExpiredError):
            late.result(60)
    with pytest.raises(CancelledError):
        cancelled.result()
    assert queue.statistics.views == 1


def test_an_error_reaches_those_who_asked_and_the_queue_goes_on(model):
    with RenderQueue() as queue:
        good = views_of(model, [0])[0]
        bad = View(**vars(good) | {"samples": 0})
        with pytest.raises(InputError, match="samples"):
            queue.submit([bad]).result(60)
        assert queue.submit([good]).result(60)[0].rgb.shape == (SIZE, SIZE, 3)


def test_a_closed_queue_answers_what_waits(model):
    queue = RenderQueue()
    futures = [queue.submit(views_of(model, [row])) for row in range(4)]
    queue.close(60)
    assert all(future.result().__len__() == 1 for future in futures)
    with pytest.raises(ClosedError):
        queue.submit(views_of(model, [0]))


def test_a_queue_that_is_closed_at_once_refuses_what_waits(model):
    queue = Slow()
    queue.submit(views_of(model, [0]))
    time.sleep(0.05)
    waiting = queue.submit(views_of(model, [1]))
    threading.Timer(0.2, queue.turnstile.release).start()
    queue.close()
    with pytest.raises(ClosedError):
        waiting.result(60)


def test_jobs_run_one_by_one_and_report(model):
    seen, order = [], []
    with RenderQueue() as queue, Jobs(queue) as jobs:

        def work(name):
            def run(progress):
                progress(1, 2, name)
                order.append(name)
                return name

            return run

        first = jobs.submit(work("first"), watch=lambda *said: seen.append(said))
        second = jobs.submit(work("second"))
        assert (first.future.result(10), second.future.result(10)) == ("first", "second")
    assert order == ["first", "second"]
    assert seen == [(1, 2, "first")]


def endless(progress):
    while True:
        progress(0, 1)
        time.sleep(0.01)


def test_a_job_ends_when_it_is_cancelled_or_late():
    with RenderQueue() as queue, Jobs(queue, limit=1) as jobs:
        running = jobs.submit(endless)
        time.sleep(0.05)
        waiting = jobs.submit(endless)
        with pytest.raises(BusyError):
            jobs.submit(endless)
        waiting.cancel()
        running.cancel()
        with pytest.raises(CancelledError):
            running.future.result(10)
        with pytest.raises(ExpiredError):
            jobs.submit(endless, seconds=0.1).future.result(10)
        failing = jobs.submit(lambda progress: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failing.future.result(10)


def test_jobs_that_are_closed_give_up():
    with RenderQueue() as queue:
        jobs = Jobs(queue)
        job = jobs.submit(endless)
        jobs.close(0.1)
        assert job.future.cancelled()
        with pytest.raises(ClosedError):
            jobs.submit(endless)


def test_models_leave_the_memory(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.h5").write_bytes((DATA / "model_planes.h5").read_bytes())
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "model.h5").write_bytes((DATA / "model_mlp.h5").read_bytes())
    host = ModelHost([tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5", tmp_path / "faces"], limit=2)
    assert host.names == ["a", "b", "c", "faces"]
    assert [host.is_loaded(name) for name in host.names] == [False, False, True, True]
    assert host.get("c") is host.get("c")
    assert host.get().name == "a"
    assert [host.is_loaded(name) for name in host.names] == [True, False, True, False]
    with pytest.raises(InputError, match=r"no `model` '\.\./a'"):
        host.get("../a")
    with pytest.raises(InputError, match="rename"):
        ModelHost([tmp_path / "a.h5", tmp_path / "a.h5"])


def test_objects_have_keys_of_what_they_show(model):
    latent = model.model.latents[0]
    tuned = model.tuned({}, "mine")
    keys = {model.object(latent).key, model.object(latent + 1).key, model.object(latent, tuned).key}
    assert len(keys) == 3
    assert model.object(latent.astype(np.float64)).key == model.object(latent).key


HERE = {"host": "localhost:8080"}


@pytest.mark.parametrize(
    ("headers", "target", "why"),
    [
        (HERE, "/", ""),
        ({"host": "127.0.0.1:9000"}, "/", ""),
        ({"host": "[::1]:9000", "origin": "http://[::1]:9000"}, "/", ""),
        ({**HERE, "origin": "http://localhost:8080"}, "/", ""),
        ({"host": "evil.example:8080"}, "/", "Host"),
        ({}, "/", "Host"),
        ({**HERE, "origin": "http://evil.example"}, "/", "Origin"),
        ({**HERE, "origin": "http://localhost:8081"}, "/", "Origin"),
        ({**HERE, "origin": "null"}, "/", "Origin"),
        ({**HERE, "origin": "http://["}, "/", "Origin"),
        ({"host": "[", "origin": "http://["}, "/", "Host"),
        ({**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "/", "another site"),
        (
            {
                **HERE,
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "iframe",
            },
            "/",
            "another site",
        ),
        (
            {
                **HERE,
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "document",
            },
            "/",
            "",
        ),
        ({**HERE, "sec-fetch-site": "same-origin"}, "/", ""),
    ],
)
def test_other_sites_are_refused(headers, target, why):
    refusal = Access.of("127.0.0.1").refusal(headers, target, 8080)
    assert why in refusal
    assert bool(why) is bool(refusal)


def test_a_token_is_needed_where_others_can_reach_the_server():
    assert not Access.of("127.0.0.1").token
    access = Access.of("0.0.0.0", ("Studio.example",))
    assert len(access.token) >= 32
    assert access.token != Access.of("0.0.0.0").token
    here = {"host": "studio.example:8080"}
    good = [
        access.refusal(here, f"/?token={access.token}", 8080),
        access.refusal({**here, "authorization": f"Bearer {access.token}"}, "/", 8080),
        access.refusal({**here, "cookie": f"a=b; nerfgen-token-8080={access.token}"}, "/", 8080),
        # Programs at other ports of the same name set cookies too.
        access.refusal(
            {**here, "cookie": f'a={{"x": 1}}; b[c]=é; nerfgen-token-8080={access.token}'}, "/", 8080
        ),
    ]
    assert good == [""] * 4
    for headers, target in [
        (here, "/"),
        (here, "/?token="),
        (here, "/?token=é"),
        (here, "/?token=\udce9"),
        (here, "//[?token=x"),
        ({**here, "authorization": "Bearer \udce9"}, "/"),
        ({**here, "authorization": "Bearer wrong"}, "/"),
        ({**here, "cookie": f"nerfgen-token-8081={access.token}"}, "/"),
        ({**here, "cookie": "=;;=\x00"}, "/"),
    ]:
        assert "token" in access.refusal(headers, target, 8080)
    cookie = access.cookie(f"/?token={access.token}", 8080)
    assert cookie == f"nerfgen-token-8080={access.token}; HttpOnly; SameSite=Strict; Path=/"
    assert access.cookie("/?token=wrong", 8080) == ""


@pytest.mark.parametrize("token", ["a b", "a;b", "é", "a+b", "a&b", "a\nb"])
def test_tokens_that_no_address_or_cookie_holds_are_refused(token):
    with pytest.raises(SettingError, match="`token`"):
        Access.of("127.0.0.1", token=token)
    assert Access.of("127.0.0.1", token="A-z_0.9~").token


def test_addresses_that_others_can_reach():
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("")
    with pytest.raises(SettingError, match="host"):
        is_loopback("no.such.name.invalid")


def png(width, height, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def test_images_are_decoded_elsewhere_and_within_limits():
    with Uploads(max_bytes=1 << 20, max_pixels=10_000_000) as uploads:
        assert uploads.decode(png(30, 20)).shape == (20, 30, 3)
        assert uploads.decode(png(3000, 100)).shape == (68, 2048, 3)
        for content, status in [
            (b"", "unreadable"),
            (b"GIF89a", "unreadable"),
            (png(30, 20)[:40], "unreadable"),
            (b"\0" * (1 << 20) + b"\0", "too_large"),
            (png(5000, 4000), "too_large"),
        ]:
            with pytest.raises(UnreadableImageError) as refused:
                uploads.decode(content)
            assert refused.value.status == status
        # A process that was killed is replaced.
        uploads._process.submit(os._exit, [3])
        with pytest.raises(UnreadableImageError, match="limits"):
            uploads.decode(png(30, 20))
        assert uploads.decode(png(30, 20)).shape == (20, 30, 3)
