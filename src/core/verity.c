/* SPDX-License-Identifier: MIT */
/* fs-verity digests of metacopy files. */
#include "core/verity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/internal.h"
#include "sys/verity.h"

_Static_assert(SYS_VERITY_DIGEST_MAX == METACOPY_DIGEST_MAX, "both are fs-verity's");

int verity_copy_digest(const struct core *core, const struct metacopy *metacopy,
		       struct metacopy **digestp)
{
	struct metacopy *digest = NULL;

	if (core->verity != CORE_VERITY_OFF && metacopy->digest_size) {
		digest = malloc(sizeof(*digest));
		if (!digest)
			return -ENOMEM;
		*digest = *metacopy;
	}
	*digestp = digest;
	return 0;
}

bool verity_must_check(const struct core *core, const struct node *node)
{
	return core->verity != CORE_VERITY_OFF && node_has(node, NODE_METACOPY);
}

static int verity_compare(const struct metacopy *wanted, int fd)
{
	struct sys_verity_digest actual;
	int r = sys_measure_verity(fd, &actual);

	if (r < 0) {
		log_warning_limited("data of a metacopy file has no fs-verity digest");
		return -EIO;
	}
	if (actual.algorithm != wanted->digest_algorithm || actual.size != wanted->digest_size ||
	    memcmp(actual.bytes, wanted->digest, actual.size) != 0) {
		log_warning_limited("data of a metacopy file has the wrong fs-verity digest");
		return -EIO;
	}
	return 0;
}

int verity_check(struct core *core, struct node *node, int fd)
{
	struct metacopy wanted = { 0 };

	if (!verity_must_check(core, node))
		return 0;
	node_lock(core, node);
	if (node->file && node->file->digest)
		wanted = *node->file->digest;
	node_unlock(core, node);
	if (wanted.digest_size)
		return verity_compare(&wanted, fd);
	if (core->verity != CORE_VERITY_REQUIRE)
		return 0;
	log_warning_limited("a metacopy file without a digest, with verity=require");
	return -EIO;
}

int verity_measure(const struct core *core, int fd, struct metacopy *metacopy)
{
	struct sys_verity_digest actual;

	*metacopy = (struct metacopy){ 0 };
	if (core->verity == CORE_VERITY_OFF)
		return 0;
	int r = sys_measure_verity(fd, &actual);

	if (r == -ENODATA)
		return core->verity == CORE_VERITY_REQUIRE ? -ENODATA : 0;
	if (r < 0 || actual.algorithm > UINT8_MAX)
		return -EIO;
	metacopy->digest_algorithm = (uint8_t)actual.algorithm;
	metacopy->digest_size = (uint8_t)actual.size;
	memcpy(metacopy->digest, actual.bytes, actual.size);
	return 0;
}
