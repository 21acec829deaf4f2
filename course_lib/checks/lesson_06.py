"""The exercises of lesson 06: two networks, a loss, two updates, coverage, a gradient penalty, a way between noises.

Equations: GAN (arXiv:1406.2661) eq. 1, in logits; WGAN-GP (arXiv:1704.00028) eq. 3; sum p log(K p); the great circle.
Shapes: pictures (B, 1, 28, 28); logits (B,), larger is more real; labels (N,); z (latent,).
Not here: how a verdict is reached (engine.py) and the lesson itself (solutions/06_gan.py).
"""

import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, leaky_relu, logsigmoid, softplus

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.checks.verdict import kind


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


def _draw(*shape, seed, dtype=torch.float32):
    """Draw numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- 6.1 the generator and 6.2 the discriminator --------------------------------------------------------------


def make_generator(latent, width):
    return nn.Sequential(
        nn.Linear(latent, 2 * width * 7 * 7),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def make_discriminator(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * 7 * 7, 1),
        nn.Flatten(0),
    )


def _filled(net, seed=0):
    """Give a network weights that follow from their shapes alone, so that the order of its parts does not matter."""
    with torch.no_grad():
        for weight in net.parameters():
            fan = max(weight[0].numel() if weight.ndim > 1 else 4, 1)
            weight.copy_(_draw(*weight.shape, seed=seed + weight.numel()) * (2 / fan) ** 0.5)
    return net


WEIGHTS = "the weights in its layers, without biases"


def _count(net):
    """How many weights a network has; those of a bias right before a batch norm change nothing and do not count."""
    return sum(weight.numel() for weight in net.parameters() if weight.ndim > 1)


def _answers(make, sizes, x):
    """Build a network and ask it: what it answers, how many weights there are, or a Complaint."""
    net = make(*sizes)
    if net is not None and not isinstance(net, nn.Module):
        is_list = isinstance(net, list | tuple)
        how = "put `nn.Sequential(*...)` around the list" if is_list else "return the network itself, not a result"
        return Complaint("no network", f"You return {kind(net)}, which is no network: {how}.")
    if net is None:
        return None
    if not all(part.training for part in net.modules()):
        says = "Your network is asleep: `eval()` makes a batch norm use what it remembers, and here training begins."
        return Complaint("asleep", says)
    with torch.no_grad():
        net(x)  # a lazy layer learns its size from its first pictures
        answer = _filled(net)(x)
    if x.ndim == 2 and isinstance(answer, torch.Tensor) and answer.ndim == 4 and answer.shape[1:] != (1, 28, 28):
        shape = tuple(answer.shape[1:])
        says = f"Your pictures have the shape {shape} (channels, height, width), and digits have (1, 28, 28)"
        return Complaint("size", says + (": one channel." if shape[1:] == (28, 28) else _why_side(shape[1:])))
    return {WEIGHTS: _count(net), "the answers": answer}


def _why_side(side):
    """What the layers did to 7 x 7, as far as the result's size tells."""
    n, strides = side[0], {(1, 0): 13, (2, 0): 34, (1, 1): 9, (2, 2): 22, (3, 1): 64}
    known = next((layer for layer, end in strides.items() if end == n), None)
    if known:
        made = f"(n - 1) * {known[0]} - 2 * {known[1]} + 4"
        return f". With stride {known[0]} and padding {known[1]} a side of n becomes {made}: 7 ends at {n}."
    if n == 14:
        return ": one doubling is missing."
    return ". Each transposed convolution should double the side: 7, 14, 28."


def _ask_generator(make, latent, width, z):
    return _answers(make, (latent, width), z)


def _ask_discriminator(make, width, x):
    return _answers(make, (width,), x)


def _without(make, *kinds, put=None):
    """A maker whose network has the layers of some kinds taken out, or replaced by what put(layer) makes."""

    def made(*sizes):
        layers = []
        for layer in make(*sizes):
            if not isinstance(layer, kinds):
                layers.append(layer)
            elif put is not None:
                layers.append(put(layer))
        return nn.Sequential(*layers)

    return made


def _last(make, *layers, cut=1):
    """A maker whose network ends in other layers."""
    return lambda *sizes: nn.Sequential(*list(make(*sizes))[:-cut], *layers)


def _without_layer(make, index):
    """A maker whose network lacks one layer, counted from 0."""
    return lambda *sizes: nn.Sequential(*(layer for k, layer in enumerate(make(*sizes)) if k != index))


def _norm_last(latent, width):
    layers = list(make_generator(latent, width))
    return nn.Sequential(*layers[:8], nn.BatchNorm2d(1), nn.Tanh())


def _relu_first(latent, width):
    """ReLU before the batch norm."""
    layers = list(make_generator(latent, width))
    return nn.Sequential(*layers[:2], layers[3], layers[2], layers[4], layers[6], layers[5], *layers[7:])


def _strided(stride, padding):
    def put(layer):
        return nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 4, stride=stride, padding=padding)

    return _without(make_generator, nn.ConvTranspose2d, put=put)


