/* SPDX-License-Identifier: MIT */
/* A build without jansson: the question is answered, the mount is not described. */
#include "daemon/report.h"

void report_status(const struct report *report, struct strbuf *answer)
{
	strbuf_append_string(answer, "{\"error\": \"the daemon of this mount was built without "
				     "jansson and cannot describe it\"}\n");
}

void report_which(const struct report *report, const char *path, struct strbuf *answer)
{
	report_status(report, answer);
}
