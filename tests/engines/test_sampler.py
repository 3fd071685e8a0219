"""The sampler against the model's own full forward pass, and what ends and interrupts a row."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from scalerl_lab.config.recipe import Precision
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.engines.rows import Decoding, Finished
from scalerl_lab.engines.sampler import TorchSampler
from tests.engines.whole import whole_logprobs

V, PAD, END, MARKER = 11, 0, 1, 2
PROMPTS = [(3, 4, 5), (6, 7), (8, 9, 10, 3, 4), (5,)]
G = 6


def policy(seed: int = 0):
    return build_policy(LlamaModel(layers=2, width=16, heads=2, mlp_width=24), V, seed)


def decoding(limit: int = 9, phrase: tuple[int, ...] = (), temperature: float = 1.0) -> Decoding:
    return Decoding(limit, temperature, PAD, END, MARKER, phrase)


def sampler_of(model, how: Decoding, blocks: int = 1, head: Precision = "fp32") -> TorchSampler:
    return TorchSampler(
        model,
        how,
        head,
        rows_per_block=len(PROMPTS) * G,
        num_blocks=blocks,
        max_prompt_tokens=5,
        with_entropy=True,
    )


def drawn(
    model,
    how: Decoding,
    budget: torch.Tensor | None = None,
    head: Precision = "fp32",
) -> Finished:
    sampler = sampler_of(model, how, head=head)
    sampler.start(0, PROMPTS, G, budget)
    sampler.advance({0: how.most_new_tokens}, torch.Generator().manual_seed(7), version=3)
    return sampler.take(0)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_equal_the_full_forward(temperature: float) -> None:
    model = policy()
    found = drawn(model, decoding(phrase=(MARKER, 4), temperature=temperature), torch.full((24,), 4))
    full = whole_logprobs(model, found.tokens_BT, temperature)
    assert ((full - found.logp_BT) * found.mask_BT).abs().max() < 1e-5


def test_a_bf16_head_gives_other_logprobs_than_an_fp32_one() -> None:
    model = policy()
    found = drawn(model, decoding(), head="bf16")
    exact = whole_logprobs(model, found.tokens_BT)
    rough = whole_logprobs(model, found.tokens_BT, head="bf16")
    off_exact = ((exact - found.logp_BT).abs() * found.mask_BT).sum() / found.mask_BT.sum()
    off_rough = ((rough - found.logp_BT).abs() * found.mask_BT).sum() / found.mask_BT.sum()
    assert off_exact > 1e-4
    assert off_rough < off_exact / 3


def test_draws_follow_the_distribution() -> None:
    model = policy()
    num = 4000
    sampler = TorchSampler(
        model, decoding(limit=1), "fp32", rows_per_block=num, num_blocks=1, max_prompt_tokens=3
    )
    sampler.start(0, [(3, 4, 5)], num, None)
    sampler.advance({0: 1}, torch.Generator().manual_seed(0), 0)
    counts = torch.bincount(sampler.take(0).tokens_BT[:, 3], minlength=V)
    logits = model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1]
    expected = num * torch.softmax(logits.detach().double(), -1)
    # Chi-squared with 10 degrees of freedom: 29.6 is its 0.1 % point.
    assert float(((counts - expected).square() / expected).sum()) < 29.6


def test_rows_end_at_the_end_token_or_are_truncated_at_the_limit() -> None:
    found = drawn(policy(), decoding(limit=9))
    assert found.truncated_B.any()
    assert not found.truncated_B.all()
    for row, response in enumerate(found.responses()):
        wrote = int(found.num_written[row])
        assert len(response) == wrote <= 9
        assert END not in response[:-1]
        assert bool(found.truncated_B[row]) == (wrote == 9 and response[-1] != END)
        start, end = int(found.prompt_length_B[row]), int(found.length_B[row])
        assert tuple(found.tokens_BT[row, :start].tolist()) == PROMPTS[row // G]
        assert found.mask_BT[row].nonzero()[:, 0].tolist() == list(range(start, end))
        assert found.version_BT[row].tolist() == [
            3 if start <= t < end else -1 for t in range(found.tokens_BT.shape[1])
        ]


def test_interruption_is_injected_masked_and_not_counted() -> None:
    phrase = (MARKER, 9)
    budget = torch.arange(24) % 5 + 2
    found = drawn(policy(), decoding(limit=9, phrase=phrase), budget)
    assert found.interrupted_B.any()
    assert not found.interrupted_B.all()
    for row, response in enumerate(found.responses()):
        start, allowed = int(found.prompt_length_B[row]), int(budget[row])
        mask = found.mask_BT[row, start : start + len(response)].tolist()
        if found.interrupted_B[row]:
            assert mask == [1.0] * allowed + [0.0, 0.0] + [1.0] * (len(response) - allowed - 2)
            assert tuple(response[allowed : allowed + 2]) == phrase
            assert MARKER not in response[:allowed]
            assert found.logp_BT[row, start + allowed : start + allowed + 2].tolist() == [0.0, 0.0]
            assert bool(found.truncated_B[row]) == (sum(mask) == 9 and response[-1] != END)
        else:
            assert mask == [1.0] * len(response)
            # Either it ended within its budget, or it had given the marker by itself.
            assert len(response) <= allowed or MARKER in response[:allowed]


def test_entropy_is_that_of_the_distribution_drawn_from() -> None:
    model = policy()
    found = drawn(model, decoding())
    logp = torch.log_softmax(model(input_ids=found.tokens_BT[:, :-1]).logits.double(), -1)
    entropy = -(logp.exp() * logp).sum(-1)
    assert ((entropy - found.entropy_BT[:, 1:]) * found.mask_BT[:, 1:]).abs().max() < 1e-5
    assert float(found.entropy_BT.max()) < math.log(V)


def test_work_counts_each_prompt_once_and_each_token_at_its_context() -> None:
    model = policy()
    sampler = sampler_of(model, decoding())
    sampler.start(0, PROMPTS, G, None)
    sampler.advance({0: 9}, torch.Generator().manual_seed(7), 0)
    found = sampler.take(0)
    read = [len(prompt) - 1 for prompt in PROMPTS]
    # The last prompt token and every response token but the last are read row by row.
    tokens = sum(read) + int(found.num_written.sum())
    attended = sum(n * (n + 1) // 2 for n in read)
    for start, end in zip(found.prompt_length_B.tolist(), found.length_B.tolist(), strict=True):
        attended += sum(range(start, end))
    assert (sampler.work.tokens, sampler.work.attended) == (tokens, attended)


def test_a_weight_change_in_flight_keeps_the_old_keys_and_values() -> None:
    first, second = policy(0), policy(1)
    sampler = sampler_of(first, decoding(limit=8))
    sampler.start(0, PROMPTS, G, None)
    noise = torch.Generator().manual_seed(7)
    sampler.advance({0: 4}, noise, version=0)
    cached = sampler.tensors()["cache"].clone()
    first.load_state_dict(second.state_dict())
    sampler.advance({0: 8}, noise, version=1)
    found = sampler.take(0)
    place = found.prompt_length_B[:, None] + 4
    written = torch.arange(found.tokens_BT.shape[1])
    early = (written < place) & (found.mask_BT > 0)
    late = (written >= place) & (found.mask_BT > 0)
    assert found.version_BT[early].unique().tolist() == [0]
    assert found.version_BT[late].unique().tolist() == [1]
    # The new weights over stale keys and values are neither model's full forward.
    for model in (policy(0), policy(1)):
        full = whole_logprobs(model, found.tokens_BT)
        assert (full - found.logp_BT)[late].abs().max() > 1e-3
    old = whole_logprobs(policy(0), found.tokens_BT)
    assert (old - found.logp_BT)[early].abs().max() < 1e-5
    assert cached.abs().sum() > 0


def test_advancing_in_parts_equals_advancing_at_once_in_what_it_computes() -> None:
    model = policy()
    sampler = sampler_of(model, decoding(limit=8), blocks=2)
    sampler.start(0, PROMPTS, G, None)
    sampler.start(1, PROMPTS[::-1], G, None)
    noise = torch.Generator().manual_seed(7)
    for target in (3, 5, 8):
        sampler.advance({0: target, 1: target - 2}, noise, 0)
    found = sampler.take(0)
    full = whole_logprobs(model, found.tokens_BT)
    assert ((full - found.logp_BT) * found.mask_BT).abs().max() < 1e-5
    with pytest.raises(RuntimeError, match="unfinished"):
        sampler.take(1)


def test_state_put_into_another_sampler_goes_on_bit_for_bit() -> None:
    def begun() -> TorchSampler:
        sampler = sampler_of(policy(), decoding(limit=8), blocks=2)
        sampler.start(0, PROMPTS, G, None)
        sampler.advance({0: 5}, torch.Generator().manual_seed(7), 0)
        sampler.start(1, PROMPTS, G, None)
        return sampler

    one = begun()
    other = sampler_of(policy(), decoding(limit=8), blocks=2)
    other.load_tensors({name: tensor.clone() for name, tensor in one.tensors().items()})
    for sampler in (one, other):
        sampler.advance({0: 8, 1: 8}, torch.Generator().manual_seed(9), 1)
    for block in (0, 1):
        mine, theirs = one.take(block).tensors(""), other.take(block).tensors("")
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_many_rows_are_moved_together_when_most_have_ended() -> None:
    model = policy()
    sampler = TorchSampler(
        model, decoding(limit=30), "fp32", rows_per_block=200, num_blocks=1, max_prompt_tokens=5
    )
    sampler.start(0, PROMPTS, 50, None)
    sampler.advance({0: 30}, torch.Generator().manual_seed(7), 0)
    found = sampler.take(0)
    full = whole_logprobs(model, found.tokens_BT)
    assert ((full - found.logp_BT) * found.mask_BT).abs().max() < 1e-5


def test_rows_that_wrote_the_same_share_a_slot_until_they_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step decodes the distinct prefixes of unfinished rows, and no slot is taken twice."""
    model = policy()
    sampler = sampler_of(model, decoding(limit=9), blocks=2)
    decoded: list[int] = []
    decode = sampler._decode

    def counted(decoder, token_S, position_S):
        unfinished = (~sampler.rows.done).nonzero()[:, 0]
        slots = sampler._slot_of_row[unfinished].tolist()
        prefixes = [
            (row // G, tuple(sampler.rows.tokens[row, : sampler.rows.length[row]].tolist()))
            for row in unfinished.tolist()
        ]
        # A slot for each prompt with what was written after it: no two have the same, none has two.
        assert len(set(prefixes)) == len(set(slots)) == len(set(zip(prefixes, slots, strict=True)))
        decoded.append(len(set(slots)))
        return decode(decoder, token_S, position_S)

    monkeypatch.setattr(sampler, "_decode", counted)
    noise = torch.Generator().manual_seed(7)
    sampler.start(0, PROMPTS, G, None)
    sampler.advance({0: 3}, noise, version=3)
    sampler.start(1, PROMPTS, G, None)
    sampler.advance({0: 9, 1: 9}, noise, version=3)
    assert decoded[0] == len(PROMPTS)  # a slot a prompt, before any row has drawn
    assert len(PROMPTS) < decoded[1] < len(PROMPTS) * G
    for block in range(2):
        found = sampler.take(block)
        full = whole_logprobs(model, found.tokens_BT)
        assert float(((full - found.logp_BT) * found.mask_BT).detach().abs().max()) < 1e-5


# ---------------------------------------------------------------- early truncation, rows of their own


def test_a_row_is_cut_after_a_run_of_nearly_certain_tokens() -> None:
    """The cut falls where the run, counted here from the noted log-probabilities, first is long enough."""
    model = policy()
    above, run = 0.085, 3
    how = dataclasses.replace(decoding(limit=9), certain_tokens=run, certain_above=above)
    found, free = drawn(model, how), drawn(model, decoding(limit=9))
    cut_early = 0
    for row in range(len(found.tokens_BT)):
        start, end = int(found.prompt_length_B[row]), int(found.length_B[row])
        certain = [p > math.log(above) for p in found.logp_BT[row, start:end].tolist()]
        ends = [place for place in range(run, len(certain) + 1) if all(certain[place - run : place])]
        if ends:
            assert end - start == ends[0]
        stopped = int(found.tokens_BT[row, end - 1]) == END
        assert bool(found.truncated_B[row]) == (not stopped)
        assert stopped or bool(ends) or end - start == 9
        cut_early += bool(ends) and not stopped and end - start < 9
    assert 0 < cut_early < len(found.tokens_BT)
    assert found.length_B.sum() < free.length_B.sum()


def test_a_broken_run_and_injected_tokens_start_the_count_anew() -> None:
    model = policy()
    how = dataclasses.replace(decoding(limit=6, phrase=(4, 4)), certain_tokens=4, certain_above=1e-9)
    # Every token is certain enough; the phrase after 3 tokens breaks the run, and 4 more follow it.
    found = drawn(model, how, torch.full((24,), 3))
    for row in range(24):
        start, end = int(found.prompt_length_B[row]), int(found.length_B[row])
        response = found.tokens_BT[row, start:end].tolist()
        if END in response or MARKER in response[:3]:
            continue
        # Limit 6 comes before the run of 4 after the phrase would be full.
        assert (len(response), int(found.mask_BT[row].sum())) == (8, 6)


def test_a_resumed_row_remembers_its_run() -> None:
    model = policy()
    how = dataclasses.replace(decoding(limit=9), certain_tokens=4, certain_above=0.08)
    whole = sampler_of(model, how)
    whole.start(0, PROMPTS, G, None)
    noise = torch.Generator().manual_seed(1)
    whole.advance({0: 3}, noise, 0)
    again = sampler_of(model, how)
    again.load_tensors({name: each.clone() for name, each in whole.tensors().items()})
    other = torch.Generator()
    other.set_state(noise.get_state())
    whole.advance({0: 9}, noise, 0)
    again.advance({0: 9}, other, 0)
    one, two = whole.take(0), again.take(0)
    assert torch.equal(one.tokens_BT, two.tokens_BT)
    assert (one.truncated_B & (one.num_written < 9)).any()


def test_rows_have_limits_and_temperatures_of_their_own() -> None:
    model = policy()
    sampler = sampler_of(model, decoding(limit=9), blocks=2)
    sampler.start(0, PROMPTS, G, None, limit=4, temperature=0.5)
    sampler.start(1, PROMPTS, G, None)
    sampler.advance({0: 9, 1: 9}, torch.Generator().manual_seed(3), 0)
    short, long = sampler.take(0), sampler.take(1)
    assert int(short.num_written.max()) == 4
    assert int(long.num_written.max()) == 9
    for each in model.parameters():
        each.requires_grad_(False)
    for found, right, wrong in ((short, 0.5, 1.0), (long, 1.0, 0.5)):
        off = {
            t: float(
                ((whole_logprobs(model, found.tokens_BT, t) - found.logp_BT) * found.mask_BT).abs().max()
            )
            for t in (right, wrong)
        }
        assert off[right] < 1e-5 < 0.01 < off[wrong]


def test_places_take_new_prompts_while_the_others_stay() -> None:
    model = policy()
    sampler = sampler_of(model, decoding(limit=5))
    sampler.start(0, PROMPTS, G, None)
    sampler.advance({0: 5}, torch.Generator().manual_seed(3), 0)
    before = sampler.take(0)
    sampler.start(0, [(9, 9, 9), (7,)], G, None, places=[1, 3])
    sampler.advance({0: 5}, torch.Generator().manual_seed(4), 6)
    after = sampler.take(0)
    fresh = torch.tensor([row // G in (1, 3) for row in range(4 * G)])
    width = min(before.tokens_BT.shape[1], after.tokens_BT.shape[1])
    assert torch.equal(before.tokens_BT[~fresh, :width], after.tokens_BT[~fresh, :width])
    assert torch.equal(before.logp_BT[~fresh, :width], after.logp_BT[~fresh, :width])
    assert after.tokens_BT[fresh][:G, :3].tolist() == [[9, 9, 9]] * G
    assert after.tokens_BT[fresh][G:, 0].tolist() == [7] * G
    assert after.version_BT[fresh][after.mask_BT[fresh] > 0].unique().tolist() == [6]
    full = whole_logprobs(model, after.tokens_BT)
    assert ((full - after.logp_BT) * after.mask_BT).abs().max() < 1e-5