def _same_width(latent, width):
    return nn.Sequential(
        nn.Linear(latent, width * 49), nn.Unflatten(1, (width, 7, 7)), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def _growing(latent, width):
    return nn.Sequential(
        nn.Linear(latent, width * 49), nn.Unflatten(1, (width, 7, 7)), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def _never_unflattened(latent, width):
    layers = list(make_generator(latent, width))
    return nn.Sequential(layers[0], *layers[2:])


def _reach(report):
    x = report.got["the answers"]
    return f"{float(x.min()):.2f} to {float(x.max()):.2f}"


AWAKE = ("Who calls `eval()`, the one who makes a network or the one who measures it?", "Return it as torch made it.")
MAKER_HINTS = (
    "Write the sizes beside the layers: (B, latent), then (B, 2 * width, 7, 7), (B, width, 14, 14), (B, 1, 28, 28).",
    "Linear, Unflatten; BatchNorm2d, ReLU, ConvTranspose2d; the same three once more; Tanh: nine layers.",
)
MAKER_MISTAKES = [
    Mistake(
        "no tanh",
        _last(make_generator),
        lambda r: (
            f"Your drawings have values from {_reach(r)}: nothing keeps them in [-1, 1]. The discriminator would know "
            "a drawing by one pixel that is too bright, and teach nothing else."
        ),
        ("Which function maps every number into (-1, 1)?", MAKER_HINTS[1]),
    ),
    Mistake(
        "sigmoid for tanh",
        _last(make_generator, nn.Sigmoid()),
        lambda r: (
            f"Your drawings have values from {_reach(r)}: a sigmoid ends at 0, and the black of our digits is -1. No "
            "drawing could ever have a black ground."
        ),
        ("Which values do the digits have?", "`nn.Tanh()` maps into (-1, 1)."),
    ),
    Mistake(
        "no batch norm",
        _without(make_generator, nn.BatchNorm2d),
        "The batch norms are missing. One of them stands before each ReLU: it gives every channel mean 0 and "
        "deviation 1 over the batch, whatever the weights do.",
        ("How many channels has what goes into each ReLU?", MAKER_HINTS[1]),
    ),
    Mistake(
        "one batch norm",
        _without_layer(make_generator, 5),
        "Only the first of the two ReLUs has a batch norm before it.",
        ("Which layers belong to each doubling?", MAKER_HINTS[1]),
    ),
    Mistake(
        "batch norm at the end",
        _norm_last,
        "There is a batch norm on the picture itself: it would give each batch of drawings the same mean, and real "
        "batches do not have that. Nothing stands between the last layer with weights and tanh.",
        ("How many batch norms are in the list?", MAKER_HINTS[1]),
    ),
    Mistake(
        "relu before batch norm",
        _relu_first,
        "You have ReLU before the batch norm; the list says the norm first. (Both can be trained, but they are two "
        "networks.)",
        ("Which comes first in the list?", MAKER_HINTS[1]),
    ),
    Mistake(
        "no relu",
        _without(make_generator, nn.ReLU),
        "There is no ReLU between the layers: without one, all of it is nearly a single linear layer.",
        ("What stands between two layers with weights in every network so far?", MAKER_HINTS[1]),
    ),
    Mistake(
        "first relu missing",
        _without_layer(make_generator, 3),
        "The first ReLU is missing, the one at 7 x 7: a batch norm alone does not bend anything.",
        ("Which layers belong to each doubling?", MAKER_HINTS[1]),
    ),
    Mistake(
        "second relu missing",
        _without_layer(make_generator, 6),
        "The second ReLU is missing, the one at 14 x 14: a batch norm alone does not bend anything.",
        ("Which layers belong to each doubling?", MAKER_HINTS[1]),
    ),
    Mistake(
        "leaky",
        _without(make_generator, nn.ReLU, put=lambda layer: nn.LeakyReLU(0.2)),
        "You use LeakyReLU here; the generator has a plain ReLU, and the leaky one belongs to the discriminator.",
        ("Which of the two networks has the leaky kind?", MAKER_HINTS[1]),
    ),
    Mistake(
        "width twice",
        _same_width,
        lambda r: (
            f"The generator begins with `width` channels in place of twice as many: {r.got[WEIGHTS]:,} weights "
            f"in its layers, where {r.expected[WEIGHTS]:,} were expected."
        ),
        ("How many channels has the picture of 7 x 7?", MAKER_HINTS[0]),
    ),
    Mistake(
        "channels grow",
        _growing,
        "The channels grow where the picture grows: `width` at 7 x 7 and twice as many at 14 x 14. It is the other "
        "way round: many channels of few pixels first.",
        ("How many channels has the picture of 7 x 7?", MAKER_HINTS[0]),
    ),
    Mistake(
        "no unflatten",
        _never_unflattened,
        "The batch norm gets a row of numbers, and wants channels of pixels: nothing turns the linear layer's (B, "
        "2 * width * 49) into (B, 2 * width, 7, 7).",
        ("Which layer turns a row into a picture?", "nn.Unflatten(1, (2 * width, 7, 7)) stands after the linear one."),
    ),
    _complaint(
        "size",
        _strided(1, 0),
        (
            "A transposed convolution makes a side of (n - 1) * stride - 2 * padding + 4. Which two make that 2n?",
            "(n - 1) * 2 + 4 is 2n + 2: how much must the padding take away on each of two edges?",
        ),
    ),
    _complaint("no network", lambda latent, width: list(make_generator(latent, width)), MAKER_HINTS),
    _complaint("asleep", lambda latent, width: make_generator(latent, width).eval(), AWAKE),
]


def _judge_layers(width, *, slope=0.2, stride=2, norm=False, widths=None, end="flat"):
    one, two = widths or (width, 2 * width)
    rest = [nn.BatchNorm2d(two)] if norm else []
    side = 7 if stride == 2 else 26
    head = {"flat": [nn.Flatten(0)], "column": [], "squeezed": [_Squeeze()], "sigmoid": [nn.Flatten(0), nn.Sigmoid()]}
    return nn.Sequential(
        nn.Conv2d(1, one, 4, stride, 1), nn.LeakyReLU(slope), nn.Conv2d(one, two, 4, stride, 1), *rest,
        nn.LeakyReLU(slope), nn.Flatten(), nn.Linear(two * side**2, 1), *head[end],
    )  # fmt: skip


class _Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze()


def _judges(**change):
    return lambda width: _judge_layers(width, **change)


JUDGE_HINTS = (
    "Write the sizes beside the layers: (B, 1, 28, 28), (B, width, 14, 14), (B, 2 * width, 7, 7), one row of numbers.",
    "Conv2d, LeakyReLU(0.2), twice; Flatten; Linear to 1; Flatten(0), which turns (B, 1) into (B,): seven layers.",
)
JUDGE_MISTAKES = [
    Mistake(
        "sigmoid",
        _judges(end="sigmoid"),
        "Your discriminator ends in a sigmoid: the losses below take logits, and would apply it a second time. A "
        "probability of 0.5 would be read as 0.62, and no answer could ever be below 0.5.",
        ("Which numbers can a logit be?", "Leave out the sigmoid: the loss has it."),
    ),
    Mistake(
        "a column",
        _judges(end="column"),
        lambda r: (
            f"You return logits of shape {tuple(r.got['the answers'].shape)}. One axis too many: a column (B, 1) and "
            "a row (B,) make a table of (B, B) when they are subtracted, and no error."
        ),
        ("Which layer takes an axis of one away?", "`nn.Flatten(0)` makes one row of all there is."),
    ),
    Mistake(
        "squeezed",
        _judges(end="squeezed"),
        "Only a single picture goes wrong: `squeeze()` takes away *all* axes of one, the batch's as well.",
        ("What is the shape of the result for one picture?", "`nn.Flatten(0)`, or squeeze axis 1 alone."),
    ),
    Mistake(
        "plain relu",
        _without(make_discriminator, nn.LeakyReLU, put=lambda layer: nn.ReLU()),
        "You use a plain ReLU: where it answers 0, no gradient comes back. The generator learns through this network, "
        "and would hear nothing there. LeakyReLU lets a fifth through.",
        ("What is the slope of ReLU left of 0?", "`nn.LeakyReLU(0.2)`"),
    ),
    Mistake(
        "torch's slope",
        _judges(slope=0.01),
        "LeakyReLU's slope left of 0 is 0.01 unless you say otherwise; here it is 0.2.",
        ("What does `nn.LeakyReLU` take?", "`nn.LeakyReLU(0.2)`"),
    ),
    Mistake(
        "no stride",
        _judges(stride=1),
        lambda r: (
            "Nothing halves the picture: without stride 2 the last layer reads 26 x 26 pixels, and your network has "
            f"{r.got[WEIGHTS]:,} weights in its layers, where {r.expected[WEIGHTS]:,} were expected."
        ),
        ("Which sizes should the picture have on its way?", JUDGE_HINTS[0]),
    ),
    Mistake(
        "batch norm",
        _judges(norm=True),
        "There is a batch norm in your discriminator. Then its opinion of a picture depends on the others in the "
        "batch, and the gradient penalty of this lesson, which asks about one picture at a time, loses its meaning.",
        ("Which layers does the list have?", JUDGE_HINTS[1]),
    ),
    Mistake(
        "falling width",
        lambda width: _judge_layers(width, widths=(2 * width, width)),
        "The channels fall from 2 * width to width; they should double where the picture's side is halved.",
        ("How many channels has the picture of 14 x 14?", JUDGE_HINTS[0]),
    ),
    Mistake(
        "same width",
        lambda width: _judge_layers(width, widths=(width, width)),
        lambda r: (
            f"Both convolutions have `width` channels: {r.got[WEIGHTS]:,} weights in your layers, where "
            f"{r.expected[WEIGHTS]:,} were expected. The second one has twice as many."
        ),
        ("How many channels has the picture of 7 x 7?", JUDGE_HINTS[0]),
    ),
    Mistake(
        "nothing between",
        _without(make_discriminator, nn.LeakyReLU),
        "There is nothing between the layers: two convolutions and a linear layer without a bend are one linear "
        "layer, and draw a straight line through the space of pictures.",
        ("What stands between two layers with weights in every network so far?", JUDGE_HINTS[1]),
    ),
    Mistake(
        "first leaky relu missing",
        _without_layer(make_discriminator, 1),
        "The first LeakyReLU is missing: your two convolutions in a row are a single one, only larger.",
        ("Which layer follows each convolution?", JUDGE_HINTS[1]),
    ),
    Mistake(
        "second leaky relu missing",
        _without_layer(make_discriminator, 3),
        "The second LeakyReLU is missing, between the second convolution and the linear layer.",
        ("Which layer follows each convolution?", JUDGE_HINTS[1]),
    ),
    Mistake(
        "slope of 2",
        _judges(slope=2.0),
        "LeakyReLU's slope left of 0 is 2 in your network: negative numbers are doubled, and should shrink to a fifth.",
        ("What is a fifth as a decimal number?", "`nn.LeakyReLU(0.2)`"),
    ),
    _complaint("no network", lambda width: list(make_discriminator(width)), JUDGE_HINTS),
    _complaint("asleep", lambda width: make_discriminator(width).eval(), AWAKE),
]

# ---- 6.3 the generator's loss ---------------------------------------------------------------------------------


def generator_loss(fake_logits):
    return softplus(-fake_logits).mean()


def _with_gradient(loss_fn, fake_logits):
    """A loss and where it pushes each logit."""
    logits = fake_logits.requires_grad_()
    loss = loss_fn(logits)
    if loss is None:
        return None
    if not isinstance(loss, torch.Tensor):
        return Complaint("a number", f"You return {kind(loss)}: a loss must stay a tensor, or nothing can be learned.")
    if loss.ndim:
        return Complaint("not one number", _not_one(loss))
    gradient = torch.autograd.grad(loss, logits)[0] if loss.requires_grad else torch.zeros_like(logits)
    return {"the loss": loss.detach().double(), "its gradient": gradient}  # one number, of either precision


def _not_one(loss):
    return f"Your loss has the shape {tuple(loss.shape)}, and a loss is one number: the mean over the drawings."


def _slope(report):
    at = int(report.case.args[0].argmin())
    return float(report.expected["its gradient"][at]), float(report.got["its gradient"][at])


def _loss(report):
    return f"{float(report.got['the loss']):.3g}, where {float(report.expected['the loss']):.3g} was expected"


LOSS_HINTS = (
    "The generator wants -log D, with D = sigmoid(logit). Which of softplus(l) and softplus(-l) is that?",
    "-log sigmoid(l) = log(1 + exp(-l)) = softplus(-l); then the mean.",
)
LOSS_MISTAKES = [
    Mistake(
        "minimax",
        lambda fake_logits: -softplus(fake_logits).mean(),
        lambda r: (
            "That is the minimax loss, log(1 - D): where a drawing is seen through, at a logit of "
            f"{float(r.case.args[0].min()):g}, its slope is {_slope(r)[1]:.1g}, and {_slope(r)[0]:.2g} is wanted. It "
            "is the loss that vanished in the picture above."
        ),
        ("Where is the slope of log(1 - D) large, and where is that of log D?", LOSS_HINTS[1]),
    ),
    Mistake(
        "labels swapped",
        lambda fake_logits: softplus(fake_logits).mean(),
        "Your loss falls when the discriminator calls drawings *fake*: that is the discriminator's own part. The "
        "generator would learn to be found out.",
        ("For which logit should the loss be small, +5 or -5?", LOSS_HINTS[1]),
    ),
    Mistake(
        "sigmoid twice",
        lambda fake_logits: softplus(-torch.sigmoid(fake_logits)).mean(),
        lambda r: (
            "There is one sigmoid too many: softplus takes the logits themselves. Yours can never leave the range from "
            f"0.31 to 0.69, and at a logit of {float(r.case.args[0].min()):g} its slope is {_slope(r)[1]:.1g}."
        ),
        ("What is inside of softplus(-l) = -log sigmoid(l) already?", LOSS_HINTS[1]),
    ),
    Mistake(
        "sum",
        lambda fake_logits: softplus(-fake_logits).sum(),
        lambda r: (
            f"You take the sum: {_loss(r)}. With twice the drawings in a batch the gradient would be twice as long."
        ),
        ("Should the loss change when the same drawings come twice?", "End with `.mean()`."),
    ),
    Mistake(
        "infinite",
        lambda fake_logits: -torch.sigmoid(fake_logits).log().mean(),
        "At a logit of -200 your loss is infinite: in 32 bits sigmoid(-200) is 0 and exp(200) is infinite, and no "
        "logarithm brings back what is lost. One torch function does it all at once, safely.",
        ("What is -log sigmoid(l), written with exp alone?", "`softplus(-l)`, which torch computes safely."),
    ),
    Mistake(
        "logarithm cut off",
        lambda fake_logits: binary_cross_entropy(torch.sigmoid(fake_logits), torch.ones_like(fake_logits)),
        lambda r: (
            f"`binary_cross_entropy` on a sigmoid cuts each logarithm at -100: {_loss(r)}, and a drawing that is seen "
            "through for sure sends no gradient. Its sister with `_with_logits` takes the logits themselves."
        ),
        ("What is -log sigmoid(-200)?", "`softplus(-l)`, or `binary_cross_entropy_with_logits`."),
    ),
    Mistake(
        "a small number inside",
        lambda fake_logits: -(torch.sigmoid(fake_logits) + 1e-8).log().mean(),
        "The small number inside the logarithm hides infinity, and the gradient with it: at a logit of -200 your slope "
        "is 0, exactly where the generator needs one.",
        ("What is log sigmoid(l), written with exp alone?", "`softplus(-l)` needs no such number."),
    ),
    Mistake(
        "sign",
        lambda fake_logits: logsigmoid(fake_logits).mean(),
        "The sign is missing: this grows when drawings are believed, and training makes a loss small.",
        ("Should the loss be small or large at a logit of +5?", LOSS_HINTS[1]),
    ),
    Mistake(
        "no logarithm",
        lambda fake_logits: -fake_logits.mean(),
        "You return minus the mean logit: that is the Wasserstein loss, whose slope never ends, and which needs "
        "another discriminator. Here the logarithm keeps believed drawings from pulling on.",
        ("What should the slope be at a logit of +200?", LOSS_HINTS[1]),
    ),
    Mistake(
        "probability",
        lambda fake_logits: -torch.sigmoid(fake_logits).mean(),
        "You return minus the mean probability, without its logarithm: its slope vanishes for a drawing that is seen "
        "through, just like minimax.",
        ("What does `log` do near 0?", LOSS_HINTS[1]),
    ),
    _complaint(
        "not one number",
        lambda fake_logits: softplus(-fake_logits),
        ("What does `backward` want?", "End with `.mean()`."),
    ),
    _complaint(
        "a number",
        lambda fake_logits: softplus(-fake_logits).mean().item(),
        ("Who calls `item()`, the loss or the one who reports it?", "Return the tensor."),
    ),
    Mistake(
        "detached",
        lambda fake_logits: softplus(-fake_logits.detach()).mean(),
        "The number is right, and no gradient comes back: `detach` or `no_grad` cut it off from the generator.",
        ("Who learns from this loss?", "Neither `detach` nor `no_grad` here."),
    ),
]

# ---- 6.4 the two updates --------------------------------------------------------------------------------------


def discriminator_loss(real_logits, fake_logits):
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def gan_step(generator, discriminator, g_optimizer, d_optimizer, real, z):
    fake = generator(z)
    d_loss = discriminator_loss(discriminator(real), discriminator(fake.detach()))
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    g_loss = generator_loss(discriminator(fake))
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    return d_loss.item(), g_loss.item()


class Maker(nn.Module):
    """A small generator of points that notes when a gradient comes back to what it drew."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(2, 3, dtype=torch.float64), []

    def forward(self, z):
        x = self.layer(z).tanh()
        if x.requires_grad:
            x.register_hook(lambda gradient: self.calls.append(CALLS[0]))
        return x


class Judge(nn.Module):
    """A small discriminator with a batch norm, so that it matters who stands in a batch together."""

    def __init__(self):
        super().__init__()
        self.read, self.norm = nn.Linear(3, 5, dtype=torch.float64), nn.BatchNorm1d(5, dtype=torch.float64)
        self.write = nn.Linear(5, 1, dtype=torch.float64)

    def forward(self, x):
        return self.write(leaky_relu(self.norm(self.read(x).tanh()), 0.2)).flatten()


class Noted(torch.optim.SGD):
    """Gradient descent that notes when it is asked for a step."""

    def noting(self, name, calls):
        self.name, self.calls = name, calls
        return self

    def step(self, closure=None):
        self.calls.append(self.name)
        return super().step(closure)


CALLS = ("gradient through the generator", "step of the generator", "step of the discriminator")


def _flat(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def _played(gan_step, seed, steps, batch):
    """Let gan_step play some rounds, and report all that moved and all that was called."""
    maker, judge = _filled(Maker(), seed), _filled(Judge(), seed + 1)
    calls = maker.calls
    g_optimizer = Noted(maker.parameters(), lr=0.3, momentum=0.5).noting(CALLS[1], calls)
    d_optimizer = Noted(judge.parameters(), lr=0.2, momentum=0.5).noting(CALLS[2], calls)
    lost, rows = {}, {"the generator": [], "the discriminator": []}
    for step in range(steps):
        real = _draw(batch, 3, seed=100 + 7 * seed + step, dtype=torch.float64) + 1
        z = _draw(batch, 2, seed=500 + 7 * seed + step, dtype=torch.float64)
        try:
            losses = gan_step(maker, judge, g_optimizer, d_optimizer, real, z)
        except RuntimeError as error:
            if "second time" in str(error) and CALLS[0] not in calls:  # yet nothing went back to the drawings
                return Complaint("logits kept", KEPT)
            raise
        if losses is None:
            return None
        complaint = Complaint("steps exchanged", EXCHANGED) if calls[:1] == [CALLS[1]] else _not_two_numbers(losses)
        if complaint:
            return complaint
        for whose, loss in zip(("discriminator", "generator"), losses, strict=True):
            lost[f"the {whose}'s loss in round {step + 1}"] = loss
        rows["the generator"].append(_flat(maker))
        rows["the discriminator"].append(_flat(judge))
    counts = {call: calls.count(call) for call in CALLS}
    return lost | {name: torch.stack(row) for name, row in rows.items()} | counts


KEPT = (
    "In the generator's turn you use the logits of the discriminator's turn again: they were made from detached "
    "drawings, so no gradient leads to the generator, and `backward` has used them up. Ask the discriminator anew."
)


EXCHANGED = (
    "`g_optimizer.step()` comes before the generator has any gradient: are the two `step()` calls exchanged? Each "
    "network would move on a gradient that is not meant for it."
)


def _not_two_numbers(losses):
    """A Complaint unless a round returns two plain numbers."""
    if any(isinstance(x, torch.Tensor) for x in (losses if isinstance(losses, tuple | list) else [losses])):
        says = "You return tensors, which keep whole graphs in memory: `return d_loss.item(), g_loss.item()`."
        return Complaint("no plain numbers", says)
    if not isinstance(losses, tuple | list) or len(losses) != 2:
        return Complaint("not two losses", f"You return {kind(losses)}: `return d_loss.item(), g_loss.item()`.")
    return None


def _steps(
    *, detach=True, zero_d=True, zero_g="before", swap=False, g_side="fake", first="d", second="g", order="",
    report="item",
):  # fmt: skip
    """A round of the game with one part changed, to be recognised."""

    def step(generator, discriminator, g_optimizer, d_optimizer, real, z):
        optimizers = {"g": [g_optimizer], "d": [d_optimizer], "both": [g_optimizer, d_optimizer], "none": []}
        if zero_g == "early":
            g_optimizer.zero_grad()
        fake = generator(z)
        judged = fake.detach() if detach else fake
        if order == "one batch":
            real_logits, fake_logits = discriminator(torch.cat([real, judged])).chunk(2)
        else:
            real_logits, fake_logits = discriminator(real), discriminator(judged)
        if swap:
            real_logits, fake_logits = fake_logits, real_logits
        d_loss = discriminator_loss(real_logits, fake_logits)
        if zero_d:
            d_optimizer.zero_grad()
        if order != "no backward":
            d_loss.backward(retain_graph=not detach)
        for optimizer in optimizers[first]:
            optimizer.step()
        if g_side == "fresh z":
            fake = generator(torch.randn_like(z))
        logits = discriminator(fake.detach() if g_side == "detached" else fake)
        g_loss = {"minimax": -softplus(logits).mean(), "fooled": softplus(logits).mean()}.get(
            g_side, generator_loss(logits)
        )
        if zero_g == "before":
            g_optimizer.zero_grad()
        g_loss.backward()
        for optimizer in optimizers[second]:
            optimizer.step()
        d_number, g_number = d_loss.item(), g_loss.item()
        return {
            "item": (d_number, g_number), "turned": (g_number, d_number), "tensor": (d_loss, g_loss), "one": g_number,
        }[report]  # fmt: skip

    return step


def _at_once(clean):
    """Both losses first, then both updates; `clean` says whether D forgets what the generator's loss left in it."""

    def step(generator, discriminator, g_optimizer, d_optimizer, real, z):
        fake = generator(z)
        d_loss = discriminator_loss(discriminator(real), discriminator(fake.detach()))
        g_loss = generator_loss(discriminator(fake))
        g_optimizer.zero_grad()
        if not clean:
            d_optimizer.zero_grad()
        g_loss.backward()
        if clean:
            d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.step()
        return d_loss.item(), g_loss.item()

    return step


def _old_logits(generator, discriminator, g_optimizer, d_optimizer, real, z):
    fake_logits = discriminator(generator(z))
    d_loss = discriminator_loss(discriminator(real), fake_logits)
    d_optimizer.zero_grad()
    d_loss.backward(retain_graph=True)
    d_optimizer.step()
    generator_loss(fake_logits).backward()


def _logits_kept(generator, discriminator, g_optimizer, d_optimizer, real, z):
    fake_logits = discriminator(generator(z).detach())
    d_loss = discriminator_loss(discriminator(real), fake_logits)
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    generator_loss(fake_logits).backward()


def _graph_gone(generator, discriminator, g_optimizer, d_optimizer, real, z):
    fake = generator(z)
    d_loss = discriminator_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    generator_loss(discriminator(fake)).backward()


def _astray(report):
    """How far the generator is from where it should be after the last round, against how far it should have come."""
    ours, theirs = report.expected["the generator"], report.got["the generator"]
    return f"{float((ours[-1] - theirs[-1]).norm() / (ours[-1] - ours[0]).norm()):.1f}"


STEP_HINTS = (
    "Draw once. The discriminator's turn: loss on real and on detached drawings, zero_grad, backward, step. Then the "
    "generator's turn, in the same three calls.",
    "In the generator's turn, ask the discriminator again about `fake`, not detached, and step with `g_optimizer`.",
)
STEP_MISTAKES = [
    Mistake(
        "the generator follows both",
        _steps(detach=False, zero_g="early"),
        lambda r: (
            "The `detach` is missing: the discriminator's loss sends its gradient back into the generator, and yours "
            f"follows both losses, which pull in opposite ways. After {r.case.args[1]} rounds it is {_astray(r)} times "
            "as far off as it should have travelled."
        ),
        ("Who should learn from the discriminator's loss?", "`discriminator(fake.detach())` in the first turn."),
    ),
    Mistake(
        "detach missing",
        _steps(detach=False),
        "The numbers come out right, because you clear the generator's gradient before its own turn. But in the "
        "discriminator's turn a gradient runs all the way back through the generator, for nothing: `fake.detach()`.",
        ("Who should learn from the discriminator's loss?", "`discriminator(fake.detach())` in the first turn."),
    ),
    Mistake(
        "graph gone",
        _graph_gone,
        "The first `backward` went through the generator and threw its graph away, so the second one stops: the "
        "`detach` is missing. (`retain_graph=True` would silence the message, and do the work twice.)",
        ("How far back should the first `backward` go?", "`discriminator(fake.detach())` in the first turn."),
    ),
    Mistake(
        "logits of before",
        _old_logits,
        "In the generator's turn you use the logits of before: the discriminator has changed since then, and torch "
        "cannot go back through weights that are gone. Ask it again.",
        ("Which discriminator should the generator face, the old one or the new one?", STEP_HINTS[1]),
    ),
    _complaint(
        "logits kept",
        _logits_kept,
        ("Which discriminator should the generator face, the old one or the new one?", STEP_HINTS[1]),
    ),
    Mistake(
        "the generator never moves",
        _steps(g_side="detached"),
        "The generator never moves, for no gradient reaches it in its own turn: is `g_loss.backward()` missing or "
        "undone by a `zero_grad()` behind it, or are the drawings detached in this turn, too?",
        (
            "Which of the two turns needs a gradient in the generator?",
            "Detach in the first turn, not in the second; then `zero_grad`, `backward`, `step`, in this order.",
        ),
    ),
    Mistake(
        "the discriminator never moves",
        _steps(order="no backward"),
        "The discriminator never moves, for it has no gradient when it steps: is `d_loss.backward()` missing, or does "
        "`d_optimizer.zero_grad()` stand behind it and undo it?",
        ("Which three calls make a turn, and in which order?", "`zero_grad`, `backward`, `step`."),
    ),
    Mistake(
        "no step of the discriminator",
        _steps(first="none"),
        "The discriminator's gradient is computed and nobody follows it: `d_optimizer.step()` is missing.",
        ("Which call moves the discriminator?", STEP_HINTS[0]),
    ),
    _complaint(
        "steps exchanged",
        _steps(first="g", second="d"),
        ("Whose weights does each optimiser hold?", "`d_optimizer.step()` ends the first turn."),
    ),
    Mistake(
        "wrong optimiser",
        _steps(second="d"),
        "In the generator's turn you call `d_optimizer.step()`: the discriminator takes a second step, which makes it "
        "believe the drawings, and the generator never moves.",
        ("Whose weights does each optimiser hold?", "`g_optimizer.step()` ends the second turn."),
    ),
    Mistake(
        "both optimisers",
        _steps(second="both"),
        "In the generator's turn both optimisers step: the discriminator learns to believe the drawings, for the "
        "generator's loss sends a gradient into its weights as well. Only one network moves in a turn.",
        ("Whose turn is it?", "`g_optimizer.step()` alone ends the second turn."),
    ),
    Mistake(
        "no step of the generator",
        _steps(second="none"),
        "The generator's gradient is computed and nobody follows it: `g_optimizer.step()` is missing.",
        ("Which call moves the generator?", STEP_HINTS[1]),
    ),
    Mistake(
        "labels swapped",
        _steps(swap=True),
        "The two logits are swapped: your discriminator learns to call real pictures fake. The generator then chases "
        "what no picture looks like.",
        ("In which order does `discriminator_loss` take them?", "discriminator_loss(real_logits, fake_logits)"),
    ),
    Mistake(
        "the discriminator's gradients add up",
        _steps(zero_d=False),
        "The discriminator's old gradients are never cleared, and the generator's loss leaves some in it, too: its "
        "steps follow a sum of its own loss and its opponent's.",
        ("What else went backwards through the discriminator since its last step?", "`d_optimizer.zero_grad()`"),
    ),
    Mistake(
        "the generator's gradients add up",
        _steps(zero_g="never"),
        "The generator's old gradients are never cleared: each step follows the sum of all rounds so far.",
        ("What does `backward` do with the gradients that are there?", "`g_optimizer.zero_grad()`"),
    ),
    Mistake(
        "one batch",
        _steps(order="one batch"),
        "Real pictures and drawings go through the discriminator as one batch. Where it has a batch norm, they share "
        "their mean and deviation then: each half is judged by the other, and in its turn the generator meets a "
        "network that never saw drawings alone.",
        ("Which pictures share a batch norm's mean?", "Ask twice: `discriminator(real)`, `discriminator(fake...)`."),
    ),
    Mistake(
        "old opponent",
        _at_once(clean=True),
        "Your generator answers to the discriminator of *before* its move: it moves first, or both losses are "
        "computed before anybody has moved. Section 5 compares the two ways of moving.",
        ("Which discriminator should the generator face, the old one or the new one?", STEP_HINTS[1]),
    ),
    Mistake(
        "both at once, gradients mixed",
        _at_once(clean=False),
        "Both losses go backwards before anybody moves, and the generator's leaves its gradient in the discriminator "
        "as well: that then follows a sum of its own loss and its opponent's.",
        ("Which gradients does `d_optimizer.step()` find?", STEP_HINTS[0]),
    ),
    Mistake(
        "minimax",
        _steps(g_side="minimax"),
        "The generator follows the minimax loss, which vanishes against a good discriminator: use `generator_loss`, "
        "from exercise 6.3.",
        ("Which loss did you write in exercise 6.3?", "`generator_loss(discriminator(fake))`"),
    ),
    Mistake(
        "helps its opponent",
        _steps(g_side="fooled"),
        "In its turn the generator makes its drawings look *more* fake: it follows the discriminator's half of the "
        "loss.",
        ("Which loss did you write in exercise 6.3?", "`generator_loss(discriminator(fake))`"),
    ),
    Mistake(
        "fresh z",
        _steps(g_side="fresh z"),
        "Each turn draws from its own noise. That is often done and no fault, but here both turns use the `z` that "
        "comes in, so that a round can be repeated.",
        ("Which noise does the exercise give you?", "Draw once: `fake = generator(z)`."),
    ),
    Mistake(
        "losses turned",
        _steps(report="turned"),
        "Only the order is wrong: the discriminator's loss comes first.",
        ("What should be returned?", "`return d_loss.item(), g_loss.item()`"),
    ),
    _complaint("no plain numbers", _steps(report="tensor"), ("What does `item()` give?", "Take `item()` of both.")),
    _complaint(
        "not two losses",
        _steps(report="one"),
        ("How many losses does a round have?", "`return d_loss.item(), g_loss.item()`"),
    ),
]

# ---- 6.5 coverage ---------------------------------------------------------------------------------------------


def coverage(labels, classes):
    share = torch.bincount(labels, minlength=classes) / len(labels)
    seen = share[share > 0]
    return len(seen), (seen * (classes * seen).log()).sum().item()


def _covered(coverage, labels, classes):
    """What coverage answers, or a Complaint where that is no plain numbers."""
    answer = coverage(labels, classes)
    if any(isinstance(x, torch.Tensor) for x in (answer if isinstance(answer, tuple | list) else [answer])):
        return Complaint("tensors", "You return a tensor, and two plain numbers are asked for: `.item()` gives one.")
    return answer


def _share(labels, classes):
    share = torch.bincount(labels, minlength=classes).double() / len(labels)
    return share[share > 0]


def _by_seen(labels, classes):
    seen = _share(labels, classes)
    return len(seen), (seen * (len(seen) * seen).log()).sum().item()


def _not_a_number(labels, classes):
    share = torch.bincount(labels, minlength=classes).double() / len(labels)
    return int((share > 0).sum()), (share * (classes * share).log()).sum().item()


def _other(nats):
    """Coverage with another second number."""
    return lambda labels, classes: (len(_share(labels, classes)), nats(_share(labels, classes), classes))


def _above(least):
    """Coverage that takes shares up to `least` for missing."""

    def covered(labels, classes):
        seen = _share(labels, classes)
        seen = seen[seen > least]
        return len(seen), (seen * (classes * seen).log()).sum().item()

    return covered


def _nats(report):
    return f"{report.got[1]:.3g}, where {report.expected[1]:.3g} was expected"


COVERAGE_HINTS = (
    "Count each class, those that never occur as well; divide by N; leave out the shares of 0 in the sum.",
    "share = torch.bincount(labels, minlength=classes) / len(labels), and seen = share[share > 0].",
)
COVERAGE_MISTAKES = [
    Mistake(
        "by the classes seen",
        _by_seen,
        lambda r: (
            f"You compare with equal shares of the {r.got[0]} classes *that occur*: {_nats(r)}. A generator that draws "
            "nothing but ones would score 0, the best there is. K is all classes, seen or not."
        ),
        ("What is K when only ones are drawn?", "K is `classes`, not the number of shares that are left."),
    ),
    Mistake(
        "not a number",
        _not_a_number,
        "A class that never occurs makes 0 * log 0, which the computer calls not a number. Its part of the sum is 0.",
        ("What is p log p for p close to 0?", COVERAGE_HINTS[1]),
    ),
    Mistake(
        "bits",
        _other(lambda p, K: (p * (K * p).log2()).sum().item()),
        lambda r: f"You use the logarithm to base 2, and count bits: {_nats(r)}. Nats go with `log`.",
        ("Which logarithm goes with nats?", "`log`, not `log2`."),
    ),
    Mistake(
        "entropy",
        _other(lambda p, K: -(p * p.log()).sum().item()),
        lambda r: (
            f"That is the entropy: {_nats(r)}. It is largest where all is even; asked for is how much is missing to "
            "that."
        ),
        ("What should come out for equal shares?", "Put K inside of the logarithm."),
    ),
    Mistake(
        "sign",
        _other(lambda p, K: -(p * (K * p).log()).sum().item()),
        lambda r: f"The sign is turned: {_nats(r)}. The sum can never be below 0.",
        ("What comes out where one class has all?", "sum p log(K p), without a minus."),
    ),
    Mistake(
        "mean",
        _other(lambda p, K: (p * (K * p).log()).mean().item()),
        lambda r: f"You take the mean over the classes, and not the sum: {_nats(r)}.",
        ("What weighs the classes in the sum already?", "`.sum()`: the shares are the weights."),
    ),
    Mistake(
        "the other way",
        _other(lambda p, K: -((K * p).log() / K).sum().item()),
        lambda r: (
            f"You weigh each logarithm with 1 / K: {_nats(r)}. A class that never occurs would make that infinite, "
            "and leaving it out hides just what we look for. Weigh with the shares that were drawn."
        ),
        ("Which weights does the formula have?", "sum p log(K p)"),
    ),
    Mistake(
        "counts",
        lambda labels, classes: (
            len(_share(labels, classes)),
            (_share(labels, classes) * len(labels) * (classes * _share(labels, classes) * len(labels)).log())
            .sum()
            .item(),
        ),
        lambda r: f"You put counts into the formula, and not shares: {_nats(r)}.",
        ("What is the sum of the p?", "Divide by the number of drawings."),
    ),
    Mistake(
        "largest label",
        lambda labels, classes: (int(labels.max()) + 1, coverage(labels, classes)[1]),
        lambda r: (
            f"Your first number is {r.got[0]}, and {r.expected[0]} classes occur: the length of the histogram, or the "
            "largest label plus one, counts empty classes as well."
        ),
        ("How many shares are above 0?", COVERAGE_HINTS[1]),
    ),
    Mistake(
        "all classes",
        lambda labels, classes: (classes, coverage(labels, classes)[1]),
        lambda r: f"Your first number is always `classes`, {r.got[0]} here, and {r.expected[0]} of them occur.",
        ("How many shares are above 0?", COVERAGE_HINTS[1]),
    ),
    Mistake(
        "rare classes left out",
        _above(0.01),
        "Classes that are rare are left out: one drawing in four hundred is a class that occurs, and here it counts as "
        "missing. Leave out shares of 0 and no others.",
        ("From which share on does a class occur?", "`share[share > 0]`"),
    ),
    Mistake(
        "order",
        lambda labels, classes: coverage(labels, classes)[::-1],
        "Only the order is wrong: first how many classes occur, then the nats.",
        ("Which number should come first?", "`return how_many, nats`"),
    ),
    _complaint(
        "tensors",
        lambda labels, classes: tuple(torch.tensor(x) for x in coverage(labels, classes)),
        ("What does `x.sum()` give, and what does `x.sum().item()`?", "End both with `.item()`, or use `len`."),
    ),
]

# ---- 6.6 the gradient penalty ---------------------------------------------------------------------------------


def gradient_penalty(discriminator, real, fake, share):
    share = share.reshape(-1, *[1] * (real.ndim - 1))
    mixed = (share * real + (1 - share) * fake).requires_grad_()
    slopes = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)[0]
    return (slopes.flatten(1).norm(dim=1) - 1).square().mean()


class Slope(nn.Module):
    """A small discriminator of anything, whose slope is another one in each place; it notes what it is asked about."""

    def __init__(self, dims):
        super().__init__()
        self.read, self.write = nn.Linear(dims, 4, dtype=torch.float64), nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x):
        return 2 * self.write(self.read(x.flatten(1)).tanh()).flatten()


