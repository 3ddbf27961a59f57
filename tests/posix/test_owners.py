"""Owner, group and mode: who may change them, what a change takes away, what new objects get."""

import os
import stat

import pytest

import oscalls
import table
from oscalls import ACL_ACCESS, ACL_DEFAULT, UTIME_NOW, UTIME_OMIT, acl
from table import EVERYBODY, GID, OTHER, OWNER, ROOT, UID, Row, Who, attempt, permits
from trees import Dir, File, Node, Symlink

OWN = 4000  # a group of the owner's that the file does not have
OWNER_IN = Who("owner in group", UID, UID, (GID, OWN))
OWNER_OF = Who("owner of group", UID, GID, (OWN,))
OWNER_OUT = Who("owner out of group", UID, UID, (OWN,))
OWNERS = (OWNER_IN, OWNER_OF, OWNER_OUT)


def mode_of(path):
    return oct(stat.S_IMODE(os.lstat(path).st_mode))


def owners_of(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))


def in_group(who, group=GID):
    return who.uid == 0 or who.is_in(group)


def without_set_ids(mode, who, group=GID):
    """What writing or changing the owner leaves of a file's mode (Linux 6.2 and later)."""
    mode &= ~stat.S_ISUID
    if mode & stat.S_ISGID and (mode & stat.S_IXGRP or not in_group(who, group)):
        mode &= ~stat.S_ISGID
    return mode


# ---- chown ----

SET_IDS = (0o4755, 0o2755, 0o6755, 0o2745, 0o6644, 0o0644, 0o2644)


def chown_want(who, uid, gid):
    if who.uid == 0:
        return "ok"
    if who.uid != UID:
        return "ok" if uid == -1 and gid == -1 else "EPERM"
    good_uid = uid in (-1, UID)
    good_gid = gid in (-1, GID) or who.is_in(gid)
    return "ok" if good_uid and good_gid else "EPERM"


def test_chown(stage):
    rows = []
    for who in (ROOT, OTHER) + OWNERS:
        for uid, gid in ((-1, -1), (UID, -1), (-1, GID), (-1, OWN), (-1, 5), (5, -1), (UID, OWN),
                         (5, 5)):
            want = chown_want(who, uid, gid)
            for mode in SET_IDS:
                # Nothing to change is nothing for permission to say about, but not for the bits.
                after = without_set_ids(mode, who) if want == "ok" else mode
                if want == "ok" and who == OTHER:
                    continue
                rows.append(Row(f"chown {uid} {gid} {mode:o}", {"f": File(mode=mode,
                                                                         owner=(UID, GID))},
                                lambda d, u=uid, g=gid: os.chown(d + "/f", u, g), want, who,
                                lambda d: owners_of(d + "/f"),
                                (UID if uid == -1 or want != "ok" else uid,
                                 GID if gid == -1 or want != "ok" else gid, oct(after))))
            # A directory keeps its bits.
            rows.append(Row(f"chown dir {uid} {gid}", {"f": Dir(mode=0o6755, owner=(UID, GID))},
                            lambda d, u=uid, g=gid: os.chown(d + "/f", u, g), want, who,
                            lambda d: mode_of(d + "/f"), oct(0o6755)))
    table.run(stage, rows)


def test_chown_of_other_objects(stage):
    objects = {"symlink": Symlink(owner=(UID, GID)), "fifo": Node(mode=0o644, owner=(UID, GID)),
               "socket": Node(type=stat.S_IFSOCK, mode=0o644, owner=(UID, GID)),
               "device": Node(type=stat.S_IFCHR, rdev=(1, 3), mode=0o644, owner=(UID, GID))}
    rows = [Row(name, {"f": spec}, lambda d: os.lchown(d + "/f", -1, OWN),
                "EPERM" if who == OTHER else "ok", who,
                lambda d: owners_of(d + "/f")[:2], (UID, GID if who == OTHER else OWN))
            for name, spec in objects.items() for who in (ROOT, OTHER, OWNER_IN)]
    table.run(stage, rows)


# ---- chmod ----

