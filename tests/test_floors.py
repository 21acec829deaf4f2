"""The floors of the library, read from its imports: each module may import only from floors below its own.

No stranger should have to know this rule to keep it: a module that breaks it fails here, with the import by name.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "course_lib"

#: lowest first; a name stands for a module or for a whole folder
FLOORS = [
    {"doors", "parallel"},
    {"types", "schedules", "objectives"},  # F0: numbers
    {"models", "data", "features", "shapes"},  # F1: material
    {"denoiser", "guidance", "samplers", "likelihood", "gan_losses", "judge", "metrics"},  # F2: algorithms
    {"checkpoints", "ema", "runs", "train", "train_gan", "muon", "pretrained"},  # F3: runs
    {"evaluate"},
    {"recipes"},  # whole runs, each with its data, network and card
    {"miniature"},
    {
        "viz",
        "page",
        "profile",
        "widgets",
        "checks",
        "build",
        "lint",
        "export",
        "mathml",
        "doctor",
        "bench_sd",
        "cli",
    },  # F4: faces
]
NUMBERS = FLOORS[0] | FLOORS[1]
#: modules that take arrays, and must work before torch is there
WITHOUT_TORCH = {"viz", "widgets", "page", "profile", "cli", "doctor", "build", "lint", "export", "mathml"}
SLOW = {"torch", "matplotlib", "numpy", "diffusers", "transformers", "sklearn", "ipywidgets", "IPython", "jupyterlab"}
#: what is imported in one place at most, and which
ONE_PLACE = {
    "diffusers": {"pretrained", "miniature", "bench_sd"},
    "huggingface_hub": {"pretrained"},
    "anywidget": {"widgets"},
}


def imports(source):
    """Return (module, is at the top of the file) of each import, `from course_lib import viz` as course_lib.viz."""
    tree = ast.parse(source)
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "course_lib" else [base]
            if base.startswith("torch"):
                names = [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name == "nn")]
            found += [(name, id(node) not in lazy) for name in names]
    return found


def floor_of(name):
    return next((i for i, floor in enumerate(FLOORS) if name in floor), None)


def problems(module, source):
    """Say each way in which a module, named as "samplers" or "models/exact", breaks the rules."""
    home, found = module.split("/")[0], []
    if module == "__init__":
        return [f"course_lib itself imports {name}: keep it empty" for name, _ in imports(source)]
    if floor_of(home) is None:
        return [f"{module} stands on no floor: give it one in FLOORS"]
    for name, at_top in imports(source):
        package, _, rest = name.partition(".")
        inner = rest.split(".")[0]
        if package == "":
            found.append(f"{module} imports {name}: write the whole name, course_lib...")
        elif package == "course_lib" and inner:
            if floor_of(inner) is None or floor_of(inner) > floor_of(home):
                found.append(f"{module} imports upwards: {name}")
            if home == "models" and inner in {"schedules", "objectives"} and module != "models/exact":
                found.append(f"{module} sees a schedule: {name}; a network gets time as a fraction")
            if home == "samplers" and inner not in NUMBERS:
                found.append(f"samplers imports more than numbers: {name}")
        if floor_of(home) <= 1 and package not in {"torch", "course_lib"} | sys.stdlib_module_names:
            found.append(f"{module} imports {name}: numbers need torch only")
        if floor_of(home) <= 1 and name.startswith("torch.nn"):
            found.append(f"{module} imports {name}: no networks among numbers")
        if home in WITHOUT_TORCH | {"metrics"} and package == "torch" and (at_top or home in {"viz", "metrics"}):
            found.append(f"{module} imports torch: it takes arrays, and works without")
        if package in ONE_PLACE and (home not in ONE_PLACE[package] or at_top):
            may = " and ".join(sorted(ONE_PLACE[package]))
            found.append(f"{module} imports {name}: only {may} may, inside a function")
        if module == "cli" and at_top and package in SLOW:
            found.append(f"cli imports {name} at once: import it where it is used, or `course --help` waits")
    return found


def is_private(name):
    """Neither a name of Python's own, such as __name__, nor one that every NamedTuple has."""
    return name.startswith("_") and not name.endswith("__") and name not in ("_replace", "_asdict")


