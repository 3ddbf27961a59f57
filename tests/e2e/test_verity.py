"""verity=: the data of a metacopy file against the fs-verity digest that the file has of it.

Where the kernel has no fs-verity, what needs real digests is told by a library of our own instead,
which answers the daemon's question from an attribute; the kernel's overlayfs then sits out.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
import subprocess

import pytest

import contenders
from trees import File, wait_until

METACOPY = "trusted.overlay.metacopy"
REDIRECT = "trusted.overlay.redirect"
ENABLE_VERITY = 0x40806685
MEASURE_VERITY = 0xc0046686
SHA256, SHA512 = 1, 2
BLOCK = 4096

# What the ioctl would say is in user.digest: the algorithm in two bytes, then the digest.
STAND_IN = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/xattr.h>
int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, void *);
	unsigned char value[128];
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	if (request != 0xc0046686UL)
		return real(fd, request, argument);
	ssize_t size = fgetxattr(fd, "user.digest", value, sizeof(value));
	unsigned short *header = argument;
	if (size < 2) {
		errno = ENODATA;
		return -1;
	}
	if (header[1] < size - 2) {
		errno = EOVERFLOW;
		return -1;
	}
	header[0] = value[0];
	header[1] = size - 2;
	memcpy(header + 2, value + 2, size - 2);
	return 0;
}
"""


def fs_verity_digest(data, algorithm=SHA256):
    """The fs-verity digest of a file with this content, unsalted, in blocks of 4096 bytes."""
    new, log_hash = {SHA256: (hashlib.sha256, 32), SHA512: (hashlib.sha512, 64)}[algorithm]

    def hashes(level):
        return b"".join(new(level[at:at + BLOCK].ljust(BLOCK, b"\0")).digest()
                        for at in range(0, len(level), BLOCK))
    level = hashes(data)
    while len(level) > log_hash:
        level = hashes(level)
    root = level.ljust(64, b"\0")
    descriptor = struct.pack("<BBBBIQ64s32s144s", 1, algorithm, 12, 0, 0, len(data), root, b"", b"")
    return new(descriptor).digest()


def metacopy(digest=b"", algorithm=SHA256):
    """The attribute's value."""
    return struct.pack("<BBBB", 0, 4 + len(digest), 0, algorithm) + digest if digest else b""


def meta(digest=b"", algorithm=SHA256, size=5, **attrs):
    return File(size=size, xattrs={METACOPY: metacopy(digest, algorithm), **attrs})


def fails(function, *args):
    with pytest.raises(OSError) as caught:
        function(*args)
    return caught.value.errno


def can_be_read(path):
    try:
        with open(path, "rb") as file:
            return bool(file.read())
    except OSError:
        return False


def enable(path):
    """fs-verity for this file, or the error."""
    argument = struct.pack("<IIIIQIIQ88x", 1, SHA256, BLOCK, 0, 0, 0, 0, 0)
    with open(path, "rb") as file:
        fcntl.ioctl(file, ENABLE_VERITY, argument)


@pytest.fixture
def verity_fs(scratch):
    """A directory on a file system with fs-verity."""
    try:
        where = scratch.make("ext4", 64 << 20, ["-b", "4096", "-O", "verity"])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no ext4 with fs-verity: {error.stderr.decode().strip()}")
    probe = os.path.join(where, "probe")
    with open(probe, "wb") as file:
        file.write(b"x")
    try:
        enable(probe)
    except OSError as error:
        pytest.skip(f"this kernel has no fs-verity: {error.strerror}")
    return where


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """The library in the daemon's place of the ioctl."""
    where = tmp_path_factory.mktemp("stand-in")
    source, library = where / "ioctl.c", where / "ioctl.so"
    source.write_text(STAND_IN)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True,
                       capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler: {error}")
    if b"statically linked" in subprocess.run(["file", contenders.VENEER], check=False,
                                              capture_output=True).stdout:
        pytest.skip("a static program takes no library")
    return str(library)


@pytest.fixture
def measured(union_factory, stand_in, monkeypatch):
    """make(...) -> Union as `union` makes it, where a file's user.digest is its fs-verity digest."""
    def make(*lowers, **kwargs):
        monkeypatch.setenv("LD_PRELOAD", stand_in)
        asan = os.environ.get("ASAN_OPTIONS", "")
        monkeypatch.setenv("ASAN_OPTIONS", ":".join(filter(None, [asan, "verify_asan_link_order=0"])))
        made = union_factory(*lowers, **kwargs)
        return made.mount()
    return make


