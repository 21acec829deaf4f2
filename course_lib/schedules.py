"""Schedules: how much signal and how much noise is left at each step.

    x_t = signal_rate[t] * x0 + noise_rate[t] * eps        (DDPM, arXiv:2006.11239, eq. 4)
Shapes: every table is (T+1,) float64; row 0 is clean data, so the paper's step t is row t.
Does not belong here: networks, objectives, samplers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from course_lib.doors import batch_like, data_batch, described, real_number, timesteps, whole_number

__all__ = ["Schedule", "cosine", "flow", "from_beta", "linear_beta", "rescale_zero_terminal_snr", "sigmoid"]

NO_SIGNAL = 1000.0  # from this sigma on hardly any signal is left, and a step in sigma spans decades


@dataclass(frozen=True, eq=False)
class Schedule:
    """Two tables that say what x_t is made of, for t = 0..T.

    signal_rate, noise_rate: (T+1,) float64; row 0 is (1, 0); signal falls, noise rises; only row 0 is free of noise
    and only row T may be free of signal.
    Raises ValueError when a table breaks one of these promises.

    >>> schedule = linear_beta(T=1000)
    >>> schedule.T, round(float(schedule.alpha_bar[500]), 4)
    (1000, 0.0786)
    """

    name: str
    signal_rate: Tensor
    noise_rate: Tensor
    _tables: dict = field(default_factory=dict, init=False, repr=False)  # the rates, per dtype and device

    def __post_init__(self) -> None:
        a, s = _table("signal_rate", self.signal_rate), _table("noise_rate", self.noise_rate)
        if a.shape != s.shape or a.ndim != 1 or len(a) < 2:
            raise ValueError(
                f"expected two tables of T+1 rows each, T at least 1, got {tuple(a.shape)} and {tuple(s.shape)}"
            )
        if not (torch.isfinite(a).all() and torch.isfinite(s).all()):
            raise ValueError("expected finite rates, got NaN or infinity: a beta of at most 1 never leads there")
        if a[0] != 1 or s[0] != 0:
            raise ValueError(
                f"expected row 0 to be clean data, rates (1, 0), got ({float(a[0]):g}, {float(s[0]):g}): "
                "put a clean row in front"
            )
        if not (a.diff() <= 0).all() or not (s.diff() >= 0).all():
            raise ValueError("expected signal_rate to fall and noise_rate to rise from row 0 to row T: turn them round")
        if a[-1] < 0 or not (a[:-1] > 0).all() or not (s[1:] > 0).all():
            raise ValueError(
                "expected noise from row 1 on and signal up to row T - 1 (at T it may be 0), got rows without: "
                "begin with a larger beta, or end with a smaller one"
            )
        object.__setattr__(self, "signal_rate", a)
        object.__setattr__(self, "noise_rate", s)

    @property
    def T(self) -> int:
        """The last step: the number of rows less one."""
        return len(self.signal_rate) - 1

    @property
    def alpha_bar(self) -> Tensor:
        """signal_rate ** 2, (T+1,): the share of variance that is signal when the variance is preserved."""
        return self.signal_rate**2

    @property
    def variance_preserving(self) -> bool:
        """Whether signal_rate**2 + noise_rate**2 == 1 at every step (true of all but `flow`)."""
        return bool(((self.signal_rate**2 + self.noise_rate**2 - 1).abs() < 1e-9).all())

    @property
    def beta(self) -> Tensor:
        """Variance added by each single step, (T+1,), beta[0] = 0: beta_t = 1 - alpha_bar_t / alpha_bar_(t-1)."""
        if not self.variance_preserving:
            raise ValueError(
                f"expected a schedule that preserves variance, got '{self.name}': it has no beta, use its rates"
            )
        beta = torch.zeros_like(self.alpha_bar)
        beta[1:] = 1 - self.alpha_bar[1:] / self.alpha_bar[:-1]
        return beta

    @property
    def sigma(self) -> Tensor:
        """noise_rate / signal_rate, (T+1,): 0 at row 0, infinite where no signal is left."""
        return self.noise_rate / self.signal_rate

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio 1 / sigma**2, (T+1,): infinite at row 0."""
        return (self.signal_rate / self.noise_rate) ** 2

    def rates(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Look up (signal_rate, noise_rate) at t, shaped to multiply `like` (B, *dims).

        t: a whole number or (B,) whole numbers in 0..T. Returns two tensors (B, 1, ..., 1) in like's dtype and device
        ((1, 1, ..., 1) for one number). Raises ValueError or TypeError for a t outside the table.

        >>> a, s = cosine(100).rates(torch.tensor([0, 100]), like=torch.zeros(2, 1, 8, 8))
        >>> a.shape, float(s[0])
        (torch.Size([2, 1, 1, 1]), 0.0)
        """
        data_batch("like", like)
        t = timesteps(t, self.T, batch=len(like))
        key = (like.dtype, like.device)
        if key not in self._tables:  # once per dtype and device: a copy at each step would stall a GPU
            tables = self.signal_rate, self.noise_rate  # dtype first, then device: Apple's GPU has no float64
            self._tables[key] = tuple(table.to(like.dtype).to(like.device) for table in tables)
        return tuple(table[t].reshape(-1, *[1] * (like.ndim - 1)) for table in self._tables[key])

    def add_noise(self, x0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """Jump from clean data x0 (B, *dims) to step t with noise eps like x0 (DDPM, eq. 4).

        >>> x0, eps = torch.ones(1, 2), torch.zeros(1, 2)
        >>> linear_beta().add_noise(x0, 0, eps)
        tensor([[1., 1.]])
        """
        data_batch("x0", x0)
        batch_like("eps", eps, "x0", x0)
        a, s = self.rates(t, x0)
        return a * x0 + s * eps

    def steps(self, n: int, spacing: str = "trailing") -> list[int]:
        """Choose n reverse steps: n+1 falling whole numbers from T to 0.

        spacing "trailing": even in t (arXiv:2305.08891, table 2); "karras": even in sigma**(1/7), dense near clean
        data (EDM, arXiv:2206.00364, eq. 5), snapped to the table. Raises ValueError unless 1 <= n <= T.

        >>> linear_beta().steps(4)
        [1000, 750, 500, 250, 0]
        """
        n = whole_number("n", n, 1, self.T)
        if spacing == "trailing":
            return [round(self.T * (n - i) / n) for i in range(n)] + [0]
        if spacing == "karras":
            return self._karras(n)
        raise ValueError(f"expected spacing 'trailing' or 'karras', got {described(spacing)}")

    def _karras(self, n: int) -> list[int]:
        log_sigma = self.sigma[1:].clamp(max=NO_SIGNAL).log()  # rows 1..T
        ends = log_sigma[-1].exp() ** (1 / 7), log_sigma[0].exp() ** (1 / 7)
        wanted = torch.linspace(ends[0], ends[1], n, dtype=torch.float64).log() * 7
        rows = [1 + int(i) for i in (log_sigma[:, None] - wanted).abs().argmin(0)]
        rows[0] = self.T
        for i in range(1, n):  # neighbours that snapped to one row move apart
            rows[i] = min(rows[i], rows[i - 1] - 1)
        for i in range(n - 1, 0, -1):
            rows[i] = max(rows[i], n - i)
        return [*rows, 0]


def _table(name: str, value: Tensor) -> Tensor:
    """Let in a table of floating-point numbers, as float64 on the CPU."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"expected {name} to be a floating-point tensor of shape (T+1,), got {described(value)}")
    return value.detach().to("cpu", torch.float64)


def from_beta(beta: Tensor, name: str = "beta") -> Schedule:
    """Build a schedule from the variance that each step adds (DDPM, eq. 2 and 4).

    beta: (T+1,) with beta[0] = 0 (row 0 is clean data) and 0 < beta[t] <= 1. Raises ValueError otherwise.

    >>> from_beta(torch.tensor([0.0, 0.5, 0.5])).alpha_bar
    tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    beta = _table("beta", beta)
    if beta.ndim != 1 or len(beta) < 2 or beta[0] != 0:
        raise ValueError(f"expected beta of shape (T+1,) with beta[0] = 0, got {described(beta)}: put a 0 in front")
    if not ((beta[1:] > 0) & (beta[1:] <= 1)).all():
        raise ValueError("expected 0 < beta <= 1 from row 1 on: it is the share of variance that one step replaces")
    return _from_alpha_bar((1 - beta).cumprod(0), name)


def _from_alpha_bar(alpha_bar: Tensor, name: str) -> Schedule:
    return Schedule(name, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def linear_beta(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Let beta rise evenly from beta_start to beta_end (DDPM, section 4).

    The two ends belong to T = 1000: fewer steps with the same ends leave much of the picture standing at T.

    >>> linear_beta().beta[[0, 1, 1000]]
    tensor([0.0000e+00, 1.0000e-04, 2.0000e-02], dtype=torch.float64)
    """
    T = whole_number("T", T, 1)
    beta_start, beta_end = (
        real_number("beta_start", beta_start, 0, 1),
        real_number("beta_end", beta_end, 0, 1),
    )
    if beta_start > beta_end:
        raise ValueError(f"expected beta_start <= beta_end, got {beta_start:g} > {beta_end:g}: swap them")
    beta = torch.linspace(beta_start, beta_end, T, dtype=torch.float64)
    return from_beta(torch.cat([torch.zeros(1, dtype=torch.float64), beta]), "linear")


def cosine(T: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """Let alpha_bar fall like a squared cosine (Improved DDPM, arXiv:2102.09672, eq. 17).

    offset is the paper's s. beta is capped at beta_max, so a trace of signal is left at T.

    >>> round(float(cosine().alpha_bar[500]), 3)
    0.494
    """
    T, offset = whole_number("T", T, 1), real_number("offset", offset, 0, 1)
    beta_max = real_number("beta_max", beta_max, 1e-6, 1)
    time = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = torch.zeros_like(f)
    beta[1:] = (1 - f[1:] / f[:-1]).clamp(max=beta_max)
    return from_beta(beta, "cosine")


def sigmoid(T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """Let alpha_bar fall like a sigmoid from `start` to `end`, softened by tau (arXiv:2301.10972, section 2.1, alg. 1).

    >>> round(float(sigmoid().alpha_bar[500]), 3)
    0.5
    """
    T, tau = whole_number("T", T, 1), real_number("tau", tau, 1e-3)
    start, end = real_number("start", start, -20, 20), real_number("end", end, -20, 20)
    if start >= end:
        raise ValueError(f"expected start < end, got {start:g} and {end:g}: swap them")
    curve = torch.sigmoid(torch.linspace(start, end, T + 1, dtype=torch.float64) / tau)
    alpha_bar = (curve[-1] - curve) / (curve[-1] - curve[0])
    alpha_bar[1:] = alpha_bar[1:].clamp(min=1e-9)  # the paper's floor
    return _from_alpha_bar(alpha_bar, "sigmoid")


def flow(T: int = 1000) -> Schedule:
    """Walk the straight line from data to noise: x_t = (1 - t/T) x0 + (t/T) eps (rectified flow, arXiv:2209.03003).

    It does not preserve variance, and at T no signal is left: predict v or flow there, never eps.

    >>> flow(4).signal_rate
    tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """
    time = torch.linspace(0, 1, whole_number("T", T, 1) + 1, dtype=torch.float64)
    return Schedule("flow", 1 - time, time)


def rescale_zero_terminal_snr(schedule: Schedule) -> Schedule:
    """Shift and stretch signal_rate so that nothing of the picture is left at T (arXiv:2305.08891, algorithm 1).

    Row 1 keeps its signal rate. Raises TypeError or ValueError for what is no Schedule, does not preserve variance or
    has T < 2.

    >>> rescale_zero_terminal_snr(linear_beta()).signal_rate[-1]
    tensor(0., dtype=torch.float64)
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"expected a Schedule, got {described(schedule)}: make one with linear_beta()")
    first, last = schedule.signal_rate[1], schedule.signal_rate[-1]
    if not schedule.variance_preserving or first == last:
        raise ValueError(
            f"expected a variance-preserving Schedule with T of at least 2 and a signal that falls, "
            f"got '{schedule.name}' with T = {schedule.T}: take linear_beta()"
        )
    if last == 0:
        return schedule
    a = schedule.signal_rate.clone()
    a[1:] = (a[1:] - last) * first / (first - last)
    return Schedule(f"{schedule.name}, zero terminal SNR", a, (1 - a**2).sqrt())
