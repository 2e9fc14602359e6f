import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from synthetic import make_run, target

from edgeq.report.html import render
from edgeq.report.pictures import pictures
from edgeq.report.to_json import document, dumps
from edgeq.runs.store import Artifact, Run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onload='alert(3)",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
    "</style>",
    *"ghij",
]
VOID = {"meta", "link", "img", "wbr"}


class Outline(HTMLParser):
    """Checks that tags close in order, and collects tags and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_data(self, data):
        self.text.append(data)


def page(path):
    with Run.open(path) as run:
        return render(run)


def parsed(html):
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline


def test_the_page_is_whole_and_asks_for_nothing(tmp_path):
    html = page(make_run(tmp_path / "a.sqlite", n=40))
    outline = parsed(html)
    assert not {"script", "iframe", "object", "form"} & set(outline.tags)
    for tag, name, value in outline.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith("data:"), (tag, value)
    assert "default-src 'none'" in html
    assert not re.search(r"url\(|@import|https?://", html)


def test_it_holds_what_the_reader_needs(tmp_path):
    text = " ".join(parsed(page(make_run(tmp_path / "a.sqlite", n=40))).text)
    for heading in (
        "Threat model",
        "Accuracy against epsilon",
        "The numbers",
        "What this does not show",
        "What the images look like",
        "Do the runtimes agree?",
    ):
        assert heading in text
    assert "at least this weak" in text
    assert "ab" * 32 in text  # the artifact's hash
    assert "there is no sibling .onnx" in text  # what could not run
    assert "edgeq attack --target" in text
    assert "is robust" not in text.lower()


def test_names_from_files_are_text(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=40, classes=HOSTILE, runtimes=("keras", "litert-xnnpack", "<b onclick=x>"))
    html = page(path)
    outline = parsed(html)
    assert "script" not in outline.tags
    assert "alert" not in " ".join(str(v) for _, name, v in outline.attributes for v in (name, v) if name not in ("alt", "aria-label"))
    assert not any(name.startswith("on") for _, name, _ in outline.attributes)
    assert "49" not in re.findall(r"<bdi>(.*?)</bdi>", html)  # no template inside a label was run
    assert "\u202e" not in html
    assert "&lt;script&gt;" in html


def test_a_hostile_file_name_is_text(tmp_path):
    path = tmp_path / "a.sqlite"
    with Run.create(
        path, shape=(2, 2, 1), n=0, meta={"created": "<b>now</b>", "classes": 7, "command": ["a", "<i>"], "plan": "<u>"}
    ) as run:
        run.add(Artifact("00", "<img_src=x.onerror-alert()>", "m", 1), target("t", artifact="00"))
    html = page(path)
    assert "&lt;img_<wbr>src=x.<wbr>onerror-<wbr>alert()&gt;" in html
    assert not {"img", "b", "i", "u"} & set(parsed(html).tags)


def test_the_plot_draws_the_numbers(tmp_path):
    from edgeq.measure.summary import summarise
    from edgeq.report.plot import BOTTOM, HEIGHT, TOP, plots

    with Run.open(make_run(tmp_path / "a.sqlite", n=40)) as run:
        summary = summarise(run)
    for plot in plots(summary):
        assert [c["text"] for c in plot["columns"]] == ["clean", "1/255", "8/255"]
        for line in plot["lines"]:
            for point in line["points"]:
                assert (HEIGHT - BOTTOM - point["y"]) / (HEIGHT - TOP - BOTTOM) == pytest.approx(point["value"], abs=1e-3)
                assert point["high"] <= point["y"] <= point["low"]
        cells = [c for c in summary.cells if c.attack == plot["title"]]
        shown = next(line for line in plot["lines"] if line["name"] == "tflm")
        wanted = [c.of("tflm").robust_accuracy.share for c in cells]
        assert [p["value"] for p in shown["points"][1:]] == wanted
        assert plot["noise"] is not None


def test_pictures_are_the_images_and_their_difference(tmp_path):
    from edgeq.measure.summary import summarise

    with Run.open(make_run(tmp_path / "a.sqlite", n=40)) as run:
        groups = pictures(run, summarise(run))
        assert [len(g["rows"]) for g in groups] == [4, 4, 4, 4]
        names = {name: i for i, name in run.names().items()}
        for group in groups:
            for row in group["rows"]:
                i = np.array([names[row["file"]]])
                clean, candidate, change = (np.array(Image.open(io.BytesIO(base64.b64decode(u.split(",")[1])))) for u in row["images"])
                assert (clean == run.images(i)[0]).all()
                assert (candidate == run.candidates(group["cell"].cell, i)[0]).all()
                delta = candidate.astype(int) - clean
                assert np.abs(change.astype(int) - 128 - row["gain"] * delta).max() == 0
                for target, _, fooled in row["after"]:
                    assert fooled == (run.correct(group["cell"].cell, target)[i[0]] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(224, 224, 3), (28, 28, 1)])
def test_the_page_stays_small_and_takes_any_shape(tmp_path, shape):
    html = page(make_run(tmp_path / "a.sqlite", n=30, shape=shape))
    assert len(html) < 2_000_000
    assert html.count("<img ") >= 12
    if shape[2] == 3:
        uri = re.search(r'src="data:image/png;base64,([^"]*)"', html).group(1)
        assert max(Image.open(io.BytesIO(base64.b64decode(uri))).size) == 128


def test_an_unfinished_and_an_empty_run_are_pages_too(tmp_path):
    assert "not finished" in page(make_run(tmp_path / "a.sqlite", n=20, finished=0.3))
    Run.create(tmp_path / "b.sqlite", shape=(2, 2, 1), n=0, meta={}).close()
    parsed(page(tmp_path / "b.sqlite"))


def test_the_document_is_strict_json_with_stable_keys(tmp_path):
    import json

    with Run.open(make_run(tmp_path / "a.sqlite", n=20)) as run:
        found = json.loads(dumps(document(run)))
    for key in ("format", "run", "artifacts", "targets", "clean", "cells", "wcar", "agreement", "lowest", "unfinished", "threat_model",
                "white_box", "transfer", "not_shown", "warnings", "rule", "created", "command", "plan", "environment"):  # fmt: skip
        assert key in found
    assert found["format"] == 2


FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update
--disable-sync"""
FRAME = """<iframe id=f style='width:WIDTHpx;height:900px;border:0'></iframe>
<script>
f.srcdoc = new TextDecoder().decode(Uint8Array.from(atob('PAGE'), c => c.charCodeAt(0)));
f.onload = () => {
  const d = f.contentDocument, root = d.documentElement, drawn = [...d.images].filter(i => i.complete && i.naturalWidth);
  document.title = [root.scrollWidth, root.clientWidth, d.images.length, drawn.length, d.querySelectorAll('svg polyline').length].join(' ');
}
</script>"""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_it_renders_in_chromium_without_console_errors_or_sideways_scrolling(tmp_path, width):
    # a page of our own frames the report at the given width and measures it; the report itself contains no script
    html = page(make_run(tmp_path / "a.sqlite", n=40))
    encoded = base64.b64encode(html.encode()).decode()
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)).replace("PAGE", encoded))
    command = [
        CHROMIUM,
        *FLAGS.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        "--window-size=1400,1000",
    ]
    ran = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path}/frame.html"], capture_output=True, text=True, timeout=120
    )
    assert not [line for line in ran.stderr.splitlines() if "CONSOLE" in line], ran.stderr
    scroll, client, images, drawn, lines = map(int, re.search(r"<title>([\d ]+)</title>", ran.stdout).group(1).split())
    assert scroll <= client <= width
    assert images == drawn >= 12
    assert lines >= 8
