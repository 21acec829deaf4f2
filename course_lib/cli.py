"""The command line: course lab | doctor | build | export | train | sample | evaluate | bench.

    main(["doctor", "--json"]) -> exit code
Each command imports what it needs when it runs: `course --help` must not wait for torch.
Does not belong here: the work itself, which lives in the module each command calls.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
FIRST = "lessons/00_start_here.ipynb"
TRAINED = {  # what `course train` makes: the name of its recipe in recipes.py, which would load torch, if it has one
    "mnist-ddpm": "QUICK",
    "mnist-ddpm-labels": "LABELS",
    "mnist-ddpm-plain": "DDPM",
    "mnist-gan": "GAN",
    "digit-classifier": None,
    "mini-sd": None,
}
MINUTES = {"mnist-gan": 5, "mini-sd": 45}  # of a training; 10 where nothing else is said
PORTS = range(8888, 8908)  # JupyterLab's own first port, and where to look when it is taken


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the course and return its exit code: 0 well, 1 trouble, 2 not understood.

    >>> main(["build", "no_such_lesson"])
    Not built: there is no lesson 'no_such_lesson'...
    1
    """
    parser = argparse.ArgumentParser(prog="course", description="Lessons on diffusion models that check themselves.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    lab = commands.add_parser("lab", help="open the lessons in JupyterLab")
    lab.add_argument("--port", type=int, help=f"default: the first free one from {PORTS[0]}")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser("doctor", help="look at this machine: what is wrong, and what to do")
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.set_defaults(run=_doctor)

    build = commands.add_parser("build", help="make the notebooks from solutions/*.py (for authors)")
    build.add_argument("names", nargs="*", metavar="NAME", help="such as 01 or 01_noise_schedules; default: all")
    build.add_argument("--check", action="store_true", help="change nothing, report what is stale or wrong")
    build.add_argument("--no-execute", action="store_true", help="keep the outputs as they are")
    build.set_defaults(run=_build)

    export = commands.add_parser("export", help="make an HTML file of each lesson, to mail, read and print offline")
    export.add_argument("names", nargs="*", metavar="LESSON", help="such as 01 or 01_noise_schedules; default: all")
    export.add_argument("--edition", choices=["student", "solution"], default="solution", help="default: solution")
    export.add_argument("--out", type=Path, default=Path("exported"), metavar="DIR", help="default: exported/")
    export.set_defaults(run=_export)

    train = commands.add_parser("train", help="train weights that ship with the course, on your machine")
    train.add_argument("name", metavar="NAME", choices=TRAINED, help=" or ".join(TRAINED))
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=_minutes, metavar="M", help="of training here; default: 10, mnist-gan 5, mini-sd 45"
    )
    length.add_argument("--steps", type=_count, metavar="N", help="instead of minutes")
    train.add_argument(
        "--profile", choices=["smoke", "cpu", "gpu"], help="size of the network; default: this machine's"
    )
    train.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="of mnist-...; default: bfloat16 on GPUs and CPUs with AMX"
    )
    train.add_argument("--seed", type=_seed, default=0, metavar="S")
    train.add_argument("--out", type=Path, metavar="DIR", help="default: trained/NAME in the data folder")
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    train.set_defaults(run=_train)

    sample = commands.add_parser("sample", help="draw digits, or what a sentence says, with trained weights")
    sample.add_argument("--weights", type=Path, metavar="DIR", help="default: the mnist-ddpm that ships")
    sample.add_argument("-n", type=_count, default=64, metavar="N", help="how many; default: 64")
    sample.add_argument("--sampler", choices=["ddpm", "ddim", "heun", "dpm"], help="of a diffusion model; default: dpm")
    sample.add_argument("--steps", type=_count, metavar="K", help="of a diffusion model; default: 20, mini-sd 30")
    sample.add_argument("--seed", type=_seed, default=0, metavar="S")
    sample.add_argument("--label", type=int, metavar="L", help="only this digit, from a model with labels")
    sample.add_argument("--scale", type=_scale, metavar="W", help="of guidance; default: 1 with labels, mini-sd 4")
    sample.add_argument("--prompt", metavar="TEXT", help="what a miniature is to draw, such as 'a small red circle'")
    sample.add_argument("--out", type=Path, default=Path("samples.npy"), metavar="FILE.npy")
    sample.add_argument("--png", action="store_true", help="a picture of the first 100 beside it, too")
    sample.set_defaults(run=_sample)

    evaluate = commands.add_parser("evaluate", help="measure drawn digits against real ones, as JSON")
    evaluate.add_argument("samples", metavar="SAMPLES.npy", help="float32, (N, 1, 28, 28), in [-1, 1]")
    evaluate.add_argument("--data", choices=["mnist"], default="mnist")
    evaluate.set_defaults(run=_evaluate)

    bench = commands.add_parser("bench", help="measure Stable Diffusion's time and memory here, with random weights")
    bench.add_argument("what", choices=["sd"], help="the architecture of Stable Diffusion 1 at full size")
    bench.add_argument("--sizes", type=_count, nargs="+", default=[512, 1024], metavar="PIXELS", help="of a side")
    bench.add_argument("--options", nargs="+", metavar="NAME", help="only these rows; default: all")
    bench.add_argument("--model", choices=["sd1", "miniature"], default="sd1", help="miniature: a quick look")
    bench.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU if there is one")
    bench.add_argument("--steps", type=_count, default=3, metavar="K", help="that are timed in each row; default: 3")
    bench.add_argument("--out", type=Path, metavar="FILE.json", help="the rows as JSON, too")
    bench.set_defaults(run=_bench)

    asked = parser.parse_args(arguments)
    return asked.run(asked)


