"""Objects over their life: open files without names, links counted, locks, pipes, watches."""

import fcntl
import os
import select
import signal
import socket
import stat
import struct
import threading

import pytest

import oscalls
import table
from table import Row, attempt
from trees import Dir, File, Node, Symlink

DATA = b"data of the file"
TREE = {"f": File(data=DATA), "g": File(data="other"), "d": Dir(children={"a": {}, "b": {}, "x": ""}),
        "e": {}, "l": Symlink(target="f"), "p": Node(mode=0o666)}


def row(name, run, want="ok", **kwargs):
    return Row(name, Dir(mode=0o777, children=TREE), run, want, **kwargs)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


# ---- open files without names ----

def life_after(remove):
    """Everything that works on a descriptor goes on working when the name is gone."""
    def run(path):
        fd = os.open(path + "/f", os.O_RDWR)
        reader = os.open(path + "/f", os.O_RDONLY)
        ino = os.fstat(fd).st_ino
        remove(path)
        seen = [os.fstat(fd).st_nlink, os.pread(reader, 99, 0)]
        os.pwrite(fd, b"more", len(DATA))
        seen.append(os.pread(reader, 99, 0))
        os.ftruncate(fd, 6)
        os.fchmod(fd, 0o2640)
        os.fchown(fd, 5, 6)
        os.utime(fd, ns=(7, 8))
        os.setxattr(fd, "user.a", b"1")
        st = os.fstat(reader)
        seen += [st.st_size, oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns,
                 os.getxattr(reader, "user.a"), os.listxattr(reader), st.st_ino == ino, st.st_nlink]
        os.posix_fallocate(fd, 0, 50)
        os.fsync(fd)
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        os.write(again, b"again")
        seen.append(os.pread(fd, 7, 0))
        os.close(again)
        seen.append(attempt(oscalls.link_fd, fd, path + "/back"))
        os.close(fd)
        os.close(reader)
        return seen
    return run


GONE = [0, DATA, DATA + b"more", 6, oct(0o102640), 5, 6, 8, b"1", ["user.a"], True, 0, b"againo\0",
        "ENOENT"]


def test_unlinked_files(stage):
    # A lower file without a name cannot be copied up by the kernel.
    table.run(stage, [
        row("unlink", life_after(lambda p: os.unlink(p + "/f")), GONE),
        row("rename over", life_after(lambda p: os.rename(p + "/g", p + "/f")), GONE),
        row("exchange, unlink", life_after(lambda p: (oscalls.renameat2(
            p + "/g", p + "/f", oscalls.RENAME_EXCHANGE), os.unlink(p + "/g"))), GONE),
        row("rename, unlink", life_after(lambda p: (os.rename(p + "/f", p + "/d/y"),
                                                    os.unlink(p + "/d/y"))), GONE),
        row("link, unlink both", life_after(lambda p: (os.link(p + "/f", p + "/h"),
                                                       os.unlink(p + "/f"), os.unlink(p + "/h"))),
            GONE),
    ], kernel=lambda name: stage.placement != "upper")


def tmpfile(path):
    fd = oscalls.tmpfile(path, mode=0o640)
    os.write(fd, b"temporary")
    seen = [os.fstat(fd).st_nlink, sorted(os.listdir(path)) == sorted(TREE)]
    oscalls.link_fd(fd, path + "/t")
    seen += [os.fstat(fd).st_nlink, read(path + "/t"), os.stat(path + "/t").st_ino == os.fstat(
        fd).st_ino, attempt(oscalls.link_fd, fd, path + "/t")]
    oscalls.link_fd(fd, path + "/d/t2")
    seen.append(os.fstat(fd).st_nlink)
    os.unlink(path + "/t")
    os.unlink(path + "/d/t2")
    seen += [os.fstat(fd).st_nlink, attempt(oscalls.link_fd, fd, path + "/t")]
    os.close(fd)
    closed = oscalls.tmpfile(path, flags=os.O_RDWR | os.O_EXCL)
    seen.append(attempt(oscalls.link_fd, closed, path + "/t"))
    os.close(closed)
    return seen


def removed_directory(path):
    """An open directory that is gone: empty, and nothing can be made in it."""
    fd = os.open(path + "/e", os.O_RDONLY)
    os.chdir(path + "/e")
    os.rmdir(path + "/e")
    seen = [os.fstat(fd).st_nlink, os.listdir(fd), attempt(write, "new", b""), attempt(os.mkdir, "s"),
            attempt(os.stat, ".."), attempt(os.listdir, ".")]
    os.close(fd)
    os.chdir("/")
    return seen[:4] + [isinstance(seen[4], os.stat_result)]


