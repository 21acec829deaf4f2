"""Exported lessons: whole without a network, no answers where there should be none, and nothing hostile gets through.

How the pages look and behave in a browser is in tests/browser/; here they are taken apart.
"""

import base64
import errno
import functools
import itertools
import os
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pytest

from course_lib import build, cli, export
from course_lib.export import ExportError, page
from course_lib.mathml import FormulaError, mathml

SOURCES = build.sources()
EVERY_PAGE = pytest.mark.parametrize(
    ("source", "edition"),
    [pytest.param(path, edition, id=f"{path.stem[:2]}-{edition}") for path in SOURCES for edition in export.EDITIONS],
)
VOID = {"meta", "img", "br", "hr", "link", "input", "col", "wbr"}
DOT = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Page(HTMLParser):
    """A page taken apart: its elements, and its words by where they stand; a frame's page is not entered."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.code, self.headings, self.titles = [], [], [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = set(self.open)
        if "style" in inside:
            return
        if "title" in inside:
            self.titles.append(data)
        elif inside & {"pre", "code"}:
            self.code.append(data)
        elif "math" not in inside:
            self.words.append(data)
        if self.headings and inside & {"h1", "h2", "h3", "h4"} and "a" not in inside:
            level, says = self.headings[-1]
            self.headings[-1] = level, says + data

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@functools.cache
def text_of(source, edition):
    return page(source, edition)


@functools.cache
def parsed(source, edition):
    return Page(text_of(source, edition))


def refuses_the_network(taken_apart):
    """Assert that nothing in a page could ask for anything but what it holds."""
    assert not taken_apart.all("script", "link", "object", "embed", "form", "base", "source", "video", "audio", "svg")
    for tag, attributes in taken_apart.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not {"srcset", "poster", "data", "action", "formaction", "ping", "background"} & set(attributes), tag
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/"), tag
        if "href" in attributes:
            assert tag == "a" and re.match(r"https?://|mailto:|#|[\w-]+\.html(#|$)", attributes["href"]), attributes
        assert "url(" not in attributes.get("style", "")
    for frame in taken_apart.all("iframe"):
        assert frame["sandbox"] == "allow-scripts"
    (policy,) = [meta["content"] for meta in taken_apart.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; ") and "http" not in policy


# ---- every lesson, both editions ----


@EVERY_PAGE
def test_a_page_asks_for_nothing_and_fits_into_a_mail(source, edition):
    refuses_the_network(parsed(source, edition))
    assert len(text_of(source, edition).encode()) <= export.MAILABLE


@EVERY_PAGE
def test_a_page_is_named_and_in_order(source, edition):
    taken_apart = parsed(source, edition)
    assert taken_apart.all("html") == [{"lang": "en"}]
    assert taken_apart.titles[0].startswith(source.stem[:2])
    levels = [level for level, _ in taken_apart.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert taken_apart.all("a")[0] == {"class": "skip", "href": "#text"}
    assert all(image.get("alt", "").strip() for image in taken_apart.all("img"))


@EVERY_PAGE
def test_every_link_of_a_page_leads_somewhere(source, edition):
    taken_apart = parsed(source, edition)
    ids = [attributes["id"] for _, attributes in taken_apart.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in taken_apart.all("a") if "href" in link]
    assert {unquote(link[1:]) for link in links if link[0] == "#"} <= set(ids)
    assert {link.split("#")[0] for link in links if link[0] != "#" and ":" not in link} <= {
        export.file_name(path.stem, edition) for path in SOURCES
    }
    sections = [says for level, says in taken_apart.headings if level == 2]
    assert sum(f">{says}</a></li>" in text_of(source, edition) for says in sections) == len(sections) > 3


@EVERY_PAGE
def test_every_formula_is_drawn(source, edition):
    plain = [re.sub(r"(?s)(```.*?```|`[^`]*`)", "", cell.source) for cell in build.parse(source).cells if is_text(cell)]
    formulas = [formula for text in plain for formula in re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+?\$", text)]
    taken_apart = parsed(source, edition)
    assert len(taken_apart.all("math")) - len(taken_apart.all("wbr")) == len(formulas)  # a wbr parts a long one
    assert "$" not in "".join(taken_apart.words)
    assert "\\" not in "".join(re.findall(r"(?s)<math.*?</math>", text_of(source, edition)))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_student_edition_keeps_the_answers_to_itself(source):
    cells = build.parse(source).cells
    lines = [line for cell in cells for line in build.solution_lines(cell.source)]
    answers = {joined(line) for line in lines if len(line.strip()) > 25}
    given = joined("\n".join(build.with_stub(cell.source, "") for cell in cells))  # what other cells say anyway
    secrets = {line for line in answers if line not in given}
    solved, student = (joined("".join(parsed(source, edition).code)) for edition in ("solution", "student"))
    assert secrets and all(line in solved for line in answers)
    assert not [line for line in secrets if line in student]
    assert student.count("raiseNotImplementedError(") == len(build.parse(source).exercises)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_student_edition_has_all_pictures_and_no_verdicts(source):
    solved, student = parsed(source, "solution"), parsed(source, "student")
    pictures = [image["src"] for image in student.all("img")]
    assert pictures and pictures == [image["src"] for image in solved.all("img")]
    in_both = [sum(one.get("role") == "status" for _, one in each.elements) for each in (solved, student)]
    assert in_both[0] - in_both[1] == len(build.parse(source).exercises)
    assert "Student edition" in text_of(source, "student") and "Solution edition" in text_of(source, "solution")


def joined(text):
    return re.sub(r"\s+", "", text)


def is_text(cell):
    return cell.cell_type == "markdown"


# ---- a little course, to put anything into ----


@pytest.fixture
def course(tmp_path):
    """Write a lesson from cells (text, or (code, outputs)) as if it had been built; return its source."""

    def write(*cells, name="90_little", title="# 90. Little"):
        parts = [title, *cells]
        rows = [f"# %% [markdown]\n{commented(one)}" if isinstance(one, str) else f"# %%\n{one[0]}" for one in parts]
        source = tmp_path / "solutions" / f"{name}.py"
        source.parent.mkdir(exist_ok=True)
        source.write_text("\n\n".join(rows) + "\n", encoding="utf-8")
        notebook = build.solution_edition(build.parse(source))
        outputs = iter([part[1] for part in parts if not isinstance(part, str)])
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [nbformat.from_dict(output) for output in next(outputs)], 1
        source.with_suffix(".ipynb").write_text(build.as_text(notebook), encoding="utf-8")
        return source

    return write


def commented(text):
    return "\n".join(f"# {line}".rstrip() for line in text.split("\n"))


def shown(metadata=None, **data):
    named = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": metadata or {}}


def printed(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">x</a>'


@pytest.mark.parametrize(
    "cells",
    [
        [HOSTILE],
        [f"## {HOSTILE}"],
        [f"[{HOSTILE}](javascript:alert(1)) ![{HOSTILE}](https://example.org/a.png)"],
        [f"<details open onclick='alert(1)'><summary>{HOSTILE}</summary>{HOSTILE}</details>"],
        ["<iframe src='https://example.org'></iframe><svg onload=alert(1)></svg><form action=/></form><base href=/>"],
        ["<p style='background: url(https://example.org/a.png); position: fixed'>x</p><style>@import 'x'</style>"],
        [r"$\text{</math></span><script>alert(1)</script>}$ and $<img src=x onerror=alert(1)>$"],
        ["<p>$\\text{&lt;script&gt;alert(1)&lt;/script&gt;}$</p>"],
        ["<p title='$\\text{\" onclick=\"alert(1)}$'>x</p>"],
        ["[a](https://example.org '$\\text{\" onclick=\"alert(1)}$')"],
        ['![$\\text{" onerror="alert(1)}$](data:image/png;base64,AAAA)'],
        ["<div class='$\\text{><script>alert(1)</script>}$' aria-label='$\\text{\" onclick=\"alert(1)}$'>x</div>"],
        ["## <a title='$\\text{\" onclick=\"alert(1)}$'>x</a> <b>$\\text{</b><script>}$</b>"],
        ["\ue0009\ue001 $x$ <b title='\ue0009\ue001'>x</b>"],
        [("1", [shown(text_html=f'<p> srcdoc="{HOSTILE[2:]}" \ue0000\ue001</p>', text_plain="")])],
        [("1", [shown(text_html='<p class= srcdoc="><script>alert(1)</script>">x</p>', text_plain="")])],
        [(f"print({HOSTILE!r})", [printed(HOSTILE), printed(HOSTILE, "stderr")])],
        [("1", [shown(text_html=HOSTILE), shown(text_plain=HOSTILE), shown(text_markdown=HOSTILE)])],
        [("1", [shown({"image/png": {"alt": HOSTILE}}, image_png=DOT, text_plain=HOSTILE)])],
        [("1", [shown(text_html=f"<iframe sandbox='allow-same-origin' srcdoc='{HOSTILE[2:]}'></iframe><iframe>")])],
        [("1", [shown(text_html="<style>p { background: url(https://example.org) }</style><script src=x></script>")])],
    ],
    ids=lambda cells: str(cells)[:40],
)
@pytest.mark.parametrize("edition", export.EDITIONS)
def test_nothing_hostile_gets_through(course, cells, edition):
    taken_apart = Page(page(course(*cells), edition))
    refuses_the_network(taken_apart)
    for tag, attributes in taken_apart.elements:
        assert "position" not in attributes.get("style", ""), tag


def test_a_hostile_title_stays_a_title(course):
    taken_apart = Page(page(course("words", title=f"# 90. </title>{HOSTILE}")))
    refuses_the_network(taken_apart)
    assert "".join(taken_apart.titles).startswith("90. </title>")


def test_a_frame_stays_as_it_is_but_for_its_sandbox(course):
    inside = '<!doctype html><script>const a = 1 && "two" < \'3\';</script><p title="q">&amp;lt; é \u2028</p>' * 50
    escaped = inside.replace("&", "&amp;").replace('"', "&quot;")
    style = "width: 100%; height: min(500px, calc(33vw + 400px)); border: 0"
    frame = f'<iframe title="a run" style="{style}" srcdoc="{escaped}"></iframe>'
    taken_apart = Page(page(course(("player", [shown(text_html=frame, image_png=DOT)]))))
    (found,) = taken_apart.all("iframe")
    assert found["srcdoc"] == inside and found["title"] == "a run" and found["sandbox"] == "allow-scripts"
    assert re.sub(r"\s", "", found["style"]) == "width:100%;height:min(500px,calc(33vw+400px));border:0;"
    assert not taken_apart.all("img")


def test_text_keeps_what_markdown_and_plain_html_can_say(course):
    text = (
        "A **bold** `code $x$` word.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n\n"
        "<details><summary>A. $x_1$</summary>No: $$y$$</details>\n\n<sub>small</sub>"
    )
    text = page(course(text))
    taken_apart = Page(text)
    assert len(taken_apart.all("math")) == 2 and "code $x$" in taken_apart.code
    assert "<details><summary>A. <math" in text and "<sub>small</sub>" in text
    assert '<div class="wide"><table>' in text and '<span class="n">x</span>' in text


def test_pictures_come_along_or_are_told_in_words(course):
    source = course("words")
    (source.parent / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    taken_apart = Page(page(course("![a dot](dot.png) ![a badge](https://example.org/badge.svg)")))
    assert taken_apart.all("img") == [{"alt": "a dot", "src": f"data:image/png;base64,{DOT}"}]
    assert "a badge" in "".join(taken_apart.words)
    with pytest.raises(ExportError, match=r"90_little\.py: there is no picture 'none\.png'"):
        page(course("![a dot](none.png)"))


def test_links_lead_to_the_other_pages_of_the_same_edition(course):
    course("words", name="91_other")
    text = "[a](91_other.ipynb) [b](../lessons/91_other.ipynb#Its-end) [c](../README.md) [d](#here) ## here"
    links = [link.get("href") for link in Page(page(course(text), "student")).all("a")]
    assert ["91_other-student.html", "91_other-student.html#Its-end", None, "#here"] == links[1 + 1 : 6]
    assert links[-1] == "91_other-student.html"  # the way on, at the foot
    assert "Next: 90. Little</a>" in page(course("words"))


def test_headings_that_are_alike_get_places_of_their_own(course):
    taken_apart = Page(page(course("## Text\n\n## text\n\n## Text\n\n## The $x_t$ again\n\n## $x$")))
    ids = [a["id"] for tag, a in taken_apart.elements if tag in ("h1", "h2")]
    assert ids == ["90.-Little", "Text", "text-2", "Text-2", "The-again", "section"]
    assert len(taken_apart.all("math")) == 4  # twice each: in the heading and in the contents


def test_every_kind_of_output_is_shown_or_left_out(course):
    outputs = [
        printed("\x1b[31mred\x1b[0m <b>\n"),
        shown(text_markdown="*leaning*", text_plain="no"),
        shown(application_json={}, text_plain="plain"),
        shown(application_json={}),
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[1mE: v\x1b[0m"]},
    ]
    taken_apart = Page(page(course(("cell", outputs))))
    assert [code for code in taken_apart.code if code.strip()][1:] == ["red <b>", "plain", "E: v"]
    assert taken_apart.all("em") == [{}]


# ---- what cannot be exported ----


def test_an_unknown_lesson_is_answered_with_what_there_is(course):
    course("words")
    with pytest.raises(ExportError, match="there is no lesson '77': expected one of 90_little"):
        list(export.export(["77"], root=course("words").parent.parent))


def test_a_folder_without_lessons_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"there are no lessons in .*solutions: run it in a clone"):
        list(export.export(root=tmp_path))


def test_a_lesson_that_is_not_built_stale_or_never_run_says_what_to_do(course):
    source = course(("x = 1", []))
    notebook = source.with_suffix(".ipynb")
    never = notebook.read_text(encoding="utf-8").replace('"execution_count": 1', '"execution_count": null')
    notebook.write_text(never, encoding="utf-8")
    with pytest.raises(ExportError, match="was not run, so it has no pictures: run `course build 90` first"):
        page(source)
    source.write_text(source.read_text(encoding="utf-8").replace("x = 1", "x = 2"), encoding="utf-8")
    with pytest.raises(ExportError, match=r"90_little\.ipynb does not hold what 90_little\.py says now: run `"):
        page(source)
    notebook.unlink()
    with pytest.raises(ExportError, match="90_little is not built yet: run `course build 90` first"):
        page(source)


def test_markers_that_do_not_pair_up_never_become_a_page(course):
    source = course(("x = 1", []))
    source.write_text(source.read_text(encoding="utf-8") + "# <solution>\nsecret = 1\n", encoding="utf-8")
    with pytest.raises(ExportError, match="never closed"):
        page(source, "student")


@pytest.mark.parametrize(
    "tex", [r"\frac{1}", r"\unknown x", r"x_a_b", r"\text{a\dots}", r"\left( x", r"\begin{aligned}a&=b\end{aligned}"]
)
def test_a_formula_that_cannot_be_drawn_is_named(course, tex):
    with pytest.raises(ExportError, match=r"90_little\.py: the formula .*(mend it|write it otherwise)"):
        page(course(f"so ${tex}$ is"))


def test_an_edition_that_does_not_exist(course):
    with pytest.raises(ExportError, match="expected the edition to be one of student, solution, got 'teacher'"):
        list(export.export(None, "teacher", root=course("words").parent.parent))


def test_a_missing_package_is_named(course, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "latex2mathml.converter", None)
    with pytest.raises(ExportError, match=r"latex2mathml.* is not installed: run `pip install"):
        page(course("$x$"))


# ---- writing ----


@pytest.fixture
def root(course, monkeypatch):
    """The little course, as the one that `course export` finds."""
    root = course("words").parent.parent
    monkeypatch.setattr(build, "REPOSITORY_ROOT", root)
    monkeypatch.setattr(export.export, "__defaults__", (*export.export.__defaults__[:-1], root))
    return root


def test_the_command_writes_new_files_over_old_ones(root, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    for _ in range(2):
        assert cli.main(["export", "90", "--edition", "student", "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"wrote {out / '90_little-student.html'} (0.0 MB)\n"
    assert [file.name for file in out.iterdir()] == ["90_little-student.html"]
    expected = page(root / "solutions/90_little.py", "student")
    assert (out / "90_little-student.html").read_text(encoding="utf-8") == expected


def test_solution_edition_and_exported_folder_are_the_defaults(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export"]) == 0
    assert (tmp_path / "exported" / "90_little-solution.html").is_file()


def test_a_page_too_large_for_mail_is_written_and_told(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "MAILABLE", 1000)
    assert cli.main(["export", "--out", str(tmp_path / "out")]) == 0
    assert "MB, more than the 0.001 MB meant for mail)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["77", "little"])
def test_the_command_refuses_in_one_sentence(root, tmp_path, capsys, name):
    assert cli.main(["export", name, "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert f"there is no lesson '{name}'" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(root, tmp_path, capsys):
    (tmp_path / "file").write_text("here", encoding="utf-8")
    assert cli.main(["export", "--out", str(tmp_path / "file")]) == 1
    assert "cannot be written" in (told := capsys.readouterr().err) and "--out" in told


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        ("fsync", OSError(errno.ENOSPC, "No space left on device"), "cannot be written (No space left on device)"),
        ("fsync", KeyboardInterrupt(), "interrupted, the files that are there are whole"),
        ("replace", KeyboardInterrupt(), "interrupted, the files that are there are whole"),
    ],
)
def test_an_export_that_is_cut_short_leaves_the_old_file(root, tmp_path, monkeypatch, capsys, step, error, says):
    old = tmp_path / "90_little-solution.html"
    old.write_text("old", encoding="utf-8")

    def stop(*_):
        raise error

    monkeypatch.setattr(os, step, stop)
    assert cli.main(["export", "--out", str(tmp_path)]) == 1
    assert says in capsys.readouterr().err
    assert old.read_text(encoding="utf-8") == "old"
    assert not list(tmp_path.glob(".*"))


# ---- mathematics ----


@pytest.mark.parametrize(
    ("tex", "inside"),
    [
        (r"\mathbf{x}_0", "<mi>\U0001d431</mi>"),
        (r"\mathbf{x1}", '<mi mathvariant="normal" class="bold">x</mi><mn mathvariant="normal" class="bold">1</mn>'),
        (r"\boldsymbol{\epsilon}", '<mi class="bold">\u03f5</mi>'),
        (r"\mathrm{KL}", '<mi mathvariant="normal">K</mi>'),
        (r"\text{noise\_rate} \| x", '<mtext>noise_rate</mtext><mo fence="false" stretchy="false">\u2016</mo>'),
        (r"a = -b", '<mo form="prefix">\u2212</mo>'),
        (r"a - b", "<mi>a</mi><mo>\u2212</mo>"),
        (r"s/a", '<mo lspace="0" rspace="0">/</mo>'),
        (r"2 \log p", '<mn>2</mn><mspace width="0.167em"></mspace><mi>log</mi><mspace width="0.167em"></mspace><mi>p'),
        (r"= \exp(x)", "<mo>=</mo><mi>exp</mi><mo"),
        (r"\underbrace{x}_{y}", '<munder><mrow class="under"><mrow><mi>x</mi></mrow></mrow>'),
        (r"\big\|", '<mo stretchy="false" lspace="0" rspace="0">\u2016</mo>'),
        (r"\text{a < b & c}", "a\xa0&lt;\xa0b\xa0&amp;\xa0c"),
    ],
)
def test_formulas_are_spaced_and_spelt_as_tex_does(tex, inside):
    assert inside in mathml(tex)


def test_a_long_formula_may_be_broken_before_its_relations_and_sums():
    pieces = mathml(r"x_t = \text{signal\_rate}\,x_0 + (1 + 1000) \epsilon").split("<wbr>")
    said = ["".join(re.findall(">([^<]*)<", piece)) for piece in pieces]
    assert said == ["xt", "=signal_ratex0", "+(1+1000)\u03f5"]
    assert all('<mrow><mo form="infix">' in piece for piece in pieces[1:])
    shown = mathml(r"x_1 = -\frac{1 + 2}{\sqrt{3 + 4}},\qquad\qquad -y = \text{after a wide gap}\qquad", display=True)
    assert [part.count("<math") for part in shown.split("</span><wbr><span>")] == [2, 2]
    assert "<wbr>" not in mathml("x = a + b", display=True)


def test_a_formula_holds_no_link():
    tags = "".join(re.findall("<[^>]*>", mathml(r"\href{https://example.org}{x} \style{color: red}{x}")))
    assert "example" not in tags and "color" not in tags


def test_a_displayed_formula_stands_alone():
    assert mathml("x", display=True).startswith('<span class="display"><span><math displaystyle="true">')


def test_what_is_no_formula_is_an_error_with_the_formula_in_it():
    with pytest.raises(FormulaError, match=r"the formula '\\\\frac\{1\}' lacks a part"):
        mathml(r"\frac{1}")


# ---- the looks ----


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_all_colours_can_be_read_by_day_by_night_and_on_paper():
    palettes = re.findall(r":root \{(.*?)\}", export.STYLE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(palettes) == 3
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", palette))
        for name in set(colours) - {"paper", "panel", "rule", "accent", "open"}:
            for ground in ("paper", "panel"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground, colours)


def test_the_style_fetches_nothing():
    style = export.STYLE.read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style and "<" not in style
