"""Samples for a class are of that class, by a classifier of digits, in every variant whose codes follow its prior."""

from functools import cache

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from support.cases import example_of
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.data import load_dataset
from vaezoo.registry import create, resolve, variants, with_requirements

#: steps, and options other than those of the example, with which codes follow the prior closely
SETTINGS: dict[str, tuple[int, dict[str, object]]] = {
    "aae": (400, {"weight": 30.0, "latent": 4, "critic_hidden": (64,)}),
    "annealed-vae": (600, {"gamma": 2.0, "capacity": 1.0, "capacity_steps": 300}),
    "beta-vae": (600, {"beta": 1.5}),
    "dip-vae-i": (600, {"lambda_od": 1.0, "lambda_d": 1.0}),
    "geco-vae": (2000, {"target": 16.0, "speed": 3e-4}),
    "kl-autoencoder": (600, {"backbone": {"name": "mlp", "hidden": [64]}, "latent": 3}),
    "joint-vae": (600, {"gamma": 2.0, "continuous_capacity": 1.0, "discrete_capacity": 0.0, "latent": 13}),
    "sliced-wae": (300, {"weight": 300.0, "latent": 2}),
    "vae-gan": (1000, {"gamma": 100.0}),
    "vq-vae+code-prior": (2000, {}),
    "wae-gan": (600, {"weight": 30.0, "latent": 8, "critic_hidden": (64,)}),
    "wae-mmd": (300, {"weight": 1000.0, "latent": 2}),
}
DAILY = ("sliced-wae", "wae-mmd")


@cache
def digits() -> tuple[Tensor, Tensor, KNeighborsClassifier]:
    """Returns binarized digits of 8 x 8 pixels, their classes, and a classifier of them."""
    data = load_dataset("digits", "train")
    x = (data.batch(torch.arange(len(data))) > 0.5).float()
    return x, data.labels, KNeighborsClassifier(3).fit(x.flatten(1).numpy(), data.labels.numpy())


def trained(name: str) -> VAE:
    """Returns a small model of binarized digits given their class."""
    (x, labels, _), (steps, options) = digits(), SETTINGS.get(name, (600, {}))
    defaults = {key: value for entry in resolve(name) for key, value in entry.defaults.items()}
    chosen: dict[str, object] = {} if "latent" in defaults else {"latent": 3}
    chosen |= {} if "backbone" in defaults else {"backbone": {"name": "mlp", "hidden": [64]}}
    torch.default_generator.manual_seed(0)
    model = create(name, shape=(1, 8, 8), context=10, examples=len(x), **{**chosen, **example_of(name), **options})
    model.initialize([(x[:1000], torch.nn.functional.one_hot(labels[:1000], 10).float())])
    players = model.players()
    rates = {"critic": 3e-4} if name == "vae-gan" else {}  # a critic that does not win
    optimizers = [torch.optim.Adam(own, rates.get(player, 3e-3)) for player, own in players.items()]
    for number in range(steps):
        rows, step = torch.randint(len(x), (128,)), torch.tensor(number)
        elbo = model(x[rows], labels[rows], step)
        for player, own in players.items():
            elbo.losses[player].mean().backward(inputs=own, retain_graph=True)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        model.after_step([elbo.statistics], step)
    return model.eval()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=() if each in DAILY else pytest.mark.full)
        for each in map(with_requirements, variants.names())
    ],
)
def test_samples_for_a_class_are_of_that_class(name: str) -> None:
    model, classes = trained(name), torch.arange(10).repeat_interleave(100)
    drawn = model.sample(1000, classes, seed=0)
    right = (digits()[2].predict(drawn.flatten(1).numpy()) == classes.numpy()).mean()
    follows = all(entry.codes_follow_prior for entry in resolve(name)) or "code-prior" in name
    assert right >= 0.95 if follows else right < 0.95
