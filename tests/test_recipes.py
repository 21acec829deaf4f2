"""Recipes: runs that stop and go on, cards that say what was done, drawing that repeats, and folders that are wrong."""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import made_up
import numpy as np
import pytest
import torch
from torch import nn

from course_lib import checkpoints, data, objectives, recipes, schedules
from course_lib.checkpoints import CheckpointError
from course_lib.denoiser import Denoiser, logit_normal_t, uniform_t
from course_lib.evaluate import load_digit_features
from course_lib.models.gan import Discriminator, Generator, StyleGenerator
from course_lib.models.unet import UNet
from course_lib.recipes import SAMPLERS, DigitClassifierRun, DigitRun, GanRun, generate, load_denoiser, load_generator
from course_lib.types import Prediction

draw = recipes.draw  # the real one, whatever is patched


@pytest.fixture
def small(monkeypatch):
    made_up.install(monkeypatch.setattr)


def make(folder, recipe=None, **more):
    return DigitRun(folder, recipe or recipes.QUICK, **({"steps": 6, "profile": "smoke"} | more))


def game(folder, recipe=None, **more):
    return GanRun(folder, recipe or recipes.GAN, **({"steps": 6, "profile": "smoke"} | more))


def weights(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def follow(run, until=None):
    losses = []
    for progress in run:
        losses.append(progress.loss)
        if progress.step == until:
            break
    return losses


# Runs


@pytest.mark.parametrize("name", ["DDPM", "QUICK", "LABELS"])
def test_a_stopped_run_goes_on_and_ends_as_one_that_never_stopped(small, tmp_path, name):
    recipe = getattr(recipes, name)
    whole = make(tmp_path / "whole", recipe)
    losses = follow(whole)
    first = follow(make(tmp_path / "parts", recipe), until=2)
    torch.manual_seed(99)
    again = make(tmp_path / "parts", recipe)
    second = follow(again, until=4)
    assert not (tmp_path / "parts" / "card.json").exists()
    third = follow(again)  # the same object goes on, too
    assert first + second + third == losses and len(losses) == 6 == len(set(losses))
    ends = [load_denoiser(tmp_path / part).net for part in ("whole", "parts")]
    assert torch.equal(weights(ends[0]), weights(ends[1])) and torch.equal(weights(ends[0]), weights(whole.ema.net))
    assert not torch.equal(weights(whole.ema.net), weights(whole.net))
    for part in ("whole", "parts"):
        assert len(list((tmp_path / part).iterdir())) == 2  # card and weights: the run is over


def test_a_finished_run_does_nothing_more(small, tmp_path):
    run = make(tmp_path, steps=2)
    assert len(follow(run)) == 2
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert follow(run) == [] and {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_seed_decides_a_run_and_nothing_else_does(small, tmp_path):
    ends = []
    for k, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + k)
        before = torch.get_rng_state()
        run = make(tmp_path / str(k), seed=seed, steps=2)
        ends.append((follow(run), weights(run.net)))
        assert torch.equal(torch.get_rng_state(), before)
    assert ends[0][0] == ends[1][0] and torch.equal(ends[0][1], ends[1][1])
    assert ends[0][0] != ends[2][0] and not torch.equal(ends[0][1], ends[2][1])


@pytest.mark.parametrize("recipe", ["DDPM", "LABELS"])
def test_the_card_says_what_was_done(small, tmp_path, recipe):
    run = make(tmp_path, getattr(recipes, recipe), steps=3, seed=5, command="course train it --seed 5")
    follow(run)
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["steps"], card["seed"]) == ("digit denoiser", 3, 5)
    assert card["command"] == f"course train it --seed 5 --precision {run.precision} --steps 3"
    assert card["data"].startswith("MNIST")
    assert card["recipe"] == asdict(getattr(recipes, recipe))
    assert card["net"]["classes"] == (10 if recipe == "LABELS" else 0)
    assert card["weights_in_net"] == len(weights(UNet(**card["net"])))
    assert card["seconds"] == round(run.seconds, 1) and card["torch"] in torch.__version__ and card["machine"]
    assert card["metrics"] == {"sampler": "dpm", "steps": 20, "n": 40, "frechet_distance": 1.5}
    loaded = load_denoiser(tmp_path)
    assert loaded.schedule.name == card["recipe"]["schedule"] and loaded.objective.name == card["recipe"]["objective"]
    assert not loaded.net.training and not any(weight.requires_grad for weight in loaded.net.parameters())
    x, t = torch.ones(2, 1, 28, 28), torch.tensor([1, 900])
    assert torch.equal(loaded(x, t).x0, run.denoiser(x, t).x0)