def lesson_problems(source):
    """A lesson imports public names only."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course_lib":
            found += [f"private name {a.name}" for a in node.names if a.name.startswith("_")]
            found += [f"private module {node.module}" for part in node.module.split(".") if part.startswith("_")]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and is_private(node.attr):
            found.append(f"private attribute {node.value.id}.{node.attr}")
    return found


MODULES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_modules_import_downwards_only(path):
    module = path.relative_to(LIBRARY).with_suffix("").as_posix().removesuffix("/__init__")
    assert problems(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.py")), ids=lambda path: path.name)
def test_lessons_import_public_names_only(path):
    assert lesson_problems(path.read_text(encoding="utf-8")) == []


def test_every_place_named_in_the_rules_that_exists_is_found():
    homes = {path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert {"types", "schedules", "models", "samplers", "viz", "cli", "train"} <= homes <= set().union(*FLOORS)


#: a module, what it says, and the words that must come back: proof that the rules can be broken
OFFENDERS = [
    ("schedules", "from course_lib.samplers import ddim_step", "imports upwards"),
    ("samplers", "from course_lib import viz", "imports upwards: course_lib.viz"),
    ("denoiser", "def f():\n    from course_lib.train import fit", "imports upwards"),
    ("samplers", "from course_lib.denoiser import Denoiser", "more than numbers"),
    ("models/mlp", "from course_lib.schedules import cosine", "sees a schedule"),
    ("models/unet", "from course_lib import objectives", "sees a schedule"),
    ("objectives", "from torch import Tensor, nn", "no networks"),
    ("types", "import torch.nn.functional as F", "no networks"),
    ("schedules", "import numpy as np", "torch only"),
    ("viz", "def f():\n    import torch", "takes arrays"),
    ("metrics", "from torch import Tensor", "takes arrays"),
    ("widgets/player", "import torch", "takes arrays"),
    ("train", "import diffusers", "and pretrained may"),
    ("pretrained", "from diffusers import DDPMScheduler", "inside a function"),
    ("data", "def f():\n    from huggingface_hub import snapshot_download", "only pretrained may"),
    ("page", "def f():\n    import anywidget", "only widgets may"),
    ("cli", "import matplotlib.pyplot as plt", "`course --help` waits"),
    ("cli", "from torch import Tensor", "`course --help` waits"),
    ("__init__", "import torch", "keep it empty"),
    ("ema", "from .train import fit", "write the whole name"),
    ("helpers", "import torch", "stands on no floor"),
]


@pytest.mark.parametrize(("module", "source", "words"), OFFENDERS)
def test_each_rule_finds_its_offender(module, source, words):
    assert any(words in problem for problem in problems(module, source)), problems(module, source)


def test_what_is_allowed_is_not_found():
    for module, source in [
        ("models/exact", "from course_lib.schedules import Schedule"),
        ("samplers", "import torch\nfrom course_lib.types import Step"),
        ("pretrained", "def f():\n    import diffusers"),
        ("cli", "import argparse\ndef f():\n    import torch"),
        ("checks/lesson_01", "import torch\nfrom course_lib.schedules import cosine"),
        ("objectives", "import math\nfrom torch import Tensor"),
        ("__init__", '"""Only words."""'),
    ]:
        assert problems(module, source) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("from course_lib.samplers import _walk", "private name _walk"),
        ("from course_lib._secret import x", "private module"),
        ("from course_lib import viz\nviz._plot(1)", "private attribute viz._plot"),
    ],
)
def test_a_lesson_that_reaches_inside_is_found(source, words):
    assert any(words in problem for problem in lesson_problems(source))
    assert lesson_problems("from course_lib import viz\nfrom course_lib.samplers import ddim_step") == []


def test_a_fresh_process_imports_the_package_and_the_command_line_without_the_slow_ones():
    code = "import sys, course_lib, course_lib.cli; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *SLOW], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
