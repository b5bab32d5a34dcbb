"""How fast a decoder with cross-attention writes: ours and transformers' BART with the very same weights.

    python benchmarks/seq2seq.py --threads 1

Needs transformers. A picture of 16 x 16 codes under a caption of 32 tokens. All take turns in one process, and the best
of the rounds counts. The same weights write the same tokens, which is checked; the prior has the same shape, and draws
by the loop that all priors over codes share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cymatic.cond import Cond
from cymatic.hub.readers.bart import read_bart
from cymatic.priors.seq2seq import Seq2SeqConfig, Seq2SeqPrior

SIDE, CODES, WORDS, END = 16, 1024, 32, 2
SHAPES = {"8 M": (4, 256, 4), "30 M": (4, 512, 8)}  # depth, width, heads


def peer(depth: int, width: int, heads: int) -> torch.nn.Module:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=CODES, d_model=width, encoder_layers=depth, decoder_layers=depth, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, dropout=0.0,
        max_position_embeddings=SIDE**2 + 1, init_std=0.1, forced_eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BartForConditionalGeneration(config).eval()
    model.final_logits_bias[0, END] = -1e4  # so that all write as many tokens as a picture has codes
    return model


def prior(depth: int, width: int, heads: int) -> Seq2SeqPrior:
    torch.manual_seed(0)
    made = Seq2SeqPrior(
        Seq2SeqConfig(
            style="bart",
            codes=CODES - 1,
            rows=SIDE,
            longest=SIDE,
            width=width,
            depth=depth,
            heads=heads,
            cond_dim=width,
            vector=False,
        )
    )
    made.steps_trained.fill_(1)
    return made.eval()


def seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    begin = time.perf_counter()
    made = work()
    return time.perf_counter() - begin, made


def measure(shape: tuple[int, int, int], batch: int, rounds: int) -> dict[str, float]:
    theirs, made = peer(*shape), prior(*shape)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = read_bart(Path(folder))
    ids = torch.randint(3, CODES, (batch, WORDS), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    cond, count = Cond(torch.randn(batch, WORDS, shape[1]), mask), SIDE**2
    how = {"max_new_tokens": count, "num_beams": 1, "do_sample": False, "attention_mask": mask.long()}
    works: dict[str, Callable[[], Tensor]] = {
        "transformers": lambda: theirs.generate(ids, **how),
        "cymatic": lambda: ours.write(ids, mask, count),
        "cymatic, prior": lambda: made.sample(cond, range(batch), guidance=1.0, greedy=True)[0],
    }
    best = dict.fromkeys(works, float("inf"))
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, work in works.items():
                took, found[name] = seconds(work)
                best[name] = min(best[name], took)
    if not torch.equal(found["transformers"], found["cymatic"]):
        raise SystemExit("the same weights wrote different tokens")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name in args.shape:
            for batch in args.batch:
                best = measure(SHAPES[name], batch, args.rounds)
                times = {who: round(took, 3) for who, took in best.items()}
                ratio = round(best["transformers"] / best["cymatic"], 2)
                line = {"shape": name, "batch": batch, "threads": threads, "s": times, "times faster": ratio}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