def test_minutes_become_steps_after_what_the_pace_took(small, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recipes, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert make(tmp_path, steps=None, minutes=2).steps == 2 * 60 / made_up.STEP_SECONDS

    def slow(run):
        now[0] += 30
        return 0.25

    monkeypatch.setattr(DigitRun, "_pace", slow)
    assert make(tmp_path, steps=None, minutes=2).steps == (120 - 30) / 0.25
    assert make(tmp_path, steps=None, minutes=0.01).steps == 1


def test_the_real_pace_is_measured_on_a_copy(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        made_up.install(patch.setattr)
        quiet = make(tmp_path)
    monkeypatch.setattr(data, "mnist", made_up.digits)
    before = torch.get_rng_state()
    run = DigitRun(tmp_path, replace(recipes.QUICK, batch=4), steps=6, profile="smoke")
    assert run.step_seconds > 0 and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(run.net), weights(quiet.net)) and torch.equal(weights(run.ema.net), weights(run.net))
    assert run.ema.updates == 0 and list(tmp_path.iterdir()) == []


def test_going_on_keeps_the_steps_the_run_was_to_have(small, tmp_path):
    follow(make(tmp_path, steps=5), until=2)
    for other in ({"steps": 50}, {"steps": None, "minutes": 100}):
        assert make(tmp_path, **other).steps == 5
    assert len(follow(make(tmp_path, steps=50))) == 3
    assert make(tmp_path, steps=7).steps == 7  # a finished run is over: the next one is new


@pytest.mark.parametrize("first", recipes.PRECISIONS)
@pytest.mark.parametrize("make", [make, game], ids=["digits", "gan"])
def test_going_on_keeps_the_precision_of_the_run_on_whatever_machine(small, tmp_path, monkeypatch, make, first):
    other = next(name for name in recipes.PRECISIONS if name != first)
    quick = {"there": first, "here": other}
    monkeypatch.setattr(recipes, "quick_precision", lambda device: recipes.PRECISIONS[quick["there"]])
    whole = follow(make(tmp_path / "whole"))
    begun = follow(make(tmp_path / "parts"), until=2)
    monkeypatch.setattr(recipes, "quick_precision", lambda device: recipes.PRECISIONS[quick["here"]])
    with pytest.raises(CheckpointError, match=f"got .*'precision': '{first}'.*choose another folder"):
        follow(make(tmp_path / "parts", precision=other))
    run = make(tmp_path / "parts")
    assert begun + follow(run) == whole and run.precision == first
    assert make(tmp_path / "new").precision == other and make(tmp_path / "new", precision=first).precision == first


@pytest.mark.parametrize("odd", ["float64", [], 7, None])
def test_a_stopped_run_in_no_known_precision_is_refused(small, tmp_path, odd):
    follow(make(tmp_path), until=2)
    path = tmp_path / "run" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"precision": odd}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"got .*'precision'.*choose another folder"):
        follow(make(tmp_path))


OTHERS = [{"seed": 1}, {"recipe": "DDPM"}, {"recipe": "LABELS"}, {"profile": "cpu"}, {"lr": 0.01}, {"middle": False}]


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_in_the_folder_is_refused_and_left_alone(small, tmp_path, other):
    follow(make(tmp_path), until=2)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    changes = {name: value for name, value in other.items() if hasattr(recipes.QUICK, name)}
    recipe = replace(getattr(recipes, other.get("recipe", "QUICK")), **changes)
    arguments = {name: value for name, value in other.items() if name in ("seed", "profile")}
    with pytest.raises(CheckpointError, match="choose another folder"):
        follow(make(tmp_path, recipe, **arguments))
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_the_rate_rises_then_falls_to_nothing(small, tmp_path):
    rates = [progress.lr for progress in make(tmp_path, replace(recipes.QUICK, warm_up=0.25), steps=20)]
    top = max(rates)
    peak = rates.index(top)
    assert peak == 5 and 0.7 * 0.02 < top <= 0.02
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.1 * top and 0 < rates[-1] < 0.1 * top