def _penalised(gradient_penalty, seed, shape):
    """The penalty, and where it pushes the discriminator's weights."""
    dims = math.prod(shape[1:])
    net = _filled(Slope(dims), seed)
    real, fake = (_draw(*shape, seed=seed + k, dtype=torch.float64) + k for k in (1, 2))
    share = torch.rand(shape[0], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    given = {"real": real, "fake": fake, "share": share}
    before = [x.clone() for x in given.values()]
    penalty = gradient_penalty(net, real, fake, share)
    if penalty is None:
        return None
    if not isinstance(penalty, torch.Tensor):
        return Complaint("a number", f"You return {kind(penalty)}: a penalty must stay a tensor to be learned from.")
    if penalty.ndim:
        says = f"Your penalty has the shape {tuple(penalty.shape)}, and it should be one number"
        return Complaint("not one number", f"{says}: the mean over the batch.")
    changed = [name for name, old, new in zip(given, before, given.values(), strict=True) if not torch.equal(old, new)]
    if changed:
        says = f"You changed `{changed[0]}` in place, and the training goes on with it: make a new one."
        return Complaint("in place", says)
    weights = list(net.parameters())
    found = torch.autograd.grad(penalty, weights, allow_unused=True) if penalty.requires_grad else [None] * len(weights)
    pushed = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
    return {"the penalty": penalty.detach(), "its gradient": torch.cat([g.flatten() for g in pushed])}


def _penalties(*, at="mixed", norm="each", power="two", target=1.0, graph=True, mean=True, shares="each"):
    """A penalty with one part changed, to be recognised."""

    def penalty(discriminator, real, fake, share):
        w = share.reshape(-1, *[1] * (real.ndim - 1))
        if shares == "swapped":
            w = 1 - w
        if shares == "first":
            w = w[:1]
        mixed = {"mixed": w * real + (1 - w) * fake, "real": real, "fake": fake, "half": (real + fake) / 2}[at]
        mixed = mixed.detach().requires_grad_()
        logits = discriminator(mixed)
        logits = logits.mean() if mean == "logits" else logits.sum()
        slopes = torch.autograd.grad(logits, mixed, create_graph=graph)[0]
        slopes = slopes if norm == "channels" else slopes.flatten(1)
        size = {
            "channels": lambda: slopes.norm(dim=1),
            "each": lambda: slopes.norm(dim=1),
            "batch": lambda: slopes.norm(),
            "squared": lambda: slopes.square().sum(1),
            "pixel": lambda: slopes.abs(),
            "rms": lambda: slopes.square().mean(1).sqrt(),
            "columns": lambda: slopes.norm(dim=0),
        }[norm]()
        off = size - target
        off = {"two": off.square(), "one sided": off.relu().square(), "one": off, "size": off.abs()}[power]
        return off.sum() if mean == "sum" else off.mean()

    return penalty


def _no_way_back(discriminator, real, fake, share):
    w = share.reshape(-1, *[1] * (real.ndim - 1))
    mixed = w * real + (1 - w) * fake
    return torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)[0].sum()


