import copy

import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

from lesion.formats import LesionError
from lesion.models.candidates import find_candidates
from lesion.models.likelihood import response_losses
from lesion.models.text import Example, batches
from lesion.scores.collect import Collector, score


def test_preservation_is_per_example_where_the_mlp_sees_a_flat_list_of_positions() -> None:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=60,
        hidden_size=16,
        ffn_dim=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        word_embed_proj_dim=16,
        init_std=0.3,
    )
    model = OPTForCausalLM(config).eval()
    examples = [Example(torch.randint(3, 60, (n,)).tolist(), 2) for n in (9, 4, 6)]
    found = score(model, find_candidates(model), batches(examples, 100), preservation=True)
    own = copy.deepcopy(model).requires_grad_(True)
    weights = {name: module.weight for name, module in find_candidates(own).items()}
    total = {name: torch.zeros_like(one) for name, one in weights.items()}
    signed = copy.deepcopy(total)
    for example in examples:
        (batch,) = batches([example], 1)
        own.zero_grad()
        response_losses(own, batch).sum().backward()
        for name, one in weights.items():
            total[name] += (one * one.grad).abs() / len(examples)
            signed[name] += one * one.grad / len(examples)
    assert found.preservation is not None
    for name, one in total.items():
        torch.testing.assert_close(found.preservation[name], one, rtol=1e-3, atol=1e-6, msg=name)
        torch.testing.assert_close(found.snip[name], signed[name], rtol=1e-3, atol=1e-6, msg=name)


def test_positions_that_cannot_be_told_apart_by_example_are_refused() -> None:
    linear = nn.Linear(3, 2)
    collector = Collector({"blocks.0.weight": linear}, preservation=True)
    collector.batch = (2, 4)
    with (
        collector,
        pytest.raises(LesionError, match=r"blocks\.0\.weight: sees \(5,\) positions of a batch"),
    ):
        linear(torch.ones(5, 3)).sum().backward()