@pytest.mark.parametrize(
    ("name", "draw_t"), [("DDPM", uniform_t), ("QUICK", logit_normal_t), ("LABELS", logit_normal_t)]
)
def test_the_loss_of_a_recipe(small, tmp_path, monkeypatch, name, draw_t):
    calls, real = [], recipes.denoising_loss

    def watched(denoiser, x0, cond=None, **more):
        calls.append((x0, cond, more["draw_t"]))
        return real(denoiser, x0, cond, **more)

    monkeypatch.setattr(recipes, "denoising_loss", watched)
    follow(make(tmp_path, getattr(recipes, name), steps=4))
    assert len(calls) == 4 and all(how is draw_t for _, _, how in calls)
    if name == "LABELS":
        known = {tuple(x.flatten().tolist()): int(y) for x, y in zip(*made_up.digits()[:2], strict=True)}
        for x0, cond, _ in calls:
            true = [known[tuple(x.flatten().tolist())] for x in x0]
            assert all(shown in (label, 10) for shown, label in zip(cond.tolist(), true, strict=True))
    else:
        assert all(cond is None for _, cond, _ in calls)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_labels_are_hidden_as_often_as_the_recipe_says(small, tmp_path, monkeypatch, share):
    run = make(tmp_path, replace(recipes.LABELS, label_dropout=share))
    seen = []
    monkeypatch.setattr(recipes, "denoising_loss", lambda denoiser, x0, cond, **more: seen.append(cond))
    labels = torch.arange(5000) % 10
    run._loss(run.denoiser, (torch.zeros(5000, 1, 1, 1), labels), torch.Generator().manual_seed(0))
    hidden = seen[0] == 10
    assert abs(float(hidden.double().mean()) - share) < 5 * (share * (1 - share) / 5000) ** 0.5 + 1e-9
    assert torch.equal(seen[0][~hidden], labels[~hidden]) and labels.max() == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipe": "QUICK"}, "expected a DigitRecipe, such as recipes.QUICK, got 'QUICK'"),
        ({"profile": "huge"}, "expected profile smoke, cpu or gpu, got 'huge'"),
        ({"profile": {}}, "expected profile smoke, cpu or gpu, got"),
        ({"steps": 3, "minutes": 3}, "expected steps or minutes, one of the two"),
        ({}, "expected steps or minutes, one of the two"),
        ({"steps": 0}, "expected steps of at least 1, got 0"),
        ({"steps": 2.5}, "expected steps to be a whole number, got 2.5"),
        ({"minutes": 0}, "expected minutes in .* got 0"),
        ({"minutes": float("nan")}, "expected minutes in .* got nan"),
        ({"minutes": "3"}, "expected minutes to be a number, got '3'"),
        ({"steps": 3, "seed": -1}, "expected seed in .* got -1"),
        ({"steps": 3, "precision": "half"}, "expected precision float32 or bfloat16, got 'half'"),
        ({"steps": 3, "precision": torch.bfloat16}, "expected precision float32 or bfloat16, got dtype"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, arguments, said):
    monkeypatch.setattr(data, "mnist", None)
    with pytest.raises((TypeError, ValueError), match=said):
        DigitRun(tmp_path, **arguments)


def test_without_mnist_a_run_says_so(tmp_path, monkeypatch):
    def never(train=True):
        raise data.DataError("MNIST is neither here nor there")

    monkeypatch.setattr(data, "mnist", never)
    for make_run in (lambda: DigitRun(tmp_path, steps=3), lambda: DigitClassifierRun(tmp_path, steps=3)):
        with pytest.raises(data.DataError, match="neither here nor there"):
            make_run()
    assert list(tmp_path.iterdir()) == []


# GANs


