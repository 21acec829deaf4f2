"""Bench: the step player on a thousand steps of sixteen digits: its size, how fast it opens, how fast it scrubs.

    python tests/bench/player.py [--steps 1000] [--chromium /usr/bin/chromium]
Shapes: pictures (16, 1, 28, 28) that the shipped network draws by DDPM's steps, about a minute on one core.
Does not belong here: whether the player is right (tests/test_player.py, tests/browser/).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from course_lib import data, recipes
from course_lib.samplers import ddim_step, sample_steps
from course_lib.widgets import StepPlayer

# Move the slider there and back as a hand does; each move draws a frame before `dispatchEvent` returns.
SCRUB = """() => {
  const slider = document.querySelector(".slider"), times = [];
  for (let k = 0; k < 240; k++) {
    slider.value = Math.round(Math.abs(Math.sin(k / 17)) * slider.max);
    const begun = performance.now();
    slider.dispatchEvent(new Event("input"));
    times.push(performance.now() - begun);
  }
  return times;
}"""


def record(steps):
    """Draw 16 digits in so many steps and make their player; return it and the seconds that making it took."""
    network = recipes.load_denoiser(data.shipped("mnist-ddpm"))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(16, 1, 28, 28, generator=generator)
    ancestral, times = partial(ddim_step, eta=1.0), network.schedule.steps(steps)
    drawn = list(sample_steps(ancestral, network, network.schedule, noise, times, generator=generator))
    begun = time.perf_counter()
    return StepPlayer(drawn, alt="sixteen digits", rates=network.schedule), time.perf_counter() - begun


def measure(player, chromium):
    """Open the player's page in a browser and scrub it; return milliseconds by performance.now()."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder, "player.html")
        path.write_text(player.page(), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("[data-opened]")
        opened = float(page.get_attribute(".step-player", "data-opened"))
        scrubs = sorted(page.evaluate(SCRUB))
        browser.close()
    return opened, scrubs


def main():
    """Measure once and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    player, seconds = record(asked.steps)
    opened, scrubs = measure(player, asked.chromium)
    bundle = player._repr_mimebundle_()[0]
    print(json.dumps({
        "steps": asked.steps,
        "frames": len(player.score["runs"][0]["frames"]),
        "bytes of the page": len(player.page()),
        "bytes of everything": len(json.dumps(bundle)) + len(player.data),
        "seconds to make": round(seconds, 2),
        "ms to open": opened,
        "ms a scrub, median": round(statistics.median(scrubs), 2),
        "ms a scrub, 95 %": round(scrubs[int(0.95 * len(scrubs))], 2),
        "ms a scrub, worst": round(scrubs[-1], 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
