"""File data: appending, direct and mapped access, holes, limits, copies between descriptors."""

import faulthandler
import fcntl
import json
import mmap
import os
import resource
import signal

import pytest

import oscalls
import table
from table import OTHER, Row, attempt
from trees import Dir, File

SIZE = 70_000
TREE = {"f": File(data=bytes(i * 7 & 0xff for i in range(SIZE)), mode=0o666),
        "sparse": File(data="start", size=1 << 20, mode=0o666), "empty": File(mode=0o666),
        "g": File(data="0123456789" * 1000, mode=0o666)}


def row(name, run, want="ok", **kwargs):
    return Row(name, Dir(mode=0o777, children=TREE), run, want, **kwargs)


def with_fd(path, flags, function):
    fd = os.open(path, flags, 0o644)
    try:
        return function(fd)
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as file:
        return file.read()


# ---- writing ----

def appenders(path):
    """Several processes that append at once lose nothing and tear nothing."""
    pids = []
    for writer in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(path + "/empty", os.O_WRONLY | os.O_APPEND)
                for index in range(100):
                    os.write(fd, f"{writer} {index:04} {'x' * 57}\n".encode())
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = read(path + "/empty").decode().splitlines()
    return len(lines), len(set(lines)), {len(line) for line in lines}


def append_positions(path):
    """The offset of pwrite(2) does not count, and a write moves the position to the end."""
    fd = os.open(path + "/g", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 5, os.SEEK_SET)
    os.write(fd, b"A")
    at = os.lseek(fd, 0, os.SEEK_CUR)
    os.pwrite(fd, b"B", 0)
    os.close(fd)
    data = read(path + "/g")
    return at, data[-2:], len(data)


def append_no_more(path):
    fd = os.open(path + "/g", os.O_WRONLY | os.O_APPEND)
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"C", 0)
    os.close(fd)
    data = read(path + "/g")
    return data[:2], len(data)


def beyond_the_end(path):
    with_fd(path + "/g", os.O_WRONLY, lambda fd: os.pwrite(fd, b"end", 1_000_000))
    data = read(path + "/g")
    return len(data), data[10_000:1_000_000].count(0), data[-3:]


def vectors(path):
    fd = os.open(path + "/empty", os.O_RDWR)
    wrote = os.writev(fd, [b"one", b"", b"two" * 3000, b"three"])
    buffers = [bytearray(3), bytearray(9000), bytearray(9)]
    got = os.preadv(fd, buffers, 0)
    os.close(fd)
    return wrote, got, bytes(buffers[0]), bytes(buffers[2][:5])


def truncations(path):
    """What was cut off comes back as zeros, also in the page where the cut was."""
    seen = []
    for size in (5000, 4097, 4096, 4095, 1, 0, 9000):
        os.truncate(path + "/f", size)
        os.truncate(path + "/f", 20_000)
        data = read(path + "/f")
        seen.append(len(data) == 20_000 and not any(data[size:]))
    return seen


def overwrite_in_place(path):
    data = bytearray(read(path + "/f"))
    fd = os.open(path + "/f", os.O_RDWR)
    for offset in (0, 1, 4095, 4096, 65535, SIZE - 1, SIZE - 3):
        os.pwrite(fd, b"zyx", offset)
        data[offset:offset + 3] = b"zyx"
    os.close(fd)
    return read(path + "/f") == bytes(data)


def test_writing(stage):
    table.run(stage, [
        row("appenders", appenders, (400, 400, {64})),
        row("append", append_positions, (10001, b"AB", 10002)),
        row("beyond the end", beyond_the_end, (1_000_003, 990_000, b"end")),
        row("vectors", vectors, (9008, 9008, b"one", b"three")),
        row("truncations", truncations, [True] * 7),
        row("overwrite", overwrite_in_place, True),
    ])


@pytest.mark.placements("upper")
@pytest.mark.deviation("D-35")
def test_descriptors_that_cease_to_append(stage):
    table.run(stage, [row("append", append_no_more, stage.pick((b"C1", 10000), (b"01", 10001)))])


def test_served_descriptors_that_cease_to_append(stage):
    stage.serve_data()
    table.run(stage, [row("append", append_no_more, (b"C1", 10000))])


# ---- direct I/O ----

def aligned(data):
    area = mmap.mmap(-1, len(data))
    area[:] = data
    return area


