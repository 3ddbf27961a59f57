/* SPDX-License-Identifier: MIT */
/* The directories that options name as layers: opening, checking and cloning them. */
#ifndef VENEER_CORE_SOURCE_H
#define VENEER_CORE_SOURCE_H

#include "core/core.h"

/* A directory named by an option. */
struct source {
	const char *option, *path;
	int fd; /* O_PATH */
	bool is_private; /* in a clone */
	dev_t dev;
	uint64_t ino;
	unsigned long long mount;
};

/* Upper and work first (if there is an upper), then the lowers in their order. */
struct source_list {
	struct source *items; /* owned */
	unsigned int count;
};

/* Opens what @config names; source_list_deinit() either way. 0 or -errno with a sentence in @why. */
int source_list_open(struct source_list *list, const struct core_config *config,
		     struct strbuf *why);
void source_list_deinit(struct source_list *list);
/* No two of them may overlap, but for what kernel overlayfs allows. */
int source_list_check(const struct source_list *list, bool has_upper, struct strbuf *why);
/*
 * Replaces each by the same directory in a private clone of its mount, lowers read-only, the
 * upper and the work directory if @read_only: nothing that is mounted over it is seen, and what
 * is mounted below it only in a lower if @cross_mounts, as it is now. What cannot be cloned (no
 * CAP_SYS_ADMIN) stays as it is.
 */
void source_list_clone(struct source_list *list, bool has_upper, bool read_only, bool cross_mounts);

#endif
