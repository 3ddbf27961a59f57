"""File locks and ETXTBSY, before and after copy-up."""

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess

import pytest

from trees import Hard


def flock_struct(kind, start=0, length=0):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def ofd(fd, kind, start=0, length=0):
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock_struct(kind, start, length))


def posix(fd, kind, start=0, length=0):
    fcntl.fcntl(fd, fcntl.F_SETLK, flock_struct(kind, start, length))


def refused(function):
    try:
        function()
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


@pytest.fixture
def two(union):
    """A union with a lower file, opened twice before copy-up."""
    u = union({"f": "0123456789"})
    fds = os.open(u / "f", os.O_RDONLY), os.open(u / "f", os.O_RDONLY)
    yield u, *fds
    for fd in fds:
        os.close(fd)


def test_flock_conflicts(two):
    _u, one, other = two
    fcntl.flock(one, fcntl.LOCK_EX)
    assert refused(lambda: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB))
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_flock_over_copy_up(two):
    u, one, _other = two
    fcntl.flock(one, fcntl.LOCK_EX)
    u.append("f", "x")
    fd = os.open(u / "f", os.O_RDWR)
    assert refused(lambda: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB))
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_ofd_lock_over_copy_up(two):
    u, one, _other = two
    ofd(one, fcntl.F_RDLCK, 0, 5)
    u.append("f", "x")
    fd = os.open(u / "f", os.O_RDWR)
    assert refused(lambda: ofd(fd, fcntl.F_WRLCK, 4, 1))
    ofd(fd, fcntl.F_WRLCK, 5, 5)
    os.close(fd)


def test_posix_lock_over_copy_up(two, child):
    u, one, _other = two
    posix(one, fcntl.F_RDLCK)
    u.append("f", "x")

    def attempt():
        fd = os.open(u / "f", os.O_RDWR)
        return refused(lambda: posix(fd, fcntl.F_WRLCK))
    # Closing any descriptor of the file drops a process's POSIX locks, append() did so.
    posix(one, fcntl.F_RDLCK)
    assert child(attempt)


def test_posix_lock_by_another_process(union, child):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    posix(fd, fcntl.F_WRLCK, 0, 1)

    def attempt():
        again = os.open(u / "f", os.O_RDWR)
        return (refused(lambda: posix(again, fcntl.F_WRLCK, 0, 1)),
                refused(lambda: posix(again, fcntl.F_WRLCK, 1, 1)))
    assert child(attempt) == (True, False)
    os.close(fd)


def test_getlk_tells_the_holder(union, child):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    posix(fd, fcntl.F_WRLCK)
    pid = os.getpid()

    def ask():
        again = os.open(u / "f", os.O_RDWR)
        raw = fcntl.fcntl(again, fcntl.F_GETLK, flock_struct(fcntl.F_WRLCK))
        return struct.unpack("hhqqi4x", raw)[4]
    assert child(ask) == pid
    os.close(fd)


def test_waiting_lock_is_granted(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        again = os.open(u / "f", os.O_RDONLY)
        signal.alarm(10)
        fcntl.flock(again, fcntl.LOCK_EX)
        os._exit(0)
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)


def test_waiting_lock_is_interruptible(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        again = os.open(u / "f", os.O_RDONLY)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(1)
        fcntl.flock(again, fcntl.LOCK_EX)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGALRM
    os.close(fd)


def test_lock_goes_with_the_process(union, child):
    u = union({"f": "x"})
    child(lambda: fcntl.flock(os.open(u / "f", os.O_RDWR), fcntl.LOCK_EX))
    fd = os.open(u / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_lock_on_two_names_of_one_file(union):
    u = union({}, upper={"a": "x", "b": Hard("a")})
    one, other = os.open(u / "a", os.O_RDWR), os.open(u / "b", os.O_RDWR)
    fcntl.flock(one, fcntl.LOCK_EX)
    assert refused(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(one)
    os.close(other)


def test_lock_on_a_directory(union):
    u = union({"d": {"f": ""}})
    one, other = os.open(u / "d", os.O_RDONLY), os.open(u / "d", os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_EX)
    u.write("d/new", "")
    assert refused(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(one)
    os.close(other)


def test_lock_survives_rename(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename(u / "f", u / "g")
    again = os.open(u / "g", os.O_RDWR)
    assert refused(lambda: fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(fd)
    os.close(again)


# Text busy

def start(path):
    """A process that executes the program at path and waits."""
    return subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def stop(process):
    process.stdin.close()
    process.wait()
    process.stdout.close()


def open_error(path, flags=os.O_RDWR):
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return error.errno
    return 0


def test_writing_to_a_running_upper_program(union_factory):
    u = union_factory({})
    shutil.copy("/bin/cat", u.up("cat"))
    u.mount()
    process = start(u / "cat")
    try:
        assert open_error(u / "cat") == errno.ETXTBSY
    finally:
        stop(process)
    assert open_error(u / "cat") == 0


def test_writing_to_a_running_lower_program(union_factory):
    u = union_factory({"d": {}})
    shutil.copy("/bin/cat", u.low("cat"))
    u.guard_lowers()
    u.mount()
    process = start(u / "cat")
    try:
        assert open_error(u / "cat") == errno.ETXTBSY
    finally:
        stop(process)


def test_running_a_program_open_for_writing(union_factory):
    u = union_factory({})
    shutil.copy("/bin/cat", u.up("cat"))
    u.mount()
    fd = os.open(u / "cat", os.O_RDWR)
    with pytest.raises(OSError) as caught:
        start(u / "cat")
    assert caught.value.errno == errno.ETXTBSY
    os.close(fd)


def test_running_program_can_be_replaced(union_factory):
    u = union_factory({})
    shutil.copy("/bin/cat", u.up("cat"))
    u.mount()
    process = start(u / "cat")
    os.unlink(u / "cat")
    shutil.copy("/bin/true", u / "cat")
    process.stdin.write(b"still here")
    process.stdin.flush()
    assert process.stdout.read(10) == b"still here"
    stop(process)
    subprocess.run([u / "cat"], check=True)
