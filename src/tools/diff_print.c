/* SPDX-License-Identifier: MIT */
/* Changes as lists: for people, for podman's users, and for programs. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/util.h"
#include "format/jsontext.h"
#include "format/whiteout.h"
#include "tools/diff.h"
#include "tools/human.h"

#define DIFF_SCHEMA "veneer-diff"
#define DIFF_VERSION 1

static const struct {
	const char *word, *colour, *json;
} diff_kinds[] = {
	[CHANGE_ADDED] = { "added:", "\033[32m", "added" },
	[CHANGE_REMOVED] = { "removed:", "\033[31m", "removed" },
	[CHANGE_MODIFIED] = { "modified:", "\033[33m", "modified" },
	[CHANGE_RENAMED] = { "renamed:", "\033[36m", "renamed" },
	[CHANGE_TYPE] = { "type:", "\033[35m", "type" },
};

static const struct {
	unsigned int what;
	const char *word;
} diff_whats[] = {
	{ CHANGE_CONTENT, "content" }, { CHANGE_MODE, "mode" },		{ CHANGE_OWNER, "owner" },
	{ CHANGE_TIMES, "time" },      { CHANGE_XATTRS, "attributes" },
};

#define DIFF_COLOUR_END "\033[0m"

static const char *diff_type(const struct statx *st)
{
	switch (st->stx_mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	default:
		return "socket";
	}
}

/* What is there now, or was. */
static const struct statx *change_stat(const struct change *change)
{
	return change->after.stx_mask ? &change->after : &change->before;
}

static bool change_is_dir(const struct change *change)
{
	const struct statx *st = change_stat(change);

	return st->stx_mask && S_ISDIR(st->stx_mode);
}

/* ---- names ---- */

static void diff_print_path(const struct diff_style *style, const char *path)
{
	if (style->end)
		human_print_name(stdout, path);
	else
		fputs(path, stdout);
}

static void diff_print_line(const struct diff_style *style, const char *path)
{
	diff_print_path(style, path);
	putchar(style->end);
}

/* The name of a removed entry in an image layer: `.wh.` before its last component. */
static void diff_print_whiteout(const struct diff_style *style, const char *path)
{
	_cleanup_strbuf_ struct strbuf name = STRBUF_INIT;
	const char *slash = strrchr(path, '/');

	strbuf_append(&name, path, (size_t)(slash - path) + 1);
	strbuf_append_string(&name, WHITEOUT_PREFIX);
	strbuf_append_string(&name, slash + 1);
	if (!name.failed)
		diff_print_line(style, name.data + 1);
}

/* ---- for people ---- */

static void diff_print_whats(const struct change *change)
{
	const char *separator = " (";
	unsigned int what = change->what;

	if (what & CHANGE_CONTENT) /* the time says nothing then */
		what &= ~(unsigned int)CHANGE_TIMES;
	if (change->kind == CHANGE_TYPE) {
		printf(" (%s -> %s)", diff_type(&change->before), diff_type(&change->after));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(diff_whats); i++) {
		if (!(what & diff_whats[i].what))
			continue;
		fputs(separator, stdout);
		fputs(diff_whats[i].word, stdout);
		if (diff_whats[i].what == CHANGE_MODE)
			printf(" %04o -> %04o", change->before.stx_mode & 07777U,
			       change->after.stx_mode & 07777U);
		if (diff_whats[i].what == CHANGE_OWNER)
			printf(" %u:%u -> %u:%u", change->before.stx_uid, change->before.stx_gid,
			       change->after.stx_uid, change->after.stx_gid);
		separator = ", ";
	}
	if (*separator == ',')
		putchar(')');
}

void diff_print_change(const struct diff_style *style, const struct change *change)
{
	printf("  %s%-10s%s ", style->has_colour ? diff_kinds[change->kind].colour : "",
	       diff_kinds[change->kind].word, style->has_colour ? DIFF_COLOUR_END : "");
	if (change->from) {
		diff_print_path(style, change->from);
		fputs(" -> ", stdout);
	}
	diff_print_path(style, change->path);
	if (change_is_dir(change) && strcmp(change->path, "/") != 0)
		putchar('/');
	diff_print_whats(change);
	if (change->is_opaque && change->kind == CHANGE_TYPE)
		fputs(" (opaque)", stdout);
	putchar(style->end);
}

