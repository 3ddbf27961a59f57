"""What signals do to a copy-up: those that ask to stop end it, others do not touch it."""

import os
import signal
import subprocess
import sys
import time

import pytest

import trees

BIG = 48 << 20

WRITER = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
fd = os.open(sys.argv[1], os.O_WRONLY)
os.pwrite(fd, b"!", 0)
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def big_lower(union):
    u = union({"big": ""}, guard=False)
    u.umount()
    with open(u.low("big"), "wb") as file:
        for _ in range(BIG >> 20):
            file.write(b"x" * (1 << 20))
    u.mount()
    return u


@pytest.mark.veneer_only("the kernel's copy-up begins anew at each signal and never ends")
def test_a_timer_does_not_stop_a_copy_up(union):
    """The kernel reports every signal; a copy that began anew each time would never end."""
    u = big_lower(union)
    subprocess.run([sys.executable, "-c", WRITER, u / "big"], check=True, timeout=60)
    with open(u / "big", "rb") as file:
        assert file.read(1) == b"!"
    assert os.stat(u / "big").st_size == BIG


def test_a_kill_stops_a_copy_up(union):
    u = big_lower(union)
    before = trees.read(u.low("big"))[:100]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, u / "big"])
    time.sleep(0.15)
    writer.send_signal(signal.SIGKILL)
    writer.wait(30)
    with open(u / "big", "rb") as file:
        assert file.read(100)[1:] == before[1:]
    assert os.stat(u / "big").st_size == BIG