def _one_each(discriminator, real, fake, share):
    """The penalties of a batch, one each."""
    pairs = zip(real.split(1), fake.split(1), share.split(1), strict=True)
    return torch.stack([gradient_penalty(discriminator, *pair) for pair in pairs])


def _penalty(report):
    return f"{float(report.got['the penalty']):.3g}, where {float(report.expected['the penalty']):.3g} was expected"


PENALTY_HINTS = (
    "Four lines: bring `share` to the shape (B, 1, ..., 1); mix, and ask for a gradient there; the slopes; the mean of "
    "(length - 1)**2.",
    "torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)[0], and `.flatten(1).norm(dim=1)`.",
)
PENALTY_MISTAKES = [
    Mistake(
        "at real pictures",
        _penalties(at="real"),
        lambda r: (
            f"You measure the slope at the real pictures: {_penalty(r)}. That is another penalty (R1 is its cousin); "
            "this one asks in between, where the generator's drawings travel."
        ),
        ("Where is the slope asked for?", "At share * real + (1 - share) * fake."),
    ),
    Mistake(
        "at drawings",
        _penalties(at="fake"),
        lambda r: f"You measure the slope at the drawings alone: {_penalty(r)}. `real` and `share` are not used.",
        ("Where is the slope asked for?", "At share * real + (1 - share) * fake."),
    ),
    Mistake(
        "half way",
        _penalties(at="half"),
        lambda r: f"You ask half way between, for each pair: {_penalty(r)}. `share` says where.",
        ("Which argument is not used?", "share * real + (1 - share) * fake"),
    ),
    Mistake(
        "shares swapped",
        _penalties(shares="swapped"),
        lambda r: (
            f"`share` is the share of the *real* picture, and yours is that of the drawing: {_penalty(r)}. (By lot it "
            "would make no difference, as both are drawn evenly.)"
        ),
        ("What should the mixture be for share = 1?", "share * real + (1 - share) * fake"),
    ),
    Mistake(
        "one share for all",
        _penalties(shares="first"),
        "All pairs are mixed with the first share; each pair has its own.",
        ("What shape must `share` have to multiply pictures?", "share.reshape(-1, 1, 1, 1), for any number of axes."),
    ),
    Mistake(
        "norm over the batch",
        _penalties(norm="batch"),
        lambda r: (
            f"You take one length over the whole batch: {_penalty(r)}. It grows with the batch's size, and a steep "
            "place could hide behind flat ones. Each picture has a slope of its own."
        ),
        ("How many lengths are there for B pictures?", "`.flatten(1).norm(dim=1)` gives (B,)."),
    ),
    Mistake(
        "columns",
        _penalties(norm="columns"),
        lambda r: f"The length runs along the batch instead of along the pixels: {_penalty(r)}. The batch is axis 0.",
        ("Which axis is the batch?", "`.flatten(1).norm(dim=1)`"),
    ),
    Mistake(
        "each pixel",
        _penalties(norm="pixel"),
        lambda r: (
            f"You hold each pixel's slope against 1: {_penalty(r)}. It is the length of all of them together that "
            "should be 1."
        ),
        ("What is the length of an arrow of 784 numbers?", "The root of the sum of squares: `.norm(dim=1)`."),
    ),
    Mistake(
        "not flattened",
        _penalties(norm="channels"),
        lambda r: (
            "Of pictures `norm(dim=1)` measures along the channels alone, and leaves a length for each pixel: "
            f"{_penalty(r)}. (Of points it is the whole length.)"
        ),
        ("Which shape does `norm(dim=1)` make of (B, 1, 28, 28)?", "`.flatten(1).norm(dim=1)`"),
    ),
    Mistake(
        "mean over the pixels",
        _penalties(norm="rms"),
        lambda r: (
            f"You take the mean of the squares over the pixels, and a length is the root of their *sum*: {_penalty(r)}."
        ),
        ("What is the length of (3, 4)?", "5, the root of 9 + 16: `.norm(dim=1)`."),
    ),
    Mistake(
        "no root",
        _penalties(norm="squared"),
        lambda r: f"The root is missing: you hold the squared length against 1: {_penalty(r)}.",
        ("What is the length of (3, 4)?", "`.norm(dim=1)` takes the root."),
    ),
    Mistake(
        "not squared",
        _penalties(power="one"),
        lambda r: (
            f"The square is missing: {_penalty(r)}. Slopes that are too flat would pay for those that are too steep, "
            "and the best would be no slope at all."
        ),
        ("Where is length - 1 smallest, and where is its square?", "(length - 1)**2"),
    ),
    Mistake(
        "size for square",
        _penalties(power="size"),
        lambda r: (
            f"You take the size of length - 1, and not its square: {_penalty(r)}. Its pull would be as strong just "
            "beside 1 as far from it."
        ),
        ("What does the 2 in the equation do?", "(length - 1)**2"),
    ),
    Mistake(
        "one sided",
        _penalties(power="one sided"),
        "You only punish slopes above 1. That is a variant (the paper tries it); equation 3 also punishes those below.",
        ("What is (length - 1)**2 for a length of 0.5?", "No clamp, no relu."),
    ),
    Mistake(
        "towards 0",
        _penalties(target=0.0),
        lambda r: (
            f"The 1 is missing: you pull all slopes to 0, and equation 3 pulls them to 1: {_penalty(r)}. (At real "
            "pictures, towards 0, it would be R1.)"
        ),
        ("Which length should cost nothing?", "(length - 1)**2"),
    ),
    Mistake(
        "sum",
        _penalties(mean="sum"),
        lambda r: f"You take the sum over the batch, and not the mean: {_penalty(r)}.",
        ("Should it change when the same pictures come twice?", "End with `.mean()`."),
    ),
    Mistake(
        "mean of the logits",
        _penalties(mean="logits"),
        lambda r: (
            "You take the gradient of the *mean* logit: every slope comes out divided by the number of pictures: "
            f"{_penalty(r)}. Of the sum, each picture's slope is its own."
        ),
        ("How does a picture's logit enter the mean of B logits?", "`discriminator(mixed).sum()`"),
    ),
    Mistake(
        "no way back",
        _penalties(graph=False),
        "The number is right, and the discriminator cannot learn from it: `create_graph=True` is missing, without "
        "which torch forgets how the slope was computed, or a `detach`, `item` or numpy behind it cuts the way back.",
        ("What must be remembered so that a gradient has a gradient?", "`create_graph=True`, and tensors to the end."),
    ),
    Mistake(
        "no gradient asked for",
        _no_way_back,
        "The mixture does not ask for a gradient: `real` and `fake` are plain data here. Say so before the "
        "discriminator sees it: `.requires_grad_()`.",
        ("What does torch need to know before the discriminator is asked?", "mixed = (...).requires_grad_()"),
    ),
    _complaint(
        "in place",
        lambda discriminator, real, fake, share: gradient_penalty(discriminator, real.mul_(0.5), fake, share),
        ("Which calls change a tensor in place?", "`a = b * c` makes a new one; `b *= c` and `b.mul_(c)` do not."),
    ),
    _complaint(
        "not one number",
        _one_each,
        ("What does `backward` want?", "End with `.mean()`."),
    ),
    _complaint(
        "a number",
        lambda *given: gradient_penalty(*given).item(),
        ("Who calls `item()`, the penalty or the one who reports it?", "Return the tensor."),
    ),
]


