/* SPDX-License-Identifier: MIT */
/* Operations on the data of one file. */
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops.h"
#include "samples.h"

enum {
	DATA_BLOCK = 4096,
	DATA_STRIDE = 1 << 20,
};

static int data_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static char *data_buffer(void)
{
	char *buffer = aligned_alloc(DATA_BLOCK, DATA_STRIDE);

	if (!buffer)
		err(1, "buffer");
	ops_fill(buffer, DATA_STRIDE, 1);
	return buffer;
}

static long data_blocks(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		err(1, "%s", path);
	if (st.st_size < DATA_BLOCK)
		errx(1, "%s: smaller than a block", path);
	return st.st_size / DATA_BLOCK;
}

static void data_fill(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int fd = data_open(args->path, O_WRONLY | O_CREAT | O_TRUNC);

	for (long done = 0; done < args->size; done += DATA_STRIDE) {
		ops_fill(buffer, DATA_STRIDE, (uint64_t)done);
		if (write(fd, buffer, DATA_STRIDE) != DATA_STRIDE)
			err(1, "%s", args->path);
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		err(1, "%s", args->path);
	free(buffer);
}

static void data_read_all(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int fd = data_open(args->path, O_RDONLY);
	ssize_t r;

	do {
		samples_start(samples);
		r = read(fd, buffer, DATA_STRIDE);
		samples_stop(samples);
	} while (r > 0);
	if (r < 0)
		err(1, "%s", args->path);
	close(fd);
	free(buffer);
}

static void data_write_all(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int fd = data_open(args->path, O_WRONLY | O_CREAT | O_TRUNC);
	ssize_t r;

	for (long done = 0; done < args->size; done += DATA_STRIDE) {
		samples_start(samples);
		r = write(fd, buffer, DATA_STRIDE);
		samples_stop(samples);
		if (r != DATA_STRIDE)
			err(1, "%s", args->path);
	}
	if (close(fd) < 0)
		err(1, "%s", args->path);
	free(buffer);
}

static void data_read_random(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int fd = data_open(args->path, O_RDONLY);
	uint64_t state = 2, blocks = (uint64_t)data_blocks(fd, args->path);
	ssize_t r;

	for (long i = 0; i < args->count; i++) {
		off_t at = (off_t)(ops_random(&state) % blocks * DATA_BLOCK);

		samples_start(samples);
		r = pread(fd, buffer, DATA_BLOCK, at);
		samples_stop(samples);
		if (r != DATA_BLOCK)
			err(1, "%s", args->path);
	}
	close(fd);
	free(buffer);
}

static void data_write_random(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int fd = data_open(args->path, O_RDWR);
	uint64_t state = 3, blocks = (uint64_t)data_blocks(fd, args->path);
	ssize_t r;

	for (long i = 0; i < args->count; i++) {
		off_t at = (off_t)(ops_random(&state) % blocks * DATA_BLOCK);

		samples_start(samples);
		r = pwrite(fd, buffer, DATA_BLOCK, at);
		samples_stop(samples);
		if (r != DATA_BLOCK)
			err(1, "%s", args->path);
	}
	close(fd);
	free(buffer);
}

/* A sample is 64 touched pages: most of them are mapped by a neighbour's fault already. */
static void data_fault(const struct ops_args *args, struct samples *samples)
{
	int fd = data_open(args->path, O_RDONLY);
	uint64_t state = 4, blocks = (uint64_t)data_blocks(fd, args->path);
	size_t length = blocks * DATA_BLOCK;
	const volatile char *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	uint64_t sum = 0;

	if (map == MAP_FAILED)
		err(1, "mmap %s", args->path);
	for (long i = 0; i < args->count; i++) {
		samples_start(samples);
		for (int page = 0; page < 64; page++)
			sum += (uint64_t)map[ops_random(&state) % blocks * DATA_BLOCK];
		samples_stop(samples);
	}
	if (sum == 1)
		warnx("an unlikely sum");
	munmap((void *)map, length);
	close(fd);
}

static void data_append_sync(const struct ops_args *args, struct samples *samples)
{
	char *buffer = data_buffer();
	int r, fd = data_open(args->path, O_WRONLY | O_CREAT | O_APPEND);

	for (long i = 0; i < args->count; i++) {
		samples_start(samples);
		r = write(fd, buffer, DATA_BLOCK) == DATA_BLOCK ? fsync(fd) : -1;
		samples_stop(samples);
		if (r < 0)
			err(1, "%s", args->path);
	}
	close(fd);
	free(buffer);
}

const struct ops_kind data_kinds[] = {
	{ "fill", data_fill, "a file of --size that is on disk, untimed" },
	{ "read-all", data_read_all, "the file from its start, by 1 MiB" },
	{ "write-all", data_write_all, "--size bytes, by 1 MiB" },
	{ "read-random", data_read_random, "4 KiB anywhere" },
	{ "write-random", data_write_random, "4 KiB anywhere" },
	{ "fault", data_fault, "64 pages of a mapping, anywhere" },
	{ "append-sync", data_append_sync, "4 KiB at the end, fsync" },
	{ 0 },
};
