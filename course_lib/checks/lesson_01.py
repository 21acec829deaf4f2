"""The exercises of lesson 01: one step, the jump, the table, the clock, nothing left at T.

Equations: DDPM (arXiv:2006.11239) eq. 2 and 4; arXiv:2305.08891, algorithm 1.
Shapes: x0, x, eps (B, *dims); t (B,); beta (T,) or one number; alpha_bar (T+1,), row 0 is clean data.
Not here: how a verdict is reached (engine.py).
"""

import torch

from course_lib.checks.engine import Case, Exercise, Mistake, catalogue
from course_lib.schedules import linear_beta, rescale_zero_terminal_snr


def _draw(*shape, seed):
    """Numbers of variance 1, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _pair(*shape, seed):
    """Data and noise of variance exactly 1 that are exactly uncorrelated, so that measured sums are clean."""
    pair = []
    for drawn in (_draw(*shape, seed=seed).double(), _draw(*shape, seed=seed + 1).double()):
        drawn = drawn - drawn.mean()
        for other in pair:
            drawn = drawn - (drawn * other).sum() / (other * other).sum() * other
        pair.append(drawn / drawn.std())
    return tuple(one.float() for one in pair)


def _dark(*shape, seed):
    """Data as pictures are: neither of mean 0 nor of variance 1."""
    return 0.4 * _draw(*shape, seed=seed) - 0.4


def _variance(report):
    return f"variance {float(report.got.var()):.2f}"


def _cut(report):
    """How much of the right result lies beyond -1 and 1."""
    return f"{float((report.expected.abs() > 1).float().mean()):.0%}"


def _share(report):
    """How strong the picture is in the result, by a least-squares fit."""
    x0 = report.case.args[0]
    return float((report.got * x0).sum() / (x0 * x0).sum())


# ---- 1.1 one step ---------------------------------------------------------------------------------------


def forward_step(x, beta, eps):
    return (1 - beta).sqrt() * x + beta.sqrt() * eps


def _step(label, shape, beta, seed):
    x, eps = _pair(*shape, seed=seed)
    return Case(label, x, torch.tensor(beta), eps)


STEP_CASES = [
    _step("pictures of variance 1, beta = 0.2", (64, 1, 8, 8), 0.2, seed=1),
    _step("points, beta = 0.02", (5, 2), 0.02, seed=3),
    _step("rows of 160 numbers, beta = 0.0001", (2, 1, 160), 1e-4, seed=5),
    Case("one dark picture, beta = 0.9", _dark(1, 1, 8, 8, seed=7), torch.tensor(0.9), _draw(1, 1, 8, 8, seed=8)),
    Case("two points, beta = 0", _dark(2, 2, seed=9), torch.tensor(0.0), _draw(2, 2, seed=10)),
]

ROOT_HINTS = (
    "Which number times a noise of variance 1 gives a noise of variance beta? Try it with beta = 0.25.",
    "A factor c turns variance 1 into variance c squared. So the factor in front of eps is the square root of beta.",
)
SHRINK_HINTS = (
    "The new variance is (first factor squared) times the old one, plus beta. When is that 1, if the old one was 1?",
    "First factor squared = 1 - beta.",
)

CUT_HINTS = (
    "Which values may a picture with noise take?",
    "Leave the sum as it is; whoever draws the picture takes care of black and white.",
)
STANDARDISED = (
    "You divide by the deviation of whatever batch comes in. For data of variance 1 that does nothing; a dark "
    "picture would be stretched, and by how much would depend on its neighbours in the batch."
)
STANDARDISED_HINTS = (
    "Does the equation on the page ask for a mean or a deviation?",
    "Two products and a sum; nothing is measured.",
)

STEP_MISTAKES = [
    Mistake(
        "roots missing",
        lambda x, beta, eps: (1 - beta) * x + beta * eps,
        lambda r: (
            f"Both square roots are missing: at beta = 0.2 your result has {_variance(r)} where it should "
            "stay at 1. beta counts variance, and a factor acts on deviations."
        ),
        ROOT_HINTS,
    ),
    Mistake(
        "noise root missing",
        lambda x, beta, eps: (1 - beta).sqrt() * x + beta * eps,
        lambda r: (
            "The first root is there, the one in front of eps is missing: at beta = 0.2 your result has "
            f"{_variance(r)}, so with every step the picture would lose contrast and hardly gain noise."
        ),
        ROOT_HINTS,
    ),
    Mistake(
        "shrink root missing",
        lambda x, beta, eps: (1 - beta) * x + beta.sqrt() * eps,
        lambda r: (
            "The noise is right, but the picture shrinks too fast: at beta = 0.2 your result has "
            f"{_variance(r)} where it should stay at 1. The factor in front of x lacks its root."
        ),
        SHRINK_HINTS,
    ),
    Mistake(
        "no shrinking",
        lambda x, beta, eps: x + beta.sqrt() * eps,
        lambda r: (
            f"You add the noise and make no room for it: at beta = 0.2 your result has {_variance(r)}, and "
            "every further step adds more. Section 2 shows where that ends."
        ),
        SHRINK_HINTS,
    ),
    Mistake(
        "swapped",
        lambda x, beta, eps: beta.sqrt() * x + (1 - beta).sqrt() * eps,
        lambda r: (
            "The two factors are swapped: with a small beta this throws the picture away in one step. At "
            f"beta = 0.2 only {_share(r):.0%} of the picture's strength is left after a single step, where "
            f"{0.8**0.5:.0%} should be."
        ),
        (
            "What should come out for beta = 0: the old picture, or noise?",
            "Put beta = 0 into both of your factors.",
        ),
    ),
    Mistake(
        "deviations add to 1",
        lambda x, beta, eps: (1 - beta.sqrt()) * x + beta.sqrt() * eps,
        lambda r: (
            f"Your factors add up to 1; their squares should. At beta = 0.2 your result has {_variance(r)}: "
            "deviations do not add, variances do."
        ),
        SHRINK_HINTS,
    ),
    Mistake(
        "own noise",
        lambda x, beta, eps: (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x),
        "You draw noise of your own and leave `eps` aside. Whoever calls you has drawn it already, and "
        "will want to know which noise it was: a network is trained to say it.",
        ("Which of the three arguments does your function not use?", "Use `eps` where you call torch.randn."),
    ),
    Mistake(
        "noise taken away",
        lambda x, beta, eps: (1 - beta).sqrt() * x - beta.sqrt() * eps,
        "A minus where eq. 2 has a plus. The result looks as noisy as the right one, and a network that "
        "learns from it would learn to add noise instead of removing it.",
        ("Compare the sign in front of the noise with eq. 2.", "The noise is added."),
    ),
    Mistake(
        "order of arguments",
        lambda x, beta, eps: forward_step(x, eps, beta),
        "Your function takes beta for the noise and the noise for beta: half of the noise is negative and has no "
        "square root. `check` and the cells below call it as forward_step(x, beta, eps).",
        (
            "Which name stands second in the first line of the function on the page?",
            "Keep the first line as it came: x, then beta, then eps.",
        ),
    ),
    Mistake(
        "cut off",
        lambda x, beta, eps: forward_step(x, beta, eps).clamp(-1, 1),
        lambda r: (
            f"Right, and then cut off at -1 and 1, where {_cut(r)} of the values do not fit. Only clean pictures "
            "lie in [-1, 1]; what is cut off is lost, and the variance sinks with every step."
        ),
        CUT_HINTS,
    ),
    Mistake(
        "standardised",
        lambda x, beta, eps: forward_step(x, beta, eps) / forward_step(x, beta, eps).std(),
        STANDARDISED,
        STANDARDISED_HINTS,
    ),
]

# ---- 1.2 the jump ---------------------------------------------------------------------------------------


def q_sample(x0, t, eps, alpha_bar):
    kept = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))  # (B, 1, ..., 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps


def _kept(table, t, x0):
    return table[t].reshape(-1, *[1] * (x0.ndim - 1))


def _mixed(kept, x0, eps):
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps


TABLE = linear_beta(1000).alpha_bar.float()
SHORT_TABLE = rescale_zero_terminal_snr(linear_beta(100, 0.001, 0.2)).alpha_bar.float()


def _jump(label, shape, t, seed):
    x0, eps = _pair(*shape, seed=seed)
    return Case(label, x0, torch.tensor(t), eps, TABLE)


def _other_jump(label, shape, t, seed):
    return Case(label, _dark(*shape, seed=seed), torch.tensor(t), _draw(*shape, seed=seed + 1), SHORT_TABLE)


JUMP_CASES = [
    _jump("pictures of variance 1 at t = 500", (64, 1, 8, 8), [500] * 64, 11),
    _jump("pictures at t = 1, 2, 999 and 1000", (4, 1, 8, 8), [1, 2, 999, 1000], 13),
    _jump("points at t = 1000, 1, 300, 300 and 20", (5, 2), [1000, 1, 300, 300, 20], 15),
    _jump("8 pictures that are 8 pixels wide", (8, 1, 8, 8), [1, 50, 100, 200, 300, 500, 700, 1000], 17),
    _jump("rows of 160 numbers at t = 40 and 400", (2, 1, 160), [40, 400], 19),
    _other_jump("another table, T = 100 and nothing left there", (4, 1, 8, 8), [100, 1, 99, 50], 21),
    _other_jump("one point alone, in a table of T = 100", (1, 2), [60], 23),
]


def _in_place(x0, t, eps, alpha_bar):
    kept = _kept(alpha_bar, t, x0)
    x0 *= kept.sqrt()
    return x0 + (1 - kept).sqrt() * eps


TWO_ROOTS = (
    "Add up the squares of your two factors. Which number should come out, so that variance 1 stays 1?",
    "Take the square root of the share that is kept, and the square root of the share that is missing to 1.",
)
RIGHT_ROW = (
    "Which row of the table holds clean data? Which row then belongs to one step of noise?",
    "Row t belongs to step t: no plus or minus one anywhere.",
)

JUMP_MISTAKES = [
    Mistake(
        "roots missing",
        lambda x0, t, eps, alpha_bar: _kept(alpha_bar, t, x0) * x0 + (1 - _kept(alpha_bar, t, x0)) * eps,
        lambda r: (
            f"Close: the roots are missing. At t = 500 your x_t has {_variance(r)} where it should stay at "
            "1.00. Variances add; look at the guess you made above."
        ),
        TWO_ROOTS,
    ),
    Mistake(
        "noise root missing",
        lambda x0, t, eps, alpha_bar: _kept(alpha_bar, t, x0).sqrt() * x0 + (1 - _kept(alpha_bar, t, x0)) * eps,
        lambda r: (
            f"One root of two: the factor in front of eps lacks it. At t = 500 your x_t has {_variance(r)} "
            "where it should stay at 1.00, and at t = 1 there is 100 times too little noise."
        ),
        TWO_ROOTS,
    ),
    Mistake(
        "signal root missing",
        lambda x0, t, eps, alpha_bar: _kept(alpha_bar, t, x0) * x0 + (1 - _kept(alpha_bar, t, x0)).sqrt() * eps,
        lambda r: (
            f"One root of two: the factor in front of x0 lacks it. At t = 500 your x_t has {_variance(r)}, "
            f"and {_share(r):.0%} of the picture's strength is left where {float(TABLE[500].sqrt()):.0%} "
            "should be."
        ),
        TWO_ROOTS,
    ),
    Mistake(
        "root first",
        lambda x0, t, eps, alpha_bar: _kept(alpha_bar, t, x0).sqrt() * x0 + (1 - _kept(alpha_bar, t, x0).sqrt()) * eps,
        lambda r: (
            f"Your two factors add up to 1; their squares should. At t = 500 your x_t has {_variance(r)} "
            "where it should stay at 1.00: the root belongs around the whole of what is missing to 1."
        ),
        TWO_ROOTS,
    ),
    Mistake(
        "one step only",
        lambda x0, t, eps, alpha_bar: _mixed(_kept(alpha_bar, t, x0) / _kept(alpha_bar, t - 1, x0), x0, eps),
        lambda r: (
            "This is one step's worth of noise, not all the steps up to t: at t = 500 your x_t is still "
            f"{_share(r):.1%} picture, and at t = 1000 the digit would still be there."
        ),
        (
            "What is the product in eq. 4 taken over?",
            "The table holds that product already: one look-up is enough.",
        ),
    ),
    Mistake(
        "one row early",
        lambda x0, t, eps, alpha_bar: _mixed(_kept(alpha_bar, t - 1, x0), x0, eps),
        "Every picture is one step too clean: at t = 1 you return x0 itself. Row 0 is the clean data, so "
        "step t is row t.",
        RIGHT_ROW,
    ),
    Mistake(
        "one row late",
        lambda x0, t, eps, alpha_bar: _mixed(_kept(alpha_bar, t + 1, x0), x0, eps),
        "Every picture is one step too noisy, and at t = 1000 you look for row 1001, which is not there. "
        "Row 0 is the clean data, so step t is row t.",
        RIGHT_ROW,
    ),
    Mistake(
        "no reshape",
        lambda x0, t, eps, alpha_bar: _mixed(alpha_bar[t], x0, eps),
        "Works for one number, breaks for a batch of pictures: `(B,)` lines up with the *last* axis, the "
        "width. For 8 pictures that are 8 pixels wide it even runs, and gives every column its own step: "
        "wrong, without a word.",
        (
            "Print the shapes of `alpha_bar[t]` and of `x0`. Where should the number of pictures stand in both?",
            "Give the numbers as many axes as x0 has: (B, 1, 1, 1) for pictures, (B, 1) for points.",
        ),
    ),
    Mistake(
        "pictures only",
        lambda x0, t, eps, alpha_bar: _mixed(alpha_bar[t].reshape(-1, 1, 1, 1), x0, eps),
        "Right for pictures. Points `(B, 2)` have two axes, not four, and there your result gets axes that "
        "nobody asked for: count the axes of x0 instead of writing four.",
        (
            "`x0.ndim` is 4 for pictures, 2 for points. How many ones does each need?",
            "`[1] * (x0.ndim - 1)`, unpacked.",
        ),
    ),
    Mistake(
        "one t for all",
        lambda x0, t, eps, alpha_bar: _mixed(alpha_bar[t[0]], x0, eps),
        "You use the first t for the whole batch. Each picture has its own step; a network that saw one "
        "step per batch would learn from 64 times fewer of them.",
        ("What is the shape of `alpha_bar[t]`, and of `alpha_bar[t[0]]`?", "Look up all of t at once."),
    ),
    Mistake(
        "swapped",
        lambda x0, t, eps, alpha_bar: q_sample(eps, t, x0, alpha_bar),
        "Signal and noise are swapped: at t = 1 your x_t is noise, and at t = 1000 it is the clean picture.",
        (
            "What is row 0 of the table, and what should x_t be there?",
            "alpha_bar is the share of the *picture*.",
        ),
    ),
    Mistake(
        "own noise",
        lambda x0, t, eps, alpha_bar: _mixed(_kept(alpha_bar, t, x0), x0, torch.randn_like(x0)),
        "You draw noise of your own and leave `eps` aside. In training the network is asked for this very "
        "noise, so whoever calls you must know it.",
        ("Which of the four arguments does your function not use?", "Use `eps` where you call torch.randn."),
    ),
    Mistake(
        "own table",
        lambda x0, t, eps, alpha_bar: _mixed(_kept(TABLE, t, x0), x0, eps),
        lambda r: (
            "Right for the table of this page, and wrong for any other: you look into a table from above, not into "
            f"the argument `alpha_bar`. In a table of T = 100, row {int(r.case.args[1][0])} leaves "
            f"{float(r.case.args[3][r.case.args[1][0]]):.0%} of the variance; yours leaves "
            f"{float(TABLE[r.case.args[1][0]]):.0%}."
        ),
        (
            "Which of the four arguments does your function not use?",
            "The names in the first line are all that you need.",
        ),
    ),
    Mistake(
        "noise taken away",
        lambda x0, t, eps, alpha_bar: q_sample(x0, t, -eps, alpha_bar),
        "A minus where eq. 4 has a plus. The result looks as noisy as the right one, and a network that learns "
        "from it would add noise where it should remove it.",
        ("Compare the sign in front of the noise with eq. 4.", "The noise is added."),
    ),
    Mistake(
        "cut off",
        lambda x0, t, eps, alpha_bar: q_sample(x0, t, eps, alpha_bar).clamp(-1, 1),
        lambda r: (
            f"Right, and then cut off at -1 and 1, where {_cut(r)} of the values do not fit. Only clean pictures "
            "lie in [-1, 1]; a network would never see the true noise."
        ),
        CUT_HINTS,
    ),
    Mistake(
        "standardised",
        lambda x0, t, eps, alpha_bar: q_sample(x0, t, eps, alpha_bar) / q_sample(x0, t, eps, alpha_bar).std(),
        STANDARDISED,
        STANDARDISED_HINTS,
    ),
    Mistake(
        "in place",
        _in_place,
        "Right numbers, but you changed x0 in place: the next cell would start from a paler digit.",
        (
            "Which operators write into a tensor instead of making a new one?",
            "`x0 *= a` and `x0.mul_(a)` write into x0; `a * x0` makes a new tensor.",
        ),
    ),
]


# ---- 1.3 the table --------------------------------------------------------------------------------------


def alpha_bar_table(beta):
    left = (1 - beta).cumprod(0)
    return torch.cat([beta.new_ones(1), left])


TABLE_CASES = [
    Case("the 1000 linear betas", torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
    Case("beta = 0.1, 0.2, 0.5", torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)),
    Case("a single step, beta = 0.3", torch.tensor([0.3], dtype=torch.float64)),
    Case("large and falling betas", torch.tensor([0.9, 0.5, 0.99, 0.3, 0.999, 1e-6], dtype=torch.float64)),
]


def _overwritten(beta):
    left = (1 - beta).cumprod(0)
    left[0] = 1
    return left


def _doubled(beta):
    left = (1 - beta).cumprod(0)
    return torch.cat([left[:1], left])


def _ones_first(table):
    return torch.cat([table.new_ones(1), table])


PRODUCT_HINTS = (
    "After one step 1 - beta of the variance is left. What is left of *that* after the next step?",
    "A running product, not a running sum: eq. 4 has a product over all the steps up to t.",
)
FIRST_ROW_HINTS = (
    "How many rows should there be for T steps? Which row is missing, the first or the last?",
    "Join a 1 *in front of* the running product, with torch.cat.",
)

TABLE_MISTAKES = [
    Mistake(
        "row 0 missing",
        lambda beta: (1 - beta).cumprod(0),
        lambda r: (
            f"The product is right, row 0 is missing: {len(r.got)} rows where T + 1 = {len(r.expected)} "
            f"should be. Your row 0 reads {float(r.got[0]):.4f}, one step of noise, so everybody who looks "
            "up step t gets step t + 1."
        ),
        FIRST_ROW_HINTS,
    ),
    Mistake(
        "row 0 replaces step 1",
        lambda beta: torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)[:-1]]),
        lambda r: (
            f"A 1 in front is right, but the last step fell off: {len(r.got)} rows where T + 1 = "
            f"{len(r.expected)} should be. (In other people's code this table is called alpha_bar_prev.)"
        ),
        (
            "There are T steps and the clean data: how many rows is that?",
            "Do not cut the end of the running product off.",
        ),
    ),
    Mistake(
        "clean row last",
        lambda beta: torch.cat([(1 - beta).cumprod(0), beta.new_ones(1)]),
        lambda r: (
            f"The row of clean data stands at the end: your row {len(r.got) - 1} says that at the last step "
            "100 % of the picture is left, and your row 0 is noisy already."
        ),
        FIRST_ROW_HINTS,
    ),
    Mistake(
        "row 0 is 0",
        lambda beta: torch.cat([beta.new_zeros(1), (1 - beta).cumprod(0)]),
        "Your row 0 is 0: it says that nothing is left of clean data. beta is 0 there, alpha_bar is 1.",
        ("How much of the picture is left before the first step?", "`new_ones`, not `new_zeros`."),
    ),
    Mistake(
        "product of betas",
        lambda beta: _ones_first(beta.cumprod(0)),
        lambda r: (
            "You multiply the betas; what is *left* after each step is 1 - beta. Your row 2 reads "
            f"{float(r.got[2]):.1e}: after two tiny steps nothing would be left of the picture."
        ),
        PRODUCT_HINTS,
    ),
    Mistake(
        "sum instead of product",
        lambda beta: _ones_first(1 - beta.cumsum(0)),
        lambda r: (
            "You take every beta from the whole; each step takes it from what is left. Your last row reads "
            f"{float(r.got[-1]):.2f}, and no share can be below 0."
        ),
        PRODUCT_HINTS,
    ),
    Mistake(
        "single steps",
        lambda beta: _ones_first(1 - beta),
        lambda r: (
            "This is what each step leaves of the step before it, not of the picture: your last row reads "
            f"{float(r.got[-1]):.2f}, as if 1000 steps had hardly touched it. The running product is "
            "missing."
        ),
        PRODUCT_HINTS,
    ),
    Mistake(
        "signal rate",
        lambda beta: _ones_first((1 - beta).cumprod(0).sqrt()),
        lambda r: (
            "These are the signal rates, the roots of alpha_bar: your row 500 reads "
            f"{float(r.got[500]):.3f} where {float(r.expected[500]):.3f} should be. `q_sample` takes the "
            "root itself, so the digit would fade half as fast."
        ),
        ("Which of the two does eq. 4 call alpha_bar, the variance or the deviation?", "Leave the root out."),
    ),
    Mistake(
        "noise share",
        lambda beta: torch.cat([beta.new_zeros(1), 1 - (1 - beta).cumprod(0)]),
        lambda r: (
            f"This is the share of noise, 1 - alpha_bar: your last row reads {float(r.got[-1]):.4f}. The "
            "table should say how much of the *picture* is left, from 1 down to nearly 0."
        ),
        ("Should the table rise or fall?", "Leave the last `1 -` out."),
    ),
    Mistake(
        "1 written over step 1",
        _overwritten,
        lambda r: (
            f"You wrote the 1 over the first step instead of in front of it: {len(r.got)} rows where T + 1 = "
            f"{len(r.expected)} should be, and step 1 is nowhere."
        ),
        FIRST_ROW_HINTS,
    ),
    Mistake(
        "first row doubled",
        _doubled,
        lambda r: (
            f"The number of rows is right, and row 0 is a copy of row 1: {float(r.got[0]):.4f}, one step of noise. "
            "Row 0 is clean data: all of it is left."
        ),
        ("How much of the picture is left before the first step?", "`beta.new_ones(1)` makes that row."),
    ),
    Mistake(
        "exponential of the sum",
        lambda beta: _ones_first((-beta.cumsum(0)).exp()),
        lambda r: (
            "exp(-sum of the betas) is a good estimate while the betas are small, and not the product: your last row "
            f"reads {float(r.got[-1]):.3g} where {float(r.expected[-1]):.3g} should be."
        ),
        PRODUCT_HINTS,
    ),
]

# ---- 1.4 the clock --------------------------------------------------------------------------------------


def log_snr(alpha_bar):
    return (alpha_bar / (1 - alpha_bar)).log()


CLOCK_CASES = [
    Case("linear", linear_beta(1000).alpha_bar),
    Case("a table that ends in 0", torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0], dtype=torch.float64)),
]


def _middle(report):
    row = len(report.got) // 2
    mine, right = float(report.got[row]), float(report.expected[row])
    return f"at t = {row} you have {mine:.2f} where {right:.2f} should be"


VARIANCE_HINTS = (
    "SNR compares variances. alpha_bar is one already: the variance of the signal. Which is the variance of the noise?",
    "The two variances add up to 1.",
)

INFINITE_HINTS = (
    "What does the exercise say about row 0?",
    "Leave the ends as the formula makes them: no special case is needed.",
)


def _finite_start(alpha_bar):
    clock = log_snr(alpha_bar)
    clock[0] = 0
    return clock


CLOCK_MISTAKES = [
    Mistake(
        "log10",
        lambda alpha_bar: (alpha_bar / (1 - alpha_bar)).log10(),
        lambda r: (
            f"The ratio is right, the logarithm is to base 10: {_middle(r)}. Every number of this lesson, "
            "such as the 2 ln 8 of section 7, would be off by a factor of 2.3."
        ),
        ("Which logarithm is the natural one in torch?", "`x.log()`; `x.log10()` is to base 10."),
    ),
    Mistake(
        "decibels",
        lambda alpha_bar: 10 * (alpha_bar / (1 - alpha_bar)).log10(),
        lambda r: (
            f"These are decibels, as sound engineers use them: {_middle(r)}. Right for them; here the "
            "natural logarithm is asked for."
        ),
        ("10 log10 of a ratio is decibels. What is asked for?", "`x.log()`, and no factor of 10."),
    ),
    Mistake(
        "log2",
        lambda alpha_bar: (alpha_bar / (1 - alpha_bar)).log2(),
        lambda r: f"The ratio is right, the logarithm is to base 2: {_middle(r)}.",
        ("Which logarithm is the natural one in torch?", "`x.log()`; `x.log2()` is to base 2."),
    ),
    Mistake(
        "ratio of rates",
        lambda alpha_bar: (alpha_bar.sqrt() / (1 - alpha_bar).sqrt()).log(),
        lambda r: (
            f"Half of what it should be: {_middle(r)}. You compare deviations (the rates), and SNR compares variances."
        ),
        ("What is the logarithm of a square root?", "Leave both roots out."),
    ),
    Mistake(
        "upside down",
        lambda alpha_bar: ((1 - alpha_bar) / alpha_bar).log(),
        lambda r: f"Upside down: {_middle(r)}. This is noise over signal, and your clock rises as the picture is lost.",
        ("What should the sign be near t = 0, where the picture is clear?", "Signal above, noise below."),
    ),
    Mistake(
        "no logarithm",
        lambda alpha_bar: alpha_bar / (1 - alpha_bar),
        lambda r: (
            f"This is the SNR itself: {_middle(r)}. Its largest finite value is {float(r.got[1]):.0f} and "
            f"its smallest {float(r.got[-1]):.0e}; the logarithm brings them onto one page."
        ),
        ("Which call turns a ratio into its logarithm?", "`.log()` at the very end."),
    ),
    Mistake(
        "signal only",
        lambda alpha_bar: alpha_bar.log(),
        lambda r: (
            f"This is the logarithm of the signal alone: {_middle(r)}, and at t = 1, where there is almost "
            f"no noise, {float(r.got[1]):.4f} where {float(r.expected[1]):.1f} should be. What is the "
            "signal compared with?"
        ),
        VARIANCE_HINTS,
    ),
    Mistake(
        "quotient of logarithms",
        lambda alpha_bar: alpha_bar.log() / (1 - alpha_bar).log(),
        lambda r: f"You divide two logarithms; the logarithm of the quotient was meant: {_middle(r)}.",
        (
            "The logarithm of a quotient is the *difference* of the logarithms.",
            "Divide first, then take one logarithm.",
        ),
    ),
    Mistake(
        "root in the noise",
        lambda alpha_bar: (alpha_bar / (1 - alpha_bar).sqrt()).log(),
        lambda r: f"A variance over a deviation: {_middle(r)}. Two roots or none.",
        VARIANCE_HINTS,
    ),
    Mistake(
        "logarithm of the top only",
        lambda alpha_bar: alpha_bar.log() / (1 - alpha_bar),
        lambda r: (
            f"You take the logarithm of alpha_bar and divide afterwards: {_middle(r)}. Row 0 becomes 0 / 0, which is "
            "not a number. The logarithm belongs around the whole quotient."
        ),
        ("Which comes first, the division or the logarithm?", "Put brackets around the quotient, then `.log()`."),
    ),
    Mistake(
        "brackets missing below",
        lambda alpha_bar: (alpha_bar / 1 - alpha_bar).log(),
        "alpha_bar / 1 - alpha_bar is 0 everywhere: the computer divides by 1 first and subtracts afterwards, so every "
        "row is the logarithm of 0.",
        ("What do you divide by, and where does that begin and end?", "Brackets around 1 - alpha_bar."),
    ),
    Mistake(
        "row 0 set to 0",
        _finite_start,
        "Right except for row 0, which you set to 0. There is no noise at all in clean data, so infinity is the true "
        "answer; 0 says that signal and noise are equal, and whoever looks for log-SNR 0 would stop at t = 0.",
        INFINITE_HINTS,
    ),
    Mistake(
        "infinity replaced",
        lambda alpha_bar: log_snr(alpha_bar).nan_to_num(),
        "Right except for the ends, where you put a large finite number in place of infinity. Clean data hold no "
        "noise: infinity is no accident here, and comparisons such as `clock > 1` deal with it well.",
        INFINITE_HINTS,
    ),
]

# ---- 1.5 nothing left at T ------------------------------------------------------------------------------


def zero_terminal_snr(alpha_bar):
    a = alpha_bar.sqrt()
    first, last = a[1], a[-1]
    a = (a - last) * first / (first - last)
    a[0] = 1
    return a**2


LEAKY = alpha_bar_table(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
ZERO_CASES = [
    Case("Stable Diffusion's table", LEAKY),
    Case("linear, T = 100", linear_beta(100).alpha_bar),
    Case("the shortest, T = 2", torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)),
    Case("a table that ends in 0 already", torch.tensor([1.0, 0.8, 0.3, 0.0], dtype=torch.float64)),
]


def _rescaled(a, first, last, row_0=True):
    a = (a - last) * first / (first - last)
    if row_0:
        a[0] = 1
    return a


def _only_the_end(alpha_bar):
    cut = alpha_bar.clone()
    cut[-1] = 0
    return cut


def _only_shifted(alpha_bar):
    a = alpha_bar.sqrt() - alpha_bar[-1].sqrt()
    a[0] = 1
    return a**2


def _zero_in_place(alpha_bar):
    alpha_bar.copy_(zero_terminal_snr(alpha_bar))
    return alpha_bar


ZERO_MISTAKES = [
    Mistake(
        "alpha_bar instead of rates",
        lambda alpha_bar: _rescaled(alpha_bar, alpha_bar[1], alpha_bar[-1]),
        lambda r: (
            "The ends are right, the middle is not: you shifted and stretched alpha_bar itself. Row "
            f"{len(r.got) - 2} reads {float(r.got[-2]):.1e} where {float(r.expected[-2]):.1e} should be, so "
            "the last steps keep too much. Take the roots first, square at the end."
        ),
        (
            "Which of the two does the exercise call a_t, and which does it ask you to shift?",
            "Take the square root of the whole table, shift and stretch that, then square it.",
        ),
    ),
    Mistake(
        "not squared",
        lambda alpha_bar: _rescaled(alpha_bar.sqrt(), alpha_bar[1].sqrt(), alpha_bar[-1].sqrt()),
        lambda r: (
            f"These are the signal rates; alpha_bar is their square. Your row {len(r.got) // 2} reads "
            f"{float(r.got[len(r.got) // 2]):.3f} where {float(r.expected[len(r.got) // 2]):.3f} should be."
        ),
        ("What went into your function, rates or alpha_bar? What should come out?", "Square at the end."),
    ),
    Mistake(
        "only the last row",
        _only_the_end,
        lambda r: (
            f"You set the last row to 0 and left the rest: row {len(r.got) - 2} still has a signal rate of "
            f"{float(r.got[-2]) ** 0.5:.3f}, so the last step falls off a cliff, and any sampler that "
            "begins one step lower meets the old leak."
        ),
        ("Which rows does a shift change?", "Take the last signal rate away from *every* row, then stretch."),
    ),
    Mistake(
        "shifted only",
        _only_shifted,
        lambda r: (
            f"Shifted, and not stretched: row 1 fell to {float(r.got[1]):.3f}, where it should still be "
            f"{float(r.expected[1]):.3f}. One step from clean data, and a part of the picture would be gone."
        ),
        ("After the shift row 1 is too small. By which factor?", "It is first - last, and should be first."),
    ),
    Mistake(
        "row 0 forgotten",
        lambda alpha_bar: _rescaled(alpha_bar.sqrt(), alpha_bar[1].sqrt(), alpha_bar[-1].sqrt(), row_0=False) ** 2,
        lambda r: (
            f"Nearly: row 0 was stretched along and reads {float(r.got[0]):.6f}. More than all of the "
            "picture cannot be left, and 1 - alpha_bar has no square root there."
        ),
        ("What must row 0 be, before and after?", "Set it to 1 once you have stretched."),
    ),
    Mistake(
        "row 0 kept instead of row 1",
        lambda alpha_bar: _rescaled(alpha_bar.sqrt(), 1.0, alpha_bar[-1].sqrt()) ** 2,
        lambda r: (
            "A sound idea, and not the one asked for: you stretched so that row 0 stays 1, and row 1 "
            f"changed from {float(r.expected[1]):.6f} to {float(r.got[1]):.6f}. The paper keeps the first "
            "noisy step, so that fine detail is treated as before."
        ),
        (
            "Which row is to keep its value under the stretch?",
            "Use a[1] where you have a[0], then set row 0 to 1.",
        ),
    ),
    Mistake(
        "root at the end",
        lambda alpha_bar: _rescaled(alpha_bar.sqrt(), alpha_bar[1].sqrt(), alpha_bar[-1].sqrt()).sqrt(),
        lambda r: (
            f"A second root where the square should be: your row {len(r.got) // 2} reads "
            f"{float(r.got[len(r.got) // 2]):.3f} where {float(r.expected[len(r.got) // 2]):.3f} should be. The root "
            "at the beginning is undone by a square at the end."
        ),
        ("What undoes a square root?", "`a**2`, not `a.sqrt()`, in the last line."),
    ),
    Mistake(
        "nothing done",
        lambda alpha_bar: alpha_bar,
        lambda r: (
            f"What you return is the table that came in: its last signal rate is still {float(r.got[-1]) ** 0.5:.3f}. "
            "Did the new table get lost on the way to `return`?"
        ),
        ("Which name stands after `return`?", "`a - a[-1]` makes a new tensor: give it a name, and return that."),
    ),
    Mistake(
        "in place",
        _zero_in_place,
        "Right numbers, but you wrote them into the table that you were given, and the comparison below "
        "would compare your table with itself.",
        (
            "Does a tensor of yours share its memory with alpha_bar?",
            "Work on `alpha_bar.sqrt()`, which is a new tensor.",
        ),
    ),
]

EXERCISES = catalogue(
    Exercise(
        number="1.1",
        name="forward_step",
        reference=forward_step,
        cases=STEP_CASES,
        mistakes=STEP_MISTAKES,
        hints=(
            "Two parts, one of x and one of eps. What are the two factors in eq. 2?",
            "eq. 2 gives a variance: a factor is a deviation, so take a root. Try beta = 0 and beta = 1 by hand.",
        ),
        right="a variance of 1 stays 1, for large and small beta, for pictures, points and other shapes.",
    ),
    Exercise(
        number="1.2",
        name="q_sample",
        reference=q_sample,
        cases=JUMP_CASES,
        mistakes=JUMP_MISTAKES,
        hints=(
            "Eq. 4 in two parts: how much of x0 is kept, and how much of eps comes in? Which row of the table says so?",
            "Print the shapes of alpha_bar[t] and x0; look the row up first, give it axes, then take the roots.",
        ),
        right="mean, variance, every t from 1 to T, any table, pictures, points and other shapes, and x0 left alone.",
    ),
    Exercise(
        number="1.3",
        name="alpha_bar_table",
        reference=alpha_bar_table,
        cases=TABLE_CASES,
        mistakes=TABLE_MISTAKES,
        hints=(
            "With beta = [0.5, 0.5], work the three rows out by hand and compare them with what you return.",
            "What each step leaves is 1 - beta; after t steps, the product of the first t; before any step, 1.",
        ),
        right="T + 1 rows, clean data first, and what is left after every step.",
        atol=1e-12,
        rtol=1e-9,
    ),
    Exercise(
        number="1.4",
        name="log_snr",
        reference=log_snr,
        cases=CLOCK_CASES,
        mistakes=CLOCK_MISTAKES,
        hints=(
            "Divide variance by variance before you take the logarithm. At alpha_bar = 0.5 the answer is 0.",
            "alpha_bar is the variance of the signal. What, of the 1, is left for the noise?",
        ),
        right="the natural logarithm of variance over variance, from plus to minus infinity.",
        atol=1e-9,
        rtol=1e-9,
    ),
    Exercise(
        number="1.5",
        name="zero_terminal_snr",
        reference=zero_terminal_snr,
        cases=ZERO_CASES,
        mistakes=ZERO_MISTAKES,
        hints=(
            "Check three rows by hand: row 0 is 1, row 1 is what it was, row T is 0.",
            "Work on the roots: subtract the last, multiply by first / (first - last); square at the end.",
        ),
        right="nothing left at T, row 1 as it was, row 0 clean, and the input untouched.",
        atol=1e-12,
        rtol=1e-9,
    ),
)
