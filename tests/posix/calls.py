"""Every call that takes a path or a descriptor, by name: what it is given is a directory and a name in it.

A call answers with what a program can see of it (its value, or OSError); what it
did to the objects is seen by whoever asked for it.  Nothing here says what is right.
"""

import ctypes
import fcntl
import mmap
import os
import stat
import struct

import oscalls
from oscalls import UTIME_NOW, UTIME_OMIT

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
AT_FDCWD, NOFOLLOW, FOLLOW, EMPTY, EACCESS = -100, 0x100, 0x400, 0x1000, 0x200
FCHMODAT2, FACCESSAT2, STATX = 452, 439, oscalls._SYS["statx"]  # pylint: disable=protected-access
FS_IOC_FSGETXATTR, FICLONE, FIGETBSZ = 0x801c581f, 0x40049409, 2
F_GET_RW_HINT, F_SET_RW_HINT, F_NOTIFY, F_ADD_SEALS = 1035, 1036, 1026, 1033
BAD = ctypes.c_void_p(8)


def raw(function, *args):
    """A libc function by name, or a system call by number."""
    args = [os.fsencode(arg) if isinstance(arg, str) else arg for arg in args]
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = getattr(libc, function)(*args) if isinstance(function, str) else libc.syscall(
        ctypes.c_long(function), *args)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def by_fd(flags, function):
    """The call on a descriptor of the object."""
    def run(path):
        fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
        try:
            return function(fd)
        finally:
            os.close(fd)
    return run


def read_only(function):
    return by_fd(os.O_RDONLY, function)


def write_only(function):
    return by_fd(os.O_WRONLY, function)


def read_write(function):
    return by_fd(os.O_RDWR, function)


def path_only(function):
    return by_fd(os.O_PATH | os.O_NOFOLLOW, function)


def quiet(function):
    """The call is what counts, not its answer."""
    def run(*args):
        function(*args)
    return run


# ---- attributes ----

def modes():
    calls = {}
    for mode in (0, 0o600, 0o777, 0o1755, 0o2755, 0o4755, 0o6711):
        calls[f"chmod {mode:o}"] = lambda p, m=mode: os.chmod(p, m)
    for mode in (0o600, 0o2755):
        calls[f"fchmod {mode:o}"] = read_only(lambda fd, m=mode: os.fchmod(fd, m))
        calls[f"fchmodat2 nofollow {mode:o}"] = lambda p, m=mode: raw(FCHMODAT2, AT_FDCWD, p, m,
                                                                     NOFOLLOW)
        calls[f"fchmodat2 empty {mode:o}"] = path_only(lambda fd, m=mode: raw(FCHMODAT2, fd, "", m,
                                                                              EMPTY))
    calls["fchmod of a path"] = path_only(lambda fd: os.fchmod(fd, 0o600))
    calls["fchmodat2 flags"] = lambda p: raw(FCHMODAT2, AT_FDCWD, p, 0o600, 1)
    return calls


def owners():
    calls = {}
    for uid, gid in ((-1, -1), (1000, -1), (-1, 2000), (1000, 2000), (-1, 1000), (5, -1), (-1, 5),
                     (0, 0)):
        calls[f"chown {uid} {gid}"] = lambda p, u=uid, g=gid: os.chown(p, u, g)
        calls[f"lchown {uid} {gid}"] = lambda p, u=uid, g=gid: os.lchown(p, u, g)
    calls["fchown"] = read_only(lambda fd: os.fchown(fd, -1, 2000))
    calls["fchown of a path"] = path_only(lambda fd: os.fchown(fd, -1, 2000))
    calls["fchownat empty"] = path_only(lambda fd: raw("fchownat", fd, "", -1, 2000, EMPTY))
    calls["fchownat flags"] = lambda p: raw("fchownat", AT_FDCWD, p, -1, 2000, 1)
    return calls


