"""Descriptions of models: in a terminal, and as HTML with samples in a notebook."""

import base64
import copy
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.cases import Case

import vaezoo
from vaezoo.core import VAE
from vaezoo.core.notebook import SAMPLES, png

CASES = [Case("vae"), Case("vae", (3, 32, 32), "conv", "gaussian"), Case("cvae", context=3)]


def strip(model: VAE) -> np.ndarray | None:
    """Returns the pixels of the picture in a model's HTML."""
    found = re.search(r'src="data:image/png;base64,([^"]+)"', model._repr_html_())
    return None if found is None else np.array(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_pretrained_model_has_the_figures_of_its_weights():
    model = vaezoo.load("beta-vae-mnist")
    encoder = sum(each.numel() for each in model.encoder.parameters())
    lines = repr(model).splitlines()
    assert lines[0].startswith("beta-vae(beta=4.0): (1, 28, 28) → 10 latents, ")
    assert lines[1] == f"  encoder: GaussianEncoder, {encoder:,} parameters"
    assert [line.split(":")[0].strip() for line in lines[1:5]] == ["encoder", "decoder", "prior", "objective"]
    metrics = vaezoo.info("beta-vae-mnist")["metrics"]
    assert isinstance(metrics, dict)
    assert lines[5].startswith(f"  figures (mnist, test): bound {metrics['bound']['mean']:.2f}, distortion ")
    assert f"log-evidence {metrics['log_evidence']['mean']:.2f} nats" in lines[5]
    assert "  figures (mnist, test)" in repr(copy.deepcopy(model))
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert "  figures before the weights were changed (mnist, test): bound" in repr(model)
    assert "figures" not in repr(model.replace()) and "figures" not in repr(Case("vae").build())


def test_figures_of_a_damaged_table_are_left_out(tmp_path: Path):
    model = Case("vae").build()
    vaezoo.save(model, tmp_path / "m")
    file = tmp_path / "m" / "metrics.json"
    for text, end in {"[1]": None, "{": None, '{"data": "a\\u001b[2J", "bound": {"mean": "x"}}': "none"}.items():
        file.write_text(text)
        lines = [line for line in repr(vaezoo.load(tmp_path / "m")).splitlines() if "figures" in line]
        assert lines == ([] if end is None else ["  figures before the weights were changed (a?[2J, None): none"])


@pytest.mark.parametrize("case", CASES)
def test_the_strip_shows_the_samples_of_a_seed(case: Case):
    model = case.build().train()
    state = torch.get_rng_state()
    pixels = strip(model)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    c = torch.arange(SAMPLES) % case.context if case.context else None
    images = model.eval().sample(SAMPLES, c, seed=0).clamp(0, 1).mul(255).round().byte().numpy()
    assert pixels is not None
    rows = np.concatenate([*images.transpose(0, 2, 3, 1)], axis=1)
    np.testing.assert_array_equal(pixels.reshape(rows.shape), rows)
    assert model._repr_html_() == model._repr_html_()


def test_text_is_escaped_and_models_without_images_have_text_alone():
    model = Case("vae").build()
    model.config = {"variant": "<b>vae</b>", "options": {}}
    assert "<b>" not in model._repr_html_() and "&lt;b&gt;vae" in model._repr_html_()
    assert strip(Case("vae", (30,), likelihood="gaussian").build()) is None


def test_nothing_is_raised_by_a_model_that_cannot_be_sampled(monkeypatch: pytest.MonkeyPatch):
    with torch.device("meta"):
        meta = Case("vae").create()
    assert meta._repr_html_() == f"<pre>{repr(meta).partition(chr(10) + 'VAE(')[0]}</pre>"
    broken = Case("vae").build()
    with torch.no_grad():
        for each in broken.parameters():
            each.fill_(torch.nan)
    assert strip(broken) is None
    bare = VAE(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), Case("vae").build().objective)
    assert bare._repr_html_().startswith("<pre>VAE: any")
    monkeypatch.setattr(VAE, "sample", lambda *_, **__: 1 / 0)
    assert strip(Case("vae").build()) is None


def test_files_of_pixels_are_read_by_another_library():
    generator = torch.Generator().manual_seed(0)
    for channels in (1, 3):
        pixels = torch.randint(256, (5, 7, channels), generator=generator, dtype=torch.uint8)
        found = np.array(Image.open(io.BytesIO(png(pixels)))).reshape(5, 7, channels)
        np.testing.assert_array_equal(found, pixels.numpy())
