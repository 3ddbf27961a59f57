#!/usr/bin/python3
"""Writes the seeds of the fuzz corpora: one file per shape of input that is worth a start.
Inputs that once broke something are added beside them by hand, named for what they broke."""

import gzip
import io
import os
import struct
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))

FB = struct.pack('<BBBBB16s8s', 0, 0xfb, 29, 1, 1, bytes(range(16)), bytes(range(8)))
ACL = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in [
    (1, 7, 0xffffffff), (2, 5, 1000), (4, 5, 0xffffffff), (0x10, 7, 0xffffffff),
    (0x20, 4, 0xffffffff)])

FORMAT = {
    'redirect-relative': b'\0name',
    'redirect-absolute': b'\0/a/bb/ccc',
    'redirect-dots': b'\0/a/../b',
    'redirect-doubled': b'\0/a//b',
    'redirect-nul': b'\0a\0b',
    'redirect-empty': b'\0',
    'origin': b'\1' + FB,
    'origin-upper': b'\1' + FB[:3] + b'\5' + FB[4:],
    'origin-short': b'\1' + FB[:20],
    'origin-length-lies': b'\1' + FB[:2] + b'\xff' + FB[3:],
    'origin-newer': b'\1\1' + FB[1:],
    'origin-empty': b'\1',
    'origin-largest': b'\1' + bytes([0, 0xfb, 149, 1, 1]) + bytes(144),
    'index-name': b'\2' + FB.hex().encode(),
    'index-name-upper-case': b'\2' + FB.hex().upper().encode(),
    'index-name-odd': b'\2' + FB.hex().encode()[:-1],
    'metacopy-empty': b'\3',
    'metacopy-sha256': b'\3' + bytes([0, 36, 0, 1]) + bytes(range(32)),
    'metacopy-length-lies': b'\3' + bytes([0, 200, 0, 1]) + bytes(range(32)),
    'nlink-upper': b'\4U-1',
    'nlink-lower': b'\4L+0',
    'nlink-overflow': b'\4U+99999999999',
    'nlink-most-negative': b'\4U-2147483648',
    'protattr': b'\5ai',
    'protattr-unknown': b'\5aix',
    'protattr-long': b'\5' + b'a' * 40,
    'lowerdir': b'\6/a:/b::/c::/d',
    'lowerdir-escapes': b'\6/a\\:b:/c\\,d:/e\\\\f',
    'lowerdir-triple': b'\6/a:::/b',
    'lowerdir-trailing': b'\6/a:',
    'lowerdir-trailing-escape': b'\6/a\\',
    'lowerdir-leading': b'\6:/a',
    'acl': b'\7\xed\1\0\0' + ACL,
    'acl-unordered': b'\7\xed\1\0\0' + ACL[:4] + ACL[12:] + ACL[4:12],
    'acl-cut': b'\7\xed\1\0\0' + ACL[:-3],
    'acl-header-only': b'\7\xed\1\0\0' + ACL[:4],
    'acl-minimal': b'\7\xff\1\0\0' + ACL[:12] + ACL[20:28] + ACL[36:],
    'list': b'\x08\0user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.opaque\0',
    'list-user': b'\x08\1user.overlay.redirect\0user.overlay.overlay.x\0user.overlay.\0',
    'list-bare': b'\x08\0trusted.overlay.\0\0\0trusted.overlay',
    'name': b'\x09\0trusted.overlay.opaque',
    'name-deep': b'\x09\0trusted.overlay.overlay.overlay.x',
    'name-longest': b'\x09\1user.overlay.' + b'x' * 240,
    'name-bare': b'\x09\1user.overlay.',
    'wh': b'\x0a.wh.name',
    'wh-opaque': b'\x0a.wh..wh..opq',
    'wh-plink': b'\x0a.wh..wh.plnk',
    'wh-bare': b'\x0a.wh.',
    'opaque': b'\x0ay',
}

