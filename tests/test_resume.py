"""A run that is stopped goes on to the last bit: after a break, an interrupt, an error, a kill."""

import errno
import os
import signal
import sys
import threading
from types import SimpleNamespace

import kills
import pytest
import torch
from torch import nn

from course_lib import checkpoints, data, runs, shapes
from course_lib.checkpoints import CheckpointError
from course_lib.ema import EMA
from course_lib.train import fit

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))


def make(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    return net, EMA(net)


def loss_of(net):
    return lambda x, generator: (net(x) - torch.randn(x.shape, generator=generator)).square().mean()


def run(net, ema, folder=None, steps=20, seed=3, until=None, **more):
    losses = []
    lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
    batches = data.batches(X, 24, seed=5)
    for progress in fit(loss_of(net), net, batches, steps=steps, lr=lr, ema=ema, seed=seed, folder=folder, **more):
        losses.append(progress.loss)
        if progress.step == until:
            break
    return losses


def furthest(a, b):
    return max(float((x.float() - y.float()).abs().max()) for x, y in zip(a.values(), b.values(), strict=True))


def test_ten_and_ten_steps_equal_twenty(tmp_path):
    whole_net, whole_ema = make()
    whole = run(whole_net, whole_ema)
    first = run(*make(), folder=tmp_path, until=10)
    torch.manual_seed(99)  # another session: other global random numbers, other weights to begin with
    net, ema = make(seed=7)
    second = run(net, ema, folder=tmp_path)
    assert first + second == whole
    assert furthest(net.state_dict(), whole_net.state_dict()) == 0
    assert furthest(ema.net.state_dict(), whole_ema.net.state_dict()) == 0
    assert ema.updates == 20


def test_a_finished_run_does_nothing_more(tmp_path):
    run(*make(), folder=tmp_path)
    assert run(*make(), folder=tmp_path) == []


def test_an_interrupt_in_the_middle_of_a_step_waits_for_its_end(tmp_path):
    whole = run(*make())
    net, ema = make()
    calls = []

    def interrupted(x, generator):
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return loss_of(net)(x, generator)

    lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
    losses = []
    with pytest.raises(KeyboardInterrupt):
        for p in fit(interrupted, net, data.batches(X, 24, seed=5), steps=20, lr=lr, ema=ema, seed=3, folder=tmp_path):
            losses.append(p.loss)
    assert losses == whole[:6] and ema.updates == 7  # step 7 was done, only its report was lost
    net, ema = make(seed=8)
    assert run(net, ema, folder=tmp_path) == whole[7:]


def test_an_interrupt_between_steps_loses_nothing_although_the_loop_still_hangs_in_a_traceback(tmp_path):
    whole = run(*make())
    net, ema = make()
    lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
    loop = fit(loss_of(net), net, data.batches(X, 24, seed=5), steps=20, lr=lr, ema=ema, seed=3, folder=tmp_path)
    first = [next(loop).loss for _ in range(4)]  # and then nobody closes it
    net, ema = make(seed=8)
    assert first + run(net, ema, folder=tmp_path) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: it has no SIGKILL")
def test_a_kill_at_any_moment_leaves_a_run_that_goes_on(tmp_path):
    training = """
        def training(folder):
            net = nn.Linear(2, 2)
            loss = lambda x, generator: (net(x) - torch.randn(x.shape, generator=generator)).square().mean()
            return fit(loss, net, data.batches(x, 8), steps=100_000, folder=folder)
    """
    kills.assert_that_it_goes_on(training, tmp_path / "kept", 8)


def test_another_run_in_the_folder_is_refused_and_kept(tmp_path):
    run(*make(), folder=tmp_path, until=5)
    with pytest.raises(CheckpointError, match="choose another folder"):
        run(*make(), folder=tmp_path, seed=4)
    other = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match="another network"):
        batches = data.batches(X, 24, seed=5)
        next(fit(lambda x, g: other(x).mean(), other, batches, steps=20, seed=3, folder=tmp_path, ema=EMA(other)))
    assert len(run(*make(), folder=tmp_path)) == 15


def test_a_run_is_kept_only_with_batches_that_can_be_found_again(tmp_path):
    net, _ = make()
    with pytest.raises(TypeError, match=r"data\.batches"):
        fit(loss_of(net), net, iter([X]), steps=2, folder=tmp_path)