def vouched(data, algorithm=SHA256):
    """A file that has fs-verity."""
    digest = fs_verity_digest(data, algorithm)
    return File(data=data, xattrs={"user.digest": struct.pack("<H", algorithm) + digest})


needs_no_kernel = pytest.mark.veneer_only("digests from the stand-in")
DATA = b"hello"
GOOD = fs_verity_digest(DATA)
BAD = fs_verity_digest(b"other")


# Without fs-verity anywhere: the same on both

def test_digest_of_data_without_verity_is_an_error(union):
    u = union({"f": meta(GOOD)}, {"f": "hello"}, opts=["metacopy=on", "verity=on"])
    assert fails(open, u / "f") == errno.EIO


def test_metadata_is_not_checked(union):
    u = union({"f": meta(GOOD)}, {"f": "hello"}, opts=["metacopy=on", "verity=require"])
    assert os.stat(u / "f").st_size == 5


def test_a_digest_is_ignored_when_off(union):
    u = union({"f": meta(BAD)}, {"f": "hello"}, opts=["metacopy=on", "verity=off"])
    assert u.read("f") == DATA


def test_no_digest_is_fine_when_on(union):
    u = union({"f": meta()}, {"f": "hello"}, opts=["metacopy=on", "verity=on"])
    assert u.read("f") == DATA


def test_no_digest_is_an_error_when_required(union):
    u = union({"f": meta()}, {"f": "hello"}, opts=["metacopy=on", "verity=require"])
    assert fails(open, u / "f") == errno.EIO


def test_ordinary_files_need_no_digest(union):
    u = union({"f": "hello"}, upper={"g": "there"}, opts=["metacopy=on", "verity=require"])
    assert (u.read("f"), u.read("g")) == (DATA, b"there")


@pytest.mark.parametrize("change", ["chmod", "write", "truncate", "link"])
def test_a_wrong_digest_is_not_copied_up(union, change):
    u = union({"f": meta(GOOD)}, {"f": "hello"}, opts=["metacopy=on", "verity=on"])
    error = {"chmod": lambda: fails(os.chmod, u / "f", 0o600),
             "write": lambda: fails(u.append, "f", "x"),
             "truncate": lambda: fails(os.truncate, u / "f", 0),
             "link": lambda: fails(os.link, u / "f", u / "g")}[change]()
    assert error == errno.EIO
    assert not u.copied_up("f")


def test_metadata_only_copy_of_a_file_without_verity(union):
    u = union({"f": "hello"}, opts=["metacopy=on", "verity=on"])
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u.up("f"), METACOPY) == b""
    assert u.read("f") == DATA


def test_a_required_digest_that_cannot_be_had_copies_the_data(union):
    u = union({"f": "hello"}, opts=["metacopy=on", "verity=require"])
    os.chmod(u / "f", 0o600)
    assert METACOPY not in os.listxattr(u.up("f"))
    with open(u.up("f"), "rb") as file:
        assert file.read() == DATA


# With digests of the stand-in

@needs_no_kernel
@pytest.mark.parametrize("mode", ["on", "require"])
@pytest.mark.parametrize("algorithm", [SHA256, SHA512])
def test_right_digest(measured, mode, algorithm):
    digest = fs_verity_digest(DATA, algorithm)
    u = measured({"f": meta(digest, algorithm)}, {"f": vouched(DATA, algorithm)},
                 opts=["metacopy=on", f"verity={mode}"])
    assert u.read("f") == DATA


@needs_no_kernel
@pytest.mark.parametrize("digest,algorithm", [(BAD, SHA256), (GOOD, SHA512), (GOOD[:31], SHA256),
                                              (GOOD + b"\0", SHA256)])
@pytest.mark.parametrize("mode", ["on", "require"])
def test_wrong_digest(measured, mode, digest, algorithm):
    u = measured({"f": meta(digest, algorithm)}, {"f": vouched(DATA)},
                 opts=["metacopy=on", f"verity={mode}"])
    assert fails(open, u / "f") == errno.EIO