# ---- 6.7 a way between two noises -----------------------------------------------------------------------------


def along_the_sphere(one, other, w):
    angle = torch.acos((one * other).sum() / (one.norm() * other.norm()))
    w = w[:, None]
    return (torch.sin((1 - w) * angle) * one + torch.sin(w * angle) * other) / torch.sin(angle)


def _spheres(*, angle="right", ends="", divide=True, weights="sine"):
    """A way with one part changed, to be recognised."""

    def way(one, other, w):
        w = w[:, None]
        if ends == "swapped":
            one, other = other, one
        cosine = (one * other).sum() / (one.norm() * other.norm())
        if ends == "unit":
            one, other = one / one.norm(), other / other.norm()
        theta = {
            "right": lambda: torch.acos(cosine),
            "cosine": lambda: cosine,
            "degrees": lambda: torch.rad2deg(torch.acos(cosine)),
            "quarter": lambda: torch.full_like(cosine, math.pi / 2),
            "no lengths": lambda: torch.acos((one * other).sum()),
            "folded": lambda: torch.acos(cosine.abs()),
            "cut": lambda: torch.acos(cosine.clamp(min=0)),
        }[angle]()
        if weights == "line":
            return (1 - w) * one + w * other
        if weights == "long line":
            line = (1 - w) * one + w * other
            return line / line.norm(dim=1, keepdim=True) * ((1 - w) * one.norm() + w * other.norm())
        mixed = torch.sin((1 - w) * theta) * one + torch.sin(w * theta) * other
        return mixed / torch.sin(theta) if divide else mixed

    return way