def test_chmod(stage):
    rows = []
    for who in (ROOT, OTHER) + OWNERS:
        for mode in (0, 0o777, 0o1755, 0o2755, 0o4755, 0o6755, 0o7777, 0o2745, 0o644):
            for kind in ("file", "dir"):
                want = "EPERM" if who == OTHER else "ok"
                after = 0o600 if who == OTHER else mode
                if after & stat.S_ISGID and not in_group(who) and who != OTHER:
                    after &= ~stat.S_ISGID
                spec = (Dir if kind == "dir" else File)(mode=0o600, owner=(UID, GID))
                rows.append(Row(f"chmod {kind} {mode:o}", {"f": spec},
                                lambda d, mode=mode: os.chmod(d + "/f", mode), want, who,
                                lambda d: mode_of(d + "/f"), oct(after)))
    table.run(stage, rows)


def test_chmod_through_a_symlink_and_a_descriptor(stage):
    def by_fd(path):
        fd = os.open(path + "/f", os.O_RDONLY)
        os.fchmod(fd, 0o751)
        os.close(fd)
    tree = {"f": File(mode=0o644), "l": Symlink(target="f")}
    table.run(stage, [Row(name, tree, call, then=lambda d: mode_of(d + "/f"), after=oct(0o751))
                      for name, call in {"symlink": lambda d: os.chmod(d + "/l", 0o751),
                                         "fchmod": by_fd}.items()])


# ---- what writing takes away ----

def with_fd(path, flags, function):
    fd = os.open(path, flags)
    try:
        function(fd)
    finally:
        os.close(fd)


CHANGES = {
    "write": lambda p: with_fd(p, os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "truncate": lambda p: os.truncate(p, 1),
    "truncate-longer": lambda p: os.truncate(p, 10),
    "open-trunc": lambda p: with_fd(p, os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "fallocate": lambda p: with_fd(p, os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 100)),
    "copy-range": lambda p: with_fd(p, os.O_RDWR, lambda fd: with_fd(
        p + ".src", os.O_RDONLY, lambda source: os.copy_file_range(source, fd, 3))),
}


def test_changes_take_set_id_bits_away(stage):
    rows = []
    for name, change in CHANGES.items():
        for who in EVERYBODY:
            for mode in (0o4777, 0o2777, 0o6777, 0o2767, 0o6666, 0o2666, 0o0777):
                after = mode if who == ROOT else without_set_ids(mode, who)
                rows.append(Row(f"{name} {mode:o}",
                                {"f": File(data="data", mode=mode, owner=(UID, GID)), "f.src": "more"},
                                lambda d, change=change: change(d + "/f"), "ok", who,
                                lambda d: mode_of(d + "/f"), oct(after)))
    # A copy between descriptors does not ask again whose it is on kernel overlayfs.
    table.run(stage, rows, kernel=lambda name: "copy-range" in name)


def test_reading_takes_nothing_away(stage):
    rows = [Row(f"{mode:o}", {"f": File(data="data", mode=mode, owner=(UID, GID))},
                lambda d: with_fd(d + "/f", os.O_RDWR, lambda fd: os.read(fd, 4)), "ok", who,
                lambda d: mode_of(d + "/f"), oct(mode))
            for who in EVERYBODY for mode in (0o6777, 0o2767)]
    table.run(stage, rows)


CAPABILITY = "security.capability"


def test_changes_take_capabilities_away(stage):
    tree = {"f": File(data="data", mode=0o777, owner=(UID, GID),
                      xattrs={CAPABILITY: oscalls.cap_xattr()}), "f.src": "more"}
    gone = dict(CHANGES, chown=lambda p: os.chown(p, -1, -1))
    kept = {"chmod": lambda p: os.chmod(p, 0o755), "utime": os.utime,
            "rename": lambda p: os.rename(p, p + "2") or os.rename(p + "2", p),
            "link": lambda p: os.link(p, p + "2")}
    rows = [Row(name, Dir(mode=0o777, children=tree), lambda d, call=call: call(d + "/f"), "ok", who,
                lambda d: CAPABILITY in os.listxattr(d + "/f"), name in kept)
            for who in (ROOT, OWNER) for name, call in {**gone, **kept}.items()]
    table.run(stage, rows, kernel=lambda name: name == "copy-range")


# ---- times ----

def utime_want(who, mode, access, modify):
    if access == modify == UTIME_OMIT:
        return "ok"
    if who.uid in (0, UID):
        return "ok"
    if access == modify == UTIME_NOW:
        return "ok" if permits(who, mode, 2) else "EACCES"
    return "EPERM"


def test_utimensat(stage):
    values = (UTIME_NOW, UTIME_OMIT, 123)
    rows = [Row(f"{access} {modify} {mode:o}", {"f": File(mode=mode, owner=(UID, GID))},
                lambda d, a=access, m=modify: oscalls.utimensat(d + "/f", a, m),
                utime_want(who, mode, access, modify), who)
            for access in values for modify in values for mode in (0o644, 0o664, 0o666, 0o400)
            for who in EVERYBODY]
    table.run(stage, rows)


# ---- new objects ----

MAKERS = {
    "file": lambda p, mode: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, mode)),
    "excl": lambda p, mode: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)),
    "mknod": lambda p, mode: os.mknod(p, stat.S_IFREG | mode),
    "dir": os.mkdir,
    "fifo": os.mkfifo,
    "socket": lambda p, mode: os.mknod(p, stat.S_IFSOCK | mode),
    "tmpfile": lambda p, mode: linked_tmpfile(p, mode),  # pylint: disable=unnecessary-lambda
    "symlink": lambda p, mode: os.symlink("t", p),
}


