"""`serve` and `demo`."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli.configuration import config_option, load_settings
from proxy.cli.failures import plain_errors
from proxy.demo import run_demo
from proxy.server.running import run, serve
from proxy.settings import LogFormat
from proxy.telemetry.logs import logging_to


@click.command("serve")
@config_option
@click.option("--listen", metavar="ADDR", help="HOST:PORT, or unix:/path.sock; wins over GATEWAY_LISTEN.")
@plain_errors
def serve_command(config: Path | None, listen: str | None) -> None:
    """Run the gateway."""
    settings = load_settings(config, GATEWAY_LISTEN=listen)
    settings.require_serving()
    with logging_to(as_json=settings.log_format is LogFormat.JSON, level=settings.log_level.value):
        run(lambda: serve(settings), settings.loop)


@click.command("demo")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, envvar="PORT", show_default=True)
@plain_errors
def demo_command(port: int) -> None:
    """Run the sandbox upstream, the gateway in front of it and the console: no account, no internet."""
    with logging_to(as_json=False, level="warning"):
        run(lambda: run_demo(port, click.echo), None)
