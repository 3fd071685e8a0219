"""When the reference is moved, and by how much."""

from __future__ import annotations

import pytest
import torch

from scalerl_lab.config.objective import Reference
from scalerl_lab.config.recipe import Optimizer
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.rl.reference import RESET_TRIGGERS, ResetState, Seen


def test_every_so_many_steps_also_when_a_rollout_passes_them() -> None:
    fires = RESET_TRIGGERS["every_steps"]
    assert [fires(4, Seen(step, step + 1)) for step in range(8)] == [*[False] * 3, True] * 2
    # R1: every 400 steps of 16 a rollout: 400 = 25 rollouts, 250 is passed within one.
    assert [fires(250, Seen(step, step + 16)) for step in (224, 240, 256)] == [False, True, False]


@pytest.mark.parametrize(("kl", "fires"), [(0.12, True), (0.1, False), (-5.0, False), (None, False)])
def test_a_spike_is_above_the_limit(kl: float | None, fires: bool) -> None:
    assert RESET_TRIGGERS["kl_above"](0.1, Seen(3, 4, kl=kl)) is fires


def test_a_stall_is_so_many_points_without_a_new_best() -> None:
    cfg, state = Reference(stalled_points=2), ResetState()
    fired = []
    for step, pass_rate in enumerate((0.3, 0.5, 0.5, 0.4, 0.45, 0.5, 0.51, 0.2)):
        state.measured(pass_rate)
        fired.append(state.asks(cfg, Seen(step, step, stalled=state.stalled)))
    # After a reset the wait starts over; the best stays.
    assert fired == [False, False, False, True, False, True, False, False]
    assert (state.best, state.stalled, state.resets) == (0.51, 1, 2)
    assert ResetState(**state.state()) == state


def test_any_trigger_is_enough_and_none_never_fires() -> None:
    seen = Seen(3, 4, kl=0.2)
    assert ResetState().asks(Reference(every_steps=4, kl_above=0.5), seen)
    assert ResetState().asks(Reference(every_steps=3, kl_above=0.1), seen)
    assert not ResetState().asks(Reference(every_steps=3, kl_above=0.5, stalled_points=1), seen)
    assert not ResetState().asks(Reference(), seen)


TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def learner() -> TorchLearner:
    policy = build_policy(LlamaModel(layers=1, width=16, heads=2, mlp_width=16), 11, 0)
    return TorchLearner(policy, Optimizer(lr=1e-2, warmup_steps=0, weight_decay=0.0), "fp32")


def one_step(trainer: TorchLearner, sign: float = 1.0) -> torch.Tensor:
    """The largest move of a weight in one step."""
    before = [p.detach().clone() for p in trainer.policy.parameters()]
    (sign * trainer.token_logprobs(TOKENS, 1.0).sum()).backward()
    assert trainer.apply_gradient(9) is not None
    moved = [
        float((p.detach() - b).abs().max()) for p, b in zip(trainer.policy.parameters(), before, strict=True)
    ]
    return torch.tensor(max(moved))


def test_a_frozen_copy_stays_until_it_follows() -> None:
    trainer = learner()
    frozen = trainer.frozen()
    start = trainer.token_logprobs(TOKENS, 0.7).detach()
    one_step(trainer)
    assert torch.equal(frozen.token_logprobs(TOKENS, 0.7), start)
    assert not frozen.token_logprobs(TOKENS, 0.7).requires_grad
    frozen.follow(trainer.policy)
    assert torch.equal(frozen.token_logprobs(TOKENS, 0.7), trainer.token_logprobs(TOKENS, 0.7).detach())


def test_a_polyak_step_goes_part_of_the_way() -> None:
    trainer = learner()
    frozen = trainer.frozen()
    start = {name: value.clone() for name, value in frozen.tensors().items()}
    one_step(trainer)
    frozen.follow(trainer.policy, 0.6)
    for name, now in trainer.policy.state_dict().items():
        torch.testing.assert_close(frozen.tensors()[name], 0.6 * now + 0.4 * start[name])


def test_an_optimiser_that_is_reset_steps_as_a_fresh_one() -> None:
    trainer = learner()
    for _ in range(5):
        one_step(trainer)
    # Five steps one way brake the sixth, the other way.
    assert float(one_step(trainer, -1.0)) < 0.0095
    trainer.reset_optimizer()
    assert trainer.optimizer_tensors() == {}
    # Adam's first update is lr * sign(gradient).
    assert float(one_step(trainer)) == pytest.approx(1e-2, rel=1e-3)


def test_entropy_is_that_of_the_sampling_distribution() -> None:
    trainer = learner()
    logits = trainer.policy(input_ids=TOKENS).logits.double() / 0.7
    chance = logits.softmax(-1)
    want = -(chance * chance.log()).sum(-1)[:, :-1]
    logp_BT, entropy_BT = trainer.logprobs_and_entropy(TOKENS, 0.7)
    assert torch.equal(logp_BT, trainer.token_logprobs(TOKENS, 0.7))
    assert entropy_BT[:, 0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(entropy_BT[:, 1:].double(), want, rtol=1e-5, atol=1e-5)
