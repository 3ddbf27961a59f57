/* SPDX-License-Identifier: MIT */
/*
 * The main thread's part.  It sets up, then waits for events (daemon/control.h)
 * while the transport's threads serve, and takes everything down in order:
 * no more requests, then the core (which writes back), then the connection.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/connect.h"
#include "daemon/control.h"
#include "daemon/datapath.h"
#include "daemon/errand.h"
#include "daemon/gate.h"
#include "daemon/idle.h"
#include "daemon/mount.h"
#include "daemon/ops.h"
#include "daemon/pruner.h"
#include "daemon/report.h"
#include "daemon/server.h"
#include "daemon/watcher.h"
#include "fuse/fuse.h"
#include "sys/creds.h"
#include "sys/memory.h"

/*
 * After a signal: how long open files may keep the unmounted connection going, and with it
 * whoever copied our mount into a namespace of his own.
 */
#define DAEMON_GRACE_MS 2000
/* How often a work directory that is in use is tried, and the pause in between. */
#define DAEMON_BUSY_TRIES 20
#define DAEMON_BUSY_PAUSE_MS 50

struct daemon {
	const struct options *options;
	struct control control;
	struct idle idle;
	struct ops ops;
	struct datapath datapath;
	struct mount mount;
	struct core *core;
	struct fuse_session *session;
	struct fuse_transport *transport;
	struct watcher watcher;
	struct pruner pruner;
	struct server server;
	struct report report; /* complete once the server is open */
	struct gate gate;
	struct errands errands;
	char *directory; /* the caller's, where relative paths of options start; owned, or NULL */
	bool is_trimming; /* memory was let go of that has not gone back to the system yet */
	bool has_ended; /* the kernel let go of the connection */
	bool is_stopping; /* after a signal; until then deadline means nothing */
	struct timespec deadline;
};

