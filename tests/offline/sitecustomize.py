"""Loaded first by each Python that a test starts, the notebooks' kernels among them: this machine, and no other.

So a lesson that reaches for the network fails here, and not in a classroom without one.
"""

import errno
import os
import sys


def refuse(event, arguments):
    """Stop what leaves the machine; an audit hook cannot be taken off again (PEP 578)."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host or ""
    if host not in ("", "localhost", "::1", "0.0.0.0") and not host.startswith("127."):
        raise OSError(errno.ENETUNREACH, f"tests have no network, and this asks for {host}")


os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.addaudithook(refuse)
