/* SPDX-License-Identifier: MIT */
/*
 * `veneer run`: veneer-run(1).
 *
 * Four processes: the one that was called stays outside and waits; the keeper
 * (run_keeper.c) has a mount namespace of its own, and adopts and ends what the
 * command leaves behind; the daemon of the union is its child, and so is the
 * command, which sees the union in place of the whole tree (run_space.c).
 */
#ifndef VENEER_TOOLS_RUN_H
#define VENEER_TOOLS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <termios.h>

#include "base/strbuf.h"

/* The command; returns the exit status. */
int run_run(int argc, char **argv);

/* Exit statuses of our own, as env(1) has them. */
#define RUN_EXIT_FAILED 125
#define RUN_EXIT_NOT_EXECUTABLE 126
#define RUN_EXIT_NOT_FOUND 127

/* What becomes of the layer when the command has ended. */
enum run_end {
	RUN_END_DEFAULT, /* to be asked on a terminal, else kept */
	RUN_END_ASK,
	RUN_END_COMMIT,
	RUN_END_DISCARD,
};

/* Absolute paths; owned. */
struct run_paths {
	char **items;
	size_t count;
};

/* Adds a copy. 0 or -ENOMEM. */
int run_paths_add(struct run_paths *paths, const char *path);
/* Parents before what lies in them. */
void run_paths_sort(struct run_paths *paths);
void run_paths_deinit(struct run_paths *paths);
/* True if @path is, or lies in, one of @paths. */
bool run_paths_have(const struct run_paths *paths, const char *path);

struct run_layer {
	char *directory; /* absolute; owned, as is name */
	char *name; /* how other commands may call it */
	bool is_temporary; /* nobody named it: it goes away if nothing is in it */
	bool is_new; /* its directory was made for it */
	int lock_fd; /* -1: not locked */
};

struct run_options {
	const char *keep, *name; /* a directory, or one in the state directory; or NULL */
	enum run_end end;
	struct run_paths real, hidden; /* not in the union; of no content */
	struct strbuf mount; /* further mount options, a comma before each */
	bool read_only_root, no_network, own_pids;
	char **command; /* NULL at its end; borrowed */
};

/* All that the other processes need to know. */
struct run_plan {
	const struct run_options *options;
	struct run_layer layer;
	struct run_paths sockets; /* unix sockets that somebody can be reached at */
	char *directory; /* the current one; owned */
	char *state; /* the state directory, if it is one in the union; owned, or NULL */
	bool makes_userns; /* the right to mount takes a user namespace of our own */
	bool uses_user_xattrs;
	pid_t caller; /* the process that was called */
	struct termios terminal; /* as it was before, if has_terminal */
	bool has_terminal; /* standard input is one that listens to us */
};

#endif
