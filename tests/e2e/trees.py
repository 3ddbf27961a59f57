"""Directory trees: built from a declaration, and compared by snapshots.

A declaration is a dict of name -> object.  A str or bytes is a file's
content, a dict is a directory; the classes below say more.  Modes,
owners and times are set last, so a declaration is exact.
"""

import hashlib
import os
import stat
import subprocess
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import oscalls

OLD = 1_000_000_000 * 10**9 + 123_456_789  # a time no test makes by accident


@dataclass
class Attrs:
    mode: int | None = None
    owner: tuple | None = None
    xattrs: dict = field(default_factory=dict)
    mtime: int | None = None


@dataclass
class File(Attrs):
    data: bytes | str = b""
    size: int | None = None  # a sparse file of this size, after data


@dataclass
class Dir(Attrs):
    children: dict = field(default_factory=dict)


@dataclass
class Symlink(Attrs):
    target: str = "target"


@dataclass
class Node(Attrs):
    """A device, fifo or socket: type is one of stat.S_IFCHR ... S_IFSOCK."""
    type: int = stat.S_IFIFO
    rdev: tuple = (0, 0)


@dataclass
class Hard:
    """A further name for another path of the same tree, built after everything else.

    A path that starts with ./ is one in the directory of the further name.
    """
    path: str


def whiteout():
    return Node(type=stat.S_IFCHR, rdev=(0, 0), mode=0o000)


def opaque(children=None, value="y", prefix="trusted", **attrs):
    xattrs = {f"{prefix}.overlay.opaque": value, **attrs.pop("xattrs", {})}
    return Dir(children=children or {}, xattrs=xattrs, **attrs)


def xwhiteout(prefix="trusted"):
    return File(xattrs={f"{prefix}.overlay.whiteout": ""})


def _encode(value):
    return value.encode() if isinstance(value, str) else value


def _make(path, spec):
    if isinstance(spec, File):
        with open(path, "wb") as file:
            file.write(_encode(spec.data))
            if spec.size is not None:
                file.truncate(spec.size)
    elif isinstance(spec, Dir):
        os.makedirs(path, exist_ok=True)
        _fill(path, spec.children)
    elif isinstance(spec, Symlink):
        os.symlink(spec.target, path)
    else:
        mode = spec.mode if spec.mode is not None else 0o644
        os.mknod(path, spec.type | mode, os.makedev(*spec.rdev))


def _normalise(spec):
    if isinstance(spec, (str, bytes)):
        return File(data=spec)
    return Dir(children=spec) if isinstance(spec, dict) else spec


def _fill(root, children):
    for name, spec in children.items():
        if isinstance(spec, Hard):
            continue
        spec = _normalise(spec)
        path = os.path.join(root, name)
        _make(path, spec)
        _dress(path, spec)


def _dress(path, spec):
    if spec.owner:
        os.chown(path, *spec.owner, follow_symlinks=False)
    if spec.mode is not None and not isinstance(spec, Symlink):
        os.chmod(path, spec.mode)
    for name, value in spec.xattrs.items():
        os.setxattr(path, name, _encode(value), follow_symlinks=False)
    if spec.mtime is not None:
        os.utime(path, ns=(spec.mtime, spec.mtime), follow_symlinks=False)


def _hard_links(root, top, children):
    for name, spec in children.items():
        path = os.path.join(root, name)
        if isinstance(spec, Hard):
            start = root if spec.path.startswith("./") else top
            os.link(os.path.join(start, spec.path), path, follow_symlinks=False)
        elif isinstance(spec, (dict, Dir)):
            _hard_links(path, top, spec if isinstance(spec, dict) else spec.children)


def build(root, spec):
    """Make the tree declared by spec (a dict or a Dir) at root, which may exist."""
    old = os.umask(0o022)
    try:
        spec = _normalise(spec)
        _make(root, spec)
        _hard_links(root, root, spec.children)
        _dress(root, spec)
    finally:
        os.umask(old)


class Entry(NamedTuple):
    type: str
    mode: int
    owner: tuple
    rdev: int
    content: object
    mtime: int | None
    xattrs: tuple
    nlink: int | None
    ino: tuple | None


def _content(path, st):
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(st.st_mode):
        return None
    if st.st_size > 1 << 26:
        return ("sparse", st.st_size, tuple(data_ranges(path)))
    with open(path, "rb") as file:
        data = file.read()
    return data if len(data) < 64 else (len(data), hashlib.sha256(data).hexdigest())


def data_ranges(path):
    """The (start, end) ranges of a file that hold data, as SEEK_DATA tells them."""
    fd = os.open(path, os.O_RDONLY)
    ranges, at, size = [], 0, os.fstat(fd).st_size
    try:
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            ranges.append((start, at))
    finally:
        os.close(fd)
    return ranges


def xattrs(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def entry(path, *, times=True, nlink=False, ino=False):
    st = os.lstat(path)
    is_dir = stat.S_ISDIR(st.st_mode)
    return Entry(
        type=stat.filemode(st.st_mode)[0],
        mode=stat.S_IMODE(st.st_mode),
        owner=(st.st_uid, st.st_gid),
        rdev=st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else 0,
        content=_content(path, st),
        mtime=st.st_mtime_ns if times else None,
        xattrs=xattrs(path),
        nlink=st.st_nlink if nlink and not is_dir else None,
        ino=(st.st_dev, st.st_ino) if ino else None)


def snapshot(root, **kwargs):
    """Map of relative path -> Entry of everything below root, "." being root itself."""
    result = {".": entry(root, **kwargs)}
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(directory, name)
            result[os.path.relpath(path, root)] = entry(path, **kwargs)
    return result


def difference(left, right):
    """Human-readable lines of what differs between two snapshots; empty when equal."""
    lines = []
    for path in sorted(left.keys() | right.keys()):
        one, two = left.get(path), right.get(path)
        if one == two:
            continue
        if one is None or two is None:
            lines.append(f"{path}: only on the {'right' if one is None else 'left'}")
            continue
        lines += [f"{path}: {name}: {a!r} != {b!r}"
                  for name, a, b in zip(Entry._fields, one, two) if a != b]
    return lines


def dirent_faults(root):
    """Entries whose d_type or d_ino is not what lstat says, below root."""
    kinds = {"d": "dir", "-": "reg", "l": "lnk", "c": "chr", "b": "blk", "p": "fifo", "s": "sock"}
    faults = []
    for directory, _dirs, _files in os.walk(root):
        for found in oscalls.read_directory(directory):
            if found.name == "..":
                continue
            st = os.lstat(os.path.join(directory, found.name))
            want = (st.st_ino, kinds[stat.filemode(st.st_mode)[0]])
            if (found.ino, found.type) != want:
                faults.append((os.path.join(directory, found.name), found, want))
    return faults


def is_whiteout(path):
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def remove(root):
    """rm -rf that also removes what is protected by file flags."""
    if subprocess.run(["rm", "-rf", root], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    for directory, dirs, files in os.walk(root, topdown=True):
        for path in [directory] + [os.path.join(directory, name) for name in dirs + files]:
            if not os.path.islink(path) and (os.path.isdir(path) or os.path.isfile(path)):
                oscalls.change_flags(path, drop=oscalls.FS_IMMUTABLE | oscalls.FS_APPEND)
    subprocess.run(["rm", "-rf", root], check=True)


def wait_until(condition, seconds=5.0):
    """Poll until condition() is true; the last answer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data, flags="wb"):
    with open(path, flags) as file:
        file.write(_encode(data))
