"""What people see of reports and studies: pages, comparisons and text."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from edited import edited
from PIL import Image

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.metric import Estimate
from nerfgen.objectclass import object_class
from nerfgen.report import (
    ImageGrid,
    ItemValues,
    Point,
    Report,
    ScatterPoints,
    Study,
    Table,
    load_report,
    save_report,
)
from nerfgen.report.catalogue import verdict
from nerfgen.report.comparison import compare, distinct_names
from nerfgen.report.pages import report_page, save_page, study_page
from nerfgen.report.text import WIDTH, comparison_text, report_text, study_text

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = """<b onclick="x()">a & b's</b>.png"""


class Page(HTMLParser):
    """A page that was read: its text, its attributes, and whether every element ends where it should."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.text, self.tags = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data.strip())

    def pictures(self) -> list[np.ndarray]:
        found = [held["src"] for tag, held in self.tags if tag == "img"]
        return [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))
            for uri in found
        ]


def a_report(name: str = "cars/model.h5", shift: float = 0.0, first: int = 0) -> Report:
    """A report of twelve images from image ``first`` on, with ``shift`` added to its values."""
    items = [NASTY, *(f"{k:03d}.png" for k in range(1, 20))][first : first + 12]
    values = np.random.default_rng(5).normal(25, 2, 20)[first : first + 12] + shift
    some = np.random.default_rng(6).integers(0, 255, (2, 2, 8, 8, 3), dtype=np.uint8)
    pictures = ImageGrid(items[:2], ["photograph", "reconstruction"], some)
    unmeasured = Estimate(float("nan"), float("nan"), float("nan"), 0)
    tables = {
        "train": Table(
            {"psnr_db": ItemValues(items, values), "ssim": ItemValues(items, np.r_[values[1:] / 40, np.nan])},
            notes=["12 photographs"],
            missing=["lpips: no weights"],
            grids={"reconstructions": pictures},
            points={"depths": ScatterPoints(values, values + 0.1, "true", "predicted")},
        ),
        "novel": Table({}, missing=["no views & no <pairs>"]),
        "samples": Table({}, pooled={"fid": unmeasured, "coverage": Estimate(0.71, 0.62, 0.8, 40)}),
    }
    about = {
        "class": "cars",
        "parameters": json.dumps({"images": 12, "seed": 0}),
        "inputs": json.dumps([{"file": "model.h5", "size": 10, "sha256": "ab" * 32}]),
    }
    return Report(name, tables, {table: held.summary() for table, held in tables.items()}, about)


def test_page_has_every_metric_and_is_self_contained():
    report = a_report(f"cars/{NASTY}.h5")
    html = report_page([report])
    page = Page(html)
    for metric, digits in (("psnr_db", 2), ("ssim", 3)):
        figure = report.estimates["train"][metric]
        assert f"{figure.mean:.{digits}f}" in page.text
        assert f"{figure.low:.{digits}f} to {figure.high:.{digits}f}" in page.text
        assert str(figure.n) in page.text
    # A dash stands for a value that was not measured; missing metrics are listed.
    assert {"–", "0.710", "0.620 to 0.800", "lpips: no weights", "no views & no <pairs>"} <= set(page.text)
    assert not any(tag in ("script", "b") and "onclick" in held for tag, held in page.tags)
    assert NASTY in page.text
    references = [
        held[name] for _, held in page.tags for name in ("src", "href", "srcset", "data") if name in held
    ]
    assert references
    assert all(each.startswith(("#", "data:image/png;base64,")) for each in references)
    assert not re.search(r"url\((?!#)|@import", html)
    ids = [held["id"] for _, held in page.tags if "id" in held]
    assert len(ids) == len(set(ids))
    assert {each[1:] for each in references if each.startswith("#")} <= set(ids)
    assert all(held["alt"] for tag, held in page.tags if tag == "img")


def test_images_are_embedded_unchanged_beside_their_names():
    report = a_report()
    page = Page(report_page([report]))
    rgb = report.tables["train"].grids["reconstructions"].rgb
    np.testing.assert_array_equal(page.pictures(), rgb.reshape(4, 8, 8, 3))
    alts = [held["alt"] for tag, held in page.tags if tag == "img"]
    assert alts[:2] == [f"photograph, {NASTY}", f"reconstruction, {NASTY}"]


def test_a_report_gives_the_same_page_after_its_file(tmp_path):
    report = a_report()
    stage = storage.Stage(
        tmp_path / "report.h5",
        "report/1",
        "cars",
        parameters=json.loads(report.provenance["parameters"]),
        inputs=json.loads(report.provenance["inputs"]),
    )
    save_report(stage, report)
    loaded = load_report(tmp_path / "report.h5")
    assert list(loaded.tables) == list(report.tables)
    assert loaded.tables["novel"].missing == ["no views & no <pairs>"]
    html = report_page([loaded])
    assert html == report_page([loaded])
    assert Page(html).text == Page(report_page([report])).text
    save_page(tmp_path / "page.html", html)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html
    assert str(tmp_path) not in html


def test_a_constant_difference_is_known_to_the_digit_over_common_items_only():
    first, second = a_report(), a_report(shift=0.5, first=4)
    compared = compare([first, second]).tables["train"]["psnr_db"]
    common = np.asarray(first.tables["train"].values["psnr_db"].values)[4:]
    assert compared.common == 8
    assert compared.estimates[0].mean == pytest.approx(common.mean())
    assert compared.estimates[1].mean == pytest.approx(common.mean() + 0.5)
    # Images differ by 2 dB, the models by the same amount on each image.
    difference = compared.differences[1]
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.5, 0.5, 0.5))
    assert difference.n == 8
    assert compared.differences[0] is None


def test_a_difference_of_chance_is_none_and_its_interval_is_that_of_the_mean():
    first = a_report()
    measured = first.tables["train"].values["psnr_db"]
    noise = np.random.default_rng(0).normal(0, 1, 12)
    noise -= noise.mean()
    values = {"psnr_db": ItemValues(measured.items[::-1], (measured.values + noise)[::-1])}
    tables = {"train": Table(values)}
    second = Report("other", tables, {"train": tables["train"].summary()})
    difference = compare([first, second]).tables["train"]["psnr_db"].differences[1]
    assert difference.mean == pytest.approx(0, abs=1e-12)
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * noise.std() / 12**0.5, rel=0.15)
    assert verdict("psnr_db", difference) == "no clear difference"
    assert (
        verdict("psnr_db", Estimate(1, 0.5, 1.5, 12))
        == verdict("lpips", Estimate(-1, -2, -0.5, 12))
        == "better"
    )
    assert verdict("psnr_db", Estimate(-1, -1.5, -0.5, 12)) == "worse"
    assert verdict("nearest_distance", Estimate(-1, -1.5, -0.5, 12)) == "lower"
    assert verdict("psnr_db", Estimate(1, 1, 1, 1)) == "no clear difference"


def test_differing_settings_and_disjoint_items_are_noted():
    first = a_report()
    apart = {"train": Table({"psnr_db": ItemValues(["z.png", "y.png"], np.array([1.0, 2.0]))})}
    about = first.provenance | {"class": "cats", "parameters": json.dumps({"images": 2, "seed": 0})}
    second = Report(first.name, apart, {"train": apart["train"].summary()}, about)
    comparison = compare([first, second])
    compared = comparison.tables["train"]["psnr_db"]
    assert (compared.common, compared.differences) == (0, [None, None])
    assert compared.estimates[1].mean == 1.5
    assert "no common items" in comparison.notes["train"][0]
    told = " ".join(comparison.notes[""])
    assert "A: cars, B: cats" in told
    assert "images differs (A: 12, B: 2)" in told
    assert "seed" not in told
    assert comparison.tables["samples"]["coverage"].estimates == [Estimate(0.71, 0.62, 0.8, 40), None]
    assert json.loads(json.dumps(comparison.as_dict(), allow_nan=False))["reports"] == [
        "cars/model.h5 (1)",
        "cars/model.h5 (2)",
    ]
    assert distinct_names(["a", "a", "a (1)"]) == ["a (2)", "a (3)", "a (1)"]


def test_comparison_page_has_verdicts_and_shows_equal_images_once():
    first, second = a_report(), a_report(shift=-0.5)
    held = second.tables["train"].grids["reconstructions"]
    brighter = held.rgb.copy()
    brighter[:, 1] = 255 - brighter[:, 1]
    second.tables["train"].grids["reconstructions"] = replace(held, rgb=brighter)
    page = Page(report_page([first, second]))
    assert {"−0.50", "worse", "B − A", "cars/model.h5 (1)"} <= set(page.text)
    alts = [f"photograph, {NASTY}", f"reconstruction, A, {NASTY}", f"reconstruction, B, {NASTY}"]
    assert [held["alt"] for tag, held in page.tags if tag == "img"][:3] == alts
    np.testing.assert_array_equal(page.pictures()[2], brighter[0, 1])
    assert Page(report_page([first, second, Report("empty", {}, {})])).text


def a_study(settings: list[str]) -> Study:
    points = [
        Point(
            setting,
            100 * (k + 1),
            500,
            {
                "train": {"psnr_db": Estimate(25.0 - k, 24.5 - k, 25.5 - k, 50)},
                "novel": {"psnr_db": Estimate(15.0 + k, 14.5 + k, 15.5 + k, 40)} if k else {},
            },
        )
        for k, setting in enumerate(settings)
    ]
    return Study("images", points, {"class": "cars", "parameters": "{}", "inputs": "[]"})


@pytest.mark.parametrize("settings", [["100", "300", "1000"], ["none", NASTY, "0"]])
def test_study_as_page_and_text(settings):
    study = a_study(settings)
    html = study_page(study)
    page = Page(html)
    assert html == study_page(study)
    assert {"25.00", "24.50 to 25.50", "16.00", "–", *settings} <= set(page.text)
    # A curve for each table, and one of both.
    assert [tag for tag, _ in page.tags].count("svg") == 3
    text = study_text(study)
    assert all(value in text for value in ("25.00", "24.50 to 25.50", "16.00"))


def test_text_fits_a_terminal_and_tells_all():
    long = "a folder/" * 20
    first, second = a_report(long), a_report(long, shift=0.5)
    for text in (
        report_text(first),
        comparison_text(compare([first, second])),
        study_text(a_study(["1", "2"] * 5)),
    ):
        assert max(map(len, text.splitlines())) <= WIDTH
    told = report_text(first)
    assert "missing: lpips: no weights" in told
    assert "no views & no <pairs>" in told
    assert f"{first.estimates['train']['psnr_db'].mean:.2f}" in told
    assert "+0.50, better" in comparison_text(compare([first, second]))


HOSTILE = '"><script>alert(1)</script>{{ 7 * 7 }}\\1$\\frac{'


def test_names_of_others_stay_text_in_attributes_plots_and_links(tmp_path):
    count = 8
    items, values = [f"{HOSTILE}{k}" for k in range(count)], np.linspace(0.1, 0.9, count)
    table = Table(
        {HOSTILE: ItemValues(items, values)},
        notes=[HOSTILE],
        missing=[HOSTILE],
        grids={
            HOSTILE.replace("/", "-"): ImageGrid([HOSTILE], [HOSTILE], np.zeros((1, 1, 4, 4, 3), np.uint8))
        },
        points={HOSTILE.replace("/", "-"): ScatterPoints(values, values, HOSTILE, HOSTILE)},
    )
    name = HOSTILE.replace("/", "-")
    report = Report(HOSTILE, {name: table}, {name: table.summary()}, {"class": HOSTILE})
    studied = [Point(f"{HOSTILE}{k}", 1, 1, {name: table.summary()}) for k in range(2)]
    for html in (report_page([report]), report_page([report, report]), study_page(Study(HOSTILE, studied))):
        page = Page(html)
        assert "script" not in {tag for tag, _ in page.tags}
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "{{ 7 * 7 }}" in html
        html.encode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda file: file.attrs.__setitem__("inputs", "[1]"), "attribute inputs"),
        (lambda file: file.attrs.__setitem__("parameters", "[" * 100_000), "attribute parameters"),
        (lambda file: file.attrs.pop("parameters"), "attribute parameters"),
        (lambda file: file["pictures/fit/grid"].attrs.__setitem__("items", ["a"] * 9), "no grid of images"),
        (lambda file: file.__setitem__("pictures/fit/other", np.zeros(3)), "no grid of images"),
        (lambda file: file.__setitem__("points/fit/other", np.zeros(3)), "no list of points"),
    ],
)
def test_reports_of_another_form_are_refused_with_the_file(tmp_path, change, told):
    grid = ImageGrid(["a"], ["b"], np.zeros((1, 1, 4, 4, 3), np.uint8))
    table = Table({"psnr_db": ItemValues(["a"], np.array([20.0]))}, grids={"grid": grid})
    stage = storage.Stage(tmp_path / "report.h5", "report/1", object_class("cars"), parameters={}, inputs=[])
    save_report(stage, Report("model", {"fit": table}, {"fit": table.summary()}))
    load_report(stage.output)
    with edited(stage.output) as file:
        change(file)
    with pytest.raises(InputError, match=rf"report\.h5: .*{told}.*; "):
        load_report(stage.output)