static int daemon_earlier(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* ---- called by the transport's threads ---- */

static void daemon_thread_start(void *context)
{
	int r = sys_creds_init_thread();

	if (r < 0)
		log_warning("a thread has no umask of its own: %s", strerror(-r));
}

static void daemon_ready(void *context, int error)
{
	struct daemon *daemon = container_of(context, struct daemon, ops);

	atomic_store(&daemon->control.ready_error, error);
	control_post(&daemon->control, CONTROL_READY);
}

static void daemon_ended(void *context, int error)
{
	struct daemon *daemon = context;

	atomic_store(&daemon->control.ended_error, error);
	control_post(&daemon->control, CONTROL_ENDED);
}

/* ---- setting up ---- */

/*
 * umount(8) returns before the daemon of that mount has let go of the layers: who mounts again
 * at once shall not be told that they are in use.
 */
static int daemon_new_core(struct daemon *daemon, struct strbuf *why)
{
	struct core_config config = options_core_config(daemon->options);
	const struct timespec pause = { .tv_nsec = DAEMON_BUSY_PAUSE_MS * 1000000L };
	int r;

	for (int i = 0; i < DAEMON_BUSY_TRIES; i++) {
		strbuf_deinit(why);
		r = core_new(&config, &daemon->core, why);
		if (r != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	return r;
}

static int daemon_open_core(struct daemon *daemon, struct strbuf *why)
{
	int r = daemon_new_core(daemon, why);

	if (r < 0)
		return r;
	daemon->ops = (struct ops){
		.core = daemon->core,
		.idle = &daemon->idle,
		.gate = &daemon->gate,
	};
	readers_init(&daemon->ops.readers);
	pruner_init(&daemon->pruner, daemon->core, &daemon->control, daemon->options->max_nodes);
	return datapath_init(&daemon->datapath, daemon->options, daemon->core, &daemon->ops, why);
}

static int daemon_connect(struct daemon *daemon, int fd)
{
	const struct options *options = daemon->options;
	struct fuse_session_config session = {
		.handlers = &ops_handlers,
		.valid = options->timeout,
		.data_may_change = options->layers_change,
		.passthrough_depth = datapath_depth(&daemon->datapath, daemon->core),
		.only_owner = options->allow_root,
		.owner = getuid(),
		.thread_start = daemon_thread_start,
		.ready = daemon_ready,
		.context = &daemon->ops,
	};
	struct fuse_dev_config dev = {
		.fd = fd,
		.max_threads = options->max_threads,
		.max_idle = options->max_idle,
		.ended = daemon_ended,
		.context = daemon,
	};
	struct connect connect;
	int r;

	daemon->session = fuse_session_new(&session);
	if (!daemon->session) {
		close(fd);
		return -ENOMEM;
	}
	r = connect_new(options, daemon->session, &dev, &connect);
	if (r < 0)
		return r;
	daemon->transport = connect.transport;
	daemon->report.transport_why = connect.why;
	daemon->datapath.transport = daemon->transport;
	daemon->pruner.session = daemon->session;
	daemon->pruner.transport = daemon->transport;
	core_faults_arm();
	r = fuse_transport_start(daemon->transport);
	return r < 0 ? r :
		       watcher_start(&daemon->watcher, daemon->core, daemon->transport,
				     &daemon->gate);
}

static int daemon_mount(struct daemon *daemon, const struct command *command, struct strbuf *why)
{
	struct options options = *daemon->options;
	int fd = -1, r;

	/* What cannot be written must not look as if it could: the kernel answers EROFS. */
	if (core_is_read_only(daemon->core))
		options.mount_flags |= MS_RDONLY;
	r = mount_attach(&daemon->mount, &options, command->source, &fd, why);
	return r < 0 ? r : daemon_connect(daemon, fd);
}

/* ---- serving ---- */

static void daemon_begin_stop(struct daemon *daemon)
{
	int r;

	/* Nobody may hold the union still any more: requests have to be answered to end. */
	daemon->control.client_fd = -1;
	server_close(&daemon->server);
	r = mount_detach(&daemon->mount, false);
	if (r < 0) {
		/* In use. Mapped pages that are dirty must reach us before the end does. */
		mount_sync(&daemon->mount);
		r = mount_detach(&daemon->mount, true);
	}
	if (r < 0)
		log_warning("cannot unmount %s: %s", daemon->mount.target, strerror(-r));
	if (daemon->is_stopping)
		return;
	daemon->is_stopping = true;
	clock_gettime(CLOCK_MONOTONIC, &daemon->deadline);
	daemon->deadline.tv_sec += DAEMON_GRACE_MS / 1000;
}

/* Milliseconds until the deadline, at least 0. */
static int daemon_remaining_ms(const struct daemon *daemon)
{
	struct timespec now;
	long ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (daemon->deadline.tv_sec - now.tv_sec) * 1000 +
	     (daemon->deadline.tv_nsec - now.tv_nsec) / 1000000;
	return ms > 0 ? (int)ms : 0;
}

static int daemon_timeout_ms(const struct daemon *daemon)
{
	int stop = daemon->is_stopping ? daemon_remaining_ms(daemon) : -1;
	int other =
		daemon_earlier(idle_timeout_ms(&daemon->idle), server_timeout_ms(&daemon->server));

	return daemon_earlier(stop, daemon_earlier(other, pruner_timeout_ms(&daemon->pruner)));
}

/*
 * In a quiet moment, everybody lets go of what they have; in the next one, when the transport's
 * threads have done so too, all that is free goes back to the system.
 */
static void daemon_trim(struct daemon *daemon)
{
	daemon->is_trimming = !daemon->is_trimming;
	if (daemon->is_trimming) {
		fuse_transport_trim(daemon->transport);
		core_trim(daemon->core);
		idle_watch(&daemon->idle);
	} else {
		malloc_trim(0);
		sys_memory_trim_code();
	}
}

/* ---- the control socket ---- */

static struct errand *daemon_answer(void *context, char *request, struct strbuf *answer)
{
	struct daemon *daemon = context;

	if (strcmp(request, CONTROL_REQUEST_STATUS) != 0)
		return errand_start(&daemon->errands, request, answer);
	report_status(&daemon->report, answer);
	return NULL;
}

/* A convenience: the mount is as good without. */
static void daemon_open_server(struct daemon *daemon)
{
	int r;

	daemon->report = (struct report){
		.core = daemon->core,
		.session = daemon->session,
		.transport = daemon->transport,
		.options = daemon->options,
		.datapath = &daemon->datapath,
		.directory = daemon->directory,
		.transport_why = daemon->report.transport_why,
	};
	clock_gettime(CLOCK_MONOTONIC, &daemon->report.started);
	r = daemon->mount.dev ? server_open(&daemon->server, daemon->mount.dev) : -ENODEV;
	if (r < 0)
		log_debug("no control socket: %s", strerror(-r));
	daemon->control.client_fd = daemon->server.poll_fd;
	daemon->errands.report = &daemon->report;
	daemon->errands.mount = &daemon->mount;
	daemon->errands.gate = &daemon->gate;
	daemon->errands.control = &daemon->control;
}

/* ---- events ---- */

/* The mount is live, or will never be. */
static int daemon_handle_ready(struct daemon *daemon, struct launch *launch)
{
	int r = atomic_load(&daemon->control.ready_error);

	if (r < 0) {
		log_error("the kernel and this program do not agree on a protocol: %s",
			  strerror(-r));
		return r;
	}
	mount_remember(&daemon->mount);
	daemon_open_server(daemon);
	launch_ready(launch);
	idle_watch(&daemon->idle); /* what setting up took */
	return 0;
}

static int daemon_handle_ended(struct daemon *daemon)
{
	int r = atomic_load(&daemon->control.ended_error);

	daemon->has_ended = true;
	daemon->mount.is_mounted = r < 0 && daemon->mount.is_mounted;
	if (r < 0)
		log_error("the connection to the kernel was aborted: %s", strerror(-r));
	return r;
}

static int daemon_serve(struct daemon *daemon, struct launch *launch)
{
	while (!daemon->has_ended) {
		unsigned int events = control_wait(&daemon->control, daemon_timeout_ms(daemon));
		int r = 0;

		if (events & CONTROL_READY)
			r = daemon_handle_ready(daemon, launch);
		if (r == 0 && (events & CONTROL_ENDED))
			r = daemon_handle_ended(daemon);
		if (r < 0)
			return r;
		if (events & CONTROL_SIGNAL)
			daemon_begin_stop(daemon);
		if (events & CONTROL_CROWDED)
			pruner_run(&daemon->pruner);
		else if (!events)
			pruner_run_again(&daemon->pruner);
		server_serve(&daemon->server);
		if (events & CONTROL_BUSY)
			idle_watch(&daemon->idle);
		else if (!events && idle_is_quiet(&daemon->idle))
			daemon_trim(daemon);
		if (daemon->is_stopping && !daemon->has_ended && !daemon_remaining_ms(daemon)) {
			log_info("files are still open; ending without them");
			break;
		}
	}
	return 0;
}

/* ---- taking down ---- */

static void daemon_deinit(struct daemon *daemon)
{
	server_close(&daemon->server);
	/* While there is still someone to answer what that may make the kernel ask. */
	mount_detach(&daemon->mount, true);
	watcher_stop(&daemon->watcher);
	errands_deinit(&daemon->errands);
	if (daemon->transport)
		fuse_transport_stop(daemon->transport);
	gate_deinit(&daemon->gate);
	if (daemon->core)
		core_free(daemon->core);
	fuse_transport_free(daemon->transport);
	fuse_session_free(daemon->session);
	mount_deinit(&daemon->mount);
	control_deinit(&daemon->control);
	free(daemon->directory);
}

static int daemon_start(struct daemon *daemon, const struct command *command, struct launch *launch)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	int r = control_init(&daemon->control);

	gate_init(&daemon->gate);
	errands_init(&daemon->errands);
	idle_init(&daemon->idle, &daemon->control);
	server_init(&daemon->server, daemon_answer, daemon);
	daemon->directory = getcwd(NULL, 0);
	if (r == 0)
		r = connect_check(daemon->options, &why);
	/* Before the layers: without a mount nothing in them shall be touched. */
	if (r == 0)
		r = mount_prepare(&daemon->mount, command->mountpoint, &why);
	if (r == 0)
		r = daemon_open_core(daemon, &why);
	if (r == 0)
		r = daemon_mount(daemon, command, &why);
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	else
		launch_forget_caller(launch);
	return r;
}

int daemon_run(const struct command *command, struct launch *launch)
{
	struct daemon daemon = {
		.options = &command->options,
		.control = { .signal_fd = -1, .event_fd = -1, .client_fd = -1 },
		.mount = MOUNT_INIT,
	};
	int r = daemon_start(&daemon, command, launch);

	if (r == 0)
		r = daemon_serve(&daemon, launch);
	daemon_deinit(&daemon);
	return r;
}
