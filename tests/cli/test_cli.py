"""The commands, called as a user calls them: what they print, what they write, and how they fail."""

import json
import logging
import resource
import subprocess
import sys
import warnings

import pytest

import vaezoo
from vaezoo.cli import main
from vaezoo.zoo.index import read_index

# Runs of a few steps leave latents empty, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(["train", "vae-digits", "train.steps=30", "train.epochs=0", "--out", str(folder)])
    assert code == 0
    return folder


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vaezoo", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_names_every_command_and_imports_no_torch():
    lines = ["import sys, vaezoo.cli", "try: vaezoo.cli.main(['--help'])", "except SystemExit: pass"]
    code = "\n".join([*lines, "assert 'torch' not in sys.modules"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    commands = ["demo", "list", "show", "train", "evaluate", "sample", "reconstruct", "traverse", "interpolate"]
    for command in [*commands, "compare", "convert", "data", "fit-sampler"]:
        assert command in done.stdout


def test_help_and_the_list_of_models_are_quick():
    """In processor time, the best of several: other work on the machine must not decide."""
    for arguments in (["--help"], ["list"]):
        times = []
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert run(*arguments).returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(times) < 0.7, times


def test_list_models_variants_and_recipes(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in read_index())
    assert main(["list", "--variants"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("Higgins et al. (2017)", "closed form", "no density", "beta-vae-mnist"))
    assert main(["list", "--recipes", "*digits*"]) == 0
    out = capsys.readouterr().out
    assert "vae-digits" in out
    assert "vae-mnist" not in out


def test_show_knows_models_variants_and_recipes(capsys):
    assert main(["show", "beta-vae"]) == 0
    assert "beta = 4.0" in capsys.readouterr().out
    assert main(["show", "vae-digits"]) == 0
    assert "[train]" in capsys.readouterr().out
    assert main(["show", "beta-vae-mnist"]) == 0
    assert "nats" in capsys.readouterr().out


def test_commands_show_the_log_of_vaezoo_alone(capsys):
    assert main(["list", "variants"]) == 0
    assert logging.getLogger("vaezoo").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpx2").isEnabledFor(logging.INFO)


def test_train_and_resume_a_finished_run(run_folder, capsys):
    assert (run_folder / "model.safetensors").exists()
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 30
    assert main(["train", "vae-digits", "train.steps=30", "train.epochs=0", "--out", str(run_folder)]) == 1
    assert "--resume" in capsys.readouterr().err


def test_evaluate_says_on_what(run_folder, capsys):
    assert main(["evaluate", str(run_folder), "--samples", "5"]) == 0
    out = capsys.readouterr().out
    for words in ("log-evidence (K = 5)", "360 test images of digits", "standard error"):
        assert words in out
    assert main(["evaluate", str(run_folder), "--samples", "5", "--write"]) == 0
    assert json.loads((run_folder / "metrics.json").read_text())["samples"] == 5
    capsys.readouterr()
    assert main(["evaluate", str(run_folder)]) == 0
    out = capsys.readouterr().out
    assert "Published with the weights" in out
    assert out.count("log-evidence (K = 5)") == 2


@pytest.mark.parametrize("command", ["sample", "reconstruct", "traverse", "interpolate"])
def test_pictures_are_written(command, run_folder, here):
    assert main([command, str(run_folder)]) == 0
    (picture,) = (here / "pictures").glob("*.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main([command, str(run_folder), "--out", "mine.png"]) == 0 and (here / "mine.png").is_file()


def test_a_sampler_is_fitted_kept_and_drawn_from(run_folder, here, capsys):
    assert main(["sample", str(run_folder), "9", "--sampler", "normal"]) == 0
    assert (here / "pictures" / "run-normal-samples.png").exists()
    assert main(["fit-sampler", str(run_folder), "gaussian-mixture", "components=3", "--out", "kept"]) == 0
    assert "kept/samplers/gaussian-mixture" in capsys.readouterr().out
    assert (here / "kept" / "samplers" / "gaussian-mixture" / "density.safetensors").exists()
    assert main(["sample", "./kept", "9", "--sampler", "gaussian-mixture"]) == 0
    assert (here / "pictures" / "kept-gaussian-mixture-samples.png").exists()


def test_disentanglement_is_measured_on_known_factors(here, capsys):
    model = vaezoo.create("vae", shape=(1, 64, 64), latent=3, backbone={"name": "mlp", "hidden": [4]})
    vaezoo.save(model, "sprites")
    arguments = ["evaluate", "./sprites", "--disentanglement", "--limit", "400"]
    assert main([*arguments, "--data", "dsprites"]) == 0
    out = capsys.readouterr().out
    for words in ("MIG", "guessing: 0.200", "total correlation, nats", "400 test images of dsprites"):
        assert words in out
    assert main([*arguments, "--data", "mnist"]) == 1
    assert "dsprites" in capsys.readouterr().err


def test_compare_prints_a_table_and_a_picture(run_folder, here, capsys):
    arguments = ["compare", str(run_folder), "--variants", "beta-vae", "--data", "digits", "--steps", "10"]
    assert main([*arguments, "--samples", "3", "--limit", "40", "--out", "pics"]) == 0
    out = capsys.readouterr().out
    assert "beta-vae" in out
    assert "40 test examples of digits" in out
    assert "above " in out
    assert {path.name for path in (here / "pics").iterdir()} == {
        "comparison.md", "comparison.png", "runs", "samples.png"
    }  # fmt: skip
    page = (here / "pics" / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert page[0].startswith("| model | bound |")
    assert len(page) == 6
    assert "beta-vae" in page[3]
    assert page[5].startswith("40 test examples")


def test_data_get_shows_verified_files(capsys):
    assert main(["data", "get", "mnist"]) == 0
    assert capsys.readouterr().out.count("SHA-256 verified") == 4
    assert main(["data", "list"]) == 0
    assert "digits" in capsys.readouterr().out


BAD_RECIPE = """
variant = "beta-vea"
[data]
name = "digits"
binarise = "dynamic"
[train]
steps = -5
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "beta-vae-minst"], ["Did you mean 'beta-vae-mnist'"]),
        (["evaluate", "no/such/folder"], ["config.json"]),
        (["train", "vea-mnist"], ["Did you mean", "vae-mnist"]),
        (["train", "bad.toml"], ["beta-vae", "binarize", "steps"]),
        (["train", "vae-digits", "stepz=3"], ["stepz", "steps"]),
        (["train", "vae-digits", "--device", "abacus"], ["abacus", "auto"]),
        (["sample", "beta-vae-mnist", "0"], ["n = 0"]),
        (["sample", "cvae-mnist", "4", "--c", "12"], ["0 to 9"]),
        (["reconstruct", "beta-vae-mnist", "-3"], ["-3"]),
        (["traverse", "beta-vae-mnist", "--index", "-1"], ["-1"]),
        (["compare", "betavae"], ["beta-vae"]),
        (["compare"], ["no model"]),
        (["sample", "beta-vae-mnist", "4", "--sampler", "gausian"], ["Did you mean 'gaussian-mixture'"]),
        (["sample", "cvae-mnist", "4", "--sampler", "normal"], ["conditional"]),
        (["fit-sampler", "beta-vae-mnist", "normal"], ["--out"]),
        (["fit-sampler", "beta-vae-mnist", "gaussian-mixture", "components", "--out", "x"], ["key=value"]),
        (["data", "get", "minst"], ["Did you mean 'mnist'"]),
        (["show", "wae"], ["Did you mean"]),
        (["evaluate", "hf:not a repo"], ["hf:owner/name"]),
        (["evaluate", "beta-vae-mnist", "--samples", "-1"], ["samples = -1"]),
    ],
)
def test_mistakes_give_one_clear_error_and_no_traceback(arguments, words, here, capsys):
    (here / "bad.toml").write_text(BAD_RECIPE)
    assert main(arguments) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("error [")
    assert "Traceback" not in streams.err
    for word in words:
        assert word in streams.err


def test_a_wrong_call_exits_with_a_message():
    done = run("trian", "vae-mnist")
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr + done.stdout
    assert "train" in done.stderr + done.stdout


def test_a_closed_pipe_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m vaezoo list --variants | head -1",
        shell=True, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_the_demo_draws_measures_and_trains(here, capsys):
    assert main(["demo", "--out", "demo", "--seconds", "2"]) == 0
    out = capsys.readouterr().out
    assert "On the test images" in out
    assert out.count("latents active") == 2
    names = {path.name for path in (here / "demo").glob("*.png")}
    assert names == {"reconstructions.png", "samples.png", "traversal.png", "side-by-side.png", "tutorial-samples.png"}
