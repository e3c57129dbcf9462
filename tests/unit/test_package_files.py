"""The files in a wheel of this tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_a_wheel_holds_the_package_without_its_guides(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--no-build-isolation",
            "--wheel-dir", str(tmp_path), str(TOP),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        scripts = archive.read(entry_points).decode()
    files = {
        str(path.relative_to(TOP))
        for path in (TOP / "proxy").rglob("*")
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts
    }
    assert held == files
    assert {"proxy/py.typed", "proxy/web/console/static/console.html", "proxy/sandbox/media/lake.jpg"} <= held
    assert "media-gateway = proxy.cli:main" in scripts