@needs_no_kernel
def test_data_only_layer(measured):
    u = measured({"good": meta(GOOD, **{REDIRECT: "/aa/good"}),
                  "bad": meta(BAD, **{REDIRECT: "/aa/good"}),
                  "none": meta(**{REDIRECT: "/aa/good"})},
                 data=[{"aa": {"good": vouched(DATA)}}], opts=["metacopy=on", "verity=require"])
    assert u.read("good") == DATA
    assert fails(open, u / "bad") == errno.EIO
    assert fails(open, u / "none") == errno.EIO


@needs_no_kernel
@pytest.mark.parametrize("mode", ["on", "require"])
def test_metadata_only_copy_stores_the_digest(measured, mode):
    u = measured({"f": vouched(DATA)}, opts=["metacopy=on", f"verity={mode}"])
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u.up("f"), METACOPY) == metacopy(GOOD)
    assert u.read("f") == DATA
    u.remount()
    assert u.read("f") == DATA
    u.umount()
    os.setxattr(u.up("f"), METACOPY, metacopy(BAD))
    u.mount()
    assert fails(open, u / "f") == errno.EIO
    assert os.stat(u / "f").st_mode & 0o777 == 0o600


@needs_no_kernel
def test_copy_of_a_metacopy_file_has_the_digest_of_its_data(measured):
    """Also one that had none: the topmost file is what counts from then on."""
    u = measured({"f": meta()}, {"f": vouched(DATA)}, opts=["metacopy=on", "verity=on"])
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u.up("f"), METACOPY) == metacopy(GOOD)
    assert u.remount().read("f") == DATA


@needs_no_kernel
def test_the_topmost_digest_counts(measured):
    u = measured({"f": meta(GOOD)}, {"f": meta(BAD)}, {"f": vouched(DATA)},
                 opts=["metacopy=on", "verity=on"])
    assert u.read("f") == DATA


@needs_no_kernel
def test_data_that_was_checked_is_written_to(measured):
    u = measured({"f": vouched(DATA)}, opts=["metacopy=on", "verity=require"])
    os.chmod(u / "f", 0o600)
    u.append("f", "!")
    assert METACOPY not in os.listxattr(u.up("f"))
    assert u.read("f") == b"hello!"


@needs_no_kernel
def test_data_is_checked_again_when_it_is_opened_again(measured):
    """A descriptor is no reason to trust what came into the file's place."""
    u = measured({"f": meta(GOOD)}, {"f": vouched(DATA)}, opts=["metacopy=on", "verity=on"],
                 guard=False)
    assert u.read("f") == DATA
    os.setxattr(u.low("f", 1), "user.digest", struct.pack("<H", SHA256) + BAD)
    assert wait_until(lambda: not can_be_read(u / "f"))  # a close is told a moment later
    assert fails(open, u / "f") == errno.EIO


# With fs-verity of the kernel

@pytest.mark.parametrize("mode", ["on", "require"])
def test_real_digests(union_factory, verity_fs, mode):
    lowers = [{"good": meta(GOOD), "bad": meta(BAD)}, {"good": "hello", "bad": "hello", "f": "hello"}]
    u = union_factory(*lowers, opts=["metacopy=on", f"verity={mode}"], where=verity_fs)
    for name in ("good", "bad", "f"):
        enable(u.low(name, 1))
    u.mount()
    assert u.read("good") == DATA
    assert fails(open, u / "bad") == errno.EIO
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u.up("f"), METACOPY) == metacopy(GOOD)
    assert u.remount().read("f") == DATA
    # The other one reads it as well.
    u.remount(contender="veneer" if u.contender.name == "kernel" else "kernel")
    assert u.read("f") == DATA


def test_the_digest_is_the_kernels(verity_fs):
    path = os.path.join(verity_fs, "f")
    for content in (b"", DATA, os.urandom(BLOCK), os.urandom(BLOCK * 200 + 1)):
        with open(path, "wb") as file:
            file.write(content)
        enable(path)
        buf = ctypes.create_string_buffer(struct.pack("<HH64x", 0, 64))
        with open(path, "rb") as file:
            fcntl.ioctl(file, MEASURE_VERITY, buf)
        assert buf.raw[4:36] == fs_verity_digest(content)
        os.unlink(path)
