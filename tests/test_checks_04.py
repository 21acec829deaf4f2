"""Lesson 04's checks: wrong answers, written as a student would write them, each get their own sentence."""

import copy

import pytest
import torch

from course_lib.checks.engine import diagnose
from course_lib.checks.lesson_04 import EXERCISES
from course_lib.ema import EMA
from course_lib.samplers import ddim_step
from course_lib.types import Prediction


def verdict(number, function):
    return diagnose(EXERCISES[number], function)


# ---- right answers in other words ----


def rate_by_min(done, highest, warm_up):
    down = (1 - done) / (1 - warm_up)
    return highest * (down if warm_up == 0 else min(done / warm_up, down))


def step_by_closure_style(model, opt, loss_fn, batch, rng, lr):
    opt.zero_grad(set_to_none=False)
    value = loss_fn(batch, rng)
    report = float(value.detach())
    value.backward()
    length = torch.cat([w.grad.flatten() for w in model.parameters()]).norm()
    if length > 1:
        for w in model.parameters():
            w.grad /= length
    for g in opt.param_groups:
        g.update(lr=lr)
    opt.step()
    return report


def step_zeroing_last(net, optimizer, loss_fn, x0, generator, lr):
    for i in range(len(optimizer.param_groups)):
        optimizer.param_groups[i]["lr"] = lr
    loss = loss_fn(x0, generator)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(net.parameters()), max_norm=1)
    optimizer.step()
    for weight in net.parameters():
        weight.grad = None
    return loss.item()


def average_by_lerp(slow, fast, k, decay=0.99):
    with torch.no_grad():
        for (_, a), (_, b) in zip(slow.named_parameters(), fast.named_parameters(), strict=True):
            a.lerp_(b, 1 - min(decay, (k + 1) / (k + 10)))
        for a, b in zip(slow.buffers(), fast.buffers(), strict=True):
            a[...] = b


def average_by_data(average, net, k, decay=0.99):
    d = (1 + k) / (10 + k)
    if d > decay:
        d = decay
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a.data = d * a.data + (1 - d) * b.data
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.data = b.data.clone()
    return average


def average_by_the_course(average, net, k, decay=0.99):
    ema = EMA(average, decay)
    ema.updates = k
    ema.update(net)
    average.load_state_dict(ema.net.state_dict())


def ancestral_by_ddim(predict, schedule, x_t, t, t_next, noise):
    def clamped(x_t, t, cond):
        x0 = predict(x_t, t, cond).x0.clip(min=-1, max=1)
        a, s = schedule.rates(t, x_t)
        return Prediction(x0, (x_t - a * x0) / s)

    return ddim_step(clamped, schedule, x_t, t, t_next, eta=1.0, noise=noise).x_next


def ancestral_by_bayes(predict, schedule, x_t, t, t_next, noise):
    """The product of two bells, by precisions; at t_next = 0 nothing but the guess is left."""
    x0, _ = predict(x_t, torch.tensor([t] * x_t.shape[0]))
    x0 = torch.minimum(torch.maximum(x0, torch.tensor(-1.0)), torch.tensor(1.0))
    now, then = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[t_next])
    if then == 1:
        return x0
    alpha = now / then
    precision = alpha / (1 - alpha) + 1 / (1 - then)
    mean = (alpha**0.5 * x_t / (1 - alpha) + then**0.5 * x0 / (1 - then)) / precision
    return mean + noise * precision**-0.5


def snapshot_part_by_part(net, average, optimizer, generator, step):
    cloned = {"step": int(step), "generator": generator.get_state().clone()}
    for name, thing in dict(net=net, average=average, optimizer=optimizer).items():
        cloned[name] = copy.deepcopy(thing).state_dict() if name != "optimizer" else copy.deepcopy(thing.state_dict())
    return cloned


RIGHT = [
    ("4.1", rate_by_min),
    ("4.2", step_by_closure_style),
    ("4.2", step_zeroing_last),
    ("4.3", average_by_lerp),
    ("4.3", average_by_data),
    ("4.3", average_by_the_course),
    ("4.4", ancestral_by_ddim),
    ("4.4", ancestral_by_bayes),
    ("4.5", snapshot_part_by_part),
]


