/* SPDX-License-Identifier: MIT */
/*
 * Whoever of the called process and the keeper ends first, by whatever signal,
 * the other one ends what is left; should both be killed at once, the command
 * and the daemon are told by the kernel.
 */
#include "tools/run_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "offline/layerfile.h"
#include "sys/file.h"
#include "sys/namespace.h"
#include "sys/process.h"
#include "tools/run_layer.h"
#include "tools/run_space.h"
#include "tools/run_wait.h"

#define RUN_PROGRAM "/proc/self/exe"
/* How long the daemon may take to write back what it holds. */
#define RUN_DAEMON_END_MS 60000
#define RUN_DAEMON_PAUSE_MS 1
/* And when it was killed: the kernel may keep it. */
#define RUN_DAEMON_KILL_MS 5000

/* What the keeper tells at its end. */
struct run_result {
	int error; /* -errno; then a message was printed */
	int status; /* of the command, as wait(2) has it */
};

struct run_keeper {
	const struct run_plan *plan;
	sigset_t signals; /* that were blocked when we were called */
	int ask_fd, tell_fd; /* to and from the called process */
	const char *point; /* where the union is mounted, for us and the command alone */
	pid_t pid, daemon;
	int inner_fd; /* the command's state directory; -1: there is none */
	bool is_stuck; /* a process was left that cannot be ended */
};

/* ---- one byte between processes ---- */

static int run_pipe(int ends[2])
{
	return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
}

static int run_send(int fd, const void *data, size_t size)
{
	ssize_t sent;

	do
		sent = write(fd, data, size);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)size ? 0 : -EPIPE;
}

/* -EPIPE: the other end was closed without a word. */
static int run_receive(int fd, void *data, size_t size)
{
	ssize_t got;

	do
		got = read(fd, data, size);
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)size ? 0 : -EPIPE;
}

/* ---- the daemon ---- */

/* An option of mount with a path in it. */
static void run_append_path(struct strbuf *text, const char *option, const char *directory,
			    const char *name)
{
	strbuf_append_format(text, ",%s=", option);
	for (const char *at = directory; *at; at++)
		strbuf_append_format(text, strchr("\\,:", *at) ? "\\%c" : "%c", *at);
	strbuf_append_format(text, "/%s", name);
}

static int run_mount_options(const struct run_plan *plan, struct strbuf *text)
{
	const struct run_options *options = plan->options;

	strbuf_append_string(text, "lowerdir=/,cross_mounts,fsname=" RUN_SPACE_UNION);
	/* Nothing can come into one that is new. */
	if (!options->read_only_root || !plan->layer.is_temporary) {
		run_append_path(text, "upperdir", plan->layer.directory, LAYERFILE_UPPER);
		run_append_path(text, "workdir", plan->layer.directory, LAYERFILE_WORK);
	}
	if (plan->uses_user_xattrs)
		strbuf_append_string(text, ",userxattr");
	if (options->read_only_root)
		strbuf_append_string(text, ",ro");
	/* What nobody will see again needs no place on the disk. */
	if (options->end == RUN_END_DISCARD && plan->layer.is_temporary)
		strbuf_append_string(text, ",fsync=volatile");
	if (options->mount.length)
		strbuf_append_string(text, options->mount.data);
	return text->failed ? -ENOMEM : 0;
}

static void run_daemon_streams(void)
{
	int null = sys_open_path("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
}

/* In the process that becomes the daemon. */
static void run_daemon_execute(const struct run_keeper *keeper, int status_fd)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;
	char number[16];
	int r = run_mount_options(keeper->plan, &text);
	sigset_t none;

	/* Executing takes the capabilities of a user namespace from all but its root. */
	if (r == 0 && keeper->plan->makes_userns)
		r = sys_keep_caps_over_exec();
	if (r == 0)
		r = sys_end_with_parent(SIGTERM, keeper->pid);
	snprintf(number, sizeof(number), "%d", status_fd);
	if (r == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		run_daemon_streams();
		execl(RUN_PROGRAM, "veneer", "mount", "--status-fd", number, "-o", text.data,
		      keeper->point, NULL);
		r = -errno;
	}
	log_error("the daemon of the union: %s", strerror(-r));
	_exit(RUN_EXIT_FAILED);
}

