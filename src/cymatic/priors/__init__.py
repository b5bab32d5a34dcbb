"""Models of what is likely: from a condition to a mel, a picture, latents or codes.

`PRIORS` is the closed union of the family: recipes, loaders, pipelines and the contract test read it. A prior is added
by its name in `Prior`. Nobody outside needs to know which of them it holds, since all have:

- `config.cond_dim`: the width of the condition that it reads;
- `config.over`: "targets", what a medium is prepared as by `config.reads`; or "codes" or "latents" of a codec, and
  `config.reads` is None;
- `steps_trained`: a number of training steps; a prior of 0 refuses to sample (ModelError);
- `longest`: the greatest length in its own units, frames of a mel or columns of a grid, for `int(prior.longest)`;
- `loss(target, lengths, cond, generator, shard=None, *, step=None)`: `{"loss": ..., and its terms}` of a batch.
  target: `[batch, ..., longest of these]`, of which item i has `lengths[i]`; shard: which items of a larger batch these
  are; step: of the training, for what changes in its course;
- `measured`: the name of the term by which held-out data is measured;
- `matrices()`: the weights that take orthogonal steps in training, the others take AdamW's;
- `sampling`: a frozen config of how it samples, with defaults and ranges;
- `sample(cond, seeds, *, lengths=None, on_step=None, allow_untrained=False, **settings)`: targets and their lengths,
  drawn where none are given. Item i depends on `seeds[i]` and its own condition alone. settings: of `sampling`, with
  `guidance` among them (1 is none); on_step: called between steps, see `priors.progress`;
- `has_latent`, and `verbs`: what else it can do. "vary": `vary(target, n, amount, cond=None, seed=0, ...)`; "inpaint":
  `inpaint(target, redraw, n, cond=None, seed=0, ...)`; "preview": `sample` takes `on_estimate`, see
  `priors.progress`.

Those over codes `[batch, rows, columns]` (GPTPrior, GPTVAE, Seq2SeqPrior, MaskedPrior) also have `config.codes`,
`config.rows` and `config.size(row)`, which say how many different codes each row has, and continue a `start` in
`sample`: by whole rows where `config.by_rows` says so, as grids of one size are, such as those of pictures, else by
whole columns. MaskedPrior fills in any places that are not to `keep`.
"""

from __future__ import annotations

from typing import get_args

from cymatic.priors.flow import FlowPrior
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.priors.grid_flow import GridFlowPrior
from cymatic.priors.masked import MaskedPrior
from cymatic.priors.seq2seq import Seq2SeqPrior

Prior = FlowPrior | GridFlowPrior | GPTPrior | GPTVAE | Seq2SeqPrior | MaskedPrior
PRIORS: tuple[type[Prior], ...] = get_args(Prior)
