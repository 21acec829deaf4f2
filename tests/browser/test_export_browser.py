"""Every exported lesson in a real browser: whole without a network, on a phone, in the dark; nothing hostile runs."""

import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_lib import build, export
from course_lib.widgets import StepPlayer

from .hands import reaches, try_out

SOURCES = build.sources()
EVERY_PAGE = pytest.mark.parametrize(
    ("source", "edition"),
    [pytest.param(path, edition, id=f"{path.stem[:2]}-{edition}") for path in SOURCES for edition in export.EDITIONS],
)
WITH_PLAYERS = ("00", "01", "02", "04", "05", "06")
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
UNNAMED = """() => [...document.querySelectorAll("a[href], summary, iframe, img")].filter((one) =>
  !(one.textContent.trim() || one.getAttribute("aria-label") || one.title || one.alt)).map((one) => one.outerHTML)"""
FAINT = """() => {  // text with too little contrast (WCAG 2.2, 1.4.3: 4.5, or 3 where it is large)
  const read = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number), most = /^color/.test(colour) ? 1 : 255;
    return { parts: [red, green, blue].map((part) => part / most), alpha };
  };
  const over = ({ parts, alpha }, under) => parts.map((part, k) => part * alpha + under[k] * (1 - alpha));
  const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (parts) => parts.reduce((sum, part, k) => sum + linear(part) * [0.2126, 0.7152, 0.0722][k], 0.05);
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const says = texts.currentNode.textContent.trim(), one = texts.currentNode.parentElement, above = [];
    if (!says || !one.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    for (let up = one; up; up = up.parentElement) above.unshift(getComputedStyle(up));
    const paper = above.reduce((under, style) => over(read(style.backgroundColor), under), [1, 1, 1]);
    const { color, fontSize, fontWeight } = above.at(-1), { parts, alpha } = read(color), size = parseFloat(fontSize);
    const ink = over({ parts, alpha: above.reduce((all, style) => all * style.opacity, alpha) }, paper);
    const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
    const least = size >= 24 || (size >= 18.66 && fontWeight >= 700) ? 3 : 4.5;
    if (high / low < least) found.push(`${(high / low).toFixed(2)}: ${one.tagName} ${says.slice(0, 40)}`);
  }
  return found;
}"""


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
        frame.frame_element().scroll_into_view_if_needed()
        frame.wait_for_selector("[data-at]")


@EVERY_PAGE
def test_a_page_is_whole_without_a_network(open_page, screenshot, folder, source, edition):
    page, complaints = open_page(offline=True, **(PHONE if edition == "student" else {}))
    page.goto((folder / export.file_name(source.stem, edition)).as_uri())
    settle(page)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [page.viewport_size["width"]] * 2
    assert page.evaluate(STICKS_OUT) == []
    assert page.evaluate("document.querySelectorAll('math').length") == page.content().count("<math") > 0
    assert page.evaluate(INVISIBLE) == []
    assert page.evaluate(UNNAMED) == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", paper))) < 60) == (scheme == "dark")
        assert page.evaluate(FAINT) == []
        screenshot(page, f"{source.stem}-{edition}-{scheme}")
    assert complaints == []


@EVERY_PAGE
def test_every_player_of_a_page_plays(open_page, screenshot, folder, source, edition):
    page, complaints = open_page(offline=True, color_scheme="dark", **(PHONE if edition == "student" else {}))
    page.goto((folder / export.file_name(source.stem, edition)).as_uri())
    settle(page)
    players = page.frames[1:]
    assert len(players) == page.locator("iframe").count() >= (source.stem[:2] in WITH_PLAYERS)
    for k, player in enumerate(players):
        try_out(page, player)
        assert player.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert player.evaluate(FAINT) == []
        screenshot(page, f"{source.stem}-{edition}-{k}")
    assert complaints == []


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


def lesson(folder, number, title, cells, outputs):
    """Write a lesson, its text and code as given, as if it had been built with these outputs; return its source."""
    source = folder / "solutions" / f"{number}_little.py"
    source.parent.mkdir(exist_ok=True)
    source.write_text(f"# %% [markdown]\n# # {title}\n{cells}", encoding="utf-8")
    notebook = build.solution_edition(build.parse(source))
    cell = notebook.cells[-1]
    cell.outputs, cell.execution_count = [nbformat.from_dict(output) for output in outputs], 1
    source.with_suffix(".ipynb").write_text(build.as_text(notebook), encoding="utf-8")
    return source


