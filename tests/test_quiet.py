"""What libraries warn of is kept from users, and a Note never is, in however many threads."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cymatic.errors import Note
from cymatic.media.sound import Sound
from cymatic.quiet import quiet


def test_a_note_is_heard_and_nothing_else():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("a library's", RuntimeWarning, stacklevel=1)
            warnings.warn("ours", Note, stacklevel=1)
    assert [str(one.message) for one in heard] == ["ours"]


@pytest.fixture
def eager_threads():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_threads_leave_the_filters_as_they_were(eager_threads):
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 8000))
    sounds = [Sound(noise, 8000) for _ in range(200)]
    sounds[0].loudness()  # libraries that it imports have filters of their own
    filters, shown = list(warnings.filters), warnings.showwarning
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Sound.loudness, sounds))
    assert list(warnings.filters) == filters and warnings.showwarning is shown
