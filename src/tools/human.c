/* SPDX-License-Identifier: MIT */
#include "tools/human.h"

#include <stddef.h>

#include "base/util.h"

/* @value with a digit behind the point while that says something. */
static const char *human_scaled(double value, const char *unit, char text[HUMAN_MAX])
{
	snprintf(text, HUMAN_MAX, value < 10 ? "%.1f %s" : "%.0f %s", value, unit);
	return text;
}

const char *human_size(uint64_t bytes, char text[HUMAN_MAX])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		snprintf(text, HUMAN_MAX, "%u B", (unsigned int)bytes);
		return text;
	}
	for (; value >= 1023.5 && i < ARRAY_SIZE(units) - 1; i++)
		value /= 1024;
	return human_scaled(value, units[i], text);
}

const char *human_latency(uint64_t ns, char text[HUMAN_MAX])
{
	static const char *const units[] = { "us", "ms", "s" };
	double value = (double)ns / 1000;
	size_t i = 0;

	if (ns < 1000) {
		snprintf(text, HUMAN_MAX, "%u ns", (unsigned int)ns);
		return text;
	}
	for (; value >= 999.5 && i < ARRAY_SIZE(units) - 1; i++)
		value /= 1000;
	return human_scaled(value, units[i], text);
}

const char *human_duration(uint64_t seconds, char text[HUMAN_MAX])
{
	static const struct {
		unsigned int seconds;
		const char *name, *smaller;
		unsigned int smaller_seconds;
	} units[] = {
		{ 86400, "d", "h", 3600 },
		{ 3600, "h", "min", 60 },
		{ 60, "min", "s", 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (seconds < units[i].seconds)
			continue;
		snprintf(
			text, HUMAN_MAX, "%llu %s %llu %s",
			(unsigned long long)(seconds / units[i].seconds), units[i].name,
			(unsigned long long)(seconds % units[i].seconds / units[i].smaller_seconds),
			units[i].smaller);
		return text;
	}
	snprintf(text, HUMAN_MAX, "%u s", (unsigned int)seconds);
	return text;
}

void human_print_name(FILE *file, const char *name)
{
	for (; name && *name; name++) {
		unsigned char byte = (unsigned char)*name;

		fputc(byte < 0x20 || byte == 0x7f ? '?' : byte, file);
	}
}
