"""The .cym file: what goes in comes out, and whatever happens to the bytes, nothing wrong comes out unsaid."""

import io
import math
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.errors import Error, Note
from cymatic.media import bits, code_model, cym
from cymatic.media.code_model import CodeModel
from cymatic.media.cym import CymHeader, CymReader, CymWriter

HASH = "0123456789abcdef" * 4
SIZES = st.lists(st.sampled_from([2, 3, 16, 1000, 1024, 4096, 4097, 2**18, 2**24]), min_size=1, max_size=6).map(tuple)


def header(sizes=(1024, 1000, 16), rate=24_000, hop=480, channels=1, block=7) -> CymHeader:
    return CymHeader("starter-codec", HASH, rate, channels, hop, sizes, block)


def draw(sizes, frames, seed=0, slow=False) -> np.ndarray:
    """Random codes; `slow` ones stay for a while, so that there is something to save."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, frames) for size in sizes])
    return np.repeat(codes, 4, axis=1)[:, :frames] if slow else codes


def written(codes, head=None, samples=None, *, entropy=False, steps=None) -> bytes:
    stream = io.BytesIO()
    head = header() if head is None else head
    writer = CymWriter(stream, head, entropy=entropy)
    for start in range(0, codes.shape[1], steps or max(1, codes.shape[1])):
        writer.add(codes[:, start : start + (steps or codes.shape[1])])
    writer.close(codes.shape[1] * head.hop if samples is None else samples)
    assert writer.written == len(stream.getvalue())
    return stream.getvalue()


def read(data: bytes) -> tuple[CymReader, np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        reader = CymReader(Dribble(data))
        blocks = list(reader)
    assert all(note.category is Note for note in notes)
    empty = np.zeros((len(reader.header.sizes), 0), np.int64)
    return reader, np.concatenate([empty, *blocks], axis=1), [str(note.message) for note in notes]


class Dribble(io.RawIOBase):
    """A pipe: no seeking, and never more than five bytes at once."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self.data.read(min(5, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


# --- bits


def test_widths():
    assert bits.widths((2, 3, 4, 5, 1000, 1024, 1025, 2**24)) == (1, 2, 2, 3, 10, 10, 11, 24)


def test_packing_against_strings_of_bits():
    sizes, codes = (5, 1024), np.array([[4, 1], [1023, 2]])
    wanted = "100" + "1111111111" + "001" + "0000000010"
    packed = bits.pack(codes, sizes)
    assert "".join(f"{byte:08b}" for byte in packed) == wanted.ljust(32, "0")


@given(SIZES, st.integers(0, 20), st.integers(0, 99))
def test_packing_loses_nothing(sizes, frames, seed):
    codes = draw(sizes, frames, seed)
    packed = bits.pack(codes, sizes)
    assert len(packed) == bits.packed_bytes(sizes, frames)
    assert np.array_equal(bits.unpack(packed, sizes, frames), codes)


# --- the model


