/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int unit_scratch_setup(void **state)
{
	struct unit_scratch *scratch = calloc(1, sizeof(*scratch));

	if (!scratch)
		return -1;
	strcpy(scratch->path, "/var/tmp/veneer-unit-XXXXXX");
	if (!mkdtemp(scratch->path))
		return -1;
	scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = scratch;
	return scratch->fd < 0 ? -1 : 0;
}

static int unit_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

int unit_scratch_teardown(void **state)
{
	struct unit_scratch *scratch = *state;

	close(scratch->fd);
	nftw(scratch->path, unit_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(scratch);
	return 0;
}

bool unit_is_root(void)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long count = 0;
	bool all = f && fscanf(f, " 0 0 %llu", &count) == 1 && count == UINT32_MAX;

	if (f)
		fclose(f);
	return geteuid() == 0 && all;
}

void unit_write(int dirfd, const char *name, const char *text)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

int unit_fork(int (*body)(void *argument), void *argument)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* A failed assertion must not go on with the next test in here. */
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		_exit(body(argument));
	}
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool unit_own_mounts(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}
