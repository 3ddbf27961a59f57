"""System calls and libc functions python has no wrapper for.

Each raises OSError with the call's errno, as the os module does.
"""

import ctypes
import ctypes.util
import fcntl
import os
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = 0x100, 0x400
AT_EMPTY_PATH = 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2
FALLOC_COLLAPSE_RANGE, FALLOC_ZERO_RANGE, FALLOC_INSERT_RANGE = 8, 16, 32
RESOLVE_NO_XDEV, RESOLVE_BENEATH = 1, 8
O_TMPFILE = getattr(os, "O_TMPFILE", 0o20200000)
FS_IMMUTABLE, FS_APPEND, FS_NOATIME, FS_NODUMP, FS_SYNC = 0x10, 0x20, 0x80, 0x40, 0x08
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_IOC_GETFSUUID = 0x80111500
_SYS = {"renameat2": 316, "openat2": 437, "getdents64": 217, "statx": 332}
if os.uname().machine == "aarch64":
    _SYS = {"renameat2": 276, "openat2": 437, "getdents64": 61, "statx": 291}

DT = {1: "fifo", 2: "chr", 4: "dir", 6: "blk", 8: "reg", 10: "lnk", 12: "sock", 0: "unknown"}


def _check(result, what=None):
    if result == -1:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), what)
    return result


def _syscall(name, *args):
    return _libc.syscall(_SYS[name], *args)


def renameat2(old, new, flags, old_dirfd=AT_FDCWD, new_dirfd=AT_FDCWD):
    _check(_syscall("renameat2", old_dirfd, os.fsencode(old), new_dirfd, os.fsencode(new), flags),
           f"{old} -> {new}")


def openat2(dirfd, path, flags, mode=0, resolve=0):
    how = struct.pack("QQQ", flags, mode, resolve)
    return _check(_syscall("openat2", dirfd, os.fsencode(path), how, len(how)), path)


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def syncfs(fd):
    _check(_libc.syncfs(fd))


def unshare(flags):
    _check(_libc.unshare(flags))


def mount(source, target, fstype, flags=0, data=""):
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode(),
                       ctypes.c_ulong(flags), os.fsencode(data)), target)


def umount(target, flags=0):
    _check(_libc.umount2(os.fsencode(target), flags), target)


class Dirent(NamedTuple):
    ino: int
    off: int
    type: str
    name: str


def getdents64(fd, size=32768):
    """One getdents64 call: the list of entries, empty at the end of the directory."""
    buf = ctypes.create_string_buffer(size)
    got = _check(_syscall("getdents64", fd, buf, size))
    entries, at = [], 0
    while at < got:
        ino, off, reclen, dtype = struct.unpack_from("QqHB", buf.raw, at)
        name = buf.raw[at + 19:at + reclen].split(b"\0", 1)[0]
        entries.append(Dirent(ino, off, DT[dtype], os.fsdecode(name)))
        at += reclen
    return entries


def read_directory(path, size=32768):
    """Every entry of a directory, dots included, in the order the kernel gives them."""
    fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    entries = []
    try:
        while chunk := getdents64(fd, size):
            entries += chunk
    finally:
        if fd is not path:
            os.close(fd)
    return entries


class Statx(NamedTuple):
    mask: int
    attributes: int
    nlink: int
    mode: int
    ino: int
    size: int
    btime_ns: int
    mnt_id: int
    attributes_mask: int


def statx(path, follow=False):
    buf = ctypes.create_string_buffer(256)
    flags = 0 if follow else AT_SYMLINK_NOFOLLOW
    _check(_syscall("statx", AT_FDCWD, os.fsencode(path), flags, 0x1fff, buf), path)
    raw = buf.raw
    mask, _blksize, attributes, nlink, _uid, _gid, mode = struct.unpack_from("IIQIIIH", raw, 0)
    ino, size, _blocks, attributes_mask = struct.unpack_from("QQQQ", raw, 32)
    btime_sec, btime_nsec = struct.unpack_from("qI", raw, 80)
    mnt_id, = struct.unpack_from("Q", raw, 144)
    return Statx(mask, attributes, nlink, mode, ino, size, btime_sec * 10**9 + btime_nsec, mnt_id,
                 attributes_mask)


