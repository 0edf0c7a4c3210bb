"""Recipes of image autoencoders: a fine-tune of another model, a student of a teacher, one of the user's images."""

import json
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

import vaezoo
from vaezoo.core import VAE, center
from vaezoo.errors import ConfigError, InterruptedTrainingError, RecipeError
from vaezoo.objectives.penalties.distillation import DistillationPenalty
from vaezoo.recipe import read_recipe
from vaezoo.trainer.stage_run import StageRun
from vaezoo.workflows.publish import public_recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
FACTORS = {"scaling_factor": 0.5, "shift_factor": 0.25}
SMALL = ["size=16", "train.batch_size=4", "train.precision=float32", "train.warmup=0"]


def images(count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def autoencoder(side: int = 16, **options: Any) -> VAE:
    torch.manual_seed(1)
    backbone = {"name": "diffusers-kl", "channels": [4, 8], "groups": 2}
    return vaezoo.create("kl-autoencoder", shape=(3, side, side), backbone=backbone, **options).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of another data set, with the factors of its latents."""
    model = autoencoder()
    model.config = {**(model.config or {}), "latents": FACTORS}
    return vaezoo.save(model, tmp_path / "start")


def tuned(folder: Path, *changes: str, **options: Any) -> Any:
    given = {"out": None, "trackers": (), **options}
    return vaezoo.train(
        "finetune-autoencoder", f"init={folder}", "train.steps=3", *SMALL, *changes,
        data=images(12), **given,
    )  # fmt: skip


# Fine-tuning


def test_decoder_alone_is_tuned_and_latents_keep_their_factors(folder: Path) -> None:
    start, run = vaezoo.load(folder), tuned(folder)
    x = images(2)
    assert torch.equal(run.model.latents(x, scaled=True), start.latents(x, scaled=True))
    assert not torch.equal(run.model.reconstruct(x), start.reconstruct(x))
    assert run.model.config["latents"] == FACTORS and "perceptual" in run.history[-1]
    both = tuned(folder, "train.train=[]").model
    assert not torch.equal(both.latents(x), start.latents(x)) and both.config["latents"] == FACTORS


def test_a_critic_of_patches_can_be_added(folder: Path) -> None:
    run = tuned(folder, "critic=0.5", "critic_channels=4", "critic_start=1", "train.accumulation=2")
    assert {"adversarial", "critic_accuracy"} <= run.history[-1].keys()


def test_architecture_is_that_of_init_unless_it_is_set(folder: Path, tmp_path: Path) -> None:
    start = vaezoo.load(folder)
    run = tuned(folder, "likelihood={name='gaussian', scale=0.2}", out=tmp_path / "run")
    assert run.model.config["architecture"]["backbone"] == start.config["architecture"]["backbone"]  # type: ignore[index]
    assert run.model.config["architecture"]["likelihood"]["scale"] == 0.2
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())["architecture"]
    assert stored["from_init"] is False and stored["latent"] == [4, 8, 8]
    larger = tuned(folder, "size=24")
    assert larger.model.latent == (4, 12, 12)
    assert_close(larger.model.encoder.state_dict(), start.encoder.state_dict())
    with pytest.raises(ConfigError, match="expected init, the model to start from"):
        vaezoo.train(
            "own-autoencoder", "architecture={from_init=true}", "steps=1", data=images(16), out=None, trackers=()
        )
    with pytest.raises(ConfigError, match=r"does not fit the recipe's model: .* Use the same architecture"):
        tuned(folder, "backbone={name='diffusers-kl', channels=[4, 12], groups=2}", "latent=[4, 8, 8]")


# Distillation

STUDENT = "architecture={latent=[4, 8, 8], backbone={name='resnet', channels=[4, 4]}, likelihood={name='laplace'}}"


def distilled(folder: Path, *changes: str, **options: Any) -> Any:
    given = {"out": None, "trackers": (), "data": images(12), **options}
    return vaezoo.train(
        "distil-autoencoder", f"teacher.name={folder}", "train.steps=3", *SMALL, STUDENT, *changes, **given
    )


def test_penalty_is_the_distance_of_latents_and_the_density_of_the_teachers_images() -> None:
    """The formula, by torch's own distributions."""
    teacher, student, x = autoencoder(), autoencoder(), images(3)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    inference = student.infer(x)
    with torch.no_grad():
        latents = teacher.encoder(x).mean
        target = teacher.decoder(latents).mean
    distance = 0.5 * (student.encoder(x).mean - latents).pow(2).sum((1, 2, 3))
    density = torch.distributions.Laplace(student.decoder(inference.z).mean[0], 0.5).log_prob(target).sum((1, 2, 3))
    assert_close(DistillationPenalty(teacher, 1.0, 0.0)(student, inference), distance)
    assert_close(DistillationPenalty(teacher, 0.0, 1.0)(student, inference), -density)
    assert_close(DistillationPenalty(teacher, 2.0, 0.5)(student, inference), 2.0 * distance - 0.5 * density)


def test_teacher_moves_with_the_penalty_and_is_no_part_of_it() -> None:
    penalty = DistillationPenalty(autoencoder(), 1.0, 1.0)
    assert not list(penalty.parameters()) and not penalty.state_dict() and not list(penalty.children())
    twin = deepcopy(penalty).double()
    assert {each.dtype for each in twin.teacher.parameters()} == {torch.float64}
    assert {each.dtype for each in penalty.teacher.parameters()} == {torch.float32}


def test_student_approaches_its_teacher(folder: Path) -> None:
    """By the penalty alone; the latents are those of the center of the posterior."""
    changes = ["train.steps=60", "train.learning_rate=0.01", "perceptual=0.0", "teacher.latents=5"]
    first, last = (distilled(folder, *changes, f"train.steps={steps}").model for steps in (1, 60))
    teacher, x = vaezoo.load(folder), images(12)
    errors = [float((center(each.encode(x)) - teacher.latents(x)).square().mean()) for each in (first, last)]
    assert errors[1] < 0.5 * errors[0]


def test_saved_student_has_nothing_of_its_teacher(folder: Path, tmp_path: Path) -> None:
    run = distilled(folder, out=tmp_path / "run")
    assert "distillation" in run.history[-1]
    student = vaezoo.load(tmp_path / "run")
    assert student.state_dict().keys() == run.model.state_dict().keys()
    assert not [key for key in student.state_dict() if key.startswith("objective")]
    assert "distillation" not in student.objective.penalties and str(folder) not in json.dumps(student.config)
    assert torch.equal(student.reconstruct(images(2)), run.model.reconstruct(images(2)))


def test_stages_with_options_keep_the_teacher(folder: Path) -> None:
    recipe = read_recipe("distil-autoencoder", [f"teacher.name={folder}", STUDENT, *SMALL]).as_dict()
    stage = {**recipe.pop("train"), "steps": 2}  # type: ignore[dict-item]
    run = vaezoo.train(
        {**recipe, "stage": [stage, {**stage, "options": {"beta": 0.5}}]}, data=images(12), out=None, trackers=()
    )
    assert all("distillation" in line for line in run.history if line["stage"] == 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["teacher.latents=0", "teacher.pixels=0"], "expected a weight above 0"),
        (["architecture.latent=[3, 8, 8]"], r"its latent is \(4, 8, 8\), that of the model \(3, 8, 8\)"),
        (["variant=iwae", "options={}"], "ImportanceObjective has no penalties"),
        (["variant=vq-vae", "options={}"], "codes have no distance; set teacher.latents = 0"),
        (["likelihood=discretized-logistic"], "no density under DiscretizedLogistic"),
        (["likelihood=autoregressive-bernoulli"], "no density under AutoregressiveBernoulli"),
        (["teacher.name=./nowhere"], "nowhere"),
    ],
)
def test_teacher_that_does_not_fit_is_refused(folder: Path, changes: list[str], reason: str) -> None:
    with pytest.raises(vaezoo.VaezooError, match=reason):
        distilled(folder, *changes)