@pytest.mark.parametrize(("number", "function"), RIGHT, ids=lambda value: getattr(value, "__name__", value))
def test_other_words_are_right_too(number, function):
    found = verdict(number, function)
    assert found.passed, str(found)


# ---- 4.1 ----

RATES = {
    "no warm-up": lambda done, highest, warm_up: highest - done * highest,
    "never falls": lambda done, highest, warm_up: highest * min(done / warm_up, 1) if warm_up else highest,
    "product": lambda done, highest, warm_up: (1 - done) * highest * (done / warm_up if done < warm_up else 1),
    "fall not stretched": lambda done, highest, warm_up: highest * (done / warm_up if done < warm_up else 1 - done),
    "stays low": lambda done, highest, warm_up: highest * (done if done < warm_up else (1 - done) / (1 - warm_up)),
    "divides by no warm-up": lambda done, highest, warm_up: (
        (done / warm_up) * highest if warm_up >= done else highest - highest * (done - warm_up) / (1 - warm_up)
    ),
    "begins at 0 without a warm-up": lambda d, h, w: h * (d / max(w, 1e-9) if d < max(w, 1e-9) else (1 - d) / (1 - w)),
    "fall only moved": lambda d, h, w: h - h * (d - w) if d >= w else h * d / w,
    "highest forgotten": lambda d, h, w: (1 - d) / (1 - w) if d >= w else d / w,
    "rises twice": lambda d, h, w: h / (1 - w) * (d - w) if d >= w else d * h / w,
}


@pytest.mark.parametrize("name", RATES)
def test_wrong_rates_are_known(name):
    assert verdict("4.1", RATES[name]).name == name


def test_a_rate_is_a_plain_number():
    def in_torch(done, highest, warm_up):
        return torch.tensor(rate_by_min(done, highest, warm_up))

    assert verdict("4.1", in_torch).name == "a tensor"
    assert "is the `return` missing?" in verdict("4.1", lambda *where: None).says


def test_a_rate_without_a_name_is_told_by_its_call():
    def rounded(done, highest, warm_up):
        return round(highest * done / warm_up if done < warm_up else highest * (1 - done) / (1 - warm_up), 3)

    assert "learning_rate(0.01, 0.002, 0.05)" in verdict("4.1", rounded).says


# ---- 4.2 ----


def piling_up(net, optimizer, loss_fn, x0, generator, lr):
    for g in optimizer.param_groups:
        g["lr"] = lr
    out = loss_fn(x0, generator)
    out.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return out.item()


def zero_then_step(net, optimizer, loss_fn, x0, generator, lr):
    out = loss_fn(x0, generator)
    out.backward()
    for g in optimizer.param_groups:
        g["lr"] = lr
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    net.zero_grad()
    optimizer.step()
    return out.item()


def clip_after_step(net, optimizer, loss_fn, x0, generator, lr):
    for g in optimizer.param_groups:
        g["lr"] = lr
    optimizer.zero_grad()
    loss = loss_fn(x0, generator)
    loss.backward()
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    return loss.item()


def lr_of_defaults(net, optimizer, loss_fn, x0, generator, lr):
    optimizer.defaults["lr"] = lr  # which no step reads
    optimizer.zero_grad()
    loss = loss_fn(x0, generator)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def only_group_zero(net, optimizer, loss_fn, x0, generator, lr):
    optimizer.param_groups[0]["lr"] = lr
    optimizer.zero_grad()
    loss = loss_fn(x0, generator)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def loss_twice(net, optimizer, loss_fn, x0, generator, lr):
    for g in optimizer.param_groups:
        g["lr"] = lr
    optimizer.zero_grad()
    loss_fn(x0, generator).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss_fn(x0, generator).detach())


def item_at_once(net, optimizer, loss_fn, x0, generator, lr):
    optimizer.zero_grad()
    loss = float(loss_fn(x0, generator))
    loss.backward()


