"""Kill a training at random moments, again and again, as a power cut would, and tell which steps each life reported."""

import subprocess
import sys
import textwrap

PROGRAM = """
import os, random, signal, sys, time
import torch
from torch import nn
from course_lib import checkpoints, data, runs
from course_lib.ema import EMA
from course_lib.train import fit
from course_lib.train_gan import fit_gan

runs.SAVE_SECONDS = 0
x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))

{training}

def steps(folder, pipe):
    torch.manual_seed(0)
    for progress in training(folder):
        os.write(pipe, b"%d " % progress.step)
        if folder is None:
            break

steps(None, 1)  # all that is slow to import is there now
print(flush=True)
for _ in range(int(sys.argv[2])):
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            steps(sys.argv[1], send)
        finally:
            os._exit(1)
    os.close(send)
    first = os.read(receive, 1)
    time.sleep(random.uniform(0, 0.1))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(receive) as rest:
        reported = first.decode() + rest.read()
    print(checkpoints.load(sys.argv[1])[1]["step"], reported, flush=True)
"""


def assert_that_it_goes_on(training, folder, kills):
    """Run the function `training(folder)`, given as text, and kill it so often: each life goes on where one ended."""
    program = PROGRAM.replace("{training}", textwrap.dedent(training))
    command = [sys.executable, "-c", program, str(folder), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lives = [[int(step) for step in line.split()] for line in done.stdout.splitlines()[1:]]
    assert len(lives) == kills
    reached = 0
    for kept, *life in lives:
        assert life == list(range(life[0], life[-1] + 1))
        assert reached <= life[0] - 1 <= reached + 1  # nothing lost; a step may be written and not yet reported
        assert life[-1] - 1 <= kept <= life[-1] + 1  # written after the report before, or one step further
        reached = life[-1]
