"""`cymatic codec map`: the page holds what it says, plays by itself alone, and refuses what can't be drawn."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tests.helpers import save_codec, tone

from cymatic.apps.map_page import page
from cymatic.codecs.fast import FastShape
from cymatic.codecs.pitch import PitchShape
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.errors import Error
from cymatic.pipelines.codebook_map import codebook_map
from cymatic.quantizers.finite import FiniteScalarQuantizerConfig
from cymatic.quantizers.gaussian import GaussianBottleneckConfig
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.signal.colours import difference, to_srgb

RATE, SIZE = 8000, 24


def sounds(count=30):
    return [tone(150 * 1.1**i, 0.3, RATE, seed=i).samples[0] for i in range(count)]


def made(quantizer=None, channels=1, pitch=None):
    """A codec whose networks are drawn at random, and whose codes were learned from tones."""
    torch.manual_seed(0)
    quantizer = quantizer or ResidualQuantizerConfig(
        levels=2, size=SIZE, dim=8, decay=0.8, map=MapConfig(reach=2, batches=20, least=0.6)
    )
    shape = FastShape(hop=160, split=2, width=16, encoder=(1, 1), decoder=(1, 1), pitch=pitch)
    codec = WaveformCodec(WaveformCodecConfig(rate=RATE, channels=channels, network=shape, quantizer=quantizer))
    for p in codec.network.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    waves = torch.from_numpy(np.stack(sounds()).astype(np.float32))[:, None].expand(-1, channels, -1)
    codec.train()
    for step in range(30):
        codec(waves, torch.Generator().manual_seed(step))
    codec.steps_trained.fill_(1)
    return codec.eval()


@pytest.fixture(scope="module")
def codec():
    return made()


@pytest.fixture(scope="module")
def folder(codec, tmp_path_factory):
    return save_codec(tmp_path_factory.mktemp("map") / "tiny-codec", codec)


class Page(HTMLParser):
    """What a page is made of, and its script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.script, self.inside = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag == "script"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        self.script += data if self.inside else ""

    def all(self, tag):
        return [attributes for found, attributes in self.tags if found == tag]


