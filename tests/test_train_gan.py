"""Training a GAN: the game by hand, who moves and who does not, resuming to the last bit, kills at random moments."""

import math
import signal
import sys

import kills
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from course_lib import checkpoints, data
from course_lib.checkpoints import CheckpointError
from course_lib.ema import EMA
from course_lib.models.gan import Discriminator, Generator, StyleGenerator
from course_lib.train_gan import fit_gan

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) + 3
KINDS = ["minimax", "non_saturating", "hinge", "least_squares", "wasserstein"]


def make(seed=0, spectral=False):
    """A game in the plane; the generator has batch norm and dropout, so buffers and random numbers count."""
    torch.manual_seed(seed)
    bounded = torch.nn.utils.parametrizations.spectral_norm if spectral else nn.Identity()
    generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    discriminator = nn.Sequential(bounded(nn.Linear(2, 8)), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))
    return generator, discriminator, EMA(generator)


def start(nets, folder=None, steps=20, seed=3, x=X, **more):
    generator, discriminator, ema = nets
    more = {"latent": 3, "lr": lambda done: (1e-2 * (1 - done), 2e-2 * (1 - done))} | more
    return fit_gan(
        generator, discriminator, data.batches(x, 24, seed=5), steps=steps, ema=ema, seed=seed, folder=folder, **more
    )


def run(nets, folder=None, until=None, **more):
    reports = []
    for progress in start(nets, folder, **more):
        reports.append((progress.step, progress.loss, progress.discriminator_loss, progress.real_score))
        if progress.step == until:
            break
    return reports


def flat(net):
    return torch.cat([tensor.detach().double().flatten() for tensor in net.state_dict().values()])


def weights(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def worst(found, expected):
    return float((found - expected).abs().max())


# The game


def by_hand(generator, discriminator, steps, noise, lr, betas):
    """Goodfellow's algorithm 1 with the non-saturating loss, from gradients taken afresh and torch's Adam."""
    adam = [
        torch.optim.Adam(net.parameters(), lr=rate, betas=betas)
        for net, rate in zip((generator, discriminator), lr, strict=True)
    ]
    losses, batches = [], data.batches(X, 24, seed=5)

    def move(optimizer, net, loss):
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        for weight, gradient in zip(net.parameters(), gradients, strict=True):
            weight.grad = gradient
        optimizer.step()

    for _ in range(steps):
        real = next(batches)
        with torch.no_grad():
            fake = generator(torch.randn(24, 3, generator=noise))
        judged = softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()
        scores = discriminator(real).sigmoid().mean().item(), discriminator(fake).sigmoid().mean().item()
        move(adam[1], discriminator, judged)
        made = softplus(-discriminator(generator(torch.randn(24, 3, generator=noise)))).mean()
        move(adam[0], generator, made)
        losses.append((made.item(), judged.item(), *scores))
    return losses


def plain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), make(seed)[1]


def test_fit_gan_is_the_game_of_the_paper():
    generator, discriminator = plain()
    game = fit_gan(
        generator, discriminator, data.batches(X, 24, seed=5), steps=6, lr=(0.01, 0.02), betas=(0.4, 0.8), seed=9,
        latent=3,
    )  # fmt: skip
    reports = [(p.loss, p.discriminator_loss, p.real_score, p.fake_score) for p in game]
    twins = plain()
    expected = by_hand(*twins, 6, torch.Generator().manual_seed(9), (0.01, 0.02), (0.4, 0.8))
    assert worst(torch.tensor(reports), torch.tensor(expected)) < 1e-5
    for net, twin in zip((generator, discriminator), twins, strict=True):
        assert worst(weights(net), weights(twin)) < 1e-5


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_each_update_moves_one_network(still):
    """With a learning rate of 0 for one of them that one stays, and the other one learns."""
    generator, discriminator = plain()
    before = {"generator": weights(generator), "discriminator": weights(discriminator)}
    lr = (0.0, 0.01) if still == "generator" else (0.01, 0.0)
    reports = list(fit_gan(generator, discriminator, data.batches(X, 24), steps=40, lr=lr, latent=3))
    after = {"generator": weights(generator), "discriminator": weights(discriminator)}
    moved = "discriminator" if still == "generator" else "generator"
    assert worst(after[still], before[still]) == 0 and worst(after[moved], before[moved]) > 0.05
    loss = [p.discriminator_loss if moved == "discriminator" else p.loss for p in reports]
    assert loss[-1] < loss[0]