def step_then_backward(net, optimizer, loss_fn, x0, generator, lr):
    for g in optimizer.param_groups:
        g["lr"] = lr
    loss = loss_fn(x0, generator)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    return loss.item()


STEPS = {
    "gradients add up": piling_up,
    "zeroed too late": zero_then_step,
    "not clipped": clip_after_step,
    "rate not set": lr_of_defaults,
    "rate of one group": only_group_zero,
    "loss asked twice": loss_twice,
    "item too early": item_at_once,
    "one step behind": step_then_backward,
}


@pytest.mark.parametrize("name", STEPS)
def test_wrong_steps_are_known(name):
    found = verdict("4.2", STEPS[name])
    assert found.name == name, str(found)


def one_step(optimizer, loss, net, lr, steps=1):
    for g in optimizer.param_groups:
        g["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for _ in range(steps):
        optimizer.step()
    return loss


def returns_tensor(net, optimizer, loss_fn, x0, generator, lr):
    return one_step(optimizer, loss_fn(x0, generator), net, lr)


def returns_detached(net, optimizer, loss_fn, x0, generator, lr):
    return one_step(optimizer, loss_fn(x0, generator), net, lr).detach()


def returns_array(net, optimizer, loss_fn, x0, generator, lr):
    return one_step(optimizer, loss_fn(x0, generator), net, lr).detach().numpy()


def steps_twice(net, optimizer, loss_fn, x0, generator, lr):
    return one_step(optimizer, loss_fn(x0, generator), net, lr, steps=2).item()


def goes_back_twice(net, optimizer, loss_fn, x0, generator, lr):
    loss = loss_fn(x0, generator)
    loss.backward(retain_graph=True)
    return one_step(optimizer, loss, net, lr).item()


def own_adamw(net, optimizer, loss_fn, x0, generator, lr):
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    return one_step(optimizer, loss_fn(x0, generator), net, lr).item()


def by_hand_alone(net, optimizer, loss_fn, x0, generator, lr):
    loss = loss_fn(x0, generator)
    net.zero_grad()
    loss.backward()
    for w in net.parameters():
        w.data -= lr * w.grad
    return loss.item()


def no_gradients(net, optimizer, loss_fn, x0, generator, lr):
    with torch.no_grad():
        loss = loss_fn(x0, generator)
        return one_step(optimizer, loss, net, lr).item()


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (returns_tensor, "no plain number", "keeps the whole graph in memory: `return loss.item()`"),
        (returns_detached, "no plain number", "not a plain number: `return loss.item()`"),
        (returns_array, "no plain number", "not a plain number: `return loss.item()`"),
        (steps_twice, "too many calls", "yours made 1 and 2"),
        (goes_back_twice, "too many calls", "yours made 2 and 1"),
        (own_adamw, "another optimiser", "you made a new optimiser"),
        (by_hand_alone, "another optimiser", "or a step by hand"),
        (no_gradients, "nothing remembered", "under `no_grad`"),
    ],
)
def test_steps_that_return_or_call_the_wrong_thing(function, name, words):
    found = verdict("4.2", function)
    assert found.name == name and words in found.says, str(found)


