"""The trainer's side of the policy: log-probabilities with gradient, clipping, AdamW, and frozen copies.

Gradients of rows that share a prefix meet in one place. On a CPU they are added in one order; on a GPU they
are not, so that there a run is not repeated bit for bit.

Shapes: B rows, T tokens, V vocabulary, U distinct prefixes, D width.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from scalerl_lab.config.recipe import Optimizer, Precision
from scalerl_lab.engines.decoder import Decoder, rotary
from scalerl_lab.engines.policy import head_logprobs
from scalerl_lab.engines.prefixes import Prefixes, distinct_prefixes

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

    def token_logprobs(
        self, tokens_BT: torch.Tensor, temperature: float, length_B: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Log-probability of every token given those before it; 0 for the first of each row.

        Args:
            tokens_BT: token ids, rows from the left; at least one row has two.
            temperature: of the sampling distribution.
            length_B: tokens of each row; what follows them is neither computed nor looked at. None where
                all rows are as long.

        Returns:
            (B, T) float32, with gradient; 0 past the end of a row.
        """
        return _score(self.policy, self._head, tokens_BT, temperature, length_B)[0]

    def logprobs_and_entropy(
        self, tokens_BT: torch.Tensor, temperature: float, length_B: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``token_logprobs``, and the entropy of the distribution that each token is drawn from.

        Returns:
            (B, T) and (B, T) in nats, both with gradient; 0 for the first of each row and past its end.
        """
        logp_BT, entropy_BT = _score(
            self.policy, self._head, tokens_BT, temperature, length_B, with_entropy=True
        )
        assert entropy_BT is not None
        return logp_BT, entropy_BT

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
    def token_logprobs(
        self, tokens_BT: torch.Tensor, temperature: float, length_B: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As the learner's, without gradient."""
        return _score(self._policy, self._head, tokens_BT, temperature, length_B)[0]

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


def _score(
    policy: LlamaForCausalLM,
    head: Precision,
    tokens_BT: torch.Tensor,
    temperature: float,
    length_B: torch.Tensor | None,
    *,
    with_entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability of each token but the first of a row (B, T), and the entropy it was drawn from."""
    num, width = tokens_BT.shape
    if length_B is None:
        length_B = torch.full((num,), width, device=tokens_BT.device)
    # The last token of a row is predicted, but nothing is after it.
    prefixes = distinct_prefixes(tokens_BT[:, :-1], length_B - 1)
    logp_UV = head_logprobs(_hidden(policy, prefixes), policy.lm_head.weight, head, temperature)
    inside_BT = torch.arange(1, width, device=tokens_BT.device) < length_B[:, None]
    index_BT = prefixes.place_BT * logp_UV.shape[1] + tokens_BT[:, 1:]
    logp_BT = _spread(logp_UV.flatten(), index_BT, inside_BT)
    if not with_entropy:
        return logp_BT, None
    entropy_U = -(logp_UV.exp() * logp_UV).sum(-1)
    return logp_BT, _spread(entropy_U, prefixes.place_BT, inside_BT)


def _spread(values_N: torch.Tensor, index_BT: torch.Tensor, inside_BT: torch.Tensor) -> torch.Tensor:
    """Values by their index inside the mask, 0 outside it and in a first column put before them."""
    taken = values_N.gather(0, (index_BT * inside_BT).flatten()).view_as(index_BT)
    return functional.pad(torch.where(inside_BT, taken, 0.0), (1, 0))


def _hidden(policy: LlamaForCausalLM, prefixes: Prefixes) -> torch.Tensor:
    """Last hidden state after each distinct prefix (U, D)."""
    decoder = Decoder(policy)
    rows, width = prefixes.place_KT.shape
    cosine, sine = (table[prefixes.position_U] for table in rotary(policy, width))
    hidden = functional.embedding(prefixes.token_U, decoder.embedding)
    place = prefixes.place_KT.flatten()
    for layer in decoder.layers:
        # Attention alone looks at whole rows; to their right, where they have ended, nothing looks.
        query, key, value = (
            each.flatten(1).index_select(0, place).view(rows, width, decoder.heads, -1).transpose(1, 2)
            for each in decoder.queries_keys_values(layer, hidden, cosine, sine)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).reshape(rows * width, -1).index_select(0, prefixes.first_U)
        hidden = decoder.after_attention(layer, hidden, attended)
    return decoder.norm(hidden, decoder.last_norm)
