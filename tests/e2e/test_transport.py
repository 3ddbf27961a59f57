"""How requests come: /dev/fuse or io_uring, and what neither may lose."""

import json
import multiprocessing
import os
import signal
import subprocess
import time

import pytest

import contenders
import trees
from contenders import VENEER, MountError

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no transport"), pytest.mark.usefixtures("contender")]

SWITCH = "/sys/module/fuse/parameters/enable_uring"
FORK = multiprocessing.get_context("fork")


def transport(u):
    done = subprocess.run([VENEER, "status", "--json", u.mnt], capture_output=True, text=True, timeout=30, check=False)
    if "without jansson" in done.stderr:
        pytest.skip("this veneer was built without jansson")
    return json.loads(done.stdout)["mounts"][0]["transport"]


@pytest.fixture
def switch():
    """set(bool): FUSE over io_uring in this kernel; as before in the end."""
    if not os.path.exists(SWITCH):
        pytest.skip("this kernel has no FUSE over io_uring")
    before = trees.read(SWITCH)
    yield lambda value: trees.write(SWITCH, "Y" if value else "N")
    trees.write(SWITCH, before)


def start_through(monkeypatch, tmp_path, command):
    """From now on daemons are started by this command."""
    script = tmp_path / "veneer"
    script.write_text(f'#!/bin/sh\nexec {command} "{VENEER}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(contenders, "VENEER", str(script))


def set_transport(monkeypatch, option):
    monkeypatch.setattr(contenders, "EXTRA", [*contenders.EXTRA, f"io_uring={option}"])


@pytest.fixture(params=["dev", "dev-unprivileged", "io_uring"])
def way(request, monkeypatch, tmp_path):
    """The test runs with either transport, whatever else the run asks for; with /dev/fuse also as
    it is for those who may give way but not take it back."""
    if request.param == "io_uring":
        request.getfixturevalue("switch")(True)
    if request.param == "dev-unprivileged":
        start_through(monkeypatch, tmp_path, "setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice")
    set_transport(monkeypatch, "on" if request.param == "io_uring" else "off")
    return request.param.split("-")[0]


def test_the_one_that_was_asked_for(union, way):
    assert transport(union({"f": "x"}))["name"] == way


def test_auto_takes_what_the_kernel_has(union, switch, monkeypatch):
    monkeypatch.setattr(contenders, "EXTRA", [])
    for on in (True, False):
        switch(on)
        u = union({"f": "x"}, opts=["io_uring=auto"])
        # Tests beside this one may turn it as well.
        if (trees.read(SWITCH) == b"Y\n") == on:
            assert transport(u)["name"] == ("io_uring" if on else "dev")
        assert u.read("f") == b"x"


def test_on_switches_it_on(union, switch, monkeypatch):
    monkeypatch.setattr(contenders, "EXTRA", [])
    switch(False)
    u = union({"f": "x"}, opts=["io_uring=on"])
    assert transport(u)["name"] == "io_uring"
    assert trees.read(SWITCH) == b"Y\n"


def test_an_unknown_word(union_factory):
    u = union_factory({"f": "x"})
    with pytest.raises(MountError, match="io_uring"):
        u.mount(opts=["io_uring=maybe"])


def append_lines(path, who, count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for i in range(count):
        os.write(fd, b"%d.%d\n" % (who, i))
    os.close(fd)


def make_names(directory, who, count):
    for i in range(count):
        os.mkdir(f"{directory}/{who}.{i}")
        os.rename(f"{directory}/{who}.{i}", f"{directory}/{who}.{i}.done")


def in_parallel(function, *args, workers=4):
    processes = [FORK.Process(target=function, args=(args[0], who, *args[1:])) for who in range(workers)]
    for process in processes:
        process.start()
    return processes


def test_nothing_lost_or_doubled_while_the_daemon_stops_and_goes_on(union, way):
    """Each append is in the file once, each directory was made and renamed once."""
    u = union({"f": "", "d": {}})
    (daemon,) = u.mounted.daemons()
    processes = in_parallel(append_lines, u / "f", 400) + in_parallel(make_names, u / "d", 100)
    while any(process.is_alive() for process in processes):
        os.kill(daemon, signal.SIGSTOP)
        time.sleep(0.003)
        os.kill(daemon, signal.SIGCONT)
        time.sleep(0.003)
    assert [process.exitcode for process in processes] == [0] * 8
    lines = u.read("f").split()
    assert sorted(lines) == sorted(b"%d.%d" % (who, i) for who in range(4) for i in range(400))
    assert sorted(os.listdir(u / "d")) == sorted(f"{who}.{i}.done" for who in range(4) for i in range(100))


def until_killed(path, who):
    while True:
        for i in range(20):
            name = next(name for name in (f"{path}/f{who}.{i}", f"{path}/g{who}.{i}") if os.path.exists(name))
            fd = os.open(name, os.O_RDWR)
            os.pwrite(fd, b"%d" % who * 5000, 0)
            os.pread(fd, 5000, 0)
            os.close(fd)
            os.rename(name, f"{path}/{'g' if name.startswith(path + '/f') else 'f'}{who}.{i}")


def test_callers_killed_in_the_middle_of_their_requests(union, way):
    u = union({f"f{who}.{i}": "x" * 5000 for who in range(3) for i in range(20)})
    for _ in range(15):
        processes = in_parallel(until_killed, u.mnt, workers=3)
        time.sleep(0.02)
        assert all(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    # Each file is there once under one name, whole, and the mount works on.
    assert sorted(name[1:] for name in u.ls()) == sorted(f"{who}.{i}" for who in range(3) for i in range(20))
    for name in u.ls():
        content = u.read(name)
        assert len(content) == 5000 and len(set(content)) == 1
        u.write(name, "new")
        assert u.read(name) == b"new"
    assert trees.wait_until(lambda: transport(u)["requests_at_work"] == 0)


def test_more_at_once_than_processors(union, way):
    """Requests that take long hold up no other, from whichever processor they come."""
    u = union({f"big{i}": "x" * (24 << 20) for i in range(12)} | {"small": "s"})
    processes = [FORK.Process(target=lambda i=i: os.truncate(u / f"big{i}", (24 << 20) - 1)) for i in range(12)]
    for process in processes:
        process.start()
    for _ in range(20):
        assert os.stat(u / "small").st_size == 1
        assert os.path.exists(u / "missing") is False
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert {os.stat(u / f"big{i}").st_size for i in range(12)} == {(24 << 20) - 1}


def tasks(u):
    (daemon,) = u.mounted.daemons()
    return [int(task) for task in os.listdir(f"/proc/{daemon}/task")]


def affinities(u):
    return [os.sched_getaffinity(task) for task in tasks(u)]


def look_around(path, who, cpu, count):
    os.sched_setaffinity(0, {cpu})
    for i in range(count):
        assert not os.path.exists(f"{path}/{who}.{i}")


def from_processors(u, *cpus, count=300):
    """One caller on each of the processors, all at once."""
    processes = [FORK.Process(target=look_around, args=(u.mnt, who, cpu, count)) for who, cpu in enumerate(cpus)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def processors():
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one processor only")
    return cpus


def test_a_daemon_that_may_not_run_everywhere(union, way, monkeypatch, tmp_path):
    """It stays where it was put, and serves callers from elsewhere."""
    cpus = processors()
    start_through(monkeypatch, tmp_path, f"taskset -c {cpus[0]}")
    u = union({"f": "x"})
    assert transport(u)["name"] == way
    for callers in ([cpus[0]], [cpus[1]], [cpus[0], cpus[1]], [cpus[1]] * 3, [cpus[0]]):
        from_processors(u, *callers)
        assert {cpu for affinity in affinities(u) for cpu in affinity} == {cpus[0]}


def test_workers_go_where_the_only_caller_is(union, monkeypatch):
    cpus = processors()
    set_transport(monkeypatch, "off")
    u = union({"f": "x"})
    for cpu in (cpus[0], cpus[1], cpus[0]):
        if not trees.wait_until(lambda cpu=cpu: from_processors(u, cpu) or {cpu} in affinities(u), 20):
            pytest.skip("the processors are busy with something else")
    # All others may run wherever they did, whichever worker started them.
    for callers in (cpus[:2], cpus[:2] * 4):
        from_processors(u, *callers)
    giving_way = [task for task in tasks(u) if os.sched_getscheduler(task) == os.SCHED_IDLE]
    assert len(giving_way) <= 2
    assert all(os.sched_getaffinity(task) == set(cpus) for task in tasks(u) if task not in giving_way)


def test_busy_processors(union, way):
    """Who gives way is not kept from running for ever."""
    u = union({"f": "x"})
    cpus = processors()
    from_processors(u, cpus[0])
    busy = [FORK.Process(target=spin, args=(cpu,)) for cpu in cpus for _ in range(2)]
    for process in busy:
        process.start()
    try:
        for callers in ([cpus[0]], [cpus[1]], cpus):
            from_processors(u, *callers)
    finally:
        for process in busy:
            process.kill()
            process.join()


def spin(cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


def wakeups(u):
    """By thread."""
    (daemon,) = u.mounted.daemons()
    lines = [line for task in tasks(u) for line in trees.read(f"/proc/{daemon}/task/{task}/status").split(b"\n")]
    return [line for line in lines if b"ctxt_switches" in line]


def test_nothing_wakes_up_without_requests(union, way):
    if b"__tsan_init" in trees.read(VENEER):
        pytest.skip("a sanitizer with a thread of its own")
    u = union({"f": "x"})
    cpus = processors()
    for callers in (cpus[:1], cpus[:2], cpus[1:2]):
        from_processors(u, *callers)
    # Until memory has been given back.
    time.sleep(4)
    before = wakeups(u)
    time.sleep(2)
    assert wakeups(u) == before
