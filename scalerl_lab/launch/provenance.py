"""Which code a number came from."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """Package version, with the commit (and ``.dirty``) where the package lies in a checkout of its own."""
    release = version("scalerl-lab")
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return release
    try:
        described = subprocess.run(
            [
                "git",
                "-C",
                str(checkout),
                "describe",
                "--always",
                "--dirty=.dirty",
                "--abbrev=10",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+g{described.stdout.strip()}"
