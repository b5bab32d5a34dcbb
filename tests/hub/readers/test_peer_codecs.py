"""EnCodec, DAC and Mimi behind the verbs of a waveform codec: the references' codes and sounds, and bad input in words.

What transformers itself says is compared where there is no fixture: Mimi, and EnCodec in segments.
"""

import json
import math
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers import peers
from cymatic.hub.readers.dac import DacCodec, DacCodecConfig
from cymatic.hub.readers.encodec import EncodecCodec, EncodecCodecConfig, SegmentedLatent, read_encodec
from cymatic.hub.readers.mimi import MimiCodec, MimiCodecConfig
from cymatic.hub.readers.peer_codecs import PEERS, read_peer
from cymatic.latent import Latent
from cymatic.media.audio import AUDIO
from cymatic.media.sound import Sound
from cymatic.pipelines.editing import codes_of

needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="transformers is not installed: pip install 'cymatic[hub]'"
)
ENCODEC = EncodecCodecConfig(width=2, dim=8, ratios=(3, 2), size=16, levels=3)
STEREO = EncodecCodecConfig(
    rate=1000, channels=2, width=4, dim=8, ratios=(3, 2), size=16, levels=3, norm="time_group_norm", causal=False,
    normalise=True, segment=0.1, overlap=0.01,
)  # fmt: skip
DAC = DacCodecConfig(
    rate=16_000, width=2, ratios=(2, 5), decoder_width=8, decoder_ratios=(5, 2), dim=8, levels=3, size=16, lookup_dim=4
)
MIMI = MimiCodecConfig(
    width=2, hidden=16, ratios=(3, 2), size=16, lookup_dim=8, levels=4, groups=16, depth=2, mlp=32, heads=2, kv_heads=2,
    window=5,
)  # fmt: skip
GAIN = {"encodec": 1.5, "dac": 0.8, "mimi": 1.0}  # of each layer: lively, and not too loud
CONFIGS = {"encodec": ENCODEC, "stereo": STEREO, "dac": DAC, "mimi": MIMI}


def made(config, seed=0):
    """A codec of random weights, lively enough that its codes differ."""
    kind = {"encodec": EncodecCodec, "dac": DacCodec, "mimi": MimiCodec}[config.kind]
    torch.manual_seed(seed)
    codec = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in codec.state_dict().items():
        if name.endswith(("embed", "embed_sum", "codebook.weight")):
            tensor.normal_(generator=generator)
        elif tensor.dim() > 1:
            tensor.normal_(0, GAIN[config.kind] / tensor[0].numel() ** 0.5, generator=generator)
    return codec


@pytest.fixture(scope="module", params=CONFIGS)
def codec(request):
    return made(CONFIGS[request.param])


def noise(codec, samples, batch=1, seed=0):
    return 0.3 * torch.randn(batch, codec.channels, samples, generator=torch.Generator().manual_seed(seed))


def decoded(codec, latent, samples):
    """Of another length than what was encoded, since the references decode whole frames."""
    return codec.decode(replace(latent, lengths=torch.full_like(latent.lengths, samples)))


def near(got, wanted, atol):
    torch.testing.assert_close(got.detach(), wanted, atol=atol, rtol=0)


def again(codec, folder):
    """The same codec, written and read as a part of ours."""
    save_part(folder, codec)
    return load_part(folder, PEERS)


# What the references say


def bandwidths(reference, codes, waves):
    """Kilobits a second, the codes at that, segment after segment, and the name of the sound."""
    found = {}
    for name, wanted in reference.expected.items():
        if m := re.fullmatch(rf"{codes}_bw([\d.]+?)(?:_frame\d+)?", name):
            # Segments lie in files of their own, or along a first dimension.
            found.setdefault(m[1], []).extend([wanted] if wanted.dim() == 3 else wanted)
    return [(float(kbps), torch.cat(some, dim=-1), f"{waves}_bw{kbps}") for kbps, some in found.items()]


@needs_transformers
@pytest.mark.parametrize("names", ["", "published_names"])
@torch.no_grad()
def test_encodec_of_a_folder(reference, names, tmp_path):
    held = reference("hf_encodec")
    settings, wave = held.config["m"], held.inputs["wave"]
    codec = again(read_peer(held.folder / names), tmp_path)
    sizes = (settings.get("codebook_size", 1024),) * codec.levels
    assert (codec.rate, codec.sizes) == (settings["sampling_rate"], sizes)
    assert (codec.channels, codec.hop) == (settings["audio_channels"], math.prod(settings["upsampling_ratios"]))
    if not codec.segmented:
        held.agrees("emb", codec.encoder(wave))
    for kbps, codes, made in bandwidths(held, "audio_codes", "audio_values"):
        assert codec.levels_at(kbps) == codes.shape[1]
        latent = codec.encode(wave, levels=codes.shape[1])
        assert torch.equal(latent.codes, codes[..., : latent.codes.shape[-1]])
        held.agrees(made, decoded(codec, latent, held.expected[made].shape[-1]))


