/*
 * meter.h - measures the time and memory of a worker's calls, in the worker.
 *
 * The end of a call is the start of the next one, unless the worker waits in
 * between, so a call costs one reading of the clock. The kernel is asked for
 * processor time and memory now and then. Until the next question, the last one
 * decides which part of a call's time counts as processor time.
 */
#ifndef FZ_METER_H
#define FZ_METER_H

#include <stdint.h>

struct fz_used;

/* Initialise with zeros. */
struct fz_meter {
	/* start of the call that is measured next; 0: none */
	int64_t now_ns;
	int64_t asked_ns;  /* time of the last question to the kernel */
	uint64_t total_ns; /* processor time of the worker until asked_ns */
	/* the worker's processor time that calls were charged with */
	uint64_t counted_ns;
	uint64_t peak_rss; /* peak memory in bytes until asked_ns */
	/* time of the worker's init in the measured call; 0: none */
	int64_t init_ns;
	/* fraction of the time of calls in which they had no processor */
	double idle;
};

/* A measured call starts now, or has started when the call before it ended. */
void fz_meter_start(struct fz_meter *meter);

/* The time until the next fz_meter_start() belongs to no call. */
static inline void
fz_meter_pause(struct fz_meter *meter)
{
	meter->now_ns = 0;
}

/* The worker was initialised during the measured call, for `took_ns`. */
static inline void
fz_meter_init_ran(struct fz_meter *meter, int64_t took_ns)
{
	meter->init_ns = took_ns;
}

/* The measured call ends now, and the next one begins. */
void fz_meter_end(struct fz_meter *meter, struct fz_used *used);

/*
 * The call of `used` has just ended. Move the last 1 / `n` of its usage to the
 * next call.
 */
void fz_meter_split(struct fz_meter *meter, struct fz_used *used, uint32_t n);

#endif
