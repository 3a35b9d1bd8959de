/*
 * spin.h - a moment of looking again before a sleep.
 *
 * Who is to wake us is often at work on another processor, and a sleep takes
 * two switches and a wake-up there. Between two looks others that wait for this
 * very processor get it, so that nobody is kept from being what we wait for.
 * Where that moment was too short a few times, most sleeps go without one.
 *
 *	while (fz_spin_again(&spin)) {
 *		if (is_ready()) {
 *			fz_spin_paid(&spin);
 *			return;
 *		}
 *	}
 *	sleep
 */
#ifndef FZ_SPIN_H
#define FZ_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* Of who waits for the same things again and again; zero at first. */
struct fz_spin {
	int64_t end_ns; /* of this moment; 0: it has not begun */
	unsigned nlost; /* how many were too short in a row */
	unsigned nskip; /* how many sleeps go without */
	unsigned nbusy; /* its user's: processors that are at work for it */
};

/* Whether to look again; never where no processor would be idle meanwhile. */
bool fz_spin_again(struct fz_spin *spin);

/* What one waits for has come before the sleep. */
void fz_spin_paid(struct fz_spin *spin);

#endif