def _middle(report):
    """The lengths half way: theirs, and the right one."""
    at = int((report.case.args[2] - 0.5).abs().argmin())
    return float(report.got[at].norm()), float(report.expected[at].norm())


def _lengths(report):
    theirs, ours = _middle(report)
    return f"near the middle your z is {theirs:.2f} long, where {ours:.2f} was expected"


SPHERE_HINTS = (
    "First the angle, by its cosine: inner product over the product of the two lengths. Then one sine for each end.",
    "torch.acos((one * other).sum() / (one.norm() * other.norm())), and w[:, None] to multiply rows.",
)
SPHERE_MISTAKES = [
    Mistake(
        "line",
        _spheres(weights="line"),
        lambda r: f"That is the straight line: {_lengths(r)}. Noises drawn by lot are never that short.",
        ("How long is the middle of two arrows at a right angle?", SPHERE_HINTS[0]),
    ),
    Mistake(
        "line brought to length",
        _spheres(weights="long line"),
        "You walk the line and bring each point to the right length. The way is right, the pace is not: equal steps in "
        "w should turn by equal angles.",
        ("By which angle has the way turned at w = 0.25?", SPHERE_HINTS[0]),
    ),
    Mistake(
        "no division",
        _spheres(divide=False),
        lambda r: (
            f"The division by sin(angle) is missing: {_lengths(r)}, and at w = 0 you do not begin at `one`, unless the "
            "angle is a right one."
        ),
        ("What does your formula give for w = 0?", "Divide by sin(angle)."),
    ),
    Mistake(
        "ends swapped",
        _spheres(ends="swapped"),
        "The ends are swapped: w = 0 should be `one`, and w = 1 `other`.",
        ("What does your formula give for w = 0?", "sin((1 - w) * angle) belongs to `one`."),
    ),
    Mistake(
        "length lost",
        _spheres(ends="unit"),
        lambda r: (
            f"You bring both ends to length 1 and leave them there: {_lengths(r)}. A generator of 64 numbers is used "
            "to noises about 8 long."
        ),
        ("How long is `one`, and how long is your first row?", "Only the angle needs the lengths divided out."),
    ),
    Mistake(
        "cosine for angle",
        _spheres(angle="cosine"),
        "You use the cosine of the angle where the angle itself belongs: `acos` is missing.",
        ("What is the angle whose cosine is 0?", "`torch.acos(...)`"),
    ),
    Mistake(
        "degrees",
        _spheres(angle="degrees"),
        "The angle is in degrees, and torch's sine takes radians.",
        ("What is sin(90) on your computer?", "`torch.acos` gives radians already."),
    ),
    Mistake(
        "right angle",
        _spheres(angle="quarter"),
        lambda r: (
            "You take a right angle for granted: noises of many numbers come near it, but not quite, and in the plane "
            f"any angle occurs. {_lengths(r)[0].upper()}{_lengths(r)[1:]}."
        ),
        ("Where does the angle between `one` and `other` come in?", SPHERE_HINTS[1]),
    ),
    Mistake(
        "no lengths",
        _spheres(angle="no lengths"),
        "The inner product alone is no cosine: divided by both lengths it lies in -1..1; yours does not, and acos of "
        "that is not a number.",
        ("How large can the inner product of two long arrows be?", SPHERE_HINTS[1]),
    ),
    Mistake(
        "folded angle",
        _spheres(angle="folded"),
        lambda r: (
            "An angle beyond 90 degrees is lost: `abs` makes an obtuse one acute, and so does `asin`. In the case "
            f'"{r.case.label}" the cosine is below 0, and {_lengths(r)}.'
        ),
        ("Which angles have a cosine below 0?", "`torch.acos` of the cosine as it is."),
    ),
    Mistake(
        "angle cut off",
        _spheres(angle="cut"),
        lambda r: (
            "An angle beyond 90 degrees is lost: a cosine runs from -1 to 1, and yours is cut at 0. In the case "
            f'"{r.case.label}" {_lengths(r)}.'
        ),
        ("How small can a cosine be?", "`torch.acos` of the cosine as it is, or clamped to -1..1."),
    ),
    Mistake(
        "w along the numbers",
        lambda one, other, w: (1 - w) * one + w * other,
        "Your w lines up with the numbers of z, and not with the rows of the result: `w[:, None]` makes a column of "
        "it.",
        ("Which shape should the result have?", "(K, 1) times (latent,) is (K, latent)."),
    ),
]

