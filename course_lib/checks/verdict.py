"""What a check shows: an icon with a word, a sentence, and hints that unfold.

Equation: none.
Shapes: none; text goes in, HTML and plain text come out, and whatever a student wrote is escaped.
Not here: how a verdict is reached (engine.py).
"""

import dataclasses
import html
import re

LONGEST = 300  # characters of a student's own text that a sentence quotes
LOOKS = {  # state: icon, word, colour of the bar (Okabe-Ito); never the colour alone
    "right": ("&#10003;", "Right", "#009E73"),
    "wrong": ("&#10007;", "Not yet", "#D55E00"),
    "open": ("&#9998;", "", "#0072B2"),
    "note": ("&#9432;", "", "#0072B2"),
}
HINTS = ("Hint", "Second hint")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A state ("right", "wrong", "open" or "note"), a sentence, the mistake's name and up to two hints.

    >>> Verdict("right", "every t from 1 to T.")
    Right: every t from 1 to T.
    """

    state: str
    says: str
    name: str = ""
    hints: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True where the student's function is right."""
        return self.state == "right"

    def show(self) -> None:
        """Display the verdict: HTML in a notebook, plain words in a terminal."""
        from IPython.display import display

        display(self)

    def __repr__(self):
        word = LOOKS[self.state][1]
        lines = [f"{word}: {self.says}" if word else self.says]
        return "\n".join([*lines, *(f"{name}: {hint}" for name, hint in self._named_hints())])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": repr(self), "text/html": self._html()}

    def _named_hints(self):
        return list(zip(HINTS, self.hints, strict=False))

    def _html(self):
        """A bar in the state's colour on the page's own background, so that dark themes stay readable."""
        icon, word, colour = LOOKS[self.state]
        folded = ""
        for name, hint in reversed(self._named_hints()):
            folded = f"<details><summary>{name}</summary><p>{marked(hint)}</p>{folded}</details>"
        word = f"<strong>{word}:</strong> " if word else ""
        return (
            f'<div role="status" style="border-left: 5px solid {colour}; padding: 0.2em 0.9em">'
            f'<p><span aria-hidden="true">{icon}</span> {word}{marked(self.says)}</p>{folded}</div>'
        )


def marked(text: str) -> str:
    """Escape text for HTML; what stands between backticks becomes code.

    >>> marked("`x0` < 1")
    '<code>x0</code> &lt; 1'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def cut(text: str) -> str:
    """Put text on one line and shorten it to LONGEST characters."""
    text = " ".join(text[: 10 * LONGEST].split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def quoted(value) -> str:
    """A value's repr, cut, between backticks; its kind where it has no working repr.

    >>> quoted([1, 2])
    '`[1, 2]`'
    """
    try:
        return f"`{cut(repr(value).replace('`', ' '))}`"
    except Exception:  # a student's own class may have any repr
        return kind(value)


def kind(value) -> str:
    """Say what a value is, with its shape where it has one.

    >>> kind(3)
    'an int'
    """
    if value is None:
        return "None"
    name = {"Tensor": "tensor", "ndarray": "numpy array"}.get(type(value).__name__, type(value).__name__)
    article = "an" if name[:1].lower() in ("a", "e", "i", "o", "u") else "a"
    shape = f" of shape {tuple(value.shape)}" if name in ("tensor", "numpy array") else ""
    return f"{article} {cut(name)}{shape}"