def times():
    values = {"now": UTIME_NOW, "omit": UTIME_OMIT, "set": 123}
    calls = {f"utimensat {a} {m}": lambda p, a=values[a], m=values[m]: oscalls.utimensat(p, a, m)
             for a in values for m in values}
    for name, value in values.items():
        calls[f"lutimensat {name}"] = lambda p, v=value: oscalls.utimensat(p, v, v, NOFOLLOW)
    both = struct.pack("qqqq", 1, 2, 3, 4)
    calls.update({
        "utime": lambda p: os.utime(p, ns=(5, 7)),
        "utime null": lambda p: raw("utimensat", AT_FDCWD, p, None, 0),
        "utimensat 10^9": lambda p: oscalls.utimensat(p, 10**9, 0),
        "utimensat -1": lambda p: oscalls.utimensat(p, 0, -1),
        "utimensat flags": lambda p: oscalls.utimensat(p, 0, 0, 1),
        "futimens": read_only(lambda fd: raw("futimens", fd, both)),
        "futimens w": write_only(lambda fd: raw("futimens", fd, None)),
        "futimens of a path": path_only(lambda fd: raw("futimens", fd, both)),
        "utimensat empty": path_only(lambda fd: raw("utimensat", fd, "", both, EMPTY)),
        "utimensat address": lambda p: raw("utimensat", AT_FDCWD, p, BAD, 0),
    })
    return calls


