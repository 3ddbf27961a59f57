/* SPDX-License-Identifier: MIT */
/*
 * Where a fuzzed program cannot do harm: a mount namespace in which everything
 * is read-only, without devices, but for one tmpfs, and the directory in
 * FUZZ_OUT for what libFuzzer writes.
 */
#ifndef VENEER_TESTS_FUZZ_SANDBOX_H
#define VENEER_TESTS_FUZZ_SANDBOX_H

#define SANDBOX_ROOT "/mnt" /* where the tmpfs is */

/* Enters it. 0 or -errno (no privileges to be had). */
int sandbox_enter(void);
/* An empty tmpfs in place of the one before. */
void sandbox_renew(void);

#endif
