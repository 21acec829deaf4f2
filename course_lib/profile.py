"""How much a cell may compute: one place for every budget of the course.

Equation: none; a budget is a whole number (steps, samples, pictures) chosen by profile.
Shapes: none.
Not here: what the steps do, and timing.
"""

import os

PROFILES = ("smoke", "cpu", "gpu")


def profile() -> str:
    """Return the profile in force: "smoke", "cpu" or "gpu".

    Read from the environment variable COURSE_PROFILE; "auto", or nothing, means "gpu" where CUDA is there and
    "cpu" elsewhere. Raises ValueError for any other word.

    >>> profile() in PROFILES
    True
    """
    word = os.environ.get("COURSE_PROFILE", "").strip().lower() or "auto"
    if word == "auto":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    if word not in PROFILES:
        raise ValueError(f"expected COURSE_PROFILE to be smoke, cpu, gpu or auto, got {word!r}: set one of the four")
    return word


def budget(*, smoke: int, cpu: int, gpu: int) -> int:
    """Pick this machine's number out of three whole ones, each at least 1.

    "smoke" takes CI seconds a lesson, "cpu" the minutes that a lesson promises on two cores.

    >>> budget(smoke=50, cpu=50, gpu=50)
    50
    """
    choices = {"smoke": smoke, "cpu": cpu, "gpu": gpu}
    for name, number in choices.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"expected a whole number of at least 1 for {name}, got {number!r}")
    return choices[profile()]
