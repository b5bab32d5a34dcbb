"""The wheel alone, without a network and outside the repository, says seven."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import soundfile

# Put into the new environment, where every Python process loads it: a connection ends the process loudly.
NO_NETWORK = """
import socket

def refuse(*args, **kwargs):
    raise RuntimeError(f"the installed wheel reached for the network: {args[1:]}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run(*command: str | Path, cwd: Path) -> str:
    # Neither the checkout nor the test environment may lend its cymatic to the new one.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_says_seven_offline(tmp_path: Path, repository: Path) -> None:
    dist, venv, elsewhere = tmp_path / "dist", tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, repository, cwd=tmp_path)
    (wheel,) = dist.glob("cymatic-*.whl")

    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    bin_dir = venv / ("Scripts" if os.name == "nt" else "bin")
    python = bin_dir / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=elsewhere).strip())
    # The dependencies are borrowed from this environment. A path from a .pth file comes after the venv's own, and the
    # .pth files in it (the editable cymatic among them) are not read.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "no_network.py").write_text(NO_NETWORK, encoding="utf-8")
    (site / "borrowed.pth").write_text("\n".join([*sorted(borrowed), "import no_network\n"]), encoding="utf-8")

    home = Path(run(python, "-c", "import cymatic; print(cymatic.__file__)", cwd=elsewhere).strip())
    assert home.resolve().is_relative_to(venv.resolve()), f"cymatic came from {home}"

    sound = ("sound", "george says seven", "--seed", "1", "-o", "out.wav", "--plot", "out.png")
    run(bin_dir / "cymatic", *sound, cwd=elsewhere)
    samples, rate = soundfile.read(elsewhere / "out.wav")
    assert 0.2 <= len(samples) / rate <= 3
    assert np.isfinite(samples).all() and np.sqrt(np.mean(samples**2)) > 1e-3
    assert (elsewhere / "out.png").read_bytes().startswith(b"\x89PNG")
