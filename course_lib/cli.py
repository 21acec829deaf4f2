"""The command line: course lab | doctor | build.

    main(["doctor", "--json"]) -> exit code
Each command imports what it needs when it runs: `course --help` must not wait for torch.
Does not belong here: the work itself, which lives in the module each command calls.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
FIRST = "lessons/00_start_here.ipynb"
PORTS = range(8888, 8908)  # JupyterLab's own first port, and where to look when it is taken


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the course and return its exit code: 0 well, 1 trouble, 2 not understood.

    >>> main(["build", "no_such_lesson"])
    Not built: there is no lesson 'no_such_lesson'...
    1
    """
    parser = argparse.ArgumentParser(prog="course", description="Lessons on diffusion models that check themselves.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    lab = commands.add_parser("lab", help="open the lessons in JupyterLab")
    lab.add_argument("--port", type=int, help=f"default: the first free one from {PORTS[0]}")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser("doctor", help="look at this machine: what is wrong, and what to do")
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.set_defaults(run=_doctor)

    build = commands.add_parser("build", help="make the notebooks from solutions/*.py (for authors)")
    build.add_argument("names", nargs="*", metavar="NAME", help="such as 01 or 01_noise_schedules; default: all")
    build.add_argument("--check", action="store_true", help="change nothing, report what is stale or wrong")
    build.add_argument("--no-execute", action="store_true", help="keep the outputs as they are")
    build.set_defaults(run=_build)

    asked = parser.parse_args(arguments)
    return asked.run(asked)


def _doctor(asked) -> int:
    """Print the doctor's page, or its JSON."""
    from course_lib import doctor

    findings = doctor.examine()
    well = all(finding.status != "trouble" for finding in findings)
    if asked.json:
        print(json.dumps({"ok": well, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        print(doctor.page(findings))
    return 0 if well else 1


def _build(asked) -> int:
    """Hand over to the lesson factory."""
    from course_lib import build

    return build.main(asked.names, check=asked.check, execute=not asked.no_execute)


def _lab(asked) -> int:
    """Open JupyterLab on the first lesson, on this machine only; its token stays on."""
    if not (ROOT / FIRST).is_file():
        return _refuse(f"there is no {FIRST} in {ROOT}: clone the course and run `uv run course lab` inside it")
    if importlib.util.find_spec("jupyterlab") is None:
        return _refuse("JupyterLab is not installed here: run `pip install -c constraints.txt jupyterlab`")
    if asked.port is not None and not _free(asked.port):
        return _refuse(f"port {asked.port} is taken or not allowed: leave --port away and the course finds a free one")
    port = asked.port or next((port for port in PORTS if _free(port)), None)
    if port is None:
        return _refuse(f"ports {PORTS[0]} to {PORTS[-1]} are all taken: choose another one with --port")
    from jupyterlab.labapp import main as jupyter_lab

    with tempfile.TemporaryDirectory() as folder:
        _without_news(Path(folder))
        return jupyter_lab(_jupyter_arguments(port, browser=not asked.no_browser)) or 0


def _without_news(folder):
    """Let JupyterLab find a setting in this folder that keeps its news pop-up away from the first lesson."""
    overrides = folder / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    overrides.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}', encoding="utf-8")
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(folder), *([known] if known else [])])


def _jupyter_arguments(port, browser):
    """Return JupyterLab's arguments: this machine only, no other port than the one that was free."""
    arguments = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # containers; JupyterLab refuses root without it
    return arguments


def _free(port) -> bool:
    """Say whether a server may listen on this port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        if sys.platform != "win32":  # there the option would let two servers share a port
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _refuse(sentence) -> int:
    """Print one sentence for a person, and give the exit code for a script."""
    print(f"course: {sentence}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
