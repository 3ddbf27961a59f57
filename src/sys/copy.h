/* SPDX-License-Identifier: MIT */
/*
 * File data from one file to another: reflink (FICLONERANGE) if the file
 * system can, else copy_file_range(2), else read and write.  Holes stay holes.
 */
#ifndef VENEER_SYS_COPY_H
#define VENEER_SYS_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sys_copy {
	int from, to; /* open for reading, for writing; neither's file position is used */
	uint64_t size; /* how many bytes from offset 0; @to is extended to it, also by a hole */
	/* Asked between steps of at most 1 MiB; true ends the copy with -EINTR. May be NULL. */
	bool (*is_interrupted)(void *context);
	void (*progress)(void *context, uint64_t done); /* may be NULL */
	void *context;
};

/*
 * Copies; blocks.  If the source ends before @size the rest of @to is a hole.
 * Returns 0 or -errno (-ENOSPC, -EDQUOT, -EIO, -EINTR, ...); on an error @to holds anything.
 */
int sys_copy_data(const struct sys_copy *copy);

/*
 * Copies up to @size bytes from one offset to another, as copy_file_range(2) but between any two
 * file systems. Returns the bytes copied (less at the end of the source, or after an error that
 * came later), or -errno if nothing was.
 */
ssize_t sys_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size);

#endif