# ---- the catalogue --------------------------------------------------------------------------------------------


def _noise_case(latent, width, n, seed):
    return Case(f"make_generator({latent}, {width})", latent, width, _draw(n, latent, seed=seed))


def _picture_case(width, n, seed):
    pictures = _draw(n, 1, 28, 28, seed=seed).clamp(-1, 1)
    return Case(f"make_discriminator({width}) on {n} pictures", width, pictures)


def _logit_case(label, *values, dtype=torch.float64):
    return Case(label, torch.tensor(values, dtype=dtype))


def _labels(*counts, seed=0):
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def _way_case(label, latent, seed, w):
    return Case(label, _draw(latent, seed=seed), _draw(latent, seed=seed + 1), torch.tensor(w))


EXERCISES = catalogue(
    Exercise(
        number="6.1",
        name="make_generator",
        reference=make_generator,
        cases=[_noise_case(64, 8, 6, 1), _noise_case(10, 3, 5, 2), _noise_case(3, 10, 4, 3)],
        mistakes=MAKER_MISTAKES,
        use=_ask_generator,
        right="(B, latent) becomes (B, 1, 28, 28) within (-1, 1), for every latent and width.",
        hints=MAKER_HINTS,
    ),
    Exercise(
        number="6.2",
        name="make_discriminator",
        reference=make_discriminator,
        cases=[_picture_case(8, 6, 4), _picture_case(3, 5, 5), _picture_case(4, 1, 6)],
        mistakes=JUDGE_MISTAKES,
        use=_ask_discriminator,
        right="one logit a picture, of shape (B,), for a single picture as well.",
        hints=JUDGE_HINTS,
    ),
    Exercise(
        number="6.3",
        name="generator_loss",
        reference=generator_loss,
        cases=[
            _logit_case("logits from -5 to 3", -5.0, -2.0, 0.5, 3.0, -1.0),
            _logit_case("a drawing that is seen through, at -200", -200.0, 1.0, dtype=torch.float32),
            _logit_case("logits of 200 and -200", 200.0, -200.0, 0.0),
            _logit_case("a single drawing", -0.7),
        ],
        mistakes=LOSS_MISTAKES,
        use=_with_gradient,
        right="its slope is -1 where a drawing is seen through and 0 where it is believed, and no logit is too large.",
        hints=LOSS_HINTS,
    ),
    Exercise(
        number="6.4",
        name="gan_step",
        reference=gan_step,
        cases=[
            Case("three rounds of 8", 1, 3, 8),
            Case("two rounds of 5", 2, 2, 5),
        ],
        mistakes=STEP_MISTAKES,
        use=_played,
        right="the discriminator moves first, the generator answers, and each learns from its own loss alone.",
        hints=STEP_HINTS,
    ),
    Exercise(
        number="6.5",
        name="coverage",
        reference=coverage,
        cases=[
            Case("two of four classes", _labels(6, 0, 2, 0), 4),
            Case("uneven shares of all", _labels(5, 9, 2, seed=1), 3),
            Case("equal shares of ten", _labels(*[7] * 10, seed=2), 10),
            Case("nothing but zeros", _labels(20), 10),
            Case("the last class alone", _labels(0, 0, 0, 0, 3), 5),
            Case("a class that occurs once in 400", _labels(300, 1, 0, 99, seed=3), 4),
        ],
        mistakes=COVERAGE_MISTAKES,
        use=_covered,
        right="classes that never occur count as missing, and equal shares give 0.",
        hints=COVERAGE_HINTS,
    ),
    Exercise(
        number="6.6",
        name="gradient_penalty",
        reference=gradient_penalty,
        cases=[
            Case("five pictures", 11, (5, 1, 4, 4)),
            Case("points", 12, (7, 2)),
            Case("a single picture", 13, (1, 1, 3, 3)),
        ],
        mistakes=PENALTY_MISTAKES,
        use=_penalised,
        right="one slope a picture, in between, held against 1, and the discriminator can learn from it.",
        hints=PENALTY_HINTS,
    ),
    Exercise(
        number="6.7",
        name="along_the_sphere",
        reference=along_the_sphere,
        cases=[
            _way_case("64 numbers, five places", 64, 21, [0.0, 0.25, 0.5, 0.8, 1.0]),
            _way_case("two numbers, three places", 2, 24, [0.1, 0.5, 0.9]),
            _way_case("five numbers, places in disorder", 5, 30, [0.6, 0.0, 0.3, 1.0, 0.9]),
            _way_case("a single place", 8, 40, [0.3]),
            _way_case("an obtuse angle", 5, 101, [0.0, 0.5, 0.7]),
        ],
        mistakes=SPHERE_MISTAKES,
        right="equal steps turn by equal angles, and no length is lost on the way.",
        hints=SPHERE_HINTS,
    ),
)