@needs_transformers
def test_dac_of_a_folder(reference, tmp_path):
    held = reference("hf_dac")
    settings, wave = held.config["m"], held.inputs["wave"][:, None]
    codec = again(read_peer(held.folder), tmp_path)
    assert codec.sizes == (settings["codebook_size"],) * settings["n_codebooks"]
    assert (codec.rate, codec.hop) == (settings["sampling_rate"], math.prod(settings["downsampling_ratios"]))
    latent = codec.encode(wave)
    held.agrees("audio_codes", latent.codes)
    held.agrees("quantized_representation", latent.z)
    fewer = codec.encode(wave, levels=held.config["nq"])
    for name, some in (("from_codes", latent), ("audio_values", latent), ("audio_values_nq", fewer)):
        # With an odd stride theirs ends a few samples early.
        held.agrees(name, decoded(codec, some, held.expected[name].shape[-1])[:, 0])


UNSAID = {"dilation_base": "growth", "pad_mode": "padding", "trim_right_ratio": "trim"}
SEANET = {
    "dimension": "dim", "n_filters": "width", "n_residual_layers": "blocks", "lstm": "lstm", "kernel_size": "kernel",
    "last_kernel_size": "last_kernel", "residual_kernel_size": "block_kernel", "compress": "compress", **UNSAID,
}  # fmt: skip


@needs_transformers
@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz_style"])
@torch.no_grad()
def test_encodec_of_its_own_file(reference, name, tmp_path):
    held = reference(name)
    said, network = held.config, held.config["seanet"]
    unsaid = {
        ours: said[theirs]
        for ours, theirs in (
            ("rate", "sample_rate"),
            ("causal", "causal"),
            ("normalise", "normalize"),
            ("segment", "segment"),
        )
    }
    unsaid |= {ours: network[theirs] for theirs, ours in UNSAID.items() if theirs in network}
    codec = again(read_encodec(held.folder / "model.th", **unsaid), tmp_path)
    config, wave = codec.config, held.inputs["wave"]
    assert (config.channels, config.norm, config.ratios) == (said["channels"], said["norm"], tuple(network["ratios"]))
    assert codec.sizes == (said["bins"],) * said["n_q"]
    assert {theirs: getattr(config, SEANET[theirs]) for theirs in network if theirs in SEANET} == {
        theirs: value for theirs, value in network.items() if theirs in SEANET
    }
    assert config.shortcut == (not network.get("true_skip", False)) or not config.blocks

    latent = codec.encode(wave)
    first = wave if config.segment is None else wave[..., : int(config.segment * codec.rate)]
    if codec.segmented:
        held.agrees("scales", latent.scales.T[..., None]) if "scales" in held.expected else None
        first = first / latent.scales[:, :1, None]
    held.agrees("emb", codec.encoder(first))
    for kbps, codes, made in bandwidths(held, "codes", "wave"):
        assert codec.levels_at(kbps) == codes.shape[1]
        latent = codec.encode(wave, levels=codes.shape[1])
        assert torch.equal(latent.codes, codes)
        held.agrees(made, decoded(codec, latent, wave.shape[-1]))
    if "wave_odd" in held.inputs:
        wave = held.inputs["wave_odd"]
        latent = codec.encode(wave)
        pieces = [held.expected[key] for key in sorted(held.expected) if key.startswith("codes_odd")]
        assert torch.equal(latent.codes, torch.cat(pieces, dim=-1))
        held.agrees("wave_odd", decoded(codec, latent, wave.shape[-1]))