def flags():
    def set_flags(add):
        return read_only(lambda fd: fcntl.ioctl(fd, 0x40086602, struct.pack("Q", every(fd) | add))
                         and None)

    def every(fd):
        return struct.unpack("I", fcntl.ioctl(fd, 0x80086601, bytes(8))[:4])[0]

    def current(fd):
        return every(fd) & 0x1fff  # what lies above says how the file system stores it

    def project(fd):
        return struct.unpack("IIIII8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))[0]
    return {"getflags": read_only(current), "getflags of a path": path_only(current),
            "fsgetxattr": read_only(project), "setflags nodump": set_flags(oscalls.FS_NODUMP),
            "setflags append": set_flags(oscalls.FS_APPEND),
            "setflags immutable": set_flags(oscalls.FS_IMMUTABLE),
            "setflags noatime": set_flags(oscalls.FS_NOATIME),
            "setflags sync": set_flags(oscalls.FS_SYNC),
            "setflags unknown": set_flags(1 << 12)}


# ---- looking ----

def statx(path, mask, how):
    buf = ctypes.create_string_buffer(256)
    raw(STATX, AT_FDCWD, path, how, mask, buf)
    got, _blksize, _attributes, nlink, uid, gid, mode = struct.unpack_from("IIQIIIH", buf.raw)
    size, = struct.unpack_from("Q", buf.raw, 40)
    major, minor = struct.unpack_from("II", buf.raw, 128)
    return (got & mask & 0xfff, nlink if mask & 4 else 0, uid, gid, oct(mode),
            size if not stat.S_ISDIR(mode) else 0, major, minor)


def looks():
    def seen(st):
        return (oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, st.st_blksize,
                st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else 0,
                0 if stat.S_ISDIR(st.st_mode) else st.st_size)
    calls = {"stat": lambda p: seen(os.stat(p)), "lstat": lambda p: seen(os.lstat(p)),
             "fstat": read_only(lambda fd: seen(os.fstat(fd))),
             "fstat of a path": path_only(lambda fd: seen(os.fstat(fd))),
             "statvfs": lambda p: os.statvfs(p).f_namemax,
             "fstatvfs": read_only(lambda fd: os.fstatvfs(fd).f_namemax),
             "readlink": os.readlink,
             "readlink 0": lambda p: raw("readlink", p, ctypes.create_string_buffer(9), 0),
             "readlink 1": lambda p: raw("readlink", p, ctypes.create_string_buffer(9), 1),
             "readlink of a path": path_only(lambda fd: raw("readlinkat", fd, "",
                                                            ctypes.create_string_buffer(9), 9)),
             "listdir": lambda p: sorted(os.listdir(p)), "chdir": os.chdir,
             "fchdir": read_only(os.fchdir), "fchdir of a path": path_only(os.fchdir),
             "getdents tiny": read_only(lambda fd: oscalls.getdents64(fd, 20)),
             "getdents small": read_only(lambda fd: len(oscalls.getdents64(fd, 32))),
             "getdents one": read_only(lambda fd: [len(oscalls.getdents64(fd, 24))
                                                   for _ in range(2)])}
    for mask in (0, 0x7ff, 0xfff, 0x800, 4):
        for how in (0, NOFOLLOW, 0x2000, 0x4000):
            if how == 0x4000 and mask & 0x800:  # what is known already has no birth time
                continue
            calls[f"statx {mask:x} {how:x}"] = lambda p, m=mask, h=how: statx(p, m, h)
    calls["statx bad flags"] = lambda p: statx(p, 0x7ff, 0x6000)
    calls["statx bad mask"] = lambda p: statx(p, 1 << 31, 0)
    for want in (0, 1, 2, 4, 6, 7, 8):
        calls[f"access {want}"] = lambda p, w=want: oscalls.access(p, w)
        calls[f"eaccess {want}"] = lambda p, w=want: raw(FACCESSAT2, AT_FDCWD, p, w, EACCESS)
        calls[f"laccess {want}"] = lambda p, w=want: raw(FACCESSAT2, AT_FDCWD, p, w, NOFOLLOW)
        calls[f"faccess {want}"] = path_only(lambda fd, w=want: raw(FACCESSAT2, fd, "", w, EMPTY))
    return calls


# ---- extended attributes ----

def xattrs():
    def get(name, size):
        return lambda p: raw("lgetxattr", p, name, ctypes.create_string_buffer(size + 1), size)

    def put(name, value=b"v", how=0):
        return lambda p: os.setxattr(p, name, value, how)
    calls = {}
    for name in ("user.a", "user.none", "trusted.a", "security.a", "system.a", "other.a", "user.",
                 "user", "", "user." + "n" * 250, "user." + "n" * 251, "trusted.overlay.a",
                 "user.overlay.a", "trusted.overlay", "system.posix_acl_access",
                 "system.posix_acl_default", "security.capability", "overlay.a"):
        short = name if len(name) < 30 else str(len(name))
        calls[f"setxattr {short}"] = put(name)
        calls[f"getxattr {short}"] = lambda p, n=name: os.getxattr(p, n)
        calls[f"removexattr {short}"] = lambda p, n=name: os.removexattr(p, n)
        calls[f"lsetxattr {short}"] = lambda p, n=name: os.setxattr(p, n, b"v",
                                                                    follow_symlinks=False)
        calls[f"lgetxattr {short}"] = lambda p, n=name: os.getxattr(p, n, follow_symlinks=False)
    for name in ("user.a", "user.none"):
        for how in (os.XATTR_CREATE, os.XATTR_REPLACE, 3, 4):
            calls[f"setxattr {name} {how}"] = put(name, b"v", how)
    for size in (0, 1, 100, 3000, 60000, 65536, 65537):
        calls[f"setxattr of {size}"] = put("user.a", bytes(size))
    for size in (0, 1, 2, 100, 65536, 70000):
        calls[f"getxattr to {size}"] = get("user.a", size)
        calls[f"listxattr to {size}"] = lambda p, s=size: raw("llistxattr", p,
                                                              ctypes.create_string_buffer(s + 1), s)
    acl = oscalls.acl("u::rw-,u:7:rwx,g::r--,m::rwx,o::---")
    calls.update({
        "listxattr": os.listxattr, "fsetxattr": read_only(lambda fd: os.setxattr(fd, "user.a", b"w")),
        "fgetxattr": read_only(lambda fd: os.getxattr(fd, "user.a")),
        "flistxattr": read_only(os.listxattr),
        "fremovexattr": read_only(lambda fd: os.removexattr(fd, "user.a")),
        "fsetxattr of a path": path_only(lambda fd: os.setxattr(fd, "user.a", b"w")),
        "fgetxattr of a path": path_only(lambda fd: os.getxattr(fd, "user.a")),
        "set acl": put(oscalls.ACL_ACCESS, acl), "set default acl": put(oscalls.ACL_DEFAULT, acl),
        "set short acl": put(oscalls.ACL_ACCESS, acl[:-1]),
        "set unordered acl": put(oscalls.ACL_ACCESS, acl[:4] + acl[12:20] + acl[4:12] + acl[20:]),
        "set acl version": put(oscalls.ACL_ACCESS, b"\1" + acl[1:]),
        "set acl without mask": put(oscalls.ACL_ACCESS, oscalls.acl("u::rw-,u:7:rwx,g::r--,o::---")),
        "set minimal acl": put(oscalls.ACL_ACCESS, oscalls.acl("u::rw-,g::-wx,o::r--")),
        "set minimal default acl": put(oscalls.ACL_DEFAULT, oscalls.acl("u::rw-,g::-wx,o::r--")),
        "set empty acl": put(oscalls.ACL_ACCESS, acl[:4]),
        "set capability": put("security.capability", oscalls.cap_xattr()),
        "set selinux": put("security.selinux", b"system_u:object_r:etc_t\0"),
        "setxattr address": lambda p: raw("setxattr", p, "user.a", BAD, 5, 0),
        "setxattr name address": lambda p: raw("setxattr", p, BAD, b"v", 1, 0),
        "getxattr address": lambda p: raw("getxattr", p, "user.a", BAD, 5),
    })
    return calls


# ---- data ----

def sizes():
    calls = {}
    for size in (0, 1, 4, 5, 5000, -1, 1 << 45, 1 << 62):
        calls[f"truncate {size}"] = lambda p, s=size: os.truncate(p, s)
        calls[f"ftruncate {size}"] = read_write(lambda fd, s=size: os.ftruncate(fd, s))
    calls["ftruncate r"] = read_only(lambda fd: os.ftruncate(fd, 0))
    calls["ftruncate of a path"] = path_only(lambda fd: os.ftruncate(fd, 0))
    calls["ftruncate append"] = by_fd(os.O_WRONLY | os.O_APPEND, lambda fd: os.ftruncate(fd, 1))
    for mode in (0, 1, 2, 3, 16, 17, 64, 65, 4, 0x80, 18, 0x100):
        for offset, length in ((0, 2), (0, 9000), (4096, 4096), (-1, 2), (0, 0), (2, -1),
                               ((1 << 63) - 2, 1), (1 << 45, 1)):
            if offset >= 1 << 45 and mode not in (0, 1, 2, 3, 16, 17):  # two reasons to refuse
                continue
            calls[f"fallocate {mode:x} {offset} {length}"] = read_write(
                lambda fd, m=mode, o=offset, l=length: oscalls.fallocate(fd, m, o, l))
    calls["fallocate r"] = read_only(lambda fd: oscalls.fallocate(fd, 0, 0, 9))
    calls["fallocate of a path"] = path_only(lambda fd: oscalls.fallocate(fd, 0, 0, 9))
    calls["fallocate append"] = by_fd(os.O_WRONLY | os.O_APPEND,
                                      lambda fd: oscalls.fallocate(fd, 0, 0, 9))
    calls["punch append"] = by_fd(os.O_WRONLY | os.O_APPEND, lambda fd: oscalls.fallocate(fd, 3, 0, 2))
    return calls


def reads_and_writes():
    def mapped(prot, how):
        def run(fd):
            # Anything but an errno is an address.
            if raw("mmap", None, 4096, prot, how, fd, 0) is not None:
                return "mapped"
            return None
        return run
    calls = {}
    opens = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "path": os.O_PATH,
             "a": os.O_RDWR | os.O_APPEND}
    for name, how in opens.items():
        acts = {
            "read": lambda fd: os.read(fd, 9), "read 0": lambda fd: os.read(fd, 0),
            "pread": lambda fd: os.pread(fd, 9, 2), "pread -1": lambda fd: os.pread(fd, 9, -1),
            "pread far": lambda fd: os.pread(fd, 9, 1 << 62),
            "pread end": lambda fd: os.pread(fd, 9, (1 << 63) - 1),
            "write": lambda fd: os.write(fd, b"xy"), "write 0": lambda fd: os.write(fd, b""),
            "pwrite": lambda fd: os.pwrite(fd, b"xy", 3),
            "pwrite -1": lambda fd: os.pwrite(fd, b"xy", -1),
            "pwrite far": lambda fd: os.pwrite(fd, b"xy", 1 << 62),
            "pwrite end": lambda fd: os.pwrite(fd, b"xy", (1 << 63) - 1),
            "writev": lambda fd: os.writev(fd, [b"a", b"", b"bc"]),
            "writev none": lambda fd: raw("writev", fd, None, 0),
            "writev -1": lambda fd: raw("writev", fd, None, -1),
            "pwritev2 append": lambda fd: os.pwritev(fd, [b"zz"], 0, 0x10),
            "pwritev2 nowait": lambda fd: os.pwritev(fd, [], 0, 8),
            "pwritev2 dsync": lambda fd: os.pwritev(fd, [b"zz"], 0, os.RWF_DSYNC),
            "pwritev2 flags": lambda fd: os.pwritev(fd, [b"zz"], 0, 1 << 30),
            "preadv2 hipri": lambda fd: os.preadv(fd, [bytearray(4)], 0, os.RWF_HIPRI),
            "read address": lambda fd: raw("read", fd, BAD, 4),
            "fsync": os.fsync, "fdatasync": os.fdatasync, "syncfs": oscalls.syncfs,
            "sync range": lambda fd: raw("sync_file_range", fd, 0, 0, 7),
            "sync range flags": lambda fd: raw("sync_file_range", fd, 0, 0, 8),
            "fadvise": lambda fd: raw("posix_fadvise", fd, 0, 0, 4),
            "readahead": lambda fd: raw("readahead", fd, 0, 4096),
            "fionread": lambda fd: struct.unpack("i", fcntl.ioctl(fd, 0x541B, bytes(4))),
            "figetbsz": lambda fd: struct.unpack("i", fcntl.ioctl(fd, FIGETBSZ, bytes(4))),
            "ioctl": lambda fd: fcntl.ioctl(fd, 0x12345678),
            "clone": lambda fd: fcntl.ioctl(fd, FICLONE, fd),
            "map r": mapped(1, mmap.MAP_SHARED), "map w": mapped(3, mmap.MAP_SHARED),
            "map private": mapped(3, mmap.MAP_PRIVATE), "map x": mapped(5, mmap.MAP_PRIVATE),
            "map validate": mapped(1, 3), "map sync": mapped(1, 3 | 0x80000),
        }
        for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 5, -1):
            for offset in (0, 3, 4, -1, 1 << 43):
                acts[f"lseek {offset} {whence}"] = lambda fd, o=offset, w=whence: os.lseek(fd, o, w)
        calls.update({f"{act} {name}": by_fd(how, function) for act, function in acts.items()
                      if name in ("r", "rw") or "lseek" not in act})
    return calls


