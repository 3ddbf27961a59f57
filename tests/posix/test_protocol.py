"""What a FUSE server is not asked, or not told enough about: each test names its deviation."""

import ctypes
import mmap
import os
import stat

import pytest

import calls
import table
from table import OWNER, Row, attempt
from trees import Dir, File

TREE = Dir(mode=0o777, children={"f": File(data="data", mode=0o666), "sid": File(
    data="data", mode=0o6777, owner=(table.UID, table.GID))})
PAST = 10**18


def with_fd(path, flags, function):
    fd = os.open(path, flags)
    try:
        return function(fd)
    finally:
        os.close(fd)


@pytest.mark.deviation("D-30")
def test_largest_offset(stage):
    """FUSE asks for no limit of the file system behind it; a write tells it all the same."""
    want = stage.pick("EINVAL", 2**63 - 1)
    table.run(stage, [
        Row("seek", TREE, lambda d: with_fd(d + "/f", os.O_RDONLY, lambda fd: attempt(
            os.lseek, fd, 2**63 - 1, os.SEEK_SET)), want),
        Row("write", TREE, lambda d: with_fd(d + "/f", os.O_WRONLY, lambda fd: attempt(
            os.pwrite, fd, b"x", 2**62)), "EFBIG")])


@pytest.mark.deviation("D-31")
def test_birth_time_of_what_is_known(stage):
    """What the kernel keeps of a file's attributes has no birth time: it is there for who waits."""
    def mask(path, how):
        buf = ctypes.create_string_buffer(256)
        calls.raw(calls.STATX, -100, path + "/f", how, 0x800, buf)
        return int.from_bytes(buf.raw[:4], "little") & 0x800
    table.run(stage, [Row(str(how), TREE, lambda d, h=how: mask(d, h), want)
                      for how, want in ((0, 0x800), (0x4000, stage.pick(0x800, 0)))])


@pytest.mark.deviation("D-32")
@pytest.mark.placements("upper")
def test_access_time_without_a_read(stage):
    """A mapping that nobody looks into sends nothing; reading ahead is reading."""
    def moved(path, act):
        os.utime(path + "/f", ns=(PAST, PAST))
        with_fd(path + "/f", os.O_RDONLY, act)
        return os.stat(path + "/f").st_atime_ns != PAST

    stage.serve_data()

    def mapped(fd):
        mmap.mmap(fd, 4, prot=mmap.PROT_READ).close()
    table.run(stage, [
        Row("map", TREE, lambda d: moved(d, mapped), stage.pick(True, False)),
        Row("read", TREE, lambda d: moved(d, lambda fd: os.read(fd, 4)), True)])


@pytest.mark.deviation("D-33")
def test_direct_io_of_any_size(stage):
    want = stage.pick("EINVAL", 3)
    stage.serve_data()
    table.run(stage, [Row("write", TREE, lambda d: with_fd(
        d + "/f", os.O_WRONLY | os.O_DIRECT, lambda fd: attempt(os.write, fd, b"xyz")), want)])


def test_set_id_bits_and_a_write_that_fails(stage):
    """On both unions the bits are gone before the position is looked at."""
    kept = 0o6000 if stage.name == "plain" else 0
    table.run(stage, [Row("write", TREE, lambda d: with_fd(d + "/sid", os.O_WRONLY, lambda fd: attempt(
        os.pwrite, fd, b"x", 2**62)), "EFBIG", OWNER,
                          then=lambda d: stat.S_IMODE(os.stat(d + "/sid").st_mode) & 0o6000,
                          after=kept)])