/* Mounts the union. -EPROTO: the daemon has said why not. */
static int run_daemon_start(struct run_keeper *keeper)
{
	int ends[2], r = run_pipe(ends);
	uint8_t byte;

	if (r < 0)
		return r;
	keeper->daemon = fork();
	if (keeper->daemon == 0)
		run_daemon_execute(keeper, dup(ends[1])); /* without close-on-exec */
	r = keeper->daemon < 0 ? -errno : 0;
	close(ends[1]);
	if (r == 0 && run_receive(ends[0], &byte, sizeof(byte)) < 0)
		r = -EPROTO;
	close(ends[0]);
	return r;
}

static bool run_daemon_wait(const struct run_keeper *keeper, int limit_ms)
{
	const struct timespec pause = { .tv_nsec = RUN_DAEMON_PAUSE_MS * 1000000L };
	int status;

	for (int ms = 0; ms < limit_ms; ms += RUN_DAEMON_PAUSE_MS) {
		if (waitpid(keeper->daemon, &status, WNOHANG) != 0)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void run_daemon_stop(const struct run_keeper *keeper)
{
	if (keeper->daemon <= 0)
		return;
	kill(keeper->daemon, SIGTERM);
	if (run_daemon_wait(keeper, RUN_DAEMON_END_MS))
		return;
	log_error("the daemon of the union, process %d, does not end; it is killed",
		  (int)keeper->daemon);
	kill(keeper->daemon, SIGKILL);
	run_daemon_wait(keeper, RUN_DAEMON_KILL_MS);
}

/* ---- the command ---- */

static void run_command_execute(const struct run_keeper *keeper)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	char **command = keeper->plan->options->command;
	int r = run_space_enter(keeper->plan, keeper->point, keeper->inner_fd, &why);

	if (r < 0) {
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
		_exit(RUN_EXIT_FAILED);
	}
	sigprocmask(SIG_SETMASK, &keeper->signals, NULL);
	execvp(command[0], command);
	r = errno;
	log_error("%s: %s", command[0], strerror(r));
	_exit(r == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_NOT_EXECUTABLE);
}

/* The first process of a new pid namespace, which ends with it: reaps what nobody waits for. */
static int run_start_init(pid_t *init)
{
	int r = sys_unshare(CLONE_NEWPID);

	*init = r < 0 ? -1 : fork();
	if (*init == 0) {
		sigset_t child;
		int number;

		sys_end_with_parent(SIGKILL, 0);
		sigemptyset(&child);
		sigaddset(&child, SIGCHLD);
		for (;;)
			if (waitpid(-1, NULL, 0) < 0)
				sigwait(&child, &number);
	}
	return r < 0 ? r : *init < 0 ? -errno : 0;
}

static int run_command_start(const struct run_keeper *keeper, pid_t *command)
{
	*command = fork();
	if (*command == 0) {
		/* In another pid namespace a parent has no number. */
		if (sys_end_with_parent(SIGKILL,
					keeper->plan->options->own_pids ? 0 : keeper->pid) < 0)
			_exit(RUN_EXIT_FAILED);
		run_command_execute(keeper);
	}
	return *command < 0 ? -errno : 0;
}

/* 0 with the wait status of the command, -ESRCH if the called process has ended. */
static int run_command(struct run_keeper *keeper, int *status)
{
	const struct sys_pids daemon = { &keeper->daemon, 1 };
	pid_t init = -1, command;
	int r = keeper->plan->options->own_pids ? run_start_init(&init) : 0;

	if (r == 0)
		r = run_command_start(keeper, &command);
	if (r == 0)
		r = run_wait(command, keeper->plan->caller, status);
	/* All of its namespace ends with it. */
	if (init > 0)
		kill(init, SIGKILL);
	keeper->is_stuck = !run_wait_end_all(&daemon);
	return r;
}

/* ---- the keeper ---- */

static int run_keeper_isolate_mounts(const struct run_plan *plan)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	int r = sys_mounts_isolate();

	if (r == 0) {
		r = run_space_bury(plan, &why);
		if (r < 0)
			log_error("%s", why.failed ? strerror(-r) : why.data);
		return r < 0 ? -EPROTO : 0;
	}
	if (r == -EINVAL) {
		log_error("nothing can be mounted: the root directory is not that of a mount, as "
			  "after chroot(8) into a mere directory: 'mount --bind DIR DIR' before "
			  "that helps");
		return -EPROTO;
	}
	log_error("nothing can be mounted: %s%s", strerror(-r),
		  plan->makes_userns ?
			  " (does a security module take the rights in user namespaces "
			  "away, as kernel.apparmor_restrict_unprivileged_userns does?)" :
			  "");
	return -EPROTO;
}