def linked_tmpfile(path, mode):
    fd = oscalls.tmpfile(os.path.dirname(path), mode=mode)
    try:
        oscalls.link_fd(fd, path)
    finally:
        os.close(fd)


def made(kind, who, dir_mode, mode, umask):
    """Owner, group and mode of a new object in a directory of group GID."""
    setgid = dir_mode & stat.S_ISGID
    gid = GID if setgid else who.gid
    if kind == "symlink":
        return who.uid, gid, oct(0o777)
    if kind == "dir":
        mode &= 0o1777 & ~umask  # mkdir(2) takes no set-id bits
        return who.uid, gid, oct(mode | setgid)
    if setgid and mode & stat.S_ISGID and mode & stat.S_IXGRP and not in_group(who):
        mode &= ~stat.S_ISGID
    return who.uid, gid, oct(mode & ~umask)


@pytest.mark.parametrize("over", ["new", "whiteout"])
def test_new_objects(stage, over):
    rows = []
    for kind, make in MAKERS.items():
        for who in EVERYBODY:
            for dir_mode in (0o777, 0o2777):
                for mode in (0o666, 0o2755, 0o4755, 0o7777, 0):
                    for umask in (0, 0o022, 0o077):
                        if mode in (0o4755, 0) and umask == 0o022:
                            continue

                        def run(path, make=make, mode=mode, umask=umask):
                            os.umask(umask)
                            make(path + "/n", mode)
                        rows.append(Row(f"{kind} {mode:o} umask {umask:o} in {dir_mode:o}",
                                        Dir(mode=dir_mode, owner=(0, GID), children={"n": ""}
                                            if over == "whiteout" else {}),
                                        run, "ok", who, lambda d: owners_of(d + "/n"),
                                        made(kind, who, dir_mode, mode, umask),
                                        before=unlink_n if over == "whiteout" else None))
    for row in rows:
        if row.before:
            row.then = lambda d, _before: owners_of(d + "/n")
    table.run(stage, rows)


def unlink_n(path):
    os.unlink(path + "/n")


# ---- default ACLs ----

ACLS = {
    "minimal": "u::rwx,g::r-x,o::---",
    "named": "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r--",
    "masked": "u::rw-,u:1001:rwx,g::rwx,m::r--,o::r--",
    "group": "u::rwx,g::---,g:3000:rwx,m::rwx,o::---",
}


def inherited(text, mode):
    """The mode of an object that inherits this default ACL; the umask has no say."""
    perms = {}
    for item in text.split(","):
        kind, who, rights = item.split(":")
        if not who:
            perms[kind] = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x"))
                              if letter in rights)
    group = perms.get("m", perms["g"])
    return mode & (perms["u"] << 6 | group << 3 | perms["o"])


@pytest.mark.parametrize("over", ["new", "whiteout"])
def test_default_acls(stage, over):
    def look(path, *_before):
        names = sorted(name for name in os.listxattr(path + "/n") if "posix_acl" in name)
        return mode_of(path + "/n"), [name.rsplit("_", 1)[1] for name in names]
    rows = []
    for kind in ("file", "mknod", "dir", "fifo", "tmpfile"):
        for name, text in ACLS.items():
            for mode in (0o666, 0o777, 0o700, 0o640):
                for umask in (0, 0o027, 0o777):
                    def run(path, kind=kind, mode=mode, umask=umask):
                        os.umask(umask)
                        MAKERS[kind](path + "/n", mode)
                    kinds = (["access"] if name != "minimal" else []) + (
                        ["default"] if kind == "dir" else [])
                    rows.append(Row(f"{kind} {name} {mode:o} umask {umask:o}",
                                    Dir(mode=0o777, xattrs={ACL_DEFAULT: acl(text)}, children={
                                        "n": ""} if over == "whiteout" else {}), run, "ok", OTHER,
                                    look, (oct(inherited(text, mode)), kinds),
                                    before=unlink_n if over == "whiteout" else None))
    table.run(stage, rows)


