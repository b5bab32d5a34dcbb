"""Prompts from a file, and names from prompts."""

import pytest

from cymatic.apps.prompts import names_of, read_prompts
from cymatic.errors import Error


def test_names_are_the_words_of_the_prompts_in_any_script():
    assert names_of(["A red apple!", "ein Äpfel/Kern", "猫", "../../etc/passwd", "a\tb"]) == [
        "a-red-apple", "ein-äpfel-kern", "猫", "etc-passwd", "a-b",
    ]  # fmt: skip


def test_names_differ_on_any_file_system():
    assert names_of(["Cat", "cat", "CAT!", "cat-2", "?", "!"]) == [
        "cat",
        "cat-2",
        "cat-3",
        "cat-2-2",
        "prompt-5",
        "prompt-6",
    ]
    assert len(set(names_of(["é", "e\u0301"]))) == 2


def test_long_prompts_give_short_names():
    for name in names_of(["word " * 60, "猫" * 200]):
        assert len(name.encode()) <= 80 and not name.endswith("-")


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa red apple\r\n\n  ein Frosch \n".encode())
    assert read_prompts(path) == ["a red apple", "ein Frosch"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds 0 prompts; give 1 to 10000"),
        (b" \n\n", "holds 0 prompts"),
        ("ein Apfel\nübel\n".encode("latin-1"), "is not UTF-8; save it as UTF-8"),
        (b"a\n" * 10_001, "holds 10001 prompts"),
        (None, "does not exist"),
    ],
)
def test_bad_files_of_prompts(tmp_path, content, said):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Error, match=said):
        read_prompts(path)
    with pytest.raises(Error, match="holds 0 sounds and pictures"):
        read_prompts(tmp_path)
    with pytest.raises(Error, match="can't be read"):
        read_prompts(tmp_path / "a\0b")
