"""A class as a latent: against sums over classes, and over all images."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from support.runs import fit, small_data, small_recipe, trainer
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

import vaezoo
from vaezoo.core import VAE, seeded
from vaezoo.data import from_tensors, load_dataset
from vaezoo.errors import ContextError, DataError, RecipeError, ShapeError
from vaezoo.evaluation import evaluate
from vaezoo.recipe import read_recipe
from vaezoo.trainer import build_model
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.validation import held_out_figures

CPU = torch.device("cpu")
CLASSES = 3


def model_of(scale: float = 3.0, **options: object) -> VAE:
    torch.manual_seed(5)
    backbone = {"name": "mlp", "hidden": [7], "activation": "tanh"}
    made = vaezoo.create("m2-vae", shape=(4,), latent=5, context=CLASSES, backbone=backbone, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)
    return made.double().eval()


def by_hand(model: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns log q(y|x), and D and KL(q(z|x,y) || p(z)) of every class, (V, B) each, at z = μ + σ·noise (V, B, 2)."""
    distortions, rates = [], []
    for y in range(CLASSES):
        one_hot = torch.eye(CLASSES).double()[y].expand(len(x), CLASSES)
        raw = model.encoder.network(x, one_hot)
        posterior = Normal(raw[:, 0], raw[:, 1].exp())
        z = posterior.mean + posterior.stddev * noise[y]
        logits = model.decoder.network(z, one_hot).squeeze(1)
        distortions.append(-Bernoulli(logits=logits).log_prob(x).sum(1))
        rates.append(kl_divergence(posterior, Normal(0.0, 1.0)).sum(1))
    return model.encoder.classifier(x).log_softmax(1).T, torch.stack(distortions), torch.stack(rates)


def test_the_bound_sums_over_the_classes() -> None:
    model, x = model_of(alpha=7.0), torch.rand(6, 4).round().double()
    labels = torch.tensor([0, -1, 2, 1, -1, 0])
    with seeded(3):
        elbo = model(x, labels)
    with seeded(3):
        noise = torch.randn(CLASSES, 6, 2, dtype=torch.float64)
    log_q, distortions, rates = by_hand(model, x, noise)
    probs = log_q.exp()
    unknown = (probs * (distortions + rates)).sum(0) + math.log(CLASSES) - Categorical(probs.T).entropy()
    torch.testing.assert_close(elbo.bound, -unknown)
    torch.testing.assert_close(elbo.distortion, (probs * distortions).sum(0))
    torch.testing.assert_close(elbo.rate, unknown - (probs * distortions).sum(0))
    for row, label in enumerate(labels.tolist()):
        if label < 0:
            torch.testing.assert_close(elbo.losses["model"][row], unknown[row])
            assert elbo.terms["labelled"][row] == elbo.terms["classification"][row] == 0
            continue
        known = distortions[label, row] + rates[label, row] + math.log(CLASSES)
        torch.testing.assert_close(elbo.losses["model"][row], known - 7.0 * log_q[label, row])
        torch.testing.assert_close(elbo.terms["labelled"][row], known)
        torch.testing.assert_close(elbo.terms["classification"][row], -log_q[label, row])


@torch.no_grad()
def test_evidences_of_all_images_add_up_to_one_and_labels_do_not_change_them() -> None:
    model = model_of(scale=0.8)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    evidence = model.log_evidence(x, samples=20_000, seed=0)
    assert evidence.exp().sum() == pytest.approx(1.0, abs=0.01)
    labels = torch.arange(16) % CLASSES
    assert torch.equal(model.log_evidence(x, labels, samples=50, seed=0), model.log_evidence(x, samples=50, seed=0))
    bound = torch.stack([model(x, labels).bound for _ in range(200)])
    assert (bound.mean(0) <= evidence + 4 * bound.std(0) / 200**0.5 + 0.02).all()
    with seeded(1):
        labeled = model(x, labels).bound
    with seeded(1):
        assert torch.equal(labeled, model(x).bound)


@torch.no_grad()
def test_a_known_label_is_the_class_of_draws_centers_and_samples() -> None:
    model, x = model_of(), torch.rand(6, 4).round().double()
    labels = torch.tensor([0, -1, 2, 1, -1, 0])
    known = labels >= 0
    most_probable = model.encoder.classify(x)
    center = model.encode(x, labels).center[:, 2:]
    assert torch.equal(center.argmax(1), torch.where(known, labels, most_probable))
    z = model.encode(x, labels).rsample_and_log_prob((500,))[0][..., 2:].argmax(-1)
    assert (z[:, known] == labels[known]).all() and (z[:, ~known].double().std(0) > 0).all()
    drawn = model.prior(model.check_context(labels, 6)).sample((900,))[..., 2:].mean(0)
    assert torch.equal(drawn[known], torch.eye(CLASSES).double()[labels[known]])
    assert (drawn[~known] - 1 / CLASSES).abs().max() < 0.07
    assert not torch.equal(model.sample(4, 0, seed=0), model.sample(4, 1, seed=0))
    assert torch.equal(model.sample(4, seed=0), model.sample(4, torch.full((4,), -1), seed=0))


