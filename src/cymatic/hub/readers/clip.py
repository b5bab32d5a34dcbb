"""CLIP (Radford et al., 2021, arXiv 2103.00020) from Hugging Face folders: words and pictures in one space.

Its networks are those of the package transformers; tokens and pixels are made here, as its processor makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.encoders.text import normalise
from cymatic.errors import Error, ModelError, PromptError
from cymatic.files import reason
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import CONFIG, WEIGHTS, fill, read_json, read_tensors
from cymatic.hub.readers.peers import transformers
from cymatic.media.picture import FILTERS, EightBitSpec, Filter

Activation = Literal["quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]
# Our name of a setting: transformers' name.
TEXT = {
    "rows": "vocab_size", "positions": "max_position_embeddings", "width": "hidden_size", "mlp": "intermediate_size",
    "depth": "num_hidden_layers", "heads": "num_attention_heads", "activation": "hidden_act", "eps": "layer_norm_eps",
    "dim": "projection_dim", "end_id": "eos_token_id",
}  # fmt: skip
VISION = {
    "size": "image_size", "patch": "patch_size", "width": "hidden_size", "mlp": "intermediate_size",
    "depth": "num_hidden_layers", "heads": "num_attention_heads", "activation": "hidden_act", "eps": "layer_norm_eps",
    "dim": "projection_dim",
}  # fmt: skip
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
PICKLED = "pytorch_model.bin"


class ClipTower(Config):
    """The size of one of CLIP's two transformers. dim: of the space that they share."""

    width: int = Field(gt=0, le=8192)
    depth: int = Field(ge=1, le=96)
    heads: int = Field(gt=0, le=128)
    mlp: int = Field(gt=0, le=2**16)
    activation: Activation = "quick_gelu"
    eps: float = Field(default=1e-5, gt=0, le=1)
    dim: int = Field(gt=0, le=8192)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} can't be split into {self.heads} heads")
        return self

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: it is trained already."""
        return self


class ClipTextConfig(ClipTower):
    """vocab: tokens by their number; merges: pairs that become one, the first first; pad: what fills up a batch; rows,
    positions: of the embeddings; end_id: the number of the end as the network has it."""

    kind: Literal["clip-text"] = "clip-text"
    vocab: tuple[str, ...] = Field(min_length=2)
    merges: tuple[str, ...]
    pad: str = END
    rows: int = Field(gt=0, le=2**20)
    positions: int = Field(ge=3, le=2**16)
    end_id: int = Field(ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        known = set(self.vocab)
        if len(known) < len(self.vocab) or len(self.vocab) > self.rows:
            raise ValueError(f"{len(self.vocab)} tokens, {len(known)} of them different, for {self.rows} rows")
        if missing := {START, END, self.pad} - known:
            raise ValueError(f"the vocabulary has no {min(missing)}")
        for merge in self.merges:
            if merge.count(" ") != 1 or not {merge.replace(" ", ""), *merge.split(" ")} <= known:
                raise ValueError(f"the vocabulary has not what {merge!r:.60} joins")
        return self

    @property
    def reads(self) -> None:
        """No spec: it reads captions."""
        return None


class ClipPictureConfig(ClipTower):
    """size, patch: of the pictures and of what becomes a token, in pixels. edge: pixels of the shorter side before the
    middle is cut out; None: the whole picture is made square. filter: by which it is resized; mean, std: of each
    channel, by which pixels are normalised."""

    kind: Literal["clip-picture"] = "clip-picture"
    size: int = Field(gt=0, le=4096)
    patch: int = Field(gt=0, le=1024)
    edge: int | None = Field(default=None, gt=0, le=4096)
    filter: Filter = "bicubic"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.patch > self.size or min(self.std) <= 0:
            raise ValueError(f"patches of {self.patch} pixels of {self.size}, divided by {min(self.std):g}")
        if self.edge is not None and self.edge < self.size:
            raise ValueError(f"the shorter side becomes {self.edge} pixels, and {self.size} are cut out of it")
        return self

    @property
    def reads(self) -> EightBitSpec:
        """What it encodes."""
        return EightBitSpec(size=self.size, edge=self.edge, filter=self.filter)


def byte_pairs(config: ClipTextConfig) -> Any:
    """A tokenizer of byte pairs as CLIP's own: NFC, lower case, whole words, the last token of each marked."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocab = {token: number for number, token in enumerate(config.vocab)}
    merges = [(first, second) for first, second in (merge.split(" ") for merge in config.merges)]
    made = Tokenizer(models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token=END))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.add_special_tokens(sorted({START, END, config.pad}))
    return made


