"""The trainer's side of the policy: log-probabilities with gradient, clipping, AdamW, and frozen copies.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from scalerl_lab.config.recipe import Optimizer, Precision
from scalerl_lab.engines.policy import head_logprobs

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM


class TorchLearner:
    """AdamW over a policy, with linear warm-up to a constant rate and a clipped gradient norm."""

    def __init__(self, policy: LlamaForCausalLM, optimizer: Optimizer, head: Precision) -> None:
        self.policy = policy
        self._config = optimizer
        self._head: Precision = head
        self._names = [name for name, _ in policy.named_parameters()]
        self._parameters = list(policy.parameters())
        self._adamw = torch.optim.AdamW(
            self._parameters,
            lr=optimizer.lr,
            betas=(optimizer.beta1, optimizer.beta2),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )

    def token_logprobs(self, tokens_BT: torch.Tensor, temperature: float) -> torch.Tensor:
        """Log-probability of every token given those before it; 0 for the first of each row.

        Rows are padded on the right: under a causal mask, padding cannot reach a token that counts.

        Args:
            tokens_BT: token ids.
            temperature: of the sampling distribution.

        Returns:
            (B, T) float32, with gradient.
        """
        return _taken(self._logprobs(tokens_BT, temperature), tokens_BT)

    def logprobs_and_entropy(
        self, tokens_BT: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``token_logprobs``, and the entropy of the distribution that each token is drawn from.

        Returns:
            (B, T) and (B, T) in nats, both with gradient; 0 for the first of each row.
        """
        logp = self._logprobs(tokens_BT, temperature)
        entropy = -(logp.exp() * logp).sum(-1)
        return _taken(logp, tokens_BT), torch.nn.functional.pad(entropy, (1, 0))

    def _logprobs(self, tokens_BT: torch.Tensor, temperature: float) -> torch.Tensor:
        return _next_logprobs(self.policy, self._head, tokens_BT, temperature)

    def frozen(self) -> FrozenPolicy:
        """A copy of the policy as it is now."""
        return FrozenPolicy(self.policy, self._head)

    def reset_optimizer(self) -> None:
        """Forget all moments: the next step is as a fresh AdamW's first, at the rate of its own number."""
        self._adamw.state.clear()

    def apply_gradient(self, step: int, rate_factor: float = 1.0) -> float | None:
        """One optimiser step with the gradient collected so far, which is then cleared.

        Args:
            step: number of this step, from 1; decides the rate during warm-up.
            rate_factor: multiplies the learning rate.

        Returns:
            The gradient's norm before clipping, or None when it is not finite: then nothing changes.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._config.grad_clip, foreach=True)
        finite = bool(torch.isfinite(norm))
        if finite:
            warm = min(1.0, step / max(self._config.warmup_steps, 1))
            for group in self._adamw.param_groups:
                group["lr"] = self._config.lr * warm * rate_factor
            self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return float(norm) if finite else None

    def optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """The optimiser's state, by parameter name; empty before the first step."""
        state = self._adamw.state
        return {
            f"{name}.{key}": value
            for name, parameter in zip(self._names, self._parameters, strict=True)
            for key, value in state.get(parameter, {}).items()
        }

    def load_optimizer_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``optimizer_tensors`` gave."""
        self._adamw.state.clear()
        for name, parameter in zip(self._names, self._parameters, strict=True):
            # Copied into fresh storage: kernels may round differently on memory aligned otherwise.
            held = {
                key: tensors[f"{name}.{key}"].to(parameter.device, copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}.{key}" in tensors
            }
            if held:
                self._adamw.state[parameter].update(held)


class FrozenPolicy:
    """A copy of a policy that gradients do not move: a reference, or the policy of some steps ago."""

    def __init__(self, policy: LlamaForCausalLM, head: Precision) -> None:
        self._policy = copy.deepcopy(policy).requires_grad_(False)
        self._head: Precision = head

    @torch.no_grad()
    def token_logprobs(self, tokens_BT: torch.Tensor, temperature: float) -> torch.Tensor:
        """As the learner's, without gradient."""
        return _taken(_next_logprobs(self._policy, self._head, tokens_BT, temperature), tokens_BT)

    @torch.no_grad()
    def follow(self, policy: LlamaForCausalLM, new_share: float = 1.0) -> None:
        """Become new_share * policy + (1 - new_share) * what it was; 1 copies exactly."""
        for mine, theirs in zip(self._policy.parameters(), policy.parameters(), strict=True):
            if new_share == 1.0:
                mine.copy_(theirs)
            else:
                mine.lerp_(theirs, new_share)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its weights, by name."""
        return dict(self._policy.state_dict())

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        self._policy.load_state_dict(tensors)


def _next_logprobs(
    policy: LlamaForCausalLM, head: Precision, tokens_BT: torch.Tensor, temperature: float
) -> torch.Tensor:
    """(B, T - 1, V): distributions of every token but the first."""
    hidden = policy.model(input_ids=tokens_BT[:, :-1], use_cache=False).last_hidden_state
    return head_logprobs(hidden, policy.lm_head.weight, head, temperature)


def _taken(logp: torch.Tensor, tokens_BT: torch.Tensor) -> torch.Tensor:
    taken = logp.gather(-1, tokens_BT[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(taken, (1, 0))