def test_tmpfile_and_removed_directories(stage):
    table.run(stage, [
        row("tmpfile", tmpfile, [0, True, 1, b"temporary", True, "EEXIST", 2, 0, "ENOENT",
                                 "ENOENT"]),
        row("directory", removed_directory, [0, [], "ENOENT", "ENOENT", True]),
    ], kernel=lambda name: name == "directory")


# ---- link counts ----

def count(path):
    return os.stat(path).st_nlink


def directories(path):
    seen = [count(path + "/d"), count(path + "/e")]
    os.mkdir(path + "/d/c")
    seen.append(count(path + "/d"))
    os.rmdir(path + "/d/a")
    seen.append(count(path + "/d"))
    os.rename(path + "/d/b", path + "/e/b")
    seen += [count(path + "/d"), count(path + "/e")]
    os.rename(path + "/e", path + "/d/e")
    seen.append(count(path + "/d"))
    os.mkdir(path + "/z")
    os.rename(path + "/z", path + "/d/c")
    seen.append(count(path + "/d"))
    write(path + "/d/file", b"")
    os.symlink("a", path + "/d/link")
    seen.append(count(path + "/d"))
    oscalls.renameat2(path + "/d/file", path + "/d/e/b", oscalls.RENAME_EXCHANGE)
    seen += [count(path + "/d"), count(path + "/d/e")]
    return seen


def files(path):
    seen = [count(path + "/f")]
    os.link(path + "/f", path + "/h")
    os.link(path + "/h", path + "/d/h")
    seen.append(count(path + "/f"))
    fd = os.open(path + "/d/h", os.O_RDONLY)
    os.unlink(path + "/f")
    seen.append(os.fstat(fd).st_nlink)
    os.rename(path + "/g", path + "/h")
    seen.append(os.fstat(fd).st_nlink)
    os.rename(path + "/d/h", path + "/back")
    seen.append(count(path + "/back"))
    os.link(path + "/l", path + "/l2", follow_symlinks=False)
    seen += [os.lstat(path + "/l").st_nlink, os.readlink(path + "/l2")]
    os.close(fd)
    return seen


def test_link_counts(stage):
    # The kernel does not count what is in a merged directory.
    table.run(stage, [
        row("directories", directories, [4, 2, 5, 4, 3, 3, 4, 4, 4, 5, 2]),
        row("files", files, [1, 3, 2, 1, 1, 2, "f"]),
    ], kernel=lambda name: name == "directories")


# ---- rename over what is open ----

def replace(path):
    """The classic way to change a file: readers have the old or the new one."""
    old = os.open(path + "/f", os.O_RDONLY)
    write(path + "/new", b"new content")
    os.rename(path + "/new", path + "/f")
    seen = [os.read(old, 99), read(path + "/f"), count(path + "/f"), os.fstat(old).st_nlink,
            os.path.exists(path + "/new")]
    os.close(old)
    return seen


def follow(path):
    """A descriptor follows the file, not the name."""
    fd = os.open(path + "/f", os.O_RDWR)
    os.rename(path + "/f", path + "/d/moved")
    write(path + "/f", b"another")
    os.pwrite(fd, b"DATA", 0)
    seen = [read(path + "/d/moved"), read(path + "/f")]
    os.close(fd)
    return seen


def exchange(path):
    a, b = os.open(path + "/f", os.O_RDONLY), os.open(path + "/g", os.O_RDONLY)
    oscalls.renameat2(path + "/f", path + "/g", oscalls.RENAME_EXCHANGE)
    seen = [read(path + "/f"), read(path + "/g"), os.read(a, 99), os.read(b, 99)]
    os.close(a)
    os.close(b)
    oscalls.renameat2(path + "/f", path + "/d", oscalls.RENAME_EXCHANGE)
    return seen + [read(path + "/d"), sorted(os.listdir(path + "/f"))]


def test_rename_and_open_files(stage):
    table.run(stage, [
        row("replace", replace, [DATA, b"new content", 1, 0, False]),
        row("follow", follow, [b"DATA" + DATA[4:], b"another"]),
        row("exchange", exchange, [b"other", DATA, DATA, b"other", b"other", ["a", "b", "x"]]),
    ], kernel=lambda name: name == "replace" and stage.placement != "upper")


# ---- pipes and sockets ----

def fifo(path):
    got = []
    reader = threading.Thread(target=lambda: got.append(read(path + "/p")))
    reader.start()
    write(path + "/p", b"through the pipe")
    reader.join()
    os.chmod(path + "/p", 0o600)
    fd = os.open(path + "/p", os.O_RDWR | os.O_NONBLOCK)
    os.rename(path + "/p", path + "/q")
    other = os.open(path + "/q", os.O_WRONLY | os.O_NONBLOCK)
    os.write(other, b"moved")
    got.append(os.read(fd, 9))
    os.close(fd)
    os.close(other)
    return got, stat.S_ISFIFO(os.stat(path + "/q").st_mode)


