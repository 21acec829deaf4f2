"""Print lessons: one HTML file each that needs no kernel and no network, to mail, to read on a phone, to print.

Equation: page = head + text + code + outputs; TeX becomes MathML here, so nothing is left to load.
Shapes: none; cells are nbformat notebook nodes.
Not here: running a lesson (build.py); what a player shows (widgets/), which comes as a frame and stays one.
"""

import base64
import functools
import html
import re
from pathlib import Path
from urllib.parse import quote

from course_lib import build
from course_lib.mathml import FormulaError, mathml

EDITIONS = ("student", "solution")
MAILABLE = 3_000_000  # bytes: what a page may weigh to be mailed
STYLE = Path(__file__).with_suffix(".css")
# Nothing is fetched: what a page shows lies in it. Scripts are for the players' frames, which inherit this.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'"
)
EDITION_SAYS = {
    "solution": "Solution edition, with answers: the solved lesson as it ran, to read.",
    "student": "Student edition, to read. The exercises are open and the checks silent; all pictures and printed "
    "lines come from the solved lesson. To write your own answers and have them checked, run the notebook "
    "lessons/{stem}.ipynb.",
}
TOKEN = re.compile("\ue000(\\d+)\ue001")  # holds a place while the text around it is cleaned
TAG_OR_TOKEN = re.compile(f'<[^>"]*(?:"[^"]*"[^>"]*)*>|{TOKEN.pattern}')
MATH_IN_HTML = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![$\\])\$(?P<inline>[^$]+?)(?<![$\\])\$", re.DOTALL)
TAGS = {  # what a text may be made of
    *("a", "abbr", "b", "blockquote", "br", "cite", "code", "dd", "del", "details", "div", "dl", "dt", "em"),
    *("figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "iframe", "img", "kbd", "li", "ol", "p"),
    *("pre", "q", "s", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th"),
    *("thead", "tr", "u", "ul", "var"),
}
DROPPED = {"script", "style"}  # with all they hold
ATTRIBUTES = ["class", "style", "role", "aria-label", "aria-hidden", "lang", "colspan", "rowspan", "scope", "open"]
STYLES = [
    *("background-color", "border", "border-left", "border-radius", "color", "display", "font-size"),
    *("font-style", "font-weight", "height", "line-height", "margin", "max-height", "max-width", "min-height"),
    *("min-width", "padding", "text-align", "white-space", "width"),
]


class ExportError(Exception):
    """A lesson cannot be exported; the message is a sentence that says what to do."""


def export(names=None, edition="solution", out="exported", root=build.REPOSITORY_ROOT):
    """Write lessons ("01", "01_noise_schedules"; all where None) into the folder `out`; yield each file written.

    A file that is there is replaced when the new one is whole. Raises ExportError for a lesson that does not
    exist, is not built, or holds what a page cannot show, and OSError where the folder cannot be written.
    """
    if edition not in EDITIONS:
        raise ExportError(f"expected the edition to be one of {', '.join(EDITIONS)}, got {edition!r}")
    try:
        chosen = build.select(names, root)
    except build.BuildError as error:
        raise ExportError(str(error)) from error
    if not chosen:
        raise ExportError(f"there are no lessons in {Path(root) / 'solutions'}: run it in a clone of the course")
    for source in chosen:
        target = Path(out) / file_name(source.stem, edition)
        build.write_whole({target: page(source, edition)})
        yield target


def file_name(stem: str, edition: str) -> str:
    """The file of a lesson's edition.

    >>> file_name("01_noise_schedules", "student")
    '01_noise_schedules-student.html'
    """
    return f"{stem}-{edition}.html"


def page(source, edition="solution") -> str:
    """The lesson in solutions/NN_name.py, with the outputs of the notebook beside it, as HTML text."""
    notebook = _notebook(source, edition)
    lessons = build.sources(source.parent.parent)
    writer = _Writer(source, {lesson.stem: file_name(lesson.stem, edition) for lesson in lessons})
    try:
        cells = [writer.cell(cell) for cell in notebook.cells]
    except (ExportError, FormulaError) as error:
        raise ExportError(f"{source.name}: {error}") from error
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed: run `pip install -c constraints.txt --group dev`") from error
    title, contents = writer.title or source.stem, writer.contents()
    players = " The step players work here, too." if any("<iframe" in cell for cell in cells) else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body class="{edition}">
<a class="skip" href="#text">Skip to the text</a>
<main>
<header>
<p class="edition">{EDITION_SAYS[edition].format(stem=html.escape(source.stem))}{players}</p>
{cells[0] if cells else ""}
</header>
{contents}
<div id="text" tabindex="-1">
{"".join(cells[1:])}
</div>
</main>
{_neighbours(source, lessons, edition)}
</body>
</html>
"""


def _neighbours(source, lessons, edition):
    """The links to the lessons before and after."""
    place, links = lessons.index(source), []
    for other, word in ((place - 1, "Before"), (place + 1, "Next")):
        if 0 <= other < len(lessons):
            lesson = lessons[other]
            title = re.search(r"^# # (.+)$", lesson.read_text(encoding="utf-8"), re.MULTILINE)
            name = html.escape(title[1] if title else lesson.stem)
            links.append(f'<a href="{quote(file_name(lesson.stem, edition))}">{word}: {name}</a>')
    return f'<nav class="neighbours" aria-label="Other lessons">{" ".join(links)}</nav>' if links else ""


def _notebook(source, edition):
    """An edition with its outputs; the student's come from the same cells of the solved one, answers left out."""
    again = f"run `course build {source.stem[:2]}`"
    try:
        lesson = build.parse(source)
        solved = build.solution_edition(lesson)
    except build.BuildError as error:
        raise ExportError(str(error)) from error
    if broken := build.marker_problems(lesson):
        raise ExportError(str(broken[0]))
    target = source.with_suffix(".ipynb")
    if not target.is_file():
        raise ExportError(f"{source.stem} is not built yet: {again} first")
    if not build.keep_outputs(solved, target):
        raise ExportError(f"{target.name} does not hold what {source.name} says now: {again} first")
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in solved.cells):
        raise ExportError(f"{target.name} was not run, so it has no pictures: {again} first")
    if edition == "solution":
        return solved
    student = build.student_edition(lesson)
    for cell, ran in zip(student.cells, solved.cells, strict=True):
        if cell.cell_type == "code" and not {"exercise", "check"} & set(build.tags(cell)):
            cell.outputs = ran.outputs
    return student


class _Writer:
    """Writes the cells of one lesson as HTML, and remembers its headings for the table of contents."""

    def __init__(self, source, files):
        self.source, self.cleaner, self.title = source, _cleaner(files), ""
        self.headings: list[tuple[int, str, str]] = []  # level, id, what it says as HTML
        self.kept: list[tuple[str, str]] = []  # by the number in a token: what it is as text, and in an attribute

    def cell(self, cell) -> str:
        """One cell as HTML: text, or code with what it printed and drew."""
        if cell.cell_type == "markdown":
            return f'<section class="words">\n{self.words(cell.source)}</section>\n'
        kind = next((tag for tag in ("setup", "exercise", "check", "prediction") if tag in build.tags(cell)), "plain")
        code = f'<pre class="code"><code>{_coloured(cell.source)}</code></pre>\n'
        if kind == "setup":
            code = f"<details><summary>Set-up</summary>\n{code}</details>\n"
        shown = "".join(map(self.output, cell.outputs))
        return f'<div class="cell {kind}">\n{code}{shown}</div>\n'

    def words(self, markdown: str) -> str:
        """Markdown as clean HTML, its formulas as MathML, its headings with anchors."""
        from nbconvert.filters.markdown_mistune import MarkdownWithMath

        rough = MarkdownWithMath(renderer=_renderer()(self)).render(_without_tokens(markdown))
        text = self.cleaner.clean(rough)
        text = re.sub(r"<h([1-6])>(.*?)</h\1>", self._heading, text, flags=re.DOTALL)
        text = re.sub(r"<table.*?</table>", r'<div class="wide">\g<0></div>', text, flags=re.DOTALL)
        return self._restored(text)

    def _heading(self, match):
        level, says = int(match[1]), match[2]
        plain = html.unescape(re.sub(r"<[^>]*>", "", TOKEN.sub("", says))).strip()
        name = anchor = re.sub(r"\s+", "-", plain) or "section"  # as Jupyter names it
        taken = {known for _, known, _ in self.headings}
        count = 1
        while anchor in taken or anchor == "text":
            count += 1
            anchor = f"{name}-{count}"
        self.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", says)))
        if level == 1 and not self.title:
            self.title = plain
        link = f'<a class="anchor" href="#{quote(anchor)}" aria-label="Link to {html.escape(plain)}">#</a>'
        return f'<h{level} id="{html.escape(anchor)}">{says}{link}</h{level}>'

    def contents(self) -> str:
        """The table of contents: a link to each section."""
        rows = "".join(
            f'<li><a href="#{quote(anchor)}">{self._restored(says)}</a></li>\n'
            for level, anchor, says in self.headings
            if level == 2
        )
        return f'<nav class="contents" aria-label="In this lesson"><ol>\n{rows}</ol></nav>' if rows else ""

    def keep(self, as_text: str, in_attribute: str) -> str:
        """Keep what needs no cleaning, and return what holds its place."""
        self.kept.append((as_text, in_attribute))
        return f"\ue000{len(self.kept) - 1}\ue001"

    def formula(self, tex: str, display: bool) -> str:
        """Keep a formula; in the alt text of a picture it stays TeX."""
        return self.keep(mathml(tex, display), html.escape(tex))

    def _restored(self, text):
        def restored(match):
            if match[1]:
                return self.kept[int(match[1])][0]
            return TOKEN.sub(lambda token: self.kept[int(token[1])][1], match[0])

        return TAG_OR_TOKEN.sub(restored, text)

    def output(self, output) -> str:
        """What a cell printed or showed: HTML before a picture before plain words, as a browser would choose."""
        if output["output_type"] == "stream":
            return _printed(output["text"], "printed" if output["name"] == "stdout" else "printed stderr")
        if output["output_type"] == "error":
            return _printed("\n".join(output["traceback"]), "printed stderr")
        data = {kind: "".join(value) if isinstance(value, list) else value for kind, value in output["data"].items()}
        if "text/html" in data:
            return f'<div class="shown">{self.shown(data["text/html"])}</div>\n'
        for kind in ("image/png", "image/jpeg"):
            if kind in data:
                about = output.get("metadata", {}).get(kind, {})
                alt = html.escape(about.get("alt") or data.get("text/plain", ""))
                code = "".join(data[kind].split())
                return f'<div class="shown"><figure><img alt="{alt}" src="data:{kind};base64,{code}"></figure></div>\n'
        if "text/markdown" in data:
            return f'<div class="shown">{self.words(data["text/markdown"])}</div>\n'
        return _printed(data["text/plain"], "printed") if "text/plain" in data else ""

    def shown(self, rough: str) -> str:
        """HTML that a cell showed, cleaned; a frame's page is another page, and would take long to clean."""
        short = re.sub(r'(?<= srcdoc=")[^"]*', lambda match: self.keep("", match[0]), _without_tokens(rough))
        return self._restored(self.cleaner.clean(short))

    def picture(self, address: str) -> str | None:
        """A picture file of the lesson as a data address; None for one on the net, of which the alt text stays."""
        if re.match(r"[a-z][a-z+.-]*:", address, re.IGNORECASE):
            return address if re.match(r"data:image/(png|jpeg|gif|webp);", address) else None
        file = self.source.parent / address
        kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}.get(file.suffix.lower())
        if kind is None or not file.is_file():
            raise ExportError(f"there is no picture {address!r} (PNG, JPEG, GIF or WebP): mend its address")
        return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


