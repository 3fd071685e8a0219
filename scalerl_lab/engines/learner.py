"""The trainer's side of the policy: log-probabilities with gradient, clipping, AdamW.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

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
        hidden = self.policy.model(input_ids=tokens_BT[:, :-1], use_cache=False).last_hidden_state
        logp = head_logprobs(hidden, self.policy.lm_head.weight, self._head, temperature)
        taken = logp.gather(-1, tokens_BT[:, 1:, None]).squeeze(-1)
        return torch.nn.functional.pad(taken, (1, 0))

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