@pytest.mark.parametrize("change", [{}, {"style": True, "spectral": True, "r1": 1.0, "discriminator_steps": 2}])
def test_a_stopped_gan_goes_on_and_ends_as_one_that_never_stopped(small, tmp_path, change):
    recipe = replace(recipes.GAN, **change)
    whole = game(tmp_path / "whole", recipe)
    losses = follow(whole)
    first = follow(game(tmp_path / "parts", recipe), until=2)
    torch.manual_seed(99)
    again = game(tmp_path / "parts", recipe)
    assert first + follow(again, until=4) + follow(again) == losses and len(set(losses)) == 6
    ends = [load_generator(tmp_path / part) for part in ("whole", "parts")]
    assert torch.equal(weights(ends[0]), weights(ends[1])) and torch.equal(weights(ends[0]), weights(whole.generator))
    assert all(torch.equal(weights(one), weights(other)) for one, other in zip(whole.nets, again.nets, strict=True))
    assert torch.equal(generate(ends[0], 3), whole.draw(3))
    assert len(list((tmp_path / "parts").iterdir())) == 2  # card and weights: the run is over


@pytest.mark.parametrize("style", [False, True])
def test_the_card_of_a_gan_says_what_was_done(small, tmp_path, style):
    recipe = replace(recipes.GAN, style=style)
    run = game(tmp_path, recipe, steps=3, seed=5, command="course train it --seed 5")
    follow(run)
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["steps"], card["seed"]) == ("digit generator", 3, 5)
    assert card["command"] == f"course train it --seed 5 --precision {run.precision} --steps 3"
    assert card["data"].startswith("MNIST")
    assert card["recipe"] == json.loads(json.dumps(asdict(recipe)))
    assert card["metrics"] == {"n": 1000, "frechet_distance": 1.5}
    loaded = load_generator(tmp_path)
    assert type(loaded) is (StyleGenerator if style else Generator) and card["weights_in_net"] == len(weights(loaded))
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())


def test_a_gan_follows_its_recipe(small, tmp_path, monkeypatch):
    calls, real = [], recipes.fit_gan

    def watched(generator, discriminator, batches, **more):
        calls.append((generator, discriminator, batches, more))
        return real(generator, discriminator, batches, **more)

    monkeypatch.setattr(recipes, "fit_gan", watched)
    recipe = recipes.GanRecipe(
        spectral=True, loss="hinge", lr=(0.01, 0.04), betas=(0.1, 0.9), batch=7, r1=0.5, gradient_penalty=2.0,
        discriminator_steps=3, ema_decay=0.5,
    )  # fmt: skip
    run = game(tmp_path, recipe, steps=4, seed=2)
    rates = [progress.lr for progress in run]
    ((generator, discriminator, batches, more),) = calls
    assert isinstance(generator, Generator) and isinstance(discriminator, Discriminator)
    assert any(name.endswith("weight.original") for name, _ in discriminator.named_parameters())
    assert (batches.size, batches.seed, more["seed"], more["ema"].decay) == (7, 2, 2, 0.5) and batches.labels is None
    for name in ("loss", "betas", "r1", "gradient_penalty", "smooth", "discriminator_steps"):
        assert more[name] == getattr(recipe, name)
    assert [round(rate, 10) for rate in rates] == [0.01, 0.0075, 0.005, 0.0025]
    assert more["lr"](0.5) == (0.005, 0.02)


