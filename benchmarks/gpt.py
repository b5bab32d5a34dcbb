"""How fast codes are sampled: with the cache, without it, and by transformers' GPT-2 with the very same weights.

    python benchmarks/gpt.py --threads 1 2

Needs transformers, which nothing else here does. All take turns in one process, and the best of the rounds counts. The
same weights give the same greedy codes everywhere, which is checked; times are of greedy and of top-100 sampling.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cymatic.cond import Cond
from cymatic.priors.gpt import GPTConfig, GPTPrior

ROWS, COLUMNS, CODES = 4, 64, 512
SHAPES = {"5 M": (6, 256, 4), "19 M": (6, 512, 8)}  # depth, width, heads


def peer(depth: int, width: int, heads: int) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=CODES, n_positions=ROWS * COLUMNS + 1, n_embd=width, n_layer=depth, n_head=heads,
        activation_function="gelu", bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.08)  # lively enough that greedy codes differ
    return model


def ours(model: torch.nn.Module, depth: int, width: int, heads: int, positions: str) -> GPTPrior:
    learned = {"positions": "learned", "prefix": 1} if positions == "learned" else {}
    prior = GPTPrior(
        GPTConfig(
            codes=CODES, rows=ROWS, longest=COLUMNS, width=width, depth=depth, heads=heads, cond_dim=width,
            vector=False, end=False, **learned,
        )
    ).eval()  # fmt: skip
    prior.steps_trained.fill_(1)
    if positions != "learned":
        return prior
    theirs = model.state_dict()
    pairs = {"norm1": "ln_1", "qkv": "attn.c_attn", "out": "attn.c_proj", "norm2": "ln_2", "widen": "mlp.c_fc",
             "narrow": "mlp.c_proj"}  # fmt: skip
    state = {
        **prior.state_dict(),
        "trunk.read_token.weight": torch.eye(width),
        "trunk.read_token.bias": torch.zeros(width),
        "trunk.code.weight": theirs["transformer.wte.weight"],
        "trunk.place.weight": theirs["transformer.wpe.weight"],
        "trunk.norm.weight": theirs["transformer.ln_f.weight"],
        "trunk.norm.bias": theirs["transformer.ln_f.bias"],
        "head.weight": theirs["transformer.wte.weight"],
    }
    for i in range(depth):
        for own, other in pairs.items():
            weight = theirs[f"transformer.h.{i}.{other}.weight"]
            state[f"trunk.blocks.{i}.{own}.weight"] = weight if own.startswith("norm") else weight.T
            state[f"trunk.blocks.{i}.{own}.bias"] = theirs[f"transformer.h.{i}.{other}.bias"]
    prior.load_state_dict(state)
    return prior


def contenders(size: str, batch: int, greedy: bool) -> dict[str, Callable[[], Tensor]]:
    model = peer(*SHAPES[size])
    prior, rotary = (ours(model, *SHAPES[size], positions) for positions in ("learned", "rotary"))
    first = model.get_input_embeddings().weight.detach()[:1]
    cond = Cond(first[None].expand(batch, 1, -1), torch.ones(batch, 1, dtype=torch.bool))
    how = {"greedy": True} if greedy else {"top_k": 100}
    columns = torch.full((batch,), COLUMNS)

    def cached(one: GPTPrior) -> Tensor:
        return one.sample(cond, range(batch), lengths=columns, guidance=1.0, **how)[0].mT.flatten(1)

    @torch.inference_mode()
    def uncached() -> Tensor:
        codes = torch.zeros(batch, 0, dtype=torch.int64)
        for _ in range(ROWS * COLUMNS):
            codes = torch.cat([codes, prior(codes, cond)[:, -1:].argmax(-1)], dim=1)
        return codes

    @torch.inference_mode()
    def transformers(cache: str) -> Tensor:
        asked = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 100}
        static = {"cache_implementation": "static", "disable_compile": True} if cache == "static" else {}
        start, n = torch.zeros(batch, 1, dtype=torch.int64), ROWS * COLUMNS
        mask = torch.ones_like(start)
        made = model.generate(start, attention_mask=mask, max_new_tokens=n, min_new_tokens=n, **asked, **static)
        return made[:, 1:]

    return {
        "cymatic": lambda: cached(prior),
        "cymatic, its default (rotary)": lambda: cached(rotary),
        "transformers, dynamic cache": lambda: transformers("dynamic"),
        "transformers, static cache": lambda: transformers("static"),
        **({"cymatic without cache": uncached} if greedy and batch == 1 else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for size in options.sizes:
            for batch in options.batch:
                for greedy in (True, False):
                    runs = contenders(size, batch, greedy)
                    best = dict.fromkeys(runs, float("inf"))
                    busy = dict.fromkeys(runs, float("inf"))
                    made = {}
                    for turn in range(options.rounds):
                        for name, run in runs.items():
                            if "without" in name and turn > 0:
                                continue
                            began, work = time.perf_counter(), time.process_time()
                            made[name] = run()
                            best[name] = min(best[name], time.perf_counter() - began)
                            busy[name] = min(busy[name], time.process_time() - work)
                    if greedy:
                        same = [n for n in made if "default" not in n and not torch.equal(made[n], made["cymatic"])]
                        assert not same, f"other codes: {same}"
                        assert len(made["cymatic"].unique()) > 20, "nothing is shown by a few codes"
                    row = {"threads": threads, "size": size, "batch": batch, "greedy": greedy}
                    print(json.dumps({**row, "seconds": rounded(best), "of the processor": rounded(busy)}), flush=True)


def rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in times.items()}


if __name__ == "__main__":
    main()
