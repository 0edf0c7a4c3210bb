"""Parameters and their players; copies, replaced parts and references between parts."""

import copy
from collections import Counter

import pytest
import torch
from support.cases import ONE_EACH, ROTATING, Case, over
from torch import Tensor, nn

from vaezoo.core import PARTS, VAE
from vaezoo.objectives import WeightedObjective


def step(model: VAE, x: Tensor, c: Tensor | None, optimizers: dict[str, torch.optim.Optimizer]) -> None:
    elbo = model(x, c)
    for name, parameters in model.players().items():
        elbo.losses[name].mean().backward(inputs=parameters, retain_graph=True)
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
    model.after_step([elbo.statistics], torch.tensor(0))


@over(ROTATING)
def test_players_partition_the_parameters_and_all_parameters_learn(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(16)
    players = model.players()
    owners = Counter(id(parameter) for parameters in players.values() for parameter in parameters)
    assert owners == {id(parameter): 1 for parameter in model.parameters() if parameter.requires_grad}
    assert set(model(x, c).losses) == set(players)
    optimizers = {name: torch.optim.Adam(parameters, 1e-3) for name, parameters in players.items()}
    for _ in range(3):
        step(model, x, c, optimizers)
    elbo = model(x, c)
    for name, parameters in players.items():
        assert elbo.losses[name].requires_grad
        loss = elbo.losses[name]
        loss = (torch.rand_like(loss) * loss).mean()  # signs, the gradients of a laplace, can add up to 0
        found = torch.autograd.grad(loss, parameters, retain_graph=True)
        assert all(bool(torch.isfinite(gradient).all()) and bool((gradient != 0).any()) for gradient in found)


@over(ONE_EACH, ONE_EACH)
def test_a_frozen_part_belongs_to_no_player(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(4)
    model.encoder.requires_grad_(False)
    theirs = {id(parameter) for parameters in model.players().values() for parameter in parameters}
    assert theirs == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    elbo = model(x, c)
    for name, parameters in model.players().items():
        if parameters:
            elbo.losses[name].mean().backward(inputs=parameters, retain_graph=True)


@over(ROTATING)
def test_deep_copies_share_nothing(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(8)
    twin = copy.deepcopy(model)
    places = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    assert not places & {tensor.data_ptr() for tensor in (*twin.parameters(), *twin.buffers()) if tensor.numel()}
    assert twin.config == model.config is not None
    before = model.sample(8, c, seed=1), model.reconstruct(x, c)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.add_(0.5)
    assert torch.equal(before[0], model.sample(8, c, seed=1)) and torch.equal(before[1], model.reconstruct(x, c))
    assert not torch.equal(before[1], twin.reconstruct(x, c)) and not torch.equal(before[0], twin.sample(8, c, seed=1))
    assert not set(map(id, model.modules())) & set(map(id, reachable(twin)))


def reachable(model: VAE) -> list[nn.Module]:
    """Returns every module that a model refers to, registered or not."""
    found: dict[int, nn.Module] = {}
    todo: list[object] = [model]
    while todo:
        item = todo.pop()
        if isinstance(item, nn.Module) and id(item) not in found:
            found[id(item)] = item
            todo += vars(item).values()
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list | tuple | set):
            todo += item
    return list(found.values())


@over(ONE_EACH, ONE_EACH)
def test_a_replaced_part_clears_the_config_and_is_the_one_that_others_refer_to(case: Case) -> None:
    model, other, (x, c) = case.build(), case.build(seed=1), case.inputs(8)
    assert model.config is not None and model.config["variant"] == case.variant
    model.initialize([(x, model.check_context(c, 8))])
    changed = model.replace(encoder=other.encoder)
    assert changed.config is None and model.config is not None
    mine, theirs = set(map(id, model.encoder.modules())), set(map(id, other.encoder.modules()))
    assert not set(map(id, reachable(changed))) & mine
    assert not set(map(id, reachable(model))) & theirs
    changed = model.replace(objective=WeightedObjective())
    assert {id(p) for p in changed.encoder.parameters()} == {id(p) for p in model.encoder.parameters()}
    assert changed(x, c).losses.keys() == {"model"}
    model.decoder = copy.deepcopy(model.decoder)
    assert model.config is None
    with pytest.raises(TypeError, match="decoder, prior"):
        model.replace(critic=nn.Identity())


def test_the_prior_over_codes_follows_the_encoder() -> None:
    case = Case("vq-vae")
    model, other = case.build(), case.build(seed=1, codes=5)
    changed = model.replace(encoder=other.encoder)
    assert changed.prior(None).source.codebook is other.encoder.codebook
    assert model.prior(None).source.codebook is model.encoder.codebook
    model.encoder = copy.deepcopy(other.encoder)
    assert model.prior(None).source.codebook is model.encoder.codebook
    assert not any("codebook" in key for key in model.prior.state_dict())
    twin = copy.deepcopy(model)
    assert twin.prior(None).source.codebook is twin.encoder.codebook


@over(ONE_EACH, ONE_EACH)
def test_the_state_dict_holds_the_whole_state(case: Case) -> None:
    model, other = case.build(), case.build(seed=1)
    x, c = case.inputs(4)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.reconstruct(x, c), other.reconstruct(x, c))
    assert torch.equal(model.sample(4, c, seed=0), other.sample(4, c, seed=0))
    keys = list(model.state_dict())
    assert len(keys) == len(set(keys)) and {key.split(".")[0] for key in keys} <= set(PARTS)