def unix_socket(path):
    os.chdir(path)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("sock")
        mode = stat.S_ISSOCK(os.stat("sock").st_mode)
        again = attempt(socket.socket(socket.AF_UNIX).bind, "sock")
        server.listen()
        os.rename("sock", "sock2")
        client.connect("sock2")
        with server.accept()[0] as connection:
            client.send(b"hello")
            got = connection.recv(9)
        os.unlink("sock2")
        refused = attempt(socket.socket(socket.AF_UNIX).connect, "sock2")
    return mode, again, got, refused


def test_pipes_and_sockets(stage):
    table.run(stage, [
        row("fifo", fifo, ([b"through the pipe", b"moved"], True)),
        row("socket", unix_socket, (True, "EADDRINUSE", b"hello", "ENOENT")),
    ])


# ---- locks and leases ----

def other_process(function):
    """What function returns (a small string), in another process."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, str(function()).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer


def try_lock(path, kind, start=0, length=0, how="posix"):
    def attempt_lock():
        with open(path, "rb+") as file:
            if how == "flock":
                return attempt(fcntl.flock, file, kind | fcntl.LOCK_NB)
            return attempt(fcntl.lockf, file, kind | fcntl.LOCK_NB, length, start)
    return other_process(attempt_lock)


def locks(path):
    f = path + "/f"
    with open(f, "rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 4, 2)
        seen = [try_lock(f, fcntl.LOCK_EX, 0, 2), try_lock(f, fcntl.LOCK_SH, 3, 1),
                try_lock(f, fcntl.LOCK_EX, 6, 1)]
        file.write(b"changed while locked")
        file.flush()
        os.rename(f, f + "2")
        seen.append(try_lock(f + "2", fcntl.LOCK_SH, 3, 1))
        with open(f + "2", "rb"):
            pass  # the close of any descriptor of the file gives the process' locks up
        seen.append(try_lock(f + "2", fcntl.LOCK_SH, 3, 1))
    with open(path + "/g", "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        file.write(b"x")
        file.flush()
        seen += [try_lock(path + "/g", fcntl.LOCK_SH, how="flock"),
                 try_lock(path + "/g", fcntl.LOCK_EX, how="flock")]
    return seen


def open_file_locks(path):
    """Locks of an open file description (F_OFD_SETLK), kept until its last close."""
    def request(kind):
        return struct.pack("hhqqi", kind, os.SEEK_SET, 0, 5, 0)
    one, two = os.open(path + "/f", os.O_RDWR), os.open(path + "/f", os.O_RDWR)
    fcntl.fcntl(one, fcntl.F_OFD_SETLK, request(fcntl.F_WRLCK))
    os.write(one, b"copied up")
    seen = [attempt(fcntl.fcntl, two, fcntl.F_OFD_SETLK, request(fcntl.F_RDLCK))]
    os.close(os.open(path + "/f", os.O_RDONLY))
    seen.append(attempt(fcntl.fcntl, two, fcntl.F_OFD_SETLK, request(fcntl.F_RDLCK)))
    os.close(one)
    seen.append(isinstance(attempt(fcntl.fcntl, two, fcntl.F_OFD_SETLK, request(fcntl.F_RDLCK)),
                           bytes))
    os.close(two)
    return seen


def leases(path):
    """A read lease is broken by an open for writing."""
    fd = os.open(path + "/f", os.O_RDONLY)
    came = []
    signal.signal(signal.SIGIO, lambda *_: (came.append(1), fcntl.fcntl(
        fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)))
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    held = fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    opened = other_process(lambda: attempt(
        os.close, os.open(path + "/f", os.O_WRONLY)))
    os.close(fd)
    return held, opened, bool(came)


def test_locks_and_leases(stage):
    table.run(stage, [
        row("locks", locks, ["ok", "EAGAIN", "ok", "EAGAIN", "ok", "ok", "EAGAIN"]),
        row("open file locks", open_file_locks, ["EAGAIN", "EAGAIN", True]),
        row("leases", leases, (True, "ok", True)),
    ])


# ---- inotify ----

IN = {"access": 1, "modify": 2, "attrib": 4, "close_write": 8, "close": 16, "open": 32,
      "moved_from": 64, "moved_to": 128, "create": 256, "delete": 512, "delete_self": 1024,
      "move_self": 2048}


def watched(path, act, names=("",)):
    """The names of the events that act() causes, reads and opens left out."""
    fd = oscalls.inotify_init()
    mask = sum(IN.values()) & ~(IN["open"] | IN["access"] | IN["close"])
    for name in names:
        oscalls.inotify_add_watch(fd, path + name, mask)
    act(path)
    events = []
    while select.select([fd], [], [], 0.05)[0]:
        raw, at = os.read(fd, 65536), 0
        while at < len(raw):
            _wd, bits, _cookie, length = struct.unpack_from("iIII", raw, at)
            name = raw[at + 16:at + 16 + length].rstrip(b"\0").decode()
            events += [f"{kind} {name}".strip() for kind, bit in IN.items() if bits & bit]
            at += 16 + length
    os.close(fd)
    return events


def test_inotify(stage):
    acts = {
        "create": (lambda p: write(p + "/n", b"x"), ["create n", "modify n", "close_write n"]),
        "mkdir": (lambda p: os.mkdir(p + "/n"), ["create n"]),
        "symlink": (lambda p: os.symlink("t", p + "/n"), ["create n"]),
        "link": (lambda p: os.link(p + "/f", p + "/n"), ["create n"]),
        "unlink": (lambda p: os.unlink(p + "/f"), ["delete f"]),
        "rmdir": (lambda p: os.rmdir(p + "/e"), ["delete e"]),
        "rename": (lambda p: os.rename(p + "/f", p + "/n"), ["moved_from f", "moved_to n"]),
        "chmod": (lambda p: os.chmod(p + "/f", 0o600), ["attrib f"]),
        "truncate": (lambda p: os.truncate(p + "/f", 2), ["modify f"]),
        "utime": (lambda p: os.utime(p + "/f", ns=(1, 2)), ["attrib f"]),
        "setxattr": (lambda p: os.setxattr(p + "/f", "user.a", b""), ["attrib f"]),
    }
    rows = [row(name, lambda d, act=act: watched(d, act), want) for name, (act, want) in acts.items()]
    # What a removed watch says at last ("ignored") is not of these events.
    rows.append(row("the file", lambda d: watched(d, lambda p: (
        os.chmod(p + "/f", 0o600), os.rename(p + "/f", p + "/n"), os.unlink(p + "/n")), ("/f",)),
                    ["attrib", "move_self", "attrib", "delete_self"]))
    # The kernel loses watches of lower files when they are copied up.
    table.run(stage, rows, kernel=lambda name: stage.placement != "upper")


# ---- the file system ----

def test_statvfs(stage):
    def run(path):
        st = os.statvfs(path)
        fd = os.open(path + "/f", os.O_RDONLY)
        same = os.fstatvfs(fd)
        os.close(fd)
        return (st.f_namemax, st.f_bsize, st.f_frsize, 0 < st.f_bavail <= st.f_bfree <= st.f_blocks,
                0 < st.f_ffree <= st.f_files, same.f_blocks == st.f_blocks,
                os.pathconf(path, "PC_NAME_MAX"))
    table.run(stage, [row("statvfs", run, (255, 4096, 4096, True, True, True, 255))])


@pytest.mark.deviation("D-17")
def test_file_system_id(stage):
    """The number statfs(2) tells file systems apart by: FUSE has none."""
    table.run(stage, [row("fsid", lambda d: os.statvfs(d).f_fsid != 0, stage.pick(True, False))])


def test_stat_of_everything(stage):
    def run(path):
        st = os.stat(path + "/f")
        link = os.lstat(path + "/l")
        return (st.st_size, st.st_blocks > 0, st.st_blksize, st.st_nlink, link.st_size,
                stat.S_ISLNK(link.st_mode), oct(link.st_mode & 0o777),
                len({os.lstat(os.path.join(path, name)).st_dev for name in TREE}),
                len({os.lstat(os.path.join(path, name)).st_ino for name in TREE}))
    table.run(stage, [row("stat", run, (len(DATA), True, 4096, 1, 1, True, oct(0o777), 1, len(TREE)))],
              kernel=lambda name: True)


@pytest.mark.parametrize("change", ["chmod", "write", "link", "rename", "truncate", "unlink-other"])
def test_identity_stays(stage, change):
    """Inode numbers from the first look on, over changes and a remount."""
    root = stage.prepare({name: spec for name, spec in TREE.items()})

    def look(name="f"):
        st = os.lstat(f"{root}/{name}")
        return st.st_ino
    before, other, name = look(), look("d"), "f"
    if change == "chmod":
        os.chmod(root + "/f", 0o600)
    elif change == "write":
        write(root + "/f", b"x")
    elif change == "link":
        os.link(root + "/f", root + "/h")
        name = "h"
    elif change == "rename":
        os.rename(root + "/f", root + "/d/y")
        name = "d/y"
    elif change == "truncate":
        os.truncate(root + "/f", 3)
    else:
        os.unlink(root + "/g")
    assert look(name) == before and look("d") == other
    stage.remount()
    assert look(name) == before and look("d") == other