@needs_transformers
@torch.no_grad()
def test_dac_of_its_own_file(reference, tmp_path):
    held = reference("dac")
    said, wave = held.config["kwargs"], held.inputs["wave"]
    codec = again(read_peer(held.folder / "weights.pth"), tmp_path)
    assert codec.sizes == (said["codebook_size"],) * said["n_codebooks"]
    assert (codec.rate, codec.hop) == (said["sample_rate"], math.prod(said["encoder_rates"]))
    latent, fewer = codec.encode(wave), codec.encode(wave, levels=held.config["n_q_partial"])
    held.agrees("codes", latent.codes)
    held.agrees("codes_nq", fewer.codes)
    held.agrees("z", latent.z)
    for name, some in (("audio", latent), ("audio_from_codes", latent), ("audio_nq", fewer)):
        # With an odd stride theirs ends a few samples early.
        held.agrees(name, decoded(codec, some, held.expected[name].shape[-1]))
    rest, projected, losses = codec.encoder(pad(wave, (0, -wave.shape[-1] % codec.hop))), [], torch.zeros(())
    for quantizer, codes in zip(codec.quantizer.quantizers, latent.codes.unbind(1), strict=True):
        projected.append(quantizer.in_proj(rest))
        code = quantizer.codebook(codes).mT
        rest, losses = rest - quantizer.out_proj(code), losses + (projected[-1] - code).square().mean()
    held.agrees("latents", torch.cat(projected, dim=1))
    held.agrees("commitment_loss", losses)
    held.agrees("codebook_loss", losses)


def hf_folder(codec, folder):
    """What transformers' `save_pretrained` writes for a model with the weights of `codec`, and that model."""
    transformers = peers.transformers()
    c = codec.config
    if c.kind == "mimi":
        theirs = transformers.MimiModel(
            transformers.MimiConfig(
                hidden_size=c.hidden, num_filters=c.width, upsampling_ratios=list(c.ratios), codebook_size=c.size,
                codebook_dim=c.lookup_dim, vector_quantization_hidden_dimension=c.lookup_dim, num_quantizers=c.levels,
                upsample_groups=c.groups, num_hidden_layers=c.depth, intermediate_size=c.mlp,
                num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, sliding_window=c.window,
            )
        )  # fmt: skip
    else:
        theirs = transformers.EncodecModel(
            transformers.EncodecConfig(
                sampling_rate=c.rate, audio_channels=c.channels, num_filters=c.width, hidden_size=c.dim,
                upsampling_ratios=list(c.ratios), codebook_size=c.size, norm_type=c.norm, use_causal_conv=c.causal,
                normalize=c.normalise, chunk_length_s=c.segment, overlap=c.overlap, target_bandwidths=[0.7, 1.4, 2.1],
            )
        )  # fmt: skip
    theirs.save_pretrained(folder)
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == codec.state_dict().keys(), "our names are those of published files"
    save_file(codec.state_dict(), folder / "model.safetensors", {"format": "pt"})
    return type(theirs).from_pretrained(folder, local_files_only=True).eval()


@needs_transformers
@torch.no_grad()
def test_mimi_says_what_transformers_says(tmp_path):
    codec = made(MIMI)
    theirs = hf_folder(codec, tmp_path)
    ours = read_peer(tmp_path)
    assert (ours.hop, ours.levels, ours.min_levels) == (12, 4, 1)
    wave = 20 * noise(codec, 200, batch=2)
    for levels in (1, 4):
        latent = ours.encode(wave, levels=levels)
        wanted = theirs.encode(wave, num_quantizers=levels).audio_codes
        assert torch.equal(latent.codes, wanted)
        assert wanted.unique().numel() > 5, "lively"
        near(ours.decode_codes(latent.codes), theirs.decode(wanted).audio_values, 1e-5)


@needs_transformers
@torch.no_grad()
def test_segments_are_those_of_transformers(tmp_path):
    codec = made(STEREO)
    theirs = hf_folder(codec, tmp_path)
    ours = read_peer(tmp_path)
    assert ours.config == STEREO
    wave = noise(codec, 3 * 99 + 20, batch=2)  # transformers can't stack segments unless all but the last are whole
    latent = ours.encode(wave)
    codes, scales, short = theirs.encode(wave, bandwidth=2.1, return_dict=False)
    assert short == 17 - 4 and len(codes) == 4
    assert torch.equal(latent.codes, torch.cat(list(codes), dim=-1)[..., :-short])
    near(latent.scales, torch.cat(scales, dim=-1), 1e-7)
    wanted = theirs.decode(codes, scales, last_frame_pad_length=short).audio_values
    near(ours.decode(latent), wanted[..., : wave.shape[-1]], 1e-5)


# The verbs


@needs_transformers
def test_length_and_codes_are_kept(codec):
    assert not codec.streamable and codec.levels == len(codec.sizes)
    for samples in (1, codec.hop - 1, codec.hop, 99, 100, 101, 250):
        wave = noise(codec, samples)
        latent = codec.encode(wave)
        assert latent.layout == "levels" and int(latent.lengths) == samples
        assert latent.codes.shape == (1, codec.levels, codec.columns(samples))
        assert latent.codes.min() >= 0 and latent.codes.max() < min(codec.sizes)
        assert torch.equal(codec.lookup(latent.codes), latent.z)
        sound = codec.decode(latent)
        assert sound.shape == wave.shape and sound.isfinite().all()
        assert torch.equal(codec.encode(wave).codes, latent.codes)


