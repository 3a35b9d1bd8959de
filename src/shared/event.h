/* event.h - a flag in shared memory that processes wait for. */
#ifndef FZ_EVENT_H
#define FZ_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"

/* An event in shared memory. All bytes are 0 at first: the event is not set. */
struct fz_event {
	/* bit 0: the event is set; other bits: how often it was set */
	_Atomic uint32_t word;
	struct fz_eventcount waiters;
};

static inline bool
fz_event_is_set(const struct fz_event *event)
{
	return atomic_load(&event->word) & 1;
}

static inline void
fz_event_set(struct fz_event *event)
{
	uint32_t word = atomic_load(&event->word);

	while (!(word & 1)) {
		if (!atomic_compare_exchange_weak(
			&event->word, &word, word + 3))
			continue;
		fz_eventcount_notify(&event->waiters, FZ_EVENTCOUNT_ALL);
		return;
	}
}

static inline void
fz_event_clear(struct fz_event *event)
{
	atomic_fetch_and(&event->word, ~UINT32_C(1));
}

/* The version, read before a wait, for `since` of fz_event_was_set(). */
static inline uint32_t
fz_event_version(const struct fz_event *event)
{
	return atomic_load(&event->word);
}

/* Whether the event is set, or was set after `since` and cleared again. */
static inline bool
fz_event_was_set(const struct fz_event *event, uint32_t since)
{
	uint32_t word = atomic_load(&event->word);

	return (word & 1) || word >> 1 != since >> 1;
}

#endif
