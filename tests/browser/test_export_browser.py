"""Every exported lesson in a real browser: nothing is asked for, nothing sticks out, and formulas and players work."""

import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_lib import build, export
from course_lib.widgets import StepPlayer

SOURCES = build.sources()
EVERY_PAGE = pytest.mark.parametrize(
    ("source", "edition"),
    [pytest.param(path, edition, id=f"{path.stem[:2]}-{edition}") for path in SOURCES for edition in export.EDITIONS],
)
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
STICKS_OUT = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  const own = one.closest("pre, .display, .wide, .skip");  // scroll by themselves, or wait beyond the edge
  return box.width && (box.right > innerWidth + 1 || box.left < -1) && (!own || own === one) && !one.matches(".skip");
}).map((one) => one.outerHTML.slice(0, 120))"""
INVISIBLE = """() => [...document.querySelectorAll("math")].filter((one) => {
  const box = one.getBoundingClientRect();
  return !one.closest("details:not([open])") && !(box.width > 3 && box.height > 3);
}).map((one) => one.textContent)"""
UNNAMED = """() => [...document.querySelectorAll("a[href], summary, iframe")].filter(
  (one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.title)).map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All lessons, both editions, exported once."""
    out = tmp_path_factory.mktemp("exported")
    for edition in export.EDITIONS:
        assert len(list(export.export(edition=edition, out=out))) == len(SOURCES)
    return out


def settle(page):
    """Wait until every picture is decoded and every player stands."""
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    for frame in page.frames[1:]:
        frame.wait_for_selector("[data-at]")


@EVERY_PAGE
def test_a_page_is_whole_without_a_network(open_page, screenshot, folder, source, edition):
    look = PHONE if edition == "student" else {"color_scheme": "dark"}
    page, complaints = open_page(**look)
    page.goto((folder / export.file_name(source.stem, edition)).as_uri())
    settle(page)
    assert complaints == []
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [page.viewport_size["width"]] * 2
    assert page.evaluate(STICKS_OUT) == []
    assert page.evaluate("document.querySelectorAll('math').length") == page.content().count("<math") > 0
    assert page.evaluate(INVISIBLE) == []
    assert page.evaluate(UNNAMED) == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper))) < 60) == (look.get("color_scheme") == "dark")
    screenshot(page, f"{source.stem}-{edition}")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_contents_lead_through_the_page_and_to_another_lesson(open_page, screenshot, folder, source):
    page, complaints = open_page(viewport={"width": 1400, "height": 800})
    page.goto((folder / export.file_name(source.stem, "solution")).as_uri())
    screenshot(page, source.stem)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the text"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    for link in page.locator(".contents a").all():
        link.click()
        target = page.locator(":target")
        assert target.inner_text().rstrip("#").strip() == link.inner_text().strip()
        assert target.bounding_box()["y"] < 800
    neighbour = page.locator(".neighbours a").last
    file, stem = neighbour.get_attribute("href"), neighbour.inner_text().split()[1][:2]
    neighbour.click()
    page.wait_for_url(f"**/{file}")
    assert page.title().startswith(stem)
    assert complaints == []


@pytest.fixture
def played(tmp_path):
    """A lesson whose only cell shows a step player."""
    (tmp_path / "solutions").mkdir()
    source = tmp_path / "solutions" / "90_player.py"
    source.write_text("# %% [markdown]\n# # 90. A player\n\n# %%\nplayer\n", encoding="utf-8")
    x0 = np.random.default_rng(0).uniform(-1, 1, (4, 1, 8, 8))
    player = StepPlayer(steps_to(x0, 12), alt="Four squares", title="Twelve steps")
    data, metadata = player._repr_mimebundle_()
    notebook = build.solution_edition(build.parse(source))
    shown = {"output_type": "display_data", "data": data, "metadata": metadata}
    notebook.cells[1].outputs, notebook.cells[1].execution_count = [nbformat.from_dict(shown)], 1
    source.with_suffix(".ipynb").write_text(build.as_text(notebook), encoding="utf-8")
    (written,) = export.export(out=tmp_path / "out", root=tmp_path)
    return written


def steps_to(x0, n):
    eps = np.random.default_rng(1).standard_normal(x0.shape)
    x = [(1 - t / n) * x0 + t / n * eps for t in range(n + 1)]
    guess = SimpleNamespace(x0=x0, eps=eps)
    return [SimpleNamespace(t=t, t_next=t - 1, x_t=x[t], prediction=guess, x_next=x[t - 1]) for t in range(n, 0, -1)]


@pytest.mark.parametrize("look", [{}, PHONE], ids=["wide", "phone"])
def test_a_player_plays_in_the_page(open_page, screenshot, played, look):
    page, complaints = open_page(**look)
    page.goto(played.as_uri())
    settle(page)
    player = page.frames[1]
    before = player.get_attribute("[data-at]", "data-at")
    player.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    player.wait_for_function(f"document.querySelector('[data-at]').dataset.at !== '{before}'")
    assert complaints == []
    assert page.evaluate(STICKS_OUT) == []
    assert player.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot(page, "-".join(map(str, look)) or "wide")


def test_even_a_hostile_frame_reaches_nothing(open_page, played):
    """What a frame tries is refused by the page's policy, not by the test's own closed door."""
    tries = "new Image().src = 'https://example.org/a.png'; fetch('https://example.org/b'); parent.document.title = 'c'"
    text = played.read_text(encoding="utf-8")
    hostile = f'<iframe sandbox="allow-scripts" srcdoc="<script>{tries}</script>"></iframe>'
    played.write_text(re.sub(r"(?s)<iframe.*?</iframe>", lambda _: hostile, text), encoding="utf-8")
    page, complaints = open_page()
    page.goto(played.as_uri())
    page.wait_for_timeout(300)
    assert not [says for says in complaints if says.startswith("asked for")]
    assert sum("Content Security Policy" in says for says in complaints) >= 2
    assert page.title() == "90. A player"


def test_paper_shows_the_answers_of_the_solution_edition_only(open_page, folder):
    for edition, visible in (("solution", True), ("student", False)):
        page, _ = open_page()
        page.goto((folder / export.file_name(SOURCES[0].stem, edition)).as_uri())
        page.emulate_media(media="print")
        quiz = page.locator("details:not(.setup details):has(> summary:only-of-type):not(:has(details))").last
        high, least = (part.bounding_box()["height"] for part in (quiz, quiz.locator("summary")))
        assert (high > 2 * least + 10) == visible
        assert page.locator(".contents").is_hidden()
        assert len(page.pdf(format="A4")) > 50_000
