/*
 * meter.h - measures what the calls of a worker take, in the worker.
 *
 * The end of a call is the start of the next one, unless the worker waits in
 * between, so that a call costs one reading of the clock. The kernel is asked
 * for processor time and memory at most once in a while: short calls get the
 * share that their worker had lately.
 */
#ifndef FZ_METER_H
#define FZ_METER_H

#include <stdint.h>

struct fz_used;

/* All zero at first. */
struct fz_meter {
	int64_t now_ns;      /* the start of what is measured next; 0: none */
	int64_t asked_ns;    /* when the kernel was asked last */
	uint64_t total_ns;   /* processor time that it said then */
	uint64_t counted_ns; /* of that and later, what calls have got */
	uint64_t peak_rss;   /* bytes that it said */
	double idle; /* of the time of calls, the part without a processor */
};

/* A measured call starts now, or started when the one before ended. */
void fz_meter_start(struct fz_meter *meter);

/* What follows counts for no call. */
static inline void
fz_meter_pause(struct fz_meter *meter)
{
	meter->now_ns = 0;
}

/* What was measured ends now, and the next begins. */
void fz_meter_end(struct fz_meter *meter, struct fz_used *used);

/*
 * Of `used`, which has just ended, the last 1 / `n` is of the next call: take
 * it back.
 */
void fz_meter_split(struct fz_meter *meter, struct fz_used *used, uint32_t n);

#endif
