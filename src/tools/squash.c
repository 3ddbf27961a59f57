/* SPDX-License-Identifier: MIT */
/*
 * Several layers into a new one.  It is made beside the place it gets, and gets
 * its name in one step when it is complete and on the disk.
 */
#include "tools/squash.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "format/jsontext.h"
#include "offline/copy.h"
#include "offline/hold.h"
#include "offline/lineage.h"
#include "offline/merge.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/human.h"
#include "tools/locate.h"
#include "tools/progress.h"
#include "tools/stop.h"

#define SQUASH_NAME_MAX 256
#define SQUASH_INDEX "index"

enum {
	SQUASH_KEY_LOWER = ARGS_KEY_FIRST,
	SQUASH_KEY_USERXATTR,
	SQUASH_KEY_JSON,
};

struct squash_args {
	const char *lower, *out;
	char **layers;
	size_t layer_count;
	bool userxattr, as_json;
};

/* The work, while it lasts. */
struct squash {
	const struct squash_args *args;
	struct stack stack;
	struct progress progress;
	uint64_t shown; /* bytes that the progress knows of */
	char *work; /* of the topmost layer, if that is known; owned */
	char *parent; /* the directory that OUT will be in; owned */
	int parent_fd;
	/* OUT and its siblings while it is made. */
	char name[SQUASH_NAME_MAX], tree[SQUASH_NAME_MAX], spare[SQUASH_NAME_MAX];
};

/* Appends the sentence and returns the errno it explains. */
#define squash_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the command line ---- */

static const struct argp_option squash_options[] = {
	{ "output", 'o', "OUT", 0, "the new layer, a directory that does not exist yet", 0 },
	{ "lower", SQUASH_KEY_LOWER, "DIR[:DIR...]", 0,
	  "what the new layer will lie over, top first, as in lowerdir=; else what the last "
	  "LAYER says it lies over, if it says so",
	  0 },
	{ "userxattr", SQUASH_KEY_USERXATTR, NULL, 0,
	  "the layers' private attributes are user.overlay.*; else that is found out", 0 },
	{ "json", SQUASH_KEY_JSON, NULL, 0, "JSON, see docs/squash.schema.json", 0 },
	{ 0 },
};

