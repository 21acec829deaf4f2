"""The exercises of lesson 04: learning rate, training step, running average, reverse step, what a checkpoint holds.

Equations: average <- d average + (1 - d) net, d = min(decay, (1 + k) / (10 + k)); the reverse step is DDPM's eq. 7.
Shapes: numbers and networks; x_t and noise (B, *dims).
Not here: how a verdict is reached (engine.py) and the lesson itself (solutions/04_train_ddpm.py).
"""

import copy

import torch
from torch import nn

from course_lib import schedules
from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.checks.verdict import cut, kind
from course_lib.types import Prediction


class Complaint:
    """What is wrong before results can be compared, in a sentence; two of one name are equal."""

    def __init__(self, name, says):
        self.name, self.says = name, says

    def __eq__(self, other):
        return isinstance(other, Complaint) and self.name == other.name

    __hash__ = None

    def __repr__(self):
        return self.says


def _complaint(name, looks_like, hints):
    """The mistake for a Complaint of that name, which brings its own sentence."""
    return Mistake(name, looks_like, lambda report: report.got.says, hints)


# ---- 4.1 the learning rate ----------------------------------------------------------------------------------


def learning_rate(done, highest, warm_up):
    if done < warm_up:
        return highest * done / warm_up
    return highest * (1 - done) / (1 - warm_up)


def _curve(learning_rate, shares, highest, warm_up):
    calls = {f"learning_rate({done:g}, {highest:g}, {warm_up:g})": done for done in shares}
    rates = {call: learning_rate(done, highest, warm_up) for call, done in calls.items()}
    if any(isinstance(rate, torch.Tensor) for rate in rates.values()):
        return Complaint("a tensor", "You return a tensor, where a plain number was expected: plain Python will do.")
    return None if all(rate is None for rate in rates.values()) else rates


def _at(report, index):
    return list(report.got.values())[index]


def _late(report):
    return f"With the highest rate {report.case.args[1]:g}, the last of your rates is {_at(report, -1):.3g}"


def _jump(report):
    shares, (_, highest, warm_up) = report.case.args[0], report.case.args
    first = next(i for i, done in enumerate(shares) if done >= warm_up)
    return f"When the warm-up ends the rate should be {highest:g}, and yours is {_at(report, first):.4g}"


RATE_HINTS = (
    "Draw it on paper: 0 at done = 0, `highest` at done = warm_up, 0 at done = 1.",
    "One `if`. On the way up the share of the way is done / warm_up; which share of the way down is still to go?",
)

RATE_MISTAKES = [
    _complaint(
        "a tensor",
        lambda *where: torch.tensor(learning_rate(*where)),
        ("What kind of number are `done`, `highest` and `warm_up`?", "Plain Python will do, without torch."),
    ),
    Mistake(
        "no warm-up",
        lambda done, highest, warm_up: highest * (1 - done),
        lambda r: (
            f"Your very first rate is {_at(r, 0):g}: there is no warm-up, and AdamW's first steps, taken before it "
            "knows how large gradients are, are the largest of all."
        ),
        ("What should be returned for done = 0?", RATE_HINTS[1]),
    ),
    Mistake(
        "never falls",
        lambda done, highest, warm_up: highest * done / warm_up if done < warm_up else highest,
        lambda r: f"{_late(r)}: it never falls, and the weights jitter until the end.",
        ("What should be returned just before done = 1?", RATE_HINTS[1]),
    ),
    Mistake(
        "product",
        lambda done, highest, warm_up: highest * (min(1.0, done / warm_up) if warm_up else 1.0) * (1 - done),
        lambda r: f"{_jump(r)}: your fall has begun during the warm-up already.",
        ("At which `done` should the fall begin?", "The whole fall takes 1 - warm_up of the run."),
    ),
    Mistake(
        "fall not stretched",
        lambda done, highest, warm_up: highest * done / warm_up if done < warm_up else highest * (1 - done),
        lambda r: f"{_jump(r)}: the curve has a jump there, because the fall began at done = 0.",
        ("At which `done` should the fall begin?", "The whole fall takes 1 - warm_up of the run."),
    ),
    Mistake(
        "falls below zero",
        lambda done, highest, warm_up: (
            highest * done / warm_up if done < warm_up else highest * (1 - (done - warm_up) / (warm_up or 0.05))
        ),
        lambda r: f"{_late(r)}: you fall as quickly as you rose. A rate below 0 climbs the loss.",
        ("How long does the fall take, as a share of the run?", "From warm_up to 1 it is 1 - warm_up."),
    ),
    Mistake(
        "stays low",
        lambda done, highest, warm_up: highest * done if done < warm_up else highest * (1 - done) / (1 - warm_up),
        lambda r: (
            "On the way up your rate is highest * done: just before the warm-up ends it has climbed to a share "
            f"of {r.case.args[2]:g} of `highest`, and then it jumps to all of it."
        ),
        ("Which share of the warm-up is over at `done`?", "At done = warm_up / 2 it is one half: divide."),
    ),
    Mistake(
        "upside down",
        lambda done, highest, warm_up: (
            highest * (1 - done / warm_up) if done < warm_up else highest * (done - warm_up) / (1 - warm_up)
        ),
        lambda r: f"{_late(r)}: your curve is upside down, it falls first and rises to the end.",
        ("What should be returned for done = 0, and what just before 1?", RATE_HINTS[1]),
    ),
    Mistake(
        "divides by no warm-up",
        lambda done, highest, warm_up: (
            highest * done / warm_up if done <= warm_up else highest * (1 - done) / (1 - warm_up)
        ),
        "Right except for `warm_up = 0`, where you divide by it: `warm_up` may be 0. Use `<`, or treat 0 separately.",
        ("Which branch does done = 0 take when warm_up is 0?", "`if done < warm_up:` never holds for warm_up = 0."),
    ),
    Mistake(
        "begins at 0 without a warm-up",
        lambda done, highest, warm_up: highest * min(done / max(warm_up, 1e-12), (1 - done) / (1 - warm_up)),
        lambda r: f"Without a warm-up the first rate should be `highest`, {r.case.args[1]:g}; yours is {_at(r, 0):g}.",
        ("What does your rise give for done = 0 and warm_up = 0?", "Treat warm_up = 0 separately."),
    ),
    Mistake(
        "fall only moved",
        lambda done, highest, warm_up: highest * (done / warm_up if done < warm_up else 1 - (done - warm_up)),
        lambda r: f"{_late(r)}: your fall begins in the right place, and is too flat to reach 0 at done = 1.",
        ("How long is the fall, as a share of the run?", "It takes 1 - warm_up of the run: divide by that."),
    ),
    Mistake(
        "highest forgotten",
        lambda done, highest, warm_up: done / warm_up if done < warm_up else (1 - done) / (1 - warm_up),
        lambda r: f"{_jump(r)}: the shape is right, but `highest` is not used.",
        ("Which argument is not used?", "Multiply both pieces with `highest`."),
    ),
    Mistake(
        "rises twice",
        lambda done, highest, warm_up: (
            highest * (done / warm_up if done < warm_up else (done - warm_up) / (1 - warm_up))
        ),
        lambda r: f"{_jump(r)}; from there it rises again: your second piece is the share of the fall that is over.",
        ("Which share of the fall is still to go?", "It is 1 minus what you have, or (1 - done) / (1 - warm_up)."),
    ),
]