struct diff_totals {
	size_t kinds[CHANGE_TYPE + 1];
};

static struct diff_totals diff_count(const struct changes *changes)
{
	struct diff_totals totals = { 0 };

	for (size_t i = 0; i < changes->count; i++)
		totals.kinds[changes->items[i].kind]++;
	return totals;
}

static void diff_print_summary(const struct changes *changes, char end)
{
	struct diff_totals totals = diff_count(changes);
	char size[HUMAN_MAX];
	const char *separator = "";

	if (changes->count == 0) {
		printf("no changes%c", end);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(totals.kinds); i++) {
		if (!totals.kinds[i])
			continue;
		if (i == CHANGE_TYPE)
			printf("%s%zu of another type", separator, totals.kinds[i]);
		else
			printf("%s%zu %s", separator, totals.kinds[i], diff_kinds[i].json);
		separator = ", ";
	}
	printf("; %s of new data%c", human_size(changes_bytes(changes), size), end);
}

static void diff_print_human(const struct diff_style *style, const struct changes *changes)
{
	for (size_t i = 0; i < changes->count; i++)
		diff_print_change(style, &changes->items[i]);
	diff_print_summary(changes, style->end);
}

/* ---- --stat ---- */

/* Length of the path's first component with its slashes: "/usr". */
static size_t diff_top_length(const char *path)
{
	return 1 + strcspn(path + 1, "/");
}

static void diff_print_stat(const struct diff_style *style, const struct changes *changes)
{
	for (size_t i = 0, end; i < changes->count; i = end) {
		const char *path = changes->items[i].path;
		size_t length = diff_top_length(path);
		struct changes part = { .items = &changes->items[i] };
		_cleanup_strbuf_ struct strbuf name = STRBUF_INIT;

		for (end = i;
		     end < changes->count && diff_top_length(changes->items[end].path) == length &&
		     !strncmp(changes->items[end].path, path, length);
		     end++)
			part.count++;
		strbuf_append(&name, path, length);
		putchar(' ');
		diff_print_path(style, name.data ? name.data : "");
		fputs(": ", stdout);
		diff_print_summary(&part, style->end);
	}
	diff_print_summary(changes, style->end);
}

/* ---- podman diff, and what a tar of it would hold ---- */

static char diff_letter(const struct change *change)
{
	switch (change->kind) {
	case CHANGE_ADDED:
	case CHANGE_RENAMED:
		return 'A';
	case CHANGE_REMOVED:
		return 'D';
	default:
		return 'C';
	}
}

static void diff_print_letter(const struct diff_style *style, char letter, const char *path)
{
	putchar(letter);
	putchar(' ');
	diff_print_line(style, path);
}

/* Changes and the directories above them, in one order; a directory that changed itself once. */
static void
diff_print_merged(const struct diff_style *style, const struct changes *changes,
		  void (*print_parent)(const struct diff_style *style, const char *path),
		  void (*print)(const struct diff_style *style, const struct change *change))
{
	size_t parent = 0;

	for (size_t i = 0; i < changes->count; i++) {
		const struct change *change = &changes->items[i];

		while (parent < changes->parent_count &&
		       changes_compare_paths(changes->parents[parent], change->path) <= 0) {
			if (changes_compare_paths(changes->parents[parent], change->path) < 0 &&
			    (i == 0 || changes_compare_paths(changes->parents[parent],
							     changes->items[i - 1].path)))
				print_parent(style, changes->parents[parent]);
			parent++;
		}
		/* What took its place follows. */
		if (i + 1 == changes->count ||
		    strcmp(change->path, changes->items[i + 1].path) != 0)
			print(style, change);
	}
}

static void diff_print_podman_parent(const struct diff_style *style, const char *path)
{
	diff_print_letter(style, 'C', path);
}

static void diff_print_podman(const struct diff_style *style, const struct change *change)
{
	if (change->kind == CHANGE_RENAMED)
		diff_print_letter(style, 'D', change->from);
	if (strcmp(change->path, "/") != 0)
		diff_print_letter(style, diff_letter(change), change->path);
}

