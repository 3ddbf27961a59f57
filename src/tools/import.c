/* SPDX-License-Identifier: MIT */
#include "tools/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "format/jsontext.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/human.h"
#include "tools/progress.h"
#include "tools/stop.h"
#include "tools/tarlib.h"

enum {
	IMPORT_KEY_ONTO = ARGS_KEY_FIRST,
	IMPORT_KEY_USERXATTR,
	IMPORT_KEY_WHITEOUTS,
	IMPORT_KEY_JSON,
};

struct import_args {
	const char *file, *layer;
	bool onto, user_xattrs, attribute_whiteouts, as_json;
};

static const struct argp_option import_options[] = {
	{ "onto", IMPORT_KEY_ONTO, NULL, 0,
	  "put the archive on top of the layer, as the layers of an image lie on each other", 0 },
	{ "userxattr", IMPORT_KEY_USERXATTR, NULL, 0,
	  "private attributes are user.overlay.*; else that is found out", 0 },
	{ "attribute-whiteouts", IMPORT_KEY_WHITEOUTS, NULL, 0,
	  "write whiteouts as empty files with an attribute, where devices 0:0 cannot be made", 0 },
	{ "json", IMPORT_KEY_JSON, NULL, 0, "a summary in JSON, see docs/import.schema.json", 0 },
	{ 0 },
};

static error_t import_parse(int key, char *arg, struct argp_state *state)
{
	struct import_args *args = state->input;

	switch (key) {
	case IMPORT_KEY_ONTO:
		args->onto = true;
		return 0;
	case IMPORT_KEY_USERXATTR:
		args->user_xattrs = true;
		return 0;
	case IMPORT_KEY_WHITEOUTS:
		args->attribute_whiteouts = true;
		return 0;
	case IMPORT_KEY_JSON:
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (args->layer)
			argp_error(state, "one FILE and one LAYER at a time");
		*(args->file ? &args->layer : &args->file) = arg;
		return 0;
	case ARGP_KEY_END:
		if (!args->layer)
			argp_error(state, "which FILE, into which LAYER?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp import_argp = {
	.options = import_options,
	.parser = import_parse,
	.args_doc = "FILE LAYER",
	.doc = "Makes a layer from FILE, a tar archive of an OCI image layer ('-': standard input), "
	       "plain or compressed by gzip, zstd, xz or bzip2. LAYER is missing or an empty "
	       "directory, and becomes the upper of an overlay.\v"
	       "Exit status: 0 if the layer was made, 1 if not, 2 if the command line was not "
	       "understood.",
};

/* ---- the summary ---- */

static int import_print_json(const struct import_args *args, const struct import_counts *counts)
{
	json_t *root = json_pack(
		"{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "schema", "veneer-import",
		"version", 1, "entries", (json_int_t)counts->entries, "whiteouts",
		(json_int_t)counts->whiteouts, "opaque", (json_int_t)counts->opaque, "bytes",
		(json_int_t)counts->bytes, "implied", (json_int_t)counts->implied, "foreign",
		(json_int_t)counts->foreign, "xattrs_dropped", (json_int_t)counts->xattrs_dropped);
	int r = root ? jsontext_set(root, "layer", args->layer) : -ENOMEM;

	if (r == 0 && json_dumpf(root, stdout, JSON_INDENT(2)) == 0)
		putchar('\n');
	json_decref(root);
	return r;
}

static void import_print_notes(const struct import_counts *counts)
{
	if (counts->foreign)
		log_warning("%" PRIu64
			    " entries belong to others, and are yours in the layer: only "
			    "root can give files away",
			    counts->foreign);
	if (counts->xattrs_dropped)
		log_warning("%" PRIu64
			    " extended attributes were left out, which only root may set",
			    counts->xattrs_dropped);
	if (counts->implied)
		log_warning("%" PRIu64
			    " directories have no entry in the archive, and got mode 0755",
			    counts->implied);
}

/* ---- running ---- */

struct import_shown {
	struct progress progress;
	uint64_t done;
};

static void import_progress(void *context, uint64_t done)
{
	struct import_shown *shown = context;

	if (done > shown->done)
		progress_add(&shown->progress, done - shown->done);
	shown->done = done;
}

/* How much there is to read; 0: nobody knows. */
static uint64_t import_size(int fd)
{
	struct statx st;

	return sys_stat(fd, "", &st) == 0 && S_ISREG(st.stx_mode) ? st.stx_size : 0;
}

static int import_file(const struct import_args *args, struct import_counts *counts,
		       struct strbuf *why)
{
	bool is_stdin = strcmp(args->file, "-") == 0;
	_cleanup_close_ int fd = is_stdin ? sys_dup(STDIN_FILENO) :
					    sys_open_path(args->file, O_RDONLY);
	_cleanup_strbuf_ struct strbuf reason = STRBUF_INIT;
	struct import_shown shown = { 0 };
	const struct import_request request = {
		.fd = fd,
		.layer = args->layer,
		.onto = args->onto,
		.user_xattrs = args->user_xattrs,
		.attribute_whiteouts = args->attribute_whiteouts,
		.is_interrupted = stop_is_wanted,
		.progress = import_progress,
		.context = &shown,
	};

	if (fd < 0) {
		strbuf_append_format(why, "%s: %s", args->file, strerror(-fd));
		return fd;
	}
	progress_begin(&shown.progress, "importing", import_size(fd));
	int r = import_layer(&request, counts, &reason);

	progress_end(&shown.progress);
	if (r < 0)
		strbuf_append_format(why, "%s: %s", is_stdin ? "standard input" : args->file,
				     reason.length ? reason.data : strerror(-r));
	return r;
}

int import_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct import_counts counts = { 0 };
	struct import_args args = { 0 };
	int r = args_parse(&import_argp, argc, argv, false, &args);

	stop_catch();
	if (r == 0)
		r = tarlib_check(&why);
	if (r == 0)
		r = import_file(&args, &counts, &why);
	if (r == 0 && args.as_json)
		r = import_print_json(&args, &counts);
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	if (r == 0)
		import_print_notes(&counts);
	else
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
