"""`vaezoo new`: the files work as they are written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaezoo.cli import main
from vaezoo.errors import ConfigError
from vaezoo.workflows.skeletons import SKELETONS, new

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "options", [pytest.param(["-q"], id="tests", marks=pytest.mark.full), pytest.param(["ruff"], id="style")]
)
def test_the_files_of_all_kinds_pass_their_tests_and_the_linter(options: list[str], tmp_path: Path):
    for kind in SKELETONS:
        new(kind, f"own-{kind}", tmp_path)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "."]
    if options == ["ruff"]:
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--line-length=120", "."]
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert options == ["ruff"] or "6 passed" in done.stdout


def test_the_command_writes_into_the_current_folder_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "variant", "own-vae"]) == 0
    printed = capsys.readouterr().out
    assert "Wrote own_vae.py, test_own_vae.py. Test: python -m pytest test_own_vae.py" in printed
    assert 'own-vae = "PACKAGE.own_vae:own_vae"' in printed
    (tmp_path / "own_vae.py").write_text("mine")
    (tmp_path / "test_own_vae.py").unlink()
    assert main(["new", "variant", "own-vae"]) == 1
    assert "own_vae.py exists and is not overwritten" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["own_vae.py"]
    assert (tmp_path / "own_vae.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("model", "own-vae", "expected one of variant, recipe, dataset"),
        ("variant", "Own_VAE", "expected lower-case words"),
        ("variant", "../own", "expected lower-case words"),
        ("variant", "lambda", "expected lower-case words"),
        ("variant", "beta-vae", "is the name of a variant already"),
        ("recipe", "vae-mnist", "is the name of a recipe already"),
        ("dataset", "mnist", "is the name of a dataset already"),
        ("dataset", "json", "is the name of an installed Python module"),
    ],
)
def test_bad_names_are_refused(kind: str, name: str, message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        new(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())
