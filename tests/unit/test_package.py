from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import proxy
from proxy.version import version

IMPORT = """
import sys
import proxy
proxy.LinkMinter("https://example.com", "k1:" + "s" * 32).url(("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32))
print(*{name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__"})
"""


def test_minting_imports_nothing_but_itsdangerous() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert (done.returncode, done.stderr, set(done.stdout.split())) == (0, "", {"proxy", "itsdangerous"})


def test_what_an_application_needs_is_at_the_top() -> None:
    ref = proxy.MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32)
    link = proxy.LinkMinter("https://example.com", "k1:" + "s" * 32).mint(ref, claims=proxy.Claims(filename="a.jpg"))
    assert "&filename=a.jpg&" in link.url


def test_the_version_is_that_of_the_distribution() -> None:
    assert proxy.__version__ == importlib.metadata.version("media-gateway")


def test_the_version_is_unknown_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    version.cache_clear()
    try:
        assert proxy.__version__ == "0+unknown"
    finally:
        version.cache_clear()


def test_the_package_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        getattr(proxy, "nothing")  # noqa: B009