def _doctor(asked) -> int:
    """Print the doctor's page, or its JSON."""
    from course_lib import doctor

    findings = doctor.examine()
    well = all(finding.status != "trouble" for finding in findings)
    if asked.json:
        print(json.dumps({"ok": well, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        print(doctor.page(findings))
    return 0 if well else 1


def _build(asked) -> int:
    """Hand over to the lesson factory."""
    from course_lib import build

    return build.main(asked.names, check=asked.check, execute=not asked.no_execute)


def _export(asked) -> int:
    """Write the pages, one at a time; a file is replaced when the new one is whole."""
    from course_lib import export

    try:
        for file in export.export(asked.names, asked.edition, asked.out):
            size = file.stat().st_size
            note = "" if size <= export.MAILABLE else f", more than the {export.MAILABLE / 1e6:g} MB meant for mail"
            print(f"wrote {file} ({size / 1e6:.1f} MB{note})")
    except export.ExportError as error:
        return _refuse(f"not exported: {error}")
    except OSError as error:
        return _refuse(f"{asked.out} cannot be written ({error.strerror or error}): choose another place with --out")
    except KeyboardInterrupt:
        return _refuse("interrupted, the files that are there are whole: the same command does it again")
    return 0


def _train(asked) -> int:
    """Train after an estimate, drawing pictures on the way; what is stopped can be resumed."""
    from course_lib import checkpoints, data
    from course_lib.parallel import processes

    folder = asked.out or data.data_dir() / "trained" / asked.name
    try:
        waits = any((folder / "run").rglob("card.json"))
        if asked.resume and not waits:
            print(f"No stopped run waits in {folder / 'run'}: this one begins at the beginning.")
        if waits and not asked.resume:
            return _refuse(f"a stopped run waits in {folder / 'run'}: go on with --resume, or delete that folder")
        with processes():
            _follow(_run_of(asked, folder), folder)
    except KeyboardInterrupt:
        again = [word for word in sys.argv[1:] if word != "--resume"]
        return _refuse(f"stopped, nothing is lost: `course {shlex.join(again)} --resume` goes on")
    except (data.DataError, checkpoints.CheckpointError, ValueError, FloatingPointError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{folder} cannot be written ({error.strerror or error}): free space or choose another --out")
    return 0


def _run_of(asked, folder):
    """Make the run that was asked for: an iterable of Progress that leaves weights and card in the folder."""
    from course_lib import recipes
    from course_lib.profile import profile

    command = f"course train {asked.name} --seed {asked.seed}"
    if asked.precision and not asked.name.startswith("mnist-"):
        raise ValueError(f"{asked.name} chooses its precision itself; --precision is for mnist-...")
    if asked.name == "digit-classifier":
        if asked.minutes or asked.profile:
            raise ValueError(f"{asked.name} takes --steps; --minutes and --profile are for what draws pictures")
        return recipes.DigitClassifierRun(folder, steps=asked.steps or 1500, seed=asked.seed, command=command)
    size = asked.profile or profile()
    minutes = None if asked.steps else asked.minutes or MINUTES.get(asked.name, 10)
    more = {"steps": asked.steps, "minutes": minutes, "profile": size, "seed": asked.seed}
    more["command"] = f"{command} --profile {size}"
    if asked.name == "mini-sd":
        from course_lib.miniature import MiniatureRun

        return MiniatureRun(folder, **more)
    chosen = getattr(recipes, TRAINED[asked.name])
    make = recipes.GanRun if isinstance(chosen, recipes.GanRecipe) else recipes.DigitRun
    return make(folder, chosen, precision=asked.precision, **more)


def _follow(run, folder) -> None:
    """Show a run's progress; of several processes only the first one speaks."""
    from tqdm.auto import tqdm

    from course_lib.parallel import is_first_process

    speaks = is_first_process()
    if speaks:  # better refused now than after ten minutes
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    if speaks and hasattr(run, "step_seconds"):
        print(
            f"{run.steps:,} steps of {run.step_seconds:.2f} s: about {run.steps * run.step_seconds / 60:.1f} minutes."
        )
    bar, drawn = tqdm(total=run.steps, unit="step", disable=not speaks), 0
    with bar:
        for progress in run:
            bar.n = progress.step
            told = ("loss", "discriminator_loss", "real_score", "fake_score")
            bar.set_postfix({n: f"{getattr(progress, n):.3f}" for n in told if hasattr(progress, n)}, refresh=False)
            bar.update(0)
            tenth = 10 * progress.step // run.steps
            if speaks and hasattr(run, "draw") and tenth > drawn:
                drawn = tenth
                _draw_grid(run, folder / "samples.png", progress.step)
    if speaks:
        print(f"Weights and card are in {folder}.")
        print((folder / "card.json").read_text(encoding="utf-8"), end="")


def _draw_grid(run, path, step) -> None:
    """Draw the same forty pictures as before, as the model makes them now."""
    from course_lib import viz

    x0 = run.draw(40)
    rows = {f"{10 * row + 1} to {10 * row + 10}": x0[10 * row : 10 * row + 10] for row in range(4)}
    _save(viz.picture_rows(rows, columns=[f"after step {step:,}", *[""] * 9]), path)


def _save(figure, path) -> None:
    """Write a figure and forget it: pyplot keeps every figure until it is closed."""
    import matplotlib.pyplot as plt

    figure.savefig(path)
    plt.close(figure)


def _sample(asked) -> int:
    """Draw digits into a .npy file, which appears only once it is whole."""
    import numpy as np

    from course_lib import checkpoints, data, viz
    from course_lib.pretrained import PretrainedError

    draft = asked.out.parent / f".{asked.out.name}.part"
    try:
        if asked.out.suffix != ".npy":
            raise ValueError(f"expected --out to end in .npy, got {asked.out}")
        draw = _drawer(asked)
        with open(draft, "wb") as file:  # before drawing: better refused now than after minutes
            x0 = draw(asked.n, seed=asked.seed)
            np.save(file, x0.numpy())
        os.replace(draft, asked.out)
        if asked.png:
            rows = {str(10 * i): part for i, part in enumerate(x0[:100].split(10))}
            _save(viz.picture_rows(rows), asked.out.with_suffix(".png"))
    except (data.DataError, checkpoints.CheckpointError, PretrainedError, ValueError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{asked.out} cannot be written ({error.strerror or error}): choose another place with --out")
    finally:
        with suppress(OSError):  # it was moved, or was never made
            draft.unlink()
    print(f"{asked.n} pictures of {tuple(x0.shape[1:])} in [-1, 1] are in {asked.out}.")
    return 0


def _drawer(asked):
    """Load the weights that are asked for, of whatever kind, and return draw(n, seed=...)."""
    from functools import partial

    from course_lib import checkpoints, data, recipes

    folder = asked.weights or data.shipped("mini-sd" if asked.prompt else "mnist-ddpm")
    if (folder / "model_index.json").is_file():
        return _prompted(folder, asked)
    kind = checkpoints.load(folder)[1].get("kind")
    if asked.prompt:
        raise ValueError(f"expected no --prompt with the {kind or 'weights'} in {folder}: only mini-sd reads sentences")
    if kind != recipes.GanRun.kind:
        how = {"sampler": asked.sampler or "dpm", "steps": asked.steps or 20, "label": asked.label}
        scale = 1.0 if asked.scale is None else asked.scale
        return partial(recipes.draw, recipes.load_denoiser(folder), scale=scale, **how)
    once, none = "draws in one pass", "has no labels"
    _leave_out(asked, f"the GAN in {folder}", sampler=once, steps=once, label=none, scale=none)
    return partial(recipes.generate, recipes.load_generator(folder))


def _prompted(folder, asked):
    """Load a miniature, and return draw(n, seed=...) of what the prompt says."""
    from course_lib import miniature
    from course_lib.pretrained import load_folder

    _leave_out(asked, f"the miniature in {folder}", sampler="draws by DDIM", label="reads sentences")
    if not asked.prompt:
        raise ValueError(f"expected --prompt for the miniature in {folder}, such as --prompt 'a small red circle'")
    pipe, steps = load_folder(folder), asked.steps or miniature.STEPS
    scale = miniature.SCALE if asked.scale is None else asked.scale
    return lambda n, seed: miniature.draw(pipe, [asked.prompt] * n, scale=scale, steps=steps, seed=seed)


def _leave_out(asked, model, **why):
    """Refuse options that a model has no use for."""
    for option, reason in why.items():
        if getattr(asked, option) is not None:
            raise ValueError(f"expected no --{option} with {model}, which {reason}: leave it out")


def _evaluate(asked) -> int:
    """Print the numbers about a file of drawn digits as JSON."""
    from course_lib import checkpoints, data
    from course_lib.evaluate import evaluate_digits, read_samples

    try:
        print(json.dumps(evaluate_digits(read_samples(asked.samples)), indent=2))
    except (data.DataError, checkpoints.CheckpointError, ValueError) as error:
        return _refuse(str(error))
    return 0


def _bench(asked) -> int:
    """Print a table, a row at a time as they are measured; what has been measured is kept when it is stopped."""
    from course_lib import bench_sd

    options, rows = asked.options or list(bench_sd.OPTIONS), []
    if unknown := [option for option in options if option not in bench_sd.OPTIONS]:
        return _refuse(f"expected --options among {', '.join(bench_sd.OPTIONS)}, got {unknown[0]}")
    if odd := [size for size in asked.sizes if size % 64]:
        return _refuse(f"expected --sizes in multiples of 64 pixels, got {odd[0]}")
    print(f"{asked.model} with random weights: these rows are about time and memory, no picture comes of them.")
    try:
        for row in bench_sd.bench(asked.sizes, options, model=asked.model, device=asked.device, steps=asked.steps):
            rows.append(row)
            print("\n".join(bench_sd.table(rows).splitlines()[0 if len(rows) == 1 else -1 :]), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        return _refuse(f"stopped after {len(rows)} rows: the same command measures anew")
    except OSError as error:
        return _refuse(f"{asked.out} cannot be written ({error.strerror or error}): choose another place with --out")
    return 0


def _count(text) -> int:
    """Let in a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _seed(text) -> int:
    """Let in a seed, 0 or more."""
    if not text.isdecimal() or int(text) > 2**31 - 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}, got {text!r}")
    return int(text)


def _scale(text) -> float:
    """Let in a guidance scale, 0 or more."""
    with suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number of at least 0, such as 1.5, got {text!r}")


def _minutes(text) -> float:
    """Let in a time between a second and a week."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 1 / 60 <= minutes <= 7 * 24 * 60:
        raise argparse.ArgumentTypeError(f"expected minutes, such as 3 or 0.5, got {text!r}")
    return minutes


def _lab(asked) -> int:
    """Open JupyterLab on the first lesson, on this machine only; its token stays on."""
    if not (ROOT / FIRST).is_file():
        return _refuse(f"there is no {FIRST} in {ROOT}: clone the course and run `uv run course lab` inside it")
    if importlib.util.find_spec("jupyterlab") is None:
        return _refuse("JupyterLab is not installed here: run `pip install -c constraints.txt jupyterlab`")
    if asked.port is not None and not _free(asked.port):
        return _refuse(f"port {asked.port} is taken or not allowed: leave --port away and the course finds a free one")
    port = asked.port or next((port for port in PORTS if _free(port)), None)
    if port is None:
        return _refuse(f"ports {PORTS[0]} to {PORTS[-1]} are all taken: choose another one with --port")
    from jupyterlab.labapp import main as jupyter_lab

    with tempfile.TemporaryDirectory() as folder:
        _without_news(Path(folder))
        return jupyter_lab(_jupyter_arguments(port, browser=not asked.no_browser)) or 0


def _without_news(folder):
    """Let JupyterLab find a setting in this folder that keeps its news pop-up away from the first lesson."""
    overrides = folder / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    overrides.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}', encoding="utf-8")
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(folder), *([known] if known else [])])


def _jupyter_arguments(port, browser):
    """Return JupyterLab's arguments: this machine only, no other port than the one that was free."""
    arguments = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # containers; JupyterLab refuses root without it
    return arguments


def _free(port) -> bool:
    """Say whether a server may listen on this port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        if sys.platform != "win32":  # there the option would let two servers share a port
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _refuse(sentence) -> int:
    """Print one sentence for a person, and give the exit code for a script."""
    print(f"course: {sentence}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
