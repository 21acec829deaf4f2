"""What a lesson's page does besides computing: the first line, pictures with alt text, predictions.

Equation: none.
Shapes: none; pictures are matplotlib Figures.
Not here: what is drawn (viz.py), sliders (widgets/), whether a function is right (checks/).
"""

import base64
import html
import io
import numbers
import re
import sys

_guesses: dict[str, "Guess"] = {}  # a guess survives running its cell again


def start(lesson: str) -> None:
    """Print one line about this machine for a lesson such as "01"; seeds nothing, may run again."""
    if not re.fullmatch(r"\d\d", str(lesson)):
        raise ValueError(f'expected a lesson number of two digits such as "01", got {lesson!r}')
    from course_lib import doctor

    print(f"Lesson {lesson} | {doctor.line()}")


class Picture:
    """A drawn figure with its alt text, ready for a notebook, a terminal, and a reader's ear."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = base64.b64encode(png).decode("ascii"), alt

    def __repr__(self):
        return f"[picture: {self.alt}]"

    def _repr_mimebundle_(self, include=None, exclude=None):
        alt = html.escape(self.alt, quote=True)
        image = f'<img style="max-width: 100%" alt="{alt}" src="data:image/png;base64,{self.png}">'
        data = {"text/html": f"<figure>{image}</figure>", "image/png": self.png, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def show(figure, alt: str) -> None:
    """Display a matplotlib Figure with alt text (one or two sentences: what there is to see), then close it.

    Raises ValueError for an empty alt text and TypeError for anything but a Figure.
    """
    from IPython.display import display
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise TypeError(f"expected a matplotlib Figure, got {type(figure).__name__}: pass what a viz function returned")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("expected alt text, got nothing: say in a sentence what there is to see in the picture")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)
    display(Picture(buffer.getvalue(), " ".join(alt.split())))


class Sentence(str):
    """Words that a notebook shows without quotation marks."""

    __repr__ = str.__str__


class Guess:
    """A prediction made before its experiment: `value` is one of `options`, or None until one was chosen."""

    def __init__(self, question: str, options: list):
        self.question, self.options, self.value = question, options, None

    def choose(self, option) -> None:
        """Choose an option in code, as the buttons do on the page."""
        if option not in self.options:
            raise ValueError(f"expected one of {self.options}, got {option!r}: choose one that was offered")
        self.value = option

    def compare(self, outcome) -> Sentence:
        """Say kindly how the guess compares with what came out; of numbers, the nearest option is right.

        >>> guess = Guess("deviation of the sum", [7, 5, 3.5])
        >>> guess.choose(5)
        >>> guess.compare(4.99)
        Your guess was 5, and 4.99 came out: you saw it coming.
        """
        if self.value is None:
            return Sentence(f"You made no guess this time; {outcome} came out. A guess first makes it stick better.")
        if self.value == _nearest(self.options, outcome):
            came = "that is what" if self.value == outcome else f"{outcome}"
            return Sentence(f"Your guess was {self.value}, and {came} came out: you saw it coming.")
        return Sentence(f"Your guess was {self.value}, and {outcome} came out: a surprise, and so worth remembering.")

    def __repr__(self):
        chosen = "not answered yet" if self.value is None else f"your guess: {self.value}"
        return f"{self.question}: {', '.join(map(str, self.options))}? ({chosen})"


def _nearest(options, outcome):
    """The option that an outcome stands for: the same one, or of numbers the nearest."""
    plain = [option for option in options if isinstance(option, numbers.Real) and not isinstance(option, bool)]
    if isinstance(outcome, numbers.Real) and not isinstance(outcome, bool) and len(plain) == len(options):
        return min(options, key=lambda option: abs(option - outcome))
    return outcome


def predict(key: str, question: str, options: list) -> Guess:
    """Ask for a prediction with one button per option, and keep the answer under `key` (such as "1.b").

    Returns a Guess whose `value` is None until the reader chose; running the cell again keeps the choice.
    """
    options = list(options)
    if len(options) < 2 or len({str(option) for option in options}) < len(options):
        raise ValueError(f"expected at least two different options, got {options}")
    guess = _guesses.get(key)
    if guess is None or (guess.question, guess.options) != (question, options):
        guess = _guesses[key] = Guess(question, options)
    from IPython.display import display

    display(_Question(guess))
    return guess


class _Question:
    """The question on the page: buttons while the kernel lives, the same words and the choice as a list after it."""

    def __init__(self, guess: Guess):
        self.guess, self.handle = guess, None
        self.box = _buttons(guess, self.keep_still)

    def __repr__(self):
        return repr(self.guess)

    def _repr_mimebundle_(self, include=None, exclude=None):
        from course_lib.widgets.still import still

        listed = "".join(f"<li>{html.escape(str(option))}</li>" for option in self.guess.options)
        page = f"<p>{html.escape(_asked(self.guess))}</p><ul>{listed}</ul>"
        return still({"text/plain": repr(self), "text/html": page}, self.guess.question)

    def _ipython_display_(self):
        import ipywidgets

        from course_lib.widgets.still import hider, show_still_and_live

        live = ipywidgets.VBox([self.box, hider(self.guess.question)])
        self.handle = show_still_and_live(self._repr_mimebundle_(), {}, live)

    def keep_still(self):
        """Write the choice into what a saved notebook keeps."""
        if self.handle is not None:
            self.handle.update(self._repr_mimebundle_(), raw=True)


def _asked(guess):
    """The question, and what was chosen."""
    return guess.question if guess.value is None else f"{guess.question} (kept: {guess.value})"


def _buttons(guess, chosen):
    """One button an option (Tab moves, Space or Enter chooses; a tick marks the choice); chosen() hears of it."""
    import ipywidgets

    plain = [str(option) for option in guess.options]
    question = ipywidgets.Label(guess.question)
    buttons = [
        ipywidgets.Button(description=option, tooltip=f"{guess.question}: {option}", layout={"width": "auto"})
        for option in plain
    ]

    def mark():
        for option, button in zip(guess.options, buttons, strict=True):
            kept = guess.value is not None and option == guess.value
            button.icon, button.button_style = ("check", "info") if kept else ("", "")
        question.value = _asked(guess)

    def keep(button):
        guess.choose(guess.options[buttons.index(button)])
        mark()
        chosen()

    for button in buttons:
        button.on_click(keep)
    mark()
    return ipywidgets.VBox([question, ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"})])