def test_labels_may_be_missing_for_this_variant_alone() -> None:
    images, labels = torch.rand(40, 1, 4, 4).round(), torch.arange(40) % 3
    partial = from_tensors((images, labels.where(torch.arange(40) > 5, -1)), "small", classes=3)
    with pytest.raises(ContextError, match="lacks some labels"):
        fit(trainer(small_recipe("cvae", steps=2), data=partial))
    assert fit(trainer(small_recipe("m2-vae", steps=2), data=partial)).model.context == 3
    with pytest.raises(RecipeError, match=r"data\.labels: 'cvae' .*m2-vae"):
        read_recipe("cvae-mnist", ["data.labels=100"])
    with pytest.raises(RecipeError, match=r"data\.labelled_share: 'vae' "):
        read_recipe("vae-mnist", ["data.labelled_share=0.5"])
    with pytest.raises(ShapeError, match="more than the 3 classes"):
        vaezoo.create("m2-vae", shape=(4,), latent=3, context=3)


def test_hidden_labels_are_balanced_and_a_function_of_the_seed() -> None:
    digits = load_dataset("digits", "train")
    assert digits.labels is not None
    hidden = digits.hide_labels(57, seed=4)
    assert hidden.labels is not None
    known = hidden.labels >= 0
    assert torch.equal(hidden.labels[known], digits.labels[known])
    assert hidden.labels[known].bincount().tolist() == [6] * 7 + [5] * 3
    assert torch.equal(digits.hide_labels(57, seed=4).labels, hidden.labels)
    assert not torch.equal(digits.hide_labels(57, seed=5).labels, hidden.labels)
    for count, words in ((9, "at least one of each"), (10_000, "there are")):
        with pytest.raises(DataError, match=words):
            digits.hide_labels(count, seed=0)
    vectors = from_tensors((torch.rand(40, 1, 4, 4), torch.eye(3)[torch.arange(40) % 3]), "small")
    with pytest.raises(DataError, match="got context vectors"):
        replace(vectors, labels=torch.arange(40) % 3, classes=3).hide_labels(9, seed=0)


def test_a_share_of_each_batch_has_a_label_and_examples_are_used_equally_often() -> None:
    hidden = load_dataset("digits", "train").hide_labels(20, seed=0)
    assert hidden.labels is not None
    feed = BatchStream(hidden, 32, CPU, seed=1, context=10, labelled_share=0.25)
    seen = torch.zeros(len(hidden), dtype=torch.int64)
    rounds = int((hidden.labels < 0).sum()) // 24
    assert feed.per_epoch == len(hidden) // 32 < rounds  # an epoch is as long as without a share
    for number in range(rounds):
        indices = feed.indices(number)
        assert int((hidden.labels[indices] >= 0).sum()) == 8 and len(indices.unique()) == 32
        seen += indices.bincount(minlength=len(hidden))
    unknown = seen[hidden.labels < 0]
    assert unknown.max() == 1 and int((unknown == 0).sum()) < 24
    known = seen[hidden.labels >= 0]
    assert known.max() - known.min() <= 1 + rounds // 2  # 2 batches go through the 20 once, 4 are left over
    _, c = feed.batch(3)
    assert c is not None and torch.equal(c.sum(1), (hidden.labels[feed.indices(3)] >= 0).float())
    again = BatchStream(hidden, 32, CPU, seed=1, context=10, labelled_share=0.25)
    assert torch.equal(again.indices(7), feed.indices(7))
    for data, share in ((load_dataset("digits", "train"), 0.5), (hidden, 0.999)):
        with pytest.raises(DataError, match="both kinds"):
            BatchStream(data, 32 if share < 0.9 else 16, CPU, seed=0, context=10, labelled_share=share)


def test_a_share_needs_examples_of_both_kinds_and_applies_to_training_alone() -> None:
    recipe = small_recipe("m2-vae", steps=2, data={"labelled_share": 0.5})
    with pytest.raises(DataError, match="40 with a label and 0 without"):
        trainer(recipe)
    few = small_recipe("m2-vae", steps=2, data={"labels": 30, "labelled_share": 0.25})
    # As one batch the whole set has more labels than a quarter; no figure that is measured needs a share.
    figures = held_out_figures(build_model(few, small_data(few)).eval(), small_data(few), few, CPU)
    assert math.isfinite(figures[0])
    assert fit(trainer(few, held_out=small_data(few, 12, "validation"))).history


@pytest.mark.full
def test_few_labels_are_enough_to_classify_most_digits() -> None:
    recipe = {
        "variant": "m2-vae",
        "options": {"alpha": 20.0},
        "architecture": {"latent": 20, "backbone": {"name": "mlp", "hidden": [64], "activation": "silu"}},
        "data": {"name": "digits", "binarize": "dynamic", "context": True, "labels": 50, "labelled_share": 0.3},
        "train": {"steps": 300, "batch_size": 64, "learning_rate": 5e-3},
    }
    run = vaezoo.train(recipe, out=None, trackers=())
    report = evaluate(run.model, "digits", samples=0)
    assert report.label_error is not None and report.label_error < 0.3
    assert report.as_dict()["label_error"] == report.label_error