def test_the_seed_and_the_minutes_of_a_gan(small, tmp_path):
    ends = [(follow(run), weights(run.nets[0])) for run in (game(tmp_path / str(k), seed=k // 2) for k in range(3))]
    assert ends[0][0] == ends[1][0] != ends[2][0] and torch.equal(ends[0][1], ends[1][1])
    assert abs(game(tmp_path / "m", steps=None, minutes=2).steps - 2 * 60 / made_up.STEP_SECONDS) <= 5


def test_the_real_pace_of_a_gan_is_measured_on_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "mnist", made_up.digits)
    run = game(tmp_path, replace(recipes.GAN, batch=4))
    torch.manual_seed(0)
    fresh = Generator(**run.size)
    assert run.step_seconds > 0 and torch.equal(weights(run.nets[0]), weights(fresh))
    assert run.ema.updates == 0 and list(tmp_path.iterdir()) == []


def test_runs_of_the_other_kind_do_not_meet(small, tmp_path):
    follow(game(tmp_path / "gan"), until=2)
    with pytest.raises(CheckpointError, match="choose another folder"):
        follow(make(tmp_path / "gan"))
    follow(make(tmp_path / "diffusion"), until=2)
    with pytest.raises(CheckpointError, match="choose another folder"):
        follow(game(tmp_path / "diffusion"))
    for run, other in ((DigitRun, recipes.GAN), (GanRun, recipes.QUICK)):
        with pytest.raises(TypeError, match=r"expected a (Digit|Gan)Recipe, such as recipes\.(QUICK|GAN), got"):
            run(tmp_path / "new", other, steps=3)


def test_the_recipe_that_ships_is_what_a_run_takes_by_itself(small, tmp_path):
    assert GanRun(tmp_path, steps=2, profile="smoke").recipe == recipes.GAN
    assert DigitRun(tmp_path, steps=2, profile="smoke").recipe == recipes.QUICK


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    """A GAN that was trained for two steps."""
    folder = tmp_path_factory.mktemp("gan")
    with pytest.MonkeyPatch.context() as patch:
        made_up.install(patch.setattr)
        follow(game(folder, steps=2))
    return folder


def test_the_same_call_generates_the_same_digits(gan):
    for net in (load_generator(gan), StyleGenerator(latent=4, width=4)):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = generate(net, 6, seed=4)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(generate(net, 6, seed=4), first) and not torch.equal(generate(net, 6, seed=5), first)
        assert (first.shape, first.dtype) == ((6, 1, 28, 28), torch.float32) and float(first.abs().max()) <= 1
        assert not first.requires_grad and len(generate(net, 253)) == 253


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.pop("recipe"),
        lambda card: card.pop("net"),
        lambda card: card["recipe"].pop("style"),
        lambda card: card["recipe"].update(style=True),
        lambda card: card["net"].update(width=12),
        lambda card: card["net"].update(depth=3),
        lambda card: card["net"].update(size=40),
        lambda card: card.update(net=[]),
    ],
)
def test_a_card_of_another_generator_is_refused(gan, tmp_path, change):
    shutil.copytree(gan, tmp_path / "copy")
    changed(tmp_path / "copy", change)
    with pytest.raises(CheckpointError, match=r"expected the generator of a GAN of digits in .*, got other weights"):
        load_generator(tmp_path / "copy")


def test_generators_and_denoisers_are_not_taken_for_each_other(gan, trained):
    with pytest.raises(CheckpointError, match="expected a diffusion model of digits"):
        load_denoiser(gan)
    with pytest.raises(CheckpointError, match="expected the generator of a GAN of digits"):
        load_generator(trained)
    with pytest.raises(TypeError, match="expected a generator, such as load_generator gives, got Denoiser"):
        generate(load_denoiser(trained), 3)
    for wrong, said in (({"n": 0}, "expected n of at least 1"), ({"seed": -1}, "expected seed in")):
        with pytest.raises(ValueError, match=said):
            generate(**({"generator": load_generator(gan), "n": 2} | wrong))


# The classifier


def test_a_classifier_is_trained_resumed_and_loaded(small, tmp_path):
    losses = follow(DigitClassifierRun(tmp_path / "whole", steps=4))
    first = follow(DigitClassifierRun(tmp_path / "parts", steps=4), until=2)
    assert first + follow(DigitClassifierRun(tmp_path / "parts", steps=4)) == losses and len(losses) == 4
    see, parts = (load_digit_features(tmp_path / part) for part in ("whole", "parts"))
    assert torch.equal(weights(see.net), weights(parts.net))
    card = checkpoints.load(tmp_path / "whole")[1]
    x, labels, _ = made_up.digits()
    wrong = (see(x)[1].argmax(1) != labels.numpy()).mean()
    assert card["metrics"] == {"test error": pytest.approx(wrong), "N": 300} and 0 < wrong <= 1
    assert card["command"].endswith("--steps 4") and not (tmp_path / "whole" / "run").exists()


def test_the_classifier_learns(small, tmp_path):
    losses = follow(DigitClassifierRun(tmp_path, steps=12))
    assert losses[-1] < 0.95 * losses[0]


# Loading


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of labels that was trained for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        made_up.install(patch.setattr)
        follow(make(folder, recipes.LABELS, steps=2))
    return folder


