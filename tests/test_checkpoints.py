"""Checkpoints: what is read is what was written, whatever happens in between, and a damaged one says what to do."""

import builtins
import errno
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib import checkpoints
from course_lib.checkpoints import CheckpointError, load, save

ACTION = r"(free some space or choose another folder|fetch or train (it|them) again|train one with `course train`)"


def number(value):
    """A checkpoint whose weights and card agree on one number, so that a mixture shows."""
    return {"weight": torch.full((1000,), float(value))}, {"steps": value}


def found(folder):
    tensors, card = load(folder)
    assert set(tensors["weight"].tolist()) == {float(card["steps"])}
    return card["steps"]


def refused(folder, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load(folder)
    assert re.search(ACTION, str(caught.value)) and "\n" not in str(caught.value)


def weights_of(folder):
    return folder / json.loads((folder / "card.json").read_text(encoding="utf-8"))["weights"]


KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]
KINDS += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 3, 4, 5)], ids=str)
def test_every_bit_comes_back(tmp_path, dtype, shape):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    back = load(save(tmp_path, {"x": x}, {}))[0]["x"]
    assert back.dtype == dtype and back.shape == shape and torch.equal(back, x)


def test_special_numbers_and_unusual_layouts_come_back(tmp_path):
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45, 3.4e38])
    row = torch.arange(12.0)
    given = {
        "odd": odd,
        "front": row[:6],
        "back": row[6:],
        "same": row[6:],  # tied weights
        "turned": row.reshape(3, 4).T,
        "spread": torch.ones(1).expand(4),
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "learnt": nn.Parameter(torch.ones(3)),
    }
    back, _ = load(save(tmp_path, given, {}))
    assert back.keys() == given.keys()
    for name, x in given.items():
        assert torch.equal(back[name].view(torch.uint8), x.detach().contiguous().view(torch.uint8)), name
    assert save(tmp_path / "none", {}, {}) == tmp_path / "none" and load(tmp_path / "none")[0] == {}


def test_the_card_comes_back_and_can_be_read_by_anybody(tmp_path):
    card = {"data": "Möbius", "steps": 10, "metrics": {"loss": 0.5}, "labels": [0, 1], "seed": None}
    assert card.items() <= load(save(tmp_path / "a" / "b", number(1)[0], card))[1].items()
    text = (tmp_path / "a" / "b" / "card.json").read_text(encoding="utf-8")
    digest = hashlib.sha256(weights_of(tmp_path / "a" / "b").read_bytes()).hexdigest()
    assert json.loads(text)["sha256"] == digest
    again = load(save(str(tmp_path / "c"), *load(str(tmp_path / "a" / "b"))))[1]  # a card that was read can be written
    assert again["sha256"] == digest and card.items() <= again.items()


def test_only_the_last_checkpoint_takes_space(tmp_path):
    for value in range(3):
        save(tmp_path, *number(value))
    assert found(tmp_path) == 2
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "card.json", weights_of(tmp_path)])