@settings(max_examples=20)
@given(SIZES, st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
def test_the_model_loses_nothing(sizes, blocks, seed, slow):
    writer, reader = CodeModel(sizes), CodeModel(sizes)
    for i, frames in enumerate(blocks):
        codes = draw(sizes, frames, seed + i, slow) if frames else np.zeros((len(sizes), 0), np.int64)
        assert np.array_equal(reader.decode(writer.encode(codes), frames), codes)


@settings(max_examples=20)
@given(SIZES, st.binary(max_size=60), st.integers(1, 40))
def test_the_model_makes_codes_of_any_bytes(sizes, data, frames):
    codes = CodeModel(sizes).decode(data, frames)
    assert codes.shape == (len(sizes), frames)
    assert (codes >= 0).all() and (codes < 2 ** np.array(bits.widths(sizes))[:, None]).all()


def test_counts_fade(monkeypatch):
    monkeypatch.setattr(code_model, "FADE", 16)
    codes = draw((16, 3), 100, slow=True)
    writer, reader = CodeModel((16, 3)), CodeModel((16, 3))
    data = writer.encode(codes)
    assert writer._counts.sum(1).max() < 2 * 16 + code_model.PRIOR * 16
    assert np.array_equal(reader.decode(data, 100), codes)


def test_the_model_saves_what_is_there_to_save():
    def size(codes):
        return len(CodeModel((1024,) * 4).encode(codes))

    rng = np.random.default_rng(0)
    frames, packed = 600, 600 * 5
    assert size(draw((1024,) * 4, frames)) < 1.02 * packed  # chance: nothing to save, next to nothing lost
    assert size(np.full((4, frames), 77)) < 0.01 * packed  # silence
    assert size(draw((1024,) * 4, frames, slow=True)) < 0.35 * packed  # each code stays for four frames
    few = rng.choice(1024, p=rng.dirichlet(np.full(1024, 0.05)), size=(4, frames))
    assert size(few) < 0.9 * packed  # some codes are used far more than others
    chain = (np.cumsum(rng.integers(1, 3, (4, frames)), axis=1) * 97) % 64  # one of two follows each
    assert size(chain) < 0.65 * packed


def test_the_bytes_are_the_same_on_every_machine():
    codes = draw((1024, 1000, 3, 2**18), 200, slow=True)
    assert zlib.crc32(CodeModel((1024, 1000, 3, 2**18)).encode(codes)) == 1801814976


# --- the file


@settings(max_examples=30)
@given(SIZES, st.integers(0, 40), st.sampled_from([1, 7, 16]), st.integers(1, 45), st.booleans(), st.booleans())
def test_what_goes_in_comes_out(sizes, frames, block, steps, entropy, slow):
    head = header(sizes, block=block)
    codes = draw(sizes, frames, slow=slow)
    data = written(codes, head, max(0, frames * 480 - 7), entropy=entropy, steps=steps)
    reader, back, notes = read(data)
    assert np.array_equal(back, codes) and notes == []
    assert (reader.header, reader.samples, reader.entropy) == (head, max(0, frames * 480 - 7), entropy)
    assert data == written(codes, head, max(0, frames * 480 - 7), entropy=entropy)  # however the codes came


def test_a_block_is_never_longer_than_packed():
    noise, steady = draw((1024,) * 3, 50), np.full((3, 50), 9)
    head = header((1024,) * 3, block=10)
    plain = len(written(noise, head))
    assert len(written(noise, head, entropy=True)) == plain
    assert len(written(steady, head, entropy=True)) < plain / 2
    mixed = np.concatenate([steady, noise, steady], axis=1)  # blocks of both kinds, in one file
    assert np.array_equal(read(written(mixed, head, entropy=True))[1], mixed)


def test_a_second_is_a_block_where_it_fits():
    assert header(block=0).block == 50
    assert CymHeader("m", HASH, 10, 1, 2**20, (2,)).block == 1
    assert CymHeader("m", HASH, 768_000, 1, 1, (2**24,) * 64).block == 8 * 65535 // (24 * 64)
    assert header((1024,) * 6).kbps == 3.0 and header((1024,) * 6).frame_bits == 60


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sizes": ()}, "1 to 64 levels of codes, not 0"),
        ({"sizes": (4,) * 65}, "not 65"),
        ({"sizes": (4, 1)}, "size of a codebook of a .cym file is 1"),
        ({"sizes": (2**24 + 1,)}, "16777217"),
        ({"rate": 0}, "the rate of a .cym file is 0"),
        ({"rate": 768_001}, "768001"),
        ({"channels": 0}, "the channels"),
        ({"channels": 1025}, "1025"),
        ({"hop": 0}, "the hop"),
        ({"hop": 2**20 + 1}, "the hop"),
        ({"block": 2**16}, "65536 frames"),
        ({"block": -1}, "-1 frames"),
    ],
)
def test_a_header_that_no_codec_has(changed, said):
    with pytest.raises(Error, match=said):
        header(**changed)


@pytest.mark.parametrize(("model", "digest"), [("m" * 256, HASH), ("a\nb", HASH), ("m", HASH.upper()), ("m", "12")])
def test_a_name_or_a_hash_that_is_none(model, digest):
    with pytest.raises(Error, match=r"is no name for a model|is no SHA-256"):
        CymHeader(model, digest, 24_000, 1, 480, (4,))


