"""Loading from the Hub: the real client against a server on this machine, and against none."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import vaezoo

COMMIT = "0123456789abcdef0123456789abcdef01234567"

LOAD = """
import sys, vaezoo
try:
    model = vaezoo.load(sys.argv[1])
except vaezoo.VaezooError as error:
    print(type(error).__name__, error)
else:
    print("loaded", model.config["variant"], *model.sample(1, seed=0).flatten()[:3].tolist())
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as a snapshot download asks for."""

    folder: Path

    def log_message(self, *_):
        pass

    def reply(self, body, kind="application/json", **headers):
        self.send_response(200)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        names = sorted(path.name for path in self.folder.iterdir())
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/them/tiny/revision"):
            siblings = [{"rfilename": name} for name in names]
            self.reply(json.dumps({"id": "them/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/api/models/them/tiny/tree"):
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            tree = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
            self.reply(json.dumps(tree).encode())
        elif path.startswith("/them/tiny/resolve/") and path.rpartition("/")[2] in names:
            name = path.rpartition("/")[2]
            data = (self.folder / name).read_bytes()
            tag = f'"{vaezoo.checkpoint.sha256(data)}"'
            self.reply(data, "application/octet-stream", ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path):
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    folder = vaezoo.save(model, tmp_path / "tiny")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", model, folder
    server.shutdown()
    server.server_close()


def load(name, endpoint, cache, **extra):
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "PATH": "/usr/bin",
        **extra,
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, name], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_a_repository_loads_equal_and_again_without_the_hub(hub, tmp_path):
    endpoint, model, _ = hub
    expected = " ".join(map(str, model.sample(1, seed=0).flatten()[:3].tolist()))
    assert load("hf:them/tiny", endpoint, tmp_path / "cache").strip() == f"loaded vae {expected}"
    # Pinned to a commit and cached: no request is needed.
    again = load(f"hf:them/tiny@{COMMIT}", "http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert again.strip() == f"loaded vae {expected}"


def test_an_unknown_repository_is_one_clear_error(hub, tmp_path):
    out = load("hf:them/nothing", hub[0], tmp_path / "cache")
    assert out.startswith("DownloadError hf:them/nothing could not be fetched")


def test_a_corrupt_download_is_refused(hub, tmp_path):
    weights = hub[2] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 4
    weights.write_bytes(data)
    assert load("hf:them/tiny", hub[0], tmp_path / "cache").startswith("CorruptWeightsError")


def test_no_network_is_one_clear_error(tmp_path):
    out = load("hf:them/tiny", "http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert out.startswith("DownloadError")
    assert "could not be reached" in out


@pytest.mark.parametrize(
    "name", ["hf:", "hf:a", "hf:a/b/c", "hf:../x", "hf:a/b@ ", "hf:a/b@..", "hf:a b/c", "hf:a/" + "b" * 300]
)
def test_malformed_repositories_are_refused_before_any_request(name):
    with pytest.raises(vaezoo.VaezooError, match="expected hf:owner/name"):
        vaezoo.load(name)