OPTIONS = {
    'usual': b'lowerdir=/a:/b,upperdir=/u,workdir=/w\0redirect_dir=on,xino=auto',
    'escapes': b'lowerdir=/a\\:b\\,c:/d::/e,upperdir=/u\\,v,workdir=/w',
    'plus': b'lowerdir+=/a\0lowerdir+=/b,datadir+=/c,userxattr',
    'plus-after-list': b'lowerdir=/a,lowerdir+=/b',
    'only-upper': b'upperdir=/u',
    'mount-flags': b'lowerdir=/a:/b,ro,nodev,nosuid,noexec,noatime,relatime',
    'fuse': b'lowerdir=/a,upperdir=/u,workdir=/w,allow_other,timeout=1.5,max_idle_threads=3',
    'carried': b'lowerdir=/a:/b,x-systemd.automount,_netdev,noauto,user',
    'refused': b'lowerdir=/a:/b,nfs_export=on,verity=require',
    'unknown': b'lowerdir=/a,upperdirr=/u',
    'empty': b'',
    'commas': b',,,lowerdir=/a:/b,,',
    'no-value': b'lowerdir,upperdir=,workdir=',
    'context': b'lowerdir=/a:/b,context="a,b:c"',
    'quote-open': b'lowerdir=/a:/b,context="a',
    'number': b'lowerdir=/a:/b,timeout=1e999,max_threads=99999999999999999999',
    'metacopy-without-redirect': b'lowerdir=/a:/b,metacopy=on,redirect_dir=nofollow',
}

# ---- the session's: how to mount, what the layers hold, messages ----

LOWER0, LOWER1, UPPER, WORK = range(4)
TOP, IN_A, IN_B, IN_AB, IN_ABC, IN_WORK, IN_INDEX, IN_INCOMPAT = range(8)
A, B, C, D, LONG, WH_A, WH_OPAQUE, WH_OTHER, TEMP0, TEMP1, INCOMPAT, WORK_NAME, INDEX = range(13)
NO_NAME = 15
DIR, FILE, SYMLINK, WHITEOUT, SPECIAL, LINK, XATTR = range(7)
OPAQUE, IS_WHITEOUT, REDIRECT, METACOPY, ORIGIN, IMPURE = range(6)
BY_USER, HANDLE, NODE, NODE_AT_16, RAW_NODE, LENGTH_LIES, EXTENSIONS = (1 << i for i in range(7))
READ_ONLY = 1


def thing(kind, layer, folder, name, more=b''):
    return bytes([kind, layer + 4 * folder, name]) + more


def xattr(layer, folder, name, which, value):
    return thing(XATTR, layer, folder, name, bytes([which, len(value)]) + value)


def message(opcode, node, payload=b'', flags=0):
    return bytes([opcode, node, flags, len(payload)]) + payload


def session(things, messages, how=2, first=0):
    return bytes([how, len(things)]) + b''.join(things) + bytes([first]) + b''.join(messages)


def pack(form, *values):
    return struct.pack('<' + form, *values)


def lookup(name, node=0):
    return message(1, node, name + b'\0')


def opened(node=1):
    return [message(14, node, pack('II', 2, 0))]


def listing(plus, node=0):
    form = 'QQIIQII'
    return [message(27, node, pack('II', 0, 0)),
            message(44 if plus else 28, node, pack(form, 0, 0, 4096, 0, 0, 0, 0), HANDLE),
            message(44 if plus else 28, node, pack(form, 0, 3, 200, 0, 0, 0, 0), HANDLE),
            message(29, node, pack('QIIQ', 0, 0, 0, 0), HANDLE)]


TREE = [thing(DIR, LOWER0, TOP, A), thing(DIR, LOWER0, IN_A, B), thing(FILE, LOWER0, IN_A, C, b'\3'),
        thing(FILE, LOWER0, TOP, D, b'\1'), thing(DIR, LOWER1, TOP, A), thing(DIR, UPPER, TOP, A),
        thing(FILE, LOWER1, TOP, C, b'\2')]


def setattr_of(node, valid, size=0, mode=0, uid=0):
    return message(4, node, pack('IIQQQQQQIIIIIIII', valid, 0, 0, size, 0, 5, 5, 5, 1, 1, 1, mode, 0,
                                 uid, uid, 0))


