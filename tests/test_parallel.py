"""Parallel: two processes, started by torchrun, train as one does. This file is also what the two of them run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import made_up
import pytest
import torch
import torch.distributed as dist

from course_lib import cli, data, objectives, recipes, schedules
from course_lib.denoiser import Denoiser, denoising_loss, logit_normal_t
from course_lib.ema import EMA
from course_lib.models.unet import UNet
from course_lib.parallel import agreed, average_over_processes, is_first_process, processes, share_of
from course_lib.train import fit
from course_lib.train_gan import fit_gan

STEPS = 6


def train(folder=None, size=8):
    """Train a tiny U-Net with labels for some steps; its losses and its weights."""
    torch.manual_seed(0)
    net = UNet(widths=(8, 16), patch=2, classes=3)
    denoiser, ema = Denoiser(net, schedules.cosine(), objectives.v), EMA(net, 0.9)
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    batches = data.batches(x, size, torch.arange(24) % 3)

    def loss(batch, generator):
        return denoising_loss(denoiser, *batch, draw_t=logit_normal_t, generator=generator)

    losses = [p.loss for p in fit(loss, net, batches, steps=STEPS, lr=3e-3, ema=ema, folder=folder)]
    return losses, flat(net), flat(ema.net)


def game():
    """Train a tiny GAN in the plane, without batch norm, for some steps; its losses and its weights."""
    torch.manual_seed(0)
    makes = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    judges = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1), torch.nn.Flatten(0))
    x = torch.randn(24, 2, generator=torch.Generator().manual_seed(1))
    reports = fit_gan(makes, judges, data.batches(x, 8), steps=STEPS, lr=1e-2, r1=1.0, discriminator_steps=2, latent=3)
    return [[p.loss, p.discriminator_loss] for p in reports], flat(makes), flat(judges)


def recipe_run(folder):
    """Train with labels that are hidden now and then, by Muon; bfloat16 would round the sums of halves otherwise."""
    run = recipes.DigitRun(folder, recipes.LABELS, steps=STEPS, profile="smoke", precision="float32")
    return [p.loss for p in run], flat(run.net), flat(run.ema.net)


def flat(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()]).tolist()


def one_of_two(place):
    """What each process does; it leaves what it saw in a file of its own."""
    rank, seen = int(os.environ["RANK"]), {}
    seen["before"] = [is_first_process(), dist.is_initialized()]  # nobody has joined yet
    made_up.install()
    recipes.time = SimpleNamespace(perf_counter=lambda: 0.0)
    cli._draw_grid = lambda net, path, step: path.write_bytes(b"a picture")
    recipes.DigitRun._pace = lambda run: 0.5 + rank  # each measures another pace
    out = place / f"cli-{rank}"
    seen["cli"] = cli.main(["train", "mnist-ddpm", "--minutes", "0.05", "--profile", "smoke", "--out", str(out)])
    seen["after"] = dist.is_initialized()
    # As Accelerate does before anything of ours is called; at a meeting place of its own, for torchrun's still holds
    # the addresses of the group that the command had, and who reads those waits for ever.
    meeting = place.with_name(f"{place.name}-meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    with processes() as count:
        seen["count"], seen["first"], seen["agreed"] = count, is_first_process(), agreed(3.5 + rank)
        seen["share"] = [share_of(8).start, share_of(8).stop]
        seen["fit"] = train(place / f"fit-{rank}")
        seen["game"] = game()
        seen["recipe"] = recipe_run(place / f"recipe-{rank}")
        try:
            train(size=7)
        except ValueError as error:
            seen["uneven"] = str(error)
        weight, still = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2))
        weight.grad = torch.arange(6.0).reshape(3, 2).T * (1 + 2 * rank)
        seen["mean"] = [average_over_processes(torch.tensor(1.0 + rank), [weight, still]).item(), weight.grad.tolist()]
        try:
            next(fit(lambda x, g: weight.sum() * (float("nan") if rank else 1.0), torch.nn.Linear(1, 1), [0], steps=1,
                     optimizer=torch.optim.SGD([weight])))  # fmt: skip
        except FloatingPointError as error:
            seen["nan"] = str(error)
    seen["left alone"] = dist.is_initialized()
    dist.destroy_process_group()
    (place / f"{rank}.json").write_text(json.dumps(seen), encoding="utf-8")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Run this file in two processes; what each saw, what they said and the folder they wrote to."""
    place = tmp_path_factory.mktemp("two")
    command = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    answer = subprocess.run(
        [sys.executable, *command, __file__, str(place)], capture_output=True, text=True, encoding="utf-8", timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COURSE_DATA": str(place)},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    seen = [json.loads((place / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    return SimpleNamespace(seen=seen, said=answer.stdout, place=place)


def furthest(a, b):
    return float((torch.tensor(a) - torch.tensor(b)).abs().max())


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_have_the_losses_and_weights_of_one(two, rank):
    losses, weights, averages = train()
    found = two.seen[rank]["fit"]
    assert len(losses) == STEPS and furthest(found[0], losses) < 1e-5
    assert furthest(found[1], weights) < 1e-4 and furthest(found[2], averages) < 1e-4
    assert furthest(found[1], two.seen[0]["fit"][1]) == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_play_the_game_of_one(two, rank):
    losses, makes, judges = game()
    found = two.seen[rank]["game"]
    assert len(losses) == STEPS and furthest(found[0], losses) < 1e-5
    assert furthest(found[1], makes) < 1e-4 and furthest(found[2], judges) < 1e-4
    assert found[1:] == two.seen[0]["game"][1:]


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_hide_the_labels_that_one_hides(two, rank, monkeypatch, tmp_path):
    made_up.install(monkeypatch.setattr)
    losses, _, averages = recipe_run(tmp_path)
    found = two.seen[rank]["recipe"]
    assert furthest(found[0], losses) < 1e-5 and furthest(found[2], averages) < 1e-3
    assert furthest(found[1], two.seen[0]["recipe"][1]) == 0


def test_only_the_first_process_writes_and_speaks(two):
    names = {path.name for path in two.place.iterdir()}
    assert names == {"0.json", "1.json", "cli-0", "fit-0", "recipe-0"}
    assert {path.name.split("-")[0] for path in (two.place / "cli-0").iterdir()} == {
        "card.json",
        "samples.png",
        "weights",
    }
    assert two.said.count("Weights and card are in") == 1 == two.said.count("of 0.50 s")
    assert recipes.load_denoiser(two.place / "recipe-0").net.classes == 10


def test_the_pace_of_the_first_process_decides_how_many_steps_all_take(two):
    assert [seen["cli"] for seen in two.seen] == [0, 0]
    card = json.loads((two.place / "cli-0" / "card.json").read_text(encoding="utf-8"))
    assert card["steps"] == 6  # three seconds of half a second; the second process would have taken two
    assert [seen["agreed"] for seen in two.seen] == [3.5, 3.5]


def test_who_has_joined_already_is_left_alone(two):
    for seen in two.seen:
        assert seen["before"] == [True, False] and not seen["after"]  # the command joins, and leaves
        assert seen["count"] == 2 and seen["left alone"]
    assert [seen["first"] for seen in two.seen] == [True, False]
    assert [seen["share"] for seen in two.seen] == [[0, 4], [4, 8]]


def test_a_batch_that_cannot_be_shared_says_so(two):
    for seen in two.seen:
        assert seen["uneven"] == ("expected a batch that 2 processes can share evenly, got 7 rows: choose a multiple")


def test_gradients_and_losses_are_averaged_in_place(two):
    for seen in two.seen:
        assert seen["mean"] == [1.5, (2 * torch.arange(6.0).reshape(3, 2).T).tolist()]


def test_a_loss_that_is_not_finite_in_one_stops_both(two):
    assert all("expected a finite loss, got nan at step 1" in seen["nan"] for seen in two.seen)


def test_alone_nothing_happens():
    with processes() as count:
        assert count == 1 and is_first_process() and not dist.is_initialized()
    assert share_of(7) == slice(0, 7) and agreed(0.1) == 0.1
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    loss = torch.tensor(3.0)
    assert average_over_processes(loss, [weight]) is loss and weight.grad.tolist() == [1, 1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_of_two(Path(sys.argv[1]))