@functools.cache
def _renderer():
    """nbconvert's own markdown renderer, with formulas and pictures put into the page."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer

    class Renderer(IPythonRenderer):
        def __init__(self, writer):
            super().__init__(escape=False, exclude_anchor_links=True)
            self.writer = writer

        def inline_math(self, body):
            return self.writer.formula(body, display=False)

        def block_math(self, body):
            return self.writer.formula(body, display=True)

        def latex_environment(self, name, body):
            return self.writer.formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

        def block_html(self, html):
            return super().block_html(self._formulas(html))

        def inline_html(self, html):
            return super().inline_html(self._formulas(html))

        def _formulas(self, text):
            def formula(match):
                return self.writer.formula(html.unescape(match["block"] or match["inline"]), bool(match["block"]))

            return MATH_IN_HTML.sub(formula, text)

        def image(self, text, url, title=None):
            address = self.writer.picture(url)
            alt = html.escape(re.sub(r"<[^>]*>", "", text))
            return alt if address is None else f'<img alt="{alt}" src="{address}">'

    return Renderer


def _cleaner(files):
    """Let in what a text needs and nothing that runs or fetches; a frame runs, in a sandbox of its own."""
    import bleach
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.html5lib_shim import Filter

    class Here(Filter):  # after the cleaning: links lead to other pages, frames stay in their sandbox
        def __iter__(self):
            dropping = False
            for token in super().__iter__():
                name, begins = token.get("name"), token["type"] in ("StartTag", "EmptyTag")
                if name in DROPPED:
                    dropping = begins
                elif not dropping:
                    yield self.led(name, token) if begins else token

        def led(self, name, token):
            attributes = token["data"]  # by (namespace, name)
            if name == "iframe":
                attributes[None, "sandbox"] = "allow-scripts"
            elif name == "img":
                attributes.setdefault((None, "alt"), "")
            elif name == "a" and (None, "href") in attributes:
                address = _address(attributes.pop((None, "href")), files)
                attributes |= {(None, "href"): address} if address else {}
            return token

    def picture(tag, name, value):
        if name == "src":
            return re.match(r"data:image/(png|jpeg|gif|webp);base64,", value) is not None
        return name in ("alt", "title", "width", "height")

    return bleach.Cleaner(
        tags=TAGS | DROPPED,
        attributes={"*": ATTRIBUTES, "a": ["href", "title"], "img": picture, "iframe": ["srcdoc", "title", "loading"]},
        protocols={"http", "https", "mailto", "data"},
        css_sanitizer=CSSSanitizer(allowed_css_properties=STYLES),
        filters=[Here],
    )


def _address(href, files):
    """Where a link leads in a page: to another lesson's page, within it, or to the net; None where to nothing."""
    name, hash_, fragment = href.partition("#")
    stem = name.removeprefix("../lessons/").removeprefix("../solutions/").removesuffix(".ipynb")
    if stem in files:
        return quote(files[stem]) + hash_ + fragment
    return href if re.match(r"https?://|mailto:|#", href) else None


def _coloured(code):
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(code, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n")


def _printed(text, kind):
    """Printed lines, without a terminal's colours."""
    from nbconvert.filters import strip_ansi

    plain = strip_ansi("".join(text)).rstrip("\n")
    return f'<pre class="{kind}">{html.escape(plain)}</pre>\n' if plain else ""


def _without_tokens(text):
    return re.sub("[\ue000\ue001]", "", text)
