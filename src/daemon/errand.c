/* SPDX-License-Identifier: MIT */
#include "daemon/errand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/log.h"
#include "sys/creds.h"

/* How often those are looked after who wait for a mount that stands still. */
#define ERRAND_TEND_MS 100

struct errand {
	struct errands *errands;
	int (*run)(struct errand *errand);
	char *request; /* its words after the first; owned */
	/* Guarded by errands->lock. */
	unsigned int holders; /* its thread, its client */
	enum errand_state state;
	struct strbuf answer;
	bool may_go_on;
	bool has_claim;
	atomic_bool is_left; /* set with the lock held */
};

void errands_init(struct errands *errands)
{
	lock_mutex_init(&errands->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&errands->changed, NULL);
}

void errands_deinit(struct errands *errands)
{
	lock_mutex_lock(&errands->lock);
	while (errands->running > 0)
		lock_cond_wait(&errands->changed, &errands->lock);
	lock_mutex_unlock(&errands->lock);
	pthread_cond_destroy(&errands->changed);
	lock_mutex_deinit(&errands->lock);
}

/* ---- client and thread ---- */

static struct errand *errand_free(struct errand *errand)
{
	if (!errand)
		return NULL;
	strbuf_deinit(&errand->answer);
	free(errand->request);
	free(errand);
	return NULL;
}

static void errand_unref(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	bool is_last = --errand->holders == 0;

	lock_mutex_unlock(&errands->lock);
	if (is_last)
		errand_free(errand);
}

/* Moves what is there to its client. */
static void errand_tell(struct errand *errand, enum errand_state state, struct strbuf *answer)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	errand->state = state;
	errand->answer = *answer;
	lock_mutex_unlock(&errands->lock);
	*answer = STRBUF_INIT;
	control_post(errands->control, CONTROL_ERRAND);
}

/* 0: "ok"; else "no: ", and the reason, or what the error means. */
static void errand_tell_verdict(struct errand *errand, enum errand_state state, int error,
				const struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf answer = STRBUF_INIT;

	strbuf_append_string(&answer, error < 0 ? CONTROL_VERDICT_NO : CONTROL_VERDICT_OK);
	if (error < 0)
		strbuf_append_string(&answer,
				     why->length && !why->failed ? why->data : strerror(-error));
	/* A name in a reason can hold anything, a line cannot. */
	for (size_t i = 0; i < answer.length; i++)
		if (answer.data[i] == '\n')
			answer.data[i] = '?';
	strbuf_append_string(&answer, "\n");
	errand_tell(errand, state, &answer);
}

enum errand_state errand_fetch(struct errand *errand, struct strbuf *answer)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	enum errand_state state = errand->state;

	if (errand->answer.failed)
		answer->failed = true;
	else if (errand->answer.length)
		strbuf_append(answer, errand->answer.data, errand->answer.length);
	strbuf_deinit(&errand->answer);
	lock_mutex_unlock(&errands->lock);
	return state;
}

void errand_go_on(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	errand->may_go_on = true;
	errand->state = ERRAND_WORKS;
	pthread_cond_broadcast(&errands->changed);
	lock_mutex_unlock(&errands->lock);
}

struct errand *errand_leave(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	atomic_store(&errand->is_left, true);
	pthread_cond_broadcast(&errands->changed);
	lock_mutex_unlock(&errands->lock);
	errand_unref(errand);
	return NULL;
}

/* ---- which layer a path comes from ---- */

static int errand_which(struct errand *errand)
{
	struct errands *errands = errand->errands;
	_cleanup_strbuf_ struct strbuf answer = STRBUF_INIT;
	char *at = errand->request, *path = control_next_word(&at);
	int entered = gate_try_enter(errands->gate);

	if (entered >= 0) {
		report_which(errands->report, path ? path : "", &answer);
		gate_leave(errands->gate, entered);
	} else {
		strbuf_append_string(&answer,
				     "{\"error\": \"the layers are just being changed by another "
				     "command: try again when that is done\"}\n");
	}
	errand_tell(errand, ERRAND_ENDS, &answer);
	return 0;
}

/* ---- changing the layers ---- */

