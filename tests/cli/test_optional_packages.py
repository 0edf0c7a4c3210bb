"""Models load without the packages of `vaezoo[train]`; other commands end with a line that names the missing one."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import contextlib, io, json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "PIL", "torchvision", "sklearn", "scipy", "pooch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import torch, vaezoo

model = vaezoo.load("vae-mnist")
x = model.sample(4).round()
assert model.encode(x).mean.shape == (4, 50) and model(x).bound.isfinite().all()
vaezoo.save(model, "copy")
assert torch.equal(vaezoo.load("./copy").reconstruct(x), model.reconstruct(x))
assert not {"rich", "cyclopts"} & set(sys.modules)

from vaezoo.cli import main

with contextlib.redirect_stdout(io.StringIO()):
    assert main(["list"]) == 0 and main(["show", "vae-mnist"]) == 0
errors = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        assert main(command.split()) == 1
    errors[command] = stream.getvalue()
print(json.dumps(errors))
"""
PACKAGES = {
    "sample vae-mnist": "torchvision",
    "traverse vae-mnist": "torchvision",
    "train vae-digits": "scikit-learn",
    "fit-sampler vae-mnist gaussian-mixture --data digits --out copy": "scikit-learn",
    "evaluate vae-mnist --data torchvision:MNIST": "torchvision",
}


def test_models_load_without_optional_packages_and_commands_name_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(list(PACKAGES))],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    for command, package in PACKAGES.items():
        (line,) = errors[command].splitlines()
        assert line.startswith("error [missing-extra]: ") and f"pip install {package}," in line, line
        assert "'vaezoo[train]'" in line