SESSION = {
    'list': session(TREE, [lookup(b'a')] + listing(False) + listing(True, 1)),
    'write': session(TREE, [lookup(b'd')] + opened() + [
        message(16, 1, pack('QQIIQII', 0, 10, 5, 0, 0, 0, 0) + b'12345'),
        message(15, 1, pack('QQIIQII', 0, 0, 4096, 0, 0, 0, 0)),
        message(20, 1, pack('QII', 0, 0, 0)), message(18, 1, pack('QIIQ', 0, 0, 0, 0))]),
    'attributes': session(TREE, [lookup(b'd'), setattr_of(1, 1, mode=0o100600),
                                 setattr_of(1, 6, uid=1000), setattr_of(1, 8, size=1 << 40),
                                 setattr_of(1, 8), message(3, 1, bytes(16)), message(17, 0)]),
    'create': session(TREE, [
        message(35, 0, pack('IIII', 0o102, 0o100644, 0o22, 0) + b'new\0'),
        message(9, 0, pack('II', 0o755, 0) + b'newdir\0'),
        message(8, 2, pack('IIII', 0o10644, 0, 0, 0) + b'fifo\0'),
        message(8, 2, pack('IIII', 0o20644, 0, 0, 0) + b'whiteout\0'),
        message(6, 2, b'link\0target\0'),
        message(51, 0, pack('IIII', 0o20200002, 0o100600, 0, 0) + b'\0')]),
    'remove': session(TREE, [lookup(b'd'), message(10, 0, b'd\0'), lookup(b'a'), lookup(b'c', 2),
                             message(10, 2, b'c\0'), message(11, 2, b'b\0'),
                             message(11, 0, b'a\0'), message(9, 0, pack('II', 0o755, 0) + b'a\0')]),
    'rename': session(TREE, [lookup(b'a'), lookup(b'd'), message(12, 0, bytes(8) + b'd\0e\0', NODE),
                             message(45, 0, pack('QII', 1, 2, 0) + b'a\0e\0'),
                             message(45, 0, pack('QII', 1, 1, 0) + b'c\0e\0'),
                             message(45, 0, pack('QII', 1, 0, 0) + b'a\0moved\0')]),
    'link': session(TREE, [lookup(b'd'), message(13, 0, bytes(8) + b'hard\0', NODE),
                           message(10, 0, b'd\0'), message(3, 1, bytes(16))]),
    'xattrs': session(TREE, [
        lookup(b'd'), message(21, 1, pack('IIII', 3, 0, 0, 0) + b'user.a\0abc'),
        message(22, 1, pack('II', 0, 0) + b'user.a\0'), message(22, 1, pack('II', 64, 0) + b'user.a\0'),
        message(23, 1, pack('II', 1000, 0)), message(24, 1, b'user.a\0'),
        message(21, 1, pack('IIII', 1, 0, 0, 0) + b'trusted.overlay.opaque\0y'),
        message(21, 1, pack('IIII', 44, 0, 1, 0) + b'system.posix_acl_access\0' + ACL)]),
    'data': session(TREE, [lookup(b'd'), lookup(b'c')] + opened() + opened(2) + [
        message(43, 1, pack('QQQII', 0, 0, 10000, 0, 0)),
        message(43, 1, pack('QQQII', 0, 0, 4096, 3, 0)), message(46, 1, pack('QQII', 0, 0, 4, 0)),
        message(47, 2, pack('QQQQQQQ', 0, 0, 2, 0, 5, 100, 0), NODE_AT_16),
        message(39, 1, pack('QIIQII', 0, 0, 0x80086601, 0, 0, 8))]),
    'forget': session(TREE, [lookup(b'd'), message(2, 1, pack('Q', 1)), message(3, 1, bytes(16)),
                             message(2, 0, pack('Q', 1 << 63)), message(42, 0, pack('IIQQ', 1, 0, 1, 1)),
                             message(42, 0, pack('IIQQ', 1 << 30, 0, 1, 1)), lookup(b'a')]),
    'before-init': session(TREE, [lookup(b'a'), message(26, 0, pack('IIII', 7, 45, 0, 0)),
                                  message(26, 0, pack('IIIIII', 7, 45, 0, 1 << 30, 0, 0) + bytes(40)),
                                  lookup(b'a'), message(38, 0), lookup(b'a')], first=128),
    'odd-messages': session(TREE, [message(0, 0), message(200, 0), message(1, 0, b'no-nul'),
                                   message(1, 0, b''), message(1, 0, b'a/b\0'), message(1, 0, b'..\0'),
                                   message(1, 77, b'a\0', RAW_NODE), message(36, 0, pack('Q', 2)),
                                   message(1, 0, b'a\0', LENGTH_LIES) + pack('I', 1 << 31),
                                   message(1, 0, b'a\0' * 8, EXTENSIONS) + b'\1',
                                   message(16, 1, pack('QQIIQII', 0, 0, 1 << 31, 0, 0, 0, 0))]),
    'redirect-loop': session([thing(DIR, UPPER, TOP, A), xattr(UPPER, TOP, A, REDIRECT, b'/b'),
                              thing(DIR, LOWER1, TOP, B), xattr(LOWER1, TOP, B, REDIRECT, b'/a'),
                              thing(DIR, LOWER0, TOP, A), xattr(LOWER1, TOP, B, REDIRECT, b'../..')],
                             [lookup(b'a'), lookup(b'b')] + listing(True) + listing(True, 1)),
    'metacopy': session([thing(FILE, UPPER, TOP, D, b'\0'), xattr(UPPER, TOP, D, METACOPY, b''),
                         thing(FILE, LOWER0, TOP, D, b'\5'), thing(FILE, UPPER, TOP, C, b'\0'),
                         xattr(UPPER, TOP, C, METACOPY, b'\0\4\0\0'),
                         xattr(UPPER, TOP, C, REDIRECT, b'/nowhere')],
                        [lookup(b'd'), lookup(b'c')] + opened() + [
                            message(15, 1, pack('QQIIQII', 0, 0, 4096, 0, 0, 0, 0)),
                            message(16, 1, pack('QQIIQII', 0, 10, 5, 0, 0, 0, 0) + b'12345')], how=6),
    'origin': session(TREE + [xattr(UPPER, TOP, A, ORIGIN, FB), thing(FILE, UPPER, TOP, B, b'\1'),
                              xattr(UPPER, TOP, B, ORIGIN, FB[:-1]),
                              xattr(UPPER, TOP, NO_NAME, ORIGIN, b'x'),
                              xattr(UPPER, TOP, A, IMPURE, b'y')], [lookup(b'a'), lookup(b'b')]
                      + listing(True)),
    'whiteout-forms': session([thing(DIR, LOWER1, TOP, A), thing(FILE, LOWER1, TOP, WH_A, b'\0'),
                               thing(FILE, LOWER1, IN_A, WH_OPAQUE, b'\0'),
                               thing(FILE, LOWER1, TOP, WH_OTHER, b'\0'),
                               thing(DIR, LOWER0, TOP, A), thing(FILE, LOWER0, IN_A, B, b'\1'),
                               thing(FILE, LOWER1, IN_A, C, b'\0'),
                               xattr(LOWER1, IN_A, C, IS_WHITEOUT, b''),
                               xattr(LOWER1, TOP, A, OPAQUE, b'x'), thing(WHITEOUT, UPPER, TOP, B),
                               thing(WHITEOUT, LOWER0, TOP, D)],
                              [lookup(b'a'), lookup(b'b'), lookup(b'.wh.a')] + listing(True)
                              + listing(False, 1)),
    'work-is-a-mess': session([thing(DIR, WORK, TOP, WORK_NAME), thing(DIR, WORK, IN_WORK, TEMP0),
                               thing(FILE, WORK, IN_WORK, TEMP1, b'\1'),
                               thing(SYMLINK, WORK, IN_WORK, A, b'\2'), thing(DIR, WORK, TOP, INDEX)],
                              [lookup(b'a'), message(9, 0, pack('II', 0o755, 0) + b'x\0')]),
    'work-is-a-link': session([thing(SYMLINK, WORK, TOP, WORK_NAME, b'\1')],
                              [message(9, 0, pack('II', 0o755, 0) + b'x\0')]),
    'incompat': session([thing(DIR, WORK, TOP, WORK_NAME), thing(DIR, WORK, IN_WORK, INCOMPAT),
                         thing(DIR, WORK, IN_INCOMPAT, A)], [lookup(b'a')]),
    'by-user': session(TREE, [message(1, 0, b'a\0', BY_USER),
                              message(9, 1, pack('II', 0o755, 0) + b'x\0', BY_USER),
                              message(35, 0, pack('IIII', 0o102, 0o106755, 0, 0) + b's\0', BY_USER)]),
    'read-only': session(TREE, [lookup(b'a'), message(9, 0, pack('II', 0o755, 0) + b'x\0'),
                                message(10, 0, b'd\0')] + listing(True), how=READ_ONLY),
    'specials': session([thing(SPECIAL, LOWER0, TOP, A, b'\1'), thing(SPECIAL, LOWER0, TOP, B, b'\0'),
                         thing(SYMLINK, LOWER0, TOP, C, b'\1'), thing(LINK, LOWER0, TOP, D, b'\0\0')],
                        [lookup(b'a'), lookup(b'c')] + opened() + [message(5, 2), setattr_of(1, 1, mode=0o10600)]),
}

