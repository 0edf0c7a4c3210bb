"""Completion in a shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from vaezoo.cli import main


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "vaezoo"
    script.write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        given = " ".join(f"'{word}'" for word in words)
        call = f"COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _vaezoo"
        code = f"source {script}; {call}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return {line.strip() for line in done.stdout.splitlines()}

    assert completed("vaezoo", "ex") == {"explore", "export"}
    assert {"--format", "--out", "--part"} <= completed("vaezoo", "export", "--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_have_all_commands(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("sample", "train", "export", "embed", "cite"))
