/* SPDX-License-Identifier: MIT */
#include "sys/verity.h"

#include <linux/fsverity.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sys/call.h"

union sys_verity_buffer {
	struct fsverity_digest digest;
	unsigned char bytes[sizeof(struct fsverity_digest) + SYS_VERITY_DIGEST_MAX];
};

int sys_measure_verity(int fd, struct sys_verity_digest *digest)
{
	union sys_verity_buffer buf = { .digest.digest_size = SYS_VERITY_DIGEST_MAX };
	int r = (int)sys_retry(ioctl(fd, FS_IOC_MEASURE_VERITY, &buf.digest));

	if (r == -ENOTTY || r == -EOPNOTSUPP)
		return -ENODATA;
	if (r < 0)
		return r;
	if (buf.digest.digest_size > SYS_VERITY_DIGEST_MAX)
		return -EIO;
	digest->algorithm = buf.digest.digest_algorithm;
	digest->size = buf.digest.digest_size;
	memcpy(digest->bytes, buf.digest.digest, digest->size);
	return 0;
}
