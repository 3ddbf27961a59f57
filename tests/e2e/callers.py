"""Those who use a union: in threads, in processes, killed on the way, and what they are told."""

import os
import threading

import pytest

# Set, tests run in full size that by default keep to what shows the point.
FULL = bool(os.environ.get("VENEER_FULL"))


def errno_of(function):
    """The error that this call fails with; it must fail."""
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def quietly(call, *args):
    """Whether the call succeeds."""
    try:
        call(*args)
    except OSError:
        return False
    return True


def in_threads(*calls):
    """Run the calls at once; the first exception any of them raised."""
    failures = []

    def guarded(call):
        try:
            call()
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    if failures:
        raise failures[0]


def start(call):
    """A process of its own that runs the call; its pid.  Status 0: it returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        finally:
            os._exit(status)
    return pid


def in_processes(*calls):
    """Run the calls at once in processes of their own; all must succeed."""
    pids = [start(call) for call in calls]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)


def drop_pages(path):
    """What the page cache has of this file goes; the next who reads it asks again."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def write_at(path, data, offset):
    """Change a part of a file through a descriptor of its own."""
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)
