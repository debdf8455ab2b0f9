"""Low-rank adapters (of peft) on every prunable matrix, or an error that names a matrix without.

peft selects modules and parameters by name and silently skips those that it does not find, so a
matrix without an adapter would remain untrained.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lesion.io.formats import LesionError
from lesion.models.candidates import find_candidates
from lesion.models.files import first_named
from lesion.models.likelihood import response_losses
from lesion.models.text import Example, batches


class Adapters:
    """The configuration of peft for all prunable matrices, and the check that each is adapted."""

    def __init__(self, model: PreTrainedModel, rank: int, alpha: int) -> None:
        """Inspect the model before it is adapted.

        Every matrix gets an adapter of this rank, and stacked experts one each; `alpha` is the
        adapters' scale, which is divided by the rank.

        Raises:
            LesionError: a matrix can't have an adapter, because several modules share it or its
                module does more than multiply by it.
        """
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

        candidates = find_candidates(model)
        direct = [name for name, candidate in candidates.items() if candidate.kind == "direct"]
        if direct:
            raise _refused(
                f"{first_named(direct)} is shared by several modules, or its module does more "
                "than multiply by it"
            )
        self._weights = {name: candidate.weight for name, candidate in candidates.items()}
        stacked = [name for name, candidate in candidates.items() if candidate.kind == "stacked"]
        modules = {name.rpartition(".")[0] for name in candidates.keys() - set(stacked)}
        how: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "task_type": "CAUSAL_LM"}
        # In a mixture of experts, peft reads names such as `gate_proj` as those of experts in
        # transformers 4, and adapts the stack instead. Such modules are given as parameters.
        kept = LoraConfig(**how, target_modules=sorted(modules), target_parameters=list(stacked))
        convert_peft_config_for_transformers(trial := deepcopy(kept), model, None)
        taken = modules - set(trial.target_modules or ())
        self.config = LoraConfig(
            **how,
            target_modules=sorted(modules - taken),
            target_parameters=[*stacked, *(f"{name}.weight" for name in sorted(taken))] or None,
        )

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Inside the block, errors of peft are raised as `LesionError`."""
        try:
            yield
        except ValueError as error:
            raise _refused(f"peft says: {str(error).rstrip('.')}") from error

    def check(self, adapted: Any, tokens: Sequence[int]) -> None:
        """Check that every candidate has an adapter which the output of peft's model depends on.

        The loss is that of all tokens of an example but the first. Gradients are cleared.

        Raises:
            LesionError: a candidate has no adapter, or the model bypasses it.
        """
        from peft.tuners.lora import LoraLayer, ParamWrapper

        # The layers of peft, by the id of the parameter that each adapts.
        layers: dict[int, Any] = {}
        for module in adapted.modules():
            if isinstance(module, ParamWrapper):
                layers[id(module.get_param())] = module  # type: ignore[no-untyped-call]
            elif isinstance(module, LoraLayer):
                layers[id(module.get_base_layer().weight)] = module
        without = [name for name, weight in self._weights.items() if id(weight) not in layers]
        if without:
            raise _refused(f"peft puts no adapter on {first_named(without)}")
        _loss(adapted, tokens).backward()
        silent = {
            name: weight
            for name, weight in self._weights.items()
            if layers[id(weight)].lora_B["default"].weight.grad is None
        }
        adapted.zero_grad(set_to_none=True)
        passed = _used(adapted, silent, tokens) if silent else []
        if passed:
            raise _refused(f"the model uses {first_named(passed)} without its adapter")


def _loss(adapted: nn.Module, tokens: Sequence[int]) -> Tensor:
    from peft.tuners.lora import ParamWrapper  # in place of a module with an adapted parameter

    (batch,) = batches([Example(list(tokens), 1)], 1)
    wrappers = [module for module in adapted.modules() if isinstance(module, ParamWrapper)]
    before = [set(vars(module)) for module in wrappers]
    adapted.eval()
    try:
        return response_losses(adapted, batch).sum()
    except AttributeError as error:
        if "ParamWrapper" not in str(error):
            raise
        # DBRX reads its experts from outside the module that owns them.
        raise _refused(f"the model reads past peft's modules ({error})") from error
    finally:
        for module, attributes in zip(wrappers, before, strict=True):
            if new := set(vars(module)) - attributes:
                # RecurrentGemma resets its state by attribute, which would be set on peft's module.
                raise _refused(f"the model writes `{min(new)}` into a module that peft replaced")


def _used(
    adapted: nn.Module, weights: Mapping[str, nn.Parameter], tokens: Sequence[int]
) -> list[str]:
    """The weights that the output depends on; an expert that no token is routed to is not used."""
    for weight in weights.values():
        weight.requires_grad_(True)
    loss = _loss(adapted, tokens)
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    for weight in weights.values():
        weight.requires_grad_(False)
    return [name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None]


def _refused(reason: str) -> LesionError:
    return LesionError(
        f"`lora`: not every matrix of this model can have an adapter: {reason}. Remove `lora` from "
        "the recipe to train all weights"
    )