def test_the_discriminators_update_leaves_no_gradient_in_the_generator():
    seen = []
    generator, discriminator = plain()
    step = torch.optim.Adam.step

    def watched(self, *args):
        seen.append([w.grad is not None for net in (generator, discriminator) for w in net.parameters()])
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        next(fit_gan(generator, discriminator, data.batches(X, 24), steps=1, latent=3))
    judge, maker = seen
    assert judge == [False] * 4 + [True] * 4
    assert maker[:4] == [True] * 4


def test_the_generators_gradient_leaves_that_of_the_discriminator_as_it_was():
    """The discriminator keeps the gradient of its own loss, though the generator's passed through it."""
    generator, discriminator = plain()
    game = fit_gan(generator, discriminator, [X[:24]] * 2, steps=1, lr=(0.0, 0.0), latent=3, seed=4)
    list(game)
    z = torch.randn(24, 3, generator=torch.Generator().manual_seed(4))
    loss = softplus(-discriminator(X[:24])).mean() + softplus(discriminator(generator(z).detach())).mean()
    expected = torch.autograd.grad(loss, list(discriminator.parameters()))
    for weight, gradient in zip(discriminator.parameters(), expected, strict=True):
        assert worst(weight.grad, gradient) < 1e-6


def test_real_and_fake_are_judged_apart_and_fresh_noise_is_drawn():
    generator, discriminator = plain()
    seen, made = [], []
    discriminator.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].detach().clone()))
    generator.register_forward_pre_hook(lambda net, inputs: made.append(inputs[0].clone()))
    list(fit_gan(generator, discriminator, data.batches(X, 24, seed=5), steps=2, discriminator_steps=3, latent=3))
    assert [len(x) for x in seen] == [24] * 14 and len(made) == 8  # 3 pairs and one more, twice
    batches = data.batches(X, 24, seed=5)
    for place in (0, 2, 4, 7, 9, 11):  # a batch of its own for each of the discriminator's steps
        assert torch.equal(seen[place], next(batches))
    assert all(worst(a, b) > 0.1 for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_brings_the_generator_to_the_data(kind):
    """Data around (3, 3), a generator that begins around 0: with R1 its mean comes close, whatever the loss."""
    (generator, discriminator), rate = plain(), lambda done: 1e-2 * (1 - done)
    game = fit_gan(generator, discriminator, data.batches(X, 32), steps=300, loss=kind, lr=rate, r1=1.0, latent=3)
    assert len(list(game)) == 300
    drawn = generator(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)))
    assert worst(drawn.detach().mean(0), X.mean(0)) < 0.6


@pytest.mark.parametrize(
    ("name", "value"), [("r1", 2.0), ("gradient_penalty", 5.0), ("smooth", 0.2), ("loss", "hinge"), ("betas", (0, 0.5))]
)
def test_each_choice_has_its_say(name, value):
    changed, same = make(), make()
    assert run(changed, steps=4, **{name: value}) != run(same, steps=4)
    assert worst(weights(changed[1]), weights(same[1])) > 1e-4


def test_r1_is_taken_by_half_of_gamma():
    """A linear discriminator of slope w: its loss grows by gamma / 2 * ||w||^2, or by 6 (||w|| - 1)^2."""
    losses = {}
    for name, more in {"none": {}, "r1": {"r1": 6.0}, "gp": {"gradient_penalty": 6.0}}.items():
        torch.manual_seed(0)
        generator, discriminator = nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
        square = float(discriminator[0].weight.detach().square().sum())
        losses[name] = next(fit_gan(generator, discriminator, [X[:24]], steps=1, latent=3, **more)).discriminator_loss
    assert abs(losses["r1"] - losses["none"] - 6 / 2 * square) < 1e-5
    assert abs(losses["gp"] - losses["none"] - 6 * (math.sqrt(square) - 1) ** 2) < 1e-5


