"""Arrays from .npy and from pickles: what older projects published is read, and nothing that it names is run."""

import io
import os
import pickle

import numpy as np
import pytest

from cymatic.errors import Error
from cymatic.hub.arrays import read_array

ARRAY = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def of_numpy_1(array: np.ndarray, protocol: int) -> bytes:
    """The pickle as numpy 1 writes it: its modules have other names."""
    data = pickle.dumps(array, protocol)
    if protocol < 4:
        return data.replace(b"numpy._core.", b"numpy.core.")
    shorter = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    shorter = shorter.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    frame = int.from_bytes(shorter[3:11], "little") - 1
    return shorter[:3] + frame.to_bytes(8, "little") + shorter[11:]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("pickled", [pickle.dumps, of_numpy_1], ids=["numpy 2", "numpy 1"])
def test_pickles_of_both_numpys(tmp_path, pickled, protocol):
    content = pickled(ARRAY, protocol)
    assert (b"numpy._core" in content) == (pickled is pickle.dumps)
    np.testing.assert_array_equal(read_array(written(tmp_path / "a.pkl", content)), ARRAY)


def test_a_pickle_of_python_2(tmp_path):
    """Its bytes are text, which is read byte by byte."""
    raw = ARRAY.tobytes()
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x05K\x03\x86"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + len(raw).to_bytes(4, "little") + raw + b"tb."
    )
    np.testing.assert_array_equal(read_array(written(tmp_path / "a.pkl", content)), ARRAY)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(ARRAY),
        ARRAY.astype(">f8"),
        ARRAY.astype(np.float16),
        np.arange(6).reshape(1, 2, 3),
        np.zeros(1, np.uint8),
    ],
    ids=["fortran", "big-endian", "half", "three axes", "one byte"],
)
def test_all_kinds_of_numbers(tmp_path, array, protocol):
    got = read_array(written(tmp_path / "a.pkl", pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype.newbyteorder("=")


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), ARRAY)


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def attacks(trace) -> list:
    touch = f"open({str(trace)!r}, 'w').close()"
    return [
        Call(os.system, f"touch {trace}"),
        Call(exec, touch),
        Call(eval, touch),
        [ARRAY, Call(os.system, f"touch {trace}")],
        Call(getattr, ARRAY, "tofile"),
        Call(np.fromfile, str(trace)),
        np.array([Call(os.system, f"touch {trace}")], dtype=object),
    ]


@pytest.mark.parametrize("which", range(7))
@pytest.mark.parametrize("protocol", [2, 5])
def test_nothing_that_a_pickle_names_is_run(tmp_path, which, protocol):
    trace = tmp_path / "trace"
    content = pickle.dumps(attacks(trace)[which], protocol)
    with pytest.raises(Error, match=r"only a pickle of one numpy array is read|is damaged or no array"):
        read_array(written(tmp_path / "a.pkl", content))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"a": 1}), "holds a dict"),
        (pickle.dumps(np.array(["text"])), "not of real numbers"),
        (pickle.dumps(np.array([None])), "names|not of real numbers|damaged"),
        (pickle.dumps(np.ones(2, np.complex64)), "not of real numbers"),
        (pickle.dumps(np.ones(2, [("a", "f4")])), "not of real numbers"),
        (pickle.dumps(np.float32(1), 2), "names numpy._core.multiarray.scalar"),
        (pickle.dumps(ARRAY)[:-20], "damaged"),
        (pickle.dumps(ARRAY, 2).replace(b"K\x05K\x03", b"K\x05K\x04"), "data don't fit its shape"),
        (b"P1\n.", "refers to something outside itself"),
        (b"no pickle at all", "damaged"),
        (b"", "damaged"),
    ],
)
def test_other_pickles_are_refused_in_words(tmp_path, content, said):
    with pytest.raises(Error, match=said):
        read_array(written(tmp_path / "a.pkl", content))


def test_what_is_no_array_is_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([{}]), allow_pickle=True)
    for name, content, said in (
        ("a.npy", stream.getvalue(), "damaged or no array"),
        ("b.npy", b"short", "damaged or no array"),
        ("c.txt", b"1 2 3", "no array by its extension"),
    ):
        with pytest.raises(Error, match=said):
            read_array(written(tmp_path / name, content))
    with pytest.raises(Error, match="missing"):
        read_array(tmp_path / "nowhere.npy")


@pytest.mark.parametrize("suffix", [".npy", ".pkl"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path, suffix):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 93136\n"
    with pytest.raises(Error, match="is a Git LFS pointer, which stands for the file"):
        read_array(written(tmp_path / f"a{suffix}", pointer.encode()))
