"""The benchmarks themselves (bench/): what the figures are made of, and that a run works and cleans up."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

import pytest

import contenders

BENCH = os.path.join(contenders.CHECKOUT, "bench")
BUILD = os.path.dirname(contenders.VENEER)
sys.path.insert(0, BENCH)

from benchlib import figures, markdown, measure, report, svg, workloads  # noqa: E402

CRITERIA = figures.load_criteria(f"{BENCH}/criteria.toml")
MODES = {"both", "served", "passthrough"}


def result(times, kind="time", **more):
    """A result with these samples: {workload: {contender: [sample]}}."""
    return figures.Result({
        "format": figures.FORMAT, "scale": "tiny", "rounds": 3, "user": None,
        "machine": {"kernel": "6.18", "processor": "P<1>", "processors": 2, "memory_mib": 2048,
                    "filesystem": "ext4", "io_uring": "Y", "date": "2000-01-01"},
        "contenders": [{"name": "kernel", "kind": "kernel", "mode": None},
                       {"name": "served", "kind": "veneer", "mode": "served"},
                       {"name": "other", "kind": "peer", "mode": None}],
        "workloads": {name: {"title": f"{name} & more", "kind": kind, "unit": "ns",
                             "samples": samples, **more} for name, samples in times.items()},
    })


def test_each_criterion_has_its_workload():
    for section in ("ratio", "at-least", "at-most"):
        for name, entry in CRITERIA[section].items():
            assert name == "geometric-mean" or name in workloads.WORKLOADS
            assert set(entry) <= MODES and entry
            if name in workloads.WORKLOADS:
                kind = workloads.WORKLOADS[name].kind
                assert kind == ("time" if section == "ratio" else "figure")
    assert set(CRITERIA["best-peer"]["of-requests"]) <= set(workloads.WORKLOADS)
    for name, entry in CRITERIA["flat"].items():
        assert name in workloads.WORKLOADS and entry["over"] in workloads.WORKLOADS


def test_criteria_by_mode():
    assert figures.to_reach(CRITERIA, "ratio", "write", "passthrough") == 1.0
    assert figures.to_reach(CRITERIA, "ratio", "write", "served") == 2.5
    assert figures.to_reach(CRITERIA, "ratio", "open-warm", "passthrough") is None
    assert figures.to_reach(CRITERIA, "ratio", "write", None) is None
    assert figures.has_passed(1.0, 1.0, "ratio") and not figures.has_passed(1.1, 1.0, "ratio")
    assert figures.has_passed(1.8, 1.7, "at-least") and not figures.has_passed(1, 1.7, "at-least")
    assert figures.has_passed(None, 1.0, "ratio") is None


def test_ratio_is_the_median_of_the_rounds():
    """A round that was slow for everyone changes no ratio; one that failed does not count."""
    times = result({"stat-warm": {"kernel": [100, 1000, 100], "served": [150, 1500, None]}})
    assert times.ratio("stat-warm", "served") == 1.5
    assert times.ratio("stat-warm", "other") is None
    assert times.mean("served") == pytest.approx(1.5)


def test_mean_is_geometric():
    times = result({"a": {"kernel": [10], "served": [20]}, "b": {"kernel": [10], "served": [5]}})
    assert times.mean("served") == pytest.approx(1.0)


def test_verdict_needs_rounds_that_agree():
    old = [100.0] * 8
    assert figures.verdict(old, [120.0] * 8)[0] == "slower"
    assert figures.verdict(old, [80.0] * 8)[0] == "faster"
    assert figures.verdict(old, [101.0] * 8)[0] == ""
    assert figures.verdict(old, [80, 130, 90, 125, 70, 140, 95, 120])[0] == ""
    assert figures.verdict(old, [None] * 8) == ("", None)


def test_numbers_in_words():
    assert figures.in_words(1500, "ns") == "1.5 us"
    assert figures.in_words(1234567, "ns") == "1.23 ms"
    assert figures.in_words(2e9, "ns") == "2 s"
    assert figures.in_words(None, "ns") == "-"
    assert figures.in_words(2048, "KiB") == "2048 KiB"
    assert figures.in_words(1.75, "times") == "1.75 x"


def test_table_marks_what_is_reached():
    times = result({"stat-warm": {"kernel": [100], "served": [80], "other": [160]},
                    "mkdir": {"kernel": [100], "served": [300]}})
    table = report.Table(times.contenders, CRITERIA)
    (passed,), (not_yet,) = table.rows(times, "stat-warm"), table.rows(times, "mkdir")
    assert re.search(r"0\.80 pass .* 0\.85 +0\.50 pass of other$", passed)
    assert re.search(r"3\.00 not yet", not_yet)
    assert any("geometric mean" in line for line in table.closing(times))


def test_a_number_flat_over_layers():
    times = result({"missing-8": {"kernel": [10], "served": [10]},
                    "missing-128": {"kernel": [100], "served": [11]}})
    assert times.over("missing-128", "missing-8", "served") == pytest.approx(1.1)
    assert any("1.10 pass" in line for line in report.Table(times.contenders, CRITERIA).closing(times))


def test_choice_of_workloads():
    assert [each.name for each in workloads.choose("stat,*-128", False)] == [
        "stat-cold", "stat-warm", "missing-128"]
    assert all(each.is_short for each in workloads.choose(None, True))
    assert "memory-2m" not in [each.name for each in workloads.choose(None, False)]
    with pytest.raises(KeyError, match="nonsense"):
        workloads.choose("stat,nonsense", False)


def test_picture_and_tables():
    times = result({"stat-warm": {"kernel": [100], "served": [80], "other": [None]}})
    picture = xml.etree.ElementTree.fromstring(svg.draw(times, CRITERIA))
    names = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "stat-warm & more" in names and "served" in names
    tables = markdown.figures_of(times, CRITERIA)
    assert "| stat-warm & more | 100 ns | 0.80 **\u2713** | - | 0.85 |" in tables
    document = f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n"
    assert markdown.put(document, "new") == (
        f"before\n{markdown.BEGIN}\n\nnew\n\n{markdown.END}\nafter\n")
    with pytest.raises(ValueError):
        markdown.put("no marks", "new")


def test_picture_stays_on_the_page():
    times = result({"a": {"kernel": [1], "served": [50000], "other": [0.0001]}})
    for circle in xml.etree.ElementTree.fromstring(svg.draw(times, CRITERIA)).iter(
            "{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.get("cx")) <= svg.WIDTH


def test_work_directory_of_someone_else(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(measure.Refused, match="not empty"):
        measure.lock(str(tmp_path))
    with pytest.raises(measure.Refused):
        measure.clean(str(tmp_path))
    assert (tmp_path / "precious").exists()


def test_one_run_at_a_time(tmp_path):
    with measure.lock(str(tmp_path / "work")):
        with pytest.raises(measure.Refused, match="another run"):
            measure.lock(str(tmp_path / "work"))
    measure.clean(str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


@pytest.fixture
def bench(tmp_path, private_namespace):
    """The words of a command that takes a moment."""
    if not os.path.exists(f"{BUILD}/bench/bench-ops"):
        pytest.skip("bench-ops is not built")
    return [f"{BENCH}/run", BUILD, "--tiny", "--work", str(tmp_path / "work")]


def nothing_is_left(work):
    """No process that knows the directory, no mount, nothing measured."""
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert f"{work}/" not in commands.stdout
    assert not contenders.mounts_below(work)
    assert not os.path.exists(f"{work}/scratch")


def test_run(bench, tmp_path):
    output = tmp_path / "result.json"
    done = subprocess.run(
        [*bench, "--rounds", "1", "--only", "stat-warm,create,readdir-1k-2-warm,descriptors,idle-cpu",
         "--json", str(output)], capture_output=True, text=True, timeout=120, check=True)
    measured = figures.Result(json.loads(output.read_text()))
    assert [each["name"] for each in measured.contenders] == [
        "kernel", "native", "served", "passthrough"]
    for name in measured.names("time"):
        assert f"\n{name} " in done.stdout
        for each in measured.contenders:
            assert measured.ratio(name, each["name"]) > 0
    assert 0 < measured.value("descriptors", "served") < 1024
    assert measured.value("descriptors", "kernel") is None
    nothing_is_left(str(tmp_path / "work"))
    subprocess.run([f"{BENCH}/plot", str(output), "--svg", str(tmp_path / "picture"),
                    "--markdown", str(tmp_path / "tables")], check=True)
    assert (tmp_path / "picture").read_text().startswith("<svg")
    assert "| geometric mean |" in (tmp_path / "tables").read_text()


def test_comparison(bench):
    veneer = f"{BUILD}/veneer"
    done = subprocess.run([*bench, "--compare", veneer, f"{veneer},data=served", "--rounds", "2",
                           "--only", "stat-warm"], capture_output=True, text=True, timeout=120,
                          check=True)
    assert re.search(r"^stat-warm .* \d\.\d+ +\d\.\d+ - +\d\.\d+", done.stdout, re.MULTILINE)
    assert "kernel" not in done.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(bench, tmp_path, end):
    with subprocess.Popen([*bench, "--rounds", "500", "--only", "stat-warm,create"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        scratch = tmp_path / "work" / "scratch"
        deadline = time.monotonic() + 60
        while (not scratch.exists() or len(list(scratch.iterdir())) < 7) and (
                time.monotonic() < deadline):
            time.sleep(0.01)
        process.send_signal(end)
        complaint = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if end == signal.SIGINT else 143), complaint
    nothing_is_left(str(tmp_path / "work"))


def test_what_cannot_be_measured_is_told(bench):
    """A daemon that refuses its options: the status says so, the others are measured."""
    done = subprocess.run([*bench, "--rounds", "1", "--only", "stat-warm", "--no-native",
                           "--veneer", f"{BUILD}/veneer,nonsense"], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 1
    assert "nonsense" in done.stderr and "stat-warm (nonsense)" in done.stderr
    assert re.search(r"^stat-warm +\d", done.stdout, re.MULTILINE)


def test_users_are_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to be someone else")
    done = subprocess.run([sys.executable, f"{BENCH}/run"], user=65534, group=65534,
                          extra_groups=[], capture_output=True, text=True, check=False,
                          cwd="/", timeout=30)
    if "Permission denied" in done.stderr:
        pytest.skip("users cannot read the checkout")
    assert done.returncode == 1 and "needs root" in done.stderr and "--user" in done.stderr
