"""Image autoencoders of diffusers on the Hub, with the unmodified client and a local server."""

import json
from pathlib import Path

import pytest
import torch
from support.diffusers_models import folder_of, make, outputs
from support.hub_server import Hub, flip

import vaezoo
from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError
from vaezoo.storage.diffusers.reading import INDEX, WEIGHTS


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    folder = folder_of(make("AutoencoderKL"), tmp_path / "vae")
    return {f"vae/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_subfolder_of_a_repository_is_loaded_and_recorded(hub: Hub, files: dict[str, bytes]) -> None:
    others = {"model_index.json": b"{}", "unet/config.json": b"{}", "vae/modeling.py": b"raise SystemExit"}
    commit = hub.publish("them/pipe", files | others)
    model = vaezoo.load("hf:them/pipe", subfolder="vae", size=32)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.latents(x), outputs(make("AutoencoderKL"), x).latents, rtol=1e-5, atol=1e-5)
    assert model.config is not None and model.config["source"] == {"repository": "them/pipe", "commit": commit}
    taken = {request.path.rpartition("/")[2] for request in hub.requests if "/resolve/" in request.path}
    assert taken == {"config.json", WEIGHTS}
    before = len(hub.requests)
    for options in ({"revision": commit}, {"local_files_only": True}):
        again = vaezoo.load("hf:them/pipe", subfolder="vae", **options)  # type: ignore[arg-type]  # either
        assert torch.equal(again.latents(x[..., :16, :16]), again.latents(x[..., :16, :16]))
    assert len(hub.requests) == before


def test_root_of_a_repository_and_several_files(hub: Hub, tmp_path: Path) -> None:
    folder = folder_of(make("AutoencoderKL"), tmp_path / "parts", max_shard_size="200KB")
    hub.publish("them/parts", {path.name: path.read_bytes() for path in folder.iterdir()})
    model, local = vaezoo.load("hf:them/parts"), vaezoo.load(folder)
    assert all(map(torch.equal, model.state_dict().values(), local.state_dict().values()))
    assert model.config is not None and local.config is not None and model.config["origin"] == local.config["origin"]
    assert vaezoo.load("hf:them/parts", local_files_only=True).shape == (3, 16, 16)


def test_pipeline_names_the_subfolder(hub: Hub, files: dict[str, bytes]) -> None:
    hub.publish("them/pipe", files | {"model_index.json": b"{}"})
    with pytest.raises(ConfigError, match="subfolder='vae'"):
        vaezoo.load("hf:them/pipe")
    with pytest.raises(DownloadError):
        vaezoo.load("hf:them/pipe", subfolder="unet")


def test_pickles_are_not_downloaded(hub: Hub, files: dict[str, bytes]) -> None:
    hub.publish("them/old", {"vae/config.json": files["vae/config.json"], "vae/diffusion_pytorch_model.bin": b"cos\n"})
    with pytest.raises(ConfigError, match=r"diffusion_pytorch_model\.bin, a pickle.*Expected " + WEIGHTS):
        vaezoo.load("hf:them/old", subfolder="vae")
    assert not any(request.path.endswith(".bin") for request in [*hub.requests, *hub.elsewhere])


def test_hostile_config_is_refused_before_the_weights(hub: Hub, files: dict[str, bytes]) -> None:
    settings = json.loads(files["vae/config.json"])
    for changes in ({"_class_name": "os.system"}, {"layers_per_block": 10**6}, {"down_block_types": ["os.system"] * 2}):
        hub.publish("them/evil", files | {"vae/config.json": json.dumps(settings | changes).encode()})
        with pytest.raises(vaezoo.VaezooError):
            vaezoo.load("hf:them/evil", subfolder="vae")
    assert not any(request.path.endswith(WEIGHTS) for request in hub.requests)


def test_weights_larger_than_the_config_permits_are_not_downloaded(hub: Hub, files: dict[str, bytes]) -> None:
    hub.publish("them/large", files | {f"vae/{WEIGHTS}": bytes(2**23)})
    with pytest.raises(DownloadError, match="at most"):
        vaezoo.load("hf:them/large", subfolder="vae")
    assert not hub.elsewhere


def test_missing_or_malformed_files_are_refused(hub: Hub, files: dict[str, bytes]) -> None:
    hub.publish("them/empty", {"vae/config.json": files["vae/config.json"]})
    with pytest.raises(CorruptWeightsError, match="neither"):
        vaezoo.load("hf:them/empty", subfolder="vae")
    index = {"weight_map": {"a": "../../evil.safetensors"}}
    hub.publish("them/evil", {"vae/config.json": files["vae/config.json"], f"vae/{INDEX}": json.dumps(index).encode()})
    with pytest.raises(CorruptWeightsError, match="names the files"):
        vaezoo.load("hf:them/evil", subfolder="vae")


def test_damaged_cached_file_is_fetched_once_more(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.publish("them/pipe", files)
    vaezoo.load("hf:them/pipe", subfolder="vae")
    (cached,) = (tmp_path / "cache").glob(f"models--them--pipe/snapshots/*/vae/{WEIGHTS}")
    flip(cached)
    hub.elsewhere.clear()
    model = vaezoo.load("hf:them/pipe", subfolder="vae")
    assert hub.elsewhere and torch.equal(
        model.encoder.network.convolution.weight, make("AutoencoderKL").quant_conv.weight
    )
    flip(cached)
    with pytest.raises(CorruptWeightsError, match="SHA-256"):
        vaezoo.load("hf:them/pipe", subfolder="vae", local_files_only=True)
