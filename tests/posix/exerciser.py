"""Random changes of one file against a model in memory, in the manner of fsx.

Reads and writes of all kinds (calls, vectors, direct, through mappings) mix
with truncations, holes, allocations, copies and re-opens; after each step what
was read, and now and then the whole file, is compared with the model.
"""

import mmap
import os
import random

import oscalls

MOST = 256 * 1024
BLOCK = 4096


class Mismatch(AssertionError):
    """The file is not what it should be; says after which steps."""


class Exerciser:
    """One file and its model; run() does the steps of a seed."""

    def __init__(self, path, seed):
        self.path = path
        self.random = random.Random(seed)
        self.seed = seed
        self.fd = os.open(path, os.O_RDWR)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        with open(path, "rb") as file:
            self.model = bytearray(file.read())
        self.log = []

    def run(self, steps):
        for _ in range(steps):
            step = self.random.choice(STEPS)
            self.log.append(step.__name__)
            step(self)
            if self.random.random() < 0.05:
                self.check()
        self.check()
        self.close()

    def close(self):
        os.close(self.fd)
        os.close(self.direct)

    # Pieces

    def span(self, most=MOST):
        """An offset and a length, often at the edges of pages."""
        offset, length = self.random.randrange(most), 1 + self.random.randrange(MOST // 8)
        if self.random.random() < 0.3:
            offset -= offset % BLOCK
        if self.random.random() < 0.3:
            length = BLOCK * (1 + length // BLOCK)
        return offset, min(length, MOST - offset)

    def blocks(self):
        offset = self.random.randrange(MOST // BLOCK) * BLOCK
        return offset, min(BLOCK * self.random.randint(1, 8), MOST - offset)

    def bytes(self, length):
        return bytes([self.random.randrange(1, 256)]) * (length // 2) + self.random.randbytes(
            length - length // 2)

    def put(self, offset, data):
        if data:
            self.resize(max(len(self.model), offset + len(data)))
            self.model[offset:offset + len(data)] = data

    def resize(self, size):
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def compare(self, offset, data, length):
        wanted = bytes(self.model[offset:offset + length])
        if data == wanted:
            return
        at = next((i for i, (a, b) in enumerate(zip(data, wanted)) if a != b),
                  min(len(data), len(wanted)))
        raise Mismatch(f"seed {self.seed}, step {len(self.log)} ({' '.join(self.log[-12:])}): "
                       f"{len(data)} bytes of {len(wanted)} at {offset}, differing from {offset + at}")

    def check(self):
        if os.fstat(self.fd).st_size != len(self.model):
            raise Mismatch(f"seed {self.seed}, after {' '.join(self.log[-12:])}: size "
                           f"{os.fstat(self.fd).st_size}, not {len(self.model)}")
        self.compare(0, os.pread(self.fd, MOST + 1, 0), MOST + 1)

    # Steps

    def read(self):
        offset, length = self.span()
        self.compare(offset, os.pread(self.fd, length, offset), length)

    def read_direct(self):
        offset, length = self.blocks()
        with mmap.mmap(-1, length) as area:
            got = os.preadv(self.direct, [area], offset)
            self.compare(offset, area[:got], length)

    def read_mapped(self):
        if not self.model:
            return
        offset, length = self.span(len(self.model))
        with mmap.mmap(self.fd, len(self.model), prot=mmap.PROT_READ) as mapping:
            self.compare(offset, mapping[offset:offset + length], length)

    def write(self):
        offset, length = self.span()
        data = self.bytes(length)
        assert os.pwrite(self.fd, data, offset) == length
        self.put(offset, data)

    def write_vector(self):
        offset, length = self.span()
        data = self.bytes(length)
        cut = self.random.randint(0, length)
        assert os.pwritev(self.fd, [data[:cut], data[cut:]], offset) == length
        self.put(offset, data)

    def write_direct(self):
        offset, length = self.blocks()
        data = self.bytes(length)
        with mmap.mmap(-1, length) as area:
            area[:] = data
            assert os.pwritev(self.direct, [area], offset) == length
        self.put(offset, data)

    def write_mapped(self):
        if not self.model:
            return
        offset, length = self.span(len(self.model))
        data = self.bytes(min(length, len(self.model) - offset))
        with mmap.mmap(self.fd, len(self.model)) as mapping:
            mapping[offset:offset + len(data)] = data
            if self.random.random() < 0.5:
                mapping.flush()
        self.put(offset, data)

    def append(self):
        data = self.bytes(1 + self.random.randrange(BLOCK))
        if len(self.model) + len(data) > MOST:
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.put(len(self.model), data)

    def truncate(self):
        size = self.random.randrange(MOST)
        if self.random.random() < 0.5:
            os.truncate(self.path, size)
        else:
            os.ftruncate(self.fd, size)
        self.resize(size)

    def punch(self):
        offset, length = self.span()
        oscalls.fallocate(self.fd, oscalls.FALLOC_PUNCH_HOLE | oscalls.FALLOC_KEEP_SIZE, offset,
                          length)
        end = min(offset + length, len(self.model))
        if offset < end:
            self.model[offset:end] = bytes(end - offset)

    def zero(self):
        offset, length = self.span()
        keep = self.random.random() < 0.5
        oscalls.fallocate(self.fd, oscalls.FALLOC_ZERO_RANGE | (oscalls.FALLOC_KEEP_SIZE if keep
                                                                else 0), offset, length)
        end = min(offset + length, len(self.model)) if keep else offset + length
        if offset < end:
            self.put(offset, bytes(end - offset))

    def allocate(self):
        offset, length = self.span()
        oscalls.fallocate(self.fd, 0, offset, length)
        self.resize(max(len(self.model), offset + length))

    def copy(self):
        source, length = self.span()
        target = self.random.randrange(MOST - length + 1)
        if source < target + length and target < source + length:
            return
        done = 0
        while done < length:
            got = os.copy_file_range(self.fd, self.fd, length - done, source + done, target + done)
            if got == 0:
                break
            self.put(target + done, bytes(self.model[source + done:source + done + got]))
            done += got

    def sync(self):
        self.random.choice([os.fsync, os.fdatasync])(self.fd)

    def reopen(self):
        self.close()
        self.fd = os.open(self.path, os.O_RDWR)
        self.direct = os.open(self.path, os.O_RDWR | os.O_DIRECT)

    def drop_pages(self):
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self):
        os.rename(self.path, self.path + ".new")
        self.path += ".new"
        if len(self.path) > 200:
            short = os.path.join(os.path.dirname(self.path), "f")
            os.rename(self.path, short)
            self.path = short


STEPS = ([Exerciser.read] * 3 + [Exerciser.write] * 4 + [Exerciser.read_mapped] * 2
         + [Exerciser.write_mapped] * 3 + [Exerciser.truncate] * 2 + [Exerciser.punch] * 2
         + [Exerciser.read_direct, Exerciser.write_direct, Exerciser.write_vector, Exerciser.append,
            Exerciser.zero, Exerciser.allocate, Exerciser.copy, Exerciser.sync, Exerciser.reopen,
            Exerciser.drop_pages, Exerciser.rename])