/* Namespaces in which we may mount. */
static int run_keeper_isolate(struct run_keeper *keeper)
{
	const struct run_plan *plan = keeper->plan;
	uint8_t byte = 0;
	int r = sys_unshare(CLONE_NEWNS | (plan->makes_userns ? CLONE_NEWUSER : 0));

	if (r < 0) {
		log_error("no %s namespace of its own: %s%s", plan->makes_userns ? "user" : "mount",
			  strerror(-r),
			  plan->makes_userns ? " (user namespaces are not allowed here; root needs "
					       "none)" :
					       "");
		return -EPROTO;
	}
	if (plan->makes_userns) {
		r = run_send(keeper->ask_fd, &byte, sizeof(byte));
		if (r == 0)
			r = run_receive(keeper->tell_fd, &byte, sizeof(byte));
	}
	return r < 0 ? r : run_keeper_isolate_mounts(plan);
}

/* Before the union lies over the layer. */
static int run_keeper_open_inner(struct run_keeper *keeper)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	int r = run_layer_open_inner(&keeper->plan->layer, &why);

	if (r < 0) {
		log_error("%s", why.failed ? strerror(-r) : why.data);
		return -EPROTO;
	}
	keeper->inner_fd = r;
	return 0;
}

static int run_keeper_work(struct run_keeper *keeper, int *status)
{
	sigset_t ours;
	int r = run_keeper_isolate(keeper);

	keeper->pid = getpid();
	if (r == 0)
		r = sys_adopt_orphans();
	/* After the change of credentials, which takes it back. */
	if (r == 0)
		r = sys_end_with_parent(SIGTERM, keeper->plan->caller);
	if (r == 0 && keeper->plan->state)
		r = run_keeper_open_inner(keeper);
	/* Until there is a command to pass them on to, signals are ours. */
	if (r == 0) {
		sigprocmask(SIG_SETMASK, &keeper->signals, NULL);
		r = run_daemon_start(keeper);
		run_wait_begin(&ours);
	}
	if (r == 0)
		r = run_command(keeper, status);
	if (r < 0 && r != -EPROTO && r != -ESRCH)
		log_error("the command cannot be run: %s", strerror(-r));
	run_daemon_stop(keeper);
	cleanup_close(&keeper->inner_fd);
	run_layer_close_inner(&keeper->plan->layer);
	if (!keeper->is_stuck)
		run_wait_end_all(NULL); /* whom the kernel did not tell of while others ended */
	return r;
}

/* If who called us is gone, nobody else will. */
static void run_keeper_clean_up(const struct run_plan *plan)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;

	if (plan->layer.is_temporary && plan->options->end == RUN_END_DISCARD)
		run_layer_remove(&plan->layer, &why);
}

