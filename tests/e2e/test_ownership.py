"""Copies of what belongs to somebody whom the copy cannot be given to."""

import json
import os
import stat
import subprocess

import pytest

import commands
import contenders
import trees
from contenders import TAG, VENEER, is_mounted
from test_unprivileged import USER, as_ordinary, fuse_device, need
from trees import Dir, File, Symlink, wait_until

FIRST_ID = 100000  # what 0 is outside, where many ids are mapped

OWN = (USER, USER)
OWNER = "user.overlay.veneer.owner"
NOBODY = "65534:65534"

LOWER = {
    "etc": {"conf": "root's"},
    "var": {"tmp": Dir(mode=0o1777, children={"x": Dir(owner=OWN, children={
        "f": File(data="mine", owner=OWN), "of-group": File(data="g", owner=(USER, 7)),
        "set-id": File(data="s" * 5000, mode=0o6755), "read-only": File(data="r", mode=0o444),
        "links": {"a": "l", "b": trees.Hard("lower/var/tmp/x/links/a")},
        "group-file": File(data="s" * 5000, owner=(USER, 7)),
        "group-dir": Dir(owner=(USER, 7), children={"inner": File(data="i", owner=OWN)}),
        "group-empty": Dir(owner=(USER, 7)),
        "symlink": Symlink(target="t"), "fifo": trees.Node(type=stat.S_IFIFO)})})},
}

pytestmark = pytest.mark.usefixtures("fuse_for_all")


@pytest.fixture
def fuse_for_all(base, contender):  # pylint: disable=unused-argument
    yield from fuse_device(base, 0o666)


@pytest.fixture
def home(base, contender):  # pylint: disable=unused-argument
    """Layers: the lower is root's, in which a user has a directory."""
    need("setpriv", "unshare")
    trees.build(base, {"lower": LOWER, "upper": {}, "work": {}, "mnt": {}})
    for name in ("", "lower", "upper", "work", "mnt"):
        os.chown(os.path.join(base, name), *OWN)
    before = trees.snapshot(os.path.join(base, "lower"))
    yield base
    assert trees.difference(before, trees.snapshot(os.path.join(base, "lower"))) == []


def options(home):
    return f"lowerdir={home}/lower,upperdir={home}/upper,workdir={home}/work"


def mount_command(contender, home):
    if contender.name == "veneer":
        return f"{VENEER} -o {','.join([options(home), *contenders.EXTRA])} {home}/mnt"
    return f"mount -t overlay overlay -o {options(home)},userxattr {home}/mnt"


