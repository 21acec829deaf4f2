"""A made-up MNIST of a few digits, for tests that train for a moment and must run where MNIST is not.

Also a program: `python tests/made_up.py train mnist-ddpm --steps 6 ...` is `course train ...` on these digits, at the
pace of a machine that takes half a second a step and judges its digits in no time.
"""

import sys
from dataclasses import replace

import torch

from course_lib import cli, data, recipes

STEP_SECONDS = 0.5


def digits(train=True):
    """Return 300 light bars on a dark ground, in a place for each label."""
    labels = torch.arange(300) % 10
    pictures = torch.full((300, 1, 28, 28), -1.0)
    for i, label in enumerate(labels.tolist()):
        pictures[i, 0, 4 + i % 12, 2 * label : 2 * label + 8] = 1.0
    return data.Digits(pictures, labels, "MNIST")


def install(patch=setattr):
    """Let recipes learn from these, eight at a time, and judge what they learnt in no time."""
    draw = recipes.draw
    patch(data, "mnist", digits)
    patch(recipes.DigitRun, "_pace", lambda run: STEP_SECONDS)
    patch(recipes, "draw", lambda net, n, *how, **more: draw(net, min(n, 4), "ddim", 2, 0))
    patch(recipes, "evaluate_digits", lambda x: {"n": len(x), "frechet_distance": 1.5})
    for name in ("DDPM", "QUICK", "LABELS"):
        patch(recipes, name, replace(getattr(recipes, name), batch=8))


if __name__ == "__main__":
    torch.set_num_threads(1)
    install()
    sys.exit(cli.main())
