/* SPDX-License-Identifier: MIT */
/* cmocka and what it needs before it; scratch directories that remove themselves. */
#ifndef VENEER_TESTS_UNIT_H
#define VENEER_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* An empty directory below /var/tmp (a disk file system, unlike /tmp on many machines). */
struct unit_scratch {
	char path[64];
	int fd; /* O_RDONLY | O_DIRECTORY */
};

/* For cmocka_unit_test_setup_teardown: *state is a struct unit_scratch *. */
int unit_scratch_setup(void **state);
int unit_scratch_teardown(void **state);

/* Root over all ids, not only over those of a user namespace. */
bool unit_is_root(void);

/* Creates @name in @dirfd with @text; fails the test if it cannot. */
void unit_write(int dirfd, const char *name, const char *text);

/* Runs @body(@argument) in a child process; its exit status, or 128 + the signal's number. */
int unit_fork(int (*body)(void *argument), void *argument);
/* In such a child: a mount namespace of its own. False without the right to. */
bool unit_own_mounts(void);

/* A test that has a scratch directory, and that directory in it. */
#define with_scratch(test) \
	cmocka_unit_test_setup_teardown(test, unit_scratch_setup, unit_scratch_teardown)

static inline int scratch_fd(void **state)
{
	return ((struct unit_scratch *)*state)->fd;
}

/* What such a child returns, and how it gives up: cmocka's assertions are its parent's. */
enum {
	CHILD_OK,
	CHILD_NO_RIGHTS,
	CHILD_WRONG
};

#define child_check(condition)                                                  \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			return CHILD_WRONG;                                     \
		}                                                               \
	} while (0)

/* Skips the test with a reason that is seen. */
#define unit_skip(...)                      \
	do {                                \
		print_message("SKIP: ");    \
		print_message(__VA_ARGS__); \
		print_message("\n");        \
		skip();                     \
	} while (0)

#endif
