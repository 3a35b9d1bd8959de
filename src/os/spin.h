/*
 * spin.h - a moment of looking again before a sleep.
 *
 * Who is to wake us is mostly at work on another processor, and a sleep takes
 * two switches and a wake-up there. Between two looks others that wait for this
 * very processor get it, so that nobody is kept from being what we wait for.
 *
 *	struct fz_spin spin = { 0 };
 *	while (!is_ready() && fz_spin_again(&spin))
 *		continue;
 */
#ifndef FZ_SPIN_H
#define FZ_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* All zero before the first look. */
struct fz_spin {
	int64_t end_ns;
};

/* Whether to look again; never where this process has but one processor. */
bool fz_spin_again(struct fz_spin *spin);

#endif
