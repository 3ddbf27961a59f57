/* SPDX-License-Identifier: MIT */
/* Numbers and names as people read them. */
#ifndef VENEER_TOOLS_HUMAN_H
#define VENEER_TOOLS_HUMAN_H

#include <stdint.h>
#include <stdio.h>

#define HUMAN_MAX 48

/* "812 B", "3.4 GiB". All return @text. */
const char *human_size(uint64_t bytes, char text[HUMAN_MAX]);
/* "850 ns", "12 us", "3.2 ms", "1.5 s". */
const char *human_latency(uint64_t ns, char text[HUMAN_MAX]);
/* "42 s", "3 min 5 s", "2 h 10 min", "4 d 3 h". */
const char *human_duration(uint64_t seconds, char text[HUMAN_MAX]);

/* A file name on a terminal: control characters are shown as '?'. NULL prints nothing. */
void human_print_name(FILE *file, const char *name);

#endif