static void diff_print_oci_parent(const struct diff_style *style, const char *path)
{
	diff_print_path(style, path + 1);
	putchar('/');
	putchar(style->end);
}

static void diff_print_oci(const struct diff_style *style, const struct change *change)
{
	const char *from = change->kind == CHANGE_RENAMED ? change->from :
			   change->kind == CHANGE_REMOVED ? change->path :
							    NULL;

	if (from)
		diff_print_whiteout(style, from);
	if (change->kind == CHANGE_REMOVED)
		return;
	diff_print_path(style, change->path + 1);
	if (change_is_dir(change))
		putchar('/');
	putchar(style->end);
}

/* ---- JSON ---- */

static json_t *diff_json_stat(const struct statx *st)
{
	if (!st->stx_mask)
		return json_null();
	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:{s:I, s:I}}", "type", diff_type(st), "mode",
			 (int)(st->stx_mode & 07777), "uid", (json_int_t)st->stx_uid, "gid",
			 (json_int_t)st->stx_gid, "size", (json_int_t)st->stx_size, "mtime", "s",
			 (json_int_t)st->stx_mtime.tv_sec, "ns", (json_int_t)st->stx_mtime.tv_nsec);
}

static json_t *diff_json_whats(const struct change *change)
{
	json_t *words = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(diff_whats); i++)
		if (change->what & diff_whats[i].what &&
		    json_array_append_new(words, json_string(diff_whats[i].word)) < 0) {
			json_decref(words);
			return NULL;
		}
	return words;
}

static json_t *diff_json_change(const struct change *change)
{
	json_t *json = json_object();
	int r = json_object_set_new(json, "kind", json_string(diff_kinds[change->kind].json));

	if (r == 0)
		r = jsontext_set(json, "path", change->path);
	if (r == 0 && change->from)
		r = jsontext_set(json, "from", change->from);
	if (r == 0)
		r = json_object_set_new(json, "changed", diff_json_whats(change));
	if (r == 0)
		r = json_object_set_new(json, "opaque", json_boolean(change->is_opaque));
	if (r == 0)
		r = json_object_set_new(json, "before", diff_json_stat(&change->before));
	if (r == 0)
		r = json_object_set_new(json, "after", diff_json_stat(&change->after));
	if (r == 0)
		return json;
	json_decref(json);
	return NULL;
}

static int diff_print_json(const struct target *target, const struct changes *changes)
{
	struct diff_totals totals = diff_count(changes);
	json_t *items = json_array();
	int r = 0;

	for (size_t i = 0; i < changes->count && r == 0; i++)
		r = json_array_append_new(items, diff_json_change(&changes->items[i]));
	json_t *all = json_pack("{s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "schema",
				DIFF_SCHEMA, "version", DIFF_VERSION, "changes", items, "summary",
				"added", (json_int_t)totals.kinds[CHANGE_ADDED], "removed",
				(json_int_t)totals.kinds[CHANGE_REMOVED], "modified",
				(json_int_t)totals.kinds[CHANGE_MODIFIED], "renamed",
				(json_int_t)totals.kinds[CHANGE_RENAMED], "type",
				(json_int_t)totals.kinds[CHANGE_TYPE], "bytes",
				(json_int_t)changes_bytes(changes));

	if (r < 0 || !all || jsontext_set(all, "target", target->name) < 0 ||
	    json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		r = -ENOMEM;
	putchar('\n');
	json_decref(all);
	return r;
}

int diff_print(const struct target *target, const struct changes *changes,
	       const struct diff_style *style)
{
	switch (style->form) {
	case DIFF_STAT:
		diff_print_stat(style, changes);
		return 0;
	case DIFF_NAMES:
		for (size_t i = 0; i < changes->count; i++)
			diff_print_line(style, changes->items[i].path);
		return 0;
	case DIFF_JSON:
		return diff_print_json(target, changes);
	case DIFF_PODMAN:
		diff_print_merged(style, changes, diff_print_podman_parent, diff_print_podman);
		return 0;
	case DIFF_OCI:
		diff_print_merged(style, changes, diff_print_oci_parent, diff_print_oci);
		return 0;
	default:
		diff_print_human(style, changes);
		return 0;
	}
}