static bool errand_claim(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	errand->has_claim = !errands->is_claimed;
	errands->is_claimed = true;
	lock_mutex_unlock(&errands->lock);
	return errand->has_claim;
}

/* The next one may; before the client knows that this one is done. */
static void errand_unclaim(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	if (errand->has_claim)
		errands->is_claimed = false;
	errand->has_claim = false;
	lock_mutex_unlock(&errands->lock);
}

static void errand_forget_name(void *transport, uint64_t parent, const char *name)
{
	fuse_notify_expire(transport, parent, name);
}

static void errand_forget_attributes(void *transport, uint64_t node)
{
	fuse_notify_inode(transport, node, -1, 0);
}

static void errand_forget_node(void *transport, uint64_t node)
{
	fuse_notify_inode(transport, node, 0, 0);
}

/*
 * Nobody is in the union, and what had been written by then is in its layers. 0, or -errno with a
 * reason in @why; then requests go on as before.
 */
static int errand_stop_union(struct errand *errand, enum core_change change,
			     struct core_pause **pausep, struct strbuf *why)
{
	struct errands *errands = errand->errands;
	unsigned int written;

	/* Mapped pages that are dirty are answered like any other request. */
	mount_sync(errands->mount);
	int r = gate_close(errands->gate, &errand->is_left);

	if (r < 0)
		return r;
	r = core_pause(errands->report->core, change, pausep, &written);
	if (r == -EBUSY)
		strbuf_append_format(why,
				     "%u file%s open for writing, which data=passthrough does past "
				     "the daemon: close %s first, or mount with data=served",
				     written, written == 1 ? " is" : "s are",
				     written == 1 ? "it" : "them");
	if (r < 0)
		gate_open(errands->gate);
	return r;
}

static void errand_start_union(struct errands *errands, struct core_pause *pause)
{
	struct core *core = errands->report->core;
	const struct core_watcher hears = {
		.name = errand_forget_name,
		.attributes = errand_forget_attributes,
		.node = errand_forget_node,
		.context = errands->report->transport,
	};

	core_resume(core, pause, &hears);
	/* Telling waits for requests that are being worked on. */
	gate_open(errands->gate);
	core_pause_end(core, pause, &hears);
}

/* The words of the request; *@words is owned, they are not. 0, -ENOMEM or -EINVAL. */
static int errand_get_words(struct errand *errand, char ***wordsp, size_t *count)
{
	size_t most = 1;
	char *at = errand->request, *word;

	for (const char *c = errand->request; *c; c++)
		most += *c == ' ';
	char **words = calloc(most, sizeof(*words));

	if (!words)
		return -ENOMEM;
	*count = 0;
	while (*count < most && (word = control_next_word(&at)))
		words[(*count)++] = word;
	*wordsp = words;
	return at ? 0 : -EINVAL;
}

static int errand_discard_words(struct errand *errand, struct core_discard *discard,
				struct strbuf *why)
{
	struct errands *errands = errand->errands;
	struct core_pause *pause;
	int r = core_check_discard(errands->report->core, why);

	if (r == 0)
		r = errand_stop_union(errand, CORE_CHANGE_DISCARD, &pause, why);
	if (r < 0)
		return r;
	r = core_discard(errands->report->core, discard, why);
	errand_start_union(errands, pause);
	return r;
}

static int errand_discard(struct errand *errand)
{
	struct errands *errands = errand->errands;
	struct core_discard discard = { 0 };
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	_cleanup_free_ char **words = NULL;
	int r = errand_get_words(errand, &words, &discard.keep_count);

	discard.keep = words;
	if (r == 0)
		r = errand_discard_words(errand, &discard, &why);
	errand_unclaim(errand);
	errand_tell_verdict(errand, ERRAND_ENDS, r, &why);
	/* Nobody waits for this; the next mount does what is left of it. */
	return core_discard_remains(errands->report->core, &discard);
}