def test_progress_counts_times_and_follows_the_rates():
    reports = list(start(make(), steps=4))
    assert [(p.step, p.steps) for p in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [round(p.lr, 10) for p in reports] == [0.01, 0.0075, 0.005, 0.0025]
    assert [p.seconds for p in reports] == sorted(p.seconds for p in reports) and reports[0].seconds > 0
    assert all(0 < p.real_score < 1 and 0 < p.fake_score < 1 for p in reports)
    assert [p.lr for p in start(make(), steps=2, lr=0.5)] == [0.5, 0.5]


def test_the_ema_is_of_the_generator_and_follows_each_step():
    nets = make()
    by_step = EMA(nets[0])
    for _ in start(nets, steps=5):
        by_step.update(nets[0])
    assert nets[2].updates == 5 and torch.equal(flat(nets[2].net), flat(by_step.net))
    assert not torch.equal(weights(nets[2].net), weights(nets[0]))


def test_the_seed_decides_and_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    nets = make()
    torch.set_rng_state(before)
    first = run(nets)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert run(make()) == first != run(make(), seed=4)


@pytest.mark.parametrize("kind", [Generator, StyleGenerator])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_pictures_in_both_precisions(kind, precision):
    torch.manual_seed(0)
    generator, discriminator = kind(latent=4, width=4), Discriminator(width=4, spectral=True)
    before = weights(generator), weights(discriminator)
    x = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    game = fit_gan(
        generator, discriminator, data.batches(x, 8), steps=3, r1=1.0, gradient_penalty=1.0, precision=precision
    )
    reports = [p.discriminator_loss for p in game]
    assert all(map(math.isfinite, reports)) and len(reports) == 3
    assert worst(weights(generator), before[0]) > 0 and worst(weights(discriminator), before[1]) > 0
    assert {weight.dtype for weight in generator.parameters()} == {torch.float32}


# A run in a folder


CHOICES = {
    "plain": {},
    "penalties": {"r1": 1.0, "gradient_penalty": 1.0},
    "three to one": {"discriminator_steps": 3},
    "half precision": {"precision": torch.bfloat16},
}


@pytest.mark.parametrize("more", CHOICES.values(), ids=CHOICES.keys())
@pytest.mark.parametrize("spectral", [False, True])
def test_ten_and_ten_steps_equal_twenty(tmp_path, more, spectral):
    whole_nets = make(spectral=spectral)
    whole = run(whole_nets, **more)
    first = run(make(spectral=spectral), tmp_path, until=10, **more)
    torch.manual_seed(99)  # another session: other global random numbers, other weights to begin with
    nets = make(seed=7, spectral=spectral)
    assert first + run(nets, tmp_path, **more) == whole and len(whole) == 20
    for net, expected in zip((nets[0], nets[1], nets[2].net), (*whole_nets[:2], whole_nets[2].net), strict=True):
        assert torch.equal(flat(net), flat(expected))
    assert nets[2].updates == 20


def test_both_optimisers_are_kept(tmp_path):
    """Step 11 alone would differ, had one of them forgotten its moments: each is struck out in turn."""
    whole = run(make())
    run(make(), tmp_path, until=10)
    tensors, card = checkpoints.load(tmp_path)
    names = {name.split(".")[0] for name in tensors}
    assert names == {"generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer", "random"}
    for k, optimizer in enumerate(("generator_optimizer", "discriminator_optimizer")):
        lost = {n: t * 0 if n.startswith(optimizer) and n.endswith("exp_avg") else t for n, t in tensors.items()}
        checkpoints.save(tmp_path / str(k), lost, {n: v for n, v in card.items() if n not in ("weights", "sha256")})
        assert run(make(), tmp_path / str(k))[1:] != whole[11:]
    assert run(make(), tmp_path) == whole[10:]


def test_a_run_in_many_pieces_and_an_interrupt_that_hangs_in_a_traceback(tmp_path):
    whole, pieces = run(make()), []
    for seed, end in enumerate((1, 2, 9)):
        pieces += run(make(seed), tmp_path, until=end)
    hanging = start(make(5), tmp_path)  # nobody closes it
    report = next(hanging)
    pieces.append((report.step, report.loss, report.discriminator_loss, report.real_score))
    assert pieces + run(make(6), tmp_path) == whole


def test_an_interrupt_waits_for_the_end_of_the_step(tmp_path):
    """It comes while the discriminator judges; both networks make their move before it is let in."""
    whole, nets, calls = run(make()), make(), []

    def interrupt(net, inputs):
        calls.append(1)
        if len(calls) == 3 * 6 + 1:  # the first of the three judgements of step 7
            signal.raise_signal(signal.SIGINT)

    nets[1].register_forward_pre_hook(interrupt)
    reports = []
    with pytest.raises(KeyboardInterrupt):
        for p in start(nets, tmp_path):
            reports.append(p.step)
    assert reports == [1, 2, 3, 4, 5, 6] and nets[2].updates == 7
    assert run(make(seed=8), tmp_path) == whole[7:]


@pytest.mark.parametrize("call", [1, 2, 3], ids=["real", "fake", "generator's move"])
def test_a_crash_between_the_two_moves_goes_back_to_a_whole_step(tmp_path, call):
    """After the discriminator's move and before the generator's the state is torn: it is not kept."""
    whole, nets, calls = run(make()), make(), []
    run(nets, tmp_path, until=5)

    def crash(net, inputs):
        calls.append(1)
        if len(calls) == 3 * 2 + call:
            raise MemoryError

    nets[1].register_forward_pre_hook(crash)
    with pytest.raises(MemoryError):
        run(nets, tmp_path)
    kept = checkpoints.load(tmp_path)[1]["step"]
    assert kept == (5 if call == 3 else 7)  # torn: what was written last; not begun: what was reached
    assert run(make(seed=8), tmp_path) == whole[kept:]


OTHER_CALLS = {
    "seed": {"seed": 4}, "steps": {"steps": 21}, "loss": {"loss": "hinge"}, "r1": {"r1": 1.0},
    "gradient penalty": {"gradient_penalty": 1.0}, "smooth": {"smooth": 0.1}, "betas": {"betas": (0.9, 0.99)},
    "discriminator steps": {"discriminator_steps": 2}, "precision": {"precision": torch.bfloat16},
    "data": {"x": X[:60]}, "name": {"name": "lr 1"},
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
def test_another_game_in_the_folder_is_refused_and_neither_side_is_changed(tmp_path, change):
    first = run(make(), tmp_path, until=3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    nets = make(seed=1)
    kept = flat(nets[0])
    with pytest.raises(CheckpointError, match="choose another folder"):
        run(nets, tmp_path, **change)
    assert torch.equal(flat(nets[0]), kept)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert first + run(make(seed=1), tmp_path) == run(make())


def test_other_networks_in_the_folder_are_refused(tmp_path):
    run(make(), tmp_path, until=3)
    for changed in (make(spectral=True), (*make()[:2], None), (make()[0], make()[0], make()[2])):
        with pytest.raises(CheckpointError, match="choose another folder"):
            run(changed, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: it has no SIGKILL")
def test_twenty_kills_at_random_moments_always_leave_a_game_that_goes_on(tmp_path):
    training = """
        def training(folder):
            makes, judges = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
            batches = data.batches(x, 8)
            return fit_gan(makes, judges, batches, steps=100_000, latent=2, ema=EMA(makes), folder=folder)
    """
    kills.assert_that_it_goes_on(training, tmp_path / "kept", 20)


# Doors


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"generator": "G"}, "expected generator to be a torch.nn.Module with weights to train, got 'G'"),
        ({"discriminator": nn.ReLU()}, "expected discriminator to be a torch.nn.Module with weights to train"),
        ({"batches": X}, "expected batches to yield batches, .* use data.batches"),
        ({"steps": 0}, "expected steps of at least 1, got 0"),
        ({"loss": "gan"}, "expected kind minimax, .* got 'gan'"),
        ({"lr": -1.0}, r"expected lr in \[0, inf\], got -1"),
        ({"lr": (1.0,)}, r"expected lr as one number or \(the generator's, the discriminator's\), got 1 numbers"),
        ({"lr": (1.0, "2")}, "expected lr to be a number, got '2'"),
        ({"betas": 0.9}, "expected betas as two numbers"),
        ({"betas": (0.9, 1.0)}, "expected each of betas in"),
        ({"r1": -1.0}, r"expected r1 in \[0, inf\], got -1"),
        ({"gradient_penalty": "10"}, "expected gradient_penalty to be a number, got '10'"),
        ({"loss": "hinge", "smooth": 0.1}, "expected smooth=0 with kind 'hinge'"),
        ({"discriminator_steps": 0}, "expected discriminator_steps of at least 1, got 0"),
        ({"latent": None}, "expected latent, the length of the noise z"),
        ({"latent": 0}, "expected latent of at least 1, got 0"),
        ({"ema": "yes"}, r"expected ema to be an EMA\(net\), got 'yes'"),
        ({"seed": -1}, "expected seed in"),
        ({"precision": torch.float16}, "expected precision torch.float32 or torch.bfloat16"),
        ({"name": 3}, "expected name to be a word or two"),
        ({"folder": "nowhere", "batches": [X]}, r"expected data.batches\(x, size\) where a run is kept in a folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_moves(more, said):
    generator, discriminator = plain()
    call = {"generator": generator, "discriminator": discriminator, "batches": [X], "steps": 1, "latent": 3} | more
    with pytest.raises((TypeError, ValueError), match=said):
        fit_gan(call.pop("generator"), call.pop("discriminator"), call.pop("batches"), **call)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"batches": [(X, X)]}, "expected batches of real data alone, got tuple: leave the labels out"),
        ({"batches": [X.long()]}, "expected a batch to hold floating-point numbers"),
        ({"batches": []}, "expected a batch for each of 1 steps, got 0"),
        (
            {"generator": nn.Linear(3, 5)},
            r"expected the generator to make data like .*64, 2\), got .*64, 5\)",
        ),
        ({"discriminator": nn.Linear(2, 1)}, r"expected real_logits of shape \(B,\), .* \(64, 1\)"),
        ({"lr": lambda done: (1.0, -1.0)}, r"expected lr in \[0, inf\], got -1"),
    ],
)
def test_what_does_not_fit_together_is_said_at_the_first_step(more, said):
    generator, discriminator = plain()
    call = {"generator": generator, "discriminator": discriminator, "batches": [X], "steps": 1, "latent": 3} | more
    with pytest.raises((TypeError, ValueError), match=said):
        list(fit_gan(call.pop("generator"), call.pop("discriminator"), call.pop("batches"), **call))


@pytest.mark.parametrize("who", ["generator", "discriminator"])
def test_a_loss_that_is_not_finite_stops_before_that_network_moves(who):
    nets = dict(zip(("generator", "discriminator"), plain(), strict=True))
    before = {name: weights(net) for name, net in nets.items()}
    batch = X.clone()
    if who == "discriminator":
        batch[3, 1] = float("nan")
    else:  # only from its second call on, which is the generator's own move
        calls = []
        nets["generator"].register_forward_hook(
            lambda *a: calls.append(1) or (a[2] * math.nan if len(calls) == 2 else a[2])
        )
    with pytest.raises(FloatingPointError, match="expected a finite loss, got nan at step 1 of 1: lower lr"):
        list(fit_gan(*nets.values(), [batch], steps=1, latent=3))
    assert torch.equal(weights(nets["generator"]), before["generator"])
    assert torch.equal(weights(nets["discriminator"]), before["discriminator"]) == (who == "discriminator")
