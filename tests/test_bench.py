"""The benchmark's own parts: clock, learning rate, table and messages, without any peer and without training long."""

import importlib.util
import json

import pytest
import torch

from course_lib import data


@pytest.fixture(scope="module")
def bench(request):
    path = request.config.rootpath / "tests" / "bench" / "mnist_ddpm.py"
    spec = importlib.util.spec_from_file_location("bench_mnist_ddpm", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # dataclasses look their module up
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def little_mnist(monkeypatch):
    """Sixty-four random pictures in MNIST's place."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(64, 1, 28, 28, generator=generator) * 2 - 1
    monkeypatch.setattr(data, "mnist", lambda train=True: data.Digits(pictures, torch.arange(64) % 10, "random"))


def toy_peer(bench, **options):
    """A peer of two numbers that learns the mean of the pictures."""
    net = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.constant_(net.bias, 3.0)
    return bench.peer(
        net,
        lambda x0: (net(x0.mean((1, 2, 3))[:, None]) - x0.mean()).square().mean(),
        lambda n, drawing: torch.randn(n, 1, 32, 32) * drawing[1],
        seed=5,
        batch=16,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        average=lambda: None,
        **options,
    )


def result(row, seed, distance, minutes=3.0, sampler="dpm"):
    drawn = {
        "sampler": sampler, "steps": 20, "seconds_64": 0.5, "frechet_distance": distance, "precision": 0.7,
        "recall": 0.8, "classes_covered": 10, "nats_from_uniform": 0.01, "n": 1000,
    }  # fmt: skip
    return {
        "row": row, "seed": seed, "minutes": minutes, "machine": "a machine", "versions": {"torch": "2.13.0"},
        "parameters": 1_260_580, "images_per_second": 400.0, "share_of_matmul": 0.5, "seconds": 180.0,
        "rest": f"what {row} does", "drawings": [drawn],
    }  # fmt: skip


def test_a_peer_trains_by_the_clock_and_learns(bench, little_mnist):
    contestant = toy_peer(bench)
    losses, used = bench.train_by_clock(contestant.step, 0.3)
    assert used >= 0.3
    assert losses[-1] < 0.01 * losses[0]


def test_passes_add_up_to_one_larger_batch(bench, little_mnist):
    once, twice = toy_peer(bench), toy_peer(bench, passes=2)
    assert (once.images, twice.images) == (16, 32)
    first, second = once.loss().item(), once.loss().item()
    assert twice.step(0.0) == pytest.approx((first + second) / 2)


def test_drawing_is_cut_clamped_and_repeatable(bench, little_mnist):
    draw = toy_peer(bench).draw
    x = draw(300, ("any", 2))
    assert x.shape == (300, 1, 28, 28)
    assert x.abs().max() == 1
    assert torch.equal(x, draw(300, ("any", 2)))
    assert not torch.equal(x[:50], x[250:])


def test_cosine_rises_then_falls_with_the_clock(bench):
    def lr(done, total):
        return bench.cosine_lr(1.0, 500, done, done / total)

    assert lr(0, 1500) == 0
    assert lr(250, 1500) == 0.5
    assert lr(500, 1500) == pytest.approx(1)
    assert lr(1000, 1500) == pytest.approx(0.5)
    assert lr(1500, 1500) == pytest.approx(0, abs=1e-12)
    assert bench.cosine_lr(1.0, 0.1, 50, 0.05) == pytest.approx(0.5)  # half-way through the first tenth
    assert bench.cosine_lr(1.0, 500, 1600, 1.07) == pytest.approx(0, abs=1e-12)  # a step after the bell


def test_work_of_our_network_counts_forward_and_backward(bench, little_mnist):
    contestant = bench.ours(bench.recipes.QUICK, 0)
    work = bench.work_per_image(contestant)
    x, t = torch.zeros(1, 1, 28, 28), torch.zeros(1)
    with bench.FlopCounterMode(display=False) as forward, torch.no_grad():
        contestant.net(x, t)
    assert 2.8 < work / forward.get_total_flops() < 3  # backward costs twice, but no gradient of the picture is needed
    assert all(weight.grad is None for weight in contestant.net.parameters())


def test_our_contestant_takes_steps(bench, little_mnist):
    contestant = bench.ours(bench.recipes.LABELS, 0)
    before = [weight.clone() for weight in contestant.net.parameters()]
    assert contestant.step(0.0) > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, contestant.net.parameters(), strict=True))


def test_table_gives_mean_spread_and_ratio(bench, tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    rows = [
        result("ours-best", 0, 30),
        result("ours-best", 1, 50),
        result("diffusers", 0, 600),
        result("ours-best", 0, 20, 10),
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert bench.main(["--table", str(path)]) == 0
    text = capsys.readouterr().out
    assert "40.0 (30.0 to 50.0)" in text
    assert "ours-best: 15.0 times lower than the best peer (diffusers)" in text
    assert text.index("| ours-best") < text.index("| diffusers")
    assert "10 minutes of training" in text and "20.0 |" in text
    assert "- **diffusers**: what diffusers does." in text
    header, rule, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert header.count("|") == rule.count("|") == 14


def test_table_counts_the_better_drawing_and_the_better_peer(bench):
    rows = [result("ours-ddpm", 0, 100), result("ours-ddpm", 0, 80, sampler="ddim")]
    rows += [result("diffusers", 0, 900), result("diffusers-tuned", 0, 400)]
    assert "ours-ddpm: 5.0 times lower than the best peer (diffusers-tuned)" in bench.table(rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected --row NAME or --table RESULTS"),
        (["--row", "all"], "expected --out FILE"),
        (["--row", "ours-best", "--draw", "ddim"], "expected SAMPLER:STEPS, such as ddim:250, got 'ddim'"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence(bench, capsys, words, sentence):
    with pytest.raises(SystemExit):
        bench.arguments(words)
    assert sentence in capsys.readouterr().err


def test_a_missing_peer_says_how_to_install_it(bench):
    with pytest.raises(SystemExit, match="pip install no-such-peer"):
        bench.require("no_such_peer")


def test_list_names_the_rows(bench, capsys):
    assert bench.main(["--row", "list"]) == 0
    assert {"ours-best", "diffusers", "smalldiffusion", "throughput"} <= set(capsys.readouterr().out.split())


def test_our_row_trains_by_the_clock_as_the_course_trains(bench, little_mnist, monkeypatch):
    """The rate follows the clock, and the network learns through the course's own run."""
    monkeypatch.setitem(bench.recipes.NETS, "cpu", bench.recipes.NETS["smoke"])
    rates = []
    monkeypatch.setattr(bench.ClockRun, "_rate", lambda run, done: rates.append(run.gone) or 1e-3)
    result, draw = bench.train(bench.ROWS["ours-best"], 0.02, 0)
    assert result["steps"] >= 2 and result["batch"] == 64
    assert rates[-result["steps"]] == 0 and 0.5 < rates[-1] < 1
    assert draw(3, ("dpm", 2)).shape == (3, 1, 28, 28)