def test_a_loss_that_keeps_its_graph_is_refused():
    def graph(net, optimizer, loss_fn, x0, generator, lr):
        for g in optimizer.param_groups:
            g["lr"] = lr
        optimizer.zero_grad()
        loss = loss_fn(x0, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss.reshape(1)

    assert verdict("4.2", graph).state == "wrong"


# ---- 4.3 ----


def by_hand(average, net, share, buffers=True):
    state, new = average.state_dict(), net.state_dict()
    for name in state:
        if name.startswith(("inner.", "layer.")):
            new[name] = share * state[name] + (1 - share) * new[name]
        elif not buffers:
            new[name] = state[name]
    average.load_state_dict(new)


def rebound(average, net, k, decay=0.99):
    d = min(decay, (1 + k) / (10 + k))
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a = a * d + b * (1 - d)
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.copy_(b)


def without_no_grad(average, net, k, decay=0.99):
    d = min(decay, (1 + k) / (10 + k))
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a.copy_(d * a + (1 - d) * b)


AVERAGES = {
    "no warm-up of the decay": lambda average, net, k, decay: by_hand(average, net, decay),
    "larger of the two": lambda average, net, k, decay: by_hand(average, net, max(decay, (k + 1) / (k + 10))),
    "shares swapped": lambda average, net, k, decay: by_hand(average, net, 1 - min(decay, (k + 1) / (k + 10))),
    "copied": lambda average, net, k, decay: average.load_state_dict(net.state_dict()),
    "buffers forgotten": lambda average, net, k, decay: by_hand(
        average, net, min(decay, (k + 1) / (k + 10)), buffers=False
    ),
    "result lost": rebound,
    "with history": without_no_grad,
}


@pytest.mark.parametrize("name", AVERAGES)
def test_wrong_averages_are_known(name):
    found = verdict("4.3", AVERAGES[name])
    assert found.name == name, str(found)


def share(k, decay):
    return min(decay, (k + 1) / (k + 10))


def pairs(average, net):
    return list(zip(average.parameters(), net.parameters(), strict=True))


@torch.no_grad()
def not_in_place(average, net, k, decay=0.99):
    d = share(k, decay)
    for a, b in pairs(average, net):
        a.mul(d).add(b, alpha=1 - d)
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.copy_(b)


@torch.no_grad()
def into_the_network(average, net, k, decay=0.99):
    d = share(k, decay)
    for a, b in pairs(average, net):
        b.mul_(d).add_(a, alpha=1 - d)


@torch.no_grad()
def average_into_the_network(average, net, k, decay=0.99):
    for a, b in pairs(average, net):
        b.lerp_(a, share(k, decay))
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.copy_(b)


@torch.no_grad()
def buffers_from_the_average(average, net, k, decay=0.99):
    for a, b in pairs(average, net):
        a.mul_(share(k, decay)).add_(b, alpha=1 - share(k, decay))
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        b.copy_(a)


def with_eval(average, net, k, decay=0.99):
    net.eval()
    average_by_lerp(average, net, k, decay)


def with_requires_grad(average, net, k, decay=0.99):
    for b in net.parameters():
        b.requires_grad = False
    average_by_lerp(average, net, k, decay)


@torch.no_grad()
def counts_too(average, net, k, decay=0.99):
    d = share(k, decay)
    for a, b in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        a.mul_(d).add_(b, alpha=1 - d)


@torch.no_grad()
def zip_forgotten(average, net, k, decay=0.99):
    for a, b in (average.parameters(), net.parameters()):
        a.mul_(share(k, decay)).add_(b, alpha=1 - share(k, decay))


@torch.no_grad()
def scaling(average, net, k, decay=0.99):
    d = share(k, decay)
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a.mul_(d).add_(b.mul_(1 - d))
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.copy_(b)


@torch.no_grad()
def sharing(average, net, k, decay=0.99):
    d = share(k, decay)
    for a, b in zip(average.parameters(), net.parameters(), strict=True):
        a.lerp_(b, 1 - d)
    for a, b in zip(average.buffers(), net.buffers(), strict=True):
        a.data = b.data


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (scaling, "the network is scaled", "You changed `net`"),
        (sharing, "memory shared", "not copies"),
        (not_in_place, "result lost", "`a.mul_(d)` writes"),
        (into_the_network, "the network is changed", "You changed `net`"),
        (average_into_the_network, "the network is averaged", "You write the average into `net`"),
        (buffers_from_the_average, "buffers the wrong way", "You copy from `average` to `net`"),
        (with_eval, "mode changed", "`eval()`"),
        (with_requires_grad, "gradients switched", "learn nothing more"),
        (counts_too, "count averaged", "is a count"),
        (zip_forgotten, "without zip", "is `zip` missing?"),
    ],
)
def test_averages_that_write_to_the_wrong_place(function, name, words):
    found = verdict("4.3", function)
    assert found.name == name and words in found.says, str(found)


# ---- 4.4 ----


def eq7(x0, x_t, kept, kept_next, beta, loud, noise):
    mean = (kept_next**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - kept_next) * x_t) / (1 - kept)
    return mean + loud * noise


