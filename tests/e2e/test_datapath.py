"""Data that the daemon serves and data that passes it by: what neither may show or let through."""

import errno
import mmap
import os
import stat

import pytest

import contenders
import oscalls
from callers import errno_of

WAYS = pytest.mark.parametrize("way", ["served", "passthrough"])
veneer_only = pytest.mark.veneer_only("kernel overlayfs has one way")


def overwrite(path, data):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, 0)
    os.close(fd)


@veneer_only
@WAYS
def test_served_after_it_was_passed_through(union, way):
    """Pages of before are not shown after somebody wrote past them."""
    u = union({"low": "1" * 5000}, upper={"f": "1" * 5000}, opts=[f"data={way}"])
    for name in ("f", "low"):
        os.chmod(u / name, 0o4755)  # is served, for a write takes that away
        assert u.read(name) == b"1" * 5000
        os.chmod(u / name, 0o755)
        overwrite(u / name, b"2" * 5000)
        overwrite(u / name, b"3" * 5000)
        os.chmod(u / name, 0o4755)
        assert u.read(name) == b"3" * 5000


@veneer_only
@WAYS
def test_lower_file_that_was_open_while_it_was_copied_up(union, way):
    u = union({"f": "1" * 5000}, opts=[f"data={way}"])
    fd = os.open(u / "f", os.O_RDONLY)
    assert os.pread(fd, 5000, 0) == b"1" * 5000
    overwrite(u / "f", b"2" * 5000)
    assert os.pread(fd, 5000, 0) == b"2" * 5000
    os.close(fd)
    overwrite(u / "f", b"3" * 5000)
    with open(u / "f", "rb") as first, open(u / "f", "rb") as second:
        overwrite(u / "f", b"4" * 5000)
        assert first.read() == second.read() == b"4" * 5000


@veneer_only
@WAYS
def test_allow_root_keeps_others_out(union, as_user, way):
    u = union({"f": "x", "d": {"g": "y"}}, opts=["allow_root", f"data={way}"])
    assert (u.read("f"), u.read("d/g")) == (b"x", b"y")
    for path in ("f", "d/g"):
        assert as_user(1000, lambda path=path: errno_of(lambda: open(u / path, "rb"))) == errno.EACCES


@veneer_only
@WAYS
def test_append_only_by_every_call(union, way):
    u = union({}, upper={"f": "x" * 5000, "g": "y" * 5000}, opts=[f"data={way}"])
    oscalls.change_flags(u / "f", add=oscalls.FS_APPEND)
    source = os.open(u / "g", os.O_RDONLY)

    def change(call):
        fd = os.open(u / "f", os.O_WRONLY)
        try:
            call(fd)
        finally:
            os.close(fd)
    try:
        for call in (lambda fd: os.copy_file_range(source, fd, 100, 0, 0), lambda fd: os.pwrite(fd, b"!", 0)):
            assert errno_of(lambda call=call: change(call)) == errno.EPERM
        assert u.read("f") == b"x" * 5000
    finally:
        os.close(source)
        oscalls.change_flags(u / "f", drop=oscalls.FS_APPEND)


@pytest.mark.deviation("D-36")
def test_set_id_bits_given_to_a_file_that_is_open(union, as_user):
    """To one that is opened afterwards, a write takes them away."""
    u = union({}, upper={"f": "x"})
    os.chmod(u / "f", 0o666)
    fd = os.open(u / "f", os.O_RDWR)
    os.chmod(u / "f", 0o4777)
    as_user(1000, lambda: os.pwrite(fd, b"y", 0))
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == u.pick(kernel=0o777, veneer=0o4777)
    os.close(fd)
    as_user(1000, lambda: overwrite(u / "f", b"z"))
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == 0o777


@veneer_only
@WAYS
def test_read_only_mount_passes_lower_files(union, way):
    """Nothing there is ever changed, so nobody has to see a change."""
    size = 4 << 20
    u = union({"f": "1" * size}, readonly=True, opts=[f"data={way}"])
    fd, again = os.open(u / "f", os.O_RDONLY), os.open(u / "f", os.O_RDONLY)
    assert os.pread(fd, size, 0) == os.pread(again, size, 0) == b"1" * size
    with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as area:
        assert area[:] == b"1" * size
    os.close(fd)
    os.close(again)
    assert errno_of(lambda: os.open(u / "f", os.O_WRONLY)) == errno.EROFS
    assert (contenders.requests(u.mnt, "READ") > 0) == (way == "served")