def direct(path):
    """Reads and writes past the cache mix with cached ones."""
    fd = os.open(path + "/f", os.O_RDWR | os.O_DIRECT)
    cached = os.open(path + "/f", os.O_RDWR)
    os.pread(cached, 8192, 0)
    os.pwrite(fd, aligned(b"D" * 4096), 4096)
    first = os.pread(cached, 4, 4096)
    os.pwrite(cached, b"cached", 8192)
    area = aligned(bytes(4096))
    os.preadv(fd, [area], 8192)
    second = area[:6]
    tail = os.preadv(fd, [aligned(bytes(4096))], SIZE // 4096 * 4096)
    os.pwrite(fd, aligned(b"E" * 4096), 81920)
    os.close(fd)
    os.close(cached)
    return first, bytes(second), tail, os.stat(path + "/f").st_size


def test_direct_io(stage):
    table.run(stage, [row("direct", direct, (b"DDDD", b"cached", SIZE % 4096, 86016))])


# ---- mappings ----

def shared(path):
    """A shared mapping and the calls on the file see each other's changes, at once."""
    fd = os.open(path + "/f", os.O_RDWR)
    reader = os.open(path + "/f", os.O_RDONLY)
    one = mmap.mmap(fd, SIZE)
    two = mmap.mmap(reader, SIZE, prot=mmap.PROT_READ)
    seen = []
    one[10:13] = b"map"
    seen += [os.pread(reader, 3, 10), two[10:13]]
    os.pwrite(fd, b"call", 5000)
    seen += [one[5000:5004], two[5000:5004]]
    os.ftruncate(fd, 40_000)
    os.ftruncate(fd, SIZE)
    seen += [one[50_000], two[39_999] == (39_999 * 7 & 0xff)]
    one.close()
    two.close()
    os.close(fd)
    os.close(reader)
    return seen


def private(path):
    """A private mapping keeps its own changes to itself."""
    fd = os.open(path + "/f", os.O_RDWR)
    mapping = mmap.mmap(fd, SIZE, flags=mmap.MAP_PRIVATE)
    mapping[0:4] = b"mine"
    seen = os.pread(fd, 4, 0) == b"mine", mapping[0:4]
    mapping.close()
    os.close(fd)
    return seen


def forked(path):
    """Processes that map one file share it."""
    fd = os.open(path + "/f", os.O_RDWR)
    mapping = mmap.mmap(fd, SIZE)
    pid = os.fork()
    if pid == 0:
        own = os.open(path + "/f", os.O_RDWR)
        mmap.mmap(own, SIZE)[100:105] = b"child"
        os._exit(0)
    os.waitpid(pid, 0)
    seen = mapping[100:105]
    mapping.close()
    os.close(fd)
    return seen


def behind_the_end(path):
    """What a mapping holds behind the end of the file is never written."""
    fd = os.open(path + "/g", os.O_RDWR)
    os.ftruncate(fd, 12_288)
    mapping = mmap.mmap(fd, 12_288)
    os.ftruncate(fd, 10_000)
    mapping[10_000:10_010] = b"x" * 10
    mapping.flush()
    os.ftruncate(fd, 12_000)
    data = os.pread(fd, 2000, 10_000)
    mapping.close()
    os.close(fd)
    return data.count(0), len(data)


def bus_error(path):
    """Touching a page behind the end is a SIGBUS."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        fd = os.open(path + "/f", os.O_RDWR)
        mapping = mmap.mmap(fd, SIZE)
        os.ftruncate(fd, 0)
        mapping[60_000]  # pylint: disable=pointless-statement
        os._exit(0)
    return -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def mapping_modes(path):
    def try_map(flags, prot, kind):
        def use(fd):
            mmap.mmap(fd, 4096, flags=kind, prot=prot).close()
        return attempt(with_fd, path + "/f", flags, use)
    write = mmap.PROT_READ | mmap.PROT_WRITE
    return [try_map(os.O_RDONLY, mmap.PROT_READ, mmap.MAP_SHARED),
            try_map(os.O_RDONLY, write, mmap.MAP_SHARED),
            try_map(os.O_RDONLY, write, mmap.MAP_PRIVATE),
            try_map(os.O_WRONLY, mmap.PROT_WRITE, mmap.MAP_SHARED),
            try_map(os.O_RDWR, write, mmap.MAP_SHARED)]


def test_mappings(stage):
    # A shared mapping of a lower file stays on the lower file in the kernel.
    table.run(stage, [
        row("shared", shared, [b"map", b"map", b"call", b"call", 0, True]),
        row("private", private, (False, b"mine")),
        row("forked", forked, b"child"),
        row("behind the end", behind_the_end, (2000, 2000)),
        row("bus error", bus_error, signal.SIGBUS),
        row("modes", mapping_modes, ["ok", "EACCES", "ok", "EACCES", "ok"]),
    ], kernel=lambda name: name == "shared" and stage.placement != "upper")


# ---- holes and space ----

def holes(path):
    fd = os.open(path + "/sparse", os.O_RDWR)
    os.pwrite(fd, b"x" * 8192, 524288)
    found, at = [], 0
    while True:
        start = attempt(os.lseek, fd, at, os.SEEK_DATA)
        if start == "ENXIO":
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    hole = os.lseek(fd, 10_000, os.SEEK_HOLE)
    os.close(fd)
    return found, hole


def punch(path):
    data = bytearray(read(path + "/f"))
    fd = os.open(path + "/f", os.O_RDWR)
    for offset, length in ((4096, 8192), (100, 50), (20_000, 5_001), (SIZE - 10, 4096)):
        oscalls.fallocate(fd, oscalls.FALLOC_PUNCH_HOLE | oscalls.FALLOC_KEEP_SIZE, offset, length)
        end = min(offset + length, SIZE)
        data[offset:end] = bytes(end - offset)
    hole = os.lseek(fd, 0, os.SEEK_HOLE)
    os.close(fd)
    return read(path + "/f") == bytes(data), hole


def zero(path):
    fd = os.open(path + "/f", os.O_RDWR)
    oscalls.fallocate(fd, oscalls.FALLOC_ZERO_RANGE, 100, 5000)
    oscalls.fallocate(fd, oscalls.FALLOC_ZERO_RANGE | oscalls.FALLOC_KEEP_SIZE, SIZE - 5, 100)
    size = os.fstat(fd).st_size
    oscalls.fallocate(fd, oscalls.FALLOC_ZERO_RANGE, SIZE - 5, 100)
    after = os.fstat(fd).st_size
    os.close(fd)
    data = read(path + "/f")
    return size, after, any(data[100:5100]), any(data[SIZE - 5:]), data[99] != 0


def allocate(path):
    """Space that is promised; with KEEP_SIZE behind the end."""
    fd = os.open(path + "/empty", os.O_RDWR)
    oscalls.fallocate(fd, oscalls.FALLOC_KEEP_SIZE, 0, 1 << 20)
    first = os.fstat(fd)
    os.posix_fallocate(fd, 0, 100_000)
    second = os.fstat(fd)
    os.posix_fallocate(fd, 0, 10)
    third = os.fstat(fd)
    os.close(fd)
    return (first.st_size, first.st_blocks >= 2048, second.st_size, third.st_size,
            any(read(path + "/empty")))


def test_holes_and_space(stage):
    # Copying up fills small holes in the kernel.
    table.run(stage, [
        row("holes", holes, ([(0, 4096), (524288, 532480)], 10_000)),
        row("punch", punch, (True, 4096)),
        row("zero", zero, (SIZE, SIZE + 95, False, False, True)),
        row("allocate", allocate, (0, True, 100_000, 100_000, False)),
    ], kernel=lambda name: name == "holes" and stage.placement != "upper")


# ---- limits ----

def limited(path, limit, call):
    """The outcome of a call under RLIMIT_FSIZE, and whether SIGXFSZ came."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        hit = []
        signal.signal(signal.SIGXFSZ, lambda *_: hit.append(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        came = attempt(call, path)
        os.write(write_end, json.dumps((came, bool(hit))).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        return tuple(json.load(pipe))


LIMITED = {
    "write below": (lambda d: with_fd(d + "/empty", os.O_WRONLY, lambda fd: os.write(fd, b"x" * 99)),
                    (99, False)),
    "write across": (lambda d: with_fd(d + "/empty", os.O_WRONLY,
                                       lambda fd: os.write(fd, b"x" * 20_000)), (15_000, False)),
    "write above": (lambda d: with_fd(d + "/empty", os.O_WRONLY,
                                      lambda fd: os.pwrite(fd, b"x", 15_000)), ("EFBIG", True)),
    "append above": (lambda d: with_fd(d + "/f", os.O_WRONLY | os.O_APPEND,
                                       lambda fd: os.write(fd, b"x")), ("EFBIG", True)),
    "overwrite above": (lambda d: with_fd(d + "/f", os.O_WRONLY,
                                          lambda fd: os.pwrite(fd, b"x", 16_000)), ("EFBIG", True)),
    "overwrite below": (lambda d: with_fd(d + "/f", os.O_WRONLY,
                                          lambda fd: os.pwrite(fd, b"x", 5)), (1, False)),
    "truncate above": (lambda d: os.truncate(d + "/empty", 15_001), ("EFBIG", True)),
    "truncate at": (lambda d: os.truncate(d + "/empty", 15_000), ("ok", False)),
    "truncate shorter": (lambda d: os.truncate(d + "/f", 60_000), ("ok", False)),
    "ftruncate above": (lambda d: with_fd(d + "/empty", os.O_WRONLY,
                                          lambda fd: os.ftruncate(fd, 15_001)), ("EFBIG", True)),
    "fallocate above": (lambda d: with_fd(d + "/empty", os.O_WRONLY, lambda fd: oscalls.fallocate(
        fd, 0, 0, 15_001)), ("EFBIG", True)),
    "store": (lambda d: with_fd(d + "/f", os.O_RDWR, lambda fd: store(fd, 60_000)), ("ok", False)),
    "copy range above": (lambda d: with_fd(d + "/empty", os.O_WRONLY, lambda out: with_fd(
        d + "/f", os.O_RDONLY, lambda fd: os.copy_file_range(fd, out, 100, 0, 15_000))),
                         ("EFBIG", True)),
    "copy range across": (lambda d: with_fd(d + "/empty", os.O_WRONLY, lambda out: with_fd(
        d + "/f", os.O_RDONLY, lambda fd: os.copy_file_range(fd, out, 20_000))), (15_000, False)),
}


def store(fd, offset):
    with mmap.mmap(fd, SIZE) as mapping:
        mapping[offset:offset + 1] = b"x"
        mapping.flush()


def test_file_size_limit(stage):
    # Copying up counts as the caller's writing in the kernel.
    table.run(stage, [row(name, lambda d, call=call: limited(d, 15_000, call), want, who=OTHER)
                      for name, (call, want) in LIMITED.items()],
              kernel=lambda name: stage.placement != "upper")


# ---- from descriptor to descriptor ----

def copy_ranges(path):
    source = os.open(path + "/f", os.O_RDONLY)
    target = os.open(path + "/g", os.O_RDWR)
    done = [os.copy_file_range(source, target, 5000, 100, 200),
            os.copy_file_range(source, target, 5000, SIZE - 10, 0),
            os.copy_file_range(source, target, 5000, SIZE, 0),
            os.copy_file_range(source, target, 0)]
    same = os.copy_file_range(target, target, 100, 0, 5000)
    data = os.pread(target, 20_000, 0)
    os.close(source)
    os.close(target)
    original = read(path + "/f")
    return (done, same, data[200:5000] == original[100:4900], data[:10] == original[-10:],
            data[5000:5100] == data[0:100])


def send_file(path):
    source = os.open(path + "/f", os.O_RDONLY)
    target = os.open(path + "/empty", os.O_RDWR)
    sent = 0
    while count := os.sendfile(target, source, None, SIZE):
        sent += count
    os.close(source)
    os.close(target)
    return sent, read(path + "/empty") == read(path + "/f")


def splice(path):
    source = os.open(path + "/f", os.O_RDONLY)
    target = os.open(path + "/empty", os.O_RDWR)
    out, into = os.pipe()
    moved = 0
    while count := oscalls.splice(source, into, 65536):
        while count:
            step = oscalls.splice(out, target, count)
            count -= step
            moved += step
    for fd in (source, target, out, into):
        os.close(fd)
    return moved, read(path + "/empty") == read(path + "/f")


def test_descriptor_to_descriptor(stage):
    table.run(stage, [
        row("copy", copy_ranges, ([5000, 10, 0, 0], 100, True, True, True)),
        row("sendfile", send_file, (SIZE, True)),
        row("splice", splice, (SIZE, True)),
    ])


# ---- what the protocol forbids ----

@pytest.mark.deviation("D-15")
def test_collapse_and_insert(stage):
    """Cutting pieces out of a file, or making room in it, is not sent to a FUSE server."""
    def run(path):
        fd = os.open(path + "/f", os.O_RDWR)
        seen = [attempt(oscalls.fallocate, fd, mode, 4096, 4096)
                for mode in (oscalls.FALLOC_COLLAPSE_RANGE, oscalls.FALLOC_INSERT_RANGE)]
        os.close(fd)
        return seen
    table.run(stage, [row("collapse", run, stage.pick(["ok", "ok"], ["EOPNOTSUPP"] * 2))])


FIEMAP = 0xc020660b


@pytest.mark.deviation("D-16")
def test_extents(stage):
    """The map of a file's extents: not part of the protocol."""
    def run(path):
        with open(path + "/f", "rb") as file:
            request = bytearray(32)
            request[8:16] = b"\xff" * 8
            fcntl.ioctl(file, FIEMAP, request)
    table.run(stage, [row("fiemap", run, stage.pick("ok", "EOPNOTSUPP"))])