def test_a_writer_takes_no_nonsense():
    writer = CymWriter(io.BytesIO(), header())
    with pytest.raises(Error, match=r"codes of 2 levels were given to a .cym file of 3"):
        writer.add(np.zeros((2, 4), np.int64))
    for wrong in (np.full((3, 1), 16), np.full((3, 1), -1)):
        with pytest.raises(Error, match="for codebooks of 1024, 1000, 16"):
            writer.add(wrong)
    writer.add(np.full((3, 2), 15))
    with pytest.raises(Error, match="2 frames of 480 samples do not hold a sound of 961 samples"):
        writer.close(961)


# --- what happens to files


@pytest.mark.parametrize("entropy", [False, True])
def test_a_file_cut_anywhere_gives_its_whole_blocks(entropy):
    codes = draw((1024, 1000, 16), 25, slow=True)
    data = written(codes, entropy=entropy)
    head = len(header().as_bytes())
    first = head + 8 + int.from_bytes(data[head + 2 : head + 4], "little")
    seen = set()
    for cut in range(len(data)):
        if cut < head:
            with pytest.raises(Error, match=r"is cut short within its header|is empty"):
                read(data[:cut])
            continue
        if cut < first:
            with pytest.raises(Error, match=r"cut short within its first block, so none of its sound is left"):
                read(data[:cut])
            continue
        reader, back, notes = read(data[:cut])
        assert reader.samples is None and len(notes) == 1
        assert f"is cut short after block {reader.blocks} ({back.shape[1] * 0.02:.2f} s)" in notes[0]
        assert back.shape[1] in (7, 14, 21, 25) and np.array_equal(back, codes[:, : back.shape[1]])
        seen.add(back.shape[1])
    assert seen == {7, 14, 21, 25}


@pytest.mark.parametrize("entropy", [False, True])
def test_no_flipped_bit_goes_unnoticed(entropy):
    codes = draw((1024, 1000, 16), 9, slow=True)
    data = written(codes, entropy=entropy)
    for place in range(8 * len(data)):
        broken = bytearray(data)
        broken[place // 8] ^= 1 << place % 8
        prefix_or_error(bytes(broken), codes)


def prefix_or_error(data: bytes, codes: np.ndarray) -> None:
    """Either an Error in one sentence, or codes that were written and a Note that it is not all of them."""
    try:
        reader, back, notes = read(data)
    except Error as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    assert np.array_equal(back, codes[:, : back.shape[1]])
    assert notes or reader.samples == codes.shape[1] * 480


NAMES = ["flip", "cut", "drop", "double", "insert", "swap"]
EDITS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2**32)), max_size=4)


@settings(max_examples=100)
@given(EDITS, st.binary(min_size=1, max_size=8), st.booleans())
def test_any_damage_is_an_error_or_a_prefix(edits, more, entropy):
    codes = draw((1024, 1000, 16), 20, slow=True)
    data = written(codes, entropy=entropy)
    for edit, number in edits:
        at = number % (len(data) + 1)
        upto = min(len(data), at + 1 + number % 70)
        data = {
            "flip": data[:at] + bytes(b ^ more[0] or 1 for b in data[at : at + 1]) + data[at + 1 :],
            "cut": data[:at],
            "drop": data[:at] + data[upto:],
            "double": data[:upto] + data[at:],
            "insert": data[:at] + more + data[at:],
            "swap": data[:at] + data[upto : upto + 40] + data[at:upto] + data[upto + 40 :],
        }[edit]
    prefix_or_error(data, codes)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from([0, 8, 10, 24, 56]), st.booleans())
def test_random_bytes_are_refused(data, keep, checksum):
    """The first bytes are those of a file; with `checksum` the header's is made to fit."""
    data = header().as_bytes()[:keep] + data
    if checksum and len(data) >= 60:
        end = 56 + 4 * data[22] + data[23]
        data = data[:end] + struct.pack("<I", zlib.crc32(data[:end])) + data[end:]
    with pytest.raises(Error):
        _, codes, notes = read(data)
        if notes or not codes.shape[1]:
            raise Error("nothing was read, or it was said")


def blocks_of(data: bytes) -> list[bytes]:
    """The header and the records of a file."""
    start = len(header().as_bytes())
    found = [data[:start]]
    while start < len(data):
        frames, length = struct.unpack_from("<HH", data, start)
        end = start + (8 + length if frames else 14)
        found.append(data[start:end])
        start = end
    return found