def test_no_pickle_is_written_or_read(tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("pickle")

    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(torch, "save", never)
    for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    assert found(save(tmp_path, *number(3))) == 3
    source = Path(checkpoints.__file__).read_text(encoding="utf-8")
    assert not re.search(r"\b(import|from)\s+(pickle|shelve|marshal)|torch\.(load|save)\(", source)


def test_a_pickle_under_the_name_of_weights_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    data = pickle.dumps(Trap())
    save(tmp_path, *number(1))
    card = {"weights": "weights-1.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "weights-1.safetensors").write_bytes(data)
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    refused(tmp_path, "cannot be read")
    assert not (tmp_path / "sprung").exists()


# Something happens at each point of a save


class Trap:
    """Stands in front of every call of `save` that touches the disk; before number `at` (0: each) it strikes."""

    def __init__(self, monkeypatch, at, strike):
        self.calls, self.at, self.strike = 0, at, strike
        monkeypatch.setattr(checkpoints, "open", self.open, raising=False)
        for name in ("fsync", "replace", "mkdir", "unlink", "stat"):
            monkeypatch.setattr(os, name, self.before(getattr(os, name)))

    def step(self):
        self.calls += 1
        if self.at in (0, self.calls):
            self.strike()

    def before(self, function):
        def wrapped(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return wrapped

    def open(self, path, mode):
        self.step()
        file = builtins.open(path, mode, buffering=0)  # noqa: SIM115
        trap = self

        class Torn:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                file.write(data[: len(data) // 2])
                trap.step()
                file.write(data[len(data) // 2 :])

            flush, fileno = file.flush, file.fileno

        return Torn()


def count_points(tmp_path):
    save(tmp_path, *number(1))
    with pytest.MonkeyPatch.context() as patch:
        trap = Trap(patch, None, None)
        save(tmp_path, *number(2))
    return trap.calls


def striking(error):
    def strike():
        raise error

    return strike


ERRORS = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, "quota") if hasattr(errno, "EDQUOT") else OSError(errno.EIO, "quota"),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError(errno.EROFS, os.strerror(errno.EROFS)),
    KeyboardInterrupt(),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_at_any_point_leaves_the_old_or_the_new(tmp_path, error):
    points = count_points(tmp_path / "count")
    assert points >= 8
    seen = set()
    for at in range(1, points + 1):
        folder = tmp_path / str(at)
        save(folder, *number(1))
        said = None
        with pytest.MonkeyPatch.context() as patch:
            Trap(patch, at, striking(error))
            try:
                save(folder, *number(2))
            except BaseException as raised:
                said = raised
        value = found(folder)
        seen.add(value)
        if isinstance(error, OSError):  # either it was refused and nothing changed, or it is done
            assert (value, type(said)) in [(1, CheckpointError), (2, type(None))]
            assert said is None or re.search(ACTION, str(said))
            assert len(list(folder.glob("weights-*"))) <= 2 and (said is None or len(list(folder.iterdir())) == 2)
        else:
            assert said is error
        save(folder, *number(3))  # and the folder is still good for the next
        assert found(folder) == 3
    assert seen == {1, 2}


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: it has no SIGKILL")
def test_a_kill_at_any_point_leaves_the_old_or_the_new(tmp_path):
    """Each point once, and then at twenty moments of the clock."""
    program = textwrap.dedent("""
        import os, random, signal, sys, time
        from pathlib import Path
        import pytest
        sys.path.insert(0, sys.argv[2])
        from test_checkpoints import Trap, count_points, found, number, save

        folder = Path(sys.argv[1])

        def child(work):
            pid = os.fork()
            if pid == 0:
                try:
                    work()
                finally:
                    os._exit(1)
            return pid

        def struck(at):
            Trap(pytest.MonkeyPatch(), at, lambda: os.kill(os.getpid(), signal.SIGKILL))
            save(folder / str(at), *number(2))

        seen = []
        for at in range(1, count_points(folder / "count") + 1):
            save(folder / str(at), *number(1))
            _, status = os.waitpid(child(lambda: struck(at)), 0)
            assert os.WTERMSIG(status) == signal.SIGKILL
            seen.append(found(folder / str(at)))
        print(*seen)

        def on_and_on():
            value = found(folder / "loop")
            while True:
                value += 1
                save(folder / "loop", *number(value))

        save(folder / "loop", *number(0))
        reached = [0]
        for _ in range(20):
            pid = child(on_and_on)
            time.sleep(random.uniform(0.002, 0.03))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            reached.append(found(folder / "loop"))
        print(*reached)
    """)
    (tmp_path / "kill.py").write_text(program, encoding="utf-8")
    run = [sys.executable, str(tmp_path / "kill.py"), str(tmp_path), os.path.dirname(__file__)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    points, reached = ([int(x) for x in line.split()] for line in done.stdout.splitlines())
    assert len(points) >= 8 and set(points) == {1, 2} and points == sorted(points)
    assert len(reached) == 21 and reached == sorted(reached) and reached[-1] > 0


def test_what_a_killed_save_left_is_taken_away_once_it_is_old(tmp_path):
    save(tmp_path, *number(1))
    strays = [tmp_path / "weights-0123.safetensors", tmp_path / ".card.json.0123.part"]
    for stray in strays:
        stray.write_bytes(b"half")
    save(tmp_path, *number(2))
    assert all(stray.exists() for stray in strays)  # another process may be at work on them
    for path in [*strays, weights_of(tmp_path)]:
        os.utime(path, (0, 0))
    save(tmp_path, *number(3))
    assert found(tmp_path) == 3 and len(list(tmp_path.iterdir())) == 2


# Several at once


def test_a_save_in_the_middle_of_another_one(tmp_path, monkeypatch):
    """The slower of two processes puts its card in place last: the weights that it names must still be there."""
    save(tmp_path, *number(0))
    replace, inside = os.replace, []

    def slow(source, target):
        if not inside:
            inside.append(1)
            save(tmp_path, *number(5))
            save(tmp_path, *number(5))
        replace(source, target)

    for target in ("card", "weights"):
        inside.clear()
        monkeypatch.setattr(os, "replace", lambda s, t, part=target: (slow if part in str(t) else replace)(s, t))
        save(tmp_path, *number(5))  # the same weights, as every process of a distributed run has them
        assert found(tmp_path) == 5


def test_threads_save_and_load_in_the_same_folder(tmp_path):
    save(tmp_path, *number(0))
    seen, failed = [], []

    def work(job):
        try:
            for i in range(25):
                job(i)
        except BaseException as error:
            failed.append(error)

    jobs = [lambda i, k=k: save(tmp_path, *number(100 * k + i)) for k in (1, 2, 3)]
    threads = [threading.Thread(target=work, args=(job,)) for job in [*jobs, lambda i: seen.append(found(tmp_path))]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(seen) == 25
    assert found(tmp_path) in (124, 224, 324)


def test_processes_save_to_the_same_folder(tmp_path):
    program = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[2])
        from test_checkpoints import found, number, save
        print("ready", flush=True)
        sys.stdin.readline()
        for i in range(60):
            save(sys.argv[1], *number(i))  # the same values in both, as in a distributed run
            found(sys.argv[1])
    """)
    (tmp_path / "two.py").write_text(program, encoding="utf-8")
    run = [sys.executable, str(tmp_path / "two.py"), str(tmp_path / "kept"), os.path.dirname(__file__)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    both = [subprocess.Popen(run, text=True, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert found(tmp_path / "kept") == 59


def test_a_reader_finds_the_new_one_when_the_old_one_goes_under_its_hands(tmp_path, monkeypatch):
    save(tmp_path, *number(1))
    card_of, calls = checkpoints._card, []

    def read_then_replaced(folder):
        card = card_of(folder)
        calls.append(1)
        if len(calls) == 1:
            monkeypatch.setattr(checkpoints, "_card", card_of)
            save(folder, *number(2))
        return card

    monkeypatch.setattr(checkpoints, "_card", read_then_replaced)
    assert found(tmp_path) == 2 and calls == [1]


# Damage


@pytest.mark.parametrize("left", [0, 1, 8, 100, -1])
def test_truncated_weights(tmp_path, left):
    path = weights_of(save(tmp_path, *number(1)))
    path.write_bytes(path.read_bytes()[:left])
    refused(tmp_path, "do not match their card")


def test_any_flipped_byte(tmp_path):
    path = weights_of(save(tmp_path, *number(1)))
    data = path.read_bytes()
    for place in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(tmp_path, "do not match their card")
    path.write_bytes(data)
    assert found(tmp_path) == 1


def test_missing_parts(tmp_path):
    refused(tmp_path, r"card\.json is missing")
    refused(tmp_path / "nowhere", r"card\.json is missing")
    weights_of(save(tmp_path, *number(1))).unlink()
    refused(tmp_path, r"weights-\w+\.safetensors is missing")
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    refused(tmp_path / "file", "cannot be read|is missing")


NOT_CARDS = {
    "empty": b"",
    "no JSON": b"steps: 10",
    "half": b'{"weights": "weights-1.safe',
    "list": b"[1, 2]",
    "number": b"7",
    "null": b"null",
    "no names": b"{}",
    "no hash": b'{"weights": "weights-1.safetensors"}',
    "wrong kinds": b'{"weights": 3, "sha256": 4}',
    "not UTF-8": b'{"weights": "\xff\xfe"}',
    "too deep": b"[" * 100_000,
    "empty name": b'{"weights": "", "sha256": ""}',
    "NUL": b'{"weights": "a\\u0000b", "sha256": ""}',
}


@pytest.mark.parametrize("text", NOT_CARDS.values(), ids=NOT_CARDS.keys())
def test_what_is_not_a_card(tmp_path, text):
    save(tmp_path, *number(1))
    (tmp_path / "card.json").write_bytes(text)
    refused(tmp_path, "cannot be read")
    assert found(save(tmp_path, *number(2))) == 2  # and it is no obstacle to the next


@pytest.mark.parametrize("form", ["../{}/{}", "{2}", "x/../{1}", "./{1}", ".."])
def test_a_card_cannot_point_outside_of_its_folder(tmp_path, form):
    other = weights_of(save(tmp_path / "other", *number(1)))
    card = json.loads((tmp_path / "other" / "card.json").read_text(encoding="utf-8"))
    mine = tmp_path / "mine"
    mine.mkdir()
    card["weights"] = form.format("other", other.name, other.as_posix())
    (mine / "card.json").write_text(json.dumps(card), encoding="utf-8")
    refused(mine, "cannot be read")


def test_what_matches_its_hash_and_is_no_safetensors(tmp_path):
    for data in (b"", b"\xff" * 100, b"\x00" * 8, (2).to_bytes(8, "little") + b"[]"):
        card = {"weights": "w", "sha256": hashlib.sha256(data).hexdigest()}
        (tmp_path / "w").write_bytes(data)
        (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
        refused(tmp_path, "cannot be read")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=r"could not be written .*choose another folder"):
            save(folder, *number(1))
    kept = save(tmp_path / "kept", *number(1))
    kept.chmod(0o500)
    if os.access(kept, os.W_OK):  # root may write everywhere, and Windows has other means
        Trap(monkeypatch, 0, striking(PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
    with pytest.raises(CheckpointError, match=r"could not be written .*Permission denied.*choose another folder"):
        save(kept, *number(2))
    assert found(kept) == 1
    kept.chmod(0o700)


# What cannot be kept


@pytest.mark.parametrize(
    "tensors, said",
    [
        ({"lr": 0.1}, r"expected lr to be a tensor, got 0\.1: put other things into the card"),
        ({"w": None}, "expected w to be a tensor"),
        ({"w": torch.zeros(2, dtype=torch.complex128)}, "safetensors cannot hold"),
        ({"w": torch.eye(3).to_sparse()}, "safetensors cannot hold"),
        ({"w": torch.zeros(2, device="meta")}, "safetensors cannot hold"),
        ({3: torch.zeros(2)}, "safetensors cannot hold"),
    ],
)
def test_what_is_no_plain_tensor(tmp_path, tensors, said):
    with pytest.raises(TypeError, match=said):
        save(tmp_path / "new", tensors, {})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "value", [torch.ones(1), {1, 2}, float("nan"), float("inf"), object()], ids=lambda v: type(v).__name__
)
def test_what_no_card_can_hold(tmp_path, value):
    save(tmp_path, *number(1))
    with pytest.raises((TypeError, ValueError), match="expected a card of text, finite numbers"):
        save(tmp_path, number(2)[0], {"metrics": [value]})
    assert found(tmp_path) == 1