def run(command, home, user=USER, ids=None):
    """Output of a command of this user's; ids: a map for the user namespace that it makes first."""
    tag = f"owners.run.{os.getpid()}"
    with subprocess.Popen(["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *command],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, TAG: tag, "HOME": home}) as process:
        if ids:
            assert process.stdout.readline() == "ready\n"
            for kind in ("uid", "gid"):
                with open(f"/proc/{process.pid}/{kind}_map", "w", encoding="ascii") as file:
                    file.write(ids)
        out, err = process.communicate("go\n", timeout=30)
    assert wait_until(lambda: not contenders.tagged_processes(tag), 5)
    assert process.returncode == 0, err
    return out.split("\n")[:-1]


def in_namespace(contender, home, script, only_id=USER):
    """
    Run a script in the union, mounted in a user namespace that has one id of the user's: its own, as which the
    script has no rights, or 0, as which it has all.
    """
    inner = "sh -c" if only_id == 0 else "setpriv --ambient-caps=-all --inh-caps=-all sh -c"
    whole = (f"set -e; {mount_command(contender, home)}; cd {home}/mnt; {inner} '{script}'; "
             f"cd /; umount {home}/mnt")
    kind = "-r" if only_id == 0 else "-c"
    return run(["unshare", "-Um", kind, "--keep-caps", "sh", "-c", whole], home)


def in_wide_namespace(contender, home, script):
    """The same with 65536 ids of nobody else's, by root of that namespace."""
    whole = f"set -e; {mount_command(contender, home)}; cd {home}/mnt; {script}; cd /; umount {home}/mnt"
    enter = f"echo ready; read go; exec setpriv --reuid 0 --regid 0 --clear-groups sh -c '{whole}'"
    return run(["unshare", "-Um", "--keep-caps", "sh", "-c", enter], home, user=0, ids=f"0 {FIRST_ID} 65536\n")


SHOW = "find . -printf \"%p %U:%G %m\\n\" | sort"


def names(home):
    """Everything in the upper that is not a whiteout, with its real owner, and whether there is an attribute."""
    found = {}
    for at, dirs, files in os.walk(f"{home}/upper"):
        for name in dirs + files:
            path = os.path.join(at, name)
            found[os.path.relpath(path, f"{home}/upper")] = (
                os.lstat(path).st_uid, OWNER in os.listxattr(path, follow_symlinks=False))
    return found


def diff(home):
    """What the user changed, by the user's own veneer diff."""
    words = [VENEER, "diff", "--json", f"{home}/upper", "--lower", f"{home}/lower", "--userxattr"]
    text = "\n".join(run(words, home))
    commands.check_form("diff", text)
    return {each["path"]: (each["kind"], each["changed"]) for each in json.loads(text)["changes"]}


# One id of the user's in a user namespace

@pytest.mark.deviation("D-39")
@pytest.mark.parametrize("only_id", [USER, 0])
def test_changes_below_directories_of_others(contender, home, only_id):
    script = "(echo hi > var/tmp/x/new) 2>/dev/null || echo refused"
    out = in_namespace(contender, home, script, only_id)
    if contender.name == "kernel":
        assert out == ["refused"]
        return
    assert out == []
    assert trees.read(f"{home}/upper/var/tmp/x/new") == b"hi\n"
    assert names(home) == {"var": (USER, True), "var/tmp": (USER, True), "var/tmp/x": (USER, False),
                           "var/tmp/x/new": (USER, False)}
    assert diff(home) == {"/var/tmp/x/new": ("added", [])}


@pytest.mark.veneer_only("the kernel does not copy them up")
@pytest.mark.parametrize("only_id", [USER, 0])
def test_copy_up_shows_the_same_and_gives_no_rights(contender, home, only_id):
    change = "echo more >> var/tmp/x/f; mkdir var/tmp/x/d; rmdir var/tmp/x/d"
    tries = ["echo e > etc/new", "echo e > var/new", "echo e > etc/conf", "rm etc/conf", "rmdir var/tmp",
             "mv etc var/tmp/x/etc", "chmod 777 var", f"chown {only_id} var", "setfattr -n user.a -v b var"]
    script = (f"{SHOW}; echo --; {change}; {SHOW}; echo --; "
              + "; ".join(f"({each}) 2>/dev/null && echo gained" for each in tries) + "; true")
    before, after, gained = "\n".join(in_namespace(contender, home, script, only_id)).split("--")
    assert before.split() == after.split() and gained.split() == []
    # What anybody may write shows as the user's own, since the kernel would let nobody write it else.
    assert f"./var {NOBODY} 755" in before and f"./var/tmp {only_id}:{only_id} 1777" in before
    assert in_namespace(contender, home, SHOW, only_id) == before.split("\n")[:-1]
    assert diff(home) == {"/var/tmp/x/f": ("modified", ["content", "time"])}


@pytest.mark.veneer_only("the kernel does not copy them up")
def test_marks_mean_the_same_in_any_namespace(contender, home):
    """Also to another mapping, and to the user's own mount outside of one, which knows the numbers."""
    in_namespace(contender, home, "touch var/tmp/x/new")
    assert f"./var {NOBODY} 755" in in_namespace(contender, home, SHOW, 0)
    with users_mount(home):
        seen = run(["sh", "-c", f"cd {home}/mnt; {SHOW}"], home)
        assert f"./var {NOBODY} 755" in seen and f"./var/tmp/x {USER}:{USER} 755" in seen


# Many ids, of which none is the owner

@pytest.fixture
def wide_home(home):
    for name in ("", "lower", "upper", "work", "mnt"):
        os.chown(os.path.join(home, name), FIRST_ID, FIRST_ID)
    yield home
    os.chown(f"{home}/lower", *OWN)


@pytest.mark.veneer_only("there the kernel gives copies to whoever has the number of nobody")
def test_root_of_a_namespace_takes_over(contender, wide_home):
    """Who has the number that is shown may change the owner: part by part."""
    steps = ["chmod 700 etc", "chgrp 5 etc", "chmod 711 etc", "chown 4:4 var"]
    show = "stat -c %u:%g:%a etc var"
    out = in_wide_namespace(contender, wide_home, "; ".join(f"{step}; {show}" for step in steps))
    assert out == ["65534:65534:700", "65534:65534:755", "65534:5:700", "65534:65534:755",
                   "65534:5:711", "65534:65534:755", "65534:5:711", "4:4:755"]
    assert os.getxattr(f"{wide_home}/upper/etc", OWNER) == b"u"
    assert OWNER not in os.listxattr(f"{wide_home}/upper/var")
    assert os.stat(f"{wide_home}/upper/var").st_uid == FIRST_ID + 4
    assert in_wide_namespace(contender, wide_home, show) == out[-2:]


@pytest.mark.veneer_only("there the kernel gives copies to whoever has the number of nobody")
def test_diff_knows_an_owner_that_was_only_shown(contender, wide_home):
    in_wide_namespace(contender, wide_home, "chmod 700 etc; chown 3 var")
    changed = {each["path"]: each["changed"] for each in json.loads(commands.ask(
        "diff", "--json", f"{wide_home}/upper", "--lower", f"{wide_home}/lower", "--userxattr"))["changes"]}
    assert changed == {"/etc": ["mode"], "/var": ["owner"]}


# An ordinary user's mount, outside of a user namespace

class users_mount:  # pylint: disable=invalid-name
    """The union, mounted by the user through fusermount3."""

    def __init__(self, home, *more):
        need("fusermount3")
        self.mnt = f"{home}/mnt"
        done = as_ordinary(VENEER, "-o", ",".join([options(home), *contenders.EXTRA, *more]), self.mnt,
                           tag=f"owners.{os.getpid()}")
        assert done.returncode == 0, done.stderr

    def __enter__(self):
        return self.mnt

    def __exit__(self, *_):
        done = as_ordinary("fusermount3", "-u", self.mnt)
        assert done.returncode == 0, done.stderr
        assert not is_mounted(self.mnt)
        assert wait_until(lambda: not contenders.tagged_processes(f"owners.{os.getpid()}"), 5)


def shown(home, path):
    done = run(["stat", "-c", "%u:%g:%a", f"{home}/mnt/{path}"], home)
    return done[0]


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_owners_stay_in_a_users_mount(home, as_user):
    x = "var/tmp/x"

    def change():
        os.chdir(f"{home}/mnt")
        for name in ("set-id", "read-only", "of-group", "links", "symlink", "fifo"):
            os.rename(f"{x}/{name}", f"{x}/moved-{name}")
        trees.write(f"{x}/f", "changed")
    paths = {"var": "0:0:755", "var/tmp": "0:0:1777", f"{x}/moved-of-group": f"{USER}:7:644",
             f"{x}/moved-read-only": "0:0:444", f"{x}/moved-links": "0:0:755",
             f"{x}/moved-links/a": "0:0:644", x: f"{USER}:{USER}:755"}
    with users_mount(home):
        as_user(USER, change)
        assert {path: shown(home, path) for path in paths} == paths
    with users_mount(home):
        assert {path: shown(home, path) for path in paths} == paths
        for path in ("var/new", f"{x}/moved-links/new", f"{x}/moved-set-id"):
            with pytest.raises(PermissionError):
                as_user(USER, lambda: trees.write(f"{home}/mnt/{path}", "gained"))  # pylint: disable=cell-var-from-loop
    assert all(uid == USER for uid, _ in names(home).values())


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
@pytest.mark.deviation("D-40")
def test_set_id_bits_do_not_change_hands(home, as_user):
    """Nor do they come back with the owner that is only shown."""
    path = "var/tmp/x/set-id"
    with users_mount(home):
        as_user(USER, lambda: os.rename(f"{home}/mnt/{path}", f"{home}/mnt/{path}2"))
    assert stat.S_IMODE(os.stat(f"{home}/upper/{path}2").st_mode) == 0o755
    with users_mount(home):
        assert shown(home, f"{path}2") == "0:0:755"


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
@pytest.mark.deviation("D-41")
def test_symbolic_links_and_special_files_become_the_users(home, as_user):
    """They take no attribute that could say otherwise."""
    x = "var/tmp/x"
    with users_mount(home):
        as_user(USER, lambda: [os.rename(f"{home}/mnt/{x}/{name}", f"{home}/mnt/{x}/{name}2")
                               for name in ("symlink", "fifo")])
    with users_mount(home):
        assert shown(home, f"{x}/symlink2") == f"{USER}:{USER}:777"
        assert shown(home, f"{x}/fifo2") == f"{USER}:{USER}:644"


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_diff_of_a_users_mount_shows_what_was_done(home, as_user):
    x = "var/tmp/x"

    def change():
        os.chdir(f"{home}/mnt")
        trees.write(f"{x}/f", "changed")
        os.chmod(f"{x}/of-group", 0o600)
        os.chown(f"{x}/of-group", -1, USER)
        os.rename(f"{x}/links", f"{x}/renamed")
        os.unlink(f"{x}/fifo")
    with users_mount(home):
        as_user(USER, change)
    found = diff(home)
    assert found == {f"/{x}/f": ("modified", ["content", "time"]),
                     f"/{x}/of-group": ("modified", ["mode", "owner"]),
                     f"/{x}/renamed": ("renamed", []), f"/{x}/fifo": ("removed", [])}


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_copies_of_copies_keep_the_owner(home, as_user):
    """A metacopy file that is truncated is made anew, and so is a directory that is emptied by a rename over it."""
    x = "var/tmp/x"

    def change():
        os.chdir(f"{home}/mnt/{x}")
        os.utime("group-file", (1, 1))
        os.truncate("group-file", 10)
        os.chmod("group-dir", 0o711)
        os.unlink("group-dir/inner")
        os.rename("group-empty", "group-dir")
    with users_mount(home, "metacopy=on"):
        as_user(USER, change)
        assert shown(home, f"{x}/group-file") == f"{USER}:7:644"
        assert shown(home, f"{x}/group-dir") == f"{USER}:7:755"
    with users_mount(home):
        assert shown(home, f"{x}/group-file") == f"{USER}:7:644"
        assert shown(home, f"{x}/group-dir") == f"{USER}:7:755"


# Who has all rights believes no such attribute

@pytest.mark.veneer_only("the kernel does not know the attribute")
def test_root_takes_owners_from_disk(contender, home):
    """Else a user could make set-id files of root's."""
    trees.build(home, {"upper/mine": File(data="m", mode=0o4755, owner=OWN)})
    os.setxattr(f"{home}/upper/mine", OWNER, b"ug=0:0")
    layers = contenders.Layers([f"{home}/lower"], f"{home}/upper", f"{home}/work")
    mounted = contender.mount(layers, f"{home}/mnt", ["userxattr"])
    try:
        assert os.stat(f"{home}/mnt/mine").st_uid == USER
    finally:
        assert mounted.unmount() == []
    changed = json.loads(commands.ask("diff", "--json", f"{home}/upper", "--lower", f"{home}/lower",
                                      "--userxattr"))["changes"]
    assert [each["after"]["uid"] for each in changed] == [USER]