static error_t squash_parse(int key, char *arg, struct argp_state *state)
{
	struct squash_args *args = state->input;

	switch (key) {
	case 'o':
		args->out = arg;
		return 0;
	case SQUASH_KEY_LOWER:
		args->lower = arg;
		return 0;
	case SQUASH_KEY_USERXATTR:
		args->userxattr = true;
		return 0;
	case SQUASH_KEY_JSON:
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARGS:
		args->layers = state->argv + state->next;
		args->layer_count = (size_t)(state->argc - state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which LAYERs?");
		return 0;
	case ARGP_KEY_END:
		if (!args->out)
			argp_error(state, "where to? Name the new layer with -o");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp squash_argp = {
	.options = squash_options,
	.parser = squash_parse,
	.args_doc = "LAYER...",
	.doc = "Makes one new layer of several, the topmost named first. Over the same lower "
	       "layers it shows what they showed; without any, it is a plain tree.\v"
	       "Exit status: 0 if it was made, 1 if not, 2 if the command line was not "
	       "understood.",
};

/* ---- the layers ---- */

/* OUT must not lie in what is read. */
static int squash_check_outside(const struct squash *squash, const char *layer, struct strbuf *why)
{
	size_t length = strlen(layer);

	if (strncmp(squash->parent, layer, length) != 0 ||
	    (squash->parent[length] != '/' && squash->parent[length] != '\0'))
		return 0;
	return squash_fail(why, -EINVAL, "%s lies in the layer %s: put it elsewhere with -o",
			   squash->args->out, layer);
}

/* One LAYER; @last is kept to ask what it lies over. */
static int squash_add_layer(struct squash *squash, const char *name, struct target *last,
			    struct strbuf *why)
{
	const struct args_target args = { .userxattr = squash->args->userxattr };
	_cleanup_hold_ struct hold hold = HOLD_INIT;

	target_deinit(last);
	int r = locate_target(name, &args, last, why);

	if (r < 0)
		return r;
	if (last->mount_point)
		return squash_fail(why, -EBUSY, "%s is mounted: unmount it first (%s)", name,
				   last->mount_point);
	r = squash_check_outside(squash, last->upper, why);
	if (r == 0)
		r = hold_take(last->upper, NULL, &hold, why);
	if (squash->stack.count == 0)
		squash->work = ptr_take(last->work);
	if (last->ns == XATTR_USER)
		squash->stack.ns = XATTR_USER;
	return r < 0 ? r : stack_add(&squash->stack, last->upper, false, why);
}

static int squash_add_lowers(struct squash *squash, const struct target *last, struct strbuf *why)
{
	struct lowerdir_list named = { 0 };
	const char *reason;

	if (!squash->args->lower)
		return stack_add_list(&squash->stack, &last->lowers, why);
	int r = lowerdir_parse(squash->args->lower, &named, &reason);

	if (r < 0)
		return squash_fail(why, r, "--lower %s: %s", squash->args->lower,
				   r == -EINVAL ? reason : strerror(-r));
	r = stack_add_list(&squash->stack, &named, why);
	lowerdir_list_deinit(&named);
	return r;
}

static int squash_open_layers(struct squash *squash, struct strbuf *why)
{
	_cleanup_target_ struct target last = TARGET_INIT;
	int r = 0;

	for (size_t i = 0; r == 0 && i < squash->args->layer_count; i++)
		r = squash_add_layer(squash, squash->args->layers[i], &last, why);
	squash->stack.inner = squash->stack.count;
	return r < 0 ? r : squash_add_lowers(squash, &last, why);
}

/* What only an index says is not in the layer, and so not in the new one. */
static void squash_warn_of_index(const struct squash *squash)
{
	_cleanup_close_ int work =
		squash->work ? sys_open_path(squash->work, O_PATH | O_DIRECTORY) : -1;
	_cleanup_close_ int index =
		work < 0 ? -1 : sys_open(work, SQUASH_INDEX, O_RDONLY | O_DIRECTORY, 0);
	int count = index < 0 ? 0 : lineage_count_shared(&squash->stack, index);

	if (count > 0)
		log_warning(
			"%s: of %d of its files other names are in lower layers alone; these will show what the lower layers have, since a new layer has no index",
			squash->args->layers[0], count);
}

/* ---- the place ---- */

static int squash_open_place(struct squash *squash, struct strbuf *why)
{
	_cleanup_free_ char *path = strdup(squash->args->out);
	size_t length = path ? strlen(path) : 0;
	struct statx st;

	if (!path)
		return -ENOMEM;
	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) >= SQUASH_NAME_MAX)
		return squash_fail(why, -EINVAL, "-o %s: not the name of a new directory",
				   squash->args->out);
	snprintf(squash->name, sizeof(squash->name), "%s", name);
	snprintf(squash->tree, sizeof(squash->tree), ".%.200s.veneer-squash", name);
	snprintf(squash->spare, sizeof(squash->spare), ".%.200s.veneer-spare", name);
	if (slash)
		*slash = '\0';
	squash->parent = realpath(!slash ? "." : *path ? path : "/", NULL);
	squash->parent_fd = squash->parent ? sys_open_path(squash->parent, O_RDONLY | O_DIRECTORY) :
					     -errno;
	if (squash->parent_fd < 0)
		return squash_fail(why, squash->parent_fd, "%s: %s", squash->args->out,
				   strerror(-squash->parent_fd));
	if (sys_stat(squash->parent_fd, squash->name, &st) == 0)
		return squash_fail(why, -EEXIST,
				   "%s exists: name a directory that does not, or remove it",
				   squash->args->out);
	return 0;
}

/* Makes @name anew and locks it; what a run that was killed left there goes. */
static int squash_make_sibling(struct squash *squash, const char *name, int *fdp,
			       struct strbuf *why)
{
	_cleanup_close_ int old = sys_open(squash->parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	int r = old < 0 ? 0 : sys_flock_exclusive(old);

	if (r == 0 && old >= 0)
		r = copy_remove(squash->parent_fd, name);
	if (r == 0)
		r = mutate_mkdir(squash->parent_fd, name, 0700);
	if (r == 0)
		r = sys_open(squash->parent_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (r >= 0) {
		*fdp = r;
		r = sys_flock_exclusive(r);
	}
	if (r == -EWOULDBLOCK)
		return squash_fail(why, -EBUSY, "%s is being made by another process",
				   squash->args->out);
	if (r < 0)
		strbuf_append_format(why, "%s/%s: %s", squash->parent, name, strerror(-r));
	return r;
}

static int squash_publish(struct squash *squash)
{
	int r = mutate_syncfs(squash->parent_fd);

	if (r == 0)
		r = mutate_rename(squash->parent_fd, squash->tree, squash->parent_fd, squash->name,
				  RENAME_NOREPLACE);
	if (r == -EINVAL) /* a file system without; nothing but an empty directory is replaced */
		r = mutate_rename(squash->parent_fd, squash->tree, squash->parent_fd, squash->name,
				  0);
	return r < 0 ? r : mutate_fsync(squash->parent_fd);
}

/* ---- the work ---- */

static void squash_progress(void *context, const struct merge_counts *counts, uint64_t done)
{
	struct squash *squash = context;
	uint64_t now = counts->bytes + done;

	if (now > squash->shown) {
		progress_add(&squash->progress, now - squash->shown);
		squash->shown = now;
	}
}

static int squash_merge(struct squash *squash, struct merge *merge, int tree, struct strbuf *why)
{
	_cleanup_stack_dir_ struct stack_dir root = STACK_DIR_INIT;

	progress_begin(&squash->progress, "squashing", 0);
	int r = stack_root(&squash->stack, &root);

	if (r == 0)
		r = merge_into(merge, &root, tree);
	/* What is kept to be linked would count as names of the result. */
	if (r == 0)
		r = copy_remove(squash->parent_fd, squash->spare);
	if (r == 0)
		r = squash_publish(squash);
	progress_end(&squash->progress);
	if (r == 0)
		return 0;
	if (merge->path.length > 0)
		strbuf_append_format(why, "%s: ", merge->path.data);
	merge_explain(merge, r, why);
	strbuf_append_format(why, " (%s was not made)", squash->args->out);
	return r;
}

static int squash_make(struct squash *squash, struct merge *merge, struct strbuf *why)
{
	_cleanup_close_ int tree = -1, spare = -1;
	int r = squash_make_sibling(squash, squash->tree, &tree, why);

	if (r < 0)
		return r;
	r = squash_make_sibling(squash, squash->spare, &spare, why);
	merge->stack = &squash->stack;
	merge->spare = spare;
	merge->is_interrupted = stop_is_wanted;
	merge->progress = squash_progress;
	merge->context = squash;
	if (r == 0)
		r = squash_merge(squash, merge, tree, why);
	if (r < 0)
		copy_remove(squash->parent_fd, squash->tree);
	if (spare >= 0)
		copy_remove(squash->parent_fd, squash->spare);
	return r;
}

/* ---- the summary ---- */

static void squash_print(const struct squash *squash, const struct merge_counts *counts)
{
	char size[HUMAN_MAX];

	human_print_name(stdout, squash->args->out);
	printf(": %llu directories, %llu files (%s), %llu others, %llu further names\n",
	       (unsigned long long)counts->directories, (unsigned long long)counts->files,
	       human_size(counts->bytes, size),
	       (unsigned long long)counts->symlinks + counts->others,
	       (unsigned long long)counts->links);
	if (squash->stack.inner == squash->stack.count)
		return;
	printf("over %u layers: %llu whiteouts, %llu opaque, %llu redirects, %llu metacopy\n",
	       squash->stack.count + squash->stack.data_count - squash->stack.inner,
	       (unsigned long long)counts->whiteouts, (unsigned long long)counts->opaque,
	       (unsigned long long)counts->redirects, (unsigned long long)counts->metacopies);
}

/* Layers [@first, @end) as an array of objects with a path. */
static json_t *squash_json_layers(const struct stack *stack, unsigned int first, unsigned int end)
{
	json_t *array = json_array();

	for (unsigned int i = first; i < end; i++) {
		json_t *layer = json_object();

		if (jsontext_set(layer, "path", stack->layers[i].path) < 0 ||
		    json_array_append_new(array, layer) < 0)
			return NULL;
	}
	return array;
}

static int squash_print_json(const struct squash *squash, const struct merge_counts *counts)
{
	const struct stack *stack = &squash->stack;
	json_t *all = json_pack(
		"{s:s, s:i, s:o, s:o, s:b, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}",
		"schema", "veneer-squash", "version", 1, "layers",
		squash_json_layers(stack, 0, stack->inner), "lowers",
		squash_json_layers(stack, stack->inner, stack->count + stack->data_count),
		"userxattr", stack->ns == XATTR_USER, "counts", "directories",
		(json_int_t)counts->directories, "files", (json_int_t)counts->files, "symlinks",
		(json_int_t)counts->symlinks, "others", (json_int_t)counts->others, "links",
		(json_int_t)counts->links, "bytes", (json_int_t)counts->bytes, "whiteouts",
		(json_int_t)counts->whiteouts, "opaque", (json_int_t)counts->opaque, "redirects",
		(json_int_t)counts->redirects, "metacopies", (json_int_t)counts->metacopies);
	int r = all ? jsontext_set(all, "output", squash->args->out) : -ENOMEM;

	if (r == 0 && json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		r = -EIO;
	putchar('\n');
	json_decref(all);
	return r;
}

int squash_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct squash_args args = { 0 };
	struct squash squash = { .args = &args, .parent_fd = -1 };
	struct merge merge = { .index = -1 };
	int r = args_parse(&squash_argp, argc, argv, false, &args);

	squash.stack.ns = args.userxattr ? XATTR_USER : XATTR_TRUSTED;
	sys_raise_nofile();
	stop_catch();
	mutate_faults_arm();
	if (r == 0)
		r = squash_open_place(&squash, &why);
	if (r == 0)
		r = squash_open_layers(&squash, &why);
	if (r == 0)
		squash_warn_of_index(&squash);
	if (r == 0)
		r = squash_make(&squash, &merge, &why);
	if (r == 0 && args.as_json)
		r = squash_print_json(&squash, &merge.counts);
	else if (r == 0)
		squash_print(&squash, &merge.counts);
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	merge_deinit(&merge);
	stack_deinit(&squash.stack);
	cleanup_close(&squash.parent_fd);
	free(squash.parent);
	free(squash.work);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
