"""The optimiser step: warm-up, clipping, non-finite gradients, and its state."""

from __future__ import annotations

import pytest
import torch

from scalerl_lab.config.recipe import Optimizer
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy

TOKENS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]])


def learner(**settings: float) -> TorchLearner:
    model = build_policy(LlamaModel(layers=1, width=16, heads=2, mlp_width=16), 11, 0)
    return TorchLearner(model, Optimizer(**settings), "fp32")  # type: ignore[arg-type]


def one_step(trainer: TorchLearner, step: int) -> float | None:
    trainer.token_logprobs(TOKENS, 1.0).sum().backward()
    return trainer.apply_gradient(step)


def weights(trainer: TorchLearner) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.policy.parameters()])


def test_logprobs_are_of_each_token_given_those_before() -> None:
    trainer = learner()
    logits = trainer.policy(input_ids=TOKENS).logits.double().log_softmax(-1)
    logp = trainer.token_logprobs(TOKENS, 1.0)
    assert logp[:, 0].tolist() == [0.0, 0.0]
    for row in range(2):
        for t in range(1, 4):
            assert logp[row, t].item() == pytest.approx(logits[row, t - 1, TOKENS[row, t]].item(), abs=1e-5)


def test_padding_on_the_right_changes_nothing() -> None:
    trainer = learner()
    wide = torch.cat([TOKENS, torch.zeros(2, 5, dtype=torch.long)], 1)
    assert torch.allclose(
        trainer.token_logprobs(wide, 1.0)[:, :4], trainer.token_logprobs(TOKENS, 1.0), atol=1e-6
    )


@pytest.mark.parametrize(("step", "share"), [(1, 0.25), (2, 0.5), (4, 1.0), (9, 1.0)])
def test_first_update_of_adam_is_the_warmed_up_rate(step: int, share: float) -> None:
    trainer = learner(lr=1e-3, warmup_steps=4, weight_decay=0.0)
    before = weights(trainer)
    one_step(trainer, step)
    moved = (weights(trainer) - before).abs()
    # Adam's first update is lr * sign(gradient), within float32 of weights near 0.1.
    assert float(moved.max()) == pytest.approx(1e-3 * share, rel=1e-3)


def test_the_norm_is_told_before_clipping() -> None:
    trainer = learner()
    trainer.token_logprobs(TOKENS, 1.0).sum().backward()
    exact = torch.cat([p.grad.flatten() for p in trainer.policy.parameters()]).double().norm()
    assert trainer.apply_gradient(1) == pytest.approx(float(exact), rel=1e-5)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    trainer = learner()
    before = weights(trainer)
    (trainer.token_logprobs(TOKENS, 1.0).sum() * float("inf")).backward()
    assert trainer.apply_gradient(1) is None
    assert torch.equal(weights(trainer), before)
    assert one_step(trainer, 1) is not None


def test_optimizer_state_goes_on_bit_for_bit() -> None:
    one, other = learner(lr=1e-3), learner(lr=1e-3)
    for step in (1, 2):
        one_step(one, step)
    other.policy.load_state_dict(one.policy.state_dict())
    other.load_optimizer_tensors({name: each.clone() for name, each in one.optimizer_tensors().items()})
    for step in (3, 4):
        assert one_step(one, step) == one_step(other, step)
    assert torch.equal(weights(one), weights(other))