def check_alone(text):
    """Nothing outside the page is named, and the browser is told to allow nothing else."""
    read = Page(text)
    bare = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)
    assert not re.search(r"https?://|//[a-z]|@import|url\(|fetch|import\(|XMLHttp", bare)
    assert not {"link", "iframe", "object", "img"} & {tag for tag, _ in read.tags}
    assert all("src" not in attributes and "href" not in attributes for _, attributes in read.tags)
    (policy,) = [one["content"] for one in read.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "http" not in policy
    return read


def test_a_page(cli, folder, tones, tmp_path):
    ran = cli("codec", "map", folder, "-o", "map.html", "--data", tones)
    assert ran.code == 0 and ran.err == "", ran
    lines = ran.out.splitlines()
    assert lines[0] == "24 codes of level 1 lie in a grid on which neighbours were taught alike."
    assert re.match(r"Topographic error \d+\.\d %; with the same codes shuffled it would be \d+\.\d %\.", lines[1])
    assert lines[-1] == "map.html  and  map.png"
    text = Path("map.html").read_text(encoding="utf-8")
    read = check_alone(text)
    assert len(text) < 200_000 and all(line in text for line in (lines[1], lines[2]))
    cells = read.all("button")
    assert [int(cell["value"]) for cell in cells] == list(range(SIZE))
    assert all(re.match(r"code \d+, row \d, column \d: -?\d+ dB, around \d+ Hz", cell["aria-label"]) for cell in cells)
    assert [cell["tabindex"] for cell in cells].count("0") == 1, "one stop for the tab key; arrows go on from it"
    uses = sum(int(re.search(r"used (\d+) times", cell["aria-label"])[1]) for cell in cells)
    idle = sum(cell.get("class") == "idle" for cell in cells)
    assert uses > 10 and idle == sum("used 0 times" in cell["aria-label"] for cell in cells)
    (grid,) = [one for one in read.all("div") if one.get("id") == "map"]
    assert grid["data-columns"] == "4" and grid["role"] == "group"
    heard = json.loads(re.search(r"const SOUNDS = (\[.*?\]);", read.script)[1])
    assert len(heard) == SIZE
    for one in heard:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(one)))
        assert rate == RATE and 0.25 <= len(samples) / RATE < 0.5
    picture = np.asarray(Image.open(tmp_path / "map.png"))
    assert picture.shape == (636, 424, 3)
    inked = ["#{:02x}{:02x}{:02x}".format(*picture[53 + 106 * (i // 4), 53 + 106 * (i % 4)]) for i in range(SIZE)]
    assert inked == [cell["style"].removeprefix("background-color:") for cell in cells]


# What the page's script finds in a browser, and what a person does: each line of the output is how things stand then.
BROWSER = """
const heard = [];
class Audio {
  constructor(source) { this.source = source; heard.push(this); }
  play() { this.on = true; return Promise.resolve(); }
  pause() { this.on = false; }
}
const listeners = {};
const cells = CELLS.map(([value, label, tabIndex]) => ({
  value, tabIndex, marks: new Set(), focus() {}, getAttribute: () => label,
  classList: { add(mark) { this.of.marks.add(mark); }, remove(mark) { this.of.marks.delete(mark); } },
}));
cells.forEach((cell) => { cell.classList.of = cell; });
const elements = {
  map: { children: cells, dataset: { columns: COLUMNS }, addEventListener: (name, f) => { listeners[name] = f; } },
  said: {}, hover: { checked: true },
};
const document = { getElementById: (id) => elements[id] };
"""
PERSON = """
const tell = () => console.log(JSON.stringify({
  on: heard.filter((one) => one.on).map((one) => one.source), said: elements.said.textContent || "",
  now: cells.flatMap((cell, i) => cell.marks.has("now") ? [i] : []),
  stops: cells.flatMap((cell, i) => cell.tabIndex === 0 ? [i] : []),
}));
const key = (from, name) => { listeners.keydown({ target: cells[from], key: name, preventDefault() {} }); tell(); };
tell();
listeners.click({ target: cells[4] }); tell();
listeners.pointerover({ target: cells[2], pointerType: "mouse" }); tell();
key(2, "ArrowRight"); key(2, "ArrowDown"); key(5, "ArrowDown"); key(1, "ArrowUp"); key(5, "ArrowLeft");
elements.hover.checked = false;
listeners.pointerover({ target: cells[1], pointerType: "mouse" }); tell();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's script, is not installed")
def test_its_script_plays_what_is_asked_for(tmp_path):
    quantizer = ResidualQuantizerConfig(levels=1, size=7, dim=8)
    read = Page(page(codebook_map(made(quantizer), sounds()), "tiny"))
    # Three columns; the last row holds one code, 6, and two empty places.
    cells = [[one["value"], one["aria-label"], int(one["tabindex"])] for one in read.all("button")]
    cells += [["", "", -1]] * 2
    lists = f"const CELLS = {json.dumps(cells)}, COLUMNS = '3';"
    (tmp_path / "page.js").write_text(lists + BROWSER + read.script + PERSON)
    done = subprocess.run(["node", tmp_path / "page.js"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (told[0]["on"], told[0]["now"], told[0]["stops"]) == ([], [], [0])
    # 4 clicked, 2 under the mouse; none to the right of 2, and 5 below; none below 5 or above 1; 4 left of 5; no mouse.
    heard = json.loads(re.search(r"const SOUNDS = (\[.*?\]);", read.script)[1])
    for state, code in zip(told[1:], [4, 2, 2, 5, 5, 5, 4, 4], strict=True):
        assert state["on"] == [f"data:audio/mpeg;base64,{heard[code]}"]
        assert state["now"] == state["stops"] == [code] and state["said"] == cells[code][1]


def test_the_quantizers_levels_come_behind_the_pitch():
    codec = made(pitch=PitchShape(highest=500))
    found = codebook_map(codec, sounds(), 4)
    assert found.size == SIZE and len(found.before) == 3
    assert all(0 <= code < size for code, size in zip(found.before, codec.sizes, strict=False))
    assert found.counts.sum() == sum(codec.columns(len(sound)) for sound in sounds())
    with pytest.raises(Error, match="level 2 was asked for; this codec has maps of levels 4 to 5"):
        codebook_map(codec, sounds(), 2)


def test_the_numbers_are_those_of_the_codes(codec):
    found = codebook_map(codec, sounds())
    latents = codec.encode(torch.from_numpy(np.stack(sounds()).astype(np.float32))[:, None])
    assert torch.bincount(latents.codes[:, 0].flatten(), minlength=SIZE).tolist() == found.counts.tolist()
    assert found.error < found.control / 2, "a map halves it"
    near, far = found.steps()
    assert near < far
    held = latents.codes.new_full((1, 1, codec.columns(2000)), 5)
    expected = codec.decode_codes(held, torch.tensor([2000]))[0, 0].numpy()
    assert np.allclose(found.sounds[5, :1920], expected[:1920], atol=1e-6) and found.sounds[5, -1] == 0


def test_without_a_map_codes_lie_in_their_order(cli, tones, tmp_path):
    quantizer = ResidualQuantizerConfig(levels=1, size=20, dim=8)
    save_codec(tmp_path / "plain", made(quantizer))
    ran = cli("codec", "map", "plain", "-o", "map.html", "--data", tones)
    assert ran.code == 0 and "trained without a map" in ran.out
    read = check_alone(Path("map.html").read_text())
    assert len(read.all("button")) == 20
    assert codebook_map(made(quantizer), sounds()).places.tolist() == np.arange(20).reshape(4, 5).tolist()


def test_a_line_turns_back(codec):
    quantizer = ResidualQuantizerConfig(levels=1, size=7, dim=8, map=MapConfig(topology="line", batches=10))
    found = codebook_map(made(quantizer), sounds())
    assert found.places.tolist() == [[0, 1, 2], [5, 4, 3], [6, -1, -1]] and found.error <= found.control
    text = page(found, "<b>bold</b>")
    assert text.count("<button") == 7 and text.count("<span></span>") == 2 and "<b>" not in text


def test_a_deeper_level_is_heard_on_top_of_another(codec):
    found = codebook_map(codec, sounds(), 2)
    assert len(found.before) == 1 and found.error is not None
    codes = torch.tensor([*found.before, 3])[None, :, None].expand(1, 2, codec.columns(2000))
    expected = codec.decode_codes(codes, torch.tensor([2000]))[0, 0].numpy()
    assert np.allclose(found.sounds[3, :1900], expected[:1900], atol=1e-6)
    assert f"each is heard on top of {found.before[0]}," in page(found, "x")


@pytest.mark.parametrize("channels", [1, 2])
def test_codes_without_vectors_have_sounds_but_no_error(channels):
    found = codebook_map(made(FiniteScalarQuantizerConfig(levels=2, steps=(3, 3), dim=8), channels), sounds(), 2)
    assert found.size == 9 and found.error is None and found.counts.sum() > 100
    assert "Topographic" not in page(found, "x") and np.isfinite(found.sounds).all()


def test_alike_codes_have_alike_colours(codec):
    found = codebook_map(codec, sounds())
    colours = found.timbre().colours()
    assert ((to_srgb(colours) >= 0) & (to_srgb(colours) <= 1)).all()
    again = codebook_map(codec, sounds())
    assert difference(colours, again.timbre().colours()).max() == 0
    with torch.no_grad():
        for p in (copy := made()).network.decoder.parameters():
            p.mul_(1 + 1e-4)
    assert difference(colours, codebook_map(copy, sounds()).timbre().colours()).max() < 0.02


def test_no_sounds(codec):
    with pytest.raises(Error, match="no sounds to measure the map on"):
        codebook_map(codec, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope", "-o", "m.html"], 'there is no model "nope"'),
        (["RUN", "-o", "m.html"], "is no codec; give a model that turns sounds into codes"),
        (["CODEC", "-o", "m.html"], "tiny-codec doesn't say what it was trained on .*; give its folder with --data"),
        (["CODEC", "-o", "m.html", "--level", "0"], "level 0 was asked for; this codec has maps of levels 1 to 2"),
        (["CODEC", "-o", "m.html", "--level", "3"], "level 3 was asked for; this codec has maps of levels 1 to 2"),
        (["CODEC", "-o", "m.html", "--data", "nope"], "nope does not exist"),
        (["CODEC", "-o", "m.html", "--data", "broken"], "none of the 1 sounds to measure on can be used"),
        (["CODEC", "-o", "m.png"], "is no codec of pictures, whose map a .png is; give -o map.html"),
        (["CODEC", "-o", "no/m.html"], "there is no folder no"),
        (["smooth", "-o", "m.html", "--data", "TONES"], "gives no codes but latents"),
        (["many", "-o", "m.html", "--data", "TONES"], "level 1 has 4913 codes, and a page holds the sounds of 4096"),
        (["CODEC"], "Missing option '--output'"),
    ],
)
def test_what_can_not_be_drawn(refuses, folder, tones, tiny_run, tmp_path, arguments, said):
    if "smooth" in arguments:
        save_codec(tmp_path / "smooth", made(GaussianBottleneckConfig(dim=8, latent=4)))
    if "many" in arguments:
        save_codec(tmp_path / "many", made(FiniteScalarQuantizerConfig(levels=1, steps=(17, 17, 17), dim=8)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a-tone_1.wav").write_bytes(b"RIFF but no more")
    places = {"RUN": tiny_run, "CODEC": folder, "TONES": tones}
    assert re.search(said, refuses("codec", "map", *[str(places.get(one, one)) for one in arguments]))


def test_codec_alone_shows_what_it_can_do(cli):
    ran = cli("codec")
    assert ran.code == 0 and "map" in ran.out


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e308, 0.0])
def test_a_code_sounds_for_some_seconds(seconds):
    with pytest.raises(Error, match="give a number above 0, at most 10"):
        codebook_map(made(), sounds(), seconds=seconds)