ONTO, ATTRIBUTES, USER, RAW = 1, 2, 4, 8
KINDS = {'f': tarfile.REGTYPE, 'd': tarfile.DIRTYPE, 'l': tarfile.SYMTYPE, 'h': tarfile.LNKTYPE,
         'c': tarfile.CHRTYPE, 'p': tarfile.FIFOTYPE}
OUTSIDE = '/mnt/outside'
SPARSE = {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': 's', 'GNU.sparse.realsize': '9000'}


def archive(*entries, how=0, form=tarfile.USTAR_FORMAT):
    """(name, kind, target or data, pax headers) each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=form) as tar:
        for name, kind, *rest in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = KINDS[kind], 0o755
            data = rest[0].encode() if rest and kind == 'f' else b''
            info.size = len(data)
            info.linkname = rest[0] if rest and kind in 'lh' else ''
            info.pax_headers = rest[1] if len(rest) > 1 else {}
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset + 1024
    return bytes([how]) + out.getvalue()[:end].ljust(end, b'\0')


ALL = [('./', 'd'), ('d', 'd'), ('d/f', 'f', 'data'), ('l', 'l', OUTSIDE), ('h', 'h', 'd/f'), ('p', 'p'),
       ('.wh.w', 'f'), ('d/.wh..wh..opq', 'f')]
PAX = {'form': tarfile.PAX_FORMAT}
IMPORT = {
    'all': archive(*ALL),
    'onto': archive(*ALL, how=ONTO),
    'attribute-whiteouts': archive(*ALL, how=ONTO | ATTRIBUTES | USER),
    'gzip': bytes([RAW]) + gzip.compress(archive(*ALL)[1:], mtime=0),
    'cut': archive(*ALL)[:-1500],
    'xattrs': archive(('d', 'd', '', {'SCHILY.xattr.user.a': 'b', 'mtime': '1.5', 'uid': '70000'}),
                      ('f', 'f', 'x', {'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.user.%41': ''}), **PAX),
    'acls': archive(('f', 'f', 'x', {'SCHILY.acl.access': 'user::rwx,user:7:r--,group::r-x,mask::rwx,other::---'}),
                    ('d', 'd', '', {'SCHILY.acl.default': 'user::rwx,group::r-x,other::r-x,group:9:rw-,mask::rwx'}), **PAX),
    'acl-named': archive(('f', 'f', 'x', {'SCHILY.acl.access': 'user::rwx,user:who:r--,group::r-x,mask::rwx,other::---'}), **PAX),
    'long': archive(('n' * 200, 'f', 'x'), ('d/' * 60 + 'x', 'd'), **PAX),
    'sparse': archive(('s', 'f', '1\n0\n512\n'.ljust(512, '\0') + 'x' * 512, SPARSE), **PAX),
    'gnu-long': archive(('n' * 200, 'l', 't' * 200), form=tarfile.GNU_FORMAT),
    'through-link': archive(('l', 'l', OUTSIDE), ('l/f', 'f', 'x')),
    'through-own-link': archive(('d', 'd'), ('l', 'l', 'd'), ('l/f', 'f', 'x'), how=ONTO),
    'through-layers-link': archive(('l', 'd'), ('l/f', 'f', 'x'), how=ONTO),
    'hard-through-link': archive(('l', 'l', OUTSIDE), ('h', 'h', 'l/f')),
    'dotdot': archive(('../outside/f', 'f', 'x')),
    'absolute': archive((OUTSIDE + '/f', 'f', 'x')),
    'replaced': archive(('a', 'd'), ('a/b', 'd'), ('a', 'f'), ('a', 'd'), ('a/b', 'l', 'x'), ('a/b', 'd')),
    'hidden-directory': archive(('.wh.d', 'f'), ('d', 'd'), ('.wh.w', 'f'), ('w/x', 'f'), how=ONTO),
    'device-zero': archive(('c', 'c')),
}

CORPORA = {'format': FORMAT, 'options': OPTIONS, 'session': SESSION, 'import': IMPORT}


def main():
    for corpus, inputs in CORPORA.items():
        folder = f'{HERE}/corpus/{corpus}'
        os.makedirs(folder, exist_ok=True)
        for name, data in inputs.items():
            with open(f'{folder}/{name}', 'wb') as file:
                file.write(data)


if __name__ == '__main__':
    main()