def descriptors():
    """fcntl and flock."""
    def lock(kind):
        return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 5, 0)

    def lease(kind):
        def run(fd):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
            got = fcntl.fcntl(fd, fcntl.F_GETLEASE)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return got

        return run

    def status(add):
        def run(fd):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | add)
            return fcntl.fcntl(fd, fcntl.F_GETFL)
        return run
    calls = {}
    for name, how in {"r": os.O_RDONLY, "w": os.O_WRONLY, "path": os.O_PATH}.items():
        acts = {"flock sh": lambda fd: fcntl.flock(fd, 1), "flock ex": lambda fd: fcntl.flock(fd, 2),
                "flock un": lambda fd: fcntl.flock(fd, 8), "flock 0": lambda fd: fcntl.flock(fd, 0),
                "lease r": lease(fcntl.F_RDLCK), "lease w": lease(fcntl.F_WRLCK),
                "lease bad": lease(7), "notify": lambda fd: fcntl.fcntl(fd, F_NOTIFY, 2),
                "pipe size": lambda fd: fcntl.fcntl(fd, 1032),
                "hint": lambda fd: fcntl.fcntl(fd, F_SET_RW_HINT, struct.pack("Q", 2)),
                "hint bad": lambda fd: fcntl.fcntl(fd, F_SET_RW_HINT, struct.pack("Q", 99)),
                "seals": lambda fd: fcntl.fcntl(fd, F_ADD_SEALS, 1), "getfl": lambda fd: fcntl.fcntl(
                    fd, fcntl.F_GETFL), "fcntl": lambda fd: fcntl.fcntl(fd, 999)}
        for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK, 9):
            for command in (fcntl.F_SETLK, fcntl.F_GETLK, fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK):
                acts[f"lock {command} {kind}"] = lambda fd, c=command, k=kind: bytes(fcntl.fcntl(
                    fd, c, lock(k)))[:2]
        for flag in (os.O_APPEND, os.O_DIRECT, os.O_NOATIME, os.O_SYNC, os.O_ASYNC):
            acts[f"setfl {flag:o}"] = status(flag)
        calls.update({f"{act} {name}": by_fd(how, function) for act, function in acts.items()})
    return calls