def test_images_of_another_size_than_the_teachers_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"its shape is \(3, 16, 16\), that of the model \(3, 8, 8\)"):
        distilled(folder, "architecture.latent=[4, 4, 4]", "size=8", "perceptual=0.0")


def test_mistakes_in_the_table_of_the_teacher() -> None:
    for override, text in (
        ("teacher={latents=1}", "teacher.name: missing"),
        ("teacher.latents=-1", "teacher.latents: expected"),
        ("teacher.wieght=1", "teacher.wieght: unknown key"),
        ("teacher=3", "teacher: expected a table"),
    ):
        with pytest.raises(RecipeError, match=text):
            read_recipe("distil-autoencoder", [override])


def test_published_recipe_has_no_path_of_the_user(folder: Path, tmp_path: Path) -> None:
    run = distilled(folder, out=tmp_path / "run")
    tables = public_recipe(tmp_path / "run", run.model.config)
    assert tables is not None and str(tmp_path) not in json.dumps(tables)
    assert tables["teacher"]["name"].endswith("start")  # type: ignore[index]


# All three


def stop_in_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Sends the signal of Ctrl-C in a step."""
    advance = StageRun.advance

    def hooked(run: StageRun) -> None:
        if run.number + 1 == number:
            signal.raise_signal(signal.SIGINT)
        advance(run)

    monkeypatch.setattr(StageRun, "advance", hooked)


@pytest.mark.parametrize("name", ["finetune-autoencoder", "distil-autoencoder", "own-autoencoder"])
def test_resumed_equals_uninterrupted_on_streamed_images(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the averages, bfloat16 and channels innermost of the recipes."""
    monkeypatch.setenv("VAEZOO_MEMORY_LIMIT", "1000")
    (tmp_path / "images").mkdir()
    for number, image in enumerate((255 * images(10)).byte()):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "images" / f"{number}.png")
    own = {
        "finetune-autoencoder": [f"init={folder}"],
        "distil-autoencoder": [f"teacher.name={folder}", STUDENT],
        "own-autoencoder": ["backbone={name='diffusers-kl', channels=[4, 8], groups=2, checkpointing=true}"],
    }[name]
    changes = [f"data.name=folder:{tmp_path}/images", "size=16", "train.steps=6", "train.batch_size=4", *own]
    whole = vaezoo.train(name, *changes, out=None, trackers=())
    stage = whole.recipe.stages[0]
    assert stage.precision == "bf16" and stage.channels_last and stage.average
    with monkeypatch.context() as patch, pytest.raises(InterruptedTrainingError):
        stop_in_step(patch, 3)
        vaezoo.train(name, *changes, out=tmp_path / "run", trackers=())
    resumed = vaezoo.train(name, *changes, out=tmp_path / "run", trackers=(), resume=True)
    ours, theirs = (run.model.state_dict() for run in (resumed, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
