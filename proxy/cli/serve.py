"""`serve` and `demo`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from proxy.cli.configuration import config_option, load_settings
from proxy.cli.failures import plain_errors
from proxy.demo import run_demo
from proxy.processes.event_loop import run
from proxy.processes.supervisor import supervise
from proxy.settings import Settings
from proxy.telemetry.logs import logging_to


@click.command("serve")
@config_option
@click.option("--listen", metavar="ADDR", help="HOST:PORT or unix:/path.sock, in place of GATEWAY_LISTEN.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of processes that serve."
)
@plain_errors
def serve_command(config: Path | None, listen: str | None, workers: int) -> None:
    """Run the gateway. SIGTERM drains and ends it; SIGHUP reads the settings again, and no request is lost."""

    def read_settings(before: Settings | None) -> Settings:
        settings = load_settings(config, before, GATEWAY_LISTEN=listen)
        settings.require_serving()
        return settings

    supervise(read_settings, workers, os.environ)


@click.command("demo")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, envvar="PORT", show_default=True)
@click.option(
    "--parent", metavar="PID", type=click.IntRange(2), help="End when this parent process ends, as `make` does."
)
@plain_errors
def demo_command(port: int, parent: int | None) -> None:
    """Run the sandbox upstream with the gateway and the console in front of it, without an account or the internet."""
    with logging_to(as_json=False, level="warning"):
        run(lambda: run_demo(port, click.echo, parent), None)
