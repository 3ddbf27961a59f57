/* SPDX-License-Identifier: MIT */
/* Within the option parser: the shape of its table. */
#ifndef VENEER_DAEMON_OPTIONS_TABLE_H
#define VENEER_DAEMON_OPTIONS_TABLE_H

#include "daemon/options.h"

/* One word that an option takes. */
struct option_choice {
	const char *name; /* NULL ends the array */
	int value;
	const char *refused; /* why it cannot be had; NULL: it can */
};

struct option_spec;

/* @value is NULL without "=". 0, or -errno with @why. */
typedef int option_apply(struct options *options, const struct option_spec *spec, const char *value,
			 struct strbuf *why);

enum option_argument {
	OPTION_NO_VALUE,
	OPTION_VALUE, /* must have one */
	OPTION_ANY_VALUE, /* with or without */
};

struct option_spec {
	const char *name; /* a trailing '*' stands for anything; NULL ends the table */
	const char *value_name; /* for --help; NULL: choices, or no value */
	const char *text; /* for --help; or why it is refused, or ignored */
	option_apply *apply;
	enum option_argument argument;
	const struct option_choice *choices;
	size_t offset; /* of the field of struct options, for some of the functions */
	unsigned long set, clear; /* mount flags */
	unsigned long least, most; /* numbers */
	bool is_listed; /* it has an effect: --help and the manual page have it */
};

extern const struct option_spec option_specs[];

/* Functions of the table. */
option_apply option_lowerdir, option_lowerdir_add, option_datadir_add, option_path, option_string,
	option_choose, option_set, option_number, option_timeout, option_mount_flag,
	option_security, option_nothing, option_ignore, option_pass, option_refuse,
	option_refuse_always;

#endif