@needs_transformers
def test_a_batch_equals_its_items(codec):
    lengths = torch.tensor([250, 100, 101, 250, 7])
    wave = noise(codec, 250, batch=5)
    latent = codec.encode(wave, lengths)
    sounds = codec.decode(latent)
    for i, length in enumerate(lengths.tolist()):
        alone = codec.encode(wave[i : i + 1, :, :length])
        frames = codec.columns(length)
        assert int(latent.lengths[i]) == length
        assert torch.equal(latent.codes[i, :, :frames], alone.codes[0])
        assert not latent.codes[i, :, frames:].any() and not latent.z[i, :, frames:].any()
        near(sounds[i, :, :length], codec.decode(alone)[0], 1e-5)
        assert not sounds[i, :, length:].any()


@needs_transformers
def test_fewer_levels_are_the_first(codec):
    wave = noise(codec, 200)
    all_, two = codec.encode(wave), codec.encode(wave, levels=2)
    assert torch.equal(two.codes, all_.codes[:, :2])
    assert torch.equal(codec.lookup(all_.codes[:, :2]), two.z)


@needs_transformers
def test_a_part_like_any_other(codec, tmp_path):
    wave = noise(codec, 150)
    latent = codec.encode(wave)
    back = again(codec, tmp_path)
    assert back.config == codec.config and not back.training
    assert torch.equal(back.encode(wave).codes, latent.codes)
    near(back.decode(latent), codec.decode(latent), 1e-6)


@needs_transformers
def test_training_mode_changes_nothing():
    codec = made(DAC)
    wave = noise(codec, 150)
    assert torch.equal(codec.encode(wave).codes, codec.train().encode(wave).codes)


@needs_transformers
def test_a_loudness_of_its_own():
    codec = made(STEREO)
    latent = codec.encode(noise(codec, 150))
    louder = SegmentedLatent(latent.z, latent.codes, latent.lengths, "levels", 2 * latent.scales)
    near(codec.decode(louder), 2 * codec.decode(latent), 1e-5)
    quiet = codec.encode(torch.zeros(1, 2, 150))
    assert codec.decode(quiet).abs().max() < 1e-5


# Bad input


@needs_transformers
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c, w: c.encode(w[:, :0]), "of 0 channels were given; this codec reads"),
        (lambda c, w: c.encode(w.repeat(1, 50, 1)), r"of (50|100) channels were given"),
        (lambda c, w: c.encode(w[..., :0]), "give 1 to all of them"),
        (lambda c, w: c.encode(w[:0]), "0 sounds"),
        (lambda c, w: c.encode(w, torch.tensor([201])), "lengths of .201. samples"),
        (lambda c, w: c.encode(w, levels=9), "9 levels were asked for; this codec has 1 to"),
        (lambda c, w: c.encode(w, levels=0), "0 levels were asked for"),
        (lambda c, w: c.encode(w * torch.nan), "NaN or infinity"),
        (lambda c, w: c.lookup(torch.full((1, c.levels, 3), 16)), "codes from 16 to 16"),
        (lambda c, w: c.lookup(torch.zeros(1, 9, 3).long()), "codes of 9 levels"),
        (lambda c, w: c.decode(replace(c.encode(w), lengths=torch.tensor([10_000]))), "10000"),
        (lambda c, w: c.decode(replace(c.encode(w), lengths=torch.tensor([0]))), r"\[0\] samples were asked for"),
    ],
)
def test_bad_input_in_words(codec, change, said):
    with pytest.raises(Error, match=said):
        change(codec, noise(codec, 200))


@needs_transformers
def test_a_latent_of_something_else():
    codec, stereo = made(ENCODEC), made(STEREO)
    one = torch.ones(1, dtype=torch.int64)
    with pytest.raises(Error, match='reads "levels" of 8 dimensions'):
        codec.decode(Latent(torch.zeros(1, 9, 4), None, one, "levels"))
    with pytest.raises(Error, match='"grid"'):
        codec.decode(Latent(torch.zeros(1, 8, 2, 2), None, one, "grid"))
    with pytest.raises(Error, match="give a SegmentedLatent"):
        stereo.decode(Latent(torch.zeros(1, 8, 4), None, one, "levels"))
    with pytest.raises(Error, match=r"150 samples have 26 and 2"):
        stereo.decode(SegmentedLatent(torch.zeros(1, 8, 4), None, 150 * one, "levels", torch.ones(1, 2)))


