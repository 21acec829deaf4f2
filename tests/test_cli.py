"""The command line: quick to answer, plain when it refuses, and right about what it starts."""

import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch

from course_lib import build, checkpoints, cli, data, doctor, evaluate, recipes


def run(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "course_lib.cli", *arguments], capture_output=True, text=True, encoding="utf-8", **more
    )


def test_help_names_every_command_without_torch():
    loaded = "import sys, course_lib.cli as c\ntry: c.main(['-h'])\nexcept SystemExit: print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert all(command in answer for command in ("lab", "doctor", "build"))
    assert answer.splitlines()[-1] == "False"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["lab", "--port", "eight"], ["doctor", "--loud"]])
def test_what_is_not_understood_is_told_with_exit_code_2(arguments):
    answer = run(*arguments)
    assert answer.returncode == 2
    assert "usage: course" in answer.stderr and "Traceback" not in answer.stderr


def test_an_unknown_lesson_is_one_sentence():
    answer = run("build", "99_nothing")
    assert answer.returncode == 1
    assert "99_nothing" in answer.stdout and len(answer.stdout.splitlines()) == 1
    assert answer.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["build"], ([], False, True)),
        (["build", "01", "02", "--check"], (["01", "02"], True, True)),
        (["build", "--no-execute"], ([], False, False)),
    ],
)
def test_build_hands_over_to_the_factory(monkeypatch, arguments, expected):
    asked = []
    monkeypatch.setattr(build, "main", lambda names, check, execute: asked.append((names, check, execute)) or 7)
    assert cli.main(arguments) == 7
    assert asked == [expected]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("trouble", 1)])
def test_doctor_tells_people_and_scripts_the_same(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("disk", status, "12 GB free", "Look at it.")])
    assert cli.main(["doctor"]) == code
    assert "12 GB free" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    assert told["findings"] == [{"topic": "disk", "status": status, "says": "12 GB free", "do": "Look at it."}]


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """A checkout with a first lesson, and a JupyterLab that only notes its arguments."""
    (tmp_path / "lessons").mkdir()
    (tmp_path / cli.FIRST).write_text("{}", encoding="utf-8")
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")  # put back afterwards
    started = []
    app = types.ModuleType("jupyterlab.labapp")
    app.main = started.extend
    package = types.ModuleType("jupyterlab")
    package.__spec__ = types.SimpleNamespace(name="jupyterlab")  # what find_spec reads of a loaded module
    monkeypatch.setitem(sys.modules, "jupyterlab", package)
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", app)
    return started


def test_lab_finds_the_setting_that_keeps_the_news_away(lab, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "mine")
    setting, found = "labconfig/default_setting_overrides.json", []

    def look(arguments):
        folders = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
        found.extend([folders[1], json.loads(Path(folders[0], setting).read_text(encoding="utf-8"))])

    monkeypatch.setattr(sys.modules["jupyterlab.labapp"], "main", look)
    assert cli.main(["lab", "--no-browser"]) == 0
    assert found == ["mine", {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}]


