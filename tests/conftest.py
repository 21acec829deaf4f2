"""What every test may rely on: pictures are drawn without a screen, `.ci/` is within reach, the network is not.

The profile, the thread count and the plugins are set in pyproject.toml, so that they hold for lessons too.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib
import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The same examples every time, however slow the machine: a red run can be run again.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")

matplotlib.use("agg")  # here, and not in the environment: the notebooks' kernels choose their own

# Each Python that a test starts finds a sitecustomize.py there which refuses the network.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT / "tests" / "offline"), os.environ.get("PYTHONPATH")])
)

# Of several processes (pytest -n 2) each has a data folder of its own: both editions of a lesson keep their runs there.
OWN_DATA = None
if os.environ.get("PYTEST_XDIST_WORKER"):
    OWN_DATA, digits = tempfile.mkdtemp(prefix="course-"), Path(os.environ.get("COURSE_DATA") or ROOT / "data", "MNIST")
    if digits.is_dir():
        shutil.copytree(digits, Path(OWN_DATA, "MNIST"))
    os.environ["COURSE_DATA"] = OWN_DATA


def pytest_unconfigure():
    """Leave nothing behind."""
    if OWN_DATA is not None:
        shutil.rmtree(OWN_DATA, ignore_errors=True)


@pytest.fixture(autouse=True)
def the_same_networks_every_time():
    """Seed what a test does not seed itself, as the first weights of a network, for the same reason as above."""
    torch.manual_seed(0)


@pytest.fixture
def repository():
    """Return the root folder of the checkout."""
    return ROOT


@pytest.fixture
def ci_module():
    """Return a loader for the Python files of `.ci/`, which is no package."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