def test_blocks_that_are_lost_doubled_or_from_elsewhere():
    codes = draw((1024, 1000, 16), 28)
    head, *records, end = blocks_of(written(codes))
    other = blocks_of(written(draw((1024, 1000, 16), 28, seed=1)))
    foreign = blocks_of(written(codes, header(rate=48_000)))
    assert len(records) == 4
    for order, block in (
        ([records[1]], 1),
        ([records[0], records[0]], 2),
        ([records[0], records[2]], 2),
        ([records[0], other[2]], 2),
        ([foreign[1]], 1),
        ([*records[:3], end], 4),
    ):
        with pytest.raises(Error, match=f"is damaged in block {block}, at .* s .its checksum differs.; get the file"):
            read(b"".join([head, *order]))


def test_damage_says_what_can_be_saved():
    codes = draw((1024, 1000, 16), 28)
    data = bytearray(written(codes))
    data[len(header().as_bytes()) + 2 * 29 + 10] ^= 4  # a block of 7 frames has 21 bytes and 8 more
    with pytest.raises(Error, match=r"in block 3, at 0.28 s .*its first (\d+) bytes are whole") as caught:
        read(bytes(data))
    whole = int(str(caught.value).split("its first ")[1].split()[0])
    assert np.array_equal(read(bytes(data)[:whole])[1], codes[:, :14])


def resealed(head: bytes, record: bytes) -> bytes:
    """A file of a header and one record, with checksums that fit."""
    head = head[:-4] + struct.pack("<I", zlib.crc32(head[:-4]))
    return head + record + struct.pack("<I", zlib.crc32(record, zlib.crc32(head[:-4])))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (struct.pack("<HH", 8, 24) + bytes(24), "24 bytes for 8 frames"),
        (struct.pack("<HH", 65535, 65535), "65535 bytes for 65535 frames"),
        (struct.pack("<HH", 1, 2) + bytes(2), "2 bytes for 1 frames"),
        (struct.pack("<HH", 1, 3) + b"\xff\xff\xff", "codes beyond the codebook"),
        (struct.pack("<HQ", 0, 2**63), "the end claims 9223372036854775808 samples for 0 frames"),
    ],
)
def test_records_that_can_not_be(record, said):
    with pytest.raises(Error, match=said):
        read(resealed(header().as_bytes(), record))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (8, 2, "is a .cym file of version 2, and this cymatic reads version 1; update it"),
        (9, 2, "asks for what this cymatic does not know"),
        (10, 0, "the channels of a .cym file is 0"),
        (20, 0, "asks for what this cymatic does not know"),
        (60, 0xFF, "size of a codebook"),
        (68, 0xFF, "can't decode"),
        (68, 0x07, "is no name for a model"),
    ],
)
def test_headers_that_can_not_be(place, value, said):
    head = bytearray(header().as_bytes())
    head[place] = value
    head[63] = 0xFF if place == 60 else head[63]
    with pytest.raises(Error, match=said):
        read(resealed(bytes(head), b""))


def test_huge_claims_take_no_memory():
    import tracemalloc

    head = CymHeader("m", HASH, 768_000, 1024, 2**20, (2**24,) * 64, 341).as_bytes()
    data = head + struct.pack("<HH", 341, 65472)
    tracemalloc.start()
    with pytest.raises(Error, match="cut short within its first block"):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def bomb(head: CymHeader, records: list[tuple[int, bytes]], end: int | None = None) -> bytes:
    """A file with the entropy flag and blocks of (frames, payload), every checksum right."""
    data = head.as_bytes(1)
    (crc,) = struct.unpack("<I", data[-4:])
    bodies = [struct.pack("<HH", frames, len(payload)) + payload for frames, payload in records]
    for body in bodies if end is None else [*bodies, b"\0\0" + struct.pack("<Q", end)]:
        crc = zlib.crc32(body, crc)
        data += body + struct.pack("<I", crc)
    return data


