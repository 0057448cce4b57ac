"""Low-rank differences: nothing changes before training, little is trained, and merging leaves an ordinary model."""

import pytest
import torch
from torch import nn

from curate.models.lora import add_lora, merge_lora


def small_model():
    torch.manual_seed(0)
    return nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2, batch_first=True), "out": nn.Linear(8, 6)})


def outputs(model):
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    return model["out"](model["attention"](x, x, x, need_weights=False)[0])


def test_training_starts_from_the_model_as_it_was():
    model = small_model()
    before = outputs(model)
    add_lora(model, 2, torch.Generator().manual_seed(0))
    assert torch.equal(outputs(model), before)


def test_only_the_differences_are_trained_and_every_matrix_has_one():
    model = small_model()
    add_lora(model, 2, torch.Generator().manual_seed(0))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 3
    assert all(name.endswith((".up", ".down")) for name in trained)


def test_merged_it_is_an_ordinary_model_that_says_the_same():
    model = small_model()
    names = set(model.state_dict())
    add_lora(model, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".up"):
                weight.normal_()
    changed = outputs(model)
    merge_lora(model)
    assert set(model.state_dict()) == names
    assert torch.allclose(outputs(model), changed, rtol=1e-4)


def test_a_rank_above_the_matrix_is_cut_to_it():
    model = nn.Linear(8, 6)
    add_lora(model, 100, torch.Generator().manual_seed(0))
    assert model.parametrizations.weight[0].down.shape == (6, 8)


def test_a_model_without_matrices_is_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora(nn.LayerNorm(3), 2, torch.Generator())
