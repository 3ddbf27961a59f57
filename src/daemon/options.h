/* SPDX-License-Identifier: MIT */
/*
 * Mount options: one table that the parser, --help and the test of the manual
 * page share.  Spellings are the kernel's (overlayfs, mount(8)) and
 * fuse-overlayfs'.  Nothing is ignored silently.
 */
#ifndef VENEER_DAEMON_OPTIONS_H
#define VENEER_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/strbuf.h"
#include "core/core.h"

#define OPTIONS_UNSET (-1)

/*
 * Nodes: an object costs about 200 bytes, its name included, and a directory 500, so that a daemon
 * takes some 60 MB at most. (What the kernel knows of as many costs it five times that.)
 */
#define OPTIONS_MAX_NODES (1U << 18)

/* What the layer must do without, unless an option asks for it by name. */
enum options_compat {
	OPTIONS_COMPAT_NONE,
	/* What kernel overlayfs does not take with its own defaults in the same privilege mode. */
	OPTIONS_COMPAT_KERNEL,
};

/* Whether requests come over io_uring. */
enum options_uring {
	OPTIONS_URING_AUTO, /* if the kernel has it switched on */
	OPTIONS_URING_ON,
	OPTIONS_URING_OFF,
};

/* Which way data goes. */
enum options_data {
	OPTIONS_DATA_AUTO,
	OPTIONS_DATA_SERVED,
	OPTIONS_DATA_PASSTHROUGH,
};

struct options {
	/* Paths as given; owned, as are all strings here. */
	struct lowerdir_list lowers;
	char *upperdir, *workdir;
	int redirect; /* enum core_redirect, or OPTIONS_UNSET */
	int fsync; /* enum core_fsync */
	int metacopy; /* bool, or OPTIONS_UNSET */
	int index; /* enum core_index, or OPTIONS_UNSET */
	int compat; /* enum options_compat */
	int verity; /* enum core_verity */
	bool userxattr;
	int nfs_export; /* bool */
	bool static_nlink;

	unsigned long mount_flags; /* MS_* */
	bool allow_other, allow_root;
	char *fsname, *subtype;
	struct strbuf security; /* ",context=..." for the kernel, as given */

	struct timespec timeout;
	bool layers_change; /* a timeout was asked for that ends */
	bool watch;
	bool cross_mounts;
	unsigned int max_threads, max_idle; /* 0: the default */
	unsigned int max_nodes; /* 0: without limit */
	int io_uring; /* enum options_uring */
	int data; /* enum options_data */

	const char *name; /* of the option at hand; borrowed */
	bool lenient; /* what can be done without is a warning */
	bool saw_lowerdir_add, saw_datadir; /* order of lowerdir= and lowerdir+= */
};

void options_init(struct options *options);
void options_deinit(struct options *options);

/*
 * Takes one argument of -o. Returns 0, -ENOMEM, or -EINVAL with a sentence for the user in @why.
 */
int options_parse(struct options *options, const char *text, struct strbuf *why);
/* After the last: do they make sense together? As options_parse(). */
int options_check(struct options *options, struct strbuf *why);
/* What the core takes of them; borrows from @options. */
struct core_config options_core_config(const struct options *options);

/* The table for --help. */
void options_print_help(FILE *file);
/* Each effective option, and NAME=VALUE for each word it takes, a line each. */
void options_print_list(FILE *file);

#endif