def test_some_bytes_do_not_become_days_of_sound():
    head = header(sizes=(1024,), block=4369)
    data = bomb(head, [(4369, b"\0")] * 100)  # 2.4 hours in 982 bytes
    given = 0
    with pytest.raises(Error, match=r"claims \d+ s of sound in \d+ bytes.* \(longest\)"):
        for codes in CymReader(io.BytesIO(data)):
            given += codes.shape[1]
    assert given * 480 / 24_000 < 600 + len(data) / 8
    given = 0
    with pytest.raises(Error, match=r"holds more than 100 s of sound; give a shorter one"):
        for codes in CymReader(io.BytesIO(data), longest=100):
            given += codes.shape[1]
    assert given == 4369


@pytest.mark.parametrize("entropy", [False, True])
def test_a_limit_of_seconds_is_that_of_the_sound(entropy):
    """Though the last frame goes on after the sound, and where the file is plain, too."""
    head = header((16,), block=7)
    data = written(draw((16,), 501), head, samples=240_000, entropy=entropy)
    whole = np.concatenate(list(CymReader(io.BytesIO(data))), axis=1)
    assert np.array_equal(np.concatenate(list(CymReader(io.BytesIO(data), longest=10)), axis=1), whole)
    for longest in (9.99, 8, 1e-9):
        with pytest.raises(Error, match="holds more than"):
            list(CymReader(io.BytesIO(data), longest=longest))
    for longest in (0, -1, math.nan):
        with pytest.raises(Error, match="number of seconds above 0"):
            CymReader(io.BytesIO(data), longest=longest)


def test_hours_of_silence_in_blocks_of_a_second_are_read(monkeypatch):
    monkeypatch.setattr(cym, "FREE", 1)  # so that minutes do for hours
    head = header((4,), rate=500, hop=100, block=0)
    codes = np.zeros((1, 1000), np.int64)
    data = written(codes, head, entropy=True)
    assert len(data) < 9 * 200 + 100 and np.array_equal(read(data)[1], codes)


RECORDS = st.lists(st.tuples(st.integers(1, 70_000), st.binary(max_size=30)), max_size=6)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.sampled_from([1, 480, 2**20]), st.integers(1, 65_535), RECORDS, st.integers(0, 2**63), st.booleans())
def test_crafted_files_end_in_codes_or_a_sentence(sizes, hop, block, records, end, limited):
    try:
        head = CymHeader("m", HASH, 24_000, 1, hop, sizes, block)
    except Error:
        return
    data = bomb(head, [(min(frames, 100), payload) for frames, payload in records], end)
    try:
        reader = CymReader(io.BytesIO(data), longest=0.5 if limited else None)
        codes = np.concatenate([np.zeros((len(sizes), 0), np.int64), *reader], axis=1)
        assert not limited or codes.shape[1] * hop <= 0.5 * 24_000 + head.usual_block * hop
    except Error as error:
        assert "\n" not in str(error)
        return
    assert (codes >= 0).all() and (codes < np.array(sizes)[:, None]).all()


def test_packed_codes_beyond_their_codebook_are_named_in_files_of_the_model_too():
    data = bomb(header((3, 5), block=2), [(1, b"\xf8")])
    with pytest.raises(Error, match="it holds codes beyond the codebook"):
        list(CymReader(io.BytesIO(data)))


def test_what_follows_the_end_is_left_out_and_said():
    codes = draw((1024, 1000, 16), 9)
    reader, back, notes = read(written(codes) * 2)
    assert np.array_equal(back, codes) and reader.samples == 9 * 480
    assert notes == ["the .cym file goes on after its end; what follows is left out"]


def test_other_files_are_named():
    for data, said in ((b"", "is empty"), (b"RIFF\0\0\0\0WAVE", "begins with b'RIFF"), (b"\x89PN", "x89PN")):
        with pytest.raises(Error, match=said):
            read(data)


def test_text_mode_transfer_is_found():
    with pytest.raises(Error, match=r"no .cym file"):
        read(written(draw((1024, 1000, 16), 9)).replace(b"\r\n", b"\n"))


def test_a_frame_takes_ceil_log2_bits():
    codes = draw((1024,) * 6, 500)
    head = CymHeader("starter-codec", HASH, 24_000, 1, 480, (1024,) * 6)
    size = len(written(codes, head))
    assert size == len(head.as_bytes()) + 10 * (375 + 8) + 14
    assert math.isclose(head.kbps, 3.0)