/* Until the client goes on, or away; true: it waits for an answer. */
static bool errand_hold(struct errand *errand)
{
	struct errands *errands = errand->errands;

	lock_mutex_lock(&errands->lock);
	while (!errand->may_go_on && !atomic_load(&errand->is_left)) {
		lock_cond_wait_ms(&errands->changed, &errands->lock, ERRAND_TEND_MS);
		lock_mutex_unlock(&errands->lock);
		gate_tend(errands->gate);
		lock_mutex_lock(&errands->lock);
	}
	bool goes_on = errand->may_go_on;

	lock_mutex_unlock(&errands->lock);
	return goes_on;
}

static int errand_suspend(struct errand *errand)
{
	struct errands *errands = errand->errands;
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct core_pause *pause;
	int r = errand_stop_union(errand, CORE_CHANGE_COMMIT, &pause, &why);

	if (r < 0) {
		errand_unclaim(errand);
		errand_tell_verdict(errand, ERRAND_ENDS, r, &why);
		return 0;
	}
	errand_tell_verdict(errand, ERRAND_HOLDS, 0, &why);
	if (!errand_hold(errand))
		log_info("who held the mount still is gone; it goes on");
	errand_start_union(errands, pause);
	errand_unclaim(errand);
	errand_tell_verdict(errand, ERRAND_ENDS, 0, &why);
	return 0;
}

/* ---- starting ---- */

static const struct errand_kind {
	const char *verb;
	int (*run)(struct errand *errand);
	bool changes_layers; /* one at a time */
} errand_kinds[] = {
	{ CONTROL_REQUEST_WHICH, errand_which, false },
	{ CONTROL_REQUEST_DISCARD, errand_discard, true },
	{ CONTROL_REQUEST_SUSPEND, errand_suspend, true },
};

static const struct errand_kind *errand_find_kind(const char *verb)
{
	for (size_t i = 0; i < ARRAY_SIZE(errand_kinds); i++)
		if (!strcmp(errand_kinds[i].verb, verb))
			return &errand_kinds[i];
	return NULL;
}

static void *errand_main(void *context)
{
	struct errand *errand = context;
	struct errands *errands = errand->errands;
	int r = sys_creds_init_thread();

	if (r == 0)
		r = errand->run(errand);
	if (r < 0)
		log_warning("control socket: %s", strerror(-r));
	errand_unclaim(errand);
	errand_unref(errand);
	lock_mutex_lock(&errands->lock);
	errands->running--;
	pthread_cond_broadcast(&errands->changed);
	lock_mutex_unlock(&errands->lock);
	return NULL;
}

static int errand_start_thread(struct errand *errand)
{
	struct errands *errands = errand->errands;
	pthread_attr_t attr;
	pthread_t thread;

	lock_mutex_lock(&errands->lock);
	errands->running++;
	lock_mutex_unlock(&errands->lock);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int r = -pthread_create(&thread, &attr, errand_main, errand);

	pthread_attr_destroy(&attr);
	if (r < 0) {
		lock_mutex_lock(&errands->lock);
		errands->running--;
		lock_mutex_unlock(&errands->lock);
	}
	return r;
}

static struct errand *errand_new(struct errands *errands, const struct errand_kind *kind,
				 const char *request)
{
	struct errand *errand = calloc(1, sizeof(*errand));

	if (!errand)
		return NULL;
	errand->errands = errands;
	errand->run = kind->run;
	errand->holders = 2;
	errand->state = ERRAND_WORKS;
	errand->request = strdup(request);
	if (!errand->request)
		free(ptr_take(errand));
	return errand;
}

struct errand *errand_start(struct errands *errands, char *line, struct strbuf *answer)
{
	char *verb = control_next_word(&line);
	const struct errand_kind *kind = verb ? errand_find_kind(verb) : NULL;
	struct errand *errand;

	if (!kind) {
		strbuf_append_string(answer, "{\"error\": \"unknown request\"}\n");
		return NULL;
	}
	errand = errand_new(errands, kind, line);
	if (errand && kind->changes_layers && !errand_claim(errand)) {
		strbuf_append_string(answer, CONTROL_VERDICT_NO
				     "another command is changing the layers of this mount\n");
		return errand_free(errand);
	}
	if (errand && errand_start_thread(errand) == 0)
		return errand;
	answer->failed = true;
	if (errand)
		errand_unclaim(errand);
	return errand_free(errand);
}
