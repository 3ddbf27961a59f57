/* SPDX-License-Identifier: MIT */
/*
 * The mount option parser.  An input is one or more arguments of -o, NUL
 * between them.  What it refuses it must give a reason for.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "daemon/options.h"
#include "fuzz.h"

static void fuzz_outcome(int r, struct strbuf *why)
{
	fuzz_check(r == 0 || r == -ENOMEM || r == -EINVAL);
	fuzz_check(r != -EINVAL || why->length > 0);
	strbuf_deinit(why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { .data = data, .size = size };
	struct strbuf why = STRBUF_INIT;
	struct options options;
	int r = 0;

	log_set_level(LOG_LEVEL_ERROR); /* warnings of what is ignored would drown the output */
	options_init(&options);
	while (r == 0 && input.size > 0) {
		char *text = fuzz_take_string(&input);

		r = options_parse(&options, text, &why);
		free(text);
		fuzz_outcome(r, &why);
	}
	if (r == 0) {
		r = options_check(&options, &why);
		fuzz_outcome(r, &why);
	}
	if (r == 0) {
		struct core_config config = options_core_config(&options);

		fuzz_check(config.lowers.count == options.lowers.count);
	}
	options_deinit(&options);
	return 0;
}
