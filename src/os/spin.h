/*
 * spin.h - polls for a moment before a sleep.
 *
 * The process that will wake this one is often at work on another processor,
 * and a sleep costs two context switches and a wake-up. Between two polls the
 * processor is yielded, so that the awaited process can run here. After a few
 * spins in a row that were too short, most sleeps begin without one.
 *
 * 	while (fz_spin_again(&spin)) {
 * 		if (is_ready()) {
 * 			fz_spin_paid(&spin);
 * 			return;
 * 		}
 * 	}
 * 	sleep
 */
#ifndef FZ_SPIN_H
#define FZ_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* One for each waiter that waits repeatedly; zero at first. */
struct fz_spin {
	int64_t end_ns; /* end of this spin; 0: not spinning */
	unsigned nlost; /* spins in a row that were too short */
	unsigned nskip; /* sleeps to begin without a spin */
	unsigned nbusy; /* processors at work for the waiter; it sets this */
};

/* Whether to poll again; false if no processor would be idle meanwhile. */
bool fz_spin_again(struct fz_spin *spin);

/* Report that the awaited event came before the sleep. */
void fz_spin_paid(struct fz_spin *spin);

#endif
