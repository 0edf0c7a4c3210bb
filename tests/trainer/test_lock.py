"""The lock of a run's folder: one writer at a time, its owner, and locks of processes that have ended."""

import os
import platform
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.runs import fit, small_data, small_recipe, trainer

import vaezoo
from vaezoo.errors import CheckpointError
from vaezoo.recipe import read_recipe
from vaezoo.trainer.lock import OWNER, locked, owner_has_ended, owner_of
from vaezoo.workflows.run_folder import auto_folder

HOLD = """
import sys, time
from pathlib import Path
from vaezoo.trainer.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_in_use_is_refused_with_its_owner_until_that_process_ends(tmp_path: Path) -> None:
    recipe = small_recipe()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert owner_of(tmp_path / "run") == (platform.node(), holder.pid)
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=f"in use by another training .process {holder.pid} on "):
                fit(trainer(recipe, tmp_path / "run"), resume=resume)
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.lock", OWNER], "nothing was written"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert owner_has_ended(tmp_path / "run"), "the killed process left its record"
    assert fit(trainer(recipe, tmp_path / "run")).folder == tmp_path / "run"
    assert not (tmp_path / "run" / OWNER).exists()


def test_two_trainings_of_one_process_and_the_end_of_a_block(tmp_path: Path) -> None:
    recipe = small_recipe()
    with locked(tmp_path):
        assert not owner_has_ended(tmp_path)
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on "):
            vaezoo.train(recipe, data=small_data(recipe), out=tmp_path, trackers=())
    for text in ("", "[]", '{"pid": 1}', '{"host": 1, "pid": "x"}'):
        (tmp_path / OWNER).write_text(text)
        assert owner_of(tmp_path) is None and not owner_has_ended(tmp_path)
    vaezoo.train(recipe, data=small_data(recipe), out=tmp_path, trackers=())


def test_parallel_starts_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe({**small_recipe().as_dict(), "name": "../a name\u00a0[bold]/"})
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: auto_folder(recipe, False), range(16)))
    assert len(set(folders)) == 16 and {each.parent for each in folders} == {Path("runs")}
    assert min(each.name for each in folders) == "a-name-bold"
    assert auto_folder(recipe, True) == Path("runs/a-name-bold-16")
    with pytest.raises(vaezoo.VaezooError):
        vaezoo.train(recipe, data=[], trackers=())
    assert not Path("runs/a-name-bold-17").exists(), "a start that failed leaves no empty folder"
