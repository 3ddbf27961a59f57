"""veneer's options: each spelling is understood, none is silently ignored."""

import errno
import os
import re
import stat

import pytest

import trees
from contenders import MountError
from trees import File, Node

pytestmark = pytest.mark.veneer_only("the kernel's own option parser is not under test")


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def mount_flags(path):
    """The options in the 6th and last field of the mount's line."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[4] == os.path.realpath(path):
                return set(fields[5].split(",")) | set(fields[-1].split(","))
    return set()


def layer_options(u):
    return u.layers.option()


ACCEPTED = [
    "redirect_dir=on", "redirect_dir=off", "redirect_dir=follow", "redirect_dir=nofollow",
    "metacopy=on", "metacopy=off", "index=off", "nfs_export=off", "nfs_export=on", "xino=off", "xino=auto",
    "xino=on", "uuid=auto", "verity=off", "verity=on", "verity=require", "userxattr", "volatile",
    "fsync=auto", "fsync=strict", "fsync=volatile", "default_permissions", "allow_other", "ro", "rw",
    "noexec", "exec", "nosuid", "suid", "nodev", "dev", "noatime", "relatime", "timeout=0",
    "timeout=1.5", "watch", "static_nlink", "max_idle_threads=2",
]


@pytest.mark.parametrize("option", ACCEPTED)
def test_accepted(union, option):
    u = union({"f": "x"}, opts=[option])
    assert u.read("f") == b"x"
    if "volatile" in option:
        trees.remove(os.path.join(u.work, "work/incompat"))


REFUSED = ["index=perhaps", "nfs_export=perhaps", "verity=perhaps", "redirect_dir=maybe",
           "metacopy=yes", "fsync=sometimes", "timeout=soon", "xino=perhaps", "userxattr=on",
           "volatile=1", "max_idle_threads=x"]


@pytest.mark.parametrize("option", REFUSED)
def test_refused_with_a_reason(union_factory, option):
    """Values that are unknown or not yet effective name themselves in the error."""
    u = union_factory({"f": "x"}, opts=[option])
    with pytest.raises(MountError) as caught:
        u.mount()
    assert option.split("=")[0] in str(caught.value)


@pytest.mark.parametrize("pair", [["metacopy=on", "redirect_dir=off"],
                                  ["allow_other", "allow_root"]])
def test_conflicts_are_refused(union_factory, pair):
    """As the kernel refuses them."""
    u = union_factory({"f": "x"}, opts=pair)
    with pytest.raises(MountError):
        u.mount()


@pytest.mark.parametrize("wrong,right", [("lowerdirs=/x", "lowerdir"), ("upperdr=/x", "upperdir"),
                                         ("redirectdir=on", "redirect_dir"), ("noatme", "noatime"),
                                         ("volatil", "volatile"), ("metcopy=on", "metacopy")])
def test_unknown_option_is_an_error_with_a_suggestion(union_factory, wrong, right):
    u = union_factory({"f": "x"}, opts=[wrong])
    with pytest.raises(MountError) as caught:
        u.mount()
    text = str(caught.value)
    assert wrong.split("=")[0] in text
    assert re.search(rf"\b{right}\b", text)


def test_unknown_option_without_likeness(union_factory):
    u = union_factory({"f": "x"}, opts=["qqqqzzzz"])
    with pytest.raises(MountError, match="qqqqzzzz"):
        u.mount()


@pytest.mark.parametrize("option", ["x-systemd.automount", "x-anything=1", "_netdev", "noauto", "nofail",
                                    "user", "nouser", "comment=hello"])
def test_options_of_others_are_ignored_with_a_warning(union, option):
    u = union({"f": "x"}, opts=[option])
    assert u.read("f") == b"x"
    if not option.startswith(("user", "nouser", "noauto", "nofail", "comment")):
        assert option.split("=")[0] in u.mounted.output


def test_empty_options_are_skipped(union):
    u = union({"f": "x"}, opts=["", "noatime", ""])
    assert u.read("f") == b"x"


def test_ro(union):
    u = union({"f": "x"}, opts=["ro"])
    assert errno_of(lambda: u.write("g", "")) == errno.EROFS
    assert "ro" in mount_flags(u.mnt)


def test_noexec(union):
    u = union({"f": File(data="#!/bin/sh\nexit 0\n", mode=0o755)}, opts=["noexec"])
    with pytest.raises(PermissionError):
        os.execv(u / "f", ["f"])
    assert "noexec" in mount_flags(u.mnt)


def test_nodev(union):
    u = union({"null": Node(type=stat.S_IFCHR, rdev=(1, 3), mode=0o666)}, opts=["nodev"])
    with pytest.raises(PermissionError):
        os.open(u / "null", os.O_RDONLY)
    assert "nodev" in mount_flags(u.mnt)


def test_devices_work_by_default_for_root(union):
    u = union({"null": Node(type=stat.S_IFCHR, rdev=(1, 3), mode=0o666)})
    assert u.read("null") == b""


def test_nosuid(union):
    u = union({"f": ""}, opts=["nosuid"])
    assert "nosuid" in mount_flags(u.mnt)


def test_suid_works_by_default_for_root(union):
    u = union({"f": ""})
    assert not mount_flags(u.mnt) & {"nosuid", "nodev", "noexec"}


def test_noatime(union):
    u = union({}, upper={"f": "x"}, opts=["noatime"])
    os.utime(u / "f", ns=(10**9, 2 * 10**9))
    u.read("f")
    assert os.stat(u.up("f")).st_atime_ns == 10**9
    assert "noatime" in mount_flags(u.mnt)


def test_allow_other_is_the_default_for_root(union, as_user):
    u = union({"f": "x"})
    assert as_user(1000, lambda: u.read("f")) == b"x"


def test_static_nlink(union):
    u = union({"d": {"a": {}, "b": {}}}, opts=["static_nlink"])
    assert os.stat(u / "d").st_nlink == 1


def test_timeout_zero_sees_changes_underneath(union):
    u = union({"f": "x"}, opts=["timeout=0"], guard=False)
    assert u.ls() == ["f"]
    trees.write(u.low("new"), "y")
    assert u.read("new") == b"y"


def test_type_of_the_mount(union):
    u = union({"f": ""})
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        line = next(line for line in file if line.split()[4] == os.path.realpath(u.mnt))
    assert line.split(" - ")[1].split()[0] == "fuse.veneer"


# Spellings of the layers

def run_with(union_factory, contender, make_args):
    """A union whose command line is what make_args(u) returns."""
    u = union_factory({"f": "x", "d": {"g": ""}})
    u.mounted = contender.run(make_args(u), u.mnt)
    assert u.read("f") == b"x"
    return u


def test_separate_o(union_factory, contender):
    run_with(union_factory, contender,
             lambda u: [part for option in layer_options(u) for part in ("-o", option)] + [u.mnt])


def test_o_without_space(union_factory, contender):
    run_with(union_factory, contender, lambda u: ["-o" + ",".join(layer_options(u)), u.mnt])


def test_options_after_the_mount_point(union_factory, contender):
    run_with(union_factory, contender, lambda u: [u.mnt, "-o", ",".join(layer_options(u))])


def test_source_and_mount_point(union_factory, contender):
    run_with(union_factory, contender, lambda u: ["overlay", u.mnt, "-o", ",".join(layer_options(u))])


def test_mount_verb(union_factory, contender):
    run_with(union_factory, contender, lambda u: ["mount", "-o", ",".join(layer_options(u)), u.mnt])


def test_lowerdir_plus(union_factory, contender):
    u = union_factory({"f": "one", "a": ""}, {"f": "two", "b": ""})
    options = [f"lowerdir+={path}" for path in u.lowers] + layer_options(u)[1:]
    u.mounted = contender.run(["-o", ",".join(options), u.mnt], u.mnt)
    assert (u.ls(), u.read("f")) == (["a", "b", "f"], b"one")


def test_datadir_plus(union_factory, contender):
    meta = File(size=7, xattrs={"trusted.overlay.metacopy": "",
                                "trusted.overlay.redirect": "/o"})
    u = union_factory({"f": meta}, data=[{"o": "content"}])
    options = [f"lowerdir+={u.lowers[0]}", f"datadir+={u.layers.data[0]}", "metacopy=on",
               *layer_options(u)[1:]]
    u.mounted = contender.run(["-o", ",".join(options), u.mnt], u.mnt)
    assert u.read("f") == b"content"


def test_lowerdir_plus_takes_colons_as_they_are(union_factory, contender):
    u = union_factory({"f": "x"})
    odd = os.path.join(u.base, "a:b")
    os.rename(u.low(), odd)
    u.layers.lowers = [odd]
    u.guard_lowers()
    options = [f"lowerdir+={odd}", *layer_options(u)[1:]]
    u.mounted = contender.run(["-o", ",".join(options), u.mnt], u.mnt)
    assert u.read("f") == b"x"


def test_five_hundred_long_lowers_on_one_command_line(union_factory, base):
    lowers = [os.path.join(base, f"{i:03}" + "x" * 60) for i in range(500)]
    for i, path in enumerate(lowers):
        trees.build(path, {f"f{i}": ""})
    u = union_factory(*lowers, guard=False).mount()
    assert len(u.ls()) == 500
