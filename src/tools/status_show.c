/* SPDX-License-Identifier: MIT */
/* Finding the mounts, asking their daemons, and what to say if that does not work. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/log.h"
#include "format/jsontext.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "tools/ask.h"
#include "tools/mounts.h"
#include "tools/status.h"
#include "tools/status_print.h"

#define STATUS_SCHEMA "veneer-status"
/* Home, and clear to the end of the screen. */
#define STATUS_CLEAR "\033[H\033[2J\033[3J"

/* One look, while it lasts. */
struct status_view {
	const struct status_look *look;
	struct mounts mounts;
	json_t *shown, *errors; /* arrays of --json; owned */
	unsigned int shown_count, error_count;
	bool failed; /* out of memory */
};

/* ---- complaints ---- */

static void status_complain(struct status_view *view, const char *path, const char *why)
{
	json_t *error = json_object();

	view->error_count++;
	log_error("%s: %s", path, why);
	if (jsontext_set(error, "path", path) < 0 ||
	    json_object_set_new(error, "error", json_string(why)) < 0)
		view->failed = true;
	if (json_array_append_new(view->errors, error) < 0)
		view->failed = true;
}

/* Why there was no answer, and what can be done about it. */
static void status_complain_silence(struct status_view *view, const struct mounts_entry *entry,
				    const char *path, int error)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;

	ask_explain(entry->owner, error, &why);
	status_complain(view, path, why.failed ? strerror(ENOMEM) : why.data);
}

/* ---- one mount ---- */

/* What the daemon says, checked to be of this version; NULL after a complaint. */
static json_t *status_ask(struct status_view *view, const struct mounts_entry *entry,
			  const char *path)
{
	_cleanup_strbuf_ struct strbuf answer = STRBUF_INIT;
	int r = ask_daemon(entry->dev, CONTROL_REQUEST_STATUS, &answer);
	json_t *report = r < 0 ? NULL : json_loadb(answer.data, answer.length, 0, NULL);
	const char *error = json_string_value(json_object_get(report, "error"));

	if (r < 0)
		status_complain_silence(view, entry, path, r);
	else if (error)
		status_complain(view, path, error);
	else if (json_integer_value(json_object_get(report, "version")) != CONTROL_STATUS_VERSION)
		status_complain(view, path,
				"the daemon of this mount is of another version of "
				"veneer: use the command it was mounted with");
	else
		return report;
	json_decref(report);
	return NULL;
}

/* The report with where it is mounted, which the daemon cannot know for sure. */
static json_t *status_describe(const struct mounts_entry *entry, json_t *report)
{
	json_t *mount = json_object();
	char name[CONTROL_NAME_MAX];

	if (jsontext_set(mount, "mount_point", entry->point) == 0 &&
	    json_object_set_new(mount, "device", json_string(control_name(entry->dev, name))) ==
		    0 &&
	    json_object_update(mount, report) == 0)
		return mount;
	json_decref(mount);
	return NULL;
}

/* @path: what the user called it. */
static void status_show_mount(struct status_view *view, const struct mounts_entry *entry,
			      const char *path)
{
	json_t *report = status_ask(view, entry, path);

	if (!report)
		return;
	if (view->look->as_json) {
		if (json_array_append_new(view->shown, status_describe(entry, report)) < 0)
			view->failed = true;
	} else {
		if (view->shown_count > 0)
			putchar('\n');
		status_print(entry->point, report);
	}
	view->shown_count++;
	json_decref(report);
}

/* ---- which mounts ---- */

/* The mount that @path lies on; NULL after a complaint. */
static const struct mounts_entry *status_find(struct status_view *view, const char *path)
{
	_cleanup_close_ int fd = sys_open_path(path, O_PATH | O_CLOEXEC);
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	const struct mounts_entry *entry;
	unsigned long long id;
	int r = fd < 0 ? fd : sys_mount_id(fd, &id);

	entry = r < 0 ? NULL : mounts_find(&view->mounts, id);
	if (entry && mounts_is_fuse(entry))
		return entry;
	if (r == -ENOTCONN)
		strbuf_append_string(&why, "the daemon of this mount is gone: unmount it and mount "
					   "it again");
	else if (r == -EACCES)
		strbuf_append_format(&why, "%s (only the user who mounted may ask)", strerror(-r));
	else if (r < 0)
		strbuf_append_string(&why, strerror(-r));
	else
		strbuf_append_format(&why,
				     "is not on a mount of veneer but on %s (%s): 'veneer status' "
				     "without a path shows yours",
				     entry ? entry->point : "something not mounted here",
				     entry ? entry->type : "?");
	status_complain(view, path, why.failed ? strerror(ENOMEM) : why.data);
	return NULL;
}

static void status_show_own(struct status_view *view)
{
	unsigned int found = 0;

	for (size_t i = 0; i < view->mounts.count; i++) {
		const struct mounts_entry *entry = &view->mounts.entries[i];

		if (!mounts_is_own(&view->mounts, entry))
			continue;
		found++;
		status_show_mount(view, entry, entry->point);
	}
	if (found == 0 && !view->look->as_json)
		log_error("this user has mounted nothing with veneer (see 'veneer --help')");
}

static void status_show_paths(struct status_view *view)
{
	for (int i = 0; i < view->look->path_count; i++) {
		const struct mounts_entry *entry = status_find(view, view->look->paths[i]);

		if (entry)
			status_show_mount(view, entry, view->look->paths[i]);
	}
}

/* ---- the look ---- */

/* A line to each look of --watch, so that a program can tell them apart. */
static void status_print_json(struct status_view *view)
{
	json_t *all = json_pack("{s:s, s:i, s:O, s:O}", "schema", STATUS_SCHEMA, "version",
				CONTROL_STATUS_VERSION, "mounts", view->shown, "errors",
				view->errors);
	size_t flags = view->look->is_watching ? JSON_COMPACT : JSON_INDENT(2);

	if (!all || json_dumpf(all, stdout, flags) < 0)
		view->failed = true;
	putchar('\n');
	json_decref(all);
}

bool status_show(const struct status_look *look)
{
	struct status_view view = {
		.look = look,
		.shown = json_array(),
		.errors = json_array(),
	};
	int r = mounts_read(&view.mounts);

	if (look->is_watching && !look->as_json && isatty(STDOUT_FILENO))
		fputs(STATUS_CLEAR, stdout);
	if (r < 0)
		status_complain(&view, "/proc/self/mountinfo", strerror(-r));
	else if (look->path_count > 0)
		status_show_paths(&view);
	else
		status_show_own(&view);
	if (look->as_json)
		status_print_json(&view);
	fflush(stdout);
	if (view.failed)
		log_error("%s", strerror(ENOMEM));
	mounts_deinit(&view.mounts);
	json_decref(view.shown);
	json_decref(view.errors);
	return !view.failed && view.error_count == 0 && view.shown_count > 0;
}
