"""Whatever Python a test starts has no network: tests/offline/sitecustomize.py. Every lesson is run so."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

ASK = {
    "an address": "socket.create_connection(('192.0.2.1', 80), timeout=1)",  # reserved for examples, RFC 5737
    "a name": "socket.getaddrinfo('example.invalid', 443)",
    "a page": "urllib.request.urlopen('http://192.0.2.1/')",
}


@pytest.mark.parametrize("how", ASK.values(), ids=ASK.keys())
def test_a_process_is_refused(how):
    done = subprocess.run(
        [sys.executable, "-c", f"import socket, urllib.request; {how}"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "tests have no network, and this asks for" in done.stderr


def test_its_own_machine_it_may_reach():
    program = (
        "import socket; server = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(server.getsockname()).close(); socket.getaddrinfo('localhost', 80); print('reached')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "reached\n", done.stderr


def test_a_notebooks_kernel_is_refused_too():
    cell = f"import os, socket\ntry:\n    {ASK['an address']}\nexcept OSError as error:\n    print(error)\n"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell + "print(os.environ['HF_HUB_OFFLINE'])")])
    NotebookClient(book, kernel_name="python3").execute()
    said = "".join(output["text"] for output in book.cells[0].outputs)
    assert "this asks for 192.0.2.1" in said and said.endswith("1\n")