def test_acls_and_modes(stage):
    """chmod changes the mask; an ACL set changes the mode, and takes a foreign set-gid bit."""
    text = "u::rw-,u:1001:rwx,g::r-x,m::rwx,o::---"
    tree = {"f": File(mode=0o2670, owner=(UID, GID), xattrs={ACL_ACCESS: acl(text)}), "g": File(
        mode=0o2755, owner=(UID, GID))}
    rows = []
    for who in (ROOT,) + OWNERS:
        kept = stat.S_ISGID if in_group(who) else 0
        rows.append(Row("chmod", tree, lambda d: os.chmod(d + "/f", 0o2640), "ok", who,
                        lambda d: (mode_of(d + "/f"), os.getxattr(d + "/f", ACL_ACCESS)),
                        (oct(0o640 | kept), acl("u::rw-,u:1001:rwx,g::r-x,m::r--,o::---"))))
        rows.append(Row("set", tree, lambda d: os.setxattr(d + "/g", ACL_ACCESS, acl(text)), "ok",
                        who, lambda d: mode_of(d + "/g"), oct(0o670 | kept)))
    rows.append(Row("others may not", tree, lambda d: os.setxattr(d + "/g", ACL_ACCESS, acl(text)),
                    "EPERM", OTHER))
    table.run(stage, rows)


def test_acls_decide(stage):
    """Every entry of an ACL, for everybody."""
    text = "u::r--,u:1001:-w-,g::--x,g:3000:rw-,m::rwx,o::r-x"
    rights = {OWNER: 4, table.MEMBER: 2, table.SUPPLEMENTARY: 6 | 1, OTHER: 5}

    def run(path):
        return tuple(attempt(oscalls.access, path + "/f", want) for want in (4, 2, 1))

    def want(who):
        bits = (4, 2, 1)
        if who == table.SUPPLEMENTARY:  # in both groups: each right has to come from one entry
            return "ok", "ok", "ok"
        return tuple("ok" if rights[who] & bit else "EACCES" for bit in bits)
    table.run(stage, [Row("acl", {"f": File(mode=0o475, owner=(UID, GID), xattrs={
        ACL_ACCESS: acl(text)})}, run, want(who), who) for who in rights])


def test_devices(stage):
    """Made by root only, and usable."""
    def use(path):
        os.mknod(path + "/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(path + "/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        with open(path + "/null", "wb") as file:
            file.write(b"gone")
        with open(path + "/zero", "rb") as file:
            zeros = file.read(4)
        st = os.stat(path + "/zero")
        return zeros, os.major(st.st_rdev), os.minor(st.st_rdev), stat.S_ISCHR(st.st_mode)

    def read(path):
        with open(path + "/zero", "rb") as file:
            return file.read(3)
    tree = Dir(mode=0o777, children={"zero": Node(type=stat.S_IFCHR, rdev=(1, 5), mode=0o666)})
    rows = [
        Row("use", Dir(mode=0o777), use, (bytes(4), 1, 5, True)),
        Row("use what is there", tree, read, bytes(3)),
        Row("use as other", tree, read, bytes(3), OTHER),
        Row("character", Dir(mode=0o777), lambda d: os.mknod(
            d + "/n", stat.S_IFCHR | 0o666, os.makedev(1, 3)), "EPERM", OTHER),
        Row("block", Dir(mode=0o777), lambda d: os.mknod(
            d + "/n", stat.S_IFBLK | 0o666, os.makedev(7, 0)), "EPERM", OTHER),
        Row("large numbers", {}, lambda d: os.mknod(
            d + "/n", stat.S_IFBLK | 0o600, os.makedev(4095, 1048575)), then=lambda d: (
                os.major(os.stat(d + "/n").st_rdev), os.minor(os.stat(d + "/n").st_rdev)),
            after=(4095, 1048575)),
    ]
    table.run(stage, rows)
