/* SPDX-License-Identifier: MIT */
/*
 * A terminal sends its signals to all processes of the foreground group, the
 * command among them: those are not passed on, others are.  The command may
 * have taken the terminal for a group of its own, as shells do.
 */
#include "tools/run_wait.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* How long processes that the command left may take to end when asked to, and how often we look. */
#define RUN_WAIT_GRACE_MS 2000
#define RUN_WAIT_PAUSE_MS 5
/* And all together: the kernel may keep one that waits for a device, say. */
#define RUN_WAIT_MAX_MS 5000

void run_wait_begin(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, old);
}

/* ---- signals ---- */

/* Stops this process as the signal did the child. */
static void run_wait_stop(int number)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, number);
	/* Pending until it is unblocked: whoever continues us does it here. */
	raise(number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	sigprocmask(SIG_BLOCK, &one, NULL);
}

static bool run_wait_is_for_child(const struct signalfd_siginfo *info)
{
	/* The one who continues us need not know of the child's group. */
	if (info->ssi_signo == SIGCONT)
		return true;
	if (info->ssi_code == SI_KERNEL)
		return false;
	/* The child, or one of its own, to all of the group: it was sent that as well. */
	return !sys_is_descendant((pid_t)info->ssi_pid);
}

/* ---- children ---- */

/* Reaps all that have ended. True with *@status if @child is among them. */
static bool run_wait_reap(pid_t child, int *status)
{
	bool has_ended = false;
	int each;
	pid_t pid;

	while ((pid = waitpid(-1, &each, WNOHANG | WUNTRACED)) > 0) {
		if (pid != child)
			continue;
		if (WIFSTOPPED(each)) {
			run_wait_stop(WSTOPSIG(each));
		} else {
			*status = each;
			has_ended = true;
		}
	}
	return has_ended;
}

int run_wait(pid_t child, pid_t parent, int *status)
{
	sigset_t all;

	sigfillset(&all);
	_cleanup_close_ int fd = signalfd(-1, &all, SFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		struct signalfd_siginfo info;

		/* First: what came before there was a descriptor for it. */
		if (run_wait_reap(child, status))
			return 0;
		if (parent && getppid() != parent)
			return -ESRCH;
		if (read(fd, &info, sizeof(info)) != sizeof(info))
			return errno ? -errno : -EIO;
		if (info.ssi_signo != SIGCHLD && run_wait_is_for_child(&info))
			kill(child, (int)info.ssi_signo);
	}
}

/* ---- the end ---- */

static void run_wait_pause(void)
{
	const struct timespec pause = { .tv_nsec = RUN_WAIT_PAUSE_MS * 1000000L };

	nanosleep(&pause, NULL);
}

static void run_wait_send(const struct sys_pids *pids, int number)
{
	for (size_t i = 0; i < pids->count; i++) {
		kill(pids->items[i], number);
		if (number != SIGKILL) /* one that is stopped does not hear it */
			kill(pids->items[i], SIGCONT);
	}
}

static void run_wait_reap_all(void)
{
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0)
		;
}

static long run_wait_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

bool run_wait_end_all(const struct sys_pids *except)
{
	const long begin_ms = run_wait_clock_ms();
	bool has_asked = false;

	run_wait_reap_all();
	while (sys_has_other_children(except)) {
		/* Looking for them takes its time, too. */
		long waited_ms = run_wait_clock_ms() - begin_ms;
		struct sys_pids left;
		int r = sys_find_descendants(except, &left);

		if (r < 0)
			log_error("/proc: %s", strerror(-r));
		else if (!has_asked)
			run_wait_send(&left, SIGTERM);
		else if (waited_ms >= RUN_WAIT_GRACE_MS)
			run_wait_send(&left, SIGKILL); /* also what was born since */
		size_t count = left.count;
		bool gives_up = waited_ms >= RUN_WAIT_MAX_MS && count > 0;

		if (gives_up)
			log_error("process %d, which the command left, does not end: it is not "
				  "waited for",
				  (int)left.items[0]);
		has_asked = true;
		sys_pids_deinit(&left);
		run_wait_reap_all();
		if (r < 0 || count == 0 || gives_up)
			return !gives_up;
		run_wait_pause();
	}
	return true;
}
