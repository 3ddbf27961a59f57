"""The command and the daemon: what they answer, when they begin and when they end."""

import os
import signal
import subprocess
import time

import pytest

import contenders
import oscalls
import trees
from contenders import TAG, VENEER, MountError, is_mounted
from trees import wait_until

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no daemon"),
              pytest.mark.usefixtures("contender")]


def options(u):
    return ",".join([*u.layers.option(), *contenders.EXTRA])


@pytest.fixture
def foreground(union_factory):
    """start(layers) -> (union, process): veneer -f, live."""
    started = []

    def start(*lowers, **kwargs):
        u = union_factory(*lowers, **kwargs)
        tag = f"fg.{os.getpid()}.{len(started)}"
        process = subprocess.Popen([VENEER, "-f", "-o", options(u), u.mnt], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env={**os.environ, TAG: tag})
        started.append(process)
        assert wait_until(lambda: is_mounted(u.mnt) or process.poll() is not None, 10)
        assert process.poll() is None, process.stderr.read().decode()
        u.mounted = contenders.Mount(u.mnt, tag)
        os.listdir(u.mnt)  # answers once the mount is served, not merely there
        return u, process
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def test_live_when_the_command_returns(union):
    for _ in range(5):
        u = union({"f": "x"})
        assert u.read("f") == b"x"


def test_one_daemon_per_mount(union):
    u = union({"f": "x"})
    assert len(u.mounted.daemons()) == 1


def test_umount_ends_the_daemon(union):
    u = union({"f": "x"})
    u.append("f", "y")
    (pid,) = u.mounted.daemons()
    contenders.unmount(u.mnt)
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 5)
    u.mounted = None
    assert trees.read(u.up("f")) == b"xy"


def test_everything_is_written_when_umount_is_done(union):
    """The next mount, made at once, has it all."""
    u = union({})
    for i in range(200):
        u.write(f"f{i}", str(i) * 100)
    u.remount()
    assert all(u.read(f"f{i}") == str(i).encode() * 100 for i in range(200))


def test_sigterm_unmounts(union):
    u = union({"f": "x"})
    u.append("f", "y")
    (pid,) = u.mounted.daemons()
    os.kill(pid, signal.SIGTERM)
    assert wait_until(lambda: not is_mounted(u.mnt) and not u.mounted.daemons(), 5)
    u.mounted = None
    assert trees.read(u.up("f")) == b"xy"


def test_sigint_unmounts_in_the_foreground(foreground):
    u, process = foreground({"f": "x"})
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    assert not is_mounted(u.mnt)
    u.mounted = None


def test_foreground_serves_and_ends_with_umount(foreground):
    u, process = foreground({"f": "x"})
    assert u.read("f") == b"x"
    u.append("f", "y")
    contenders.unmount(u.mnt)
    assert process.wait(5) == 0
    u.mounted = None


def test_sigterm_with_an_open_file(union):
    """The mount goes away from sight; the daemon ends once the file is closed."""
    u = union({"f": "x"})
    (pid,) = u.mounted.daemons()
    fd = os.open(u / "f", os.O_RDONLY)
    os.kill(pid, signal.SIGTERM)
    assert wait_until(lambda: not is_mounted(u.mnt), 5)
    os.close(fd)
    assert wait_until(lambda: not u.mounted.daemons(), 5)
    u.mounted = None


def test_sigpipe_does_not_kill(union):
    u = union({"f": "x"})
    (pid,) = u.mounted.daemons()
    os.kill(pid, signal.SIGPIPE)
    time.sleep(0.1)
    assert u.read("f") == b"x"


def test_lazy_umount_serves_open_files_until_closed(union):
    u = union({"f": "x" * 100_000, "g": "lower"})
    fd = os.open(u / "f", os.O_RDWR)
    oscalls.umount(u.mnt, oscalls.MNT_DETACH)
    assert not is_mounted(u.mnt)
    os.pwrite(fd, b"changed", 50_000)
    assert os.pread(fd, 7, 50_000) == b"changed"
    assert u.mounted.daemons()
    os.close(fd)
    assert wait_until(lambda: not u.mounted.daemons(), 5)
    u.mounted = None
    assert trees.read(u.up("f"))[50_000:50_007] == b"changed"


def test_umount_of_a_busy_union_is_refused(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDONLY)
    with pytest.raises(OSError):
        oscalls.umount(u.mnt)
    assert u.read("f") == b"x"
    os.close(fd)


def test_daemon_lets_go_of_the_terminal(union_factory):
    """A caller that reads the command's output to its end does not wait for the daemon."""
    u = union_factory({"f": "x"})
    tag = f"pipe.{os.getpid()}"
    done = subprocess.run([VENEER, "-o", options(u), u.mnt], capture_output=True, timeout=10,
                          stdin=subprocess.DEVNULL, env={**os.environ, TAG: tag}, check=True)
    u.mounted = contenders.Mount(u.mnt, tag)
    assert done.stdout == b""
    (pid,) = u.mounted.daemons()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) != os.getsid(0)


