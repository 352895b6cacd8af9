"""The report of real trainings in Chromium: an empty console, visible charts, sorted tables, print."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from pages import Page
from PIL import Image
from studies import write_classifiers, write_study

from yolo_attn.compare.report.writer import write_report

pytestmark = pytest.mark.browser

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"]
WITHOUT_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"


@pytest.fixture
def browse(tmp_path):
    """Opens a page in a new browser; returns its output and the lines of the console."""
    chromium = shutil.which("chromium")
    if not chromium and os.environ.get("YOLO_ATTN_BROWSER") == "1":
        pytest.fail("YOLO_ATTN_BROWSER=1, and no chromium is on the PATH")
    if not chromium:
        pytest.skip("no chromium is on the PATH")

    def open_page(file, *options):
        command = [chromium, *OPTIONS, WITHOUT_NETWORK, f"--user-data-dir={tmp_path / 'profile'}", *options]
        done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout, re.findall(r":CONSOLE.*", done.stderr)

    return open_page


def with_script(file, script):
    """A copy of a page at whose end a script runs."""
    text = file.read_text(encoding="utf-8")
    copy = file.with_name(f"{file.stem}-with-script.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


@pytest.fixture
def page(whole, tmp_path):
    """The report of base and SimAM with two seeds, one epoch each."""
    return shutil.copy(whole / "report.html", tmp_path / "report.html")


def test_errors_on_the_console_are_noticed(browse, page):
    _, console = browse(with_script(page, "nosuch()"), "--dump-dom")
    assert len(console) == 1
    assert "nosuch is not defined" in console[0]


@pytest.mark.parametrize(("width", "height"), [(1280, 4000), (400, 6000)])
def test_it_opens_with_an_empty_console_and_visible_charts(width, height, browse, page, tmp_path):
    image = tmp_path / "page.png"
    _, console = browse(page, f"--window-size={width},{height}", f"--screenshot={image}")
    assert console == []
    pixels = np.asarray(Image.open(image).convert("RGB")).reshape(height, width, 3)
    assert (pixels[:60] < 128).any()  # the heading
    assert (pixels == 255).all(2).mean() > 0.5
    blue = (pixels == (0, 114, 178)).all(2)  # the second model's colour
    assert blue.sum() > 200
    assert blue.any(1).sum() > 50


@pytest.fixture(params=["detectors", "classifiers"])
def any_page(request, tmp_path):
    """A report of each kind of models."""
    if request.param == "detectors":
        return request.getfixturevalue("page")
    names = [f"class-of-a-long-name-{n}" for n in range(30)]
    images = [(f"{n}/0.png", name, [names[n - 1], name]) for n, name in enumerate(names)]
    return write_report(write_classifiers(tmp_path, {v: dict.fromkeys((0, 1), images) for v in ("base", "simam")})).page


@pytest.mark.integration
def test_only_tables_and_charts_are_wider_than_a_phone(browse, any_page, tmp_path):
    page = any_page
    inner = with_script(page, "parent.postMessage(document.documentElement.scrollWidth, '*')")
    outer = tmp_path / "phone.html"
    listener = "<script>onmessage = (event) => { document.title = event.data; }</script>"
    outer.write_text(f'<title></title>{listener}<iframe src="{inner.name}" style="width: 400px; border: 0"></iframe>')
    text, _ = browse(outer, "--virtual-time-budget=5000", "--dump-dom")
    assert "<title>400</title>" in text


def clicked(browse, file, table, column, times=1):
    """Return a table's rows after clicks on a column's heading."""
    script = f"for (let i = 0; i < {times}; i++) document.querySelectorAll('#{table} th button')[{column}].click();"
    text, console = browse(with_script(file, script), "--dump-dom")
    assert console == []
    found = Page(re.search(rf'<section id="{table}">.*?</section>', text, re.DOTALL)[0])
    return found.tables[0][1:], re.findall(r'aria-sort="(\w+)"', text)


@pytest.mark.integration
def test_tables_sort_by_number_and_by_text(browse, tmp_path):
    scores = {"base": {0: 0.09, 1: 0.101, 2: None}, "zeta": {0: 0.4, 1: 0.05, 2: 0.3}}
    file = write_report(write_study(tmp_path, scores)).page
    rows, order = clicked(browse, file, "trainings", 2)
    assert [row[2] for row in rows] == ["5.00", "9.00", "10.10", "30.00", "40.00", "–"]
    assert order == ["ascending"]
    rows, order = clicked(browse, file, "trainings", 2, times=2)
    assert [row[2] for row in rows] == ["40.00", "30.00", "10.10", "9.00", "5.00", "–"]
    assert order == ["descending"]
    rows, _ = clicked(browse, file, "scores", 0, times=2)
    assert [row[0] for row in rows] == ["zeta", "base"]


def test_it_prints(browse, page, tmp_path):
    paper = tmp_path / "report.pdf"
    browse(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type /Page\b", content)) <= 12
