/* SPDX-License-Identifier: MIT */
/* fs-verity: what the file system itself vouches for. */
#ifndef VENEER_SYS_VERITY_H
#define VENEER_SYS_VERITY_H

#include <stddef.h>
#include <stdint.h>

#define SYS_VERITY_DIGEST_MAX 64

struct sys_verity_digest {
	uint16_t algorithm; /* FS_VERITY_HASH_ALG_* */
	uint16_t size;
	uint8_t bytes[SYS_VERITY_DIGEST_MAX];
};

/*
 * The digest of the file open as @fd, which must not be O_PATH. Does not read the file. -ENODATA:
 * it has none, be it for want of a file system or a kernel that knows fs-verity.
 */
int sys_measure_verity(int fd, struct sys_verity_digest *digest);

#endif