def test_batch_n_follows_from_seed_and_n():
    one, other = data.batches(X, 24, seed=5), data.batches(X, 24, seed=5)
    drawn = [next(one) for _ in range(7)]
    other.skip_to(4)
    assert torch.equal(next(other), drawn[4]) and torch.equal(next(other), drawn[5])
    assert not torch.equal(drawn[0], drawn[2])  # another epoch, another order


# Other networks, optimizers and ends


OPTIMIZERS = {
    "SGD": lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    "momentum": lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda net: torch.optim.RMSprop(net.parameters(), centered=True, momentum=0.5),
    "NAdam": lambda net: torch.optim.NAdam(net.parameters()),
    "Adagrad": lambda net: torch.optim.Adagrad(net.parameters()),
    "two groups": lambda net: torch.optim.AdamW(
        [{"params": [w], "weight_decay": w.ndim - 1} for w in net.parameters()]
    ),
    "a part": lambda net: torch.optim.Adam(net[3].parameters(), amsgrad=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_any_optimizer_goes_on(tmp_path, optimizer):
    net = make()[0]
    whole = run(net, None, optimizer=optimizer(net))
    net = make()[0]
    first = run(net, None, folder=tmp_path, until=8, optimizer=optimizer(net))
    net = make(seed=7)[0]
    assert first + run(net, None, folder=tmp_path, optimizer=optimizer(net)) == whole


@pytest.mark.parametrize("fused", [False, True])
def test_what_an_optimizer_remembers_lies_in_memory_as_the_weights_do(tmp_path, fused):
    """A fused optimizer takes that on trust: with rows and channels exchanged it would go on with another run."""

    def pieces(seed, folder=None, until=None):
        torch.manual_seed(seed)
        convs = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        net = nn.Sequential(nn.Unflatten(1, (2, 1, 1)), *convs, nn.Flatten()).to(memory_format=torch.channels_last)
        return run(net, None, folder, until=until, optimizer=torch.optim.AdamW(net.parameters(), fused=fused))

    assert pieces(0, tmp_path, until=8) + pieces(7, tmp_path) == pieces(0)


def test_a_run_in_many_pieces(tmp_path):
    whole_net, _ = make()
    whole, pieces = run(whole_net, None), []
    for seed, end in enumerate((1, 2, 9, 10, 19, None)):
        net = make(seed)[0]
        pieces += run(net, None, folder=tmp_path, until=end)
    assert pieces == whole and furthest(net.state_dict(), whole_net.state_dict()) == 0


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("drawn", [False, True])
def test_a_crash_in_the_loss_is_not_swallowed_and_loses_nothing(tmp_path, error, drawn):
    whole, calls = run(*make()), []
    net, ema = make()

    def crashing(x, generator):
        calls.append(1)
        loss = loss_of(net)(x, generator) if drawn or len(calls) < 6 else None  # after it drew its noise, or before
        if len(calls) == 6:
            raise error
        return loss

    losses = []
    with pytest.raises(type(error)) as caught:
        lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
        for p in fit(crashing, net, data.batches(X, 24, seed=5), steps=20, lr=lr, ema=ema, seed=3, folder=tmp_path):
            losses.append(p.loss)
    assert caught.value is error
    assert losses + run(*make(seed=8), folder=tmp_path) == whole


def test_a_crash_within_an_update_goes_back_to_what_was_last_written(tmp_path, monkeypatch):
    """Half of the weights may have moved: such a state is not kept."""
    net, ema = make()
    whole = run(*make())
    first = run(net, ema, folder=tmp_path, until=5)

    def torn(self, net):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(EMA, "update", torn)
        run(net, ema, folder=tmp_path)
    assert first + run(*make(seed=8), folder=tmp_path) == whole


def test_interrupted_again_and_again_in_a_notebook(tmp_path):
    """The traceback of an interrupt keeps its loop until the next one replaces it, after a newer loop has begun."""
    whole, losses, hanging = run(*make()), [], None
    for seed in range(4):
        net, ema = make(seed)
        lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
        loop = fit(loss_of(net), net, data.batches(X, 24, seed=5), steps=20, lr=lr, ema=ema, seed=3, folder=tmp_path)
        losses += [next(loop).loss for _ in range(3)]
        hanging = loop  # and the one before is let go of only now
    assert losses == whole[:12]
    del loop, hanging
    assert losses + run(*make(seed=8), folder=tmp_path) == whole


def test_a_loop_that_was_taken_over_says_so(tmp_path):
    net, ema = make()
    lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
    old = fit(loss_of(net), net, data.batches(X, 24, seed=5), steps=20, lr=lr, ema=ema, seed=3, folder=tmp_path)
    next(old)
    assert len(run(*make(seed=8), folder=tmp_path)) == 19
    with pytest.raises(CheckpointError, match=r"a newer loop goes on .* ends at step 1: use the newer one"):
        next(old)
    assert run(*make(), folder=tmp_path) == []  # and it did not write over the newer one


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path):
    whole = run(*make()), run(*make(seed=1), seed=4)
    loops, losses = [], ([], [])
    for i in (0, 1):
        net, ema = make(seed=i)
        lr = lambda done: 1e-2 * (1 - done)  # noqa: E731
        batches = data.batches(X, 24, seed=5)
        folder = tmp_path / str(i)
        loops.append(fit(loss_of(net), net, batches, steps=20, lr=lr, ema=ema, seed=3 + i, folder=folder))
    for _ in range(10):
        torch.rand(3)  # somebody draws between the steps
        for i in (0, 1):
            losses[i].append(next(loops[i]).loss)
    for loop in loops:
        loop.close()
    for i in (0, 1):
        assert losses[i] + run(*make(seed=8), seed=3 + i, folder=tmp_path / str(i)) == whole[i]


def test_a_run_in_a_thread_goes_on(tmp_path):
    whole, first = run(*make()), []
    thread = threading.Thread(target=lambda: first.extend(run(*make(), folder=tmp_path, until=8)))
    thread.start()
    thread.join()
    assert first + run(*make(seed=8), folder=tmp_path) == whole


def test_two_threads_in_one_folder_are_told(tmp_path):
    net, _ = make()
    entered, go = threading.Event(), threading.Event()
    failed = []

    def slow(x, generator):
        entered.set()
        go.wait(20)
        return net(x).square().mean()

    def work():
        try:
            list(fit(slow, net, data.batches(X, 24), steps=2, folder=tmp_path))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(20)
    with pytest.raises(CheckpointError, match="in use by another thread: stop it or choose another folder"):
        next(fit(slow, net, data.batches(X, 24), steps=2, folder=tmp_path))
    go.set()
    thread.join()
    assert not failed and list(fit(slow, net, data.batches(X, 24), steps=2, folder=tmp_path)) == []


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(tmp_path, monkeypatch):
    whole = run(*make())
    first = run(*make(), folder=tmp_path, until=5)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runs, "SAVE_SECONDS", -1)
    net, ema = make(seed=8)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="free some space or choose another folder"):
            run(net, ema, folder=tmp_path)
    assert ema.updates == 6  # one step further in memory
    assert first + run(*make(seed=8), folder=tmp_path) == whole


