/*
 * spin.h - polls for a moment before a sleep.
 *
 * The process that will wake this one is often at work on another processor,
 * and a sleep costs two context switches and a wake-up. Between two polls the
 * processor is yielded, so that the awaited process can run here. After a few
 * spins in a row that were too short, most sleeps begin without one.
 *
 * Several waiters that spin on one processor take turns, and each turn costs a
 * context switch. A waiter that knows that its event is near does not yield the
 * processor: fz_spin_hold().
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

/* The state of one waiter's spins; all zero at first. */
struct fz_spin {
	int64_t end_ns; /* end of this spin; 0: not spinning */
	/* time before which the processor is not yielded; 0: always yielded */
	int64_t hold_ns;
	unsigned nlost; /* spins in a row that were too short */
	unsigned nskip; /* number of coming sleeps without a spin */
	/* number of processes at work for the waiter, which sets this */
	unsigned nbusy;
};

/*
 * Whether to poll again. False if this spin is over, or if the processes at
 * work need all processors.
 */
bool fz_spin_again(struct fz_spin *spin);

/*
 * The awaited event is some microseconds away, and its cause does not need this
 * processor: do not yield the processor before `until_ns`; 0: yield it.
 */
void fz_spin_hold(struct fz_spin *spin, int64_t until_ns);

/* Report that the awaited event came before the sleep. */
void fz_spin_paid(struct fz_spin *spin);

#endif