class ClipTextEncoder(nn.Module):
    """Prompts -> `Cond(tokens [batch, n, dim], mask, vector [batch, dim])`: CLIP's text tower.

    The tokens are all states and the vector is that of the end token, both projected into the space of the pictures.
    """

    config_class: ClassVar[type[ClipTextConfig]] = ClipTextConfig

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, theirs in TEXT.items()}
        network = package.CLIPTextModelWithProjection(package.CLIPTextConfig(**settings))
        self.text_model, self.text_projection = network.text_model, network.text_projection

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    @cached_property
    def tokenizer(self) -> Any:
        """See `byte_pairs`."""
        return byte_pairs(self.config)

    def ids(self, batch: Sequence[str]) -> tuple[Int[Tensor, "batch n"], Bool[Tensor, "batch n"]]:
        """The numbers of the tokens, from start to end, and which of them are not padding.

        Raises PromptError for an empty prompt, control characters, or more tokens than there are positions.
        """
        number = self.tokenizer.token_to_id
        rows = []
        for prompt in batch:
            normalise(prompt)  # what it refuses
            row = self.tokenizer.encode(prompt[: 100 * self.config.positions], add_special_tokens=False).ids
            if len(row) > self.config.positions - 2:
                raise PromptError(
                    f"the prompt is too long: {len(row)} tokens or more, and this model reads "
                    f"{self.config.positions - 2}; shorten it"
                )
            rows.append([number(START), *row, number(END)])
        longest = max(map(len, rows))
        ids = torch.tensor([row + [number(self.config.pad)] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(longest) < lengths[:, None]

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The numbers of the start and the end of a prompt."""
        return self.config.vocab.index(START), self.config.vocab.index(END)

    @property
    def words(self) -> Float[Tensor, "rows width"]:
        """The embedding of each token, before positions are added."""
        table: Tensor = self.text_model.embeddings.token_embedding.weight
        return table

    def of_words(self, words: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch dim"]:
        """The vectors of prompts whose tokens between start and end have these embeddings, such as no token may have.

        Raises Error for more of them than there are positions, or of another width.
        """
        rows, most = self.words, self.config.positions - 2
        if words.shape[1] > most or words.shape[2] != rows.shape[1]:
            raise Error(
                f"{words.shape[1]} embeddings of width {words.shape[2]} were given; this model reads up to {most} of "
                f"width {rows.shape[1]}"
            )
        start, end = (rows[one].expand(len(words), 1, -1) for one in self.ends)
        x = self.text_model.embeddings(inputs_embeds=torch.cat([start, words, end], 1))
        # As a sum, which every kind of attention in transformers takes: no place looks at a later one.
        later = torch.full((x.shape[1],) * 2, torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device).triu(1)
        x = self.text_model.encoder(inputs_embeds=x, attention_mask=later[None, None]).last_hidden_state
        return normalize(self.text_projection(self.text_model.final_layer_norm(x[:, -1])), dim=-1)

    def states(
        self, ids: Int[Tensor, "batch n"], mask: Bool[Tensor, "batch n"]
    ) -> tuple[Float[Tensor, "batch n width"], Float[Tensor, "batch width"]]:
        """The last states, and that of the end token."""
        out = self.text_model(input_ids=ids, attention_mask=mask.long())
        return out.last_hidden_state, out.pooler_output

    def forward(self, batch: Sequence[str]) -> Cond:
        """Raises PromptError as `ids`."""
        device = self.text_projection.weight.device
        ids, mask = (one.to(device) for one in self.ids(batch))
        states, end = self.states(ids, mask)
        vector = normalize(self.text_projection(end), dim=-1)
        return Cond(self.text_projection(states) * mask[..., None], mask, vector)


def normalised(
    pictures: Float[Tensor, "batch channels height width"], config: Any
) -> Float[Tensor, "batch 3 side side"]:
    """Pictures with the mean and the spread of what an encoder of this config was trained on taken out. Raises Error
    for pictures of another shape than it reads."""
    size = config.size
    if pictures.shape[1:] != (3, size, size):
        raise Error(
            f"pictures of the shape {list(pictures.shape)} were given; this encoder reads [batch, 3, {size}, {size}]"
        )
    mean, std = (pictures.new_tensor(values)[:, None, None] for values in (config.mean, config.std))
    return (pictures - mean) / std


class ClipPictureEncoder(nn.Module):
    """Pictures `[batch, 3, size, size]` in 0..1 -> `Cond(tokens [batch, 1 + patches, dim], mask, vector [batch, dim])`:
    CLIP's picture tower. The first token is the class token, whose vector stands for the picture."""

    config_class: ClassVar[type[ClipPictureConfig]] = ClipPictureConfig

    def __init__(self, config: ClipPictureConfig) -> None:
        super().__init__()
        self.config = config
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, theirs in VISION.items()}
        network = package.CLIPVisionModelWithProjection(package.CLIPVisionConfig(**settings))
        self.vision_model, self.visual_projection = network.vision_model, network.visual_projection

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for pictures of another shape."""
        pixels = normalised(batch.values.to(self.visual_projection.weight.device), self.config)
        states = self.vision_model(pixel_values=pixels).last_hidden_state
        tokens = self.visual_projection(self.vision_model.post_layernorm(states))
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Cond(tokens, mask, normalize(tokens[:, 0], dim=-1))


@dataclass(frozen=True)
class Clip:
    """Both towers, and by what their similarities become logits."""

    text: ClipTextEncoder
    picture: ClipPictureEncoder
    scale: float


def is_clip(source: Path) -> bool:
    """Whether `source` is a folder of CLIP's. Raises ModelError for a damaged `config.json`."""
    return (source / CONFIG).is_file() and read_json(source / CONFIG).get("model_type") == "clip"


def read_clip(source: Path) -> Clip:
    """CLIP from a folder as the Hugging Face hub has it: `config.json`, `model.safetensors` or `pytorch_model.bin`,
    `preprocessor_config.json`, and `vocab.json` with `merges.txt` or `tokenizer.json`. No file is fetched.

    Raises ModelError for a file that is missing or damaged, a setting that is not known here, and tensors that are
    missing, unexpected, of another shape or not finite.
    """
    values = read_json(source / CONFIG)
    where = str(source / CONFIG)
    package = transformers()
    try:
        whole = package.CLIPConfig(**values)
    except Exception as error:  # whatever its checks raise
        raise ModelError(f"{where} is no CLIP's ({' '.join(str(error).split())[:200]}); copy the model again") from None
    dims = {"dim": whole.projection_dim}
    towers: dict[str, dict[str, Any]] = {}
    for name, names, config in (("text", TEXT, whole.text_config), ("vision", VISION, whole.vision_config)):
        towers[name] = {ours: getattr(config, theirs) for ours, theirs in names.items()} | dims
    towers["text"] |= read_tokens(source)
    towers["vision"] |= pixels_of(source, towers["vision"]["size"])
    text = ClipTextEncoder(ClipTextConfig.parse(towers["text"], where))
    picture = ClipPictureEncoder(ClipPictureConfig.parse(towers["vision"], where))
    pickled = not (source / WEIGHTS).is_file() and (source / PICKLED).is_file()
    tensors = state_dict(source / PICKLED) if pickled else read_tensors(source / WEIGHTS)
    tensors = {
        name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")
    }  # of old versions
    log_scale = tensors.pop("logit_scale", torch.tensor(math.nan))
    if log_scale.numel() != 1 or not log_scale.isfinite():
        raise ModelError(f"{source} has no logit_scale, which every CLIP has; copy the model again")
    both = nn.ModuleDict({"text": text, "picture": picture})
    fill(both, tensors, f"{source} does not fit its {CONFIG}", lambda name: name.partition(".")[2])
    return Clip(text.eval(), picture.eval(), float(log_scale.float().exp()))


def read_tokens(source: Path) -> dict[str, Any]:
    """The vocabulary, its merges and what fills up a batch, as settings of a `ClipTextConfig`. Raises ModelError."""
    merges: Any
    if (source / "vocab.json").is_file():
        vocab: Any = read_json(source / "vocab.json")
        path = source / "merges.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            said = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise ModelError(f"{path} can't be read: {said}; copy the model again") from None
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    else:
        model = read_json(source / "tokenizer.json").get("model")
        held = model if isinstance(model, dict) else {}
        vocab, merges = held.get("vocab"), held.get("merges")
        if isinstance(merges, list):
            merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]
    if not isinstance(vocab, dict) or sorted(map(str, vocab.values())) != sorted(map(str, range(len(vocab)))):
        raise ModelError(f"{source} has no vocabulary of tokens that are numbered from 0 on; copy the model again")
    settings: dict[str, Any] = {}
    # Folders of before 2023 say it in a file of its own, which then counts.
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if "added_tokens_decoder" not in settings and (source / name).is_file():
            settings |= read_json(source / name)
    pad = settings.get("pad_token") or END
    pad = pad.get("content") if isinstance(pad, dict) else pad
    return {"vocab": sorted(vocab, key=vocab.__getitem__), "merges": merges, "pad": pad}


