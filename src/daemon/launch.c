/* SPDX-License-Identifier: MIT */
#include "daemon/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sys/dir.h"
#include "sys/file.h"

#define LAUNCH_NAME "veneer"

static int launch_note(const struct sys_dirent *entry, void *context)
{
	struct launch *launch = context;
	int fd = atoi(entry->name);
	int *more;

	if (fd <= STDERR_FILENO || fd == launch->scan_fd)
		return 0;
	more = reallocarray(launch->inherited, launch->inherited_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	launch->inherited = more;
	launch->inherited[launch->inherited_count++] = fd;
	return 0;
}

int launch_init(struct launch *launch)
{
	int null, r;

	*launch = (struct launch){ .status_fd = -1 };
	/* Else a layer would become our standard error. */
	do
		null = open("/dev/null", O_RDWR);
	while (null >= 0 && null <= STDERR_FILENO);
	if (null >= 0)
		close(null);
	launch->scan_fd = sys_open_path("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (launch->scan_fd < 0) /* no /proc: then they stay open */
		return 0;
	r = sys_dir_for_each(launch->scan_fd, launch_note, launch);
	close(launch->scan_fd);
	return r;
}

void launch_deinit(struct launch *launch)
{
	free(launch->inherited);
	launch->inherited = NULL;
	launch->inherited_count = 0;
	cleanup_close(&launch->status_fd);
	launch->status_fd = -1;
}

/* The command's end of it. */
static void launch_wait(int fd, pid_t pid)
{
	uint8_t status;
	ssize_t size;

	do
		size = read(fd, &status, sizeof(status));
	while (size < 0 && errno == EINTR);
	if (size == sizeof(status))
		_exit(status);
	/* It ended without a word, but said why on standard error, unless it was killed. */
	if (waitpid(pid, NULL, 0) < 0)
		log_error("lost track of the daemon");
	_exit(EXIT_FAILURE);
}

int launch_background(struct launch *launch)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(ends[0]);
		close(ends[1]);
		return r;
	}
	if (pid > 0) {
		close(ends[1]);
		launch_wait(ends[0], pid);
	}
	close(ends[0]);
	launch->status_fd = ends[1];
	setsid();
	return 0;
}

void launch_in_background(struct launch *launch, int status_fd)
{
	size_t kept = 0;

	for (size_t i = 0; i < launch->inherited_count; i++)
		if (launch->inherited[i] != status_fd)
			launch->inherited[kept++] = launch->inherited[i];
	launch->inherited_count = kept;
	launch->status_fd = status_fd;
	prctl(PR_SET_NAME, LAUNCH_NAME); /* it may have been found as /proc/self/exe */
	setsid();
}

void launch_forget_caller(struct launch *launch)
{
	for (size_t i = 0; i < launch->inherited_count; i++)
		close(launch->inherited[i]);
	launch->inherited_count = 0;
	if (chdir("/") < 0)
		log_warning("the working directory stays in use");
}

void launch_ready(struct launch *launch)
{
	uint8_t status = EXIT_SUCCESS;
	int null;

	if (launch->status_fd < 0)
		return;
	log_to_syslog();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	/* Last: who reads our standard output to its end must not wait for us. */
	if (write(launch->status_fd, &status, sizeof(status)) < 0)
		log_warning("the command that started the daemon is gone");
	close(launch->status_fd);
	launch->status_fd = -1;
}