@needs_transformers
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "decoder.model.0.conv.conv.bias"},
         r"decoder\.model\.0\.conv\.conv\.bias is missing"),
        (lambda t: {**t, "disc.weight": torch.zeros(1)}, r"disc\.weight is unexpected"),
        (lambda t: {**t, "encoder.model.0.conv.conv.bias": torch.zeros(999)}, r"is \[999\] instead of \[\d+\]"),
        (lambda t: {**t, "encoder.model.0.conv.conv.bias": t["encoder.model.0.conv.conv.bias"] * torch.nan},
         "holds NaN"),
        (lambda t: {"weight": torch.zeros(3)}, "is no EnCodec: it lacks"),
    ],
)  # fmt: skip
def test_each_difference_of_an_own_file_is_named(fixtures_dir, tmp_path, change, said):
    tensors = torch.load(fixtures_dir / "encodec_24khz/model.th", weights_only=True)
    torch.save(change(tensors), tmp_path / "model.th")
    with pytest.raises(ModelError, match=said):
        read_peer(tmp_path / "model.th")


@needs_transformers
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held["state_dict"].pop("decoder.model.1.block.1.weight_v"), r"block\.1\.weight is missing"),
        (
            lambda held: held["metadata"]["kwargs"].update(n_codebooks=99),
            r"quantizers\.\d+\.codebook\.weight is missing",
        ),
        (lambda held: held["metadata"]["kwargs"].update(encoder_rates=[2, 4, 8, 10**9]), "each is 1 to 64"),
        (lambda held: held["metadata"]["kwargs"].update(sample_rate="fast"), '"rate" is'),
    ],
)
def test_each_difference_of_an_own_dac_is_named(fixtures_dir, tmp_path, change, said):
    held = torch.load(fixtures_dir / "dac/weights.pth", weights_only=True)
    change(held)
    torch.save(held, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=said):
        read_peer(tmp_path / "weights.pth")


@needs_transformers
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"model_type": "bert"},
            'of the type "bert"; codecs of other projects that can be read are encodec, dac, mimi',
        ),
        ({"num_filters": 97}, "instead of"),
        ({"num_filters": 10**9}, '"width" is'),
        ({"norm_type": "batch"}, '"norm" is'),
        ({"upsampling_ratios": [8, 5, 4, 0]}, "each is 1 to 64"),
        ({"codebook_dim": 3}, "of another dimension"),
    ],
)
def test_each_difference_of_a_folder_is_named(fixtures_dir, tmp_path, settings, said):
    shutil.copyfile(fixtures_dir / "hf_encodec/model.safetensors", tmp_path / "model.safetensors")
    values = json.loads((fixtures_dir / "hf_encodec/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **settings}))
    with pytest.raises(ModelError, match=said):
        read_peer(tmp_path)


def test_without_the_package_it_says_which_one(fixtures_dir, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ModelError, match=r"need the package transformers .*pip install 'cymatic\[hub\]'"):
        read_peer(fixtures_dir / "hf_encodec")


def test_what_is_no_codec(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        read_peer(tmp_path)
    with pytest.raises(ModelError, match="is missing or not a file"):
        read_peer(tmp_path / "nothing.th")
    (tmp_path / "words.th").write_text("words")
    with pytest.raises(ModelError, match=r"words\.th"):
        read_peer(tmp_path / "words.th")


# What pipelines and training ask


def test_it_says_of_itself_what_other_codecs_do(codec):
    assert codec.config.reads == codec.config.gives and codec.config.reads.medium == "audio"
    assert (codec.config.reads.rate, codec.config.reads.channels) == (codec.rate, codec.channels)
    assert (codec.layout, codec.kept_in_shards, codec.streamable, codec.steps_trained) == ("levels", True, False, 1)
    assert codec.rows == codec.levels == len(codec.sizes) and 1 <= codec.min_levels <= codec.rows
    assert codec.columns(codec.length(5)) == 5 and codec.length(2) - codec.length(1) == codec.hop
    wave = noise(codec, 500)
    assert codec.distance(wave, wave) == 0 < codec.distance(wave * 0.5, wave)


def test_a_model_over_its_codes_reads_a_recording(codec):
    model = SimpleNamespace(
        name="over a peer", codec=codec, medium=AUDIO, spec=codec.config.reads, rows=2,
        prior=SimpleNamespace(config=SimpleNamespace(rows=2)),
    )  # fmt: skip
    codes, length = codes_of(model, Sound(noise(codec, 500)[0].numpy(), codec.rate))
    assert codes.shape == (2, codec.columns(500)) and length == 500