def changed(folder, change):
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    change(card)
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.pop("recipe"),
        lambda card: card.pop("net"),
        lambda card: card["recipe"].pop("schedule"),
        lambda card: card["recipe"].update(schedule="karras"),
        lambda card: card["recipe"].update(objective="eps"),  # which the flow path does not know at T
        lambda card: card["recipe"].update(objective=["v"]),
        lambda card: card.update(recipe=[]),
        lambda card: card.update(net={"widths": "wide"}),
        lambda card: card["net"].update(widths=[16, 48]),
        lambda card: card["net"].update(depth=3),
        lambda card: card["net"].update(classes=0),
        lambda card: card.update(net=None),
    ],
)
def test_a_card_of_another_thing_is_refused(trained, tmp_path, change):
    shutil.copytree(trained, tmp_path / "copy")
    changed(tmp_path / "copy", change)
    with pytest.raises(
        CheckpointError, match=r"expected a diffusion model of digits in .*, got other weights: `course"
    ):
        load_denoiser(tmp_path / "copy")


def test_damaged_and_missing_folders_are_named(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    card = tmp_path / "copy" / "card.json"
    text = card.read_text(encoding="utf-8")
    card.write_text(text[:100], encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_denoiser(tmp_path / "copy")
    card.write_text(text, encoding="utf-8")
    (tensors,) = (tmp_path / "copy").glob("weights-*")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="do not match their card"):
        load_denoiser(tmp_path / "copy")
    tensors.unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_denoiser(tmp_path / "copy")
    for other in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="no whole checkpoint"):
            load_denoiser(other)
    with pytest.raises(CheckpointError, match="got other weights"):
        load_denoiser(data.shipped("digit-classifier"))


# Drawing


def test_the_same_call_draws_the_same_digits(trained):
    denoiser = load_denoiser(trained)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(denoiser, 6, "ddpm", 3, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw(denoiser, 6, "ddpm", 3, seed=4), first)
    assert not torch.equal(draw(denoiser, 6, "ddpm", 3, seed=5), first)
    assert (first.shape, first.dtype) == ((6, 1, 28, 28), torch.float32) and float(first.abs().max()) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_every_sampler_draws(trained, sampler, steps):
    drawn = draw(load_denoiser(trained), 3, sampler, steps)
    assert drawn.shape == (3, 1, 28, 28) and torch.isfinite(drawn).all() and float(drawn.abs().max()) <= 1
    assert float(drawn.std()) > 0.1