OTHER_CALLS = {
    "seed": {"seed": 4},
    "steps": {"steps": 21},
    "batch size": {"size": 32},
    "order of batches": {"order": 6},
    "rows": {"x": X[:60]},
    "no EMA": {"ema": False},
    "other EMA": {"decay": 0.5},
    "optimizer": {"optimizer": "momentum"},
    "network": {"width": 9},
}


@pytest.mark.parametrize("change", OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
def test_another_call_is_refused_and_neither_side_is_changed(tmp_path, change):
    def call(folder, seed=3, steps=20, size=24, order=5, x=X, ema=True, decay=0.9, optimizer=None, width=8, start=0):
        torch.manual_seed(start)
        net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, width), nn.Linear(width, 2))
        rest = {"ema": EMA(net, decay) if ema else None, "optimizer": OPTIMIZERS[optimizer](net) if optimizer else None}
        batches = data.batches(x, size, seed=order)
        return net, fit(loss_of(net), net, batches, steps=steps, seed=seed, folder=folder, **rest)

    whole = [p.loss for p in call(tmp_path / "whole")[1]]
    loop = call(tmp_path / "kept")[1]
    first = [next(loop).loss for _ in range(4)]
    loop.close()
    net, other = call(tmp_path / "kept", **change, start=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError, match="choose another folder"):
        next(other)
    assert furthest(net.state_dict(), before) == 0
    assert first + [p.loss for p in call(tmp_path / "kept", start=1)[1]] == whole


