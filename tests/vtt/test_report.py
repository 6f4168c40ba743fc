from __future__ import annotations

import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from vtt.errors import ConfigError
from vtt.report import Figure, KeyValues, Rate, Report, Table, Text, Video, plot_curves, render, write

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """The tags and the text of a page; fails on one that is closed out of order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), (200, 30, 30)).save(file, format="png")
    return file.getvalue()


def full_report(video: bytes = b"mp4") -> Report:
    curves = plot_curves({"touch": ([0, 1, 2], [0.0, 0.5, 0.9])}, x_label="round", y_label="success", y_limits=(0, 1))
    return Report(
        "Touch & <go>",
        [
            Video("Video", video, alt='The "student" at work'),
            Table(
                "Results", ["policy", "success", "steps"], [["expert", Rate(0.5, 0.25, 0.75), 31.27]], caption="n = 4"
            ),
            Figure("Curves", curves, alt="Success rises"),
            Figure("Picture", png(), alt="A red field"),
            KeyValues("Settings", {"seed": 0, "task": "<peg>"}),
            Text("Notes", "One.\n\nTwo <b>."),
        ],
        summary="It works.",
    )


def test_page_is_well_formed_and_shows_every_section():
    page = Page(render(full_report()))
    for said in (
        "Touch & <go>",
        "It works.",
        "Results",
        "Curves",
        "Picture",
        "Settings",
        "Notes",
        "n = 4",
        "<peg>",
        "Two <b>.",
    ):
        assert said in page.text


def test_page_asks_for_nothing_outside_itself():
    html = render(full_report())
    for attributes in (a for _, a in Page(html).tags):
        for name in ("src", "href", "poster", "data", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#"))
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "<script" not in html


def test_pictures_and_videos_say_what_they_show():
    page = Page(render(full_report()))
    assert [a["alt"] for a in page.attributes("img")] == ["A red field"]
    assert [a["aria-label"] for a in page.attributes("video")] == ['The "student" at work']
    assert [a["aria-label"] for a in page.attributes("div") if a.get("role") == "img"] == ["Success rises"]


def test_a_rate_is_shown_with_its_interval_and_at_its_place():
    page = Page(render(full_report()))
    assert "0.500 [0.250, 0.750]" in page.text
    track, interval = page.attributes("line")[:2]
    left, right = float(track["x1"]), float(track["x2"])
    shares = [
        (float(x) - left) / (right - left) for x in (interval["x1"], page.attributes("circle")[0]["cx"], interval["x2"])
    ]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)


def test_a_float_has_three_significant_digits():
    assert "31.3" in Page(render(full_report())).text


def test_same_report_gives_the_same_bytes():
    assert render(full_report()) == render(full_report())


def test_curves_take_the_colour_of_the_text():
    svg = plot_curves({"a": ([0, 1], [0, 1])}, x_label="x", y_label="y").decode()
    assert "currentColor" in svg
    assert "success rate" in plot_curves({}, x_label="x", y_label="success rate").decode()


def test_written_report_is_the_rendered_one(tmp_path):
    path = write(tmp_path / "report.html", full_report())
    assert path.read_text(encoding="utf-8") == render(full_report())
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ConfigError, match=r"a row of 'T' must have 2 cells, got 1\."):
        render(Report("R", [Table("T", ["a", "b"], [["x"]])]))


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="image must be the bytes of a PNG or an SVG"):
        render(Report("R", [Figure("F", b"GIF89a", alt="")]))