def name_to_handle(path):
    """(handle_type, f_handle bytes) of the object at path itself."""
    buf = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("Ii", buf, 0, 128, 0)
    mnt = ctypes.c_int()
    _check(_libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buf, ctypes.byref(mnt), 0), path)
    size, kind = struct.unpack_from("Ii", buf.raw, 0)
    return kind, buf.raw[8:8 + size]


def open_by_handle(mountfd, handle, flags=os.O_RDONLY):
    """A descriptor of the object of a name_to_handle() on the file system of mountfd."""
    kind, data = handle
    buf = ctypes.create_string_buffer(struct.pack("Ii", len(data), kind) + data)
    return _check(_libc.open_by_handle_at(mountfd, buf, flags))


def fs_uuid(path):
    """The 16 bytes of the file system's uuid that path lives on."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        raw = bytearray(17)
        fcntl.ioctl(fd, _FS_IOC_GETFSUUID, raw)
        return bytes(raw[1:1 + raw[0]])
    finally:
        os.close(fd)


def _flags_fd(path):
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)


def get_flags(path):
    fd = _flags_fd(path)
    try:
        raw = bytearray(8)
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, raw)
        return struct.unpack_from("I", raw)[0]
    finally:
        os.close(fd)


def set_flags(path, flags):
    fd = _flags_fd(path)
    try:
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("Q", flags))
    finally:
        os.close(fd)


def change_flags(path, add=0, drop=0):
    set_flags(path, get_flags(path) & ~drop | add)


def tmpfile(directory, flags=os.O_RDWR, mode=0o644):
    return os.open(directory, O_TMPFILE | flags, mode)


def link_fd(fd, path):
    """Give an O_TMPFILE descriptor a name."""
    # Not os.link(): python calls link(2), which never follows the symbolic link in /proc.
    _check(_libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(path),
                        AT_SYMLINK_FOLLOW), path)


class _CDirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]


_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.POINTER(_CDirent)
_libc.telldir.restype = ctypes.c_long


class DirStream:
    """libc's DIR stream: readdir, telldir, seekdir, rewinddir."""

    def __init__(self, path):
        self._dir = ctypes.c_void_p(_libc.opendir(os.fsencode(path)))
        if not self._dir:
            err = ctypes.get_errno()
            raise OSError(err, os.strerror(err), path)

    def read(self):
        ctypes.set_errno(0)
        entry = _libc.readdir(self._dir)
        if entry:
            return os.fsdecode(entry.contents.name)
        if ctypes.get_errno():
            raise OSError(ctypes.get_errno(), "readdir")
        return None

    def rest(self):
        names = []
        while (name := self.read()) is not None:
            names.append(name)
        return names

    def tell(self):
        return _libc.telldir(self._dir)

    def seek(self, position):
        _libc.seekdir(self._dir, ctypes.c_long(position))

    def rewind(self):
        _libc.rewinddir(self._dir)

    def fileno(self):
        return _libc.dirfd(self._dir)

    def close(self):
        if self._dir:
            _libc.closedir(self._dir)
            self._dir = None

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()


# POSIX ACLs in the kernel's xattr form.
ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_ACL_TAGS = {"u::": 1, "u:": 2, "g::": 4, "g:": 8, "m::": 16, "o::": 32}
_ACL_UNDEFINED = 0xffffffff


def acl(text):
    """Encode "u::rwx,u:1000:r-x,g::r--,m::rwx,o::---" as an xattr value."""
    entries = []
    for item in text.split(","):
        kind, who, perms = item.split(":")
        tag = _ACL_TAGS[f"{kind}:{'' if who else ':'}"]
        bits = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in perms)
        entries.append((tag, int(who) if who else _ACL_UNDEFINED, bits))
    entries.sort(key=lambda entry: (entry[0], entry[1]))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, who)
                                           for tag, who, bits in entries)


def cap_xattr(permitted=1 << 13):
    """A version 2 security.capability value (cap_net_raw by default)."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def utimensat(path, access, modify, flags=0):
    """Each time in nanoseconds (of the first second), or UTIME_NOW, UTIME_OMIT."""
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), struct.pack("qqqq", 0, access, 0, modify),
                           flags), path)


def access(path, mode):
    _check(_libc.access(os.fsencode(path), mode), path)


def splice(source, target, count):
    return _check(_libc.splice(source, None, target, None, ctypes.c_size_t(count), 0))


def inotify_init():
    return _check(_libc.inotify_init1(0))


def inotify_add_watch(fd, path, mask):
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), mask), path)