def pixels_of(source: Path, size: int, *, crops: bool = True, filter: Filter = "bicubic") -> dict[str, Any]:
    """How pictures of a Hugging Face folder are prepared. crops, filter: what is done where its file says nothing.
    Raises ModelError for steps that are not done here."""
    path = source / "preprocessor_config.json"
    values: Mapping[str, Any] = {}
    if path.is_file():
        values = read_json(path)
    else:
        path = source / "processor_config.json"
        values = read_json(path).get("image_processor", {})
    steps = {name: values.get(name, True) for name in ("do_resize", "do_rescale", "do_normalize")}
    steps["do_center_crop"] = values.get("do_center_crop", crops)
    resized, cut = values.get("size", size), values.get("crop_size", size)
    if isinstance(resized, int) and not steps["do_center_crop"]:  # of the square, and else of the shorter side
        resized = {"height": resized, "width": resized}
    edge = resized.get("shortest_edge") if isinstance(resized, dict) else resized
    whole = isinstance(resized, dict) and (resized.get("height"), resized.get("width")) == (size, size)
    cut = cut if isinstance(cut, dict) else {"height": cut, "width": cut}
    number = values.get("resample", FILTERS[filter])
    known = {place: name for name, place in FILTERS.items()}
    if (
        not all(steps[name] for name in ("do_resize", "do_rescale", "do_normalize"))
        or not (whole or steps["do_center_crop"])
        or (steps["do_center_crop"] and (cut.get("height"), cut.get("width")) != (size, size))
        or abs(values.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6
        or not (whole or isinstance(edge, int))
        or number not in known
    ):
        raise ModelError(
            f"{path} asks for other steps than to resize, cut out the middle {size} x {size} pixels and normalise; "
            "prepare its pictures elsewhere"
        )
    return {
        "edge": None if whole else edge, "filter": known[number],
        "mean": values.get("image_mean"), "std": values.get("image_std"),
    }  # fmt: skip
