#!/usr/bin/python3
"""Writes the seeds of the fuzz corpora: one file per shape of input that is worth a start.
Inputs that once broke something are added beside them by hand, named for what they broke."""

import os
import struct

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

CORPORA = {'format': FORMAT}


def main():
    for corpus, inputs in CORPORA.items():
        folder = f'{HERE}/corpus/{corpus}'
        os.makedirs(folder, exist_ok=True)
        for name, data in inputs.items():
            with open(f'{folder}/{name}', 'wb') as file:
                file.write(data)


if __name__ == '__main__':
    main()