class Recorded(nn.Module):
    """A network that keeps what it is asked, and answers with noise alone."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.seen, self.weight = classes, [], nn.Parameter(torch.zeros(1))

    def forward(self, x, time, label=None):
        self.seen.append((x, time, label))
        return x.detach()


def recorded(classes):
    return Denoiser(Recorded(classes), schedules.cosine(10), objectives.v)


@pytest.mark.parametrize(("n", "parts"), [(7, [7]), (250, [250]), (253, [250, 3])])
def test_labels_are_drawn_as_often_each_and_at_most_250_at_a_time(n, parts):
    denoiser = recorded(10)
    assert len(draw(denoiser, n, "ddim", 1)) == n
    assert [len(x) for x, *_ in denoiser.net.seen] == parts
    labels = torch.cat([label for *_, label in denoiser.net.seen])
    counts = labels.bincount(minlength=10)
    assert int(counts.max() - counts.min()) <= 1 and labels[:7].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_one_label_or_none():
    denoiser = recorded(10)
    draw(denoiser, 4, "ddim", 2, label=3)
    assert all(label.tolist() == [3] * 4 for *_, label in denoiser.net.seen) and len(denoiser.net.seen) == 2
    plain = recorded(0)
    draw(plain, 4, "ddim", 2)
    assert all(label is None for *_, label in plain.net.seen)


def test_guidance_asks_with_and_without_the_label_and_scale_1_with_it_alone():
    denoiser = recorded(10)
    draw(denoiser, 3, "ddim", 1, label=4, scale=2.0)
    asked = torch.cat([label for *_, label in denoiser.net.seen]).tolist()
    assert sorted(asked) == [4, 4, 4, 10, 10, 10]  # 10: no label
    plain = recorded(10)
    draw(plain, 3, "ddim", 1, label=4, scale=1)
    assert torch.cat([label for *_, label in plain.net.seen]).tolist() == [4, 4, 4]


def test_ddpm_is_ddim_with_all_the_noise():
    """On adjacent steps of a network whose answer is known, DDPM's step has the variance of DDPM's posterior."""
    schedule = schedules.cosine(10)
    zero = lambda x_t, t, cond=None: Prediction(torch.zeros_like(x_t), x_t / schedule.rates(t, x_t)[1])  # noqa: E731
    x, noise = torch.zeros(4, 2), torch.ones(4, 2)
    step = SAMPLERS["ddpm"](zero, schedule, x, 5, 4, noise=noise).x_next
    bar, beta = schedule.alpha_bar, schedule.beta
    std = float((beta[5] * (1 - bar[4]) / (1 - bar[5])) ** 0.5)  # DDPM, arXiv:2006.11239, eq. 7
    assert float((step - std).abs().max()) < 1e-6 and std > 0.01
    assert float(SAMPLERS["ddim"](zero, schedule, x, 5, 4).x_next.abs().max()) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sampler": "euler"}, "expected sampler ddpm, ddim, heun, dpm, got 'euler'"),
        ({"sampler": None}, "expected sampler ddpm, ddim, heun, dpm, got None"),
        ({"sampler": []}, "expected sampler ddpm, ddim, heun, dpm, got list"),
        ({"steps": 0}, "expected steps in 1..10, got 0"),
        ({"steps": 11}, "expected steps in 1..10, got 11"),
        ({"steps": 2.5}, "expected steps to be a whole number, got 2.5"),
        ({"n": 0}, "expected n of at least 1, got 0"),
        ({"seed": -1}, "expected seed in .* got -1"),
        ({"label": 10}, "expected label in 0..9, got 10"),
        ({"label": -1}, "expected label in 0..9, got -1"),
        ({"label": 1.5}, "expected label to be a whole number, got 1.5"),
        ({"denoiser": recorded(0), "label": 3}, "expected a model with labels to draw a 3, got one without"),
        ({"scale": -1}, r"expected scale in \[0, inf\], got -1"),
        ({"scale": "1"}, "expected scale to be a number"),
        ({"denoiser": recorded(0), "scale": 2.0}, "expected scale 1 for a model without labels, got 2.0: see mnist"),
        ({"denoiser": "mnist-ddpm"}, "expected a Denoiser of a network, such as load_denoiser gives, got 'mnist-ddpm'"),
        (
            {"denoiser": Denoiser(lambda x, time: x, schedules.cosine(), objectives.v)},
            "expected a Denoiser of a network",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        draw(**({"denoiser": recorded(10), "n": 2, "steps": 2} | arguments))


def test_the_weights_that_ship_draw_what_they_are_asked_for():
    """Seen by the classifier that ships: N = 30, three of each; 12 steps of dpm."""
    drawn = draw(load_denoiser(data.shipped("mnist-ddpm-labels")), 30, "dpm", 12)
    guesses = load_digit_features()(drawn)[1].argmax(1)
    assert (guesses == np.arange(30) % 10).mean() > 0.85
    sevens = draw(load_denoiser(data.shipped("mnist-ddpm-labels")), 8, "dpm", 12, label=7)
    assert (load_digit_features()(sevens)[1].argmax(1) == 7).mean() > 0.8


def test_rounding_where_that_is_quick_leaves_the_digits_as_they_are(monkeypatch):
    drawn = {}
    for precision in recipes.PRECISIONS.values():
        monkeypatch.setattr(recipes, "quick_precision", lambda device, precision=precision: precision)
        drawn[precision] = draw(load_denoiser(data.shipped("mnist-ddpm")), 16)
    difference = (drawn[torch.float32] - drawn[torch.bfloat16]).abs()
    assert 0 < difference.mean() < 0.005 and difference.flatten(1).mean(1).max() < 0.02
    assert drawn[torch.bfloat16].dtype == torch.float32


def test_the_weights_without_labels_draw_digits_too():
    drawn = draw(load_denoiser(data.shipped("mnist-ddpm")), 20, "dpm", 12)
    _, chances = load_digit_features()(drawn)
    assert np.median(chances.max(1)) > 0.9 and len(set(chances.argmax(1))) >= 5
    assert float((drawn > 0).float().mean()) < 0.35  # ink on a dark ground


def test_the_gan_that_ships_draws_digits_of_all_kinds():
    """Seen by the classifier that ships: N = 100."""
    drawn = generate(load_generator(data.shipped("mnist-gan")), 100)
    _, chances = load_digit_features()(drawn)
    assert np.median(chances.max(1)) > 0.9 and len(set(chances.argmax(1))) == 10
    assert float((drawn > 0).float().mean()) < 0.35
