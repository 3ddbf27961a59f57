"""The tree that faults are tried on, and one mutating operation per scenario.

Each operation is a single step to its caller: whatever happens, the tree must afterwards be
the one before it or the one after it."""

import os
import stat

import syscalls
from layers import OLD, acl, pattern

import random


def write_file(path, data, flags=os.O_CREAT | os.O_EXCL, offset=0):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def build_lowers(bottom, top):
    """Two lower layers with every kind of object, all times long past."""
    for name in ['ld/sub', 'merged', 'emptyme', 'goned/deep', 'p/q/r', 'le', 'other', 'hl', 'hx',
                 'hw']:
        os.makedirs(f'{bottom}/{name}')
    for name in ['lf', 'lf2', 'mc', 'gone', 'gone2', 'hl/a', 'hx/a', 'hw/a', 'ld/f', 'ld/sub/g',
                 'merged/m1', 'emptyme/x',
                 'emptyme/y', 'goned/h', 'p/q/r/s', 'other/o']:
        write_file(f'{bottom}/{name}', pattern(len(name), 5000))
    for one, other in [('hl/a', 'hl/b'), ('hl/a', 'other/c'), ('hx/a', 'hx/b'),
                       ('hw/a', 'hw/b')]:
        os.link(f'{bottom}/{one}', f'{bottom}/{other}')
    write_file(f'{bottom}/big', pattern(3, 300000))
    with open(f'{bottom}/hole', 'xb') as file:
        file.truncate(1 << 20)
        file.seek(500000)
        file.write(pattern(9, 4096))
    os.symlink('lf', f'{bottom}/sym')
    os.mkfifo(f'{bottom}/fifo')
    os.mknod(f'{bottom}/dev', stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.setxattr(f'{bottom}/lf', 'user.a', b'value')
    os.setxattr(f'{bottom}/ld', 'user.d', b'value')
    os.chown(f'{bottom}/lf', 1000, 1001)
    os.chmod(f'{bottom}/lf', 0o4750)
    os.setxattr(f'{bottom}/lf2', 'system.posix_acl_access', acl(random.Random(1)))
    for name in ['merged', 'ld']:
        os.mkdir(f'{top}/{name}')
    write_file(f'{top}/merged/m2', b'two')
    write_file(f'{top}/ld/h', b'three')
    for layer in (bottom, top):
        for path, dirs, files in os.walk(layer, topdown=False):
            for name in files + dirs:
                os.utime(f'{path}/{name}', ns=(OLD, OLD), follow_symlinks=False)
        os.utime(layer, ns=(OLD, OLD))


def build_upper(root):
    """Through a mount: what the upper layer holds before the operation."""
    write_file(f'{root}/uf', b'upper')
    write_file(f'{root}/merged/m3', b'upper')
    write_file(f'{root}/merged/m1', b'changed', 0)
    os.chmod(f'{root}/mc', 0o640)			# with metacopy=on its data stays below
    os.chmod(f'{root}/hx/a', 0o640)		# with index=on hx/b is the same file still
    write_file(f'{root}/hw/a', b'changed', 0)	# so is hw/b, with its data in the upper
    os.mkdir(f'{root}/ud')
    os.mkdir(f'{root}/ud/empty')
    write_file(f'{root}/ud/k', b'upper')
    for name in ['gone', 'gone2', 'goned/h', 'emptyme/x', 'emptyme/y']:
        os.unlink(f'{root}/{name}')
    for name in ['goned/deep', 'goned']:
        os.rmdir(f'{root}/{name}')


def rename(src, dst, flags=0):
    return lambda root: syscalls.renameat2(f'{root}/{src}', f'{root}/{dst}', flags)


def link(src, dst):
    return lambda root: syscalls.linkat(f'{root}/{src}', f'{root}/{dst}', 0)


def make_tmpfile(root, directory, name):
    fd = os.open(f'{root}/{directory}', os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        syscalls.linkat(f'/proc/self/fd/{fd}', f'{root}/{name}', syscalls.AT_SYMLINK_FOLLOW)
    finally:
        os.close(fd)


def with_file(path, flags, action):
    def operation(root):
        fd = os.open(f'{root}/{path}', flags)
        try:
            action(fd)
        finally:
            os.close(fd)
    return operation


def unlink_seen(seen, name):
    """A name of a file that was found by another one before."""
    def operation(root):
        os.stat(f'{root}/{seen}')
        os.unlink(f'{root}/{name}')
    return operation


def create(name):
    return lambda root: os.close(os.open(f'{root}/{name}', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640))


EXCHANGE, NOREPLACE = syscalls.RENAME_EXCHANGE, syscalls.RENAME_NOREPLACE
PUNCH = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE

SCENARIOS = {
    'create': create('new'),
    'create-in-lower-dir': create('ld/new'),
    'create-deep': create('p/q/r/new'),
    'create-over-whiteout': create('gone'),
    'mkdir': lambda root: os.mkdir(f'{root}/new'),
    'mkdir-in-lower-dir': lambda root: os.mkdir(f'{root}/ld/new'),
    'mkdir-over-whiteout': lambda root: os.mkdir(f'{root}/goned'),
    'mkdir-over-file-whiteout': lambda root: os.mkdir(f'{root}/gone'),
    'symlink': lambda root: os.symlink('x', f'{root}/new'),
    'symlink-over-whiteout': lambda root: os.symlink('x', f'{root}/gone'),
    'mkfifo': lambda root: os.mkfifo(f'{root}/new'),
    'mknod-over-whiteout': lambda root: os.mknod(f'{root}/gone', stat.S_IFCHR | 0o600,
                                                 os.makedev(1, 5)),
    'tmpfile': lambda root: make_tmpfile(root, 'ld', 'ld/new'),
    'tmpfile-over-whiteout': lambda root: make_tmpfile(root, 'ud', 'gone'),
    'chmod-lower': lambda root: os.chmod(f'{root}/lf', 0o600),
    'chmod-lower-dir': lambda root: os.chmod(f'{root}/ld', 0o700),
    'chmod-deep': lambda root: os.chmod(f'{root}/p/q/r/s', 0o600),
    'chown-lower': lambda root: os.chown(f'{root}/lf2', 1001, 1001),
    'chown-lower-symlink': lambda root: os.lchown(f'{root}/sym', 1000, 1000),
    'chown-lower-device': lambda root: os.chown(f'{root}/dev', 1000, 1000),
    'chmod-lower-fifo': lambda root: os.chmod(f'{root}/fifo', 0o600),
    'utimens-lower': lambda root: os.utime(f'{root}/lf', ns=(5, OLD + 5)),
    'setxattr-lower': lambda root: os.setxattr(f'{root}/lf', 'user.b', b'new'),
    'setxattr-lower-dir': lambda root: os.setxattr(f'{root}/ld', 'user.b', b'new'),
    'removexattr-lower': lambda root: os.removexattr(f'{root}/lf', 'user.a'),
    'setacl-lower': lambda root: os.setxattr(f'{root}/lf', 'system.posix_acl_access',
                                             acl(random.Random(2))),
    'write-lower': with_file('lf', os.O_RDWR, lambda fd: os.pwrite(fd, b'written', 100)),
    'write-lower-big': with_file('big', os.O_RDWR, lambda fd: os.pwrite(fd, b'written', 100)),
    'write-lower-sparse': with_file('hole', os.O_RDWR, lambda fd: os.pwrite(fd, b'w', 9)),
    'append-lower': with_file('lf', os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b'more')),
    'write-upper': with_file('uf', os.O_RDWR, lambda fd: os.pwrite(fd, b'ww', 1)),
    'truncate-lower': lambda root: os.truncate(f'{root}/lf', 10),
    'truncate-lower-0': lambda root: os.truncate(f'{root}/lf', 0),
    'truncate-lower-longer': lambda root: os.truncate(f'{root}/lf', 9000),
    'open-trunc-lower': with_file('big', os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    'punch-lower': with_file('lf', os.O_RDWR, lambda fd: syscalls.fallocate(fd, PUNCH, 0, 4096)),
    'fallocate-lower': with_file('lf', os.O_RDWR,
                                 lambda fd: syscalls.fallocate(fd, 0, 0, 20000)),
    'write-metacopy': with_file('mc', os.O_RDWR, lambda fd: os.pwrite(fd, b'written', 100)),
    'truncate-metacopy-0': lambda root: os.truncate(f'{root}/mc', 0),
    'truncate-indexed-metacopy': lambda root: os.truncate(f'{root}/hx/a', 9000),
    'truncate-metacopy': lambda root: os.truncate(f'{root}/mc', 4500),
    'write-hardlink': with_file('hl/a', os.O_RDWR, lambda fd: os.pwrite(fd, b'written', 100)),
    'write-indexed': with_file('hx/b', os.O_RDWR, lambda fd: os.pwrite(fd, b'written', 100)),
    'chmod-hardlink': lambda root: os.chmod(f'{root}/hl/a', 0o600),
    'link-hardlink': link('hl/a', 'new'),
    'link-indexed': link('hx/b', 'ld/new'),
    'link-metacopy': link('mc', 'new'),
    'link-lower': link('lf', 'new'),
    'link-lower-over-whiteout': link('lf', 'gone'),
    'link-upper': link('uf', 'ld/new'),
    'unlink-upper': lambda root: os.unlink(f'{root}/uf'),
    'unlink-lower': lambda root: os.unlink(f'{root}/lf'),
    'unlink-merged': lambda root: os.unlink(f'{root}/merged/m1'),
    'unlink-deep': lambda root: os.unlink(f'{root}/p/q/r/s'),
    'unlink-hardlink': lambda root: os.unlink(f'{root}/hl/a'),
    'unlink-indexed': lambda root: os.unlink(f'{root}/hx/a'),
    'unlink-indexed-lower': lambda root: os.unlink(f'{root}/hx/b'),
    'unlink-indexed-seen': unlink_seen('hw/a', 'hw/b'),
    'rmdir-upper': lambda root: os.rmdir(f'{root}/ud/empty'),
    'rmdir-lower': lambda root: os.rmdir(f'{root}/le'),
    'rmdir-merged-empty': lambda root: os.rmdir(f'{root}/emptyme'),
    'rename-upper': rename('uf', 'new'),
    'rename-upper-over-upper': rename('uf', 'ud/k'),
    'rename-upper-over-lower': rename('uf', 'lf'),
    'rename-upper-over-whiteout': rename('uf', 'gone'),
    'rename-lower': rename('lf', 'new'),
    'rename-lower-noreplace': rename('lf', 'ld/new', NOREPLACE),
    'rename-lower-over-lower': rename('lf', 'lf2'),
    'rename-lower-over-whiteout': rename('lf', 'gone'),
    'rename-whiteouts-both': rename('merged/m1', 'gone'),
    'rename-metacopy': rename('mc', 'ld/new'),
    'rename-hardlink': rename('hl/a', 'new'),
    'rename-indexed': rename('hx/b', 'ld/new'),
    'rename-upper-over-indexed': rename('uf', 'hx/a'),
    'rename-hardlink-over-lower': rename('hl/a', 'lf'),
    'rename-exchange-lower': rename('lf', 'ld/f', EXCHANGE),
    'rename-exchange-upper-lower': rename('uf', 'lf', EXCHANGE),
    'rename-exchange-file-dir': rename('lf', 'ud', EXCHANGE),
    'rename-dir-upper': rename('ud', 'ld/new'),
    'rename-dir-lower': rename('other', 'new'),
    'rename-dir-merged': rename('ld', 'ud/new'),
    'rename-dir-over-whiteout': rename('ud', 'goned'),
    'rename-dir-lower-over-whiteout': rename('other', 'goned'),
    'rename-dir-over-merged-empty': rename('ud', 'emptyme'),
    'rename-dir-over-lower-empty': rename('other', 'le'),
    'rename-dir-exchange': rename('ld', 'merged', EXCHANGE),
}

# Of these a crash may also leave what it may leave of the same call on a plain file: the data
# are one thing, the times that a change of data brings another.
DATA = {name for name in SCENARIOS
        if name.split('-')[0] in ('write', 'append', 'truncate', 'open', 'punch', 'fallocate')}

# These need index=on, without which a copy-up takes a name away from the others, and metacopy=on.
INDEXED = {name for name in SCENARIOS
           if {'hardlink', 'indexed', 'metacopy'} & set(name.split('-'))}