def shown(data, metadata=None):
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


def player(alt, **more):
    """What a player of four squares shows."""
    x0 = np.random.default_rng(0).uniform(-1, 1, (4, 1, 8, 8))
    return shown(*StepPlayer(steps_to(x0, 12), alt=alt, **more)._repr_mimebundle_())


@pytest.fixture
def played(tmp_path):
    """A lesson whose only cell shows a step player."""
    lesson(tmp_path, "90", "90. A player", "\n# %%\nplayer\n", [player("Four squares", title="Twelve steps")])
    (written,) = export.export(out=tmp_path / "out", root=tmp_path)
    return written


def steps_to(x0, n):
    eps = np.random.default_rng(1).standard_normal(x0.shape)
    x = [(1 - t / n) * x0 + t / n * eps for t in range(n + 1)]
    guess = SimpleNamespace(x0=x0, eps=eps)
    return [SimpleNamespace(t=t, t_next=t - 1, x_t=x[t], prediction=guess, x_next=x[t - 1]) for t in range(n, 0, -1)]


def test_tab_leads_into_a_player_and_out_of_it(open_page, screenshot, played):
    page, complaints = open_page(offline=True, **PHONE)
    page.goto(played.as_uri())
    settle(page)
    reached = []
    while "IFRAME" not in reached and len(reached) < 9:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.tagName"))
    inside = page.frames[1]
    assert inside.evaluate("document.activeElement.className") == "slider"
    page.keyboard.press("ArrowRight")
    assert reaches(inside, 1)
    screenshot(page, "phone")
    for _ in range(9):  # its eight other controls, and on
        page.keyboard.press("Tab")
    assert not inside.evaluate("document.hasFocus()")
    assert complaints == []


def test_a_player_follows_its_page_into_the_dark_and_onto_paper(open_page, played):
    page, complaints = open_page(offline=True)
    page.goto(played.as_uri())
    settle(page)
    for look, dark in ({"color_scheme": "dark"}, True), ({"media": "print"}, False), ({"media": "screen"}, True):
        page.emulate_media(**look)
        page.frames[1].wait_for_selector(f".step-player{'.dark' if dark else ':not(.dark)'}")
        assert page.frames[1].evaluate(FAINT) == []
    assert complaints == []


HOSTILE = (
    "\"><script>window.broken = 1</script><img src=x onerror='window.broken = 1'><svg onload='window.broken = 1'>"
    "</svg><a href='javascript:window.broken = 1'>x</a><iframe src='https://example.org'></iframe>"
)


def test_nothing_hostile_runs(open_page, tmp_path):
    """A title, a heading, text, code and every kind of output: what is in them stays words."""
    says = f"#\n# {HOSTILE}\n#\n# ## {HOSTILE}\n#\n# - [{HOSTILE}](javascript:window.broken = 1)\n\n# %%\n{HOSTILE!r}\n"
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": HOSTILE},
        *(shown({kind: HOSTILE}) for kind in ("text/html", "text/markdown", "text/plain")),
        shown({"image/png": "iVBORw0KGgo=", "text/plain": HOSTILE}, {"image/png": {"alt": HOSTILE}}),
        player(HOSTILE, title=HOSTILE),
    ]
    for number in ("90", "91"):
        lesson(tmp_path, number, f"{number}. {HOSTILE}", says, outputs)
    for edition in export.EDITIONS:
        for written in export.export(edition=edition, out=tmp_path / "out", root=tmp_path):
            page, complaints = open_page()
            page.goto(written.as_uri())
            inside = page.locator("iframe[srcdoc]").element_handle().content_frame()
            assert inside.text_content("h3") == HOSTILE
            for link in page.locator("#text a", has_text="x").all():
                link.dispatch_event("click")
            assert [frame.evaluate("window.broken") for frame in page.frames] == [None] * len(page.frames)
            assert page.locator("script").count() == 0 < page.get_by_text("window.broken").count()
            assert complaints == []


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