static void run_keeper_main(struct run_keeper *keeper)
{
	struct run_result result = { 0 };

	result.error = run_keeper_work(keeper, &result.status);
	if (getppid() != keeper->plan->caller)
		run_keeper_clean_up(keeper->plan);
	run_send(keeper->ask_fd, &result, sizeof(result));
	_exit(EXIT_SUCCESS);
}

/* ---- the called process ---- */

/* The keeper has made its user namespace; what it can do there hangs on us. */
static int run_give_ids(const struct run_plan *plan, pid_t keeper, int from, int to)
{
	uint8_t byte;
	int r;

	if (!plan->makes_userns || run_receive(from, &byte, sizeof(byte)) < 0)
		return 0; /* why not comes at its end */
	r = sys_map_ids(keeper);
	if (r < 0) {
		log_error("no ids in a user namespace: %s", strerror(-r));
		kill(keeper, SIGKILL);
		return r;
	}
	return run_send(to, &byte, sizeof(byte));
}

static int run_supervise(const struct run_plan *plan, pid_t keeper, int from, int to, int *status)
{
	struct run_result result;
	int keeper_status, r = run_give_ids(plan, keeper, from, to);
	int waited = run_wait(keeper, 0, &keeper_status);

	if (r == 0)
		r = waited;
	if (r < 0)
		return r;
	if (run_receive(from, &result, sizeof(result)) < 0) {
		*status = keeper_status;
		if (WIFSIGNALED(keeper_status) && WTERMSIG(keeper_status) != SIGKILL)
			return 0; /* before there was a command */
		log_error("the keeper of the run was killed, and the command with it");
		return -EPIPE;
	}
	*status = result.status;
	return result.error;
}

static int run_start_keeper(struct run_keeper *keeper, pid_t *pid, int *from, int *to)
{
	int asks[2], tells[2], r = run_pipe(asks);

	if (r < 0)
		return r;
	r = run_pipe(tells);
	if (r < 0) {
		close(asks[0]);
		close(asks[1]);
		return r;
	}
	keeper->ask_fd = asks[1];
	keeper->tell_fd = tells[0];
	*pid = fork();
	if (*pid == 0) {
		close(asks[0]);
		close(tells[1]);
		run_keeper_main(keeper);
	}
	r = *pid < 0 ? -errno : 0;
	close(asks[1]);
	close(tells[0]);
	*from = asks[0];
	*to = tells[1];
	return r;
}

/* Standard streams that the caller has closed: nothing of ours shall get their numbers. */
static void run_fill_streams(void)
{
	int null;

	do
		null = sys_open_path("/dev/null", O_RDWR | O_CLOEXEC);
	while (null >= 0 && null <= STDERR_FILENO);
	if (null >= 0)
		close(null);
}

int run_session(const struct run_plan *plan, int *status)
{
	struct run_keeper keeper = {
		.plan = plan,
		/* A directory that nobody need see meanwhile: the daemon has it open. */
		.point = plan->layer.directory,
		.inner_fd = -1,
	};
	struct sys_pids others = { 0 };
	pid_t pid = -1;
	int from = -1, to = -1, r = sys_adopt_orphans();

	run_fill_streams();
	/* Children that we had before we became this program are not ours to end. */
	if (r == 0)
		r = sys_find_children(&others);
	run_wait_begin(&keeper.signals);
	if (r == 0)
		r = run_start_keeper(&keeper, &pid, &from, &to);
	if (r < 0) {
		log_error("no process to run in: %s", strerror(-r));
	} else {
		r = run_supervise(plan, pid, from, to, status);
		run_wait_end_all(&others);
	}
	cleanup_close(&from);
	cleanup_close(&to);
	sigprocmask(SIG_SETMASK, &keeper.signals, NULL);
	sys_pids_deinit(&others);
	return r;
}
