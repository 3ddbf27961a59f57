"""`veneer export` and `veneer import`: layers as archives of OCI image layers, and what others make of them."""

import gzip
import hashlib
import io
import json
import os
import pty
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import time

import pytest

import commands
import contenders
import oscalls
import trees
from trees import Dir, File, Hard, Node, Symlink

FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
ACL = bytes.fromhex("02000000" "01000600ffffffff" "02000400e8030000" "04000400ffffffff" "10000600ffffffff"
                    "20000400ffffffff")
LONG = "l" * 200
LOWER = {
    "moved": {"sub": {"file": "in sub", "other": "o"}, "gone": "g", "kept": File(data="k", owner=(5, 6))},
    "replaced": {"old": "old"}, "removed": "r", "dir": {"whole": {"a": "a"}, "stays": "s"},
    "meta": File(data="m" * 9000, mode=0o640), "linked": "two names", "link2": Hard("linked"),
    "sparse": File(data="begin", size=1 << 20), "becomes-dir": "file", "becomes-file": {"x": "x"},
}


def change(u):
    """One of each thing that a layer can hold."""
    os.rename(u / "moved", u / "here")
    os.rename(u / "here/sub", u / "there")
    os.unlink(u / "here/gone")
    shutil.rmtree(u / "replaced")
    os.mkdir(u / "replaced")
    u.write("replaced/new", "new")
    os.unlink(u / "removed")
    shutil.rmtree(u / "dir/whole")
    os.chmod(u / "meta", 0o4711)
    os.chown(u / "there/file", 7, 8)
    os.unlink(u / "becomes-dir")
    os.mkdir(u / "becomes-dir")
    shutil.rmtree(u / "becomes-file")
    u.write("becomes-file", "now a file")
    with open(u / "holes", "wb") as file:
        for at in (1 << 16, 1 << 20):
            file.seek(at)
            file.write(b"data" * 4096)
        file.truncate(3 << 20)
    with open(u / "hole", "wb") as file:
        file.truncate(5 << 30)
    u.append("sparse", "")
    trees.build(u / "new", Dir(mode=0o2775, owner=(1000, 1001), children={
        "one": File(data="x", xattrs={"user.k": b"v\n\0w", "trusted.t": "", "user.empty": "",
                                      "user.a=b%": "odd"}),
        "two": Hard("./one"), "caps": File(data="#!", mode=0o755), "acl": "acl", "sym": Symlink("/nowhere/" + LONG),
        "symhard": Hard("./sym"), "fifo": Node(mode=0o600), "big-id": File(owner=(3_000_000_000, 4_000_000_000)),
        "device": Node(type=stat.S_IFBLK, rdev=(259, 70_000), mode=0o660), "empty": {}, "odd\nname": "",
        "e\u0301": "decomposed", "\u00e9": "composed", "before 1970": File(mtime=-2_000_000_000),
    }))
    for name, key, value in (("caps", "security.capability", CAPABILITY), ("acl", "system.posix_acl_access", ACL),
                             ("empty", "system.posix_acl_default", ACL)):
        os.setxattr(u / f"new/{name}", key, value)
    trees.write(os.path.join(os.fsencode(u / "new"), b"not utf-8 \xff\xfe"), "raw")
    os.makedirs(u / f"{LONG}/{LONG}/{LONG}")
    u.write(f"{LONG}/{LONG}/{LONG}/{LONG}", "deep")
    if not u.is_veneer:
        return
    os.setxattr(u / "new/one", "trusted.overlay.mine", b"escaped")


