"""Stages of a recipe: the parts that they train, and their changes to the objective."""

from typing import cast

import torch

from vaezoo.core import PARTS, VAE, as_part
from vaezoo.data import Dataset
from vaezoo.errors import RecipeError, did_you_mean, shorten
from vaezoo.objectives import PenalizedObjective
from vaezoo.recipe import Recipe, Stage
from vaezoo.trainer.setup import build_model


class Stages:
    """Prepares the model of a recipe for each stage.

    Raises:
        RecipeError: a stage sets options that the variant does not support; all such mistakes at once.
    """

    def __init__(self, recipe: Recipe, model: VAE, data: Dataset) -> None:
        self.recipe, self.model, self.data = recipe, model, data
        self._trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        mistakes = [text for number in range(len(recipe.stages)) for text in self._mistakes(number)]
        if mistakes:
            raise RecipeError("\n".join(mistakes))

    def begin(self, number: int, device: torch.device) -> None:
        """Sets the objective of stage `number`, and freezes the parts that it does not train.

        Raises:
            RecipeError: the options of the stage change tensors of the objective, or nothing is trained.
        """
        stage = self.recipe.stages[number]
        if any(each.options for each in self.recipe.stages):
            self._rebuild_objective(stage, device)
        if (objective := self.model.objective).has_rate_weight:
            objective.schedule(warmup=stage.rate_warmup, cycles=stage.rate_cycles, free_bits=stage.free_bits)
        for name, parameter in self.model.named_parameters():
            learns = not stage.train or name.split(".")[0] in stage.train
            parameter.requires_grad_(learns and name in self._trainable)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise RecipeError(f"stage[{number}].train = {list(stage.train)} leaves nothing to train.")
        for part in map(self.model.get_submodule, PARTS):
            as_part(part).begin_stage(any(parameter.requires_grad for parameter in part.parameters()))

    def starting(self, number: int) -> list[str]:
        """Returns the parts to initialize from data before stage `number`, the first that trains them, or stage 0."""
        trained = [stage.train or PARTS for stage in self.recipe.stages]
        return [part for part in PARTS if number == next((n for n, own in enumerate(trained) if part in own), 0)]

    def end(self) -> None:
        """Restores `requires_grad`, and the behavior of the parts outside of stages."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._trainable)
        for part in map(self.model.get_submodule, PARTS):
            as_part(part).begin_stage(True)

    def _rebuild_objective(self, stage: Stage, device: torch.device) -> None:
        twin = build_model(self.recipe, self.data, {**self.recipe.options, **stage.options})
        try:
            twin.objective.load_state_dict(self.model.objective.state_dict())
        except RuntimeError:
            raise RecipeError(
                f"The options {dict(stage.options)} of a stage change what the objective learns; set them for the "
                "whole recipe instead."
            ) from None
        known = dict(self.model.config or {})  # cleared by the new objective
        own = {f"objective.{name}" for name, value in twin.objective.named_parameters() if value.requires_grad}
        self._trainable = own | {name for name in self._trainable if not name.startswith("objective.")}
        for name, (weight, penalty) in getattr(self.model.objective, "added", {}).items():
            cast(PenalizedObjective, twin.objective).add_penalty(name, weight, penalty)
        self.model.objective = twin.objective.to(device)
        self.model.config = known | dict(twin.config or {})

    def _mistakes(self, number: int) -> list[str]:
        stage, path = self.recipe.stages[number], "train" if len(self.recipe.stages) == 1 else f"stage[{number}]"
        found, players = list[str](), self.model.players()
        asked = [name for name in ("rate_warmup", "rate_cycles", "free_bits") if getattr(stage, name)]
        if asked and not self.model.objective.has_rate_weight:
            found.append(
                f"{' and '.join(f'{path}.{name}' for name in asked)}: the objective of {self.recipe.variant!r} has no "
                "rate weight to schedule. Leave it out."
            )
        found += [
            f"{path}.learning_rates.{name}: {shorten(self.recipe.variant)} has no player of this name."
            f"{did_you_mean(name, players)} Players: {', '.join(players)}."
            for name in stage.learning_rates
            if name not in players
        ]
        return found