def copies():
    """From the object to a file beside it ("src") and the other way."""
    def between(path, flags, act):
        source = os.open(os.path.dirname(path) + "/src", os.O_RDWR)
        try:
            fd = os.open(path, flags | os.O_NONBLOCK)
            try:
                return act(fd, source)
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def piped(act):
        read_end, write_end = os.pipe()
        try:
            os.write(write_end, b"piped")
            return act(read_end, write_end)
        finally:
            os.close(read_end)
            os.close(write_end)
    calls = {}
    for name, how in {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "path": os.O_PATH,
                      "a": os.O_WRONLY | os.O_APPEND}.items():
        acts = {
            "copy from": lambda fd, s: os.copy_file_range(fd, s, 3),
            "copy to": lambda fd, s: os.copy_file_range(s, fd, 3),
            "copy to far": lambda fd, s: os.copy_file_range(s, fd, 3, 0, (1 << 63) - 2),
            "copy beyond": lambda fd, s: os.copy_file_range(s, fd, 3, 100, 0),
            "copy nothing": lambda fd, s: os.copy_file_range(s, fd, 0),
            "copy itself": lambda fd, s: os.copy_file_range(fd, fd, 2, 0, 1),
            "copy itself apart": lambda fd, s: os.copy_file_range(fd, fd, 2, 0, 2),
            "copy flags": lambda fd, s: raw("copy_file_range", fd, None, s, None, 3, 1),
            "sendfile from": lambda fd, s: os.sendfile(s, fd, 0, 3),
            "sendfile to": lambda fd, s: os.sendfile(fd, s, 0, 3),
            "splice from": lambda fd, s: piped(lambda r, w: oscalls.splice(fd, w, 3)),
            "splice to": lambda fd, s: piped(lambda r, w: oscalls.splice(r, fd, 3)),
            "clone": lambda fd, s: fcntl.ioctl(fd, FICLONE, s),
        }
        calls.update({f"{act} {name}": lambda p, h=how, a=act_on: between(p, h, a)
                      for act, act_on in acts.items()})
    return calls