@pytest.fixture
def busy():
    """A port of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_lab_opens_the_first_lesson_on_this_machine_only(lab, tmp_path):
    assert cli.main(["lab"]) == 0
    assert "--ServerApp.ip=127.0.0.1" in lab
    assert f"--LabApp.default_url=/lab/tree/{cli.FIRST}" in lab
    assert f"--ServerApp.root_dir={tmp_path}" in lab
    assert "--no-browser" not in lab
    assert not any("token" in argument.lower() or "password" in argument.lower() for argument in lab)


def test_lab_takes_another_port_when_the_first_is_taken(lab, monkeypatch, busy):
    monkeypatch.setattr(cli, "PORTS", (busy, 0))  # port 0 is always free
    assert cli.main(["lab", "--no-browser"]) == 0
    assert "--ServerApp.port=0" in lab and "--no-browser" in lab


def test_lab_keeps_to_the_port_it_is_given(lab, capsys, busy):
    assert cli.main(["lab", "--port", str(busy)]) == 1
    assert f"port {busy} is taken" in capsys.readouterr().err
    assert cli.main(["lab", "--port", "70000"]) == 1
    assert "port 70000" in capsys.readouterr().err
    assert lab == []


def test_lab_says_so_when_every_port_is_taken(lab, monkeypatch, capsys, busy):
    monkeypatch.setattr(cli, "PORTS", (busy, busy))
    assert cli.main(["lab"]) == 1
    assert "--port" in capsys.readouterr().err and lab == []


def test_lab_needs_jupyterlab(lab, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "jupyterlab")
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1
    assert "pip install -c constraints.txt jupyterlab" in capsys.readouterr().err and lab == []


def test_lab_needs_a_checkout(lab, tmp_path, capsys):
    (tmp_path / cli.FIRST).unlink()
    assert cli.main(["lab"]) == 1
    assert "clone the course" in capsys.readouterr().err and lab == []


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed_only_for_root(monkeypatch, user, allowed):
    monkeypatch.setattr(cli.os, "geteuid", lambda: user, raising=False)
    assert ("--allow-root" in cli._jupyter_arguments(8888, browser=True)) is allowed


# train, sample, evaluate: on made-up digits


@pytest.fixture
def small(monkeypatch, tmp_path):
    made_up.install(monkeypatch.setattr)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))


def train(*more, steps=4):
    return cli.main(["train", "mnist-ddpm", "--steps", str(steps), "--profile", "smoke", *map(str, more)])


def weights(folder):
    return checkpoints.load(folder)[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_train_estimates_then_leaves_weights_a_card_and_a_picture(small, tmp_path, capsys):
    assert train() == 0
    folder = tmp_path / "data" / "trained" / "mnist-ddpm"  # and never where the weights that ship are
    assert {path.name.split("-")[0] for path in folder.iterdir()} == {"card.json", "samples.png", "weights"}
    said = capsys.readouterr().out
    assert said.startswith("4 steps of 0.50 s: about 0.0 minutes.\n") and f"are in {folder}." in said
    card = json.loads(said[said.index("{") :])
    begin, precision, end = card["command"].partition(" --precision ")
    assert begin == "course train mnist-ddpm --seed 0 --profile smoke" and precision
    assert end in ("float32 --steps 4", "bfloat16 --steps 4")  # what is quick here
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "objective", "classes"),
    [("mnist-ddpm", "flow", 0), ("mnist-ddpm-labels", "flow", 10), ("mnist-ddpm-plain", "eps", 0)],
)
def test_each_name_trains_its_own_recipe(small, tmp_path, name, objective, classes):
    assert cli.main(["train", name, "--steps", "1", "--profile", "smoke", "--out", str(tmp_path), "--seed", "3"]) == 0
    denoiser = recipes.load_denoiser(tmp_path)
    assert (denoiser.objective.name, denoiser.net.classes) == (objective, classes)
    assert checkpoints.load(tmp_path)[1]["seed"] == 3


def test_the_classifier_is_trained_by_steps_alone(small, tmp_path, capsys):
    assert cli.main(["train", "digit-classifier", "--steps", "2", "--out", str(tmp_path)]) == 0
    assert checkpoints.load(tmp_path)[1]["kind"] == "digit classifier"
    for more in (["--minutes", "1"], ["--profile", "cpu"]):
        assert cli.main(["train", "digit-classifier", *more, "--out", str(tmp_path)]) == 1
        assert "digit-classifier takes --steps" in capsys.readouterr().err
    for name in ("digit-classifier", "mini-sd"):
        assert cli.main(["train", name, "--precision", "float32", "--out", str(tmp_path / "none")]) == 1
        assert f"{name} chooses its precision itself" in capsys.readouterr().err


def test_a_gan_is_trained_resumed_and_drawn_from(small, tmp_path, capsys, monkeypatch):
    command = ["train", "mnist-gan", "--steps", "10", "--profile", "smoke", "--precision", "float32", "--seed", "3"]
    command.append("--out")
    seen = []
    monkeypatch.setattr(cli, "_draw_grid", lambda run, path, step: seen.append((step, run.draw(2))))
    assert cli.main([*command, str(tmp_path / "whole")]) == 0
    said = capsys.readouterr().out
    card = json.loads(said[said.index("{") :])
    assert card["command"] == "course train mnist-gan --seed 3 --profile smoke --precision float32 --steps 10"
    assert [step for step, _ in seen] == list(range(1, 11)) and not torch.equal(seen[0][1], seen[-1][1])

    def torn(run, path, step):
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_draw_grid", torn)
    monkeypatch.setattr(sys, "argv", ["course", "train", "mnist-gan"])
    assert cli.main([*command, str(tmp_path / "parts")]) == 1
    gc.collect()
    assert "`course train mnist-gan --resume` goes on" in capsys.readouterr().err
    monkeypatch.setattr(cli, "_draw_grid", lambda *seen: None)
    assert cli.main([*command, str(tmp_path / "parts"), "--resume"]) == 0
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))

    out = tmp_path / "x.npy"
    assert sample(out, "-n", 5, "--seed", 2, "--weights", tmp_path / "parts", "--png") == 0
    expected = recipes.generate(recipes.load_generator(tmp_path / "whole"), 5, seed=2)
    assert np.abs(np.load(out) - expected.numpy()).max() == 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    before = out.read_bytes()
    capsys.readouterr()
    for option, value, why in (
        ("--sampler", "dpm", "draws in one pass"), ("--steps", "20", "draws in one pass"),
        ("--label", "7", "no labels"), ("--scale", "2", "no labels"),
    ):  # fmt: skip
        assert sample(out, "--weights", tmp_path / "parts", option, value) == 1
        error = capsys.readouterr().err
        assert f"expected no {option} with the GAN in" in error and why in error and error.count("\n") == 1
    assert out.read_bytes() == before


def test_a_gan_draws_a_picture_as_it_goes_and_takes_five_minutes(small, tmp_path):
    assert cli.main(["train", "mnist-gan", "--steps", "1", "--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
    asked = types.SimpleNamespace(name="mnist-gan", seed=0, steps=None, minutes=None, profile="smoke", precision=None)
    steps = cli._run_of(asked, tmp_path / "new").steps
    assert abs(steps - 5 * 60 / made_up.STEP_SECONDS) <= 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"], ["train", "mnist"], ["train", "mnist-ddpm", "--steps", "0"],
        ["train", "mnist-ddpm", "--steps", "2.5"],
        ["train", "mnist-ddpm", "--minutes", "0"], ["train", "mnist-ddpm", "--minutes", "nan"],
        ["train", "mnist-ddpm", "--minutes", "soon"], ["train", "mnist-ddpm", "--minutes", "1", "--steps", "2"],
        ["train", "mnist-ddpm", "--seed", "-1"], ["train", "mnist-ddpm", "--profile", "auto"],
        ["train", "mnist-ddpm", "--precision", "half"],
        ["sample", "-n", "0"], ["sample", "--sampler", "euler"], ["sample", "--steps", "x"], ["sample", "--label", "a"],
        ["sample", "--scale", "-1"], ["sample", "--scale", "inf"], ["sample", "--scale", "strong"],
        ["sample", "--seed", "99999999999"], ["evaluate"], ["evaluate", "x.npy", "--data", "cifar10"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_arguments_are_told_with_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and "usage: course" in capsys.readouterr().err


def stopped(folder, monkeypatch, at=3):
    """Interrupt a run from the keyboard before this step's picture."""
    grid, calls = cli._draw_grid, []

    def torn(*args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        grid(*args)

    with monkeypatch.context() as patch:
        patch.setattr(cli, "_draw_grid", torn)
        patch.setattr(sys, "argv", ["course", "train", "mnist-ddpm", "--out", str(folder)])
        return train("--out", folder)


def test_a_stopped_run_waits_for_resume(small, tmp_path, monkeypatch, capsys):
    assert train("--out", tmp_path / "whole") == 0
    folder = tmp_path / "parts"
    assert stopped(folder, monkeypatch) == 1
    assert f"nothing is lost: `course train mnist-ddpm --out {folder} --resume` goes on" in capsys.readouterr().err
    gc.collect()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert checkpoints.load(folder / "run")[1]["step"] == 3
    assert train("--out", folder) == 1
    assert f"a stopped run waits in {folder / 'run'}: go on with --resume" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert train("--out", folder, "--resume", steps=99) == 0
    assert same(weights(folder), weights(tmp_path / "whole")) and not (folder / "run").exists()
    assert checkpoints.load(folder)[1]["steps"] == 4


def test_resume_without_a_stopped_run_says_that_it_begins_anew(small, tmp_path, capsys):
    assert train("--out", tmp_path, "--resume") == 0
    assert f"No stopped run waits in {tmp_path / 'run'}: this one begins at the beginning." in capsys.readouterr().out
    assert (tmp_path / "card.json").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: its interrupts go to the whole console")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_a_process_that_is_stopped_or_killed_is_gone_on_with(small, tmp_path, how):
    """A true process: interrupted, or killed in the middle; what it left goes on to the same weights."""
    assert train("--out", tmp_path / "whole", steps=8) == 0
    program = [
        "import sys, torch, made_up; torch.set_num_threads(1); made_up.install()",
        "from course_lib import cli, runs; runs.SAVE_SECONDS = 0",
        "cli._draw_grid = lambda net, path, step: (print('step', step, flush=True), sys.stdin.readline())",
        "sys.exit(cli.main())",
    ]
    folder = tmp_path / "parts"
    command = ["train", "mnist-ddpm", "--steps", "8", "--profile", "smoke", "--out", str(folder)]
    child = subprocess.Popen(
        [sys.executable, "-c", "\n".join(program), *command], text=True, encoding="utf-8", env=made_up.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with child:
        for line in child.stdout:
            if line.startswith("step 4"):
                child.send_signal(getattr(signal, how))
                break
            if line.startswith("step"):
                child.stdin.write("\n")
                child.stdin.flush()
        said = child.communicate(timeout=60)[1]
    if how == "SIGINT":
        assert child.returncode == 1 and "stopped, nothing is lost: `course train" in said and "Traceback" not in said
        assert checkpoints.load(folder / "run")[1]["step"] == 4
    assert not (folder / "card.json").exists() and 1 <= checkpoints.load(folder / "run")[1]["step"] <= 4
    assert train("--out", folder, "--resume", steps=8) == 0
    assert same(weights(folder), weights(tmp_path / "whole"))


def test_an_out_that_cannot_be_written_is_told_before_the_first_step(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr(recipes.DigitRun, "__iter__", None)
    assert train("--out", tmp_path / "file") == 1
    assert train("--out", tmp_path / "file" / "deeper") == 1
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("course: ") and "cannot be written" in line and "--out" in line


def test_a_full_disk_is_told_and_what_was_kept_stays(small, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run of mine"
    stopped(folder, monkeypatch)
    gc.collect()
    kept = weights(folder / "run")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write_whole", full)
        assert train("--out", folder, "--resume") == 1
    assert "could not be written" in capsys.readouterr().err
    assert same(weights(folder / "run"), kept) and not (folder / "card.json").exists()
    assert train("--out", folder, "--resume") == 0


def test_without_mnist_training_is_refused_in_one_sentence(small, tmp_path, monkeypatch, capsys):
    def never(train=True):
        raise data.DataError("MNIST is neither here nor there")

    monkeypatch.setattr(data, "mnist", never)
    assert train("--out", tmp_path / "out") == 1
    assert capsys.readouterr().err == "course: MNIST is neither here nor there.\n" and not (tmp_path / "out").exists()


def sample(out, *more):
    return cli.main(["sample", "--out", str(out), *map(str, more)])


def test_sample_draws_into_a_file_and_a_picture(tmp_path, capsys):
    out = tmp_path / "x.npy"
    for sampler in ("ddpm", "ddim", "heun", "dpm"):
        assert sample(out, "-n", 3, "--steps", 2, "--sampler", sampler, "--seed", 5) == 0
        expected = recipes.draw(recipes.load_denoiser(data.shipped("mnist-ddpm")), 3, sampler, 2, seed=5)
        x = np.load(out)
        assert (x.shape, x.dtype) == ((3, 1, 28, 28), np.float32) and np.abs(x).max() <= 1
        assert np.abs(x - expected.numpy()).max() == 0
    assert f"3 pictures of (1, 28, 28) in [-1, 1] are in {out}." in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    labelled = data.shipped("mnist-ddpm-labels")
    assert sample(out, "-n", 12, "--steps", 2, "--weights", labelled, "--label", 7, "--png") == 0
    expected = recipes.draw(recipes.load_denoiser(labelled), 12, "dpm", 2, label=7)
    assert np.abs(np.load(out) - expected.numpy()).max() == 0
    assert sample(out, "-n", 12, "--steps", 2, "--weights", labelled, "--label", 7, "--scale", 1.5, "--png") == 0
    insisted = recipes.draw(recipes.load_denoiser(labelled), 12, "dpm", 2, label=7, scale=1.5)
    assert np.abs(np.load(out) - insisted.numpy()).max() == 0 and (insisted - expected).abs().max() > 0.1
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--weights", "nowhere"], "there is no whole checkpoint in nowhere"),
        (["--weights", str(data.shipped("digit-classifier"))], "expected a diffusion model of digits"),
        (["--label", "7"], "expected a model with labels to draw a 7, got one without: see mnist-ddpm-labels"),
        (["--weights", str(data.shipped("mnist-ddpm-labels")), "--label", "10"], "expected label in 0..9, got 10"),
        (["--scale", "2"], "expected scale 1 for a model without labels, got 2.0: see mnist-ddpm-labels"),
        (["--steps", "1001"], "expected steps in 1..1000, got 1001"),
        (["--out", "x.png"], "expected --out to end in .npy, got x.png"),
        (["--out", "none/x.npy"], "x.npy cannot be written (No such file or directory): choose another place"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_told_and_nothing_is_left(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros(3))
    assert sample("x.npy", *more) == 1
    error = capsys.readouterr().err
    assert said in error.replace("\\", "/") and error.startswith("course: ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"] and np.load("x.npy").shape == (3,)


def test_a_disk_that_fills_up_while_drawing_leaves_the_old_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.npy").write_bytes(b"old")

    def full(file, array):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert sample(tmp_path / "x.npy", "-n", 2, "--steps", 1) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.npy", b"old")]


def test_evaluate_prints_json(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(evaluate, "evaluate_digits", lambda x: seen.append(x) or {"n": len(x)})
    x = np.full((4, 1, 28, 28), 0.5, np.float32)
    np.save(tmp_path / "x.npy", x)
    assert cli.main(["evaluate", str(tmp_path / "x.npy"), "--data", "mnist"]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": 4} and np.array_equal(seen[0], x)
    assert cli.main(["evaluate", str(tmp_path / "y.npy")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("course: expected an .npy file") and "check the path" in error and error.count("\n") == 1
