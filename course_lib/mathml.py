"""TeX to MathML, which browsers draw by themselves: nothing to load, and a screen reader can say it.

Equation: mathml("x_0") = <math><msub><mi>x</mi><mn>0</mn></msub></math>.
Shapes: none; a string in, a string out.
Not here: which part of a text is a formula (export.py).
"""

import html
import re
from xml.etree import ElementTree

FUNCTIONS = {"arg", "cos", "cosh", "det", "dim", "exp", "gcd", "lg", "ln", "log", "max", "min", "sin", "tan", "tanh"}
DRAWN = {  # the attributes that browsers draw, and no link among them
    *("accent", "accentunder", "columnalign", "columnspacing", "depth", "display", "displaystyle", "fence", "form"),
    *("height", "linethickness", "lspace", "maxsize", "minsize", "movablelimits", "rowspacing", "rspace"),
    *("scriptlevel", "separator", "stretchy", "symmetric", "voffset", "width"),
}
LONG = 25  # characters of a formula that may be broken at the end of a line
QQUAD = "2em"  # the gap that sets formulas on one line apart
BREAKS = set("=+<>~\u2212\u2264\u2265\u2248\u221d\u223c\u2192")
PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
LETTERS = {  # browsers know one of these by name; the style sheet draws the others
    "normal": ("normal", None),
    "bold": ("normal", "bold"),
    "bold-italic": (None, "bold"),
    "sans-serif": ("normal", "sans"),
    "monospace": ("normal", "mono"),
}


class FormulaError(ValueError):
    """A formula that cannot be shown; the message is a sentence that says what to do."""


def mathml(tex: str, display: bool = False) -> str:
    """A formula as MathML, which browsers draw without help; raises FormulaError where TeX is not understood.

    >>> mathml("x_0")
    '<math><mrow><msub><mi>x</mi><mn>0</mn></msub></mrow></math>'
    """
    from latex2mathml.converter import convert_to_element

    tex = " ".join(tex.split())
    try:
        tree = convert_to_element(tex, display="block" if display else "inline")
    except Exception as error:  # each mistake in TeX has its own class there
        raise FormulaError(f"the formula {tex!r} is not understood ({type(error).__name__}): mend it") from error
    for element in list(tree.iter()):
        if len(element) != PARTS.get(element.tag, len(element)):
            raise FormulaError(f"the formula {tex!r} lacks a part, as in a fraction without a denominator: mend it")
        _mend(element)
        if "\\" in (element.text or "") or (element.tag == "mi" and element.text == "&"):
            raise FormulaError(f"the formula {tex!r} has {element.text!r}, which is not known: write it otherwise")
    _space(tree)
    parts = ["<wbr>".join(_written(piece, display) for piece in part) for part in _parts(tree, display)]
    return f'<span class="display"><span>{"</span><wbr><span>".join(parts)}</span></span>' if display else parts[0]


def _written(children, display):
    """One piece of a formula as text."""
    tree = ElementTree.Element("math", {"displaystyle": "true"} if display else {})
    ElementTree.SubElement(tree, "mrow").extend(children)
    return ElementTree.tostring(tree, encoding="unicode", short_empty_elements=False)


def _mend(element):
    """Characters for the converter's codes, and no attribute but those that browsers draw."""
    text = html.unescape(element.text or "")
    element.text = re.sub(r"\\([_%$&#{} ])", r"\1", text).replace("\\|", "\u2016") or None
    if len(element) == 2 and html.unescape(element[1].text or "") in ("\u23df", "\u23de"):
        brace = "under" if element.tag == "munder" else "over"  # a line of the page: few fonts have a brace that wide
        element.remove(element[1])
        element.tag, element.attrib = "mrow", {"class": brace}
        return
    variant, looks = LETTERS.get(element.get("mathvariant"), (None, None))
    drawn = {name: value for name, value in element.attrib.items() if name in DRAWN}
    element.attrib = drawn | {k: v for k, v in (("mathvariant", variant), ("class", looks)) if v}


def _space(element):
    """Space the parts of a formula as TeX does, where a browser's table of operators knows less."""
    for index in reversed(range(len(element))):
        child, before = element[index], element[index - 1] if index else None
        _space(child)
        if child.tag == "mo":
            if child.get("minsize") == "1.2em":  # \\big: browsers place brackets of this size badly
                child.attrib = {"stretchy": "false", "lspace": "0", "rspace": "0"}
            elif child.text == "/":
                child.attrib |= {"lspace": "0", "rspace": "0"}
            elif child.text in ("-", "+", "\u2212", "\u00b1") and _opens(before):
                child.set("form", "prefix")  # a sign, no difference
        elif element.tag == "mrow" and FUNCTIONS & {child.text, *(part.text for part in child)}:
            thin = {"width": "0.167em"}
            if index + 1 < len(element) and not (element[index + 1].text or "").startswith(("(", "[", ",")):
                element.insert(index + 1, ElementTree.Element("mspace", thin))
            if before is not None and before.tag != "mspace" and not _opens(before):
                element.insert(index, ElementTree.Element("mspace", thin))


def _parts(tree, display):
    """Cut a formula, as browsers do not, into parts at wide gaps, and a long one before relations and sums, too."""
    parts, depth = [[[]]], 0
    long = len("".join(tree.itertext())) > LONG
    for child in tree[0]:
        depth += (child.text in ("(", "[")) - (child.text in (")", "]"))
        piece = parts[-1][-1]
        if display and child.get("width") == QQUAD:
            parts += [[[]]] if piece else []
            continue
        if long and piece and depth == 0 and child.text in BREAKS and child.get("form") != "prefix":
            child.set("form", "infix")  # it keeps its space at the beginning of a line
            parts[-1].append([])
        parts[-1][-1].append(child)
    return [part for part in parts if part[0]] or [[[]]]


def _opens(before):
    """Whether what follows begins anew: after nothing, a wide gap, a relation, a comma, an opening bracket."""
    if before is None or before.get("width") == QQUAD:
        return True
    return before.tag == "mo" and before.text not in (")", "]", "}", "|", "\u2016", "!")