def stepped(predict, schedule, x_t, t, t_next, noise, limit=True, power=0.5, beta=None, tilde=True, ask=None):
    x0 = predict(x_t, torch.full((len(x_t),), t if ask is None else ask)).x0
    kept, kept_next = (float(schedule.alpha_bar[row]) for row in (t, t_next))
    beta = 1 - kept / kept_next if beta is None else float(beta)
    variance = beta * (1 - kept_next) / (1 - kept) if tilde else beta
    return eq7(x0.clamp(-1, 1) if limit else x0, x_t, kept, kept_next, beta, variance**power, noise)


ANCESTRALS = {
    "x0 not clamped": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e, limit=False),
    "variance for std": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e, power=1),
    "noise at the last step": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e, tilde=False),
    "one small step's beta": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e, beta=s.beta[t]),
    "no noise": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, torch.zeros_like(e)),
    "noise subtracted": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, -e),
    "t - 1 for t_next": lambda p, s, x, t, n, e: stepped(p, s, x, t, t - 1, e),
    "asked at t_next": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e, ask=n),
    "one noise for all": lambda p, s, x, t, n, e: torch.cat(
        [stepped(p, s, x[i : i + 1], t, n, e[:1]) for i in range(len(x))]
    ),
    "own noise": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, torch.randn(x.shape)),
    "x_next clamped": lambda p, s, x, t, n, e: torch.clip(stepped(p, s, x, t, n, e, limit=False), -1, 1),
    "x_next clamped, too": lambda p, s, x, t, n, e: stepped(p, s, x, t, n, e).clamp(min=-1, max=1),
}


@pytest.mark.parametrize("name", ANCESTRALS)
def test_wrong_reverse_steps_are_known(name):
    found = verdict("4.4", ANCESTRALS[name])
    assert found.name == name, str(found)


def written_out(limit=(-1, 1), first=0.5, last=0.5, ask="x0", brackets=True, swap=False, before=False, mean=None):
    def step(predict, schedule, x_t, t, t_next, noise):
        if before:
            x_t = torch.clip(x_t, -1, 1)
        x0 = getattr(predict(x_t, torch.full([len(x_t)], t)), ask)
        if limit:
            x0 = torch.clip(x0, *limit)
        now, then = schedule.alpha_bar[t], schedule.alpha_bar[t_next]
        beta = 1 - then / now if swap else 1 - now / then
        a, b = then**first * beta * x0, (1 - beta) ** last * (1 - then) * x_t
        mu = (a + b) / (1 - now) if brackets else a + b / (1 - now)
        mu = torch.clip(mu, -1, 1) if mean else mu
        return mu + torch.sqrt((1 - then) / (1 - now) * beta) * noise

    return step


PARTS = {
    "clamped to 0 to 1": written_out(limit=(0, 1)),
    "one side only": written_out(limit=(-1,)),
    "one side only, above": written_out(limit=(None, 1)),
    "x_t clamped": written_out(limit=None, before=True),
    "x_t clamped, too": written_out(before=True),
    "mean clamped": written_out(limit=None, mean=True),
    "mean clamped, too": written_out(mean=True),
    "eps for x0": written_out(ask="eps"),
    "eps for x0, not limited": written_out(ask="eps", limit=None),
    "no first root": written_out(first=1),
    "no second root": written_out(last=1),
    "no roots": written_out(first=1, last=1),
    "no brackets": written_out(brackets=False),
    "beta upside down": written_out(swap=True),
}


@pytest.mark.parametrize("name", PARTS)
def test_wrong_parts_of_the_reverse_step_are_known(name):
    found = verdict("4.4", PARTS[name])
    assert found.name == name, str(found)


@pytest.mark.parametrize(
    "steps",
    [lambda x, t: t, lambda x, t: torch.tensor([t]), lambda x, t: torch.full((len(x), 1, 1, 1), t)],
    ids=["a number", "one t for all", "four axes"],
)
def test_the_network_wants_one_t_for_each_picture(steps):
    def stepping(predict, schedule, x_t, t, t_next, noise):
        return ancestral_by_bayes(lambda x, _: predict(x, steps(x, t)), schedule, x_t, t, t_next, noise)

    found = verdict("4.4", stepping)
    assert "`steps` must be a tensor with one t for each picture" in found.says, str(found)


