"""The progress of long evaluations."""

import importlib
import io
from pathlib import Path

import pytest
from rich.console import Console

import vaezoo
from vaezoo.cli import main
from vaezoo.cli.evaluation import FASTER
from vaezoo.cli.progress import ShownProgress

bar = importlib.import_module("vaezoo.trainer.trackers.bar")


@pytest.mark.parametrize(("pace", "hinted"), [(1_000, True), (20_000, False)])
def test_a_log_has_a_line_within_seconds_then_every_thirty_and_hints_at_a_faster_way(pace: int, hinted: bool) -> None:
    now, file, total = [50.0], io.StringIO(), 200_000
    shown = ShownProgress("draw", FASTER, Console(file=file, width=40), clock=lambda: now[0])
    shown(0, total)
    now[0] += 3.0
    shown(0, total)  # the bound comes first
    for done in range(pace // 2, total + 1, pace // 2):
        now[0] += 0.5
        shown(done, total)
    lines = [line for line in file.getvalue().splitlines() if line != FASTER]
    assert lines[0] == f"evaluation: draw 0 of {total:,} (0 %)" and lines[-1].startswith("evaluation: draw 200,000 of")
    assert (FASTER in file.getvalue().splitlines()) == hinted
    # After 33 s, 30 of them with draws.
    assert len(lines) == (8 if hinted else 2)
    if hinted:
        assert lines[1] == "evaluation: draw 30,000 of 200,000 (15 %), 1,000.0 draws/s, 2 min 50 s left"


def test_evaluate_shows_its_draws_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bar, "FIRST", 0.0)
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2, backbone={"name": "mlp", "hidden": [4]})
    vaezoo.save(model, tmp_path / "mine")
    options = ["--data", "digits", "--binarize", "dynamic", "--limit", "2", "--samples", "20", "--json"]
    assert main(["evaluate", str(tmp_path / "mine"), *options]) == 0
    out, err = capsys.readouterr()
    assert "evaluation: draw 40 of 40 (100 %)" in err and "evaluation" not in out
