/* SPDX-License-Identifier: MIT */
/* Layers as an attacker would leave them: any object anywhere, any private attribute on it. */
#ifndef VENEER_TESTS_FUZZ_HOSTILE_H
#define VENEER_TESTS_FUZZ_HOSTILE_H

#include "fuzz.h"
#include "sandbox.h"

#define HOSTILE_LOWER0 SANDBOX_ROOT "/lower0"
#define HOSTILE_LOWER1 SANDBOX_ROOT "/lower1"
#define HOSTILE_UPPER SANDBOX_ROOT "/upper"
#define HOSTILE_WORK SANDBOX_ROOT "/work"

/* Makes the four directories and fills them from the front of @input. */
void hostile_build(struct fuzz_input *input);

#endif
