"""System calls that Python's os module lacks, as thin functions that raise OSError."""

import ctypes
import errno
import functools
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.pread.restype = _libc.pwrite.restype = ctypes.c_ssize_t

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = 0x100, 0x400
AT_EACCESS = 0x200
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE, MS_PRIVATE = 1, 0x20, 0x1000, 0x4000, 0x80000, 0x40000
MNT_DETACH = 2
_MS_SYNC = 4
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000

_NR_GETDENTS64, _NR_FACCESSAT2 = 217, 439
_STATX_BTIME, _STATX_INO = 0x800, 0x100


def _check(ret, what=None):
    if ret < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), what)
    return ret


def _path(path):
    return ctypes.c_char_p(os.fsencode(path))


def renameat2(src, dst, flags):
    _check(_libc.renameat2(AT_FDCWD, _path(src), AT_FDCWD, _path(dst), flags), src)


def linkat(src, dst, flags):
    _check(_libc.linkat(AT_FDCWD, _path(src), AT_FDCWD, _path(dst), flags), src)


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def faccessat2(path, mode, flags):
    _check(_libc.syscall(_NR_FACCESSAT2, AT_FDCWD, _path(path), mode, flags), path)


def mount(source, target, fstype, flags, data):
    _check(_libc.mount(_path(source), _path(target), _path(fstype) if fstype else None,
                       ctypes.c_ulong(flags), _path(data) if data else None), data or target)


def umount(target, flags=0):
    _check(_libc.umount2(_path(target), flags), target)


def unshare(flags):
    _check(_libc.unshare(flags))


_CAP_HEADER = struct.pack('=II', 0x20080522, 0)		# _LINUX_CAPABILITY_VERSION_3, this thread


def _set_effective_caps(on):
    """Make the effective capabilities of this thread the permitted ones, or none."""
    header = ctypes.create_string_buffer(_CAP_HEADER)
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data))
    words = list(struct.unpack('=6I', data.raw))
    words[0], words[3] = (words[1], words[4]) if on else (0, 0)
    _check(_libc.capset(header, ctypes.create_string_buffer(struct.pack('=6I', *words))))


def become(uid, gid):
    """Act on files as the ordinary user (uid, gid), without any capability; 0, 0: as root."""
    if uid == 0:
        _set_effective_caps(True)
        _libc.setfsuid(0)
        _libc.setfsgid(gid)
    else:
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        _set_effective_caps(False)


def mmap(fd, length, shared, writable):
    """The address of a readable mapping, which may be longer than the file."""
    prot, flags = 3 if writable else 1, 1 if shared else 2
    address = _libc.mmap(None, ctypes.c_size_t(length), prot, flags, fd, ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        _check(-1)
    return address


def munmap(address, length):
    _check(_libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length)))


def msync(address, length):
    _check(_libc.msync(ctypes.c_void_p(address), ctypes.c_size_t(length), _MS_SYNC))


def peek(address, size):
    """Memory that may not be there: EFAULT instead of SIGBUS."""
    done = _check(_libc.pwrite(_memory(), ctypes.c_void_p(address), ctypes.c_size_t(size),
                               ctypes.c_long(0)))
    return os.pread(_memory(), done, 0)


def poke(address, data):
    """Write to memory that may not be there; how much of it was."""
    os.pwrite(_memory(), data, 0)
    return _check(_libc.pread(_memory(), ctypes.c_void_p(address), ctypes.c_size_t(len(data)),
                              ctypes.c_long(0)))


@functools.lru_cache(maxsize=None)
def _memory():
    return os.memfd_create('copies')


_DENTS = ctypes.create_string_buffer(65536)
_DENT_HEAD = struct.Struct('=QqHB')


def _getdents(fd, size):
    """[(name, d_ino, d_type, d_off)] of one call."""
    got = _check(_libc.syscall(_NR_GETDENTS64, fd, _DENTS, size))
    out, raw, pos = [], _DENTS.raw[:got], 0
    while pos < got:
        ino, off, reclen, dtype = _DENT_HEAD.unpack_from(raw, pos)
        name = raw[pos + 19:raw.index(b'\0', pos + 19)]
        out.append((os.fsdecode(name), ino, dtype, off))
        pos += reclen
    return out


def getdents(fd):
    """[(name, d_ino, d_type)] from the descriptor's position to its end, dots included."""
    out = []
    while True:
        got = _getdents(fd, 65536)
        if not got:
            return out
        out += [entry[:3] for entry in got]


def getdents_step(fd, size):
    """[(name, position after it)]: as many as fit into `size`, but one at least."""
    try:
        got = _getdents(fd, size)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
        got = _getdents(fd, 300)
    return [(name, off) for name, _ino, _type, off in got]


_STATX = ctypes.create_string_buffer(256)


def inode_key(path, follow=False):
    """(ino, birth time): names one inode for ever, where the number alone is reused."""
    _check(_libc.statx(AT_FDCWD, _path(path), 0 if follow else AT_SYMLINK_NOFOLLOW,
                       _STATX_BTIME | _STATX_INO, _STATX), path)
    ino = struct.unpack_from('=Q', _STATX, 32)[0]
    return (ino,) + struct.unpack_from('=qI', _STATX, 80)