def export(*words, **kwargs):
    """The archive on standard output, as bytes."""
    done = subprocess.run([contenders.VENEER, "export", *map(str, words)], capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=60, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [each.name + ("/" if each.isdir() else "") for each in tar]


def links(snapshot):
    """Which names are one file."""
    found = {}
    for path, each in snapshot.items():
        if each.nlink and each.nlink > 1:
            found.setdefault(each.ino, set()).add(path)
    return sorted(map(sorted, found.values()))


def shown(path):
    """What a tree shows, with its hard links as sets of names: inode numbers may differ."""
    seen = trees.snapshot(path, nlink=True, ino=True)
    return {name: each._replace(ino=None) for name, each in seen.items()}, links(seen)


def assert_same(left, right):
    assert trees.difference(left[0], right[0]) == []
    assert left[1] == right[1]


@pytest.fixture
def u(union):
    return union(LOWER, opts=FEATURES)


@pytest.fixture
def layer(u):
    """The layer of a union of either contender, at rest; u.seen is what it showed."""
    change(u)
    u.seen = shown(u.mnt)
    u.umount()
    return u


def mounted_by_kernel(u, layers, look):
    """What these layers show on kernel overlayfs without any of its features."""
    point = os.path.join(u.base, "point")
    os.mkdir(point)
    oscalls.mount("overlay", point, "overlay", oscalls.MS_RDONLY,
                  "redirect_dir=nofollow,metacopy=off,lowerdir=" + ":".join(layers))
    try:
        return look(point)
    finally:
        contenders.unmount(point)
        os.rmdir(point)


# Round trips


def test_round_trip(layer):
    """Export, import, export: the same bytes; and the kernel shows the same tree over the same lowers."""
    u = layer
    first = export(*commands.layers_of(u))
    again = os.path.join(u.base, "again")
    feed(first, again)
    assert export(again, "--lower", u.lowers[0]) == first
    assert_same(u.seen, mounted_by_kernel(u, [again, *u.lowers], shown))


def test_names_that_only_lowers_have(union):
    """A file with several names, changed under one of them: the index of the work directory tells of the others."""
    names = {"a": {"first": "shared"}, "m": {"own": Hard("a/first"), "in": {"deep": Hard("a/first")}},
             "z": Hard("a/first"), "other": {"x": "x", "y": Hard("other/x")}}
    u = union(names, opts=["index=on", "redirect_dir=on"])
    u.append("m/own", " and changed")
    os.rename(u / "m/in", u / "moved")
    u.seen = shown(u.mnt)
    u.umount()
    first = export(*commands.layers_of(u))
    again = os.path.join(u.base, "again")
    feed(first, again)
    assert_same(u.seen, mounted_by_kernel(u, [again, *u.lowers], shown))
    assert export(again, "--lower", u.lowers[0]) == first


def test_change_in_the_index_alone(union):
    """Refused, with what helps; that it helps is seen on veneer."""
    u = union({"x": "x", "y": Hard("x")}, opts=["index=on"])
    os.chmod(u / "x", 0o600)
    os.unlink(u / "x")
    u.umount()
    done = commands.run("export", *commands.layers_of(u), "-o", os.path.join(u.base, "o.tar"))
    assert done.returncode == 1 and "/y: " in done.stderr and "rename" in done.stderr
    u.mount()
    os.rename(u / "y", u / "t")
    os.rename(u / "t", u / "y")
    u.umount()
    assert names(export(*commands.layers_of(u))) == ["./", ".wh.x", "y"]


def feed(archive, target, *words):
    """Imports what comes through a pipe."""
    done = subprocess.run([contenders.VENEER, "import", *words, "-", target], input=archive, capture_output=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


def test_sparse_stays_sparse(layer):
    u = layer
    archive = export(*commands.layers_of(u))
    assert len(archive) < 4 << 20
    again = os.path.join(u.base, "again")
    feed(archive, again)
    for name in ("holes", "hole"):
        assert trees.data_ranges(os.path.join(again, name)) == trees.data_ranges(u.up(name))


def test_live_mount(u):
    """Also what is still in the kernel's cache; the same as of the layer at rest."""
    if not u.is_veneer:
        pytest.skip("the kernel's mounts cannot be asked for their layers")
    change(u)
    with open(u / "new/one", "ab") as file:
        file.write(b"unsynced")
        file.flush()
        live = export(u.mnt)
    u.umount()
    assert live == export(*commands.layers_of(u))


def test_kept_layer_needs_no_lowers(base):
    """A layer without redirects and metacopy says all by itself, but one with them does not."""
    path = os.path.join(base, "upper")
    trees.build(path, {"a": "a", "b": trees.whiteout(), "c": trees.opaque({"d": "d", "e": trees.whiteout()})})
    assert names(export(path)) == ["./", "a", ".wh.b", "c/", "c/.wh..wh..opq", "c/d"]
    os.setxattr(os.path.join(path, "c"), "trusted.overlay.redirect", b"elsewhere")
    done = commands.run("export", path)
    assert done.returncode == 1 and "/c: " in done.stderr and "--lower" in done.stderr


# Reproducible


def test_reproducible(layer, monkeypatch):
    u = layer
    words = commands.layers_of(u)
    first = export(*words)
    time.sleep(1.1)
    assert export(*words) == first
    assert export(*words, "--compress=gzip") == export(*words, "--compress=gzip")
    assert export(*words, env={**os.environ, "LC_ALL": "C", "TZ": "Asia/Tokyo"}) == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000")
    with tarfile.open(fileobj=io.BytesIO(export(*words))) as tar:
        times = {each.mtime for each in tar}
    assert max(times) == 1_000_000 and min(times) == -2
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    done = commands.run("export", *words)
    assert done.returncode == 1 and "SOURCE_DATE_EPOCH=soon" in done.stderr


def test_order(layer):
    """Parents first, names by their bytes, a directory's mark before what is in it; no names of users."""
    archive = export(*commands.layers_of(layer))
    found = names(archive)
    place = {name: i for i, name in enumerate(found)}
    assert found[0] == "./"
    for name in found[1:]:
        parent = os.path.dirname(name.rstrip("/"))
        assert place[parent + "/" if parent else "./"] < place[name]
    for name in place:
        if name.endswith(".wh..wh..opq"):
            assert place[os.path.dirname(name) + "/"] == place[name] - 1
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {(each.uname, each.gname) for each in tar} == {("", "")}
        keys = {key for each in tar for key in each.pax_headers}
    assert not any("overlay" in key and "mine" not in key for key in keys), keys


# What others make of it


def test_gnu_tar_and_bsdtar(layer, base):
    """Both list the names, and extract what the union shows of them."""
    u = layer
    path = os.path.join(base, "layer.tar")
    commands.ask("export", *commands.layers_of(u), "-o", path)
    with open(path, "rb") as file:
        expected = {name.rstrip("/") for name in names(file.read())}
    for program, flags in (("tar", ["--xattrs", "--xattrs-include=*"]), ("bsdtar", ["--xattrs"])):
        if not shutil.which(program):
            continue
        where = os.path.join(base, program)
        os.mkdir(where)
        done = subprocess.run([program, "-xpf", path, *flags, "-C", where], capture_output=True, text=True,
                              errors="surrogateescape", check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, (program, done.stderr)
        assert not [line for line in done.stderr.splitlines() if "hdrcharset" not in line and "devminor" not in line and "implausibly old" not in line]
        got, linked = shown(where)
        here = {name.encode("utf-8", "surrogateescape") for name in got}
        if program == "tar":  # bsdtar composes the characters of names
            assert here == {name.encode("utf-8", "surrogateescape") for name in expected}
        for name, each in got.items():
            if ".wh." in name or "\u00e9" in name or (name == "." and program == "bsdtar"):
                continue
            seen = u.seen[0][name]
            # bsdtar keeps xattrs of files only, and lets GNU's escapes stand.
            assert each._replace(xattrs=(), nlink=None) == seen._replace(xattrs=(), nlink=None), name
        assert ["new/one", "new/two"] in linked
        assert got["new/caps"].xattrs == u.seen[0]["new/caps"].xattrs


def blob(image, data):
    digest = hashlib.sha256(data).hexdigest()
    trees.write(os.path.join(image, "blobs/sha256", digest), data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def make_image(image, layers):
    """An OCI image of these uncompressed layers, the lowest first."""
    os.makedirs(os.path.join(image, "blobs/sha256"))
    kind = "application/vnd.oci.image."
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
                "config": {"mediaType": kind + "config.v1+json", **blob(image, json.dumps(config).encode())},
                "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **blob(image, gzip.compress(data))}
                           for data in layers]}
    index = {"schemaVersion": 2, "manifests": [{
        "mediaType": kind + "manifest.v1+json", **blob(image, json.dumps(manifest).encode()),
        "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}
    trees.write(os.path.join(image, "index.json"), json.dumps(index))
    trees.write(os.path.join(image, "oci-layout"), '{"imageLayoutVersion": "1.0.0"}')


@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_umoci(layer, base):
    """As a layer of an image over the lower, it unpacks to what the union showed."""
    u = layer
    image, bundle = os.path.join(base, "image"), os.path.join(base, "bundle")
    os.unlink(u.up("hole"))  # umoci would write it out
    top = u.seen[0]["."]
    os.utime(u.upper, ns=(top.mtime, top.mtime))
    make_image(image, [export(u.lowers[0]), export(*commands.layers_of(u))])
    subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", bundle], check=True, capture_output=True)
    got, linked = shown(os.path.join(bundle, "rootfs"))
    seen = {name: each for name, each in u.seen[0].items() if name != "hole"}
    bare = lambda snapshot: {name: each._replace(xattrs=()) for name, each in snapshot.items()}
    assert trees.difference(bare(seen), bare(got)) == []
    assert linked == u.seen[1]


@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_import_from_umoci(base):
    """A layer that umoci made of a changed tree."""
    image, bundle = os.path.join(base, "image"), os.path.join(base, "bundle")
    lower, upper = os.path.join(base, "lower"), os.path.join(base, "upper")
    trees.build(lower, {"a": "a", "d": {"x": "x", "y": "y"}, "e": {"f": "f"}})
    make_image(image, [export(lower)])
    for words in (["unpack", "--image", f"{image}:latest", bundle], None, ["repack", "--image", f"{image}:new", bundle]):
        if words:
            subprocess.run(["umoci", *words], check=True, capture_output=True)
            continue
        root = os.path.join(bundle, "rootfs")
        os.unlink(os.path.join(root, "a"))
        os.unlink(os.path.join(root, "d/x"))
        shutil.rmtree(os.path.join(root, "e"))
        trees.build(os.path.join(root, "n"), {"w": "w", "v": Hard("./w")})
    with open(os.path.join(image, "index.json"), encoding="utf-8") as file:
        found = [each["digest"] for each in json.load(file)["manifests"]
                 if each["annotations"]["org.opencontainers.image.ref.name"] == "new"]
    with open(os.path.join(image, "blobs", *found[0].split(":")), encoding="utf-8") as file:
        top = json.load(file)["layers"][-1]["digest"]
    commands.ask("import", os.path.join(image, "blobs", *top.split(":")), upper)
    assert trees.is_whiteout(os.path.join(upper, "a")) and trees.is_whiteout(os.path.join(upper, "d/x"))
    assert trees.is_whiteout(os.path.join(upper, "e")) and os.stat(os.path.join(upper, "n/w")).st_nlink == 2


# Archives made by hand


def archive_of(*entries, mode=""):
    """(name, type, content or target) each; of a directory no content."""
    kinds = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE,
             "c": tarfile.CHRTYPE, "p": tarfile.FIFOTYPE}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:" + mode, format=tarfile.PAX_FORMAT) as tar:
        for name, kind, *rest in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.mode = kinds[kind], 1_000_000_000, 0o755 if kind == "d" else 0o644
            data = rest[0].encode() if rest and kind == "f" else b""
            info.size = len(data)
            if kind in "lh":
                info.linkname = rest[0]
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("compression", ["", "gz", "xz", "bz2", "zst"])
def test_compressions(base, compression):
    path, layer = os.path.join(base, "a"), os.path.join(base, "layer")
    if compression == "zst":
        trees.build(os.path.join(base, "tree"), {"file": "content"})
        commands.ask("export", os.path.join(base, "tree"), "--compress=zstd", "-o", path)
        assert trees.read(path)[:4] == b"\x28\xb5\x2f\xfd"
    else:
        trees.write(path, archive_of(("file", "f", "content"), mode=compression))
    commands.ask("import", path, layer)
    assert trees.read(os.path.join(layer, "file")) == b"content"


def test_rules(base):
    """Whiteouts hide what lowers have, never what the same archive brings, wherever it stands in it."""
    layer = os.path.join(base, "layer")
    feed(archive_of(
        (".wh.plain", "f"), ("./dots/.wh.name", "f"), ("both", "f", "kept"), (".wh.both", "f"),
        ("dir", "d"), ("dir/kept", "f"), (".wh.dir", "f"), (".wh.dir2", "f"), ("dir2", "d"),
        ("opq", "d"), ("opq/.wh.useless", "f"), ("opq/early", "f"), ("opq/.wh..wh..opq", "f"), ("opq/late", "f"),
        ("opq/.wh.too", "f"), (".wh..wh.plnk/x", "f"), (".wh..wh.aufs", "f"), ("twice", "f", "1"), ("twice", "f", "2"),
        ("file-dir", "f"), ("file-dir", "d"), ("dir-file", "d"), ("dir-file/x", "f"), ("dir-file", "f"),
        ("hard", "h", "both"), ("hard", "h", "hard")), layer)
    at = lambda name: os.path.join(layer, name)
    for name in ("plain", "dots/name"):
        assert trees.is_whiteout(at(name))
    for name in ("dir", "dir2", "opq"):
        assert os.getxattr(at(name), "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(layer)) == sorted(["plain", "dots", "both", "dir", "dir2", "opq", "twice", "file-dir",
                                                "dir-file", "hard"])
    assert sorted(os.listdir(at("opq"))) == ["early", "late"] and os.listdir(at("dir")) == ["kept"]
    assert trees.read(at("twice")) == b"2" and os.path.isdir(at("file-dir")) and os.path.isfile(at("dir-file"))
    assert os.stat(at("hard")).st_ino == os.stat(at("both")).st_ino
    assert os.stat(at("dots")).st_mtime == 1_000_000_000 and stat.S_IMODE(os.stat(at("dots")).st_mode) == 0o755


HOSTILE = {
    "absolute": [("/etc/x", "f")], "dotdot": [("a/../../x", "f")], "dotdot-only": [("..", "d")],
    "through-link": [("l", "l", "/tmp"), ("l/x", "f")], "through-own-link": [("d", "d"), ("l", "l", "d"), ("l/x", "f")],
    "through-file": [("f", "f"), ("f/x", "f")], "hard-outside": [("h", "h", "../../etc/passwd")],
    "hard-absolute": [("h", "h", "/etc/passwd")], "hard-through-link": [("l", "l", "/etc"), ("h", "h", "l/passwd")],
    "hard-missing": [("h", "h", "nothing")], "hard-dir": [("d", "d"), ("h", "h", "d")],
    "hard-whiteout": [(".wh.x", "f"), ("h", "h", "x")], "hard-wh": [("h", "h", ".wh.x")],
    "in-whiteout": [(".wh.x/y", "f")], "device-zero": [("c", "c")], "root-file": [(".", "f")],
    "long-name": [("n" * 256, "f")], "deep": [("d/" * 3000, "d")], "whiteout-dotdot": [("a/..//.wh.x", "f")],
    "opaque-through-link": [("l", "l", "/tmp"), ("l/.wh..wh..opq", "f")],
    "dir-over-link": [("l", "l", "/tmp"), ("l/sub/deeper", "f")],
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile(base, name):
    """Refused, with the entry and the archive named; nothing is left, in the layer or beside it."""
    path = os.path.join(base, "evil.tar")
    trees.write(path, archive_of(("first", "f", "fine"), *HOSTILE[name]))
    for target in ("missing", "empty"):
        os.makedirs(os.path.join(base, "empty"), exist_ok=True)
        done = commands.run("import", path, os.path.join(base, target))
        assert done.returncode == 1
        assert "evil.tar" in done.stderr and "entry" in done.stderr, done.stderr
        assert sorted(os.listdir(base)) == ["empty", "evil.tar"] and not os.listdir(os.path.join(base, "empty"))


def test_links_are_not_followed(base):
    """What takes the place of a link takes its place."""
    outside, layer = os.path.join(base, "outside"), os.path.join(base, "layer")
    trees.build(outside, {"file": File(data="safe", mode=0o600)})
    feed(archive_of(("l", "l", outside + "/file"), ("l", "f", "mine"), ("d", "l", outside), ("d", "d"), ("d/file", "f"),
                    ("loop", "l", "loop"), ("h", "h", "loop")), layer)
    assert trees.read(os.path.join(outside, "file")) == b"safe"
    assert trees.read(os.path.join(layer, "l")) == b"mine" and os.path.isdir(os.path.join(layer, "d"))
    assert os.readlink(os.path.join(layer, "h")) == "loop"


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_truncated(base, compression):
    """Cut off anywhere: refused, and nothing is left."""
    whole = archive_of(*[(f"f{i}", "f", os.urandom(300).hex()) for i in range(20)], mode=compression)
    end = len(whole.rstrip(b"\0")) if not compression else len(whole) - 1
    path = os.path.join(base, "cut.tar")
    for size in sorted({0, 1, 511, 512, 513, 1024, 5 * 1536, end // 2, end} & set(range(end + 1))):
        trees.write(path, whole[:size])
        done = commands.run("import", path, os.path.join(base, "layer"))
        assert done.returncode == 1, (size, done.stderr)
        assert os.listdir(base) == ["cut.tar"], size


def test_damaged(base):
    """Bytes changed at random never crash it, and leave a layer or nothing."""
    whole = bytearray(archive_of(("d", "d"), (LONG + LONG[:54], "f", "x" * 700), ("d/l", "l", "x"), ("h", "h", "d/l")))
    chance, path, layer = random.Random(5), os.path.join(base, "x.tar"), os.path.join(base, "layer")
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 3, 30))):
            damaged[chance.randrange(6 * 1024)] = chance.randrange(256)
        trees.write(path, bytes(damaged))
        done = commands.run("import", path, layer)
        assert done.returncode in (0, 1), done.stderr
        assert os.path.isdir(layer) == (done.returncode == 0)
        if done.returncode == 0:
            shutil.rmtree(layer)
        assert os.listdir(base) == ["x.tar"]


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_lists_as_tar_programs_write_them(base, program):
    """Access control lists as text beside the entry, not as attributes."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    tree, path, layer = (os.path.join(base, name) for name in ("tree", "a.tar", "layer"))
    trees.build(tree, {"d": {"f": File(mode=0o664), "bare": "b"}})
    number = 54321
    while number in {each.pw_uid for each in pwd.getpwall()}:
        number += 1
    acl = ACL.replace((1000).to_bytes(4, "little"), number.to_bytes(4, "little"))
    os.setxattr(os.path.join(tree, "d"), "system.posix_acl_default", acl)
    os.setxattr(os.path.join(tree, "d/f"), "system.posix_acl_access", acl)
    subprocess.run([program, "--acls", "--format=pax" if program == "bsdtar" else "--posix", "-cf", path, "-C", tree,
                    "d"], check=True)
    commands.ask("import", path, layer)
    for name in ("d", "d/f", "d/bare"):
        assert trees.entry(os.path.join(layer, name)) == trees.entry(os.path.join(tree, name)), name
    trees.write(path, trees.read(path).replace(str(number).encode(), b"named"))
    done = commands.run("import", path, os.path.join(base, "other"))
    assert done.returncode == 1 and "entry d" in done.stderr and "without a number" in done.stderr


# One on top of another


def random_layer(chance, path):
    """A layer with whiteouts, opaque directories and objects of the same few names."""
    def fill(depth):
        children = {}
        for name in chance.sample("abcdef", chance.randrange(2, 6)):
            kind = chance.choice("fdDwwdf" if depth < 3 else "fwl")
            if kind == "w":
                children[name] = trees.whiteout()
            elif kind == "f":
                children[name] = File(data=str(chance.random()), xattrs={"user.k": str(chance.randrange(3))})
            elif kind == "l":
                children[name] = Symlink(chance.choice("abc"))
            else:
                inside = fill(depth + 1)
                if kind == "D":
                    inside = {k: v for k, v in inside.items() if v != trees.whiteout()}
                extra = {"user.d": str(chance.randrange(5))}
                mode = chance.choice((0o755, 0o700))
                children[name] = trees.opaque(inside, mode=mode, xattrs=extra) if kind == "D" else \
                    Dir(children=inside, mode=mode, xattrs=extra)
        return children
    trees.build(path, fill(0))


def visible(path):
    """Like shown(); the kernel also lists whiteouts that hide nothing, as names of nothing."""
    seen = {}
    for name, _dirs, _files in os.walk(path):
        for each in [name] + [os.path.join(name, other) for other in os.listdir(name)]:
            if os.path.lexists(each):
                seen[os.path.relpath(each, path)] = trees.entry(each)
    return seen, []


@pytest.mark.veneer_only("a command")
@pytest.mark.parametrize("seed", range(12))
def test_onto(union_factory, seed):
    """What two layers show one over the other, the merged one shows."""
    u = union_factory({}, guard=False)
    chance = random.Random(seed)
    paths = [os.path.join(u.base, name) for name in ("bottom", "first", "second")]
    for path in paths:
        random_layer(chance, path)
    shutil.rmtree(paths[0])
    trees.build(paths[0], {})
    random_layer(chance, os.path.join(paths[0], "a"))
    subprocess.run(["find", paths[0], "-type", "c", "-delete"], check=True)
    merged = os.path.join(u.base, "merged")
    feed(export(paths[1]), merged)
    feed(export(paths[2]), merged, "--onto")
    expected = mounted_by_kernel(u, [paths[2], paths[1], paths[0]], visible)
    assert_same(expected, mounted_by_kernel(u, [merged, paths[0]], visible))
    assert not [name for name in os.listdir(u.base) if name.startswith(".veneer")]


def test_onto_only_if_asked(base):
    layer = os.path.join(base, "layer")
    trees.build(layer, {"is": "here"})
    trees.write(os.path.join(base, "a.tar"), archive_of(("new", "f")))
    done = commands.run("import", os.path.join(base, "a.tar"), layer)
    assert done.returncode == 1 and "--onto" in done.stderr and os.listdir(layer) == ["is"]


def test_onto_keeps_what_is_not_named(base):
    """A directory that the archive has no entry for keeps its attributes and its time."""
    layer = os.path.join(base, "layer")
    trees.build(layer, {"d": Dir(mode=0o711, mtime=trees.OLD, xattrs={"user.a": "b"}, children={"old": ""})})
    feed(archive_of(("d/new", "f")), layer, "--onto")
    found = trees.entry(os.path.join(layer, "d"))
    assert (found.mode, found.mtime, found.xattrs) == (0o711, trees.OLD, (("user.a", b"b"),))
    assert sorted(os.listdir(os.path.join(layer, "d"))) == ["new", "old"]


@pytest.mark.parametrize("words", [(), ("--onto",)])
def test_live_upper(u, words):
    """Neither an empty one nor one with something in it."""
    for _ in range(2):
        done = subprocess.run([contenders.VENEER, "import", *words, "-", u.upper], capture_output=True, check=False,
                              input=archive_of(("x", "f")), timeout=60)
        assert done.returncode == 1 and u.upper.encode() in done.stderr, done.stderr
        u.write("in-use", "")
    assert u.ls() == sorted(["in-use", *LOWER])


# Other users, other forms


def test_ordinary_user(base, as_user):
    """Owners are the user's own, set-id bits of others go, private attributes are user.overlay.*."""
    home = os.path.join(base, "home")
    os.mkdir(home)
    os.chown(home, 1000, 1000)
    trees.build(os.path.join(base, "tree"), Dir(children={
        "gone": trees.whiteout(), "o": trees.opaque({"f": File(mode=0o444, xattrs={"user.k": "v"})}),
        "suid": File(mode=0o4755), "closed": Dir(mode=0o500, children={"in": "in"}), "t": File(xattrs={"trusted.t": ""})}))
    archive = export(os.path.join(base, "tree"))
    layer = os.path.join(home, "layer")
    text = as_user(1000, lambda: feed(archive, layer))
    assert "belong to others" in text and "extended attributes" in text
    at = lambda name: os.path.join(layer, name)
    assert trees.is_whiteout(at("gone")) and os.getxattr(at("o"), "user.overlay.opaque") == b"y"
    assert os.stat(at("suid")).st_uid == 1000 and stat.S_IMODE(os.stat(at("suid")).st_mode) == 0o755
    assert os.getxattr(at("o/f"), "user.k") == b"v" and os.listdir(at("closed")) == ["in"]
    assert names(as_user(1000, lambda: export(layer))) == names(archive)


@pytest.mark.veneer_only("a command")
def test_attribute_whiteouts(union_factory):
    """As a lower of the kernel's, a layer with whiteouts of that form hides the same."""
    u = union_factory({"a": "a", "d": {"x": "x", "y": "y"}}, guard=False)
    layer = os.path.join(u.base, "attribute")
    feed(archive_of((".wh.a", "f"), ("d", "d"), ("d/.wh.x", "f"), ("d/z", "f")), layer, "--attribute-whiteouts")
    assert not trees.is_whiteout(os.path.join(layer, "a"))
    look = lambda point: (sorted(os.listdir(point)), sorted(os.listdir(os.path.join(point, "d"))))
    assert mounted_by_kernel(u, [layer, *u.lowers], look) == (["d"], ["y", "z"])
    assert [name for name in names(export(layer)) if ".wh." in name] == [".wh.a", "d/.wh.x"]


def test_private_attributes_of_the_archive(base):
    """Names of the format's own are an archive's user's attributes, one level deeper, not marks."""
    layer = os.path.join(base, "layer")
    trees.build(layer, {"d": Dir(xattrs={"trusted.overlay.overlay.opaque": "y"})})
    archive = export(layer)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getmember("d").pax_headers["SCHILY.xattr.trusted.overlay.opaque"] == "y"
    again = os.path.join(base, "again")
    feed(archive, again)
    assert trees.xattrs(os.path.join(again, "d")) == (("trusted.overlay.overlay.opaque", b"y"),)


# The command line


def test_sockets_and_names_that_cannot_be(base):
    layer = os.path.join(base, "layer")
    os.mkdir(layer)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.join(layer, "s"))
    trees.write(os.path.join(layer, "f"), "f")
    done = commands.run("export", layer, "-o", os.path.join(base, "o.tar"))
    assert done.returncode == 0 and "1 sockets" in done.stderr
    assert names(trees.read(os.path.join(base, "o.tar"))) == ["./", "f"]
    trees.write(os.path.join(layer, ".wh.f"), "")
    done = commands.run("export", layer, "-o", os.path.join(base, "p.tar"))
    assert done.returncode == 1 and "/.wh.f" in done.stderr
    assert sorted(os.listdir(base)) == ["layer", "o.tar"]


def test_outputs(base):
    layer = os.path.join(base, "layer")
    trees.build(layer, {"f": "f"})
    plain = export(layer)
    for name, magic in (("a.tar", plain[:4]), ("a.tar.gz", b"\x1f\x8b"), ("a.tgz", b"\x1f\x8b"),
                        ("a.tar.zst", b"\x28\xb5\x2f\xfd")):
        commands.ask("export", layer, "-o", os.path.join(base, name))
        assert trees.read(os.path.join(base, name)).startswith(magic)
    assert gzip.decompress(export(layer, "--compress=gzip")) == plain == export(layer, "-o", "-")
    commands.ask("export", layer, "-o", "/dev/null")
    done = commands.run("export", layer, "-o", os.path.join(base, "no/such"))
    assert done.returncode == 1 and "no/such" in done.stderr
    assert commands.run("export", layer, "--compress=lzma").returncode == 2
    assert commands.run("export", layer, "--json").returncode == 2
    assert commands.run("export").returncode == commands.run("import", "x").returncode == 2


def test_no_archive_on_a_terminal(base):
    layer = os.path.join(base, "layer")
    os.mkdir(layer)
    main, terminal = pty.openpty()
    try:
        done = subprocess.run([contenders.VENEER, "export", layer], stdout=terminal, stderr=subprocess.PIPE,
                              check=False, timeout=60)
    finally:
        os.close(terminal)
        os.close(main)
    assert done.returncode == 1 and b"terminal" in done.stderr


def test_full_disk(layer, scratch):
    """The archive does not fit: an error, and no half file."""
    u = layer
    small = scratch.make("tmpfs", 64 << 10)
    done = commands.run("export", *commands.layers_of(u), "-o", os.path.join(small, "o.tar"))
    assert done.returncode == 1 and "No space" in done.stderr and os.listdir(small) == []
    done = subprocess.run([contenders.VENEER, "import", "-", os.path.join(small, "layer")], capture_output=True,
                          input=export(*commands.layers_of(u)), check=False, timeout=60)
    assert done.returncode == 1 and b"entry" in done.stderr and os.listdir(small) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(base, number):
    """Ended in the middle by a signal, nothing is left."""
    archive = archive_of(*[(f"f{i}", "f", "x" * 5000) for i in range(50)])
    with subprocess.Popen([contenders.VENEER, "import", "-", os.path.join(base, "layer")], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdin.write(archive[:len(archive) // 2])
        process.stdin.flush()
        assert trees.wait_until(lambda: os.listdir(base))
        process.send_signal(number)
        _out, err = process.communicate(timeout=30)
    assert process.returncode != 0 and os.listdir(base) == [], err


def test_json(layer):
    u = layer
    path, again = os.path.join(u.base, "o.tar.zst"), os.path.join(u.base, "again")
    text = commands.ask("export", *commands.layers_of(u), "-o", path, "--json")
    commands.check_form("export", text)
    written = json.loads(text)
    assert written["compression"] == "zstd" and written["size"] == os.path.getsize(path)
    text = commands.ask("import", path, again, "--json")
    commands.check_form("import", text)
    read = json.loads(text)
    for key in ("entries", "whiteouts", "opaque", "bytes"):
        assert written[key] == read[key] > 0, key