# ---- 4.2 one training step ----------------------------------------------------------------------------------


class Probe(nn.Module):
    """A small network with a buffer, of weights that are easy to follow."""

    def __init__(self, seed):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.inner, self.layer = nn.Linear(3, 3, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("shift", torch.randn(2, generator=draws, dtype=torch.float64))
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(1.5 * torch.randn(weight.shape, generator=draws, dtype=torch.float64))

    def forward(self, x):
        return self.layer(self.inner(x))


def _flat(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def train_step(net, optimizer, loss_fn, x0, generator, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = loss_fn(x0, generator)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()


class Noted(torch.optim.SGD):
    """Gradient descent that notes when it is asked for a step."""

    def step(self, closure=None):
        self.calls.append("step")
        return super().step(closure)


def _learn(train_step, seed, loudness, rates):
    net, draws, generator = Probe(seed), torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    optimizer = Noted([{"params": [*net.inner.parameters(), net.layer.weight]}, {"params": [net.layer.bias]}], lr=0.5)
    optimizer.calls = calls = []

    def loss_fn(x0, generator):
        noise = torch.randn(len(x0), 1, generator=generator, dtype=torch.float64)
        loss = loudness * (net(x0).square() * noise).mean()
        if loss.requires_grad:
            loss.register_hook(lambda gradient: calls.append("backward"))
        return loss

    losses, weights = [], []
    for lr in rates:
        x0 = 1.5 * torch.randn(8, 3, generator=draws, dtype=torch.float64)
        made, before = len(calls), _flat(net)
        losses.append(train_step(net, optimizer, loss_fn, x0, generator, lr))
        weights.append(_flat(net))
        complaint = _unfit_step(losses[-1], calls[made:], bool((weights[-1] != before).any()))
        if complaint:
            return complaint
    return {"the calls": calls, "the weights after each step": torch.stack(weights), "the losses": losses}


def _unfit_step(loss, calls, moved):
    """What is wrong with one call of train_step, by what it returned and what it called; None where nothing is."""
    if loss is not None and not isinstance(loss, int | float):
        graph = isinstance(loss, torch.Tensor) and loss.requires_grad
        why = "a tensor, which keeps the whole graph in memory" if graph else f"{kind(loss)}, not a plain number"
        return Complaint("no plain number", f"You return {why}: `return loss.item()`.")
    backwards, steps = calls.count("backward"), calls.count("step")
    if backwards > 1 or steps > 1:
        says = "One call of `train_step` should make one `backward` and one `step`"
        return Complaint("too many calls", f"{says}; yours made {backwards} and {steps}.")
    if moved and not steps:
        says = "The weights moved without `optimizer.step()`: you made a new optimiser, or a step by hand"
        return Complaint("another optimiser", f"{says}. It forgets what the given one remembers: use `optimizer`.")
    return None


def _steps(*, zero="before", clip="norm", rate="all", order="", report="item"):
    """A training step with one part changed, to be recognised."""

    def step(net, optimizer, loss_fn, x0, generator, lr):
        for group in optimizer.param_groups[: {"all": None, "first": 1}.get(rate, 0)]:
            group["lr"] = lr
        loss = loss_fn(x0, generator)
        if order == "step first":
            if zero == "before":
                optimizer.zero_grad()
            optimizer.step()
        if zero == "before" or order == "step first":
            optimizer.zero_grad()
        if order != "no backward":
            loss.backward()
        if zero == "after":
            optimizer.zero_grad()
        if clip == "norm":
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if clip == "value":
            nn.utils.clip_grad_value_(net.parameters(), 1.0)
        if clip == "each tensor":
            for weight in net.parameters():
                nn.utils.clip_grad_norm_(weight, 1.0)
        if order == "new optimiser":
            optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        if order not in ("no step", "step first"):
            optimizer.step()
        if order == "two steps":
            optimizer.step()
        if rate == "late":
            for group in optimizer.param_groups:
                group["lr"] = lr
        if report == "again":
            loss = loss_fn(x0, generator)
        return loss if report == "tensor" else loss.item()

    return step


def _item_first(net, optimizer, loss_fn, x0, generator, lr):
    loss = loss_fn(x0, generator).item()
    optimizer.zero_grad()
    loss.backward()


@torch.no_grad()
def _nothing_remembered(net, optimizer, loss_fn, x0, generator, lr):
    optimizer.zero_grad()
    loss_fn(x0, generator).backward()


def _moved(report):
    """How far the first step of some size moved the weights, ours and theirs."""
    rates, start = report.case.args[2], _flat(Probe(report.case.args[0]))
    index = next(i for i, lr in enumerate(rates) if lr)
    return [float((x["the weights after each step"][index] - start).norm()) for x in (report.expected, report.got)]


def _far(report):
    ours, theirs = _moved(report)
    return f"the first step moved the weights by {theirs:.2f}, where {ours:.2f} was right"


STEP_HINTS = (
    "Five things, in this order: rate, loss, gradient, limit, move. When are the old gradients forgotten?",
    "`zero_grad`, `backward`, `clip_grad_norm_`, `step`: each once, in this order.",
)

STEP_MISTAKES = [
    Mistake(
        "gradients add up",
        _steps(zero="never"),
        "The old gradients are still there: `backward` adds to what it finds, so the third step follows the sum of "
        "three batches, two of them out of date.",
        ("Where are the old gradients forgotten?", "`optimizer.zero_grad()` belongs before `loss.backward()`."),
    ),
    Mistake(
        "zeroed too late",
        _steps(zero="after"),
        "Your weights never move: `zero_grad` stands between `backward` and `step`, and so the fresh gradient is "
        "forgotten before it is used.",
        ("Which gradient does `step` find?", "Move `zero_grad` before `backward`."),
    ),
    Mistake(
        "step before backward",
        _steps(order="step first"),
        "`step` runs before `backward`: it finds no gradient, and your weights stay where they began.",
        ("Which gradient does `step` find?", "First `backward`, then `step`."),
    ),
    Mistake(
        "one step behind",
        _steps(order="step first", zero="between"),
        "`step` runs before `backward`: it follows the last batch's gradient, and at first it finds none.",
        ("Which gradient does `step` find?", "First `backward`, then `step`."),
    ),
    Mistake(
        "no backward",
        _steps(order="no backward"),
        "No gradient is computed: `backward` is missing, so `step` has nothing to follow, and the weights stay where "
        "they were, step after step.",
        ("Which call computes gradients?", STEP_HINTS[1]),
    ),
    Mistake(
        "no step",
        _steps(order="no step"),
        "The gradient is computed and nobody follows it: `optimizer.step()` is missing.",
        ("Which call moves the weights?", STEP_HINTS[1]),
    ),
    Mistake(
        "not clipped",
        _steps(clip="no"),
        lambda r: (
            f"The gradient is not limited between `backward` and `step`: {_far(r)}. One wild batch can throw a "
            "training off for good."
        ),
        (
            "When is there a gradient to limit, and when is it too late?",
            "`clip_grad_norm_` stands between `backward` and `step`.",
        ),
    ),
    Mistake(
        "each number clipped",
        _steps(clip="value"),
        lambda r: (
            f"Each number of the gradient is cut by itself, which turns its direction: {_far(r)}. The whole "
            "gradient should keep its direction and have a length of at most 1."
        ),
        ("Which of torch's two functions limits the length?", "`clip_grad_norm_`, not `clip_grad_value_`."),
    ),
    Mistake(
        "each tensor clipped",
        _steps(clip="each tensor"),
        lambda r: (
            f"Each weight tensor's gradient is limited by itself, which turns the direction of the whole: {_far(r)}. "
            "All numbers of all weights together are one arrow, and that one is shortened."
        ),
        ("How many lengths does your function limit?", "One call: `clip_grad_norm_(net.parameters(), 1.0)`."),
    ),
    Mistake(
        "rate too late",
        _steps(rate="late"),
        "The rate is set after `optimizer.step()`: each step goes as far as the step before should have gone.",
        ("Which rate does `step` find in the groups?", "Set `lr` in all groups first."),
    ),
    Mistake(
        "rate not set",
        _steps(rate="none"),
        "`lr` is not used: the optimiser goes on with the rate that it was made with, 0.5 here, for every step.",
        ("Where does your function use `lr`?", "Each group of `optimizer.param_groups` has an entry `lr`."),
    ),
    Mistake(
        "rate of one group",
        _steps(rate="first"),
        "Only the first group of weights gets the new rate; the others keep an old one. An optimiser may hold "
        "several groups.",
        ("How many groups does the optimiser have?", "Write a `for` over `optimizer.param_groups`."),
    ),
    Mistake(
        "loss asked twice",
        _steps(report="again"),
        "You ask for the loss a second time to report it: that costs another pass, draws new noise, and is not the "
        "loss that you learned from.",
        ("Which loss did you learn from?", "Keep it in a variable, and return its `item()`."),
    ),
    Mistake(
        "item too early",
        _item_first,
        "You took `item()` of the loss and then called `backward` on it: a plain number knows nothing of the weights. "
        "Take `item()` last.",
        ("What does `item()` return?", "Call `backward` on the tensor, and `item()` where you return."),
    ),
    Mistake(
        "nothing remembered",
        _nothing_remembered,
        "`backward` finds no way back to the weights: under `no_grad`, or after `detach`, nothing is remembered.",
        ("What does `torch.no_grad()` say?", "This function needs gradients: `no_grad` belongs to the average."),
    ),
    _complaint(
        "no plain number",
        _steps(report="tensor"),
        ("What does `loss.item()` give?", "End with `return loss.item()`."),
    ),
    _complaint("too many calls", _steps(order="two steps"), STEP_HINTS),
    _complaint(
        "another optimiser",
        _steps(order="new optimiser"),
        ("AdamW remembers earlier gradients. Where does a new one get them from?", "Call `step` on `optimizer`."),
    ),
]

# ---- 4.3 the running average --------------------------------------------------------------------------------


@torch.no_grad()
def ema_update(average, net, k, decay=0.99):
    decay = min(decay, (1 + k) / (10 + k))
    for slow, weight in zip(average.parameters(), net.parameters(), strict=True):
        slow.mul_(decay).add_(weight, alpha=1 - decay)
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        slow.copy_(buffer)


def _averaged(ema_update, seed, updates, decay):
    net, draws = Probe(seed), torch.Generator().manual_seed(seed)
    average = copy.deepcopy(net)
    for k in range(updates):
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(10 * torch.randn(weight.shape, generator=draws, dtype=torch.float64))
            net.seen.add_(1)
            net.shift.add_(1)
        before = _looks(net)
        ema_update(average, net, k, decay)
        complaint = _touched(before, _looks(net))
        if complaint:
            return complaint
    with torch.no_grad():  # the next step of the training: the average must not follow by itself
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.add_(1)
    return {
        "the average": _flat(average),
        "the buffers": [average.seen.clone(), average.shift.clone()],
    }


def _looks(net):
    """All that an update of the average must leave alone."""
    weights, buffers = _flat(net).tolist(), [buffer.tolist() for buffer in net.buffers()]
    return weights, buffers, [part.training for part in net.modules()], [x.requires_grad for x in net.parameters()]


def _touched(before, after):
    """What an update did to the network in training; None where it left it alone."""
    sentences = (
        "You changed `net`, the network that is in training: each step would be pulled back at once.",
        "You copy from `average` to `net`: the buffers of the network in training have changed.",
        "You changed the mode of `net`, by `eval()` or `train()`: the training would go on in another mode.",
        "You switched the gradients of `net` off or on: the network in training would learn nothing more.",
    )
    names = ("the network is changed", "buffers the wrong way", "mode changed", "gradients switched")
    for name, says, old, new in zip(names, sentences, before, after, strict=True):
        if old != new:
            return Complaint(name, says)
    return None


def _and(spoil):
    """A right update that does something to the network as well."""

    def update(average, net, k, decay=0.99):
        ema_update(average, net, k, decay)
        spoil(average, net)

    return update


@torch.no_grad()
def _buffers_back(average, net):
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        buffer.zero_()
        slow.zero_()


def _share_buffers(average, net):
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        slow.data = buffer.data


@torch.no_grad()
def _scaled(average, net, k, decay=0.99):
    """A right average, made with a call that scales the weights of the network on the way."""
    decay = min(decay, (1 + k) / (10 + k))
    for slow, weight in zip(average.parameters(), net.parameters(), strict=True):
        slow.mul_(decay).add_(weight.mul_(1 - decay))
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        slow.copy_(buffer)


@torch.no_grad()
def _counts_averaged(average, net, k, decay=0.99):
    for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
        slow.mul_(0.5).add_(buffer, alpha=0.5)


def _no_zip(average, net, k, decay=0.99):
    for _a, _b in average.parameters(), net.parameters():
        pass


def _emas(decay_at=lambda k, decay: min(decay, (1 + k) / (10 + k)), *, buffers="copied", way="in place"):
    """An update with one part changed, to be recognised."""

    def update(average, net, k, decay=0.99):
        d = decay_at(k, decay)
        with torch.no_grad():
            for slow, weight in zip(average.parameters(), net.parameters(), strict=True):
                if way == "lost":
                    slow = d * slow + (1 - d) * weight
                elif way == "net":
                    weight.copy_(d * slow + (1 - d) * weight)
                else:
                    slow.copy_(d * slow + (1 - d) * weight)
                if way == "first only":
                    break
            for slow, buffer in zip(average.buffers(), net.buffers(), strict=True):
                if buffers == "copied":
                    slow.copy_(buffer)
                elif buffers == "averaged" and buffer.is_floating_point():
                    slow.copy_(d * slow + (1 - d) * buffer)

    return update


def _with_history(average, net, k, decay=0.99):
    for slow, weight in zip(average.parameters(), net.parameters(), strict=True):
        slow.mul_(0.5).add_(weight)


def _rest(report):
    _, updates, decay = report.case.args
    left = 1.0
    for k in range(updates):
        left *= min(decay, (1 + k) / (10 + k))
    return (
        f"After {updates} updates, {decay**updates:.0%} of the random start is still in your average; with the smaller "
        f"decay at the beginning it is {left:.1g} of it."
    )


EMA_HINTS = (
    "decay is how much of the *old average* stays. Which of the two networks changes, and which is only read?",
    "Change the tensors themselves, under `torch.no_grad()`: `a.mul_(d).add_(b, alpha=1 - d)`.",
)

EMA_MISTAKES = [
    Mistake(
        "no warm-up of the decay",
        _emas(lambda k, decay: decay),
        lambda r: f"You use the full decay from the first update on. {_rest(r)}",
        ("What is min(decay, (1 + k) / (10 + k)) for k = 0?", "Use that number in place of decay."),
    ),
    Mistake(
        "larger of the two",
        _emas(lambda k, decay: max(decay, (1 + k) / (10 + k))),
        "You take the larger of the two decays: the average then holds on to its random start longest where it "
        "should let go first.",
        ("Which of 0.99 and 1 / 10 forgets faster?", "`min`, not `max`."),
    ),
    Mistake(
        "decay ignored",
        _emas(lambda k, decay: (1 + k) / (10 + k)),
        "`decay` is not used: (1 + k) / (10 + k) goes on growing towards 1, so that late in a long training the "
        "average hardly moves any more.",
        ("What is (1 + k) / (10 + k) after 5,000 updates, and what should be used then?", "`min(decay, ...)`."),
    ),
    Mistake(
        "one update too far",
        _emas(lambda k, decay: min(decay, (2 + k) / (11 + k))),
        "You count the updates from 1: k is 0 at the first update, and there the smaller decay is 1 / 10, not 2 / 11.",
        ("What is k when no update has been made?", "Use `k` as it comes."),
    ),
    Mistake(
        "shares swapped",
        _emas(lambda k, decay: 1 - min(decay, (1 + k) / (10 + k))),
        "The two shares are swapped: later on you keep 1 % of the average and take 99 % of the network, which is no "
        "average but the network itself, one step late.",
        ("Which share should be large late in a run, the old average's or the network's?", EMA_HINTS[0]),
    ),
    _complaint(
        "the network is changed",
        _and(lambda average, net: net.layer.weight.data.add_(1)),
        ("Which of the two does your line write to?", "Only the tensors of `average` change."),
    ),
    Mistake(
        "the network is averaged",
        _emas(way="net"),
        "You write the average into `net`, the network that is in training: each step would be pulled back at once.",
        ("Which of the two does your line write to?", "Only the tensors of `average` change."),
    ),
    Mistake(
        "result lost",
        _emas(way="lost"),
        "The average has not moved. `a = ...` only gives a new tensor that name, and `a.mul(d)` without the underscore "
        "makes a new one. `a.mul_(d)` writes.",
        ("Which of your lines writes into a tensor?", "`a.mul_(...)`, `a.add_(...)` and `a.copy_(...)` write."),
    ),
    Mistake(
        "only the first",
        _emas(way="first only"),
        "Only the first tensor of the network was averaged; all others keep their random start.",
        ("How often does the body of your loop run?", "Look for a `return` or `break` inside of it."),
    ),
    Mistake(
        "copied",
        _emas(lambda k, decay: 0.0),
        "The average is a copy of the latest weights: it remembers nothing of what came before.",
        ("Where do the average's own old numbers come in?", "`load_state_dict` and `copy_` forget the old ones."),
    ),
    Mistake(
        "buffers forgotten",
        _emas(buffers="forgotten"),
        lambda r: (
            "The weights are right, but the buffers are those of the start: the network has counted "
            f"{int(r.expected['the buffers'][0])} batches, and its average {int(r.got['the buffers'][0])}."
        ),
        ("Which tensors of a network are not weights?", "Loop over `buffers()` of both, and copy."),
    ),
    Mistake(
        "buffers averaged",
        _emas(buffers="averaged"),
        "The buffers are averaged or left behind; they are no weights, but counts and statistics: copy them.",
        ("What would the average of a count be?", "`a.copy_(b)` for each buffer."),
    ),
    Mistake(
        "with history",
        _with_history,
        "torch refuses, because it would have to remember every update for a gradient, back to the first: nobody "
        "wants a gradient here. Work under `torch.no_grad()`.",
        ("Does anybody call `backward` on an average?", "`@torch.no_grad()` above the `def` does it."),
    ),
    Mistake(
        "the network is scaled",
        _scaled,
        "You changed `net`, the network that is in training: `mul_` writes into what it is called on, here a weight of "
        "the network.",
        ("Which of your calls end in an underscore, and on what?", "`slow.mul_(decay).add_(weight, alpha=1 - decay)`"),
    ),
    Mistake(
        "memory shared",
        _and(_share_buffers),
        "The buffers of `average` are those of `net` now, not copies: with the next training step they change as well. "
        "Write the numbers over, with `a.copy_(b)`.",
        ("What happens to `a` when `b` changes after `a.data = b.data`?", "`a.copy_(b)` for each pair of buffers."),
    ),
    _complaint(
        "buffers the wrong way",
        _and(_buffers_back),
        ("Which side of `a.copy_(b)` is written to?", "`a` belongs to `average`, `b` to `net`."),
    ),
    _complaint(
        "mode changed",
        _and(lambda average, net: net.eval()),
        ("Who trains on with `net` afterwards?", "No `eval()` is needed to read weights."),
    ),
    _complaint(
        "gradients switched",
        _and(lambda average, net: net.requires_grad_(False)),
        ("Who trains on with `net` afterwards?", "`torch.no_grad()` is enough, and ends with the function."),
    ),
    Mistake(
        "count averaged",
        _counts_averaged,
        "One of the buffers is a count: whole numbers have no average among whole numbers. Copy the buffers.",
        ("Which tensors of a network are not weights?", "`a.copy_(b)` for each pair of buffers."),
    ),
    Mistake(
        "without zip",
        _no_zip,
        "Your loop unpacks one thing into two names: is `zip` missing? `for a, b in zip(...)` walks two lists at once.",
        ("What does your `for` walk over?", "`zip(average.parameters(), net.parameters())`."),
    ),
]

# ---- 4.4 one reverse step, with strides ---------------------------------------------------------------------


def ancestral_step(predict, schedule, x_t, t, t_next, noise):
    x0 = predict(x_t, torch.full((len(x_t),), t, device=x_t.device)).x0.clamp(-1, 1)
    alpha_bar, alpha_bar_next = schedule.alpha_bar[t], schedule.alpha_bar[t_next]
    beta = 1 - alpha_bar / alpha_bar_next
    mean = alpha_bar_next.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - alpha_bar_next) * x_t
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * beta
    return mean / (1 - alpha_bar) + variance.sqrt() * noise


def guess(x_t, t, cond=None):
    """Stand in for a network: it looks at x_t and t, and overshoots [-1, 1]."""
    if not isinstance(t, torch.Tensor):
        raise TypeError(f"`steps` must be a tensor with one t for each picture, got {kind(t)}")
    if t.is_floating_point():
        raise TypeError(f"`steps` must hold whole numbers, got {str(t.dtype).removeprefix('torch.')}")
    if t.shape != (len(x_t),):
        shapes = f"shape {(len(x_t),)}, got {tuple(t.shape)}"
        raise ValueError(f"`steps` must be a tensor with one t for each picture, {shapes}")
    x0 = 1.6 * torch.tanh(2 * x_t + t.reshape(-1, *[1] * (x_t.ndim - 1)) / 1000)
    return Prediction(x0, x_t - 0.3 * x0)


def other_guess(x_t, t, cond=None):
    """Stand in for another network."""
    return Prediction(guess(-x_t, t).x0, x_t)


def _largest(report):
    _, _, x_t, t, *_ = report.case.args
    return report.case.args[0](x_t, torch.full((len(x_t),), t)).x0.abs().max()


LIMITS = {"x0": (-1, 1), "both": (-1, 1), "x_t, too": (-1, 1), "mean, too": (-1, 1), "0 to 1": (0, 1)}
LIMITS |= {"below": (-1, None), "above": (None, 1)}  # how a step that is wrong limits x0; otherwise it does not


def _ancestral(*, clamp="x0", stride=True, spread="std", next_row=0, row=0, mean="right", ask="x0"):
    """A step with one part changed, to be recognised."""

    def step(predict, schedule, x_t, t, t_next, noise):
        x_t = x_t.clamp(-1, 1) if clamp in ("x_t", "x_t, too") else x_t
        x0 = getattr(predict(x_t, torch.full((len(x_t),), t)), ask)
        x0 = x0.clamp(*LIMITS[clamp]) if clamp in LIMITS else x0
        table = schedule.alpha_bar
        kept, kept_next = table[t - row], table[max(t_next - next_row, 0)]
        beta = 1 - kept / kept_next if stride else schedule.beta[t]
        beta = 1 - kept_next / kept if mean == "upside down" else beta
        beta = kept / kept_next if mean == "no one minus" else beta
        x0, x_t = (x_t, x0) if mean == "exchanged" else (x0, x_t)
        first = (kept_next if mean in ("no first root", "no roots") else kept_next.sqrt()) * beta * x0
        last = (1 - beta if mean in ("no second root", "no roots") else (1 - beta).sqrt()) * (1 - kept_next) * x_t
        middle = first + last / (1 - kept) if mean == "no brackets" else (first + last) / (1 - kept)
        middle = middle.clamp(-1, 1) if clamp in ("mean", "mean, too") else middle
        variance = (1 - kept_next) / (1 - kept) * beta
        sizes = {
            "std": variance.sqrt(),
            "variance": variance,
            "beta": beta.sqrt(),
            "none": 0.0,
            "minus": -variance.sqrt(),
        }
        x = middle + sizes[spread] * noise
        return x.clamp(-1, 1) if clamp in ("result", "both") else x

    return step


def _one_noise(predict, schedule, x_t, t, t_next, noise):
    return ancestral_step(predict, schedule, x_t, t, t_next, noise[:1].expand_as(noise))


def _ddim(predict, schedule, x_t, t, t_next, noise):
    x0 = predict(x_t, torch.full((len(x_t),), t)).x0.clamp(-1, 1)
    kept, kept_next = schedule.alpha_bar[t], schedule.alpha_bar[t_next]
    eps = (x_t - kept.sqrt() * x0) / (1 - kept).sqrt()
    return kept_next.sqrt() * x0 + (1 - kept_next).sqrt() * eps


def _own_noise(predict, schedule, x_t, t, t_next, noise):
    return ancestral_step(predict, schedule, x_t, t, t_next, torch.randn_like(x_t))


def _whole_t(predict, schedule, x_t, t, t_next, noise):
    def late(x_t, steps):
        return predict(x_t, steps - t + t_next)

    return ancestral_step(late, schedule, x_t, t, t_next, noise)


def _loudness(report):
    """How much of the noise is in their step and in ours, measured along the noise."""
    noise = report.case.args[5]
    quiet = ancestral_step(*report.case.args[:5], torch.zeros_like(noise))
    theirs, ours = (float(((x - quiet) * noise).sum() / noise.square().sum()) for x in (report.got, report.expected))
    return f"here {theirs:.3f} of it is in your x_next, where {ours:.3f} should be"


NOISE_HINTS = (
    "Which two numbers could stand before `noise`, the variance or its root? And what should it be at t_next = 0?",
    "variance = (1 - alpha_bar_next) / (1 - alpha_bar) * beta, and its root goes before the noise.",
)
STRIDE_HINTS = (
    "Which alphas lie between t_next and t? What is their product?",
    "beta = 1 - alpha_bar[t] / alpha_bar[t_next]: for neighbours this is beta[t].",
)

LIMIT_HINTS = ("Between which values do pixels lie?", "`x0.clamp(-1, 1)` limits on both sides.")

ANCESTRAL_MISTAKES = [
    Mistake(
        "x0 not clamped",
        _ancestral(clamp="no"),
        lambda r: f"The guessed x0 is used as it comes, here up to {_largest(r):.2f}. No picture has such pixels.",
        ("Between which values do pixels lie?", "`x0.clamp(-1, 1)` makes a new tensor with all values inside."),
    ),
    Mistake(
        "x_next clamped",
        _ancestral(clamp="result"),
        "You clamp the result, not the guess: x_next is a *noisy* picture, and its noise may well go beyond 1. Cut "
        "off, it is no longer the noise that the network learned about.",
        ("Which of the two is a clean picture, x0 or x_next?", "Clamp x0, and leave x_next alone."),
    ),
    Mistake(
        "x_next clamped, too",
        _ancestral(clamp="both"),
        "You limit the guess, and rightly so, but also the result. x_next is a *noisy* picture: cut off at "
        "-1 and 1, its noise is no longer the noise that the network learned about.",
        ("Which of the two is a clean picture, x0 or x_next?", "Clamp x0, and leave x_next alone."),
    ),
    Mistake(
        "one small step's beta",
        _ancestral(stride=False),
        "This is `beta[t]`, the noise of the one step from t - 1 to t. A stride from t_next to t adds the noise of all "
        "steps between.",
        STRIDE_HINTS,
    ),
    Mistake(
        "variance for std",
        _ancestral(spread="variance"),
        lambda r: f"The noise is multiplied with the variance, not with its root: {_loudness(r)}.",
        NOISE_HINTS,
    ),
    Mistake(
        "noise at the last step",
        _ancestral(spread="beta"),
        lambda r: (
            f"You took beta itself as the variance: {_loudness(r)}. With one guessed x0 the variance is smaller, "
            "and at t_next = 0 it is 0: yours puts noise into the finished picture."
        ),
        NOISE_HINTS,
    ),
    Mistake(
        "no noise",
        _ancestral(spread="none"),
        "There is no noise in your step. Lesson 02 showed what the means alone give: samples that are too much alike.",
        ("Which argument is not used?", NOISE_HINTS[1]),
    ),
    Mistake(
        "noise subtracted",
        _ancestral(spread="minus"),
        "The noise is subtracted. For the samples it makes no difference, but with the same `noise` you walk another "
        "way than everybody else.",
        ("Look at the sign before the noise.", NOISE_HINTS[1]),
    ),
    Mistake(
        "one row too early",
        _ancestral(row=1, next_row=1),
        "Both rows are one too early: row 0 is the clean data, so step t is row t and step t_next is row t_next.",
        ("What is alpha_bar[0]?", "Neither row needs a `- 1`."),
    ),
    Mistake(
        "t - 1 for t_next",
        lambda predict, schedule, x_t, t, t_next, noise: ancestral_step(predict, schedule, x_t, t, t - 1, noise),
        "You always go to t - 1: `t_next` is not used. With 50 strides of 20 you would end at t = 950, in noise.",
        ("Which argument is not used?", "Replace t - 1 by `t_next`."),
    ),
    Mistake(
        "asked at t_next",
        _whole_t,
        "The network is asked about t_next, but x_t has the noise of t: it would take noise for strokes.",
        ("How noisy is the picture that you hand over?", "Fill the steps with `t`."),
    ),
    Mistake(
        "one noise for all",
        _one_noise,
        "All pictures of the batch get the noise of the first one: they would become brothers.",
        ("What is the shape of `noise`?", "Use `noise` as it comes."),
    ),
    Mistake(
        "clamped to 0 to 1",
        _ancestral(clamp="0 to 1"),
        "You limit the guess to [0, 1]: pixels lie in [-1, 1] here, and black, which is -1, would become grey.",
        LIMIT_HINTS,
    ),
    Mistake(
        "one side only",
        _ancestral(clamp="below"),
        lambda r: (
            f"The guess is limited from below alone: `clamp(-1)` has no upper limit, and x0 reaches {_largest(r):.2f}."
        ),
        LIMIT_HINTS,
    ),
    Mistake(
        "one side only, above",
        _ancestral(clamp="above"),
        "The guess is limited from above alone: below -1 it is used as it comes.",
        LIMIT_HINTS,
    ),
    *(
        Mistake(
            f"{part} clamped{more}",
            _ancestral(clamp=f"{part}{more}" if more else part),
            f"You limit {words}, which is noisy and may go beyond 1: {cure}.",
            ("Which of all these is a clean picture?", LIMIT_HINTS[1]),
        )
        for part, words in (("x_t", "`x_t`"), ("mean", "the mean"))
        for more, cure in (("", "it is the guessed x0 that has to stay in [-1, 1]"), (", too", "limit x0 alone"))
    ),
    *(
        Mistake(
            name,
            _ancestral(ask="eps", clamp=clamp),
            f"You take `.eps`, the guessed noise{words}, where the formula has the guessed picture.",
            ("Which two guesses does a prediction hold?", "`predict(x_t, steps).x0`."),
        )
        for name, clamp, words in (("eps for x0", "x0", ""), ("eps for x0, not limited", "no", " and without a limit"))
    ),
    *(
        Mistake(
            name,
            _ancestral(mean=name),
            f"In the mean, {words}: the factors are signal rates, and those are roots.",
            ("Compare both factors of the mean with the formula, sign by sign.", STRIDE_HINTS[1]),
        )
        for name, words in (
            ("no first root", "alpha_bar at t_next stands before x0 without its root"),
            ("no second root", "1 - beta stands before x_t without its root"),
            ("no roots", "both roots are missing"),
        )
    ),
    Mistake(
        "no brackets",
        _ancestral(mean="no brackets"),
        "Only the second term of the mean is divided by 1 - alpha_bar_t: the whole sum should be, so put brackets "
        "around it.",
        ("What does Python divide in `a + b / c`?", "`(... * x0 + ... * x_t) / (1 - alpha_bar)`."),
    ),
    Mistake(
        "beta upside down",
        _ancestral(mean="upside down"),
        "beta is negative: t and t_next are exchanged in it, and the root of a negative variance is no number.",
        ("Which of the two alpha_bars is smaller?", STRIDE_HINTS[1]),
    ),
    Mistake(
        "one minus forgotten",
        _ancestral(mean="no one minus"),
        "Your beta is alpha_bar[t] / alpha_bar[t_next], the share of signal that the stride *keeps*: beta, the noise "
        "it adds, is 1 minus that.",
        ("How large is beta for a very short stride?", STRIDE_HINTS[1]),
    ),
    Mistake(
        "terms exchanged",
        _ancestral(mean="exchanged"),
        "x0 and x_t have changed places in the mean: near t_next = 0 nearly all weight should lie on the guess, x0.",
        ("At t_next = 0, which of the two terms is left?", "x0 goes with alpha_bar_next.sqrt() * beta."),
    ),
    Mistake(
        "DDIM's step",
        _ddim,
        "That is a step without chance, as lesson 05 takes it: it keeps the noise that is in x_t, where this one adds "
        "`noise`.",
        ("Which argument is not used?", "The mean is the one of the page, then + the standard deviation * noise."),
    ),
    Mistake(
        "own noise",
        _own_noise,
        "You draw noise of your own: `noise` is an argument, so that the same call draws the same picture.",
        ("Which argument is not used?", "No `randn` is needed here."),
    ),
]


def _walked(schedule, t, t_next, *shape, seed, predict=guess):
    draws = torch.Generator().manual_seed(seed)
    x_t, noise = 1.3 * torch.randn(shape, generator=draws), torch.randn(shape, generator=draws)
    return predict, schedule, x_t, t, t_next, noise


# ---- 4.5 what a checkpoint holds ----------------------------------------------------------------------------


def snapshot(net, average, optimizer, generator, step):
    return copy.deepcopy(
        {
            "net": net.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
        }
    )


def _resumed(snapshot, seed, before, after):
    """Train, take the snapshot, train on; then go back to the snapshot with new objects, and train on again."""

    def new():
        net = Probe(seed)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        return net, copy.deepcopy(net), optimizer, torch.Generator().manual_seed(seed)

    def go(net, average, optimizer, generator, first, steps):
        losses = []
        for step in range(first, first + steps):
            x0 = torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)

            def loss_fn(x0, generator):
                noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
                return (net(x0 + noise) - x0.sum(1, keepdim=True)).square().mean()

            losses.append(train_step(net, optimizer, loss_fn, x0, generator, 0.5 / (1 + step)))
            ema_update(average, net, step)
        return losses

    run = new()
    go(*run, 0, before)
    saved = snapshot(*run, before)
    complaint = _unfit(saved)
    if saved is None or complaint:
        return complaint
    go(*run, before, after)  # whoever shares memory with the run is carried on by this
    net, average, optimizer, generator = back = new()
    for part, name in ((net, "net"), (average, "average"), (optimizer, "optimizer")):
        try:
            part.load_state_dict(saved.get(name, part.state_dict()))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            return Complaint(
                "entry unfit",
                f'"{name}" does not hold what `{name}.state_dict()` gives: {cut(str(error)).rstrip(".")}.',
            )
    if "generator" in saved:
        generator.set_state(saved["generator"])
    losses = go(*back, saved.get("step", 0), after)
    return {"the losses after going back": losses, "the weights": _flat(net), "the average": _flat(average)}


STATES = {name: f"{name}.state_dict()" for name in ("net", "average", "optimizer")}
STATES["generator"] = "generator.get_state()"


def _unfit(saved):
    """What in a snapshot cannot be gone back to; None where everything may be tried."""
    if saved is None:
        return None
    if not isinstance(saved, dict):
        return Complaint("no dict", f"You return {kind(saved)}, where a dict with five entries was expected.")
    others = [str(name) for name in saved if name not in (*STATES, "step")]
    if others:
        says = f"The five entries are called {', '.join(STATES)} and step, and yours holds {', '.join(others)} as well"
        return Complaint("other names", f"{cut(says)}: whoever goes back looks for these names.")
    for name, call in STATES.items():
        part = saved.get(name, ...)
        if isinstance(part, nn.Module | torch.optim.Optimizer | torch.Generator):
            return Complaint("object itself", f'"{name}" holds the object itself, not its state: call `{call}`.')
        if callable(part):
            return Complaint("brackets missing", f'"{name}" holds a method, since its brackets are missing: `{call}`.')
        wanted = torch.Tensor if name == "generator" else dict
        if part is not ... and not isinstance(part, wanted):
            return Complaint("entry unfit", f'"{name}" should hold what `{call}` gives, and it holds {kind(part)}.')
        if name == "optimizer" and part is not ... and "param_groups" not in part:
            says = (
                f'"{name}" should hold what `{call}` gives: `optimizer.state` is only a part of it, without the groups.'
            )
            return Complaint("entry unfit", says)
    if not isinstance(saved.get("step", 0), int):
        return Complaint("step is no number", f'"step" should be a whole number, and it is {kind(saved["step"])}.')
    return None


def _with(**parts):
    """A right snapshot but for some entries, each made from the run."""

    def other(net, average, optimizer, generator, step):
        run = dict(net=net, average=average, optimizer=optimizer, generator=generator, step=step)
        return snapshot(**run) | {name: make(run) for name, make in parts.items()}

    return other


def _without(*names):
    def shorter(net, average, optimizer, generator, step):
        whole = snapshot(net, average, optimizer, generator, step)
        return {name: part for name, part in whole.items() if name not in names}

    return shorter


def _shared(net, average, optimizer, generator, step):
    states = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    return states | {"generator": generator.get_state(), "step": step}


def _half_copied(net, average, optimizer, generator, step):
    return _shared(net, average, optimizer, generator, step) | {"net": copy.deepcopy(net.state_dict())}


def _shallow(net, average, optimizer, generator, step):
    shared = _shared(net, average, optimizer, generator, step)
    nets = {name: {k: x.clone() for k, x in shared[name].items()} for name in ("net", "average")}
    return shared | nets


def _swapped(net, average, optimizer, generator, step):
    return snapshot(average, net, optimizer, generator, step)


def _next_step(net, average, optimizer, generator, step):
    return snapshot(net, average, optimizer, generator, step + 1)


def _off(report):
    ours, theirs = (x["the losses after going back"] for x in (report.expected, report.got))
    far = max(range(len(ours)), key=lambda i: abs(ours[i] - theirs[i]))
    return f"step {far + 1} after going back has the loss {theirs[far]:.3f}, where it was {ours[far]:.3f}"


SNAPSHOT_HINTS = (
    "What of a run changes from step to step? Go through the arguments: each of the five does.",
    "`state_dict()` for three of them, `get_state()` for the generator; then a deep copy of the whole dict.",
)


def _missing(name, why):
    return Mistake(
        f"no {name}",
        _without(name),
        why,
        ("Which of the five arguments is not in your dict?", f'Add an entry "{name}".'),
    )


SNAPSHOT_MISTAKES = [
    Mistake(
        "shared memory",
        _shared,
        lambda r: (
            "`state_dict()` does not copy: your snapshot shares its memory with the run, and while the training "
            f"went on, the snapshot changed with it: {_off(r)}."
        ),
        ("What does the snapshot hold after ten more steps?", "`copy.deepcopy` of the whole dict."),
    ),
    Mistake(
        "copied in part",
        _half_copied,
        lambda r: f"The network is copied, the average and the optimiser still share memory with the run: {_off(r)}.",
        ("Which of the parts are copies?", "`copy.deepcopy` of the whole dict."),
    ),
    Mistake(
        "optimiser shared",
        _shallow,
        lambda r: f"The networks are copied, the optimiser's averages still share memory with the run: {_off(r)}.",
        ("Which of the parts are copies?", "`copy.deepcopy` of the whole dict."),
    ),
    _missing("net", lambda r: f"The network itself is missing, so the run goes on with a random one: {_off(r)}."),
    _missing(
        "average",
        "The losses are right, but the average is missing: after going back it begins anew with random weights, and "
        "it is the average that draws.",
    ),
    _missing(
        "optimizer",
        lambda r: (
            "The optimiser is missing. AdamW keeps two averages for each weight, and without them its first "
            f"steps are blind: {_off(r)}."
        ),
    ),
    _missing(
        "generator",
        lambda r: f"The random generator is missing, so other noise is drawn than without the stop: {_off(r)}.",
    ),
    _missing(
        "step",
        lambda r: f"The step number is missing: the run goes on with the rate and the batches of step 0: {_off(r)}.",
    ),
    Mistake(
        "networks only",
        _without("optimizer", "generator", "step"),
        lambda r: f"Weights alone can draw, but not go on: optimiser, generator and step are missing, and {_off(r)}.",
        ("Which of the five arguments are not in your dict?", SNAPSHOT_HINTS[1]),
    ),
    Mistake(
        "networks swapped",
        _swapped,
        lambda r: f"The network and its average have changed places: {_off(r)}.",
        ("Which entry holds which state?", SNAPSHOT_HINTS[1]),
    ),
    Mistake(
        "one step late",
        _next_step,
        lambda r: f"The step is counted one too far: one batch is skipped, and {_off(r)}.",
        ("How many steps had been taken?", "Use `step` as it comes."),
    ),
    _complaint("no dict", lambda *run: tuple(run), SNAPSHOT_HINTS),
    _complaint(
        "other names",
        lambda *run: {f"{name} of the run": part for name, part in snapshot(*run).items()},
        ("Which names does the text give?", 'They are "net", "average", "optimizer", "generator" and "step".'),
    ),
    _complaint("object itself", _with(net=lambda run: run["net"]), SNAPSHOT_HINTS),
    _complaint("brackets missing", _with(net=lambda run: run["net"].state_dict), SNAPSHOT_HINTS),
    _complaint("entry unfit", _with(optimizer=lambda run: dict(run["optimizer"].state)), SNAPSHOT_HINTS),
    _complaint(
        "step is no number",
        _with(step=lambda run: str(run["step"])),
        ("What is counted by `step`?", "Use `step` as it comes."),
    ),
    Mistake(
        "net twice",
        _with(average=lambda run: copy.deepcopy(run["net"].state_dict())),
        'The losses are right, but "average" holds the state of `net`: what was averaged is lost.',
        ("Which entry holds which state?", SNAPSHOT_HINTS[1]),
    ),
    Mistake(
        "the global generator",
        _with(generator=lambda run: torch.get_rng_state()),
        lambda r: f"That is the state of torch's global generator; the run draws from `generator`: {_off(r)}.",
        ("Which generator draws the noise of this run?", "`generator.get_state()`."),
    ),
]

SHARES = [0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.75, 0.9, 0.99]

EXERCISES = catalogue(
    Exercise(
        number="4.1",
        name="learning_rate",
        reference=learning_rate,
        use=_curve,
        cases=[
            Case("the highest rate is 0.002, warm-up 0.05", SHARES, 0.002, 0.05),
            Case("the highest rate is 10, warm-up 0.5", SHARES, 10.0, 0.5),
            Case("a long warm-up, 0.8", SHARES, 0.1, 0.8),
            Case("no warm-up at all", SHARES, 1.0, 0.0),
            Case("a very short warm-up", [0.0, 0.0005, 0.001, 0.5], 1.0, 0.001),
            Case("a tiny rate", SHARES, 2e-6, 0.1),
        ],
        mistakes=RATE_MISTAKES,
        hints=RATE_HINTS,
        atol=1e-9,
        right="up from 0, at its highest when the warm-up ends, and down to 0; a run without a warm-up, too.",
    ),
    Exercise(
        number="4.2",
        name="train_step",
        reference=train_step,
        use=_learn,
        cases=[
            Case("gradients that need their limit", 1, 5.0, [0.0, 0.0, 0.6, 0.1, 0.05]),
            Case("small gradients", 2, 0.02, [0.3, 2.0, 0.7, 0.0]),
            Case("gradients of middle size", 3, 0.3, [0.1, 0.6, 0.2]),
        ],
        mistakes=STEP_MISTAKES,
        hints=STEP_HINTS,
        atol=2e-6,
        rtol=0.0,
        right="the rate set for all weights, one fresh gradient, limited, one move, and a plain number to report.",
    ),
    Exercise(
        number="4.3",
        name="ema_update",
        reference=ema_update,
        use=_averaged,
        cases=[
            Case("100 updates, decay 0.99", 1, 100, 0.99),
            Case("one update", 2, 1, 0.999),
            Case("five updates with a decay of 0", 3, 5, 0.0),
            Case("3 updates, decay 0.2", 4, 3, 0.2),
        ],
        mistakes=EMA_MISTAKES,
        hints=EMA_HINTS,
        rtol=0.0,
        right="the average moves, early on faster, the buffers are copied, and the network is left alone.",
    ),
    Exercise(
        number="4.4",
        name="ancestral_step",
        reference=ancestral_step,
        cases=[
            Case("pictures, a stride from 500 to 480", *_walked(schedules.cosine(), 500, 480, 4, 1, 8, 8, seed=1)),
            Case("neighbours, 300 to 299", *_walked(schedules.cosine(), 300, 299, 4, 1, 8, 8, seed=2)),
            Case("the last stride, 20 to 0", *_walked(schedules.cosine(), 20, 0, 3, 1, 8, 8, seed=3)),
            Case("the first stride, 1000 to 900", *_walked(schedules.linear_beta(), 1000, 900, 3, 1, 8, 8, seed=4)),
            Case("points in the plane, 700 to 200", *_walked(schedules.linear_beta(), 700, 200, 6, 2, seed=5)),
            Case("a stride to t = 1, from 30", *_walked(schedules.cosine(), 30, 1, 3, 1, 8, 8, seed=8)),
            Case("a batch of one", *_walked(schedules.cosine(), 600, 300, 1, 1, 8, 8, seed=6)),
            Case("another network", *_walked(schedules.cosine(), 600, 300, 2, 3, seed=7, predict=other_guess)),
        ],
        mistakes=ANCESTRAL_MISTAKES,
        hints=(
            "Write down eq. 7 with the two rows t and t_next before you change anything.",
            "Check one by one: beta; two roots in the mean; brackets around the whole sum; the root of sigma^2.",
        ),
        right="mean and noise for every stride, a guess between -1 and 1, and no noise in the finished picture.",
    ),
    Exercise(
        number="4.5",
        name="snapshot",
        reference=snapshot,
        use=_resumed,
        cases=[
            Case("5 steps, then 5 more", 1, 5, 5),
            Case("3 steps, then 6 more", 2, 3, 6),
        ],
        mistakes=SNAPSHOT_MISTAKES,
        hints=SNAPSHOT_HINTS,
        atol=1e-9,
        rtol=0.0,
        right="after going back, every loss is the same number as without a stop, and so are both networks.",
    ),
)