def test_daemon_does_not_keep_the_callers_descriptors(union_factory):
    u = union_factory({"f": "x"})
    read_end, write_end = os.pipe()
    tag = f"fds.{os.getpid()}"
    subprocess.run([VENEER, "-o", options(u), u.mnt], stdin=subprocess.DEVNULL, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10,
                   pass_fds=[write_end], env={**os.environ, TAG: tag})
    u.mounted = contenders.Mount(u.mnt, tag)
    os.close(write_end)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


# Errors

def run(*args):
    return subprocess.run([VENEER, *args], capture_output=True, text=True, timeout=10, check=False,
                          stdin=subprocess.DEVNULL)


def test_error_names_the_missing_path(union_factory):
    u = union_factory({"f": "x"})
    missing = u.low() + "-missing"
    u.layers.lowers = [missing]
    with pytest.raises(MountError) as caught:
        u.mount()
    assert missing in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_mount_point_missing(union_factory):
    u = union_factory({"f": "x"})
    done = run("-o", options(u), u.mnt + "-missing")
    assert done.returncode != 0 and u.mnt + "-missing" in done.stderr


def test_mount_point_is_a_file(union_factory):
    u = union_factory({"f": "x"})
    path = os.path.join(u.base, "file")
    trees.write(path, "")
    done = run("-o", options(u), path)
    assert done.returncode != 0 and done.stderr


def test_no_arguments():
    done = run()
    assert done.returncode != 0 and "usage" in done.stderr.lower()


def test_no_mount_point(union_factory):
    done = run("-o", options(union_factory({"f": "x"})))
    assert done.returncode != 0 and done.stderr


def test_unknown_switch():
    done = run("--frobnicate", "/mnt")
    assert done.returncode != 0 and "frobnicate" in done.stderr


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "lowerdir" in done.stdout and done.stderr == ""


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("veneer ")


def test_errors_leave_the_work_directory_alone(union_factory):
    u = union_factory({"f": "x"})
    before = trees.snapshot(u.base)
    run("-o", options(u) + ",nonsense=1", u.mnt)
    assert trees.difference(before, trees.snapshot(u.base)) == []


def test_no_fuse_device(union_factory):
    """Without /dev/fuse the reason is told."""
    u = union_factory({"f": "x"})
    # The scratch directory may lie on /dev/shm.
    script = '''mount --rbind /dev/shm /mnt && mount -t tmpfs none /dev && mkdir /dev/shm &&
                mount --rbind /mnt /dev/shm && exec "$@"'''
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", VENEER, "-o", options(u), u.mnt],
                          capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode != 0
    assert "/dev/fuse" in done.stderr


def test_killed_daemon_leaves_a_clean_upper(union):
    """SIGKILL: the mount is dead, the layers are whole, the next mount works."""
    u = union({"f": "x" * 1000, "g": "y"})
    u.append("f", "more")
    os.unlink(u / "g")
    (pid,) = u.mounted.daemons()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not u.mounted.daemons(), 5)
    with pytest.raises(OSError):
        os.listdir(u.mnt)
    contenders.unmount(u.mnt)
    u.mounted = None
    u.mount()
    assert (u.ls(), u.read("f")) == (["f"], b"x" * 1000 + b"more")


def test_mount_over_a_used_directory(union):
    u = union({"f": "x"})
    v = union({"g": "y"})
    v.umount()
    v.mnt = u.mnt
    v.mount()
    assert os.listdir(u.mnt) == ["g"]
    v.umount()
    assert u.ls() == ["f"]


def test_ten_mounts_at_once(union):
    unions = [union({"f": str(i)}) for i in range(10)]
    assert [u.read("f") for u in unions] == [str(i).encode() for i in range(10)]


def test_mount_by_the_mount_program(union_factory):
    """mount(8) clears PATH, so a program that is not installed is named in full."""
    u = union_factory({"f": "x"})
    tag = f"helper.{os.getpid()}"
    done = subprocess.run(["mount", "-t", "fuse", VENEER + "#overlay", u.mnt, "-o", options(u)],
                          env={**os.environ, TAG: tag}, capture_output=True, text=True, timeout=10,
                          check=False)
    if "unknown filesystem type" in done.stderr or "mount.fuse" in done.stderr:
        pytest.skip("no /sbin/mount.fuse here: package fuse3 is not installed")
    assert done.returncode == 0, done.stderr
    u.mounted = contenders.Mount(u.mnt, tag)
    assert u.read("f") == b"x"


def test_source_tree_may_be_the_mount_point_itself(union_factory):
    """A union mounted over its own lower: the layer is what was there before."""
    u = union_factory({"f": "x"})
    u.mnt = u.low()
    u.mount()
    u.write("new", "y")
    assert u.ls() == ["f", "new"]
    u.umount()
    assert os.listdir(u.low()) == ["f"]
