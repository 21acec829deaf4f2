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
}


@pytest.mark.parametrize("name", RATES)
def test_wrong_rates_are_known(name):
    assert verdict("4.1", RATES[name]).name == name


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


def test_objects_in_place_of_states_are_refused():
    def objects(net, average, optimizer, generator, step):
        return {"net": net, "average": average, "optimizer": optimizer, "generator": generator, "step": step}

    assert verdict("4.5", objects).state == "wrong"