def test_the_network_wants_whole_numbers_and_step_1_is_not_the_end():
    def in_floats(predict, *rest):
        return ancestral_by_bayes(lambda x, t: predict(x, t.float()), *rest)

    assert "`steps` must hold whole numbers, got float32" in verdict("4.4", in_floats).says
    no_noise_at_1 = lambda *args: ancestral_by_bayes(*args[:5], args[5] * (args[4] > 1))  # noqa: E731
    assert not verdict("4.4", no_noise_at_1).passed


# ---- 4.5 ----


def states(net, average, optimizer, generator, step):
    return {
        "step": step,
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }


def some(*names):
    return lambda *run: {name: copy.deepcopy(part) for name, part in states(*run).items() if name in names}


ALL = ("net", "average", "optimizer", "generator", "step")
SNAPSHOTS = {
    "shared memory": states,
    "no net": some(*ALL[1:]),
    "no average": some("net", "optimizer", "generator", "step"),
    "no optimizer": some("net", "average", "generator", "step"),
    "no generator": some("net", "average", "optimizer", "step"),
    "no step": some(*ALL[:-1]),
    "networks only": some("net", "average"),
    "networks swapped": lambda n, a, o, g, k: copy.deepcopy(states(a, n, o, g, k)),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_wrong_snapshots_are_known(name):
    found = verdict("4.5", SNAPSHOTS[name])
    assert found.name == name, str(found)


def instead(**parts):
    """A right snapshot but for some entries, made from the run's parts."""

    def other(net, average, optimizer, generator, step):
        run = {"net": net, "average": average, "optimizer": optimizer, "generator": generator, "step": step}
        right = copy.deepcopy(states(**run))
        return {**right, **{name: make(run) for name, make in parts.items()}}

    return other


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (lambda *run: None, "nothing returned", "is the `return` missing?"),
        (lambda n, a, o, g, k: tuple(states(n, a, o, g, k).values()), "no dict", "You return a tuple"),
        (instead(net=lambda run: run["net"]), "object itself", '"net" holds the object itself'),
        (instead(optimizer=lambda run: run["optimizer"]), "object itself", "call `optimizer.state_dict()`"),
        (instead(generator=lambda run: run["generator"]), "object itself", "call `generator.get_state()`"),
        (instead(average=lambda run: run["average"].state_dict), "brackets missing", '"average" holds a method'),
        (instead(generator=lambda run: run["generator"].get_state), "brackets missing", "`generator.get_state()`"),
        (instead(optimizer=lambda run: run["optimizer"].state), "entry unfit", "`optimizer.state` is only a part"),
        (instead(net=lambda run: list(run["net"].parameters())), "entry unfit", "it holds a list"),
        (instead(net=lambda run: dict(run["net"].named_parameters())), "entry unfit", '"net" does not hold what'),
        (
            lambda n, a, o, g, k: {"ema" if i == "average" else i: x for i, x in states(n, a, o, g, k).items()},
            "other names",
            "holds ema as well",
        ),
        (instead(step=lambda run: f"{run['step']}"), "step is no number", '"step" should be a whole number'),
        (instead(average=lambda run: copy.deepcopy(run["net"]).state_dict()), "net twice", "the state of `net`"),
        (instead(generator=lambda run: torch.random.get_rng_state()), "the global generator", "global generator"),
    ],
)
def test_snapshots_with_something_else_in_them(function, name, words):
    found = verdict("4.5", function)
    assert found.name == name and words in found.says, str(found)
    assert "stopped with" not in found.says


def test_objects_in_place_of_states_are_refused():
    def objects(net, average, optimizer, generator, step):
        return {"net": net, "average": average, "optimizer": optimizer, "generator": generator, "step": step}

    assert verdict("4.5", objects).state == "wrong"
