"""MNIST: the true one where it is, and with a tiny one all that can go wrong on the way from a server to memory."""

import errno
import gzip
import hashlib
import http.server
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist as theirs

from course_lib import data
from course_lib.data import DataError, data_dir, handwritten, mnist

NAMES = list(data.MNIST_FILES)
HERE = Path(os.environ.get("COURSE_DATA", "nowhere"), "MNIST", "raw").resolve()
needs_mnist = pytest.mark.skipif(
    not all((HERE / f"{name}.gz").is_file() for name in NAMES), reason="needs MNIST in COURSE_DATA"
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test reaches anything but this machine, and what would is refused at once, as in a room without internet."""
    connect, tried, patience = socket.socket.connect, [], []

    def local_only(self, address):
        if address[0] != "127.0.0.1":
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        patience.append(self.gettimeout())
        connect(self, address)

    def no_names(host, *args, **kwargs):
        tried.append(host)
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, args[0]))]

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return SimpleNamespace(tried=tried, patience=patience)


# The true one


@pytest.fixture(scope="module")
def true_folder(tmp_path_factory):
    """A data folder with the packed files only."""
    folder = tmp_path_factory.mktemp("true")
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for name in NAMES:
        shutil.copyfile(HERE / f"{name}.gz", folder / "MNIST" / "raw" / f"{name}.gz")
    return folder


@needs_mnist
def test_the_true_mnist(true_folder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(true_folder))
    counts = {
        True: [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        False: [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }
    for train, n in ((True, 60_000), (False, 10_000)):
        x, labels, name = mnist(train)
        assert (x.shape, x.dtype, name) == ((n, 1, 28, 28), torch.float32, "MNIST")
        assert (float(x.min()), float(x.max())) == (-1, 1)
        assert labels.dtype == torch.int64 and labels.bincount().tolist() == counts[train]
        as_theirs = torchvision_reads(true_folder, train)
        assert torch.equal(labels, as_theirs.targets)
        assert torch.equal(((x[::7, 0] + 1) * 127.5).round().to(torch.uint8), as_theirs.data[::7])
    assert not [path for path in (true_folder / "MNIST" / "raw").iterdir() if path.name.startswith(".")]


def torchvision_reads(folder, train):
    return theirs.MNIST(folder, train=train, download=False)


@needs_mnist
def test_a_truncated_file_of_the_true_mnist_is_unpacked_again(true_folder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(true_folder))
    mnist(train=False)
    path = true_folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1000])
    assert mnist(train=False).pictures.shape == (10_000, 1, 28, 28)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == data.MNIST_FILES[path.name]


# A tiny one: the same files with 30 and 20 digits, and their own checksums


def tiny_file(name):
    random = np.random.default_rng(len(name))
    n = 30 if name.startswith("train") else 20
    if "labels" in name:
        return np.array([0x0801, n], ">i4").tobytes() + bytes(i % 10 for i in range(n))
    pixels = random.integers(0, 256, n * 784, dtype=np.uint8)
    pixels[:2] = 0, 255
    return np.array([0x0803, n, 28, 28], ">i4").tobytes() + pixels.tobytes()


TINY = {name: tiny_file(name) for name in NAMES}
PACKED = {f"{name}.gz": gzip.compress(TINY[name], mtime=0) for name in NAMES}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Where the files of the tiny MNIST belong; nothing is there yet."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data, "MNIST_FILES", {name: hashlib.sha256(TINY[name]).hexdigest() for name in NAMES})
    sums = [(name, hashlib.md5(packed, usedforsecurity=False).hexdigest()) for name, packed in PACKED.items()]
    monkeypatch.setattr(theirs.MNIST, "resources", sums)
    before = socket.getdefaulttimeout()
    yield tmp_path / "data" / "MNIST" / "raw"
    assert socket.getdefaulttimeout() == before


@pytest.fixture
def packed(raw):
    """The packed files are there."""
    raw.mkdir(parents=True)
    for name, content in PACKED.items():
        (raw / name).write_bytes(content)
    return raw


def state(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(train=True):
    x, labels, name = mnist(train)
    n = 30 if train else 20
    content = TINY["train-images-idx3-ubyte" if train else "t10k-images-idx3-ubyte"]
    assert x.shape == (n, 1, 28, 28) and name == "MNIST" and labels.tolist() == [i % 10 for i in range(n)]
    assert ((x + 1) * 127.5).round().to(torch.uint8).flatten().tolist() == list(content[16:])
    assert (float(x.min()), float(x.max())) == (-1, 1)
    return True


def refused(said):
    with pytest.raises(DataError, match=said) as caught:
        mnist()
    assert "\n" not in str(caught.value)


def test_unpacked_once_and_then_only_read(packed, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(packed / "none"))  # a move from another disk could be cut short
    assert whole() and whole(train=False)
    assert state(packed).keys() == {Path(name) for name in [*NAMES, *PACKED]}
    for name in PACKED:
        (packed / name).unlink()
    monkeypatch.setattr(data, "_fetch_mnist", None)
    assert whole() and whole(train=False)


def test_mnist_that_is_there_does_not_wait_for_torchvision(packed, monkeypatch):
    """Seconds of every lesson: it is imported where something is to be unpacked, and only there."""
    mnist()
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would fail
    assert whole() and whole(train=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer", "missing"])
def test_a_damaged_file_is_unpacked_again(packed, name, damage):
    mnist()
    content = TINY[name]
    ruined = {
        "cut": content[:-1], "flipped": content[:-1] + bytes([content[-1] ^ 1]), "empty": b"", "longer": content + b"x"
    }  # fmt: skip
    (packed / name).unlink()
    if damage in ruined:
        (packed / name).write_bytes(ruined[damage])
    assert whole() and whole(train=False)
    assert (packed / name).read_bytes() == content


@pytest.mark.parametrize(
    "ruined", [b"", b"no gzip", PACKED["train-images-idx3-ubyte.gz"][:-9]], ids=["0", "text", "cut"]
)
def test_a_damaged_packed_file_without_network_is_named_and_nothing_is_touched(packed, no_network, ruined):
    (packed / "train-images-idx3-ubyte.gz").write_bytes(ruined)
    (packed / "t10k-labels-idx1-ubyte").write_bytes(b"half")
    before = state(packed)
    refused(r"neither whole in .* nor reachable: go on with the embedded digits .*, or copy the four \.gz files")
    assert state(packed) == before and no_network.tried


def test_unpacked_files_stay_good_beside_damaged_packed_ones(packed):
    mnist()
    for name in PACKED:
        (packed / name).write_bytes(b"damaged")
    assert whole()


def test_files_with_the_right_packed_sum_and_the_wrong_content(packed, monkeypatch):
    monkeypatch.setitem(data.MNIST_FILES, NAMES[0], "0" * 64)
    before = state(packed)
    refused("does not match its checksums: go on with")
    assert state(packed) == before


def test_no_torchvision_is_named(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    refused("unpacking MNIST needs torchvision .*: install the one made for this torch")
    assert handwritten().name.startswith("embedded")


# Interrupted


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), MemoryError()], ids=repr)
def test_interrupted_while_a_file_is_unpacked(packed, monkeypatch, at, error):
    extract, calls = theirs.download_and_extract_archive, []

    def torn(url, download_root, filename, md5):
        calls.append(filename)
        if len(calls) <= at:
            return extract(url, download_root, filename=filename, md5=md5)
        name = filename.removesuffix(".gz")
        Path(download_root, name).write_bytes(TINY[name][:500])  # half of it is on the disk
        raise error

    before = state(packed)
    with monkeypatch.context() as patch, pytest.raises((type(error), DataError)) as caught:
        patch.setattr(theirs, "download_and_extract_archive", torn)
        mnist()
    assert state(packed) == before
    if isinstance(error, OSError):
        assert "the disk is full: free 70 MB" in str(caught.value)
    assert whole()


@pytest.mark.parametrize("at", range(4))
def test_interrupted_while_the_files_are_moved_in(packed, monkeypatch, at):
    (packed / NAMES[0]).write_bytes(b"old and damaged")
    replace, calls = os.replace, []

    def torn(*args):
        calls.append(args)
        if len(calls) > at:
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", torn)
        mnist()
    for name in NAMES:  # each is the old one, whole, or not there
        path = packed / name
        assert not path.exists() or path.read_bytes() in (b"old and damaged", TINY[name])
    assert sum(1 for name in NAMES if state(packed).get(Path(name)) == TINY[name]) == at
    assert whole()


def test_what_a_killed_process_left_is_taken_for_nothing(packed):
    left = packed / ".draft-left" / "MNIST" / "raw"
    left.mkdir(parents=True)
    for name in NAMES:
        (left / name).write_bytes(TINY[name][:100])
    assert whole()
    assert left.is_dir()  # so young that its owner may still be at work


def test_what_a_process_killed_days_ago_left_is_removed(packed):
    left = packed / ".draft-left"
    left.mkdir(parents=True)
    os.utime(left, (time.time() - 90_000,) * 2)
    assert whole()
    assert not left.exists()


def test_several_at_once(packed):
    failed = []

    def work():
        try:
            assert whole()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert state(packed).keys() == {Path(name) for name in [*NAMES, *PACKED]}


# The folder


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("what", ["mkdir", "replace"])
def test_a_folder_that_cannot_be_written(packed, monkeypatch, code, what):
    def never(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    before = state(packed)
    with monkeypatch.context() as patch:
        patch.setattr(os, what, never)
        refused("cannot be written: set COURSE_DATA to a folder of yours")
        assert handwritten().name.startswith("embedded")
    assert state(packed) == before


def test_a_folder_that_may_only_be_read_serves_what_is_in_it(packed):
    mnist()
    before = state(packed)
    packed.chmod(0o500)
    try:
        assert whole()
    finally:
        packed.chmod(0o700)
    assert state(packed) == before


@pytest.mark.parametrize("what", ["mkdir", "replace"])
def test_a_full_disk(packed, monkeypatch, what):
    def never(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, what, never)
        refused("the disk is full: free 70 MB")
    assert whole()


def test_a_file_where_the_folder_should_be(raw):
    raw.parent.parent.mkdir(parents=True)
    raw.parent.write_text("in the way", encoding="utf-8")
    refused("MNIST cannot be had .*: go on with the embedded digits")


# The network


def test_no_network_at_all(raw, no_network):
    refused("neither whole in .* nor reachable")
    assert no_network.tried
    assert not state(raw)


class Server(http.server.BaseHTTPRequestHandler):
    """A mirror that serves the packed files as well as `manners` says."""

    manners, asked = "good", 0

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        type(self).asked += 1
        content = PACKED[self.path.rsplit("/", 1)[-1]]
        if self.manners == "hangs":
            self.server.free.wait(10)
        elif self.manners == "says nonsense":
            self.wfile.write(b"220 this is a mail server\r\n")
        elif self.manners in ("404", "500"):
            self.send_error(int(self.manners))
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.manners == "wants a login":
                content = b"<html>".ljust(len(content))
            if self.manners == "breaks off":
                content = content[: len(content) // 2]
            if self.manners == "falls silent" and not head:
                self.wfile.write(content[:10])
                self.server.free.wait(10)
            elif not head:
                self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(monkeypatch):
    """Two mirrors on this machine, as the true one has two; returns the way to choose their manners."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads, server.free = True, threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setattr(theirs.MNIST, "mirrors", [f"{url}a/", f"{url}b/"])
    monkeypatch.setattr(Server, "asked", 0)
    yield lambda manners: monkeypatch.setattr(Server, "manners", manners)
    server.free.set()
    server.shutdown()
    server.server_close()


def test_fetched_once(raw, mirror):
    assert whole() and whole(train=False)
    asked = Server.asked
    assert asked >= 4 and whole() and Server.asked == asked
    assert set(NAMES) == {path.name for path in raw.iterdir()}


def test_only_what_is_damaged_is_fetched(packed, mirror):
    (packed / f"{NAMES[1]}.gz").write_bytes(b"damaged")
    assert whole() and 1 <= Server.asked <= 2


@pytest.mark.parametrize("manners", ["404", "500", "wants a login", "breaks off", "says nonsense"])
def test_a_server_without_manners(raw, mirror, manners):
    mirror(manners)
    refused("go on with the embedded digits .*, or copy the four")
    assert not state(raw)
    assert handwritten().name.startswith("embedded")
    mirror("good")
    assert whole()


@pytest.mark.parametrize("manners", ["hangs", "falls silent"])
def test_a_server_that_hangs_is_given_up(raw, mirror, monkeypatch, no_network, manners):
    assert 5 <= data.PATIENCE <= 30
    monkeypatch.setattr(data, "PATIENCE", 0.2)
    socket.setdefaulttimeout(77)
    try:
        mirror(manners)
        refused("go on with the embedded digits")
        assert socket.getdefaulttimeout() == 77
        assert set(no_network.patience) == {0.2}
    finally:
        socket.setdefaulttimeout(None)
    assert not state(raw)


# The embedded digits


@pytest.mark.parametrize("train, n", [(True, 1500), (False, 297)])
def test_without_mnist_the_embedded_digits_come_in_its_shape(raw, train, n):
    x, labels, name = handwritten(train)
    assert (x.shape, x.dtype, labels.dtype) == ((n, 1, 28, 28), torch.float32, torch.int64)
    assert "embedded" in name and name != "MNIST"
    assert float(x.min()) == -1 and 0.9 < float(x.max()) <= 1
    assert set(labels.tolist()) == set(range(10))
    edge = torch.ones(28, 28, dtype=torch.bool)
    edge[4:-4, 4:-4] = False
    assert bool((x[:, 0, edge] == -1).all())  # MNIST's own margin
    small, all_labels = data.digits()
    rows = slice(None, 1500) if train else slice(1500, None)
    assert torch.equal(labels, all_labels[rows])
    again = torch.nn.functional.adaptive_avg_pool2d(x[:, :, 4:-4, 4:-4], 4)
    coarse = torch.nn.functional.avg_pool2d(small[rows], 2)
    assert float((again - coarse).abs().mean()) < 0.1  # the same pictures, only larger


def test_with_mnist_it_is_mnist(packed):
    for train in (True, False):
        assert handwritten(train).name == "MNIST"
        assert torch.equal(handwritten(train).pictures, mnist(train).pictures)


def test_the_folder_follows_the_environment(raw, monkeypatch):
    assert data_dir() == raw.parent.parent
    monkeypatch.setenv("COURSE_DATA", "~/somewhere")
    assert data_dir() == Path.home() / "somewhere"