def drawings_run(folder, until=None, **change):
    """Train a bias on drawings, whose batch n follows from their arguments and n alone."""
    net, losses = nn.Conv2d(3, 3, 1), []
    nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
    drawn = shapes.drawings(**{"size": 4, "seed": 2} | change)
    loss = lambda batch, generator: (net(batch.pictures) - batch.pictures).square().mean()  # noqa: E731
    for progress in fit(loss, net, drawn, steps=6, lr=0.1, folder=folder):
        losses.append(progress.loss)
        if progress.step == until:
            break
    return losses


def test_a_run_over_drawings_goes_on_with_the_very_next_one(tmp_path):
    whole = drawings_run(tmp_path / "whole")
    assert len(set(whole)) == 6
    assert drawings_run(tmp_path / "parts", until=2) + drawings_run(tmp_path / "parts") == whole


@pytest.mark.parametrize("change", [{"size": 5}, {"seed": 3}, {"part": "all"}, {"brief": 0.5}])
def test_a_run_over_other_drawings_is_refused(tmp_path, change):
    drawings_run(tmp_path, until=2)
    with pytest.raises(CheckpointError, match="choose another folder"):
        drawings_run(tmp_path, **change)


def test_a_run_may_begin_without_ema_and_without_a_folder_of_its_own(tmp_path):
    folder = tmp_path / "a" / "b"
    whole = run(make()[0], None)
    first = run(make()[0], None, folder=folder, until=3)
    assert first + run(make(seed=2)[0], None, folder=str(folder)) == whole


def test_a_damaged_or_foreign_checkpoint_is_not_written_over(tmp_path):
    run(*make(), folder=tmp_path, until=5)
    (weights,) = tmp_path.glob("weights-*")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="do not match their card"):
        run(*make(), folder=tmp_path)
    assert weights.read_bytes() == content[:-1]
    checkpoints.save(tmp_path / "foreign", {"w": torch.ones(2)}, {"kind": "digit classifier", "steps": 20, "seed": 3})
    with pytest.raises(CheckpointError, match=r"digit classifier.*choose another folder"):
        run(*make(), folder=tmp_path / "foreign")
    assert checkpoints.load(tmp_path / "foreign")[1]["kind"] == "digit classifier"


def test_random_numbers_between_the_steps_are_the_callers_own(tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(4)
    net, ema = make()
    loop = fit(loss_of(net), net, data.batches(X, 24), steps=4, ema=ema, folder=tmp_path)
    torch.manual_seed(11)
    assert [float(torch.rand(1)) for _ in loop] == expected.tolist()


def test_ten_and_ten_steps_of_half_precision_equal_twenty(tmp_path):
    whole_net, whole_ema = make()
    whole = run(whole_net, whole_ema, precision=torch.bfloat16)
    first = run(*make(), folder=tmp_path, until=10, precision=torch.bfloat16)
    net, ema = make(seed=7)
    assert first + run(net, ema, folder=tmp_path, precision=torch.bfloat16) == whole != run(*make())
    assert furthest(net.state_dict(), whole_net.state_dict()) == 0


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_a_run_of_the_other_precision_is_another_run(tmp_path, kept):
    run(*make(), folder=tmp_path, until=3, precision=kept)
    before = (tmp_path / "card.json").read_bytes()
    other = torch.bfloat16 if kept == torch.float32 else torch.float32
    with pytest.raises(CheckpointError, match=r"expected a run with .*precision.* got .*precision.*: choose another"):
        run(*make(), folder=tmp_path, precision=other)
    assert (tmp_path / "card.json").read_bytes() == before


def test_the_seconds_of_a_run_go_on_where_it_stood(tmp_path, monkeypatch):
    now = [100.0]

    def clock():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=clock))

    def seconds(until):
        net, ema = make()
        loop = fit(loss_of(net), net, data.batches(X, 24), steps=6, ema=ema, folder=tmp_path)
        for p in loop:
            yield p.seconds
            if p.step == until:
                loop.close()
                break

    first = list(seconds(until=3))
    now[0] += 1e6  # a night between the two: it does not count
    second = list(seconds(until=None))
    assert len(first) == len(second) == 3 and first + second == sorted(set(first + second))
    assert first[0] < 10 and second[0] - first[-1] < 10