# ---- names ----

def names():
    def linked(path, flags):
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            raw("linkat", fd, "", AT_FDCWD, os.path.dirname(path) + "/new", flags)
        finally:
            os.close(fd)

    def link(path, flags):
        raw("linkat", AT_FDCWD, path, AT_FDCWD, os.path.dirname(path) + "/new", flags)
    calls = {"link": lambda p: link(p, 0), "link follow": lambda p: link(p, FOLLOW),
             "link flags": lambda p: link(p, 1), "link empty": lambda p: linked(p, EMPTY),
             "unlink": os.unlink, "rmdir": os.rmdir, "unlinkat flags": lambda p: raw(
                 "unlinkat", AT_FDCWD, p, 1), "mkdir": os.mkdir, "mkdir 7777": lambda p: os.mkdir(
                     p, 0o7777), "symlink": lambda p: os.symlink("t", p),
             "rename": lambda p: os.rename(p, os.path.dirname(p) + "/new"),
             "rename back": lambda p: (os.rename(p, p + "2"), os.rename(p + "2", p)) and None,
             "remove and make": lambda p: (os.unlink(p), os.close(os.open(
                 p, os.O_CREAT | os.O_EXCL)))[1],
             "tmpfile": lambda p: os.close(oscalls.tmpfile(p)),
             "tmpfile r": lambda p: os.close(oscalls.tmpfile(p, os.O_RDONLY)),
             "swapon": lambda p: raw("swapon", p, 0),
             "exec": lambda p: os.execv(p, ["x"])}
    for kind, rdev in {"reg": (stat.S_IFREG, 0), "none": (0, 0), "fifo": (stat.S_IFIFO, 0),
                       "sock": (stat.S_IFSOCK, 0), "chr": (stat.S_IFCHR, os.makedev(1, 3)),
                       "blk": (stat.S_IFBLK, os.makedev(1, 0)), "lnk": (stat.S_IFLNK, 0),
                       "dir": (stat.S_IFDIR, 0), "bad": (0o150000, 0)}.items():
        calls[f"mknod {kind}"] = lambda p, t=rdev[0], d=rdev[1]: os.mknod(p, t | 0o640, d)
    return calls


EVERY = {**modes(), **owners(), **times(), **flags(), **looks(), **xattrs(), **sizes(),
         **reads_and_writes(), **descriptors(), **copies(), **names()}
