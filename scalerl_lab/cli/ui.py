"""``lab ui``: MLflow's pages on what was mirrored."""

from __future__ import annotations

import click


@click.command("ui")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on this host."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def ui_command(port: int, no_browser: bool) -> None:
    """Open MLflow on the mirrored runs: pass rate against GPU-hours, arms side by side.

    Serves until Ctrl-C. The mirror is a copy: what the lab reasons on is in its own database.
    """
    from scalerl_lab.launch.home import Home
    from scalerl_lab.store import serve_ui

    home = Home.from_environment()
    serve_ui(home.mlflow_uri, home.mlflow_artifacts, port=port, open_browser=not no_browser)
